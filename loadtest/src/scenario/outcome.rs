//! What a scenario found: what clients saw, and what was left behind.

use std::time::Duration;

use serde::Serialize;

use crate::{clock::ns, generator::Measured};

/// The figures of one run.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Outcome {
    /// All that should have been made.
    pub(crate) requests: u64,
    /// Of them, those without an answer of 200.
    pub(crate) failed: u64,
    /// From the intended start.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// The share that took as long as only a slow endpoint does.
    pub(crate) slow_share: f64,
    /// The p99 of the same load with nothing in its way.
    pub(crate) best_p99_ms: Option<f64>,
    /// The generator was late: what is said of latencies is not to be trusted.
    pub(crate) void: bool,
    /// What the gateway still counts as in flight when all clients have gone; only tollgate says.
    pub(crate) left_in_flight: Option<u64>,
    /// What each endpoint has answered.
    pub(crate) endpoint_answers: Vec<u64>,
}

impl Outcome {
    pub(crate) fn new(
        measured: &Measured,
        slow_after: Duration,
        void: bool,
        left_in_flight: Option<u64>,
        endpoint_answers: Vec<u64>,
    ) -> Self {
        let tally = &measured.total;
        let histogram = tally.response.histogram();
        let quantile_ms = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e6;
        let slow = histogram.count_between(ns(slow_after), histogram.high());
        Self {
            requests: tally.answered + tally.failed() + tally.missed,
            failed: tally.failed() + tally.unexpected() + tally.missed,
            p50_ms: quantile_ms(0.5),
            p99_ms: quantile_ms(0.99),
            slow_share: slow as f64 / histogram.len().max(1) as f64,
            best_p99_ms: None,
            void,
            left_in_flight,
            endpoint_answers,
        }
    }

    /// Of all requests.
    pub(crate) fn failed_share(&self) -> f64 {
        self.failed as f64 / self.requests.max(1) as f64
    }
}
