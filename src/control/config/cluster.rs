//! `[[cluster]]`: a service, how one of its endpoints is chosen, and what it takes to be one.

use std::path::Path;

use crate::stage::balance::{Balance, Care, HashBy, Trip};

use super::{
    care,
    endpoints::{self, EndpointPlan, ListPlan, WEIGHT_MAX},
    issue::Issues,
    limits::is_field_name,
    reader::{Field, Section},
    values::{defaulted, duration_ms, number, one_of, optional_number, percent},
};

/// What the operator wrote.
pub(super) struct Cluster {
    pub(super) name: Option<Field<String>>,
    balance: Field<String>,
    hash_by: Option<Field<String>>,
    pub(super) max_in_flight: Option<u64>,
    queue_length: u64,
    queue_timeout_ms: u64,
    queue_at: usize,
    queue_path: String,
    connect_timeout_ms: u64,
    response_timeout_ms: u64,
    idle_timeout_ms: u64,
    idle_connections: u64,
    age_max_ms: u64,
    retry_percent: u64,
    retry_floor: u64,
    care: care::Written,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) endpoints_file: Option<Field<String>>,
    pub(super) at: usize,
    pub(super) path: String,
}

pub(super) struct Endpoint {
    pub(super) address: Option<Field<String>>,
    pub(super) weight: u64,
    pub(super) max_in_flight: Option<u64>,
}

/// One `[[cluster]]` that can be run.
#[expect(missing_docs, reason = "the table of defaults says of each what it is")]
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    pub name: String,
    pub balance: Balance,
    pub queue_length: Option<u32>,
    pub queue_timeout_ms: u64,
    pub connect_timeout_ms: u64,
    pub response_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    pub idle_connections: usize,
    pub age_max_ms: u64,
    pub retry_percent: u32,
    pub retry_floor: u64,
    pub trip: Trip,
    pub care: Care,
    pub endpoints: Vec<EndpointPlan>,
    pub list: Option<ListPlan>,
}

impl ClusterPlan {
    /// The endpoints that the configuration lists, then those of the file.
    pub fn all_endpoints(&self) -> impl Iterator<Item = &EndpointPlan> {
        self.endpoints.iter().chain(self.list.iter().flat_map(|list| &list.entries))
    }
}

const MILLISECOND: u64 = 1;
const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// More in flight at one endpoint than there can be connections to its address.
const IN_FLIGHT_MAX: u64 = 1_000_000;

pub(super) fn read(mut section: Section<'_, '_>, issues: &Issues) -> Cluster {
    let mut queue = section.section("queue");
    let queue_length = number(&mut queue, "length", 0..=IN_FLIGHT_MAX, issues);
    let queue_timeout_ms = duration_ms(&mut queue, "timeout", 10 * MILLISECOND..=HOUR, issues);
    let (queue_at, queue_path) = (queue.at(), queue.path().to_owned());
    queue.finish();
    let cluster = Cluster {
        name: section.required_text("name"),
        balance: defaulted(&mut section, "balance"),
        hash_by: section.text("hash_by"),
        max_in_flight: optional_number(&mut section, "max_in_flight", 1..=IN_FLIGHT_MAX, issues),
        queue_length,
        queue_timeout_ms,
        queue_at,
        queue_path,
        connect_timeout_ms: duration_ms(&mut section, "connect_timeout", MILLISECOND..=HOUR, issues),
        response_timeout_ms: duration_ms(&mut section, "response_timeout", MILLISECOND..=DAY, issues),
        idle_timeout_ms: duration_ms(&mut section, "idle_timeout", MILLISECOND..=DAY, issues),
        idle_connections: number(&mut section, "idle_connections", 0..=1_000_000, issues),
        age_max_ms: duration_ms(&mut section, "connection_age", SECOND..=366 * DAY, issues),
        retry_percent: percent(&mut section, "retry_budget", 0..=100, issues),
        retry_floor: number(&mut section, "retry_floor", 0..=1_000_000, issues),
        care: care::read(&mut section, issues),
        endpoints: section
            .sections("endpoints")
            .into_iter()
            .map(|endpoint| read_endpoint(endpoint, issues))
            .collect(),
        endpoints_file: section.text("endpoints_file"),
        at: section.at(),
        path: section.path().to_owned(),
    };
    section.finish();
    cluster
}

