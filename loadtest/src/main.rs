//! The `loadtest` command: reads the command line and runs one of its commands.
//!
//! Shares no code with the gateway, so that it cannot share its bugs.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::main()
}
