//! Framing: what a message is and where it ends has one reading, however its bytes arrive.
//!
//! Whatever is refused here has also never reached the endpoint: that is what the last look at it says.

use crate::rig::{Client, Endpoint, Gateway, Setup};

/// An endpoint that says what it got, behind a gateway.
fn echo() -> (Endpoint, Gateway) {
    let endpoint = Endpoint::scripted(|talk, seen| {
        talk.read_body(seen);
        let body = format!("{} {} [{}]", seen.method(), seen.target(), String::from_utf8_lossy(&seen.body));
        talk.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    });
    let gateway = Setup::proxy(endpoint.address).set("bounds", "body_bytes_max = 1000").start();
    (endpoint, gateway)
}

/// What comes back for these bytes: statuses, and codes of the gateway's own answers, up to the close.
#[track_caller]
fn fate(gateway: &Gateway, bytes: &[u8]) -> Vec<(u16, String)> {
    let mut client = gateway.client();
    client.send(bytes);
    let mut fate = Vec::new();
    while let Some(answer) = client.try_answer(false) {
        assert!(answer.complete);
        fate.push((answer.status, answer.code()));
    }
    fate
}

/// Each of `cases` is answered with `status` and `code`, and closed; nothing of it reaches the endpoint.
#[track_caller]
fn refused(status: u16, code: &str, cases: &[&[u8]]) {
    let (endpoint, gateway) = echo();
    for case in cases {
        let fate = fate(&gateway, case);
        assert_eq!(fate, [(status, code.to_owned())], "{:?}", String::from_utf8_lossy(case));
    }
    assert_eq!(endpoint.connections(), 0, "{:?}", endpoint.bytes());
    gateway.stop();
}

/// A head of a POST with these field lines, and what follows it.
fn post(lines: &str, behind: &str) -> Vec<u8> {
    format!("POST /p HTTP/1.1\r\nHost: a\r\n{lines}\r\n{behind}").into_bytes()
}

#[track_caller]
fn refused_posts(status: u16, code: &str, cases: &[(&str, &str)]) {
    let cases: Vec<Vec<u8>> = cases.iter().map(|(lines, behind)| post(lines, behind)).collect();
    refused(status, code, &cases.iter().map(Vec::as_slice).collect::<Vec<_>>());
}

