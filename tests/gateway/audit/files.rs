//! Files that are put aside, followed by others, written by two processes; checkpoints that go elsewhere.

use std::{fs, process::Command};

use super::{audited, events, verify};
use crate::rig::{Endpoint, Gateway, until};

/// The audit log and what was put aside of it, by name.
fn files(gateway: &Gateway) -> Vec<String> {
    let entries = fs::read_dir(gateway.directory()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("audit.log")).collect()
}

#[test]
fn rotation_cuts_no_chain() {
    let endpoint = Endpoint::answering("ok");
    let mut gateway = audited(&endpoint, "rotate_bytes = \"64KiB\"").shards(2).start();
    let path = format!("/pay/{}", "x".repeat(1_500));
    let mut sent = 0;
    until("three files", || {
        (0..20).for_each(|_| assert_eq!(gateway.client().get(&path, "").status, 200));
        sent += 20;
        files(&gateway).len() >= 3
    });
    gateway.signal("TERM");
    gateway.wait();
    let names = files(&gateway);
    let arguments: Vec<&str> = names.iter().map(String::as_str).chain(["--ended"]).collect();
    let (code, said) = verify(&gateway, &arguments);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("{} records of 1 processes", 2 * sent)), "{said}");
    // The one in use by itself says what it does not know.
    let (code, said) = verify(&gateway, &["--ended", "audit.log"]);
    assert!(code == Some(0) && said.contains("goes on here from an earlier file"), "{said}");
    // One in the middle that is missing is missed.
    let mut aside: Vec<&str> = names.iter().map(String::as_str).filter(|name| *name != "audit.log").collect();
    aside.sort_unstable();
    let (code, said) = verify(&gateway, &[aside[0], "audit.log"]);
    assert!(code == Some(1) && said.contains("missing"), "{said}");
}

#[test]
fn a_file_that_was_moved_away_is_followed_by_another() {
    let endpoint = Endpoint::answering("ok");
    let mut gateway = audited(&endpoint, "").start();
    assert_eq!(gateway.client().get("/pay", "").status, 200);
    until("the outcome", || events(&gateway, "outcome").len() == 1);
    fs::rename(gateway.directory().join("audit.log"), gateway.directory().join("audit.log.1")).unwrap();
    assert_eq!(gateway.client().get("/pay", "").status, 200);
    until("the outcome", || events(&gateway, "outcome").len() == 1);
    fs::remove_file(gateway.directory().join("audit.log")).unwrap();
    assert_eq!(gateway.client().get("/pay", "").status, 200);
    until("the outcome", || events(&gateway, "outcome").len() == 1);
    gateway.signal("TERM");
    gateway.wait();
    let (code, said) = verify(&gateway, &["audit.log", "audit.log.1"]);
    assert!(code == Some(1) && said.contains("missing"), "what was deleted is missed: {said}");
    assert_eq!(verify(&gateway, &["audit.log", "--ended"]).0, Some(0));
}

#[test]
fn another_key_begins_another_file() {
    let endpoint = Endpoint::answering("ok");
    let mut first = audited(&endpoint, "").start();
    assert_eq!(first.client().get("/pay", "").status, 200);
    first.signal("TERM");
    first.wait();
    let directory = audited(&endpoint, "").file("audit.key", &[b'n'; 40]).write();
    let old = fs::read(first.directory().join("audit.log")).unwrap();
    fs::write(directory.path().join("audit.log"), old).unwrap();
    let mut second = audited(&endpoint, "").file("audit.key", &[b'n'; 40]).start_in(directory);
    assert_eq!(second.client().get("/pay", "").status, 200);
    second.signal("TERM");
    second.wait();
    assert_eq!(verify(&second, &["--ended", "audit.log"]).0, Some(0));
    let aside = files(&second).into_iter().find(|name| name != "audit.log").unwrap();
    fs::write(second.directory().join("audit.key"), super::KEY).unwrap();
    assert_eq!(verify(&second, &["--ended", &aside]).0, Some(0));
}

#[test]
fn two_processes_share_a_file_while_one_succeeds_the_other() {
    let endpoint = Endpoint::answering("ok");
    let mut gateway = audited(&endpoint, "durability = \"fsync\"").shards(2).start();
    assert_eq!(gateway.client().get("/pay", "").status, 200);
    gateway.signal("USR2");
    until("the successor", || gateway.said().iter().any(|line| line.contains(" serves; parting")));
    let said = gateway.said();
    let line = said.iter().find_map(|line| line.split_once("successor ")?.1.split_once(" serves")).unwrap();
    let successor = line.0.to_owned();
    gateway.wait();
    for _ in 0..5 {
        assert_eq!(gateway.client().get("/pay", "").status, 200);
    }
    assert!(Command::new("kill").arg(&successor).status().unwrap().success());
    until("both ends", || events(&gateway, "end").len() == 2);
    let (code, said) = verify(&gateway, &["--ended", "audit.log"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("12 records of 2 processes"), "{said}");
}

#[test]
fn checkpoints_go_elsewhere_and_tell_what_was_cut() {
    let endpoint = Endpoint::answering("ok");
    let received = Endpoint::answering("ok");
    let anchors = format!("anchor = [\"anchors\", \"stdout\", \"http://{}/checkpoints\"]", received.address);
    let mut gateway = audited(&endpoint, &format!("{anchors}\ncheckpoint = \"100ms\"")).start();
    for _ in 0..3 {
        assert_eq!(gateway.client().get("/pay", "").status, 200);
    }
    until("a checkpoint elsewhere", || {
        let anchored = fs::read_to_string(gateway.directory().join("anchors")).unwrap_or_default();
        anchored.contains("\"seq\":6,\"mac\"")
    });
    until("a posted one", || received.count() >= 2);
    assert!(received.seen(2)[0].head.starts_with("POST /checkpoints "));
    gateway.signal("KILL");
    gateway.wait();
    for anchor in ["anchors", "stdout"] {
        let (code, said) = verify(&gateway, &["--anchor", anchor, "audit.log"]);
        assert_eq!(code, Some(0), "{anchor}: {said}");
    }
    let path = gateway.directory().join("audit.log");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().take(4).collect();
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    assert_eq!(verify(&gateway, &["audit.log"]).0, Some(0), "the file alone cannot tell");
    let (code, said) = verify(&gateway, &["--anchor", "anchors", "audit.log"]);
    assert!(code == Some(1) && said.contains("the end was cut off"), "{said}");
}
