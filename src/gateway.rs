//! Puts the planes together: bind, start, serve, drain.
//!
//! The one place that knows both planes. Everything that can fail fails here, before the first request, with
//! a message that says what to do and an exit code that says what kind of thing it was.

use std::{
    future::Future,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::{runtime::Runtime, sync::Notify, task::JoinHandle};

mod listeners;

use crate::{
    base::{affinity, clock::Clock},
    control::{
        access_log::{AccessLog, LAST_BYTES_MAX},
        admin::{
            Admin,
            address::AdminAddress,
            door::{AdminSocket, Door, SocketFile},
        },
        audit::AuditLog,
        config::{
            Plan,
            audit::Durability,
            compile,
            plan::{DriverChoice, LogSink},
        },
        discovery::{self, Discovery},
        health::Health,
        heritage::{Heritage, Orders},
        issuers,
        listening::{Given, Listening},
        machine::{self, mebibytes},
        monitor, observer, overrides,
        reload::Reloader,
        revocation::{self, Revocations},
        signals::{Order, Signals},
        supervisor,
        upgrade::{NoSuccessor, Origin, Predecessor},
        view::{Told, View},
    },
    shard::{self, AuditEnds, AuditRules, BufferPlan, Driver, Opening, Rung, ShardPlan},
    shared::{
        callers,
        lifecycle::{Lifecycle, Phase},
        listed::LISTED_BYTES_MAX,
        log_ring::{LogReceiver, LogSender, log_ring},
        meters::{PerShard, ShardMeters},
    },
    tuning::{cpus::print_list, machine::Machine, pinning::Placement, root::Root},
};

use self::listeners::Listeners;

/// Why the gateway did not start, with the exit code for it.
#[derive(Debug)]
pub enum StartError {
    /// The configuration cannot be run on this machine.
    Refused(String),
    /// An address could not be bound.
    Unbound(String),
}

/// A gateway whose addresses are bound and whose shards accept.
pub struct Gateway {
    /// Where requests come in.
    pub listen: Vec<SocketAddr>,
    /// Where the admin API is.
    pub admin: AdminAddress,
    /// The control thread's loop.
    runtime: Runtime,
    signals: Signals,
    admin_socket: AdminSocket,
    reloader: Arc<Reloader>,
    view: Arc<ArcSwap<View>>,
    logs: Logs,
    /// Where the shards tell of single exchanges.
    samples: Vec<LogReceiver>,
    /// What a successor is left, and how it is started.
    bequest: Arc<Bequest>,
    /// Who waits for this process to serve.
    predecessor: Option<Predecessor>,
}

/// What an upgrade needs.
struct Bequest {
    origin: Origin,
    listening: Vec<Listening>,
    on_epoll: bool,
}

impl Gateway {
    /// Binds everything and starts the shards. `path` is where the plan came from and is read again on reload.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(plan: Plan, path: Option<PathBuf>) -> Result<Self, StartError> {
        Self::succeed(plan, path, None, Given::default())
    }

    /// The same with sockets that systemd has given, or in the place of another process with what that leaves. Sockets
    /// that are there go to the shards in turn, so that each is accepted from, however many shards there are.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn succeed(
        plan: Plan,
        path: Option<PathBuf>,
        predecessor: Option<(Predecessor, Heritage)>,
        given: Given,
    ) -> Result<Self, StartError> {
        let (predecessor, mut heritage) = predecessor.unzip();
        let origin = Origin::note().map_err(|error| StartError::Refused(error.to_string()))?;
        let (runtime, signals) = control_loop().map_err(|error| {
            StartError::Refused(format!("the control thread's loop cannot be made: {error}"))
        })?;
        let here = Machine::read(&Root::system());
        let placement = Placement::new(&plan.pinning, &here).map_err(StartError::Refused)?;
        let shards = placement.shards.len();
        keep_others_off(&placement);
        machine::raise_file_limit(plan.bounds.connections, shards);
        let mut given = match &mut heritage {
            Some(heritage) => std::mem::take(&mut heritage.given),
            None => given,
        };
        let mut listeners = Listeners::open(&plan, shards, &mut given)?;
        let steering = plan.steering;
        let mut steered = listeners.decide(steering, &placement.shards)?;
        let mut listening = std::mem::take(&mut listeners.listening);
        let asked = plan.admin.address.to_string();
        let unbound = |error| StartError::Unbound(format!("listen.admin: {asked} cannot be bound: {error}"));
        let admin_socket = match given.take("listen.admin", &asked).pop() {
            Some(socket) => AdminSocket::of(&plan.admin.address, socket),
            None => AdminSocket::bind(&plan.admin.address, plan.admin.mode).map_err(unbound)?,
        };
        let admin = admin_socket.address(&plan.admin.address).map_err(unbound)?;
        let socket = admin_socket.handle().map_err(unbound)?;
        listening.push(Listening { key: "listen.admin".to_owned(), asked: asked.clone(), socket });
        given.finish().map_err(StartError::Refused)?;

        let driver = match &heritage {
            // The sockets do not block, which a ring cannot wait on, and must not begin to while the other serves.
            Some(heritage) if heritage.on_epoll => Driver::Epoll,
            _ => driver(plan.driver)?,
        };
        let (log_plan, plan_audit, bounds) = (plan.log.clone(), plan.audit.clone(), plan.bounds.clone());
        let told = Told::of(&plan);
        let orders =
            heritage.as_mut().map(|heritage| std::mem::take(&mut heritage.orders)).unwrap_or_default();
        let now_s = Clock::new().now().unix_seconds();
        let revocations = Revocations::start(plan.revocation.clone(), now_s).map_err(StartError::Refused)?;
        let revocations = Arc::new(revocations);
        revocations.adopt(orders.revoked);
        let discovery = Arc::new(Discovery::begin(&plan));
        let addresses = discovery.addresses();
        let mut whole = plan.clone();
        orders.overrides.apply(&mut whole);
        let snapshot = Arc::new(
            match &heritage {
                Some(heritage) => compile::succeed(whole, &addresses, shards, heritage),
                None => compile::compile(whole, &addresses, shards, None),
            }
            .map_err(StartError::Refused)?,
        );
        // Before a shard chooses an endpoint.
        let health = Arc::new(Health::default());
        health.inherit(orders.endpoints, &plan.clusters, &snapshot);
        for failure in issuers::introduce(&snapshot).err().unwrap_or_default() {
            tracing::warn!("{failure}; until it answers, its tokens are refused");
        }
        let published = Arc::new(ArcSwap::new(Arc::clone(&snapshot)));
        let no_thread = |error| StartError::Refused(format!("no thread can be started: {error}"));
        issuers::start(Arc::clone(&published)).map_err(no_thread)?;
        let (senders, receivers): (Vec<LogSender>, Vec<_>) =
            (0..shards).map(|_| log_ring(log_plan.ring_bytes)).unzip();
        let log = AccessLog::start(&log_plan, receivers, Arc::clone(&snapshot)).map_err(|error| {
            StartError::Refused(format!("log.access: {:?} cannot be opened: {error}", log_plan.sink))
        })?;
        let is_off = log_plan.sink == LogSink::Off;
        let mut senders = senders.into_iter().map(|sender| match is_off {
            true => sender.only_while(log.followed()),
            false => sender,
        });

        let (audit, mut audit_ends) = match &plan_audit {
            None => (None, Vec::new().into_iter()),
            Some(plan) => {
                let place = plan.path.display();
                let (audit, ends) =
                    AuditLog::start(plan, log_plan.consumer_key.clone(), shards).map_err(|error| {
                        StartError::Refused(format!("audit.path: {place} cannot be used: {error}"))
                    })?;
                let rules = AuditRules {
                    waits_for_disk: plan.durability == Durability::Fsync,
                    refuses: plan.refuses,
                    wait_max_ms: plan.wait_max_ms,
                };
                let ends = ends.into_iter().map(|(sender, news)| AuditEnds { sender, news, rules });
                (Some(audit), ends.collect::<Vec<_>>().into_iter())
            }
        };

        let buffers = BufferPlan::new(bounds.buffer_bytes, bounds.head_bytes_max, bounds.connections);
        let lifecycle = Arc::new(Lifecycle::default());
        let meters: Arc<PerShard<ShardMeters>> = Arc::new(PerShard::new(shards));
        let mut drivers = Vec::new();
        let mut samples = Vec::new();
        let mut on_epoll = false;
        let mut of_shards = std::mem::take(&mut listeners.of_shards).into_iter();
        for (index, cpu) in placement.shards.iter().enumerate() {
            let (sample_sender, sample_receiver) = log_ring(monitor::RING_BYTES);
            samples.push(sample_receiver);
            let rung = shard::spawn(ShardPlan {
                index,
                cpu: *cpu,
                driver,
                listeners: of_shards.next().unwrap_or_default(),
                connections_max: bounds.connections,
                head_bytes_max: bounds.head_bytes_max,
                buffers,
                tokens_max: bounds.tokens,
                revoked: revocations.cell().clone(),
                log: senders.next(),
                audit: audit_ends.next(),
                samples: Some(sample_sender),
                snapshot: Arc::clone(&published),
                lifecycle: Arc::clone(&lifecycle),
                meters: Arc::clone(&meters),
            })
            .map_err(|error| StartError::Refused(format!("shard {index} cannot start: {error}")))?;
            let place = cpu.map_or("any CPU".to_owned(), |cpu| here.place(cpu));
            if rung == Rung::Epoll && driver == Driver::Auto {
                tracing::warn!("shard {index} got no ring and uses epoll, which costs more CPU");
            }
            tracing::info!("shard {index} on {place} with {rung}");
            on_epoll |= rung == Rung::Epoll;
            drivers.push(rung.to_string());
        }
        let rings_bytes = log_plan.ring_bytes + plan_audit.as_ref().map_or(0, |plan| plan.ring_bytes);
        let memory = memory_sum(&snapshot, &bounds, buffers, shards, rings_bytes, revocations.bytes_max());
        tracing::info!("{}", memory.text);
        machine::warn_of_memory_limit(memory.bytes);
        let busy_permille = (0..shards).map(|_| AtomicU64::new(0)).collect();
        let log_counts = (!is_off).then(|| log.counts());
        let drivers = drivers.into();
        revocation::watch::start(Arc::clone(&revocations)).map_err(no_thread)?;
        // Only now: had this process not come to serve, its predecessor would have had to live with it.
        listeners.steer(steering, &mut steered)?;
        let view = View {
            snapshot,
            told,
            shards: meters,
            lifecycle,
            log: log_counts,
            audit: audit.as_ref().map(AuditLog::counts),
            discovery: Arc::clone(&discovery),
            revocations,
            health,
            monitor: Arc::default(),
            changes: Arc::default(),
            drivers,
            busy_permille,
            steered: steered.into(),
            accept_imbalance: Arc::default(),
        };
        view.monitor.begin(&view);
        let view = Arc::new(ArcSwap::from_pointee(view));
        let reloader = Reloader::new(
            path,
            plan,
            orders.overrides,
            shards,
            Arc::clone(&discovery),
            published,
            Arc::clone(&view),
            log.generations(),
        );
        for (address, opening) in &listeners.addresses {
            match opening {
                Opening::Plain => tracing::info!("listening on {address}"),
                Opening::Proxied => tracing::info!("listening for PROXY connections on {address}"),
            }
        }
        let listen = listeners.addresses.iter().map(|&(address, _)| address).collect();
        tracing::info!("admin on {admin}");
        let reloader = Arc::new(reloader);
        discovery::start(&discovery, &reloader).map_err(no_thread)?;
        let bequest = Arc::new(Bequest { origin, listening, on_epoll });
        Ok(Self {
            listen,
            admin,
            runtime,
            signals,
            admin_socket,
            reloader,
            view,
            logs: Logs { access: log, audit },
            samples,
            bequest,
            predecessor,
        })
    }

    /// Serves until told to stop, then drains. `beside` runs on the control thread meanwhile.
    ///
    /// # Errors
    /// The admin listener cannot be used.
    pub fn serve(self, beside: impl Future<Output = ()>) -> std::io::Result<()> {
        let Self { runtime, mut signals, reloader, view, logs, samples, bequest, predecessor, .. } = self;
        let admin_file = SocketFile::of(&self.admin);
        runtime.block_on(async {
            let drain = Arc::new(Notify::new());
            let admin = Admin {
                view: Arc::clone(&view),
                reloader: Arc::clone(&reloader),
                tail: logs.access.tail(),
                started: Instant::now(),
                drain: Arc::clone(&drain),
            };
            let door = Door::open(self.admin_socket)?;
            let admin = tokio::spawn(async move {
                if let Err(error) = admin.serve(door).await {
                    tracing::error!("the admin API ended: {error}");
                }
            });
            tokio::spawn(observer::run(view.load_full()));
            let health = Arc::clone(&view.load().health);
            tokio::spawn(health.run(Arc::clone(&view)));
            let monitor = Arc::clone(&view.load().monitor);
            tokio::spawn(monitor.run(Arc::clone(&view), samples));
            tokio::spawn(supervisor::feed_watchdog());
            tokio::spawn(overrides::expire(Arc::clone(&reloader)));
            tokio::spawn(announce(view.load_full(), predecessor));
            let mut successor = None;
            tokio::select! {
                followed_by = wait_for_the_end(&mut signals, &logs, &reloader, &bequest, &view) => {
                    successor = followed_by;
                }
                () = drain.notified() => {}
                () = async { beside.await; std::future::pending().await } => {}
            }
            let view = view.load_full();
            match successor {
                Some(pid) => {
                    supervisor::is_followed_by(pid);
                    // Who asks the admin address asks the successor.
                    admin.abort();
                    tracing::info!("successor {pid} serves; parting from {} connections", connections(&view));
                    view.lifecycle.part();
                    wait_until_finished(&view, &mut signals, &logs, &reloader).await;
                }
                None => supervisor::is_stopping(),
            }
            drain_shards(&view, &mut signals, &logs, &reloader).await;
            if let (None, Some(file)) = (successor, admin_file) {
                file.remove();
            }
            Ok::<_, std::io::Error>(())
        })?;
        logs.finish(&view.load());
        Ok(())
    }
}

