//! The access log: one thread that turns records into lines and writes them.
//!
//! Drains the shards' rings in turn, formats, writes in batches. What cannot be written, because the ring
//! was full or the disk is, is counted, and a `log_gap` line says how many are missing as soon as one can
//! be written again. A shard never notices.

mod consumer_key;
mod escapes;
mod format;
mod generations;
mod last;
mod listeners;
mod output;
mod pan;
mod redact;
mod template;
mod text;
mod token;

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use crate::{
    base::hex::hex_digits,
    shared::{
        callers::NAME_BYTES_MAX,
        log_ring::{LENGTH_BYTES, LogReceiver},
        record::Record,
    },
    stage::snapshot::Snapshot,
};

pub(in crate::control) use self::format::{delivery, termination};
pub use self::{
    consumer_key::ConsumerKey,
    generations::Generations,
    last::BYTES_MAX as LAST_BYTES_MAX,
    listeners::{Filter, LISTENERS_MAX, NoTail, Tail},
    template::Template,
};
pub(in crate::control) use self::{output::aside, redact::text as masked_text};

use self::{
    format::Formatter,
    last::LastRecords,
    listeners::{Listener, Listeners},
    output::{Output, Stuck},
};

use super::config::plan::{LogPlan, LogSink};

/// `text` without card numbers and credentials in it, as the log shows it.
pub(in crate::control) fn masked(text: &str) -> String {
    String::from_utf8_lossy(&redact::text(text.as_bytes())).into_owned()
}

/// The same for the name of a consumer as it is counted under, which may be only its beginning.
pub(in crate::control) fn masked_name(name: &str) -> String {
    String::from_utf8_lossy(&redact::beginning(name.as_bytes(), NAME_BYTES_MAX)).into_owned()
}

/// The same for a trace id that a client can have chosen; no trace has the id that stands for it.
pub(in crate::control) fn masked_trace(trace_id: u128) -> u128 {
    let digits = hex_digits(trace_id);
    if pan::mask(&digits)[..] == digits[..] { trace_id } else { 0 }
}

/// Lines are written when this many bytes have come together, or when there are no more.
const BATCH_BYTES: usize = 256 * 1024;
/// Between two looks at the rings while lines are coming.
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// Between two looks while none are.
const IDLE_PAUSE: Duration = Duration::from_millis(40);
/// The same while there is no log and nobody who follows it: configurations are to be forgotten now and then.
const OFF_PAUSE: Duration = Duration::from_secs(1);
/// At the end, the log is given up when it has not taken a batch for so long.
const PROGRESS: Duration = Duration::from_secs(2);

/// What the writer is told.
enum Order {
    Reopen,
    Listen(Listener),
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
    tail: Tail,
    /// Whether somebody follows the log.
    followed: Arc<AtomicBool>,
}

/// What the writer has done so far.
#[derive(Debug, Default)]
pub struct LogCounts {
    /// Lines written.
    pub written: AtomicU64,
    /// Lines that could not be written.
    pub failed: AtomicU64,
    /// What was written last.
    pub last: LastRecords,
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
        let listeners = Listeners::default();
        let followed = listeners.wanted();
        let mut writer = Writer {
            output: Output::open(&plan.sink, plan.rotation)?,
            formatter: Formatter::new(plan, generations.clone()),
            is_off: plan.sink == LogSink::Off,
            listeners,
            rings,
            first: 0,
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
        let tail = Tail::new(orders.clone());
        Ok(Self { orders, ended, counts, generations, tail, followed })
    }

    /// What has been done so far.
    pub fn counts(&self) -> Arc<LogCounts> {
        Arc::clone(&self.counts)
    }

    /// Where it learns of new snapshots.
    pub fn generations(&self) -> Generations {
        self.generations.clone()
    }

    /// Where those announce themselves who follow the log.
    pub fn tail(&self) -> Tail {
        self.tail.clone()
    }

    /// Whether somebody follows it. Where there is no other log, shards need record nothing while nobody does.
    pub fn followed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.followed)
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
    /// There is no log but what listeners get.
    is_off: bool,
    formatter: Formatter,
    listeners: Listeners,
    rings: Vec<LogReceiver>,
    /// The shard whose turn is first next time.
    first: usize,
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
            match orders.recv_timeout(self.pause(busy)) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::Listen(listener)) => self.listeners.add(listener),
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

    /// How long nothing is looked at, after a look that found something or not.
    fn pause(&self, busy: bool) -> Duration {
        match busy {
            true => BUSY_PAUSE,
            // An order ends the pause.
            false if self.is_off && self.listeners.is_empty() => OFF_PAUSE,
            false => IDLE_PAUSE,
        }
    }

    /// Writes all there is. Says whether there was anything.
    fn drain(&mut self) -> bool {
        let abandoned = self.generations.abandoned();
        let mut any = false;
        let shards = self.rings.len();
        for turn in 0..shards {
            any |= self.take_turn((self.first + turn) % shards);
        }
        self.first = (self.first + 1) % shards.max(1);
        self.write();
        self.listeners.hand_over();
        self.formatter.rest();
        self.generations.forget(&abandoned);
        any
    }

    /// Makes lines of what is in a shard's ring now. What comes meanwhile waits until it is this one's turn again, or
    /// a busy shard would keep the writer from all others and from orders.
    fn take_turn(&mut self, shard: usize) -> bool {
        let dropped = self.rings[shard].newly_dropped();
        if dropped > 0 {
            self.write();
            self.write_gap(Some(shard), dropped);
        }
        let waiting_bytes = self.rings[shard].bytes();
        let mut taken_bytes = 0;
        while taken_bytes < waiting_bytes {
            let Some(packed) = self.rings[shard].receive() else { break };
            taken_bytes += packed.len() + LENGTH_BYTES;
            if let Some(record) = Record::unpack(packed) {
                if !self.is_off {
                    self.counts.last.keep(packed);
                }
                self.formatter.line(&mut self.batch, shard, &record, &mut self.listeners);
                self.batch_lines += 1;
            }
            if self.batch.len() >= BATCH_BYTES {
                self.write();
            }
        }
        waiting_bytes > 0
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
        if self.is_off {
            self.batch.clear();
            return;
        }
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
        if shard.is_some() {
            // What the sink has lost they have had.
            self.listeners.gap(&gap);
        }
        if self.is_off {
            return;
        }
        if self.output.write(&gap).is_err() {
            self.lost += lines;
        }
    }
}

#[cfg(test)]
mod tests;
