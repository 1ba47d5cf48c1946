//! What never reaches a log: whatever is on no list, and card numbers and credentials wherever they stand.

use std::{net::TcpListener, os::unix::net::UnixDatagram, time::Duration};

use serde_json::{Value, json};

use super::{last_lines, raw_lines};
use crate::rig::{Client, Endpoint, Gateway, Setup, bearer, mint, now_s, tollgate, until};

/// A good number of each length that cards have, by nobody.
const CARDS: [&str; 4] = ["4222222222222", "378282246310005", "4111111111111111", "6304000000000000000"];

/// The ways in which `card` may be written so that somebody reads it.
fn ways(card: &str) -> Vec<String> {
    let every = |escape: &dyn Fn(u8) -> String| card.bytes().map(escape).collect::<String>();
    let groups = |gap: &str| {
        let digits: Vec<char> = card.chars().collect();
        digits.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join(gap)
    };
    vec![
        card.to_owned(),
        format!("id-{card}x"),
        groups("-"),
        groups("%20"),
        groups("+"),
        groups("."),
        groups("%20-%20"),
        groups("%C2%A0"),
        groups("%20%E2%80%93%20"),
        every(&|digit| format!("%{digit:02x}")),
        every(&|digit| format!("%25{digit:02X}")),
        format!("%3{}{}", &card[..1], &card[1..]),
    ]
}

/// The ways that only stand in a field's value or a claim.
fn ways_in_text(card: &str) -> Vec<String> {
    let mut ways = ways(card);
    ways.push(card.bytes().map(|digit| format!("\\u00{digit:02x}")).collect());
    ways.push(card.bytes().map(|digit| format!("\\x{digit:02x}")).collect());
    ways.push(format!("{} {}\t{}", &card[..4], &card[4..8], &card[8..]));
    ways.push(format!("{}\u{a0}{}\u{2011}{}", &card[..4], &card[4..8], &card[8..]));
    ways.push(format!("{}\\n{}\\/{}", &card[..4], &card[4..8], &card[8..]));
    ways
}

/// Whether what is left of `text`, read as often as anybody might, holds the number.
fn holds(text: &str, card: &str) -> bool {
    let mut read = text.to_owned();
    for _ in 0..4 {
        let is_gap = |character: &char| !" -+._/\t\r\n\\\u{a0}\u{2011}\u{2013}".contains(*character);
        let digits: String = read.chars().filter(is_gap).collect();
        if digits.contains(card) {
            return true;
        }
        for digit in b'0'..=b'9' {
            for escape in [format!("%{digit:02x}"), format!("\\u00{digit:02x}"), format!("\\x{digit:02x}")] {
                read = read.replace(&escape, &char::from(digit).to_string());
            }
        }
        for (escape, meant) in [
            ("%25", "%"),
            ("%20", " "),
            ("%2B", "+"),
            ("%C2%A0", "\u{a0}"),
            ("%E2%80%93", "\u{2013}"),
            ("\\\\", "\\"),
            ("\\n", "\n"),
        ] {
            read = read.replace(escape, meant);
        }
    }
    false
}

/// Sends `card` in every place and every way; how many requests that were.
fn plant(gateway: &Gateway, card: &str) -> usize {
    let mut client = gateway.client();
    let mut sent = 0;
    let mut ask = |path: &str, fields: &str| {
        client.get(path, fields);
        sent += 1;
    };
    for way in ways(card) {
        ask(&format!("/pay/{way}?page={way}&other={way}"), "");
        ask(&format!("/nowhere/{way}"), "");
    }
    for way in ways_in_text(card) {
        let fields = format!(
            "User-Agent: {way}\r\nReferer: http://a/{way}\r\nX-Note: {way}\r\nX-Request-Id: {way}\r\n"
        );
        ask("/pay", &fields);
        ask(&format!("/echo?x={}", way.len()), &format!("X-Note: {way}\r\n"));
        let token = mint(&json!({ "sub": way, "exp": now_s() + 3600 }));
        ask("/closed", &bearer(&token));
    }
    let trace = format!("0a{card}{}", "b".repeat(30 - card.len()));
    ask("/pay", &format!("traceparent: 00-{trace}-00f067aa0ba902b7-01\r\n"));
    sent
}

fn setup(endpoint: &Endpoint) -> Setup {
    Setup::new()
        .keys("")
        .set("log", "headers = [\"X-Note\", \"User-Agent\"]")
        .set("log", "response_headers = [\"X-Echo\"]")
        .set("log", "query = [\"page\"]")
        .cluster("main", &[endpoint.address], "")
        .route("pay", "/pay", "main", "")
        .route("echo", "/echo", "main", "")
        .route("closed", "/closed", "main", "jwt = \"partners\"")
}

/// An endpoint that says what it was told in a field.
fn echoing() -> Endpoint {
    Endpoint::scripted(|talk, seen| {
        let note = seen.fields("x-note").first().copied().unwrap_or("-").to_owned();
        talk.send(format!(
            "HTTP/1.1 200 OK\r\nX-Echo: {note}\r\nSet-Cookie: hunter2\r\nContent-Length: 0\r\n\r\n"
        ));
    })
}

