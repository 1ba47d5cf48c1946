//! `loadtest scenario`: what clients notice of endpoints that are slow, broken, frozen, restarted, added or taken away.
//!
//! Each scenario states what it expects of a gateway before anything runs, drives load at a steady rate while its acts happen
//! to the endpoints, and says whether the expectation was met. NGINX and HAProxy take part where they can do the job;
//! only tollgate's result decides the exit code. What a scenario is stands in `script`, what runs in `world`, what
//! was found in `outcome`.

mod outcome;
mod script;
mod world;

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use serde::Serialize;

use self::{
    outcome::Outcome,
    script::Scenario,
    world::{Cpus, World},
};
use crate::{
    cpus,
    exit::{SetUp, Verdict},
    generator::{self, Pace, Plan, Stop, schedule::Arrivals},
    peers::peer::{Found, Job, Peer},
    report::{
        certify,
        environment::{Environment, command_line},
        json,
    },
    share::Share,
    signals,
    target::Target,
    workload::{Clients, Expected, Pick, Route, Workload, template::Template},
};

/// Load before anything is measured.
const WARMUP: Duration = Duration::from_secs(1);
/// How long a client waits: longer than a gateway waits for its endpoint, twice.
const TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 64;
/// Lag beyond this, at the 99th percentile, makes what is said of latencies void.
const LAG_MAX: Duration = Duration::from_millis(5);

/// Scenarios.
#[derive(Debug, Args)]
pub(crate) struct ScenarioArgs {
    /// Which one, or all.
    #[arg(value_name = "NAME", value_parser = names)]
    name: Chosen,
    /// The gateways; by default those that are found.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME")]
    gateway: Vec<Peer>,
    /// The measured time of each; acts are spread over it.
    #[arg(short = 'd', long, default_value = "8s", value_parser = humantime::parse_duration, value_name = "D")]
    duration: Duration,
    /// Requests per second, all of them GET.
    #[arg(short = 'r', long, default_value_t = 400.0, value_name = "N")]
    rate: f64,
    /// The CPU that each gateway has for itself.
    #[arg(long, default_value_t = 0, value_name = "CPU")]
    gateway_cpu: usize,
    /// The CPU of the load and of the endpoints.
    #[arg(long, default_value_t = 1, value_name = "CPU")]
    load_cpu: usize,
    /// The gateway to try; by default the one beside this program.
    #[arg(long, value_name = "PATH")]
    tollgate: Option<PathBuf>,
    /// Write the results as JSON; - for standard output, which then has no table.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
}

/// What was asked for by name.
#[derive(Debug, Clone)]
struct Chosen(Vec<Scenario>);

fn names(text: &str) -> Result<Chosen, String> {
    if text == "all" {
        return Ok(Chosen(Scenario::value_variants().to_vec()));
    }
    Scenario::from_str(text, false).map(|one| Chosen(vec![one])).map_err(|_| {
        let known: Vec<&str> = Scenario::value_variants().iter().map(|one| one.name()).collect();
        format!("there are: all, {}", known.join(", "))
    })
}

/// All that was found.
#[derive(Debug, Serialize)]
struct ScenarioReport {
    command: String,
    environment: Environment,
    rate: f64,
    seconds: f64,
    results: Vec<Finding>,
}

/// One scenario with one gateway.
#[derive(Debug, Serialize)]
struct Finding {
    scenario: &'static str,
    gateway: &'static str,
    version: String,
    expected: String,
    met: bool,
    result: String,
    #[serde(flatten)]
    outcome: Outcome,
}

/// Runs the scenarios and prints a line for each.
///
/// # Errors
/// When no gateway is there or one does not start.
pub(crate) fn run(args: &ScenarioArgs) -> Result<Verdict, SetUp> {
    if args.duration < Duration::from_secs(2) || !(args.rate >= 10.0 && args.rate <= 100_000.0) {
        return Err(SetUp::new("--duration wants at least 2 s, --rate 10 to 100000"));
    }
    let stop = signals::stop_flag()?;
    let found = find(args)?;
    cpus::pin(args.load_cpu).map_err(|error| SetUp::new(format!("--load-cpu {}: {error}", args.load_cpu)))?;
    let mut findings = Vec::new();
    for &scenario in &args.name.0 {
        note(&format!("{}: {}", scenario.name(), scenario.about()));
        note(&format!("  expected: {}", scenario.expected()));
        for found in found.iter().filter(|found| scenario.takes(found.peer)) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let finding = try_out(scenario, found, args, &stop)?;
            note(&format!("  {}", finding.line()));
            findings.push(finding);
        }
    }
    let verdict = verdict(&findings);
    let report = ScenarioReport {
        command: command_line(),
        environment: Environment::read(),
        rate: args.rate,
        seconds: args.duration.as_secs_f64(),
        results: findings,
    };
    if let Some(path) = &args.json {
        json::write(path, &report)?;
    }
    Ok(verdict)
}