fn read_endpoint(mut section: Section<'_, '_>, issues: &Issues) -> Endpoint {
    let endpoint = Endpoint {
        address: section.required_text("address"),
        weight: number(&mut section, "weight", 1..=WEIGHT_MAX, issues),
        max_in_flight: optional_number(&mut section, "max_in_flight", 1..=IN_FLIGHT_MAX, issues),
    };
    section.finish();
    endpoint
}

/// Checks `cluster`; `None` if some mistake left a hole.
pub(super) fn plan(cluster: &Cluster, directory: &Path, issues: &Issues) -> Option<ClusterPlan> {
    let balance = balance(cluster, issues);
    let care = care::plan(&cluster.care, issues);
    let (endpoints, list) = endpoints::plan(cluster, directory, issues);
    let (trip, care) = care?;
    let is_bounded = cluster.max_in_flight.is_some()
        || care.fuse.is_some()
        || !cluster.endpoints.is_empty()
            && cluster.endpoints.iter().all(|endpoint| endpoint.max_in_flight.is_some());
    if cluster.queue_length > 0 && !is_bounded {
        let message = "nothing waits unless endpoints can be full: write max_in_flight or circuit as well";
        issues.add(cluster.queue_at, &cluster.queue_path, message);
    }
    Some(ClusterPlan {
        name: cluster.name.as_ref()?.value.clone(),
        balance: balance?,
        queue_length: u32::try_from(cluster.queue_length).ok().filter(|length| *length > 0),
        queue_timeout_ms: cluster.queue_timeout_ms,
        connect_timeout_ms: cluster.connect_timeout_ms,
        response_timeout_ms: cluster.response_timeout_ms,
        idle_timeout_ms: cluster.idle_timeout_ms,
        idle_connections: usize::try_from(cluster.idle_connections).unwrap_or(usize::MAX),
        age_max_ms: cluster.age_max_ms,
        retry_percent: u32::try_from(cluster.retry_percent).unwrap_or(100),
        retry_floor: cluster.retry_floor,
        trip,
        care,
        endpoints,
        list,
    })
}

fn balance(cluster: &Cluster, issues: &Issues) -> Option<Balance> {
    let words = [
        ("least-connections", Some(Balance::LeastConnections)),
        ("latency", Some(Balance::Latency)),
        ("round-robin", Some(Balance::RoundRobin)),
        ("random", Some(Balance::Random)),
        ("hash", None),
    ];
    let places: Vec<(&str, usize)> = words.iter().zip(0..).map(|((word, _), place)| (*word, place)).collect();
    let chosen = one_of(&cluster.balance, &places, issues).map(|place| words[place].1.clone())?;
    match (chosen, &cluster.hash_by) {
        (Some(balance), None) => Some(balance),
        (Some(_), Some(hash_by)) => {
            hash_by.wrong(issues, "is only for balance = \"hash\"");
            None
        }
        (None, Some(hash_by)) => hash_by_of(hash_by, issues).map(Balance::Hash),
        (None, None) => {
            cluster.balance.wrong(
                issues,
                "needs hash_by, which says what is hashed: \"consumer\", \"ip\" or \"header:NAME\"",
            );
            None
        }
    }
}

fn hash_by_of(field: &Field<String>, issues: &Issues) -> Option<HashBy> {
    match (field.value.as_str(), field.value.strip_prefix("header:")) {
        ("consumer", _) => Some(HashBy::Consumer),
        ("ip", _) => Some(HashBy::Ip),
        (_, Some(name)) if is_field_name(name) => Some(HashBy::Header(name.into())),
        _ => {
            let message = format!("\"{}\" is not \"consumer\", \"ip\" or \"header:NAME\"", field.value);
            field.wrong(issues, message);
            None
        }
    }
}
