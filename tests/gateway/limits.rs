//! Quotas: never more than L in any window, never less for one client alone, and a 429 that tells the truth.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::{
    config::{check, said},
    rig::{Answer, Client, Endpoint, Gateway, Setup, bearer, now_s, until, valid_token},
};

/// Everything goes to `endpoint`, within `limits`.
fn limited(endpoint: &Endpoint, limits: &str) -> Setup {
    Setup::new().cluster("main", &[endpoint.address], "").route(
        "all",
        "/",
        "main",
        &format!("limit = [{limits}]"),
    )
}

/// How many of so many requests one connection gets through.
fn admitted(client: &mut Client, requests: usize, fields: &str) -> usize {
    (0..requests)
        .filter(|_| {
            let answer = client.get("/", fields);
            assert!(answer.status == 200 || answer.code() == "quota_exceeded", "{}", answer.head);
            answer.status == 200
        })
        .count()
}

#[test]
fn one_connection_gets_the_whole_quota_and_no_more() {
    let endpoint = Endpoint::answering("ok");
    for quota in ["1/minute", "7/hour", "100 per 2 minutes", "64/day", "65/minute", "333/minute"] {
        let gateway =
            limited(&endpoint, &format!("{{ by = \"route\", quota = \"{quota}\" }}")).shards(2).start();
        let count: usize = quota.split([' ', '/']).next().unwrap().parse().unwrap();
        assert_eq!(admitted(&mut gateway.client(), count + 20, ""), count, "{quota}");
        assert_eq!(admitted(&mut gateway.client(), 20, ""), 0, "{quota}");
        // A decision counts with its exchange, which ends when the answer has been sent.
        gateway.log(count + 40);
        let decisions = |decision| {
            gateway
                .metric(&format!("tollgate_limit_decisions_total{{route=\"all\",decision=\"{decision}\"}}"))
        };
        assert_eq!((decisions("admit"), decisions("refuse")), (count as f64, 40.0));
    }
}

/// When a request was certainly not yet and certainly already admitted.
type Admission = (Instant, Instant);

/// Hammers from so many connections, each on a thread of its own, until `enough` says so of all admissions.
fn hammer(
    gateway: &Gateway,
    connections: usize,
    fields: &str,
    enough: impl Fn(usize, usize) -> bool + Sync,
) -> Vec<Admission> {
    let seen = Mutex::new((Vec::new(), 0));
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut client = gateway.client();
                loop {
                    let before = Instant::now();
                    let answer = client.get("/", fields);
                    let after = Instant::now();
                    let mut seen = seen.lock().unwrap();
                    match answer.status {
                        200 => seen.0.push((before, after)),
                        429 => seen.1 += 1,
                        _ => panic!("{}", answer.head),
                    }
                    if enough(seen.0.len(), seen.1) {
                        return;
                    }
                }
            });
        }
    });
    seen.into_inner().unwrap().0
}

#[test]
fn no_window_ever_holds_more_over_two_shards_and_many_connections() {
    const LIMIT: usize = 40;
    let endpoint = Endpoint::answering("ok");
    let gateway = limited(&endpoint, "{ by = \"route\", quota = \"40/second\" }").shards(2).start();
    let admissions = hammer(&gateway, 8, "", |admitted, _| admitted >= 3 * LIMIT);
    for &(start, _) in &admissions {
        let end = start + Duration::from_secs(1);
        // Sent after the start and answered before the end: inside the window, whatever the clocks say.
        let inside = admissions.iter().filter(|&&(sent, answered)| sent >= start && answered < end).count();
        assert!(inside <= LIMIT, "{inside} in one second");
    }
}

#[test]
fn racing_connections_share_exactly_the_quota() {
    let endpoint = Endpoint::answering("ok");
    for limits in [
        "{ by = \"route\", quota = \"300/hour\" }",
        "{ by = \"ip\", quota = \"300/hour;100000/day\" }",
        "{ by = \"ip\", quota = \"300/hour\" }, { by = \"route\", quota = \"100000/hour;310/day\" }",
        "{ by = \"route\", quota = \"310/hour\" }, { by = \"ip\", quota = \"100000/hour;300/day\" }",
    ] {
        let gateway = limited(&endpoint, limits).shards(2).start();
        let admissions = hammer(&gateway, 8, "", |_, refused| refused >= 100);
        assert_eq!(admissions.len(), 300, "{limits}");
    }
}

