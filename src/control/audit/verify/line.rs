//! One line of an audit log, as far as its place in a chain goes. What it says about a request is not looked at: the
//! code vouches for all of it.

use serde::Deserialize;

use super::super::{
    chain::{Mac, Signature, bytes_of},
    lines::{MAC_FIELD, SIGNATURE_FIELD},
};

/// A whole line.
pub(super) struct Line<'a> {
    pub(super) fields: Fields<'a>,
    /// The code it has.
    pub(super) mac: Mac,
    /// What the code is made over.
    pub(super) vouched: &'a [u8],
}

/// What is looked at.
#[derive(Deserialize)]
pub(super) struct Fields<'a> {
    pub(super) run: &'a str,
    pub(super) shard: Option<usize>,
    pub(super) seq: u64,
    pub(super) ts: &'a str,
    pub(super) event: &'a str,
    pub(super) intent: Option<u64>,
    #[serde(default)]
    pub(super) records: u64,
    pub(super) key_id: Option<&'a str>,
    #[serde(default)]
    pub(super) shards: usize,
    #[serde(default)]
    pub(super) torn_bytes: u64,
    pub(super) before: Option<&'a str>,
    #[serde(default, borrow)]
    pub(super) heads: Vec<ShardHead<'a>>,
    #[serde(default, borrow)]
    pub(super) earlier: Vec<EarlierHead<'a>>,
}

/// Where a shard's chain stood.
#[derive(Deserialize)]
pub(super) struct ShardHead<'a> {
    pub(super) shard: usize,
    pub(super) seq: u64,
    pub(super) mac: &'a str,
}

/// Where another process's chain stood.
#[derive(Deserialize)]
pub(super) struct EarlierHead<'a> {
    pub(super) run: &'a str,
    pub(super) shard: Option<usize>,
    pub(super) seq: u64,
    pub(super) mac: &'a str,
}

/// What follows the code.
const END: &[u8] = b"\"}\n";

impl<'a> Line<'a> {
    /// The line that `bytes` are, its end included; `None` if they are none.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let rest = bytes.strip_suffix(END)?;
        let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(2 * size_of::<Mac>())?)?;
        let mac = bytes_of(digits)?;
        let vouched = rest.strip_suffix(MAC_FIELD)?;
        let fields = serde_json::from_slice(&bytes[..bytes.len() - 1]).ok()?;
        Some(Self { fields, mac, vouched })
    }

    /// What it is signed over, and the signature.
    pub(super) fn signed(&self) -> Option<(&'a [u8], Signature)> {
        let rest = self.vouched.strip_suffix(b"\"")?;
        let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(2 * size_of::<Signature>())?)?;
        Some((rest.strip_suffix(SIGNATURE_FIELD)?, bytes_of(digits)?))
    }
}
