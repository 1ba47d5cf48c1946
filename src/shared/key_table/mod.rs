//! The keyed limits of one policy: which key has used how much.
//!
//! A fixed number of slots in sets of eight; a key lives in the set its hash names. A hit is a scan of one
//! cache line and takes no lock. A miss takes its set's latch, so that two shards cannot give one key two
//! slots. A slot holds one word for each window, or a few cells for a small one; a key that comes near its limit
//! of a large one gets a block of cells from a common store, and loses it when all its units are open again.
//!
//! A newcomer to a full set takes the slot of a key that has nothing to lose, or else of the one that owes least. What
//! that owes becomes the set's floor: every key that is not there is held to owe as much, so nobody gets a fresh quota
//! by pushing others out. Keys that have cells are not pushed out. When no slot can be had, newcomers are refused.
//!
//! A claim counts if its key has its slot, and its cells, afterwards. One that does not is left where it is: somebody
//! may be charged a unit too much, nobody one too few. Keys are 64-bit hashes with a secret seed: two live keys that
//! collide share a limit, which errs on the side of refusing.

mod blocks;
mod usage;

pub use self::usage::{Claim, Usage};

use std::convert::Infallible;

use arrayvec::ArrayVec;

use self::{
    blocks::{Blocks, Store},
    usage::{LOCKED, exchange, is_inline, named, unlocked},
};

use crate::base::clock::{Moment, monotonic_us};

use super::{
    cells::Cells,
    sync::{AtomicU64, Ordering, Words, fence, spin_loop, words},
    tally::{COUNT_MAX, Tally},
    window::{Standing, WINDOWS_MAX, Window},
};

/// Slots in a set: their fingerprints fill one cache line.
const WAYS: usize = 8;
/// Words in front of the fingerprints: how many slots hold a key, and how many keys were pushed out. They fill a cache
/// line, so that every set of fingerprints fills one.
const HEAD_WORDS: usize = 8;
/// No key.
const EMPTY: u64 = 0;
/// A key that is being replaced.
const REPLACING: u64 = 1;
/// One block of cells for so many slots, and never fewer than the next number: few keys are near their limit.
const SLOTS_PER_BLOCK: usize = 8;
const BLOCKS_MIN: usize = 1024;
/// Debts are compared in such parts of the limit.
const WHOLE: u64 = 1 << 16;

/// All keys of one limit.
pub struct KeyTable {
    windows: Box<[Window]>,
    /// What there is for each of them.
    lanes: Box<[Lane]>,
    /// Words of one slot.
    slot_words: usize,
    sets: usize,
    /// The head, the fingerprints, the slots' words, for each set and window the word of a key that is not there, for each
    /// set its latch, under which those are changed, and the blocks of cells.
    memory: Words,
}

/// One window of all keys.
struct Lane {
    window: Window,
    place: usize,
    /// Its words in a slot: where they begin, and how many there are.
    offset: usize,
    words: usize,
    /// Cells, if they are not in the slots.
    blocks: Option<Blocks>,
}

/// A key's place in its table, as of when it was looked up.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    index: usize,
    fingerprint: u64,
}

/// No slot can be had, or what newcomers are held to owe leaves them nothing, until `opens_us` at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull {
    /// Microseconds on the monotonic clock.
    pub opens_us: u64,
}

/// To be called between claims and [`Usage::is_current`].
pub fn settle() {
    // Pairs with the fences in `replace` and `detach`: of a claim and the loss of its place that race, at least one
    // sees the other, so either the claim is part of what the key owes or it is known not to count.
    fence(Ordering::SeqCst);
}

impl KeyTable {
    /// A table for at least `keys` keys with `windows`, of which there may be [`WINDOWS_MAX`].
    pub fn new(windows: &[Window], keys: usize) -> Self {
        Self::with_blocks(windows, keys, blocks_for(Self::capacity_for(keys)))
    }

    /// The same with so many blocks of cells for each window, at least one.
    pub fn with_blocks(windows: &[Window], keys: usize, blocks: usize) -> Self {
        Self::laid_out(windows, keys, blocks, |count| Ok::<_, Infallible>(words(count)))
            .unwrap_or_else(|never| match never {})
    }

