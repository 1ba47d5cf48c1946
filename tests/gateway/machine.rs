//! The commands that look at the machine: this one, and a made-up one below another root.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    config::{GOOD, code, said, written},
    rig::{Directory, tollgate},
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
