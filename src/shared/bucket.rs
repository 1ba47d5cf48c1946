//! Token buckets: a burst at once, then a steady rate.
//!
//! A key's word is the time at which its bucket will be full (the "theoretical arrival time" of GCRA, ITU-T I.371),
//! in 1024ths of a microsecond, so that rates like 7 a second do not drift. Pure functions of such words; who
//! changes them atomically is the key table's business. In any stretch of time W a bucket lets through up to its burst
//! and what flows in during W: more than a sliding window of either.

use super::window::Standing;

/// Parts of a microsecond that a word counts.
const PARTS: u64 = 1 << 10;
/// The longest time a bucket may take to fill, in microseconds: ten years.
const FILL_US_MAX: u64 = 10 * 366 * 86_400 * 1_000_000;

/// A bucket that holds `burst` units and gets `rate` units every `per_us` microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    burst: u32,
    rate: u32,
    per_us: u64,
    /// Parts of a microsecond in which one unit flows in; rounded up, so never more than the rate.
    interval: u64,
}

impl Bucket {
    /// A bucket; absent if a part is zero or it would take longer than ten years to fill.
    pub fn new(burst: u32, rate: u32, per_us: u64) -> Option<Self> {
        if burst == 0 || rate == 0 || per_us == 0 {
            return None;
        }
        let interval = per_us.checked_mul(PARTS)?.div_ceil(u64::from(rate));
        let fill = interval.checked_mul(u64::from(burst))?;
        (fill <= FILL_US_MAX * PARTS).then_some(Self { burst, rate, per_us, interval })
    }

    /// Units it holds.
    pub fn burst(self) -> u32 {
        self.burst
    }

    /// Units that flow in, and the microseconds in which they do.
    pub fn rate(self) -> (u32, u64) {
        (self.rate, self.per_us)
    }

    /// Microseconds in which an empty bucket fills.
    pub fn fill_us(self) -> u64 {
        self.capacity().div_ceil(PARTS)
    }

    fn capacity(self) -> u64 {
        u64::from(self.burst) * self.interval
    }

    /// The word after `units` were taken at `now_us`.
    ///
    /// # Errors
    /// There are not so many: the monotonic microsecond at which there are.
    pub(super) fn claim(self, word: u64, units: u32, now_us: u64) -> Result<u64, u64> {
        let now = now_us * PARTS;
        let after = word.max(now) + u64::from(units) * self.interval;
        if after - now <= self.capacity() {
            Ok(after)
        } else {
            Err((after - self.capacity()).div_ceil(PARTS))
        }
    }

    /// The word after `units` came back at `now_us` that a claim took, which left `claimed`. Nothing comes back
    /// once the bucket has been full since: they have flowed in already.
    pub(super) fn undo(self, word: u64, units: u32, claimed: u64, now_us: u64) -> u64 {
        if now_us * PARTS < claimed { word - u64::from(units) * self.interval } else { word }
    }

    /// What is left.
    pub(super) fn standing(self, word: u64, now_us: u64) -> Standing {
        let missing = word.saturating_sub(now_us * PARTS);
        let remaining = self.capacity().saturating_sub(missing) / self.interval;
        let remaining = u32::try_from(remaining).unwrap_or(self.burst);
        let opens_us = self.claim(word, 1, now_us).map_or_else(|opens_us| opens_us, |_| now_us);
        Standing { remaining, opens_us, full_us: word.div_ceil(PARTS).max(now_us) }
    }
}
