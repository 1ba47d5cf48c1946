//! Tallies: one word for a key that is far from its limit of a sliding window.
//!
//! Time is cut into epochs as long as the window; a tally knows how much was used in the last epoch in which
//! anything was, and in the one before it. Any stretch of time as long as the window touches two epochs at
//! most, so who keeps the sum of both below the limit keeps the limit. It is coarse: what is used may count for
//! up to two windows. So a key that comes near its limit gets cells, in which its tally is sown, every unit as
//! late as it can have been used. Pure functions of words; who changes them atomically is the key table's business.

use super::{
    cells::{Cells, Sliding},
    window::Standing,
};

/// The most units a tally can count in one epoch.
pub(super) const COUNT_MAX: u32 = (1 << COUNT_BITS) - 1;

const COUNT_BITS: u32 = 16;
/// How exactly the time of the last use is known: in parts of the epoch.
const LATE_BITS: u32 = 9;
const LATE_PARTS: u64 = 1 << LATE_BITS;
/// Epochs are counted modulo this; one bit of the word is not a tally's.
const EPOCHS: u64 = 1 << (63 - LATE_BITS - 2 * COUNT_BITS);
/// Shards' clocks are read at different times: so many epochs ahead is the future, more is long ago.
const AHEAD_MAX: u64 = 1 << 10;

/// What a word says, as of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    /// Since the clock began.
    epoch: u64,
    /// Part of the epoch in which the last unit was used.
    late: u64,
    /// Used in the epoch before.
    before: u32,
    /// Used in this one.
    count: u32,
}

impl Tally {
    /// Units that `word` counts in both epochs, or fewer if they are over.
    pub(super) fn used_at_most(word: u64) -> u32 {
        let mask = u64::from(COUNT_MAX);
        (word & mask) as u32 + (word >> COUNT_BITS & mask) as u32
    }

    /// What `word` says at `now_us`. It may be an epoch that has not begun on this clock.
    pub(super) fn at(word: u64, window: Sliding, now_us: u64) -> Self {
        let (now_epoch, _) = window.divide(now_us);
        let mask = u64::from(COUNT_MAX);
        let (count, before) = ((word & mask) as u32, (word >> COUNT_BITS & mask) as u32);
        let late = word >> (2 * COUNT_BITS) & (LATE_PARTS - 1);
        let epoch = word >> (2 * COUNT_BITS + LATE_BITS);
        let age = now_epoch.wrapping_sub(epoch) % EPOCHS;
        match age {
            _ if count + before == 0 => Self::empty(now_epoch),
            0 => Self { epoch: now_epoch, late, before, count },
            1 => Self { before: count, ..Self::empty(now_epoch) },
            age if age >= EPOCHS - AHEAD_MAX => {
                Self { epoch: now_epoch + (EPOCHS - age), late, before, count }
            }
            _ => Self::empty(now_epoch),
        }
    }

    fn empty(epoch: u64) -> Self {
        Self { epoch, late: 0, before: 0, count: 0 }
    }

    /// The word that says this.
    pub(super) fn word(self) -> u64 {
        (self.epoch % EPOCHS) << (2 * COUNT_BITS + LATE_BITS)
            | self.late << (2 * COUNT_BITS)
            | u64::from(self.before) << COUNT_BITS
            | u64::from(self.count)
    }

    /// Units that count.
    pub(super) fn used(self) -> u32 {
        self.before + self.count
    }

    /// This and `units` more, used at `now_us`; absent if they cannot be counted.
    pub(super) fn and(self, units: u32, window: Sliding, now_us: u64) -> Option<Self> {
        let count = self.count.checked_add(units).filter(|&count| count <= COUNT_MAX)?;
        let into_us = now_us.saturating_sub(self.epoch * window.length_us());
        // An epoch of ten years times the parts is far from the end of a word.
        let late = window.divide(into_us * LATE_PARTS).0.min(LATE_PARTS - 1);
        Some(Self { count, late: self.late.max(late), ..self })
    }

