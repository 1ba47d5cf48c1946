//! What a shard tells the control thread about single exchanges: refusals, and those that were chosen to be timed.
//!
//! So many in each round of housekeeping and no more, so that neither a flood of refusals nor a client that asks
//! to be traced costs anything to speak of. What does not fit is not told.

use std::cell::{Cell, RefCell};

use crate::shared::{log_ring::LogSender, sample::Sample};

/// Samples between two rounds of housekeeping, which are a tenth of a second apart.
const ROUND_MAX: u32 = 20;

/// The shard's end of the ring of samples.
pub(super) struct Samples {
    ring: RefCell<Option<LogSender>>,
    /// Grows to the longest sample, at most a few KiB.
    scratch: RefCell<Vec<u8>>,
    room: Cell<u32>,
}

impl Samples {
    /// One that sends into `ring`.
    pub(super) fn new(ring: Option<LogSender>) -> Self {
        let room = if ring.is_some() { ROUND_MAX } else { 0 };
        Self { ring: RefCell::new(ring), scratch: RefCell::default(), room: Cell::new(room) }
    }

    /// Whether another one can be told in this round.
    pub(super) fn have_room(&self) -> bool {
        self.room.get() > 0
    }

    /// Tells one.
    pub(super) fn tell(&self, sample: &Sample<'_>) {
        let Some(ring) = &mut *self.ring.borrow_mut() else { return };
        self.room.set(self.room.get().saturating_sub(1));
        let mut packed = self.scratch.borrow_mut();
        sample.pack(&mut packed);
        ring.send(&packed);
    }

    /// Begins another round.
    pub(super) fn refill(&self) {
        if self.ring.borrow().is_some() {
            self.room.set(ROUND_MAX);
        }
    }
}
