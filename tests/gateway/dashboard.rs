//! The dashboard: a page that loads nothing from anywhere, and data that are true.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use serde_json::{Value, json};

use crate::rig::{Endpoint, Exposition, Gateway, Setup, bearer, mint, now_s, until, valid_token};

fn live(gateway: &Gateway) -> Value {
    let (status, told) = gateway.admin_get("/live");
    assert_eq!(status, 200, "{told}");
    serde_json::from_str(&told).unwrap()
}

/// Head and body of a page on the admin address.
fn page(gateway: &Gateway, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(gateway.admin).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: admin\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

#[test]
fn pages_need_nothing_from_anywhere_and_may_have_nothing() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address).start();
    for path in ["/", "/catalogue"] {
        let (head, body) = page(&gateway, path);
        assert!(head.starts_with("http/1.0 200") || head.starts_with("http/1.1 200"), "{head}");
        let policy = head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap();
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        for loophole in ["unsafe", "http:", "https:", "*", "blob:"] {
            assert!(!policy.contains(loophole), "{loophole} in {policy}");
        }
        let icon = "<link rel=\"icon\" href=\"data:,\">";
        let body = body.replace(icon, "");
        assert!(!body.contains(" src=") && !body.contains("<link") && !body.contains("@import"), "{path}");
        assert!(
            !body.contains("url(") && !body.contains(" style=\"") && !body.contains(" onclick="),
            "{path}"
        );
    }
}

#[test]
fn what_the_page_shows_is_what_happened() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::new()
        .keys("")
        .cluster("main", &[endpoint.address], "")
        .route(
            "pay",
            "/pay",
            "main",
            "jwt = \"partners\"\nslo = \"99% < 1h\"\nlimit = [{ by = \"consumer\", quota = \"3/hour\" }]",
        )
        .start();
    let hostile = "<img src=x onerror=alert(1)>";
    let token = bearer(&mint(&json!({ "sub": hostile, "exp": now_s() + 600 })));
    let mut client = gateway.client();
    let statuses: Vec<u16> = (0..4).map(|_| client.get("/pay/%3Cb%3E", &token).status).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    assert_eq!(client.get("/nowhere/4111111111111111", "").status, 404);
    let mut told = Value::Null;
    until("everything to be told", || {
        told = live(&gateway);
        let answered: u64 = told["seconds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|second| second["requests"].as_u64().unwrap())
            .sum();
        answered == 5
            && told["last_refusals"].as_array().unwrap().len() == 2
            && told["consumers"][0]["calls"] == 4
            && told["clusters"][0]["endpoints"][0]["last_minute"] == 3
    });
    let refused = |code: &str| {
        let refusals = told["last_refusals"].as_array().unwrap();
        refusals.iter().find(|refusal| refusal["code"] == code).unwrap().clone()
    };
    let quota = refused("quota_exceeded");
    assert_eq!((&quota["consumer"], &quota["path"]), (&json!(hostile), &json!("/pay/%3Cb%3E")));
    assert_eq!((&quota["route"], &quota["status"]), (&json!("pay"), &json!(429)));
    assert_eq!(quota["request_id"].as_str().unwrap().len(), 32);
    let lost = refused("route_not_found");
    assert!(
        lost["route"].is_null() && !lost["path"].as_str().unwrap().contains("4111111111111111"),
        "{lost}"
    );
    let consumer = &told["consumers"][0];
    assert_eq!((&consumer["consumer"], &consumer["refused"]), (&json!(hostile), &json!(1)));
    let used = json!([{ "route": "pay", "used": 3, "quota": 3, "window_s": 3600 }]);
    assert_eq!(consumer["quotas"], used);
    assert_eq!(told["clusters"][0]["endpoints"][0]["share"], 1.0);
    assert_eq!(told["objectives"][0]["route"], "pay");
    let route = &told["routes"][0];
    assert!(route["route"] == "pay" && route["per_s"].as_f64().unwrap() > 0.0, "{route}");
    let [whole, added] = ["whole_us", "gateway_us"].map(|of| route[of][1].as_u64().unwrap());
    assert!(whole >= added && route["endpoint_us"][1].is_u64(), "{route}");
    let seconds = told["seconds"].as_array().unwrap();
    let last = seconds.last().unwrap();
    assert_eq!(last["busy"].as_array().unwrap().len(), 1);
    // Whoever asks again gets what is new only.
    let (_, newer) = gateway.admin_get(&format!("/live?after={}", last["at"]));
    let newer: Value = serde_json::from_str(&newer).unwrap();
    let fresh = newer["seconds"].as_array().unwrap();
    assert!(fresh.iter().all(|second| second["at"].as_u64() > last["at"].as_u64()), "{fresh:?}");
}

