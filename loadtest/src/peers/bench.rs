//! One measurement: a peer freshly started, one shape of load, and what it used meanwhile.

use std::{sync::Arc, time::Duration};

use super::{
    contention::{Shares, Watch},
    peer::{Found, Job, Peer},
    shape::{IDLE_CONNECTIONS, Shape},
    start::{Cpus, Credentials, Running},
};
use crate::{
    exit::SetUp,
    generator::{self, Measured, Pace, Plan, Stop, schedule::Arrivals, tally::Latencies},
    process::Processes,
    share::Share,
    target::Target,
    workload::{
        Clients, Expected, Pick, Route, Workload,
        template::Template,
        token::{Tokens, push_broken},
    },
};

/// Clients that take turns, each with its own token.
pub(crate) const CLIENTS: u32 = 100;
/// Load before anything is measured: connections open, caches and pools fill.
const WARMUP: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Requests per second while idle connections are held, to see that the peer still serves.
const IDLE_RATE: f64 = 200.0;
/// Load before the memory without idle connections is read.
const SETTLE: Duration = Duration::from_millis(500);

/// What is the same for every measurement.
#[derive(Debug)]
pub(crate) struct Setting<'a> {
    pub(crate) job: Job,
    pub(crate) cpus: Cpus,
    pub(crate) length: Duration,
    /// Requests per second of an open loop; none is a closed one.
    pub(crate) rate: Option<f64>,
    pub(crate) secret: &'a str,
    pub(crate) tokens: Arc<Tokens>,
}

/// What one measurement found.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) requests: u64,
    pub(crate) measured: Duration,
    pub(crate) cpu: Duration,
    /// As much as the peer could take, or else a rate that was offered.
    pub(crate) closed_loop: bool,
    /// From the send in a closed loop, from the intended start where a rate was offered.
    pub(crate) latency: Latencies,
    pub(crate) resident_bytes: u64,
    /// Of [`Shape::Idle`]: the memory before the idle connections came.
    pub(crate) resident_before_bytes: Option<u64>,
    /// Requests without an answer, answers with a wrong status, and idle connections that the peer closed.
    pub(crate) errors: u64,
    /// The peer's CPU, warm-up included.
    pub(crate) shares: Shares,
    /// Answers that have no line in the access log.
    pub(crate) unlogged: u64,
}

/// Starts a peer, measures one shape and stops it; `None` when it was stopped early.
///
/// # Errors
/// Why the peer could not be measured.
pub(crate) fn measure(
    found: &Found,
    shape: Shape,
    setting: &Setting<'_>,
    stop: &Stop,
) -> Result<Option<Sample>, SetUp> {
    let minted = setting.tokens.newest();
    let text = |token: &[u8]| String::from_utf8_lossy(token).into_owned();
    let mut forged = Vec::new();
    push_broken(minted.token(0), &mut forged);
    let (good, forged, expired) = (text(minted.token(0)), text(&forged), setting.tokens.expired());
    let credentials = Credentials { secret: setting.secret, good: &good, forged: &forged, expired: &expired };
    let running = Running::start(found, setting.job, shape, credentials, setting.cpus)?;
    let ended = || {
        let words = running.peer.last_words();
        SetUp::new(format!("{} ended under load; its own words: {words}", found.peer.name()))
    };
    let processes = running.peer.processes().ok_or_else(ended)?;
    let plan = plan(shape, setting, &running, &processes)?;
    let watch = Watch::start(setting.cpus.peer, &processes).ok_or_else(ended)?;
    let (measured, resident, before) = if shape == Shape::Idle {
        let (measured, resident, before) = idle(&plan, &processes, stop)?;
        (measured, resident, Some(before))
    } else {
        let measured = generator::run(&plan, stop, &mut |_, _| {})?;
        (measured, None, None)
    };
    if measured.stopped_early {
        return Ok(None);
    }
    let usage = measured.target.ok_or_else(ended)?;
    let shares = watch.shares(&processes).ok_or_else(ended)?;
    let tally = &measured.total;
    let writes_log = setting.job == Job::Full && found.peer != Peer::Relay;
    let lines = running.stop_and_count_log().unwrap_or(0);
    Ok(Some(Sample {
        requests: tally.answered_in_time,
        measured: measured.measured,
        cpu: usage.cpu,
        closed_loop: setting.rate.is_none(),
        latency: if setting.rate.is_some() { tally.response.clone() } else { tally.service.clone() },
        resident_bytes: resident.unwrap_or(usage.resident_bytes),
        resident_before_bytes: before,
        errors: tally.failed() + tally.unexpected() + tally.idle_lost,
        shares,
        unlogged: if writes_log { tally.answered.saturating_sub(lines) } else { 0 },
    }))
}

/// Memory without idle connections, and then while they are held.
fn idle(plan: &Plan, processes: &Processes, stop: &Stop) -> Result<(Measured, Option<u64>, u64), SetUp> {
    let resident = || processes.sample().map(|sample| sample.resident_bytes());
    // As many requests as are answered in that time: what grows with traffic, such as the buffers of a log, is then grown.
    let without = Plan { idle: 0, pace: Pace::Closed, duration: SETTLE, ..plan.clone() };
    generator::run(&without, stop, &mut |_, _| {})?;
    let before = resident().ok_or_else(|| SetUp::new("the peer ended under load"))?;
    let mut held = None;
    // Read at each second's end, while the connections are certainly there.
    let measured = generator::run(plan, stop, &mut |_, _| held = held.or_else(resident))?;
    Ok((measured, held, before))
}

fn plan(
    shape: Shape,
    setting: &Setting<'_>,
    running: &Running,
    processes: &Processes,
) -> Result<Plan, SetUp> {
    let target = Target::resolve(&format!("http://{}/", running.address))?;
    let idle = shape == Shape::Idle;
    let body = shape.request_bytes().map(|bytes| Template::verbatim(vec![b'x'; bytes]));
    let path = Template::parse("/").map_err(|error| SetUp::new(error.clone()))?;
    let route = Route {
        name: shape.name().into(),
        weight: 1.0,
        method: if body.is_some() { "POST" } else { "GET" }.into(),
        path,
        fields: Vec::new(),
        body,
        idempotency_key: false,
        expected: Expected::OneOf(vec![200]),
    };
    let workload = Workload {
        authority: target.authority.clone(),
        routes: vec![route],
        clients: Clients {
            count: CLIENTS,
            pick: Pick::Rotation,
            tokens: Some(Arc::clone(&setting.tokens)),
            bad_token: Share::NONE,
        },
        close: shape == Shape::Close,
        errors_allowed: None,
    };
    Ok(Plan {
        target,
        workload: Arc::new(workload),
        pace: match setting.rate {
            _ if idle => Pace::Open { rate: IDLE_RATE, arrivals: Arrivals::Fixed },
            Some(rate) => Pace::Open { rate, arrivals: Arrivals::Poisson },
            None => Pace::Closed,
        },
        pauses: None,
        connections: shape.connections(),
        idle: if idle { IDLE_CONNECTIONS } else { 0 },
        threads: 1,
        cpus: Some(setting.cpus.load.into()),
        warmup: WARMUP,
        // Long enough for the end of a second, at which memory is read.
        duration: if idle { setting.length.max(Duration::from_millis(1_500)) } else { setting.length },
        timeout: TIMEOUT,
        in_flight_max: 65_536,
        spin: Duration::ZERO,
        seed: 1,
        processes: Some(processes.clone()),
        records_max: 0,
    })
}
