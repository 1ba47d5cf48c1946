//! The log writer: rotation, full rings, full disks. A line may be missing; never in silence.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::symlink,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use serde_json::Value;

use super::{Line, last_lines, raw_lines};
use crate::rig::{Client, Endpoint, Exposition, Gateway, Setup, until};

/// Lines and missing lines among `lines`, all of which must be one or the other.
fn tally<'l>(lines: impl Iterator<Item = &'l str>) -> (u64, u64) {
    let (mut written, mut missing) = (0, 0);
    for line in lines {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if value["event"] == "log_gap" {
            let dropped = value["dropped"].as_u64().unwrap();
            assert!(dropped > 0, "{line}");
            missing += dropped;
        } else {
            Line::parse(line);
            written += 1;
        }
    }
    (written, missing)
}

/// Lines written and lines dropped, as the metrics have it.
fn counted(gateway: &Gateway) -> (u64, u64) {
    let metrics = Exposition::parse(&gateway.admin_get("/metrics").1);
    let value = |name| metrics.value(name, &[]) as u64;
    (value("tollgate_log_lines_total"), value("tollgate_log_dropped_total"))
}

#[test]
fn rotation_loses_no_line_and_leaves_the_old_file_alone() {
    const ROTATIONS: usize = 4;
    let endpoint = Endpoint::answering("ok");
    let mut gateway = Setup::proxy(endpoint.address).shards(2).start();
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..3)
        .map(|number| {
            let (stop, address) = (Arc::clone(&stop), gateway.address);
            thread::spawn(move || {
                let mut client = Client::connect(address);
                let mut sent = 0;
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(client.get("/", &format!("X-Request-Id: {number}-{sent}\r\n")).status, 200);
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    let log = gateway.directory().join("access.log");
    let name = |rotation: usize| gateway.directory().join(format!("access.log.{rotation}"));
    let mut sizes = Vec::new();
    for rotation in 0..ROTATIONS {
        raw_lines(&gateway, "access.log", 20);
        fs::rename(&log, name(rotation)).unwrap();
        gateway.signal("USR1");
        until("a new file", || log.exists());
        sizes.push(fs::metadata(name(rotation)).unwrap().len());
    }
    raw_lines(&gateway, "access.log", 20);
    stop.store(true, Ordering::SeqCst);
    let sent: Vec<usize> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let mut lines = Vec::new();
    for (rotation, size) in sizes.iter().enumerate() {
        assert_eq!(fs::metadata(name(rotation)).unwrap().len(), *size, "the old file grew after the new one");
        lines.extend(raw_lines(&gateway, &format!("access.log.{rotation}"), 1));
    }
    lines.extend(last_lines(&mut gateway, "access.log"));
    let mut ids: Vec<String> =
        lines.iter().map(|text| Line::parse(text).text("request_id").to_owned()).collect();
    let mut expected: Vec<String> = sent
        .iter()
        .enumerate()
        .flat_map(|(number, sent)| (0..*sent).map(move |request| format!("{number}-{request}")))
        .collect();
    ids.sort();
    expected.sort();
    assert!(ids == expected, "{} lines for {} requests", ids.len(), expected.len());
}

#[test]
fn a_log_that_cannot_be_opened_anew_goes_on_as_it_was() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address).start();
    let mut client = gateway.client();
    assert_eq!(client.get("/1", "").status, 200);
    raw_lines(&gateway, "access.log", 1);
    let log = gateway.directory().join("access.log");
    fs::rename(&log, gateway.directory().join("old.log")).unwrap();
    fs::create_dir(&log).unwrap();
    gateway.signal("USR1");
    until("a warning", || gateway.said().iter().any(|line| line.contains("WARN") && line.contains("anew")));
    assert_eq!(client.get("/2", "").status, 200);
    assert_eq!(Line::parse(&raw_lines(&gateway, "old.log", 2)[1]).text("path"), "/2");
    fs::remove_dir(&log).unwrap();
    gateway.signal("USR1");
    until("a new file", || log.exists());
    assert_eq!(client.get("/3", "").status, 200);
    assert_eq!(Line::parse(&raw_lines(&gateway, "access.log", 1)[0]).text("path"), "/3");
    gateway.stop();
}

#[test]
fn a_log_nobody_reads_stops_no_request_and_says_what_is_missing() {
    let endpoint = Endpoint::answering("ok");
    let setup = Setup::proxy(endpoint.address).set("log", "ring = \"64KiB\"");
    let directory = setup.write();
    let pipe = directory.path().join("access.log");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Open for reading too, so that neither side waits for the other.
    let reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let gateway = setup.start_in(directory);
    let mut client = gateway.client();
    let mut requests = 0;
    while counted(&gateway).1 < 50 {
        for _ in 0..100 {
            assert_eq!(client.get("/", "").status, 200);
            requests += 1;
        }
        assert!(requests < 100_000, "the ring has no end");
    }
    let missing = counted(&gateway).1;
    let mut lines = BufReader::new(reader).lines();
    let (mut written, mut said) = (0, 0);
    while written + said < requests {
        let (line, gap) = tally(std::iter::once(lines.next().unwrap().unwrap().as_str()));
        (written, said) = (written + line, said + gap);
    }
    assert_eq!((written, said), (requests - missing, missing));
    // From here on it is a log like any other.
    assert_eq!(client.get("/last", "").status, 200);
    assert_eq!(Line::parse(&lines.next().unwrap().unwrap()).text("path"), "/last");
    until("the counters", || counted(&gateway) == (written + 1, missing));
    gateway.stop();
}

#[test]
fn a_full_disk_stops_no_request_and_is_said_once_there_is_room() {
    let endpoint = Endpoint::answering("ok");
    let setup = Setup::proxy(endpoint.address);
    let directory = setup.write();
    let log = directory.path().join("access.log");
    symlink("/dev/full", &log).unwrap();
    let mut gateway = setup.start_in(directory);
    let mut client = gateway.client();
    for _ in 0..20 {
        assert_eq!(client.get("/", "").status, 200);
    }
    until("the counters", || counted(&gateway) == (0, 20));
    // It was said before it was counted, but what is said takes a while to get here.
    let warnings = || gateway.said().iter().filter(|line| line.contains("lines are being lost")).count();
    until("the warning", || warnings() > 0);
    assert_eq!(warnings(), 1, "{:?}", gateway.said());
    fs::remove_file(&log).unwrap();
    gateway.signal("USR1");
    // Without another request.
    assert_eq!(tally(raw_lines(&gateway, "access.log", 1).iter().map(String::as_str)), (0, 20));
    assert_eq!(client.get("/", "").status, 200);
    until("the counters", || counted(&gateway) == (1, 20));
    let lines = last_lines(&mut gateway, "access.log");
    assert_eq!(tally(lines.iter().map(String::as_str)), (1, 20));
}

#[test]
fn drops_of_a_full_ring_are_said_even_if_the_disk_was_full_as_well() {
    let endpoint = Endpoint::answering("ok");
    let setup = Setup::proxy(endpoint.address).set("log", "ring = \"64KiB\"");
    let directory = setup.write();
    let log = directory.path().join("access.log");
    assert!(Command::new("mkfifo").arg(&log).status().unwrap().success());
    let reader = fs::OpenOptions::new().read(true).write(true).open(&log).unwrap();
    let mut gateway = setup.start_in(directory);
    let mut client = gateway.client();
    let mut requests = 0;
    while counted(&gateway).1 < 50 {
        for _ in 0..100 {
            assert_eq!(client.get("/", "").status, 200);
            requests += 1;
        }
        assert!(requests < 100_000, "the ring has no end");
    }
    // The reader goes away: what the writer is at and all that follows fails.
    drop(reader);
    until("all lines to be counted", || counted(&gateway).0 + counted(&gateway).1 == requests);
    fs::remove_file(&log).unwrap();
    gateway.signal("USR1");
    raw_lines(&gateway, "access.log", 1);
    let (written, missing) = counted(&gateway);
    let lines = last_lines(&mut gateway, "access.log");
    // What the pipe held of whole lines went with its reader.
    assert_eq!(tally(lines.iter().map(String::as_str)), (0, missing));
    assert_eq!(written + missing, requests);
}

#[test]
fn standard_output_is_a_log_too_and_off_is_none() {
    let endpoint = Endpoint::answering("ok");
    let mut gateway = Setup::proxy(endpoint.address).set("log", "access = \"stdout\"").start();
    assert_eq!(gateway.client().get("/a", "").status, 200);
    gateway.signal("USR1");
    let lines = last_lines(&mut gateway, "stdout");
    assert_eq!(lines.len(), 1);
    assert_eq!(Line::parse(&lines[0]).text("path"), "/a");

    let mut gateway = Setup::proxy(endpoint.address).set("log", "access = \"off\"").start();
    assert_eq!(gateway.client().get("/a", "").status, 200);
    gateway.signal("USR1");
    assert_eq!(counted(&gateway), (0, 0));
    assert!(last_lines(&mut gateway, "stdout").is_empty());
    assert!(!gateway.directory().join("access.log").exists());
}

#[test]
fn lines_look_as_the_template_says() {
    let endpoint = Endpoint::answering("ok");
    let setup =
        Setup::proxy(endpoint.address).set("log", "format = \"{method} {path} -> {status} [{user_agent}]\"");
    let mut gateway = setup.start();
    assert_eq!(gateway.client().get("/a?card=1", "User-Agent: x \"y\"\r\n").status, 200);
    let lines = last_lines(&mut gateway, "access.log");
    assert_eq!(lines, ["GET /a -> 200 [x \\x22y\\x22]"]);
}

#[test]
fn a_file_that_is_full_is_put_aside_and_loses_no_line() {
    let endpoint = Endpoint::answering("ok");
    let mut gateway = Setup::proxy(endpoint.address).set("log", "rotate_bytes = \"4KiB\"").start();
    let aside = |gateway: &Gateway| {
        let names = fs::read_dir(gateway.directory()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.retain(|name| name.starts_with("access.log."));
        names.sort();
        names
    };
    let mut client = gateway.client();
    let mut sent = 0;
    while aside(&gateway).len() < 3 {
        assert_eq!(client.get("/", &format!("X-Request-Id: r-{sent}\r\n")).status, 200);
        sent += 1;
        assert!(sent < 10_000, "no rotation");
    }
    let mut lines: Vec<String> = last_lines(&mut gateway, "access.log");
    for name in aside(&gateway) {
        assert!(fs::metadata(gateway.directory().join(&name)).unwrap().len() > 0, "{name} is empty");
        lines.extend(raw_lines(&gateway, &name, 1));
    }
    let mut ids: Vec<String> =
        lines.iter().map(|line| Line::parse(line).text("request_id").to_owned()).collect();
    let mut expected: Vec<String> = (0..sent).map(|number| format!("r-{number}")).collect();
    ids.sort();
    expected.sort();
    assert!(ids == expected, "{} lines for {sent} requests", ids.len());
}

#[test]
fn a_file_that_is_old_is_put_aside() {
    let endpoint = Endpoint::answering("ok");
    let mut gateway = Setup::proxy(endpoint.address).set("log", "rotate_age = \"1s\"").start();
    let mut client = gateway.client();
    let mut sent = 0;
    until("a second file", || {
        assert_eq!(client.get("/", "").status, 200);
        sent += 1;
        fs::read_dir(gateway.directory())
            .unwrap()
            .any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("access.log."))
    });
    last_lines(&mut gateway, "access.log");
    let files = fs::read_dir(gateway.directory()).unwrap().map(|entry| entry.unwrap().file_name());
    let files = files.filter(|name| name.to_string_lossy().starts_with("access.log"));
    let lines: usize = files.map(|name| raw_lines(&gateway, &name.to_string_lossy(), 0).len()).sum();
    assert_eq!(lines, sent);
}

/// Broken by a check that leaves it to the start. A link to itself is what nobody can write, whoever they are.
#[test]
fn a_path_that_cannot_be_written_is_refused_by_check() {
    let directory = Setup::proxy(Endpoint::nowhere()).set("log", "access = \"loop.log\"").write();
    symlink("loop.log", directory.path().join("loop.log")).unwrap();
    let ended = crate::rig::tollgate(directory.path(), &["check", "tollgate.toml"]);
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(78), "{said}");
    assert!(said.contains("log.access: ") && said.contains("loop.log cannot be written"), "{said}");
}

