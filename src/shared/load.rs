//! How many exchanges an endpoint has in flight, over all shards, and how many it was given lately.
//!
//! One padded word per endpoint holds both. A shard counts itself in only on top of what it saw when it chose, so a
//! choice is exact and a ceiling is never overstepped, whatever the interleaving. The second word is the endpoint's
//! place in the rounds of a cluster whose endpoints take turns; no other cluster touches it.

use super::sync::{AtomicU64, Ordering};

/// In-flight exchanges of one endpoint. Two cache lines apart from its neighbours, because processors
/// fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub struct Load {
    /// Below, exchanges in flight; above, exchanges begun lately. Written by every shard, and by control when it
    /// lets the past fade. Relaxed: a count, not a message.
    word: AtomicU64,
    /// Virtual time of the endpoint's next turn; wraps. Written by every shard, and by control for endpoints that
    /// come back. Relaxed, for the same reason.
    turn: AtomicU64,
}

/// One exchange that was begun, in the upper half.
const BEGUN: u64 = 1 << 32;

/// What a shard saw when it looked at a [`Load`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen(u64);

impl Seen {
    /// Exchanges in flight.
    pub fn in_flight(self) -> u32 {
        self.0 as u32
    }

    /// Exchanges begun lately: a count of which half is forgotten every second.
    pub fn begun(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl Load {
    /// Nothing in flight.
    pub fn new() -> Self {
        Self { word: AtomicU64::new(0), turn: AtomicU64::new(0) }
    }

    /// What there is to see now.
    pub fn look(&self) -> Seen {
        Seen(self.word.load(Ordering::Relaxed))
    }

    /// Exchanges in flight now.
    pub fn in_flight(&self) -> u32 {
        self.look().in_flight()
    }

    /// Counts one more in if all is still as it was `seen`. If not, another shard was first, and a choice
    /// made on what was seen no longer stands. Each success must be followed by exactly one [`Load::leave`].
    pub fn enter(&self, seen: Seen) -> bool {
        let entered = (seen.0 + 1).wrapping_add(BEGUN);
        self.word.compare_exchange(seen.0, entered, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Counts one out.
    pub fn leave(&self) {
        let before = Seen(self.word.fetch_sub(1, Ordering::Relaxed));
        debug_assert!(before.in_flight() > 0, "an exchange left that never entered");
    }

    /// Forgets half of what was begun. For control, once a second.
    pub fn fade(&self) {
        let half = self.look().begun() / 2;
        // Only this call makes it less, so there is enough to take.
        self.word.fetch_sub(u64::from(half) * BEGUN, Ordering::Relaxed);
    }

    /// When the endpoint's next turn is.
    pub fn turn(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    /// Takes the turn at `seen`, after which the next is `stride` later; false if another shard took it.
    pub fn take_turn(&self, seen: u64, stride: u64) -> bool {
        let next = seen.wrapping_add(stride);
        self.turn.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Sees to it that the next turn is no earlier than `turn`: who was away does not make up for it.
    pub fn put_off(&self, turn: u64) {
        let mut seen = self.turn();
        while is_before(seen, turn) && !self.take_turn(seen, turn.wrapping_sub(seen)) {
            seen = self.turn();
        }
    }
}

impl Default for Load {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether the turn `one` comes before `other`, where turns may have wrapped between them.
pub fn is_before(one: u64, other: u64) -> bool {
    one.wrapping_sub(other) > u64::MAX / 2
}
