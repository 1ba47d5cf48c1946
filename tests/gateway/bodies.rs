//! Bodies: streamed both ways, in bounded memory, at the speed of the slower side, to their true end.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::rig::{Client, Endpoint, Gate, Gateway, Setup, until};

const MIB: usize = 1024 * 1024;
/// More than all socket buffers on the way hold together.
const LONG: usize = 32 * MIB;
/// What the gateway's memory may grow by, in KiB, while a body of [`LONG`] passes: some buffers, no body.
const GROWTH_KIB: u64 = 8 * 1024;

fn proxy(endpoint: &Endpoint) -> Setup {
    Setup::proxy(endpoint.address).set("bounds", "body_bytes_max = \"1GiB\"")
}

/// What stands at `offset` of every long body.
fn byte_at(offset: usize) -> u8 {
    (offset / 4096 % 251) as u8
}

fn piece(offset: usize, length: usize) -> Vec<u8> {
    (offset..offset + length).map(byte_at).collect()
}

/// Sends a long body, in chunks or bare; stops when nobody listens any more.
fn send_long(stream: &mut impl Write, chunked: bool, sent: &AtomicUsize) {
    const PIECE: usize = 32 * 1024;
    for offset in (0..LONG).step_by(PIECE) {
        let mut bytes = piece(offset, PIECE);
        if chunked {
            bytes = [format!("{PIECE:x}\r\n").as_bytes(), &bytes, b"\r\n"].concat();
        }
        if stream.write_all(&bytes).is_err() {
            return;
        }
        sent.fetch_add(PIECE, Ordering::SeqCst);
    }
    if chunked {
        let _ = stream.write_all(b"0\r\n\r\n");
    }
}

/// An endpoint that answers with a long body, and counts how much of it got out.
fn generous(chunked: bool, gate: Option<Gate>) -> (Endpoint, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let endpoint = Endpoint::scripted(move |talk, _| {
        if let Some(gate) = &gate {
            gate.pass();
        }
        let framing =
            if chunked { "Transfer-Encoding: chunked".into() } else { format!("Content-Length: {LONG}") };
        talk.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
        send_long(&mut talk.stream, chunked, &count);
    });
    (endpoint, sent)
}

/// An endpoint that takes a body of [`LONG`] bytes, looks at every one and answers with how many were right.
fn hungry() -> Endpoint {
    Endpoint::scripted(|talk, seen| {
        talk.read_body(seen);
        let right = seen.body.iter().enumerate().filter(|&(offset, &byte)| byte == byte_at(offset)).count();
        // Not kept: it is long.
        seen.body = Vec::new();
        let text = right.to_string();
        talk.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()));
    })
}

fn grown(gateway: &Gateway, before_kib: u64) -> u64 {
    gateway.resident_kib().saturating_sub(before_kib)
}

#[test]
fn a_long_download_passes_in_bounded_memory() {
    for (driver, chunked) in [("auto", false), ("auto", true), ("epoll", false)] {
        let (endpoint, _) = generous(chunked, None);
        let gateway = proxy(&endpoint).driver(driver).start();
        let before_kib = gateway.resident_kib();
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.answer();
        assert!(answer.complete && answer.body.len() == LONG);
        let wrong = answer.body.iter().enumerate().find(|&(offset, &byte)| byte != byte_at(offset));
        assert_eq!(wrong, None, "{driver}, chunked: {chunked}");
        assert!(grown(&gateway, before_kib) < GROWTH_KIB, "{} KiB", grown(&gateway, before_kib));
    }
}

#[test]
fn a_long_upload_passes_in_bounded_memory() {
    for (driver, chunked) in [("auto", false), ("auto", true), ("epoll", true)] {
        let endpoint = hungry();
        let gateway = proxy(&endpoint).driver(driver).start();
        let before_kib = gateway.resident_kib();
        let mut client = gateway.client();
        let framing =
            if chunked { "Transfer-Encoding: chunked".into() } else { format!("Content-Length: {LONG}") };
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
        send_long(&mut client.stream, chunked, &AtomicUsize::new(0));
        assert_eq!(client.answer().text(), LONG.to_string(), "{driver}, chunked: {chunked}");
        assert!(grown(&gateway, before_kib) < GROWTH_KIB, "{} KiB", grown(&gateway, before_kib));
    }
}

