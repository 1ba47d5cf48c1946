//! The configuration in force, as `/config` shows it: everything but secrets.

use serde_json::{Value, json};

use crate::{
    shared::standing::UNBOUNDED,
    stage::{
        balance::{Faults, Probe, Question},
        destination::{PARTS, Share},
        headroom::Priority,
        limit::{Mode, Refund},
    },
    tuning::steering::Choice,
};

use super::{api::ApiPlan, consumer::ConsumerPlan, plan::Plan, resolve::Family};

/// `plan` as JSON. Built field by field from an allow-list, so that a secret cannot slip in.
pub fn view(plan: &Plan) -> Value {
    let key_sets: Vec<Value> = plan
        .key_sets
        .iter()
        .map(|set| {
            let keys: Vec<Value> = set
                .keys
                .iter()
                .map(|key| json!({ "kid": key.kid(), "alg": key.algorithm().name() }))
                .collect();
            json!({
                "name": set.name,
                "issuer": set.issuer,
                "audience": set.audience,
                "leeway_s": set.leeway_s,
                "require": set.require,
                "consumer_claim": set.consumer_claim,
                "roles_claim": set.roles_claim,
                "keys": keys,
            })
        })
        .collect();
    let clusters: Vec<Value> = plan
        .clusters
        .iter()
        .map(|cluster| {
            let endpoints: Vec<Value> = cluster
                .endpoints
                .iter()
                .map(|endpoint| {
                    json!({
                        "address": endpoint.address,
                        "weight": endpoint.weight,
                        "max_in_flight": (endpoint.in_flight_max < UNBOUNDED).then_some(endpoint.in_flight_max),
                    })
                })
                .collect();
            json!({
                "name": cluster.name,
                "balance": cluster.balance.word(),
                "hash_by": cluster.balance.hash_by(),
                "slow_start_ms": cluster.care.slow_start_ms,
                "panic": format!("{}%", cluster.care.panic_percent),
                "ejection": {
                    "failures": cluster.trip.failures,
                    "on": match cluster.trip.faults {
                        Faults::Gateway => "gateway",
                        Faults::Any5xx => "5xx",
                    },
                    "margin": format!("{}%", cluster.care.ejection.margin_percent),
                    "time_ms": cluster.care.ejection.time_ms,
                    "max": format!("{}%", cluster.care.ejection.share_percent),
                },
                "health": cluster.care.probe.as_ref().map(probe_view),
                "queue": cluster.queue_length.map(|length| json!({
                    "length": length,
                    "timeout_ms": cluster.queue_timeout_ms,
                })),
                "load_report": cluster.care.load_report.word(),
                "circuit": cluster.care.fuse.map(|fuse| json!({
                    "min": fuse.min,
                    "max": fuse.max,
                    "tolerance": format!("{}%", ((fuse.tolerance - 1.0) * 100.0).round()),
                })),
                "connect_timeout_ms": cluster.connect_timeout_ms,
                "response_timeout_ms": cluster.response_timeout_ms,
                "idle_timeout_ms": cluster.idle_timeout_ms,
                "idle_connections": cluster.idle_connections,
                "connection_age_ms": cluster.age_max_ms,
                "retry_budget": format!("{}%", cluster.retry_percent),
                "retry_floor": cluster.retry_floor,
                "endpoints": endpoints,
                "endpoints_file": cluster.list.as_ref().map(|list| &list.path),
            })
        })
        .collect();
    let routes: Vec<Value> = plan
        .routes
        .iter()
        .map(|route| {
            json!({
                "name": route.name,
                "host": route.host,
                "path": route.path,
                "methods": route.methods.names(),
                "auth": route.access.word(),
                "jwt": route.access.keys.map(|index| &plan.key_sets[index].name),
                "scopes": route.access.scopes,
                "roles": route.access.roles,
                "forward_api_key": route.access.forward_api_key,
                "limits": route.limits.iter().map(|limit| json!({
                    "by": limit.by.to_string(),
                    "quota": format!("{:?}", limit.quota),
                    "mode": mode(limit.mode),
                    "exempt": limit.exempt_consumers.iter().map(|id| format!("consumer:{id}"))
                        .chain(limit.exempt_networks.iter().map(ToString::to_string)).collect::<Vec<_>>(),
                })).collect::<Vec<_>>(),
                "cost": route.cost,
                "refund": match route.refund {
                    Refund::Never => "never",
                    Refund::NotSent => "not-sent",
                },
                "in_flight": route.in_flight,
                "cluster": plan.clusters[route.cluster].name,
                "by_header": route.destinations.by_header.iter().map(|rule| json!({
                    "name": rule.name, "value": rule.value, "cluster": plan.clusters[rule.cluster].name,
                })).collect::<Vec<_>>(),
                "split": route.destinations.split.iter().map(|part| share(plan, part)).collect::<Vec<_>>(),
                "mirror": route.destinations.mirror.as_ref().map(|part| share(plan, part)),
                "timeout_ms": route.delivery.timeout_ms,
                "hedge_after_ms": route.delivery.hedge_after_ms,
                "retry": {
                    "attempts": route.delivery.retry.attempts_max,
                    "on": route.delivery.retry.on.words().collect::<Vec<_>>(),
                    "idempotency_key": route.delivery.retry.by_key,
                },
                "priority": match route.priority {
                    Priority::Normal => "normal",
                    Priority::Critical => "critical",
                },
                "body_bytes_max": route.body_bytes_max,
                "audit": route.audit,
                "api": route.membership.map(|(api, _)| &plan.apis[api].name),
                "version": route.version,
            })
        })
        .collect();
    json!({
        "listen": {
            "address": plan.listen,
            "proxied": plan.proxied,
            "admin": plan.admin.address,
            "admin_mode": format!("{:04o}", plan.admin.mode),
            "admin_token": plan.admin.token.as_ref().map(|token| &*token.fingerprint),
            "accept_steering": steering(plan.steering),
        },
        "bounds": {
            "connections": plan.bounds.connections,
            "head_bytes_max": plan.bounds.head_bytes_max,
            "headers_max": plan.bounds.headers_max,
            "body_bytes_max": plan.bounds.body_bytes_max,
            "body_rate_min": plan.bounds.body_rate_min,
            "keepalive_requests": plan.bounds.keepalive_requests,
            "buffer_bytes": plan.bounds.buffer_bytes,
            "in_flight": plan.bounds.in_flight,
            "critical_share": format!("{}%", plan.bounds.critical_percent),
            "limit_keys": plan.bounds.limit_keys,
            "tokens": plan.bounds.tokens,
        },
        "resolve": {
            "servers": plan.resolve.servers,
            "family": match plan.resolve.family {
                Family::Both => "both",
                Family::Four => "ipv4",
                Family::Six => "ipv6",
            },
            "ttl_min_ms": plan.resolve.ttl_min_ms,
            "ttl_max_ms": plan.resolve.ttl_max_ms,
            "timeout_ms": plan.resolve.timeout_ms,
        },
        "revocation": { "file": plan.revocation.file, "entries": plan.revocation.entries_max },
        "monitor": {
            "sample": format!("{}%", plan.monitor.sample_percent),
            "slow_ms": plan.monitor.slow_ms,
            "otlp": plan.monitor.otlp,
        },
        "audit": plan.audit.as_ref().map(|audit| json!({
            "path": audit.path,
            "key_id": audit.key.id(),
            "durability": audit.durability.word(),
            "on_full": if audit.refuses { "refuse" } else { "drop" },
            "wait_max_ms": audit.wait_max_ms,
            "ring": audit.ring_bytes,
        })),
        "timeouts_ms": {
            "head": plan.timeouts.head_ms,
            "body": plan.timeouts.body_ms,
            "idle": plan.timeouts.idle_ms,
            "drain": plan.timeouts.drain_ms,
            "queue": plan.timeouts.queue_ms,
        },
        "jwt": key_sets,
        "consumer": plan.consumers.iter().map(|consumer| consumer_view(plan, consumer)).collect::<Vec<_>>(),
        "api": plan.apis.iter().map(api_view).collect::<Vec<_>>(),
        "cluster": clusters,
        "route": routes,
    })
}

