//! Who has changed what by the admin API, and what came of it: `GET /changes`, and one line of log for each.
//!
//! Whatever can change something passes `guard.rs`, which notes it here; no action can forget to.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};

use super::{super::log_level::ORDERS, trouble::trouble};

/// Changes that are kept.
const KEPT_MAX: usize = 200;
/// Between two warnings about the same kind of stranger.
const WARNING_PAUSE: Duration = Duration::from_secs(60);

/// One order to the admin API.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// When it was answered, RFC 3339.
    pub at: String,
    /// Who gave it: an address or a user and a process, and the token's fingerprint.
    pub who: String,
    /// Method, path and body.
    pub what: String,
    /// The answer's status.
    pub status: u16,
    /// Why it was refused, if it was.
    pub error: Option<String>,
}

/// The last ones.
#[derive(Debug, Default)]
pub struct Changes {
    last: Mutex<VecDeque<Change>>,
    made: AtomicU64,
    strangers: AtomicU64,
    warned: Mutex<Option<Instant>>,
    /// Set by the control thread before it tells a successor what was ordered, and taken back if none came to serve.
    paused: AtomicBool,
}

impl Changes {
    /// Keeps `change` and says it to the log.
    pub(super) fn note(&self, change: Change) {
        let Change { who, what, status, error, .. } = &change;
        match error {
            None => tracing::info!(target: ORDERS, "admin: {what} by {who}: {status}"),
            Some(error) => tracing::warn!(target: ORDERS, "admin: {what} by {who}: {status} {error}"),
        }
        self.made.fetch_add(1, Ordering::Relaxed);
        let mut last = lock(&self.last);
        if last.len() == KEPT_MAX {
            last.pop_front();
        }
        last.push_back(change);
    }

    /// Counts a request of somebody who may not ask, and says so now and then.
    pub(super) fn turn_away(&self, who: &str, why: &str) {
        let count = self.strangers.fetch_add(1, Ordering::Relaxed) + 1;
        let mut warned = lock(&self.warned);
        if warned.is_none_or(|at| at.elapsed() >= WARNING_PAUSE) {
            *warned = Some(Instant::now());
            tracing::warn!(target: ORDERS, "admin: {who} was turned away, {why}; {count} requests so far");
        }
    }

    /// Takes no more orders from here on, or takes them again.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
    }

    /// Whether no order is taken, because a successor would not know of it.
    pub fn are_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Orders, and requests of those that may not ask.
    pub fn counts(&self) -> (u64, u64) {
        (self.made.load(Ordering::Relaxed), self.strangers.load(Ordering::Relaxed))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The route.
pub(super) fn router(changes: Arc<Changes>) -> Router {
    Router::new().route("/changes", get(list)).with_state(changes)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    last: Option<usize>,
}

async fn list(
    State(changes): State<Arc<Changes>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let wanted = match wanted {
        Ok(Query(wanted)) => wanted,
        Err(rejection) => return trouble(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    let last = lock(&changes.last);
    let shown: Vec<Change> = last.iter().rev().take(wanted.last.unwrap_or(KEPT_MAX)).cloned().collect();
    Json(shown).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_and_all_are_counted() {
        let changes = Changes::default();
        for status in 0..300 {
            let change =
                Change { at: String::new(), who: String::new(), what: String::new(), status, error: None };
            changes.note(change);
        }
        let kept: Vec<u16> = lock(&changes.last).iter().map(|change| change.status).collect();
        assert_eq!((kept.len(), kept[0], kept[199], changes.counts()), (200, 100, 299, (300, 0)));
    }
}
