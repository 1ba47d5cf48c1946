//! Where the limits of a refused request stand: the `RateLimit` fields of its answer.
//!
//! Syntax of draft-ietf-httpapi-ratelimit-headers-10: both fields are lists of strings with parameters,
//! `q` and `w` the quota and its window in seconds, `r` what remains and `t` the seconds until it is whole.

use crate::{
    base::block::{Block, Full},
    shared::{
        cells::{Standing, Window},
        key_table::Slot,
    },
};

use super::{By, LIMITS_MAX, Limit, WINDOWS_MAX};

/// What each window of each limit has left.
#[derive(Debug, Default)]
pub struct Standings {
    items: Vec<Item>,
    now_us: u64,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    by: &'static str,
    window: Window,
    standing: Standing,
}

impl Standings {
    pub(super) fn clear(&mut self) {
        self.items.clear();
    }

    /// Notes where every window stands at `now_us`.
    pub(super) fn take<'a>(
        &mut self,
        windows: impl Iterator<Item = (&'a Limit, Slot, usize)>,
        limits: &[Limit],
        now_us: u64,
    ) {
        self.items.clear();
        // Once: after that, refusals allocate nothing.
        self.items.reserve(LIMITS_MAX * WINDOWS_MAX);
        self.now_us = now_us;
        debug_assert!(limits.len() <= LIMITS_MAX);
        self.items.extend(windows.map(|(limit, slot, window)| Item {
            by: match limit.by {
                By::Consumer => "consumer",
                By::Ip => "ip",
                By::Route => "route",
                By::Header(_) => "header",
            },
            window: limit.quota.windows()[window],
            standing: limit.table.cells(slot, window).standing(now_us),
        }));
    }

    /// When every window has a unit again.
    pub(super) fn opens_us(&self) -> u64 {
        self.items.iter().map(|item| item.standing.opens_us).max().unwrap_or(self.now_us)
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
    /// The policy's name, such as `"consumer-60s"`.
    fn name(&self, out: &mut Block, index: usize) -> Result<(), Full> {
        out.put(if index == 0 { b"\"" } else { b", \"" })?;
        out.put(self.by.as_bytes())?;
        parameter(out, b"-", self.window.length_us() / 1_000_000)?;
        out.put(b"s\"")
    }
}

fn parameter(out: &mut Block, name: &[u8], value: u64) -> Result<(), Full> {
    out.put(name)?;
    out.put(itoa::Buffer::new().format(value).as_bytes())
}
