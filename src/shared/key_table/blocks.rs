//! Blocks of cells for those keys of a table that come near their limit of one sliding window.
//!
//! A block belongs to one word of the table, its owner, which says so; it is taken from an owner only when all its
//! units are open again. A search begins where the last one ended and gives up after a few blocks: who gets none
//! goes on with its tally.

use super::super::{
    cells::{Cells, Sliding},
    sync::{AtomicU32, AtomicU64, AtomicUsize, Ordering, zeroed_words},
};

/// Blocks one search looks at.
const PROBES: usize = 32;
/// No owner.
const FREE: u32 = 0;

/// The blocks of one window of a table.
pub(super) struct Blocks {
    window: Sliding,
    /// The place of the owner's word in the table, plus one.
    owners: Box<[AtomicU32]>,
    words: Box<[AtomicU64]>,
    hand: AtomicUsize,
    taken: AtomicUsize,
}

impl Blocks {
    pub(super) fn new(window: Sliding, count: usize) -> Self {
        Self {
            window,
            owners: (0..count).map(|_| AtomicU32::new(FREE)).collect(),
            words: zeroed_words(count * window.words()),
            hand: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
        }
    }

    /// Bytes of so many blocks.
    pub(super) fn bytes(window: Sliding, count: usize) -> usize {
        count * (window.words() * size_of::<u64>() + size_of::<u32>())
    }

    /// The cells of `block`.
    pub(super) fn cells(&self, block: usize) -> Cells<'_> {
        let words = self.window.words();
        Cells::new(self.window, &self.words[block * words..(block + 1) * words])
    }

    /// Whether more than half of them have an owner.
    pub(super) fn is_scarce(&self) -> bool {
        self.taken.load(Ordering::Relaxed) * 2 > self.owners.len()
    }

    /// How many have an owner.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// A cleared block for the word at `owner`. `detach` is asked to take a block from its owner, whose place it is
    /// told, and says whether it did.
    pub(super) fn take(&self, owner: usize, detach: impl Fn(usize, usize) -> bool) -> Option<usize> {
        let owner = u32::try_from(owner + 1).ok()?;
        let count = self.owners.len();
        for _ in 0..PROBES.min(count) {
            let block = self.hand.fetch_add(1, Ordering::Relaxed) % count;
            let before = self.owners[block].load(Ordering::Relaxed);
            if before == FREE {
                let won =
                    self.owners[block].compare_exchange(FREE, owner, Ordering::Acquire, Ordering::Relaxed);
                if won.is_ok() {
                    self.taken.fetch_add(1, Ordering::Relaxed);
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
        self.taken.fetch_sub(1, Ordering::Relaxed);
        // Pairs with the acquire in `take`: who takes it sees it cleared.
        self.owners[block].store(FREE, Ordering::Release);
    }
}