#[test]
fn a_request_cut_anywhere_means_the_same() {
    let (endpoint, gateway) = echo();
    let wire = post(
        "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n",
        "3;a=b\r\nabc\r\n0A\r\n0123456789\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    let mut client = gateway.client();
    for cut in 1..wire.len() {
        // The gateway reads the first part alone: its answer to a request on another connection comes later.
        client.send(&wire[..cut]);
        gateway.client().get("/other", "");
        client.send(&wire[cut..]);
        assert_eq!(client.answer().text(), "POST /p [abc0123456789]", "cut at {cut}");
    }
    let seen = endpoint.seen(2 * (wire.len() - 1));
    let posts: Vec<_> = seen.iter().filter(|seen| seen.method() == "POST").collect();
    assert_eq!(posts.len(), wire.len() - 1);
    assert!(posts.iter().all(|seen| seen.trailers == "X-Sum: 7\r\n"), "{:?}", posts[0].trailers);
}

#[test]
fn byte_by_byte_is_no_different() {
    for driver in ["auto", "epoll"] {
        let endpoint = Endpoint::answering("ok");
        let gateway = Setup::proxy(endpoint.address).driver(driver).start();
        let mut client = gateway.client();
        for byte in post("Content-Length: 5\r\n", "hello") {
            client.send([byte]);
        }
        assert_eq!(client.answer().text(), "ok");
        assert_eq!(endpoint.seen(1)[0].body, b"hello");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (_endpoint, gateway) = echo();
    let mut wire = Vec::new();
    for index in 0..50 {
        match index % 3 {
            0 => wire.extend(format!("GET /{index} HTTP/1.1\r\nHost: a\r\n\r\n").bytes()),
            1 => wire.extend(format!("PUT /{index} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n{index:03}").bytes()),
            _ => wire.extend(
                format!("PUT /{index} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{index:03}\r\n0\r\n\r\n")
                    .bytes(),
            ),
        }
    }
    let mut client = gateway.client();
    client.send(&wire);
    for index in 0..50 {
        let expected = match index % 3 {
            0 => format!("GET /{index} []"),
            _ => format!("PUT /{index} [{index:03}]"),
        };
        assert_eq!(client.answer().text(), expected);
    }
}

#[test]
fn a_refusal_that_leaves_the_framing_sound_keeps_the_pipeline() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::new()
        .cluster("main", &[endpoint.address], "")
        .route("one", "/one", "main", "methods = [\"GET\"]")
        .start();
    let mut client = gateway.client();
    client.send("GET /none HTTP/1.1\r\nHost: a\r\n\r\nDELETE /one HTTP/1.1\r\nHost: a\r\n\r\nGET /one HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().code(), "route_not_found");
    let refused = client.answer();
    assert_eq!((refused.code().as_str(), refused.field("allow")), ("method_not_allowed", Some("GET, HEAD")));
    assert_eq!(client.answer().text(), "ok");
}

/// Broken by reading the beginning of a body twice once no endpoint could be reached: its end, which looks like
/// requests, would then be taken for some.
#[test]
fn a_body_that_nobody_took_is_no_request() {
    let gateway = Setup::proxy(Endpoint::nowhere()).set("bounds", "head_bytes_max = \"16KiB\"").start();
    // More than a buffer holds beside the head, and not too long to be read for nothing.
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_200);
    let wire = post(&format!("Content-Length: {}\r\n", hidden.len()), &hidden);
    let next = b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for _ in 0..4 {
        let fate = fate(&gateway, &[&wire[..], next].concat());
        let unreachable = (502, "upstream_unreachable".to_owned());
        assert_eq!(fate, [unreachable.clone(), unreachable]);
    }
    let paths: Vec<_> = gateway.log(8).iter().map(|line| line["path"].as_str().map(str::to_owned)).collect();
    assert!(paths.iter().all(|path| path.as_deref() != Some("/hidden")), "{paths:?}");
}

#[test]
fn two_framings_are_none() {
    refused_posts(
        400,
        "framing_ambiguous",
        &[
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", "0\r\n\r\n"),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
            ("Content-Length: 5\r\ncontent-length: 6\r\n", "hello!"),
            ("Content-Length: 5, 5\r\n", "hello"),
            ("Content-Length: +5\r\n", "hello"),
            ("Content-Length: -1\r\n", ""),
            ("Content-Length: 0x5\r\n", "hello"),
            ("Content-Length: 5 5\r\n", "hello"),
            ("Content-Length: 5;q=1\r\n", "hello"),
            ("Content-Length: \r\n", ""),
            ("Content-Length: 5.0\r\n", "hello"),
            ("Content-Length: 9223372036854775808\r\n", ""),
            ("Content-Length: 18446744073709551621\r\n", "hello"),
            ("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"),
            ("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"),
            ("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n"),
            ("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"),
        ],
    );
}

#[test]
fn a_coding_nobody_knows_is_not_implemented() {
    refused_posts(
        501,
        "not_implemented",
        &[
            ("Transfer-Encoding: xchunked\r\n", ""),
            ("Transfer-Encoding: gzip\r\n", ""),
            ("Transfer-Encoding: identity\r\n", ""),
        ],
    );
}

#[test]
fn a_head_against_the_grammar_is_malformed() {
    refused(
        400,
        "head_malformed",
        &[
            b"GET / HTTP/1.1\nHost: a\n\n",
            b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n X: y\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX\0: y\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX y\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX\xc3\xa9: y\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / x HTTP/1.1\r\nHost: a\r\n\r\n",
            b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        ],
    );
}

#[test]
fn other_versions_are_not_spoken() {
    refused(
        505,
        "version_not_supported",
        &[
            b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        ],
    );
    refused(
        400,
        "head_malformed",
        &[b"GET /\r\n\r\n", b"GET / HTTP/3\r\nHost: a\r\n\r\n", b"GET / HTTQ/1.1\r\nHost: a\r\n\r\n"],
    );
}

#[test]
fn what_is_malformed_is_told_before_it_ends() {
    let (endpoint, gateway) = echo();
    // Neither head ever ends.
    for beginning in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..], b"GET / HTTP/1.1\r\nHost: a\r\nX\0"] {
        let mut client = gateway.client();
        client.send(beginning);
        assert_eq!(client.answer().code(), "head_malformed");
        assert!(client.is_closed());
    }
    assert_eq!(endpoint.connections(), 0);
}

