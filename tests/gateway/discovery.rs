//! Discovery: host names and files say which endpoints there are, and what goes wrong with them takes none away.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv6Addr, TcpListener},
};

use serde_json::Value;

use crate::rig::{Client, Endpoint, Gate, Gateway, NameServer, Says, Setup, until};

const NAME: &str = "pay.test";

/// One route to `pay.test:PORT`, which `server` knows, with these further lines of `[resolve]`.
fn by_name(server: &NameServer, port: u16, lines: &str) -> Setup {
    Setup::new()
        .text(&format!(
            "\n[resolve]\nservers = [\"{}\"]\nttl_min = \"20ms\"\n{lines}\n\
             [[cluster]]\nname = \"main\"\nendpoints = [{{ address = \"{NAME}:{port}\" }}]\n",
            server.address
        ))
        .route("all", "/", "main", "")
}

/// One route to what `payments.endpoints` lists.
fn by_file(list: &str) -> Setup {
    Setup::new()
        .text("\n[[cluster]]\nname = \"main\"\nendpoints_file = \"payments.endpoints\"\n")
        .route("all", "/", "main", "")
        .file("payments.endpoints", list.as_bytes())
}

/// Replaces the list as an operator should: whole, by a rename.
fn replace(gateway: &Gateway, list: &str) {
    let path = gateway.directory().join("payments.endpoints");
    fs::write(path.with_extension("new"), list).unwrap();
    fs::rename(path.with_extension("new"), path).unwrap();
}

