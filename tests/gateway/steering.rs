//! Which shard gets a connection: the one whose CPU received it, where that is asked for.
//!
//! On loopback a connection arrives on the CPU of its client, so a client that stays on a CPU knows where that is.

use std::{fs, thread};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::{
    pinning::usable_cpus,
    rig::{Client, Endpoint, Setup, tollgate, until},
    upgrade::Dynasty,
};

/// The first two CPUs that this test may run on; none if there are fewer.
fn two_cpus() -> Option<(usize, usize)> {
    let cpus = usable_cpus();
    let two = cpus.first().copied().zip(cpus.get(1).copied());
    if two.is_none() {
        eprintln!("skipped: this machine has one CPU, and nothing to choose between");
    }
    two
}

fn steered(endpoint: &Endpoint, cpus: [usize; 2], steering: &str) -> Setup {
    Setup::proxy(endpoint.address)
        .shards(2)
        .set("shards", &format!("cpus = \"{},{}\"", cpus[0], cpus[1]))
        .set("listen", &format!("accept_steering = \"{steering}\""))
}

/// Asks once over each of `count` connections, from this CPU.
fn ask_from(cpu: usize, address: std::net::SocketAddr, count: usize) {
    let asked = thread::spawn(move || {
        let mut only = CpuSet::new();
        only.set(cpu);
        sched_setaffinity(None, &only).unwrap();
        for _ in 0..count {
            assert_eq!(Client::connect(address).get("/", "").status, 200);
        }
    });
    asked.join().unwrap();
}

fn accepts(of: &crate::rig::Gateway) -> [f64; 2] {
    [0, 1].map(|shard| of.metric(&format!("tollgate_shard_accepts_total{{shard=\"{shard}\"}}")))
}

/// Broken by a program that names sockets in another order than they joined their group.
#[test]
fn a_connection_is_accepted_on_the_cpu_that_received_it() {
    let Some((one, other)) = two_cpus() else { return };
    let endpoint = Endpoint::answering("ok");
    for cpus in [[one, other], [other, one]] {
        let gateway = steered(&endpoint, cpus, "cpu").start();
        ask_from(cpus[0], gateway.address, 40);
        assert_eq!(accepts(&gateway), [40.0, 0.0]);
        ask_from(cpus[1], gateway.address, 60);
        assert_eq!(accepts(&gateway), [40.0, 60.0]);
        let sample = format!("tollgate_accept_steering{{address=\"{}\",steering=\"cpu\"}}", gateway.address);
        assert_eq!(gateway.metric(&sample), 1.0);
        until("the imbalance", || gateway.metric("tollgate_accept_imbalance_ratio") == 1.2);
        gateway.stop();
    }
}

#[test]
fn auto_says_why_it_stays_with_hash_on_loopback() {
    let Some((one, other)) = two_cpus() else { return };
    let endpoint = Endpoint::answering("ok");
    let gateway = steered(&endpoint, [one, other], "auto").start();
    let status: serde_json::Value = serde_json::from_str(&gateway.admin_get("/status").1).unwrap();
    let steering = &status["accept_steering"][0];
    assert_eq!(
        (&steering["by"], &steering["address"]),
        (&"hash".into(), &gateway.address.to_string().into())
    );
    assert!(steering["why"].as_str().unwrap().contains("on loopback"), "{steering}");
    assert!(gateway.said().iter().any(|line| line.contains("find their shard by hash: on loopback")));
    // A client that stays on one CPU reaches both shards.
    until("both shards", || {
        ask_from(one, gateway.address, 10);
        accepts(&gateway).iter().all(|&count| count > 0.0)
    });
}

/// A predecessor's program outlives it. Broken by leaving it in force for shards that stand elsewhere.
#[test]
fn a_successor_steers_to_its_own_shards() {
    let Some((one, other)) = two_cpus() else { return };
    let endpoint = Endpoint::answering("ok");
    let mut dynasty = Dynasty::found(steered(&endpoint, [other, one], "cpu"));
    let address = dynasty.gateway.address;
    let file = dynasty.gateway.directory().join("tollgate.toml");
    let change = |from: &str, to: &str| {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from));
        fs::write(&file, text.replace(from, to)).unwrap();
    };
    change(&format!("\"{},{}\"", other, one), &format!("\"{},{}\"", one, other));
    dynasty.upgrade();
    until("the successor to be alone", || {
        ask_from(one, address, 10);
        accepts(&dynasty.gateway)[0] >= 20.0
    });
    assert_eq!(accepts(&dynasty.gateway)[1], 0.0);

    // One shard takes what was two shards' sockets: all are accepted from.
    change("count = 2", "count = 1");
    dynasty.upgrade();
    for cpu in [one, other] {
        ask_from(cpu, address, 20);
    }
    change("count = 1", "count = 2");
    change("accept_steering = \"cpu\"", "accept_steering = \"hash\"");
    dynasty.upgrade();
    assert_eq!(dynasty.status()["accept_steering"][0]["by"], "hash");
    until("both shards", || {
        ask_from(one, address, 10);
        accepts(&dynasty.gateway).iter().all(|&count| count > 0.0)
    });
}

#[test]
fn steering_that_cannot_be_is_refused() {
    let Some((one, _)) = two_cpus() else { return };
    let endpoint = Endpoint::answering("ok");
    let without = Setup::proxy(endpoint.address).set("listen", "accept_steering = \"cpu\"").write();
    let checked = tollgate(without.path(), &["check", "tollgate.toml"]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(78));
    assert!(said.contains("listen.accept_steering: shards that are pinned nowhere"), "{said}");
    // What only this machine can say is said at the start.
    let crowded = steered(&endpoint, [one, one], "cpu").write();
    let text = fs::read_to_string(crowded.path().join("tollgate.toml")).unwrap();
    let list = format!("\"{},{}\"", one, one);
    fs::write(crowded.path().join("tollgate.toml"), text.replace(&list, &format!("\"{}\"", one))).unwrap();
    let started = tollgate(crowded.path(), &["run", "--config", "tollgate.toml"]);
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    assert_eq!(started.status.code(), Some(78), "{said}");
    assert!(said.contains("listen.accept_steering: CPU") && said.contains("more than one shard"), "{said}");
}
