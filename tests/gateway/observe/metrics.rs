//! `/metrics`: what a scraper can read, and that it is true.

use serde_json::json;

use super::{Line, raw_lines};
use crate::rig::{Endpoint, Exposition, Gate, Gateway, Setup, bearer, mint, now_s, until, valid_token};

/// The promised families. A counter's samples end in `_total`.
const FAMILIES: [(&str, &str); 22] = [
    ("tollgate_requests", "counter"),
    ("tollgate_refusals", "counter"),
    ("tollgate_request_duration_seconds", "histogram"),
    ("tollgate_added_latency_seconds", "histogram"),
    ("tollgate_upstream_duration_seconds", "histogram"),
    ("tollgate_inflight_requests", "gauge"),
    ("tollgate_downstream_connections", "gauge"),
    ("tollgate_upstream_connections", "gauge"),
    ("tollgate_upstream_reuse", "counter"),
    ("tollgate_endpoint_up", "gauge"),
    ("tollgate_endpoint_inflight", "gauge"),
    ("tollgate_jwt_verifications", "counter"),
    ("tollgate_limit_decisions", "counter"),
    ("tollgate_limit_keys", "gauge"),
    ("tollgate_log_lines", "counter"),
    ("tollgate_log_dropped", "counter"),
    ("tollgate_shard_busy_ratio", "gauge"),
    ("tollgate_shard_driver", "gauge"),
    ("tollgate_phase", "gauge"),
    ("tollgate_drain_cut_requests", "counter"),
    ("tollgate_config_generation", "gauge"),
    ("tollgate_build_info", "gauge"),
];

fn scrape(gateway: &Gateway) -> Exposition {
    let (status, text) = gateway.admin_get("/metrics");
    assert_eq!(status, 200);
    Exposition::parse(&text)
}

#[test]
fn every_family_is_there_from_the_beginning_and_escapes_its_labels() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::new()
        .shards(2)
        .cluster("c \\\"1\\\" \\\\ {}", &[endpoint.address], "")
        .route("a \\\"b\\\",x=\\\"\\\\\\n# EOF\\n é", "/", "c \\\"1\\\" \\\\ {}", "")
        .start();
    let (route, cluster) = ("a \"b\",x=\"\\\n# EOF\n é", "c \"1\" \\ {}");
    let before = scrape(&gateway);
    for (name, kind) in FAMILIES {
        assert_eq!(before.family(name).kind, kind, "{name}");
    }
    assert_eq!(before.sum("tollgate_requests"), 0.0);
    assert_eq!(gateway.client().get("/", "").status, 200);
    until("the request to be counted", || {
        scrape(&gateway).value("tollgate_requests_total", &[("route", route), ("code_class", "2xx")]) == 1.0
    });
    let after = scrape(&gateway);
    assert_eq!(after.value("tollgate_request_duration_seconds_count", &[("route", route)]), 1.0);
    assert_eq!(after.value("tollgate_upstream_duration_seconds_count", &[("cluster", cluster)]), 1.0);
    let address = endpoint.address.to_string();
    assert_eq!(after.value("tollgate_endpoint_up", &[("cluster", cluster), ("endpoint", &address)]), 1.0);
    assert_eq!(after.sum("tollgate_build_info"), 1.0);
    let shards = &after.family("tollgate_shard_driver").samples;
    assert_eq!(shards.iter().map(|sample| sample.labels["shard"].as_str()).collect::<Vec<_>>(), ["0", "1"]);
    let busy = &after.family("tollgate_shard_busy_ratio").samples;
    assert!(busy.len() == 2 && busy.iter().all(|sample| (0.0..=1.0).contains(&sample.value)), "{busy:?}");
    gateway.stop();
}

