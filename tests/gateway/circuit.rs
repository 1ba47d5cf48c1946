//! The limit that follows what answers take: who is turned away, how soon a service that is gone shuts it, and what is
//! said about it.

use serde_json::Value;

use crate::rig::{Client, Endpoint, Gate, Gateway, Setup, until};

fn circuit(gateway: &Gateway) -> Value {
    let (_, text) = gateway.admin_get("/clusters");
    let clusters: Value = serde_json::from_str(&text).unwrap();
    clusters[0]["circuit"].clone()
}

/// Broken by a limit that is not the endpoints' ceiling together, on any shard.
#[test]
fn beyond_the_limit_requests_are_turned_away() {
    let gate = Gate::default();
    let endpoints = [Endpoint::holding(&gate), Endpoint::holding(&gate)];
    let addresses = endpoints.each_ref().map(|endpoint| endpoint.address);
    let gateway = Setup::new()
        .cluster("main", &addresses, "circuit = { mode = \"adaptive\", min = 3, max = 3 }")
        .route("all", "/", "main", "")
        .shards(2)
        .start();
    until("the first look", || circuit(&gateway)["limit"] == 3);
    let mut clients: Vec<Client> = Vec::new();
    for arrived in 1..=3 {
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        clients.push(client);
        until("it to arrive", || gate.arrived() == arrived);
    }
    let refused = gateway.client().get("/", "");
    assert_eq!((refused.status, refused.code().as_str()), (503, "overloaded"));
    assert!(refused.field("retry-after").is_some());
    assert_eq!(refused.field("tollgate-delivery"), Some("not-sent"));
    gate.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
    let log = gateway.log(4);
    assert_eq!(log.iter().filter(|line| line["reason"] == "circuit").count(), 1);
    assert_eq!(gateway.metric("tollgate_cluster_limit{cluster=\"main\"}"), 3.0);
}

#[test]
fn a_service_that_is_gone_shuts_it() {
    let gateway = Setup::new()
        .cluster("main", &[Endpoint::nowhere()], "circuit = { mode = \"adaptive\", min = 2, max = 100 }")
        .route("all", "/", "main", "")
        .start();
    until("the first look", || circuit(&gateway)["limit"] == 64);
    assert_eq!(circuit(&gateway)["reason"], "answers take as long as usual");
    let mut client = gateway.client();
    until("the limit to fall to its least", || {
        client.get("/", "");
        let circuit = circuit(&gateway);
        circuit["limit"] == 2 && circuit["reason"] == "most connections cannot be made"
    });
    let is_said = |line: &String| line.contains("are under way at once: most connections cannot be made");
    until("it to be said", || gateway.said().iter().any(is_said));
}

#[test]
fn without_it_nothing_is_said_of_it() {
    let endpoint = Endpoint::answering("a");
    let gateway = Setup::new().cluster("main", &[endpoint.address], "").route("all", "/", "main", "").start();
    assert!(circuit(&gateway).is_null());
}