#[test]
fn a_refused_request_charges_no_window_and_no_limit() {
    let endpoint = Endpoint::answering("ok");
    // Refused by the second window, by the second limit, by the first limit: never charged to the others.
    let gateway = limited(
        &endpoint,
        "{ by = \"header:X-Key\", quota = \"2/hour;50/day\" }, { by = \"route\", quota = \"20/hour\" }",
    )
    .start();
    let mut client = gateway.client();
    for key in 0..9 {
        assert_eq!(admitted(&mut client, 30, &format!("X-Key: {key}\r\n")), 2, "{key}");
    }
    assert_eq!(admitted(&mut client, 30, "X-Key: last\r\n"), 2, "the route had two left");
    assert_eq!(admitted(&mut client, 30, "X-Key: more\r\n"), 0);

    let gateway = limited(&endpoint, "{ by = \"route\", quota = \"3/second;6 per 3 seconds\" }").start();
    let mut client = gateway.client();
    let started = Instant::now();
    let mut passed = 0;
    until("the second quota to be used up, in spite of every refusal", || {
        passed += usize::from(client.get("/", "").status == 200);
        passed == 6
    });
    assert!(started.elapsed() >= Duration::from_millis(900), "six in less than a second");
}

#[test]
fn requests_that_fail_for_another_reason_charge_nothing() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::new()
        .keys("")
        .set("bounds", "body_bytes_max = \"1KiB\"")
        .cluster("main", &[endpoint.address], "")
        .route(
            "pay",
            "/pay",
            "main",
            "jwt = \"partners\"\nmethods = [\"POST\"]\nscopes = [\"pay\"]\n\
             limit = [{ by = \"consumer\", quota = \"2/hour\" }, { by = \"ip\", quota = \"2/hour\" }]",
        )
        .start();
    let claims = serde_json::json!({ "sub": "acme", "exp": now_s() + 60, "scope": "pay" });
    let good = bearer(&crate::rig::mint(&claims));
    let forged = format!("{}x\r\n", good.trim_end());
    for _ in 0..3 {
        let mut client = gateway.client();
        assert_eq!(client.post("/pay", "", b"").code(), "token_missing");
        assert_eq!(client.post("/pay", &forged, b"").code(), "token_invalid");
        assert_eq!(client.post("/pay", &bearer(&valid_token("acme")), b"").code(), "scope_insufficient");
        assert_eq!(client.get("/pay", &good).code(), "method_not_allowed");
        assert_eq!(client.post("/other", &good, b"").code(), "route_not_found");
        assert_eq!(client.post("/pay", &good, &[b'x'; 2000]).code(), "body_too_large");
    }
    let mut client = gateway.client();
    let statuses = [0; 3].map(|_| client.post("/pay", &good, b"").status);
    assert_eq!(statuses, [200, 200, 429]);
}

