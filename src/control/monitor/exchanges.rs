//! `GET /exchanges`: the last exchanges, the newest first, as the access log tells them.
//!
//! They come by way of the log's writer, whatever the format of its lines, with the same masks and the same hashes of
//! consumers. Successes that `log.sample` leaves out are not among them, and without a log there are none.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};

use crate::{shared::record::Record, stage::refusal::ANSWERS};

use super::{
    super::{
        access_log::{Filter, delivery, masked, masked_trace, termination},
        admin::trouble::trouble,
        view::View,
    },
    recent::Names,
};

/// Exchanges that are shown if nobody says how many.
const SHOWN: usize = 50;
/// The most that are shown.
const SHOWN_MAX: usize = 1_000;

/// The route.
pub fn router(view: Arc<ArcSwap<View>>) -> Router {
    Router::new().route("/exchanges", get(list)).with_state(view)
}

/// Which ones are wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    last: Option<usize>,
    route: Option<String>,
    status: Option<String>,
    consumer: Option<String>,
}

/// One exchange, with the names that the log has for what is told of it.
#[derive(Serialize)]
struct Exchange {
    ts: String,
    request_id: String,
    trace_id: String,
    client_ip: String,
    consumer: Option<String>,
    method: String,
    path: String,
    route: Option<String>,
    status: u16,
    code: Option<&'static str>,
    reason: Option<String>,
    cluster: Option<String>,
    endpoint: Option<String>,
    attempts: u8,
    delivery: &'static str,
    bytes_in: u64,
    bytes_out: u64,
    duration_us: u64,
    upstream_us: u64,
    termination: &'static str,
}

async fn list(
    State(view): State<Arc<ArcSwap<View>>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let wanted = match wanted {
        Ok(Query(wanted)) => wanted,
        Err(rejection) => return trouble(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    let statuses = match wanted.status.as_deref().map(Filter::parse_status).transpose() {
        Ok(statuses) => statuses,
        Err(mistake) => return trouble(StatusCode::BAD_REQUEST, &mistake),
    };
    let view = view.load_full();
    let Some(log) = &view.log else {
        let message =
            "exchanges come by way of the access log, and log.access is off; /live has the last refusals";
        return trouble(StatusCode::CONFLICT, message);
    };
    let mut state = view.monitor.state();
    state.recent.learn(&view.snapshot);
    let max = wanted.last.unwrap_or(SHOWN).min(SHOWN_MAX);
    let mut exchanges = Vec::new();
    log.last.newest(|packed| {
        if exchanges.len() >= max {
            return false;
        }
        let Some(record) = Record::unpack(packed) else { return true };
        let names = state.recent.names_of(record.generation);
        let route = record.route.and_then(|route| names?.route(route));
        let is_wanted = statuses.is_none_or(|(from, to)| (from..=to).contains(&record.status))
            && wanted.route.as_deref().is_none_or(|wanted| wanted == route.unwrap_or("-"));
        if is_wanted {
            let exchange = tell(&view, &record, route, names);
            let shown = exchange.consumer.as_deref().unwrap_or_default();
            let is_theirs = |wanted: &str| [record.consumer, shown.as_bytes()].contains(&wanted.as_bytes());
            if wanted.consumer.as_deref().is_none_or(is_theirs) {
                exchanges.push(exchange);
            }
        }
        true
    });
    drop(state);
    Json(exchanges).into_response()
}

fn tell(view: &View, record: &Record<'_>, route: Option<&str>, names: Option<&Names>) -> Exchange {
    let text = |bytes: &[u8]| masked(&String::from_utf8_lossy(bytes));
    let some = |bytes: &[u8]| (!bytes.is_empty()).then(|| text(bytes));
    let at = jiff::Timestamp::from_microsecond(i64::try_from(record.unix_us).unwrap_or(i64::MAX));
    let (cluster, endpoint) = record.endpoint.and_then(|place| names?.endpoint(place)).unzip();
    let consumer = some(record.consumer).map(|consumer| match &view.told.consumer_key {
        Some(key) => key.disguise(&String::from_utf8_lossy(record.consumer)),
        None => consumer,
    });
    Exchange {
        ts: at.map_or_else(|_| String::new(), |at| format!("{at:.6}")),
        request_id: text(record.request_id),
        trace_id: format!("{:032x}", masked_trace(record.trace_id)),
        client_ip: record.client_ip.to_string(),
        consumer,
        method: text(record.method),
        path: text(record.path),
        route: route.map(str::to_owned),
        status: record.status,
        code: record.code.and_then(|code| ANSWERS.get(usize::from(code))).map(|answer| answer.word),
        reason: some(record.reason),
        cluster: cluster.map(str::to_owned),
        endpoint: endpoint.map(str::to_owned),
        attempts: record.attempts,
        delivery: delivery(record.delivery),
        bytes_in: record.bytes_in,
        bytes_out: record.bytes_out,
        duration_us: record.duration_us,
        upstream_us: record.upstream_us,
        termination: termination(record.termination),
    }
}