/// What is written while the gateway serves.
struct Logs {
    access: AccessLog,
    audit: Option<AuditLog>,
}

impl Logs {
    /// Goes on in the files that then stand at their paths.
    fn reopen(&self) {
        self.access.reopen();
        self.audit.iter().for_each(AuditLog::reopen);
    }

    /// Writes what is left.
    fn finish(self, view: &View) {
        let counts = self.access.counts();
        if !self.access.finish() {
            let missing = view.shards.sum(|meters| &meters.log_records).saturating_sub(counts.settled());
            tracing::warn!("the access log takes no more, up to {missing} lines are missing at its end");
        }
        if self.audit.is_some_and(|audit| !audit.finish()) {
            tracing::error!("the audit log takes no more: its end is missing, and perhaps records before it");
        }
    }
}

/// Keeps this thread, and all that it starts which have no CPU of their own, where no shard is.
fn keep_others_off(placement: &Placement) {
    for note in &placement.notes {
        tracing::warn!("{note}");
    }
    if placement.others.is_empty() {
        return;
    }
    let list = print_list(&placement.others);
    match affinity::keep_current_on(&placement.others) {
        Ok(()) => tracing::info!("control, log and all else on CPUs {list}"),
        Err(error) => tracing::warn!("control, log and all else cannot be kept on CPUs {list}: {error}"),
    }
}

