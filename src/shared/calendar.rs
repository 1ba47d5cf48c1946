//! Quotas by the calendar: so many a day, a month; all come back at midnight UTC, or when the month ends.
//!
//! A key's word is the period of its last use and how many units it took in it. Pure functions of such words; who
//! changes them atomically is the key table's business. Around the end of a period up to twice the limit can pass
//! in a short time, which is what such quotas mean. A wall clock that is set back by less than a period opens
//! nothing anew.

use jiff::{Timestamp, civil, tz::Offset};

use crate::base::clock::Moment;

use super::window::Standing;

/// The periods there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// From :00 to :59.
    Minute,
    /// From :00:00.
    Hour,
    /// From midnight.
    Day,
    /// From the first.
    Month,
    /// From the first of January.
    Year,
}

/// At most `limit` units in each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    limit: u32,
    period: Period,
}

/// One period: its number, and the monotonic microsecond at which it ends.
#[derive(Clone, Copy)]
struct Current {
    number: u32,
    ends_us: u64,
}

const SECOND_US: u64 = 1_000_000;
const DAY_S: u64 = 86_400;

impl Calendar {
    /// At least one unit per period.
    pub fn new(limit: u32, period: Period) -> Option<Self> {
        (limit > 0).then_some(Self { limit, period })
    }

    /// Units per period.
    pub fn limit(self) -> u32 {
        self.limit
    }

    /// The period.
    pub fn period(self) -> Period {
        self.period
    }

    /// Microseconds of the longest such period.
    pub fn length_us(self) -> u64 {
        self.fixed_s().unwrap_or(if self.period == Period::Month { 31 * DAY_S } else { 366 * DAY_S })
            * SECOND_US
    }

    /// Seconds of a period, if all are equal.
    fn fixed_s(self) -> Option<u64> {
        match self.period {
            Period::Minute => Some(60),
            Period::Hour => Some(3_600),
            Period::Day => Some(DAY_S),
            Period::Month | Period::Year => None,
        }
    }

    /// The word after `units` were taken at `now`.
    ///
    /// # Errors
    /// There are not so many: the monotonic microsecond at which there are.
    pub(super) fn claim(self, word: u64, units: u32, now: Moment) -> Result<u64, u64> {
        let (current, used) = self.at(word, now);
        match used.checked_add(units).filter(|&used| used <= self.limit) {
            Some(used) => Ok(pack(current.number, used)),
            None => Err(current.ends_us),
        }
    }

    /// The word after `units` came back that a claim took, which left `claimed`.
    pub(super) fn undo(word: u64, units: u32, claimed: u64) -> u64 {
        let ((period, used), (claimed_in, _)) = (unpack(word), unpack(claimed));
        if period == claimed_in { pack(period, used.saturating_sub(units)) } else { word }
    }

    /// What is left.
    pub(super) fn standing(self, word: u64, now: Moment) -> Standing {
        let (current, used) = self.at(word, now);
        let remaining = self.limit.saturating_sub(used);
        let opens_us = if remaining > 0 { now.monotonic_us } else { current.ends_us };
        let full_us = if used > 0 { current.ends_us } else { now.monotonic_us };
        Standing { remaining, opens_us, full_us }
    }

    /// The word that owes as much as both.
    pub(super) fn merge(self, one: u64, other: u64, now: Moment) -> u64 {
        let ((current, used), (also, more)) = (self.at(one, now), self.at(other, now));
        pack(current.number.max(also.number), used.max(more))
    }

    /// The period that counts, and what is used of it.
    fn at(self, word: u64, now: Moment) -> (Current, u32) {
        let current = self.current(now);
        let (period, used) = unpack(word);
        if used > 0 && period == current.number + 1 {
            // The clock was set back: the period that had begun goes on, and ends when this one and it are over.
            (Current { number: period, ends_us: current.ends_us + self.length_us() }, used)
        } else {
            (current, if period == current.number { used } else { 0 })
        }
    }

    fn current(self, now: Moment) -> Current {
        let in_us = |ends_s: u64| now.monotonic_us + (ends_s * SECOND_US).saturating_sub(now.unix_us);
        let unix_s = now.unix_us / SECOND_US;
        if let Some(length_s) = self.fixed_s() {
            let number = unix_s / length_s;
            let number_of_word = u32::try_from(number).unwrap_or(u32::MAX - 1);
            return Current { number: number_of_word, ends_us: in_us((number + 1) * length_s) };
        }
        let date = Timestamp::from_second(i64::try_from(unix_s).unwrap_or_default())
            .map(|time| Offset::UTC.to_datetime(time).date())
            .unwrap_or_default();
        let (year, month) = (i32::from(date.year()), i32::from(date.month()));
        let (number, next) = match self.period {
            Period::Year => (year, (year + 1, 1)),
            _ => (year * 12 + month - 1, if month == 12 { (year + 1, 1) } else { (year, month + 1) }),
        };
        let ends_s = i16::try_from(next.0)
            .ok()
            .zip(i8::try_from(next.1).ok())
            .and_then(|(year, month)| civil::Date::new(year, month, 1).ok())
            .and_then(|date| Offset::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok())
            .map_or(0, Timestamp::as_second);
        Current {
            number: u32::try_from(number).unwrap_or_default(),
            ends_us: in_us(u64::try_from(ends_s).unwrap_or_default()),
        }
    }
}

fn pack(period: u32, used: u32) -> u64 {
    u64::from(period) << 32 | u64::from(used)
}

fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}
