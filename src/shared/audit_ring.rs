//! The way of audit records from a shard to the audit writer, and of the news of them back.
//!
//! Each record has a number in its shard's sequence. A number that is given out and does not arrive is a gap, and
//! the writer sees it by the count of numbers given out. The news go back as one number: everything up to it is
//! where the configuration wants it (written, or on the disk). Never waits: who waits for what is decided outside.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::Thread,
};

use super::{
    bell::Bell,
    counter::Counter,
    log_ring::{LogReceiver, LogSender, log_ring},
};

/// What both ends see.
#[derive(Debug, Default)]
pub struct AuditWay {
    /// The last number given out. Moved by the shard, heard by the writer; a record is in the ring before.
    pub issued: Bell,
    /// The last number that is where it should be. Moved by the writer, heard by the shard.
    pub settled: Bell,
    /// The writer gets nothing written. Set by it, read by the shard, relaxed: it decides nothing that was promised.
    failing: AtomicBool,
    /// Records that did not fit the ring. The shard's.
    pub dropped: Counter,
    /// Requests that were refused because their intent could not be recorded. The shard's.
    pub refused: Counter,
    /// Answers that were withheld because their record was late. The shard's.
    pub withheld: Counter,
    /// Answers that were let go although their record was late. The shard's.
    pub unproven: Counter,
    /// Lines of the shard's chain. The writer's.
    pub chain_length: Counter,
}

impl AuditWay {
    /// Whether the writer gets nothing written at the moment.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Says so. The writer's.
    pub fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }
}

/// The shard's end.
#[derive(Debug)]
pub struct AuditSender {
    ring: LogSender,
    way: Arc<AuditWay>,
    /// The last number given out.
    issued: u64,
    /// The thread that writes.
    writer: Thread,
}

/// The writer's end.
#[derive(Debug)]
pub struct AuditReceiver {
    /// The records.
    pub ring: LogReceiver,
    /// What both ends see.
    pub way: Arc<AuditWay>,
}

/// A ring of `bytes` bytes: what becomes the shard's end once the writer runs, and the writer's end.
pub fn audit_ring(bytes: usize) -> (LogSender, AuditReceiver) {
    let (sender, receiver) = log_ring(bytes);
    (sender, AuditReceiver { ring: receiver, way: Arc::default() })
}

impl AuditSender {
    /// The shard's end of the ring that `writer` empties.
    pub fn new(ring: LogSender, way: Arc<AuditWay>, writer: Thread) -> Self {
        Self { ring, way, issued: 0, writer }
    }

    /// What both ends see.
    pub fn way(&self) -> &Arc<AuditWay> {
        &self.way
    }

    /// The number of the next record.
    pub fn next(&self) -> u64 {
        self.issued + 1
    }

    /// Bytes that a record and what goes with it may take.
    pub fn room(&self) -> usize {
        self.ring.room()
    }

    /// Hands over the packed record with the number [`Self::next`]; a writer that is awake takes it, one that is not
    /// is woken by [`Self::ring`]. One that does not fit is counted, and its number is missing at the other end.
    /// Whether it did.
    pub fn send(&mut self, packed: &[u8]) -> bool {
        let fits = self.ring.try_send(packed);
        if !fits {
            self.way.dropped.add(1);
        }
        self.issued += 1;
        self.way.issued.move_on(self.issued);
        fits
    }

    /// Wakes the writer if it sleeps: once for all that was handed over since it was last asked to.
    pub fn ring(&self) {
        if self.way.issued.rings() {
            self.writer.unpark();
        }
    }
}
