//! `loadtest ab`: two targets in interleaved blocks, their ratios with confidence intervals, and an honest verdict.
//!
//! Blocks come in pairs, one of each target in random order, so that what drifts on the machine drifts for both.

use std::{path::PathBuf, sync::atomic::Ordering, time::Duration};

use clap::Args;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::Serialize;

use crate::{
    exit::{SetUp, Verdict},
    generator::{self, Plan, Stop},
    load::LoadArgs,
    process::Processes,
    report::{
        self, certify,
        environment::{Environment, command_line},
        json::{self, RunReport, SCHEMA_VERSION},
        live::Live,
        summary::latency,
    },
    run, signals,
    statistics::{self, Interval},
    target::Target,
};

/// Fewer valid pairs say nothing: of five, all five favour the same one of two equals in 1 of 16 cases.
const PAIRS_MIN: usize = 6;
const PAIRS_MAX: usize = 10_000;

/// Two targets, compared.
#[derive(Debug, Args)]
pub(crate) struct AbArgs {
    /// One target.
    #[arg(long, value_name = "URL")]
    a: String,
    /// The other.
    #[arg(long, value_name = "URL")]
    b: String,
    /// Requests per second in each block; without it blocks are closed runs.
    #[arg(short = 'r', long, value_name = "N")]
    rate: Option<f64>,
    /// Pairs of blocks.
    #[arg(long, default_value_t = 10, value_name = "N")]
    pairs: usize,
    /// The measured time of a block.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration, value_name = "D")]
    block: Duration,
    /// Processes of A, whose CPU time is compared with B's.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pid_a: Vec<u32>,
    /// Processes of B.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pid_b: Vec<u32>,
    /// Write the report as JSON; - for standard output.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    load: LoadArgs,
}

/// The whole comparison.
#[derive(Debug, Serialize)]
struct AbReport {
    schema_version: u32,
    void: bool,
    a: String,
    b: String,
    command: String,
    environment: Environment,
    stopped_early: bool,
    pairs: Vec<Pair>,
    comparisons: Vec<Comparison>,
    /// Processes were named, and used too little time for a comparison.
    cpu_unknown: bool,
}

/// Two blocks made one after the other.
#[derive(Debug, Serialize)]
struct Pair {
    a_first: bool,
    a: Block,
    b: Block,
}

/// One block's figures.
#[derive(Debug, Clone, Serialize)]
struct Block {
    void_reason: Option<String>,
    rate_achieved: f64,
    p50_us: f64,
    p99_us: f64,
    error_share: f64,
    cpu_us_per_request: Option<f64>,
    /// Assertions that do not hold (`--expect`, `--bad-token`).
    failures: Vec<String>,
}

