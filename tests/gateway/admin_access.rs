//! Who may ask the admin API: this machine or who knows the token; no page of a stranger, and nobody unnoticed.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    config::{GOOD, check, code, said},
    rig::{Answer, Client, Endpoint, Gateway, Setup, tollgate, until},
};

const TOKEN: &str = "correct-horse-battery-staple-0123456789";

/// The answer to `method path` with further field lines and a body.
#[track_caller]
fn ask(gateway: &Gateway, method: &str, path: &str, fields: &str, body: &str) -> Answer {
    let mut client = Client::connect(gateway.admin);
    let length = body.len();
    client.send(format!("{method} {path} HTTP/1.1\r\nContent-Length: {length}\r\n{fields}\r\n{body}"));
    client.answer()
}

/// What stands in `error`, which every answer has that is none.
#[track_caller]
fn error(answer: &Answer) -> String {
    assert_eq!(answer.field("content-type"), Some("application/json"), "{}", answer.head);
    answer.json()["error"].as_str().unwrap().to_owned()
}

fn changes(gateway: &Gateway, fields: &str) -> Vec<Value> {
    ask(gateway, "GET", "/changes", fields, "").json().as_array().unwrap().clone()
}

/// The answer to `head` over a unix socket, and who a user is that asks.
fn ask_socket(path: &Path, head: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    write!(stream, "{head} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Broken by a socket that is there before its permissions are, that outlives its process, or that a crash blocks.
#[test]
fn a_unix_socket_is_for_its_owner_and_goes_with_the_process() {
    let endpoint = Endpoint::answering("ok");
    let setup = || Setup::proxy(endpoint.address).set("listen", "admin = \"unix:admin.sock\"");
    let mut gateway = setup().start();
    let socket = gateway.directory().join("admin.sock");
    let found = fs::symlink_metadata(&socket).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    let run =
        |gateway: &Gateway, command| tollgate(gateway.directory(), &[command, "--admin", "unix:admin.sock"]);
    let status = run(&gateway, "status");
    assert_eq!(code(&status), Some(0), "{}", said(&status));
    let pid = |gateway: &Gateway| {
        let status: Value = serde_json::from_slice(&run(gateway, "status").stdout).unwrap_or_default();
        status["pid"].as_u64()
    };
    assert_eq!(pid(&gateway), Some(gateway.pid().into()));
    assert_eq!(code(&run(&gateway, "reload")), Some(0));
    let changes = ask_socket(&socket, "GET /changes");
    let user =
        fs::metadata(gateway.directory()).map(|found| std::os::unix::fs::MetadataExt::uid(&found)).unwrap();
    assert!(changes.contains(&format!("\"who\":\"uid {user}, pid ")), "{changes}");
    assert!(changes.contains("\"what\":\"POST /reload\",\"status\":200"), "{changes}");

    // Whoever comes too late is told, and takes nothing away.
    let late = tollgate(gateway.directory(), &["run", "--config", "tollgate.toml"]);
    assert_eq!(code(&late), Some(69), "{}", said(&late));
    assert!(said(&late).contains("another process listens there"), "{}", said(&late));
    assert_eq!(pid(&gateway), Some(gateway.pid().into()));

    // A successor has the same socket, and the file stays.
    gateway.signal("USR2");
    assert_eq!(gateway.wait().code(), Some(0));
    let successor = pid(&gateway).unwrap();
    assert_ne!(successor, u64::from(gateway.pid()));
    assert_eq!(code(&run(&gateway, "drain")), Some(0));
    until("the file to go", || !socket.exists());
}

#[test]
fn what_a_crash_left_is_no_obstacle_and_a_file_is_never_removed() {
    let endpoint = Endpoint::answering("ok");
    let setup = Setup::proxy(endpoint.address)
        .set("listen", "admin = \"unix:admin.sock\"")
        .set("listen", "admin_mode = \"0660\"");
    let directory = setup.write();
    let socket = directory.path().join("admin.sock");
    // Nobody listens on it any more.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let mut gateway = setup.start_in(directory);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(ask_socket(&socket, "GET /health").contains("alive"));
    gateway.signal("TERM");
    assert_eq!(gateway.wait().code(), Some(0));
    fs::write(&socket, "precious").unwrap();
    let refused = tollgate(gateway.directory(), &["run", "--config", "tollgate.toml"]);
    assert_eq!(code(&refused), Some(69), "{}", said(&refused));
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
}

#[test]
fn what_cannot_be_an_admin_address_is_said_by_check() {
    let long = format!("unix:/{}", "a".repeat(120));
    for (lines, expected) in [
        ("admin = \"unix:\"", "t.toml:2: listen.admin: a path is missing"),
        (&*format!("admin = \"{long}\""), "t.toml:2: listen.admin: /aaa"),
        (
            "admin = \"10.1.2.3:9901\"",
            "t.toml:2: listen.admin: others can reach this address: set listen.admin_token_file",
        ),
        ("admin_mode = \"0777\"", "t.toml:2: listen.admin_mode: \"0777\" is not one of \"0600\", \"0660\""),
        ("admin_token_file = \"gone\"", "t.toml:2: listen.admin_token_file: gone cannot be read: "),
        // The configuration itself is long enough, but no token.
        ("admin_token_file = \"t.toml\"", "t.toml:2: listen.admin_token_file: a token has letters, digits"),
        (
            "admin_token_file = \"/dev/null\"",
            "t.toml:2: listen.admin_token_file: the token has 0 bytes; 32 to",
        ),
    ] {
        let output = check(&format!("[listen]\n{lines}\n{GOOD}"));
        assert_eq!(code(&output), Some(78), "{lines}");
        assert!(said(&output).starts_with(expected), "{lines}: {}", said(&output));
        assert_eq!(said(&output).lines().count(), 1, "{lines}: {}", said(&output));
    }
}

fn with_token(endpoint: &Endpoint) -> Setup {
    Setup::proxy(endpoint.address)
        .set("listen", "admin = \"0.0.0.0:0\"")
        .set("listen", "admin_token_file = \"admin.token\"")
        .file("admin.token", format!("{TOKEN}\n").as_bytes())
}

/// Broken by a path that is reached without the guard.
#[test]
fn with_a_token_nothing_is_answered_without_it() {
    let endpoint = Endpoint::answering("ok");
    let gateway = with_token(&endpoint).start();
    let good = format!("Authorization: Bearer {TOKEN}\r\n");
    let almost = format!("Authorization: Bearer {}\r\n", &TOKEN[1..]);
    let paths =
        ["/", "/health", "/ready", "/metrics", "/config", "/live", "/changes", "/catalogue", "/nothing"];
    for path in paths {
        for (fields, challenge) in [("", "Bearer"), (&*almost, "Bearer error=\"invalid_token\"")] {
            let answer = ask(&gateway, "GET", path, fields, "");
            assert_eq!((answer.status, answer.field("www-authenticate")), (401, Some(challenge)), "{path}");
            assert!(error(&answer).contains("Authorization: Bearer"), "{path}");
        }
        let expected = if path == "/nothing" { 404 } else { 200 };
        assert_eq!(ask(&gateway, "GET", path, &good, "").status, expected, "{path}");
    }
    for fields in ["", &almost, "Authorization: Basic Y29ycmVjdA==\r\n", &format!("{good}{good}")] {
        assert_eq!(ask(&gateway, "POST", "/drain", fields, "").status, 401, "{fields}");
    }
    assert!(!ask(&gateway, "GET", "/config", &good, "").text().contains(TOKEN));
    // A browser is asked for it, by a page that is no answer either.
    let page = ask(&gateway, "GET", "/", "Accept: text/html,*/*;q=0.8\r\n", "");
    assert_eq!((page.status, page.field("content-type")), (401, Some("text/html; charset=utf-8")));
    assert!(page.text().contains("sessionStorage") && !page.text().contains(TOKEN));
    // Nobody's name can matter where everybody must know the token.
    assert_eq!(ask(&gateway, "GET", "/ready", &format!("Host: gateway.example\r\n{good}"), "").status, 200);

    let admin = gateway.admin.to_string();
    let run = |fields: &[&str]| {
        let arguments = [&["status", "--admin", &admin], fields].concat();
        tollgate(gateway.directory(), &arguments)
    };
    let refused = run(&[]);
    assert_eq!(code(&refused), Some(78));
    assert!(said(&refused).contains("listen.admin_token_file"), "{}", said(&refused));
    assert_eq!(code(&run(&["--admin-token-file", "admin.token"])), Some(0));
    assert_eq!(code(&run(&["--admin-token-file", "gone"])), Some(64));
    let turned_away = |line: &&String| line.contains("was turned away");
    until("one warning", || gateway.said().iter().filter(turned_away).count() == 1);
}

/// Broken by a token that is only read at the start, or that a reload can take away from an open address.
#[test]
fn a_reload_brings_another_token_and_never_none() {
    let endpoint = Endpoint::answering("ok");
    let gateway = with_token(&endpoint).start();
    let fields = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let (old, new) = (fields(TOKEN), fields("another-token-another-token-another-1"));
    let token_file = gateway.directory().join("admin.token");
    let file = gateway.directory().join("tollgate.toml");
    fs::write(token_file, "another-token-another-token-another-1").unwrap();
    assert_eq!(ask(&gateway, "POST", "/reload", &old, "").status, 200);
    assert_eq!(ask(&gateway, "GET", "/status", &old, "").status, 401);
    assert_eq!(ask(&gateway, "GET", "/status", &new, "").status, 200);
    let good = fs::read_to_string(&file).unwrap();
    let open = good.replace("admin_token_file = \"admin.token\"\n", "").replace("0.0.0.0:0", "127.0.0.1:0");
    fs::write(&file, open).unwrap();
    let refused = ask(&gateway, "POST", "/reload", &new, "");
    assert_eq!(refused.status, 422);
    assert!(refused.text().contains("stays at 0.0.0.0:0 until a restart"), "{}", refused.text());
    assert_eq!(ask(&gateway, "GET", "/status", "", "").status, 401);
    let noted = changes(&gateway, &new);
    let whos: Vec<&str> = noted.iter().map(|change| change["who"].as_str().unwrap()).collect();
    assert_eq!(whos.len(), 2);
    assert!(whos.iter().all(|who| who.contains(", token ")) && whos[0] != whos[1], "{whos:?}");
    assert!(noted[0]["error"].as_str().unwrap().contains("until a restart"), "{noted:?}");
}

/// Broken by an order that a page of another site can have a browser send, or by a name that leads it here.
#[test]
fn pages_of_strangers_can_neither_read_nor_order() {
    let endpoint = Endpoint::answering("ok");
    let mut gateway = Setup::proxy(endpoint.address).start();
    let own = gateway.admin.to_string();
    for host in ["evil.example", "127.0.0.1.evil.example:9901"] {
        for (method, path) in [("GET", "/config"), ("GET", "/"), ("POST", "/drain")] {
            let answer = ask(&gateway, method, path, &format!("Host: {host}\r\n"), "");
            assert_eq!(answer.status, 403, "{method} {path} {host}");
            assert!(error(&answer).contains("Host"));
        }
    }
    for fields in [
        "Origin: https://evil.example\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        for (method, path) in [("POST", "/drain"), ("POST", "/reload"), ("DELETE", "/revoke")] {
            let answer = ask(&gateway, method, path, &format!("Host: {own}\r\n{fields}"), "");
            assert_eq!(answer.status, 403, "{method} {path} {fields}");
            assert!(error(&answer).contains("Origin"));
        }
        assert_eq!(ask(&gateway, "GET", "/health", &format!("Host: {own}\r\n{fields}"), "").status, 200);
    }
    assert_eq!((gateway.has_ended(), changes(&gateway, "Host: a\r\n").len()), (None, 0));
    assert_eq!(gateway.metric("tollgate_admin_turned_away_total"), 18.0);
    // What a form can send is no order, wherever it comes from.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let fields = format!("Host: {own}\r\nContent-Type: {kind}\r\n");
        let answer = ask(&gateway, "POST", "/revoke", &fields, r#"{"jti":"a"}"#);
        assert_eq!(answer.status, 400, "{}", answer.text());
        error(&answer);
    }
    let page = format!("Host: {own}\r\nOrigin: http://{own}\r\nSec-Fetch-Site: same-origin\r\n");
    assert_eq!(ask(&gateway, "POST", "/reload", &page, "").status, 200);
}

#[test]
fn every_order_is_noted_with_who_what_and_outcome() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address).start();
    let json = "Host: a\r\nContent-Type: application/json\r\n";
    let orders = [
        ("POST", "/revoke", r#"{ "jti": "lost", "ttl": "1h" }"#, 200),
        ("DELETE", "/revoke", r#"{"jti":"other"}"#, 404),
        ("POST", "/revoke", "nonsense", 400),
        ("PUT", "/health", "", 405),
        ("POST", "/nothing", "", 404),
        ("POST", "/reload", "", 200),
    ];
    for (method, path, body, status) in orders {
        let answer = ask(&gateway, method, path, json, body);
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.text());
        if status != 200 {
            assert!(!error(&answer).is_empty());
        }
    }
    let oversized = ask(&gateway, "POST", "/revoke", json, &"x".repeat(70_000));
    assert_eq!((oversized.status, error(&oversized)), (413, "an order has at most 64 KiB".to_owned()));
    let noted = changes(&gateway, "Host: a\r\n");
    let expected: Vec<Value> = orders.iter().rev().map(|order| json!(order.3)).collect();
    assert_eq!(noted.iter().map(|change| change["status"].clone()).collect::<Vec<_>>(), expected);
    assert_eq!(noted[5]["what"], r#"POST /revoke {"jti":"lost","ttl":"1h"}"#);
    assert_eq!(noted[3]["what"], "POST /revoke (8 bytes that are not JSON)");
    assert_eq!((&noted[0]["error"], &noted[5]["error"]), (&Value::Null, &Value::Null));
    for change in &noted {
        assert!(change["who"].as_str().unwrap().starts_with("127.0.0.1:"), "{change}");
        let line = format!(
            "admin: {} by {}: {}",
            change["what"].as_str().unwrap(),
            change["who"].as_str().unwrap(),
            change["status"]
        );
        until(&line, || gateway.said().iter().any(|said| said.contains(&line)));
    }
    assert_eq!(
        ask(&gateway, "GET", "/changes?last=2", "Host: a\r\n", "").json().as_array().unwrap().len(),
        2
    );
    assert_eq!(ask(&gateway, "GET", "/changes?last=x", "Host: a\r\n", "").status, 400);
    assert_eq!(gateway.metric("tollgate_admin_changes_total"), 6.0);
}
