//! Quotas of consumers' own on the admin API: `POST`, `DELETE` and `GET /overrides`.
//!
//! `{"consumer": "acme", "quota": "5000/minute", "ttl": "1h"}`; `strategy`, `rate` and `burst` as in the configuration.
//! What the consumer has used stays used. When the answer is there, every shard holds it to the quota from its next
//! request on.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    base::clock::Clock,
    stage::{
        auth::is_usable_as_consumer,
        limit::{By, Quota},
        snapshot::Snapshot,
    },
};

use super::{
    super::{
        overrides::{Full, OVERRIDES_MAX, Override},
        reload::Reloader,
    },
    term::{end_s, shown},
    trouble::trouble,
};

/// What becomes of an override.
const LASTS: &str =
    "until it ends, is taken back, or the process ends without a successor; a reload keeps it";

/// The routes.
pub(super) fn router(reloader: Arc<Reloader>) -> Router {
    Router::new().route("/overrides", get(list).post(set).delete(clear)).with_state(reloader)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    consumer: String,
    strategy: Option<String>,
    quota: Option<String>,
    rate: Option<String>,
    burst: Option<u32>,
    until: Option<String>,
    ttl: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whose {
    consumer: String,
}

impl Order {
    fn quota(&self) -> Result<Quota, String> {
        let Self { strategy, quota, rate, burst, .. } = self;
        let quota = match (strategy.as_deref(), quota, rate, burst) {
            (None | Some("exact"), Some(quota), None, None) => Quota::parse(quota),
            (Some("calendar"), Some(quota), None, None) => Quota::calendar(quota),
            (Some("token-bucket"), None, Some(rate), Some(burst)) => Quota::bucket(rate, *burst),
            _ => {
                let message = "give a quota such as \"100/second\", with strategy exact or calendar, or a rate and a \
                               burst with strategy token-bucket";
                return Err(message.to_owned());
            }
        };
        quota.map_err(|error| error.0)
    }

    fn read(&self, snapshot: &Snapshot, now_s: i64) -> Result<Override, String> {
        if !is_usable_as_consumer(&self.consumer) {
            let rule = "a consumer has 1 to 256 bytes, no control characters, and no blanks around it";
            return Err(rule.to_owned());
        }
        let given = Override {
            quota: self.quota()?,
            until_s: end_s(self.until.as_deref(), self.ttl.as_deref(), now_s)?,
        };
        let dearest = snapshot.routes.routes().iter().map(|route| route.cost).max().unwrap_or(1);
        match given.quota.windows().iter().find(|window| window.limit() < dearest) {
            Some(window) => Err(format!(
                "a request can cost {dearest}, and a window has {}: none would ever pass",
                window.limit()
            )),
            None => Ok(given),
        }
    }
}

async fn set(State(reloader): State<Arc<Reloader>>, order: Result<Json<Order>, JsonRejection>) -> Response {
    let now_s = Clock::new().now().unix_seconds();
    let snapshot = reloader.in_force();
    let read = order.map_err(|rejection| rejection.body_text());
    let read = read.and_then(|Json(order)| Ok((order.read(&snapshot, now_s)?, order.consumer)));
    let (given, consumer) = match read {
        Ok(read) => read,
        Err(message) => return trouble(StatusCode::BAD_REQUEST, &message),
    };
    let routes = snapshot.routes.routes().iter();
    let routes = routes.filter(|route| route.limits.iter().any(|limit| limit.by == By::Consumer));
    let routes: Vec<Value> = routes.map(|route| Value::from(&*route.name)).collect();
    if routes.is_empty() {
        return trouble(StatusCode::CONFLICT, "no limit counts by consumer, so there is nothing to override");
    }
    let answer = json!({ "override": told(&consumer, &given), "routes": routes, "lasts": LASTS });
    let outcome = change(reloader, move |all| all.set(&consumer, given)).await;
    match outcome {
        Ok((Ok(()), generation)) => with_generation(answer, generation),
        Ok((Err(Full), _)) => {
            let message = format!(
                "there are {OVERRIDES_MAX} overrides already; write consumer.quota into the configuration"
            );
            trouble(StatusCode::CONFLICT, &message)
        }
        Err(message) => trouble(StatusCode::SERVICE_UNAVAILABLE, &message),
    }
}

async fn clear(State(reloader): State<Arc<Reloader>>, whose: Result<Json<Whose>, JsonRejection>) -> Response {
    let consumer = match whose {
        Ok(Json(Whose { consumer })) => consumer,
        Err(rejection) => return trouble(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    let answer = json!({ "cleared": { "consumer": consumer } });
    match change(reloader, move |all| all.clear(&consumer)).await {
        Ok((true, generation)) => with_generation(answer, generation),
        Ok((false, _)) => {
            let message =
                "the admin API has given this consumer no quota; one of the file is changed in the file";
            trouble(StatusCode::NOT_FOUND, message)
        }
        Err(message) => trouble(StatusCode::SERVICE_UNAVAILABLE, &message),
    }
}

/// Changes the overrides beside everything else: names may have to be looked up for it.
async fn change<T: Send + 'static>(
    reloader: Arc<Reloader>,
    change: impl FnOnce(&mut super::super::overrides::Overrides) -> T + Send + 'static,
) -> Result<(T, u64), String> {
    let changed = tokio::task::spawn_blocking(move || reloader.override_quotas(change));
    changed.await.unwrap_or_else(|error| Err(error.to_string()))
}

fn with_generation(mut answer: Value, generation: u64) -> Response {
    answer["generation"] = generation.into();
    Json(answer).into_response()
}

async fn list(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    let overrides = reloader.overrides();
    let listed: Vec<Value> = overrides.iter().map(|(consumer, one)| told(consumer, one)).collect();
    Json(json!({ "overrides": listed, "lasts": LASTS }))
}

fn told(consumer: &str, given: &Override) -> Value {
    json!({
        "consumer": consumer,
        "quota": format!("{:?}", given.quota),
        "until": given.until_s.and_then(shown),
    })
}
