//! A count that one thread moves on and another waits for, without a lock.
//!
//! Who waits says so first and then looks at the count once more; who moves the count on looks afterwards whether
//! somebody waits. So one of the two always sees the other. How the other is woken is the caller's business, and
//! when: several moves may be followed by one look.
//!
//! The count has one writer, and release/acquire hands over what was written before it. Between each side's own
//! write and its look at the other's stands a `SeqCst` fence; the model in `tests/loom/` loses a wake without them.

use super::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// The count, and whether somebody waits for it.
#[derive(Debug)]
pub struct Bell {
    count: AtomicU64,
    /// Set by who waits, taken by who rings.
    awaited: AtomicU32,
}

impl Bell {
    /// A bell at zero that nobody listens to.
    pub fn new() -> Self {
        Self { count: AtomicU64::new(0), awaited: AtomicU32::new(0) }
    }

    /// Moves the count on to `to`. Whether the listener must be woken. Only the owner of the count may call this.
    #[must_use]
    pub fn advance(&self, to: u64) -> bool {
        self.move_on(to);
        self.rings()
    }

    /// Moves the count on to `to`; [`Self::rings`] must follow, at the latest when nothing more will come. Only the
    /// owner of the count may call this.
    pub fn move_on(&self, to: u64) {
        self.count.store(to, Ordering::Release);
    }

    /// Whether the listener must be woken for what the count was moved on since this was last asked. Only the owner of
    /// the count may call this.
    #[must_use]
    pub fn rings(&self) -> bool {
        fence(Ordering::SeqCst);
        self.awaited.load(Ordering::Relaxed) != 0 && self.awaited.swap(0, Ordering::Relaxed) != 0
    }

    /// The count now.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Asks to be woken by the next move of the count, and says where it stands: a move that this does not show
    /// yet will ring.
    pub fn listen(&self) -> u64 {
        self.awaited.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.count()
    }
}

impl Default for Bell {
    fn default() -> Self {
        Self::new()
    }
}
