//! `loadtest launch`, for `peers` only: becomes another program, kept on one CPU and ended with whoever started it.
//!
//! The death signal survives becoming the program, so that not even a killed `loadtest peers` leaves one behind.

use std::{ffi::OsString, os::unix::process::CommandExt, process::Command};

use clap::Args;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::{cpus, exit::SetUp};

/// What to become, and how.
#[derive(Debug, Args)]
pub(crate) struct LaunchArgs {
    /// The CPU to stay on.
    #[arg(long)]
    cpu: usize,
    /// Whoever started this; when it is gone already nothing is started.
    #[arg(long)]
    parent: i32,
    #[arg(required = true, last = true)]
    program: Vec<OsString>,
}

/// Becomes the program; returns only when that fails.
///
/// # Errors
/// When the CPU may not be used, the parent is gone, or the program cannot be started.
pub(crate) fn run(args: &LaunchArgs) -> Result<(), SetUp> {
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| SetUp::new(format!("cannot be ended with the parent: {error}")))?;
    if getppid().map(Pid::as_raw_nonzero).is_none_or(|parent| parent.get() != args.parent) {
        return Err(SetUp::new("the process that started this is gone"));
    }
    cpus::pin(args.cpu).map_err(|error| SetUp::new(format!("cannot run on CPU {}: {error}", args.cpu)))?;
    let error = Command::new(&args.program[0]).args(&args.program[1..]).exec();
    Err(SetUp::new(format!("cannot start {}: {error}", args.program[0].display())))
}