/// tollgate's results decide: others are there to be compared with.
fn verdict(findings: &[Finding]) -> Verdict {
    let own = || findings.iter().filter(|finding| finding.gateway == Peer::Tollgate.name());
    if own().any(|finding| !finding.met && !finding.outcome.void) {
        Verdict::Failed
    } else if findings.is_empty() || own().any(|finding| finding.outcome.void) {
        Verdict::Void
    } else {
        Verdict::Fine
    }
}

fn find(args: &ScenarioArgs) -> Result<Vec<Found>, SetUp> {
    let known = [Peer::Tollgate, Peer::Nginx, Peer::Haproxy];
    if let Some(other) = args.gateway.iter().find(|peer| !known.contains(peer)) {
        return Err(SetUp::new(format!("--gateway {}: want tollgate, nginx or haproxy", other.name())));
    }
    let asked = |peer: &Peer| args.gateway.is_empty() || args.gateway.contains(peer);
    let mut found = Vec::new();
    for peer in known.into_iter().filter(asked) {
        let given = if peer == Peer::Tollgate { args.tollgate.as_deref() } else { None };
        match peer.find(given, Job::Plain) {
            Ok(one) => found.push(one),
            Err(why) if args.gateway.is_empty() && peer != Peer::Tollgate => {
                note(&format!("{}: {why}; to have it: {}", peer.name(), peer.install()));
            }
            Err(why) => return Err(SetUp::new(format!("{}: {why}; {}", peer.name(), peer.install()))),
        }
    }
    Ok(found)
}

fn try_out(scenario: Scenario, found: &Found, args: &ScenarioArgs, stop: &Stop) -> Result<Finding, SetUp> {
    let best = match scenario.best_possible() {
        None => None,
        Some(endpoints) => Some(measure(scenario, &endpoints, Vec::new(), found, args, stop)?),
    };
    let acts = scenario.acts(args.duration);
    let mut outcome = measure(scenario, &scenario.endpoints(), acts, found, args, stop)?;
    outcome.best_p99_ms = best.map(|best| best.p99_ms);
    let (met, result) = scenario.judge(&outcome);
    Ok(Finding {
        scenario: scenario.name(),
        gateway: found.peer.name(),
        version: found.version.clone(),
        expected: scenario.expected(),
        met,
        result,
        outcome,
    })
}

/// Starts everything, drives load while the acts happen, and sees what is left behind.
fn measure(
    scenario: Scenario,
    endpoints: &[script::EndpointScript],
    acts: Vec<(Duration, script::Act)>,
    found: &Found,
    args: &ScenarioArgs,
    stop: &Stop,
) -> Result<Outcome, SetUp> {
    let cpus = Cpus { gateway: args.gateway_cpu, load: args.load_cpu };
    let mut world = World::start(scenario, endpoints, found, cpus)?;
    let plan = plan(&world, args)?;
    let began = Instant::now();
    let measured = thread::scope(|scope| {
        // The acts stay on this thread: what it starts is ended with it, see `peers/launch`.
        let load = scope.spawn(|| generator::run(&plan, stop, &mut |_, _| {}));
        world.play(acts, began + WARMUP, stop)?;
        load.join().map_err(|_| SetUp::new("the load panicked"))?
    })?;
    let void = certify::fault(&plan, &measured, LAG_MAX).is_some() || measured.stopped_early;
    let left = world.left_in_flight();
    let answers = world.end();
    Ok(Outcome::new(&measured, scenario.slow_after(), void, left, answers))
}

fn plan(world: &World, args: &ScenarioArgs) -> Result<Plan, SetUp> {
    let target = Target::resolve(&format!("http://{}/", world.address))?;
    let route = Route {
        name: "all".into(),
        weight: 1.0,
        method: "GET".into(),
        path: Template::parse("/").map_err(|error| SetUp::new(error.clone()))?,
        fields: Vec::new(),
        body: None,
        idempotency_key: false,
        expected: Expected::OneOf(vec![200]),
    };
    let workload = Workload {
        authority: target.authority.clone(),
        routes: vec![route],
        clients: Clients { count: 1, pick: Pick::Rotation, tokens: None, bad_token: Share::NONE },
        close: false,
        errors_allowed: None,
    };
    Ok(Plan {
        target,
        workload: Arc::new(workload),
        pace: Pace::Open { rate: args.rate, arrivals: Arrivals::Poisson },
        pauses: None,
        connections: CONNECTIONS,
        idle: 0,
        threads: 1,
        cpus: Some(args.load_cpu.into()),
        warmup: WARMUP,
        duration: args.duration,
        timeout: TIMEOUT,
        in_flight_max: 65_536,
        spin: Duration::ZERO,
        seed: 1,
        processes: None,
        records_max: 0,
    })
}

impl Finding {
    fn line(&self) -> String {
        let Outcome { requests, failed, p50_ms, p99_ms, .. } = self.outcome;
        let word = match (self.outcome.void, self.met) {
            (true, _) => "void   ",
            (false, true) => "met    ",
            (false, false) => "NOT MET",
        };
        format!(
            "{:9}{word} {}; {requests} requests, {failed} failed, p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms",
            self.gateway, self.result
        )
    }
}

fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
