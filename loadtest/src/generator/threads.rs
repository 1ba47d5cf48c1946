//! The coordinator: starts the threads, names the measured time, adds up their seconds, counts the target's CPU time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    Effort, Measured, Observer, Plan, Second, Stop,
    shard::{Outcome, Shard},
    tally::Tally,
};
use crate::{
    clock::{Clock, ns},
    exit::SetUp,
    process::{Sample, Usage},
};

/// Between the coordinator's decision to start and the first request.
const LEAD: Duration = Duration::from_millis(5);
/// How often the coordinator looks at the stop flag.
const LOOK: Duration = Duration::from_millis(50);
/// How often tokens are looked at for their age.
const REFRESH: Duration = Duration::from_secs(1);

/// What a thread tells the coordinator.
pub(super) enum Message {
    /// Its connections are open, or cannot be.
    Ready(Result<(), SetUp>),
    /// The nth second.
    Second { index: usize, tally: Box<Tally> },
}

/// The measured time, on the run's clock.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) start_ns: u64,
    /// Moves forward in time only: to the moment at which the run was stopped.
    pub(super) end_ns: AtomicU64,
}

/// Drives one run.
///
/// # Errors
/// When a thread cannot have its CPU or its ring, or no connection to the target can be opened.
pub(crate) fn run(plan: &Plan, stop: &Stop, observer: Observer<'_>) -> Result<Measured, SetUp> {
    if let Some(cpus) = &plan.cpus {
        cpus.confine().map_err(|error| SetUp::new(format!("cannot run on the CPUs of --cpus: {error}")))?;
    }
    let clock = Clock::start();
    let (messages, inbox) = mpsc::channel();
    let mut threads = Vec::with_capacity(plan.threads);
    let mut starts = Vec::with_capacity(plan.threads);
    for index in 0..plan.threads {
        let (start, started) = mpsc::channel();
        let (plan, messages, stop) = (plan.clone(), messages.clone(), Arc::clone(stop));
        threads.push(thread::spawn(move || drive(&plan, index, clock, &messages, &started, &stop)));
        starts.push(start);
    }
    drop(messages);
    await_ready(plan.threads, &inbox, &threads)?;

    let begin_ns = clock.now_ns() + ns(LEAD);
    let start_ns = begin_ns + ns(plan.warmup);
    let window = Arc::new(Window { start_ns, end_ns: AtomicU64::new(start_ns + ns(plan.duration)) });
    for start in &starts {
        // A thread that is gone is found when it is joined.
        let _ = start.send((begin_ns, Arc::clone(&window)));
    }
    let mut ledger = Ledger::new(plan, observer);
    let usage = coordinate(plan, clock, &window, stop, &inbox, &mut ledger);

    let end_ns = window.end_ns.load(Ordering::Relaxed);
    let measured = Duration::from_nanos(end_ns.saturating_sub(start_ns));
    let (total, seconds) = ledger.close(measured);
    let mut result = Measured {
        total,
        seconds,
        measured,
        stopped_early: measured < plan.duration,
        generator: Effort { threads: plan.threads, idle_share_min: 1.0, ..Effort::default() },
        target: usage,
        records: Vec::new(),
        records_lost: 0,
    };
    for thread in threads {
        let outcome = thread.join().map_err(|_| SetUp::new("a generator thread panicked"))??;
        result.generator.cpu_ns += outcome.cpu_ns;
        result.generator.spun_ns += outcome.spun_ns;
        result.generator.queued_ns += outcome.queued_ns;
        let occupied = (outcome.cpu_ns.saturating_sub(outcome.spun_ns) + outcome.queued_ns) as f64
            / (measured.as_nanos() as f64).max(1.0);
        result.generator.idle_share_min = result.generator.idle_share_min.min((1.0 - occupied).max(0.0));
        result.records.extend(outcome.records);
        result.records_lost += outcome.records_lost;
    }
    Ok(result)
}

fn drive(
    plan: &Plan,
    index: usize,
    clock: Clock,
    messages: &Sender<Message>,
    started: &Receiver<(u64, Arc<Window>)>,
    stop: &Stop,
) -> Result<Outcome, SetUp> {
    let ready = Shard::new(plan, index, clock, messages.clone()).and_then(|mut shard| {
        shard.open_connections(stop)?;
        Ok(shard)
    });
    match ready {
        Ok(shard) => {
            let _ = messages.send(Message::Ready(Ok(())));
            // No start comes when another thread could not be set up.
            let Ok((begin_ns, window)) = started.recv() else { return Ok(Outcome::default()) };
            shard.run(begin_ns, &window, stop)
        }
        Err(error) => {
            let _ = messages.send(Message::Ready(Err(error)));
            Ok(Outcome::default())
        }
    }
}

