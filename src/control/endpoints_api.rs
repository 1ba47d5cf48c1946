//! Endpoints on the admin API: `POST /endpoints/drain`, `/endpoints/restore` and `/endpoints/weight`.
//!
//! An order names one endpoint: `{"cluster": "payments", "address": "127.0.0.1:9001"}`, the address as it is configured
//! or as it was found. It is in force on all shards when the answer is there, outlives a reload, goes on in a successor,
//! and ends with a process that nobody follows: what must last longer stands in the configuration.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::{
    Json, Router,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use serde::Deserialize;
use serde_json::json;

use super::{admin::trouble::trouble, health::Order, view::View};

/// The routes.
pub fn router(view: Arc<ArcSwap<View>>) -> Router {
    Router::new()
        .route("/endpoints/drain", post(drain))
        .route("/endpoints/restore", post(restore))
        .route("/endpoints/weight", post(weigh))
        .with_state(view)
}

/// Which endpoint.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    cluster: String,
    address: String,
}

/// Which endpoint, and its weight.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Weighed {
    cluster: String,
    address: String,
    weight: u32,
}

type Asked<T> = Result<Json<T>, JsonRejection>;

/// It gets nothing new; what is in flight ends.
async fn drain(State(view): State<Arc<ArcSwap<View>>>, asked: Asked<Named>) -> Response {
    match asked {
        Ok(Json(named)) => order(&view, &named, |order| order.drained = true),
        Err(rejection) => rejected(&rejection),
    }
}

/// Everything that was ordered of it is taken back.
async fn restore(State(view): State<Arc<ArcSwap<View>>>, asked: Asked<Named>) -> Response {
    match asked {
        Ok(Json(named)) => order(&view, &named, |order| *order = Order::default()),
        Err(rejection) => rejected(&rejection),
    }
}

/// It has this weight in place of the configured one.
async fn weigh(State(view): State<Arc<ArcSwap<View>>>, asked: Asked<Weighed>) -> Response {
    let Weighed { cluster, address, weight } = match asked {
        Ok(Json(weighed)) => weighed,
        Err(rejection) => return rejected(&rejection),
    };
    if !(1..=65_535).contains(&weight) {
        let message = format!("weight: {weight} is not from 1 to 65535; to have it get nothing, drain it");
        return trouble(StatusCode::BAD_REQUEST, &message);
    }
    order(&view, &Named { cluster, address }, |order| order.weight = Some(weight))
}

fn rejected(rejection: &JsonRejection) -> Response {
    trouble(rejection.status(), &rejection.body_text())
}

fn order(view: &ArcSwap<View>, named: &Named, change: impl FnOnce(&mut Order)) -> Response {
    let view = view.load();
    let Named { cluster: cluster_name, address } = named;
    let Some(cluster) = view.snapshot.clusters.iter().find(|cluster| *cluster.name == **cluster_name) else {
        return trouble(StatusCode::NOT_FOUND, &format!("no cluster is named \"{cluster_name}\""));
    };
    let is_meant = |name: &str, at: String| name == address || at == *address;
    let mut endpoints = cluster.endpoints.iter();
    let Some(endpoint) = endpoints.find(|known| is_meant(&known.name, known.address.to_string())) else {
        let message = format!("cluster \"{cluster_name}\" has no endpoint \"{address}\"");
        return trouble(StatusCode::NOT_FOUND, &message);
    };
    match view.health.order(&view.snapshot, cluster, endpoint, change) {
        Ok(order) => {
            let told = view.health.tell(cluster, endpoint);
            Json(json!({
                "cluster": cluster.name,
                "endpoint": endpoint.name,
                "drained": order.drained,
                "weight": order.weight.unwrap_or(endpoint.weight),
                "in_flight": endpoint.load.in_flight(),
                "state": told.state,
                "reason": told.reason,
            }))
            .into_response()
        }
        Err(_) => trouble(StatusCode::CONFLICT, "there are too many orders already; put them into the file"),
    }
}
