//! Termination codes: each is made to happen, and its line, the metrics and the documentation agree on it.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::rig::{Client, Endpoint, Exposition, Gate, Gateway, Setup, until};

/// Codes that nothing here can bring about. For two of them what they stand for is ruled out a step earlier: a request must
/// find room for its answer before it is let in, and a buffer holds a head twice. The third wants every endpoint out.
const RULED_OUT: [&str; 3] = ["E6", "G6", "O7"];

/// The codes that the documentation explains.
fn explained() -> BTreeSet<String> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/TERMINATION.md")).unwrap();
    text.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect()
}

/// Does `act` and waits for its line: the code and the status.
fn end_of(gateway: &Gateway, act: impl FnOnce(&mut Client)) -> (String, u16) {
    let before = gateway.lines_so_far("access.log").len();
    let mut client = gateway.client();
    act(&mut client);
    let line = gateway.log(before + 1).remove(before);
    let status = u16::try_from(line["status"].as_u64().unwrap()).unwrap();
    (line["termination"].as_str().unwrap().to_owned(), status)
}

/// One route for each way an endpoint can behave.
fn every_kind() -> (Setup, [Endpoint; 5]) {
    let endpoints = [
        Endpoint::answering("ok"),
        Endpoint::scripted(|talk, _| talk.wait_for_end()),
        Endpoint::scripted(|talk, seen| {
            talk.read_body(seen);
            talk.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
            talk.close();
        }),
        Endpoint::scripted(|talk, seen| {
            talk.read_body(seen);
            talk.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
            talk.wait_for_end();
        }),
        Endpoint::scripted(|talk, seen| {
            talk.read_body(seen);
            talk.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
            while talk.send(vec![b'x'; 100_000]) {}
        }),
    ];
    let mut setup =
        Setup::new().keys("").cluster("gone", &[Endpoint::nowhere()], "").route("gone", "/gone", "gone", "");
    for (name, endpoint) in ["good", "mute", "half", "stuck", "flood"].into_iter().zip(&endpoints) {
        setup = setup.cluster(name, &[endpoint.address], "response_timeout = \"300ms\"").route(
            name,
            &format!("/{name}"),
            name,
            "",
        );
    }
    let setup = setup
        .route("keyed", "/keyed", "good", "limit = [{ by = \"header:X-Key\", quota = \"1/hour\" }]")
        .route("closed", "/closed", "good", "jwt = \"partners\"")
        .set("timeouts", "head = \"300ms\"")
        .set("timeouts", "body = \"300ms\"");
    (setup, endpoints)
}

