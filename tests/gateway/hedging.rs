//! Hedging: a safe request goes to another endpoint as well when the first is silent, and the first to speak answers.

use crate::rig::{Client, Endpoint, Gate, Gateway, Setup, until};

const HEDGED: &str = "hedge = { after = \"30ms\" }";

/// An endpoint that never answers while its gate is shut, and one that answers.
fn pair(lines: &str) -> (Gate, Endpoint, Endpoint, Gateway) {
    let gate = Gate::default();
    let (slow, quick) = (Endpoint::holding(&gate), Endpoint::answering("quick"));
    let gateway = Setup::new()
        .cluster("main", &[slow.address, quick.address], "")
        .route("all", "/", "main", lines)
        .start();
    (gate, slow, quick, gateway)
}

fn hedges(gateway: &Gateway, result: &str) -> f64 {
    gateway.metric(&format!("tollgate_hedges_total{{cluster=\"main\",result=\"{result}\"}}"))
}

/// Broken by a wait for the silent one, by a loser that is not let go of, or by a permit that is not given back.
#[test]
fn another_endpoint_answers_for_a_silent_one() {
    let (gate, slow, quick, gateway) = pair(HEDGED);
    let mut client = gateway.client();
    for _ in 0..20 {
        let answer = client.get("/", "");
        assert_eq!((answer.status, answer.text()), (200, "quick".into()));
    }
    let won = hedges(&gateway, "won");
    assert!(won >= 1.0 && hedges(&gateway, "lost") == 0.0, "{won} won");
    let log = gateway.log(20);
    let twice = log.iter().filter(|line| line["attempts"] == 2).count() as f64;
    assert_eq!(twice, won);
    let quick_address = quick.address.to_string();
    assert!(log.iter().all(|line| line["endpoint"] == quick_address.as_str()), "who answered is logged");
    assert!(log.iter().all(|line| line["termination"] == "--"), "whoever lost has not ended it");
    // Whoever lost was let go of, with nobody waiting for it.
    until("every slot to be given back", || {
        let (_, text) = gateway.admin_get("/metrics");
        let busy = |line: &str| line.starts_with("tollgate_endpoint_inflight{") && !line.ends_with(" 0");
        !text.lines().any(busy)
    });
    assert_eq!(gate.arrived() as f64, won);
    gate.open();
    slow.seen(gate.arrived());
}

/// Broken by a copy of something that changes something.
#[test]
fn only_what_is_safe_is_asked_twice() {
    let (gate, slow, quick, gateway) = pair("hedge = { after = \"1ms\" }\nretry = { attempts = 3 }");
    let mut clients: Vec<Client> = Vec::new();
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        for _ in 0..4 {
            let mut client = gateway.client();
            client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"));
            clients.push(client);
        }
    }
    until("all to arrive", || gate.arrived() + quick.count() == 16);
    gate.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
    assert_eq!(slow.count() + quick.count(), 16);
    assert!(gateway.log(16).iter().all(|line| line["attempts"] == 1));
    assert_eq!(hedges(&gateway, "won") + hedges(&gateway, "lost"), 0.0);
}

#[test]
fn both_may_fail_and_a_budget_may_be_used_up() {
    let (one, other) = (Gate::default(), Gate::default());
    let (first, second) = (Endpoint::holding(&one), Endpoint::holding(&other));
    let lines = "response_timeout = \"200ms\"";
    let gateway = Setup::new()
        .cluster("main", &[first.address, second.address], lines)
        .route("all", "/", "main", HEDGED)
        .start();
    let answer = gateway.client().get("/", "");
    assert_eq!((answer.status, answer.field("tollgate-delivery")), (504, Some("maybe-sent")));
    assert_eq!((one.arrived(), other.arrived()), (1, 1));
    let line = gateway.log(1).remove(0);
    assert_eq!((&line["attempts"], &line["termination"]), (&2.into(), &"e7".into()));
    one.open();
    other.open();

    let none = "retry_budget = \"0%\"\nretry_floor = 0";
    let (gate, quick) = (Gate::default(), Endpoint::answering("quick"));
    let slow = Endpoint::holding(&gate);
    let gateway = Setup::new()
        .cluster("main", &[slow.address, quick.address], none)
        .route("all", "/", "main", "hedge = { after = \"1ms\" }")
        .start();
    let denied = "tollgate_retries_denied_total{cluster=\"main\"}";
    let mut clients: Vec<Client> = Vec::new();
    until("one to be refused a second attempt", || {
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        clients.push(client);
        gateway.metric(denied) >= 1.0
    });
    gate.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
    assert_eq!(slow.count() + quick.count(), clients.len());
}
