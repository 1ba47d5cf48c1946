//! What stands in a line of the access log, and what never does.

use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::{KEYS, Line, last_lines, raw_lines};
use crate::rig::{Answer, Client, Endpoint, Gate, Gateway, Setup, bearer, mint, now_s, until, valid_token};

/// Sends a request that closes its connection; how many bytes came back.
#[track_caller]
fn answer_bytes(gateway: &Gateway, request: &[u8]) -> u64 {
    let mut client = gateway.client();
    client.send(request);
    client.rest().len() as u64
}

/// Bytes of an answer whose body has a length.
fn wire_bytes(answer: &Answer) -> u64 {
    assert!(answer.field("content-length").is_some(), "{}", answer.head);
    (answer.head.len() + answer.body.len()) as u64
}

/// What a line should say: status, code, route, consumer, cluster, attempts, delivery, bytes in, bytes out.
type Expected<'a> = (u16, &'a str, &'a str, &'a str, &'a str, u64, &'a str, u64, u64);

#[test]
fn every_end_has_one_line_with_the_promised_keys() {
    let gate = Gate::default();
    let held = gate.clone();
    let endpoint = Endpoint::scripted(move |talk, seen| {
        if !talk.read_body(seen) {
            return talk.close();
        }
        if seen.target() == "/open/held" {
            held.pass();
        }
        talk.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npaid");
    });
    let mut gateway = Setup::new()
        .keys("")
        .cluster("payments", &[endpoint.address], "")
        .cluster("gone", &[Endpoint::nowhere()], "")
        .route(
            "pay",
            "/pay",
            "payments",
            "jwt = \"partners\"\nlimit = [{ by = \"consumer\", quota = \"1/hour\" }]",
        )
        .route("scoped", "/scoped", "payments", "jwt = \"partners\"\nscopes = [\"a\"]")
        .route("open", "/open", "payments", "methods = [\"GET\", \"POST\"]")
        .route("dead", "/dead", "gone", "")
        .start();
    let began = (SystemTime::now(), Instant::now());
    let mut expected: Vec<Expected<'_>> = Vec::new();
    let acme = bearer(&valid_token("acme"));
    let not_a_token = bearer("a.b.c");

    let mut client = gateway.client();
    let rows: [(&str, &str, &str, &[u8], Expected<'_>); 9] = [
        ("POST", "/pay/7?card=1", &acme, b"{}", (200, "-", "pay", "acme", "payments", 1, "answered", 0, 0)),
        ("POST", "/pay", &acme, b"{}", (429, "quota_exceeded", "pay", "acme", "-", 0, "not-sent", 0, 0)),
        ("GET", "/pay", "", b"", (401, "token_missing", "pay", "-", "-", 0, "not-sent", 0, 0)),
        ("GET", "/pay", &not_a_token, b"", (401, "token_invalid", "pay", "-", "-", 0, "not-sent", 0, 0)),
        (
            "GET",
            "/scoped",
            &acme,
            b"",
            (403, "scope_insufficient", "scoped", "acme", "-", 0, "not-sent", 0, 0),
        ),
        ("GET", "/else", "", b"", (404, "route_not_found", "-", "-", "-", 0, "not-sent", 0, 0)),
        ("PUT", "/open", "", b"12345", (405, "method_not_allowed", "-", "-", "-", 0, "not-sent", 0, 0)),
        ("GET", "/dead", "", b"", (502, "upstream_unreachable", "dead", "-", "gone", 1, "not-sent", 0, 0)),
        ("GET", "/open", "", b"", (200, "-", "open", "-", "payments", 1, "answered", 0, 0)),
    ];
    for (method, target, fields, body, mut row) in rows {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: gateway.example\r\nContent-Length: {}\r\n{fields}\r\n",
            body.len()
        );
        client.send([head.as_bytes(), body].concat());
        let answer = client.answer();
        assert_eq!(answer.status, row.0, "{target}");
        row.7 = (head.len() + body.len()) as u64;
        row.8 = wire_bytes(&answer);
        expected.push(row);
    }
    drop(client);
    // A head with a rule broken behind its first line, and one that is refused before it ends.
    for malformed in ["GET /open HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", "GET /open HTTP/1.1\nHost"] {
        let bytes_out = answer_bytes(&gateway, malformed.as_bytes());
        let bytes_in = malformed.len() as u64;
        expected.push((400, "head_malformed", "-", "-", "-", 0, "not-sent", bytes_in, bytes_out));
    }
    // A client that leaves within its body …
    let half = "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n1234";
    gateway.client().send(half);
    raw_lines(&gateway, "access.log", expected.len() + 1);
    expected.push((499, "-", "open", "-", "-", 0, "not-sent", half.len() as u64, 0));
    // … and one that resets its connection while its answer is on the way.
    let mut leaver = gateway.client();
    let request = "GET /open/held HTTP/1.1\r\nHost: a\r\n\r\n";
    leaver.send(request);
    until("the request to arrive", || gate.arrived() == 1);
    socket2::SockRef::from(&leaver.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(leaver);
    gate.open();
    expected.push((499, "-", "open", "-", "payments", 1, "answered", request.len() as u64, 0));

    raw_lines(&gateway, "access.log", expected.len());
    let lines = last_lines(&mut gateway, "access.log");
    assert_eq!(lines.len(), expected.len(), "{}", lines.join("\n"));
    let elapsed = (SystemTime::now(), began.1.elapsed());
    for (text, row) in lines.iter().zip(expected) {
        let line = Line::parse(text);
        let said: Expected<'_> = (
            u16::try_from(line.number("status")).unwrap(),
            line.text("code"),
            line.text("route"),
            line.text("consumer"),
            line.text("cluster"),
            line.number("attempts"),
            line.text("delivery"),
            line.number("bytes_in"),
            line.number("bytes_out"),
        );
        assert_eq!(said, row, "{text}");
        assert_eq!(line.text("endpoint") == "-", row.4 == "-", "{text}");
        assert_eq!(
            (line.number("shard"), line.text("client_ip"), line.text("version")),
            (0, "127.0.0.1", "-")
        );
        assert_eq!(line.text("reason") == "-", row.0 < 400, "why, when it went wrong: {text}");
        let (duration_us, upstream_us) = (line.number("duration_us"), line.number("upstream_us"));
        assert!(upstream_us <= duration_us && u128::from(duration_us) <= elapsed.1.as_micros(), "{text}");
        assert!(row.6 != "not-sent" || upstream_us == 0, "{text}");
        assert_time(line.text("ts"), began.0, elapsed.0);
    }
}