/// Asks so often that each endpoint is met, and says who answered.
fn answers(client: &mut Client) -> BTreeSet<String> {
    (0..40)
        .map(|_| {
            let answer = client.get("/", "");
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer.text()
        })
        .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Waits until these are the endpoints that may be chosen.
fn until_endpoints(gateway: &Gateway, wanted: &[String]) {
    let wanted: BTreeSet<String> = wanted.iter().cloned().collect();
    until(&format!("the endpoints {wanted:?}"), || endpoints(gateway) == wanted);
}

fn endpoints(gateway: &Gateway) -> BTreeSet<String> {
    let clusters: Value = serde_json::from_str(&gateway.admin_get("/clusters").1).unwrap();
    let endpoints = clusters[0]["endpoints"].as_array().unwrap();
    endpoints.iter().map(|one| one["endpoint"].as_str().unwrap().to_owned()).collect()
}

fn names(endpoints: &[&Endpoint]) -> Vec<String> {
    endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

/// How often it said something with these words.
fn times_said(gateway: &Gateway, words: &str) -> usize {
    gateway.said().iter().filter(|line| line.contains(words)).count()
}

#[test]
fn a_name_with_several_addresses_is_several_endpoints_and_follows_its_ttl() {
    let fleet = Endpoint::fleet(3);
    let server = NameServer::start();
    server.hosts(NAME, &[2, 1]);
    let gateway = by_name(&server, fleet[0].address.port(), "").shards(2).start();
    let mut client = gateway.client();
    assert_eq!(answers(&mut client), set(&["0", "1"]));
    assert_eq!(gateway.metric("tollgate_config_generation"), 1.0);

    server.hosts(NAME, &[2, 3]);
    until_endpoints(&gateway, &names(&[&fleet[1], &fleet[2]]));
    assert_eq!(answers(&mut client), set(&["1", "2"]));
    assert_eq!(gateway.metric("tollgate_config_generation"), 2.0);
    assert_eq!(gateway.metric("tollgate_resolve_addresses{name=\"pay.test\"}"), 2.0);

    // Another order is nothing new. Broken by a snapshot for each answer.
    let asked = server.asked()[0];
    server.hosts(NAME, &[3, 2]);
    until("more look-ups", || server.asked()[0] > asked + 6);
    assert_eq!(gateway.metric("tollgate_config_generation"), 2.0);
    let line = &gateway.log(80)[79];
    assert!(
        names(&[&fleet[1], &fleet[2]]).contains(&line["endpoint"].as_str().unwrap().to_owned()),
        "{line}"
    );
}

#[test]
fn a_vanished_endpoint_drains() {
    let gate = Gate::default();
    let held = Endpoint::holding(&gate);
    let port = held.address.port();
    let other = TcpListener::bind(("127.0.0.2", port)).unwrap();
    let server = NameServer::start();
    server.hosts(NAME, &[1]);
    let gateway = by_name(&server, port, "").start();
    std::thread::scope(|scope| {
        // Broken by an exchange in flight being cut, or its endpoint forgotten before it ends.
        let waiting = scope.spawn(|| gateway.client().get("/", "").status);
        until("the request at the endpoint", || gate.arrived() == 1);
        server.hosts(NAME, &[2]);
        until_endpoints(&gateway, &[format!("127.0.0.2:{port}")]);
        let departed =
            format!("tollgate_endpoint_inflight{{cluster=\"main\",endpoint=\"{}\"}}", held.address);
        assert_eq!(gateway.metric(&departed), 1.0);
        gate.open();
        assert_eq!(waiting.join().unwrap(), 200);
        until("nothing in flight there", || gateway.metric(&departed) == 0.0);
        // Its connection went with it.
        let idle = "tollgate_upstream_connections{cluster=\"main\",state=\"idle\"}";
        until("no connection kept", || gateway.metric(idle) == 0.0);
    });
    drop(other);
}

#[test]
fn whatever_goes_wrong_with_a_name_keeps_its_addresses_and_is_said_once() {
    let fleet = Endpoint::fleet(2);
    let server = NameServer::start();
    server.hosts(NAME, &[1]);
    let gateway = by_name(&server, fleet[0].address.port(), "timeout = \"60ms\"").start();
    let mut client = gateway.client();
    let current = "tollgate_resolve_current{name=\"pay.test\"}";
    let failed = "tollgate_resolve_lookups_total{name=\"pay.test\",result=\"failed\"}";
    let troubles = [Says::Error(3), Says::Error(2), Says::Silence, Says::Addresses(Vec::new(), 1)];
    for (index, trouble) in troubles.into_iter().enumerate() {
        let before = gateway.metric(failed);
        server.says(NAME, trouble);
        until("failures", || gateway.metric(failed) >= before + 3.0);
        assert_eq!(gateway.metric(current), 0.0);
        assert_eq!(answers(&mut client), set(&["0"]));
        assert_eq!(times_said(&gateway, "its addresses stay as they are"), index + 1, "said once for each");
        server.hosts(NAME, &[1]);
        until("recovery", || gateway.metric(current) == 1.0);
        until("news of it", || times_said(&gateway, "is resolved again") == index + 1);
    }
    assert_eq!(gateway.metric("tollgate_config_generation"), 1.0);
}

#[test]
fn an_answer_too_long_for_udp_is_asked_for_over_tcp() {
    let fleet = Endpoint::fleet(1);
    let server = NameServer::start();
    let many = (1..=200).map(|last| IpAddr::from([127, 0, 0, last])).collect();
    server.says(NAME, Says::Long(many, 60));
    let gateway = by_name(&server, fleet[0].address.port(), "").start();
    assert_eq!(endpoints(&gateway).len(), 200);
    assert!(server.asked()[1] > 0);
}

#[test]
fn both_families_are_asked_for_unless_one_is_wanted() {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = NameServer::start();
    let loopback = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    server.says(NAME, Says::Addresses(loopback, 60));
    for (lines, wanted) in [
        ("", &[format!("127.0.0.1:{port}"), format!("[::1]:{port}")][..]),
        ("family = \"ipv4\"", &[format!("127.0.0.1:{port}")][..]),
        ("family = \"ipv6\"", &[format!("[::1]:{port}")][..]),
    ] {
        let gateway = by_name(&server, port, lines).start();
        assert_eq!(endpoints(&gateway), wanted.iter().cloned().collect::<BTreeSet<_>>());
    }
    // What stands in the system's file needs no name server.
    let local = Setup::new()
        .text(&format!(
            "\n[resolve]\nfamily = \"ipv4\"\n[[cluster]]\nname = \"main\"\nendpoints = [{{ address = \"localhost:{port}\" }}]\n"
        ))
        .route("all", "/", "main", "")
        .start();
    assert_eq!(endpoints(&local), set(&[&format!("127.0.0.1:{port}")]));
}

#[test]
fn a_gateway_starts_before_its_names_but_takes_no_new_configuration_for_one_that_has_no_address() {
    let fleet = Endpoint::fleet(1);
    let server = NameServer::start();
    let port = fleet[0].address.port();
    let gateway = by_name(&server, port, "").start();
    let refused = gateway.client().get("/", "");
    assert_eq!((refused.status, refused.code().as_str()), (503, "no_endpoint"));
    assert_eq!(refused.field("Tollgate-Delivery"), Some("not-sent"));
    assert_eq!(times_said(&gateway, "pay.test: it has no address; until it has"), 1);
    server.hosts(NAME, &[1]);
    until_endpoints(&gateway, &names(&[&fleet[0]]));
    assert_eq!(answers(&mut gateway.client()), set(&["0"]));

    let generation = gateway.metric("tollgate_config_generation");
    let other = Setup::new()
        .text(&format!(
            "\n[resolve]\nservers = [\"{}\"]\n[[cluster]]\nname = \"main\"\nendpoints = [{{ address = \"unknown.test:1\" }}]\n",
            server.address
        ))
        .route("all", "/", "main", "");
    let (status, report) = gateway.reload(&other);
    assert_eq!(status, 422, "{report}");
    assert_eq!(report["mistakes"][0], "unknown.test: it has no address");
    assert_eq!(gateway.metric("tollgate_config_generation"), generation);
    assert_eq!(answers(&mut gateway.client()), set(&["0"]));
}

#[test]
fn a_file_of_endpoints_is_followed() {
    let fleet = Endpoint::fleet(3);
    let addresses: Vec<String> = fleet.iter().map(|one| one.address.to_string()).collect();
    let gateway =
        by_file(&format!("# ours\n{} weight=2\n{} weight=2\n", addresses[0], addresses[1])).shards(2).start();
    let mut client = gateway.client();
    assert_eq!(answers(&mut client), set(&["0", "1"]));
    replace(&gateway, &format!("{}\n{}\n", addresses[2], addresses[1]));
    until_endpoints(&gateway, &addresses[1..]);
    assert_eq!(answers(&mut client), set(&["1", "2"]));

    // A reload that finds the file as it was put in force changes nothing about the endpoints.
    let (_, report) = gateway.admin_request("POST", "/reload");
    assert!(report.contains("\"mistakes\":[]"), "{report}");
    assert_eq!(answers(&mut client), set(&["1", "2"]));

    let current = format!(
        "tollgate_endpoints_file_current{{file=\"{}\"}}",
        gateway.directory().join("payments.endpoints").file_name().unwrap().to_string_lossy()
    );
    for (index, broken) in ["nonsense\n", "# nothing\n", "127.0.0.1:1 weight=none\n"].iter().enumerate() {
        replace(&gateway, broken);
        until("the mistake to be noticed", || gateway.metric(&current) == 0.0);
        assert_eq!(answers(&mut client), set(&["1", "2"]), "{broken}");
        assert_eq!(times_said(&gateway, "the endpoints in force stay so"), index + 1);
        replace(&gateway, &format!("{}\n{}\n", addresses[1], addresses[2]));
        until("the file to be in force again", || gateway.metric(&current) == 1.0);
    }
    fs::remove_file(gateway.directory().join("payments.endpoints")).unwrap();
    until("its end to be noticed", || gateway.metric(&current) == 0.0);
    assert_eq!(answers(&mut client), set(&["1", "2"]));
}

#[test]
fn a_file_may_list_names_which_have_addresses_before_they_count() {
    let fleet = Endpoint::fleet(2);
    let port = fleet[0].address.port();
    let server = NameServer::start();
    let gateway = by_file(&format!("127.0.0.1:{port}\n"))
        .text(&format!("\n[resolve]\nservers = [\"{}\"]\nttl_min = \"20ms\"\n", server.address))
        .start();
    let mut client = gateway.client();
    replace(&gateway, &format!("{NAME}:{port}\n"));
    // Broken by endpoints that work giving way to a name that stands for none.
    until("the trouble", || times_said(&gateway, "pay.test: it has no address; the endpoints in force") == 1);
    assert_eq!(answers(&mut client), set(&["0"]));
    server.hosts(NAME, &[2]);
    until_endpoints(&gateway, &names(&[&fleet[1]]));
    assert_eq!(answers(&mut client), set(&["1"]));
    let (_, shown) = gateway.admin_get("/discovery");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["names"][0]["addresses"][0], "127.0.0.2", "{shown}");
    assert_eq!(shown["files"][0]["endpoints"], 1, "{shown}");
}
