//! `loadtest find`: the highest rate that meets its objectives, decided on confidence intervals and confirmed.
//!
//! Each probe is an open-loop run; it goes on until its intervals decide, within a bound. What stays undecided
//! counts as not met.

mod search;
mod slo;

use std::{
    cmp::Ordering,
    io::{self, Write},
    path::PathBuf,
    sync::atomic,
    time::Duration,
};

use clap::Args;
use serde::Serialize;

use self::{
    search::{Found, Next, Probe, Search},
    slo::{Decision, Finding, Samples, Slo},
};
use crate::{
    exit::{SetUp, Verdict},
    generator::{self, Pace, Plan, Stop, tally::Tally},
    load::LoadArgs,
    report::{
        self, certify,
        environment::{Environment, command_line},
        json::{self, Distribution, SCHEMA_VERSION},
        live::Live,
        summary::latency,
    },
    run,
    share::Share,
    signals,
    target::Target,
};

/// A target that answers less than this share of the asked rate does not sustain it, whatever its percentiles.
const SUSTAINED: f64 = 0.98;

/// The highest rate that meets objectives.
#[derive(Debug, Args)]
pub(crate) struct FindArgs {
    /// Where requests go: http://HOST:PORT/PATH.
    #[arg(long, value_name = "URL")]
    target: String,
    /// What must be met, such as "p99<2ms,errors<0.1%"; latencies are response times from the intended start.
    #[arg(long, value_name = "SLO")]
    slo: Slo,
    /// The first rate.
    #[arg(long, default_value_t = 1000.0, value_name = "N")]
    start_rate: f64,
    /// No rate above this is tried.
    #[arg(long, default_value_t = 1e7, value_name = "N")]
    max_rate: f64,
    /// How close to the first failing rate the result is to be.
    #[arg(long, default_value = "5%", value_name = "SHARE")]
    precision: Share,
    /// The measured time of a probe; up to four times as much where that does not decide.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration, value_name = "D")]
    probe: Duration,
    /// The measured time of the confirming run.
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration, value_name = "D")]
    confirm: Duration,
    /// Write the report as JSON; - for standard output.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    load: LoadArgs,
}

/// The whole search.
#[derive(Debug, Serialize)]
struct FindReport {
    schema_version: u32,
    target: String,
    command: String,
    environment: Environment,
    slo: String,
    found: Found,
    stopped_early: bool,
    probes: Vec<ProbeReport>,
}

/// One probe.
#[derive(Debug, Serialize)]
struct ProbeReport {
    rate: f64,
    confirming: bool,
    met: bool,
    void_reason: Option<String>,
    rate_achieved: f64,
    duration_s: f64,
    response_us: Distribution,
    cpu_us_per_request: Option<f64>,
    findings: Vec<Finding>,
    /// Assertions that do not hold (`--expect`, `--bad-token`); with any, the rate is not met.
    failures: Vec<String>,
}

/// How many times a probe's time is measured before what is undecided counts as not met.
const PARTS_MAX: usize = 4;

// Looking at an interval up to four times makes a wrong decision a little likelier than its 5 %; the confirming run
// is there for that.

/// Searches, prints each probe and the result.
///
/// # Errors
/// When nothing could be measured.
pub(crate) fn run(args: &FindArgs) -> Result<Verdict, SetUp> {
    if !(args.start_rate > 0.0 && args.max_rate >= 1.0) || args.precision.value() < 0.001 {
        return Err(SetUp::new(
            "--start-rate and --max-rate must be more than 0, --precision at least 0.1 %",
        ));
    }
    let target = Target::resolve(&args.target)?;
    let mut plan = args.load.plan(target, Some(args.start_rate), args.probe)?;
    plan.target.probe(plan.timeout)?;
    let stop = signals::stop_flag()?;

    let mut search = Search::new(args.start_rate, 1.0, args.max_rate, args.precision.value());
    let mut next = search.start();
    let mut probes = Vec::new();
    let mut out = io::stderr();
    let found = loop {
        let (rate, confirming) = match next {
            Next::Probe { rate } => (rate, false),
            Next::Confirm { rate } => (rate, true),
            Next::Done(found) => break found,
        };
        plan.duration = if confirming { args.confirm } else { args.probe };
        let report = probe(args, &mut plan, rate, confirming, &stop)?;
        let _ = writeln!(out, "{}", line(&report));
        let result = match (&report.void_reason, report.met) {
            (Some(_), _) => Probe::Void,
            (None, true) => Probe::Met,
            (None, false) => Probe::NotMet,
        };
        probes.push(report);
        // The probe that was cut short decides nothing.
        if stop.load(atomic::Ordering::Relaxed) {
            break Found { rate: None, generator_limited: false, at_maximum: false };
        }
        next = search.take(result);
    };
    let report = FindReport {
        schema_version: SCHEMA_VERSION,
        target: args.target.clone(),
        command: command_line(),
        environment: Environment::read(),
        slo: args.slo.to_string(),
        found,
        stopped_early: stop.load(atomic::Ordering::Relaxed),
        probes,
    };
    if let Some(path) = &args.json {
        json::write(path, &report)?;
    }
    report::print(&conclusion(&report), args.json.as_deref());
    Ok(match found {
        Found { generator_limited: true, .. } => Verdict::Void,
        Found { rate: None, .. } => Verdict::Failed,
        Found { .. } => Verdict::Fine,
    })
}