/// RFC 3339 with six digits and a `Z`, between two moments, give or take what a clock is set by.
#[track_caller]
fn assert_time(text: &str, from: SystemTime, to: SystemTime) {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000Z");
    let time = SystemTime::from(text.parse::<jiff::Timestamp>().unwrap());
    let slack = Duration::from_secs(1);
    assert!(time + slack >= from && time <= to + slack, "{text}");
}

#[test]
fn bytes_are_counted_to_the_last_one() {
    let endpoint = Endpoint::scripted(|talk, seen| {
        if seen.field("expect").is_some() {
            talk.send("HTTP/1.1 100 Continue\r\n\r\n");
        }
        talk.read_body(seen);
        talk.send(match seen.target() {
            "/chunked" => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n"
            }
            "/hints" => "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            "/hints-and-nonsense" => "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nnonsense\r\n\r\n",
            "/until-close" => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        });
        if seen.target() == "/until-close" || seen.target() == "/hints-and-nonsense" {
            talk.close();
        }
    });
    let gateway =
        Setup::proxy(endpoint.address).keys("").route("pay", "/pay", "main", "jwt = \"partners\"").start();
    let mut expected = Vec::new();
    let chunks = b"5;ext=1\r\nhello\r\n0\r\nTrailer: x\r\n\r\n".to_vec();
    let long = vec![b'x'; 300_000];
    for (head, body) in [
        ("POST /one-packet HTTP/1.1\r\nContent-Length: 5\r\n", b"hello".to_vec()),
        ("POST /long HTTP/1.1\r\nContent-Length: 300000\r\n", long),
        ("POST /trailers HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", chunks.clone()),
        ("POST /continue HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n", b"hello".to_vec()),
        ("HEAD /one HTTP/1.1\r\n", Vec::new()),
        ("GET /chunked HTTP/1.1\r\n", Vec::new()),
        ("GET /chunked HTTP/1.0\r\n", Vec::new()),
        ("GET /hints HTTP/1.1\r\n", Vec::new()),
        ("GET /hints-and-nonsense HTTP/1.1\r\n", Vec::new()),
        ("GET /until-close HTTP/1.1\r\n", Vec::new()),
    ] {
        let head = format!("{head}Host: a\r\nConnection: close\r\n\r\n");
        let bytes_out = answer_bytes(&gateway, &[head.as_bytes(), &body].concat());
        expected.push(((head.len() + body.len()) as u64, bytes_out));
    }
    // Bodies that are read only to be forgotten.
    let mut refused = gateway.client();
    for (head, body) in
        [("Content-Length: 5", b"hello".to_vec()), ("Transfer-Encoding: chunked", chunks.clone())]
    {
        let head = format!("POST /pay HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n");
        let answer = refused.send([head.as_bytes(), &body].concat()).answer();
        assert_eq!(answer.status, 401);
        expected.push(((head.len() + body.len()) as u64, wire_bytes(&answer)));
    }
    // A body in pieces, and another request right behind its last one.
    let head =
        "POST /pieces HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n";
    let next = "GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut client = gateway.client();
    client.send(head);
    let hint = client.answer();
    assert_eq!(hint.status, 100);
    client.send(&chunks[..12]).send([&chunks[12..], next.as_bytes()].concat());
    let first = hint.head.len() as u64 + wire_bytes(&client.answer());
    expected.push(((head.len() + chunks.len()) as u64, first));
    expected.push((next.len() as u64, client.rest().len() as u64));

    let lines = raw_lines(&gateway, "access.log", expected.len());
    for (text, expected) in lines.iter().zip(expected) {
        let line = Line::parse(text);
        assert_eq!((line.number("bytes_in"), line.number("bytes_out")), expected, "{text}");
    }
    gateway.stop();
}

