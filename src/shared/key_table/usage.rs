//! One key's use of one window: claims, and what is left.
//!
//! Knows where the units are counted, in a word or in cells, and moves a key from its tally to cells when it comes
//! near its limit.

use crate::base::clock::{Moment, monotonic_us};

use super::{
    super::{
        bucket::Bucket,
        calendar::Calendar,
        cells::{self, Cells, Sliding},
        sync::{AtomicU64, Ordering, fence, spin_loop},
        tally::{COUNT_MAX, Tally},
        window::{Standing, Window},
    },
    KeyTable, Lane, Slot, WAYS,
};

/// A word that somebody is changing together with what it stands for.
pub(super) const LOCKED: u64 = u64::MAX;
/// The bit of a word that names a block of cells; the others are the block's number.
const IN_CELLS: u64 = 1 << 63;
/// A key gets cells when it has used this part of its limit: so little of it is known coarsely. With fewer than half
/// of the blocks left it is half, so that those who need them find some.
const COARSE_PART: u32 = 64;

/// Sliding windows of no more units than this have their cells in the slot.
const INLINE_UNITS_MAX: u32 = 16;

/// Whether the cells of `window` are in the slot, for want of anything smaller.
pub(super) fn is_inline(window: Sliding) -> bool {
    window.limit() <= INLINE_UNITS_MAX
}

/// The word that names `block`.
pub(super) fn naming(block: usize) -> u64 {
    IN_CELLS | block as u64
}

/// The block that `word` names.
pub(super) fn named(word: u64) -> Option<usize> {
    (word & IN_CELLS != 0 && word != LOCKED).then_some((word & !IN_CELLS) as usize)
}

/// One key's use of one window.
#[derive(Clone, Copy)]
pub struct Usage<'a> {
    pub(super) table: &'a KeyTable,
    pub(super) lane: &'a Lane,
    pub(super) words: &'a [AtomicU64],
    /// Whose the slot is.
    pub(super) owner: &'a AtomicU64,
    pub(super) slot: Slot,
    /// What its word said when it was looked up, if the window has one word.
    pub(super) seen: u64,
}

/// Units that were taken of one window, with what is needed to give them back.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// How many.
    pub units: u32,
    held: Held,
}

/// Where they are counted.
#[derive(Clone, Copy, Debug)]
enum Held {
    /// In cells that are in the slot.
    Slot(cells::Claim),
    /// In cells that the word named.
    Block(usize, cells::Claim),
    /// In a tally, in this epoch.
    Tally(u64),
    /// In the word, which was this afterwards.
    Word(u64),
}

