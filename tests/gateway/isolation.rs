//! Nobody gets somebody else's answer, whatever the endpoint does to its connections.
//!
//! Many clients ask for things only they know the name of, of an endpoint that lies at random: two framings,
//! bytes behind its answers, second answers nobody asked for, bodies where there are none, early ends. Each
//! client gets its own thing whole, or something that is visibly no answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use crate::rig::{Endpoint, Setup, Talk};

const CLIENTS: usize = 8;
const REQUESTS: usize = 150;
/// What an unasked answer holds. No client may ever see it.
const FORGED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";

/// Answers for `thing`, in one of many ways.
fn lie(talk: &mut Talk, thing: &str, head_only: bool, way: u64) {
    let length = thing.len();
    let body = if head_only { "" } else { thing };
    let well = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
    let said = match way {
        // Bytes behind the end.
        0 => format!("{well}{FORGED}"),
        1 => format!("{well}\r\n\r\n"),
        2 => format!("{well}x"),
        // Two framings.
        3 => format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nContent-Length: 0\r\n\r\n{body}"),
        4 => {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
        }
        // A length that is not the body's.
        5 => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}{FORGED}", length / 2),
        // Chunks that are none.
        6 => format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\nzz\r\n{FORGED}"
        ),
        7 => format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n{FORGED}"
        ),
        // Bodies where there are none.
        8 => format!("HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nforged{FORGED}"),
        9 => "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\nforged".to_owned(),
        10 => format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{thing}{FORGED}"),
        // Too much before the answer.
        11 => format!("{}{well}", "HTTP/1.1 102 Processing\r\n\r\n".repeat(20)),
        12 => format!("HTTP/1.1 103 Early Hints\r\nContent-Length: 6\r\n\r\nforged{well}"),
        // Early ends.
        13 => well[..well.len() / 2].to_owned(),
        14 => format!("HTTP/1.1 200 OK\r\n\r\n{body}"),
        _ => well,
    };
    talk.send(said);
    if matches!(way, 13 | 14) {
        talk.close();
    }
}

#[test]
fn every_client_gets_its_own_answer_or_none() {
    for driver in ["auto", "epoll"] {
        let turn = AtomicU64::new(0);
        let endpoint = Endpoint::scripted(move |talk, seen| {
            talk.read_body(seen);
            // Every second answer is good, so that there are connections to poison.
            let turn = turn.fetch_add(1, Ordering::SeqCst);
            let way =
                if turn.is_multiple_of(2) { u64::MAX } else { fastrand::Rng::with_seed(turn).u64(0..15) };
            lie(talk, seen.target().trim_start_matches('/'), seen.method() == "HEAD", way);
        });
        let gateway = Setup::new()
            .cluster("main", &[endpoint.address], "response_timeout = \"2s\"")
            .route("all", "/", "main", "")
            .shards(2)
            .driver(driver)
            .start();
        let address = gateway.address;
        let good = Arc::new(AtomicU64::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let good = Arc::clone(&good);
                thread::spawn(move || ask_for_things(client, address, &good))
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        let asked = (CLIENTS * REQUESTS) as u64;
        let good = good.load(Ordering::SeqCst);
        assert!(
            good > asked / 3 && good < asked,
            "{good} of {asked} were good: the endpoint lied always or never"
        );
        gateway.stop();
    }
}

fn ask_for_things(client: usize, address: std::net::SocketAddr, good: &AtomicU64) {
    let mut connection = crate::rig::Client::connect(address);
    for request in 0..REQUESTS {
        let thing = format!("thing-{client}-{request}-{}", "x".repeat(request % 40));
        let head_only = request % 5 == 4;
        let method = if head_only { "HEAD" } else { "GET" };
        connection.send(format!("{method} /{thing} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let answer = loop {
            let answer = connection.try_answer(head_only);
            if answer.as_ref().is_none_or(|answer| answer.status >= 200) {
                break answer;
            }
        };
        let keeps = answer
            .as_ref()
            .is_some_and(|answer| answer.complete && answer.field("connection") != Some("close"));
        if let Some(answer) = answer {
            assert!(
                !answer.text().contains("forged") && !answer.text().contains("HTTP/1.1"),
                "{}",
                answer.text()
            );
            match answer.status {
                200 if head_only => {
                    good.fetch_add(1, Ordering::SeqCst);
                }
                // A length that was a lie cuts a thing short, but it is never another's.
                200 if answer.complete => {
                    assert!(thing.starts_with(&answer.text()), "{thing}: {}", answer.text());
                    good.fetch_add(u64::from(answer.text() == thing), Ordering::SeqCst);
                }
                200 => assert!(thing.starts_with(&answer.text()), "{thing}: {}", answer.text()),
                204 | 304 | 502 => {}
                other => panic!("{thing}: {other}"),
            }
        }
        if !keeps {
            connection = crate::rig::Client::connect(address);
        }
    }
}
