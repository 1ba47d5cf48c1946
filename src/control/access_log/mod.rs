//! The access log: one thread that turns records into lines and writes them.
//!
//! Drains the shards' rings in turn, formats, writes in batches. What cannot be written, because the ring
//! was full or the disk is, is counted, and a `log_gap` line says how many are missing as soon as one can
//! be written again. A shard never notices.

mod format;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
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

use self::format::Formatter;

use super::config::plan::{LogFormat, LogSink};

/// Lines are written when this many bytes have come together, or when there are no more.
const BATCH_BYTES: usize = 256 * 1024;
/// Between two looks at the rings while lines are coming.
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// Between two looks while none are.
const IDLE_PAUSE: Duration = Duration::from_millis(40);

/// What the writer is told.
enum Order {
    Reopen,
    Finish,
}

/// The writer, as the rest of control sees it.
#[derive(Debug)]
pub struct AccessLog {
    orders: mpsc::Sender<Order>,
    thread: thread::JoinHandle<()>,
    counts: Arc<LogCounts>,
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
    /// Lines that are missing from the log.
    pub fn dropped(&self) -> u64 {
        let in_rings: u64 = self.ring_dropped.iter().map(|dropped| dropped.load(Ordering::Relaxed)).sum();
        self.failed.load(Ordering::Relaxed) + in_rings
    }
}

impl AccessLog {
    /// Opens `sink` and starts writing what comes out of `rings`, one per shard.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn start(
        sink: &LogSink,
        format: LogFormat,
        rings: Vec<LogReceiver>,
        snapshot: Arc<Snapshot>,
    ) -> io::Result<Self> {
        let counts = Arc::new(LogCounts {
            ring_dropped: rings.iter().map(LogReceiver::dropped_handle).collect(),
            ..LogCounts::default()
        });
        let (orders, received) = mpsc::channel();
        let mut writer = Writer {
            output: Output::open(sink)?,
            formatter: Formatter::new(format, snapshot),
            rings,
            batch: Vec::with_capacity(BATCH_BYTES + 16 * 1024),
            batch_lines: 0,
            lost: 0,
            counts: Arc::clone(&counts),
        };
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || writer.run(&received))?;
        Ok(Self { orders, thread, counts })
    }

    /// What has been done so far.
    pub fn counts(&self) -> Arc<LogCounts> {
        Arc::clone(&self.counts)
    }

    /// Opens the file anew, after it was moved away.
    pub fn reopen(&self) {
        // A writer that is gone has nothing to reopen.
        let _ = self.orders.send(Order::Reopen);
    }

    /// Writes everything that is still in the rings, then ends. The shards must have finished.
    pub fn finish(self) {
        let _ = self.orders.send(Order::Finish);
        let _ = self.thread.join();
    }
}

struct Writer {
    output: Output,
    formatter: Formatter,
    rings: Vec<LogReceiver>,
    batch: Vec<u8>,
    batch_lines: u64,
    /// Lines that could not be written since the last gap line.
    lost: u64,
    counts: Arc<LogCounts>,
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
        let mut any = false;
        for shard in 0..self.rings.len() {
            let dropped = self.rings[shard].newly_dropped();
            if dropped > 0 {
                self.formatter.gap(&mut self.batch, Some(shard), dropped);
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
        any
    }

    fn write(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.lost > 0 {
            let mut gap = Vec::new();
            self.formatter.gap(&mut gap, None, self.lost);
            if self.output.write(&gap).is_ok() {
                self.lost = 0;
            }
        }
        match self.output.write(&self.batch) {
            Ok(()) => {
                self.counts.written.fetch_add(self.batch_lines, Ordering::Relaxed);
            }
            Err(error) => {
                if self.lost == 0 {
                    tracing::warn!("the access log cannot be written, lines are being lost: {error}");
                }
                self.lost += self.batch_lines;
                self.counts.failed.fetch_add(self.batch_lines, Ordering::Relaxed);
            }
        }
        self.batch.clear();
        self.batch_lines = 0;
    }
}

/// Where lines go.
struct Output {
    sink: LogSink,
    file: Option<File>,
    /// The last write stopped within a line.
    torn: bool,
}

impl Output {
    fn open(sink: &LogSink) -> io::Result<Self> {
        let file = match sink {
            LogSink::File(path) => Some(append(path)?),
            LogSink::Stdout | LogSink::Off => None,
        };
        Ok(Self { sink: sink.clone(), file, torn: false })
    }

    fn reopen(&mut self) -> io::Result<()> {
        *self = Self::open(&self.sink)?;
        Ok(())
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let torn = if self.torn { &b"\n"[..] } else { b"" };
        let result = match (&mut self.file, &self.sink) {
            (Some(file), _) => file.write_all(torn).and_then(|()| file.write_all(lines)),
            (None, LogSink::Stdout) => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines).and_then(|()| stdout.flush())
            }
            (None, _) => Ok(()),
        };
        self.torn = result.is_err();
        result
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
