//! Deliveries on which several things go wrong at once: the second endpoint too, the time, the configuration meanwhile.

use serde_json::Value;

use crate::rig::{ALL_STAY, Deaf, Endpoint, Gate, Gateway, Setup, Talk, until};

/// What `/clusters` says of the endpoint at `place` of the first cluster.
fn told(gateway: &Gateway, place: usize) -> Value {
    let clusters: Value = serde_json::from_str(&gateway.admin_get("/clusters").1).unwrap();
    clusters[0]["endpoints"][place].clone()
}

/// Broken by a third attempt that goes where the first one failed, while there is somebody who was not asked.
#[test]
fn nobody_is_asked_again_while_there_are_others() {
    for policy in
        ["least-connections", "latency", "round-robin", "random", "hash\"\nhash_by = \"header:X-Key"]
    {
        let (one, other, well) = (Endpoint::busy(), Endpoint::busy(), Endpoint::answering("ok"));
        let lines = format!("balance = \"{policy}\"\n{ALL_STAY}\nretry_floor = 1000");
        let gateway = Setup::new()
            .cluster("main", &[one.address, other.address, well.address], &lines)
            .route("all", "/", "main", "retry = { attempts = 3, on = [\"503\"] }")
            .start();
        let mut client = gateway.client();
        for number in 0..60 {
            let answer = client.get("/", &format!("X-Key: {number}\r\n"));
            assert_eq!((answer.status, answer.text()), (200, "ok".into()), "{policy}");
        }
    }
}

/// Broken by attempts that only remember where the first one went: who was asked besides and failed is asked again.
#[test]
fn who_was_asked_besides_and_failed_is_not_asked_again() {
    let gate = Gate::default();
    let (silent, sick, well) = (Endpoint::holding(&gate), Endpoint::busy(), Endpoint::answering("ok"));
    let lines = format!("balance = \"random\"\n{ALL_STAY}\nretry_floor = 1000");
    let route = "hedge = { after = \"5ms\" }\nretry = { attempts = 3, on = [\"503\"] }";
    let gateway = Setup::new()
        .cluster("main", &[silent.address, sick.address, well.address], &lines)
        .route("all", "/", "main", route)
        .start();
    let mut client = gateway.client();
    for _ in 0..30 {
        assert_eq!(client.get("/", "").text(), "ok");
    }
    gate.open();
}

/// Broken by a failure that nobody notes because somebody else was asked first.
#[test]
fn who_cannot_be_asked_besides_is_found_out() {
    let gate = Gate::default();
    let silent = Endpoint::holding(&gate);
    let text = format!(
        "\n[[cluster]]\nname = \"main\"\nbalance = \"round-robin\"\nresponse_timeout = \"100ms\"\n\
         ejection = {{ failures = 3, time = \"1h\" }}\n\
         endpoints = [{{ address = \"{}\", weight = 1000 }}, {{ address = \"{}\" }}]\n",
        silent.address,
        Endpoint::nowhere()
    );
    let gateway = Setup::new().text(&text).route("all", "/", "main", "hedge = { after = \"5ms\" }").start();
    let mut client = gateway.client();
    for _ in 0..3 {
        assert_eq!(client.get("/", "").status, 504);
    }
    assert_eq!(told(&gateway, 1)["failed"], 3);
    until("it to be ejected", || told(&gateway, 1)["state"] == "ejected");
    gate.open();
}

/// Broken by a hedge that waits for longer than an answer may take.
#[test]
fn an_endpoint_has_no_longer_because_another_could_be_asked() {
    let gate = Gate::default();
    let (one, other) = (Endpoint::holding(&gate), Endpoint::holding(&gate));
    let gateway = Setup::new()
        .cluster("main", &[one.address, other.address], "response_timeout = \"100ms\"")
        .route("all", "/", "main", "hedge = { after = \"60s\" }")
        .start();
    let answer = gateway.client().get("/", "");
    assert_eq!((answer.status, answer.code()), (504, "upstream_timeout".into()));
    assert_eq!(gate.arrived(), 1);
    gate.open();
}

