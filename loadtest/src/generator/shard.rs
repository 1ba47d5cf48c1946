//! One generator thread: its ring, its connections and its part of the schedule.
//!
//! This file is the loop and the arrivals; what becomes of a connection is decided in `exchange`. Every arrival
//! ends in exactly one of: an answer, a failure, or a counted miss.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, atomic::Ordering, mpsc::Sender},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use slab::Slab;

use super::{
    Pace, Plan, Record, Stop,
    connection::{Connection, Role, State},
    schedule::{Pauses, Schedule},
    tally::{Failure, Tally},
    threads::{Message, Window},
};
use crate::{
    clock::{Clock, ns},
    cpus,
    exit::SetUp,
    net::ring::Ring,
    workload::compose::Composer,
};

/// The longest wait, so that the stop flag is seen.
const WAIT_MAX: Duration = Duration::from_millis(50);
/// One second of the series.
const SECOND_NS: u64 = 1_000_000_000;
/// How long a stopped run waits for answers.
const STOPPED_DRAIN: Duration = Duration::from_secs(1);
/// Before a refused connection is tried again.
pub(super) const REOPEN: Duration = Duration::from_millis(50);
/// Connections of one thread that are being opened at once; a listen queue is not longer than this by much.
const OPENING_MAX: usize = 128;

/// What a thread leaves behind.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) cpu_ns: u64,
    pub(super) queued_ns: u64,
    /// Of the CPU time, what was spent waiting for the next event without sleeping.
    pub(super) spun_ns: u64,
    pub(super) records: Vec<Record>,
    pub(super) records_lost: u64,
}

/// A thread's whole state.
pub(super) struct Shard {
    pub(super) ring: Ring,
    pub(super) connections: Slab<Connection>,
    /// Connections without a request, the longest-rested first.
    pub(super) ready: VecDeque<usize>,
    /// Intended times without a connection, the oldest first.
    waiting: VecDeque<u64>,
    pub(super) composer: Composer,
    pub(super) tally: Tally,
    pub(super) clock: Clock,
    /// The last reading of the clock.
    pub(super) now_ns: u64,
    /// Requests without an answer, those of connections being opened included.
    pub(super) in_flight: usize,
    pub(super) opening: usize,
    /// Connections missing from the number wanted, not to be opened before `reopen_ns`.
    pub(super) to_open: usize,
    pub(super) to_open_idle: usize,
    pub(super) reopen_ns: u64,
    /// With a new connection for each request: how many more may be opened now.
    pub(super) vacant: usize,
    pub(super) last_error: Option<io::Error>,
    pub(super) plan: Plan,
    pub(super) outcome: Outcome,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    /// Until then no connection was free, so that no lateness before it is the generator's.
    excused_ns: u64,
    index: usize,
    schedule: Option<Schedule>,
    in_flight_max: usize,
    records_max: usize,
    messages: Sender<Message>,
}

impl Shard {
    /// # Errors
    /// When the thread cannot have its CPU or a ring.
    pub(super) fn new(
        plan: &Plan,
        index: usize,
        clock: Clock,
        messages: Sender<Message>,
    ) -> Result<Self, SetUp> {
        if let Some(cpu) = plan.cpus.as_ref().map(|cpus| cpus.cpu(index)) {
            cpus::pin(cpu).map_err(|error| SetUp::new(format!("cannot run on CPU {cpu}: {error}")))?;
        }
        let ring =
            Ring::new(Some(plan.target.address.into())).map_err(|error| SetUp::new(error.to_string()))?;
        let own = |whole: usize| whole / plan.threads + usize::from(index < whole % plan.threads);
        let connections = own(plan.connections);
        let close = plan.workload.close;
        Ok(Self {
            ring,
            connections: Slab::with_capacity(connections),
            ready: VecDeque::with_capacity(connections),
            waiting: VecDeque::new(),
            composer: Composer::new(Arc::clone(&plan.workload), seed(plan.seed, index), index, plan.threads),
            tally: Tally::new(plan.workload.routes.len()),
            clock,
            now_ns: clock.now_ns(),
            in_flight: 0,
            opening: 0,
            to_open: if close { 0 } else { connections },
            to_open_idle: own(plan.idle),
            reopen_ns: 0,
            vacant: if close { connections } else { 0 },
            last_error: None,
            plan: plan.clone(),
            outcome: Outcome::default(),
            // Nothing is measured until the window is known.
            start_ns: u64::MAX,
            end_ns: u64::MAX,
            excused_ns: 0,
            index,
            schedule: None,
            in_flight_max: own(plan.in_flight_max).max(connections),
            records_max: own(plan.records_max),
            messages,
        })
    }