/// Waits until `count` has stopped: nothing more was added in a hundred looks.
fn wait_for_standstill(count: &AtomicUsize) -> usize {
    let (mut last, mut looks) = (0, 0);
    until("the sender to be held up", || {
        let now = count.load(Ordering::SeqCst);
        looks = if now == last && now > 0 { looks + 1 } else { 0 };
        last = now;
        looks > 100
    });
    last
}

#[test]
fn a_client_that_does_not_read_holds_the_endpoint_up() {
    let (endpoint, sent) = generous(false, None);
    let gateway = proxy(&endpoint).start();
    let before_kib = gateway.resident_kib();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(wait_for_standstill(&sent) < LONG);
    assert!(grown(&gateway, before_kib) < GROWTH_KIB);
    // Others are served meanwhile, and in the end all of it arrives.
    let mut other = gateway.client();
    other.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(other.answer().body.len(), LONG);
    assert_eq!(client.answer().body.len(), LONG);
}

#[test]
fn an_endpoint_that_does_not_read_holds_the_client_up() {
    let gate = Gate::default();
    let endpoint = {
        let gate = gate.clone();
        Endpoint::scripted(move |talk, seen| {
            gate.pass();
            talk.read_body(seen);
            let all = seen.body.len().to_string();
            seen.body = Vec::new();
            talk.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{all}", all.len()));
        })
    };
    let gateway = proxy(&endpoint).start();
    let before_kib = gateway.resident_kib();
    let mut client = gateway.client();
    let sent = Arc::new(AtomicUsize::new(0));
    let (mut writing, count) = (client.stream.try_clone().unwrap(), Arc::clone(&sent));
    let writer = thread::spawn(move || {
        writing
            .write_all(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LONG}\r\n\r\n").as_bytes())
            .unwrap();
        send_long(&mut writing, false, &count);
    });
    assert!(wait_for_standstill(&sent) < LONG);
    assert!(grown(&gateway, before_kib) < GROWTH_KIB);
    gate.open();
    assert_eq!(client.answer().text(), LONG.to_string());
    writer.join().unwrap();
}

#[test]
fn trailers_travel_both_ways() {
    let endpoint = Endpoint::scripted(|talk, seen| {
        talk.read_body(seen);
        talk.send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             2\r\nok\r\n0\r\nX-Sum: 1\r\nContent-Length: 7\r\n\r\n",
        );
    });
    let gateway = Setup::proxy(endpoint.address).start();
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\
             X-Check: 2\r\nAuthorization: Bearer x\r\nX-Consumer-Id: root\r\n\r\n",
        );
        let answer = client.answer();
        assert!(answer.complete);
        // A trailer that would frame, name or authenticate is not one.
        assert_eq!((answer.text().as_str(), answer.trailers.as_str()), ("ok", "X-Sum: 1\r\n"));
    }
    for seen in endpoint.seen(2) {
        assert_eq!((seen.body.as_slice(), seen.trailers.as_str()), (&b"abc"[..], "X-Check: 2\r\n"));
    }
}

#[test]
fn chunks_for_a_client_that_knows_none_end_with_the_connection() {
    let endpoint = Endpoint::scripted(|talk, seen| {
        talk.read_body(seen);
        talk.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3\r\nay!\r\n0\r\n\r\n");
    });
    let gateway = Setup::proxy(endpoint.address).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.field("transfer-encoding"), answer.field("content-length")), (None, None));
    assert_eq!(answer.field("connection"), Some("close"));
    assert_eq!(answer.text(), "okay!");
}

#[test]
fn an_answer_that_ends_with_its_connection_is_passed_on_whole() {
    let endpoint = Endpoint::scripted(|talk, _| {
        talk.send("HTTP/1.1 200 OK\r\n\r\nall there is");
        talk.close();
    });
    let gateway = Setup::proxy(endpoint.address).start();
    let mut client = gateway.client();
    // A client of today gets chunks and keeps its connection.
    for _ in 0..2 {
        let answer = client.get("/", "");
        assert_eq!(
            (answer.text().as_str(), answer.field("transfer-encoding")),
            ("all there is", Some("chunked"))
        );
    }
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer().text(), "all there is");
    assert!(client.is_closed());
}