#[test]
fn chunks_against_the_grammar_end_the_request() {
    let (endpoint, gateway) = echo();
    let long_extension = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(20_000));
    for body in [
        "g\r\n",
        "\r\n",
        " 1\r\na\r\n0\r\n\r\n",
        "1 \r\na\r\n0\r\n\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
        "+1\r\na\r\n0\r\n\r\n",
        "1\na\n0\n\n",
        "1\r\nab\r\n0\r\n\r\n",
        "1\r\na0\r\n\r\n",
        "1\r\na\n0\r\n\r\n",
        "10000000000000000\r\na",
        "1;a\nb\r\na\r\n0\r\n\r\n",
        "1;a\0\r\na\r\n0\r\n\r\n",
        "0\r\nX y\r\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX: y\n\r\n",
        long_extension.as_str(),
    ] {
        let fate = fate(&gateway, &post("Transfer-Encoding: chunked\r\n", body));
        assert_eq!(fate, [(400, "body_malformed".to_owned())], "{body:?}");
    }
    // Whatever arrived at the endpoint of these, no request of it was whole.
    assert!(endpoint.bytes().iter().all(|bytes| !bytes.ends_with(b"0\r\n\r\n")));
}

#[test]
fn too_long_is_told_by_what_is_too_long() {
    let (endpoint, gateway) = echo();
    let long = "x".repeat(20_000);
    let many = "X: y\r\n".repeat(101);
    for (wire, status, code) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414, "target_too_long"),
        (format!("GET /{long}"), 414, "target_too_long"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), 431, "head_too_large"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}"), 431, "head_too_large"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431, "head_too_large"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n".to_owned(), 413, "body_too_large"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n".to_owned(),
            413,
            "body_too_large",
        ),
    ] {
        assert_eq!(fate(&gateway, wire.as_bytes()), [(status, code.to_owned())], "{}", &wire[..40]);
    }
    assert_eq!(endpoint.connections(), 0);
    // The same, found out while it comes.
    let chunked = post("Transfer-Encoding: chunked\r\n", "fa\r\n");
    let mut client = gateway.client();
    client.send(&chunked);
    for _ in 0..5 {
        if !client.try_send([&[b'x'; 250][..], b"\r\nfa\r\n"].concat()) {
            break;
        }
    }
    assert_eq!(client.answer().code(), "body_too_large");
    // And what is just not too long passes.
    assert_eq!(gateway.client().post("/", "", &[b'x'; 1000]).status, 200);
}

#[test]
fn http_1_0_is_answered_in_kind() {
    let (_endpoint, gateway) = echo();
    let mut client = gateway.client();
    client.send("GET /a HTTP/1.0\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "GET /a []"));
    assert!(client.is_closed());
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send("GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        let answer = client.answer();
        assert_eq!((answer.status, answer.field("connection")), (200, Some("keep-alive")));
    }
    // Chunks are not for it.
    let fate = fate(&gateway, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(fate, [(400, "framing_ambiguous".to_owned())]);
}

#[test]
fn a_body_of_no_bytes_is_no_body() {
    let (endpoint, gateway) = echo();
    let mut client = gateway.client();
    client.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /c HTTP/1.1\r\nHost: a\r\n\r\n");
    for expected in ["POST /a []", "POST /b []", "GET /c []"] {
        assert_eq!(client.answer().text(), expected);
    }
    // A POST without a body says so to the endpoint.
    assert_eq!(endpoint.seen(1)[0].field("content-length"), Some("0"));
}

#[test]
fn a_client_that_goes_before_its_head_ends_is_no_request() {
    let (endpoint, gateway) = echo();
    for beginning in ["", "\r\n", "G", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        let mut client: Client = gateway.client();
        client.send(beginning).finish();
        assert!(client.is_closed(), "{beginning:?}");
    }
    gateway.client().get("/", "");
    assert_eq!(gateway.log(1).len(), 1);
    assert_eq!(endpoint.seen(1).len(), 1);
}