/// Broken by a text on its way to any of the outputs that nobody looked through.
#[test]
fn no_card_number_reaches_any_output() {
    let endpoint = echoing();
    let all = "{ts} {request_id} {trace_id} {consumer} {method} {path} {referer} {user_agent} {reason} {header:X-Note} \
               {response_header:X-Echo} {query:page}";
    for format in ["json", "combined", all] {
        let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
        let spans = format!("http://{}/v1/traces", receiver.local_addr().unwrap());
        let mut gateway = setup(&endpoint)
            .set("log", &format!("format = \"{format}\""))
            .text(&format!("[monitor]\nsample = \"100%\"\notlp = \"{spans}\"\nslow = \"1ms\"\n"))
            .start();
        let sent: usize = CARDS.iter().map(|card| plant(&gateway, card)).sum();
        let mut written = raw_lines(&gateway, "access.log", sent);
        assert_eq!(written.len(), sent);
        let (mut stream, _) = receiver.accept().unwrap();
        let (_, spans) = crate::dashboard::read_request(&mut stream);
        written.push(String::from_utf8_lossy(&spans).into_owned());
        for path in ["/live", "/metrics", "/apis", "/clusters", "/routes", "/status", "/config"] {
            written.push(gateway.admin_get(path).1);
        }
        last_lines(&mut gateway, "access.log");
        written.extend(gateway.said());
        for text in &written {
            for card in CARDS {
                assert!(!holds(text, card), "{format}: {card} in {text}");
            }
        }
        assert!(written.iter().any(|text| text.contains("*****")), "they were there");
    }
}

/// Broken by an escape that is not read before a token is looked for, and by an order that is noted as it came.
#[test]
fn no_credential_reaches_any_output() {
    let endpoint = echoing();
    let mut gateway = setup(&endpoint)
        .text("\n[audit]\npath = \"audit.log\"\nkey_file = \"audit.key\"\n")
        .file("audit.key", &[b'k'; 40])
        .route("audited", "/audited", "main", "audit = true")
        .start();
    assert_eq!(order(&gateway, "/log-level", &json!({ "level": "debug", "ttl": "10m" })), 200);
    let token = mint(&json!({ "sub": "acme", "exp": now_s() + 3600 }));
    let key = "tg_8f2Cq1Kf0mQzX_9-vB3nT7yLw5rE2uHsJdGpAoIcVbM";
    let odd = |secret: &str| secret.replace('.', "%2E").replace('-', "%2D").replace('_', "%5f");
    let all = |secret: &str| secret.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let bearer = || "Bearer%20hunter2hunter2".to_owned();
    let mut secrets = vec![bearer(), bearer().replace('%', "%25")];
    for secret in [&token, key] {
        secrets.extend([secret.to_owned(), odd(secret), odd(secret).replace('%', "%25"), all(secret)]);
    }
    let mut client = gateway.client();
    for secret in &secrets {
        client.get(&format!("/audited/{secret}?page={secret}"), "");
        client.get("/pay", &format!("X-Note: {secret}\r\nUser-Agent: {secret}\r\nReferer: {secret}\r\n"));
        for body in [json!({ "token": secret }), json!({ "jti": "a", "until": secret })] {
            assert_eq!(order(&gateway, "/revoke", &body), 400);
        }
        assert_eq!(order(&gateway, "/revoke", &json!({ "jti": secret, "ttl": "1h" })), 200);
        gateway.admin_get(&format!("/nowhere/{secret}"));
    }
    drop(client);
    let mut written = raw_lines(&gateway, "access.log", 2 * secrets.len());
    written.extend(
        ["/live", "/metrics", "/status", "/changes", "/exchanges"].map(|path| gateway.admin_get(path).1),
    );
    last_lines(&mut gateway, "access.log");
    written.extend(gateway.said());
    written.extend(raw_lines(&gateway, "audit.log", 1));
    let parts: Vec<&str> =
        token.split(['.', '-', '_']).chain(key.split(['-', '_'])).chain(["hunter2"]).collect();
    for text in &written {
        let read = secrets.iter().fold(text.clone(), |text, _| unescaped(&text));
        let left = parts.iter().find(|part| part.len() > 6 && read.contains(**part));
        assert_eq!(left, None, "in {text}");
    }
    assert!(written.iter().any(|text| text.contains("POST /revoke")), "orders are noted");
}

/// What the admin address answers to an order.
fn order(gateway: &Gateway, path: &str, body: &Value) -> u16 {
    let body = body.to_string();
    let mut client = Client::connect(gateway.admin);
    client.send(format!(
        "POST {path} HTTP/1.1\r\nHost: admin\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    client.answer().status
}

/// `text` with its percent-escapes read once.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('%');
    let mut read = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => read.push_str(&format!("{}{}", char::from(byte), &part[2..])),
            None => read.push_str(&format!("%{part}")),
        }
    }
    read
}