#[test]
fn each_key_has_a_quota_of_its_own() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::new()
        .keys("")
        .set("listen", "trusted_proxies = [\"127.0.0.0/8\"]")
        .cluster("main", &[endpoint.address], "")
        .route(
            "c",
            "/consumer",
            "main",
            "jwt = \"partners\"\nlimit = [{ by = \"consumer\", quota = \"1/hour\" }]",
        )
        .route("i", "/ip", "main", "limit = [{ by = \"ip\", quota = \"1/hour\" }]")
        .route("r", "/route", "main", "limit = [{ by = \"route\", quota = \"1/hour\" }]")
        .route("h", "/header", "main", "limit = [{ by = \"header:X-Key\", quota = \"1/hour\" }]")
        .start();
    let mut client = gateway.client();
    let mut ask = |path: &str, fields: &str| client.get(path, fields).status;
    let other_token = crate::rig::mint(&serde_json::json!({ "sub": "acme", "exp": now_s() + 61 }));
    assert_eq!(ask("/consumer", &bearer(&valid_token("acme"))), 200);
    assert_eq!(ask("/consumer", &bearer(&other_token)), 429, "another token of the same consumer");
    assert_eq!(ask("/consumer", &bearer(&valid_token("acme ".trim()))), 429);
    assert_eq!(ask("/consumer", &bearer(&valid_token("ACME"))), 200);

    let from = |ip: &str| format!("X-Forwarded-For: 6.6.6.6, {ip}\r\n");
    assert_eq!(ask("/ip", ""), 200);
    assert_eq!(ask("/ip", ""), 429);
    for (ip, status) in [
        ("192.0.2.1", 200),
        ("192.0.2.1", 429),
        ("::ffff:192.0.2.1", 429),
        ("192.0.2.2", 200),
        ("2001:db8::1", 200),
        ("2001:db8::ffff:1", 429),
        ("2001:db8:0:1::1", 200),
    ] {
        assert_eq!(ask("/ip", &from(ip)), status, "{ip}");
    }

    assert_eq!(ask("/route", &from("192.0.2.1")), 200);
    assert_eq!(ask("/route", &from("192.0.2.2")), 429);

    for (fields, status) in [
        ("X-Key: a\r\n", 200),
        ("x-key:   a  \r\n", 429),
        ("X-KEY: b\r\n", 200),
        ("X-Key: A\r\n", 200),
        ("", 400),
        ("X-Key:\r\n", 400),
        ("X-Key: \t \r\n", 400),
        ("X-Key: c\r\nX-Key: d\r\n", 400),
        ("X_Key: e\r\n", 400),
        ("X-Key: c\r\n", 200),
    ] {
        assert_eq!(ask("/header", fields), status, "{fields:?}");
    }
    let log = gateway.log(25);
    assert!(log.iter().any(|line| line["code"] == "limit_key_missing"));
}

#[test]
fn strangers_do_not_choose_their_address() {
    let endpoint = Endpoint::answering("ok");
    let gateway = limited(&endpoint, "{ by = \"ip\", quota = \"2/hour\" }").start();
    for attempt in 0..4 {
        let fields = format!(
            "X-Forwarded-For: 192.0.2.{attempt}\r\nX-Real-IP: 192.0.2.{attempt}\r\nForwarded: for=192.0.2.{attempt}\r\n"
        );
        assert_eq!(gateway.client().get("/", &fields).status, if attempt < 2 { 200 } else { 429 });
    }
    // Another address of this machine is another client.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let local: SocketAddr = (IpAddr::from([127, 0, 0, 2]), 0).into();
    socket.bind(&local.into()).unwrap();
    socket.connect(&gateway.address.into()).unwrap();
    let mut client = Client::over(socket.into());
    assert_eq!(admitted(&mut client, 4, ""), 2);
}

/// `"name";p=1;s=2, "name";…` by RFC 9651, strings and integers only.
fn parse_list(value: &str) -> Vec<(String, Vec<(String, u64)>)> {
    value
        .split(", ")
        .map(|item| {
            let (name, rest) = item.strip_prefix('"').unwrap().split_once('"').unwrap();
            assert!(name.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'\\'), "{value}");
            let parameters = rest.strip_prefix(';').unwrap().split(';').map(|parameter| {
                let (key, number) = parameter.split_once('=').unwrap();
                assert!(key.bytes().all(|byte| byte.is_ascii_lowercase()), "{value}");
                assert!(number.len() <= 15 && number.bytes().all(|byte| byte.is_ascii_digit()), "{value}");
                (key.to_owned(), number.parse().unwrap())
            });
            (name.to_owned(), parameters.collect())
        })
        .collect()
}

