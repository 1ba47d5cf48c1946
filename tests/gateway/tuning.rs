//! `tollgate tune`: a machine is changed, and comes back as it was, whatever happens in between.
//!
//! The machine is a directory of files, but for one test that changes a network namespace of its own.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::rig::{Directory, tollgate, until};

const SOMAXCONN: &str = "proc/sys/net/core/somaxconn";
const SWAPPINESS: &str = "proc/sys/vm/swappiness";
const JOURNAL: &str = "var/lib/tollgate/tune/journal.json";

/// A machine with two settings that are not as wanted.
fn machine() -> Directory {
    let directory = Directory::new();
    put(directory.path(), SOMAXCONN, "128\n");
    put(directory.path(), SWAPPINESS, "60\n");
    put(directory.path(), "sys/devices/system/cpu/online", "0-3\n");
    directory
}

fn put(root: &Path, node: &str, content: &str) {
    fs::create_dir_all(root.join(node).parent().unwrap()).unwrap();
    fs::write(root.join(node), content).unwrap();
}

fn read(root: &Directory, node: &str) -> String {
    fs::read_to_string(root.path().join(node)).unwrap().trim().to_owned()
}

/// Runs `tollgate tune` on `root`; its exit code and what it printed.
#[track_caller]
fn tune(root: &Directory, arguments: &[&str]) -> (i32, String) {
    let (verb, rest) = arguments.split_first().unwrap();
    let output = tollgate(root.path(), &[&["tune", verb, "--root", "."], rest].concat());
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[test]
fn a_plan_is_made_applied_looked_at_and_undone() {
    let root = machine();
    let (code, said) = tune(&root, &["plan"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("set   net.core.somaxconn: 128 -> 4096\n"), "{said}");
    assert!(said.contains("2 settings differ; nothing was changed\n"), "{said}");
    assert!(!root.path().join("var").exists() && read(&root, SOMAXCONN) == "128");

    let (code, said) = tune(&root, &["apply"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!((read(&root, SOMAXCONN), read(&root, SWAPPINESS)), ("4096".into(), "10".into()));
    let (code, said) = tune(&root, &["status"]);
    assert!(code == 0 && said.contains("/proc/sys/vm/swappiness: 10 is in force, 60 before\n"), "{said}");

    // Somebody else has an opinion, too.
    put(root.path(), SWAPPINESS, "1\n");
    let (code, said) = tune(&root, &["status", "--json"]);
    let status: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &status["entries"][1]["standing"]), (1, &"changed-since".into()));
    let (code, said) = tune(&root, &["revert"]);
    assert_eq!(code, 0, "{said}");
    let left = "swappiness: somebody has set it to 1 since (ours was 10, before that 60); left\n";
    assert!(said.contains(left), "{said}");
    assert_eq!((read(&root, SOMAXCONN), read(&root, SWAPPINESS)), ("128".into(), "1".into()));
    assert!(!root.path().join(JOURNAL).exists());
    assert_eq!(tune(&root, &["revert"]), (0, "there is nothing to undo\n".to_owned()));
}

#[test]
fn groups_and_mistakes() {
    let root = machine();
    tune(&root, &["apply", "--group", "memory"]);
    assert_eq!((read(&root, SOMAXCONN), read(&root, SWAPPINESS)), ("128".into(), "10".into()));
    let (code, said) = tune(&root, &["plan", "--group", "netwrok"]);
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("\"netwrok\" is no group; there are network, memory"), "{said}");
    assert_eq!(tune(&root, &["plan", "--cpus", "4-1"]).0, 64);
    let (code, said) = tune(&root, &["plan", "--only", "net.core.somaxcon"]);
    assert!(code == 64 && said.contains("is no knob (did you mean net.core.somaxconn?)"), "{said}");
    assert_eq!(tune(&root, &["apply", "--only", "vm.swappiness", "--group", "network"]).0, 64);
    let (_, said) = tune(&root, &["plan", "--only", "net.core.somaxconn"]);
    assert!(said.contains("1 settings differ") && said.contains("somaxconn: 128 -> 4096"), "{said}");
    tune(&root, &["apply", "--only", "net.core.somaxconn"]);
    assert_eq!(tune(&root, &["revert", "--only", "net.core.somaxconn"]).0, 0);
    assert_eq!((read(&root, SOMAXCONN), read(&root, SWAPPINESS)), ("128".into(), "10".into()));
    put(root.path(), JOURNAL, "{");
    let (code, said) = tune(&root, &["apply"]);
    assert!(code == 1 && said.contains("is not a journal of this version"), "{said}");
    assert!(said.ends_with("; nothing was changed\n"), "{said}");
    assert_eq!(read(&root, SOMAXCONN), "128", "without a journal nothing is changed");
}

/// Broken by a journal that is written after the change, or only at the end.
#[test]
fn an_apply_that_is_killed_half_way_can_be_undone() {
    let root = machine();
    // Whoever opens a pipe waits for the other end: the second setting is begun and never done.
    let pipe = root.path().join(SWAPPINESS);
    fs::remove_file(&pipe).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut apply = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["tune", "apply", "--root", "."])
        .current_dir(root.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    fs::OpenOptions::new().write(true).open(&pipe).unwrap().write_all(b"60\n").unwrap();
    until("the second setting to be begun", || {
        let journal = fs::read_to_string(root.path().join(JOURNAL)).unwrap_or_default();
        journal.contains("\"written\"") && journal.contains("\"writing\"")
    });
    apply.kill().unwrap();
    apply.wait().unwrap();
    fs::remove_file(&pipe).unwrap();
    // The kernel made something of it that nobody had asked for.
    put(root.path(), SWAPPINESS, "11\n");
    assert_eq!(read(&root, SOMAXCONN), "4096");

    let (code, said) = tune(&root, &["status"]);
    assert!(code == 0 && said.contains("somaxconn: 4096 is in force, 128 before"), "{said}");
    let (code, said) = tune(&root, &["revert"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!((read(&root, SOMAXCONN), read(&root, SWAPPINESS)), ("128".into(), "60".into()));
    assert!(!root.path().join(JOURNAL).exists());
}

/// The command that applied has ended when the time is over, as after the loss of its terminal.
#[test]
fn what_nobody_confirms_is_undone() {
    let root = machine();
    let (code, said) = tune(&root, &["apply", "--confirm-within", "1s"]);
    assert!(code == 0 && said.contains("undone in 1s unless `tollgate tune confirm` is run"), "{said}");
    until("the undoing", || !root.path().join(JOURNAL).exists());
    assert_eq!((read(&root, SOMAXCONN), read(&root, SWAPPINESS)), ("128".into(), "60".into()));
    // Who has undone it lets go of the journal a moment after its end.
    until("nobody to wait", || {
        let (code, said) = tune(&root, &["confirm"]);
        code == 1 && said.contains("nothing waits for a confirmation")
    });

    // Not much longer than it takes: were this test ended here, somebody would go on watching for so long.
    tune(&root, &["apply", "--confirm-within", "1m"]);
    assert_eq!(tune(&root, &["confirm"]), (0, "confirmed: 2 settings stay\n".to_owned()));
    assert_eq!((read(&root, SOMAXCONN), read(&root, SWAPPINESS)), ("4096".into(), "10".into()));
}

/// Broken by a second change that goes with the first, or keeps it, though nobody confirmed that.
#[test]
fn nothing_is_applied_while_an_earlier_change_waits() {
    let root = machine();
    let (code, said) = tune(&root, &["apply", "--group", "network", "--confirm-within", "1m"]);
    assert_eq!(code, 0, "{said}");
    let waits = "nothing was changed: an earlier apply of 1 settings waits for its confirmation and undoes itself in ";
    let load = ["verify", "--target", "http://127.0.0.1:1/", "--loadtest", "/bin/false", "--group", "memory"];
    for more in
        [&["apply"][..], &["apply", "--confirm-within", "1m"], &["apply", "--group", "network"], &load]
    {
        let (code, said) = tune(&root, more);
        assert!(code == 1 && said.contains(waits), "{more:?}: {said}");
        assert!(
            said.contains("`tollgate tune confirm`") && said.contains("`tollgate tune revert`"),
            "{said}"
        );
    }
    assert_eq!((read(&root, SOMAXCONN), read(&root, SWAPPINESS)), ("4096".into(), "60".into()));
    assert_eq!(tune(&root, &["confirm"]).0, 0);
    assert_eq!(tune(&root, &["apply"]).0, 0);
    assert_eq!((read(&root, SOMAXCONN), read(&root, SWAPPINESS)), ("4096".into(), "10".into()));
    // Whoever watched died with the machine, or was killed: nothing will be undone, and nothing is kept either.
    let journal = fs::read_to_string(root.path().join(JOURNAL)).unwrap();
    let late = journal.replace("\"confirm_by_s\": null", "\"confirm_by_s\": 7").replace("true", "false");
    fs::write(root.path().join(JOURNAL), late).unwrap();
    let (code, said) = tune(&root, &["apply"]);
    assert!(code == 1 && said.contains("of 2 settings") && said.contains("and nobody did"), "{said}");
    assert_eq!(tune(&root, &["revert"]).0, 0);
    assert_eq!((read(&root, SOMAXCONN), read(&root, SWAPPINESS)), ("128".into(), "60".into()));
}

/// A load generator whose figures depend on the settings, so that the ratio is known.
#[test]
fn the_effect_is_measured_group_by_group() {
    let root = machine();
    let script = root.path().join("loadtest");
    let text = "#!/bin/sh\nread -r value < proc/sys/vm/swappiness\ncpu=20; [ \"$value\" = 60 ] || cpu=18\n\
                printf '{\"void\":false,\"void_reason\":null,\"error_share\":0.0,\"rate_achieved\":5,\
                \"response_us\":{\"p50\":1.0,\"p99\":2.0},\"cpu_us_per_request\":%s}' $cpu\n";
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let options =
        ["--target", "http://127.0.0.1:1/", "--loadtest", "./loadtest", "--pairs", "6", "--group", "memory"];
    let (code, said) = tune(&root, &[&["verify"][..], &options, &["--group", "cpu"]].concat());
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("memory: 1 settings, 6 pairs\n  CPU per request ×0.900 (0.900 to 0.900)\n"),
        "{said}"
    );
    assert!(said.contains("  p99 ×1.000 (1.000 to 1.000), no measurable effect\n"), "{said}");
    assert!(said.contains("cpu: there is nothing to change, so nothing to measure\n"), "{said}");
    assert_eq!(read(&root, SWAPPINESS), "60", "the machine is as it was found");
    tune(&root, &["apply"]);
    let (_, said) = tune(&root, &[&["verify", "--json"][..], &options].concat());
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["groups"][0]["comparisons"][0]["measurable"], true, "{said}");
    let one = [&["verify"][..], &options[..6], &["--only", "vm.swappiness"]].concat();
    let (_, said) = tune(&root, &one);
    assert!(said.contains("vm.swappiness: 1 settings, 6 pairs\n  CPU per request ×0.900"), "{said}");
    assert_eq!(read(&root, SWAPPINESS), "10", "the machine is as it was found");
    fs::write(&script, "#!/bin/sh\necho 'no gateway' >&2; exit 2\n").unwrap();
    let (code, said) = tune(&root, &[&["verify"][..], &options].concat());
    assert!(code == 1 && said.contains("no gateway"), "{said}");
    assert_eq!(read(&root, SWAPPINESS), "10", "the machine is as it was found");
}

/// The kernel's own settings, in a network namespace that nobody else has.
#[test]
fn a_real_network_stack_is_changed_and_comes_back() {
    let may = Command::new("unshare").args(["-n", "true"]).stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no network namespace can be made here");
        return;
    }
    let own = |node: &str| fs::read_to_string(format!("/proc/sys/net/{node}")).unwrap();
    let nodes = ["ipv4/ip_local_port_range", "ipv4/tcp_tw_reuse", "ipv4/tcp_rmem"];
    let before = nodes.map(own);
    let directory = Directory::new();
    let look = "cat /proc/sys/net/ipv4/ip_local_port_range /proc/sys/net/ipv4/tcp_tw_reuse /proc/sys/net/ipv4/tcp_rmem";
    let script = format!(
        "T=\"$TOLLGATE tune\"; J='--journal j/journal.json'; {look} > 1; $T apply $J --group network > applied; {look} > 2; \
         $T status $J > status; $T revert $J > reverted; {look} > 3"
    );
    let run = Command::new("unshare")
        .args(["-n", "sh", "-c", &script])
        .env("TOLLGATE", env!("CARGO_BIN_EXE_tollgate"))
        .current_dir(directory.path())
        .status();
    assert!(run.unwrap().success());
    let [first, second, third] = ["1", "2", "3"].map(|name| read(&directory, name));
    let numbers: Vec<u64> = second.split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert!(numbers[0] <= 10240 && numbers[1] == 65535 && numbers[2] == 1, "{second}");
    assert!(numbers[5] >= 16_777_216, "{second}");
    assert_eq!(first, third, "{}", read(&directory, "reverted"));
    assert!(!directory.path().join("j/journal.json").exists());
    assert_eq!(nodes.map(own), before, "the machine's own");
}
