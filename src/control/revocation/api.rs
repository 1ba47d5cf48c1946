//! The deny list on the admin API: `POST /revoke`, `DELETE /revoke`, `GET /revoked`.
//!
//! An order names one thing and perhaps an end: `{"jti": "…", "ttl": "1h"}`. When the answer is there, every
//! shard refuses from its next request on.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    base::clock::Clock,
    shared::revoked::{FOREVER, Mark, UntilS},
};

use super::{
    super::admin::{
        term::{self, end_s},
        trouble::trouble,
    },
    ADMIN_ENTRIES_MAX, ListFull, Revocations,
    list::{check_value, until},
};

/// Entries of the admin API that `GET /revoked` shows.
const SHOWN_MAX: usize = 1_000;

/// The routes.
pub fn router(revocations: Arc<Revocations>) -> Router {
    Router::new()
        .route("/revoke", post(revoke).delete(restore))
        .route("/revoked", get(revoked))
        .with_state(revocations)
}

/// What a request asks for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    jti: Option<String>,
    sub: Option<String>,
    kid: Option<String>,
    until: Option<String>,
    ttl: Option<String>,
}

impl Order {
    /// The one thing it names.
    fn entry(&self) -> Result<(Mark, &str), String> {
        let named = [(Mark::Jti, &self.jti), (Mark::Sub, &self.sub), (Mark::Kid, &self.kid)];
        let mut named = named.into_iter().filter_map(|(mark, value)| Some((mark, value.as_deref()?)));
        let (Some((mark, value)), None) = (named.next(), named.next()) else {
            return Err("name one of jti, sub and kid".to_owned());
        };
        check_value(value)?;
        // As lines of the file are read, so that an entry can move there.
        if value.trim() != value {
            return Err("a value has no blanks around it".to_owned());
        }
        Ok((mark, value))
    }

    fn until_s(&self, now_s: i64) -> Result<UntilS, String> {
        let end_s = end_s(self.until.as_deref(), self.ttl.as_deref(), now_s)?;
        Ok(end_s.map_or(FOREVER, until))
    }
}

async fn revoke(
    State(revocations): State<Arc<Revocations>>,
    order: Result<Json<Order>, JsonRejection>,
) -> Response {
    let now_s = Clock::new().now().unix_seconds();
    let checked = read(&order).and_then(|order| {
        let ((mark, value), until_s) = (order.entry()?, order.until_s(now_s)?);
        Ok((mark, value, until_s))
    });
    let (mark, value, until_s) = match checked {
        Ok(checked) => checked,
        Err(message) => return trouble(StatusCode::BAD_REQUEST, &message),
    };
    match revocations.revoke(mark, value, until_s, now_s) {
        Ok(()) => Json(json!({ "revoked": shown(mark, value, until_s) })).into_response(),
        Err(ListFull) => {
            let message = format!(
                "there are {ADMIN_ENTRIES_MAX} entries already; put longer lists into revocation.file"
            );
            trouble(StatusCode::CONFLICT, &message)
        }
    }
}

async fn restore(
    State(revocations): State<Arc<Revocations>>,
    order: Result<Json<Order>, JsonRejection>,
) -> Response {
    let (mark, value) = match read(&order).and_then(Order::entry) {
        Ok(entry) => entry,
        Err(message) => return trouble(StatusCode::BAD_REQUEST, &message),
    };
    if !revocations.restore(mark, value) {
        let message = "the admin API has no such entry; one of the file is taken back in the file";
        return trouble(StatusCode::NOT_FOUND, message);
    }
    Json(json!({ "restored": { mark.word(): value } })).into_response()
}

async fn revoked(State(revocations): State<Arc<Revocations>>) -> Json<Value> {
    let overview = revocations.overview();
    let admin: Vec<Value> = overview
        .admin
        .iter()
        .take(SHOWN_MAX)
        .map(|(mark, value, until_s)| shown(*mark, value, *until_s))
        .collect();
    Json(json!({
        "file": overview.file.map(|path| json!({
            "path": path,
            "entries": overview.file_entries,
            "trouble": overview.trouble,
        })),
        "admin": admin,
        "admin_entries": overview.admin.len(),
    }))
}

fn read(order: &Result<Json<Order>, JsonRejection>) -> Result<&Order, String> {
    match order {
        Ok(Json(order)) => Ok(order),
        Err(rejection) => Err(rejection.body_text()),
    }
}

fn shown(mark: Mark, value: &str, until_s: UntilS) -> Value {
    let until = Some(until_s).filter(|&until_s| until_s != FOREVER);
    let until = until.and_then(|until_s| term::shown(i64::from(until_s)));
    json!({ mark.word(): value, "until": until })
}
