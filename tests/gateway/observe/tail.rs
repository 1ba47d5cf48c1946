//! `/tail` and `tollgate tail`: the log as it is written, for those who ask, at nobody's expense.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

use super::{Line, raw_lines};
use crate::rig::{Endpoint, Gateway, Setup, bearer, tollgate, until, valid_token};

/// A listener at `/tail` with this query, once it is told that it listens.
fn listen(gateway: &Gateway, query: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(gateway.admin).unwrap();
    write!(stream, "GET /tail{query} HTTP/1.0\r\nHost: admin\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(lines.read_line(&mut head).unwrap() > 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.0 200") && head.contains("application/x-ndjson"), "{head}");
    // The first sign of life comes with the head.
    assert_eq!(next(&mut lines, true), "\n");
    lines
}

fn next(lines: &mut BufReader<TcpStream>, empty_ones: bool) -> String {
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended");
        if empty_ones || line != "\n" {
            return line;
        }
    }
}

/// A running `tollgate tail`, and what it has shown so far.
struct Following {
    child: Child,
    shown: Arc<Mutex<Vec<String>>>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Following {
    fn start(gateway: &Gateway, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["tail", "--admin", &gateway.admin.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let shown = collect(child.stdout.take().unwrap());
        let said = collect(child.stderr.take().unwrap());
        Self { child, shown, said }
    }

    fn shown(&self) -> Vec<String> {
        self.shown.lock().unwrap().clone()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(from: impl Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&lines);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            kept.lock().unwrap().push(line);
        }
    });
    lines
}

fn two_routes(endpoint: &Endpoint) -> Setup {
    Setup::new().keys("").cluster("main", &[endpoint.address], "").route("one", "/one", "main", "").route(
        "two",
        "/two",
        "main",
        "jwt = \"partners\"",
    )
}

#[test]
fn each_gets_what_they_ask_for_as_the_log_has_it() {
    let endpoint = Endpoint::answering("ok");
    let gateway = two_routes(&endpoint).start();
    let queries =
        ["", "?route=two", "?status=4xx", "?consumer=acme", "?route=two&status=200-299&consumer=acme"];
    let mut listeners = queries.map(|query| listen(&gateway, query));
    let mut client = gateway.client();
    client.get("/one/1", "");
    client.get("/two/2", "");
    client.get("/two/3", &bearer(&valid_token("acme")));
    client.get("/none/4", "");
    let lines = raw_lines(&gateway, "access.log", 4);
    let wanted: [&[usize]; 5] = [&[0, 1, 2, 3], &[1, 2], &[1, 3], &[2], &[2]];
    for ((listener, query), wanted) in listeners.iter_mut().zip(queries).zip(wanted) {
        for &line in wanted {
            assert_eq!(next(listener, false).trim_end(), lines[line], "{query}");
        }
    }
    // Gone listeners give their places back.
    let first = listeners.into_iter().next().unwrap();
    let more: Vec<_> = (0..7).map(|_| listen(&gateway, "")).collect();
    until("a place to be refused", || gateway.admin_get("/tail").0 == 503);
    drop((more, first));
    until("places", || {
        let mut stream = TcpStream::connect(gateway.admin).unwrap();
        write!(stream, "GET /tail HTTP/1.0\r\n\r\n").unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        &head == b"HTTP/1.0 200"
    });
}

#[test]
fn what_makes_no_sense_is_refused() {
    let endpoint = Endpoint::answering("ok");
    let gateway = two_routes(&endpoint).start();
    for (query, said) in [
        ("?status=abc", "is no status"),
        ("?route=three", "no route is named"),
        ("?statsu=1", "unknown field"),
    ] {
        let (status, body) = gateway.admin_get(&format!("/tail{query}"));
        assert_eq!(status, 400, "{query}");
        assert!(body.contains(said), "{query}: {body}");
    }
    let admin = gateway.admin.to_string();
    let ended = tollgate(gateway.directory(), &["tail", "--admin", &admin, "--route", "three"]);
    assert_eq!(ended.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("no route is named \"three\""));
    let nowhere = Endpoint::nowhere().to_string();
    let ended = tollgate(gateway.directory(), &["tail", "--admin", &nowhere]);
    assert_eq!(ended.status.code(), Some(69));
}

