//! Least connections: exact over shards, by weight, ties spread, and every slot given back.

use std::net::SocketAddr;

use serde_json::Value;

use crate::rig::{Client, Endpoint, Gate, Gateway, Setup, until};

/// Endpoints that hold what they get, each at a gate of its own.
fn holding(count: usize) -> (Vec<Gate>, Vec<Endpoint>) {
    let gates: Vec<Gate> = (0..count).map(|_| Gate::default()).collect();
    let endpoints = gates.iter().map(Endpoint::holding).collect();
    (gates, endpoints)
}

/// Everything goes to `endpoints`, each with its weight.
fn weighted(endpoints: &[(SocketAddr, u32)], lines: &str) -> Setup {
    let list: Vec<String> = endpoints
        .iter()
        .map(|(address, weight)| format!("{{ address = \"{address}\", weight = {weight} }}"))
        .collect();
    Setup::new()
        .text(&format!("\n[[cluster]]\nname = \"main\"\nendpoints = [{}]\n{lines}\n", list.join(", ")))
        .route("all", "/", "main", "")
}

fn addresses(endpoints: &[Endpoint]) -> Vec<(SocketAddr, u32)> {
    endpoints.iter().map(|endpoint| (endpoint.address, 1)).collect()
}

fn ask(gateway: &Gateway) -> Client {
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client
}

fn arrived(gates: &[Gate]) -> Vec<usize> {
    gates.iter().map(Gate::arrived).collect()
}

/// What the admin API and the metrics say is in flight, endpoint by endpoint. They must agree.
fn in_flight(gateway: &Gateway) -> Vec<u64> {
    let clusters: Value = serde_json::from_str(&gateway.admin_get("/clusters").1).unwrap();
    let endpoints = clusters[0]["endpoints"].as_array().unwrap();
    endpoints.iter().map(|endpoint| endpoint["in_flight"].as_u64().unwrap()).collect()
}

/// Waits until nothing is in flight anywhere, whichever way one asks.
fn wait_for_rest(gateway: &Gateway) {
    until("every slot to be given back", || {
        let (_, metrics) = gateway.admin_get("/metrics");
        let none = |line: &str| {
            let gauge = line.starts_with("tollgate_endpoint_inflight{")
                || line.starts_with("tollgate_inflight_drift ")
                || line.starts_with("tollgate_inflight_requests ")
                || (line.starts_with("tollgate_upstream_connections{") && line.contains("active"));
            !gauge || line.ends_with(" 0")
        };
        in_flight(gateway).iter().all(|&count| count == 0) && metrics.lines().all(none)
    });
}

#[test]
fn held_requests_spread_evenly_one_by_one() {
    for driver in ["auto", "epoll"] {
        let (gates, endpoints) = holding(3);
        let gateway = weighted(&addresses(&endpoints), "").shards(2).driver(driver).start();
        let mut clients = Vec::new();
        for sent in 1..=24 {
            clients.push(ask(&gateway));
            until("the request to arrive", || arrived(&gates).iter().sum::<usize>() == sent);
            let counts = arrived(&gates);
            assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
        }
        assert_eq!(in_flight(&gateway), [8, 8, 8]);
        gates.iter().for_each(Gate::open);
        for client in &mut clients {
            assert_eq!(client.answer().status, 200);
        }
        wait_for_rest(&gateway);
    }
}

#[test]
fn requests_at_the_same_moment_spread_evenly_too() {
    let (gates, endpoints) = holding(4);
    let gateway = weighted(&addresses(&endpoints), "").shards(2).start();
    let mut clients: Vec<Client> = (0..80).map(|_| gateway.client()).collect();
    // Connected beforehand, so that both shards choose at the same time.
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    until("all to arrive", || arrived(&gates).iter().sum::<usize>() == 80);
    assert_eq!(arrived(&gates), [20; 4]);
    gates.iter().for_each(Gate::open);
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
    wait_for_rest(&gateway);
}

#[test]
fn weights_are_shares() {
    let (gates, endpoints) = holding(3);
    let weighted_endpoints: Vec<_> = endpoints.iter().map(|e| e.address).zip([1, 3, 6]).collect();
    let gateway = weighted(&weighted_endpoints, "").shards(2).start();
    let mut clients = Vec::new();
    for sent in 1..=40 {
        clients.push(ask(&gateway));
        until("the request to arrive", || arrived(&gates).iter().sum::<usize>() == sent);
    }
    assert_eq!(arrived(&gates), [4, 12, 24]);
    gates.iter().for_each(Gate::open);
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
    wait_for_rest(&gateway);
}

