//! The Grafana dashboard and the alert rules in `tuning/`: every metric and label they name exists.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use crate::rig::{Endpoint, Exposition, Setup, bearer, until, valid_token};

fn tuning(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning").join(file)).unwrap()
}

/// The PromQL of all rules.
fn rules() -> Vec<String> {
    let rules: Value = serde_yaml_ng::from_str(&tuning("prometheus/alerts.yml")).unwrap();
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    rules.map(|rule| rule["expr"].as_str().unwrap().to_owned()).collect()
}

/// The PromQL of all panels and variables.
fn panels() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&tuning("grafana/tollgate.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let queries = targets.map(|target| &target["expr"]).chain(variables.map(|variable| &variable["query"]));
    queries.map(|query| query.as_str().unwrap().to_owned()).collect()
}

/// The metrics that `query` names.
fn metrics_in(query: &str) -> BTreeSet<&str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("tollgate_")).collect()
}

/// Metrics with the labels that a selector on them names.
fn selectors_in(query: &str) -> Vec<(&str, Vec<&str>)> {
    let mut found = Vec::new();
    for (at, _) in query.match_indices('{') {
        let before = &query[..at];
        let start = before.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |end| end + 1);
        let selector = &query[at + 1..at + query[at..].find('}').unwrap()];
        let labels = selector.split("\",").filter_map(|matcher| matcher.split(['=', '!']).next());
        found.push((&query[start..at], labels.map(str::trim).collect()));
    }
    found
}

#[test]
fn every_metric_that_a_rule_or_a_panel_names_exists() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::new()
        .keys("")
        .cluster("main", &[endpoint.address], "")
        .text("[[api]]\nname = \"a\"\n[[api.version]]\nname = \"v1\"\nstate = \"retired\"\n")
        .text("\n[audit]\npath = \"audit.log\"\nkey_file = \"audit.key\"\n")
        .file("audit.key", &[b'k'; 32])
        .text("[[jwt]]\nname = \"issuer\"\njwks_url = \"http://127.0.0.1:1/jwks\"\n")
        .route(
            "pay",
            "/",
            "main",
            "jwt = \"partners\"\nslo = \"99% < 1s\"\nlimit = [{ by = \"consumer\", quota = \"9/second\" }]",
        )
        .route("old", "/old", "main", "api = \"a\"\nversion = \"v1\"")
        .start();
    assert_eq!(gateway.client().get("/", &bearer(&valid_token("acme"))).status, 200);
    let mut text = String::new();
    until("the request to be counted", || {
        text = gateway.admin_get("/metrics").1;
        text.contains("tollgate_requests_total{")
    });
    let exposition = Exposition::parse(&text);
    let samples = |name: &str| {
        let family = ["_total", "_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(name);
        assert!(text.contains(&format!("# TYPE {family} ")), "there is no metric {name}");
        let samples = &exposition.family(family).samples;
        samples
            .iter()
            .filter(|sample| sample.name == name)
            .map(|sample| sample.labels.clone())
            .collect::<Vec<_>>()
    };
    let (rules, panels) = (rules(), panels());
    assert!(rules.len() >= 14 && panels.len() >= 18);
    for query in rules.iter().chain(&panels) {
        let metrics = metrics_in(query);
        assert!(!metrics.is_empty() || query == "prometheus", "{query}");
        for metric in metrics {
            assert!(!samples(metric).is_empty(), "{metric} in {query} has no sample of that name");
        }
        for (metric, labels) in selectors_in(query) {
            for label in labels.into_iter().filter(|label| *label != "instance") {
                let has = samples(metric).iter().any(|own| own.contains_key(label));
                assert!(has, "{metric} has no label {label}, in {query}");
            }
        }
    }
}
