//! Delivery: when an endpoint fails, nothing is paid twice, and the client is told what can have happened.

use std::io::Write;

use crate::rig::{Answer, Client, Deaf, Endpoint, Gate, Gateway, Setup, Talk, until};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An endpoint that answers the first request of each connection well and does `then` on the second.
fn well_once(then: impl Fn(&mut Talk) + Send + Sync + 'static) -> Endpoint {
    Endpoint::scripted(move |talk, seen| {
        talk.read_body(seen);
        match talk.earlier {
            0 => {
                talk.send(OK);
            }
            _ => then(talk),
        }
    })
}

fn fate(answer: &Answer) -> (u16, String, Option<&str>) {
    (answer.status, answer.code(), answer.field("tollgate-delivery"))
}

fn quick(endpoint: &Endpoint) -> Gateway {
    Setup::new()
        .cluster("main", &[endpoint.address], "response_timeout = \"200ms\"")
        .route("all", "/", "main", "")
        .start()
}

#[test]
fn a_payment_that_may_have_arrived_is_not_sent_again() {
    for reset in [false, true] {
        let endpoint = well_once(move |talk| if reset { talk.reset() } else { talk.close() });
        let gateway = Setup::proxy(endpoint.address).start();
        let mut client = gateway.client();
        assert_eq!(client.post("/pay", "", b"1").status, 200);
        // The same connection takes the second one, and dies of it.
        let answer = client.post("/pay", "Idempotency-Key: 7\r\n", b"2");
        assert_eq!(fate(&answer), (502, "upstream_failed".into(), Some("maybe-sent")));
        let seen = endpoint.seen(2);
        assert_eq!(seen.iter().filter(|seen| seen.body == b"2").count(), 1);
        assert_eq!(seen[0].connection, seen[1].connection);
        let line = &gateway.log(2)[1];
        assert_eq!(
            (&line["delivery"], &line["attempts"], &line["status"]),
            (&"maybe-sent".into(), &1.into(), &502.into())
        );
        // The client's own connection is as good as before.
        assert_eq!(client.post("/pay", "", b"3").status, 200);
    }
}

