//! Window cells: one key's use of a sliding window, exact over all shards.
//!
//! A quota of L per window W is split over m cells that together hold L units. A cell is one word, the
//! time of its last use and how many units it has handed out since it was last reopened; it reopens only
//! W after its *last* use. Every unit of one batch was therefore handed out no later than that last use,
//! and no unit of the next batch earlier than W behind it, so no window of length W ever holds more than
//! the cell's share, and no window holds more than L in sum. The proof needs nothing but that each word
//! changes atomically: no ordering between shards, no fairness, no lease.
//!
//! Times are microseconds on the monotonic clock, given by the caller.

use super::{
    sync::{AtomicU64, Ordering},
    window::Standing,
};

/// Cells of a window with room to spare. More cells lose less at the edge (at most 1/m of L when a client
/// paces itself exactly at its limit), fewer are quicker to walk.
const CELLS_TARGET: u32 = 64;
/// Units one cell can count.
const UNITS_MAX: u32 = USED_MASK as u32;
/// Bits of a word that count units; the others hold the time of last use, enough for 8.9 years of uptime.
const USED_BITS: u32 = 16;
const USED_MASK: u64 = (1 << USED_BITS) - 1;

/// Words in front of the cells: `closed_until` and `hint`.
const HEADER_WORDS: usize = 2;

/// The most units a sliding window can hold: beyond it a key's cells would no longer fit a page or two.
pub const LIMIT_MAX: u32 = 1024 * UNITS_MAX;

/// The longest window: its parts are reckoned in words.
const LENGTH_US_MAX: u64 = 1 << 50;

/// At most `limit` units in any `length_us` microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sliding {
    limit: u32,
    length_us: u64,
    cells: u32,
    /// Units of the smallest cell, and how many cells have one more.
    share: u32,
    larger: u32,
    /// 2^64 over the length: what takes the place of a division on the request path.
    reciprocal: u64,
}

impl Sliding {
    /// A window of `limit` units, 1 to [`LIMIT_MAX`], per `length_us` microseconds, 1 to 35 years.
    pub fn new(limit: u32, length_us: u64) -> Option<Self> {
        if limit == 0 || limit > LIMIT_MAX || length_us == 0 || length_us > LENGTH_US_MAX {
            return None;
        }
        let cells = limit.min(CELLS_TARGET).max(limit.div_ceil(UNITS_MAX));
        let (share, larger) = (limit / cells, limit % cells);
        Some(Self { limit, length_us, cells, share, larger, reciprocal: u64::MAX / length_us })
    }

    /// Units per window.
    pub fn limit(self) -> u32 {
        self.limit
    }

    /// Length in microseconds.
    pub fn length_us(self) -> u64 {
        self.length_us
    }

    /// Words of memory one key needs for this window.
    pub fn words(self) -> usize {
        HEADER_WORDS + self.cells as usize
    }

    /// Units of the cell at `index`: the shares differ by at most one and add up to the limit.
    fn share(self, index: u32) -> u32 {
        self.share + u32::from(index < self.larger)
    }

    /// How often the length fits in `us`, and what is left. For up to 2^60 microseconds, which are 36,000 years.
    pub(super) fn divide(self, us: u64) -> (u64, u64) {
        // The reciprocal is rounded down, and `us` small, so this is right or one too few.
        let times = ((u128::from(us) * u128::from(self.reciprocal)) >> 64) as u64;
        let left = us - times * self.length_us;
        if left >= self.length_us { (times + 1, left - self.length_us) } else { (times, left) }
    }
}

/// One key's cells for one window. All-zero words are a key that was never used.
#[derive(Clone, Copy)]
pub struct Cells<'a> {
    window: Sliding,
    words: &'a [AtomicU64],
}

/// Units that were handed out by one cell, with what is needed to take them back.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// How many.
    pub units: u32,
    cell: u32,
    before: u64,
    after: u64,
}

impl<'a> Cells<'a> {
    /// The cells of `window` in `words`, of which there must be [`Sliding::words`].
    pub fn new(window: Sliding, words: &'a [AtomicU64]) -> Self {
        debug_assert_eq!(words.len(), window.words());
        Self { window, words }
    }

    /// If the window is known to be used up: when it opens. One load, no write, so a flood of refused
    /// requests leaves the line shared in every core's cache.
    pub fn closed_until(self, now_us: u64) -> Option<u64> {
        let closed_until = self.words[0].load(Ordering::Relaxed);
        (now_us < closed_until).then_some(closed_until)
    }

    /// Takes one unit.
    ///
    /// # Errors
    /// When all are used: the time at which the next one opens.
    pub fn claim(self, now_us: u64) -> Result<Claim, u64> {
        self.claim_up_to(now_us, 1)
    }

