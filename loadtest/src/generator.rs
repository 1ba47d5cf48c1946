//! Drives load: threads with a ring each, coordinated by the calling thread, measured second by second.
//!
//! [`run`] takes a [`Plan`] and gives back what was [`Measured`]; it prints nothing. Every command that sends
//! requests goes through it.

mod connection;
mod exchange;
pub(crate) mod schedule;
mod shard;
pub(crate) mod tally;
mod threads;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use serde::Serialize;

use self::schedule::Arrivals;
pub(crate) use self::threads::run;
use crate::{
    cpus::CpuList,
    generator::tally::Tally,
    process::{Processes, Usage},
    target::Target,
    workload::Workload,
};

/// One run, decided.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) workload: Arc<Workload>,
    pub(crate) pace: Pace,
    /// In an open loop, load comes in bursts of at most this length with silences of at most this length between.
    pub(crate) pauses: Option<Duration>,
    /// Connections that carry the load; at least one for each thread.
    pub(crate) connections: usize,
    /// Further keep-alive connections that send one request and are then held.
    pub(crate) idle: usize,
    pub(crate) threads: usize,
    pub(crate) cpus: Option<CpuList>,
    /// Load before anything is measured.
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    /// From a request's sending to its complete answer.
    pub(crate) timeout: Duration,
    /// Requests sent or waiting for a connection; at least `connections`.
    pub(crate) in_flight_max: usize,
    /// How long before an intended start to wake up and look at the clock instead.
    pub(crate) spin: Duration,
    pub(crate) seed: u64,
    /// Whose CPU time is counted.
    pub(crate) processes: Option<Processes>,
    /// Keep each answer's client, status and times, at most this many.
    pub(crate) records_max: usize,
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// At times that do not depend on answers.
    Open { rate: f64, arrivals: Arrivals },
    /// Each connection sends as soon as it has its answer.
    Closed,
}

/// What a run found.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) total: Tally,
    /// One after the other from the end of the warm-up; a last one holds the answers that came after the end.
    pub(crate) seconds: Vec<Second>,
    /// The measured time: shorter than planned when the run was stopped.
    pub(crate) measured: Duration,
    pub(crate) stopped_early: bool,
    pub(crate) generator: Effort,
    /// Of the target's processes, when they were named and still alive.
    pub(crate) target: Option<Usage>,
    pub(crate) records: Vec<Record>,
    /// Answers that found no room in `records`.
    pub(crate) records_lost: u64,
}

/// What happened in one second, without the histograms, so that a long run stays small.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Second {
    /// From the end of the warm-up to the end of this second.
    pub(crate) until_s: f64,
    pub(crate) length_s: f64,
    pub(crate) arrivals: u64,
    pub(crate) answered: u64,
    pub(crate) missed: u64,
    pub(crate) failed: u64,
    pub(crate) unexpected: u64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

/// What driving the load cost the generator's threads over the measured time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Effort {
    pub(crate) threads: usize,
    /// CPU time of all threads, spinning included.
    pub(crate) cpu_ns: u64,
    /// Of it, what was spent waiting without sleeping (`--spin`).
    pub(crate) spun_ns: u64,
    /// Time that threads were ready to run and had no CPU.
    pub(crate) queued_ns: u64,
    /// The smallest share of the measured time in which a thread had nothing to do.
    pub(crate) idle_share_min: f64,
}

/// One answered request, for proofs by timestamp. Times are of one clock; the target decided in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) client: u32,
    pub(crate) status: u16,
    pub(crate) sent_ns: u64,
    pub(crate) answered_ns: u64,
}

/// Told about each second as soon as every thread has reported it.
pub(crate) type Observer<'a> = &'a mut dyn FnMut(&Second, &Tally);

/// Stops a run early; what was measured so far is the result.
pub(crate) type Stop = Arc<AtomicBool>;
