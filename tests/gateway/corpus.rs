//! The hostile corpus against the live gateway, with an endpoint that records every byte.
//!
//! `tests/corpus.rs` runs the same cases against the pure parser.

use std::sync::{Arc, Mutex};

use crate::rig::{Endpoint, Gateway, Setup};

#[path = "../corpus/cases.rs"]
pub(crate) mod cases;

use cases::Case;

#[test]
fn every_case_has_the_verdict_it_promises() {
    // One endpoint and gateway for each class: what a case did to a pooled connection, the next one meets.
    let cases = cases::all();
    for class in cases.chunk_by(|one, next| one.class == next.class) {
        let whole = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&whole);
        let endpoint = Endpoint::scripted(move |talk, seen| {
            if !talk.read_body(seen) {
                talk.close();
                return;
            }
            let body =
                format!("{} {} [{}]", seen.method(), seen.target(), String::from_utf8_lossy(&seen.body));
            kept.lock().unwrap().push(body.clone());
            talk.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        });
        let gateway = Setup::proxy(endpoint.address).set("bounds", "body_bytes_max = 1000").start();
        for case in class {
            let before = endpoint.count();
            run(case, &gateway, &endpoint);
            judge_fields(case, &endpoint, before);
            let reached = std::mem::take(&mut *whole.lock().unwrap());
            assert_eq!(reached[..reached.len() - 1], case.forwarded, "{}: {}", case.class, case.name);
        }
        gateway.stop();
    }
}

/// Looks at what the endpoint saw of the case's requests, the first of which was the `before`th.
fn judge_fields(case: &Case, endpoint: &Endpoint, before: usize) {
    let what = format!("{}: {}", case.class, case.name);
    let seen = endpoint.seen(before + case.forwarded.len());
    for field in &case.arrives {
        let (name, value) = field.split_once(": ").unwrap();
        assert_eq!(seen[before].fields(name), [value], "{what}: {}", seen[before].head);
    }
    for name in &case.missing {
        for seen in &seen[before..] {
            assert!(seen.fields(name).is_empty(), "{what}: {name} in {}", seen.head);
        }
    }
}

fn run(case: &Case, gateway: &Gateway, endpoint: &Endpoint) {
    let what = format!("{}: {}", case.class, case.name);
    let bytes_before: usize = endpoint.bytes().iter().map(Vec::len).sum();
    let mut client = gateway.client();
    client.send(&case.wire).finish();
    for request in &case.forwarded {
        // An answer of the endpoint's says what it read.
        let answer = client.answer();
        assert_eq!((answer.status, answer.text().as_str()), (200, request.as_str()), "{what}");
    }
    let refused = case.refused.as_deref().or(case.cut.as_deref());
    if let Some(code) = refused {
        let answer = client.answer();
        assert_eq!(answer.code(), code, "{what}: {}", answer.head);
        assert_eq!(answer.field("connection"), Some("close"), "{what}");
    }
    assert!(client.is_closed(), "{what}");
    if case.refused.is_some() && case.forwarded.is_empty() {
        let bytes: usize = endpoint.bytes().iter().map(Vec::len).sum();
        assert_eq!(bytes, bytes_before, "{what}: it reached the endpoint");
    }
    // Nothing of it is left for whoever comes next.
    let next = gateway.client().get("/next", "");
    assert_eq!(next.text(), "GET /next []", "{what}");
}
