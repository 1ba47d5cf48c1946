//! The queue in front of a cluster whose endpoints are full: who waits, for how long, and who does not.

use std::thread;

use serde_json::Value;

use crate::rig::{Client, Endpoint, Gate, Gateway, Setup, until};

fn queued(gateway: &Gateway) -> u64 {
    let (_, text) = gateway.admin_get("/clusters");
    let clusters: Value = serde_json::from_str(&text).unwrap();
    clusters[0]["queued"].as_u64().unwrap()
}

fn ask(gateway: &Gateway) -> Client {
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client
}

/// Two shards, one endpoint with one place, a route with this limit.
fn behind(endpoint: &Endpoint, queue: &str, route: &str) -> Gateway {
    let lines = format!("max_in_flight = 1\nqueue = {{ {queue} }}");
    let setup = Setup::new().cluster("main", &[endpoint.address], &lines).route("all", "/", "main", route);
    setup.shards(2).start()
}

/// Broken by a place that nobody is called to, by one that two have, and by a wait that charges a limit twice.
#[test]
fn requests_wait_for_an_endpoint_and_all_are_served() {
    let gate = Gate::default();
    let endpoint = Endpoint::holding(&gate);
    let route = "in_flight = 20\nlimit = [{ by = \"route\", quota = \"9/hour\" }]";
    let gateway = behind(&endpoint, "length = 8, timeout = \"60s\"", route);
    let mut clients = vec![ask(&gateway)];
    until("the first to arrive", || gate.arrived() == 1);
    clients.extend((0..8).map(|_| ask(&gateway)));
    until("the others to wait", || queued(&gateway) == 8);
    let refused = gateway.client().get("/", "");
    assert_eq!((refused.status, refused.code().as_str()), (503, "overloaded"), "as many wait as may");
    assert_eq!(gate.arrived(), 1);
    gate.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
    assert_eq!((endpoint.count(), queued(&gateway)), (9, 0));
    assert_eq!(gateway.metric("tollgate_cluster_queue_waits_total{cluster=\"main\"}"), 8.0);
    let over = gateway.client().get("/", "");
    assert_eq!((over.status, over.code().as_str()), (429, "quota_exceeded"), "nine were charged, each once");
}

#[test]
fn nobody_waits_for_longer_than_they_may_or_when_their_client_has_left() {
    let gate = Gate::default();
    let endpoint = Endpoint::holding(&gate);
    let gateway = behind(&endpoint, "length = 8, timeout = \"100ms\"", "");
    let mut first = ask(&gateway);
    until("the first to arrive", || gate.arrived() == 1);
    let late = gateway.client().get("/", "");
    assert_eq!((late.status, late.code().as_str()), (503, "overloaded"));
    assert_eq!(late.field("tollgate-delivery"), Some("not-sent"));
    gate.open();
    assert_eq!(first.answer().status, 200);

    let gate = Gate::default();
    let endpoint = Endpoint::holding(&gate);
    let gateway = behind(&endpoint, "length = 8, timeout = \"60s\"", "");
    let mut first = ask(&gateway);
    until("the first to arrive", || gate.arrived() == 1);
    drop(ask(&gateway));
    until("its end to be logged", || gateway.lines_so_far("access.log").len() == 1);
    let line = gateway.log(1).remove(0);
    assert_eq!((&line["status"], &line["termination"]), (&499.into(), &"C3".into()));
    assert_eq!(queued(&gateway), 0);
    gate.open();
    assert_eq!((first.answer().status, endpoint.count()), (200, 1));
}

/// Broken by a line that forgets whom it holds when the configuration changes.
#[test]
fn a_reload_and_a_drain_leave_nobody_waiting() {
    let gate = Gate::default();
    let endpoint = Endpoint::holding(&gate);
    let gateway = behind(&endpoint, "length = 8, timeout = \"60s\"", "");
    let mut clients = vec![ask(&gateway)];
    until("the first to arrive", || gate.arrived() == 1);
    clients.extend((0..4).map(|_| ask(&gateway)));
    until("the others to wait", || queued(&gateway) == 4);
    gateway.signal("HUP");
    gateway.signal("TERM");
    let opener = thread::spawn(move || gate.open());
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
    opener.join().unwrap();
}