/// The loop that the control thread runs, with the signals that it listens to.
fn control_loop() -> std::io::Result<(Runtime, Signals)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let within = runtime.enter();
    let signals = Signals::register()?;
    drop(within);
    Ok((runtime, signals))
}

/// Says that the gateway serves, once all its shards accept.
async fn announce(view: Arc<View>, predecessor: Option<Predecessor>) {
    while view.lifecycle.listening() < view.drivers.len() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if let Some(predecessor) = predecessor {
        predecessor.dismiss();
    }
    supervisor::is_ready();
}

fn connections(view: &View) -> u64 {
    view.shards.sum(|meters| &meters.connections)
}

/// Until a signal says that it is over, or a successor serves: its process id.
async fn wait_for_the_end(
    signals: &mut Signals,
    logs: &Logs,
    reloader: &Arc<Reloader>,
    bequest: &Arc<Bequest>,
    view: &ArcSwap<View>,
) -> Option<u32> {
    loop {
        match signals.next().await {
            Order::Drain => return None,
            Order::HandOver => {
                tracing::info!("SIGUSR2: starting a successor");
                let mut successor = hand_over(Arc::clone(bequest), Arc::clone(reloader), view.load_full());
                // An end that is ordered meanwhile waits: the sockets may be the successor's already.
                let mut is_over = false;
                let successor = loop {
                    tokio::select! {
                        outcome = &mut successor => break outcome,
                        order = signals.next() => match order {
                            Order::Drain => is_over = true,
                            Order::HandOver => tracing::warn!("SIGUSR2: a successor is starting already"),
                            order => obey(order, logs, reloader),
                        }
                    }
                };
                match successor {
                    Ok(Ok(pid)) => return Some(pid),
                    Ok(Err(error)) => tracing::error!("upgrade refused, this process goes on: {error}"),
                    Err(error) => tracing::error!("upgrade refused, this process goes on: {error}"),
                }
                if is_over {
                    return None;
                }
            }
            order => obey(order, logs, reloader),
        }
    }
}

