//! Endpoints that say how loaded they are: in their answers, or when they are probed. What they say moves their weight, is
//! shown, and goes no further.

use serde_json::Value;

use crate::rig::{Endpoint, Gateway, Setup, tollgate, until};

fn endpoint(gateway: &Gateway, place: usize) -> Value {
    let (_, text) = gateway.admin_get("/clusters");
    let clusters: Value = serde_json::from_str(&text).unwrap();
    clusters[0]["endpoints"][place].clone()
}

/// One that answers everything with its number and this field.
fn saying(number: &'static str, field: &'static str) -> Endpoint {
    Endpoint::scripted(move |talk, _| {
        talk.send(format!("HTTP/1.1 200 OK\r\n{field}Content-Length: 1\r\n\r\n{number}"));
    })
}

fn behind(endpoints: &[Endpoint], lines: &str) -> Setup {
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
    Setup::new().cluster("main", &addresses, lines).route("all", "/", "main", "")
}

/// Broken by a figure that is not read, or that gets as far as the client.
#[test]
fn a_load_in_answers_moves_the_weight_and_stays_here() {
    let busy = "endpoint-load-metrics: TEXT cpu_utilization=0.9\r\n";
    let idle = "Endpoint-Load-Metrics: JSON {\"cpu_utilization\":0.1}\r\n";
    let endpoints = [saying("0", busy), saying("1", idle)];
    let gateway = behind(&endpoints, "balance = \"round-robin\"\nload_report = \"orca\"").start();
    let mut client = gateway.client();
    let mut ask = || {
        let answer = client.get("/", "");
        assert_eq!((answer.status, answer.field("endpoint-load-metrics")), (200, None));
        answer.text()
    };
    until("both weights to follow", || {
        ask();
        let weight = |place| endpoint(&gateway, place)["effective_weight"].as_f64().unwrap();
        weight(0) < 0.2 && weight(1) > 0.8 && weight(1) < 1.0
    });
    let told = endpoint(&gateway, 0);
    assert!((told["reported_share"].as_f64().unwrap() - 0.1).abs() < 0.01, "{told}");
    assert_eq!(told["reason"], "nothing speaks against it; reports a load of 90 %");
    let answers: Vec<String> = (0..40).map(|_| ask()).collect();
    let busy = answers.iter().filter(|number| *number == "0").count();
    assert!((3..=5).contains(&busy), "nine to one: {busy} of 40");
}

#[test]
fn where_nobody_asked_the_field_is_the_clients() {
    let endpoints = [saying("0", "endpoint-load-metrics: TEXT cpu_utilization=0.9\r\n")];
    let gateway = behind(&endpoints, "").start();
    let answer = gateway.client().get("/", "");
    assert_eq!(answer.field("endpoint-load-metrics"), Some("TEXT cpu_utilization=0.9"));
    assert!(endpoint(&gateway, 0)["reported_share"].is_null());
}

/// Broken by a share that is not taken, and by an agent that is not believed when it says that it is down.
#[test]
fn an_agent_says_what_it_wants() {
    let agent = |says: &'static str| {
        Endpoint::scripted(move |talk, seen| {
            let body = if seen.target() == "/agent" { says } else { "served" };
            talk.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        })
    };
    let endpoints = [agent("up 25%\n"), agent("drain"), agent("down"), agent("no agent")];
    let lines =
        "load_report = \"agent\"\nhealth = { probe = \"http\", path = \"/agent\", interval = \"100ms\" }";
    let gateway = behind(&endpoints, lines).start();
    let weight = |place| endpoint(&gateway, place)["effective_weight"].as_f64().unwrap();
    until("all to be known", || (0..4).map(weight).eq([0.25, 0.0, 0.0, 1.0]));
    assert_eq!(endpoint(&gateway, 0)["reason"], "the last probe: 200; wants 25 % of its weight");
    assert_eq!(endpoint(&gateway, 1)["reason"], "the last probe: 200; wants no requests");
    assert_eq!(endpoint(&gateway, 2)["reason"], "down: the last probe: it says that it is down");
    assert_eq!(endpoint(&gateway, 2)["state"], "down");
}

#[test]
fn an_agent_needs_a_probe() {
    let directory = behind(&[Endpoint::answering("a")], "load_report = \"agent\"").write();
    let output = tollgate(directory.path(), &["check", "tollgate.toml"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("load_report") && said.contains("http probes"),
        "{said}"
    );
}
