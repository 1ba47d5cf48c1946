//! Further attempts: where a route asks for them, as many as its cluster's budget has, within its time.

use crate::rig::{ALL_STAY, Endpoint, Gateway, Setup, Talk};

/// Both endpoints in one cluster, one route with these lines.
fn pair(one: &Endpoint, other: &Endpoint, cluster: &str, route: &str) -> Gateway {
    Setup::new()
        .cluster("main", &[one.address, other.address], cluster)
        .route("all", "/", "main", route)
        .start()
}

fn retries(gateway: &Gateway) -> (f64, f64) {
    let of = |name: &str| gateway.metric(&format!("{name}{{cluster=\"main\"}}"));
    (of("tollgate_retries_total"), of("tollgate_retries_denied_total"))
}

/// Broken by a status that is passed on although another endpoint would have answered, or a POST that is repeated
/// because of one.
#[test]
fn an_answer_is_asked_for_again_elsewhere_where_the_route_says_so() {
    let (sick, well) = (Endpoint::busy(), Endpoint::answering("ok"));
    let gateway = pair(&sick, &well, ALL_STAY, "retry = { on = [\"503\"] }");
    let mut client = gateway.client();
    for _ in 0..20 {
        let answer = client.get("/", "");
        assert_eq!((answer.status, answer.text()), (200, "ok".into()));
    }
    let (made, denied) = retries(&gateway);
    assert!(made > 0.0 && made < 20.0 && denied == 0.0, "{made} made, {denied} denied");
    let log = gateway.log(20);
    let twice = log.iter().filter(|line| line["attempts"] == 2).count();
    assert_eq!(twice as f64, made);
    assert!(log.iter().all(|line| line["termination"] == "--"), "what was turned down is no end");
    // A payment gets the answer there is.
    let statuses: Vec<u16> = (0..40).map(|_| client.post("/", "", b"1").status).collect();
    assert!(statuses.contains(&503) && statuses.contains(&200), "{statuses:?}");
    assert!(gateway.log(60)[20..].iter().all(|line| line["attempts"] == 1));
}

#[test]
fn an_answer_stands_when_there_is_nobody_else() {
    let endpoint = Endpoint::busy();
    let gateway = Setup::new()
        .cluster("main", &[endpoint.address], "")
        .route("all", "/", "main", "retry = { attempts = 5, on = [\"502\", \"503\", \"504\"] }")
        .start();
    let answer = gateway.client().get("/", "");
    assert_eq!((answer.status, answer.text()), (503, "busy".into()));
    assert_eq!((endpoint.seen(1).len(), retries(&gateway)), (1, (0.0, 0.0)));
}

/// Broken by a key that makes a payment repeatable where the route does not say that endpoints heed it.
#[test]
fn a_key_makes_a_payment_repeatable_only_where_the_route_says_so() {
    for (heeds, key, is_repeated) in [
        (true, "Idempotency-Key: 7\r\n", true),
        (true, "", false),
        (true, "Idempotency-Key: 7\r\nIdempotency-Key: 8\r\n", false),
        (false, "Idempotency-Key: 7\r\n", false),
    ] {
        let (broken, well) = (Endpoint::always(Talk::close), Endpoint::answering("ok"));
        let lines = format!("retry = {{ on = [\"broken\"], idempotency_key = {heeds} }}");
        let gateway = pair(&broken, &well, "", &lines);
        let mut client = gateway.client();
        let mut failed = 0;
        for _ in 0..16 {
            let answer = client.post("/pay", key, b"1");
            if answer.status != 200 {
                failed += 1;
                assert_eq!((answer.status, answer.field("tollgate-delivery")), (502, Some("maybe-sent")));
            }
        }
        assert_eq!(failed == 0, is_repeated, "{key:?}, heeded: {heeds}");
        let sent = broken.seen(1).len() + well.count();
        assert_eq!(sent > 16, is_repeated, "{sent} were sent");
    }
}

#[test]
fn three_attempts_find_the_one_that_is_well() {
    let (late, well) = (Endpoint::always(Talk::wait_for_end), Endpoint::answering("ok"));
    let gateway =
        pair(&late, &well, "response_timeout = \"100ms\"", "retry = { attempts = 3, on = [\"timeout\"] }");
    let mut client = gateway.client();
    for _ in 0..6 {
        assert_eq!(client.get("/", "").status, 200);
    }
}

/// Broken by attempts that are made whatever they cost, and by an account that counts them as requests.
#[test]
fn no_more_is_repeated_than_the_budget_has() {
    let (one, other) = (Endpoint::busy(), Endpoint::busy());
    let gateway = pair(
        &one,
        &other,
        &format!("retry_budget = \"10%\"\nretry_floor = 0\n{ALL_STAY}"),
        "retry = { attempts = 2, on = [\"503\"] }",
    );
    let mut client = gateway.client();
    for _ in 0..300 {
        let answer = client.get("/", "");
        assert_eq!((answer.status, answer.text()), (503, "busy".into()));
    }
    let (made, denied) = retries(&gateway);
    // A hundred saved up, and a tenth of what was asked.
    assert!((128.0..=131.0).contains(&made), "{made} made");
    assert_eq!(made + denied, 300.0);
    assert_eq!(one.count() + other.count(), 300 + made as usize);
}

#[test]
fn what_reached_nobody_is_free() {
    let endpoint = Endpoint::answering("ok");
    let lines = format!("retry_budget = \"0%\"\nretry_floor = 0\n{ALL_STAY}");
    let gateway = Setup::new()
        .cluster("main", &[Endpoint::nowhere(), endpoint.address], &lines)
        .route("all", "/", "main", "")
        .start();
    let mut client = gateway.client();
    for _ in 0..300 {
        assert_eq!(client.post("/pay", "", b"1").status, 200);
    }
    let (made, denied) = retries(&gateway);
    assert!(made > 100.0 && denied == 0.0, "{made} made, {denied} denied");
}

/// Broken by an exchange that each wait grants anew.
#[test]
fn an_exchange_has_an_end() {
    let silent = Endpoint::always(Talk::wait_for_end);
    let half = Endpoint::always(|talk| {
        talk.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        talk.wait_for_end();
    });
    let endless = Endpoint::always(|talk| {
        talk.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while talk.send(format!("1000\r\n{}\r\n", "x".repeat(0x1000))) {}
    });
    let route = "timeout = \"150ms\"\nretry = { on = [\"timeout\"], attempts = 5 }";
    for (endpoint, status, code) in [(&silent, 504, "e7"), (&half, 200, "e8"), (&endless, 200, "e8")] {
        let gateway =
            Setup::new().cluster("main", &[endpoint.address], "").route("all", "/", "main", route).start();
        let answer = gateway.client().get("/", "");
        assert_eq!((answer.status, answer.complete), (status, status == 504));
        let line = gateway.log(1).remove(0);
        assert_eq!((&line["reason"], &line["attempts"]), (&"route.timeout".into(), &1.into()));
        assert_eq!(line["termination"], code);
    }
}
