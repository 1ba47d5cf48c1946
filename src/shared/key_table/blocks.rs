//! Blocks of cells for those keys of a table that come near their limit of one sliding window.
//!
//! A block belongs to one word of the table, its owner, which says so; it is taken from an owner only when all its
//! units are open again. A search begins where the last one ended and gives up after a few blocks: who gets none
//! goes on with its tally. Everything that changes stands in the table's memory, of which this is a part.

use super::super::{
    cells::{Cells, Sliding},
    sync::{AtomicU64, Ordering},
};

/// Blocks one search looks at.
const PROBES: u64 = 32;
/// No owner.
const FREE: u64 = 0;
/// Words in front of the owners: where the next search begins, and how many blocks are taken; a cache line.
const HEAD_WORDS: usize = 8;

/// The blocks of one window of a table.
pub(super) struct Blocks {
    window: Sliding,
    count: usize,
    /// The first of their words in the table's memory.
    at: usize,
}

/// The same, with the memory at hand. An owner is the place of its word in the table, plus one.
#[derive(Clone, Copy)]
pub(super) struct Store<'a> {
    window: Sliding,
    head: &'a [AtomicU64],
    owners: &'a [AtomicU64],
    words: &'a [AtomicU64],
}

impl Blocks {
    pub(super) fn new(window: Sliding, count: usize, at: usize) -> Self {
        Self { window, count, at }
    }

    /// Words of so many blocks.
    pub(super) fn words(window: Sliding, count: usize) -> usize {
        HEAD_WORDS + count * (1 + window.words())
    }

    /// They, in the table's `memory`.
    pub(super) fn on<'a>(&self, memory: &'a [AtomicU64]) -> Store<'a> {
        let all = &memory[self.at..self.at + Self::words(self.window, self.count)];
        let (head, rest) = all.split_at(HEAD_WORDS);
        let (owners, words) = rest.split_at(self.count);
        Store { window: self.window, head, owners, words }
    }

    /// The cells of `block`, in the table's `memory`.
    #[inline]
    pub(super) fn cells<'a>(&self, memory: &'a [AtomicU64], block: usize) -> Cells<'a> {
        let words = self.window.words();
        let at = self.at + HEAD_WORDS + self.count + block * words;
        Cells::new(self.window, &memory[at..at + words])
    }
}

impl Store<'_> {
    fn cells(&self, block: usize) -> Cells<'_> {
        let words = self.window.words();
        Cells::new(self.window, &self.words[block * words..(block + 1) * words])
    }

    /// Whether more than half of them have an owner.
    pub(super) fn is_scarce(&self) -> bool {
        self.taken() * 2 > self.owners.len()
    }

    /// How many have an owner.
    pub(super) fn taken(&self) -> usize {
        usize::try_from(self.head[1].load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    /// A cleared block for the word at `owner`. `detach` is asked to take a block from its owner, whose place it is
    /// told, and says whether it did.
    pub(super) fn take(&self, owner: usize, detach: impl Fn(usize, usize) -> bool) -> Option<usize> {
        let (owner, count) = (owner as u64 + 1, self.owners.len() as u64);
        for _ in 0..PROBES.min(count) {
            let block = (self.head[0].fetch_add(1, Ordering::Relaxed) % count) as usize;
            let before = self.owners[block].load(Ordering::Relaxed);
            if before == FREE {
                let won =
                    self.owners[block].compare_exchange(FREE, owner, Ordering::Acquire, Ordering::Relaxed);
                if won.is_ok() {
                    self.head[1].fetch_add(1, Ordering::Relaxed);
                    return Some(block);
                }
            } else if detach(before as usize - 1, block) {
                // Nobody else can: its owner's word no longer says that it has a block.
                self.cells(block).clear();
                self.owners[block].store(owner, Ordering::Relaxed);
                return Some(block);
            }
        }
        None
    }

    /// Gives back a block that no word names.
    pub(super) fn give_back(&self, block: usize) {
        self.cells(block).clear();
        self.head[1].fetch_sub(1, Ordering::Relaxed);
        // Pairs with the acquire in `take`: who takes it sees it cleared.
        self.owners[block].store(FREE, Ordering::Release);
    }
}
