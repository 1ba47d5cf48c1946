//! The comparison as one document: the JSON, and what the tables are made from.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::{peer::Job, results::Row, shape::Shape, start::Cpus};
use crate::report::{
    environment::{Environment, command_line},
    json::SCHEMA_VERSION,
};

/// Everything that a reader needs.
#[derive(Debug, Serialize)]
pub(crate) struct PeersReport {
    pub(crate) schema_version: u32,
    /// The command line.
    pub(crate) command: String,
    /// When the report was written.
    pub(crate) written_at: String,
    pub(crate) environment: Environment,
    pub(crate) job: &'static str,
    /// Of each peer and shape, as asked for.
    pub(crate) rounds: usize,
    /// Of each measurement.
    pub(crate) measured_s: f64,
    /// Requests per second that were offered; none where each peer had as many as it could take.
    pub(crate) rate_offered: Option<f64>,
    pub(crate) peer_cpu: usize,
    pub(crate) load_cpu: usize,
    pub(crate) stopped_early: bool,
    pub(crate) peers: Vec<Taking>,
    pub(crate) results: Vec<Row>,
    /// The shapes of `results`, in their order.
    #[serde(skip)]
    pub(crate) shapes: Vec<Shape>,
}

/// A peer's part in it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Taking {
    pub(crate) name: &'static str,
    pub(crate) version: Option<String>,
    pub(crate) state: State,
    /// Why it is missing or broken, and what to do about it.
    pub(crate) detail: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Measured,
    /// Not found here.
    Missing,
    /// Found, and not able to do its job.
    Broken,
}

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) job: Job,
    pub(crate) rounds: usize,
    pub(crate) length: Duration,
    pub(crate) rate: Option<f64>,
    pub(crate) cpus: Cpus,
}

impl PeersReport {
    pub(crate) fn new(
        asked: &Asked,
        peers: Vec<Taking>,
        shapes: Vec<Shape>,
        results: Vec<Row>,
        stopped_early: bool,
    ) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            command: command_line(),
            written_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            environment: Environment::read(),
            job: asked.job.name(),
            rounds: asked.rounds,
            measured_s: asked.length.as_secs_f64(),
            rate_offered: asked.rate,
            peer_cpu: asked.cpus.peer,
            load_cpu: asked.cpus.load,
            stopped_early,
            peers,
            results,
            shapes,
        }
    }

    /// A shape's rows.
    pub(crate) fn rows(&self, shape: Shape) -> impl Iterator<Item = &Row> {
        self.results.iter().filter(move |row| row.shape == shape.name())
    }
}
