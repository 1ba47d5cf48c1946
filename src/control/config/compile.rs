//! From the plan to the snapshot: names become places, addresses are looked up, tables are made.
//!
//! What counts and what is counted outlives a snapshot: a route, a cluster, an endpoint or a limit that
//! stands in the new configuration as it did in the old one keeps its meters, its load and its keys.

use std::{net::ToSocketAddrs, sync::Arc};

use siphasher::sip128::SipHasher13;

use crate::{
    shared::{key_table::KeyTable, load::Load, meters::PerShard},
    stage::{
        auth::KeySet,
        balance::{Cluster, Endpoint},
        client::TrustedProxies,
        headroom::Ceilings,
        limit::{By, Limit},
        route::{Route, RouteTable},
        snapshot::{Snapshot, Timeouts},
    },
};

use super::plan::{ClusterPlan, KeySetPlan, LogSink, Plan, RoutePlan};

/// Builds the snapshot of `plan` for `shards` shards: the first, or the one that follows `before`.
///
/// # Errors
/// An endpoint whose name has no address.
pub fn compile(plan: Plan, shards: usize, before: Option<&Snapshot>) -> Result<Snapshot, String> {
    // The seed is the process's secret: nobody can choose keys that share a limit's slot.
    let hasher = before.map_or_else(
        || SipHasher13::new_with_keys(fastrand::u64(..), fastrand::u64(..)),
        |before| before.hasher,
    );
    let inheritance = Inheritance { before, shards };
    let key_sets = plan.key_sets.into_iter().enumerate().map(|(index, set)| key_set(index, set, hasher));
    let mut slots = before.map_or(0, |before| before.slots);
    let mut clusters = Vec::new();
    for (index, cluster_plan) in plan.clusters.iter().enumerate() {
        clusters.push(cluster(index, cluster_plan, &mut slots, inheritance)?);
    }
    let limit_keys = plan.bounds.limit_keys;
    let routes =
        plan.routes.into_iter().enumerate().map(|(index, plan)| route(index, plan, limit_keys, inheritance));
    Ok(Snapshot {
        generation: before.map_or(1, |before| before.generation + 1),
        routes: RouteTable::new(routes.collect()),
        key_sets: key_sets.collect(),
        clusters: clusters.into(),
        slots,
        trusted_proxies: TrustedProxies::new(plan.trusted_proxies),
        hasher,
        timeouts: Timeouts {
            head_ms: plan.timeouts.head_ms,
            body_ms: plan.timeouts.body_ms,
            idle_ms: plan.timeouts.idle_ms,
            body_rate_min: plan.bounds.body_rate_min,
        },
        ceilings: Ceilings {
            in_flight: plan.bounds.in_flight,
            critical_percent: plan.bounds.critical_percent,
        },
        keepalive_requests: plan.bounds.keepalive_requests,
        fields_max: plan.bounds.headers_max,
        log_sample_percent: plan.log.sample_percent,
        logs_agents: plan.log.format.shows_agents() && plan.log.sink != LogSink::Off,
    })
}

fn key_set(index: usize, plan: KeySetPlan, hasher: SipHasher13) -> KeySet {
    KeySet {
        name: plan.name.into(),
        index,
        issuer: plan.issuer.map(Into::into),
        audience: plan.audience.into_iter().map(Into::into).collect(),
        leeway_s: plan.leeway_s,
        require: plan.require.into_iter().map(Into::into).collect(),
        consumer_claim: plan.consumer_claim.into(),
        keys: plan.keys.into(),
        hasher,
    }
}

/// What a new snapshot takes over from the one before.
#[derive(Clone, Copy)]
struct Inheritance<'b> {
    before: Option<&'b Snapshot>,
    shards: usize,
}

impl<'b> Inheritance<'b> {
    fn cluster(self, name: &str) -> Option<&'b Cluster> {
        self.before?.clusters.iter().find(|cluster| *cluster.name == *name)
    }

    fn route(self, name: &str) -> Option<&'b Route> {
        self.before?.routes.routes().iter().find(|route| *route.name == *name)
    }
}

fn cluster(
    index: usize,
    plan: &ClusterPlan,
    slots: &mut usize,
    inheritance: Inheritance<'_>,
) -> Result<Cluster, String> {
    let before = inheritance.cluster(&plan.name);
    let mut endpoints = Vec::new();
    for (place, endpoint) in plan.endpoints.iter().enumerate() {
        let address =
            endpoint.address.to_socket_addrs().ok().and_then(|mut found| found.next()).ok_or_else(|| {
                format!("cluster \"{}\": the name of endpoint {} has no address", plan.name, endpoint.address)
            })?;
        let known =
            before.and_then(|cluster| cluster.endpoints.iter().find(|known| known.address == address));
        let (slot, load) = match known {
            Some(known) => (known.slot, Arc::clone(&known.load)),
            None => {
                *slots += 1;
                (*slots - 1, Arc::new(Load::new()))
            }
        };
        endpoints.push(Endpoint {
            address,
            name: endpoint.address.as_str().into(),
            index: place_of(place),
            slot,
            weight: endpoint.weight,
            load,
        });
    }
    Ok(Cluster {
        name: plan.name.as_str().into(),
        index: place_of(index),
        connect_timeout_ms: plan.connect_timeout_ms,
        response_timeout_ms: plan.response_timeout_ms,
        idle_timeout_ms: plan.idle_timeout_ms,
        idle_max: plan.idle_connections,
        endpoints: endpoints.into(),
        meters: before
            .map_or_else(|| Arc::new(PerShard::new(inheritance.shards)), |before| Arc::clone(&before.meters)),
    })
}

fn route(index: usize, plan: RoutePlan, limit_keys: usize, inheritance: Inheritance<'_>) -> Route {
    let before = inheritance.route(&plan.name);
    let mut limits: Vec<Limit> = Vec::new();
    for (by, quota) in plan.limits {
        // All requests of a route share one key; eight slots are the smallest table.
        let keys = if by == By::Route { 1 } else { limit_keys };
        // Two limits that are alike have a table each.
        let is_free = |table| !limits.iter().any(|limit| Arc::ptr_eq(&limit.table, table));
        let known = before.into_iter().flat_map(|route| &route.limits).find(|limit| {
            limit.by == by
                && limit.quota == quota
                && limit.table.capacity() == KeyTable::capacity_for(keys)
                && is_free(&limit.table)
        });
        let table = match known {
            Some(limit) => Arc::clone(&limit.table),
            None => Arc::new(KeyTable::new(quota.windows(), keys)),
        };
        limits.push(Limit { by, quota, table });
    }
    Route {
        name: plan.name.into(),
        index: place_of(index),
        host: plan.host.map(Into::into),
        path: plan.path.into(),
        methods: plan.methods,
        keys: plan.keys,
        scopes: plan.scopes.into_iter().map(Into::into).collect(),
        limits: limits.into(),
        cluster: plan.cluster,
        priority: plan.priority,
        body_bytes_max: plan.body_bytes_max,
        version: plan.version.into(),
        meters: before
            .map_or_else(|| Arc::new(PerShard::new(inheritance.shards)), |before| Arc::clone(&before.meters)),
    }
}

/// Places fit sixteen bits: a file with more routes than that is not one a person wrote, and the highest
/// place stands for "none" in log records.
fn place_of(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}