#[test]
fn ids_in_answers_log_and_requests_are_the_same() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address).start();
    let mut client = gateway.client();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let cases = [
        ("/a", String::new()),
        ("/b", "X-Request-Id: order-7:1/2\r\n".to_owned()),
        ("/c", format!("traceparent: 00-{trace}-00f067aa0ba902b7-01\r\n")),
        ("/d", "X-Request-Id: \"},{\"event\":\"x\r\n".to_owned()),
        ("/e", format!("X-Request-Id: {}\r\n", "a".repeat(129))),
        ("/f", "X-Request-Id: one\r\nX-Request-Id: two\r\n".to_owned()),
    ];
    let answers: Vec<Answer> = cases.iter().map(|(path, fields)| client.get(path, fields)).collect();
    let refused = client.get("/..", "X-Request-Id: refused-1\r\n");
    let malformed = gateway.client().send("no request\r\n\r\n").answer();
    let lines: Vec<Line> =
        raw_lines(&gateway, "access.log", 8).iter().map(|text| Line::parse(text)).collect();
    let seen = endpoint.seen(cases.len());
    for ((answer, line), seen) in answers.iter().zip(&lines).zip(&seen) {
        let id = line.text("request_id");
        assert_eq!((answer.field("x-request-id"), seen.field("x-request-id")), (Some(id), Some(id)));
        assert_eq!(seen.field("traceparent").unwrap().get(3..35), Some(line.text("trace_id")));
    }
    assert_eq!((lines[1].text("request_id"), lines[2].text("trace_id")), ("order-7:1/2", trace));
    for made in &lines[3..6] {
        let id = made.text("request_id");
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }
    for (answer, line) in [(&refused, &lines[6]), (&malformed, &lines[7])] {
        assert_eq!(answer.status, 400);
        assert_eq!(answer.field("x-request-id"), Some(line.text("request_id")));
        assert_eq!(answer.json()["request_id"], line.text("request_id"));
    }
    assert_eq!(lines[6].text("request_id"), "refused-1");
    gateway.stop();
}

