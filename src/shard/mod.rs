//! The data plane: one thread, pinned to its CPU, with everything it needs of its own.
//!
//! The only room that imports the runtime. Nothing in it is shared but what `shared/` holds: no lock, no
//! channel to wait on, no blocking call. After warm-up a request allocates nothing. Start reading at
//! [`request::serve`].

mod accept;
mod audit;
mod body_ahead;
mod buffers;
mod connection;
mod exchange;
mod forward;
mod housekeeping;
mod in_force;
mod line;
mod listed;
mod lobby;
mod patience;
mod queue;
mod readiness;
mod request;
mod respond;
mod ring;
mod runtime;
mod samples;
mod servers;
#[cfg(test)]
mod simulation;
mod socket;
mod watch;

pub use accept::{Bound, Opening};
pub use audit::{AuditEnds, AuditRules};
pub use buffers::BufferPlan;
pub use ring::{Driver, Rung, best_ring, probe};

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    sync::{Arc, mpsc},
    thread,
};

use arc_swap::ArcSwap;

use crate::{
    base::{
        affinity,
        block::BlockPool,
        clock::{Clock, Moment},
    },
    shared::{
        lifecycle::Lifecycle,
        listed::LISTED_BYTES_MAX,
        log_ring::LogSender,
        meters::{PerShard, ShardMeters},
        revoked::RevokedCell,
    },
    stage::{Desk, snapshot::Snapshot},
};

use self::{
    accept::Listener,
    audit::Auditor,
    buffers::Buffers,
    forward::pool::Pools,
    in_force::{InForce, Taken},
    line::Lines,
    lobby::Lobby,
    queue::Queue,
    ring::Ring,
    samples::Samples,
    servers::Servers,
    watch::Watches,
};

/// What a shard is given at birth.
pub struct ShardPlan {
    /// Its number, from 0.
    pub index: usize,
    /// The CPU it stays on; any when absent.
    pub cpu: Option<usize>,
    /// The runtime it uses.
    pub driver: Driver,
    /// Its own listening sockets, one per address.
    pub listeners: Vec<Bound>,
    /// Downstream connections it holds at the most.
    pub connections_max: usize,
    /// The longest request head, in bytes.
    pub head_bytes_max: usize,
    /// The memory it reads and writes in.
    pub buffers: BufferPlan,
    /// Tokens it remembers.
    pub tokens_max: usize,
    /// Where the deny list is published.
    pub revoked: RevokedCell,
    /// The log; nothing is recorded when absent.
    pub log: Option<LogSender>,
    /// What it audits with; absent when nothing is.
    pub audit: Option<AuditEnds>,
    /// Where samples of exchanges go; nowhere when absent.
    pub samples: Option<LogSender>,
    /// Where the configuration in force is published.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The process's phases.
    pub lifecycle: Arc<Lifecycle>,
    /// The counters of all shards.
    pub meters: Arc<PerShard<ShardMeters>>,
}

/// Everything one shard owns.
struct Shard {
    index: usize,
    /// Read at each event; everything decided about the event uses that reading.
    clock: Clock,
    /// The configuration in force.
    in_force: InForce,
    /// What decisions remember: verified tokens, the state of ties.
    desk: RefCell<Desk>,
    /// Holds a path while its normal form is made. Grows to the longest path seen, at most a head.
    path_scratch: RefCell<Vec<u8>>,
    /// Holds a chunked body's beginning while it is looked through. At most a block.
    body_scratch: RefCell<Vec<u8>>,
    /// As many as the plan says; beyond that requests are shed.
    buffers: Buffers,
    /// Small buffers for our own answers, so that a shard out of blocks can still say so.
    replies: Rc<BlockPool>,
    /// Small buffers for what the log's lists name of an exchange; at most `connections_max`, none without lists.
    listed: Rc<BlockPool>,
    /// Idle upstream connections, at most `idle_max` per endpoint; beyond that they are closed.
    pools: RefCell<Pools>,
    /// Readiness and deadlines of all sockets.
    watches: Rc<Watches>,
    /// Connections that wait for a request, at most `connections_max`.
    lobby: Lobby,
    /// Tasks that serve requests: as many as were ever busy at once, at most `connections_max`.
    servers: Servers,
    /// Requests that wait while the shard is full.
    queue: Queue,
    /// Requests that were turned away since the last round because the shard is full.
    turned_away: Cell<u64>,
    /// Those who wait in front of clusters.
    lines: Lines,
    /// Downstream connections open; at most `connections_max`, beyond that they are told 503.
    connections: Cell<usize>,
    connections_max: usize,
    /// Refused connections that are being told so.
    farewells: Cell<usize>,
    /// Copies of requests that are under way.
    copies: Cell<usize>,
    head_bytes_max: usize,
    /// The `Date` of our own answers, made once a second.
    date: RefCell<[u8; 29]>,
    /// Set when the process drains: every answer closes its connection.
    draining: Cell<bool>,
    log: RefCell<Option<LogSender>>,
    /// Where a log record is put together. Grows to the longest record, at most a few KiB.
    record_scratch: RefCell<Vec<u8>>,
    /// Its part of the audit log, if there is one.
    auditor: Option<Rc<Auditor>>,
    /// What is told of single exchanges, so many a second.
    samples: Samples,
    lifecycle: Arc<Lifecycle>,
    meters: Arc<PerShard<ShardMeters>>,
}

