//! The log's level on the admin API: `POST /log-level` with `{"level": "debug", "ttl": "10m"}`, and `GET`.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::rejection::JsonRejection,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing_subscriber::filter::LevelFilter;

use crate::base::clock::Clock;

use super::{
    super::log_level::{self, State},
    term::{end_s, shown},
    trouble::trouble,
};

/// What a level may be called.
const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// The routes.
pub(super) fn router() -> Router {
    Router::new().route("/log-level", get(show).post(set))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    level: String,
    until: Option<String>,
    ttl: Option<String>,
}

async fn show() -> Json<Value> {
    Json(told(&log_level::state()))
}

async fn set(order: Result<Json<Order>, JsonRejection>) -> Response {
    let now_s = Clock::new().now().unix_seconds();
    let read = order.map_err(|rejection| rejection.body_text()).and_then(|Json(order)| {
        let level = LEVELS.iter().find(|(word, _)| *word == order.level).map(|&(_, level)| level);
        let level = level.ok_or_else(|| {
            let words = LEVELS.map(|(word, _)| word).join(", ");
            format!("level: {:?} is not one of {words}", order.level)
        })?;
        Ok((level, end_s(order.until.as_deref(), order.ttl.as_deref(), now_s)?))
    });
    let (level, until_s) = match read {
        Ok(read) => read,
        Err(message) => return trouble(StatusCode::BAD_REQUEST, &message),
    };
    let state = log_level::set(level, until_s);
    if let Some(until_s) = until_s {
        let length = Duration::from_secs(u64::try_from(until_s - now_s).unwrap_or(0));
        tokio::spawn(async move {
            tokio::time::sleep(length).await;
            log_level::reset(state.turn);
        });
    }
    Json(told(&state)).into_response()
}

fn told(state: &State) -> Value {
    let word = LEVELS.iter().find(|(_, level)| *level == state.level).map(|(word, _)| *word);
    json!({
        "level": word,
        "until": state.until_s.and_then(shown),
        "lasts": "until it ends, is set anew, or the process ends; a successor begins at info",
    })
}
