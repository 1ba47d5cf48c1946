//! The world around one shard: its clients, its endpoints, its clock and what happens next, all from one seed.
//!
//! The shard is the real one over real sockets; the world decides who moves, by how much, and when the clock
//! does. After every move the shard runs until it has nothing to do. Owns all that is at the other end of the
//! shard's calls and writes down what happened; what must hold is in `invariants.rs`.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use fastrand::Rng;
use rustix::event::{PollFd, PollFlags, Timespec, epoll};

use crate::{
    base::clock::{Moment, manual},
    shared::{
        lifecycle::Phase,
        log_ring::{LogReceiver, log_ring},
        record::{Delivery, Record},
        sample::Sample,
    },
    stage::{snapshot::Snapshot, termination::Termination},
};

use super::{
    super::{
        Shard, accept,
        housekeeping::{self, Rounds},
        readiness,
    },
    audit::Auditing,
    client::Client,
    endpoint::Upstream,
    invariants,
    link::{Heard, Link},
    runtime::{Dial, Runtime, spawn},
    script::{self, Parting},
    setting::{self, SHADOW},
    trace::Trace,
};

/// A point in the world's time: which move, and the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Instant {
    pub(super) turn: u64,
    pub(super) us: u64,
}

/// A line of the shard's log.
#[derive(Debug)]
pub(super) struct Logged {
    pub(super) at: Instant,
    /// The client's number, which its address says.
    pub(super) client: usize,
    pub(super) id: String,
    pub(super) status: u16,
    pub(super) code: Option<u8>,
    pub(super) termination: u8,
    pub(super) attempts: u8,
    pub(super) delivery: Delivery,
    pub(super) route: Option<u16>,
    pub(super) has_endpoint: bool,
    pub(super) duration_us: u64,
}

/// How well an endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// It does what it should.
    Honest,
    /// It may do anything.
    Troubled,
    /// Often it cannot be reached.
    Away,
}

/// Everything but the shard's inside.
pub(super) struct World {
    rng: Rng,
    runtime: Rc<Runtime>,
    pub(super) shard: Rc<Shard>,
    pub(super) snapshot: Arc<Snapshot>,
    rounds: Rounds,
    news: Vec<epoll::Event>,
    clock: Moment,
    turn: u64,
    last_round_us: u64,
    pub(super) clients: Vec<Client>,
    pub(super) upstreams: Vec<Upstream>,
    /// Dials that nobody has answered yet, and when they time out.
    held: Vec<(Rc<Dial>, u64)>,
    /// By endpoint, those of all clusters in a row.
    moods: [Mood; 5],
    /// Whether the shard is short of CPU.
    is_busy: bool,
    log: LogReceiver,
    samples: LogReceiver,
    pub(super) audit: Auditing,
    pub(super) records: Vec<Logged>,
    /// When it was decided on those requests whose steps were timed, by id.
    pub(super) decided_us: BTreeMap<String, u64>,
    pub(super) has_recovered: bool,
    trace: Trace,
}

/// The tick of `housekeeping.rs`.
const ROUND_US: u64 = 100_000;
/// Where the clocks begin.
const BEGINNING: Moment = Moment { monotonic_us: 1_000_000_000, unix_us: 1_795_409_367_000_000 };
/// Clients of one world.
const CLIENTS_MAX: usize = 30;
/// More turns of the shard's loop than that without a move of the world's is a loop that never ends.
const POLLS_MAX: u32 = 200_000;

impl World {
    /// A shard and nobody there yet.
    pub(super) fn new(seed: u64, is_told: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        manual::set(Some(BEGINNING));
        let runtime = Runtime::install();
        let (sender, log) = log_ring(1 << 20);
        let (sample_sender, samples) = log_ring(1 << 20);
        let (audit, ends) = Auditing::new(seed);
        let plan = setting::plan(&mut rng, sender, sample_sender, Some(ends), audit.has_routes);
        let snapshot = plan.snapshot.load_full();
        let (shard, _) = Shard::new(plan).expect("a readiness set");
        shard.desk.borrow_mut().rng = Rng::with_seed(seed);
        if let Some(auditor) = &shard.auditor {
            spawn(Rc::clone(auditor).run());
            spawn(Rc::clone(auditor).ring());
        }
        let moods = [(); 5].map(|()| match rng.u32(..10) {
            0..4 => Mood::Honest,
            4..8 => Mood::Troubled,
            _ => Mood::Away,
        });
        let moods = if rng.u32(..6) == 0 { [Mood::Away; 5] } else { moods };
        Self {
            runtime,
            shard,
            snapshot,
            rounds: Rounds::default(),
            news: Vec::with_capacity(readiness::NEWS_MAX),
            clock: BEGINNING,
            turn: 0,
            last_round_us: 0,
            clients: Vec::new(),
            upstreams: Vec::new(),
            held: Vec::new(),
            moods,
            is_busy: rng.u32(..3) == 0,
            log,
            samples,
            audit,
            records: Vec::new(),
            decided_us: BTreeMap::new(),
            has_recovered: false,
            trace: Trace::new(is_told),
            rng,
        }
    }

