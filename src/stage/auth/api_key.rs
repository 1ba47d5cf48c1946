//! API keys (`X-Api-Key`): known by their SHA-256 only, so that a configuration that leaks opens nothing.
//!
//! What was presented is hashed, and the hash is looked for. Time tells nothing: the place where the search
//! ends depends on a hash keyed with the process's secret, and the 32 bytes are compared whole. A plain
//! SHA-256 is enough because a minted key is 256 random bits, of which nobody tries a dictionary. Never holds
//! a key, never remembers one.

use ring::digest::{SHA256, digest};
use siphasher::sip128::SipHasher13;

use super::{
    super::refusal::{Code, Refusal},
    jwt::Verified,
};
use crate::{base::clock::Moment, http::head::Authorization, shared::meters::TokenMeters};

/// Longest key that is looked at; minted ones have 46 bytes.
pub const API_KEY_BYTES_MAX: usize = 256;

/// The SHA-256 of a key.
pub type KeyDigest = [u8; 32];

/// A key that is accepted, without the key itself.
#[derive(Debug)]
pub struct ApiKey {
    /// The SHA-256 of the key.
    pub digest: KeyDigest,
    /// Who has it and what it may do, in the shape that a token's claims get.
    pub holder: Verified,
}

/// The keys of all consumers.
#[derive(Debug)]
pub struct ApiKeys {
    /// Sorted by the first element, the digest's keyed hash.
    keys: Box<[(u64, ApiKey)]>,
    hasher: SipHasher13,
}

impl ApiKeys {
    /// A table of `keys`, whose digests all differ. The seed of `hasher` is secret.
    pub fn new(keys: Vec<ApiKey>, hasher: SipHasher13) -> Self {
        let mut keys: Vec<_> = keys.into_iter().map(|key| (hasher.hash(&key.digest).h1, key)).collect();
        keys.sort_by_key(|&(hash, _)| hash);
        Self { keys: keys.into(), hasher }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key that was presented.
    fn find(&self, presented: &[u8]) -> Option<&ApiKey> {
        let wanted = digest(&SHA256, presented);
        let wanted: &KeyDigest = wanted.as_ref().try_into().ok()?;
        let hash = self.hasher.hash(wanted).h1;
        let first = self.keys.partition_point(|&(known, _)| known < hash);
        let same_place = self.keys[first..].iter().take_while(|&&(known, _)| known == hash);
        same_place.map(|(_, key)| key).find(|key| equal(&key.digest, wanted))
    }
}

/// Establishes who sent a request with an API key.
///
/// # Errors
/// `api_key_missing` or `api_key_invalid`.
pub(super) fn authenticate<'s>(
    keys: &'s ApiKeys,
    meters: &TokenMeters,
    presented: Authorization<'_>,
    now: Moment,
) -> Result<&'s ApiKey, Refusal> {
    let invalid = |reason| {
        meters.keys_refused.add(1);
        Err(Refusal::new(Code::ApiKeyInvalid, reason))
    };
    let presented = match presented {
        Authorization::Several => return invalid("several X-Api-Key fields"),
        Authorization::One(key) if !key.is_empty() => key,
        Authorization::One(_) | Authorization::Absent => {
            meters.keys_missing.add(1);
            return Err(Refusal::new(Code::ApiKeyMissing, "no API key"));
        }
    };
    if presented.len() > API_KEY_BYTES_MAX {
        return invalid("API key too long");
    }
    match keys.find(presented) {
        None => invalid("no such API key"),
        Some(key) if key.holder.has_expired(0, now.unix_seconds()) => invalid("API key expired"),
        Some(key) => {
            meters.keys_accepted.add(1);
            Ok(key)
        }
    }
}

/// Compares all bytes, wherever they differ.
fn equal(left: &KeyDigest, right: &KeyDigest) -> bool {
    let difference = left.iter().zip(right).fold(0, |all, (left, right)| all | (left ^ right));
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(digest: KeyDigest) -> ApiKey {
        ApiKey { digest, holder: Verified::default() }
    }

    /// The keyed hash finds a place; what opens is the whole digest, whichever of those in the place it is.
    #[test]
    fn a_key_that_only_shares_the_place_is_none() {
        let hasher = SipHasher13::new();
        let right: KeyDigest = digest(&SHA256, b"right").as_ref().try_into().unwrap();
        let place = hasher.hash(&right).h1;
        let mut last_bit = right;
        last_bit[31] ^= 1;
        let others = [(place, key(last_bit)), (place, key([0; 32]))];
        let strangers = ApiKeys { keys: others.into(), hasher };
        assert!(strangers.find(b"right").is_none());
        let with_right = [(place, key(last_bit)), (place, key(right)), (place, key([0; 32]))];
        let keys = ApiKeys { keys: with_right.into(), hasher };
        assert_eq!(keys.find(b"right").map(|key| key.digest), Some(right));
    }
}
