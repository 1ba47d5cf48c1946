//! The last refusals and the last slow exchanges, as the shards told them.
//!
//! Names come from the configuration that decided the exchange, of which the last few are remembered. Card numbers
//! are masked as in the log.

use std::collections::VecDeque;

use serde::Serialize;

use crate::{
    shared::sample::{STEPS, Sample},
    stage::{refusal::ANSWERS, snapshot::Snapshot, termination::TERMINATIONS},
};

use super::super::access_log::{masked, masked_trace};

/// Refusals that are kept.
const REFUSALS_MAX: usize = 50;
/// Slow exchanges that are kept.
const SLOW_MAX: usize = 25;
/// Configurations whose names are kept.
const GENERATIONS_MAX: usize = 16;

/// One exchange, in words.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Told {
    /// When it began, RFC 3339.
    pub(super) at: String,
    /// The same in microseconds since the Unix epoch.
    #[serde(skip)]
    pub(super) unix_us: u64,
    /// Status sent.
    pub(super) status: u16,
    /// The refusal's code; none if an endpoint answered.
    pub(super) code: Option<&'static str>,
    /// Who ended it, and in which step.
    pub(super) termination: &'static str,
    /// Why, in more detail.
    pub(super) reason: String,
    /// The route; none if no one matched.
    pub(super) route: Option<String>,
    /// The cluster and its endpoint, if one was asked.
    pub(super) endpoint: Option<(String, String)>,
    /// Who called.
    pub(super) consumer: Option<String>,
    /// The client's address.
    pub(super) client_ip: String,
    /// The method.
    pub(super) method: String,
    /// The path.
    pub(super) path: String,
    /// `X-Request-Id`.
    pub(super) request_id: String,
    /// W3C trace id, 32 hexadecimal digits.
    pub(super) trace_id: String,
    /// From the first byte of the request to the last of the answer.
    pub(super) duration_us: u64,
    /// The endpoint's share.
    pub(super) upstream_us: u64,
    /// How long each step took, in the order of [`STEPS`]; only of timed ones.
    pub(super) steps_us: Option<[u64; STEPS.len()]>,
    /// The gateway's own span.
    #[serde(skip)]
    pub(super) span: u64,
    /// The caller's span; 0 for none.
    #[serde(skip)]
    pub(super) parent: u64,
    /// The same trace id as a number.
    #[serde(skip)]
    pub(super) trace: u128,
}

/// The last of each kind.
#[derive(Debug, Default)]
pub(super) struct Recent {
    refusals: VecDeque<Told>,
    slow: VecDeque<Told>,
    names: VecDeque<Names>,
}

/// The names of one configuration.
#[derive(Debug)]
pub(super) struct Names {
    generation: u64,
    routes: Vec<Box<str>>,
    clusters: Vec<(Box<str>, Vec<Box<str>>)>,
}

impl Names {
    /// The route at `place`.
    pub(super) fn route(&self, place: u16) -> Option<&str> {
        self.routes.get(usize::from(place)).map(|name| &**name)
    }

    /// The cluster and its endpoint at these places.
    pub(super) fn endpoint(&self, (cluster, endpoint): (u16, u16)) -> Option<(&str, &str)> {
        let (name, endpoints) = self.clusters.get(usize::from(cluster))?;
        Some((name, endpoints.get(usize::from(endpoint))?))
    }
}

impl Recent {
    /// Takes up the names of `snapshot`, if they are new.
    pub(super) fn learn(&mut self, snapshot: &Snapshot) {
        if self.names.back().is_some_and(|names| names.generation == snapshot.generation) {
            return;
        }
        if self.names.len() == GENERATIONS_MAX {
            self.names.pop_front();
        }
        let endpoints = |cluster: &crate::stage::balance::Cluster| {
            cluster.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect()
        };
        self.names.push_back(Names {
            generation: snapshot.generation,
            routes: snapshot.routes.routes().iter().map(|route| route.name.clone()).collect(),
            clusters: snapshot
                .clusters
                .iter()
                .map(|cluster| (cluster.name.clone(), endpoints(cluster)))
                .collect(),
        });
    }

    /// Keeps `sample`, if it is a refusal or was timed and took `slow_ms`. What it says, in words.
    pub(super) fn note(&mut self, sample: &Sample<'_>, slow_ms: u64) -> Told {
        let told = tell(sample, self.names_of(sample.record.generation));
        if told.code.is_some() {
            push(&mut self.refusals, REFUSALS_MAX, told.clone());
        }
        if told.steps_us.is_some() && told.duration_us >= slow_ms.saturating_mul(1_000) {
            push(&mut self.slow, SLOW_MAX, told.clone());
        }
        told
    }

    /// The names of the configuration numbered `generation`, if it is one of the last.
    pub(super) fn names_of(&self, generation: u64) -> Option<&Names> {
        self.names.iter().find(|names| names.generation == generation)
    }

    /// The last refusals, the newest first.
    pub(super) fn refusals(&self) -> impl Iterator<Item = &Told> {
        self.refusals.iter().rev()
    }

    /// The last slow exchanges, the newest first.
    pub(super) fn slow(&self) -> impl Iterator<Item = &Told> {
        self.slow.iter().rev()
    }
}

fn push(list: &mut VecDeque<Told>, max: usize, told: Told) {
    if list.len() == max {
        list.pop_front();
    }
    list.push_back(told);
}

fn tell(sample: &Sample<'_>, names: Option<&Names>) -> Told {
    let record = &sample.record;
    let text = |bytes: &[u8]| masked(&String::from_utf8_lossy(bytes));
    let at = jiff::Timestamp::from_microsecond(i64::try_from(record.unix_us).unwrap_or(i64::MAX));
    let route = record.route.and_then(|route| names?.route(route));
    let endpoint = record.endpoint.and_then(|place| names?.endpoint(place));
    let endpoint = endpoint.map(|(cluster, endpoint)| (cluster.to_owned(), endpoint.to_owned()));
    Told {
        at: at.map_or_else(|_| String::new(), |at| format!("{at:.3}")),
        unix_us: record.unix_us,
        status: record.status,
        code: record.code.and_then(|code| ANSWERS.get(usize::from(code))).map(|answer| answer.word),
        termination: TERMINATIONS.get(usize::from(record.termination)).map_or("-", |(_, code)| code),
        reason: text(record.reason),
        route: route.map(ToString::to_string),
        endpoint,
        consumer: (!record.consumer.is_empty()).then(|| text(record.consumer)),
        client_ip: record.client_ip.to_string(),
        method: text(record.method),
        path: text(record.path),
        request_id: text(record.request_id),
        trace_id: format!("{:032x}", masked_trace(record.trace_id)),
        duration_us: record.duration_us,
        upstream_us: record.upstream_us,
        steps_us: sample.steps_us,
        span: sample.span,
        parent: sample.parent,
        trace: record.trace_id,
    }
}
