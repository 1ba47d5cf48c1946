//! Reload: another configuration takes over between two requests, as a whole or not at all.

use std::{
    collections::HashSet,
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::{Value, json};

use crate::rig::{
    Algorithm, Client, Endpoint, Gate, Setup, bearer, now_s, sign, tollgate, until, valid_token,
};

/// Ends the load when the test does, however it does.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One route with these further lines, to `endpoint`.
fn proxy_to(endpoint: &Endpoint, lines: &str) -> Setup {
    Setup::new().cluster("main", &[endpoint.address], "").route("all", "/", "main", lines)
}

#[test]
fn sixty_reloads_under_load_cost_no_request() {
    let endpoints = [Endpoint::answering("even"), Endpoint::answering("odd")];
    // Everything about the two differs that can.
    let setups = [
        proxy_to(&endpoints[0], "").shards(2).set("bounds", "keepalive_requests = 1000000"),
        Setup::new()
            .shards(2)
            .set("bounds", "keepalive_requests = 1000000")
            .set("timeouts", "idle = \"20s\"")
            .cluster("other", &[endpoints[1].address], "")
            .cluster("main", &[endpoints[1].address, Endpoint::nowhere()], "")
            .route("extra", "/extra", "other", "")
            .route("all", "/", "other", "limit = [{ by = \"ip\", quota = \"1000000/minute\" }]"),
    ];
    let gateway = Setup::new().start_in(setups[0].write());
    let over = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (gateway, over) = (&gateway, &over);
                scope.spawn(move || {
                    // One connection for all of them: a reset or a close would end the test.
                    let mut connection = gateway.client();
                    let mut count = 0;
                    while !over.load(Ordering::Relaxed) {
                        let body = format!("payment {client}/{count}");
                        let answer = connection.post("/pay", "", body.as_bytes());
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        assert_eq!(answer.field("Connection"), None);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let stop = Stop(&over);
        for round in 1..=60 {
            let (status, report) = gateway.reload(&setups[round % 2]);
            assert_eq!((status, &report["generation"]), (200, &json!(round + 1)), "{report}");
            let reached = |endpoint: &Endpoint, before: usize| endpoint.count() > before;
            let endpoint = &endpoints[round % 2];
            let before = endpoint.count();
            until("traffic at the new endpoint", || reached(endpoint, before));
        }
        drop(stop);
        clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>()
    });
    until("all scripts to end", || endpoints.iter().map(Endpoint::count).sum::<usize>() >= sent);
    let seen: Vec<Vec<u8>> =
        endpoints.iter().flat_map(|endpoint| endpoint.seen(endpoint.count())).map(|seen| seen.body).collect();
    assert_eq!(seen.len(), sent, "each exactly once");
    assert_eq!(seen.into_iter().collect::<HashSet<_>>().len(), sent);
    let lines = gateway.log(sent);
    assert!(lines.iter().all(|line| line["status"] == 200 && line["route"] == "all"));
    // What a line says is what was in force for its request.
    let clusters = |name: &str| lines.iter().filter(|line| line["cluster"] == name).count();
    assert_eq!((clusters("main"), clusters("other")), (endpoints[0].count(), endpoints[1].count()));
}

#[test]
fn a_broken_file_changes_nothing_and_every_mistake_is_told() {
    let endpoint = Endpoint::answering("ok");
    let setup = proxy_to(&endpoint, "");
    let gateway = setup.start();
    let file = gateway.directory().join("tollgate.toml");
    let good = fs::read_to_string(&file).unwrap();
    let broken = good.replace("cluster = \"main\"", "cluster = \"mian\"") + "\n[unknown]\n";
    fs::write(&file, broken).unwrap();
    let admin = gateway.admin.to_string();
    let run = |command: &str| tollgate(gateway.directory(), &[command, "--admin", &admin]);
    let refused = run("reload");
    assert_eq!(refused.status.code(), Some(78));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(message.lines().count(), 2, "{message}");
    assert!(message.contains("\"main\"") && message.contains("unknown"), "{message}");
    assert_eq!(gateway.client().get("/", "").text(), "ok");
    // The signal has nobody to answer to but the log.
    gateway.signal("HUP");
    let said = |words: &str| gateway.said().iter().filter(|line| line.contains(words)).count();
    until("the refusal of both", || said("reload refused: configuration 1 stays in force") == 2);
    let status: Value = serde_json::from_slice(&run("status").stdout).unwrap();
    assert_eq!((&status["generation"], &status["phase"]), (&json!(1), &json!("serving")));
    assert_eq!(status["last_reload"]["mistakes"].as_array().unwrap().len(), 2);

    fs::remove_file(&file).unwrap();
    let (status, report) = gateway.admin_request("POST", "/reload");
    assert_eq!(status, 422);
    assert!(report.contains("cannot be read"), "{report}");

    fs::write(&file, good).unwrap();
    gateway.signal("HUP");
    until("the good file in force", || gateway.metric("tollgate_config_generation") == 2.0);
    assert_eq!(run("reload").status.code(), Some(0));
    assert_eq!(gateway.client().get("/", "").text(), "ok");
}

#[test]
fn what_needs_a_restart_says_so_and_the_rest_is_in_force() {
    let endpoint = Endpoint::answering("ok");
    let gateway = proxy_to(&endpoint, "").start();
    let other = proxy_to(&endpoint, "body_bytes_max = \"1B\"")
        .shards(2)
        .set("bounds", "buffer_bytes = \"40MiB\"")
        .set("log", "access = \"other.log\"");
    let (status, report) = gateway.reload(&other);
    assert_eq!(status, 200, "{report}");
    let needs_restart: Vec<&str> =
        report["needs_restart"].as_array().unwrap().iter().map(|what| what.as_str().unwrap()).collect();
    assert_eq!(needs_restart.len(), 3, "{needs_restart:?}");
    for (what, key) in needs_restart.iter().zip(["shards.count", "bounds.buffer_bytes", "log.access"]) {
        assert!(what.starts_with(key), "{what}");
    }
    assert_eq!(gateway.client().post("/", "", b"two").status, 413);
    let (_, config) = gateway.admin_get("/config");
    assert!(!config.contains("other.log"), "shown is what is in force: {config}");
}

/// Broken by limits that are made anew, which would hand every client its quota again.
#[test]
fn a_quota_that_is_used_stays_used() {
    let endpoint = Endpoint::answering("ok");
    let limited = |quota: &str, more: &str| {
        proxy_to(&endpoint, &format!("limit = [{{ by = \"ip\", quota = \"{quota}\" }}]"))
            .route("more", "/more", "main", more)
    };
    let setup = limited("3/hour", "");
    let gateway = setup.start();
    let mut client = gateway.client();
    assert_eq!([client.get("/", "").status, client.get("/", "").status], [200, 200]);
    assert_eq!(gateway.reload(&limited("3/hour", "version = \"2\"")).0, 200);
    assert_eq!([client.get("/", "").status, client.get("/", "").status], [200, 429]);
    // A table of its own for a quota that is another one.
    assert_eq!(gateway.reload(&limited("100/hour", "")).0, 200);
    assert_eq!(client.get("/", "").status, 200);
}

#[test]
fn keys_and_cached_tokens_go_with_their_configuration() {
    let endpoint = Endpoint::answering("ok");
    let with_key = |file: &str| {
        Setup::new()
            .cluster("main", &[endpoint.address], "")
            .text(&format!("[[jwt]]\nname = \"partners\"\nkeys = [{{ kid = \"k1\", alg = \"HS256\", secret_file = \"{file}\" }}]\n"))
            .route("all", "/", "main", "jwt = \"partners\"")
            .file("k2.key", b"another-secret-another-secret-another-secret")
    };
    let gateway = with_key("k1.key").start();
    let mut client = gateway.client();
    let old = bearer(&valid_token("acme"));
    let claims = json!({ "sub": "acme", "exp": now_s() + 60 }).to_string();
    let header = r#"{"alg":"HS256","kid":"k1"}"#;
    let new = sign(Algorithm::Hs256, b"another-secret-another-secret-another-secret", header, &claims);
    let new = bearer(&new);
    let statuses = |client: &mut Client| [client.get("/", &old).status, client.get("/", &new).status];
    assert_eq!(statuses(&mut client), [200, 401]);
    assert_eq!(statuses(&mut client), [200, 401], "remembered");
    assert_eq!(gateway.reload(&with_key("k2.key")).0, 200);
    assert_eq!(statuses(&mut client), [401, 200]);
}

#[test]
fn an_exchange_ends_under_the_configuration_it_began_with() {
    let gate = Gate::default();
    let held = Endpoint::holding(&gate);
    let after = Endpoint::answering("after");
    let gateway = Setup::new().cluster("old", &[held.address], "").route("old", "/", "old", "").start();
    let mut early = gateway.client();
    early.send(b"GET /early HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the first request to be under way", || gate.arrived() == 1);
    // Its route, its cluster and its endpoint are gone.
    let new = Setup::new().cluster("new", &[after.address], "").route("new", "/", "new", "");
    assert_eq!(gateway.reload(&new).0, 200);
    assert_eq!(gateway.client().get("/late", "").text(), "after");
    gate.open();
    assert_eq!(early.answer().status, 200);
    let routes: HashSet<String> = gateway
        .log(2)
        .iter()
        .map(|line| format!("{} {} {}", line["path"], line["route"], line["cluster"]))
        .collect();
    let expected = [r#""/early" "old" "old""#, r#""/late" "new" "new""#];
    assert_eq!(routes, expected.map(str::to_owned).into());
    // Nor is its connection kept for anybody.
    let idle = r#"tollgate_upstream_connections{cluster="new",state="idle"}"#;
    until("one idle connection", || gateway.metric(idle) == 1.0);
    assert_eq!(early.get("/again", "").text(), "after");
}
