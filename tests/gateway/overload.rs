//! More than the gateway can serve: who is turned away, how, and who is not.

use crate::rig::{Client, Endpoint, Gate, Gateway, Seen, Setup, bearer, until, valid_token};

/// Ten requests at once, one in ten for the critical route only.
fn ten_at_once(endpoint: &Endpoint) -> Setup {
    Setup::new()
        .set("bounds", "in_flight = 10")
        .cluster("main", &[endpoint.address], "")
        .route("normal", "/normal", "main", "")
        .route("critical", "/critical", "main", "priority = \"critical\"")
}

fn ask(gateway: &Gateway, path: &str) -> Client {
    let mut client = gateway.client();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client
}

/// Asks for `path` so many times at once; the endpoint holds all of them.
fn held(gateway: &Gateway, gate: &Gate, path: &str, count: usize) -> Vec<Client> {
    (0..count)
        .map(|_| {
            let before = gate.arrived();
            let client = ask(gateway, path);
            until("the request to arrive", || gate.arrived() == before + 1);
            client
        })
        .collect()
}

/// Breaks if the bound let one more in, kept nothing for critical routes, or kept it for good.
#[test]
fn beyond_the_bound_critical_routes_are_turned_away_last() {
    let gate = Gate::default();
    let endpoint = Endpoint::holding(&gate);
    let gateway = ten_at_once(&endpoint).start();
    let mut clients = held(&gateway, &gate, "/normal", 9);
    let mut turned_away = gateway.client();
    let refused = turned_away.get("/normal", "");
    assert_eq!((refused.status, refused.code()), (503, "overloaded".to_owned()));
    assert_eq!(refused.field("Retry-After"), Some("1"));
    assert_eq!(refused.field("Tollgate-Delivery"), Some("not-sent"));
    assert_eq!(refused.field("Connection"), None, "coming back later needs no new connection");
    clients.extend(held(&gateway, &gate, "/critical", 1));
    assert_eq!(gateway.client().get("/critical", "").status, 503, "the bound itself holds for all");
    gate.open();
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    assert_eq!(turned_away.get("/normal", "").status, 200, "on the connection that was turned away");
    assert_eq!(endpoint.seen(11).len(), 11);
    let log = gateway.log(13);
    let reasons: Vec<_> =
        log.iter().filter(|line| line["status"] == 503).map(|line| &line["reason"]).collect();
    assert_eq!(reasons, ["bounds.in_flight", "bounds.in_flight"]);
    let refusals = gateway.metric("tollgate_refusals_total{code=\"overloaded\"}");
    assert!((refusals - 2.0).abs() < f64::EPSILON, "{refusals}");
}

/// Breaks if a shard that gets on turned away whom it could serve a moment later, or lost somebody in the queue.
#[test]
fn a_full_shard_that_gets_on_has_others_wait_for_their_turn() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::new()
        .set("bounds", "in_flight = 1")
        .set("bounds", "critical_share = \"0%\"")
        .set("timeouts", "queue = \"10s\"")
        .cluster("main", &[endpoint.address], "")
        .route("all", "/", "main", "")
        .start();
    let waits = || gateway.metric("tollgate_queue_waits_total{reason=\"in_flight\"}");
    let served = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = gateway.client();
                    let mut served = 0;
                    while waits() < 20.0 {
                        match client.get("/", "").status {
                            200 => served += 1,
                            // Until the first is finished, nothing gets on.
                            503 => {}
                            other => panic!("{other}"),
                        }
                    }
                    served
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>()
    });
    assert_eq!(endpoint.seen(served).len(), served);
    until("nobody to be left", || {
        gateway.metric("tollgate_inflight_requests") == 0.0
            && gateway.metric("tollgate_queued_requests") == 0.0
    });
}