fn probe_view(probe: &Probe) -> Value {
    let question = match &probe.question {
        Question::Tcp => json!("tcp"),
        Question::Http { path, host, expect } => json!({
            "path": path,
            "host": host,
            "expect": format!("{}-{}", expect.start(), expect.end()),
        }),
    };
    json!({
        "probe": question,
        "interval_ms": probe.interval_ms,
        "timeout_ms": probe.timeout_ms,
        "rise": probe.rise,
        "fall": probe.fall,
    })
}

fn share(plan: &Plan, share: &Share) -> Value {
    let percent = f64::from(share.parts) * 100.0 / f64::from(PARTS);
    json!({ "cluster": plan.clusters[share.cluster].name, "share": format!("{percent}%") })
}

fn api_view(api: &ApiPlan) -> Value {
    let versions = api.versions.iter().map(|version| {
        json!({
            "name": version.name,
            "state": version.state.word(),
            "deprecated_s": version.deprecated_s,
            "sunset_s": version.sunset_s,
            "brownouts_s": version.brownouts.iter().map(|out| [out.from_s, out.until_s]).collect::<Vec<_>>(),
            "successor": version.successor.map(|place| &api.versions[place].name),
            "docs": version.docs,
            "operations": version.description.as_ref().map(|described| described.operations.count()),
        })
    });
    json!({ "name": api.name, "versions": versions.collect::<Vec<_>>() })
}

fn consumer_view(plan: &Plan, consumer: &ConsumerPlan) -> Value {
    let allow = consumer.allow.as_ref().map(|grants| {
        let grants = grants.iter().map(|grant| {
            let name = |&index: &usize| plan.routes[index].name.as_str();
            json!({
                "routes": grant.routes.as_ref().map(|routes| routes.iter().map(name).collect::<Vec<_>>()),
                "methods": grant.methods.names(),
            })
        });
        grants.collect::<Vec<_>>()
    });
    let keys = consumer.api_keys.iter().map(
        |key| json!({ "id": key.id, "scopes": key.scopes, "roles": key.roles, "expires_s": key.expires_s }),
    );
    json!({ "id": consumer.id, "allow": allow, "api_keys": keys.collect::<Vec<_>>() })
}

fn steering(choice: Choice) -> &'static str {
    match choice {
        Choice::Auto => "auto",
        Choice::Cpu => "cpu",
        Choice::Hash => "hash",
    }
}

/// The word for `mode`.
pub fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Shadow => "shadow",
    }
}
