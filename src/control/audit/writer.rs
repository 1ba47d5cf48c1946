//! The audit writer: empties the shards' rings, makes lines, writes them, and says how far it got.
//!
//! A batch is whatever came while the last one was written, so the slower the disk the more share one wait for it.
//! What was made a line is written before anything else is taken from the rings: when nothing can be written they
//! fill up, and what to do about that is the shards' business. A wait for the disk that fails is final, because the
//! system may have forgotten what it did not write: from then on nothing counts as made until a restart.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        mpsc::{self, TryRecvError},
    },
    thread,
    time::{Duration, Instant},
};

use crate::shared::{audit_record::AuditRecord, audit_ring::AuditReceiver};

use super::{
    super::config::audit::AuditPlan,
    AuditCounts, Order,
    anchors::Anchors,
    file::{AuditFile, Change, Stays},
    lines::{Mark, Scribe},
    tail::{self, Tail},
    unix_us,
};

/// Lines are written when this many bytes have come together, or when there are no more.
const BATCH_BYTES: usize = 256 * 1024;
/// Until what could not be written is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// How long what could not be written is tried at the end.
const LAST_TRIES: Duration = Duration::from_millis(1_500);

/// One shard, seen from here.
pub(super) struct Shard {
    receiver: AuditReceiver,
    /// Tells it that there are news.
    news: OwnedFd,
}

impl Shard {
    pub(super) fn new(receiver: AuditReceiver, news: OwnedFd) -> Self {
        Self { receiver, news }
    }

    /// Tells it that everything up to the record with this number is where it should be.
    fn settle(&self, seq: u64) {
        if self.receiver.way.settled.count() < seq && self.receiver.way.settled.advance(seq) {
            // It cannot be full: nobody reads it, and it holds more than 10^19.
            let _ = rustix::io::write(&self.news, &1_u64.to_ne_bytes());
        }
    }
}

/// Owns the file and the chains.
pub(super) struct Writer {
    file: AuditFile,
    scribe: Scribe,
    shards: Vec<Shard>,
    /// The shard that is the first to be asked next time.
    first: usize,
    anchors: Anchors,
    counts: Arc<AuditCounts>,
    checkpoint: Duration,
    checkpoint_records: u64,
    /// Lines that are not written yet, and how many of their bytes are, in a pipe.
    batch: Vec<u8>,
    written: usize,
    lines: u64,
    /// Where in the batch the first line of the process's chain begins, and what it is.
    mark: Option<(usize, Mark)>,
    /// Lines since the last checkpoint, and when that was.
    unmarked: u64,
    marked: Instant,
    /// Nothing that is written from here on can be relied on.
    is_lost: bool,
    is_failing: bool,
}

impl Writer {
    pub(super) fn new(
        plan: &AuditPlan,
        file: AuditFile,
        scribe: Scribe,
        shards: Vec<Shard>,
        anchors: Anchors,
        counts: Arc<AuditCounts>,
    ) -> Self {
        Self {
            file,
            scribe,
            shards,
            first: 0,
            anchors,
            counts,
            checkpoint: plan.checkpoint,
            checkpoint_records: plan.checkpoint_records,
            batch: Vec::with_capacity(BATCH_BYTES + 16 * 1024),
            written: 0,
            lines: 0,
            mark: None,
            unmarked: 0,
            marked: Instant::now(),
            is_lost: false,
            is_failing: false,
        }
    }

