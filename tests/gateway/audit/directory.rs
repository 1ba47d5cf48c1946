//! The directory of the audit log is deleted or moved away while the gateway runs. Nobody tells it: it looks at its file
//! when it has records to write, and when it cannot write them it tries again by itself.

use std::{fs, path::PathBuf};

use super::{audited_in, verify};
use crate::rig::{Endpoint, Gateway, until};

/// A gateway with its audit log in a directory of its own, and that directory.
fn with_directory(endpoint: &Endpoint, lines: &str) -> (Gateway, PathBuf) {
    let setup = audited_in(endpoint, "logs/audit.log", lines);
    let directory = setup.write();
    let logs = directory.path().join("logs");
    fs::create_dir(&logs).unwrap();
    (setup.start_in(directory), logs)
}

/// How many lines on standard error say this.
fn times_said(gateway: &Gateway, what: &str) -> usize {
    gateway.said().iter().filter(|line| line.contains(what)).count()
}

/// What is said takes a while to get here.
fn said_once(gateway: &Gateway, what: &str) {
    until(what, || times_said(gateway, what) > 0);
    assert_eq!(times_said(gateway, what), 1, "{:?}", gateway.said());
}

fn is_failing(gateway: &Gateway) -> bool {
    gateway.metric("tollgate_audit_failing") > 0.0
}

fn count(gateway: &Gateway, counter: &str) -> u64 {
    gateway.metric(&format!("tollgate_audit_{counter}_total")) as u64
}

/// Broken by records that go into a file nobody can ever read, and by routes that notice although they are not audited.
#[test]
fn a_directory_that_is_deleted_refuses_audited_routes_until_it_is_back() {
    for durability in ["buffered", "fsync"] {
        let endpoint = Endpoint::answering("ok");
        let lines = format!("durability = \"{durability}\"\nwait_max = \"500ms\"");
        let (mut gateway, logs) = with_directory(&endpoint, &lines);
        assert_eq!(gateway.client().get("/pay", "").status, 200);
        until("both lines", || count(&gateway, "records") == 3);
        fs::remove_dir_all(&logs).unwrap();
        // The one by which it is found out: refused, or sent and its answer withheld.
        let mut first = gateway.client();
        first.send("GET /pay HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = first.try_answer(false).map(|answer| answer.status);
        assert_eq!(answer, (durability == "fsync").then_some(503));
        assert!(is_failing(&gateway));
        let (sent, refused) = (endpoint.count(), count(&gateway, "refused"));
        for number in 1..=3 {
            let answer = gateway.client().post("/pay", "", b"body");
            assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
            assert_eq!(answer.field("tollgate-delivery"), Some("not-sent"));
            assert_eq!(count(&gateway, "refused"), refused + number);
        }
        assert_eq!(endpoint.count(), sent, "nothing was forwarded");
        assert_eq!(gateway.client().get("/free", "").status, 200);
        said_once(&gateway, "the audit log cannot be written");
        fs::create_dir(&logs).unwrap();
        // Without another request.
        until("the log", || !is_failing(&gateway));
        assert_eq!(gateway.client().get("/pay", "").status, 200);
        until("the news", || times_said(&gateway, "the audit log can be written again") == 1);
        gateway.signal("TERM");
        gateway.wait();
        let (code, said) = verify(&gateway, &["--ended", "logs/audit.log"]);
        assert!(code == Some(0) && said.contains("goes on here from an earlier file"), "{said}");
    }
}

#[test]
fn a_directory_that_is_deleted_loses_only_what_is_counted_where_records_may_be_dropped() {
    let endpoint = Endpoint::answering("ok");
    let lines = "on_full = \"drop\"\nring = \"64KiB\"\nwait_max = \"100ms\"";
    let (mut gateway, logs) = with_directory(&endpoint, lines);
    let mut client = gateway.client();
    assert_eq!(client.get("/pay", "").status, 200);
    until("both lines", || count(&gateway, "records") == 3);
    fs::remove_dir_all(&logs).unwrap();
    let mut sent = 0;
    until("dropped records", || {
        for _ in 0..50 {
            assert_eq!(client.get("/pay", "").status, 200);
            sent += 1;
        }
        count(&gateway, "dropped") > 10
    });
    drop(client);
    let dropped = count(&gateway, "dropped");
    said_once(&gateway, "the audit log cannot be written");
    fs::create_dir(&logs).unwrap();
    until("the log", || !is_failing(&gateway));
    gateway.signal("TERM");
    gateway.wait();
    let lines = gateway.lines_so_far("logs/audit.log");
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).count() as u64;
    let told: u64 = lines.iter().filter_map(|line| line["records"].as_u64()).sum();
    assert_eq!(told, dropped, "what was dropped is marked");
    assert_eq!(
        of("intent") + of("outcome") + told,
        2 * sent,
        "what is there and what is missing is all there was"
    );
    let (code, said) = verify(&gateway, &["--ended", "logs/audit.log"]);
    assert_eq!(code, Some(0), "{said}");
}

/// A file that was moved with its directory is still one that somebody has: it takes all records, until there is another
/// directory and the gateway is told so.
#[test]
fn a_directory_that_is_moved_away_takes_the_log_with_it() {
    let endpoint = Endpoint::answering("ok");
    let (mut gateway, logs) = with_directory(&endpoint, "");
    let away = logs.with_file_name("away");
    assert_eq!(gateway.client().get("/pay", "").status, 200);
    until("both lines", || count(&gateway, "records") == 3);
    fs::rename(&logs, &away).unwrap();
    for _ in 0..3 {
        assert_eq!(gateway.client().get("/pay", "").status, 200);
    }
    assert!(!is_failing(&gateway) && count(&gateway, "refused") == 0);
    said_once(&gateway, "the audit log stays in its file");
    fs::create_dir(&logs).unwrap();
    gateway.signal("USR1");
    until("another file", || logs.join("audit.log").exists());
    assert_eq!(gateway.client().get("/pay", "").status, 200);
    gateway.signal("TERM");
    gateway.wait();
    let (code, said) = verify(&gateway, &["--ended", "away/audit.log", "logs/audit.log"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("10 records of 1 processes"), "{said}");
    assert_eq!(times_said(&gateway, "the audit log stays in its file"), 1, "{:?}", gateway.said());
}
