//! `/live`: what the dashboard asks for once a second.
//!
//! The seconds since the last question, and where things stand now. Also of use to a person with `curl`.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, header::CACHE_CONTROL},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    base::clock::{Clock, Moment},
    shared::sample::STEPS,
    stage::{
        limit::{By, Limit},
        refusal::ANSWERS,
        snapshot::Snapshot,
    },
};

use super::{
    super::{access_log::masked_name, admin::trouble::trouble, apis, audit, view::View},
    State as Kept, WINDOWS,
    census::Consumer,
};

/// Consumers that are listed.
const CONSUMERS_MAX: usize = 20;
/// Quotas that are listed of a consumer: those it has used most of.
const QUOTAS_MAX: usize = 3;

/// The route of the data.
pub fn router(view: Arc<ArcSwap<View>>) -> Router {
    Router::new().route("/live", get(live)).with_state(view)
}

#[derive(Deserialize)]
struct Since {
    /// Seconds since the Unix epoch; what is no later is known already.
    #[serde(default)]
    after: u64,
}

async fn live(
    State(view): State<Arc<ArcSwap<View>>>,
    since: Result<Query<Since>, QueryRejection>,
) -> Response {
    let since = match since {
        Ok(Query(since)) => since,
        Err(rejection) => return trouble(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    let view = view.load_full();
    let state = view.monitor.state();
    let told = tell(&view, &state, since.after);
    drop(state);
    ([(CACHE_CONTROL, "no-store")], Json(told)).into_response()
}

fn tell(view: &View, state: &Kept, after: u64) -> Value {
    let refusals = ANSWERS.iter().zip(state.history.refusals()).filter(|(answer, recent)| {
        *recent > 0 || view.shards.sum(|meters| &meters.refusals[answer.code as usize]) > 0
    });
    let refusals = refusals.map(|(answer, recent)| {
        json!({
            "code": answer.word,
            "status": answer.status,
            "last_minute": recent,
            "total": view.shards.sum(|meters| &meters.refusals[answer.code as usize]),
        })
    });
    let shares = state.history.endpoints();
    let clusters = view.snapshot.clusters.iter().zip(shares).map(|(cluster, counts)| {
        let all: u64 = counts.iter().sum();
        let endpoints = cluster.endpoints.iter().zip(counts).map(|(endpoint, count)| {
            let share = if all == 0 { 0.0 } else { count as f64 / all as f64 };
            json!({ "endpoint": endpoint.name, "last_minute": count, "share": share })
        });
        json!({ "cluster": cluster.name, "endpoints": endpoints.collect::<Vec<_>>() })
    });
    let consumers = state.censuses.consumers(view);
    let consumers = consumers.iter().take(CONSUMERS_MAX);
    let objectives = state.burn.rates(view.snapshot.routes.routes()).into_iter().map(|burn| {
        let rates =
            WINDOWS.iter().zip(burn.rates).map(|((window, _), rate)| ((*window).to_owned(), rate.into()));
        json!({
            "route": burn.route,
            "good": f64::from(burn.objective.good_per_million) / 1e6,
            "within_ms": burn.objective.within_us as f64 / 1e3,
            "burn_rate": rates.collect::<serde_json::Map<String, Value>>(),
        })
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "generation": view.snapshot.generation,
        "phase": view.phase(),
        "drivers": &*view.drivers,
        "connections": view.shards.sum(|meters| &meters.connections),
        "steps": STEPS,
        "seconds": state.history.after(after).collect::<Vec<_>>(),
        "routes": state.pulses.now(view.snapshot.routes.routes()),
        "refusals": refusals.collect::<Vec<_>>(),
        "clusters": clusters.collect::<Vec<_>>(),
        "consumers": consumers.map(|consumer| told_of(&view.snapshot, consumer)).collect::<Vec<_>>(),
        "objectives": objectives.collect::<Vec<_>>(),
        "audit": view.audit.as_deref().map(audit::told),
        "last_refusals": state.recent.refusals().collect::<Vec<_>>(),
        "slow": state.recent.slow().collect::<Vec<_>>(),
    })
}

fn told_of(snapshot: &Snapshot, consumer: &Consumer) -> Value {
    let now = Clock::new().now();
    let mut quotas: Vec<(f64, Value)> = Vec::new();
    for route in snapshot.routes.routes() {
        for limit in route.limits.iter().filter(|limit| limit.by == By::Consumer) {
            quotas.extend(fullest(limit, consumer.calls.key, now).map(|(used, limit, window_s)| {
                let share = f64::from(used) / f64::from(limit);
                let told = json!({ "route": route.name, "used": used, "quota": limit, "window_s": window_s });
                (share, told)
            }));
        }
    }
    quotas.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let calls = &consumer.calls;
    json!({
        "consumer": masked_name(&calls.name),
        "calls": calls.calls,
        "refused": calls.refused,
        "failed": calls.failed,
        "per_s": consumer.per_s,
        "last_call": apis::time(i64::try_from(calls.last_s).unwrap_or(i64::MAX)),
        "quotas": quotas.into_iter().take(QUOTAS_MAX).map(|(_, told)| told).collect::<Vec<_>>(),
    })
}

/// Of the windows of `limit` the one that the consumer has used the largest share of: units used, units there are,
/// seconds.
fn fullest(limit: &Limit, consumer: u64, now: Moment) -> Option<(u32, u32, u64)> {
    let (quota, table) = limit.quota_of(Some(consumer));
    let slot = table.known(consumer)?;
    let windows = quota.windows().iter().enumerate().map(|(place, window)| {
        let remaining = table.usage(slot, place).standing(now).remaining;
        (window.limit().saturating_sub(remaining), window.limit(), window.length_us() / 1_000_000)
    });
    let share = |window: &(u32, u32, u64)| f64::from(window.0) / f64::from(window.1);
    windows.filter(|window| window.0 > 0).max_by(|one, other| share(one).total_cmp(&share(other)))
}
