//! The end: what was begun is finished, nothing new is begun, and the process goes with 0.
//!
//! Whatever a drain is told by, and whatever clients and endpoints do meanwhile.

use std::{
    fs,
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::rig::{Client, Endpoint, Gate, Gateway, Setup, until};

/// How a drain is ordered.
#[derive(Clone, Copy, Debug)]
enum By {
    Signal(&'static str),
    Admin,
}

const ALL: [By; 3] = [By::Signal("TERM"), By::Signal("INT"), By::Admin];

fn order(gateway: &Gateway, by: By) {
    match by {
        By::Signal(signal) => gateway.signal(signal),
        By::Admin => {
            let (status, body) = gateway.admin_request("POST", "/drain");
            assert_eq!(status, 200);
            assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["draining"], true);
        }
    }
}

/// Whether nobody listens there.
fn is_refused(address: SocketAddr) -> bool {
    match TcpStream::connect(address) {
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
        Ok(_) => false,
    }
}

/// The access log of a gateway that has ended.
fn log_of(gateway: &Gateway) -> Vec<Value> {
    let text = fs::read_to_string(gateway.directory().join("access.log")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
fn ends_with_0(gateway: &mut Gateway) {
    assert_eq!(gateway.wait().code(), Some(0), "{}", gateway.said().join("\n"));
}

#[test]
fn requests_in_flight_finish_and_nothing_new_begins() {
    for (driver, by) in
        ALL.iter().map(|by| ("auto", *by)).chain([("epoll", By::Signal("TERM")), ("epoll", By::Admin)])
    {
        let gate = Gate::default();
        let endpoint = Endpoint::holding(&gate);
        let mut gateway = Setup::proxy(endpoint.address).driver(driver).shards(2).start();
        let mut held: Vec<Client> = (0..6).map(|_| gateway.client()).collect();
        for client in &mut held {
            client.send("POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}");
        }
        until("all to be in flight", || gate.arrived() == 6);
        let mut idle = [gateway.client(), gateway.client()];
        assert_eq!(gateway.admin_get("/ready").0, 200);
        order(&gateway, by);
        until("new connections to be refused", || is_refused(gateway.address));
        let (status, ready) = gateway.admin_get("/ready");
        let ready: Value = serde_json::from_str(&ready).unwrap();
        assert_eq!((status, &ready["ready"], &ready["phase"]), (503, &false.into(), &"draining".into()));
        assert_eq!(gateway.admin_get("/health").0, 200);
        assert!((1..=30_000).contains(&ready["phase_ends_in_ms"].as_u64().unwrap()), "{ready}");
        assert_eq!(ready["in_flight"], 6);
        let phase = |phase| gateway.metric(&format!("tollgate_phase{{phase=\"{phase}\"}}"));
        assert_eq!((phase("serving"), phase("draining")), (0.0, 1.0));
        assert_eq!(gateway.metric("tollgate_inflight_requests"), 6.0);
        for client in &mut idle {
            assert!(client.is_closed(), "who says nothing is parted from");
        }
        assert_eq!(gateway.has_ended(), None, "six requests are in flight");
        gate.open();
        for client in &mut held {
            let answer = client.answer();
            assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{by:?}");
            assert_eq!(answer.field("connection"), Some("close"), "{by:?}");
            assert!(client.is_closed());
        }
        ends_with_0(&mut gateway);
        let log = log_of(&gateway);
        assert_eq!(log.len(), 6, "{by:?}");
        assert!(log.iter().all(|line| line["status"] == 200 && line["delivery"] == "answered"));
        assert!(is_refused(gateway.admin));
    }
}

/// A shard that has nothing to finish is done at once. Its listener must not stay behind and take up clients
/// that nobody will ever answer, nor its clients be left with a connection on which nobody listens.
#[test]
fn a_shard_with_nothing_to_do_lets_go_of_everything() {
    for driver in ["auto", "epoll"] {
        let gate = Gate::default();
        let endpoint = Endpoint::holding(&gate);
        let mut gateway = Setup::new()
            .cluster("main", &[endpoint.address], "")
            .route("held", "/held", "main", "")
            .driver(driver)
            .shards(3)
            .start();
        let mut client = gateway.client();
        client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
        until("it to be in flight", || gate.arrived() == 1);
        // Enough for every shard.
        let mut idle: Vec<Client> = (0..20).map(|_| gateway.client()).collect();
        for client in &mut idle[..10] {
            assert_eq!(client.get("/", "").code(), "route_not_found");
        }
        gateway.signal("TERM");
        for client in &mut idle {
            assert!(client.is_closed(), "{driver}");
        }
        until("new connections to be refused", || is_refused(gateway.address));
        // Each try may meet another shard's listener.
        assert!((0..50).all(|_| is_refused(gateway.address)), "{driver}");
        assert_eq!(gateway.has_ended(), None);
        gate.open();
        assert_eq!(client.answer().status, 200);
        ends_with_0(&mut gateway);
    }
}

#[test]
fn keep_alive_connections_are_closed_between_requests() {
    let endpoint = Endpoint::answering("ok");
    for by in ALL {
        let mut gateway = Setup::proxy(endpoint.address).start();
        let mut clients: Vec<Client> = (0..5).map(|_| gateway.client()).collect();
        for client in &mut clients {
            let answer = client.get("/", "");
            assert_eq!((answer.status, answer.field("connection")), (200, None));
        }
        order(&gateway, by);
        for client in &mut clients {
            assert!(client.is_closed(), "{by:?}");
        }
        ends_with_0(&mut gateway);
        assert_eq!(log_of(&gateway).len(), 5);
    }
}

/// Bytes of a body that takes its time, in pieces of this size.
const PIECE: usize = 10_000;
const PIECES: usize = 40;

#[test]
fn bodies_on_their_way_arrive_whole() {
    let endpoint_gate = Gate::default();
    let held = endpoint_gate.clone();
    let endpoint = Endpoint::scripted(move |talk, seen| {
        if seen.method() == "GET" {
            talk.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for piece in 0..PIECES {
                if piece == PIECES / 2 {
                    held.pass();
                }
                talk.send([format!("{PIECE:x}\r\n").as_bytes(), &[b'd'; PIECE], b"\r\n"].concat());
            }
            talk.send("0\r\n\r\n");
        } else {
            talk.read_body(seen);
            let length = seen.body.len();
            talk.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n{length:06}"));
        }
    });
    let mut gateway = Setup::proxy(endpoint.address).start();
    let mut download = gateway.client();
    download.send("GET /down HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut upload = gateway.client();
    upload.send(format!("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", PIECE * PIECES));
    for _ in 0..PIECES / 2 {
        upload.send([b'u'; PIECE]);
    }
    // A request whose head is not yet whole has begun too.
    let mut slow = gateway.client();
    slow.send("GET /slow HTTP/1.1\r\nHo");
    until("both to be under way", || {
        endpoint_gate.arrived() == 1
            && endpoint.bytes().iter().any(|bytes| bytes.len() > PIECE * PIECES / 4)
            && gateway.metric("tollgate_downstream_connections") == 3.0
    });
    gateway.signal("TERM");
    until("new connections to be refused", || is_refused(gateway.address));
    endpoint_gate.open();
    let answer = download.answer();
    assert!(answer.complete && answer.body == [b'd'; PIECE * PIECES], "{} bytes", answer.body.len());
    assert!(download.is_closed());
    for _ in PIECES / 2..PIECES {
        upload.send([b'u'; PIECE]);
    }
    let answer = upload.answer();
    assert_eq!((answer.status, answer.text()), (200, format!("{:06}", PIECE * PIECES)));
    assert_eq!(answer.field("connection"), Some("close"));
    assert!(upload.is_closed());
    slow.send("st: a\r\n\r\n");
    let answer = slow.answer();
    assert!(answer.status == 200 && answer.complete && slow.is_closed());
    ends_with_0(&mut gateway);
    let log = log_of(&gateway);
    assert_eq!(log.len(), 3);
    assert!(log.iter().all(|line| line["status"] == 200 && line["reason"] == "-"), "{log:?}");
}

#[test]
fn pipelined_requests_are_answered_or_not_begun() {
    let gate = Gate::default();
    let endpoint = Endpoint::holding(&gate);
    let mut gateway = Setup::proxy(endpoint.address).start();
    let mut client = gateway.client();
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the first to be in flight", || gate.arrived() == 1);
    gateway.signal("TERM");
    until("new connections to be refused", || is_refused(gateway.address));
    gate.open();
    // RFC 9112 section 9.6: what comes after an answer with close was not processed.
    let mut answers = 0;
    while let Some(answer) = client.try_answer(false) {
        assert_eq!(answer.status, 200);
        answers += 1;
        if answer.field("connection") == Some("close") {
            assert!(client.is_closed());
            break;
        }
    }
    drop(client);
    ends_with_0(&mut gateway);
    assert_eq!(endpoint.seen(answers).len(), answers);
    assert_eq!(log_of(&gateway).len(), answers);
}

#[test]
fn a_request_that_never_ends_is_cut_at_the_deadline() {
    for driver in ["auto", "epoll"] {
        let gate = Gate::default();
        let endpoint = Endpoint::holding(&gate);
        let mut gateway =
            Setup::proxy(endpoint.address).driver(driver).set("timeouts", "drain = \"300ms\"").start();
        let mut waiting = gateway.client();
        waiting.send("POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        until("it to be in flight", || gate.arrived() == 1);
        let mut half_a_head = gateway.client();
        half_a_head.send("GET /");
        let mut half_a_body = gateway.client();
        half_a_body
            .send("POST /up HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n1234");
        until("all to be there", || {
            gateway.metric("tollgate_downstream_connections") == 3.0
                && endpoint.bytes().iter().any(|bytes| bytes.ends_with(b"1234"))
        });
        let ordered = Instant::now();
        gateway.signal("TERM");
        ends_with_0(&mut gateway);
        assert!(ordered.elapsed() >= Duration::from_millis(300), "not before the deadline");
        let has_said =
            |words: [&str; 2]| gateway.said().iter().any(|line| words.iter().all(|word| line.contains(word)));
        until("both to be said", || {
            has_said(["deadline", "2 requests"]) && has_said(["drained:", "2 requests were cut"])
        });
        // The client can tell that it is not known what became of its payment.
        let cut = waiting.answer();
        assert_eq!((cut.status, cut.field("tollgate-delivery")), (504, Some("maybe-sent")), "{driver}");
        assert_eq!(cut.field("connection"), Some("close"));
        assert_eq!(half_a_head.answer().code(), "head_timeout");
        assert_eq!(half_a_body.answer().code(), "body_timeout");
        let log = log_of(&gateway);
        assert_eq!(log.len(), 3, "{log:?}");
        let paid = log.iter().find(|line| line["path"] == "/pay").unwrap();
        assert_eq!((&paid["status"], &paid["delivery"]), (&504.into(), &"maybe-sent".into()));
        gate.open();
    }
}

#[test]
fn streams_that_never_pause_are_cut_as_well() {
    for driver in ["auto", "epoll"] {
        let endpoint = Endpoint::scripted(|talk, seen| {
            if seen.method() == "GET" {
                talk.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                let chunk = [b"ffff\r\n", &[b'x'; 0xffff][..], b"\r\n"].concat();
                while talk.send(&chunk) {}
                talk.close();
            } else {
                talk.forget(usize::MAX);
                talk.close();
            }
        });
        let mut gateway = Setup::proxy(endpoint.address)
            .driver(driver)
            .set("timeouts", "drain = \"200ms\"")
            .set("bounds", "body_bytes_max = \"1TiB\"")
            .start();
        let flowing = Arc::new(AtomicBool::new(false));
        let mut down = gateway.client();
        down.send("GET /down HTTP/1.1\r\nHost: a\r\n\r\n");
        let seen = Arc::clone(&flowing);
        let reader = thread::spawn(move || {
            use std::io::Read;
            let mut buffer = [0; 64 * 1024];
            let mut tail = Vec::new();
            while let Ok(read @ 1..) = down.stream.read(&mut buffer) {
                seen.store(true, Ordering::SeqCst);
                tail = buffer[..read].to_vec();
            }
            assert!(!tail.ends_with(b"\r\n0\r\n\r\n"), "half an answer must not look whole");
        });
        let mut up = gateway.client();
        up.send("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n");
        let writer = thread::spawn(move || while up.try_send([b'x'; 0xffff]) {});
        until("both to flow", || {
            flowing.load(Ordering::SeqCst) && endpoint.bytes().iter().any(|bytes| bytes.len() > 1_000_000)
        });
        gateway.signal("TERM");
        ends_with_0(&mut gateway);
        reader.join().unwrap();
        writer.join().unwrap();
        assert_eq!(log_of(&gateway).len(), 2, "{driver}: {:?}", gateway.said());
    }
}

#[test]
fn a_client_that_takes_nothing_is_cut_at_the_deadline() {
    let endpoint = Endpoint::scripted(|talk, _| {
        talk.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        while talk.send([b'x'; 0xffff]) {}
        talk.close();
    });
    let mut gateway = Setup::proxy(endpoint.address).set("timeouts", "drain = \"200ms\"").start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the answer to be stuck", || gateway.metric("tollgate_inflight_requests") == 1.0);
    gateway.signal("TERM");
    ends_with_0(&mut gateway);
    assert!(!client.answer().complete);
    let log = log_of(&gateway);
    assert_eq!((log.len(), &log[0]["status"]), (1, &200.into()));
    assert_ne!(log[0]["reason"], "-");
}

#[test]
fn another_order_neither_hurries_nor_stops_a_drain() {
    let gate = Gate::default();
    let endpoint = Endpoint::holding(&gate);
    let mut gateway = Setup::proxy(endpoint.address).start();
    let mut client = gateway.client();
    client.send("POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    until("it to be in flight", || gate.arrived() == 1);
    gateway.signal("TERM");
    until("new connections to be refused", || is_refused(gateway.address));
    for (signal, word) in
        [("TERM", "already"), ("INT", "already"), ("HUP", "configuration 2 is in force"), ("USR2", "SIGUSR2")]
    {
        let before = gateway.said().len();
        gateway.signal(signal);
        until("it to be said", || gateway.said()[before..].iter().any(|line| line.contains(word)));
    }
    assert_eq!(gateway.admin_request("POST", "/drain").0, 200);
    // Rotation does not wait for the end either.
    fs::rename(gateway.directory().join("access.log"), gateway.directory().join("old.log")).unwrap();
    gateway.signal("USR1");
    until("a new file", || gateway.directory().join("access.log").exists());
    assert_eq!(gateway.has_ended(), None);
    gate.open();
    let answer = client.answer();
    assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
    ends_with_0(&mut gateway);
    assert_eq!(log_of(&gateway).len(), 1);
}

#[test]
fn other_signals_end_nothing() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address).start();
    let mut client = gateway.client();
    assert_eq!(client.get("/", "").status, 200);
    for times in 1..=2 {
        gateway.signal("HUP");
        until("it to be said", || {
            gateway.said().iter().filter(|line| line.contains("is in force")).count() == times
        });
        assert_eq!(client.get("/", "").status, 200);
    }
    gateway.signal("USR1");
    gateway.signal("PIPE");
    assert_eq!(client.get("/", "").status, 200);
    assert_eq!(gateway.admin_get("/ready").0, 200);
    gateway.stop();
}

#[test]
fn a_signal_right_after_the_start_is_heard() {
    let endpoint = Endpoint::answering("ok");
    for signal in ["TERM", "HUP", "INT", "USR1", "TERM"] {
        // The address is announced before the rig returns, and nothing waits after that.
        let mut gateway = Setup::proxy(endpoint.address).start();
        gateway.signal(signal);
        if signal != "TERM" && signal != "INT" {
            assert_eq!(gateway.client().get("/", "").status, 200, "{signal}");
            gateway.signal("TERM");
        }
        ends_with_0(&mut gateway);
    }
}

#[test]
fn a_busy_gateway_loses_no_answer_and_no_line() {
    let endpoint = Endpoint::answering("ok");
    let mut gateway = Setup::proxy(endpoint.address).shards(2).start();
    let address = gateway.address;
    let clients: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                let mut answers = 0;
                loop {
                    let Ok(stream) = TcpStream::connect(address) else { return answers };
                    let mut client = Client::over(stream);
                    // A connection that is closed before its next request was taken up is no lost answer.
                    while client.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n") {
                        let Some(answer) = client.try_answer(false) else { break };
                        assert!(answer.status == 200 && answer.complete);
                        answers += 1;
                        if answer.field("connection") == Some("close") || answers % 50 == 0 {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    gateway.log(500);
    gateway.signal("TERM");
    ends_with_0(&mut gateway);
    let answers: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    let log = log_of(&gateway);
    assert_eq!(log.len(), answers, "every answer has a line and every line an answer");
    assert!(log.iter().all(|line| line["status"] == 200));
}

#[test]
fn a_log_nobody_reads_does_not_keep_the_process() {
    let endpoint = Endpoint::answering("ok");
    let setup = Setup::proxy(endpoint.address).set("log", "ring = \"64KiB\"");
    let directory = setup.write();
    let pipe = directory.path().join("access.log");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let _unread = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let mut gateway = setup.start_in(directory);
    let mut client = gateway.client();
    until("the log to be stuck", || {
        for _ in 0..100 {
            assert_eq!(client.get("/", "").status, 200);
        }
        gateway.metric("tollgate_log_dropped_total") > 0.0
    });
    gateway.signal("TERM");
    ends_with_0(&mut gateway);
    let is_said = |line: &String| line.contains("WARN") && line.contains("lines are missing");
    until("the loss to be said", || gateway.said().iter().any(is_said));
}
