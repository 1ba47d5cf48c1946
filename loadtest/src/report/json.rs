//! The JSON report. Fields may be added; one that changes its meaning changes `SCHEMA_VERSION`.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::Path,
    time::SystemTime,
};

use serde::Serialize;

use super::environment::{Environment, command_line};
use crate::{
    exit::SetUp,
    generator::{
        Measured, Pace, Plan, Second,
        tally::{Failure, Latencies, Tally},
    },
};

/// Of every JSON document that this crate writes.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// One run.
#[derive(Debug, Serialize)]
pub(crate) struct RunReport {
    pub(crate) schema_version: u32,
    /// The generator was the bottleneck; `void_reason` says how.
    pub(crate) void: bool,
    pub(crate) void_reason: Option<String>,
    pub(crate) target: String,
    /// The command line.
    pub(crate) command: String,
    /// When the report was written.
    pub(crate) written_at: String,
    pub(crate) environment: Environment,
    pub(crate) settings: Settings,
    pub(crate) duration_s: f64,
    pub(crate) stopped_early: bool,
    /// Complete answers to requests intended within the measured time.
    pub(crate) requests: u64,
    /// Intended starts within the measured time; in a closed run what was sent.
    pub(crate) arrivals: u64,
    /// Requests that waited for a connection.
    pub(crate) late: u64,
    /// Requests never sent.
    pub(crate) missed: u64,
    pub(crate) errors: Errors,
    /// Failures, unexpected answers and missed requests of all.
    pub(crate) error_share: f64,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) routes: Vec<RouteReport>,
    pub(crate) bad_tokens: BadTokensReport,
    /// `null` in a closed run.
    pub(crate) rate_asked: Option<f64>,
    /// Answers per second within the measured time.
    pub(crate) rate_achieved: f64,
    /// Actual send to complete answer.
    pub(crate) service_us: Distribution,
    /// Intended start to complete answer; a closed run has no intended starts and repeats `service_us`.
    pub(crate) response_us: Distribution,
    /// Intended start, or the end of a time without a free connection, to the generator's acting on it.
    pub(crate) lag_us: Distribution,
    /// Of late and missed requests: how long they waited for a connection.
    pub(crate) waiting_us: Distribution,
    /// How long an answer can have lain unseen.
    pub(crate) turn_us: Distribution,
    /// Of the processes named by `--pid`, over the measured time.
    pub(crate) cpu_us_per_request: Option<f64>,
    pub(crate) target_process: Option<ProcessReport>,
    pub(crate) generator: GeneratorReport,
    pub(crate) reconnects: u64,
    pub(crate) idle_lost: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Second by second.
    pub(crate) series: Vec<Second>,
}

/// What was asked for.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Settings {
    pub(crate) closed: bool,
    pub(crate) arrivals: Option<&'static str>,
    pub(crate) connections: usize,
    pub(crate) idle: usize,
    pub(crate) threads: usize,
    pub(crate) clients: u32,
    pub(crate) new_connection_per_request: bool,
    pub(crate) warmup_s: f64,
    pub(crate) duration_s: f64,
    pub(crate) timeout_s: f64,
    pub(crate) max_in_flight: usize,
    pub(crate) seed: u64,
}

