//! Where the limits of a refused request stand: the `RateLimit` fields of its answer.
//!
//! Syntax of draft-ietf-httpapi-ratelimit-headers-10: both fields are lists of strings with parameters,
//! `q` and `w` the quota and its window in seconds, `r` what remains and `t` the seconds until it is whole.

use crate::{
    base::block::{Block, Full},
    shared::window::{Standing, WINDOWS_MAX, Window},
};

use super::{By, LIMITS_MAX, Limit, admission::Effective};

/// What each window of each limit has left.
#[derive(Debug, Default)]
pub struct Standings {
    items: Vec<Item>,
    now_us: u64,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    by: &'static str,
    /// Limits of the route that count by the same kind of key and come before this one.
    twins: usize,
    window: Window,
    standing: Standing,
}

impl Standings {
    /// Notes where every window stands at `now_us`.
    pub(super) fn take<'a>(
        &mut self,
        windows: impl Iterator<Item = (Effective<'a>, Window, Standing)>,
        limits: &[Effective<'_>],
        now_us: u64,
    ) {
        self.items.clear();
        // Once: after that, refusals allocate nothing.
        self.items.reserve(LIMITS_MAX * WINDOWS_MAX);
        self.now_us = now_us;
        debug_assert!(limits.len() <= LIMITS_MAX);
        self.items
            .extend(windows.map(|(limit, window, standing)| Item::new(limit, limits, window, standing)));
    }

    /// Notes that `limit` has no room for another key until `opens_us`: to the newcomer it is used up.
    pub(super) fn take_full(
        &mut self,
        limit: Effective<'_>,
        limits: &[Effective<'_>],
        opens_us: u64,
        now_us: u64,
    ) {
        self.items.clear();
        self.now_us = now_us;
        let standing = Standing { remaining: 0, opens_us, full_us: opens_us };
        // It is the longest window that keeps keys in the table.
        self.items.push(Item::new(limit, limits, limit.quota.windows()[0], standing));
    }

    /// Writes the fields `RateLimit-Policy` and `RateLimit`; nothing when nothing was noted.
    ///
    /// # Errors
    /// [`Full`] when they do not fit.
    pub fn encode(&self, out: &mut Block) -> Result<(), Full> {
        if self.items.is_empty() {
            return Ok(());
        }
        let seconds = |us: u64| us.div_ceil(1_000_000);
        out.put(b"RateLimit-Policy: ")?;
        for (index, item) in self.items.iter().enumerate() {
            item.name(out, index)?;
            parameter(out, b";q=", u64::from(item.window.limit()))?;
            parameter(out, b";w=", seconds(item.window.length_us()))?;
        }
        out.put(b"\r\nRateLimit: ")?;
        for (index, item) in self.items.iter().enumerate() {
            item.name(out, index)?;
            parameter(out, b";r=", u64::from(item.standing.remaining))?;
            parameter(out, b";t=", seconds(item.standing.full_us.saturating_sub(self.now_us)))?;
        }
        out.put(b"\r\n")
    }
}

impl Item {
    fn new(effective: Effective<'_>, limits: &[Effective<'_>], window: Window, standing: Standing) -> Self {
        let limit = effective.limit;
        let by = kind(limit);
        let before = limits.iter().take_while(|other| !std::ptr::eq(other.limit, limit));
        let twins = before.filter(|other| kind(other.limit) == by).count();
        Self { by, twins, window, standing }
    }

    /// The policy's name, such as `"consumer-60s"`; of a second limit by header, `"header2-60s"`. A client
    /// tells policies apart by it, so no two have the same.
    fn name(&self, out: &mut Block, index: usize) -> Result<(), Full> {
        out.put(if index == 0 { b"\"" } else { b", \"" })?;
        out.put(self.by.as_bytes())?;
        if self.twins > 0 {
            parameter(out, b"", self.twins as u64 + 1)?;
        }
        parameter(out, b"-", self.window.length_us() / 1_000_000)?;
        out.put(b"s\"")
    }
}

/// What a limit counts by, in a word.
fn kind(limit: &Limit) -> &'static str {
    match limit.by {
        By::Consumer => "consumer",
        By::Ip => "ip",
        By::Route => "route",
        By::Header(_) => "header",
    }
}

fn parameter(out: &mut Block, name: &[u8], value: u64) -> Result<(), Full> {
    out.put(name)?;
    out.put(itoa::Buffer::new().format(value).as_bytes())
}