/// Starts a successor, beside everything else.
fn hand_over(
    bequest: Arc<Bequest>,
    reloader: Arc<Reloader>,
    view: Arc<View>,
) -> JoinHandle<Result<u32, NoSuccessor>> {
    // What is handed over must still be what counts when the successor begins to.
    view.changes.pause(true);
    tokio::task::spawn_blocking(move || {
        let _held = reloader.hold();
        let orders = Orders {
            revoked: view.revocations.overview().admin,
            overrides: reloader.overrides(),
            endpoints: view.health.orders(),
        };
        let Bequest { origin, listening, on_epoll } = &*bequest;
        let successor = origin.succeed(&reloader.in_force(), listening, &orders, *on_epoll);
        if successor.is_err() {
            view.changes.pause(false);
        }
        successor
    })
}

/// Until all shards are done, but no longer than `timeouts.drain`.
async fn wait_until_finished(view: &View, signals: &mut Signals, logs: &Logs, reloader: &Arc<Reloader>) {
    let deadline = Instant::now() + Duration::from_millis(view.told.drain_ms);
    view.lifecycle.ends_at(Clock::new().now().monotonic_ms() + view.told.drain_ms);
    while view.lifecycle.finished() < view.drivers.len() && Instant::now() < deadline {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
            order = signals.next() => match order {
                // Who orders an end does not wait for clients that have nothing to say.
                Order::Drain => return,
                order => obey(order, logs, reloader),
            }
        }
    }
}