    /// Opens all connections, and sends the idle ones' request.
    ///
    /// # Errors
    /// When none can be opened, or not all within the timeout.
    pub(super) fn open_connections(&mut self, stop: &Stop) -> Result<(), SetUp> {
        // Every batch of connections may take its whole timeout.
        let batches = 1 + (self.to_open + self.to_open_idle) / OPENING_MAX;
        let deadline_ns = self.clock.now_ns() + ns(self.plan.timeout) * batches as u64;
        while self.to_open + self.to_open_idle + self.opening + self.in_flight > 0
            && !stop.load(Ordering::Relaxed)
        {
            self.now_ns = self.clock.now_ns();
            if self.now_ns > deadline_ns {
                let missing = self.to_open + self.to_open_idle + self.opening + self.in_flight;
                let why = self
                    .last_error
                    .take()
                    .map_or_else(|| "no answer in time".into(), |error| error.to_string());
                return Err(SetUp::new(format!(
                    "{missing} of a thread's connections to {} ({}) could not be opened: {why}",
                    self.plan.target, self.plan.target.address
                )));
            }
            self.reopen();
            self.turn(WAIT_MAX.min(Duration::from_millis(10)))?;
            self.sweep();
        }
        Ok(())
    }

    /// Drives the load, waits for what is outstanding, and gives back what it cost.
    ///
    /// # Errors
    /// When the ring fails.
    pub(super) fn run(mut self, begin_ns: u64, window: &Window, stop: &Stop) -> Result<Outcome, SetUp> {
        self.start_ns = window.start_ns;
        self.end_ns = window.end_ns.load(Ordering::Relaxed);
        let seed = seed(self.plan.seed, self.index) ^ 0x5eed;
        if let Pace::Open { rate, arrivals } = self.plan.pace {
            let schedule = Schedule::new(arrivals, rate, self.index, self.plan.threads, begin_ns, seed);
            self.schedule = Some(match self.plan.pauses {
                Some(longest) => schedule.with_pauses(Pauses::new(longest, self.plan.seed)),
                None => schedule,
            });
        }
        let mut second = 0;
        let mut sweep_ns = 0;
        let sweep_every_ns = ns(self.plan.timeout / 100).clamp(1_000_000, 100_000_000);
        let mut effort: Option<(u64, u64)> = None;
        let mut ended = false;
        self.await_begin(begin_ns)?;
        self.now_ns = self.clock.now_ns();
        self.begin_closed();
        loop {
            if self.schedule.is_some() {
                self.now_ns = self.clock.now_ns();
            }
            self.end_ns = window.end_ns.load(Ordering::Relaxed);
            self.arrive();
            let now_ns = self.now_ns;
            if effort.is_none() && now_ns >= self.start_ns {
                effort = Some(spent());
            }
            let second_end_ns =
                self.start_ns.saturating_add((second as u64 + 1) * SECOND_NS).min(self.end_ns);
            if now_ns >= second_end_ns && !ended {
                self.report(second);
                second += 1;
                self.composer.refresh();
            }
            if now_ns >= sweep_ns {
                self.sweep();
                sweep_ns = now_ns + sweep_every_ns;
            }
            self.reopen();
            if now_ns >= self.end_ns || stop.load(Ordering::Relaxed) {
                if !ended {
                    ended = true;
                    let (cpu_ns, queued_ns) = spent();
                    let (cpu_before, queued_before) = effort.unwrap_or((cpu_ns, queued_ns));
                    self.outcome.cpu_ns = cpu_ns - cpu_before;
                    self.outcome.queued_ns = queued_ns.saturating_sub(queued_before);
                    self.give_up_waiting();
                }
                let patience = if stop.load(Ordering::Relaxed) { STOPPED_DRAIN } else { self.plan.timeout };
                // A sweep finds every timeout before this.
                if self.in_flight == 0 || now_ns > self.end_ns + ns(patience) + 2 * sweep_every_ns {
                    break;
                }
            }
            let next_ns =
                if ended { u64::MAX } else { self.next_arrival_ns().min(second_end_ns) }.min(sweep_ns);
            self.turn(WAIT_MAX.min(Duration::from_nanos(next_ns.saturating_sub(now_ns))))?;
        }
        self.abandon();
        self.report(second);
        Ok(self.outcome)
    }

