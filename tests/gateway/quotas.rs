//! What can be said about a limit besides its quota: what a request costs, whom it concerns, whether it refuses, what
//! comes back; and how many requests may be under way at once.

use std::collections::HashMap;

use crate::rig::{Client, Endpoint, Exposition, Gate, Gateway, Setup, bearer, tollgate, until, valid_token};

/// One route for `lines` to `endpoint`, and tokens of the key `k1`.
fn limited(endpoint: &Endpoint, lines: &str) -> Setup {
    Setup::new().keys("").cluster("main", &[endpoint.address], "").route("all", "/", "main", lines)
}

fn statuses<const N: usize>(client: &mut Client, fields: &str) -> [u16; N] {
    [(); N].map(|()| client.get("/", fields).status)
}

#[test]
fn a_dear_request_takes_its_cost_from_every_window() {
    let endpoint = Endpoint::answering("ok");
    let lines = "cost = 3\nlimit = [{ by = \"ip\", quota = \"10/hour;100/day\" }]";
    let gateway = limited(&endpoint, lines).route("cheap", "/cheap", "main", "").start();
    let mut client = gateway.client();
    assert_eq!(statuses(&mut client, ""), [200, 200, 200, 429, 429]);
    let refused = client.get("/", "");
    // One unit of the hour is left, which is too little for three.
    let left = refused.field("RateLimit").unwrap();
    assert!(left.contains("\"ip-3600s\";r=1;") && left.contains("\"ip-86400s\";r=91;"), "{left}");
    let wait: u32 = refused.field("Retry-After").unwrap().parse().unwrap();
    assert!((3_590..=3_600).contains(&wait), "{wait}");
}

#[test]
fn a_limit_in_shadow_says_what_it_would_do_and_refuses_nobody() {
    let endpoint = Endpoint::answering("ok");
    let lines = "limit = [{ by = \"ip\", quota = \"2/hour\", mode = \"shadow\" }, { by = \"ip\", quota = \"4/hour\" }]";
    let gateway = limited(&endpoint, lines).start();
    assert_eq!(statuses(&mut gateway.client(), ""), [200, 200, 200, 200, 429]);
    let reasons: Vec<String> =
        gateway.log(5).iter().map(|line| line["reason"].as_str().unwrap().to_owned()).collect();
    let shadow = "a limit in shadow would have refused it";
    assert_eq!(reasons, ["-", "-", shadow, shadow, "quota"]);
    let metrics = Exposition::parse(&gateway.admin_get("/metrics").1);
    let decided = |decision| {
        metrics.value("tollgate_limit_decisions_total", &[("route", "all"), ("decision", decision)]) as u64
    };
    assert_eq!(["admit", "refuse", "shadow_refuse"].map(decided), [4, 1, 2]);
}

#[test]
fn whom_a_limit_does_not_concern_it_does_not_count() {
    let endpoint = Endpoint::answering("ok");
    let by_consumer = "jwt = \"partners\"\nlimit = [{ by = \"consumer\", quota = \"1/hour\", exempt = [\"consumer:house\", \"10.0.0.0/8\"] }]";
    let gateway = limited(&endpoint, by_consumer).set("listen", "trusted_proxies = [\"127.0.0.1\"]").start();
    let mut client = gateway.client();
    let (house, acme) = (bearer(&valid_token("house")), bearer(&valid_token("acme")));
    assert_eq!(statuses(&mut client, &house), [200, 200, 200]);
    assert_eq!(statuses(&mut client, &acme), [200, 429]);
    let inside = format!("{acme}X-Forwarded-For: 10.1.2.3\r\n");
    assert_eq!(statuses(&mut client, &inside), [200, 200]);
    // The proxy believes what came before it only as far as it is trusted itself.
    let outside = format!("{acme}X-Forwarded-For: 10.1.2.3, 192.0.2.1\r\n");
    assert_eq!(statuses(&mut client, &outside), [429]);
}