#[test]
fn a_directory_that_vanishes_is_said_once_and_found_again() {
    let endpoint = Endpoint::answering("ok");
    let setup = Setup::proxy(endpoint.address).set("log", "access = \"logs/access.log\"");
    let directory = setup.write();
    let logs = directory.path().join("logs");
    fs::create_dir(&logs).unwrap();
    let mut gateway = setup.start_in(directory);
    let mut client = gateway.client();
    assert_eq!(client.get("/", "").status, 200);
    until("the first line", || counted(&gateway) == (1, 0));
    fs::remove_dir_all(&logs).unwrap();
    for lost in 1..=20 {
        assert_eq!(client.get("/", "").status, 200);
        until("a lost line", || counted(&gateway) == (1, lost));
    }
    // It was said before it was counted, but what is said takes a while to get here.
    let warnings = || gateway.said().iter().filter(|line| line.contains("lines are being lost")).count();
    until("the warning", || warnings() > 0);
    assert_eq!(warnings(), 1, "{:?}", gateway.said());
    fs::create_dir(&logs).unwrap();
    assert_eq!(client.get("/", "").status, 200);
    until("a line", || counted(&gateway) == (2, 20));
    let lines = last_lines(&mut gateway, "logs/access.log");
    assert_eq!(tally(lines.iter().map(String::as_str)), (1, 20));
}

