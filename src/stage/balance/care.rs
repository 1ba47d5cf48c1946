//! How a cluster's endpoints are looked after, as configured. Shards do not read it; control does.

use std::ops::RangeInclusive;

use super::LoadReport;

/// All of it.
#[derive(Clone, Debug)]
pub struct Care {
    /// When and for how long an endpoint that fails is left out.
    pub ejection: Ejection,
    /// How long a new or recovered endpoint takes to its full weight, in milliseconds; at once when zero.
    pub slow_start_ms: u64,
    /// When fewer than this share of endpoints is well, in percent, all are used as if they were.
    pub panic_percent: u64,
    /// How endpoints are asked whether they are well, if they are.
    pub probe: Option<Probe>,
    /// Where endpoints say how loaded they are.
    pub load_report: LoadReport,
    /// Within what the exchanges under way are limited by what answers take, if they are.
    pub fuse: Option<Fuse>,
}

/// The bounds of a limit that follows what answers take; see `control/health/circuit.rs`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fuse {
    /// The limit is never less, at all endpoints together.
    pub min: u32,
    /// And never more.
    pub max: u32,
    /// How many times what is usual an answer may take before the limit shrinks; at least one.
    pub tolerance: f64,
}

/// When an endpoint is left out, besides failures in a row (`Trip`).
#[derive(Clone, Copy, Debug)]
pub struct Ejection {
    /// When it succeeds so much less often than the others, in percent of attempts; never when zero.
    pub margin_percent: u64,
    /// For how long the first time, in milliseconds; the second time in a row twice as long, and so on.
    pub time_ms: u64,
    /// The share of endpoints that may be left out at the same time, in percent; one may in any case.
    pub share_percent: u64,
}

/// A question that is asked again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub question: Question,
    /// From one question to the next, in milliseconds.
    pub interval_ms: u64,
    /// How long an answer may take, in milliseconds.
    pub timeout_ms: u64,
    /// Good answers in a row after which an endpoint is up.
    pub rise: u32,
    /// Bad ones after which it is down.
    pub fall: u32,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether a connection can be made.
    Tcp,
    /// `GET path`.
    Http {
        /// What is asked for.
        path: String,
        /// The `Host`; the endpoint's own when absent.
        host: Option<String>,
        /// Which status is good.
        expect: RangeInclusive<u16>,
    },
}