/// Checks a 429 by the contract and the draft; gives `Retry-After` in seconds, and `(q, w, r, t)` by policy.
#[track_caller]
fn read_refusal(answer: &Answer) -> (u64, Vec<[u64; 4]>) {
    assert_eq!((answer.status, answer.code().as_str()), (429, "quota_exceeded"), "{}", answer.head);
    assert_eq!(answer.json()["message"], "Too many requests!");
    let retry_after = answer.field("retry-after").expect("Retry-After").parse().unwrap();
    let policies = parse_list(answer.field("ratelimit-policy").expect("RateLimit-Policy"));
    let limits = parse_list(answer.field("ratelimit").expect("RateLimit"));
    let mut read = Vec::new();
    for ((policy, of_policy), (limit, of_limit)) in policies.iter().zip(&limits) {
        assert_eq!(policy, limit, "the same policies in the same order");
        assert_eq!(
            policies.iter().filter(|(name, _)| name == policy).count(),
            1,
            "{policy} names two policies"
        );
        let keys =
            |parameters: &[(String, u64)]| parameters.iter().map(|(key, _)| key.clone()).collect::<String>();
        assert_eq!((keys(of_policy), keys(of_limit)), ("qw".into(), "rt".into()));
        read.push([of_policy[0].1, of_policy[1].1, of_limit[0].1, of_limit[1].1]);
    }
    assert_eq!(policies.len(), limits.len());
    assert!(read.iter().all(|[q, w, r, t]| r < q && t <= w), "{}", answer.head);
    assert!(read.iter().any(|[_, _, r, _]| *r == 0), "something is used up");
    (retry_after, read)
}

#[test]
fn the_fields_of_a_refusal_are_the_drafts() {
    let endpoint = Endpoint::answering("ok");
    let gateway = limited(
        &endpoint,
        "{ by = \"ip\", quota = \"5/minute;7 per 2 hours\" }, { by = \"header:X-A\", quota = \"3/day\" }, \
         { by = \"header:X-B\", quota = \"9/day\" }, { by = \"route\", quota = \"1000/year\" }",
    )
    .start();
    let mut client = gateway.client();
    let fields = "X-A: 1\r\nX-B: 2\r\n";
    assert_eq!(admitted(&mut client, 3, fields), 3);
    let (retry_after, read) = read_refusal(&client.get("/", fields));
    let mut quotas: Vec<[u64; 3]> = read.iter().map(|&[q, w, r, _]| [q, w, r]).collect();
    quotas.sort_unstable();
    assert_eq!(quotas, [[3, 86_400, 0], [5, 60, 2], [7, 7_200, 4], [9, 86_400, 6], [1000, 31_104_000, 997]]);
    assert!((86_000..=86_400).contains(&retry_after), "{retry_after}");
    for [_, w, _, t] in read {
        assert!(t + 60 >= w, "t={t} w={w}: just used");
    }
    let head = client.send("HEAD / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-B: 2\r\n\r\n").answer_to_head();
    assert!(head.status == 429 && head.field("retry-after").is_some(), "{}", head.head);
}

#[test]
fn retry_after_is_true() {
    let endpoint = Endpoint::answering("ok");
    for quota in ["1/second", "3/second;4 per 2 seconds", "70 per 2 seconds"] {
        let gateway = limited(&endpoint, &format!("{{ by = \"route\", quota = \"{quota}\" }}")).start();
        let mut client = gateway.client();
        let refused = loop {
            let answer = client.get("/", "");
            if answer.status != 200 {
                break answer;
            }
        };
        let asked_at = Instant::now();
        let (retry_after, read) = read_refusal(&refused);
        assert!((1..=2).contains(&retry_after), "{retry_after}");
        assert!(read.iter().all(|[_, w, _, _]| *w <= 2));
        let patient = asked_at + Duration::from_secs(retry_after);
        until("as long as Retry-After says", || Instant::now() >= patient);
        assert_eq!(client.get("/", "").status, 200, "{quota}: waited {retry_after} s in vain");
    }
}