#[test]
fn syslog_gets_a_message_for_each_line_and_is_found_again() {
    let endpoint = Endpoint::answering("ok");
    let setup = Setup::proxy(endpoint.address).set("log", "access = \"syslog:log.sock\"");
    let directory = setup.write();
    let path = directory.path().join("log.sock");
    let daemon = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let gateway = setup.start_in(directory);
    let mut client = gateway.client();
    let line = |daemon: &std::os::unix::net::UnixDatagram| {
        daemon.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let mut bytes = [0; 4096];
        let length = daemon.recv(&mut bytes).expect("a message");
        let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
        let parts: Vec<&str> = text.splitn(8, ' ').collect();
        assert_eq!((parts[0], parts[3], parts[5], parts[6]), ("<134>1", "tollgate", "access", "-"), "{text}");
        assert!(parts[1].ends_with('Z') && parts[4].parse::<u32>().is_ok(), "{text}");
        parts[7].to_owned()
    };
    assert_eq!(client.get("/1", "").status, 200);
    assert_eq!(Line::parse(&line(&daemon)).text("path"), "/1");
    drop(daemon);
    fs::remove_file(&path).unwrap();
    assert_eq!(client.get("/2", "").status, 200);
    until("a lost line", || counted(&gateway) == (1, 1));
    let daemon = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    assert_eq!(tally(std::iter::once(line(&daemon).as_str())), (0, 1));
    assert_eq!(client.get("/3", "").status, 200);
    assert_eq!(Line::parse(&line(&daemon)).text("path"), "/3");
    gateway.stop();
}