    /// A table as [`KeyTable::new`] makes it, in the memory that `words` gives for a number of them. It may hold
    /// the keys of a table that was made alike.
    ///
    /// # Errors
    /// Those of `words`.
    pub fn made_of<E>(
        windows: &[Window],
        keys: usize,
        words: impl FnOnce(usize) -> Result<Words, E>,
    ) -> Result<Self, E> {
        Self::laid_out(windows, keys, blocks_for(Self::capacity_for(keys)), words)
    }

    fn laid_out<E>(
        windows: &[Window],
        keys: usize,
        blocks: usize,
        words: impl FnOnce(usize) -> Result<Words, E>,
    ) -> Result<Self, E> {
        debug_assert!(windows.len() <= WINDOWS_MAX && blocks > 0);
        let capacity = Self::capacity_for(keys);
        let sets = capacity / WAYS;
        let slot_words = windows.iter().map(|&window| words_in_slot(window)).sum::<usize>();
        let mut end = HEAD_WORDS + capacity * (1 + slot_words) + sets * (windows.len() + 1);
        let mut offset = 0;
        let mut lanes = Vec::with_capacity(windows.len());
        for (place, &window) in windows.iter().enumerate() {
            let words = words_in_slot(window);
            let blocks = match window {
                Window::Sliding(sliding) if !is_inline(sliding) => {
                    let at = end;
                    end += Blocks::words(sliding, blocks);
                    Some(Blocks::new(sliding, blocks, at))
                }
                _ => None,
            };
            lanes.push(Lane { window, place, offset, words, blocks });
            offset += words;
        }
        Ok(Self { windows: windows.into(), lanes: lanes.into(), slot_words, sets, memory: words(end)? })
    }

    /// Where everything stands that a process which made the same table can share.
    pub fn memory(&self) -> &Words {
        &self.memory
    }

    /// Slots of a table for at least `keys` keys.
    pub fn capacity_for(keys: usize) -> usize {
        keys.div_ceil(WAYS).next_power_of_two() * WAYS
    }