impl Usage<'_> {
    /// The window.
    pub fn window(&self) -> Window {
        self.lane.window
    }

    /// False if `units` are certainly not left. Writes nothing, so a flood of refused requests leaves the lines
    /// shared in every core's cache.
    #[inline]
    pub fn may_have(&self, units: u32, now: Moment) -> bool {
        let open = |cells: Cells<'_>| {
            cells.closed_until(now.monotonic_us).is_none()
                && (units == 1 || cells.standing(now.monotonic_us).remaining >= units)
        };
        match self.lane.window {
            Window::Sliding(window) if is_inline(window) => open(self.inline(window)),
            Window::Sliding(window) => match named(self.seen) {
                Some(block) => open(self.lane.cells(self.table, block)),
                None => {
                    let has = |used: u32| used.saturating_add(units) <= window.limit();
                    has(Tally::used_at_most(self.seen))
                        || has(Tally::at(self.seen, window, now.monotonic_us).used())
                }
            },
            Window::Calendar(calendar) => calendar.claim(self.seen, units, now).is_ok(),
            Window::Bucket(bucket) => bucket.claim(self.seen, units, now.monotonic_us).is_ok(),
        }
    }

    /// Takes units: up to `units_max`, as many as one cell has, or all of them where no cells are.
    ///
    /// # Errors
    /// There are none, or not so many: the monotonic microsecond at which that changes.
    pub fn claim_up_to(&self, units_max: u32, now: Moment) -> Result<Claim, u64> {
        match self.lane.window {
            Window::Sliding(window) if is_inline(window) => {
                let claim = self.inline(window).claim_up_to(now.monotonic_us, units_max)?;
                Ok(Claim { units: claim.units, held: Held::Slot(claim) })
            }
            Window::Sliding(window) => self.claim_sliding(window, units_max, now.monotonic_us),
            Window::Calendar(calendar) => {
                self.claim_word(units_max, |word| calendar.claim(word, units_max, now))
            }
            Window::Bucket(bucket) => {
                self.claim_word(units_max, |word| bucket.claim(word, units_max, now.monotonic_us))
            }
        }
    }

    fn claim_word(&self, units: u32, change: impl Fn(u64) -> Result<u64, u64>) -> Result<Claim, u64> {
        loop {
            let before = unlocked(self.word());
            let after = change(before)?;
            if exchange(self.word(), before, after) {
                return Ok(Claim { units, held: Held::Word(after) });
            }
        }
    }

    fn claim_sliding(&self, window: Sliding, units_max: u32, now_us: u64) -> Result<Claim, u64> {
        loop {
            let word = unlocked(self.word());
            if let Some(block) = named(word) {
                let cells = self.lane.cells(self.table, block);
                let claim = cells.claim_up_to(now_us, units_max)?;
                return Ok(Claim { units: claim.units, held: Held::Block(block, claim) });
            }
            let tally = Tally::at(word, window, now_us);
            let wanted = tally.used().saturating_add(units_max);
            let is_coarse_enough = wanted <= COUNT_MAX
                && (wanted <= (window.limit() / COARSE_PART).max(1)
                    || self.lane.store(self.table).is_scarce() && wanted <= window.limit() / 2);
            if !is_coarse_enough && self.give_cells(window, word, tally, now_us) {
                continue;
            }
            let counted = tally.and(units_max, window, now_us).filter(|_| wanted <= window.limit());
            let Some(counted) = counted else {
                let max = window.limit().min(COUNT_MAX);
                return Err(tally.opens_for(units_max, max, window, now_us));
            };
            if exchange(self.word(), word, counted.word()) {
                return Ok(Claim { units: units_max, held: Held::Tally(counted.epoch()) });
            }
        }
    }

    /// Gives the key cells in place of its tally. False if there are none to be had; true if it is worth looking
    /// at the word again.
    #[cold]
    fn give_cells(&self, window: Sliding, word: u64, tally: Tally, now_us: u64) -> bool {
        let blocks = self.lane.store(self.table);
        let detach = |owner: usize, block: usize| self.table.detach(owner, self.lane, block, now_us);
        let Some(block) = blocks.take(self.slot.index, detach) else { return false };
        // No other shard's clock was ahead of this reading, nor is our own, also where it is made up.
        let read_us = monotonic_us().max(now_us);
        tally.sow(window, self.lane.cells(self.table, block), read_us);
        if self.word().compare_exchange(word, naming(block), Ordering::Release, Ordering::Relaxed).is_err() {
            blocks.give_back(block);
        }
        true
    }

    /// Takes back, at `now_us`, a claim that [held](Usage::holds). Units that are open by then anyhow do not come back
    /// twice, nor do those of a key that has lost its slot meanwhile.
    pub fn undo(&self, claim: Claim, now_us: u64) {
        // Under the latch nobody gets the slot between the question whose it is and the change.
        self.table.latched(self.slot.index / WAYS, || {
            if self.has_slot() {
                self.undo_latched(claim, now_us);
            }
        });
    }

    fn undo_latched(&self, claim: Claim, now_us: u64) {
        match (claim.held, self.lane.window) {
            (Held::Slot(held), Window::Sliding(window)) => self.inline(window).undo(held),
            (Held::Block(block, held), _) => {
                // Cells that are somebody else's by now hold nothing of ours: they were free to be taken.
                if self.word().load(Ordering::Acquire) == naming(block) {
                    self.lane.cells(self.table, block).undo(held);
                }
            }
            // Units that have been sown since are not given back: nobody knows which they are.
            (Held::Tally(epoch), _) => self.undo_word(|word| match named(word) {
                Some(_) => word,
                None => Tally::without(word, claim.units, epoch),
            }),
            (Held::Word(after), Window::Calendar(_)) => {
                self.undo_word(|word| Calendar::undo(word, claim.units, after));
            }
            (Held::Word(after), Window::Bucket(bucket)) => {
                self.undo_word(|word| Bucket::undo(bucket, word, claim.units, after, now_us));
            }
            (Held::Slot(_) | Held::Word(_), _) => {}
        }
    }

    fn undo_word(&self, change: impl Fn(u64) -> u64) {
        loop {
            let before = unlocked(self.word());
            let after = change(before);
            if before == after || exchange(self.word(), before, after) {
                return;
            }
        }
    }

    /// Whether the key has its slot, and the cells that were looked up. To be asked after [`settle`](super::settle).
    pub fn is_current(&self) -> bool {
        self.has_slot() && (named(self.seen).is_none() || self.word().load(Ordering::Relaxed) == self.seen)
    }

    /// Whether the slot is the key's.
    fn has_slot(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == self.slot.fingerprint
    }

    /// Whether `claim` is counted as the key's. To be asked after [`settle`](super::settle). If it is not, it is to be
    /// made again, and the old one left alone.
    #[inline]
    pub fn holds(&self, claim: &Claim) -> bool {
        self.has_slot()
            && match claim.held {
                Held::Block(block, _) => self.word().load(Ordering::Relaxed) == naming(block),
                Held::Slot(_) | Held::Tally(_) | Held::Word(_) => true,
            }
    }

    /// What is left.
    pub fn standing(&self, now: Moment) -> Standing {
        let now_us = now.monotonic_us;
        match self.lane.window {
            Window::Sliding(window) => match self.cells(window) {
                Ok(cells) => cells.standing(now_us),
                Err(word) => {
                    let max = window.limit().min(COUNT_MAX);
                    Tally::at(word, window, now_us).standing(max, window, now_us)
                }
            },
            Window::Calendar(calendar) => calendar.standing(unlocked(self.word()), now),
            Window::Bucket(bucket) => bucket.standing(unlocked(self.word()), now_us),
        }
    }

    /// When `units`, no more than the limit, can be claimed at once if nothing is claimed until then.
    pub fn opens_for(&self, units: u32, now: Moment) -> u64 {
        let now_us = now.monotonic_us;
        match self.lane.window {
            Window::Sliding(window) => match self.cells(window) {
                Ok(cells) => cells.opens_for(units, now_us),
                Err(word) => {
                    let max = window.limit().min(COUNT_MAX);
                    Tally::at(word, window, now_us).opens_for(units, max, window, now_us)
                }
            },
            Window::Calendar(calendar) => {
                calendar.claim(unlocked(self.word()), units, now).map_or_else(|at_us| at_us, |_| now_us)
            }
            Window::Bucket(bucket) => {
                bucket.claim(unlocked(self.word()), units, now_us).map_or_else(|at_us| at_us, |_| now_us)
            }
        }
    }

    /// Its cells, or the word of its tally.
    fn cells(&self, window: Sliding) -> Result<Cells<'_>, u64> {
        if is_inline(window) {
            return Ok(self.inline(window));
        }
        let word = unlocked(self.word());
        named(word).map(|block| self.lane.cells(self.table, block)).ok_or(word)
    }

    fn inline(&self, window: Sliding) -> Cells<'_> {
        Cells::new(window, self.words)
    }

    /// The first of its words in the slot, and the only one unless its cells are there.
    pub(super) fn word(&self) -> &AtomicU64 {
        &self.words[0]
    }
}