#[test]
fn many_small_chunks_are_no_different() {
    let endpoint = Endpoint::scripted(|talk, seen| {
        talk.read_body(seen);
        let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for byte in &seen.body {
            answer.extend_from_slice(&[b'1', b'\r', b'\n', *byte, b'\r', b'\n']);
        }
        answer.extend_from_slice(b"0\r\n\r\n");
        talk.send(&answer);
    });
    let gateway = Setup::proxy(endpoint.address).start();
    let body: Vec<u8> = (0..50_000_usize).map(byte_at).collect();
    let mut client = gateway.client();
    let mut wire = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for byte in &body {
        wire.extend_from_slice(&[b'1', b'\r', b'\n', *byte, b'\r', b'\n']);
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    let mut writing = client.stream.try_clone().unwrap();
    let writer = thread::spawn(move || writing.write_all(&wire).unwrap());
    assert_eq!(client.answer().body, body);
    writer.join().unwrap();
}

#[test]
fn a_client_that_asks_first_is_told_by_the_endpoint() {
    let endpoint = Endpoint::scripted(|talk, seen| {
        if seen.target() == "/no" {
            talk.send("HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            talk.close();
            return;
        }
        talk.send("HTTP/1.1 100 Continue\r\n\r\n");
        talk.read_body(seen);
        talk.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let gateway = Setup::proxy(endpoint.address).start();
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send("POST /yes HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.answer().status, 100);
        client.send("hello");
        assert_eq!(client.answer().text(), "ok");
    }
    assert_eq!(endpoint.seen(2)[0].body, b"hello");
    client.send("POST /no HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.field("connection")), (409, Some("close")));
    // What the client may have sent by then is nobody's request.
    client.try_send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.rest(), b"");
    assert!(endpoint.seen(3).iter().all(|seen| seen.target() != "/smuggled"));
    // The other expectations nobody can meet.
    let answer = gateway.client().post("/yes", "Expect: the-unexpected\r\n", b"hello");
    assert_eq!((answer.status, answer.code().as_str()), (417, "expectation_failed"));
}

#[test]
fn a_body_that_stops_coming_is_told_so() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address)
        .set("timeouts", "body = \"200ms\"")
        .set("timeouts", "head = \"200ms\"")
        .start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    let answer = client.answer();
    assert_eq!((answer.status, answer.code().as_str()), (408, "body_timeout"));
    assert!(client.is_closed());
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.code().as_str()), (408, "head_timeout"));
    assert!(client.is_closed());
    let log = gateway.log(2);
    assert_eq!(log[0]["code"], "body_timeout");
    assert_eq!(log[1]["code"], "head_timeout");
    // No endpoint took half a body for a whole one.
    let request = endpoint.bytes().concat();
    assert!(!request.ends_with(b"0\r\n\r\n"), "{:?}", String::from_utf8_lossy(&request));
}

/// Reads and throws away until the gateway closes.
fn drain(client: &mut Client) {
    let _ = client.stream.read_to_end(&mut Vec::new());
}

#[test]
fn an_early_answer_ends_the_upload() {
    let endpoint = Endpoint::scripted(|talk, _| {
        talk.forget(1000);
        talk.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\nConnection: close\r\n\r\nenow");
        talk.wait_for_end();
    });
    let gateway = proxy(&endpoint).start();
    let mut client = gateway.client();
    let mut writing = client.stream.try_clone().unwrap();
    let writer = thread::spawn(move || {
        writing
            .write_all(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LONG}\r\n\r\n").as_bytes())
            .unwrap();
        send_long(&mut writing, false, &AtomicUsize::new(0));
    });
    let answer = client.answer();
    assert_eq!(
        (answer.status, answer.text().as_str(), answer.field("connection")),
        (403, "enow", Some("close"))
    );
    drain(&mut client);
    writer.join().unwrap();
    assert_eq!(gateway.log(1)[0]["status"], 403);
}

#[test]
fn a_get_may_have_a_body_too() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address).start();
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(client.answer().text(), "ok");
    }
    assert!(endpoint.seen(2).iter().all(|seen| seen.body == b"hello"));
}