#[test]
fn a_consumer_has_its_own_quota_where_one_is_named() {
    let endpoint = Endpoint::answering("ok");
    let lines = "jwt = \"partners\"\nlimit = [{ by = \"consumer\", quota = \"1/hour\" }, { by = \"route\", quota = \"6/hour\" }]";
    let setup = |quota: &str| {
        limited(&endpoint, lines).text(&format!("[[consumer]]\nid = \"acme\"\nquota = \"{quota}\"\n"))
    };
    let gateway = setup("3/hour").start();
    let mut client = gateway.client();
    let (acme, other) = (bearer(&valid_token("acme")), bearer(&valid_token("other")));
    assert_eq!(statuses(&mut client, &other), [200, 429]);
    assert_eq!(statuses(&mut client, &acme), [200, 200, 200, 429]);
    // The other limits hold for it as for all.
    assert_eq!(gateway.reload(&setup("100/hour")).0, 200);
    assert_eq!(statuses(&mut client, &acme), [200, 200, 429]);
}

/// Broken by a changed quota that forgets what was used, or by one that keeps the old one's refusals.
#[test]
fn lowering_a_quota_admits_no_more_than_the_new_one_and_raising_opens_at_once() {
    let endpoint = Endpoint::answering("ok");
    let setup =
        |quota: &str| limited(&endpoint, &format!("limit = [{{ by = \"ip\", quota = \"{quota}\" }}]"));
    let gateway = setup("5/hour").start();
    let mut client = gateway.client();
    assert_eq!(statuses(&mut client, ""), [200, 200, 200]);
    assert_eq!(gateway.reload(&setup("4/hour;100/day")).0, 200);
    assert_eq!(statuses(&mut client, ""), [200, 429]);
    assert_eq!(gateway.reload(&setup("2/hour")).0, 200);
    assert_eq!(statuses(&mut client, ""), [429]);
    assert_eq!(gateway.reload(&setup("6/hour")).0, 200);
    // Of four that passed, the two that the lowest quota had no room for are forgotten with it.
    assert_eq!(statuses(&mut client, ""), [200, 200, 200, 200, 429]);
}

#[test]
fn only_so_many_are_under_way_at_once() {
    let gate = Gate::default();
    let endpoint = Endpoint::holding(&gate);
    let gateway = Setup::new()
        .shards(2)
        .keys("")
        .cluster("main", &[endpoint.address], "")
        .route("narrow", "/narrow", "main", "in_flight = 2")
        .route("wide", "/wide", "main", "jwt = \"partners\"")
        .text("[[consumer]]\nid = \"acme\"\nin_flight = 1\n")
        .start();
    let acme = bearer(&valid_token("acme"));
    let ask = |gateway: &Gateway, path: &str, fields: &str| {
        let mut client = gateway.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        client
    };
    let mut held = Vec::new();
    for (path, fields) in [("/narrow", ""), ("/narrow", ""), ("/wide", acme.as_str())] {
        held.push(ask(&gateway, path, fields));
        until("it to be under way", || gate.arrived() == held.len());
    }
    for (path, fields) in [("/narrow", ""), ("/wide", acme.as_str())] {
        // On whichever shard it comes.
        for _ in 0..6 {
            let refused = ask(&gateway, path, fields).answer();
            assert_eq!((refused.status, refused.field("Retry-After")), (429, Some("1")), "{path}");
        }
    }
    // Another consumer's is none of its business.
    let mut other = ask(&gateway, "/wide", &bearer(&valid_token("other")));
    until("it to be under way", || gate.arrived() == 4);
    gate.open();
    for client in held.iter_mut().chain([&mut other]) {
        assert_eq!(client.answer().status, 200);
    }
    // A place is free once its exchange has ended, which is after the answer was sent.
    let mut asked = 16;
    for (path, fields) in [("/narrow", ""), ("/wide", acme.as_str())] {
        until("a place to be free", || {
            asked += 1;
            ask(&gateway, path, fields).answer().status == 200
        });
    }
    let reasons: HashMap<String, usize> =
        gateway.log(asked).iter().fold(HashMap::new(), |mut counts, line| {
            *counts.entry(line["reason"].as_str().unwrap().to_owned()).or_default() += 1;
            counts
        });
    assert_eq!(reasons.get("in_flight"), Some(&(asked - 6)), "of those that asked, six got an answer");
}