#[test]
fn what_is_harmless_is_sent_once_more_when_a_used_connection_died() {
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
        let endpoint = well_once(Talk::close);
        let gateway = Setup::proxy(endpoint.address).start();
        let mut client = gateway.client();
        assert_eq!(client.get("/", "").status, 200);
        client.send(format!("{method} /again HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        let answer = if method == "HEAD" { client.answer_to_head() } else { client.answer() };
        assert_eq!(answer.status, 200, "{method}");
        let seen = endpoint.seen(3);
        assert_eq!(seen.iter().filter(|seen| seen.target() == "/again").count(), 2);
        assert_eq!(gateway.log(2)[1]["attempts"], 2);
    }
}

#[test]
fn a_fresh_connection_that_dies_is_no_reason_to_send_again() {
    let endpoint = Endpoint::always(Talk::close);
    let gateway = Setup::proxy(endpoint.address).start();
    let answer = gateway.client().get("/", "");
    assert_eq!(fate(&answer), (502, "upstream_failed".into(), Some("maybe-sent")));
    assert_eq!(endpoint.seen(1).len(), 1);
    assert_eq!(endpoint.connections(), 1);
}

#[test]
fn what_has_a_body_on_its_way_is_not_sent_again() {
    let endpoint = well_once(Talk::close);
    let gateway = Setup::proxy(endpoint.address).start();
    let mut client = gateway.client();
    assert_eq!(client.get("/", "").status, 200);
    // Longer than what is kept of a request: it cannot be said again, harmless or not.
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n");
    client.send(vec![b'x'; 200_000]);
    assert_eq!(fate(&client.answer()), (502, "upstream_failed".into(), Some("maybe-sent")));
    assert_eq!(endpoint.seen(2).len(), 2);
}

#[test]
fn a_connection_the_endpoint_closed_is_not_used_again() {
    for driver in ["auto", "epoll"] {
        // Closes its side right after it has answered.
        let endpoint = Endpoint::always(|talk| {
            talk.send(OK);
            talk.close();
        });
        let gateway = Setup::proxy(endpoint.address).driver(driver).start();
        let mut client = gateway.client();
        for round in 0..20 {
            // A payment would be lost on a closed connection, and could not be sent again.
            let answer = client.post("/pay", "", b"1");
            assert_eq!(answer.status, 200, "round {round}: {}", answer.head);
            // It has closed before the next one is sent; at the same time nobody could know.
            endpoint.seen(round + 1);
        }
        assert_eq!(endpoint.seen(20).len(), 20);
        assert!(gateway.log(20).iter().all(|line| line["attempts"] == 1));
    }
}

#[test]
fn what_reached_nobody_goes_to_somebody_else() {
    let (dead, endpoint) = (Endpoint::nowhere(), Endpoint::answering("ok"));
    let gateway =
        Setup::new().cluster("main", &[dead, endpoint.address], "").route("all", "/", "main", "").start();
    let mut client = gateway.client();
    for _ in 0..20 {
        assert_eq!(client.post("/pay", "", b"1").status, 200);
    }
    assert_eq!(endpoint.seen(20).len(), 20);
    let log = gateway.log(20);
    assert!(log.iter().any(|line| line["attempts"] == 2), "the dead one was tried");
    assert!(log.iter().all(|line| line["delivery"] == "answered"));
}

#[test]
fn when_nobody_is_there_the_client_is_promised_that() {
    let gateway = Setup::new()
        .cluster("one", &[Endpoint::nowhere()], "")
        .cluster("two", &[Endpoint::nowhere(), Endpoint::nowhere()], "")
        .route("one", "/one", "one", "")
        .route("two", "/two", "two", "")
        .start();
    let mut client = gateway.client();
    for (round, (path, attempts)) in [("/one", 1), ("/two", 2), ("/one", 1)].into_iter().enumerate() {
        let answer = client.post(path, "", b"a body that nobody gets");
        assert_eq!(fate(&answer), (502, "upstream_unreachable".into(), Some("not-sent")), "{path}");
        let line = &gateway.log(round + 1)[round];
        assert_eq!((&line["delivery"], &line["status"]), (&"not-sent".into(), &502.into()));
        assert!(line["attempts"].as_u64() <= Some(attempts));
    }
}

#[test]
fn an_endpoint_that_does_not_take_connections_is_given_up() {
    let deaf = Deaf::new();
    let gateway = Setup::new()
        .cluster("main", &[deaf.address], "connect_timeout = \"100ms\"")
        .route("all", "/", "main", "")
        .start();
    let answer = gateway.client().post("/pay", "", b"1");
    assert_eq!(fate(&answer), (502, "upstream_unreachable".into(), Some("not-sent")));
}

#[test]
fn an_endpoint_that_says_nothing_is_given_up() {
    let endpoint = Endpoint::always(Talk::wait_for_end);
    let gateway = quick(&endpoint);
    let mut client = gateway.client();
    for method in ["GET", "POST"] {
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"));
        assert_eq!(fate(&client.answer()), (504, "upstream_timeout".into(), Some("maybe-sent")), "{method}");
    }
    assert_eq!(endpoint.seen(2).len(), 2, "each was sent once");
}

#[test]
fn half_an_answer_head_is_no_answer() {
    for (said, then_close, code, status) in [
        ("HTTP/1.1 200 OK\r\nContent-Le", true, "upstream_failed", 502),
        ("HTTP/1.1 200 OK\r\nContent-Le", false, "upstream_timeout", 504),
        ("HTTP/1.1 100 Continue\r\n\r\n", true, "upstream_failed", 502),
    ] {
        let endpoint = well_once(move |talk| {
            talk.send(said);
            if then_close { talk.close() } else { talk.wait_for_end() }
        });
        let gateway = quick(&endpoint);
        let mut client = gateway.client();
        assert_eq!(client.get("/", "").status, 200);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut answer = client.answer();
        if answer.status == 100 {
            answer = client.answer();
        }
        assert_eq!(fate(&answer), (status, code.into(), Some("maybe-sent")), "{said:?}");
        // A byte of an answer means that it was seen: not again, however harmless.
        assert_eq!(endpoint.seen(2).len(), 2);
    }
}

#[test]
fn what_is_no_answer_is_not_passed_on() {
    let long: &str =
        Box::leak(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(200_000)).into_boxed_str());
    let many: &str =
        Box::leak(format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(5_000)).into_boxed_str());
    let interim: &str = Box::leak("HTTP/1.1 102 Processing\r\n\r\n".repeat(5_000).into_boxed_str());
    for said in [
        "220 smtp.example ESMTP\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 2000 High\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        long,
        many,
    ] {
        let endpoint = Endpoint::always(move |talk| {
            talk.send(said);
            talk.wait_for_end();
        });
        let gateway = quick(&endpoint);
        let answer = gateway.client().get("/", "");
        let what = &said[..said.len().min(60)];
        assert_eq!(fate(&answer), (502, "upstream_failed".into(), Some("maybe-sent")), "{what:?}");
        assert_eq!(endpoint.connections(), 1);
    }
    // Interim answers without end are given up like silence or garbage, and do not fill anything.
    let endpoint = Endpoint::always(move |talk| while talk.send(interim) {});
    let gateway = quick(&endpoint);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let last = loop {
        let answer = client.answer();
        if answer.status != 102 {
            break answer;
        }
    };
    assert!(matches!(last.status, 502 | 504), "{}", last.head);
}

