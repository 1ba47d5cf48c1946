//! Where threads run: shards on the CPUs they were given, all else where no shard is.

use std::fs;

use crate::{
    config::{GOOD, code, said, written},
    rig::{Directory, Endpoint, Setup, tollgate, until},
};

/// The CPUs that this process, and so what it starts, may run on.
pub(crate) fn usable_cpus() -> Vec<usize> {
    let list = allowed("/proc/self/status");
    let ranges = list.split(',').map(|range| range.split_once('-').unwrap_or((range, range)));
    ranges.flat_map(|(first, last)| first.parse().unwrap()..=last.parse().unwrap()).collect()
}

/// The threads of a process: the name of each, and the CPUs it may run on.
pub(crate) fn threads(pid: u32) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let threads = tasks.map(|task| {
        let task = task.unwrap().path();
        let name = fs::read_to_string(task.join("comm")).unwrap().trim().to_owned();
        (name, allowed(&task.join("status").display().to_string()))
    });
    threads.collect()
}

fn allowed(status: &str) -> String {
    let status = fs::read_to_string(status).unwrap();
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
}

/// Broken by threads that begin with a shard's CPU, or by a log that fights with a shard over one.
#[test]
fn shards_have_their_cpu_and_the_others_have_the_rest() {
    let usable = usable_cpus();
    let [first, .., last] = usable[..] else {
        eprintln!("skipped: this takes two CPUs");
        return;
    };
    let endpoint = Endpoint::answering("ok");
    let others: Vec<usize> = usable.iter().filter(|cpu| **cpu != last).copied().collect();
    let setup = Setup::proxy(endpoint.address).shards(1);
    let gateway = setup.set("shards", &format!("cpus = \"{last}\"\nreserve = \"{first}\"")).start();
    assert!(others.contains(&first));
    assert_eq!(gateway.client().get("/", "").text(), "ok");
    // A thread begins with the CPUs of who started it, and has its own a moment later.
    until("the threads' CPUs", || {
        let threads = threads(gateway.pid());
        assert!(threads.len() >= 3, "{threads:?}");
        threads.iter().all(|(name, cpus)| {
            let wanted = if name == "shard-0" { last } else { first };
            *cpus == wanted.to_string()
        })
    });
    let said = gateway.said().join("\n");
    assert!(said.contains(&format!("shard 0 on CPU {last}")), "{said}");
    assert!(said.contains(&format!("control, log and all else on CPUs {first}")), "{said}");
}

#[test]
fn cpus_that_cannot_be_had_are_refused_with_the_key() {
    let run = |shards: &str| {
        let text = format!(
            "[listen]\naddress = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n[log]\naccess = \"off\"\n\
             [shards]\n{shards}\n{GOOD}"
        );
        tollgate(written(text.as_bytes()).path(), &["run", "--config", "t.toml"])
    };
    for (shards, words) in [
        ("cpus = \"4000\"", "shards.cpus: CPU 4000 cannot be used; this process may run on"),
        ("reserve = \"4000\"", "shards.reserve: there is no CPU 4000; this machine has"),
        ("cpus = \"performance\"\ncount = 1024", "shards.count: 1024 is more than the CPUs that"),
        ("cpus = \"none\"\nreserve = \"auto\"", "shards.reserve: nothing can be kept free of shards"),
        ("cpus = \"0-1\"\nreserve = \"1\"", "shards.reserve: CPU 1 is kept free of shards here"),
        ("threads_per_core = 2", "shards.threads_per_core: \"2\" is neither \"all\" nor 1"),
        ("reserve = \"half\"", "shards.reserve: \"half\" is neither \"none\", \"auto\" nor a list"),
    ] {
        let output = run(shards);
        assert_eq!(code(&output), Some(78), "{shards}: {}", said(&output));
        assert!(said(&output).contains(words), "{shards}: {}", said(&output));
    }
}

/// Broken by a profile with a key that was renamed, or a value that is out of range.
#[test]
fn every_profile_is_accepted() {
    let profiles = format!("{}/tuning/profiles", env!("CARGO_MANIFEST_DIR"));
    let files: Vec<_> = fs::read_dir(profiles).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 4, "{files:?}");
    let directory = Directory::new();
    for file in files {
        let output = tollgate(directory.path(), &["check", file.to_str().unwrap()]);
        assert_eq!(code(&output), Some(0), "{}: {}", file.display(), said(&output));
    }
}
