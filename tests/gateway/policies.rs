//! Policies other than least connections, and the bound on what an endpoint has in flight, over the wire.

use serde_json::Value;

use crate::rig::{Client, Endpoint, Gate, Gateway, Setup, bearer, until, valid_token};

fn behind(endpoints: &[Endpoint], lines: &str) -> Setup {
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
    Setup::new().cluster("main", &addresses, lines).route("all", "/", "main", "")
}

/// Endpoints that answer with their number.
fn answering(count: usize) -> Vec<Endpoint> {
    ["0", "1", "2", "3"][..count].iter().map(|name| Endpoint::answering(name)).collect()
}

/// Who answers a request with these fields, on a connection of its own.
fn place(gateway: &Gateway, fields: &str) -> usize {
    let answer = gateway.client().get("/", fields);
    assert_eq!(answer.status, 200);
    answer.text().parse().unwrap()
}

/// How often each of `endpoints` answers.
fn shares(gateway: &Gateway, endpoints: usize, requests: usize) -> Vec<usize> {
    let mut shares = vec![0; endpoints];
    (0..requests).for_each(|_| shares[place(gateway, "")] += 1);
    shares
}

fn ask(gateway: &Gateway) -> Client {
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client
}

#[test]
fn turns_go_round_whichever_shard_a_client_is_on() {
    let endpoints = answering(3);
    let gateway = behind(&endpoints, "balance = \"round-robin\"").shards(2).start();
    for _ in 0..20 {
        assert_eq!(shares(&gateway, 3, 3), [1; 3]);
    }
}

#[test]
fn the_same_goes_to_the_same_also_after_a_restart() {
    let endpoints = answering(4);
    let setup = || behind(&endpoints, "balance = \"hash\"\nhash_by = \"header:X-Account\"").shards(2);
    let place = |gateway: &Gateway, account| place(gateway, &format!("X-Account: {account}\r\n"));
    let places = |gateway: &Gateway| (0..40).map(|account| place(gateway, account)).collect::<Vec<_>>();
    let gateway = setup().start();
    let first = places(&gateway);
    assert_eq!(first, places(&gateway));
    assert!((0..4).all(|endpoint| first.contains(&endpoint)), "{first:?}");
    gateway.stop();
    assert_eq!(first, places(&setup().start()));
}

#[test]
fn every_policy_serves() {
    let is_spread = |shares: &[usize]| shares.iter().all(|&share| share > 10);
    for lines in ["balance = \"latency\"", "balance = \"random\"", "balance = \"hash\"\nhash_by = \"ip\""] {
        let endpoints = answering(2);
        let gateway = behind(&endpoints, lines).start();
        if lines.contains("latency") {
            // Whoever was slow once, for whatever reason, gets little until that is forgotten.
            until("both to get their share", || is_spread(&shares(&gateway, 2, 60)));
            continue;
        }
        let shares = shares(&gateway, 2, 60);
        assert!(is_spread(&shares) || lines.contains("hash") && shares.contains(&60), "{lines}: {shares:?}");
    }
}

/// Broken by a bound that shards keep each for itself: two would let six in.
#[test]
fn no_endpoint_has_more_in_flight_than_it_may() {
    let gates = [Gate::default(), Gate::default()];
    let endpoints: Vec<Endpoint> = gates.iter().map(Endpoint::holding).collect();
    let gateway = behind(&endpoints, "max_in_flight = 3").shards(2).start();
    let mut held: Vec<Client> = (0..6).map(|_| ask(&gateway)).collect();
    let arrived = || gates.iter().map(Gate::arrived).collect::<Vec<_>>();
    until("all places to be taken", || arrived() == [3, 3]);
    for _ in 0..4 {
        let answer = gateway.client().get("/", "");
        assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
        assert_eq!(answer.field("retry-after"), Some("1"));
        assert_eq!(answer.field("tollgate-delivery"), Some("not-sent"));
    }
    assert_eq!(arrived(), [3, 3]);
    gates.iter().for_each(Gate::open);
    held.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
    until("a place to be free again", || gateway.client().get("/", "").status == 200);
    let refused = gateway.log(11).into_iter().find(|line| line["status"] == 503).unwrap();
    assert_eq!((&refused["reason"], &refused["attempts"]), (&Value::from("max_in_flight"), &Value::from(0)));
}

#[test]
fn who_is_turned_away_because_all_are_full_is_charged_nothing() {
    let gate = Gate::default();
    let endpoint = Endpoint::holding(&gate);
    let gateway = Setup::new()
        .keys("")
        .cluster("main", &[endpoint.address], "max_in_flight = 1")
        .route("hold", "/hold", "main", "")
        .route(
            "pay",
            "/pay",
            "main",
            "jwt = \"partners\"\nlimit = [{ by = \"consumer\", quota = \"2/hour\" }]",
        )
        .start();
    let mut held = gateway.client();
    held.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the place to be taken", || gate.arrived() == 1);
    let bearer = bearer(&valid_token("acme"));
    for _ in 0..5 {
        assert_eq!(gateway.client().get("/pay", &bearer).code(), "overloaded");
    }
    gate.open();
    assert_eq!(held.answer().status, 200);
    let mut paid = 0;
    until("both of the quota to be had", || {
        let answer = gateway.client().get("/pay", &bearer);
        paid += usize::from(answer.status == 200);
        answer.status == 429
    });
    assert_eq!(paid, 2);
}

#[test]
fn a_reload_changes_policy_weight_and_bound_of_endpoints_that_stay() {
    let endpoints = answering(2);
    let list = |first: &str| {
        format!(
            "[[cluster]]\nname = \"main\"\nbalance = \"round-robin\"\nendpoints = [\
             {{ address = \"{}\", {first} }}, {{ address = \"{}\" }}]\n",
            endpoints[0].address, endpoints[1].address
        )
    };
    let setup = |first: &str| Setup::new().text(&list(first)).route("all", "/", "main", "");
    let gateway = setup("weight = 1").start();
    assert_eq!(shares(&gateway, 2, 40), [20, 20]);
    assert_eq!(gateway.reload(&setup("weight = 3")).0, 200);
    let after = shares(&gateway, 2, 40);
    assert!(after[0].abs_diff(30) <= 1, "{after:?}");
}
