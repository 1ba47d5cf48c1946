//! The access log: one thread that turns records into lines and writes them.
//!
//! Drains the shards' rings in turn, formats, writes in batches. What cannot be written, because the ring
//! was full or the disk is, is counted, and a `log_gap` line says how many are missing as soon as one can
//! be written again. A shard never notices.

mod consumer_key;
mod format;
mod generations;
mod output;
mod pan;
mod template;

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use crate::{
    shared::{log_ring::LogReceiver, record::Record},
    stage::snapshot::Snapshot,
};

pub(in crate::control) use self::pan::mask as masked;
pub use self::{consumer_key::ConsumerKey, generations::Generations, template::Template};

use self::{
    format::Formatter,
    output::{Output, Stuck},
};

use super::config::plan::LogPlan;

/// Lines are written when this many bytes have come together, or when there are no more.
const BATCH_BYTES: usize = 256 * 1024;
/// Between two looks at the rings while lines are coming.
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// Between two looks while none are.
const IDLE_PAUSE: Duration = Duration::from_millis(40);
/// At the end, the log is given up when it has not taken a batch for so long.
const PROGRESS: Duration = Duration::from_secs(2);

/// What the writer is told.
enum Order {
    Reopen,
    Finish,
}

/// The writer, as the rest of control sees it.
#[derive(Debug)]
pub struct AccessLog {
    orders: mpsc::Sender<Order>,
    /// Disconnected once the writer has ended.
    ended: mpsc::Receiver<Infallible>,
    counts: Arc<LogCounts>,
    generations: Generations,
}

/// What the writer has done so far.
#[derive(Debug, Default)]
pub struct LogCounts {
    /// Lines written.
    pub written: AtomicU64,
    /// Lines that could not be written.
    pub failed: AtomicU64,
    /// Records dropped because a ring was full, by shard.
    ring_dropped: Vec<Arc<AtomicU64>>,
}

impl LogCounts {
    /// Lines of which it is known whether they are in the log.
    pub fn settled(&self) -> u64 {
        self.written.load(Ordering::Relaxed) + self.dropped()
    }

    /// Lines that are missing from the log.
    pub fn dropped(&self) -> u64 {
        let in_rings: u64 = self.ring_dropped.iter().map(|dropped| dropped.load(Ordering::Relaxed)).sum();
        self.failed.load(Ordering::Relaxed) + in_rings
    }
}

impl AccessLog {
    /// Opens the sink of `plan` and starts writing what comes out of `rings`, one per shard.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn start(plan: &LogPlan, rings: Vec<LogReceiver>, snapshot: Arc<Snapshot>) -> io::Result<Self> {
        let counts = Arc::new(LogCounts {
            ring_dropped: rings.iter().map(LogReceiver::dropped_handle).collect(),
            ..LogCounts::default()
        });
        let (orders, received) = mpsc::channel();
        let generations = Generations::new(snapshot);
        let mut writer = Writer {
            output: Output::open(&plan.sink, plan.rotation)?,
            formatter: Formatter::new(plan.format.clone(), plan.consumer_key.clone(), generations.clone()),
            rings,
            batch: Vec::with_capacity(BATCH_BYTES + 16 * 1024),
            batch_lines: 0,
            lost: 0,
            counts: Arc::clone(&counts),
            generations: generations.clone(),
        };
        let (running, ended) = mpsc::channel();
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            writer.run(&received);
            drop(running);
        })?;
        Ok(Self { orders, ended, counts, generations })
    }

    /// What has been done so far.
    pub fn counts(&self) -> Arc<LogCounts> {
        Arc::clone(&self.counts)
    }

    /// Where it learns of new snapshots.
    pub fn generations(&self) -> Generations {
        self.generations.clone()
    }

    /// Opens the file anew, after it was moved away.
    pub fn reopen(&self) {
        // A writer that is gone has nothing to reopen.
        let _ = self.orders.send(Order::Reopen);
    }

    /// Writes everything that is still in the rings, then ends. The shards must have finished. False when the
    /// log takes no more, a pipe that nobody reads for example, and lines are therefore missing at its end.
    pub fn finish(self) -> bool {
        let _ = self.orders.send(Order::Finish);
        loop {
            let before = self.counts.settled();
            match self.ended.recv_timeout(PROGRESS) {
                Ok(never) => match never {},
                // The thread lets go of its end when it is done.
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) if self.counts.settled() == before => return false,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

struct Writer {
    output: Output,
    formatter: Formatter,
    rings: Vec<LogReceiver>,
    batch: Vec<u8>,
    batch_lines: u64,
    /// Lines that are missing and that no gap line stands for yet.
    lost: u64,
    counts: Arc<LogCounts>,
    generations: Generations,
}

impl Writer {
    fn run(&mut self, orders: &mpsc::Receiver<Order>) {
        loop {
            let busy = self.drain();
            match orders.recv_timeout(if busy { BUSY_PAUSE } else { IDLE_PAUSE }) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::Reopen) => {
                    self.drain();
                    if let Err(error) = self.output.reopen() {
                        tracing::warn!(
                            "the access log cannot be opened anew, the old file stays in use: {error}"
                        );
                    }
                }
                Ok(Order::Finish) | Err(RecvTimeoutError::Disconnected) => {
                    self.drain();
                    return;
                }
            }
        }
    }

    /// Writes all there is. Says whether there was anything.
    fn drain(&mut self) -> bool {
        let abandoned = self.generations.abandoned();
        let mut any = false;
        for shard in 0..self.rings.len() {
            let dropped = self.rings[shard].newly_dropped();
            if dropped > 0 {
                self.write();
                self.write_gap(Some(shard), dropped);
            }
            while let Some(packed) = self.rings[shard].receive() {
                if let Some(record) = Record::unpack(packed) {
                    self.formatter.line(&mut self.batch, shard, &record);
                    self.batch_lines += 1;
                }
                any = true;
                if self.batch.len() >= BATCH_BYTES {
                    self.write();
                }
            }
        }
        self.write();
        self.formatter.rest();
        self.generations.forget(&abandoned);
        any
    }

    /// Writes the batch, and before it how many lines are missing, if any are.
    fn write(&mut self) {
        if self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            self.write_gap(None, lost);
        }
        if self.batch.is_empty() {
            return;
        }
        let lines = std::mem::take(&mut self.batch_lines);
        let written = match self.output.write(&self.batch) {
            Ok(()) => lines,
            Err(Stuck { written, error }) => {
                if self.lost == 0 {
                    tracing::warn!("the access log cannot be written, lines are being lost: {error}");
                }
                self.batch[..written].iter().filter(|&&byte| byte == b'\n').count() as u64
            }
        };
        self.counts.written.fetch_add(written, Ordering::Relaxed);
        self.counts.failed.fetch_add(lines - written, Ordering::Relaxed);
        self.lost += lines - written;
        self.batch.clear();
    }

    /// Writes that `lines` lines are missing here, or keeps it in mind if that cannot be written either.
    fn write_gap(&mut self, shard: Option<usize>, lines: u64) {
        let mut gap = Vec::new();
        self.formatter.gap(&mut gap, shard, lines);
        if self.output.write(&gap).is_err() {
            self.lost += lines;
        }
    }
}