    /// The most memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.memory.len() * size_of::<u64>()
    }

    /// Counts as used at `now` what is used of `before`, in windows that follow those there, up to the limits here.
    /// What is claimed from `before` meanwhile is missed.
    pub fn take_over(&self, before: &Self, now: Moment) {
        for (place, window) in self.windows.iter().enumerate() {
            let Some(same) = before.windows.iter().position(|&other| window.follows(other)) else { continue };
            let floors = before.floors().iter().skip(same).step_by(before.windows.len());
            let used = |floor: &AtomicU64| {
                let window = before.windows[same];
                window.limit() - standing_of(window, floor.load(Ordering::Relaxed), now).remaining
            };
            let owed = owing(*window, floors.map(used).max().unwrap_or(0), now);
            self.floors().iter().skip(place).step_by(self.windows.len()).for_each(|floor| {
                floor.store(owed, Ordering::Relaxed);
            });
        }
        for (index, fingerprint) in before.fingerprints().iter().enumerate() {
            let fingerprint = fingerprint.load(Ordering::Acquire);
            if fingerprint <= REPLACING {
                continue;
            }
            self.take_over_slot(before, Slot { index, fingerprint }, now);
        }
    }

    /// The same of one key, which hashes to `hash`.
    pub fn take_over_key(&self, before: &Self, hash: u64, now: Moment) {
        if let Some(known) = before.known(hash) {
            self.take_over_slot(before, known, now);
        }
    }

    fn take_over_slot(&self, before: &Self, known: Slot, now: Moment) {
        for (place, window) in self.windows.iter().enumerate() {
            let same = before.windows.iter().position(|&other| window.follows(other));
            let Some(same) = same else { continue };
            let standing = before.usage(known, same).standing(now);
            let used = before.windows[same].limit().saturating_sub(standing.remaining);
            // The fingerprint is the hash, so it finds the same key again.
            let Ok(slot) = self.slot(known.fingerprint, now) else { break };
            let usage = self.usage(slot, place);
            let owed = window.limit() - usage.standing(now).remaining;
            let mut missing = used.min(window.limit()).saturating_sub(owed);
            while missing > 0 {
                let Ok(claim) = usage.claim_up_to(missing, now) else { break };
                missing -= claim.units;
            }
        }
    }

    /// The windows each key has.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Slots that hold a key.
    pub fn occupied(&self) -> usize {
        usize::try_from(self.memory[0].load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    /// Slots there are.
    pub fn capacity(&self) -> usize {
        self.sets * WAYS
    }

    /// Keys that lost their slot although they owed something, since the table was made.
    pub fn displaced(&self) -> u64 {
        self.memory[1].load(Ordering::Relaxed)
    }

    /// Keys' windows that have a block of cells.
    pub fn in_cells(&self) -> usize {
        self.lanes.iter().filter_map(|lane| Some(lane.blocks.as_ref()?.on(&self.memory).taken())).sum()
    }

    /// The slot of the key that hashes to `hash`, made if it has none.
    ///
    /// # Errors
    /// [`TableFull`] when no slot can be had.
    #[inline]
    pub fn slot(&self, hash: u64, now: Moment) -> Result<Slot, TableFull> {
        let fingerprint = hash.max(REPLACING + 1);
        let set = self.set_of(hash);
        if let Some(index) = self.find(set, fingerprint) {
            return Ok(Slot { index, fingerprint });
        }
        self.insert(set, fingerprint, now)
    }

    /// The slot of the key that hashes to `hash`, if it has one. What is read of it may be another key's by then.
    pub fn known(&self, hash: u64) -> Option<Slot> {
        let fingerprint = hash.max(REPLACING + 1);
        let index = self.find(self.set_of(hash), fingerprint)?;
        Some(Slot { index, fingerprint })
    }

    /// The use that the key in `slot` makes of the window at `place`.
    #[inline]
    pub fn usage(&self, slot: Slot, place: usize) -> Usage<'_> {
        let lane = &self.lanes[place];
        let words = self.words_of(slot.index, lane);
        let seen = if lane.words == 1 { unlocked(&words[0]) } else { 0 };
        Usage { table: self, lane, words, owner: &self.fingerprints()[slot.index], slot, seen }
    }

    fn fingerprints(&self) -> &[AtomicU64] {
        &self.memory[HEAD_WORDS..HEAD_WORDS + self.capacity()]
    }

    fn words_of(&self, index: usize, lane: &Lane) -> &[AtomicU64] {
        let base = HEAD_WORDS + self.capacity() + index * self.slot_words + lane.offset;
        &self.memory[base..base + lane.words]
    }

    /// By set, and in it by window.
    fn floors(&self) -> &[AtomicU64] {
        let base = HEAD_WORDS + self.capacity() * (1 + self.slot_words);
        &self.memory[base..base + self.sets * self.windows.len()]
    }

    fn floor(&self, set: usize, place: usize) -> &AtomicU64 {
        &self.floors()[set * self.windows.len() + place]
    }

    fn set_of(&self, hash: u64) -> usize {
        // The high half, so that the low half alone does not decide both place and fingerprint.
        (hash >> 32) as usize & (self.sets - 1)
    }

    fn find(&self, set: usize, fingerprint: u64) -> Option<usize> {
        let base = set * WAYS;
        // Acquire pairs with the release in `insert`: who sees the key sees its words.
        (base..base + WAYS).find(|&index| self.fingerprints()[index].load(Ordering::Acquire) == fingerprint)
    }

    #[cold]
    fn insert(&self, set: usize, fingerprint: u64, now: Moment) -> Result<Slot, TableFull> {
        self.latched(set, || self.insert_latched(set, fingerprint, now))
    }

    /// Does something while nobody else changes whose the slots of `set` are.
    fn latched<R>(&self, set: usize, work: impl FnOnce() -> R) -> R {
        let floors_end =
            HEAD_WORDS + self.capacity() * (1 + self.slot_words) + self.sets * self.windows.len();
        let latch = &self.memory[floors_end + set];
        while latch.compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            spin_loop();
        }
        let result = work();
        latch.store(0, Ordering::Release);
        result
    }

    fn insert_latched(&self, set: usize, fingerprint: u64, now: Moment) -> Result<Slot, TableFull> {
        if let Some(index) = self.find(set, fingerprint) {
            return Ok(Slot { index, fingerprint });
        }
        let ways = || set * WAYS..(set + 1) * WAYS;
        for index in ways() {
            if self.fingerprints()[index].load(Ordering::Relaxed) == EMPTY {
                self.memory[0].fetch_add(1, Ordering::Relaxed);
                self.begin(index, set, now);
                self.fingerprints()[index].store(fingerprint, Ordering::Release);
                return Ok(Slot { index, fingerprint });
            }
        }
        let floor = self.parts(now, |place| {
            standing_of(self.windows[place], self.floor(set, place).load(Ordering::Relaxed), now)
        });
        let mut opens_us = u64::MAX;
        let mut victims: ArrayVec<(u64, usize), WAYS> = ArrayVec::new();
        for index in ways() {
            let (owed, fresh_us) = self.debt(index, now);
            opens_us = opens_us.min(fresh_us);
            // Whoever owes nothing costs newcomers nothing.
            if owed == 0 || owed.max(floor.0) < WHOLE {
                victims.push((owed, index));
            }
        }
        victims.sort_unstable();
        for (_, index) in victims {
            if self.replace(index, set, fingerprint, now) {
                return Ok(Slot { index, fingerprint });
            }
        }
        Err(TableFull { opens_us: opens_us.max(now.monotonic_us + 1) })
    }

    /// How much of its limit the key at `index` owes, in parts of [`WHOLE`], and when it owes nothing. A key with
    /// cells owes all: it is not to be pushed out.
    fn debt(&self, index: usize, now: Moment) -> (u64, u64) {
        let slot = Slot { index, fingerprint: EMPTY };
        let mut has_cells = false;
        let (owed, fresh_us) = self.parts(now, |place| {
            let usage = self.usage(slot, place);
            has_cells |= named(usage.seen).is_some();
            usage.standing(now)
        });
        (if has_cells && owed > 0 { WHOLE } else { owed }, fresh_us)
    }

    /// The largest part of any window that is used, rounded up, and when nothing is.
    fn parts(&self, now: Moment, mut standing: impl FnMut(usize) -> Standing) -> (u64, u64) {
        let mut most = (0, now.monotonic_us);
        for (place, window) in self.windows.iter().enumerate() {
            let standing = standing(place);
            let used = u64::from(window.limit().saturating_sub(standing.remaining));
            most.0 = most.0.max((used * WHOLE).div_ceil(u64::from(window.limit())));
            most.1 = most.1.max(standing.full_us);
        }
        most
    }

    /// Gives the slot at `index` to another key, unless its own has come near its limit meanwhile. Called under the
    /// set's latch.
    fn replace(&self, index: usize, set: usize, fingerprint: u64, now: Moment) -> bool {
        let owner = self.fingerprints()[index].load(Ordering::Relaxed);
        self.fingerprints()[index].store(REPLACING, Ordering::Relaxed);
        // Pairs with the fence in `settle`.
        fence(Ordering::SeqCst);
        let mut owed: ArrayVec<u64, WINDOWS_MAX> = ArrayVec::new();
        for lane in &self.lanes {
            let Some(word) = self.seize(index, lane, now) else {
                for (lane, word) in self.lanes.iter().zip(owed) {
                    self.release(index, lane, word);
                }
                self.fingerprints()[index].store(owner, Ordering::Release);
                return false;
            };
            owed.push(word);
        }
        let mut is_displaced = false;
        for (lane, word) in self.lanes.iter().zip(owed) {
            let window = lane.window;
            let word = match window {
                Window::Sliding(sliding) if is_inline(sliding) => {
                    let cells = Cells::new(sliding, self.words_of(index, lane));
                    Tally::of(cells, sliding, now.monotonic_us).word()
                }
                _ => word,
            };
            is_displaced |= standing_of(window, word, now).remaining < window.limit();
            let floor = self.floor(set, lane.place);
            floor.store(merge(window, floor.load(Ordering::Relaxed), word, now), Ordering::Relaxed);
        }
        self.memory[1].fetch_add(u64::from(is_displaced), Ordering::Relaxed);
        self.begin(index, set, now);
        self.fingerprints()[index].store(fingerprint, Ordering::Release);
        true
    }

    /// Locks the word of a key that is losing its slot and says what it was; nothing if it has cells in use. Windows with
    /// their cells in the slot have nothing to lock.
    fn seize(&self, index: usize, lane: &Lane, now: Moment) -> Option<u64> {
        if matches!(lane.window, Window::Sliding(window) if is_inline(window)) {
            return Some(0);
        }
        let word = &self.words_of(index, lane)[0];
        loop {
            let before = unlocked(word);
            if !exchange(word, before, LOCKED) {
                continue;
            }
            let Some(block) = named(before) else { return Some(before) };
            if !lane.cells(self, block).is_fresh(now.monotonic_us) {
                word.store(before, Ordering::Release);
                return None;
            }
            lane.store(self).give_back(block);
            return Some(0);
        }
    }

    /// Takes back a [`KeyTable::seize`].
    fn release(&self, index: usize, lane: &Lane, word: u64) {
        if !matches!(lane.window, Window::Sliding(window) if is_inline(window)) {
            self.words_of(index, lane)[0].store(word, Ordering::Release);
        }
    }

    /// Makes the words at `index` those of a newcomer to `set`.
    fn begin(&self, index: usize, set: usize, now: Moment) {
        for lane in &self.lanes {
            let floor = self.floor(set, lane.place).load(Ordering::Relaxed);
            match lane.window {
                Window::Sliding(sliding) if is_inline(sliding) => {
                    let cells = Cells::new(sliding, self.words_of(index, lane));
                    cells.clear();
                    Tally::at(floor, sliding, now.monotonic_us).sow(sliding, cells, monotonic_us());
                }
                _ => self.words_of(index, lane)[0].store(floor, Ordering::Release),
            }
        }
    }
}