#[test]
fn a_timed_exchange_shows_where_its_time_went() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::new()
        .cluster("main", &[endpoint.address], "")
        .route("all", "/", "main", "")
        .text("[monitor]\nsample = \"100%\"\nslow = \"1ms\"\n")
        .start();
    let mut client = gateway.client();
    let mut slow = Value::Null;
    until("an exchange that took a millisecond", || {
        assert_eq!(client.get("/x", "").status, 200);
        slow = live(&gateway)["slow"][0].clone();
        !slow.is_null()
    });
    let steps: Vec<u64> =
        slow["steps_us"].as_array().unwrap().iter().map(|step| step.as_u64().unwrap()).collect();
    assert_eq!(steps.len(), 9);
    // Accepting comes before the first byte, and the log after the last.
    let within: u64 = steps[1..8].iter().sum();
    assert_eq!(within, slow["duration_us"].as_u64().unwrap(), "{slow}");
    let all = Endpoint::answering("ok");
    let unwatched = Setup::proxy(all.address).text("[monitor]\nsample = \"0%\"\nslow = \"1ms\"\n").start();
    let mut client = unwatched.client();
    until("a second to pass", || {
        client.get("/x", "");
        live(&unwatched)["seconds"].as_array().unwrap().iter().any(|second| second["requests"] != 0)
    });
    assert_eq!(live(&unwatched)["slow"], json!([]));
}

#[test]
fn objectives_consumers_and_versions_are_in_the_metrics() {
    let endpoint = Endpoint::scripted(|talk, seen| {
        talk.read_body(seen);
        let status = if seen.target() == "/pay/bad" { "500 Oops" } else { "200 OK" };
        talk.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
    });
    let gateway = Setup::new()
        .keys("")
        .cluster("main", &[endpoint.address], "")
        .text("[[api]]\nname = \"a\"\n[[api.version]]\nname = \"v1\"\n")
        .route("pay", "/pay", "main", "jwt = \"partners\"\nslo = \"99% < 1h\"\napi = \"a\"\nversion = \"v1\"")
        .start();
    let token = bearer(&valid_token("acme"));
    let mut client = gateway.client();
    for path in ["/pay", "/pay", "/pay", "/pay/bad", "/none"] {
        client.get(path, &token);
    }
    let mut metrics = Exposition::parse(&gateway.admin_get("/metrics").1);
    until("all to be counted", || {
        metrics = Exposition::parse(&gateway.admin_get("/metrics").1);
        metrics.sum("tollgate_requests") == 5.0
            && metrics.value("tollgate_slo_burn_rate", &[("route", "pay"), ("window", "5m")]) > 0.0
    });
    let value = |name: &str, labels: &[(&str, &str)]| metrics.value(name, labels);
    assert_eq!(value("tollgate_slo_requests_total", &[("route", "pay"), ("outcome", "good")]), 3.0);
    assert_eq!(value("tollgate_slo_requests_total", &[("route", "pay"), ("outcome", "bad")]), 1.0);
    assert_eq!(value("tollgate_slo_objective_ratio", &[("route", "pay")]), 0.99);
    // A quarter is bad where a hundredth may be.
    let burn = value("tollgate_slo_burn_rate", &[("route", "pay"), ("window", "5m")]);
    assert!((burn - 25.0).abs() < 0.01, "{burn}");
    let consumer = |consumer, outcome| {
        value("tollgate_consumer_requests_total", &[("consumer", consumer), ("outcome", outcome)])
    };
    assert_eq!(
        (consumer("acme", "answered"), consumer("acme", "5xx"), consumer("-", "4xx")),
        (3.0, 1.0, 1.0)
    );
    assert_eq!(value("tollgate_api_version_requests_total", &[("api", "a"), ("version", "v1")]), 4.0);
    let state = [("api", "a"), ("version", "v1"), ("state", "active")];
    assert_eq!(value("tollgate_api_version_state", &state), 1.0);
    assert_eq!(value("tollgate_route_upstream_duration_seconds_count", &[("route", "pay")]), 4.0);
    assert_eq!(value("tollgate_route_added_latency_seconds_count", &[("route", "pay")]), 4.0);
}