    /// Whether something that was intended (in a closed run: sent) at a time belongs to the measurement.
    pub(super) fn measures(&self, intended_ns: u64) -> bool {
        (self.start_ns..self.end_ns).contains(&intended_ns)
    }

    /// A connection can take a request: the oldest that waits, or in a closed run the next.
    ///
    /// The `key` is a ready connection's, or `None` where each request has a new one.
    pub(super) fn take_next(&mut self, key: Option<usize>) {
        let closed = self.plan.pace == Pace::Closed;
        if closed && self.now_ns < self.end_ns && self.start_ns != u64::MAX {
            // Intended now, not when it is sent: that may be after the end, and what is sent is to be counted.
            self.begin(key, self.now_ns);
            return;
        }
        match self.waiting.pop_front() {
            Some(intended_ns) => {
                let waited_ns = self.begin(key, intended_ns).saturating_sub(intended_ns);
                if self.measures(intended_ns) {
                    self.tally.late += 1;
                    self.tally.waiting.record(waited_ns);
                }
            }
            None => match key {
                Some(key) => self.ready.push_back(key),
                None => self.vacant += 1,
            },
        }
    }

    /// Keeps the record of an answer that has just been read, within the bound.
    pub(super) fn keep(&mut self, client: u32, status: u16, sent_ns: u64) {
        if self.outcome.records.len() < self.records_max {
            // Not when the ring was looked at: the answer may have come after that, and a proof must not err.
            let answered_ns = self.clock.now_ns();
            self.outcome.records.push(Record { client, status, sent_ns, answered_ns });
        } else if self.records_max > 0 {
            self.outcome.records_lost += 1;
        }
    }

    /// Sends a request, or opens the connection for it; when that began.
    fn begin(&mut self, key: Option<usize>, intended_ns: u64) -> u64 {
        self.in_flight += 1;
        match key {
            Some(key) => self.send(key, Some(intended_ns)),
            None => {
                self.now_ns = self.clock.now_ns();
                self.open(Role::Load, Some(intended_ns));
            }
        }
        self.now_ns
    }

    /// Acts on every arrival that is due.
    pub(super) fn arrive(&mut self) {
        while let Some(intended_ns) = self.schedule.as_ref().map(Schedule::next_ns) {
            if intended_ns > self.now_ns || intended_ns >= self.end_ns {
                return;
            }
            if let Some(schedule) = &mut self.schedule {
                schedule.advance();
            }
            let acted_ns = if let Some(key) = self.ready.pop_front() {
                self.begin(Some(key), intended_ns)
            } else if self.vacant > 0 {
                self.vacant -= 1;
                self.begin(None, intended_ns)
            } else {
                self.waiting.push_back(intended_ns);
                self.now_ns
            };
            if self.measures(intended_ns) {
                self.tally.arrivals += 1;
                self.tally.lag.record(acted_ns.saturating_sub(intended_ns.max(self.excused_ns)));
            }
            while self.in_flight + self.waiting.len() > self.in_flight_max {
                let Some(oldest_ns) = self.waiting.pop_front() else { break };
                self.miss(oldest_ns, self.now_ns);
            }
        }
    }

    /// When the next arrival can be acted on: not before a connection is free, which the ring will tell.
    fn next_arrival_ns(&self) -> u64 {
        if self.any_free() { self.schedule.as_ref().map_or(u64::MAX, Schedule::next_ns) } else { u64::MAX }
    }

    fn any_free(&self) -> bool {
        !self.ready.is_empty() || self.vacant > 0
    }

    /// The first request of each connection of a closed run.
    fn begin_closed(&mut self) {
        if self.plan.pace != Pace::Closed {
            return;
        }
        for key in std::mem::take(&mut self.ready) {
            self.take_next(Some(key));
        }
        for _ in 0..std::mem::take(&mut self.vacant) {
            self.take_next(None);
        }
    }