/// Bytes of a buffer for our own answers: the longest lists 64 windows of limits.
const REPLY_BYTES: usize = 8 * 1024;
/// Answers of our own that are being sent at the same time, waiting for a client to take them.
const REPLIES_MAX: usize = 1024;

/// Starts a shard on a thread of its own, and waits until it accepts or has failed to.
///
/// # Errors
/// Why it could not start.
pub fn spawn(plan: ShardPlan) -> io::Result<Rung> {
    let (started, starting) = mpsc::sync_channel(1);
    thread::Builder::new().name(format!("shard-{}", plan.index)).spawn(move || run(plan, &started))?;
    starting.recv().unwrap_or_else(|_| Err(io::Error::other("the shard ended before it began")))
}

fn run(plan: ShardPlan, started: &mpsc::SyncSender<io::Result<Rung>>) {
    if let Some(cpu) = plan.cpu {
        // Before it touches any memory, which the system then takes from the CPU's own NUMA node. A CPU that went
        // away since it was listed leaves the shard where the system puts it.
        if let Err(error) = affinity::keep_current_on(&[cpu]) {
            tracing::warn!("shard {} cannot stay on CPU {cpu}: {error}", plan.index);
        }
    }
    let (mut ring, rung) = match Ring::build(plan.driver) {
        Ok(built) => built,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    ring.block_on(async move {
        let (shard, listeners) = match Shard::new(plan) {
            Ok(made) => made,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        shard.meters().thread.set(u64::from(thread.unsigned_abs()));
        let listeners: io::Result<Vec<_>> =
            listeners.into_iter().map(|bound| Listener::adopt(&shard, bound)).collect();
        match listeners.and_then(|listeners| Ok((listeners, readiness::pollable(&shard)?))) {
            Ok((listeners, set)) => {
                shard.lifecycle.shard_listens();
                let _ = started.send(Ok(rung));
                housekeeping::run(&shard, listeners, set).await;
                shard.lifecycle.shard_finished();
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        }
        // The ring turns until the process ends: other shards may be far from finished, and what was dropped
        // here is closed, and what was cancelled is let go of, only by its next turns.
        std::future::pending::<()>().await;
    });
}

impl Shard {
    fn new(plan: ShardPlan) -> io::Result<(Rc<Self>, Vec<Bound>)> {
        let clock = Clock::new();
        let mut desk = Desk::new(plan.tokens_max, fastrand::Rng::new());
        desk.revoked = plan.revoked.reader();
        let watches = Rc::new(Watches::new()?);
        let auditor = plan.audit.map(|ends| Auditor::new(ends, &watches)).transpose()?;
        let shard = Rc::new(Self {
            index: plan.index,
            desk: RefCell::new(desk),
            path_scratch: RefCell::default(),
            body_scratch: RefCell::default(),
            buffers: Buffers::new(plan.buffers),
            replies: BlockPool::new(REPLY_BYTES, REPLIES_MAX),
            listed: BlockPool::new(LISTED_BYTES_MAX, plan.connections_max),
            pools: RefCell::default(),
            in_force: InForce::new(plan.snapshot),
            watches,
            lobby: Lobby::default(),
            servers: Servers::default(),
            queue: Queue::default(),
            turned_away: Cell::new(0),
            lines: Lines::default(),
            connections: Cell::new(0),
            connections_max: plan.connections_max,
            farewells: Cell::new(0),
            copies: Cell::new(0),
            head_bytes_max: plan.head_bytes_max,
            date: RefCell::new(*b"Thu, 01 Jan 1970 00:00:00 GMT"),
            draining: Cell::new(false),
            log: RefCell::new(plan.log),
            record_scratch: RefCell::default(),
            auditor,
            samples: Samples::new(plan.samples),
            lifecycle: plan.lifecycle,
            meters: plan.meters,
            clock,
        });
        shard.pools.borrow_mut().make_room(shard.in_force.current().slots);
        Ok((shard, plan.listeners))
    }

    /// The configuration in force at this moment.
    fn snapshot(&self) -> Rc<Taken> {
        self.in_force.advance().map_or_else(|| self.in_force.current(), |snapshot| self.adopt(snapshot))
    }

    /// Arranges everything that was made for the snapshot before.
    #[cold]
    fn adopt(&self, snapshot: Rc<Taken>) -> Rc<Taken> {
        // Their keys may be gone.
        self.desk.borrow_mut().tokens.clear();
        self.pools.borrow_mut().adopt(&snapshot, self);
        snapshot
    }

    /// This shard's counters.
    fn meters(&self) -> &ShardMeters {
        self.meters.of(self.index)
    }

    /// The loop turns: since the last event, about whose work nothing is known, there was nothing to do. This moment.
    fn note_idle(&self) -> Moment {
        let before = self.clock.recent();
        let now = self.clock.now();
        self.queue.note_idle(now.since_us(before));
        now
    }

    /// Milliseconds on the monotonic clock at the last event.
    fn recent_ms(&self) -> u64 {
        self.clock.recent().monotonic_ms()
    }
}