/// Requests without an answer by kind, and answers with an unexpected status by class.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Errors {
    pub(crate) connect: u64,
    pub(crate) timeout: u64,
    pub(crate) reset: u64,
    pub(crate) closed_early: u64,
    pub(crate) malformed: u64,
    pub(crate) unfinished: u64,
    pub(crate) status_2xx: u64,
    pub(crate) status_3xx: u64,
    pub(crate) status_4xx: u64,
    pub(crate) status_5xx: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct RouteReport {
    pub(crate) name: String,
    pub(crate) answered: u64,
    pub(crate) unexpected: BTreeMap<u16, u64>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct BadTokensReport {
    pub(crate) refused: u64,
    pub(crate) accepted: u64,
    pub(crate) other: u64,
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Distribution {
    pub(crate) count: u64,
    pub(crate) min: f64,
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) p9999: f64,
    pub(crate) max: f64,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct ProcessReport {
    pub(crate) processes: usize,
    pub(crate) cpu_s: f64,
    pub(crate) resident_bytes: u64,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct GeneratorReport {
    pub(crate) threads: usize,
    pub(crate) cpu_s: f64,
    pub(crate) cpu_us_per_request: f64,
    /// Time that its threads were ready to run and had no CPU.
    pub(crate) queued_s: f64,
    /// Of the busiest thread's time.
    pub(crate) idle_share: f64,
}

impl RunReport {
    /// The report of a run; `fault` is why it is void.
    pub(crate) fn new(plan: &Plan, measured: &Measured, fault: Option<String>) -> Self {
        let tally = &measured.total;
        let duration_s = measured.measured.as_secs_f64();
        let answered_in_time = tally.answered_in_time.max(1) as f64;
        let cpu_s = measured.generator.cpu_ns as f64 / 1e9;
        let closed = plan.pace == Pace::Closed;
        let route =
            |(route, counts): (&crate::workload::Route, &crate::generator::tally::RouteTally)| RouteReport {
                name: route.name.clone(),
                answered: counts.answered,
                unexpected: counts.unexpected.clone(),
            };
        Self {
            schema_version: SCHEMA_VERSION,
            void: fault.is_some(),
            void_reason: fault,
            target: plan.target.url.clone(),
            command: command_line(),
            written_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            environment: Environment::read(),
            settings: Settings::new(plan),
            duration_s,
            stopped_early: measured.stopped_early,
            requests: tally.answered,
            arrivals: if closed { tally.sent } else { tally.arrivals },
            late: tally.late,
            missed: tally.missed,
            errors: Errors::new(tally),
            error_share: tally.error_share(),
            statuses: tally.statuses.iter().collect(),
            routes: plan.workload.routes.iter().zip(&tally.routes).map(route).collect(),
            bad_tokens: BadTokensReport {
                refused: tally.bad_tokens.refused,
                accepted: tally.bad_tokens.accepted,
                other: tally.bad_tokens.other,
            },
            rate_asked: match plan.pace {
                Pace::Open { rate, .. } => Some(rate),
                Pace::Closed => None,
            },
            rate_achieved: if duration_s > 0.0 { tally.answered_in_time as f64 / duration_s } else { 0.0 },
            service_us: Distribution::new(&tally.service),
            response_us: Distribution::new(if closed { &tally.service } else { &tally.response }),
            lag_us: Distribution::new(&tally.lag),
            waiting_us: Distribution::new(&tally.waiting),
            turn_us: Distribution::new(&tally.turn),
            cpu_us_per_request: measured.target.map(|usage| usage.cpu.as_secs_f64() * 1e6 / answered_in_time),
            target_process: measured.target.map(|usage| ProcessReport {
                processes: usage.processes,
                cpu_s: usage.cpu.as_secs_f64(),
                resident_bytes: usage.resident_bytes,
            }),
            generator: GeneratorReport {
                threads: measured.generator.threads,
                cpu_s,
                cpu_us_per_request: cpu_s * 1e6 / answered_in_time,
                queued_s: measured.generator.queued_ns as f64 / 1e9,
                idle_share: measured.generator.idle_share_min,
            },
            reconnects: tally.reconnects,
            idle_lost: tally.idle_lost,
            bytes_in: tally.bytes_in,
            bytes_out: tally.bytes_out,
            series: measured.seconds.clone(),
        }
    }
}

impl Settings {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            closed: plan.pace == Pace::Closed,
            arrivals: match plan.pace {
                Pace::Open { arrivals, .. } => Some(arrivals.name()),
                Pace::Closed => None,
            },
            connections: plan.connections,
            idle: plan.idle,
            threads: plan.threads,
            clients: plan.workload.clients.count,
            new_connection_per_request: plan.workload.close,
            warmup_s: plan.warmup.as_secs_f64(),
            duration_s: plan.duration.as_secs_f64(),
            timeout_s: plan.timeout.as_secs_f64(),
            max_in_flight: plan.in_flight_max,
            seed: plan.seed,
        }
    }
}

impl Errors {
    fn new(tally: &Tally) -> Self {
        let failures = |failure: Failure| tally.failures[failure as usize];
        Self {
            connect: failures(Failure::Connect),
            timeout: failures(Failure::Timeout),
            reset: failures(Failure::Reset),
            closed_early: failures(Failure::ClosedEarly),
            malformed: failures(Failure::Malformed),
            unfinished: failures(Failure::Unfinished),
            status_2xx: tally.unexpected_class(2),
            status_3xx: tally.unexpected_class(3),
            status_4xx: tally.unexpected_class(4),
            status_5xx: tally.unexpected_class(5),
        }
    }

    /// Each kind with its name for people.
    pub(crate) fn named(&self) -> [(&'static str, u64); 10] {
        [
            ("connect", self.connect),
            ("timeout", self.timeout),
            ("reset", self.reset),
            ("closed early", self.closed_early),
            ("malformed", self.malformed),
            ("unfinished", self.unfinished),
            ("unexpected 2xx", self.status_2xx),
            ("unexpected 3xx", self.status_3xx),
            ("unexpected 4xx", self.status_4xx),
            ("unexpected 5xx", self.status_5xx),
        ]
    }
}

impl Distribution {
    pub(crate) fn new(latencies: &Latencies) -> Self {
        let histogram = latencies.histogram();
        let us = |ns: u64| ns as f64 / 1e3;
        let at = |quantile: f64| us(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            min: us(histogram.min()),
            mean: histogram.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: us(histogram.max()),
        }
    }
}

/// Writes a JSON document to a file, or to standard output for `-`.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(path: &Path, document: &impl Serialize) -> Result<(), SetUp> {
    let fault = |error: io::Error| SetUp::new(format!("cannot write {}: {error}", path.display()));
    let mut text = serde_json::to_vec_pretty(document).map_err(|error| fault(error.into()))?;
    text.push(b'\n');
    if path == Path::new("-") {
        io::stdout().write_all(&text).map_err(fault)
    } else {
        fs::write(path, text).map_err(fault)
    }
}
