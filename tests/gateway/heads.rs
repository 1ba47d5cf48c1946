//! Heads: what of them travels on, in both directions, and what the gateway itself says in them.

use crate::rig::{Answer, Client, Endpoint, Gateway, Seen, Setup, bearer, valid_token};

/// An endpoint that answers with these field lines and "ok".
fn answering_with(lines: &'static str) -> Endpoint {
    Endpoint::scripted(move |talk, seen| {
        talk.read_body(seen);
        talk.send(format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 2\r\n\r\nok"));
    })
}

/// What an endpoint sees of a GET with these field lines.
fn seen_of(lines: &str) -> Seen {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address).start();
    assert_eq!(gateway.client().get("/", lines).status, 200, "{lines}");
    endpoint.seen(1).remove(0)
}

/// What a client gets when an endpoint answers with these field lines.
fn answer_of(lines: &'static str) -> Answer {
    let endpoint = answering_with(lines);
    let gateway = Setup::proxy(endpoint.address).start();
    gateway.client().get("/", "")
}

/// A GET of a path with a token.
fn get_as(client: &mut Client, consumer: &str, lines: &str) -> Answer {
    client.get("/", &format!("{}{lines}", bearer(&valid_token(consumer))))
}

fn with_keys(endpoint: &Endpoint) -> Gateway {
    Setup::new()
        .keys("")
        .cluster("main", &[endpoint.address], "")
        .route("all", "/", "main", "jwt = \"partners\"")
        .start()
}

#[test]
fn what_is_between_two_hops_stays_there() {
    let seen = seen_of(
        "Connection: X-Gone, close,,\tX-Also-Gone \r\nX-Gone: 1\r\nx-also-gone: 2\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: h2c\r\nX-Stays: 3\r\n",
    );
    for name in ["x-gone", "x-also-gone", "keep-alive", "proxy-connection", "te", "upgrade"] {
        assert_eq!(seen.field(name), None, "{name} in {}", seen.head);
    }
    assert_eq!(seen.field("x-stays"), Some("3"));
    let answer = answer_of(
        "Connection: X-Gone\r\nX-Gone: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nX-Stays: 3\r\n",
    );
    for name in ["x-gone", "keep-alive", "proxy-connection", "upgrade"] {
        assert_eq!(answer.field(name), None, "{name} in {}", answer.head);
    }
    assert_eq!(answer.field("x-stays"), Some("3"));
}

#[test]
fn connection_removes_nothing_of_the_gateways() {
    let endpoint = Endpoint::answering("ok");
    let gateway = with_keys(&endpoint);
    let nominated = "Connection: X-Consumer-Id, X-Request-Id, X-Forwarded-For, X-Forwarded-Proto, traceparent, Host, \
                     Content-Length, Authorization\r\n";
    assert_eq!(get_as(&mut gateway.client(), "acme", nominated).status, 200);
    let seen = endpoint.seen(1).remove(0);
    assert_eq!(seen.field("x-consumer-id"), Some("acme"));
    assert_eq!(seen.field("host"), Some("gateway.example"));
    for name in ["x-request-id", "x-forwarded-for", "x-forwarded-proto", "traceparent"] {
        assert!(seen.field(name).is_some(), "{name} in {}", seen.head);
    }
}

#[test]
fn nobody_says_who_he_is_by_a_field() {
    let endpoint = Endpoint::answering("ok");
    let gateway = with_keys(&endpoint);
    let lies = "X-Consumer-Id: root\r\nx-consumer-ID: root\r\nX-Consumer-Scopes: all\r\nX_Consumer_Id: root\r\n\
                X-Consumer_Id: root\r\nX-Consumer-: root\r\n";
    assert_eq!(get_as(&mut gateway.client(), "acme", lies).status, 200);
    let seen = endpoint.seen(1).remove(0);
    assert_eq!(seen.fields("x-consumer-id"), ["acme"]);
    assert!(!seen.head.contains("root") && !seen.head.contains("all"), "{}", seen.head);
    // On a public route nobody is anybody.
    let seen = seen_of("X-Consumer-Id: root\r\nX_Consumer_Id: root\r\n");
    assert!(!seen.head.contains("root"), "{}", seen.head);
}