#[test]
fn an_answer_that_breaks_off_does_not_look_whole() {
    for said in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nX: y",
    ] {
        for version in ["1.1", "1.0"] {
            let endpoint = Endpoint::always(move |talk| {
                talk.send(said);
                talk.close();
            });
            let gateway = quick(&endpoint);
            let mut client = gateway.client();
            client.send(format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n"));
            let mut raw = Vec::new();
            let ended = std::io::Read::read_to_end(&mut client.stream, &mut raw);
            let text = String::from_utf8_lossy(&raw).into_owned();
            assert!(!text.ends_with("0\r\n\r\n"), "{said:?}: {text}");
            // Where the framing does not show it, only a reset does.
            let framed = text.contains("Content-Length: 100") || text.contains("chunked");
            // Or nothing had been passed on yet.
            let refused = text.starts_with("HTTP/1.1 502 ");
            assert!(
                framed || refused || ended.is_err() || text.is_empty(),
                "HTTP/{version}, {said:?}: {text}"
            );
            let line = gateway.log(1).remove(0);
            assert_ne!(line["reason"], "-", "{line}");
        }
    }
}

#[test]
fn an_answer_that_stalls_is_cut() {
    let endpoint = Endpoint::always(|talk| {
        talk.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        talk.wait_for_end();
    });
    let gateway = quick(&endpoint);
    let answer = gateway.client().get("/", "");
    assert_eq!((answer.status, answer.complete, answer.text().as_str()), (200, false, "half"));
}

#[test]
fn an_endpoints_own_failure_is_passed_on_as_it_is() {
    for status in [500, 502, 503, 504, 429, 401] {
        let endpoint = Endpoint::always(move |talk| {
            talk.send(format!("HTTP/1.1 {status} Oops\r\nContent-Length: 4\r\nRetry-After: 9\r\n\r\noops"));
        });
        let gateway = Setup::proxy(endpoint.address).start();
        let mut client = gateway.client();
        for _ in 0..2 {
            let answer = client.post("/", "", b"x");
            assert_eq!(
                (answer.status, answer.text().as_str(), answer.field("tollgate-delivery")),
                (status, "oops", None)
            );
        }
        assert_eq!(endpoint.seen(2).len(), 2, "no second attempt");
        assert_eq!(gateway.log(2)[0]["code"], "-");
    }
}