    /// The word without `units` that were counted when its epoch was `epoch`, if they still count.
    pub(super) fn without(word: u64, units: u32, epoch: u64) -> u64 {
        let mask = u64::from(COUNT_MAX);
        let age = (word >> (2 * COUNT_BITS + LATE_BITS)).wrapping_sub(epoch) % EPOCHS;
        let units = u64::from(units);
        match age {
            0 if word & mask >= units => word - units,
            1 if word >> COUNT_BITS & mask >= units => word - (units << COUNT_BITS),
            _ => word,
        }
    }

    /// The epoch.
    pub(super) fn epoch(self) -> u64 {
        self.epoch
    }

    /// The latest times at which the units of both epochs can have been used.
    fn latest_us(self, window: Sliding) -> (u64, u64) {
        let start_us = self.epoch * window.length_us();
        let into_us = ((self.late + 1) * window.length_us()).div_ceil(LATE_PARTS);
        (start_us, start_us + into_us)
    }

    /// Uses as many units of `cells` as this counts, as late as they can have been, which is not after `read_us`: the
    /// clock, read after the tally. What does not fit is dropped.
    pub(super) fn sow(self, window: Sliding, cells: Cells<'_>, read_us: u64) {
        let (before_us, count_us) = self.latest_us(window);
        for (mut units, at_us) in [(self.before, before_us), (self.count, count_us.min(read_us))] {
            while units > 0 {
                let Ok(claim) = cells.claim_up_to(at_us, units) else { break };
                units -= claim.units;
            }
        }
    }

    /// When nothing of it counts any more.
    pub(super) fn fresh_us(self, window: Sliding, now_us: u64) -> u64 {
        let (before_us, count_us) = self.latest_us(window);
        match self {
            Self { count: 1.., .. } => count_us + window.length_us(),
            Self { before: 1.., .. } => before_us + window.length_us(),
            _ => now_us,
        }
    }

    /// When `units` more keep the sum of both epochs within `max`.
    pub(super) fn opens_for(self, units: u32, max: u32, window: Sliding, now_us: u64) -> u64 {
        let room = max.saturating_sub(units);
        let epochs = if self.used() <= room {
            return now_us;
        } else if self.count <= room {
            1
        } else {
            2
        };
        (self.epoch + epochs) * window.length_us()
    }

    /// What is left of `max` units.
    pub(super) fn standing(self, max: u32, window: Sliding, now_us: u64) -> Standing {
        Standing {
            remaining: max.saturating_sub(self.used()),
            opens_us: self.opens_for(1, max, window, now_us),
            full_us: self.fresh_us(window, now_us).min(now_us + window.length_us()),
        }
    }

    /// The tally that owes as much as both.
    pub(super) fn merge(one: u64, other: u64, window: Sliding, now_us: u64) -> Self {
        let (one, other) = (Self::at(one, window, now_us), Self::at(other, window, now_us));
        let epoch = one.epoch.max(other.epoch);
        let (one, other) = (one.in_epoch(epoch), other.in_epoch(epoch));
        Self {
            epoch,
            late: one.late.max(other.late),
            before: one.before.max(other.before),
            count: one.count.max(other.count),
        }
    }

    /// As it is in a later epoch.
    fn in_epoch(self, epoch: u64) -> Self {
        match epoch - self.epoch {
            0 => self,
            1 => Self { before: self.count, ..Self::empty(epoch) },
            _ => Self::empty(epoch),
        }
    }

    /// What is used of `cells`, as a tally.
    pub(super) fn of(cells: Cells<'_>, window: Sliding, now_us: u64) -> Self {
        let standing = cells.standing(now_us);
        let used = (window.limit() - standing.remaining).min(COUNT_MAX);
        // Nothing was used later than this.
        let last_us = standing.full_us.saturating_sub(window.length_us());
        let empty = Self::empty(last_us / window.length_us());
        if used == 0 { empty } else { empty.and(used, window, last_us).unwrap_or(empty) }
    }
}
