//! The way of access records from a shard to the log writer: a bounded ring of bytes.
//!
//! A shard never waits for it. When the writer falls behind and the ring is full, the record is dropped
//! and counted, and the count is handed to the writer, which says so in the log itself.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use rtrb::{Consumer, Producer, RingBuffer};

/// In front of each record: its length.
pub const LENGTH_BYTES: usize = size_of::<u32>();

/// The shard's end.
#[derive(Debug)]
pub struct LogSender {
    ring: Producer<u8>,
    dropped: Arc<AtomicU64>,
    /// Whether anybody wants records; always, if nobody says. Written by the writer; relaxed: what is seen late is a
    /// record more or less.
    wanted: Option<Arc<AtomicBool>>,
}

/// The writer's end.
#[derive(Debug)]
pub struct LogReceiver {
    ring: Consumer<u8>,
    dropped: Arc<AtomicU64>,
    dropped_reported: u64,
    record: Vec<u8>,
}

/// A ring of `bytes` bytes.
pub fn log_ring(bytes: usize) -> (LogSender, LogReceiver) {
    let (producer, consumer) = RingBuffer::new(bytes);
    let dropped = Arc::new(AtomicU64::new(0));
    (
        LogSender { ring: producer, dropped: Arc::clone(&dropped), wanted: None },
        LogReceiver { ring: consumer, dropped, dropped_reported: 0, record: Vec::new() },
    )
}

impl LogSender {
    /// The same where records are wanted only while `wanted` says so.
    #[must_use]
    pub fn only_while(self, wanted: Arc<AtomicBool>) -> Self {
        Self { wanted: Some(wanted), ..self }
    }

    /// Whether a record would be read by anybody.
    pub fn is_wanted(&self) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.load(Ordering::Relaxed))
    }

    /// Hands over one packed record, or counts it as dropped.
    pub fn send(&mut self, record: &[u8]) {
        if !self.try_send(record) {
            // Single writer: a load and a store will do.
            self.dropped.store(self.dropped.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    /// Hands over one packed record, if there is room for it. Whether there was.
    pub fn try_send(&mut self, record: &[u8]) -> bool {
        let length = (record.len() as u32).to_le_bytes();
        let total = length.len() + record.len();
        // One chunk for both, so that the writer never sees a length without its record.
        let Ok(mut chunk) = self.ring.write_chunk(total) else { return false };
        let (first, second) = chunk.as_mut_slices();
        copy_split(&length, record, first, second);
        chunk.commit_all();
        true
    }

    /// Bytes that are free, of which each record takes [`LENGTH_BYTES`] besides its own.
    pub fn room(&self) -> usize {
        self.ring.slots()
    }
}

/// Writes `head` and then `tail` over the two halves of a wrapped chunk.
fn copy_split(head: &[u8], tail: &[u8], first: &mut [u8], second: &mut [u8]) {
    let mut targets = [first, second].into_iter();
    let mut target = targets.next().unwrap_or_default();
    for mut source in [head, tail] {
        while !source.is_empty() {
            if target.is_empty() {
                target = targets.next().unwrap_or_default();
            }
            let count = source.len().min(target.len());
            let (front, back) = std::mem::take(&mut target).split_at_mut(count);
            front.copy_from_slice(&source[..count]);
            target = back;
            source = &source[count..];
        }
    }
}

impl LogReceiver {
    /// The next record, until the ring is empty.
    pub fn receive(&mut self) -> Option<&[u8]> {
        let mut length = [0; LENGTH_BYTES];
        self.ring.pop_entire_slice(&mut length).ok()?;
        self.record.resize(u32::from_le_bytes(length) as usize, 0);
        // The sender commits length and record together.
        self.ring.pop_entire_slice(&mut self.record).ok()?;
        Some(&self.record)
    }

    /// Bytes that lie in the ring now: the records that are there, and [`LENGTH_BYTES`] in front of each.
    pub fn bytes(&self) -> usize {
        self.ring.slots()
    }

    /// Records dropped since this was last asked.
    pub fn newly_dropped(&mut self) -> u64 {
        let dropped = self.dropped();
        let new = dropped - self.dropped_reported;
        self.dropped_reported = dropped;
        new
    }

    /// Records dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// A handle on the count of dropped records, for metrics.
    pub fn dropped_handle(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }
}