#[test]
fn request_ids_are_kept_when_sane_and_made_when_not() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address).start();
    let mut client = gateway.client();
    let long = "x".repeat(1000);
    let mut made = Vec::new();
    for (given, kept) in [
        (
            "X-Request-Id: 7f8d1f5e-6c1b-4c43-9f52-2b1c0e0e7c55\r\n".to_owned(),
            Some("7f8d1f5e-6c1b-4c43-9f52-2b1c0e0e7c55"),
        ),
        (String::new(), None),
        ("X-Request-Id: \r\n".to_owned(), None),
        ("X-Request-Id: a b\r\n".to_owned(), None),
        ("X-Request-Id: a\"b\r\n".to_owned(), None),
        ("X-Request-Id: <script>\r\n".to_owned(), None),
        ("X-Request-Id: a\r\nX-Request-Id: b\r\n".to_owned(), None),
        (format!("X-Request-Id: {long}\r\n"), None),
    ] {
        let answer = client.get("/", &given);
        let id = answer.field("x-request-id").unwrap().to_owned();
        match kept {
            Some(kept) => assert_eq!(id, kept),
            None => {
                assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{given:?}: {id}");
                made.push(id);
            }
        }
    }
    let seen = endpoint.seen(8);
    let log = gateway.log(8);
    for (seen, line) in seen.iter().zip(&log) {
        assert_eq!(seen.field("x-request-id"), line["request_id"].as_str());
    }
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 7, "no two are the same");
}

#[test]
fn traces_are_continued_or_begun() {
    let seen = seen_of(
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ntracestate: a=b\r\n",
    );
    let parent = seen.field("traceparent").unwrap();
    assert!(
        parent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && parent.ends_with("-01"),
        "{parent}"
    );
    assert!(!parent.contains("00f067aa0ba902b7"), "a span of its own: {parent}");
    assert_eq!(seen.field("tracestate"), Some("a=b"));
    for odd in [
        "",
        "traceparent: x\r\n",
        "traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01\r\n",
        "traceparent: ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n",
        "traceparent: 00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01\r\n",
    ] {
        let seen = seen_of(odd);
        let parent = seen.field("traceparent").unwrap();
        assert_eq!(parent.len(), 55, "{parent}");
        assert!(
            !parent.to_lowercase().contains("4bf92f3577b34da6") && !parent.contains("0000000000000000"),
            "{odd}: {parent}"
        );
    }
}

#[test]
fn forwarded_for_is_believed_only_from_trusted_proxies() {
    let ask = |trusted: &str, line: &str| {
        let endpoint = Endpoint::answering("ok");
        let gateway = Setup::proxy(endpoint.address).set("listen", trusted).start();
        assert_eq!(gateway.client().get("/", line).status, 200);
        let client_ip = gateway.log(1)[0]["client_ip"].as_str().unwrap().to_owned();
        let seen = endpoint.seen(1).remove(0);
        assert_eq!(seen.field("x-forwarded-proto"), Some("http"));
        (seen.field("x-forwarded-for").unwrap().to_owned(), client_ip)
    };
    let spoofed = "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: gopher\r\n";
    assert_eq!(ask("# nobody", spoofed), ("127.0.0.1".to_owned(), "127.0.0.1".to_owned()));
    let spoofed = "X-Forwarded-For: 203.0.113.9, 198.51.100.7\r\n";
    let (line, client_ip) = ask("trusted_proxies = [\"127.0.0.0/8\"]", spoofed);
    assert_eq!((line.as_str(), client_ip.as_str()), ("203.0.113.9, 198.51.100.7, 127.0.0.1", "198.51.100.7"));
}

#[test]
fn the_host_is_the_clients() {
    let seen = seen_of("");
    assert_eq!(seen.field("host"), Some("gateway.example"));
}