impl std::fmt::Debug for Usage<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?} in {:?}", self.window(), self.slot)
    }
}

impl KeyTable {
    /// Takes `block` from the word at `owner`, if that has it and has nothing to lose. Afterwards nobody owns it.
    fn detach(&self, owner: usize, lane: &Lane, block: usize, now_us: u64) -> bool {
        let word = &self.words_of(owner, lane)[0];
        let cells = lane.cells(self, block);
        if !cells.is_fresh(now_us) || !exchange(word, naming(block), LOCKED) {
            return false;
        }
        // Pairs with the fence before `holds`: of a claim and its cells' loss that race, at least one sees the
        // other, so either the loss is called off or the claim does not hold.
        fence(Ordering::SeqCst);
        let is_fresh = cells.is_fresh(now_us);
        word.store(if is_fresh { 0 } else { naming(block) }, Ordering::Release);
        is_fresh
    }
}

/// The word, once nobody is changing what it stands for.
pub(super) fn unlocked(word: &AtomicU64) -> u64 {
    loop {
        match word.load(Ordering::Acquire) {
            LOCKED => spin_loop(),
            word => return word,
        }
    }
}

pub(super) fn exchange(word: &AtomicU64, before: u64, after: u64) -> bool {
    word.compare_exchange(before, after, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}