#[test]
fn whoever_falls_free_gets_the_next() {
    let (gates, endpoints) = holding(3);
    let gateway = weighted(&addresses(&endpoints), "").shards(2).start();
    let mut clients = Vec::new();
    for sent in 1..=9 {
        clients.push(ask(&gateway));
        until("the request to arrive", || arrived(&gates).iter().sum::<usize>() == sent);
    }
    gates[1].open();
    until("the second endpoint to be free", || in_flight(&gateway) == [3, 0, 3]);
    let mut next: Vec<Client> = (0..5).map(|_| gateway.client()).collect();
    for client in &mut next {
        assert_eq!(client.get("/", "").status, 200, "not queued behind those who are busy");
    }
    assert_eq!(arrived(&gates), [3, 8, 3]);
    gates.iter().for_each(Gate::open);
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
}

#[test]
fn ties_are_spread() {
    let endpoints: Vec<Endpoint> = (0..3).map(|_| Endpoint::answering("ok")).collect();
    let gateway = weighted(&addresses(&endpoints), "").start();
    let mut client = gateway.client();
    for _ in 0..90 {
        assert_eq!(client.get("/", "").status, 200);
    }
    let counts: Vec<usize> = endpoints.iter().map(Endpoint::count).collect();
    // 30 each, give or take; fewer than 8 happens once in a million runs.
    assert!(counts.iter().all(|&count| count >= 8), "{counts:?}");
}

#[test]
fn a_slot_comes_back_however_the_exchange_ends() {
    let gate = Gate::default();
    let held = gate.clone();
    let endpoint = Endpoint::scripted(move |talk, seen| {
        let target = seen.target().to_owned();
        match target.as_str() {
            "/held" => held.pass(),
            "/closed" => return talk.close(),
            "/reset" => return talk.reset(),
            "/garbage" => {
                talk.send("SMTP ready\r\n\r\n");
                return talk.close();
            }
            "/cut" => {
                talk.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
                return talk.close();
            }
            "/silent" => return talk.wait_for_end(),
            "/stalled" => {
                talk.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
                return talk.wait_for_end();
            }
            _ => {
                if !talk.read_body(seen) {
                    return talk.close();
                }
            }
        }
        talk.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    for driver in ["auto", "epoll"] {
        let gateway = weighted(&[(endpoint.address, 1)], "response_timeout = \"300ms\"")
            .set("bounds", "body_bytes_max = \"1KiB\"")
            .set("timeouts", "body = \"300ms\"")
            .driver(driver)
            .start();
        for (path, status) in
            [("/closed", 502), ("/reset", 502), ("/garbage", 502), ("/silent", 504), ("/held", 504)]
        {
            let answer = gateway.client().post(path, "", b"pay");
            assert_eq!(
                (answer.status, answer.field("tollgate-delivery")),
                (status, Some("maybe-sent")),
                "{path}"
            );
        }
        for path in ["/cut", "/stalled"] {
            assert!(!gateway.client().get(path, "").complete, "{path}");
        }
        // Clients that leave: while they are waiting, within their body, within a chunk.
        for request in [
            "GET /held HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nhalf",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha",
        ] {
            let mut client = gateway.client();
            client.send(request);
            drop(client);
        }
        // A body that stalls, one that grows too long, one that is none.
        let mut stalling = gateway.client();
        stalling.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nhalf");
        assert_eq!(stalling.answer().code(), "body_timeout");
        let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
        for (chunks, code) in
            [(format!("{chunk}{chunk}"), "body_too_large"), ("zz\r\n".to_owned(), "body_malformed")]
        {
            let mut client = gateway.client();
            client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
            client.try_send(chunks);
            assert_eq!(client.answer().code(), code);
        }
        wait_for_rest(&gateway);
        assert_eq!(gateway.client().get("/", "").status, 200);
        wait_for_rest(&gateway);
        gateway.stop();
    }
    gate.open();
}

#[test]
fn an_endpoint_that_is_down_costs_one_more_attempt_and_keeps_no_slot() {
    let endpoint = Endpoint::answering("ok");
    let down = Endpoint::nowhere();
    let gateway = weighted(&[(down, 1), (endpoint.address, 1)], "").shards(2).start();
    for _ in 0..20 {
        let answer = gateway.client().post("/", "", b"pay");
        assert_eq!(answer.status, 200, "nothing was sent, so the other may be asked");
    }
    wait_for_rest(&gateway);
    let log = gateway.log(20);
    assert!(log.iter().all(|line| line["endpoint"] == endpoint.address.to_string()));
    assert!(log.iter().any(|line| line["attempts"] == 2), "some were tried elsewhere first");
    assert_eq!(endpoint.seen(20).len(), 20);

    let gateway = weighted(&[(down, 1)], "").start();
    let answer = gateway.client().post("/", "", b"pay");
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_unreachable"));
    assert_eq!(answer.field("tollgate-delivery"), Some("not-sent"));
    wait_for_rest(&gateway);
}
