//! From the plan to the snapshot: names become places, addresses are looked up, tables are made.

use std::{net::ToSocketAddrs, sync::Arc};

use siphasher::sip128::SipHasher13;

use crate::{
    shared::{key_table::KeyTable, load::Load, meters::PerShard},
    stage::{
        auth::{ApiKey, ApiKeys, KeySet, Verified},
        balance::{Cluster, Endpoint},
        client::TrustedProxies,
        consumer::{Consumer, Consumers, Grant},
        headroom::Ceilings,
        limit::Limit,
        route::{Route, RouteTable},
        snapshot::{Snapshot, Timeouts},
    },
};

use super::{
    consumer::{ApiKeyPlan, ConsumerPlan},
    plan::{ClusterPlan, KeySetPlan, LogFormat, LogSink, Plan, RoutePlan},
};

/// Builds the first snapshot of `plan` for `shards` shards.
///
/// # Errors
/// An endpoint whose name has no address.
pub fn compile(plan: Plan, shards: usize) -> Result<Snapshot, String> {
    // The seed is the process's secret: nobody can choose keys that share a limit's slot.
    let hasher = SipHasher13::new_with_keys(fastrand::u64(..), fastrand::u64(..));
    let key_sets = plan.key_sets.into_iter().enumerate().map(|(index, set)| key_set(index, set, hasher));
    let mut slot = 0;
    let mut clusters = Vec::new();
    for (index, cluster_plan) in plan.clusters.iter().enumerate() {
        clusters.push(cluster(index, cluster_plan, &mut slot, shards)?);
    }
    let limit_keys = plan.bounds.limit_keys;
    let routes =
        plan.routes.into_iter().enumerate().map(|(index, plan)| route(index, plan, limit_keys, shards));
    Ok(Snapshot {
        generation: 1,
        routes: RouteTable::new(routes.collect()),
        key_sets: key_sets.collect(),
        consumers: consumers(plan.consumers, hasher),
        clusters: clusters.into(),
        endpoints: slot,
        trusted_proxies: TrustedProxies::new(plan.trusted_proxies),
        hasher,
        timeouts: Timeouts {
            head_ms: plan.timeouts.head_ms,
            body_ms: plan.timeouts.body_ms,
            idle_ms: plan.timeouts.idle_ms,
        },
        ceilings: Ceilings {
            in_flight: plan.bounds.in_flight,
            critical_percent: plan.bounds.critical_percent,
        },
        keepalive_requests: plan.bounds.keepalive_requests,
        fields_max: plan.bounds.headers_max,
        logs_agents: plan.log.format == LogFormat::Combined && plan.log.sink != LogSink::Off,
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
        roles_claim: plan.roles_claim.map(Into::into),
        keys: plan.keys.into(),
        hasher,
    }
}

fn consumers(plans: Vec<ConsumerPlan>, hasher: SipHasher13) -> Consumers {
    let hash = |id: &str| hasher.hash(id.as_bytes()).h1;
    let mut keys = Vec::new();
    let mut consumers = Vec::new();
    for ConsumerPlan { id, allow, api_keys } in plans {
        keys.extend(api_keys.into_iter().map(|key| api_key(&id, hash(&id), key)));
        let grants = allow.map(|grants| {
            let grants = grants.into_iter().map(|grant| Grant {
                routes: grant.routes.map(|routes| routes.into_iter().map(place_of).collect()),
                methods: grant.methods,
            });
            grants.collect()
        });
        consumers.push(Consumer { id: id.into(), allow: grants });
    }
    Consumers::new(consumers, ApiKeys::new(keys, hasher))
}

fn api_key(consumer: &str, consumer_hash: u64, plan: ApiKeyPlan) -> ApiKey {
    let holder = Verified {
        consumer: consumer.into(),
        consumer_hash,
        scopes: plan.scopes.into_iter().map(Into::into).collect(),
        roles: plan.roles.into_iter().map(Into::into).collect(),
        kid: Some(plan.id.into()),
        jti: None,
        sub: Some(consumer.into()),
        expires_s: plan.expires_s,
        not_before_s: None,
    };
    ApiKey { digest: plan.digest, holder }
}

fn cluster(index: usize, plan: &ClusterPlan, slot: &mut usize, shards: usize) -> Result<Cluster, String> {
    let mut endpoints = Vec::new();
    for (place, endpoint) in plan.endpoints.iter().enumerate() {
        let address =
            endpoint.address.to_socket_addrs().ok().and_then(|mut found| found.next()).ok_or_else(|| {
                format!("cluster \"{}\": the name of endpoint {} has no address", plan.name, endpoint.address)
            })?;
        endpoints.push(Endpoint {
            address,
            name: endpoint.address.as_str().into(),
            index: place_of(place),
            slot: *slot,
            weight: endpoint.weight,
            load: Arc::new(Load::new()),
        });
        *slot += 1;
    }
    Ok(Cluster {
        name: plan.name.as_str().into(),
        index: place_of(index),
        connect_timeout_ms: plan.connect_timeout_ms,
        response_timeout_ms: plan.response_timeout_ms,
        idle_timeout_ms: plan.idle_timeout_ms,
        idle_max: plan.idle_connections,
        endpoints: endpoints.into(),
        meters: Arc::new(PerShard::new(shards)),
    })
}

fn route(index: usize, plan: RoutePlan, limit_keys: usize, shards: usize) -> Route {
    let limits = plan.limits.into_iter().map(|(by, quota)| {
        // All requests of a route share one key; eight slots are the smallest table.
        let keys = if by == crate::stage::limit::By::Route { 1 } else { limit_keys };
        let table = Arc::new(KeyTable::new(quota.windows(), keys));
        Limit { by, quota, table }
    });
    Route {
        name: plan.name.into(),
        index: place_of(index),
        host: plan.host.map(Into::into),
        path: plan.path.into(),
        methods: plan.methods,
        keys: plan.access.keys,
        api_keys: plan.access.api_keys,
        forward_api_key: plan.access.forward_api_key,
        scopes: plan.access.scopes.into_iter().map(Into::into).collect(),
        roles: plan.access.roles.into_iter().map(Into::into).collect(),
        limits: limits.collect(),
        cluster: plan.cluster,
        priority: plan.priority,
        body_bytes_max: plan.body_bytes_max,
        version: plan.version.into(),
        meters: Arc::new(PerShard::new(shards)),
    }
}

/// Places fit sixteen bits: a file with more routes than that is not one a person wrote, and the highest
/// place stands for "none" in log records.
fn place_of(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}