    /// Lives through everything the seed has in store; the hash of what happened.
    ///
    /// # Errors
    /// The rule that was broken.
    pub(super) fn live(&mut self) -> Result<u64, String> {
        let moves = self.rng.usize(150..600);
        let drain_at = if self.rng.u32(..100) < 20 { self.rng.usize(..moves) } else { usize::MAX };
        for number in 0..moves {
            if number == drain_at {
                self.drain();
            }
            for _ in 0..self.rng.u32(1..4) {
                self.step()?;
            }
            self.settle()?;
            invariants::always(self)?;
        }
        if self.rng.bool() {
            self.recover()?;
            invariants::nothing_hangs(self)?;
        }
        if self.is_draining() && self.rng.bool() {
            self.note(format_args!("cut"));
            self.shard.lifecycle.advance(Phase::Cutting);
        }
        self.fall_silent()?;
        invariants::everything_is_given_back(self)?;
        for client in &mut self.clients {
            client.recover();
            while client.read()? {}
        }
        for upstream in &mut self.upstreams {
            while upstream.read(&mut self.rng)? {}
        }
        self.audit.take(usize::MAX);
        invariants::verdict(self)?;
        Ok(self.trace.hash())
    }

    /// How often what happened: answers by status, and what is remarkable.
    pub(super) fn tally(&self) -> BTreeMap<String, u64> {
        let mut tally = BTreeMap::new();
        let mut count = |what: String, times: u64| *tally.entry(what).or_default() += times;
        for record in &self.records {
            count(record.status.to_string(), 1);
            count("second attempt".into(), u64::from(record.attempts > 1));
            count("third attempt".into(), u64::from(record.attempts > 2));
            let is_promise = record.attempts > 0 && record.delivery == Delivery::NotSent;
            count("attempt that sent nothing".into(), u64::from(is_promise));
            let has_left = record.termination == Termination::ClientGoneInQueue as u8;
            count("left before its turn".into(), u64::from(has_left));
        }
        for client in &self.clients {
            count("answer cut".into(), u64::from(client.end == Some(Heard::Cut)));
            count("connection too many".into(), u64::from(client.is_one_too_many));
        }
        let shadow = self.snapshot.clusters[SHADOW].meters.of(0);
        count("copy answered".into(), shadow.mirrored.get());
        count("copy failed".into(), shadow.mirrored_failed.get());
        count("copy not sent".into(), shadow.mirrored_skipped.get());
        count("wait for a turn".into(), self.shard.meters().queue_waits.get());
        count("reuse".into(), self.snapshot.clusters[0].meters.of(0).reuses.get());
        count("move".into(), self.snapshot.clusters[0].meters.of(0).moves.get());
        let meters = self.snapshot.clusters[0].meters.of(0);
        count("hedge won".into(), meters.hedges_won.get());
        count("hedge lost".into(), meters.hedges.get() - meters.hedges_won.get());
        count("drain".into(), u64::from(self.is_draining()));
        count("cut".into(), u64::from(self.is_cutting()));
        let way = self.audit.way();
        count("refused without a record".into(), way.refused.get());
        count("answer withheld".into(), way.withheld.get());
        count("answer before its record".into(), way.unproven.get());
        count("audit record dropped".into(), way.dropped.get());
        tally
    }

    /// This move and its time.
    pub(super) fn now(&self) -> Instant {
        Instant { turn: self.turn, us: self.clock.monotonic_us }
    }

    /// Whether the process is on its way out.
    pub(super) fn is_draining(&self) -> bool {
        self.shard.lifecycle.phase() >= Phase::Draining
    }