/// Measures one rate until it is decided.
fn probe(
    args: &FindArgs,
    plan: &mut Plan,
    rate: f64,
    confirming: bool,
    stop: &Stop,
) -> Result<ProbeReport, SetUp> {
    plan.pace = match plan.pace {
        Pace::Open { arrivals, .. } => Pace::Open { rate, arrivals },
        Pace::Closed => return Err(SetUp::new("a search needs an open loop")),
    };
    let mut live = Live::new();
    let mut samples = Samples::default();
    let mut total = Tally::new(plan.workload.routes.len());
    let (mut duration_s, mut cpu_s) = (0.0, Some(0.0));
    let mut void_reason = None;
    let mut sustained = true;
    let mut failures = Vec::new();
    for part in 0..PARTS_MAX {
        live.next_run(format!("{rate:.0}/s{}", if confirming { " confirming" } else { "" }), Some(rate));
        let measured = generator::run(plan, stop, &mut |second, tally| {
            args.slo.sample(tally, &mut samples);
            live.second(second, tally);
        })?;
        total += &measured.total;
        let seconds = measured.measured.as_secs_f64();
        duration_s += seconds;
        cpu_s = cpu_s.zip(measured.target).map(|(sum, usage)| sum + usage.cpu.as_secs_f64());
        sustained &= measured.total.answered_in_time as f64 >= SUSTAINED * rate * seconds;
        failures.extend(run::failures(plan, &measured));
        void_reason = certify::fault(plan, &measured, args.load.max_lag);
        // A void part may be a neighbour's doing: it is measured again, from the start.
        if void_reason.is_some() && part + 1 < PARTS_MAX && !stop.load(atomic::Ordering::Relaxed) {
            samples = Samples::default();
            total = Tally::new(plan.workload.routes.len());
            (duration_s, cpu_s, sustained) = (0.0, Some(0.0), true);
            continue;
        }
        let undecided =
            args.slo.judge(&samples).iter().any(|finding| finding.decision == Decision::Undecided);
        if !undecided || !sustained || !failures.is_empty() || stop.load(atomic::Ordering::Relaxed) {
            break;
        }
    }
    let findings = args.slo.judge(&samples);
    let met =
        sustained && failures.is_empty() && findings.iter().all(|finding| finding.decision == Decision::Met);
    let answers = total.answered_in_time.max(1) as f64;
    Ok(ProbeReport {
        rate,
        confirming,
        met,
        void_reason,
        rate_achieved: if duration_s > 0.0 { total.answered_in_time as f64 / duration_s } else { 0.0 },
        duration_s,
        response_us: Distribution::new(&total.response),
        cpu_us_per_request: cpu_s.map(|cpu_s| cpu_s * 1e6 / answers),
        findings,
        failures,
    })
}

fn line(probe: &ProbeReport) -> String {
    let verdict = match (&probe.void_reason, probe.met) {
        (Some(_), _) => "void",
        (None, true) => "met",
        (None, false) => "not met",
    };
    let findings: Vec<String> = probe
        .findings
        .iter()
        .map(|finding| {
            format!(
                "{}: {:.3} % [{:.3}, {:.3}] of {:.3} % allowed",
                finding.objective,
                finding.share * 100.0,
                finding.interval.low * 100.0,
                finding.interval.high * 100.0,
                finding.allowed * 100.0
            )
        })
        .collect();
    let cost =
        probe.cpu_us_per_request.map_or_else(String::new, |cost| format!(", {cost:.2} CPU µs per request"));
    let mut text = format!(
        "{:>10.1}/s {} {verdict:<7} achieved {:.1}/s in {:.0} s, p50 {}, p99 {}{cost}; {}",
        probe.rate,
        if probe.confirming { "confirm" } else { "probe  " },
        probe.rate_achieved,
        probe.duration_s,
        latency(probe.response_us.p50),
        latency(probe.response_us.p99),
        findings.join("; ")
    );
    for reason in probe.void_reason.iter().chain(&probe.failures) {
        text.push_str(&format!("\n             {reason}"));
    }
    text
}

/// What was found, and the run that says so.
fn conclusion(report: &FindReport) -> String {
    let FindReport { found, slo, .. } = report;
    let rate = found.rate.map(|rate| format!("{rate:.1}/s"));
    let first = match (rate, found) {
        _ if report.stopped_early => "stopped before a rate was confirmed".into(),
        (Some(rate), Found { generator_limited: true, .. }) => {
            format!(
                "VOID as a maximum: {slo} holds at {rate}, and beyond that the generator was the bottleneck"
            )
        }
        (Some(rate), Found { at_maximum: true, .. }) => format!("{slo} holds at {rate}, which is --max-rate"),
        (Some(rate), _) => format!("{slo} holds up to {rate}, confirmed"),
        (None, Found { generator_limited: true, .. }) => {
            "VOID: the generator was the bottleneck at every rate that was tried".into()
        }
        (None, _) => format!("no rate was confirmed to meet {slo}"),
    };
    let best = report.probes.iter().filter(|probe| probe.met && probe.void_reason.is_none());
    match best.max_by(|one, other| {
        (one.confirming, one.rate).partial_cmp(&(other.confirming, other.rate)).unwrap_or(Ordering::Equal)
    }) {
        Some(best) => format!("{first}\n{}\n", line(best)),
        None => format!("{first}\n"),
    }
}
