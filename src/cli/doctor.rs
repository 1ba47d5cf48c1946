//! `tollgate doctor`: what the machine may do to a gateway, and what to do about it.

use std::{
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    control::{
        admin_client::{self, Errand},
        config::{
            self, Plan, environment,
            plan::{DriverChoice, LogSink},
        },
        listening::BACKLOG,
    },
    shard,
    tuning::{
        doctor::{
            self, Needs, Report, Runtime, Scene, State,
            live::{self, Interval, Sample, Told},
        },
        root::Root,
    },
};

use super::{Failure, Running};

/// Something will fail under load, or costs speed.
const WARNED: u8 = 1;
/// Something fails already.
const FAILED: u8 = 2;

/// The configuration that is assumed where none is given: every default.
const DEFAULTS: &str = "[[cluster]]\nname = \"any\"\nendpoints = [{ address = \"127.0.0.1:9001\" }]\n\
                        [[route]]\nname = \"all\"\npath = \"/\"\ncluster = \"any\"\n";

#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Hold the machine against this configuration; when left out, against one of defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Also see for a while what happens under the traffic there is.
    #[arg(long)]
    live: bool,
    /// How long --live takes.
    #[arg(long, value_name = "N", default_value_t = 10, requires = "live", value_parser = clap::value_parser!(u16).range(1..=3600))]
    seconds: u16,
    #[command(flatten)]
    gateway: Running,
    /// Where the machine's /sys and /proc are; another one's copy may be looked at.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

pub(super) fn run(asked: &Doctor) -> Result<(), Failure> {
    let plan = match &asked.config {
        Some(path) => config::load(path, &environment)?,
        None => config::parse(Path::new("tollgate.toml"), DEFAULTS, &environment)?,
    };
    let needs = needs(&plan);
    let root = Root::at(&asked.root);
    // Whether rings are allowed is a question to this machine, not to a copy of another one's files.
    let ring = root.is_system().then(|| {
        shard::best_ring().map(|rung| rung.to_string()).map_err(|error: io::Error| error.to_string())
    });
    let mut reports = doctor::examine(&Scene::new(&root, &needs, ring));
    if asked.live {
        reports.extend(live::examine(&watch(&root, asked)?));
    }
    show(&reports, asked.json);
    let worst = reports.iter().map(|report| report.state).max().unwrap_or(State::Ok);
    let bad = |code: u8| Err(Failure { code, message: String::new() });
    match worst {
        State::Fail => bad(FAILED),
        State::Warn => bad(WARNED),
        State::Ok | State::Unknown | State::Notice => Ok(()),
    }
}

/// What `plan` needs of the machine.
fn needs(plan: &Plan) -> Needs {
    Needs {
        pinning: plan.pinning.clone(),
        runtime: match plan.driver {
            DriverChoice::Auto => Runtime::Best,
            DriverChoice::IoUring => Runtime::Ring,
            DriverChoice::Epoll => Runtime::Epoll,
        },
        connections: plan.bounds.connections,
        in_flight: plan.bounds.in_flight,
        backlog: BACKLOG.unsigned_abs(),
        ports: plan.listen.iter().chain(&plan.proxied).map(std::net::SocketAddr::port).collect(),
        clusters: plan
            .clusters
            .iter()
            .map(|cluster| (cluster.name.clone(), cluster.idle_connections as u64))
            .collect(),
        tokens: !plan.key_sets.is_empty(),
        log: match &plan.log.sink {
            LogSink::File(path) => std::path::absolute(path).ok(),
            LogSink::Off | LogSink::Stdout | LogSink::Syslog(_) => None,
        },
    }
}

/// The counters before and after the time that was asked for.
fn watch(root: &Root, asked: &Doctor) -> Result<Interval, Failure> {
    let token = asked.gateway.token()?;
    let status = || admin_client::ask(&asked.gateway.admin, token.as_deref(), Errand::Status).ok();
    let pid = status().and_then(|status| status["pid"].as_u64());
    let seconds = u64::from(asked.seconds);
    let before = Sample::take(root, pid);
    eprintln!("watching for {seconds} s …");
    let end = Instant::now() + Duration::from_secs(seconds);
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
    let after = Sample::take(root, pid);
    let status = status().unwrap_or_default();
    let list = |key: &str| status[key].as_array().cloned().unwrap_or_default();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let connections = list("shards").iter().filter_map(|shard| shard["connections"].as_u64()).collect();
    let steering = list("accept_steering")
        .iter()
        .map(|steered| (word(&steered["address"]), word(&steered["by"]), word(&steered["why"])))
        .collect();
    Ok(Interval { before, after, seconds, told: Told { connections, steering } })
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn show(reports: &[Report], as_json: bool) {
    if as_json {
        println!("{:#}", json!({ "checks": reports }));
        return;
    }
    for report in reports {
        println!("{:<8}{:<18}{}", report.state.name(), report.id, report.found);
        if let Some(remedy) = &report.remedy {
            println!("{:<8}why:    {}", "", report.why);
            println!("{:<8}do:     {remedy}", "");
            if let Some(command) = &report.tune {
                println!("{:<8}        {command}", "");
            }
            println!("{:<8}effect: {}", "", report.effect);
        }
    }
    let count = |state: State| reports.iter().filter(|report| report.state == state).count();
    println!(
        "{} checks: {} fail, {} warn, {} notice, {} unknown; each is explained in tuning/HANDBOOK.md",
        reports.len(),
        count(State::Fail),
        count(State::Warn),
        count(State::Notice),
        count(State::Unknown)
    );
}
