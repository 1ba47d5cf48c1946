//! The admin API: what it answers, and what it never gives away.

use serde_json::{Value, json};

use crate::rig::{Answer, Client, Endpoint, Gateway, SECRET, Setup};

#[track_caller]
fn ask(gateway: &Gateway, method: &str, path: &str) -> Answer {
    let mut client = Client::connect(gateway.admin);
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: admin\r\nContent-Length: 0\r\n\r\n"));
    client.answer()
}

fn started() -> (Endpoint, Gateway) {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::new()
        .keys("")
        .cluster("payments", &[endpoint.address], "")
        .route(
            "pay",
            "/pay",
            "payments",
            "jwt = \"partners\"\nlimit = [{ by = \"consumer\", quota = \"3/hour\" }]",
        )
        .route(
            "shop",
            "/shop",
            "payments",
            "methods = [\"GET\", \"POST\"]\nlimit = [{ by = \"header:X-Shop\", quota = \"9/minute\" }]",
        )
        .start();
    (endpoint, gateway)
}

#[test]
fn each_path_answers_what_it_is_for() {
    let (endpoint, gateway) = started();
    let get = |path: &str| {
        let answer = ask(&gateway, "GET", path);
        assert_eq!((answer.status, answer.field("content-type")), (200, Some("application/json")), "{path}");
        assert!(!answer.text().contains(SECRET), "{path}");
        answer.json()
    };
    assert_eq!(get("/health")["status"], "alive");
    assert_eq!(get("/ready")["ready"], true);
    let clusters = get("/clusters");
    assert_eq!(clusters[0]["cluster"], "payments");
    assert_eq!(clusters[0]["endpoints"][0]["address"], endpoint.address.to_string());
    assert!(
        clusters[0]["endpoints"][0]["state"].is_string() && clusters[0]["endpoints"][0]["reason"].is_string()
    );
    let routes = get("/routes");
    assert_eq!((&routes[0]["route"], &routes[0]["cluster"]), (&Value::from("pay"), &Value::from("payments")));
    assert_eq!(
        (&routes[0]["methods"], &routes[0]["limits"][0]["by"]),
        (&Value::Null, &Value::from("consumer"))
    );
    assert_eq!(routes[1]["methods"], json!(["GET", "POST"]));
    assert_eq!(routes[1]["limits"][0]["by"], "header:X-Shop");
    let config = get("/config").to_string();
    for word in ["payments", "/pay", "partners", "k1", "HS256"] {
        assert!(config.contains(word), "{word} in {config}");
    }
    let metrics = ask(&gateway, "GET", "/metrics");
    let kind = metrics.field("content-type").unwrap();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    gateway.stop();
}

#[test]
fn other_paths_and_methods_are_refused_and_change_nothing() {
    let (_endpoint, mut gateway) = started();
    for path in
        ["/nothing", "/health/", "/metrics/x", "/Health", "//health", "/../health", "/drain/x", "/%64rain"]
    {
        for method in ["GET", "POST"] {
            assert_eq!(ask(&gateway, method, path).status, 404, "{method} {path}");
        }
    }
    for (path, allowed) in [
        ("/health", "GET,HEAD"),
        ("/ready", "GET,HEAD"),
        ("/metrics", "GET,HEAD"),
        ("/config", "GET,HEAD"),
        ("/clusters", "GET,HEAD"),
        ("/routes", "GET,HEAD"),
        ("/drain", "POST"),
    ] {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            if allowed.split(',').any(|allowed| allowed == method) {
                continue;
            }
            let answer = ask(&gateway, method, path);
            assert_eq!((answer.status, answer.field("allow")), (405, Some(allowed)), "{method} {path}");
        }
    }
    // Neither what is not HTTP nor somebody who says nothing takes it away from others.
    let silent = Client::connect(gateway.admin);
    let mut noise = Client::connect(gateway.admin);
    noise.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n");
    noise.rest();
    assert_eq!(ask(&gateway, "GET", "/ready").status, 200);
    drop(silent);
    assert_eq!(gateway.has_ended(), None);
    gateway.stop();
}
