//! `loadtest attack`: what clients that mean harm cost those that do not.
//!
//! Honest load runs before, during and after an attack by many connections that behave badly in one way. The
//! report says what the honest ones noticed, when the target got rid of each offender, and what it held meanwhile.

mod crowd;
mod findings;
mod offender;

use std::{path::PathBuf, sync::atomic::Ordering, time::Duration};

use clap::Args;
use serde::Serialize;

use self::{
    crowd::Crowd,
    findings::{Calm, Findings, Memory},
    offender::Kind,
};
use crate::{
    exit::{SetUp, Verdict},
    generator,
    load::{self, LoadArgs},
    report::{
        self,
        environment::{Environment, command_line},
        json::{self, SCHEMA_VERSION},
        live::Live,
    },
    signals,
    target::Target,
};

/// Many badly behaved connections beside honest load.
#[derive(Debug, Args)]
pub(crate) struct AttackArgs {
    /// How the offenders behave.
    #[arg(value_enum)]
    kind: Kind,
    /// Where everybody's requests go: http://HOST:PORT/PATH.
    #[arg(long, value_name = "URL")]
    target: String,
    /// Where the offenders' requests go, on the same address; the honest ones' path when left out.
    #[arg(long, value_name = "PATH")]
    attack_path: Option<String>,
    /// A field of each offender's request, as "Name: value". Repeatable.
    #[arg(long, value_name = "K:V")]
    attack_header: Vec<String>,
    /// Offending connections at the same time.
    #[arg(short = 'n', long, default_value_t = 1000, value_name = "N")]
    offenders: usize,
    /// Between two bytes of a slow offender.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration, value_name = "D")]
    every: Duration,
    /// How long the attack lasts.
    #[arg(short = 'd', long, default_value = "20s", value_parser = humantime::parse_duration, value_name = "D")]
    duration: Duration,
    /// How long the honest load is watched before and after it.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration, value_name = "D")]
    calm: Duration,
    /// Honest requests per second.
    #[arg(short = 'r', long, default_value_t = 500.0, value_name = "N")]
    rate: f64,
    /// Write the report as JSON; - for standard output.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    load: LoadArgs,
}

/// The whole experiment.
#[derive(Debug, Serialize)]
struct AttackReport {
    schema_version: u32,
    target: String,
    command: String,
    environment: Environment,
    kind: Kind,
    offenders: usize,
    every_ms: u64,
    before: Calm,
    during: Calm,
    after: Calm,
    findings: Findings,
    /// Of the processes named by `--pid`.
    memory: Option<Memory>,
    stopped_early: bool,
}

/// Descriptors besides the offenders' and the honest connections'.
const OTHER_DESCRIPTORS: u64 = 128;

/// Attacks, and prints what came of it.
///
/// # Errors
/// When nothing could be measured.
pub(crate) fn run(args: &AttackArgs) -> Result<Verdict, SetUp> {
    let target = Target::resolve(&args.target)?;
    let mut plan = args.load.plan(target.clone(), Some(args.rate), args.calm)?;
    load::allow_descriptors((args.offenders + plan.connections + plan.idle) as u64 + OTHER_DESCRIPTORS)?;
    plan.target.probe(plan.timeout)?;
    let stop = signals::stop_flag()?;
    let mut live = Live::new();
    let mut honest = |phase: &str, plan: &generator::Plan| {
        live.next_run(phase, Some(args.rate));
        generator::run(plan, &stop, &mut |second, tally| live.second(second, tally)).map(|m| Calm::of(&m))
    };
    let memory = plan.processes.clone().map(Memory::watch);
    let before = honest("before", &plan)?;
    plan.duration = args.duration;
    let path = args.attack_path.as_deref().unwrap_or(&target.path);
    let crowd = Crowd::start(args.kind, &target, path, &args.attack_header, args.offenders, args.every)?;
    let during = honest("during the attack", &plan)?;
    let findings = crowd.finish();
    plan.duration = args.calm;
    let after = honest("after", &plan)?;
    drop(live);
    let report = AttackReport {
        schema_version: SCHEMA_VERSION,
        target: args.target.clone(),
        command: command_line(),
        environment: Environment::read(),
        kind: args.kind,
        offenders: args.offenders,
        every_ms: u64::try_from(args.every.as_millis()).unwrap_or(u64::MAX),
        before,
        during,
        after,
        findings,
        memory: memory.map(findings::Watch::finish),
        stopped_early: stop.load(Ordering::Relaxed),
    };
    if let Some(path) = &args.json {
        json::write(path, &report)?;
    }
    report::print(&text(&report), args.json.as_deref());
    Ok(Verdict::Fine)
}

fn text(report: &AttackReport) -> String {
    let mut text = format!(
        "{} by {} against {}\n",
        report.kind.name(),
        report::counted(report.offenders, "offender"),
        report.target
    );
    for (phase, calm) in [("before", &report.before), ("during", &report.during), ("after", &report.after)] {
        text.push_str(&format!("honest {phase:<7} {calm}\n"));
    }
    text.push_str(&report.findings.to_string());
    if let Some(memory) = &report.memory {
        text.push_str(&format!("{memory}\n"));
    }
    text
}