/// Broken by a tail that needs the log's own sink, or by shards that record for nobody.
#[test]
fn it_works_without_a_log_and_whatever_the_log_looks_like() {
    let endpoint = Endpoint::answering("ok");
    for line in ["access = \"off\"", "format = \"combined\""] {
        let gateway = two_routes(&endpoint).set("log", line).start();
        let mut client = gateway.client();
        client.get("/one/unseen", "");
        if line.starts_with("format") {
            raw_lines(&gateway, "access.log", 1);
        }
        let mut listener = listen(&gateway, "");
        // Where nothing is recorded, recording begins when the writer has taken the listener up.
        let mut first = gateway.client();
        let seen = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&seen);
        let reader = thread::spawn(move || *kept.lock().unwrap() = Some(next(&mut listener, false)));
        until("a line", || {
            first.get("/one/seen", "");
            reader.is_finished()
        });
        reader.join().unwrap();
        let told = seen.lock().unwrap().take().unwrap();
        assert_eq!(Line::parse(told.trim_end()).text("path"), "/one/seen", "{line}");
    }
}

/// Broken by a listener for whom the writer or a shard waits.
#[test]
fn who_reads_nothing_misses_lines_and_the_log_none() {
    let endpoint = Endpoint::answering("ok");
    // A ring for all lines: a busy machine may keep the writer from its CPU for a while.
    let gateway = Setup::proxy(endpoint.address).set("log", "ring = \"64MiB\"").start();
    let mut sleeper = listen(&gateway, "");
    let path = format!("/{}", "x".repeat(1_900));
    let mut client = gateway.client();
    let mut sent = 0_u32;
    // What the kernel and the channel hold, and more.
    let asked = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(20);
    while sent < 8_000 {
        client.send(&asked);
        for _ in 0..20 {
            assert_eq!(client.answer().status, 200);
        }
        sent += 20;
    }
    until("all lines", || gateway.metric("tollgate_log_lines_total") >= f64::from(sent));
    assert_eq!(gateway.metric("tollgate_log_dropped_total"), 0.0);
    let (mut told, mut missing) = (0, 0);
    while told + missing < u64::from(sent) {
        let line: Value = serde_json::from_str(&next(&mut sleeper, false)).unwrap();
        match line["event"].as_str() {
            Some("tail_gap") => missing += line["dropped"].as_u64().unwrap(),
            Some(other) => panic!("{other}"),
            None => told += 1,
        }
    }
    assert_eq!(told + missing, u64::from(sent));
}

#[test]
fn the_command_shows_counts_and_comes_back() {
    let endpoint = Endpoint::answering("ok");
    let gateway = two_routes(&endpoint).start();
    let address = gateway.address.to_string();
    let mut counted = Following::start(&gateway, &["--count", "2", "--format", "json", "--route", "one"]);
    let mut text = Following::start(&gateway, &["--status", "401"]);
    let mut client = gateway.client();
    until("both to listen", || {
        client.get("/one/a", "");
        client.get("/two/b", "");
        !counted.shown().is_empty() && !text.shown().is_empty()
    });
    until("two lines", || {
        client.get("/one/a", "");
        counted.child.try_wait().unwrap().is_some()
    });
    assert!(counted.child.wait().unwrap().success());
    let shown = counted.shown();
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(shown.iter().all(|line| Line::parse(line).text("path") == "/one/a"));
    let words = text.shown()[0].clone();
    assert!(words.contains(" 401 G4 GET /two/b ") && words.contains("code=token_missing"), "{words}");

    // The same gateway once more, at the same addresses.
    let admin = gateway.admin.to_string();
    gateway.stop();
    until("it to be missed", || text.said.lock().unwrap().iter().any(|line| line.contains("is gone")));
    let again = two_routes(&endpoint)
        .set("listen", &format!("address = [\"{address}\"]"))
        .set("listen", &format!("admin = \"{admin}\""))
        .start();
    until("it to be found", || text.said.lock().unwrap().iter().any(|line| line.contains("again")));
    let before = text.shown().len();
    let mut client = again.client();
    until("another line", || {
        client.get("/two/c", "");
        text.shown().len() > before
    });
    // Ctrl-C.
    let sent = Command::new("kill").args(["-INT", &text.child.id().to_string()]).status();
    assert!(sent.unwrap().success());
    assert_eq!(text.child.wait().unwrap().code(), Some(0));
    assert!(text.shown().last().unwrap().contains("/two/c"));
}

#[test]
fn consumers_are_hashed_there_too() {
    let endpoint = Endpoint::answering("ok");
    let gateway = two_routes(&endpoint)
        .set("log", "consumer_key_file = \"consumer.key\"")
        .file("consumer.key", &[b'k'; 32])
        .start();
    let mut listener = listen(&gateway, "?consumer=acme");
    gateway.client().get("/two/4111111111111111", &bearer(&valid_token("acme")));
    let line: Value = serde_json::from_str(&next(&mut listener, false)).unwrap();
    assert_eq!(line["consumer"].as_str().unwrap().len(), 32);
    assert_eq!(line["path"], json!("/two/****************"));
}