/// Broken by an endpoint that is blamed for having had no time, and by a time-out that is called something else.
#[test]
fn time_that_is_up_is_nobodys_failure_to_connect() {
    let deaf = Deaf::new();
    let gateway = Setup::new()
        .cluster("main", &[deaf.address], "connect_timeout = \"10s\"")
        .route("all", "/", "main", "timeout = \"100ms\"")
        .start();
    let answer = gateway.client().post("/pay", "", b"1");
    assert_eq!((answer.status, answer.code()), (504, "upstream_timeout".into()));
    assert_eq!(answer.field("tollgate-delivery"), Some("not-sent"));
    assert!(answer.text().contains("says whether the endpoint may have acted"), "{}", answer.text());
    let line = gateway.log(1).remove(0);
    assert_eq!((&line["reason"], &line["termination"]), (&"route.timeout".into(), &"e7".into()));
    // It had all the time there was.
    until("the failure to be noted", || told(&gateway, 0)["failed"] == 1);

    let [silent, other] = [0, 1].map(|_| Endpoint::always(Talk::wait_for_end));
    for second in [deaf.address, other.address] {
        let text = format!(
            "\n[[cluster]]\nname = \"main\"\nbalance = \"round-robin\"\nresponse_timeout = \"400ms\"\n\
             connect_timeout = \"10s\"\n{ALL_STAY}\n\
             endpoints = [{{ address = \"{}\", weight = 1000 }}, {{ address = \"{second}\" }}]\n",
            silent.address,
        );
        let route = "timeout = \"500ms\"\nretry = { on = [\"timeout\"] }";
        let gateway = Setup::new().text(&text).route("all", "/", "main", route).start();
        let mut client = gateway.client();
        for _ in 0..3 {
            assert_eq!(client.get("/", "").status, 504);
        }
        assert!(gateway.log(3).iter().any(|line| line["attempts"] == 2), "{:?}", gateway.log(3));
        assert_eq!(told(&gateway, 0)["failed"], 3);
        assert_eq!(told(&gateway, 1)["failed"], 0, "what had a fifth of the time is not judged by it");
    }
}

/// Broken by words that belong to the last attempt alone: what an earlier one sent was not nothing.
#[test]
fn nothing_was_sent_is_said_only_where_it_is_true() {
    let closing = || Endpoint::always(Talk::close);
    let route = "retry = { on = [\"unreachable\", \"broken\", \"503\"] }";
    for (first, case) in [(closing(), "closes"), (Endpoint::busy(), "is busy")] {
        let text = format!(
            "\n[[cluster]]\nname = \"main\"\nbalance = \"round-robin\"\n{ALL_STAY}\n\
             endpoints = [{{ address = \"{}\", weight = 1000 }}, {{ address = \"{}\" }}]\n",
            first.address,
            Endpoint::nowhere()
        );
        let gateway = Setup::new().text(&text).route("all", "/", "main", route).start();
        let answer = gateway.client().get("/", "");
        assert_eq!((answer.status, answer.code()), (502, "upstream_failed".into()), "{case}");
        assert_eq!(answer.field("tollgate-delivery"), Some("maybe-sent"), "{case}");
        let line = gateway.log(1).remove(0);
        assert_eq!((&line["attempts"], &line["reason"]), (&2.into(), &"connect".into()), "{case}");
    }
}

/// Broken by an exchange that is in its own way: its slot is the last.
#[test]
fn a_stale_connection_is_no_failure_where_there_is_no_slot_to_spare() {
    let endpoint = Endpoint::scripted(|talk, seen| {
        talk.read_body(seen);
        if talk.earlier > 0 {
            talk.close();
        } else {
            talk.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let gateway = Setup::new()
        .cluster("main", &[endpoint.address], "max_in_flight = 1")
        .route("all", "/", "main", "")
        .start();
    let mut client = gateway.client();
    let (mut reused, mut round) = (0, 0);
    until("a few stale connections", || {
        let answer = client.get("/", "");
        assert_eq!((answer.status, answer.text()), (200, "ok".into()), "{}", answer.head);
        round += 1;
        reused = gateway.log(round).iter().filter(|line| line["attempts"] == 2).count();
        reused >= 3
    });
    assert_eq!(told(&gateway, 0)["failed"], 0);
}

/// Broken by a connection that is put back, or left, where nobody looks any more.
#[test]
fn no_connection_to_an_endpoint_stays_that_has_left() {
    for (shards, is_under_way) in [(1, true), (1, false), (2, true), (2, false)] {
        let (gate, ended) = (Gate::default(), Gate::default());
        let (pass, end) = (gate.clone(), ended.clone());
        let leaver = Endpoint::always(move |talk| {
            pass.pass();
            talk.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            talk.wait_for_end();
            end.open();
        });
        let other = Endpoint::answering("other");
        let setup = |endpoint: &Endpoint| {
            Setup::new()
                .cluster("main", &[endpoint.address], "idle_timeout = \"1h\"")
                .route("all", "/", "main", "")
                .shards(shards)
        };
        let gateway = setup(&leaver).start();
        let mut waiting = gateway.client();
        waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        until("the request at the endpoint", || gate.arrived() == 1);
        let mut finish = || {
            gate.open();
            assert_eq!(waiting.answer().text(), "ok");
        };
        if !is_under_way {
            finish();
            let idle = "tollgate_upstream_connections{cluster=\"main\",state=\"idle\"}";
            // One that waits for any shard, if there are several, and for its own if not.
            until("its connection to be idle", || gateway.metric(idle) == 1.0);
        }
        assert_eq!(gateway.reload(&setup(&other)).0, 200);
        if is_under_way {
            // Every shard has taken it up, as each of many connections finds.
            let news = || gateway.client().get("/", "").text() == "other";
            until("every shard to know", || (0..16).all(|_| news()));
            finish();
        }
        until("its connection to be closed", || ended.is_open());
    }
}
