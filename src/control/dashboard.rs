//! `/`: the dashboard, one page that needs nothing from anywhere.
//!
//! Styles, scripts and the library for the charts (uPlot, MIT, `assets/uplot.LICENSE`) stand in the page itself. It
//! asks `/live` and `/clusters` once a second and puts what it gets into the page as text, never as markup.

use axum::{Router, response::IntoResponse, routing::get};
use maud::{Markup, html};

use super::page::{self, Policy, page};

pub(super) const STYLES: [&str; 3] = [
    include_str!("assets/uplot.min.css"),
    include_str!("assets/page.css"),
    include_str!("assets/dashboard.css"),
];
pub(super) const SCRIPTS: [&str; 2] = [
    concat!("/*\n", include_str!("assets/uplot.LICENSE"), "*/\n", include_str!("assets/uplot.min.js")),
    include_str!("assets/dashboard.js"),
];

/// The route of the page.
pub fn router() -> Router {
    Router::new().route("/", get(show))
}

async fn show() -> impl IntoResponse {
    page(&Policy { styles: &STYLES, scripts: &SCRIPTS }, render().into_string())
}

fn render() -> Markup {
    let body = html! {
        header {
            h1 { "tollgate" }
            span #phase .state { "connecting" }
            span #facts .quiet {}
            nav { a href="/catalogue" { "Catalogue" } " " a href="/metrics" { "Metrics" } }
        }
        main {
            div .tiles #tiles {}
            div .charts {
                (chart("Requests a second", "rates"))
                (chart("Latency, ms", "latency"))
                (chart("The gateway's share of it, ms", "share"))
                (chart("Shards at work, %", "busy"))
            }
            (table("Routes", "routes"))
            (table("Endpoints", "endpoints"))
            (table("Consumers", "consumers"))
            (table("Objectives", "objectives"))
            (table("Audit log", "audit"))
            (table("Refusals by code", "refusals"))
            (table("Last refusals", "last"))
            (table("Slow exchanges", "slow"))
        }
        footer .quiet { "Charts by uPlot, MIT licence." }
    };
    page::whole("tollgate", &STYLES, &body, &SCRIPTS)
}

fn chart(title: &str, id: &str) -> Markup {
    html! { section { h2 { (title) } div .chart id=(id) {} } }
}

fn table(title: &str, id: &str) -> Markup {
    html! { section { h2 { (title) } div .wide id=(id) {} } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_script_ends_before_its_end() {
        // What stands in a `script` or `style` element ends where its end tag first appears.
        assert!(SCRIPTS.iter().all(|script| !script.to_ascii_lowercase().contains("</script")));
        assert!(STYLES.iter().all(|style| !style.to_ascii_lowercase().contains("</style")));
    }

    #[test]
    fn data_becomes_text_and_never_markup() {
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!SCRIPTS[1].contains(way), "{way}");
        }
    }
}