/// Does what a signal orders that is not about the end.
fn obey(order: Order, logs: &Logs, reloader: &Arc<Reloader>) {
    match order {
        Order::ReopenLogs => {
            logs.reopen();
        }
        Order::Reload => {
            // Files and names may keep it waiting, and there may be other orders meanwhile.
            let reloader = Arc::clone(reloader);
            tokio::task::spawn_blocking(move || reloader.reload());
        }
        Order::HandOver => {
            tracing::warn!("SIGUSR2: this process drains and hands over no more");
        }
        Order::Drain => tracing::info!("a drain is under way already; SIGKILL ends it now"),
    }
}

/// Lets the requests in flight finish, and cuts what has not finished when `timeouts.drain` is over.
async fn drain_shards(view: &View, signals: &mut Signals, logs: &Logs, reloader: &Arc<Reloader>) {
    let lifecycle = &view.lifecycle;
    let in_flight = || view.shards.sum(|meters| &meters.in_flight);
    tracing::info!("draining: {} requests in flight", in_flight());
    lifecycle.ends_at(Clock::new().now().monotonic_ms() + view.told.drain_ms);
    lifecycle.advance(Phase::Draining);
    let deadline = Instant::now() + Duration::from_millis(view.told.drain_ms);
    while lifecycle.finished() < view.drivers.len() {
        if Instant::now() >= deadline {
            if lifecycle.phase() == Phase::Draining {
                let requests = in_flight();
                tracing::warn!("the drain deadline has passed: {requests} requests are cut");
                lifecycle.cut(requests);
            } else if Instant::now() >= deadline + CUTTING {
                break;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
            order = signals.next() => obey(order, logs, reloader),
        }
    }
    tracing::info!("drained: {} requests were cut", lifecycle.requests_cut());
}

/// What is cut gets this long to notice.
const CUTTING: Duration = Duration::from_secs(2);

fn driver(choice: DriverChoice) -> Result<Driver, StartError> {
    match choice {
        DriverChoice::Epoll => Ok(Driver::Epoll),
        DriverChoice::Auto => {
            if let Err(error) = shard::probe() {
                tracing::warn!("this machine denies io_uring ({error}); using epoll, which costs more CPU");
                return Ok(Driver::Epoll);
            }
            Ok(Driver::Auto)
        }
        DriverChoice::IoUring => match shard::probe() {
            Ok(()) => Ok(Driver::IoUring),
            Err(error) => Err(StartError::Refused(format!(
                "shards.driver: this machine denies io_uring ({error}); see kernel.io_uring_disabled and the \
                 container's seccomp profile, or set driver = \"auto\""
            ))),
        },
    }
}

/// What the bounds add up to.
struct MemorySum {
    bytes: u64,
    text: String,
}

/// The memory the gateway can come to hold, as a sum with a line of its own for each holder.
fn memory_sum(
    snapshot: &crate::stage::snapshot::Snapshot,
    bounds: &crate::control::config::plan::Bounds,
    buffers: BufferPlan,
    shards: usize,
    ring_bytes: usize,
    revocation_bytes: usize,
) -> MemorySum {
    let limits: usize = snapshot
        .routes
        .routes()
        .iter()
        .flat_map(|route| &route.limits)
        .map(|limit| limit.table.bytes())
        .sum();
    let listed_bytes = match snapshot.listed.is_empty() {
        true => 0,
        false => LISTED_BYTES_MAX * bounds.connections * shards,
    };
    let callers = 1 + snapshot.apis.iter().map(|api| api.versions.len()).sum::<usize>();
    let parts = [
        ("buffers", buffers.bytes() * shards),
        ("waiting heads", buffers.small_bytes() * shards),
        ("connections", bounds.connections * CONNECTION_BYTES * shards),
        // Who is being served has a buffer.
        ("servers", bounds.connections.min(buffers.blocks_max()) * SERVER_BYTES * shards),
        ("limits", limits),
        ("tokens", bounds.tokens * TOKEN_BYTES * shards),
        ("log rings", ring_bytes * shards),
        ("listed values", listed_bytes),
        ("samples", monitor::RING_BYTES * shards),
        ("last exchanges", LAST_BYTES_MAX),
        ("callers", callers::TABLE_BYTES * callers * shards),
        ("revocations", revocation_bytes),
    ];
    let total: usize = parts.iter().map(|(_, bytes)| bytes).sum();
    let parts: Vec<String> =
        parts.iter().map(|(name, bytes)| format!("{name} {}", mebibytes(*bytes as u64))).collect();
    let text = format!("memory at most {} MiB: {}", mebibytes(total as u64), parts.join(" + "));
    MemorySum { bytes: total as u64, text }
}

/// What one client connection holds while it waits: its place in the lobby and its socket's bookkeeping.
const CONNECTION_BYTES: usize = 512;
/// What the task that serves a connection holds.
const SERVER_BYTES: usize = 6 * 1024;
/// What one remembered token holds, for tokens of common size.
const TOKEN_BYTES: usize = 1024;
