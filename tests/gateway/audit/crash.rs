//! Killed at any moment: every answer that a client has is on record.

use std::{
    collections::HashSet,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::Value;

use super::{audited, verify};
use crate::rig::{Endpoint, until};

/// Clients of one round.
const CLIENTS: usize = 6;

/// Sends requests until the gateway is gone; the ids of those whose answers arrived whole. An answer that was withheld,
/// because the disk took too long for it, ends its connection and not the client.
fn hammer(address: SocketAddr, number: usize, answered: &AtomicUsize) -> Vec<String> {
    let mut ids = Vec::new();
    let mut turn = 0;
    while let Ok(mut stream) = TcpStream::connect(address) {
        loop {
            turn += 1;
            let id = format!("c{number}t{turn}");
            match ask(&mut stream, &id) {
                Some(200) => ids.push(id),
                Some(status) => assert_eq!(status, 503, "{id}: refused, or answered"),
                None => break,
            }
            answered.fetch_add(1, Ordering::SeqCst);
        }
    }
    ids
}

/// The status of an answer that arrived whole.
fn ask(stream: &mut TcpStream, id: &str) -> Option<u16> {
    let request =
        format!("POST /pay HTTP/1.1\r\nHost: a\r\nX-Request-Id: {id}\r\nContent-Length: 4\r\n\r\nbody");
    stream.write_all(request.as_bytes()).ok()?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while !(answer.ends_with(b"\r\n\r\nok") || answer.ends_with(b"\"}")) {
        match stream.read(&mut buffer) {
            Ok(count @ 1..) if answer.len() < 64 * 1024 => answer.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
    }
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}

/// One life under load, ended by SIGKILL after about so many answers; how many answers there were.
fn life(durability: &str, answers: usize) -> usize {
    let endpoint = Endpoint::answering("ok");
    let setup = audited(&endpoint, &format!("durability = \"{durability}\"\ncheckpoint_records = 20"));
    let mut gateway = setup.shards(2).start();
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (address, answered) = (gateway.address, Arc::clone(&answered));
            thread::spawn(move || hammer(address, number, &answered))
        })
        .collect();
    until("answers", || answered.load(Ordering::SeqCst) >= answers);
    gateway.signal("KILL");
    gateway.wait();
    let ids: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let lines = gateway.lines_so_far("audit.log");
    let of = |event: &str| -> HashSet<String> {
        let lines = lines.iter().filter(|line| line["event"] == event);
        lines.map(|line| line["request_id"].as_str().unwrap().to_owned()).collect()
    };
    let (intents, outcomes) = (of("intent"), of("outcome"));
    for id in &ids {
        assert!(intents.contains(id), "{durability}: the answer {id} arrived and has no intent");
        assert!(
            durability == "buffered" || outcomes.contains(id),
            "the answer {id} arrived and has no outcome on the disk"
        );
    }
    // What an endpoint was sent has an intent, if that was on the disk before.
    if durability == "fsync" {
        for seen in endpoint.seen(0) {
            assert!(intents.contains(seen.field("x-request-id").unwrap()), "sent without an intent");
        }
    }
    let (code, said) = verify(&gateway, &["--json", "audit.log"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    let problems = report["problems"].as_array().unwrap();
    // A kill within a write can leave the beginning of a line, of which nobody was told that it is there.
    let is_torn = |problem: &Value| problem["kind"] == "torn" && problem["line"] == report["lines"];
    assert!(problems.iter().all(is_torn) && problems.len() <= 1, "{said}");
    assert_eq!(code, Some(problems.len() as i32), "{said}");
    assert!(said.contains("has no end"), "{said}");
    ids.len()
}

#[test]
fn every_answer_of_a_killed_gateway_is_on_record() {
    for (durability, answers) in [("buffered", 40), ("fsync", 7), ("buffered", 3), ("fsync", 25)] {
        life(durability, answers);
    }
}

/// Sixty lives. Long: run it with `cargo test --test gateway killed_sixty -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn every_answer_of_a_gateway_killed_sixty_times_is_on_record() {
    let mut dice = fastrand::Rng::with_seed(9);
    let mut sum = 0;
    for round in 0..60 {
        let durability = if round % 2 == 0 { "buffered" } else { "fsync" };
        sum += life(durability, dice.usize(1..400));
    }
    println!("60 kills, {sum} answers, all on record");
}

#[test]
fn the_next_process_vouches_for_what_the_killed_one_left() {
    let endpoint = Endpoint::answering("ok");
    let mut gateway = audited(&endpoint, "").start();
    for _ in 0..3 {
        assert_eq!(gateway.client().get("/pay", "").status, 200);
    }
    until("the outcomes", || super::events(&gateway, "outcome").len() == 3);
    gateway.signal("KILL");
    gateway.wait();
    let log = std::fs::read(gateway.directory().join("audit.log")).unwrap();
    let next = audited(&endpoint, "");
    let directory = next.write();
    std::fs::write(directory.path().join("audit.log"), [&log[..], b"{\"run\":\"torn"].concat()).unwrap();
    let mut next = audited(&endpoint, "").start_in(directory);
    next.signal("TERM");
    next.wait();
    let (code, said) = verify(&next, &["audit.log"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("a line that never ended"), "{said}");
    // The last record before the restart cannot be taken away any more.
    let path = next.directory().join("audit.log");
    let text = std::fs::read_to_string(&path).unwrap();
    let last = text.lines().rfind(|line| line.contains("\"outcome\"")).unwrap();
    std::fs::write(&path, text.replace(&format!("{last}\n"), "")).unwrap();
    let (code, said) = verify(&next, &["--json", "audit.log"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &report["problems"][0]["kind"]), (Some(1), &Value::from("missing")), "{said}");
}
