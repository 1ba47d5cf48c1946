//! The phases of the process: what control asks of the shards, and what each shard has reached.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// What the gateway is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Accepting and serving.
    Serving = 0,
    /// A successor accepts in our place; every answer asks its client to connect anew.
    Parting = 1,
    /// Accepting nothing new; requests in flight finish, idle connections are closed.
    Draining = 2,
    /// The drain deadline has passed; what is left is cut.
    Cutting = 3,
}

/// One per process.
#[derive(Debug, Default)]
pub struct Lifecycle {
    phase: AtomicU8,
    /// The listening sockets are a successor's too.
    handed_over: AtomicBool,
    /// When the phase is over, in milliseconds on the monotonic clock; 0 where it has no end.
    until_ms: AtomicU64,
    /// Requests that were cut when the deadline had passed.
    cut: AtomicU64,
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
            1 => Phase::Parting,
            2 => Phase::Draining,
            _ => Phase::Cutting,
        }
    }

    /// Moves on to `phase`; never back. Called by control.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Release);
    }

    /// A successor has the listening sockets: from here on they are let go and not shut down. Called by control,
    /// once.
    pub fn part(&self) {
        self.handed_over.store(true, Ordering::Release);
        self.advance(Phase::Parting);
    }

    /// Whether a successor has the listening sockets. Who has seen the phase that follows sees this too.
    pub fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Acquire)
    }

    /// Says when the phase in force will be over. Written by control, read by control.
    pub fn ends_at(&self, until_ms: u64) {
        self.until_ms.store(until_ms, Ordering::Relaxed);
    }

    /// When the phase in force is over, in milliseconds on the monotonic clock; none if nobody said.
    pub fn until_ms(&self) -> Option<u64> {
        Some(self.until_ms.load(Ordering::Relaxed)).filter(|until_ms| *until_ms > 0)
    }

    /// The deadline has passed with so many requests in flight: cuts them. Called by control, once.
    pub fn cut(&self, requests: u64) {
        self.cut.store(requests, Ordering::Relaxed);
        self.advance(Phase::Cutting);
    }

    /// Requests that were cut.
    pub fn requests_cut(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
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