#[test]
fn a_full_table_makes_room_and_forgives_nobody() {
    let endpoint = Endpoint::answering("ok");
    let gateway = limited(&endpoint, "{ by = \"header:X-Key\", quota = \"3/hour\" }")
        .set("bounds", "limit_keys = 8")
        .start();
    let mut client = gateway.client();
    let key = |number: usize| format!("X-Key: {number}\r\n");
    for number in 0..8 {
        assert_eq!(admitted(&mut client, 1, &key(number)), 1);
    }
    // A newcomer counts as having used as much as the one who made room, who comes back with what it had left.
    assert_eq!(admitted(&mut client, 3, &key(8)), 2);
    for number in 0..8 {
        assert!(admitted(&mut client, 3, &key(number)) <= 2, "{number} was forgiven what it had used");
    }
    assert!(gateway.metric("tollgate_limit_displaced_total") >= 1.0);
    assert_eq!(gateway.metric("tollgate_limit_keys"), 8.0);
    // Once all have used all, there is nobody to make room.
    for number in 100..120 {
        admitted(&mut client, 3, &key(number));
    }
    let refused = client.get("/", &key(200));
    let (retry_after, _) = read_refusal(&refused);
    assert!((3_500..=3_600).contains(&retry_after), "{retry_after}");
    until("a line that says why", || {
        gateway.lines_so_far("access.log").iter().any(|line| line["reason"] == "limit table full")
    });
}

/// Breaks if a quota by the calendar were anything but what its period has left, or its end another.
#[test]
fn by_the_calendar_all_comes_back_at_its_end() {
    let endpoint = Endpoint::answering("ok");
    let gateway =
        limited(&endpoint, "{ by = \"route\", strategy = \"calendar\", quota = \"5/month;3/day\" }").start();
    let mut client = gateway.client();
    // Midnight may come between.
    assert!((3..=5).contains(&admitted(&mut client, 10, "")));
    let (retry_after, _) = read_refusal(&client.get("/", ""));
    let day_s = 86_400;
    let left_s = day_s - now_s() % day_s;
    assert!(
        (left_s..=left_s + 20).contains(&retry_after) || retry_after > day_s,
        "{retry_after} of {left_s}"
    );
}

/// Breaks if a bucket held more or less than its burst, or filled at another rate.
#[test]
fn a_bucket_lets_its_burst_through_and_then_its_rate() {
    let endpoint = Endpoint::answering("ok");
    let bucket = "{ by = \"route\", strategy = \"token-bucket\", rate = \"1/hour\", burst = 7 }";
    let gateway = limited(&endpoint, bucket).start();
    let mut client = gateway.client();
    assert_eq!(admitted(&mut client, 20, ""), 7);
    let refused = client.get("/", "");
    let (retry_after, _) = read_refusal(&refused);
    assert!((3_500..=3_600).contains(&retry_after), "{retry_after}");
    assert_eq!(refused.field("RateLimit-Policy"), Some("\"route-25200s\";q=7;w=25200"));
    // One that fills while we look.
    let quick = bucket.replace("1/hour", "20/second");
    let gateway = limited(&endpoint, &quick).start();
    let mut client = gateway.client();
    assert!(admitted(&mut client, 7, "") == 7);
    until("more to flow in", || client.get("/", "").status == 200);
}

/// Breaks if what belongs to one strategy were taken, and forgotten, in another.
#[test]
fn strategies_have_what_they_need_and_nothing_else() {
    for (limit, expected) in [
        ("strategy = \"exactly\", quota = \"1/second\"", "strategy: \"exactly\" is not one of"),
        (
            "strategy = \"token-bucket\", quota = \"1/second\", rate = \"1/second\", burst = 1",
            "a token bucket has a rate",
        ),
        ("strategy = \"token-bucket\", rate = \"1/second\"", "burst: is missing"),
        ("strategy = \"token-bucket\", burst = 3", "rate: is missing"),
        ("strategy = \"token-bucket\", rate = \"1/second;5/day\", burst = 3", "a bucket has one rate"),
        ("strategy = \"calendar\", quota = \"10/second\"", "the calendar has a minute"),
        ("quota = \"1/second\", burst = 3", "belongs to strategy = \"token-bucket\""),
        ("mode = \"shadow\"", "quota: is missing"),
    ] {
        let text = format!(
            "[[cluster]]\nname = \"main\"\nendpoints = [{{ address = \"127.0.0.1:1\" }}]\n\
             [[route]]\nname = \"all\"\npath = \"/\"\ncluster = \"main\"\nlimit = [{{ by = \"ip\", {limit} }}]\n"
        );
        let output = check(&text);
        assert!(!output.status.success() && said(&output).contains(expected), "{limit}: {}", said(&output));
    }
}