#[test]
fn counters_are_exactly_the_requests_made() {
    let endpoint = Endpoint::scripted(|talk, seen| {
        talk.read_body(seen);
        let status = match seen.target() {
            "/open/missing" => "404 Not Found",
            "/open/moved" => "302 Found",
            "/open/broken" => "500 Internal Server Error",
            _ => "200 OK",
        };
        talk.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
    });
    let gateway = Setup::new()
        .shards(2)
        .keys("")
        .cluster("main", &[endpoint.address], "")
        .cluster("gone", &[Endpoint::nowhere()], "")
        .route("open", "/open", "main", "methods = [\"GET\"]")
        .route(
            "pay",
            "/pay",
            "main",
            "jwt = \"partners\"\nlimit = [{ by = \"consumer\", quota = \"3/hour\" }]",
        )
        .route("dead", "/dead", "gone", "")
        .start();
    let acme = bearer(&valid_token("acme"));
    let umbrella = bearer(&valid_token("umbrella"));
    let expired = bearer(&mint(&json!({ "sub": "acme", "exp": now_s() - 3600 })));
    // How often, which request, and its status.
    let script: [(usize, &str, &str, &str, u16); 11] = [
        (7, "GET", "/open", "", 200),
        (2, "GET", "/open/missing", "", 404),
        (3, "GET", "/open/moved", "", 302),
        (1, "GET", "/open/broken", "", 500),
        (2, "DELETE", "/open", "", 405),
        (4, "GET", "/nowhere", "", 404),
        (5, "GET", "/pay", "", 401),
        (2, "GET", "/pay", &expired, 401),
        (3, "GET", "/pay", &acme, 200),
        (6, "GET", "/pay", &acme, 429),
        (2, "GET", "/dead", "", 502),
    ];
    let mut requests = 0;
    for (times, method, target, fields, status) in script {
        for _ in 0..times {
            // Connections of their own are spread over both shards.
            let mut client = gateway.client();
            client
                .send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}Connection: close\r\n\r\n"));
            assert_eq!(client.answer().status, status, "{method} {target}");
            requests += 1;
        }
    }
    assert_eq!(gateway.client().get("/pay", &umbrella).status, 200);
    assert_eq!(gateway.client().send("nonsense\r\n\r\n").answer().status, 400);
    requests += 2;
    let lines: Vec<Line> =
        raw_lines(&gateway, "access.log", requests).iter().map(|text| Line::parse(text)).collect();
    until("the last connections to end", || {
        scrape(&gateway).value("tollgate_downstream_connections", &[]) == 0.0
            && scrape(&gateway).value("tollgate_log_lines_total", &[]) as usize == requests
    });

    let metrics = scrape(&gateway);
    let requests_of = |route: &str, class: &str| {
        metrics.value("tollgate_requests_total", &[("route", route), ("code_class", class)]) as u64
    };
    for (route, counts) in [
        ("open", [("2xx", 7), ("3xx", 3), ("4xx", 2), ("5xx", 1)]),
        ("pay", [("2xx", 4), ("3xx", 0), ("4xx", 13), ("5xx", 0)]),
        ("dead", [("2xx", 0), ("3xx", 0), ("4xx", 0), ("5xx", 2)]),
        ("-", [("2xx", 0), ("3xx", 0), ("4xx", 7), ("5xx", 0)]),
    ] {
        for (class, count) in counts {
            assert_eq!(requests_of(route, class), count, "{route} {class}");
        }
    }
    assert_eq!(metrics.sum("tollgate_requests") as usize, requests);
    let refusals = |code: &str| metrics.value("tollgate_refusals_total", &[("code", code)]) as u64;
    for (code, count) in [
        ("token_missing", 5),
        ("token_invalid", 2),
        ("quota_exceeded", 6),
        ("route_not_found", 4),
        ("method_not_allowed", 2),
        ("head_malformed", 1),
        ("upstream_unreachable", 2),
    ] {
        assert_eq!(refusals(code), count, "{code}");
    }
    assert_eq!(metrics.sum("tollgate_refusals"), 22.0);
    let verdicts = |result: &str| metrics.value("tollgate_jwt_verifications_total", &[("result", result)]);
    assert_eq!((verdicts("missing"), verdicts("refused")), (5.0, 2.0));
    assert_eq!(verdicts("verified") + verdicts("remembered"), 10.0);
    let decided =
        |word: &str| metrics.value("tollgate_limit_decisions_total", &[("route", "pay"), ("decision", word)]);
    assert_eq!((decided("admit"), decided("refuse")), (4.0, 6.0));
    assert_eq!(metrics.value("tollgate_limit_keys", &[]), 2.0);
    assert_eq!(metrics.value("tollgate_log_lines_total", &[]) as usize, requests);
    assert_eq!(metrics.sum("tollgate_log_dropped"), 0.0);
    let reused = metrics.value("tollgate_upstream_reuse_total", &[("cluster", "main")]) as usize;
    assert_eq!(reused + endpoint.connections(), 17, "an exchange has a new connection or a waiting one");
    histograms_agree_with_the_log(&metrics, &lines);
    gateway.stop();
}

