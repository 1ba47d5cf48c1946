//! `loadtest limits`: drives clients over their quota, and says what their answers' timestamps prove.
//!
//! This file drives the load and sorts the answers; what can be said of a window is decided in `proof`, worded in `report`.

mod proof;
mod quota;
mod report;

use std::{path::PathBuf, time::Duration};

use self::{proof::Stretch, quota::Quota, report::LimitsReport};
use crate::{
    exit::{SetUp, Verdict},
    generator::{self, Plan, Record},
    load::LoadArgs,
    report::{json, live::Live, print},
    share::Share,
    signals,
    target::Target,
};
use clap::Args;

/// Answers that are kept: 24 bytes each.
const RECORDS_MAX: usize = 40_000_000;

/// Clients over their quota.
#[derive(Debug, Args)]
pub(crate) struct LimitsArgs {
    /// Where requests go: http://HOST:PORT/PATH.
    #[arg(long, value_name = "URL")]
    target: String,
    /// The quota of each client, such as "100/second;1000 per 5 minutes".
    #[arg(long, value_name = "QUOTA")]
    quota: Quota,
    /// Requests per second of all clients, while there is load; by default --over times what the quota allows at most.
    #[arg(short = 'r', long, value_name = "N")]
    rate: Option<f64>,
    /// How many times the quota's rate each client asks for.
    #[arg(long, default_value_t = 2.0, value_name = "FACTOR", conflicts_with = "rate")]
    over: f64,
    /// The time of the load; better several of the quota's windows.
    #[arg(short = 'd', long, default_value = "10s", value_parser = humantime::parse_duration, value_name = "D")]
    duration: Duration,
    /// Load without pauses. By default it comes in bursts, which find limiters that count by the clock's seconds.
    #[arg(long)]
    steady: bool,
    /// The status of a refusal. 2xx and 3xx are admissions; of other answers it is unknown whether they count.
    #[arg(long, default_value_t = 429, value_name = "STATUS")]
    refused: u16,
    /// The least share of what an exact limiter would have granted that every client must be granted.
    #[arg(long, default_value = "90%", value_name = "SHARE")]
    granted_min: Share,
    /// Windows are shortened by this before a violation is claimed, for limiters whose clock is coarse.
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration, value_name = "D")]
    slack: Duration,
    /// Write the report as JSON; - for standard output.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    load: LoadArgs,
}

/// One client's answers, in order of sending.
#[derive(Debug, Default)]
struct Client {
    number: u32,
    admitted: Vec<Stretch>,
    refused: Vec<Stretch>,
    unclear: Vec<Stretch>,
}

/// Drives the load, prints what it proves.
///
/// # Errors
/// When nothing could be measured.
pub(crate) fn run(args: &LimitsArgs) -> Result<Verdict, SetUp> {
    let plan = plan(args)?;
    plan.target.probe(plan.timeout)?;
    let stop = signals::stop_flag()?;
    let mut live = Live::new();
    live.next_run("limits", None);
    let mut measured = generator::run(&plan, &stop, &mut |second, tally| live.second(second, tally))?;
    drop(live);
    let clients = by_client(std::mem::take(&mut measured.records), args.refused);
    let report = LimitsReport::new(args, &plan, &measured, &clients);
    if let Some(path) = &args.json {
        json::write(path, &report)?;
    }
    print(&report.text(), args.json.as_deref());
    Ok(match (report.failures.is_empty(), report.void) {
        (false, _) => Verdict::Failed,
        (true, true) => Verdict::Void,
        (true, false) => Verdict::Fine,
    })
}

fn plan(args: &LimitsArgs) -> Result<Plan, SetUp> {
    if !(args.over.is_finite() && args.over > 1.0) {
        return Err(SetUp::new(
            "--over must be more than 1: clients that stay within their quota prove nothing",
        ));
    }
    if args.slack >= args.quota.shortest() {
        return Err(SetUp::new("--slack must be less than the quota's shortest window"));
    }
    let rate =
        args.rate.unwrap_or_else(|| args.over * args.quota.rate_max() * f64::from(args.load.clients()));
    let mut plan = args.load.plan(Target::resolve(&args.target)?, Some(rate), args.duration)?;
    if plan.idle > 0 || plan.workload.clients.bad_token.value() > 0.0 {
        return Err(SetUp::new(
            "--idle and --bad-token have no place here: their requests belong to no client's count",
        ));
    }
    let seconds = (plan.warmup + plan.duration).as_secs_f64();
    // Poisson arrivals vary, and each thread has its own part of the bound.
    let records = rate * seconds * 1.1 + (1_000 * plan.threads) as f64;
    if records > RECORDS_MAX as f64 {
        return Err(SetUp::new(format!(
            "{records:.0} answers would have to be kept, and {RECORDS_MAX} are; ask for a shorter or slower run"
        )));
    }
    plan.records_max = records as usize;
    // What came before the measured time counts too: the target counted it.
    plan.duration += std::mem::take(&mut plan.warmup);
    if !args.steady {
        plan.pauses = Some(args.quota.shortest());
    }
    Ok(plan)
}

fn by_client(mut records: Vec<Record>, refused: u16) -> Vec<Client> {
    records.sort_unstable_by_key(|record| (record.client, record.sent_ns));
    records
        .chunk_by(|one, other| one.client == other.client)
        .map(|records| {
            let mut client = Client { number: records[0].client, ..Client::default() };
            for &Record { status, sent_ns, answered_ns, .. } in records {
                let stretch = Stretch { sent_ns, answered_ns };
                match status {
                    _ if status == refused => client.refused.push(stretch),
                    200..400 => client.admitted.push(stretch),
                    _ => client.unclear.push(stretch),
                }
            }
            client
        })
        .collect()
}

impl Client {
    /// When requests were sent, refused ones included.
    fn sent(&self) -> Vec<u64> {
        let all = self.admitted.iter().chain(&self.refused).chain(&self.unclear);
        let mut sent: Vec<u64> = all.map(|stretch| stretch.sent_ns).collect();
        sent.sort_unstable();
        sent
    }

    /// The most that one of its windows can have held.
    fn possible(&self, length_ns: u64) -> u64 {
        let either = || self.admitted.iter().chain(&self.unclear);
        let mut sent: Vec<u64> = either().map(|stretch| stretch.sent_ns).collect();
        let mut answered: Vec<u64> = either().map(|stretch| stretch.answered_ns).collect();
        sent.sort_unstable();
        answered.sort_unstable();
        proof::possible(&sent, &answered, length_ns)
    }
}
