//! A gateway's life: it starts, serves one payment with everything on, and ends when told to.

use std::sync::Arc;

use serde_json::json;

use crate::rig::{Endpoint, Setup, valid_token};

#[test]
fn one_payment_through_all_nine_steps() {
    let endpoint = Endpoint::answering("paid");
    let gateway = Setup::new()
        .keys("")
        .cluster("payments", &[endpoint.address], "")
        .route(
            "payment-v1",
            "/api/v1/payment",
            "payments",
            "jwt = \"partners\"\nlimit = [{ by = \"consumer\", quota = \"2/minute\" }]",
        )
        .start();
    let mut client = gateway.client();
    let bearer = format!("Authorization: Bearer {}\r\n", valid_token("acme"));

    let paid = client.post("/api/v1/payment?card=4111", &bearer, b"{\"amount\":100}");
    assert_eq!((paid.status, paid.text().as_str()), (200, "paid"));
    let refused = client.get("/api/v1/payment", "");
    assert_eq!((refused.status, refused.json()["message"].clone()), (401, json!("A token is required!")));
    assert_eq!(client.get("/api/v1/payment", &bearer).status, 200);
    let limited = client.get("/api/v1/payment", &bearer);
    assert_eq!((limited.status, limited.code().as_str()), (429, "quota_exceeded"));

    let seen = endpoint.seen(2);
    assert_eq!(seen[0].body, b"{\"amount\":100}");
    assert_eq!(seen[0].field("x-consumer-id"), Some("acme"));
    assert_eq!(seen[0].field("host"), Some("gateway.example"));

    let log = gateway.log(4);
    let statuses: Vec<u64> = log.iter().map(|line| line["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 401, 200, 429]);
    assert_eq!(log[0]["consumer"], "acme");
    assert_eq!(log[0]["path"], "/api/v1/payment");
    gateway.stop();
}

/// Sizes around what a block holds, with and without a head beside them.
const SIZES: [usize; 9] = [1, 4_000, 32_000, 32_400, 32_500, 32_600, 32_767, 65_536, 1_000_003];

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + index / 251) as u8).collect()
}

#[test]
fn bodies_of_every_size_arrive_byte_for_byte() {
    let endpoint = Endpoint::scripted(|talk, seen| {
        talk.read_body(seen);
        let body = std::mem::take(&mut seen.body);
        let framing = match seen.field("x-framing") {
            Some("chunked") => "Transfer-Encoding: chunked".to_owned(),
            _ => format!("Content-Length: {}", body.len()),
        };
        let mut answer = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n").into_bytes();
        if seen.field("x-framing") == Some("chunked") {
            for chunk in body.chunks(10_000) {
                answer.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                answer.extend_from_slice(chunk);
                answer.extend_from_slice(b"\r\n");
            }
            answer.extend_from_slice(b"0\r\n\r\n");
        } else {
            answer.extend_from_slice(&body);
        }
        // One write, so that the gateway finds its buffers full.
        talk.send(&answer);
    });
    let gateway = Setup::proxy(endpoint.address).start();
    for framing in ["length", "chunked"] {
        let mut client = gateway.client();
        for size in SIZES {
            let sent = Arc::new(pattern(size));
            let mut writing = client.stream.try_clone().unwrap();
            let copy = Arc::clone(&sent);
            let writer = std::thread::spawn(move || {
                use std::io::Write;
                let head = format!(
                    "POST /echo HTTP/1.1\r\nHost: a\r\nX-Framing: {framing}\r\nContent-Length: {}\r\n\r\n",
                    copy.len()
                );
                writing.write_all(&[head.as_bytes(), &copy].concat()).unwrap();
            });
            let answer = client.answer();
            writer.join().unwrap();
            assert!(answer.complete && answer.body == *sent, "{framing}, {size} bytes");
        }
    }
}
