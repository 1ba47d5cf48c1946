//! When the machine fails: no descriptors, no rings, less memory than the bounds add up to.
//!
//! What a full, slow or vanished disk does is in `observe/writer.rs`; a wall clock that is set is in
//! `stage`'s own tests, where `now` is an argument.

use std::net::TcpStream;

use crate::rig::{Client, Endpoint, Exposition, Gateway, Setup, until};

fn pauses(gateway: &Gateway) -> u64 {
    let metrics = Exposition::parse(&gateway.admin_get("/metrics").1);
    metrics.value("tollgate_accept_pauses_total", &[("reason", "exhausted")]) as u64
}

#[test]
fn without_descriptors_clients_wait_and_those_inside_are_served() {
    let endpoint = Endpoint::answering("ok");
    let other = Endpoint::answering("other");
    let gateway = Setup::proxy(endpoint.address)
        .cluster("other", &[other.address], "")
        .route("other", "/other", "other", "")
        .shell("ulimit -n 100 && exec \"$TOLLGATE\" run --config \"$CONFIG\"")
        .start();
    // Metrics cost a descriptor too, so this connection stays.
    let mut inside = gateway.client();
    assert_eq!(inside.get("/", "").status, 200);
    let mut crowd: Vec<TcpStream> = (0..150).map(|_| TcpStream::connect(gateway.address).unwrap()).collect();
    let said = |words: &str| gateway.said().iter().filter(|line| line.contains(words)).count();
    until("a warning", || said("no descriptors are left") == 1);
    // A pooled connection to the endpoint is there; one to the other would need a descriptor.
    assert_eq!(inside.get("/", "").status, 200);
    let undialled = inside.get("/other", "");
    assert_eq!((undialled.status, undialled.code().as_str()), (502, "upstream_unreachable"));
    assert_eq!(undialled.field("Tollgate-Delivery"), Some("not-sent"));
    assert_eq!(inside.get("/", "").status, 200);
    // It neither spins nor floods its log: a pause is 20 ms, and the spell is said once.
    assert_eq!(said("no descriptors are left"), 1);
    let waiting = crowd.pop().unwrap();
    drop(crowd);
    until("the end of it", || said("accepted again") == 1);
    let mut waited = Client::over(waiting);
    assert_eq!(waited.get("/", "").status, 200);
    assert_eq!(gateway.client().get("/other", "").text(), "other");
    assert!(pauses(&gateway) > 0);
    gateway.stop();
}

/// Broken by a loop that goes on accepting for as long as somebody waits: it is the drain that frees descriptors.
#[test]
fn without_descriptors_a_drain_ends() {
    let endpoint = Endpoint::answering("ok");
    let mut gateway = Setup::proxy(endpoint.address)
        .shell("ulimit -n 100 && exec \"$TOLLGATE\" run --config \"$CONFIG\"")
        .start();
    let crowd: Vec<TcpStream> = (0..150).map(|_| TcpStream::connect(gateway.address).unwrap()).collect();
    until("a warning", || gateway.said().iter().any(|line| line.contains("no descriptors are left")));
    gateway.signal("TERM");
    assert!(gateway.wait().success());
    drop(crowd);
}

#[test]
fn bounds_beyond_the_machines_memory_are_said_with_both_numbers() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address)
        .set("bounds", "buffer_bytes = \"4GiB\"")
        .shell("ulimit -v 3000000 && exec \"$TOLLGATE\" run --config \"$CONFIG\"")
        .start();
    let warned: Vec<String> =
        gateway.said().into_iter().filter(|line| line.contains("the bounds add up to")).collect();
    let [warned] = &warned[..] else { panic!("{:#?}", gateway.said()) };
    assert!(warned.contains("(ulimit -v) is 2929.7 MiB") && warned.contains("buffer_bytes"), "{warned}");
    assert_eq!(gateway.client().get("/", "").status, 200);
    gateway.stop();
    let modest = Setup::proxy(endpoint.address).start();
    assert!(!modest.said().iter().any(|line| line.contains("the bounds add up to")));
}
