//! Connections to endpoints: kept, found by every shard, let go of before the endpoint does.

use crate::rig::{Client, Endpoint, Gateway, Setup, until};

fn start(endpoint: &Endpoint, shards: usize, lines: &str) -> Gateway {
    Setup::new()
        .cluster("main", &[endpoint.address], lines)
        .route("all", "/", "main", "")
        .shards(shards)
        .start()
}

fn of_cluster(gateway: &Gateway, name: &str) -> f64 {
    gateway.metric(&format!("{name}{{cluster=\"main\"}}"))
}

fn idle(gateway: &Gateway) -> f64 {
    gateway.metric("tollgate_upstream_connections{cluster=\"main\",state=\"idle\"}")
}

/// An endpoint that answers with this field line.
fn saying(field: &'static str) -> Endpoint {
    Endpoint::scripted(move |talk, _| {
        talk.send(format!("HTTP/1.1 200 OK\r\n{field}Content-Length: 2\r\n\r\nok"));
    })
}

/// Broken by connections that only the shard finds that made them.
#[test]
fn under_steady_load_nearly_every_exchange_finds_a_connection() {
    for driver in ["auto", "epoll"] {
        let endpoint = Endpoint::answering("ok");
        let setup = Setup::new().cluster("main", &[endpoint.address], "idle_timeout = \"60s\"");
        let gateway = setup.route("all", "/", "main", "").shards(2).driver(driver).start();
        let mut clients: Vec<Client> = (0..8).map(|_| gateway.client()).collect();
        for round in 0..3_000 {
            assert_eq!(clients[round % 8].get("/", "").status, 200);
        }
        let (reused, made) =
            (of_cluster(&gateway, "tollgate_upstream_reuse_total"), endpoint.connections() as f64);
        assert_eq!(reused + made, 3_000.0);
        assert!(reused / 3_000.0 >= 0.999, "{made} connections made");
        assert!(of_cluster(&gateway, "tollgate_upstream_moves_total") >= 1.0);
        assert!(idle(&gateway) <= made);
    }
}

/// Broken by a time-out that is ours alone: the endpoint would close first, under a request.
#[test]
fn a_connection_is_let_go_of_before_its_endpoint_would() {
    for shards in [1, 2] {
        let endpoint = saying("Keep-Alive: timeout=1, max=1000\r\n");
        let gateway = start(&endpoint, shards, "idle_timeout = \"1h\"");
        assert_eq!(gateway.client().get("/", "").status, 200);
        // By then it was put back.
        gateway.log(1);
        until("the connection to be closed", || idle(&gateway) == 0.0);
        assert_eq!(gateway.client().get("/", "").status, 200);
        assert_eq!(endpoint.connections(), 2);
    }
    let endpoint = saying("Keep-Alive: timeout=3600\r\n");
    let gateway = start(&endpoint, 1, "idle_timeout = \"200ms\"");
    assert_eq!(gateway.client().get("/", "").status, 200);
    until("our own time-out to hold as well", || idle(&gateway) == 0.0);
}

#[test]
fn no_connection_serves_for_ever() {
    let endpoint = Endpoint::answering("ok");
    let gateway = start(&endpoint, 2, "connection_age = \"1s\"");
    let mut client = gateway.client();
    until("a third connection", || {
        assert_eq!(client.get("/", "").status, 200);
        endpoint.connections() >= 3
    });
}

/// Broken by a spare that is used although its endpoint has closed it or spoken, which nobody was told.
#[test]
fn a_spare_is_looked_at_before_it_is_used() {
    let endpoint = Endpoint::scripted(|talk, seen| {
        talk.read_body(seen);
        talk.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        talk.close();
    });
    let gateway = start(&endpoint, 2, "");
    let mut client = gateway.client();
    for round in 0..20 {
        let answer = client.post("/pay", "", b"1");
        assert_eq!(answer.status, 200, "round {round}: {}", answer.head);
        endpoint.seen(round + 1);
    }
    assert!(gateway.log(20).iter().all(|line| line["attempts"] == 1));
}