#[test]
fn fields_arrive_byte_for_byte_and_in_order() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address).start();
    let mut client = gateway.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-B: \xe9\xff\x80 \"q\"\r\nX-A: 2\r\nCookie: a=b\r\nCookie: c=d\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    let bytes = endpoint.bytes().concat();
    let after = |part: &[u8]| bytes.windows(part.len()).position(|window| window == part);
    let (first, odd, second) =
        (after(b"X-A: 1\r\n"), after(b"X-B: \xe9\xff\x80 \"q\"\r\n"), after(b"X-A: 2\r\n"));
    assert!(first.is_some() && first < odd && odd < second, "{:?}", String::from_utf8_lossy(&bytes));
    assert!(after(b"Cookie: a=b\r\n").is_some() && after(b"Cookie: c=d\r\n").is_some());
    let answer =
        answer_of("Set-Cookie: a=b; Path=/\r\nServer: gunicorn\r\nSet-Cookie: c=d\r\nETag: \"x\"\r\n");
    assert_eq!(answer.fields("set-cookie"), ["a=b; Path=/", "c=d"]);
    assert_eq!((answer.field("server"), answer.field("etag")), (Some("gunicorn"), Some("\"x\"")));
}

#[test]
fn what_only_the_gateway_says_an_endpoint_cannot() {
    let answer = answer_of("X-Request-Id: forged\r\nTollgate-Delivery: not-sent\r\n");
    assert_eq!(answer.fields("x-request-id").len(), 1, "{}", answer.head);
    assert_ne!(answer.field("x-request-id"), Some("forged"));
    assert_eq!(answer.field("tollgate-delivery"), None, "a promise the gateway did not make");
}

#[test]
fn answers_without_a_body_keep_the_connection_in_step() {
    let endpoint = Endpoint::scripted(|talk, seen| {
        talk.read_body(seen);
        let answer = match (seen.method(), seen.target()) {
            ("HEAD", _) => "200 OK\r\nContent-Length: 1234\r\nContent-Type: a/b\r\n\r\n",
            (_, "/204") => "204 No Content\r\n\r\n",
            (_, "/304") => "304 Not Modified\r\nContent-Length: 99\r\nETag: \"x\"\r\n\r\n",
            (_, "/205") => "205 Reset Content\r\nContent-Length: 0\r\n\r\n",
            _ => "200 OK\r\nContent-Length: 2\r\n\r\nok",
        };
        talk.send(format!("HTTP/1.1 {answer}"));
    });
    let gateway = Setup::proxy(endpoint.address).start();
    let mut client = gateway.client();
    for _ in 0..3 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.answer_to_head();
        assert_eq!((answer.status, answer.field("content-length")), (200, Some("1234")));
        assert_eq!(client.get("/204", "").status, 204);
        assert_eq!(client.get("/304", "").field("etag"), Some("\"x\""));
        assert_eq!(client.get("/205", "").status, 205);
        assert_eq!(client.get("/", "").text(), "ok");
    }
    assert_eq!(endpoint.connections(), 1, "the endpoint's connection is in step too");
}

#[test]
fn interim_answers_are_passed_on() {
    let endpoint = Endpoint::scripted(|talk, seen| {
        talk.read_body(seen);
        talk.send("HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\nConnection: x\r\n\r\n");
        talk.send("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let gateway = Setup::proxy(endpoint.address).start();
    let mut client = gateway.client();
    for _ in 0..2 {
        let hints = client.get("/", "");
        assert_eq!((hints.status, hints.field("link")), (103, Some("</style.css>")));
        assert_eq!(client.answer().status, 102);
        assert_eq!(client.answer().text(), "ok");
    }
    // RFC 9110 section 15.2: a client of HTTP/1.0 has never heard of them.
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer().text(), "ok");
}

#[test]
fn own_answers_to_head_have_no_body() {
    let endpoint = Endpoint::answering("ok");
    let gateway = with_keys(&endpoint);
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.answer_to_head();
        assert_eq!((answer.status, answer.field("www-authenticate")), (401, Some("Bearer")));
    }
    assert_eq!(get_as(&mut client, "acme", "").text(), "ok");
}

#[test]
fn own_answers_are_problems_with_a_date() {
    let endpoint = Endpoint::answering("ok");
    let gateway = with_keys(&endpoint);
    let answer = gateway.client().get("/", "");
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    assert!(answer.field("date").unwrap().ends_with(" GMT"));
    let body = answer.json();
    for key in ["type", "title", "status", "detail", "code", "message", "request_id"] {
        assert!(!body[key].is_null(), "{key} in {body}");
    }
    assert_eq!(body["status"], 401);
    assert_eq!(body["request_id"].as_str(), answer.field("x-request-id"));
}
