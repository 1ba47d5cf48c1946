//! `/catalogue`: one page that shows routes, versions, permissions and limits to people.
//!
//! Self-contained: no script and nothing from elsewhere, and the answer's policy forbids both. Everything that is
//! shown comes from the configuration and is escaped by the template.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use maud::{Markup, html};

use crate::{
    base::clock::Clock,
    stage::{
        consumer::Grant,
        limit::Mode,
        route::Route,
        snapshot::Snapshot,
        version::{Api, Version},
    },
};

use super::{
    apis::{chosen_by, time},
    page::{self, Policy, page},
    view::View,
};

/// The route of the page.
pub fn router(view: Arc<ArcSwap<View>>) -> Router {
    Router::new().route("/catalogue", get(show)).with_state(view)
}

const STYLE: &str = include_str!("assets/page.css");

async fn show(State(view): State<Arc<ArcSwap<View>>>) -> Response {
    let view = view.load();
    let now_s = Clock::new().now().unix_seconds();
    page(&Policy { styles: &[STYLE], scripts: &[] }, render(&view.snapshot, now_s).into_string())
        .into_response()
}

fn render(snapshot: &Snapshot, now_s: i64) -> Markup {
    let body = html! {
        header { h1 { "Catalogue" } nav { a href="/" { "Dashboard" } } }
        main {
            @for api in snapshot.apis.iter() { (api_section(snapshot, api, now_s)) }
            @let (alone, any): (Vec<&Route>, bool) = routes_alone(snapshot);
            @if any {
                section { h2 { "Routes without an API" } (route_table(snapshot, &alone)) }
            }
            (consumer_section(snapshot))
        }
    };
    page::whole("tollgate: catalogue", &[STYLE], &body, &[])
}

fn routes_alone(snapshot: &Snapshot) -> (Vec<&Route>, bool) {
    let alone: Vec<&Route> =
        snapshot.routes.routes().iter().filter(|route| route.membership.is_none()).collect();
    let any = !alone.is_empty();
    (alone, any)
}

fn api_section(snapshot: &Snapshot, api: &Api, now_s: i64) -> Markup {
    html! {
        section {
            h2 { (api.name) }
            p.quiet { "The version is chosen by " (chosen_by(&api.choice)) "." }
            @for version in &api.versions {
                h3 { (version.name) " " span class={ "state " (version.state(now_s).word()) } { (version.state(now_s).word()) } }
                (life(api, version, now_s))
                @let routes: Vec<&Route> = snapshot.routes.routes().iter()
                    .filter(|route| route.membership.as_ref().is_some_and(|known| Arc::ptr_eq(&known.version, version)))
                    .collect();
                @if routes.is_empty() { p.quiet { "No route." } } @else { (route_table(snapshot, &routes)) }
            }
        }
    }
}

fn life(api: &Api, version: &Version, now_s: i64) -> Markup {
    html! {
        ul.facts {
            @if let Some(at_s) = version.deprecated_s { li { "Deprecated: " (time(at_s)) } }
            @if let Some(at_s) = version.sunset_s { li { "Sunset: " (time(at_s)) } }
            @if let Some(successor) = &version.successor { li { "Successor: " (successor) } }
            @for out in &version.brownouts {
                li { "Brown-out: " (time(out.from_s)) " to " (time(out.until_s)) @if out.until_s <= now_s { " (past)" } }
            }
            @if let Some(docs) = &version.docs { li { a href=(docs) rel="noreferrer" { "About its end" } } }
            @if let Some(described) = &version.description {
                li {
                    a href={ "/apis/" (api.name) "/" (version.name) "/openapi" } { "OpenAPI document" }
                    ": " (described.operations.count()) " operations; all others are refused"
                    @if let Some(path) = &described.document.path { "; callers get it at " code { (path) } }
                }
            }
        }
    }
}

fn route_table(snapshot: &Snapshot, routes: &[&Route]) -> Markup {
    html! {
        div.wide {
            table {
                thead { tr { th { "Route" } th { "Path" } th { "Methods" } th { "Who may call" } th { "Limits" } th { "Cluster" } } }
                tbody {
                    @for route in routes {
                        tr {
                            td { (route.name) }
                            td { code { (route.host.as_deref().unwrap_or_default()) (route.path) } }
                            td { (route.methods.names().map_or_else(|| "any".to_owned(), |names| names.join(", "))) }
                            td { (permissions(snapshot, route)) }
                            td { (limits(route)) }
                            td { (snapshot.cluster_of(route).name) }
                        }
                    }
                }
            }
        }
    }
}

/// Consumers that may not go everywhere their credentials let them.
fn consumer_section(snapshot: &Snapshot) -> Markup {
    let mut listed: Vec<_> =
        snapshot.consumers.iter().filter_map(|known| Some((&known.id, known.allow.as_deref()?))).collect();
    listed.sort_by_key(|(id, _)| *id);
    html! {
        @if !listed.is_empty() {
            section {
                h2 { "Consumers with a list" }
                p.quiet { "All others may go wherever their credentials let them." }
                div.wide {
                    table {
                        thead { tr { th { "Consumer" } th { "May use" } } }
                        tbody {
                            @for (id, grants) in listed {
                                tr {
                                    td { (id) }
                                    td {
                                        @if grants.is_empty() { "nowhere" }
                                        @for grant in grants { (grant_line(snapshot, grant)) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn grant_line(snapshot: &Snapshot, grant: &Grant) -> Markup {
    let routes = snapshot.routes.routes();
    let names = grant.routes.as_ref().map(|places| {
        places.iter().map(|&place| &*routes[usize::from(place)].name).collect::<Vec<_>>().join(", ")
    });
    let methods = grant.methods.names().map_or_else(|| "any method".to_owned(), |names| names.join(", "));
    html! { div { (methods) " at " (names.as_deref().unwrap_or("any route")) } }
}

fn permissions(snapshot: &Snapshot, route: &Route) -> Markup {
    html! {
        @match (snapshot.keys_of(route), route.api_keys) {
            (None, false) => { "everybody" }
            (Some(keys), false) => { "a token of " (keys.name) }
            (None, true) => { "an API key" }
            (Some(keys), true) => { "a token of " (keys.name) " or an API key" }
        }
        @if !route.scopes.is_empty() { br; "scopes " (route.scopes.join(", ")) }
        @if !route.roles.is_empty() { br; "one of the roles " (route.roles.join(", ")) }
    }
}

fn limits(route: &Route) -> Markup {
    html! {
        @if route.limits.is_empty() { "none" }
        @for limit in &route.limits {
            div { (format!("{:?}", limit.quota)) " by " (limit.by) @if limit.mode == Mode::Shadow { " (shadow)" } }
        }
    }
}
