//! Disks that are full, hang or are slow: audited routes notice, the others do not.

use std::{
    fs::{self, File, OpenOptions},
    io::Read,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::{audited, events, verify};
use crate::rig::{Endpoint, Exposition, Gateway, until};

/// Has the log go on where nothing can be written.
fn fill(gateway: &Gateway) {
    let path = gateway.directory().join("audit.log");
    fs::rename(&path, gateway.directory().join("audit.log.before")).unwrap();
    symlink("/dev/full", &path).unwrap();
    gateway.signal("USR1");
}

/// How many exchanges ended with this code.
fn ended(gateway: &Gateway, code: &str) -> f64 {
    Exposition::parse(&gateway.admin_get("/metrics").1)
        .value("tollgate_terminations_total", &[("code", code)])
}

/// Gives it room again.
fn empty(gateway: &Gateway) {
    fs::remove_file(gateway.directory().join("audit.log")).unwrap();
    gateway.signal("USR1");
}

#[test]
fn a_full_disk_refuses_audited_routes_only_until_there_is_room() {
    for durability in ["buffered", "fsync"] {
        let endpoint = Endpoint::answering("ok");
        let lines = format!("durability = \"{durability}\"\nwait_max = \"500ms\"");
        let mut gateway = audited(&endpoint, &lines).start();
        assert_eq!(gateway.client().get("/pay", "").status, 200);
        fill(&gateway);
        until("the failure", || gateway.metric("tollgate_audit_failing") > 0.0);
        let before = endpoint.count();
        for _ in 0..3 {
            let answer = gateway.client().post("/pay", "", b"body");
            assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
            assert_eq!(answer.field("tollgate-delivery"), Some("not-sent"));
        }
        assert_eq!(endpoint.count(), before, "nothing was forwarded");
        assert_eq!(gateway.client().get("/free", "").status, 200);
        let refused = gateway.metric("tollgate_audit_refused_total");
        assert!((refused - 3.0).abs() < f64::EPSILON, "{refused}");
        assert!((ended(&gateway, "O9") - 3.0).abs() < f64::EPSILON, "each has its own code");
        let said = || gateway.said().iter().filter(|line| line.contains("cannot be written")).count();
        until("it to be said", || said() > 0);
        assert_eq!(said(), 1, "said once: {}", gateway.said().join("\n"));
        empty(&gateway);
        until("an answer", || gateway.client().get("/pay", "").status == 200);
        gateway.signal("TERM");
        gateway.wait();
        let (code, said) = verify(&gateway, &["--ended", "audit.log", "audit.log.before"]);
        assert_eq!(code, Some(0), "{said}");
    }
}

#[test]
fn a_full_disk_that_may_lose_records_says_how_many() {
    let endpoint = Endpoint::answering("ok");
    let lines = "on_full = \"drop\"\nring = \"64KiB\"\nwait_max = \"100ms\"\ndurability = \"fsync\"";
    let mut gateway = audited(&endpoint, lines).start();
    fill(&gateway);
    let mut client = gateway.client();
    let mut sent = 0;
    until("dropped records", || {
        for _ in 0..50 {
            assert_eq!(client.get("/pay", "").status, 200);
            sent += 1;
        }
        gateway.metric("tollgate_audit_dropped_total") > 10.0
    });
    drop(client);
    empty(&gateway);
    until("the log", || gateway.metric("tollgate_audit_failing") < 1.0);
    until("the gap", || gateway.metric("tollgate_audit_gaps_total") > 0.0);
    let dropped = gateway.metric("tollgate_audit_dropped_total") as u64;
    gateway.signal("TERM");
    gateway.wait();
    let told: u64 = events(&gateway, "gap").iter().map(|gap| gap["records"].as_u64().unwrap()).sum();
    let written = events(&gateway, "intent").len() + events(&gateway, "outcome").len();
    assert_eq!(told, dropped, "what was dropped is marked");
    assert_eq!(written as u64 + told, 2 * sent, "what is there and what is missing is all there was");
    let (code, said) = verify(&gateway, &["--ended", "audit.log", "audit.log.before"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the gateway says itself that"), "{said}");
}

/// A disk that takes nothing while it is told not to: a pipe that nobody reads.
struct Pipe {
    reads: Arc<AtomicBool>,
    taken: Arc<Mutex<Vec<u8>>>,
}

impl Pipe {
    fn at(path: &Path) -> Self {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
        // Both ends, so that nobody waits for the other.
        let pipe: File = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let (reads, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (may_read, taking) = (Arc::clone(&reads), Arc::clone(&taken));
        thread::spawn(move || {
            let mut pipe = pipe;
            let mut buffer = [0; 512];
            loop {
                until("somebody to read", || may_read.load(Ordering::SeqCst));
                let Ok(count) = pipe.read(&mut buffer) else { return };
                taking.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { reads, taken }
    }
}

#[test]
fn a_disk_that_hangs_holds_up_audited_routes_only() {
    let endpoint = Endpoint::answering("ok");
    let setup = audited(&endpoint, "wait_max = \"200ms\"");
    let directory = setup.write();
    let pipe = Pipe::at(&directory.path().join("audit.log"));
    let gateway = setup.start_in(directory);
    let path = format!("/pay/{}", "x".repeat(1_500));
    // A pipe holds 64 KiB; then the writer is stuck within a write.
    let mut withheld = 0;
    let refused = (0..500).find(|_| {
        let mut client = gateway.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        match client.try_answer(false) {
            Some(answer) if answer.status == 503 => {
                assert_eq!(answer.field("tollgate-delivery"), Some("not-sent"));
                true
            }
            Some(answer) => {
                assert_eq!(answer.status, 200);
                false
            }
            None => {
                withheld += 1;
                false
            }
        }
    });
    assert!(refused.is_some() && withheld > 0, "first answers are withheld, then requests are refused");
    assert!((ended(&gateway, "O8") - f64::from(withheld)).abs() < f64::EPSILON, "each has its own code");
    let seen = endpoint.count();
    // Broken by an endpoint that is blamed for what the disk does.
    let name = endpoint.address.to_string();
    let labels = [("cluster", "main"), ("endpoint", name.as_str()), ("result", "good")];
    let metrics = Exposition::parse(&gateway.admin_get("/metrics").1);
    let good = metrics.value("tollgate_endpoint_attempts_total", &labels);
    assert!((good - seen as f64).abs() < f64::EPSILON, "{good} of {seen} attempts were good");
    assert_eq!(gateway.client().get("/pay", "").status, 503);
    assert_eq!(endpoint.count(), seen, "what is refused was not sent");
    assert_eq!(gateway.client().get("/free", "").status, 200);
    pipe.reads.store(true, Ordering::SeqCst);
    until("an answer", || gateway.client().get("/pay", "").status == 200);
    gateway.stop();
    until("the last line", || pipe.taken.lock().unwrap().ends_with(b"\"}\n"));
    let copy = std::env::temp_dir().join(format!("tollgate-pipe-{}", std::process::id()));
    until("the end", || {
        fs::write(&copy, &*pipe.taken.lock().unwrap()).unwrap();
        fs::read_to_string(&copy).unwrap().contains("\"event\":\"end\"")
    });
    fs::write(copy.with_extension("key"), super::KEY).unwrap();
    let copied = copy.to_string_lossy().into_owned();
    let key = copy.with_extension("key").to_string_lossy().into_owned();
    let output =
        crate::rig::tollgate(Path::new("/"), &["audit", "verify", "--ended", "--key-file", &key, &copied]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let _ = (fs::remove_file(&copy), fs::remove_file(copy.with_extension("key")));
}

#[test]
fn a_disk_that_is_not_there_at_the_start_is_refused() {
    let endpoint = Endpoint::answering("ok");
    let setup = audited(&endpoint, "");
    let directory = setup.write();
    symlink("/dev/full", directory.path().join("audit.log")).unwrap();
    let output = crate::rig::tollgate(directory.path(), &["run", "--config", "tollgate.toml"]);
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("audit.path: ") && said.contains("No space left"), "{said}");
}

/// Keeps the gateway from writing until it is dropped, as a disk that takes its time does: whoever writes an audit log
/// locks it.
fn slow_disk(gateway: &Gateway) -> File {
    let file = File::open(gateway.directory().join("audit.log")).unwrap();
    file.lock().unwrap();
    file
}

#[test]
fn a_disk_that_is_slow_delays_audited_requests_and_no_others() {
    let endpoint = Endpoint::answering("ok");
    let gateway = audited(&endpoint, "durability = \"fsync\"\nwait_max = \"60s\"").start();
    let disk = slow_disk(&gateway);
    let mut waiting = gateway.client();
    waiting.send("POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    until("the request", || gateway.metric("tollgate_inflight_requests") > 0.0);
    for _ in 0..20 {
        assert_eq!(gateway.client().get("/free", "").status, 200);
    }
    assert!(
        endpoint.seen(20).iter().all(|seen| seen.target() == "/free"),
        "nothing is sent before it is on the disk"
    );
    assert_eq!(events(&gateway, "intent").len(), 0);
    drop(disk);
    assert_eq!(waiting.answer().status, 200);
    assert_eq!(endpoint.count(), 21);
    assert_eq!(events(&gateway, "outcome").len(), 1, "and the answer comes when that is, too");
    gateway.stop();
}

#[test]
fn a_disk_that_is_slower_than_the_wait_refuses_what_was_not_sent() {
    let endpoint = Endpoint::answering("ok");
    let mut gateway = audited(&endpoint, "durability = \"fsync\"\nwait_max = \"200ms\"").start();
    let disk = slow_disk(&gateway);
    for _ in 0..3 {
        let answer = gateway.client().post("/pay", "", b"body");
        assert_eq!((answer.status, answer.field("tollgate-delivery")), (503, Some("not-sent")));
    }
    assert_eq!(endpoint.count(), 0);
    drop(disk);
    until("an answer", || gateway.client().get("/pay", "").status == 200);
    gateway.signal("TERM");
    gateway.wait();
    let (code, said) = verify(&gateway, &["--ended", "audit.log"]);
    assert_eq!(code, Some(0), "{said}");
    // What was refused after it had been written down has an outcome that says so.
    let outcomes = events(&gateway, "outcome");
    assert!(
        outcomes.iter().any(|line| line["status"] == 503 && line["delivery"] == "not-sent"),
        "{outcomes:?}"
    );
}

/// What the system did not keep it may have forgotten, whatever it says next time: nothing counts as recorded until the
/// process is started anew.
#[test]
fn a_disk_that_does_not_keep_what_it_took_is_not_believed_again() {
    let endpoint = Endpoint::answering("ok");
    let mut gateway = audited(&endpoint, "durability = \"fsync\"").start();
    assert_eq!(gateway.client().get("/pay", "").status, 200);
    let path = gateway.directory().join("audit.log");
    fs::rename(&path, gateway.directory().join("audit.log.before")).unwrap();
    // A plain file that takes every write (it is the process's name) and cannot be synced.
    symlink(format!("/proc/{}/comm", gateway.pid()), &path).unwrap();
    gateway.signal("USR1");
    until("the failure", || gateway.metric("tollgate_audit_failing") > 0.0);
    let before = endpoint.count();
    for _ in 0..3 {
        let answer = gateway.client().post("/pay", "", b"body");
        assert_eq!((answer.status, answer.field("tollgate-delivery")), (503, Some("not-sent")));
    }
    assert_eq!(gateway.client().get("/free", "").status, 200);
    fs::remove_file(&path).unwrap();
    gateway.signal("USR1");
    let restart = |line: &String| line.contains("cannot be written") || line.contains("restart");
    until("what to do", || gateway.said().iter().any(restart));
    assert_eq!(gateway.client().get("/pay", "").status, 503, "another file makes no difference");
    assert_eq!(endpoint.count(), before + 1, "only what is not audited was sent");
    gateway.signal("TERM");
    gateway.wait();
    let (code, said) = verify(&gateway, &["audit.log.before"]);
    assert_eq!(code, Some(0), "what was there is whole: {said}");
}
