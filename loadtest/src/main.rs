//! The `loadtest` command: reads the command line and runs one of its commands.
//!
//! Shares no code with the gateway, so that it cannot share its bugs.

use std::process::ExitCode;

mod ab;
mod attack;
mod cli;
mod clock;
mod cpus;
mod exit;
mod find;
mod generator;
mod http;
mod limits;
mod load;
mod net;
mod peers;
mod process;
mod relay;
mod report;
mod run;
mod scenario;
mod share;
mod signals;
mod statistics;
mod target;
mod upstream;
mod workload;

fn main() -> ExitCode {
    cli::main()
}