#[test]
fn consumers_leave_the_machine_as_hashes_where_the_log_hashes_them() {
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", receiver.local_addr().unwrap());
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::new()
        .keys("")
        .set("log", "consumer_key_file = \"consumer.key\"")
        .file("consumer.key", &[b'k'; 32])
        .cluster("main", &[endpoint.address], "")
        .route("all", "/", "main", "jwt = \"partners\"")
        .text(&format!("[monitor]\nsample = \"100%\"\notlp = \"{url}\"\n"))
        .start();
    assert_eq!(gateway.client().get("/", &bearer(&valid_token("acme-payments"))).status, 200);
    let hash = gateway.log(1)[0]["consumer"].as_str().unwrap().to_owned();
    assert_eq!(hash.len(), 32);
    let (mut stream, _) = receiver.accept().unwrap();
    let (_, spans) = read_request(&mut stream);
    let sample = format!("tollgate_consumer_requests_total{{consumer=\"{hash}\",outcome=\"answered\"}}");
    until("the request to be counted", || gateway.metric(&sample) == 1.0);
    let metrics = gateway.admin_get("/metrics").1.into_bytes();
    for (what, bytes) in [("spans", &spans), ("metrics", &metrics)] {
        let holds = |part: &str| bytes.windows(part.len()).any(|window| window == part.as_bytes());
        assert!(holds(&hash) && !holds("acme-payments"), "{what}");
    }
}

/// Reads one HTTP request with its body.
pub(crate) fn read_request(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece).unwrap();
        bytes.extend_from_slice(&piece[..read]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        if bytes.len() >= end + 4 + length {
            return (head, bytes[end + 4..].to_vec());
        }
        assert!(read > 0, "the exporter closed within its request");
    }
}

#[test]
fn spans_go_to_the_receiver_and_continue_the_callers_trace() {
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", receiver.local_addr().unwrap());
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::new()
        .cluster("main", &[endpoint.address], "")
        .route("pay-route", "/pay", "main", "")
        .text(&format!("[monitor]\nsample = \"100%\"\notlp = \"{url}\"\n"))
        .start();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-00\r\n");
    assert_eq!(gateway.client().get("/pay", &parent).status, 200);
    let asked = endpoint.seen(1)[0].field("traceparent").unwrap().to_owned();
    assert!(asked.starts_with(&format!("00-{trace}-")) && asked.ends_with("-01"), "sampled by us: {asked}");
    let (mut stream, _) = receiver.accept().unwrap();
    let (head, body) = read_request(&mut stream);
    assert!(head.starts_with("post /v1/traces ") && head.contains("application/x-protobuf"), "{head}");
    let holds = |part: &[u8]| body.windows(part.len()).any(|window| window == part);
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    for part in [&bytes(trace), &bytes("00f067aa0ba902b7"), &bytes(&asked[36..52])] {
        assert!(holds(part), "{part:x?}");
    }
    for word in ["tollgate", "GET pay-route", "authenticate", "forward", "respond"] {
        // A step that took no microsecond has no span; these always take some.
        assert!(word == "authenticate" || holds(word.as_bytes()), "{word}");
    }
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    until("the export to be counted", || {
        gateway.metric("tollgate_span_exports_total{result=\"exported\"}") == 1.0
    });
}

#[test]
fn a_receiver_that_is_gone_holds_nobody_up() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::new()
        .cluster("main", &[endpoint.address], "")
        .route("all", "/", "main", "")
        .text(&format!("[monitor]\nsample = \"100%\"\notlp = \"http://{}/v1/traces\"\n", Endpoint::nowhere()))
        .start();
    let mut client = gateway.client();
    assert_eq!(client.get("/", "").status, 200);
    until("the failure to be counted", || {
        gateway.metric("tollgate_span_exports_total{result=\"failed\"}") >= 1.0
    });
    assert_eq!(client.get("/", "").status, 200);
    let said = |line: &String| line.contains("spans cannot be exported to http://");
    until("the failure to be said", || gateway.said().iter().any(said));
}
