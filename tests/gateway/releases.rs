//! Releases: a share of the consumers on a new version, a field that names it, copies that nobody waits for.

use std::collections::BTreeMap;

use crate::rig::{Endpoint, Gate, Gateway, Seen, Setup, bearer, until, valid_token};

/// Two clusters, `stable` and `next`, and one route with these lines.
fn two(stable: &Endpoint, next: &Endpoint, lines: &str) -> Setup {
    Setup::new()
        .cluster("stable", &[stable.address], "")
        .cluster("next", &[next.address], "")
        .route("all", "/", "stable", lines)
}

/// Broken by a share that is drawn per request, per connection, per shard or per process.
#[test]
fn a_consumer_stays_with_the_version_it_has() {
    let (stable, next) = (Endpoint::answering("stable"), Endpoint::answering("next"));
    let lines = "jwt = \"partners\"\nsplit = [{ cluster = \"next\", share = \"25%\" }]";
    let mut chosen: BTreeMap<String, String> = BTreeMap::new();
    for shards in [1, 2] {
        let gateway = two(&stable, &next, lines).keys("").shards(shards).start();
        for round in 0..3 {
            let mut client = gateway.client();
            for number in 0..80 {
                let consumer = format!("consumer-{number}");
                let answer = client.get("/", &bearer(&valid_token(&consumer)));
                assert_eq!(answer.status, 200, "{}", answer.head);
                let of_consumer = chosen.entry(consumer.clone()).or_insert_with(|| answer.text());
                assert_eq!(*of_consumer, answer.text(), "{consumer} in round {round}");
            }
        }
        let line = &gateway.log(80)[0];
        assert_eq!(line["cluster"], chosen["consumer-0"].as_str());
    }
    let share = chosen.values().filter(|version| *version == "next").count();
    assert!((8..=32).contains(&share), "{share} of 80");
}

#[test]
fn a_field_names_the_version() {
    let (stable, next) = (Endpoint::answering("stable"), Endpoint::answering("next"));
    let lines = "by_header = [{ name = \"X-Release\", value = \"next\", cluster = \"next\" }]";
    let gateway = two(&stable, &next, lines).start();
    let mut client = gateway.client();
    for (fields, expected) in [
        ("X-Release: next\r\n", "next"),
        ("", "stable"),
        ("X-Release: other\r\n", "stable"),
        ("X-Release: other\r\nx-release: next\r\n", "next"),
    ] {
        assert_eq!(client.get("/", fields).text(), expected, "{fields:?}");
        assert_eq!(client.post("/", fields, b"1").text(), expected, "{fields:?}");
    }
}

/// Every request of `stable` is sent to `next` as well.
const MIRROR: &str = "mirror = { cluster = \"next\", share = \"100%\" }";

/// A gateway that sends copies to an endpoint that answers nothing before its gate is open.
struct Mirrored {
    stable: Endpoint,
    shadow: Endpoint,
    gate: Gate,
    gateway: Gateway,
}

impl Mirrored {
    fn start() -> Self {
        let (stable, gate) = (Endpoint::answering("stable"), Gate::default());
        let shadow = Endpoint::holding(&gate);
        let gateway = two(&stable, &shadow, MIRROR).start();
        Self { stable, shadow, gate, gateway }
    }
}

/// Copies for `next` that had this result.
fn copies(gateway: &Gateway, result: &str) -> f64 {
    let labels = format!("{{cluster=\"next\",result=\"{result}\"}}");
    gateway.metric(&format!("tollgate_mirrored_requests_total{labels}"))
}

/// Broken by a copy that the client waits for, that can change something, or that endpoints cannot tell from a request.
#[test]
fn copies_are_sent_on_and_nobody_waits_for_them() {
    let Mirrored { stable, shadow, gate, gateway } = Mirrored::start();
    let count = |result| copies(&gateway, result);
    let mut client = gateway.client();
    for number in 0..10 {
        assert_eq!(client.get(&format!("/{number}?q=1"), "X-A: b\r\n").text(), "stable");
        assert_eq!(client.post("/pay", "", b"1").text(), "stable");
    }
    until("all copies to arrive", || gate.arrived() == 10);
    assert_eq!((count("answered"), count("failed")), (0.0, 0.0), "none has been answered yet");
    gate.open();
    until("all copies to be answered", || count("answered") == 10.0);
    let seen_copies = shadow.seen(10);
    assert_eq!(seen_copies.len(), 10);
    for copy in &seen_copies {
        assert_eq!((copy.method(), copy.field("tollgate-mirror")), ("GET", Some("1")));
        assert!(copy.target().ends_with("?q=1") && copy.field("x-a") == Some("b"), "{}", copy.head);
    }
    let originals = stable.seen(20);
    assert!(originals.iter().all(|seen| seen.field("tollgate-mirror").is_none()));
    // A copy carries the id of its request.
    let ids = |seen: &[Seen]| -> Vec<String> {
        let of_gets = seen.iter().filter(|seen| seen.method() == "GET");
        let mut ids: Vec<String> =
            of_gets.map(|seen| seen.field("x-request-id").unwrap().to_owned()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(&seen_copies), ids(&originals));
    // The client's log knows nothing of them.
    assert!(gateway.log(20).iter().all(|line| line["cluster"] == "stable" && line["attempts"] == 1));
}

#[test]
fn there_are_only_so_many_copies_and_a_failed_one_is_nobodys_loss() {
    let Mirrored { stable, shadow: _shadow, gate, gateway } = Mirrored::start();
    let count = |result| copies(&gateway, result);
    let mut client = gateway.client();
    for _ in 0..100 {
        assert_eq!(client.get("/", "").text(), "stable");
    }
    assert_eq!(count("skipped"), 36.0, "64 are under way");
    until("64 copies", || gate.arrived() == 64);
    gate.open();
    until("them to be answered", || count("answered") == 64.0);

    let setup = Setup::new()
        .cluster("stable", &[stable.address], "")
        .cluster("next", &[Endpoint::nowhere()], "")
        .route("all", "/", "stable", MIRROR);
    let gateway = setup.start();
    assert_eq!(gateway.client().get("/", "").text(), "stable");
    until("the copy to fail", || copies(&gateway, "failed") == 1.0);
}
