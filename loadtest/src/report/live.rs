//! One line on the terminal, renewed every second while a run goes on; nothing where standard error is no terminal.

use std::io::{self, IsTerminal, Write};

use super::summary::latency;
use crate::{
    clock::Clock,
    generator::{Second, tally::Tally},
};

/// The live line of one run or of a series of runs.
pub(crate) struct Live {
    shown: bool,
    /// Before the figures: which of several runs this is.
    label: String,
    rate: Option<f64>,
    drawn: bool,
    clock: Clock,
}

impl Live {
    /// A line for runs whose standard error is a terminal.
    pub(crate) fn new() -> Self {
        Self {
            shown: io::stderr().is_terminal(),
            label: String::new(),
            rate: None,
            drawn: false,
            clock: Clock::start(),
        }
    }

    /// What the next run is, and the rate it asks for.
    pub(crate) fn next_run(&mut self, label: impl Into<String>, rate: Option<f64>) {
        self.label = label.into();
        self.rate = rate;
        self.draw(&format!("{} …", self.label));
    }

    /// Shows one second.
    pub(crate) fn second(&mut self, second: &Second, tally: &Tally) {
        if !self.shown || second.length_s <= 0.0 {
            return;
        }
        let asked = self.rate.map_or_else(String::new, |rate| format!(" of {rate:.0}"));
        let errors = second.failed + second.unexpected + second.missed;
        let line = format!(
            "{} {:>4.0} s  {:.0}{asked}/s  p50 {}  p99 {}  p99.9 {}  errors {errors}",
            self.label,
            second.until_s,
            tally.answered_in_time as f64 / second.length_s,
            latency(second.p50_us),
            latency(second.p99_us),
            latency(second.p999_us),
        );
        self.draw(&line);
    }

    fn draw(&mut self, line: &str) {
        if self.shown {
            self.drawn = true;
            // A spinner's worth of change even where the figures stand still.
            let mark = ["|", "/", "-", "\\"][(self.clock.now_ns() / 1_000_000_000 % 4) as usize];
            let _ = write!(io::stderr(), "\r\x1b[K{mark} {line}");
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.drawn {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
