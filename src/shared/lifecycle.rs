//! The phases of the process: what control asks of the shards, and what each shard has reached.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// What the gateway is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Accepting and serving.
    Serving = 0,
    /// Accepting nothing new; requests in flight finish.
    Draining = 1,
    /// The drain deadline has passed; what is left is cut.
    Cutting = 2,
}

/// One per process.
#[derive(Debug, Default)]
pub struct Lifecycle {
    phase: AtomicU8,
    /// Shards whose listeners accept.
    listening: AtomicUsize,
    /// Shards that have no connection left and will have none.
    finished: AtomicUsize,
}

impl Lifecycle {
    /// The phase in force. Acquire pairs with the release in [`Lifecycle::advance`].
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Cutting,
        }
    }

    /// Moves on to `phase`; never back. Called by control.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Release);
    }

    /// Called once by each shard when it accepts.
    pub fn shard_listens(&self) {
        self.listening.fetch_add(1, Ordering::Release);
    }

    /// Called once by each shard when it is done.
    pub fn shard_finished(&self) {
        self.finished.fetch_add(1, Ordering::Release);
    }

    /// Shards that accept.
    pub fn listening(&self) -> usize {
        self.listening.load(Ordering::Acquire)
    }

    /// Shards that are done.
    pub fn finished(&self) -> usize {
        self.finished.load(Ordering::Acquire)
    }
}
