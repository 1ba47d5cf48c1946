//! The keyed limits of one policy: which key owns which cells.
//!
//! A fixed number of slots in sets of eight; a key lives in the set its hash names. A hit is a scan of one
//! cache line and takes no lock. A miss takes its set's latch, so that two shards cannot give one key two
//! slots. A slot is given to another key only when all its cells are open again, which makes eviction a
//! no-op for the key that loses it: nobody gets a fresh quota by pushing others out. When no slot of the
//! set is in that state, newcomers are refused until one is.
//!
//! Keys are 64-bit hashes with a secret seed: two live keys that collide share a limit, which errs on the
//! side of refusing.

use super::{
    cells::{Cells, Claim, Window},
    sync::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence, spin_loop, zeroed_words},
};

/// Slots in a set: their fingerprints fill one cache line.
const WAYS: usize = 8;
/// No key.
const EMPTY: u64 = 0;
/// A key that is being replaced.
const REPLACING: u64 = 1;

/// All keys of one limit.
pub struct KeyTable {
    windows: Box<[Window]>,
    /// Where each window's words begin in a slot, and one past the last.
    offsets: Box<[usize]>,
    fingerprints: Box<[AtomicU64]>,
    words: Box<[AtomicU64]>,
    latches: Box<[AtomicU32]>,
    occupied: AtomicUsize,
}

/// A key's place in its table, as of when it was looked up. Use and then confirm it.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    index: usize,
    fingerprint: u64,
}

/// Every slot a key could have is in use by others; one is free again at `opens_us`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull {
    /// Microseconds on the monotonic clock.
    pub opens_us: u64,
}

impl KeyTable {
    /// A table for at least `keys` keys, each with cells for all of `windows`.
    pub fn new(windows: &[Window], keys: usize) -> Self {
        let sets = Self::capacity_for(keys) / WAYS;
        let mut offsets = vec![0];
        for window in windows {
            offsets.push(offsets[offsets.len() - 1] + window.words());
        }
        let slot_words = offsets[windows.len()];
        Self {
            windows: windows.into(),
            offsets: offsets.into(),
            fingerprints: zeroed_words(sets * WAYS),
            words: zeroed_words(sets * WAYS * slot_words),
            latches: (0..sets).map(|_| AtomicU32::new(0)).collect(),
            occupied: AtomicUsize::new(0),
        }
    }

    /// Slots of a table for at least `keys` keys.
    pub fn capacity_for(keys: usize) -> usize {
        keys.div_ceil(WAYS).next_power_of_two() * WAYS
    }

    /// Counts as used at `now_us` what is used of `before`, in windows as long as there, up to the limits here. What
    /// is claimed from `before` meanwhile is missed.
    pub fn take_over(&self, before: &Self, now_us: u64) {
        for (index, fingerprint) in before.fingerprints.iter().enumerate() {
            let fingerprint = fingerprint.load(Ordering::Acquire);
            if fingerprint <= REPLACING {
                continue;
            }
            let known = Slot { index, fingerprint };
            for (place, window) in self.windows.iter().enumerate() {
                let same = before.windows.iter().position(|other| other.length_us() == window.length_us());
                let Some(same) = same else { continue };
                let remaining = before.cells(known, same).standing(now_us).remaining;
                let mut missing = (before.windows[same].limit() - remaining).min(window.limit());
                // The fingerprint is the hash, so it finds the same key again.
                let Ok(slot) = self.slot(fingerprint, now_us) else { break };
                while missing > 0 {
                    let Ok(claim) = self.cells(slot, place).claim_up_to(now_us, missing) else { break };
                    missing -= claim.units;
                }
            }
        }
    }

    /// The windows each key has.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Slots that hold a key.
    pub fn occupied(&self) -> usize {
        self.occupied.load(Ordering::Relaxed)
    }

    /// Slots there are.
    pub fn capacity(&self) -> usize {
        self.fingerprints.len()
    }

    /// The slot of the key that hashes to `hash`, made if it has none.
    ///
    /// # Errors
    /// [`TableFull`] when no slot can be had.
    pub fn slot(&self, hash: u64, now_us: u64) -> Result<Slot, TableFull> {
        let fingerprint = hash.max(REPLACING + 1);
        let set = self.set_of(hash);
        if let Some(index) = self.find(set, fingerprint) {
            return Ok(Slot { index, fingerprint });
        }
        self.insert(set, fingerprint, now_us)
    }