/// Breaks if a request were sent for a client that did not wait for its turn, its end had no name, or its place in line
/// stayed taken.
#[test]
fn who_leaves_before_its_turn_is_not_served() {
    let gate = Gate::default();
    let (slow, quick) = (Endpoint::holding(&gate), Endpoint::answering("ok"));
    let gateway = Setup::new()
        .set("bounds", "in_flight = 2")
        .set("bounds", "critical_share = \"50%\"")
        .set("timeouts", "queue = \"10s\"")
        .cluster("slow", &[slow.address], "")
        .cluster("quick", &[quick.address], "")
        .route("normal", "/normal", "slow", "")
        .route("critical", "/critical", "quick", "priority = \"critical\"")
        .start();
    let mut first = held(&gateway, &gate, "/normal", 1).remove(0);
    let waits = || gateway.metric("tollgate_queue_waits_total{reason=\"in_flight\"}");
    let refused = || gateway.metric("tollgate_refusals_total{code=\"overloaded\"}");
    let wait_in_line = |path: &str| {
        loop {
            // A shard that has served somebody lately gets on; if that is too long ago, the next one is turned away.
            assert_eq!(gateway.client().get("/critical", "").status, 200);
            let (before, refused_before) = (waits(), refused());
            let client = ask(&gateway, path);
            until("it to wait", || waits() > before || refused() > refused_before);
            if waits() > before {
                return client;
            }
        }
    };
    let mut half_closed = wait_in_line("/normal/half-closed");
    let closed = wait_in_line("/normal/closed");
    let mut stays = wait_in_line("/normal/stays");
    half_closed.finish();
    drop(closed);
    let gone = || gateway.metric("tollgate_terminations_total{code=\"C3\"}");
    until("both to be known to have left", || gone() > 1.0);
    assert!(half_closed.rest().is_empty(), "no answer, but an end");
    gate.open();
    assert_eq!((first.answer().status, stays.answer().status), (200, 200));
    let seen = slow.seen(2);
    let targets: Vec<&str> = seen.iter().map(Seen::target).collect();
    assert_eq!(targets, ["/normal", "/normal/stays"]);
    let lines = || {
        let mut lines = gateway.lines_so_far("access.log");
        lines.retain(|line| line["termination"] == "C3");
        lines
    };
    until("their lines", || lines().len() == 2);
    for line in lines() {
        assert_eq!((&line["status"], &line["delivery"]), (&499.into(), &"not-sent".into()));
        assert_eq!((&line["code"], &line["attempts"]), (&"-".into(), &0.into()));
    }
}

/// Breaks if a quota were charged for what was never served, or a body left on the wire.
#[test]
fn who_is_turned_away_is_not_charged() {
    let gate = Gate::default();
    let endpoint = Endpoint::holding(&gate);
    let gateway = Setup::new()
        .set("bounds", "in_flight = 1")
        .set("bounds", "critical_share = \"0%\"")
        .keys("")
        .cluster("main", &[endpoint.address], "")
        .route("all", "/", "main", "jwt = \"partners\"\nlimit = [{ by = \"consumer\", quota = \"2/hour\" }]")
        .start();
    let fields = bearer(&valid_token("acme"));
    let mut first = gateway.client();
    first.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    until("the request to arrive", || gate.arrived() == 1);
    let mut client = gateway.client();
    for _ in 0..5 {
        assert_eq!(client.post("/", &fields, b"some body").code(), "overloaded");
    }
    gate.open();
    assert_eq!(first.answer().status, 200);
    assert_eq!(client.post("/", &fields, b"some body").status, 200, "the second of two");
    assert_eq!(client.post("/", &fields, b"some body").code(), "quota_exceeded");
}

/// Breaks if beginnings of heads took the buffers of those who have something to say.
#[test]
fn heads_that_never_end_take_no_buffers() {
    let endpoint = Endpoint::answering("ok");
    // 32 buffers of 32 KiB, less those for long bodies.
    let gateway = Setup::proxy(endpoint.address).set("bounds", "buffer_bytes = \"1MiB\"").start();
    let waiting = |fields: &str, count: usize| -> Vec<Client> {
        (0..count)
            .map(|_| {
                let mut client = gateway.client();
                client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}"));
                client
            })
            .collect()
    };
    let short = waiting("", 100);
    assert_eq!(gateway.client().get("/", "").status, 200);
    // Longer ones may take half of them; the others are told so.
    let mut long = waiting(&format!("X: {}", "x".repeat(4_000)), 100);
    until("some to be turned away", || {
        gateway.metric("tollgate_refusals_total{code=\"overloaded\"}") >= 80.0
    });
    assert_eq!(gateway.client().get("/", "").status, 200);
    drop(short);
    assert_eq!(long[99].answer().code(), "overloaded", "the last one came too late");
}

#[test]
fn mistakes_are_named() {
    let endpoint = Endpoint::answering("ok");
    let directory = Setup::proxy(endpoint.address)
        .set("bounds", "in_flight = 0")
        .set("bounds", "critical_share = \"95%\"")
        .route("urgent", "/urgent", "main", "priority = \"urgent\"")
        .write();
    let ended = crate::rig::tollgate(directory.path(), &["check", "tollgate.toml"]);
    let said = String::from_utf8_lossy(&ended.stderr).into_owned() + &String::from_utf8_lossy(&ended.stdout);
    for part in [
        "bounds.in_flight: \"0\" is not a number from 1",
        "bounds.critical_share: \"95%\" is not a share from \"0%\" to \"90%\"",
        "priority: \"urgent\" is not one of \"normal\", \"critical\"",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}
