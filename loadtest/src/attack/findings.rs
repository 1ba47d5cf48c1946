//! What came of an attack: for the honest, for the offenders, and in the target's memory.

use std::{
    collections::BTreeMap,
    fmt,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    generator::Measured,
    process::Processes,
    report::{json::Distribution, summary::latency},
};

/// How the honest load went in one phase.
#[derive(Debug, Serialize)]
pub(crate) struct Calm {
    pub(crate) arrivals: u64,
    pub(crate) answered: u64,
    /// Requests without an answer, and answers that were not asked for.
    pub(crate) failed: u64,
    /// From the intended start.
    pub(crate) response_us: Distribution,
    /// How late the generator itself was, which shares its CPUs with the offenders.
    pub(crate) lag_us: Distribution,
}

impl Calm {
    pub(crate) fn of(measured: &Measured) -> Self {
        let total = &measured.total;
        Self {
            arrivals: total.arrivals,
            answered: total.answered,
            failed: total.failed() + total.unexpected(),
            response_us: Distribution::new(&total.response),
            lag_us: Distribution::new(&total.lag),
        }
    }
}

impl fmt::Display for Calm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "p50 {}, p99 {}, max {} (generator's own lag: p99 {}); {} of {} answered, {} failed",
            latency(self.response_us.p50),
            latency(self.response_us.p99),
            latency(self.response_us.max),
            latency(self.lag_us.p99),
            self.answered,
            self.arrivals,
            self.failed
        )
    }
}

/// What happened to the offenders.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Findings {
    /// Connections made.
    pub(crate) connected: u64,
    /// Connections that were refused, or not made in time.
    pub(crate) unconnected: u64,
    /// Offenders that the target closed.
    pub(crate) cut: u64,
    /// Offenders that were still connected when the attack ended.
    pub(crate) left: u64,
    /// Answers by the status of the first one on a connection.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// From the connection to the first byte of an answer.
    pub(crate) answered_after: Times,
    /// From the connection to its end by the target.
    pub(crate) cut_after: Times,
}

impl fmt::Display for Findings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "offenders      {} connected, {} could not; {} cut, {} left at the end",
            self.connected, self.unconnected, self.cut, self.left
        )?;
        for (status, count) in &self.statuses {
            writeln!(out, "               {count} answered {status}")?;
        }
        writeln!(out, "first answer   {}", self.answered_after)?;
        writeln!(out, "cut            {}", self.cut_after)
    }
}

/// Times, in milliseconds.
#[derive(Debug)]
pub(crate) struct Times(Histogram<u64>);

/// An hour: longer than any attack is watched.
const TIME_MAX_MS: u64 = 3_600_000;

impl Default for Times {
    fn default() -> Self {
        // Both numbers are within what the library takes.
        Self(Histogram::new_with_max(TIME_MAX_MS, 3).unwrap_or_else(|_| unreachable!()))
    }
}

impl Times {
    pub(crate) fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_millis()).unwrap_or(TIME_MAX_MS));
    }
}

impl Serialize for Times {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut times = serializer.serialize_struct("Times", 4)?;
        times.serialize_field("count", &self.0.len())?;
        times.serialize_field("min_ms", &self.0.min())?;
        times.serialize_field("p50_ms", &self.0.value_at_quantile(0.5))?;
        times.serialize_field("max_ms", &self.0.max())?;
        times.end()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return out.write_str("never");
        }
        let (min, median, max) = (self.0.min(), self.0.value_at_quantile(0.5), self.0.max());
        write!(out, "after {min} ms at the earliest, {median} ms in the middle, {max} ms at the latest")
    }
}

/// Resident memory of the target, in bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Memory {
    before: u64,
    peak: u64,
    after: u64,
}

/// Looks at it, until told to finish.
pub(crate) struct Watch {
    /// Dropped at the end.
    during: Sender<()>,
    thread: JoinHandle<Memory>,
}

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

impl Memory {
    /// Watches `processes` from here on.
    pub(crate) fn watch(processes: Processes) -> Watch {
        let (during, over) = mpsc::channel();
        let thread = thread::spawn(move || {
            let look = || processes.sample().map_or(0, |sample| sample.resident_bytes());
            let before = look();
            let mut memory = Self { before, peak: before, after: before };
            while over.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                memory.after = look();
                memory.peak = memory.peak.max(memory.after);
            }
            memory
        });
        Watch { during, thread }
    }
}

impl Watch {
    /// What it saw.
    pub(crate) fn finish(self) -> Memory {
        drop(self.during);
        // It cannot panic: it only reads numbers.
        self.thread.join().unwrap_or(Memory { before: 0, peak: 0, after: 0 })
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
        write!(
            out,
            "resident       {:.1} MiB before, {:.1} MiB at the most, {:.1} MiB at the end",
            mebibytes(self.before),
            mebibytes(self.peak),
            mebibytes(self.after)
        )
    }
}