#[test]
fn nothing_a_client_sends_breaks_a_line() {
    let endpoint = Endpoint::answering("ok");
    let mut gateway = Setup::new()
        .keys("")
        .cluster("ma\\\"in\\u0007", &[endpoint.address], "")
        .route("a \\\"b\\\" \\\\ c\\n\\u001b[2Jd", "/", "ma\\\"in\\u0007", "")
        .route("pay", "/pay", "ma\\\"in\\u0007", "jwt = \"partners\"")
        .start();
    let mut client = gateway.client();
    let long = format!("/{}", "x".repeat(5_000));
    let paths = ["/'();!$&*+,=@:~", "/%22", "/%C3%A9%e2%80%a8", &long];
    for path in paths {
        assert_eq!(client.get(path, "").status, 200, "{path}");
    }
    let consumers = [
        "quote\"backslash\\slash/",
        "\",\"status\":200,\"x\":\"",
        "é\u{2028}\u{2029}\u{1f4b3}\u{202e}",
        "</script>'`${a}%s%n",
    ];
    let longest = "é".repeat(128);
    for consumer in consumers.iter().copied().chain([longest.as_str()]) {
        let token = mint(&json!({ "sub": consumer, "exp": now_s() + 3600 }));
        assert_eq!(client.get("/pay", &bearer(&token)).status, 200, "{consumer}");
    }
    let odd_method = "M!#$%&'*+-.^_`|~9";
    client.send(format!("{odd_method} /pay HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(client.answer().status, 401);
    let before = paths.len() + consumers.len() + 2;
    let refused: [&[u8]; 10] = [
        b"GET /a\"b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\x00\x1b[2J HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a{b} HTTP/1.1\r\nHost: a\r\n\r\n",
        b"G\"T /a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a%0aX HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: \"\\\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nX: \x01\x02\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ];
    for request in refused {
        let answer = gateway.client().send(request).answer();
        assert_eq!(answer.status, 400, "{}", String::from_utf8_lossy(request));
    }
    raw_lines(&gateway, "access.log", before + refused.len());
    let text = std::fs::read_to_string(gateway.directory().join("access.log")).unwrap();
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "a terminal shows it as it is");
    let lines = last_lines(&mut gateway, "access.log");
    assert_eq!(lines.len(), before + refused.len());
    let lines: Vec<Line> = lines.iter().map(|text| Line::parse(text)).collect();
    for (line, path) in lines.iter().zip(&paths[..3]) {
        assert_eq!(line.text("path"), *path);
        assert_eq!(line.text("route"), "a \"b\" \\ c\n\u{1b}[2Jd");
        assert_eq!(line.text("cluster"), "ma\"in\u{7}");
    }
    assert!(long.starts_with(lines[3].text("path")) && lines[3].text("path").len() >= 1024);
    for (line, consumer) in lines[4..].iter().zip(consumers.iter().copied().chain([longest.as_str()])) {
        assert_eq!(line.text("consumer"), consumer);
    }
    assert_eq!(lines[before - 1].text("method"), odd_method);
    assert!(lines[before..].iter().all(|line| line.text("code") == "head_malformed"));
}

/// Stands in everything a client may send that is nobody else's business.
const SECRET_WORD: &str = "hunter2";

/// Requests with the word wherever a secret may stand, each on a connection of its own.
fn confess(gateway: &Gateway) -> usize {
    let claims = json!({ "sub": "acme", "exp": now_s() + 3600, "note": SECRET_WORD });
    let good = mint(&claims);
    let heads = [
        format!("GET /pay?card={SECRET_WORD} HTTP/1.1\r\nAuthorization: Bearer {good}"),
        format!("GET /pay?{SECRET_WORD} HTTP/1.1\r\nAuthorization: Bearer {good}{SECRET_WORD}"),
        format!("GET /pay HTTP/1.1\r\nAuthorization: Bearer {SECRET_WORD}"),
        format!("GET /pay HTTP/1.1\r\nAuthorization: Basic {SECRET_WORD}"),
        format!("GET /pay HTTP/1.1\r\nAuthorization: {SECRET_WORD}\r\nAuthorization: {SECRET_WORD}"),
        format!("GET /pay HTTP/1.1\r\nX-Request-Id: {good}\r\nAuthorization: {good}"),
        format!("GET / HTTP/1.1\r\nCookie: session={SECRET_WORD}\r\nX-Api-Key: {SECRET_WORD}"),
        format!("GET / HTTP/1.1\r\nReferer: http://shop.example/?token={SECRET_WORD}"),
        format!("GET / HTTP/1.1\r\nReferer: /pay#{SECRET_WORD}"),
        format!("GET http://gateway.example/a?{SECRET_WORD} HTTP/1.1"),
        format!("GET http://user:{SECRET_WORD}@gateway.example/ HTTP/1.1"),
        format!("GET /?a={SECRET_WORD}#x HTTP/1.1"),
        format!("GET /..?{SECRET_WORD} HTTP/1.1"),
        format!("GET /pay HTTP/1.1\r\nAuthorization: Bearer {SECRET_WORD}\r\nno colon {SECRET_WORD}"),
        format!("GET /pay HTTP/9.9\r\nAuthorization: Bearer {SECRET_WORD}"),
        format!("GET /?{SECRET_WORD} HTTP/1.1\r\nTransfer-Encoding: {SECRET_WORD}"),
        format!("POST /dead?{SECRET_WORD} HTTP/1.1\r\nContent-Length: 7\r\nContent-Type: {SECRET_WORD}"),
    ];
    for head in &heads {
        let body = if head.starts_with("POST") { SECRET_WORD } else { "" };
        let mut client = gateway.client();
        client.send(format!("{head}\r\nHost: gateway.example\r\nConnection: close\r\n\r\n{body}"));
        let answer = client.answer();
        assert!(!answer.text().contains(SECRET_WORD), "{head}\n{}", answer.text());
    }
    heads.len()
}

#[test]
fn no_secret_is_ever_written_down() {
    for format in ["json", "combined"] {
        let endpoint = Endpoint::answering("ok");
        let mut gateway = Setup::proxy(endpoint.address)
            .set("log", &format!("format = \"{format}\""))
            .keys("")
            .cluster("gone", &[Endpoint::nowhere()], "")
            .route("pay", "/pay", "main", "jwt = \"partners\"")
            .route("dead", "/dead", "gone", "")
            .start();
        let requests = confess(&gateway);
        let mut written = Vec::new();
        for path in ["/metrics", "/config", "/clusters", "/routes"] {
            written.push(gateway.admin_get(path).1);
        }
        written.extend(last_lines(&mut gateway, "access.log"));
        assert_eq!(written.len(), 4 + requests);
        written.extend(gateway.said());
        written.push(std::fs::read_to_string(gateway.directory().join("stdout")).unwrap());
        for text in written {
            for secret in [SECRET_WORD, crate::rig::SECRET, "eyJ", "Bearer", "card="] {
                assert!(!text.contains(secret), "{format}: {secret} in {text}");
            }
        }
    }
}

#[test]
fn combined_lines_are_what_every_log_reader_knows() {
    let endpoint = Endpoint::answering("paid");
    let gateway = Setup::proxy(endpoint.address)
        .set("log", "format = \"combined\"")
        .keys("")
        .route("pay", "/pay", "main", "jwt = \"partners\"")
        .start();
    let began = SystemTime::now();
    let token = mint(&json!({ "sub": "Acme \"é\" [x]", "exp": now_s() + 3600 }));
    let raw = |request: &[u8]| Client::connect(gateway.address).send(request).answer();
    let answers = [
        raw(
            b"GET /a?q=1 HTTP/1.1\r\nHost: a\r\nReferer: http://b/c?d\r\nUser-Agent: curl/8.0 (x; y)\r\n\r\n",
        ),
        raw(format!("POST /pay HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes()),
        raw(b"GET /pay HTTP/1.1\r\nHost: a\r\nUser-Agent: \"\\\t\xff\" - \"-\"\r\nReferer: \"\r\n\r\n"),
        raw(b"nonsense\r\n\r\n"),
    ];
    let expected = [
        ("-", "GET /a HTTP/1.1", 200, "http://b/c", "curl/8.0 (x; y)"),
        (r"Acme\x20\x22\xC3\xA9\x22\x20[x]", "POST /pay HTTP/1.0", 200, "-", "-"),
        ("-", "GET /pay HTTP/1.1", 401, r"\x22", r"\x22\x5C\x09\xFF\x22 - \x22-\x22"),
        ("-", "- - HTTP/1.1", 400, "-", "-"),
    ];
    let lines = raw_lines(&gateway, "access.log", expected.len());
    assert_eq!(lines.len(), expected.len());
    for ((line, answer), (consumer, request, status, referer, agent)) in
        lines.iter().zip(&answers).zip(expected)
    {
        let (before, rest) = line.split_once(" [").unwrap();
        let (time, behind) = rest.split_once("] ").unwrap();
        assert_eq!(before, format!("127.0.0.1 - {consumer}"));
        assert_eq!(answer.status, status);
        let bytes = wire_bytes(answer);
        assert_eq!(behind, format!("\"{request}\" {status} {bytes} \"{referer}\" \"{agent}\""));
        let parsed = jiff::fmt::strtime::parse("%d/%b/%Y:%H:%M:%S %z", time).unwrap().to_timestamp().unwrap();
        let apart = SystemTime::from(parsed).duration_since(began).unwrap_or_else(|early| early.duration());
        assert!(apart < Duration::from_secs(60), "{time}");
    }
    assert!(KEYS.iter().all(|key| !lines[0].contains(&format!("\"{key}\":"))), "one format at a time");
    gateway.stop();
}

#[test]
fn consumers_are_hashed_under_a_key_that_is_long_enough() {
    let endpoint = Endpoint::answering("ok");
    let setup = Setup::new()
        .keys("")
        .cluster("main", &[endpoint.address], "")
        .route("pay", "/pay", "main", "jwt = \"partners\"")
        .set("log", "consumer_key_file = \"consumer.key\"");
    let directory = setup.write();
    std::fs::write(directory.path().join("consumer.key"), "k".repeat(32) + "\n").unwrap();
    let mut gateway = setup.start_in(directory);
    let mut client = gateway.client();
    for (consumer, status) in [("acme", 200), ("zeta", 200), ("acme", 200)] {
        assert_eq!(client.get("/pay", &bearer(&valid_token(consumer))).status, status);
    }
    assert_eq!(client.get("/pay", "").status, 401);
    let lines = last_lines(&mut gateway, "access.log");
    let consumers: Vec<String> =
        lines.iter().map(|line| Line::parse(line).text("consumer").to_owned()).collect();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[b'k'; 32]);
    let hash = |consumer: &str| -> String {
        let tag = ring::hmac::sign(&key, consumer.as_bytes());
        tag.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    assert_eq!(consumers, [hash("acme"), hash("zeta"), hash("acme"), "-".to_owned()]);
}
