//! How many exchanges an endpoint has in flight, over all shards.
//!
//! One padded word per endpoint. A shard counts itself in only on top of what it saw when it chose, so a
//! choice is exact and a ceiling is never overstepped, whatever the interleaving.

use super::sync::{AtomicU32, Ordering};

/// In-flight exchanges of one endpoint. Two cache lines apart from its neighbours, because processors
/// fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub struct Load {
    in_flight: AtomicU32,
}

impl Load {
    /// Nothing in flight.
    pub fn new() -> Self {
        Self { in_flight: AtomicU32::new(0) }
    }

    /// Exchanges in flight now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts one more in if there are still `seen` in flight. If not, another shard was first, and a choice
    /// made on what was seen no longer stands. Each success must be followed by exactly one [`Load::leave`].
    pub fn enter(&self, seen: u32) -> bool {
        self.in_flight.compare_exchange(seen, seen + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Counts one out.
    pub fn leave(&self) {
        let before = self.in_flight.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "an exchange left that never entered");
    }
}

impl Default for Load {
    fn default() -> Self {
        Self::new()
    }
}