#[test]
fn sampling_leaves_out_successes_only_and_everything_reconciles() {
    const ROUNDS: u64 = 400;
    let endpoint = Endpoint::scripted(|talk, seen| {
        let status = if seen.target() == "/broken" { "500 Broken" } else { "200 OK" };
        talk.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_str());
    });
    let setup = Setup::new()
        .cluster("main", &[endpoint.address], "")
        .route("all", "/good", "main", "")
        .route("broken", "/broken", "main", "")
        .set("log", "sample = \"25%\"");
    let mut gateway = setup.start();
    let mut client = gateway.client();
    for _ in 0..ROUNDS {
        for (path, status) in [("/good", 200), ("/broken", 500), ("/nowhere", 404)] {
            assert_eq!(client.get(path, "").status, status);
        }
    }
    let metric =
        |gateway: &Gateway, name| Exposition::parse(&gateway.admin_get("/metrics").1).value(name, &[]) as u64;
    let unsampled = metric(&gateway, "tollgate_log_unsampled_total");
    until("all lines", || counted(&gateway).0 + unsampled == 3 * ROUNDS);
    let lines = last_lines(&mut gateway, "access.log");
    let of = |status| lines.iter().filter(|line| Line::parse(line).number("status") == status).count() as u64;
    assert_eq!((of(500), of(404), of(200) + unsampled), (ROUNDS, ROUNDS, ROUNDS));
    // One in four, give or take more than eight standard deviations.
    assert!((30..=170).contains(&of(200)), "{} of {ROUNDS}", of(200));
}
