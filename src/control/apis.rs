//! `/apis`: the versions of every API, where each is in its life, and who still calls it.
//!
//! Sums what the shards counted when it is asked for. Also hands out the attached OpenAPI documents.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

use crate::{
    base::clock::Clock,
    shared::callers::{Callers, Calls},
    stage::version::{Choice, MediaType, Version},
};

use super::{access_log::masked_name, admin::trouble::trouble, view::View};

/// The routes of the admin API that are about versions.
pub fn router(view: Arc<ArcSwap<View>>) -> Router {
    Router::new()
        .route("/apis", get(apis))
        .route("/apis/{api}/{version}/openapi", get(openapi))
        .with_state(view)
}

async fn apis(State(view): State<Arc<ArcSwap<View>>>) -> Json<Value> {
    let view = view.load();
    let now_s = Clock::new().now().unix_seconds();
    let apis = view.snapshot.apis.iter().map(|api| {
        let versions = api.versions.iter().map(|version| told(&view, version, now_s));
        json!({
            "api": api.name,
            "choose": chosen_by(&api.choice),
            "versions": versions.collect::<Vec<_>>(),
        })
    });
    Json(apis.collect())
}

fn told(view: &View, version: &Version, now_s: i64) -> Value {
    let routes = view.snapshot.routes.routes().iter().filter(|route| {
        route.membership.as_ref().is_some_and(|known| std::ptr::eq(&*known.version, version))
    });
    let census = Census::of(version.callers.iter());
    json!({
        "version": version.name,
        "state": version.state(now_s).word(),
        "deprecated": version.deprecated_s.map(time),
        "sunset": version.sunset_s.map(time),
        "successor": version.successor,
        "docs": version.docs,
        "in_brownout": version.brownout(now_s).is_some(),
        "brownouts": version.brownouts.iter()
            .map(|out| json!({ "from": time(out.from_s), "until": time(out.until_s) }))
            .collect::<Vec<_>>(),
        "operations": version.description.as_ref().map(|described| described.operations.count()),
        "routes": routes.map(|route| &*route.name).collect::<Vec<_>>(),
        "callers": census.named.iter().map(with_name).collect::<Vec<_>>(),
        "without_credential": counts(&census.nameless),
        "others": counts(&census.others),
    })
}

/// How a request says which version it means, in words.
pub fn chosen_by(choice: &Choice) -> String {
    match choice {
        Choice::Path => "path".to_owned(),
        Choice::Header(name, _) => format!("header {name}"),
        Choice::MediaType(MediaType::Subtype(before, after), _) => {
            format!("media type {before}{{version}}{after}")
        }
        Choice::MediaType(MediaType::Parameter(media_type, name), _) => {
            format!("media type {media_type};{name}={{version}}")
        }
    }
}

/// The callers of all shards together.
pub struct Census {
    /// By name; who called last stands first.
    pub named: Vec<Calls>,
    /// Requests without a credential.
    pub nameless: Calls,
    /// Requests of callers beyond what the tables hold.
    pub others: Calls,
}

impl Census {
    /// The sum of `tables`.
    pub fn of<'t>(tables: impl Iterator<Item = &'t Callers>) -> Self {
        let mut by_key: HashMap<u64, Calls> = HashMap::new();
        let (mut nameless, mut others) = (Calls::default(), Calls::default());
        for table in tables {
            for calls in table.named() {
                match by_key.get_mut(&calls.key) {
                    Some(sum) => add(sum, &calls),
                    None => {
                        by_key.insert(calls.key, calls);
                    }
                }
            }
            add(&mut nameless, &table.nameless());
            add(&mut others, &table.others());
        }
        let mut named: Vec<Calls> = by_key.into_values().collect();
        named.sort_by(|one, other| (other.last_s, &one.name).cmp(&(one.last_s, &other.name)));
        Self { named, nameless, others }
    }
}

fn add(sum: &mut Calls, more: &Calls) {
    sum.calls += more.calls;
    sum.refused += more.refused;
    sum.failed += more.failed;
    sum.last_s = sum.last_s.max(more.last_s);
}

fn with_name(calls: &Calls) -> Value {
    let mut told = counts(calls);
    told["consumer"] = masked_name(&calls.name).into();
    told
}

fn counts(calls: &Calls) -> Value {
    let last = (calls.last_s > 0).then(|| time(i64::try_from(calls.last_s).unwrap_or(i64::MAX)));
    json!({ "calls": calls.calls, "refused": calls.refused, "failed": calls.failed, "last_call": last })
}

/// Seconds since the Unix epoch as RFC 3339 has them.
pub fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |moment| moment.to_string())
}

async fn openapi(
    State(view): State<Arc<ArcSwap<View>>>,
    Path((api, version)): Path<(String, String)>,
) -> Response {
    let view = view.load();
    let mut apis = view.snapshot.apis.iter().filter(|known| *known.name == *api);
    let known = apis.find_map(|known| known.versions.iter().find(|known| *known.name == *version));
    match known.and_then(|known| known.description.as_ref()) {
        Some(described) => {
            let document = &described.document;
            ([(CONTENT_TYPE, document.media_type)], document.bytes.to_vec()).into_response()
        }
        None => {
            let message = "no version of that name has an OpenAPI document; /apis lists the versions";
            trouble(StatusCode::NOT_FOUND, message)
        }
    }
}
