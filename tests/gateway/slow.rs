//! Clients that take their time, on purpose or not: how long each may keep a message waiting, and what it holds.

use std::{
    fs,
    io::{self, Write},
    net::{Shutdown, TcpStream},
    thread,
};

use crate::rig::{Client, Endpoint, Gate, Gateway, Setup, until};

const POST: &str = "POST /pay HTTP/1.1\r\nHost: a\r\n";

/// Broken by a time-out that each byte of a head grants anew.
#[test]
fn a_head_that_dribbles_has_one_time_out_for_all_of_it() {
    let gateway = Setup::proxy(Endpoint::nowhere()).set("timeouts", "head = \"300ms\"").start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nX-Slow: ");
    dribble(&mut client);
    assert_eq!(client.answer().code(), "head_timeout");
}

/// Broken by a body that is sent on as it comes: each such client would hold an endpoint.
#[test]
fn a_body_that_dribbles_costs_no_endpoint_anything_and_has_one_time_out() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address)
        .set("timeouts", "body = \"300ms\"")
        .set("bounds", "in_flight = 2")
        .start();
    let mut slow: Vec<Client> = (0..6).map(|_| gateway.client()).collect();
    for (number, client) in slow.iter_mut().enumerate() {
        let framing = ["Content-Length: 9000", "Transfer-Encoding: chunked"][number % 2];
        client.send(format!("{POST}{framing}\r\n\r\n2328\r\n"));
    }
    // They are more than may be in flight, and are not.
    assert_eq!(gateway.client().post("/pay", "", b"honest").status, 200);
    for client in &mut slow {
        dribble(client);
        let answer = client.answer();
        assert_eq!((answer.code().as_str(), answer.field("Tollgate-Delivery")), ("body_timeout", None));
    }
    assert_eq!((endpoint.connections(), endpoint.seen(1).len()), (1, 1));
    until("nothing to be in flight", || gateway.metric("tollgate_inflight_requests") == 0.0);
}

/// What fits a buffer arrives in one piece, however it was sent; so it can also be sent again.
#[test]
fn a_short_body_in_pieces_is_charged_and_sent_once_it_is_whole() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address).start();
    for (framing, pieces) in [
        ("Content-Length: 10", vec!["hello", "world"]),
        ("Transfer-Encoding: chunked", vec!["5\r", "\nhel", "lo\r\n5\r\nworld\r\n0\r\n", "\r\n"]),
    ] {
        let mut client = gateway.client();
        client.send(format!("{POST}{framing}\r\n\r\n"));
        for piece in &pieces {
            client.send(piece);
        }
        assert_eq!(client.answer().status, 200);
    }
    assert!(endpoint.seen(2).iter().all(|seen| seen.body == b"helloworld"));
}

/// A long body is relayed, so what comes after its beginning must come at a rate.
#[test]
fn a_long_body_must_come_at_the_minimum_rate() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address)
        .set("timeouts", "body = \"300ms\"")
        .set("bounds", "body_rate_min = \"1MiB\"")
        .start();
    let mut client = gateway.client();
    client.send(format!("{POST}Content-Length: 10000000\r\n\r\n")).send(vec![b'x'; 64 * 1024]);
    dribble(&mut client);
    let answer = client.answer();
    assert_eq!(answer.code(), "body_timeout");
    assert_eq!(answer.field("Tollgate-Delivery"), None, "it is the client's doing");
}

/// Broken by a time-out that each byte a client takes grants anew.
#[test]
fn an_answer_must_be_taken_at_the_minimum_rate() {
    let endpoint = Endpoint::scripted(|talk, seen| {
        talk.read_body(seen);
        talk.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        while talk.send(vec![b'x'; 100_000]) {}
    });
    let gateway = Setup::proxy(endpoint.address)
        .set("timeouts", "body = \"300ms\"")
        .set("bounds", "body_rate_min = \"1GiB\"")
        .start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    // Now and then a piece, each within the time-out.
    let line = loop {
        let mut piece = [0; 100];
        let _ = io::Read::read(&mut client.stream, &mut piece);
        if let Some(line) = gateway.lines_so_far("access.log").pop() {
            break line;
        }
    };
    assert_eq!((&line["status"], &line["reason"]), (&200.into(), &"client gone within its answer".into()));
}

