//! The last records of the log, packed as they came, for whoever wants to look at the last exchanges.
//!
//! Two pages, of which the older one goes when the newer one is full: nothing is allocated for a record, and a
//! second's worth of a busy gateway or hours of a quiet one are there.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::shared::record::TEXT_BYTES_MAX;

/// Bytes of a page; the record that fills it may reach beyond.
const PAGE_BYTES: usize = 512 * 1024;
/// More than a record of the longest kind has: eight texts and some numbers.
const RECORD_BYTES_MAX: usize = 8 * TEXT_BYTES_MAX + 1024;
/// The most memory they take: two pages, each with one record of the longest kind beyond its end.
pub const BYTES_MAX: usize = 2 * (PAGE_BYTES + RECORD_BYTES_MAX);
/// In front of each record: its length.
const LENGTH_BYTES: usize = 4;

/// The last records.
#[derive(Default)]
pub struct LastRecords(Mutex<Pages>);

#[derive(Clone)]
struct Pages {
    older: Vec<u8>,
    newer: Vec<u8>,
}

impl Default for Pages {
    fn default() -> Self {
        let page = || Vec::with_capacity(BYTES_MAX / 2);
        Self { older: page(), newer: page() }
    }
}

impl LastRecords {
    /// Keeps one more.
    pub(super) fn keep(&self, packed: &[u8]) {
        let Ok(length) = u32::try_from(packed.len()) else { return };
        let mut pages = self.lock();
        if pages.newer.len() >= PAGE_BYTES {
            let Pages { older, newer } = &mut *pages;
            std::mem::swap(older, newer);
            newer.clear();
        }
        pages.newer.extend_from_slice(&length.to_le_bytes());
        pages.newer.extend_from_slice(packed);
    }

    /// Shows them to `look`, the newest first, for as long as it wants more.
    pub(in crate::control) fn newest(&self, mut look: impl FnMut(&[u8]) -> bool) {
        // The writer waits for a copy, not for whoever looks.
        let pages = self.lock().clone();
        for page in [&pages.newer, &pages.older] {
            let mut records = Vec::new();
            let mut rest = page.as_slice();
            while let Some((length, after)) = rest.split_first_chunk::<LENGTH_BYTES>() {
                let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
                let Some((record, after)) = after.split_at_checked(length) else { break };
                records.push(record);
                rest = after;
            }
            if !records.into_iter().rev().all(&mut look) {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for LastRecords {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pages = self.lock();
        write!(formatter, "LastRecords({} bytes)", pages.older.len() + pages.newer.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_come_first_and_the_oldest_make_room() {
        let last = LastRecords::default();
        let seen = |wanted: usize| {
            let mut seen = Vec::new();
            last.newest(|record| {
                seen.push(u32::from_le_bytes(*record.first_chunk().unwrap()));
                seen.len() < wanted
            });
            seen
        };
        assert!(seen(9).is_empty());
        for number in 0..20_000u32 {
            // Long and short ones.
            last.keep(&[&number.to_le_bytes()[..], &vec![7; (number % 500) as usize]].concat());
        }
        assert_eq!(seen(3), [19_999, 19_998, 19_997]);
        let all = seen(usize::MAX);
        assert!(all.windows(2).all(|pair| pair[0] == pair[1] + 1), "none is missing in between");
        assert!(all.len() > 2_000, "{}", all.len());
        let pages = last.lock();
        assert_eq!(pages.older.capacity() + pages.newer.capacity(), BYTES_MAX, "no page has grown");
    }
}
