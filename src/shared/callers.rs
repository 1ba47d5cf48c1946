//! Who calls, and how often: a bounded table of names with a count each.
//!
//! Written by one shard, read by the control thread. A name is written into an empty slot once and then stays:
//! its words first, then the key with release, so that whoever sees the key (acquire) sees the whole name.
//! Counts are relaxed words of a single writer. A name that finds no slot is counted among `others`, never lost.
//!
//! Writer: the owning shard. Readers: control. Model: `tests/loom/main.rs`.

use super::sync::{AtomicU64, Ordering, zeroed_words};

/// Names that one table can hold.
const SLOTS: usize = 512;
/// Slots that a name is looked for in, from the one its hash says.
const PROBES: usize = 16;
/// Bytes of a name that are kept.
pub const NAME_BYTES_MAX: usize = 64;

const NAME_WORDS: usize = NAME_BYTES_MAX / 8;
/// Places of the words of a slot: the length of its name, its counts, the name.
const LENGTH: usize = 0;
const CALLS: usize = 1;
const REFUSED: usize = 2;
const FAILED: usize = 3;
const LAST: usize = 4;
const NAME: usize = 5;
const SLOT_WORDS: usize = NAME + NAME_WORDS;

/// Bytes of one table.
pub const TABLE_BYTES: usize = (SLOTS + (SLOTS + 2) * SLOT_WORDS) * 8;

/// One shard's table. Its pages are not resident before they are written.
#[derive(Debug)]
pub struct Callers {
    /// The keys side by side, so that looking for a name that has no slot touches a line or three.
    keys: Box<[AtomicU64]>,
    /// The slots, and behind them one for the nameless and one for those that found no slot.
    words: Box<[AtomicU64]>,
    slots: usize,
}

/// What was counted of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// The hash of the name; the same name has the same in the tables of all shards.
    pub key: u64,
    /// The name, cut to [`NAME_BYTES_MAX`].
    pub name: String,
    /// Requests.
    pub calls: u64,
    /// Requests answered with 4xx.
    pub refused: u64,
    /// Requests answered with 5xx.
    pub failed: u64,
    /// When the last one began, in seconds since the Unix epoch.
    pub last_s: u64,
}

impl Default for Callers {
    fn default() -> Self {
        Self::new(SLOTS)
    }
}

impl Callers {
    /// A table with room for `slots` names.
    pub fn new(slots: usize) -> Self {
        Self { keys: zeroed_words(slots), words: zeroed_words((slots + 2) * SLOT_WORDS), slots }
    }

    /// Counts a request. `caller` is a name with its keyed hash; none for requests without a credential. Only the
    /// owning thread may call this.
    pub fn note(&self, caller: Option<(u64, &[u8])>, status: u16, now_s: u64) {
        let slot = match caller {
            Some((hash, name)) => self.slot_for(hash.max(1), name).unwrap_or(self.slots + 1),
            None => self.slots,
        };
        self.add(slot, CALLS);
        match status {
            400..=499 => self.add(slot, REFUSED),
            500.. => self.add(slot, FAILED),
            _ => {}
        }
        self.word(slot, LAST).store(now_s, Ordering::Relaxed);
    }

    /// All names there are.
    pub fn named(&self) -> impl Iterator<Item = Calls> {
        (0..self.slots).filter_map(|slot| {
            let key = self.keys[slot].load(Ordering::Acquire);
            (key != 0).then(|| Calls { key, name: self.name(slot), ..self.counts(slot) })
        })
    }

    /// Requests without a credential.
    pub fn nameless(&self) -> Calls {
        self.counts(self.slots)
    }

    /// Requests of callers that found no slot.
    pub fn others(&self) -> Calls {
        self.counts(self.slots + 1)
    }

    fn word(&self, slot: usize, word: usize) -> &AtomicU64 {
        &self.words[slot * SLOT_WORDS + word]
    }

    /// Single writer: a load and a store will do.
    fn add(&self, slot: usize, word: usize) {
        let word = self.word(slot, word);
        word.store(word.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// The slot of `name`, which is written there if it is new; none when those it may have are taken.
    fn slot_for(&self, key: u64, name: &[u8]) -> Option<usize> {
        let first = usize::try_from(key % self.slots as u64).unwrap_or(0);
        for probe in 0..PROBES.min(self.slots) {
            let slot = (first + probe) % self.slots;
            match self.keys[slot].load(Ordering::Relaxed) {
                known if known == key => return Some(slot),
                0 => {
                    self.write(slot, key, name);
                    return Some(slot);
                }
                _ => {}
            }
        }
        None
    }

    fn write(&self, slot: usize, key: u64, name: &[u8]) {
        let name = &name[..name.len().min(NAME_BYTES_MAX)];
        for (place, part) in name.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.word(slot, NAME + place).store(u64::from_le_bytes(word), Ordering::Relaxed);
        }
        self.word(slot, LENGTH).store(name.len() as u64, Ordering::Relaxed);
        self.keys[slot].store(key, Ordering::Release);
    }

    fn name(&self, slot: usize) -> String {
        let length = usize::try_from(self.word(slot, LENGTH).load(Ordering::Relaxed)).unwrap_or(0);
        let mut bytes = Vec::with_capacity(NAME_BYTES_MAX);
        for place in 0..NAME_WORDS {
            bytes.extend(self.word(slot, NAME + place).load(Ordering::Relaxed).to_le_bytes());
        }
        bytes.truncate(length);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn counts(&self, slot: usize) -> Calls {
        let read = |word| self.word(slot, word).load(Ordering::Relaxed);
        Calls {
            calls: read(CALLS),
            refused: read(REFUSED),
            failed: read(FAILED),
            last_s: read(LAST),
            ..Calls::default()
        }
    }
}