    /// Takes units of one cell: as many as it has, up to `units_max`, which is at least one.
    ///
    /// # Errors
    /// When all of all cells are used: the time at which the next one opens.
    pub fn claim_up_to(self, now_us: u64, units_max: u32) -> Result<Claim, u64> {
        let mut cell = self.hint();
        let mut opens_us = u64::MAX;
        for step in 0..self.window.cells {
            match self.claim_in(cell, now_us, units_max) {
                Ok(claim) => {
                    if step != 0 {
                        self.words[1].store(u64::from(cell), Ordering::Relaxed);
                    }
                    return Ok(claim);
                }
                Err(cell_opens_us) => opens_us = opens_us.min(cell_opens_us),
            }
            cell = if cell + 1 == self.window.cells { 0 } else { cell + 1 };
        }
        // No cell can change before the first of them reopens, so until then refusing needs no walk. A unit
        // taken back meanwhile is the exception; `undo` clears the mark.
        self.words[0].fetch_max(opens_us, Ordering::Relaxed);
        Err(opens_us)
    }

    fn claim_in(self, cell: u32, now_us: u64, units_max: u32) -> Result<Claim, u64> {
        let word = &self.words[HEADER_WORDS + cell as usize];
        let mut before = word.load(Ordering::Relaxed);
        loop {
            let (last_us, used) = unpack(before);
            let share = self.window.share(cell);
            let (units, after) = if now_us.saturating_sub(last_us) >= self.window.length_us {
                let units = units_max.min(share);
                (units, pack(now_us, units))
            } else if used < share {
                let units = units_max.min(share - used);
                (units, pack(last_us.max(now_us), used + units))
            } else {
                return Err(last_us + self.window.length_us);
            };
            match word.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(Claim { units, cell, before, after }),
                Err(now) => before = now,
            }
        }
    }

    /// Takes a claim back, as if it had never been made; if others have claimed from the same cell since,
    /// the unit comes back but the cell reopens a little later than it might.
    pub fn undo(self, claim: Claim) {
        let word = &self.words[HEADER_WORDS + claim.cell as usize];
        let mut expected = claim.after;
        let mut restored = claim.before;
        while let Err(now) = word.compare_exchange(expected, restored, Ordering::Relaxed, Ordering::Relaxed) {
            let (last_us, used) = unpack(now);
            let (claimed_us, _) = unpack(claim.after);
            if used < claim.units || last_us >= claimed_us + self.window.length_us {
                // The cell has reopened since: our unit expired by itself.
                return;
            }
            expected = now;
            restored = pack(last_us, used - claim.units);
        }
        self.words[0].store(0, Ordering::Relaxed);
    }

    /// What is left, by a walk over all cells.
    pub fn standing(self, now_us: u64) -> Standing {
        let mut standing = Standing { remaining: 0, opens_us: u64::MAX, full_us: now_us };
        for cell in 0..self.window.cells {
            let (last_us, used) = unpack(self.words[HEADER_WORDS + cell as usize].load(Ordering::Relaxed));
            let reopens_us = last_us + self.window.length_us;
            let open = if used == 0 || reopens_us <= now_us {
                self.window.share(cell)
            } else {
                standing.full_us = standing.full_us.max(reopens_us);
                self.window.share(cell).saturating_sub(used)
            };
            standing.remaining += open;
            standing.opens_us = standing.opens_us.min(if open > 0 { now_us } else { reopens_us });
        }
        standing
    }

    /// When `units` can be claimed at once, if nothing is claimed until then; for no more than the limit.
    pub fn opens_for(self, units: u32, now_us: u64) -> u64 {
        let cells = || {
            (0..self.window.cells).map(|cell| {
                let (last_us, used) =
                    unpack(self.words[HEADER_WORDS + cell as usize].load(Ordering::Relaxed));
                let share = self.window.share(cell);
                let reopens_us = last_us + self.window.length_us;
                if used == 0 || reopens_us <= now_us {
                    (share, now_us)
                } else {
                    (share.saturating_sub(used), reopens_us)
                }
            })
        };
        let open_at = |at_us: u64| -> u32 {
            let shares = (0..self.window.cells).map(|cell| self.window.share(cell));
            cells()
                .zip(shares)
                .map(|((open, reopens_us), share)| if reopens_us <= at_us { share } else { open })
                .sum()
        };
        let times = cells().map(|(_, reopens_us)| reopens_us).chain([now_us]);
        times.filter(|&at_us| open_at(at_us) >= units).min().unwrap_or(now_us + self.window.length_us)
    }

    /// Makes the cells those of a key that was never used.
    pub fn clear(self) {
        for word in self.words {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Whether every unit is open at `now_us`: nothing would be lost by [`Cells::clear`].
    pub fn is_fresh(self, now_us: u64) -> bool {
        self.words[HEADER_WORDS..].iter().all(|word| {
            let (last_us, used) = unpack(word.load(Ordering::Relaxed));
            used == 0 || last_us + self.window.length_us <= now_us
        })
    }

    fn hint(self) -> u32 {
        // Whatever stands there, it is only where the search begins.
        let hint = u32::try_from(self.words[1].load(Ordering::Relaxed)).unwrap_or(0);
        if hint < self.window.cells { hint } else { 0 }
    }
}

fn pack(last_us: u64, used: u32) -> u64 {
    last_us << USED_BITS | u64::from(used)
}

fn unpack(word: u64) -> (u64, u32) {
    (word >> USED_BITS, (word & USED_MASK) as u32)
}