/// One figure compared over all valid pairs.
#[derive(Debug, Serialize)]
struct Comparison {
    figure: Figure,
    /// Geometric means over pairs; times in microseconds.
    a: f64,
    b: f64,
    /// B over A.
    ratio: f64,
    interval: Interval,
    /// The interval does not hold 1.
    significant: bool,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Figure {
    AnswersPerSecond,
    P50Us,
    P99Us,
    CpuUsPerRequest,
}

/// Compares, prints the ratios.
///
/// # Errors
/// When nothing could be measured.
pub(crate) fn run(args: &AbArgs) -> Result<Verdict, SetUp> {
    if args.pairs < PAIRS_MIN || args.pairs > PAIRS_MAX {
        return Err(SetUp::new(format!("--pairs wants {PAIRS_MIN} to {PAIRS_MAX}")));
    }
    let plan = |url: &str, pids: &[u32]| -> Result<Plan, SetUp> {
        let mut plan = args.load.plan(Target::resolve(url)?, args.rate, args.block)?;
        plan.target.probe(plan.timeout)?;
        plan.processes = Processes::new(pids)?.or(plan.processes);
        Ok(plan)
    };
    let (plan_a, plan_b) = (plan(&args.a, &args.pid_a)?, plan(&args.b, &args.pid_b)?);
    let stop = signals::stop_flag()?;
    let mut random = StdRng::seed_from_u64(plan_a.seed);
    let mut pairs = Vec::with_capacity(args.pairs);
    while pairs.len() < args.pairs && !stop.load(Ordering::Relaxed) {
        let a_first: bool = random.random();
        let label = |name: &str| format!("pair {} of {}, {name}", pairs.len() + 1, args.pairs);
        let (a, b) = if a_first {
            let a = block(args, &plan_a, &label("A"), &stop)?;
            (a, block(args, &plan_b, &label("B"), &stop)?)
        } else {
            let b = block(args, &plan_b, &label("B"), &stop)?;
            (block(args, &plan_a, &label("A"), &stop)?, b)
        };
        // A block cut short is not one.
        if !stop.load(Ordering::Relaxed) {
            pairs.push(Pair { a_first, a, b });
        }
    }
    let report = AbReport::new(args, pairs, plan_a.seed, stop.load(Ordering::Relaxed));
    if let Some(path) = &args.json {
        json::write(path, &report)?;
    }
    report::print(&report.text(args.rate.is_some()), args.json.as_deref());
    Ok(match (report.failures().next(), report.void) {
        (Some(_), _) => Verdict::Failed,
        (None, true) => Verdict::Void,
        (None, false) => Verdict::Fine,
    })
}

fn block(args: &AbArgs, plan: &Plan, label: &str, stop: &Stop) -> Result<Block, SetUp> {
    let mut live = Live::new();
    live.next_run(label, args.rate);
    let measured = generator::run(plan, stop, &mut |second, tally| live.second(second, tally))?;
    let report = RunReport::new(plan, &measured, certify::fault(plan, &measured, args.load.max_lag));
    Ok(Block {
        void_reason: report.void_reason,
        rate_achieved: report.rate_achieved,
        p50_us: report.response_us.p50,
        p99_us: report.response_us.p99,
        error_share: report.error_share,
        cpu_us_per_request: report.cpu_us_per_request,
        failures: run::failures(plan, &measured),
    })
}

impl AbReport {
    fn new(args: &AbArgs, pairs: Vec<Pair>, seed: u64, stopped_early: bool) -> Self {
        let valid: Vec<&Pair> = pairs
            .iter()
            .filter(|pair| pair.a.void_reason.is_none() && pair.b.void_reason.is_none())
            .collect();
        let comparisons: Vec<Comparison> =
            [Figure::AnswersPerSecond, Figure::P50Us, Figure::P99Us, Figure::CpuUsPerRequest]
                .into_iter()
                .filter_map(|figure| Comparison::new(figure, &valid, seed))
                .collect();
        let named =
            pairs.iter().flat_map(|pair| [&pair.a, &pair.b]).any(|block| block.cpu_us_per_request.is_some());
        let compared = comparisons.iter().any(|comparison| comparison.figure == Figure::CpuUsPerRequest);
        Self {
            schema_version: SCHEMA_VERSION,
            void: valid.len() < PAIRS_MIN,
            a: args.a.clone(),
            b: args.b.clone(),
            command: command_line(),
            environment: Environment::read(),
            stopped_early,
            comparisons,
            cpu_unknown: named && !compared,
            pairs,
        }
    }

    /// The assertions that do not hold, with their target's letter.
    fn failures(&self) -> impl Iterator<Item = String> + '_ {
        self.pairs.iter().flat_map(|pair| [("A", &pair.a), ("B", &pair.b)]).flat_map(|(name, block)| {
            block.failures.iter().map(move |failure| format!("FAILED: {name}: {failure}"))
        })
    }