    /// Whether what is in flight is being cut.
    pub(super) fn is_cutting(&self) -> bool {
        self.shard.lifecycle.phase() >= Phase::Cutting
    }

    /// One move of somebody's.
    fn step(&mut self) -> Result<(), String> {
        self.audit.work();
        match self.rng.u32(..1_000) {
            0..90 => self.arrive(),
            90..480 => {
                let open: Vec<usize> =
                    (0..self.clients.len()).filter(|&place| self.clients[place].is_open()).collect();
                if let Some(&place) = self.choose(&open) {
                    self.move_client(place)?;
                }
            }
            480..860 => {
                let open: Vec<usize> =
                    (0..self.upstreams.len()).filter(|&place| self.upstreams[place].is_open()).collect();
                if let Some(&place) = self.choose(&open) {
                    self.move_upstream(place)?;
                }
            }
            860..890 => self.disturb_idle(),
            890..910 if !self.held.is_empty() => {
                let (dial, _) = self.held.swap_remove(self.rng.usize(..self.held.len()));
                self.answer(&dial);
            }
            910..985 => {
                let by_us = self.rng.u64(1..60_000);
                self.pass(by_us)?;
            }
            985..994 => {
                let by_us = self.rng.u64(100_000..1_500_000);
                self.pass(by_us)?;
            }
            994..996 => {
                let by_us = self.rng.u64(10_000_000..60_000_000);
                self.pass(by_us)?;
            }
            996..998 => {
                let hours = self.rng.u64(1..48);
                self.note(format_args!("the wall clock goes back by {hours} hours"));
                self.clock.unix_us -= hours * 3_600_000_000;
                self.pass(ROUND_US)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn choose<'p>(&mut self, places: &'p [usize]) -> Option<&'p usize> {
        if places.is_empty() { None } else { places.get(self.rng.usize(..places.len())) }
    }

    fn arrive(&mut self) {
        let number = self.clients.len();
        if number == CLIENTS_MAX || self.is_draining() {
            return;
        }
        let visit = script::visit(&mut self.rng, number);
        let send_bytes = (self.rng.u32(..100) < 50).then_some(4_096);
        let (link, stream) = Link::pair(&self.runtime, send_bytes);
        let is_one_too_many = self.shard.connections.get() >= self.shard.connections_max;
        self.note(format_args!("client {number} arrives with {} requests", visit.asked.len()));
        self.clients.push(Client::new(number, visit, link, is_one_too_many));
        accept::admit(
            &self.shard,
            stream,
            SocketAddr::new(Client::address(number), 1),
            accept::Opening::Plain,
        );
    }

    fn move_client(&mut self, place: usize) -> Result<(), String> {
        let now = self.now();
        let client = &mut self.clients[place];
        let sent = client.send(now);
        let read = client.read()?;
        if client.is_open() && client.is_satisfied() && self.rng.u32(..4) == 0 {
            client.leave();
        }
        let (answers, end) = (client.answers.len(), client.end);
        self.note(format_args!("client {place} sends {sent}, reads {read}: {answers} answers, {end:?}"));
        Ok(())
    }

    fn move_upstream(&mut self, place: usize) -> Result<(), String> {
        let upstream = &mut self.upstreams[place];
        let (read, wrote) = match self.rng.u32(..3) {
            0 => (upstream.read(&mut self.rng)?, false),
            1 => (false, upstream.write()),
            _ => (upstream.read(&mut self.rng)?, upstream.write()),
        };
        let (seen, end) = (upstream.seen.len(), upstream.end);
        self.note(format_args!("upstream {place} reads {read}, writes {wrote}: {seen} seen, {end:?}"));
        Ok(())
    }

    /// Something happens to a connection that waits in the pool.
    fn disturb_idle(&mut self) {
        let idle: Vec<usize> = (0..self.upstreams.len())
            .filter(|&place| self.upstreams[place].is_idle() && !self.upstreams[place].seen.is_empty())
            .collect();
        let Some(&place) = self.choose(&idle) else { return };
        let what = self.rng.u32(..3);
        self.note(format_args!("upstream {place} is disturbed by {what}"));
        match what {
            0 => self.upstreams[place].blurt(),
            1 => self.upstreams[place].part(Parting::Reset),
            _ => self.upstreams[place].part(Parting::Close),
        }
    }

    /// Lets the clock go on, and the shard look at it if it is time.
    fn pass(&mut self, by_us: u64) -> Result<(), String> {
        // What has happened so far happened before.
        self.settle()?;
        self.clock.monotonic_us += by_us;
        self.clock.unix_us += by_us;
        manual::set(Some(self.clock));
        if self.is_busy {
            // An event has just been worked on, for as long.
            self.shard.clock.now();
        }
        self.note(format_args!("{} us pass", by_us));
        let now_ms = self.clock.monotonic_ms();
        for (dial, _) in self.held.extract_if(.., |(_, until_ms)| *until_ms <= now_ms) {
            dial.answer(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.clock.monotonic_us >= self.last_round_us + ROUND_US {
            self.last_round_us = self.clock.monotonic_us;
            let phase = self.rounds.look(&self.shard);
            if phase >= Phase::Draining {
                housekeeping::wind_up(&self.shard, phase);
            }
        }
        Ok(())
    }

    fn drain(&mut self) {
        self.note(format_args!("drain"));
        self.shard.lifecycle.advance(Phase::Draining);
        self.shard.draining.set(true);
        self.shard.pools.borrow_mut().clear(&self.shard);
    }

    /// Runs the shard until it has nothing to do, and writes down what it says.
    fn settle(&mut self) -> Result<(), String> {
        let mut polls = 0;
        loop {
            let news = readiness::pass_on(&self.shard, &mut self.news).map_err(|error| error.to_string())?;
            let mut may_be_more = news > 0;
            while self.runtime.ready() > 0 {
                let ready = self.runtime.ready();
                let nth = self.rng.usize(..ready);
                // None is left out because there are too many.
                self.shard.samples.refill();
                self.runtime.poll(nth);
                for dial in self.runtime.new_dials() {
                    self.dialled(dial);
                }
                polls += 1;
                if polls > POLLS_MAX {
                    return Err("the shard never comes to rest".into());
                }
                // The world does not wait for the shard to finish.
                if self.rng.u32(..100) == 0 {
                    self.meddle()?;
                    // It is heard of before time passes.
                    may_be_more = true;
                }
            }
            if !may_be_more {
                break;
            }
        }
        self.read_log();
        invariants::nothing_goes_unrecorded(self)?;
        self.read_samples()?;
        self.note_closes()?;
        self.turn += 1;
        Ok(())
    }

    /// Somebody moves while the shard is at work.
    fn meddle(&mut self) -> Result<(), String> {
        if self.rng.bool() && !self.clients.is_empty() {
            let place = self.rng.usize(..self.clients.len());
            self.move_client(place)?;
        } else if !self.upstreams.is_empty() {
            let place = self.rng.usize(..self.upstreams.len());
            match self.rng.u32(..4) {
                0 if self.upstreams[place].is_idle() => self.upstreams[place].part(Parting::Close),
                _ => self.move_upstream(place)?,
            }
        }
        Ok(())
    }

    fn dialled(&mut self, dial: Rc<Dial>) {
        let mood = self.moods[self.endpoint_at(dial.address)];
        match (mood, self.rng.u32(..10)) {
            (Mood::Away, 0..5) => {
                self.note(format_args!("{} refuses", dial.address));
                dial.answer(Err(io::ErrorKind::ConnectionRefused.into()));
            }
            (Mood::Away, 5..8) | (Mood::Troubled, 0..1) => {
                let until_ms = self.clock.monotonic_ms() + dial.timeout_ms;
                self.note(format_args!("{} lets wait until {until_ms}", dial.address));
                self.held.push((dial, until_ms));
            }
            _ => self.answer(&dial),
        }
    }

    fn answer(&mut self, dial: &Dial) {
        let (number, endpoint) = (self.upstreams.len(), self.endpoint_at(dial.address));
        self.note(format_args!("upstream {number} to endpoint {endpoint}"));
        let send_bytes = (self.rng.u32(..100) < 50).then_some(4_096);
        let (link, stream) = Link::pair(&self.runtime, send_bytes);
        let is_honest = self.has_recovered || self.moods[endpoint] != Mood::Troubled;
        let is_shadow = endpoint >= self.snapshot.clusters[0].endpoints.len();
        self.upstreams.push(Upstream::new(number, is_honest, is_shadow, link, &mut self.rng));
        dial.answer(Ok(stream));
    }

    fn endpoint_at(&self, address: SocketAddr) -> usize {
        let mut endpoints = self.snapshot.clusters.iter().flat_map(|cluster| &cluster.endpoints);
        endpoints.position(|endpoint| endpoint.address == address).expect("an endpoint of some cluster")
    }

    fn note_closes(&mut self) -> Result<(), String> {
        let (places, mut asked): (Vec<usize>, Vec<PollFd<'_>>) = self
            .clients
            .iter()
            .enumerate()
            .filter_map(|(place, client)| Some((place, client.hang_up()?)))
            .unzip();
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut asked, Some(&at_once)).map_err(|error| error.to_string())?;
        let closed: Vec<bool> = asked.iter().map(|asked| asked.revents().contains(PollFlags::HUP)).collect();
        for (place, _) in places.into_iter().zip(closed).filter(|(_, is_closed)| *is_closed) {
            self.clients[place].closed_us = Some(self.clock.monotonic_us);
        }
        Ok(())
    }

    fn read_log(&mut self) {
        let at = self.now();
        while let Some(packed) = self.log.receive() {
            let record = Record::unpack(packed).expect("what was packed");
            let IpAddr::V4(ip) = record.client_ip else { unreachable!("clients have IPv4 addresses") };
            let logged = Logged {
                at,
                client: (u32::from(ip) & 0xff_ffff) as usize,
                id: String::from_utf8_lossy(record.request_id).into_owned(),
                status: record.status,
                code: record.code,
                termination: record.termination,
                attempts: record.attempts,
                delivery: record.delivery,
                route: record.route,
                has_endpoint: record.endpoint.is_some(),
                duration_us: record.duration_us,
            };
            self.trace.note(format_args!("  logged {logged:?} {}", String::from_utf8_lossy(record.reason)));
            self.records.push(logged);
        }
    }

    /// What the shard tells of single exchanges is true: the steps that lie within one take as long as it does.
    fn read_samples(&mut self) -> Result<(), String> {
        while let Some(packed) = self.samples.receive() {
            let sample = Sample::unpack(packed).ok_or("a sample that cannot be read")?;
            let Some(steps_us) = sample.steps_us else { continue };
            let [_, within @ .., _] = steps_us;
            let [.., forward_us, respond_us, _] = steps_us;
            let id = String::from_utf8_lossy(sample.record.request_id).into_owned();
            // It has just ended, and the clock has stood still since.
            self.decided_us.insert(id, self.clock.monotonic_us - forward_us - respond_us);
            let (sum_us, duration_us) = (within.iter().sum::<u64>(), sample.record.duration_us);
            if sum_us != duration_us {
                return Err(format!("steps of {steps_us:?} in an exchange of {duration_us} us"));
            }
        }
        Ok(())
    }

    /// All peers do from now on what they should, and time stands still until there is nothing left to do.
    fn recover(&mut self) -> Result<(), String> {
        self.note(format_args!("recover"));
        self.has_recovered = true;
        self.moods = [Mood::Honest; 5];
        self.audit.recover();
        self.clients.iter_mut().for_each(Client::recover);
        self.upstreams.iter_mut().for_each(Upstream::recover);
        loop {
            let mut has_moved = self.audit.work();
            for (dial, _) in std::mem::take(&mut self.held) {
                self.answer(&dial);
                has_moved = true;
            }
            for place in 0..self.clients.len() {
                let now = self.now();
                has_moved |= self.clients[place].send(now) > 0;
                has_moved |= self.clients[place].read()?;
            }
            for upstream in &mut self.upstreams {
                has_moved |= upstream.read(&mut self.rng)?;
                has_moved |= upstream.write();
            }
            self.settle()?;
            if !has_moved {
                return Ok(());
            }
        }
    }

    /// Nobody does anything any more, and time passes beyond every deadline.
    fn fall_silent(&mut self) -> Result<(), String> {
        self.note(format_args!("silence"));
        for _ in 0..240 {
            self.pass(500_000)?;
            self.settle()?;
        }
        Ok(())
    }

    fn note(&mut self, what: fmt::Arguments<'_>) {
        let (turn, ms) = (self.turn, self.clock.monotonic_ms());
        self.trace.note(format_args!("{turn} at {ms} ms: {what}"));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.runtime.end();
        manual::set(None);
    }
}
