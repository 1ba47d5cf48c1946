//! The command line: what each command is for, and the exit codes.

use std::process::ExitCode;

use clap::{Parser, error::ErrorKind};

/// A set-up error: wrong usage, a target that refuses, a file that cannot be read.
const SET_UP: u8 = 2;

/// A load generator that certifies its own timing.
///
/// Exit codes: 0 fine, 1 an assertion failed, 2 set-up error, 3 the generator itself was the bottleneck, so
/// the result is void.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version)]
struct Cli {}

/// Runs the command the process was started with.
pub(crate) fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(Cli {}) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            if asked { ExitCode::SUCCESS } else { ExitCode::from(SET_UP) }
        }
    }
}