/// Broken by a full shard that keeps clients who take nothing, and turns away those who would.
#[test]
fn a_full_shard_parts_with_who_takes_nothing() {
    let endpoint = Endpoint::scripted(|talk, seen| {
        if seen.target() == "/long" {
            talk.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
            while talk.send(vec![b'x'; 100_000]) {}
        } else {
            talk.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let setup = Setup::proxy(endpoint.address).set("bounds", "in_flight = 2");
    let gateway = setup.set("bounds", "critical_share = \"0%\"").start();
    let mut takers: Vec<Client> = (0..2).map(|_| gateway.client()).collect();
    for client in &mut takers {
        client.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    until("both to be served", || endpoint.connections() == 2);
    let refused = gateway.client().get("/", "");
    assert_eq!((refused.status, refused.code().as_str()), (503, "overloaded"));
    // The time-out for a client that takes nothing is half a minute.
    until("somebody else to be served", || gateway.client().get("/", "").status == 200);
    let cut = || gateway.lines_so_far("access.log").into_iter().find(|line| line["path"] == "/long");
    until("its line", || cut().is_some());
    let cut = cut().unwrap();
    assert_eq!((&cut["status"], &cut["reason"]), (&200.into(), &"client gone within its answer".into()));
}

/// A neighbour that sends requests without end is answered, and so is everybody else.
#[test]
fn a_pipeline_without_end_starves_nobody() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address).start();
    let gate = Gate::default();
    let flood = {
        let (address, gate) = (gateway.address, gate.clone());
        thread::spawn(move || {
            let mut client = Client::connect(address);
            let mut answered = 0;
            while !gate.is_open() {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(50));
                for _ in 0..50 {
                    assert_eq!(client.answer().status, 200);
                    answered += 1;
                }
            }
            answered
        })
    };
    let mut honest = gateway.client();
    for _ in 0..100 {
        assert_eq!(honest.get("/", "").status, 200);
    }
    gate.open();
    assert!(flood.join().unwrap() >= 50);
}

/// Broken by a client whose requests are all served once they are there: refusals wait for nobody.
#[test]
fn a_flood_of_refusals_gives_way_to_others() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::new()
        .set("bounds", "keepalive_requests = 100000000")
        .cluster("main", &[endpoint.address], "")
        .route("honest", "/honest", "main", "")
        .start();
    let flood = TcpStream::connect(gateway.address).unwrap();
    let (mut taking, mut sending) = (flood.try_clone().unwrap(), flood.try_clone().unwrap());
    let taker = thread::spawn(move || io::copy(&mut taking, &mut io::sink()));
    let sender = thread::spawn(move || {
        let many = "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n".repeat(10_000);
        while sending.write_all(many.as_bytes()).is_ok() {}
    });
    let mut honest = gateway.client();
    for _ in 0..20 {
        assert_eq!(honest.get("/honest", "").status, 200);
    }
    flood.shutdown(Shutdown::Both).unwrap();
    sender.join().unwrap();
    let _ = taker.join().unwrap();
    until("all honest lines", || honest_lines(&gateway).len() == 20);
    let lines = honest_lines(&gateway);
    let between = lines.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap();
    // A block of the client's holds more than 400.
    assert!(between < 200, "at least {between} requests of the flood were served between two honest ones");
}

/// Where the honest lines stand in the log.
fn honest_lines(gateway: &Gateway) -> Vec<usize> {
    let log = fs::read_to_string(gateway.directory().join("access.log")).unwrap();
    log.lines().enumerate().filter(|(_, line)| line.contains("/honest")).map(|(number, _)| number).collect()
}

/// Sends a byte at a time until the gateway has had enough.
fn dribble(client: &mut Client) {
    until("the gateway to have had enough", || !client.try_send("a") || client.has_answer());
}
