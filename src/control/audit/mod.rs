//! The audit log: who was let through to which endpoint, and how that ended, in lines that nobody can change unseen.
//!
//! One thread takes the shards' records, gives each its place in its shard's chain, writes them in batches and says
//! how far it got; with `fsync` a batch is one wait for the disk, whatever is in it (`writer.rs`). Checkpoints are
//! signed and go elsewhere as well, by a thread of their own (`anchors.rs`). `verify/` reads it all back. A shard never
//! waits for any of this; single exchanges of audited routes may (`shard/audit.rs`).

mod anchors;
mod chain;
mod exposition;
mod file;
mod lines;
mod tail;
pub mod verify;
mod writer;

pub(super) use self::exposition::{exposition, told};
pub use self::{anchors::Anchor, chain::AuditKey};

use std::{
    convert::Infallible,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, Thread},
    time::{Duration, SystemTime},
};

use rustix::event::{EventfdFlags, eventfd};

use crate::shared::{
    audit_ring::{AuditSender, AuditWay, audit_ring},
    counter::{Counter, Histogram},
};

use self::{
    anchors::Anchors,
    file::AuditFile,
    lines::Scribe,
    writer::{Shard, Writer},
};

use super::{
    access_log::ConsumerKey,
    config::audit::{AuditPlan, Durability},
    seed::seed,
};

/// At the end, the log is given up when it has not taken a batch for so long.
const PROGRESS: Duration = Duration::from_secs(2);

/// What the writer is told.
enum Order {
    Reopen,
    Finish,
}

/// The writer, as the rest of control sees it.
#[derive(Debug)]
pub struct AuditLog {
    orders: mpsc::Sender<Order>,
    writer: Thread,
    /// Disconnected once the writer has ended.
    ended: mpsc::Receiver<Infallible>,
    counts: Arc<AuditCounts>,
}

/// What there is to see of the audit log.
#[derive(Debug)]
pub struct AuditCounts {
    /// Lines written.
    pub lines: Counter,
    /// Lines that say that records are missing.
    pub gaps: Counter,
    /// Checkpoints written.
    pub checkpoints: Counter,
    /// Checkpoints that got to where they should go besides, and those that did not.
    pub anchored: [AtomicU64; 2],
    /// Waits for the disk.
    pub sync: Histogram,
    /// The shards' own counters.
    pub ways: Vec<Arc<AuditWay>>,
}

impl AuditCounts {
    /// The sum of one of the shards' counters.
    pub fn sum(&self, counter: impl Fn(&AuditWay) -> &Counter) -> u64 {
        self.ways.iter().map(|way| counter(way).get()).sum()
    }

    /// Whether nothing can be written at the moment.
    pub fn is_failing(&self) -> bool {
        self.ways.iter().any(|way| way.is_failing())
    }

    fn note_anchored(&self, arrived: bool) {
        self.anchored[usize::from(!arrived)].fetch_add(1, Ordering::Relaxed);
    }
}

/// What one shard gets.
pub type Ends = (AuditSender, OwnedFd);

impl AuditLog {
    /// Opens the file of `plan`, begins a chain for each of so many shards in it and starts writing; also what each
    /// shard gets.
    ///
    /// # Errors
    /// The file cannot be opened or written.
    pub fn start(
        plan: &AuditPlan,
        consumer_key: Option<ConsumerKey>,
        shards: usize,
    ) -> io::Result<(Self, Vec<Ends>)> {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..shards {
            let (ring, receiver) = audit_ring(plan.ring_bytes);
            let news = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            theirs.push((ring, Arc::clone(&receiver.way), news.try_clone()?));
            ours.push(Shard::new(receiver, news));
        }
        let counts = Arc::new(AuditCounts {
            lines: Counter::default(),
            gaps: Counter::default(),
            checkpoints: Counter::default(),
            anchored: Default::default(),
            sync: Histogram::new(),
            ways: theirs.iter().map(|(_, way, _)| Arc::clone(way)).collect(),
        });
        let [run, _] = seed().map_err(io::Error::other)?;
        let syncs = plan.durability == Durability::Fsync;
        let file = AuditFile::open(&plan.path, plan.rotation, syncs)?;
        let scribe = Scribe::new(plan.key.clone(), consumer_key, run, shards);
        let anchors = Anchors::start(plan.anchors.clone(), Arc::clone(&counts))?;
        let mut writer = Writer::new(plan, file, scribe, ours, anchors, Arc::clone(&counts));
        writer.begin()?;
        tracing::info!(
            "audit log {} with {}, public key {}",
            plan.path.display(),
            plan.durability.word(),
            plan.key.public()
        );
        let (orders, received) = mpsc::channel();
        let (running, ended) = mpsc::channel();
        let thread = thread::Builder::new().name("audit".to_owned()).spawn(move || {
            writer.run(&received);
            drop(running);
        })?;
        let writer = thread.thread().clone();
        let ends = theirs
            .into_iter()
            .map(|(ring, way, news)| (AuditSender::new(ring, way, writer.clone()), news))
            .collect();
        Ok((Self { orders, writer, ended, counts }, ends))
    }

    /// What there is to see of it.
    pub fn counts(&self) -> Arc<AuditCounts> {
        Arc::clone(&self.counts)
    }

    /// Goes on in the file that then stands at the path, which may be a new one.
    pub fn reopen(&self) {
        self.order(Order::Reopen);
    }

    /// Writes what is left and ends the chains. Whether all of it was taken.
    pub fn finish(self) -> bool {
        self.order(Order::Finish);
        loop {
            let lines = self.counts.lines.get();
            match self.ended.recv_timeout(PROGRESS) {
                Ok(_) | Err(RecvTimeoutError::Disconnected) => return !self.counts.is_failing(),
                Err(RecvTimeoutError::Timeout) if self.counts.lines.get() == lines => return false,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn order(&self, order: Order) {
        // A writer that has ended needs no order.
        let _ = self.orders.send(order);
        self.writer.unpark();
    }
}

/// Microseconds since the Unix epoch.
fn unix_us() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
