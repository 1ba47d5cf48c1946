//! `loadtest run`: one run, its report and its verdict.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    exit::{SetUp, Verdict},
    generator::{self, Measured, Pace, Plan},
    load::LoadArgs,
    report::{
        self, certify, html,
        json::{self, RunReport},
        live::Live,
        summary::Summary,
    },
    signals,
    target::Target,
};

/// One run.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Where requests go: http://HOST:PORT/PATH.
    #[arg(long, value_name = "URL")]
    target: String,
    /// Requests per second, started on schedule whatever happened to the ones before (open loop).
    #[arg(
        short = 'r',
        long,
        value_name = "N",
        required_unless_present = "closed",
        conflicts_with = "closed"
    )]
    rate: Option<f64>,
    /// Send as fast as answers come: the maximum throughput (closed loop).
    #[arg(long)]
    closed: bool,
    /// The measured time.
    #[arg(short = 'd', long, default_value = "10s", value_parser = humantime::parse_duration, value_name = "D")]
    duration: Duration,
    /// Write the report as JSON; - for standard output.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as one HTML page that needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    load: LoadArgs,
}

/// Runs, prints the summary and writes the reports.
///
/// # Errors
/// When nothing could be measured.
pub(crate) fn run(args: &RunArgs) -> Result<Verdict, SetUp> {
    let target = Target::resolve(&args.target)?;
    let plan = args.load.plan(target, args.rate, args.duration)?;
    plan.target.probe(plan.timeout)?;
    let stop = signals::stop_flag()?;
    let mut live = Live::new();
    live.next_run("run", args.rate);
    let measured = generator::run(&plan, &stop, &mut |second, tally| live.second(second, tally))?;
    drop(live);
    let report = RunReport::new(&plan, &measured, certify::fault(&plan, &measured, args.load.max_lag));
    if let Some(path) = &args.json {
        json::write(path, &report)?;
    }
    let failures = failures(&plan, &measured);
    if let Some(path) = &args.html {
        html::write(path, &report, &measured, &failures)?;
    }
    let mut text = Summary(&report).to_string();
    for failure in &failures {
        text.push_str(&format!("FAILED: {failure}\n"));
    }
    report::print(&text, args.json.as_deref());
    Ok(match (failures.is_empty(), report.void) {
        (false, _) => Verdict::Failed,
        (true, true) => Verdict::Void,
        (true, false) => Verdict::Fine,
    })
}

/// The assertions that do not hold, in words. They are sound even where timings are void.
pub(crate) fn failures(plan: &Plan, measured: &Measured) -> Vec<String> {
    let tally = &measured.total;
    let mut failures = Vec::new();
    if tally.bad_tokens.accepted > 0 {
        failures.push(format!(
            "{} requests with a broken signature were answered 2xx",
            tally.bad_tokens.accepted
        ));
    }
    if let Some(allowed) = plan.workload.errors_allowed {
        let share = tally.unexpected() as f64 / tally.answered.max(1) as f64;
        if share > allowed.value() {
            failures.push(format!(
                "{} of {} answers had an unexpected status, of which {:.3} % are allowed",
                tally.unexpected(),
                tally.answered,
                allowed.value() * 100.0
            ));
        }
    }
    let asked = if plan.pace == Pace::Closed { tally.sent } else { tally.arrivals };
    if tally.answered == 0 && asked > 0 {
        failures.push(format!("none of {asked} requests was answered"));
    }
    failures
}