    /// Writes the first line, which vouches for what stands in the file before it.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        // Nobody else writes between the look at the file's end and the line about it.
        let _locked = self.file.lock()?;
        let mut tail = tail::look_through(&self.file.tail()?);
        if tail.key_id.as_ref().is_some_and(|id| *id != self.scribe.key_id()) {
            // One file is verified with one key.
            self.file.change(Change::PutAside).map_err(|stays| stays.error)?;
            tracing::info!("the audit log has another key now: its file was put aside and a new one begun");
            tail = Tail::default();
        }
        let Tail { earlier, torn_bytes, .. } = tail;
        if torn_bytes > 0 {
            self.batch.push(b'\n');
        }
        let genesis_at = self.batch.len();
        self.scribe.genesis(&mut self.batch, unix_us(), &earlier, torn_bytes);
        self.anchors.keep(&self.batch[genesis_at..]);
        self.lines = 1;
        self.write()
    }

    /// Writes until it is told to end.
    pub(super) fn run(mut self, orders: &mpsc::Receiver<Order>) {
        loop {
            match orders.try_recv() {
                Err(TryRecvError::Empty) => {}
                Ok(Order::Reopen) => {
                    self.file.look_anew();
                    self.change(Change::Reopen);
                }
                Ok(Order::Finish) | Err(TryRecvError::Disconnected) => return self.finish(),
            }
            if !self.batch.is_empty() && self.put().is_err() {
                thread::park_timeout(RETRY);
                continue;
            }
            // Before anything is made a line of, so that the next file's first line says where all chains stand.
            if self.batch.is_empty()
                && self.has_news()
                && let Some(change) = self.file.is_due()
            {
                self.change(change);
            }
            self.collect();
            if self.batch.is_empty() {
                self.rest();
            }
        }
    }

    /// Whether a shard has anything for us.
    fn has_news(&self) -> bool {
        let mut shards = self.shards.iter().enumerate();
        shards.any(|(index, shard)| shard.receiver.way.issued.count() > self.scribe.seq(index))
    }

    /// Makes lines of what is in the rings, up to a batch. Another shard is the first each time, so that none whose
    /// ring fills a batch keeps the others waiting.
    fn collect(&mut self) {
        let shards = self.shards.len();
        let first = self.first;
        self.first = (first + 1) % shards.max(1);
        for index in (first..shards).chain(0..first) {
            let shard = &mut self.shards[index];
            // Asked before the ring is emptied: what it shows and the ring does not have will never come.
            let issued = shard.receiver.way.issued.count();
            let mut lost = 0;
            let is_empty = loop {
                if self.batch.len() >= BATCH_BYTES {
                    break false;
                }
                let Some(packed) = shard.receiver.ring.receive() else { break true };
                let Some(record) = AuditRecord::unpack(packed) else { continue };
                if record.seq > self.scribe.seq(index) + 1 {
                    self.scribe.gap(&mut self.batch, unix_us(), index, record.seq - 1);
                    lost += 1;
                }
                self.scribe.record(&mut self.batch, index, &record);
                self.lines += 1;
            };
            if is_empty && issued > self.scribe.seq(index) {
                self.scribe.gap(&mut self.batch, unix_us(), index, issued);
                lost += 1;
            }
            self.lines += lost;
            self.counts.gaps.add(lost);
        }
        let due =
            self.unmarked + self.lines >= self.checkpoint_records || self.marked.elapsed() >= self.checkpoint;
        if due && self.unmarked + self.lines > 0 {
            self.mark(Mark::Checkpoint);
        }
    }

    fn mark(&mut self, mark: Mark) {
        let start = self.batch.len();
        self.mark.get_or_insert((start, mark));
        self.scribe.mark(&mut self.batch, unix_us(), mark);
        self.lines += 1;
        self.counts.checkpoints.add(1);
        self.anchors.keep(&self.batch[start..]);
    }

    /// Writes the batch, and says so when that begins or ceases to fail.
    fn put(&mut self) -> io::Result<()> {
        if self.is_failing && self.written == 0 && self.file.is_due() == Some(Change::Reopen) {
            self.change(Change::Reopen);
        }
        let result = self.write();
        let is_failing = result.is_err();
        if is_failing != self.is_failing {
            self.is_failing = is_failing;
            self.shards.iter().for_each(|shard| shard.receiver.way.set_failing(is_failing));
            match &result {
                Err(error) => tracing::error!("the audit log cannot be written: {error}"),
                Ok(()) => tracing::info!("the audit log can be written again"),
            }
        }
        result
    }

    fn write(&mut self) -> io::Result<()> {
        if self.is_lost {
            return Err(io::Error::other("the disk did not keep what it was given; restart"));
        }
        self.file.append(&self.batch, &mut self.written)?;
        let began = Instant::now();
        if let Err(error) = self.file.sync() {
            self.is_lost = true;
            return Err(error);
        }
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counts.sync.record(took_us);
        for (index, shard) in self.shards.iter().enumerate() {
            shard.settle(self.scribe.seq(index));
            shard.receiver.way.chain_length.set(self.scribe.seq(index));
        }
        self.counts.lines.add(self.lines);
        self.unmarked += self.lines;
        if self.anchors.release() {
            self.unmarked = 0;
            self.marked = Instant::now();
        }
        (self.lines, self.written, self.mark) = (0, 0, None);
        self.batch.clear();
        self.scribe.note_written();
        Ok(())
    }

    /// Goes on in another file.
    fn change(&mut self, change: Change) {
        if self.is_lost || self.written > 0 {
            return;
        }
        // What is in the batch stands before the file's last line; if the file takes nothing, it goes to the next one.
        let is_stuck = !self.batch.is_empty() && self.write().is_err();
        match self.file.change(change) {
            Err(Stays { error, is_known: false }) if !self.is_failing => {
                tracing::warn!("the audit log stays in its file: {error}");
            }
            Err(_) => {}
            Ok(_) if is_stuck => self.go_on(),
            Ok(mut old) => {
                self.mark(Mark::Rotated);
                let mut written = 0;
                let ended = old.append(&self.batch, &mut written).and_then(|()| old.sync());
                if let Err(error) = ended {
                    // The next file's first line says where the chains stood all the same.
                    tracing::warn!("the audit log's old file has no last line: {error}");
                }
                self.batch.clear();
                self.mark = None;
                self.mark(Mark::Continued);
            }
        }
    }

    /// Has the batch begin with a line from which the new file can be verified without the old one, which took nothing
    /// of it.
    fn go_on(&mut self) {
        let mark = self.mark.take();
        if let Some((0, Mark::Continued)) = mark {
            // The file before took nothing at all.
            self.mark = mark;
            return;
        }
        if let Some((at, _)) = mark {
            // The last line of the batch, which is made anew below.
            self.batch.truncate(at);
            self.anchors.forget_last();
        } else {
            self.lines += 1;
            self.counts.checkpoints.add(1);
        }
        let records = std::mem::take(&mut self.batch);
        self.scribe.go_on(&mut self.batch, unix_us());
        self.anchors.keep(&self.batch);
        self.batch.extend_from_slice(&records);
        self.mark = Some((0, Mark::Continued));
        if let Some((_, mark)) = mark {
            self.mark(mark);
        }
    }

    /// Waits until a shard has something, or a checkpoint is due.
    fn rest(&self) {
        let mut any = false;
        for (index, shard) in self.shards.iter().enumerate() {
            any |= shard.receiver.way.issued.listen() > self.scribe.seq(index);
        }
        if any {
            return;
        }
        let pause = match self.unmarked {
            0 => Duration::from_secs(60),
            _ => self.checkpoint.saturating_sub(self.marked.elapsed()).max(Duration::from_millis(1)),
        };
        thread::park_timeout(pause);
    }

    /// Writes what is left, and that this is the end.
    fn finish(mut self) {
        let began = Instant::now();
        let mut is_ended = false;
        loop {
            if self.batch.is_empty() {
                self.collect();
            }
            if self.batch.is_empty() {
                if is_ended {
                    break;
                }
                is_ended = true;
                self.mark(Mark::End);
            }
            if self.put().is_err() {
                if began.elapsed() >= LAST_TRIES {
                    break;
                }
                thread::park_timeout(RETRY);
            }
        }
        self.anchors.finish();
    }
}