impl Lane {
    /// Its blocks, which it must have.
    fn blocks(&self) -> &Blocks {
        self.blocks.as_ref().unwrap_or_else(|| unreachable!("a window whose words name blocks has some"))
    }

    fn store<'a>(&self, table: &'a KeyTable) -> Store<'a> {
        self.blocks().on(&table.memory)
    }

    fn cells<'a>(&self, table: &'a KeyTable, block: usize) -> Cells<'a> {
        self.blocks().cells(&table.memory, block)
    }
}

/// Words one key has for `window` in its slot.
fn words_in_slot(window: Window) -> usize {
    match window {
        Window::Sliding(sliding) if is_inline(sliding) => sliding.words(),
        _ => 1,
    }
}

/// Blocks of a table with so many slots.
fn blocks_for(capacity: usize) -> usize {
    (capacity / SLOTS_PER_BLOCK).max(BLOCKS_MIN).min(capacity)
}

/// Where a key with this word stands; of a sliding window its tally.
fn standing_of(window: Window, word: u64, now: Moment) -> Standing {
    let now_us = now.monotonic_us;
    match window {
        Window::Sliding(sliding) => {
            Tally::at(word, sliding, now_us).standing(sliding.limit(), sliding, now_us)
        }
        Window::Calendar(calendar) => calendar.standing(word, now),
        Window::Bucket(bucket) => bucket.standing(word, now_us),
    }
}

/// The word of a key that owes as much as both.
fn merge(window: Window, one: u64, other: u64, now: Moment) -> u64 {
    match window {
        Window::Sliding(sliding) => Tally::merge(one, other, sliding, now.monotonic_us).word(),
        Window::Calendar(calendar) => calendar.merge(one, other, now),
        Window::Bucket(_) => one.max(other),
    }
}

/// The word of a key that used `units`, or as many as there are, at `now`.
fn owing(window: Window, units: u32, now: Moment) -> u64 {
    let (units, now_us) = (units.min(window.limit()), now.monotonic_us);
    match window {
        Window::Sliding(sliding) => {
            let fresh = Tally::at(0, sliding, now_us);
            fresh.and(units.min(COUNT_MAX), sliding, now_us).unwrap_or(fresh).word()
        }
        Window::Calendar(calendar) => calendar.claim(0, units, now).unwrap_or(0),
        Window::Bucket(bucket) => bucket.claim(0, units, now_us).unwrap_or(0),
    }
}

impl std::fmt::Debug for KeyTable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("KeyTable")
            .field("windows", &self.windows)
            .field("occupied", &self.occupied())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
