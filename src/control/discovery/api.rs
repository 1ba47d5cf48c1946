//! `GET /discovery`: every host name with its addresses, every file of endpoints, and what is wrong with them.

use std::{sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use axum::{Json, Router, extract::State, routing::get};
use serde_json::{Value, json};

use super::{super::view::View, Discovery};

/// The routes of this part of the admin API.
pub fn router(view: Arc<ArcSwap<View>>) -> Router {
    Router::new().route("/discovery", get(discovery)).with_state(view)
}

async fn discovery(State(view): State<Arc<ArcSwap<View>>>) -> Json<Value> {
    Json(view.load().discovery.overview(Instant::now()))
}

impl Discovery {
    fn overview(&self, now: Instant) -> Value {
        let state = self.state();
        let names = state.names.iter().map(|(host, name)| {
            json!({
                "name": host,
                "addresses": name.addresses().map(|address| address.to_string()).collect::<Vec<_>>(),
                "trouble": name.trouble(),
                "next_lookup_in_ms": u64::try_from(name.due_in(now).as_millis()).unwrap_or(u64::MAX),
            })
        });
        let files = state.lists.iter().map(
            |(path, list)| json!({ "file": path, "endpoints": list.entries.len(), "trouble": list.trouble }),
        );
        json!({ "names": names.collect::<Vec<_>>(), "files": files.collect::<Vec<_>>() })
    }
}