#[test]
fn a_request_that_was_not_sent_gets_its_cost_back_where_the_route_says_so() {
    for (refund, expected) in [("not-sent", [502, 502, 502]), ("never", [502, 429, 429])] {
        let lines = format!("refund = \"{refund}\"\nlimit = [{{ by = \"ip\", quota = \"1/hour;2/day\" }}]");
        let gateway = Setup::proxy(Endpoint::nowhere()).route("back", "/back", "main", &lines).start();
        let mut client = gateway.client();
        assert_eq!([(); 3].map(|()| client.get("/back", "").status), expected, "{refund}");
    }
    // What an endpoint may have seen is paid.
    let endpoint = Endpoint::scripted(|talk, _| talk.close());
    let lines = "refund = \"not-sent\"\nlimit = [{ by = \"ip\", quota = \"1/hour\" }]";
    let gateway = limited(&endpoint, lines).start();
    let mut client = gateway.client();
    assert_eq!(client.post("/", "", b"x").field("Tollgate-Delivery"), Some("maybe-sent"));
    assert_eq!(client.get("/", "").status, 429);
}

#[test]
fn what_can_never_be_is_refused_by_check() {
    let endpoint = Endpoint::answering("ok");
    for (lines, words) in [
        (
            "cost = 5\nlimit = [{ by = \"ip\", quota = \"10/hour;4/second\" }]",
            "a request costs 5, and a window has 4",
        ),
        ("limit = [{ by = \"ip\", quota = \"1/hour\", mode = \"dream\" }]", "\"dream\""),
        (
            "limit = [{ by = \"ip\", quota = \"1/hour\", exempt = [\"nobody\"] }]",
            "\"nobody\" is not a network",
        ),
        ("refund = \"always\"", "\"always\""),
        ("in_flight = 0", "\"0\" is not a number from 1"),
        ("cost = 0", "\"0\" is not a number from 1"),
    ] {
        let directory = limited(&endpoint, lines).write();
        let checked = tollgate(directory.path(), &["check", "tollgate.toml"]);
        assert_eq!(checked.status.code(), Some(78), "{lines}");
        let message = String::from_utf8(checked.stderr).unwrap();
        assert!(message.contains(words), "{lines}: {message}");
    }
}

#[test]
fn explain_tells_the_limits_that_hold_for_the_caller() {
    let endpoint = Endpoint::answering("ok");
    let lines = "jwt = \"partners\"\ncost = 2\nlimit = [{ by = \"consumer\", quota = \"10/hour\" }, \
                 { by = \"ip\", quota = \"20/hour\", mode = \"shadow\" }, \
                 { by = \"route\", quota = \"30/hour\", exempt = [\"consumer:acme\"] }]";
    let directory =
        limited(&endpoint, lines).text("[[consumer]]\nid = \"acme\"\nquota = \"300/hour\"\n").write();
    let token = valid_token("acme");
    let told =
        tollgate(directory.path(), &["explain", "--config", "tollgate.toml", "--token", &token, "GET", "/"]);
    assert_eq!(told.status.code(), Some(0));
    let told = String::from_utf8(told.stdout).unwrap();
    for words in [
        "300/3600s by consumer, which is acme\n",
        "20/3600s by ip, which is 127.0.0.1, in shadow: refuses nobody\n",
        "by route, from which this request is exempt\n",
        "a request costs 2\n",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
}
