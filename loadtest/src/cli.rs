//! The command line: what each command is for, and the exit codes.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand, error::ErrorKind};

use crate::{
    ab::{self, AbArgs},
    attack::{self, AttackArgs},
    exit::{SET_UP, SetUp, Verdict},
    find::{self, FindArgs},
    limits::{self, LimitsArgs},
    peers::{
        self, PeersArgs,
        launch::{self, LaunchArgs},
    },
    relay::{self, RelayArgs},
    run::{self, RunArgs},
    scenario::{self, ScenarioArgs},
    upstream::{self, UpstreamArgs},
};

/// A load generator that certifies its own timing.
///
/// Exit codes: 0 fine, 1 an assertion failed, 2 set-up error, 3 the generator itself was the bottleneck, so
/// the result is void.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One run: open loop at a rate, or closed for the maximum throughput.
    Run(Box<RunArgs>),
    /// The highest rate that meets objectives, decided on confidence intervals and confirmed.
    Find(Box<FindArgs>),
    /// Two targets in interleaved blocks: their ratios, with confidence intervals.
    Ab(Box<AbArgs>),
    /// Clients over their quota: proves from timestamps that no window held more.
    Limits(Box<LimitsArgs>),
    /// Many badly behaved connections beside honest load: who notices, and when they are cut.
    Attack(Box<AttackArgs>),
    /// A scripted endpoint to stand behind what is measured.
    Upstream(UpstreamArgs),
    /// Copies bytes to a target and back: the floor of what any proxy costs.
    Relay(RelayArgs),
    /// HAProxy, NGINX, Envoy, tollgate and the relay side by side on the same job.
    Peers(PeersArgs),
    /// Endpoints that are slow, broken, frozen, restarted, added or taken away: what clients notice.
    Scenario(ScenarioArgs),
    #[command(hide = true)]
    Launch(LaunchArgs),
}

/// Runs the command the process was started with.
pub(crate) fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(SET_UP) };
        }
    };
    match start(&command) {
        Ok(verdict) => verdict.into(),
        Err(error) => {
            let _ = writeln!(io::stderr(), "loadtest: {error}");
            ExitCode::from(SET_UP)
        }
    }
}

fn start(command: &Command) -> Result<Verdict, SetUp> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Find(args) => find::run(args),
        Command::Ab(args) => ab::run(args),
        Command::Limits(args) => limits::run(args),
        Command::Attack(args) => attack::run(args),
        Command::Upstream(args) => upstream::run(args).map(|()| Verdict::Fine),
        Command::Relay(args) => relay::run(args).map(|()| Verdict::Fine),
        Command::Peers(args) => peers::run(args),
        Command::Scenario(args) => scenario::run(args),
        Command::Launch(args) => launch::run(args).map(|()| Verdict::Fine),
    }
}