    fn text(&self, open: bool) -> String {
        let blocks = || self.pairs.iter().flat_map(|pair| [&pair.a, &pair.b]);
        let voids = blocks().filter(|block| block.void_reason.is_some()).count();
        let mut text = match voids {
            _ if self.void => format!(
                "VOID: fewer than {PAIRS_MIN} valid pairs of blocks; {voids} of {} blocks were limited by the generator: {}\n",
                2 * self.pairs.len(),
                blocks()
                    .find_map(|block| block.void_reason.as_deref())
                    .unwrap_or("the comparison was stopped")
            ),
            0 => format!("valid: {} pairs of blocks\n", self.pairs.len()),
            _ => format!(
                "valid: {} pairs of blocks, those with the {voids} void blocks left out\n",
                self.pairs.len()
            ),
        };
        text.push_str(&format!("  A {}\n  B {}\n", self.a, self.b));
        for comparison in &self.comparisons {
            text.push_str(&comparison.line(open));
        }
        if self.cpu_unknown {
            text.push_str("  CPU µs per request: a target used too little to compare (the kernel counts in steps of 10 ms); make blocks longer\n");
        }
        let share = |of: &dyn Fn(&Pair) -> f64| {
            100.0 * self.pairs.iter().map(of).sum::<f64>() / self.pairs.len().max(1) as f64
        };
        text.push_str(&format!(
            "  errors: A {:.3} %, B {:.3} %\n",
            share(&|pair| pair.a.error_share),
            share(&|pair| pair.b.error_share)
        ));
        // One of each kind says what is wrong.
        let failures: Vec<String> = self.failures().take(2).collect();
        for failure in failures {
            text.push_str(&format!("{failure}\n"));
        }
        text
    }
}

impl Comparison {
    fn new(figure: Figure, pairs: &[&Pair], seed: u64) -> Option<Self> {
        let values: Option<Vec<(f64, f64)>> =
            pairs.iter().map(|pair| Some((figure.of(&pair.a)?, figure.of(&pair.b)?))).collect();
        let values = values?;
        let (ratio, interval) = statistics::ratio(&values, seed)?;
        let mean = |logs: f64| (logs / values.len() as f64).exp();
        Some(Self {
            figure,
            a: mean(values.iter().map(|(a, _)| a.ln()).sum()),
            b: mean(values.iter().map(|(_, b)| b.ln()).sum()),
            ratio,
            interval,
            significant: interval.low > 1.0 || interval.high < 1.0,
        })
    }

    fn line(&self, open: bool) -> String {
        let Self { figure, a, b, ratio, interval, significant } = self;
        let verdict = if *significant {
            format!(
                "B is {:.1} % {}",
                (ratio - 1.0).abs() * 100.0,
                if *ratio > 1.0 { "higher" } else { "lower" }
            )
        } else {
            "no significant difference".to_owned()
        };
        format!(
            "  {:<19} A {:>8}  B {:>8}  B/A {ratio:.3} [{:.3}, {:.3}]  {verdict}\n",
            figure.name(open),
            figure.value(*a),
            figure.value(*b),
            interval.low,
            interval.high
        )
    }
}

impl Figure {
    fn of(self, block: &Block) -> Option<f64> {
        match self {
            Self::AnswersPerSecond => Some(block.rate_achieved),
            Self::P50Us => Some(block.p50_us),
            Self::P99Us => Some(block.p99_us),
            Self::CpuUsPerRequest => block.cpu_us_per_request,
        }
    }

    fn name(self, open: bool) -> &'static str {
        match (self, open) {
            (Self::AnswersPerSecond, _) => "answers/s",
            (Self::P50Us, true) => "response time p50",
            (Self::P50Us, false) => "service time p50",
            (Self::P99Us, true) => "response time p99",
            (Self::P99Us, false) => "service time p99",
            (Self::CpuUsPerRequest, _) => "CPU per request",
        }
    }

    fn value(self, value: f64) -> String {
        match self {
            Self::AnswersPerSecond => format!("{value:.1}"),
            Self::P50Us | Self::P99Us | Self::CpuUsPerRequest => latency(value),
        }
    }
}
