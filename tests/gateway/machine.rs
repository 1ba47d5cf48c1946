//! The commands that look at the machine: this one, and a made-up one below another root.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    config::{GOOD, code, said, written},
    rig::{Directory, Endpoint, Setup, tollgate},
};

/// A machine with two CPUs, of which the process may use the second.
fn made_up() -> Directory {
    let root = Directory::new();
    for (node, content) in [
        ("proc/self/status", "Cpus_allowed_list:\t1\nSeccomp:\t0\n"),
        ("proc/self/limits", "Max open files 1024 1024 files\n"),
        ("proc/sys/kernel/osrelease", "5.15.0\n"),
        ("sys/devices/system/cpu/online", "0-1\n"),
    ] {
        let path = root.path().join(node);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    root
}

fn printed(directory: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = tollgate(directory, arguments);
    assert!(!said(&output).contains("panicked"), "{}", said(&output));
    (code(&output), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn this_machine_is_drawn_and_its_block_is_accepted() {
    let directory = Directory::new();
    let (status, drawing) = printed(directory.path(), &["topology"]);
    assert_eq!(status, Some(0));
    for line in drawing.lines().filter(|line| !line.starts_with("note: ")) {
        assert!(line.chars().count() <= 80 || line.contains("may use"), "{line}");
    }
    assert!(drawing.contains("control, log and all else"), "{drawing}");
    let (_, json) = printed(directory.path(), &["topology", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let shards = json["placement"]["shards"].as_array().unwrap().len();
    assert!(shards > 0 && json["machine"]["cpus"].as_array().unwrap().len() >= shards);
    let (_, block) = printed(directory.path(), &["topology", "--format", "toml"]);
    assert!(block.starts_with(&format!("[shards]\ncount = {shards}\n")), "{block}");
    let pasted = written(format!("{block}\n{GOOD}").as_bytes());
    assert_eq!(printed(pasted.path(), &["check", "t.toml"]).0, Some(0), "{block}");
}

#[test]
fn another_machine_is_drawn_from_its_files() {
    let root = made_up();
    let at = root.path().to_str().unwrap();
    let (status, block) = printed(root.path(), &["topology", "--root", at, "--format", "toml"]);
    assert_eq!((status, block.as_str()), (Some(0), "[shards]\ncount = 1\ncpus = \"1\"\n"));
    let refused = tollgate(root.path(), &["topology", "--root", at, "--cpus", "0"]);
    assert_eq!(code(&refused), Some(78));
    assert!(said(&refused).contains("CPU 0 cannot be used; this process may run on 1"), "{}", said(&refused));
    for wrong in
        [&["--cpus", "x"][..], &["--count", "0"], &["--format", "svg"], &["--json", "--format", "toml"]]
    {
        let arguments = [&["topology"], wrong].concat();
        assert_eq!(code(&tollgate(root.path(), &arguments)), Some(64), "{wrong:?}");
    }
}

/// Broken by an exit code that hides what the lines say.
#[test]
fn the_doctor_ends_with_the_worst_of_what_it_says() {
    let root = made_up();
    let at = root.path().to_str().unwrap();
    let warns = written(format!("[log]\naccess = \"off\"\n{GOOD}").as_bytes());
    let (status, lines) = printed(warns.path(), &["doctor", "--root", at, "--config", "t.toml"]);
    assert_eq!(status, Some(1), "{lines}");
    assert!(lines.contains("warn    open-files        at most 1024 open files"), "{lines}");
    assert!(lines.contains("why:    a connection is a file"), "{lines}");
    assert!(lines.contains("do:     set LimitNOFILE="), "{lines}");
    let fails = written(format!("[shards]\ncpus = \"0\"\n{GOOD}").as_bytes());
    let arguments = ["doctor", "--root", at, "--json", "--config", "t.toml"];
    let (status, json) = printed(fails.path(), &arguments);
    assert_eq!(status, Some(2), "{json}");
    let json: Value = serde_json::from_str(&json).unwrap();
    let checks = json["checks"].as_array().unwrap();
    let placement = checks.iter().find(|check| check["id"] == "placement").unwrap();
    assert_eq!(placement["state"], "fail");
    for key in ["found", "why", "remedy", "effect"] {
        assert!(placement[key].is_string(), "{placement}");
    }
    let refused = written(b"nonsense = 1\n");
    assert_eq!(printed(refused.path(), &["doctor", "--config", "t.toml"]).0, Some(78));
    assert_eq!(printed(refused.path(), &["doctor", "--seconds", "5"]).0, Some(64));
}

/// Broken by a look at the wrong process: what shards do is only seen in the gateway's threads.
#[test]
fn the_doctor_sees_a_gateway_at_work() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address).start();
    let admin = gateway.admin.to_string();
    let arguments = ["doctor", "--json", "--live", "--seconds", "1", "--admin", &admin];
    let (_, json) = printed(gateway.directory(), &arguments);
    let json: Value = serde_json::from_str(&json).unwrap();
    let checks = json["checks"].as_array().unwrap();
    let found = |id: &str| checks.iter().find(|check| check["id"] == id).unwrap();
    assert!(found("live-preemptions")["found"].as_str().unwrap().starts_with("shards had to make room"));
    assert!(!found("live-imbalance")["found"].as_str().unwrap().contains("cannot be seen"));
    assert_ne!(found("io-uring")["state"], "unknown", "this machine was asked");
}
