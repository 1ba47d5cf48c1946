//! What there is to say of clusters and their endpoints: `/clusters`, and their part of `/metrics`.
//!
//! Every choice can be explained by it: the state of each endpoint and why, its effective weight, what it has in flight,
//! what an answer takes, how its attempts went.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use axum::{Json, Router, extract::State, routing::get};
use serde_json::{Value, json};

use crate::{
    shared::standing::{UNBOUNDED, WEIGHT_UNIT},
    stage::balance::{Cluster, Endpoint},
};

use super::{metrics::Out, view::View};

/// The route of `/clusters`.
pub fn router(view: Arc<ArcSwap<View>>) -> Router {
    Router::new().route("/clusters", get(clusters)).with_state(view)
}

async fn clusters(State(view): State<Arc<ArcSwap<View>>>) -> Json<Value> {
    let view = view.load();
    let clusters = view.snapshot.clusters.iter().map(|cluster| {
        let endpoints = cluster.endpoints.iter().map(|endpoint| endpoint_view(&view, cluster, endpoint));
        let (reuses, dials) =
            (cluster.meters.sum(|meters| &meters.reuses), cluster.meters.sum(|meters| &meters.dials));
        json!({
            "cluster": cluster.name,
            "balance": cluster.balance.word(),
            "endpoints": endpoints.collect::<Vec<_>>(),
            "connections_active": cluster.meters.sum(|meters| &meters.connections_active),
            "connections_idle": cluster.meters.sum(|meters| &meters.connections_idle),
            "reuses": reuses,
            "dials": dials,
            "reuse_ratio": ratio(reuses, dials),
            "queued": cluster.queue.as_ref().map_or(0, |queue| queue.places.taken()),
            "circuit": view.health.limited(cluster).map(|limited| json!({
                "limit": limited.limit,
                "usual_ms": limited.usual_us.map(|us| us / 1e3),
                "reason": limited.reason,
            })),
        })
    });
    Json(clusters.collect())
}

fn endpoint_view(view: &View, cluster: &Cluster, endpoint: &Endpoint) -> Value {
    let told = view.health.tell(cluster, endpoint);
    let terms = endpoint.standing.terms();
    let (dials, reuses) =
        (endpoint.meters.sum(|meters| &meters.fresh), endpoint.meters.sum(|meters| &meters.reused));
    json!({
        "endpoint": endpoint.name,
        "address": endpoint.address.to_string(),
        "host": endpoint.host,
        "state": told.state,
        "reason": told.reason,
        "weight": endpoint.weight,
        "weight_ordered": told.order.weight,
        "effective_weight": effective_weight(endpoint),
        "in_flight": endpoint.load.in_flight(),
        "max_in_flight": (terms.ceiling < UNBOUNDED).then_some(terms.ceiling),
        "latency_ms": latency_us(endpoint).map(|us| us / 1e3),
        "succeeded": endpoint.meters.sum(|meters| &meters.good),
        "failed": endpoint.meters.sum(|meters| &meters.bad),
        "reported_share": told.reported_share,
        "ejections": told.ejected,
        "dials": dials,
        "reuse_ratio": ratio(reuses, dials),
    })
}

fn effective_weight(endpoint: &Endpoint) -> f64 {
    f64::from(endpoint.standing.terms().weight) / f64::from(WEIGHT_UNIT)
}

fn latency_us(endpoint: &Endpoint) -> Option<f64> {
    let estimate_us = endpoint.standing.estimate_us();
    (estimate_us > 0).then(|| f64::from(estimate_us))
}

/// Of all connections used, the share that had served before.
fn ratio(reuses: u64, dials: u64) -> Option<f64> {
    let all = reuses + dials;
    (all > 0).then(|| reuses as f64 / all as f64)
}

/// Their part of `/metrics`.
pub(super) fn metrics(out: &mut Out<'_>, view: &View) -> fmt::Result {
    let (mut up, mut load, mut weights, mut latencies) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut attempts, mut ejections, mut in_flight) = (Vec::new(), Vec::new(), 0);
    let (mut limits, mut queue_waits) = (Vec::new(), Vec::new());
    for cluster in view.snapshot.clusters.iter() {
        if cluster.queue.is_some() {
            let waits = cluster.meters.sum(|meters| &meters.queue_waits);
            queue_waits.push(([("cluster", &*cluster.name)], waits));
        }
        if let Some(limited) = view.health.limited(cluster) {
            limits.push(([("cluster", &*cluster.name)], u64::from(limited.limit)));
        }
        for endpoint in &cluster.endpoints {
            let labels = [("cluster", &*cluster.name), ("endpoint", &*endpoint.name)];
            up.push((labels, u64::from(endpoint.standing.terms().weight > 0)));
            let now = u64::from(endpoint.load.in_flight());
            in_flight += now;
            load.push((labels, now));
            weights.push((labels, effective_weight(endpoint)));
            latencies.push((labels, latency_us(endpoint).unwrap_or(0.0) / 1e6));
            ejections.push((labels, view.health.tell(cluster, endpoint).ejected));
            let [cluster, endpoint_label] = labels;
            for (result, count) in [
                ("good", endpoint.meters.sum(|meters| &meters.good)),
                ("bad", endpoint.meters.sum(|meters| &meters.bad)),
            ] {
                attempts.push(([cluster, endpoint_label, ("result", result)], count));
            }
        }
    }
    // What has left is shown until its last exchange has ended.
    for (cluster, endpoint) in view.snapshot.departed.iter() {
        let now = u64::from(endpoint.load.in_flight());
        in_flight += now;
        if now > 0 {
            load.push(([("cluster", &**cluster), ("endpoint", &*endpoint.name)], now));
        }
    }
    out.gauges("tollgate_endpoint_up", "Whether the endpoint may be chosen", &up)?;
    out.gauges(
        "tollgate_endpoint_inflight",
        "Exchanges in flight at the endpoint, all shards together",
        &load,
    )?;
    out.ratios(
        "tollgate_endpoint_weight",
        "The endpoint's share relative to the others, in effect",
        &weights,
    )?;
    out.ratios(
        "tollgate_endpoint_latency_seconds",
        "Until an answer begins, a moving average; 0 while nothing is known",
        &latencies,
    )?;
    out.counters("tollgate_endpoint_attempts", "Attempts by how they went", &attempts)?;
    out.counters("tollgate_endpoint_ejections", "Times the endpoint was left out", &ejections)?;
    out.gauges(
        "tollgate_cluster_limit",
        "Exchanges that may be in flight at the cluster, where that follows what answers take",
        &limits,
    )?;
    let help = "Requests that waited for an endpoint of the cluster to have room";
    out.counters("tollgate_cluster_queue_waits", help, &queue_waits)?;
    // Exchanges come and go while this adds up; what is wrong stays wrong when all is at rest.
    let carried = view.shards.sum(|meters| &meters.carried);
    out.gauge(
        "tollgate_inflight_drift",
        "How far the endpoints' exchanges in flight and those the shards carry are apart; 0 at rest",
        in_flight.abs_diff(carried),
    )
}
