//! How a command ends: the exit codes, and the error of a run that could not be set up.

use std::{fmt, process::ExitCode};

/// What a command found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everything asserted held.
    Fine,
    /// An assertion failed.
    Failed,
    /// The generator itself was the bottleneck.
    Void,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        Self::from(match verdict {
            Verdict::Fine => 0,
            Verdict::Failed => 1,
            Verdict::Void => 3,
        })
    }
}

/// The exit code of a [`SetUp`] error.
pub(crate) const SET_UP: u8 = 2;

/// Why nothing was measured: wrong usage, a target that refuses, a file that cannot be read.
#[derive(Debug)]
pub(crate) struct SetUp(String);

impl SetUp {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for SetUp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}
