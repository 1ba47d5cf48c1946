//! The admin API: what a person or a monitor asks a running gateway.
//!
//! JSON unless said otherwise. Listens on a loopback address only. Reads what the shards publish and never
//! waits for them; what it can order is a drain, and that a credential counts no longer.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::shared::lifecycle::Phase;

use super::{metrics::View, revocation};

/// What the handlers need.
#[derive(Clone, Debug)]
pub struct Admin {
    /// What there is to see.
    pub view: Arc<View>,
    /// The configuration as `/config` shows it, without secrets.
    pub config: Arc<Value>,
    /// Notified when a drain is ordered.
    pub drain: Arc<Notify>,
}

impl Admin {
    /// Serves the API on `listener` for as long as the process runs.
    ///
    /// # Errors
    /// The listener broke.
    pub async fn serve(self, listener: tokio::net::TcpListener) -> std::io::Result<()> {
        axum::serve(listener, self.router()).await
    }

    fn router(self) -> Router {
        let revocations = revocation::api::router(Arc::clone(&self.view.revocations));
        Router::new()
            .route("/health", get(health))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .route("/config", get(config))
            .route("/clusters", get(clusters))
            .route("/routes", get(routes))
            .route("/drain", post(drain))
            .with_state(self)
            .merge(revocations)
    }
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "alive" }))
}

async fn ready(State(admin): State<Admin>) -> Response {
    let phase = admin.view.lifecycle.phase();
    let (status, word) = match phase {
        Phase::Serving if admin.view.lifecycle.listening() == admin.view.drivers.len() => {
            (StatusCode::OK, "serving")
        }
        Phase::Serving => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        Phase::Cutting => (StatusCode::SERVICE_UNAVAILABLE, "cutting"),
    };
    (status, Json(json!({ "ready": status == StatusCode::OK, "phase": word }))).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], admin.view.text()).into_response()
}

async fn config(State(admin): State<Admin>) -> Json<Value> {
    Json((*admin.config).clone())
}

async fn clusters(State(admin): State<Admin>) -> Json<Value> {
    let clusters = admin.view.snapshot.clusters.iter().map(|cluster| {
        let endpoints: Vec<Value> = cluster
            .endpoints
            .iter()
            .map(|endpoint| {
                json!({
                    "endpoint": endpoint.name,
                    "address": endpoint.address.to_string(),
                    "state": "up",
                    "reason": "no health check is configured",
                    "weight": endpoint.weight,
                    "in_flight": endpoint.load.in_flight(),
                })
            })
            .collect();
        json!({
            "cluster": cluster.name,
            "balance": "least-connections",
            "endpoints": endpoints,
            "connections_active": cluster.meters.sum(|meters| &meters.connections_active),
            "connections_idle": cluster.meters.sum(|meters| &meters.connections_idle),
            "reuses": cluster.meters.sum(|meters| &meters.reuses),
            "dials": cluster.meters.sum(|meters| &meters.dials),
        })
    });
    Json(clusters.collect())
}

async fn routes(State(admin): State<Admin>) -> Json<Value> {
    let snapshot = &admin.view.snapshot;
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

async fn drain(State(admin): State<Admin>) -> Json<Value> {
    admin.drain.notify_one();
    Json(json!({ "draining": true }))
}
