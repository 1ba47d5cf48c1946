//! The admin API: what a person or a monitor asks a running gateway.
//!
//! JSON unless said otherwise. Whoever may ask is decided by `guard.rs`, before anything here is reached. Reads what
//! the shards publish and never waits for them.

pub mod address;
pub mod bearer;
pub mod changes;
mod description;
pub mod door;
mod gate;
mod guard;
mod log_level;
mod overrides;
pub(super) mod term;
pub(super) mod trouble;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use arc_swap::ArcSwap;
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::base::clock::Clock;

use self::{
    door::{Door, Peer},
    trouble::trouble,
};

use super::{
    access_log::Tail,
    apis, catalogue, clusters, dashboard, discovery, endpoints_api, metrics,
    monitor::{exchanges, live},
    reload::Reloader,
    revocation, tail,
    view::View,
};

/// What the handlers need.
#[derive(Clone)]
pub struct Admin {
    /// What there is to see.
    pub view: Arc<ArcSwap<View>>,
    /// Puts another configuration in force.
    pub reloader: Arc<Reloader>,
    /// Where those announce themselves who follow the log.
    pub tail: Tail,
    /// When the process began.
    pub started: Instant,
    /// Notified when a drain is ordered.
    pub drain: Arc<Notify>,
}

impl Admin {
    /// Serves the API to whoever comes in at `door` for as long as the process runs.
    ///
    /// # Errors
    /// The listener broke.
    pub async fn serve(self, door: Door) -> std::io::Result<()> {
        axum::serve(door, self.router().into_make_service_with_connect_info::<Peer>()).await
    }

    fn router(self) -> Router {
        let revocations = revocation::api::router(Arc::clone(&self.view.load().revocations));
        let (apis, catalogue) =
            (apis::router(Arc::clone(&self.view)), catalogue::router(Arc::clone(&self.view)));
        let discovery = discovery::router(Arc::clone(&self.view));
        let monitor = live::router(Arc::clone(&self.view));
        let changes = changes::router(Arc::clone(&self.view.load().changes));
        let overrides = overrides::router(Arc::clone(&self.reloader));
        let exchanges = exchanges::router(Arc::clone(&self.view));
        let guard = middleware::from_fn_with_state(Arc::clone(&self.view), guard::guard);
        let clusters = clusters::router(Arc::clone(&self.view));
        let endpoints = endpoints_api::router(Arc::clone(&self.view));
        let tail = tail::router(self.tail.clone(), Arc::clone(&self.view));
        Router::new()
            .route("/health", get(health))
            .route("/ready", get(ready))
            .route("/status", get(status))
            .route("/metrics", get(scrape))
            .route("/config", get(config))
            .route("/routes", get(routes))
            .route("/reload", post(reload))
            .route("/drain", post(drain))
            .with_state(self)
            .merge(revocations)
            .merge(apis)
            .merge(catalogue)
            .merge(discovery)
            .merge(clusters)
            .merge(endpoints)
            .merge(monitor)
            .merge(tail)
            .merge(dashboard::router())
            .merge(changes)
            .merge(overrides)
            .merge(exchanges)
            .merge(log_level::router())
            .merge(description::router())
            .layer(guard)
    }
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "alive" }))
}

async fn ready(State(admin): State<Admin>) -> Response {
    let view = admin.view.load();
    let phase = view.phase();
    let endpoints = view.snapshot.clusters.iter().flat_map(|cluster| &cluster.endpoints);
    let eligible = endpoints.filter(|endpoint| endpoint.standing.terms().weight > 0).count();
    let is_ready = phase == "serving" && eligible > 0;
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let now_ms = Clock::new().now().monotonic_ms();
    let ready = json!({
        "ready": is_ready,
        "phase": phase,
        "endpoints_eligible": eligible,
        "phase_ends_in_ms": view.lifecycle.until_ms().map(|until_ms| until_ms.saturating_sub(now_ms)),
        "in_flight": view.shards.sum(|meters| &meters.in_flight),
        "connections": view.shards.sum(|meters| &meters.connections),
    });
    (status, Json(ready)).into_response()
}

async fn scrape(State(admin): State<Admin>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], metrics::text(&admin.view.load())).into_response()
}

async fn config(State(admin): State<Admin>) -> Json<Value> {
    Json((*admin.view.load().told.config).clone())
}

async fn routes(State(admin): State<Admin>) -> Json<Value> {
    let view = admin.view.load();
    let snapshot = &view.snapshot;
    let routes = snapshot.routes.routes().iter().map(|route| {
        let limits: Vec<Value> = route
            .limits
            .iter()
            .map(|limit| {
                json!({
                    "by": limit.by.to_string(),
                    "quota": format!("{:?}", limit.quota),
                    "keys": limit.table.occupied(),
                    "keys_max": limit.table.capacity(),
                })
            })
            .collect();
        json!({
            "route": route.name,
            "host": route.host,
            "path": route.path,
            "methods": route.methods.names(),
            "jwt": snapshot.keys_of(route).map(|keys| &keys.name),
            "api_keys": route.api_keys,
            "scopes": route.scopes,
            "roles": route.roles,
            "limits": limits,
            "cluster": snapshot.cluster_of(route).name,
            "body_bytes_max": route.body_bytes_max,
            "version": route.version,
        })
    });
    Json(routes.collect())
}

async fn status(State(admin): State<Admin>) -> Json<Value> {
    let view = admin.view.load();
    let shards: Vec<Value> = (view.shards.iter().zip(&*view.drivers).zip(&*view.busy_permille).enumerate())
        .map(|(shard, ((meters, driver), busy))| {
            json!({
                "shard": shard,
                "driver": driver,
                "busy_ratio": busy.load(Ordering::Relaxed) as f64 / 1_000.0,
                "connections": meters.connections.get(),
                "accepted": meters.accepted.get(),
                "in_flight": meters.in_flight.get(),
            })
        })
        .collect();
    let steered = view.steered.iter().map(|steered| {
        let steering = &steered.steering;
        json!({ "address": steered.address, "by": steering.word(), "why": steering.why() })
    });
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "phase": view.phase(),
        "uptime_s": admin.started.elapsed().as_secs(),
        "generation": view.snapshot.generation,
        "last_reload": admin.reloader.last(),
        "shards": shards,
        "accept_steering": steered.collect::<Vec<_>>(),
        "accept_imbalance_ratio": view.accept_imbalance.ratio(),
    }))
}

async fn reload(State(admin): State<Admin>) -> Response {
    // Files and names may keep it waiting, and the admin API goes on meanwhile.
    let report = tokio::task::spawn_blocking(move || admin.reloader.reload()).await;
    match report {
        Ok(report) if report.succeeded() => Json(report).into_response(),
        Ok(report) => (StatusCode::UNPROCESSABLE_ENTITY, Json(report)).into_response(),
        Err(error) => trouble(StatusCode::INTERNAL_SERVER_ERROR, &format!("the reload did not end: {error}")),
    }
}

async fn drain(State(admin): State<Admin>) -> Json<Value> {
    admin.drain.notify_one();
    Json(json!({ "draining": true }))
}