fn ask(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// A long body of which a part is sent.
const UPLOAD: &str = "POST /mute HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n";
const CHUNKED: &str = "POST /mute HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// What a client does; the code and the status of the line about it.
type Case = (&'static str, u16, fn(&mut Client));

const CASES: [Case; 18] = [
    ("--", 200, |client| assert_eq!(client.get("/good", "").status, 200)),
    ("C2", 499, |client| {
        client.send("POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf").finish();
    }),
    ("c2", 408, |client| {
        assert_eq!(client.send("GET /good HTT").answer().code(), "head_timeout");
    }),
    ("c2", 408, |client| {
        client.send("POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf");
        assert_eq!(client.answer().code(), "body_timeout");
    }),
    ("G2", 400, |client| assert_eq!(client.send("nonsense\r\n\r\n").answer().status, 400)),
    ("G3", 404, |client| assert_eq!(client.get("/", "").code(), "route_not_found")),
    ("G4", 401, |client| assert_eq!(client.get("/closed", "").code(), "token_missing")),
    ("G5", 400, |client| assert_eq!(client.get("/keyed", "").code(), "limit_key_missing")),
    ("--", 200, |client| assert_eq!(client.get("/keyed", "X-Key: 1\r\n").status, 200)),
    ("Q5", 429, |client| assert_eq!(client.get("/keyed", "X-Key: 1\r\n").code(), "quota_exceeded")),
    ("E7", 502, |client| assert_eq!(client.get("/gone", "").code(), "upstream_unreachable")),
    ("e7", 504, |client| assert_eq!(client.get("/mute", "").code(), "upstream_timeout")),
    ("C7", 499, |client| {
        client.send(UPLOAD).send(vec![b'x'; 200_000]).finish();
    }),
    ("c7", 408, |client| {
        client.send(UPLOAD).send(vec![b'x'; 200_000]);
        assert_eq!(client.answer().code(), "body_timeout");
    }),
    ("G7", 400, |client| {
        client.send(CHUNKED).send("10000\r\n").send(vec![b'x'; 65_536]).send("\r\nno chunk\r\n");
        assert_eq!(client.answer().code(), "body_malformed");
    }),
    ("E8", 200, |client| assert!(!client.send(ask("/half")).answer().complete)),
    ("e8", 200, |client| assert!(!client.send(ask("/stuck")).answer().complete)),
    ("c8", 200, |client| {
        // And takes nothing.
        client.send(ask("/flood"));
        until("the gateway to give up", || {
            socket2::SockRef::from(&client.stream).take_error().unwrap().is_some()
        });
    }),
];

/// Broken by an end that nobody wrote into the table, that counts twice, or that is named after somebody else.
#[test]
fn every_way_to_end_has_its_code() {
    let (setup, _endpoints) = every_kind();
    let gateway = setup.start();
    let mut seen = BTreeSet::new();
    for (number, (code, status, act)) in CASES.into_iter().enumerate() {
        assert_eq!(end_of(&gateway, act), (code.to_owned(), status), "case {number}");
        seen.insert(code.to_owned());
    }
    // It has asked and does not wait.
    let leaves = |client: &mut Client| {
        client.send(ask("/flood"));
        assert!(client.try_rest());
        socket2::SockRef::from(&client.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        *client = gateway.client();
    };
    assert_eq!(end_of(&gateway, leaves), ("C8".to_owned(), 200));
    let metrics = Exposition::parse(&gateway.admin_get("/metrics").1);
    let lines = gateway.lines_so_far("access.log");
    let mut counted = 0;
    for code in explained() {
        let of_code = lines.iter().filter(|line| line["termination"] == code.as_str()).count();
        assert_eq!(
            metrics.value("tollgate_terminations_total", &[("code", &code)]),
            of_code as f64,
            "{code}"
        );
        counted += of_code;
    }
    assert_eq!(counted, lines.len(), "every line has a code that is explained");

    let elsewhere = ["C3", "C8", "O2", "O3", "O6", "O8", "O9", "D2", "D7", "D8"].map(str::to_owned);
    seen.extend(elsewhere);
    seen.extend(RULED_OUT.map(str::to_owned));
    assert_eq!(seen, explained(), "made to happen, or said to be ruled out");
}

#[test]
fn bounds_that_are_reached_have_theirs() {
    let gate = Gate::default();
    let endpoint = Endpoint::holding(&gate);
    let gateway = Setup::proxy(endpoint.address)
        .set("bounds", "in_flight = 1")
        .set("bounds", "critical_share = \"0%\"")
        .start();
    let mut first = gateway.client();
    first.send(ask("/"));
    until("the request to arrive", || gate.arrived() == 1);
    let refused = |client: &mut Client| assert_eq!(client.get("/", "").code(), "overloaded");
    assert_eq!(end_of(&gateway, refused), ("O3".to_owned(), 503));
    gate.open();
    assert_eq!(first.answer().status, 200);

    let gate = Gate::default();
    let full = Endpoint::holding(&gate);
    let gateway = Setup::new()
        .cluster("main", &[full.address], "max_in_flight = 1")
        .route("all", "/", "main", "")
        .start();
    let mut first = gateway.client();
    first.send(ask("/"));
    until("the request to arrive", || gate.arrived() == 1);
    assert_eq!(end_of(&gateway, refused), ("O6".to_owned(), 503));
    gate.open();
    assert_eq!(first.answer().status, 200);

    let gateway = Setup::proxy(endpoint.address).set("bounds", "buffer_bytes = \"1MiB\"").start();
    let half = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(4_000));
    let mut held: Vec<Client> = Vec::new();
    until("one to be turned away", || {
        let mut client = gateway.client();
        client.send(&half);
        held.push(client);
        !gateway.lines_so_far("access.log").is_empty()
    });
    let line = gateway.log(1).remove(0);
    assert_eq!((&line["termination"], &line["code"]), (&"O2".into(), &"overloaded".into()));
}

/// Broken by a drain whose cuts look like clients and endpoints that were too slow.
#[test]
fn what_a_drain_cuts_has_its_own() {
    let [mute, stuck] = [false, true].map(|begins| {
        Endpoint::scripted(move |talk, _| {
            if begins {
                talk.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
            }
            talk.wait_for_end();
        })
    });
    let mut gateway = Setup::new()
        .cluster("mute", &[mute.address], "")
        .cluster("stuck", &[stuck.address], "")
        .route("mute", "/mute", "mute", "")
        .route("stuck", "/stuck", "stuck", "")
        .set("timeouts", "drain = \"100ms\"")
        .start();
    let [mut reading, mut asking, mut answered] = [gateway.client(), gateway.client(), gateway.client()];
    reading.send("POST /mute HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf");
    asking.send(ask("/mute"));
    answered.send(ask("/stuck"));
    assert!(answered.try_rest());
    until("all to be in flight", || gateway.metric("tollgate_inflight_requests") >= 2.0);
    gateway.signal("TERM");
    gateway.wait();
    let lines = gateway.lines_so_far("access.log");
    let mut codes: Vec<&Value> = lines.iter().map(|line| &line["termination"]).collect();
    codes.sort_by_key(ToString::to_string);
    assert_eq!(codes, ["D2", "D7", "D8"]);
}
