//! `[[cluster]]`: a service, how one of its endpoints is chosen, and what it takes to be one.

use std::collections::HashMap;

use crate::{
    http::head::is_authority,
    shared::standing::UNBOUNDED,
    stage::balance::{Balance, HashBy},
};

use super::{
    issue::Issues,
    limits::is_field_name,
    reader::{Field, Section},
    values::{defaulted, duration_ms, number, one_of, optional_number},
};

/// What the operator wrote.
pub(super) struct Cluster {
    pub(super) name: Option<Field<String>>,
    balance: Field<String>,
    hash_by: Option<Field<String>>,
    max_in_flight: Option<u64>,
    connect_timeout_ms: u64,
    response_timeout_ms: u64,
    idle_timeout_ms: u64,
    idle_connections: u64,
    endpoints: Vec<Endpoint>,
    at: usize,
    path: String,
}

struct Endpoint {
    address: Option<Field<String>>,
    weight: u64,
    max_in_flight: Option<u64>,
}

/// One `[[cluster]]` that can be run.
#[expect(missing_docs, reason = "the table of defaults says of each what it is")]
#[derive(Debug)]
pub struct ClusterPlan {
    pub name: String,
    pub balance: Balance,
    pub connect_timeout_ms: u64,
    pub response_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    pub idle_connections: usize,
    pub endpoints: Vec<EndpointPlan>,
}

/// One endpoint.
#[derive(Debug)]
pub struct EndpointPlan {
    /// Host name or address, and port.
    pub address: String,
    /// Its share.
    pub weight: u32,
    /// The most exchanges in flight.
    pub in_flight_max: u32,
}

const MILLISECOND: u64 = 1;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// More in flight at one endpoint than there can be connections to its address.
const IN_FLIGHT_MAX: u64 = 1_000_000;

pub(super) fn read(mut section: Section<'_, '_>, issues: &Issues) -> Cluster {
    let cluster = Cluster {
        name: section.required_text("name"),
        balance: defaulted(&mut section, "balance"),
        hash_by: section.text("hash_by"),
        max_in_flight: optional_number(&mut section, "max_in_flight", 1..=IN_FLIGHT_MAX, issues),
        connect_timeout_ms: duration_ms(&mut section, "connect_timeout", MILLISECOND..=HOUR, issues),
        response_timeout_ms: duration_ms(&mut section, "response_timeout", MILLISECOND..=DAY, issues),
        idle_timeout_ms: duration_ms(&mut section, "idle_timeout", MILLISECOND..=DAY, issues),
        idle_connections: number(&mut section, "idle_connections", 0..=1_000_000, issues),
        endpoints: section
            .sections("endpoints")
            .into_iter()
            .map(|endpoint| read_endpoint(endpoint, issues))
            .collect(),
        at: section.at(),
        path: section.path().to_owned(),
    };
    section.finish();
    cluster
}

fn read_endpoint(mut section: Section<'_, '_>, issues: &Issues) -> Endpoint {
    let endpoint = Endpoint {
        address: section.required_text("address"),
        weight: number(&mut section, "weight", 1..=65_535, issues),
        max_in_flight: optional_number(&mut section, "max_in_flight", 1..=IN_FLIGHT_MAX, issues),
    };
    section.finish();
    endpoint
}

/// Checks `cluster`; `None` if some mistake left a hole.
pub(super) fn plan(cluster: &Cluster, issues: &Issues) -> Option<ClusterPlan> {
    let balance = balance(cluster, issues);
    if cluster.endpoints.is_empty() {
        issues.add(cluster.at, &format!("{}.endpoints", cluster.path), "at least one endpoint is needed");
    }
    let mut lines: HashMap<&str, usize> = HashMap::new();
    let mut endpoints = Vec::new();
    for endpoint in &cluster.endpoints {
        let Some(address) = &endpoint.address else { continue };
        let port = address.value.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if !is_authority(address.value.as_bytes()) || port.is_none_or(|port| port == 0) {
            let message =
                format!("\"{}\" is not a host and port; write for example \"127.0.0.1:9001\"", address.value);
            address.wrong(issues, message);
        }
        if let Some(line) = lines.insert(&address.value, issues.line_of(address.at)) {
            let message = format!("the endpoint stands on line {line} too; give it a weight instead");
            address.wrong(issues, message);
        }
        let in_flight_max = endpoint.max_in_flight.or(cluster.max_in_flight);
        endpoints.push(EndpointPlan {
            address: address.value.clone(),
            weight: u32::try_from(endpoint.weight).unwrap_or(1),
            in_flight_max: in_flight_max.map_or(UNBOUNDED, |max| u32::try_from(max).unwrap_or(UNBOUNDED)),
        });
    }
    Some(ClusterPlan {
        name: cluster.name.as_ref()?.value.clone(),
        balance: balance?,
        connect_timeout_ms: cluster.connect_timeout_ms,
        response_timeout_ms: cluster.response_timeout_ms,
        idle_timeout_ms: cluster.idle_timeout_ms,
        idle_connections: usize::try_from(cluster.idle_connections).unwrap_or(usize::MAX),
        endpoints,
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