    /// At the end, what still waits for a connection is missed.
    fn give_up_waiting(&mut self) {
        for intended_ns in std::mem::take(&mut self.waiting) {
            self.miss(intended_ns, self.end_ns.max(intended_ns));
        }
        self.schedule = None;
    }

    fn miss(&mut self, intended_ns: u64, now_ns: u64) {
        if self.measures(intended_ns) {
            self.tally.missed += 1;
            self.tally.waiting.record(now_ns - intended_ns);
            self.tally.response.record(now_ns - intended_ns);
        }
    }

    /// What has no answer when the thread ends is a failure, with the time it waited.
    fn abandon(&mut self) {
        let unanswered: Vec<u64> = self
            .connections
            .iter()
            .filter_map(|(_, connection)| match connection.state {
                State::Busy(outstanding) if connection.role == Role::Load => Some(outstanding.intended_ns),
                State::Connecting { intended_ns, .. } => intended_ns,
                _ => None,
            })
            .collect();
        for intended_ns in unanswered {
            if self.measures(intended_ns) {
                self.tally.fail(Failure::Unfinished);
                self.tally.response.record(self.now_ns - intended_ns);
            }
        }
    }

    /// Opens the connections that are missing.
    fn reopen(&mut self) {
        if self.to_open + self.to_open_idle == 0 || self.now_ns < self.reopen_ns {
            return;
        }
        while self.to_open > 0 && self.opening < OPENING_MAX {
            self.to_open -= 1;
            if self.plan.workload.close {
                self.take_next(None);
            } else {
                self.open(Role::Load, None);
            }
            if self.now_ns < self.reopen_ns {
                return;
            }
        }
        while self.to_open_idle > 0
            && self.opening + self.in_flight < OPENING_MAX
            && self.start_ns == u64::MAX
        {
            self.to_open_idle -= 1;
            self.open(Role::Idle, None);
            if self.now_ns < self.reopen_ns {
                return;
            }
        }
    }

    /// Waits for the agreed beginning, with the ring still served.
    fn await_begin(&mut self, begin_ns: u64) -> Result<(), SetUp> {
        loop {
            let now_ns = self.clock.now_ns();
            if now_ns >= begin_ns {
                return Ok(());
            }
            self.turn(Duration::from_nanos(begin_ns - now_ns))?;
        }
    }

    /// Waits for the ring and deals with what it has, looking at the schedule in between.
    fn turn(&mut self, wait: Duration) -> Result<(), SetUp> {
        // The last stretch before an event is spent looking instead of sleeping, where that is asked for.
        let sleep = wait.saturating_sub(self.plan.spin);
        let any_free = self.any_free();
        self.ring.wait(sleep).map_err(|error| SetUp::new(format!("the generator's ring failed: {error}")))?;
        let before_ns = self.now_ns;
        self.now_ns = self.clock.now_ns();
        let looked_ns = self.now_ns;
        if !any_free {
            self.excused_ns = looked_ns;
        }
        let mut any = false;
        while let Some(completion) = self.ring.completion() {
            any = true;
            self.complete(completion, looked_ns);
            self.arrive();
        }
        if self.measures(looked_ns) {
            if any {
                self.tally.turn.record(self.now_ns - looked_ns);
            } else if sleep.is_zero() && !wait.is_zero() {
                self.outcome.spun_ns += looked_ns - before_ns;
            }
        }
        Ok(())
    }

    fn report(&mut self, index: usize) {
        let tally = std::mem::replace(&mut self.tally, Tally::new(self.plan.workload.routes.len()));
        // The coordinator outlives its threads.
        let _ = self.messages.send(Message::Second { index, tally: Box::new(tally) });
    }
}

/// Different for every thread, the same for every run.
fn seed(seed: u64, index: usize) -> u64 {
    seed.wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The thread's CPU time, and its time in the queue for a CPU (0 where the kernel does not count it).
fn spent() -> (u64, u64) {
    let cpu = clock_gettime(ClockId::ThreadCPUTime);
    let cpu_ns = cpu.tv_sec as u64 * SECOND_NS + cpu.tv_nsec as u64;
    let queued_ns = std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split_ascii_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0);
    (cpu_ns, queued_ns)
}