#[test]
fn nor_does_it_through_any_sink() {
    let endpoint = echoing();
    let gateway = setup(&endpoint).set("log", "access = \"syslog:log.sock\"");
    let directory = gateway.write();
    let daemon = UnixDatagram::bind(directory.path().join("log.sock")).unwrap();
    daemon.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let gateway = gateway.start_in(directory);
    let mut client = gateway.client();
    for way in ways(CARDS[2]) {
        client.get(&format!("/pay/{way}?page={way}"), "");
        let mut bytes = [0; 8192];
        let length = daemon.recv(&mut bytes).expect("a message");
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        assert!(text.contains('*') && !holds(&text, CARDS[2]), "{text}");
    }
    let mut gateway = setup(&endpoint).set("log", "access = \"stdout\"").start();
    let sent = plant(&gateway, CARDS[0]);
    let lines = last_lines(&mut gateway, "stdout");
    assert_eq!(lines.len(), sent);
    assert!(lines.iter().all(|line| !holds(line, CARDS[0])));
}

#[test]
fn only_what_is_listed_is_shown() {
    let endpoint = echoing();
    let gateway = setup(&endpoint).start();
    let fields = "User-Agent: curl/8\r\nX-Note: n1\r\nX-Note: n2\r\nX-Other: hunter2\r\nCookie: hunter2\r\n";
    let token = mint(&json!({ "sub": "acme", "exp": now_s() + 3600 }));
    let mut client = gateway.client();
    client.get("/pay?other=hunter2&page=2&page=3", fields);
    client.post("/pay?page=%7B", &format!("{fields}Expect: 100-continue\r\n"), b"hunter2");
    client.get(&format!("/pay/{token}?page={token}"), &format!("X-Note: Bearer {}\r\n", "hunter2"));
    client.get("/nowhere?page=4", &format!("X-Note: {}\r\n", "x".repeat(1_000)));
    let lines = raw_lines(&gateway, "access.log", 4);
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shown =
        |line: &Value| (line["headers"].clone(), line["response_headers"].clone(), line["query"].clone());
    let both = json!({ "X-Note": "n1", "User-Agent": "curl/8" });
    assert_eq!(shown(&lines[0]), (both.clone(), json!({ "X-Echo": "n1" }), json!({ "page": "2" })));
    assert_eq!(shown(&lines[1]), (both, json!({ "X-Echo": "n1" }), json!({ "page": "%7B" })));
    assert_eq!(lines[2]["headers"]["X-Note"], "Bearer *******");
    assert_eq!(lines[3]["headers"]["X-Note"].as_str().unwrap().len(), 240);
    assert_eq!(shown(&lines[3]).1, json!({}));
    let text = format!("{lines:?}");
    assert!(!text.contains("hunter2") && !text.contains("eyJ"), "{text}");
    until("it to be counted", || gateway.metric("tollgate_log_lines_total") == 4.0);
}

/// Broken by a list that a reload changes for the shards and not for the writer.
#[test]
fn lists_stay_until_a_restart() {
    let endpoint = echoing();
    let gateway = setup(&endpoint).start();
    let other = Setup::new()
        .set("listen", &format!("address = [\"{}\"]", gateway.address))
        .set("listen", &format!("admin = \"{}\"", gateway.admin))
        .set("log", "headers = [\"X-Other\"]")
        .cluster("main", &[endpoint.address], "")
        .route("pay", "/pay", "main", "");
    let (status, report) = gateway.reload(&other);
    assert_eq!(status, 200, "{report}");
    assert!(report.to_string().contains("log.headers stays"), "{report}");
    gateway.client().get("/pay", "X-Note: 1\r\nX-Other: 2\r\n");
    assert_eq!(gateway.log(1)[0]["headers"], json!({ "X-Note": "1" }));
}

#[test]
fn a_list_that_would_show_a_secret_is_refused() {
    let endpoint = echoing();
    let directory = Setup::proxy(endpoint.address)
        .set("log", "headers = [\"X-Note\", \"authorization\", \"x-note\", \"a b\"]")
        .set("log", "response_headers = [\"Set-Cookie\"]")
        .set("log", "query = [\"access_token\", \"a\", \"b\", \"c\", \"d\", \"e\", \"f\", \"g\", \"h\"]")
        .set("log", "format = \"{header:X-Other}\"")
        .write();
    let ended = tollgate(directory.path(), &["check", "tollgate.toml"]);
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(78), "{said}");
    for part in [
        "log.headers[1]: \"authorization\" carries what must never reach a log",
        "log.headers[2]: \"x-note\" is listed twice",
        "log.headers[3]: \"a b\" is not the name of a header",
        "log.response_headers[0]: \"Set-Cookie\" carries",
        "log.query[0]: \"access_token\" carries",
        "log.query: at most 8 names; there are 9",
        "log.format: {header:X-Other} shows what log.headers does not list",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}