#[test]
fn bytes_behind_an_answer_are_nobodys_answer() {
    let endpoint = Endpoint::always(|talk| {
        talk.send(format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"));
    });
    let gateway = Setup::proxy(endpoint.address).start();
    let mut client = gateway.client();
    for _ in 0..20 {
        assert_eq!(client.get("/", "").text(), "ok");
    }
    assert_eq!(endpoint.connections(), 20, "a connection out of step is not kept");
}

#[test]
fn a_client_that_leaves_frees_what_it_held() {
    let gate = Gate::default();
    let endpoint = {
        let gate = gate.clone();
        Endpoint::scripted(move |talk, seen| {
            talk.read_body(seen);
            if seen.target() == "/slow" {
                talk.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
                gate.pass();
                while talk.send([b'x'; 65_536]) {}
                talk.close();
            } else {
                talk.send(OK);
            }
        })
    };
    let gateway = Setup::proxy(endpoint.address).start();
    // Within the answer.
    let mut client: Client = gateway.client();
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the answer to begin", || gate.arrived() == 1);
    drop(client);
    gate.open();
    let line = gateway.log(1).remove(0);
    assert_eq!((&line["status"], &line["reason"]), (&200.into(), &"client gone within its answer".into()));
    // Within the upload.
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf");
    drop(client);
    assert_eq!(gateway.log(2)[1]["status"], 499);
    until("both to be gone", || {
        gateway.metric("tollgate_inflight_requests") == 0.0
            && gateway.metric("tollgate_downstream_connections") == 0.0
    });
    // What was left half-said is not said on to the next.
    assert_eq!(gateway.client().get("/", "").text(), "ok");
    let halves = endpoint.bytes();
    assert!(halves.iter().all(|bytes| !bytes.windows(8).any(|window| window == b"halfGET ")));
}

#[test]
fn idle_connections_are_kept_last_in_first_out_and_within_their_bound() {
    let gate = Gate::default();
    let endpoint = {
        let gate = gate.clone();
        Endpoint::scripted(move |talk, seen| {
            if seen.target() == "/held" {
                gate.pass();
            }
            talk.send(OK);
        })
    };
    let gateway = Setup::new()
        .cluster("main", &[endpoint.address], "idle_connections = 3\nidle_timeout = \"60s\"")
        .route("all", "/", "main", "")
        .start();
    let mut clients: Vec<Client> = (0..8).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    until("all to be held", || gate.arrived() == 8);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.answer().text(), "ok");
    }
    until("the rest to be closed", || {
        let (_, text) = gateway.admin_get("/metrics");
        text.contains("tollgate_upstream_connections{cluster=\"main\",state=\"idle\"} 3")
    });
    // One at a time, always the one that was used last.
    for _ in 0..5 {
        assert_eq!(clients[0].get("/", "").text(), "ok");
    }
    let later: Vec<usize> =
        endpoint.seen(13).iter().filter(|seen| seen.target() == "/").map(|seen| seen.connection).collect();
    assert!(later.len() == 5 && later.iter().all(|&connection| connection == later[0]), "{later:?}");
    assert_eq!(endpoint.connections(), 8);
}

#[test]
fn every_5xx_of_the_gateways_says_what_was_delivered() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address).set("bounds", "connections = 1").start();
    let mut first = gateway.client();
    assert_eq!(first.get("/", "").status, 200);
    let mut second = gateway.client();
    // It is told before it asks.
    let _ = second.stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    let answer = second.answer();
    assert_eq!(fate(&answer), (503, "overloaded".into(), Some("not-sent")));
    assert!(answer.field("retry-after").is_some());
    let answer = {
        first.send("GET / HTTP/2.0\r\n\r\n");
        first.answer()
    };
    assert_eq!(fate(&answer), (505, "version_not_supported".into(), Some("not-sent")));
}