fn await_ready(
    threads: usize,
    inbox: &Receiver<Message>,
    running: &[JoinHandle<Result<Outcome, SetUp>>],
) -> Result<(), SetUp> {
    let mut ready = 0;
    while ready < threads {
        match inbox.recv_timeout(LOOK) {
            Ok(Message::Ready(result)) => {
                result?;
                ready += 1;
            }
            Ok(Message::Second { .. }) => {}
            Err(RecvTimeoutError::Timeout) => {
                if running.iter().any(JoinHandle::is_finished) {
                    return Err(SetUp::new("a generator thread ended before the run"));
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(SetUp::new("the generator threads ended before the run"));
            }
        }
    }
    Ok(())
}

/// Takes seconds until every thread has ended; what the target used over the measured time.
fn coordinate(
    plan: &Plan,
    clock: Clock,
    window: &Window,
    stop: &Stop,
    inbox: &Receiver<Message>,
    ledger: &mut Ledger<'_>,
) -> Option<Usage> {
    let sample = || plan.processes.as_ref().and_then(super::Processes::sample);
    let (mut first, mut last): (Option<Sample>, Option<Sample>) = (None, None);
    let (mut started, mut ended) = (false, false);
    let mut refresh_ns = clock.now_ns();
    loop {
        let now_ns = clock.now_ns();
        if stop.load(Ordering::Relaxed) {
            window.end_ns.fetch_min(now_ns.max(window.start_ns), Ordering::Relaxed);
        }
        let end_ns = window.end_ns.load(Ordering::Relaxed);
        if !started && now_ns >= window.start_ns {
            started = true;
            first = sample();
        }
        if !ended && now_ns >= end_ns {
            ended = true;
            last = sample();
        }
        if now_ns >= refresh_ns {
            refresh_ns = now_ns + ns(REFRESH);
            if let Some(tokens) = &plan.workload.clients.tokens {
                tokens.refresh();
            }
        }
        let event_ns = if started { end_ns } else { window.start_ns };
        let wait = if ended { LOOK } else { LOOK.min(Duration::from_nanos(event_ns.saturating_sub(now_ns))) };
        match inbox.recv_timeout(wait) {
            Ok(Message::Second { index, tally }) => {
                ledger.add(index, &tally, Duration::from_nanos(end_ns - window.start_ns));
            }
            Ok(Message::Ready(_)) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Some(last?.since(&first?))
}

/// Seconds as they come in, and the sum.
struct Ledger<'a> {
    threads: usize,
    routes: usize,
    total: Tally,
    /// Seconds that not every thread has reported, from number `seconds.len()` on.
    open: Vec<(usize, Tally)>,
    seconds: Vec<Second>,
    observer: Observer<'a>,
}

impl<'a> Ledger<'a> {
    fn new(plan: &Plan, observer: Observer<'a>) -> Self {
        let routes = plan.workload.routes.len();
        Self {
            threads: plan.threads,
            routes,
            total: Tally::new(routes),
            open: Vec::new(),
            seconds: Vec::new(),
            observer,
        }
    }

    fn add(&mut self, index: usize, tally: &Tally, measured: Duration) {
        self.total += tally;
        let Some(place) = index.checked_sub(self.seconds.len()) else { return };
        while self.open.len() <= place {
            self.open.push((0, Tally::new(self.routes)));
        }
        self.open[place].0 += 1;
        self.open[place].1 += tally;
        while self.open.first().is_some_and(|&(reported, _)| reported == self.threads) {
            self.finish_first(measured.as_secs_f64());
        }
    }

    fn finish_first(&mut self, whole_s: f64) {
        let (_, tally) = self.open.remove(0);
        let index = self.seconds.len() as f64;
        let until_s = (index + 1.0).min(whole_s.max(index));
        let second = second(&tally, until_s, until_s - index);
        (self.observer)(&second, &tally);
        self.seconds.push(second);
    }

    fn close(mut self, measured: Duration) -> (Tally, Vec<Second>) {
        while !self.open.is_empty() {
            self.finish_first(measured.as_secs_f64());
        }
        // Nothing after the end but answers that were awaited.
        if self
            .seconds
            .last()
            .is_some_and(|last| last.length_s <= 0.0 && last.answered + last.failed + last.missed == 0)
        {
            self.seconds.pop();
        }
        (self.total, self.seconds)
    }
}

fn second(tally: &Tally, until_s: f64, length_s: f64) -> Second {
    // A closed run has no intended times, so nothing but its service times.
    let latencies = if tally.response.histogram().is_empty() { &tally.service } else { &tally.response };
    let response = latencies.histogram();
    let at = |quantile: f64| response.value_at_quantile(quantile) as f64 / 1e3;
    Second {
        until_s,
        length_s: length_s.max(0.0),
        arrivals: tally.arrivals,
        answered: tally.answered,
        missed: tally.missed,
        failed: tally.failed(),
        unexpected: tally.unexpected(),
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: response.max() as f64 / 1e3,
    }
}