    /// The slot of the key that hashes to `hash`, if it has one. What is read of it may be another key's by then.
    pub fn known(&self, hash: u64) -> Option<Slot> {
        let fingerprint = hash.max(REPLACING + 1);
        let index = self.find(self.set_of(hash), fingerprint)?;
        Some(Slot { index, fingerprint })
    }

    /// The cells of `slot` for the window at `window`.
    pub fn cells(&self, slot: Slot, window: usize) -> Cells<'_> {
        let slot_words = self.offsets[self.windows.len()];
        let base = slot.index * slot_words;
        let words = &self.words[base + self.offsets[window]..base + self.offsets[window + 1]];
        Cells::new(self.windows[window], words)
    }

    /// Whether what was claimed in `slot` since it was looked up was charged to its key. If not, the slot
    /// has been given away meanwhile: take the claims back and look the key up again.
    pub fn confirm(&self, slot: Slot) -> bool {
        // Pairs with the fence in `replace`: of a claim and an eviction that race, at least one sees the
        // other, so either the eviction is called off or we answer false.
        fence(Ordering::SeqCst);
        self.fingerprints[slot.index].load(Ordering::Relaxed) == slot.fingerprint
    }

    /// Takes back a claim made in `slot`.
    pub fn undo(&self, slot: Slot, window: usize, claim: Claim) {
        self.cells(slot, window).undo(claim);
    }

    fn set_of(&self, hash: u64) -> usize {
        // The high half, so that the low half alone does not decide both place and fingerprint.
        (hash >> 32) as usize & (self.latches.len() - 1)
    }

    fn find(&self, set: usize, fingerprint: u64) -> Option<usize> {
        let base = set * WAYS;
        // Acquire pairs with the release in `replace`: who sees the key sees its cleared cells.
        (base..base + WAYS).find(|&index| self.fingerprints[index].load(Ordering::Acquire) == fingerprint)
    }

    #[cold]
    fn insert(&self, set: usize, fingerprint: u64, now_us: u64) -> Result<Slot, TableFull> {
        let latch = &self.latches[set];
        while latch.compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            spin_loop();
        }
        let slot = self.insert_latched(set, fingerprint, now_us);
        latch.store(0, Ordering::Release);
        slot
    }

    fn insert_latched(&self, set: usize, fingerprint: u64, now_us: u64) -> Result<Slot, TableFull> {
        if let Some(index) = self.find(set, fingerprint) {
            return Ok(Slot { index, fingerprint });
        }
        let base = set * WAYS;
        let mut opens_us = u64::MAX;
        for index in base..base + WAYS {
            if self.fingerprints[index].load(Ordering::Relaxed) == EMPTY {
                self.occupied.fetch_add(1, Ordering::Relaxed);
                self.fingerprints[index].store(fingerprint, Ordering::Release);
                return Ok(Slot { index, fingerprint });
            }
        }
        for index in base..base + WAYS {
            match self.replace(index, fingerprint, now_us) {
                Ok(slot) => return Ok(slot),
                Err(fresh_us) => opens_us = opens_us.min(fresh_us),
            }
        }
        Err(TableFull { opens_us })
    }

    /// Gives the slot at `index` to another key if its own has nothing to lose; else says when that will
    /// be. Called under the set's latch.
    fn replace(&self, index: usize, fingerprint: u64, now_us: u64) -> Result<Slot, u64> {
        let fresh_us = self.fresh_us(index, now_us);
        if fresh_us > now_us {
            return Err(fresh_us);
        }
        let owner = self.fingerprints[index].load(Ordering::Relaxed);
        self.fingerprints[index].store(REPLACING, Ordering::Relaxed);
        // Pairs with the fence in `confirm`.
        fence(Ordering::SeqCst);
        let fresh_us = self.fresh_us(index, now_us);
        if fresh_us > now_us {
            self.fingerprints[index].store(owner, Ordering::Release);
            return Err(fresh_us);
        }
        let slot_words = self.offsets[self.windows.len()];
        for word in &self.words[index * slot_words..(index + 1) * slot_words] {
            word.store(0, Ordering::Relaxed);
        }
        self.fingerprints[index].store(fingerprint, Ordering::Release);
        Ok(Slot { index, fingerprint })
    }

    fn fresh_us(&self, index: usize, now_us: u64) -> u64 {
        let slot = Slot { index, fingerprint: EMPTY };
        (0..self.windows.len()).map(|window| self.cells(slot, window).fresh_us(now_us)).max().unwrap_or(0)
    }
}

impl std::fmt::Debug for KeyTable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("KeyTable")
            .field("windows", &self.windows)
            .field("occupied", &self.occupied())
            .field("capacity", &self.capacity())
            .finish()
    }
}
