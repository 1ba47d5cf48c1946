//! The audit log: what is in it when an answer arrives, and what becomes of requests when it cannot be written.

mod crash;
mod directory;
mod disk;
mod files;

use std::{fs, path::Path, process::Output};

use serde_json::Value;

use crate::rig::{Directory, Endpoint, Gateway, Setup, tollgate, until};

/// 48 bytes, and the line end that is the editor's.
const KEY: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef\n";

/// One endpoint, the audited route `/pay`, and `/free`, of which there is no record.
fn audited(endpoint: &Endpoint, lines: &str) -> Setup {
    audited_in(endpoint, "audit.log", lines)
}

/// The same with the log at `path`.
fn audited_in(endpoint: &Endpoint, path: &str, lines: &str) -> Setup {
    Setup::new()
        .text(&format!("\n[audit]\npath = \"{path}\"\nkey_file = \"audit.key\"\n{lines}\n"))
        .file("audit.key", KEY)
        .cluster("main", &[endpoint.address], "")
        .route("pay", "/pay", "main", "audit = true")
        .route("free", "/free", "main", "")
}

/// Runs `tollgate audit verify` in the gateway's directory.
fn verify(gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, String) {
    let fixed = ["audit", "verify", "--key-file", "audit.key"];
    let Output { status, stdout, stderr } = tollgate(gateway.directory(), &[&fixed[..], arguments].concat());
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

/// The lines with this event, of the log as it now is.
fn events(gateway: &Gateway, event: &str) -> Vec<Value> {
    let lines = gateway.lines_so_far("audit.log").into_iter();
    lines.filter(|line| line["event"] == event).collect()
}

#[test]
fn an_exchange_leaves_an_intent_and_an_outcome() {
    let endpoint = Endpoint::answering("ok");
    let mut gateway = audited(&endpoint, "").start();
    let mut client = gateway.client();
    assert_eq!(client.post("/pay/7?card=4111111111111111", "X-Request-Id: one\r\n", b"body").status, 200);
    assert_eq!(client.get("/free", "").status, 200);
    let trace = "traceparent: 00-abcdefabcdefabcd4111111111111111-00f067aa0ba902b7-01\r\n";
    assert_eq!(client.get("/pay/4111111111111111", trace).status, 200);
    drop(client);
    gateway.signal("TERM");
    gateway.wait();
    let [intents, outcomes] = ["intent", "outcome"].map(|event| events(&gateway, event));
    assert_eq!((intents.len(), outcomes.len()), (2, 2));
    let (intent, outcome) = (&intents[0], &outcomes[0]);
    for (key, value) in [
        ("request_id", "one"),
        ("method", "POST"),
        ("path", "/pay/7"),
        ("route", "pay"),
        ("cluster", "main"),
        ("client_ip", "127.0.0.1"),
        ("consumer", "-"),
    ] {
        assert_eq!(intent[key], value, "{intent}");
    }
    assert_eq!(outcome["intent"], intent["seq"]);
    assert_eq!((&outcome["status"], &outcome["delivery"]), (&Value::from(200), &Value::from("answered")));
    assert_eq!(intents[1]["path"], "/pay/****************");
    assert_eq!(intents[1]["trace_id"], "0".repeat(32));
    let (code, said) = verify(&gateway, &["--ended", "audit.log"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("intact: 6 lines with 4 records of 1 processes"), "{said}");
}

#[test]
fn the_key_is_found_by_the_configuration_that_names_it() {
    let endpoint = Endpoint::answering("ok");
    let mut gateway = audited(&endpoint, "").start();
    assert_eq!(gateway.client().get("/pay", "").status, 200);
    gateway.signal("TERM");
    gateway.wait();
    let directory = gateway.directory();
    let log = directory.join("audit.log").display().to_string();
    let config = directory.join("tollgate.toml").display().to_string();
    let run = |place: &Path, arguments: &[&str]| {
        let run = tollgate(place, &[&["audit", "verify"], arguments].concat());
        (run.status.code(), String::from_utf8([run.stdout, run.stderr].concat()).unwrap())
    };
    // In its directory, from anywhere else, and by name.
    for (place, arguments) in [
        (directory, &["audit.log"][..]),
        (Path::new("/"), &[&log]),
        (Path::new("/"), &["--config", &config, &log]),
    ] {
        let (code, said) = run(place, arguments);
        assert!(code == Some(0) && said.contains("audit.key_file of"), "{code:?}: {said}");
    }
    let (code, said) = run(directory, &["--json", "audit.log"]);
    assert!(code == Some(0) && serde_json::from_str::<Value>(&said).is_ok(), "{said}");
    let elsewhere = Directory::new();
    let alone = elsewhere.path().join("alone.log");
    fs::copy(&log, &alone).unwrap();
    let (code, said) = run(elsewhere.path(), &["alone.log"]);
    assert!(code == Some(64) && said.contains("--key-file") && said.contains("--config"), "{code:?}: {said}");
    fs::write(elsewhere.path().join("tollgate.toml"), "[audit]\npath = \"audit.log\"\n").unwrap();
    let (code, said) = run(elsewhere.path(), &["alone.log"]);
    assert!(code == Some(78) && said.contains("audit.key_file"), "{code:?}: {said}");
    let (code, _) = run(directory, &["--config", &config, "--key-file", "audit.key", "audit.log"]);
    assert_eq!(code, Some(64), "two keys are one too many");
}

#[test]
fn an_answer_that_arrived_has_on_the_disk_what_was_promised() {
    for (durability, event) in [("buffered", "intent"), ("fsync", "outcome")] {
        let endpoint = Endpoint::answering("ok");
        let setup = audited(&endpoint, &format!("durability = \"{durability}\""));
        let gateway = setup.shards(2).start();
        for number in 0..10 {
            let id = format!("id-{number}");
            let answer = gateway.client().get("/pay", &format!("X-Request-Id: {id}\r\n"));
            assert_eq!(answer.status, 200);
            // Broken by an answer that does not wait: it is read before the line is there.
            let there = events(&gateway, event).iter().any(|line| line["request_id"] == id);
            assert!(there, "{durability}: no {event} of {id}");
        }
        let refused = gateway.metric("tollgate_audit_refused_total");
        assert!(refused.abs() < f64::EPSILON && gateway.metric("tollgate_audit_records_total") > 19.0);
    }
}

#[test]
fn what_the_gateway_answers_itself_has_an_outcome_too() {
    let endpoint = Endpoint::scripted(|talk, _| talk.reset());
    let gateway = audited(&endpoint, "durability = \"fsync\"").start();
    let answer = gateway.client().post("/pay", "", b"body");
    assert_eq!((answer.status, answer.field("tollgate-delivery")), (502, Some("maybe-sent")));
    let outcome = events(&gateway, "outcome").pop().unwrap();
    assert_eq!((&outcome["status"], &outcome["code"]), (&Value::from(502), &Value::from("upstream_failed")));
    assert_eq!(outcome["delivery"], "maybe-sent");
}

/// Broken by rings that are handed out in another order than the one they are read in.
#[test]
fn both_logs_name_the_shard_that_served() {
    let endpoint = Endpoint::answering("ok");
    let gateway = audited(&endpoint, "durability = \"fsync\"").shards(2).start();
    let accepted =
        || [0, 1].map(|shard| gateway.metric(&format!("tollgate_shard_accepts_total{{shard=\"{shard}\"}}")));
    let mut served = Vec::new();
    until("both shards to have served", || {
        let [before, _] = accepted();
        let id = format!("id-{}", served.len());
        assert_eq!(gateway.client().get("/pay", &format!("X-Request-Id: {id}\r\n")).status, 200);
        served.push((id, u64::from(accepted()[0] == before)));
        [0, 1].iter().all(|shard| served.iter().any(|(_, served)| served == shard))
    });
    for lines in [gateway.lines_of("access.log", served.len()), events(&gateway, "outcome")] {
        assert_eq!(lines.len(), served.len());
        for (id, shard) in &served {
            let line = lines.iter().find(|line| line["request_id"] == id.as_str()).expect("a line for each");
            assert_eq!(line["shard"], *shard, "{line}");
        }
    }
}

#[test]
fn verify_says_what_is_wrong_and_where() {
    let endpoint = Endpoint::answering("ok");
    let mut gateway = audited(&endpoint, "").start();
    for _ in 0..3 {
        assert_eq!(gateway.client().get("/pay", "").status, 200);
    }
    gateway.signal("TERM");
    gateway.wait();
    let path = gateway.directory().join("audit.log");
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, whole.replacen("\"status\":200", "\"status\":500", 1)).unwrap();
    let (code, said) = verify(&gateway, &["audit.log"]);
    assert_eq!(code, Some(1));
    assert!(said.starts_with("first bad record: audit.log:3: shard 0, seq 2: altered:"), "{said}");
    let (code, said) = verify(&gateway, &["--json", "audit.log"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &report["problems"][0]["line"]), (Some(1), &Value::from(3)));
    // Without its last line nothing is broken; only who knows that it ended can tell.
    let cut = whole.trim_end().rsplit_once('\n').unwrap().0;
    fs::write(&path, format!("{cut}\n")).unwrap();
    assert_eq!(verify(&gateway, &["audit.log"]).0, Some(0));
    let (code, said) = verify(&gateway, &["--ended", "audit.log"]);
    assert!(code == Some(1) && said.contains("cut: "), "{said}");
    assert_eq!(verify(&gateway, &["nowhere.log"]).0, Some(66));
    assert_eq!(verify(&gateway, &[]).0, Some(64));
    fs::write(gateway.directory().join("audit.key"), [b'x'; 32]).unwrap();
    let (code, said) = verify(&gateway, &["audit.log"]);
    assert!(code == Some(1) && said.contains("wrong_key: written with the key"), "{said}");
}

#[test]
fn bad_input_is_refused_by_check() {
    let endpoint = Endpoint::answering("ok");
    for (lines, key, said) in [
        ("", &[b'k'; 31][..], "audit.key_file: the key has 31 bytes; at least 32"),
        ("anchor = [\"nowhere/anchors\"]", KEY, "audit.anchor[0]: the directory of "),
        ("anchor = [\"gopher://a\"]", KEY, "is not an address that can be posted to"),
        ("durability = \"paper\"", KEY, "audit.durability: \"paper\" is not one of \"buffered\", \"fsync\""),
    ] {
        let directory = audited(&endpoint, lines).file("audit.key", key).write();
        let output = tollgate(directory.path(), &["check", "tollgate.toml"]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78));
        assert!(told.contains(said), "{told}");
    }
    let setup = Setup::new().cluster("main", &[endpoint.address], "");
    let directory = setup.route("pay", "/", "main", "audit = true").write();
    let output = tollgate(directory.path(), &["check", "tollgate.toml"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("route[0].audit: there is no audit log; [audit] needs path and key_file"),
        "{told}"
    );
}

#[test]
fn a_reload_audits_more_routes_but_makes_no_audit_log() {
    let endpoint = Endpoint::answering("ok");
    let gateway = audited(&endpoint, "").start();
    let more = audited(&endpoint, "").route("more", "/more", "main", "audit = true");
    assert_eq!(gateway.reload(&more).0, 200);
    assert_eq!(gateway.client().get("/more", "").status, 200);
    assert_eq!(events(&gateway, "intent").len(), 1);
    let gateway = Setup::proxy(endpoint.address).start();
    let (_, report) = gateway.reload(&audited(&endpoint, ""));
    assert!(report["mistakes"][0].as_str().unwrap().contains("started without [audit]"), "{report}");
}
