//! One window of a quota: how many units it has, and by which rule they come back.
//!
//! Holds no count; what a key has used is in its [`KeyTable`](super::key_table::KeyTable).

use super::{bucket::Bucket, calendar::Calendar, cells::Sliding};

/// Windows one quota may have.
pub const WINDOWS_MAX: usize = 8;

/// One window of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// So many in any stretch of time of this length.
    Sliding(Sliding),
    /// So many in each period of the calendar.
    Calendar(Calendar),
    /// A bucket that fills at a rate.
    Bucket(Bucket),
}

impl Window {
    /// So many units at most: of a bucket, its burst.
    pub fn limit(self) -> u32 {
        match self {
            Self::Sliding(window) => window.limit(),
            Self::Calendar(window) => window.limit(),
            Self::Bucket(bucket) => bucket.burst(),
        }
    }

    /// Microseconds in which all units come back: of a month or a year the longest, of a bucket the time to fill it.
    pub fn length_us(self) -> u64 {
        match self {
            Self::Sliding(window) => window.length_us(),
            Self::Calendar(window) => window.length_us(),
            Self::Bucket(bucket) => bucket.fill_us(),
        }
    }

    /// Whether what was used of `before` is used of this one, when a configuration follows another.
    pub fn follows(self, before: Self) -> bool {
        match (self, before) {
            (Self::Bucket(_), Self::Bucket(_)) => true,
            (Self::Bucket(_), _) | (_, Self::Bucket(_)) => false,
            _ => self.length_us() == before.length_us(),
        }
    }
}

/// What is left of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Units that can be claimed now.
    pub remaining: u32,
    /// Monotonic microseconds at which one more unit opens; now or earlier if `remaining` is not zero.
    pub opens_us: u64,
    /// When all units are open again, if nothing is claimed until then.
    pub full_us: u64,
}