/// Counts and sums to the microsecond, buckets as far as a step of the histogram allows.
#[track_caller]
fn histograms_agree_with_the_log(metrics: &Exposition, lines: &[Line]) {
    let of =
        |key: &'static str, value: &'static str| lines.iter().filter(move |line| line.text(key) == value);
    let duration = |line: &Line| line.number("duration_us");
    let upstream = |line: &Line| line.number("upstream_us");
    for route in ["open", "pay", "dead"] {
        let values: Vec<u64> = of("route", route).map(duration).collect();
        agree(metrics, "tollgate_request_duration_seconds", &[("route", route)], &values);
    }
    let values: Vec<u64> = of("cluster", "main").map(upstream).collect();
    agree(metrics, "tollgate_upstream_duration_seconds", &[("cluster", "main")], &values);
    // Nothing was ever sent there.
    agree(metrics, "tollgate_upstream_duration_seconds", &[("cluster", "gone")], &[]);
    let values: Vec<u64> = lines.iter().map(|line| duration(line) - upstream(line)).collect();
    agree(metrics, "tollgate_added_latency_seconds", &[], &values);
}

#[track_caller]
fn agree(metrics: &Exposition, name: &str, labels: &[(&str, &str)], values_us: &[u64]) {
    assert_eq!(
        metrics.value(&format!("{name}_count"), labels) as usize,
        values_us.len(),
        "{name} {labels:?}"
    );
    let sum_us = metrics.value(&format!("{name}_sum"), labels) * 1e6;
    assert_eq!(sum_us.round() as u64, values_us.iter().sum::<u64>(), "{name} {labels:?}");
    let buckets = metrics.family(name).samples.iter().filter(|sample| {
        sample.name.ends_with("_bucket")
            && labels.iter().all(|(label, value)| sample.labels[*label] == *value)
    });
    let mut seen = 0;
    for bucket in buckets {
        let limit_us = match bucket.labels["le"].as_str() {
            "+Inf" => f64::INFINITY,
            le => le.parse::<f64>().unwrap() * 1e6,
        };
        let below = |limit: f64| values_us.iter().filter(|&&value| value as f64 <= limit).count();
        let count = bucket.value as usize;
        assert!(
            count <= below(limit_us) && count >= below(limit_us / 1.07 - 1.0),
            "{bucket:?} {values_us:?}"
        );
        seen += 1;
    }
    assert!(seen >= 10, "{name} {labels:?} has {seen} buckets");
}

#[test]
fn gauges_follow_what_is_going_on_and_return_to_nothing() {
    let gate = Gate::default();
    let endpoint = Endpoint::holding(&gate);
    let address = endpoint.address.to_string();
    let gateway = Setup::proxy(endpoint.address).start();
    let gauges = || {
        let metrics = scrape(&gateway);
        let upstream = |state: &str| {
            metrics.value("tollgate_upstream_connections", &[("cluster", "main"), ("state", state)])
        };
        [
            metrics.value("tollgate_downstream_connections", &[]),
            metrics.value("tollgate_inflight_requests", &[]),
            metrics.value("tollgate_endpoint_inflight", &[("cluster", "main"), ("endpoint", &address)]),
            upstream("active"),
            upstream("idle"),
        ]
    };
    assert_eq!(gauges(), [0.0; 5]);
    let mut clients: Vec<_> = (0..3).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    // One more that says nothing.
    let silent = gateway.client();
    until("three requests to be held", || gate.arrived() == 3);
    until("the gauges to say so", || gauges() == [4.0, 3.0, 3.0, 3.0, 0.0]);
    // A client that leaves does not leave its slot behind.
    drop(clients.pop());
    gate.open();
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    until("the gauges to say so", || gauges()[..4] == [3.0, 0.0, 0.0, 0.0] && gauges()[4] >= 2.0);
    drop((clients, silent));
    until("nothing to be left", || gauges()[0] == 0.0);
    gateway.stop();
}
