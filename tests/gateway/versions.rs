//! API versions: which one a request gets, what its answers announce, and when it is gone.

use serde_json::{Value, json};

use crate::rig::{Client, Endpoint, Gateway, Setup, bearer, mint, now_s, tollgate, until, valid_token};

/// An endpoint that says its name, and things about its end that are not for it to say.
fn named(name: &'static str) -> Endpoint {
    Endpoint::scripted(move |talk, seen| {
        talk.read_body(seen);
        let head = "HTTP/1.1 200 OK\r\nDeprecation: @1\r\nSUNSET: never\r\nLink: </own>; rel=\"own\"\r\n";
        talk.send(format!("{head}Content-Length: {}\r\n\r\n{name}", name.len()));
    })
}

/// A time so many seconds from now, as the configuration has it.
fn at(seconds: i64) -> String {
    let now_s = i64::try_from(now_s()).unwrap();
    jiff::Timestamp::from_second(now_s + seconds).unwrap().to_string()
}

const DAY: i64 = 86_400;

/// The version that a request to `/pay` with these fields gets, or the code of a refusal.
fn get(client: &mut Client, lines: &str) -> String {
    let answer = client.get("/pay", lines);
    if answer.status == 200 { answer.text() } else { format!("{} {}", answer.status, answer.code()) }
}

#[test]
fn answers_of_a_deprecated_version_say_so_and_name_the_successor() {
    let (v1, v2) = (named("v1"), named("v2"));
    let (deprecated, sunset) = (at(-DAY), at(30 * DAY));
    let gateway = Setup::new()
        .keys("")
        .cluster("v1", &[v1.address], "")
        .cluster("v2", &[v2.address], "")
        .text(&format!(
            "[[api]]\nname = \"pay\"\n\
             [[api.version]]\nname = \"v1\"\ndeprecated = \"{deprecated}\"\nsunset = \"{sunset}\"\n\
             successor = \"v2\"\ndocs = \"https://docs.example/move\"\n\
             [[api.version]]\nname = \"v2\"\n"
        ))
        .route("other", "/api/v2", "v2", "api = \"pay\"\nversion = \"v2\"")
        .route("v1", "/api/v1/payment", "v1", "api = \"pay\"\nversion = \"v1\"\njwt = \"partners\"")
        .route("v2", "/api/v2/payment", "v2", "api = \"pay\"\nversion = \"v2\"")
        .start();
    let mut client = gateway.client();
    let served = client.get("/api/v1/payment/7", &bearer(&valid_token("acme")));
    let refused = client.get("/api/v1/payment", "");
    assert_eq!(
        (served.status, served.text().as_str(), refused.code().as_str()),
        (200, "v1", "token_missing")
    );
    let successor = "</api/v2/payment>; rel=\"successor-version\"; title=\"v2\"";
    let docs = "<https://docs.example/move>; rel=\"deprecation\"; type=\"text/html\"";
    for answer in [&served, &refused] {
        let [date] = answer.fields("deprecation")[..] else { panic!("{}", answer.head) };
        let since: i64 = date.strip_prefix('@').unwrap().parse().unwrap();
        assert!((i64::try_from(now_s()).unwrap() - DAY - since).abs() < 60, "{date}");
        let [date] = answer.fields("sunset")[..] else { panic!("{}", answer.head) };
        assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
        let links = answer.fields("link");
        assert!(links.contains(&successor) && links.contains(&docs), "{links:?}");
    }
    assert!(served.fields("link").contains(&"</own>; rel=\"own\""), "the endpoint's other links stay");
    let newer = client.get("/api/v2/payment", "");
    assert_eq!((newer.text().as_str(), newer.fields("deprecation")), ("v2", vec!["@1"]), "{}", newer.head);
    let line = &gateway.log(1)[0];
    assert_eq!(line["version"], "v1");
}

#[test]
fn a_version_is_chosen_by_a_header() {
    let (v1, v2) = (named("v1"), named("v2"));
    let setup = |default: &str| {
        Setup::new()
            .cluster("v1", &[v1.address], "")
            .cluster("v2", &[v2.address], "")
            .text(&format!(
                "[[api]]\nname = \"pay\"\nchoose = \"header\"\nheader = \"X-Api-Version\"\n{default}\n\
                 [[api.version]]\nname = \"v1\"\n[[api.version]]\nname = \"v2\"\n"
            ))
            .route("v1", "/pay", "v1", "api = \"pay\"\nversion = \"v1\"\nmethods = [\"GET\"]")
            .route("v2", "/pay", "v2", "api = \"pay\"\nversion = \"v2\"\nmethods = [\"GET\", \"POST\"]")
    };
    let gateway = setup("default = \"v1\"").start();
    let mut client = gateway.client();
    assert_eq!(get(&mut client, ""), "v1");
    assert_eq!(get(&mut client, "X-Api-Version: v1\r\n"), "v1");
    assert_eq!(get(&mut client, "x-api-version: V2\r\n"), "v2");
    assert_eq!(get(&mut client, "X-Api-Version: v3\r\n"), "400 version_unknown");
    assert_eq!(get(&mut client, "X-Api-Version: \r\n"), "400 version_unknown");
    assert_eq!(get(&mut client, "X-Api-Version: v1\r\nX-Api-Version: v2\r\n"), "400 version_unknown");
    let answer = client.get("/pay", "X-Api-Version: v2\r\n");
    assert_eq!(answer.fields("vary"), ["X-Api-Version"]);
    // The one version has the method, the other has not.
    client.send("POST /pay HTTP/1.1\r\nHost: a\r\nX-Api-Version: v2\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.answer().text(), "v2");
    client.send("POST /pay HTTP/1.1\r\nHost: a\r\nX-Api-Version: v1\r\nContent-Length: 0\r\n\r\n");
    let refused = client.answer();
    assert_eq!((refused.code().as_str(), refused.field("allow")), ("method_not_allowed", Some("GET, HEAD")));
    let strict = setup("").start();
    assert_eq!(get(&mut strict.client(), ""), "400 version_unknown");
}

#[test]
fn a_version_is_chosen_by_a_media_type() {
    let (v1, v2) = (named("v1"), named("v2"));
    let gateway = Setup::new()
        .cluster("v1", &[v1.address], "")
        .cluster("v2", &[v2.address], "")
        .text(
            "[[api]]\nname = \"pay\"\nchoose = \"media-type\"\ndefault = \"v2\"\n\
             media_type = \"application/vnd.acme.{version}+json\"\n\
             [[api.version]]\nname = \"v1\"\n[[api.version]]\nname = \"v2\"\n",
        )
        .route("v1", "/pay", "v1", "api = \"pay\"\nversion = \"v1\"")
        .route("v2", "/pay", "v2", "api = \"pay\"\nversion = \"v2\"")
        .start();
    let mut client = gateway.client();
    for (accept, expected) in [
        ("", "v2"),
        ("Accept: */*\r\n", "v2"),
        ("Accept: application/vnd.acme.v1+json\r\n", "v1"),
        ("Accept: application/vnd.acme.v1+json;q=0.1, application/vnd.acme.v2+json;q=0.2\r\n", "v2"),
        ("Accept: application/vnd.acme.v9+json\r\n", "406 version_not_acceptable"),
    ] {
        assert_eq!(get(&mut client, accept), expected, "{accept}");
    }
    assert_eq!(client.get("/pay", "").fields("vary"), ["Accept"]);
}

/// One version `v1` with these lines, for `/pay`, with tokens.
fn one_version(endpoint: &Endpoint, lines: &str) -> Setup {
    Setup::new()
        .keys("")
        .cluster("main", &[endpoint.address], "")
        .text(&format!("[[api]]\nname = \"pay\"\n[[api.version]]\nname = \"v1\"\n{lines}\n"))
        .route("pay", "/pay", "main", "api = \"pay\"\nversion = \"v1\"\njwt = \"partners\"")
}

#[test]
fn a_retired_version_is_gone_and_it_is_known_who_still_asks() {
    let endpoint = named("v1");
    let dates = format!("deprecated = \"{}\"\nsunset = \"{}\"", at(-2 * DAY), at(-DAY));
    let gateway = one_version(&endpoint, &dates).start();
    let mut client = gateway.client();
    for _ in 0..3 {
        let answer = client.get("/pay", &bearer(&valid_token("acme")));
        assert_eq!((answer.status, answer.code().as_str()), (410, "version_retired"));
        assert_eq!(answer.fields("sunset").len(), 1);
    }
    assert_eq!(client.get("/pay", "").status, 401);
    assert_eq!(endpoint.connections(), 0, "nobody was asked");
    let mut version = Value::Null;
    until("all calls to be counted", || {
        let (status, apis) = gateway.admin_get("/apis");
        let apis: Value = serde_json::from_str(&apis).unwrap();
        version = apis[0]["versions"][0].clone();
        status == 200 && version["without_credential"]["calls"] == 1
    });
    assert_eq!((&version["state"], &version["routes"]), (&json!("retired"), &json!(["pay"])));
    let caller = &version["callers"][0];
    assert_eq!(
        (&caller["consumer"], &caller["calls"], &caller["refused"]),
        (&json!("acme"), &json!(3), &json!(3))
    );
    assert!(caller["last_call"].as_str().unwrap().ends_with('Z'), "{caller}");
}

#[test]
fn a_version_retires_at_its_hour_without_a_reload() {
    let endpoint = named("v1");
    let dates = format!("deprecated = \"{}\"\nsunset = \"{}\"", at(-DAY), at(2));
    let gateway = one_version(&endpoint, &dates).start();
    let mut client = gateway.client();
    let token = bearer(&valid_token("acme"));
    until("the version to retire", || client.get("/pay", &token).status == 410);
}

#[test]
fn a_brownout_answers_like_the_end_and_passes() {
    let endpoint = named("v1");
    let lines = format!(
        "deprecated = \"{}\"\nbrownouts = [{{ from = \"{}\", until = \"{}\" }}, {{ from = \"{}\", until = \"{}\" }}]",
        at(-DAY),
        at(-60),
        at(3600),
        at(2 * DAY),
        at(3 * DAY),
    );
    let gateway = one_version(&endpoint, &lines).start();
    let answer = gateway.client().get("/pay", &bearer(&valid_token("acme")));
    assert_eq!((answer.status, answer.code().as_str()), (410, "version_brownout"));
    let left: u64 = answer.field("retry-after").unwrap().parse().unwrap();
    assert!((3_000..=3_600).contains(&left), "{left}");
    assert_eq!(answer.field("cache-control"), Some("no-store"));
}

const OPENAPI: &str = "openapi: 3.1.0
info: { title: Pay, version: '1' }
servers: [{ url: https://api.example/pay }]
paths:
  /:
    get: { responses: {} }
  /{id}/lines:
    get: { responses: {} }
    post: { responses: {} }
";

#[test]
fn what_the_description_does_not_know_is_refused_and_callers_may_read_it() {
    let endpoint = named("v1");
    let lines = "openapi = \"pay.yaml\"\nopenapi_path = \"/pay/openapi.yaml\"";
    let gateway = one_version(&endpoint, lines).file("pay.yaml", OPENAPI.as_bytes()).start();
    let mut client = gateway.client();
    let token = bearer(&valid_token("acme"));
    for (path, expected) in [("/pay", "v1"), ("/pay/7/lines", "v1"), ("/pay/7", "operation_unknown")] {
        let answer = client.get(path, &token);
        assert_eq!(if answer.status == 200 { answer.text() } else { answer.code() }, expected, "{path}");
    }
    client.send(format!("DELETE /pay/7/lines HTTP/1.1\r\nHost: a\r\n{token}\r\n"));
    let refused = client.answer();
    assert_eq!((refused.status, refused.field("allow")), (405, Some("GET, HEAD, POST")));
    // Without a credential nobody learns what there is.
    assert_eq!(client.get("/pay/7", "").code(), "token_missing");
    assert_eq!(client.get("/pay/openapi.yaml", "").code(), "token_missing");
    let asked = endpoint.seen(2).len();
    let answer = client.get("/pay/openapi.yaml", &token);
    assert_eq!((answer.status, answer.text().as_str()), (200, OPENAPI));
    assert_eq!(answer.field("content-type"), Some("application/yaml"));
    client.send(format!("HEAD /pay/openapi.yaml HTTP/1.1\r\nHost: a\r\n{token}\r\n"));
    assert_eq!(client.answer_to_head().status, 200);
    assert_eq!(client.get("/pay", &token).text(), "v1", "the connection is still of use");
    assert_eq!(endpoint.seen(asked + 1).len(), asked + 1, "the document came from the gateway");
    assert_eq!(gateway.admin_get("/apis/pay/v1/openapi"), (200, OPENAPI.to_owned()));
    assert_eq!(gateway.admin_get("/apis/pay/v2/openapi").0, 404);
}

#[test]
fn the_catalogue_shows_it_all_and_escapes_it() {
    let endpoint = named("v1");
    let gateway = one_version(&endpoint, "")
        .route(
            "<script>alert(1)</script>",
            "/open",
            "main",
            "limit = [{ by = \"ip\", quota = \"5/minute\" }]",
        )
        .text(
            "[[consumer]]\nid = \"acme\"\nallow = [{ routes = [\"pay\"], methods = [\"GET\"] }]\n\
             [[consumer]]\nid = \"zeta\"\nallow = []\n[[consumer]]\nid = \"free\"\nin_flight = 9\n",
        )
        .start();
    let (status, page) = gateway.admin_get("/catalogue");
    assert_eq!(status, 200);
    for shown in [
        "<h2>pay</h2>",
        "v1",
        "/pay",
        "a token of partners",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "by ip",
        "<td>acme</td><td><div>GET at pay</div></td>",
        "<td>zeta</td><td>nowhere</td>",
    ] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
    assert!(!page.contains("<script") && !page.contains("free"), "{page}");
    assert!(!page.contains("src=") && !page.contains("url("), "nothing from elsewhere");
}

#[test]
fn explain_says_which_version_it_is() {
    let endpoint = named("v1");
    let directory = one_version(&endpoint, &format!("deprecated = \"{}\"", at(-DAY))).write();
    let token = valid_token("acme");
    let told = |path: &str| {
        let arguments = ["explain", "--config", "tollgate.toml", "--token", &token, "GET", path];
        String::from_utf8(tollgate(directory.path(), &arguments).stdout).unwrap()
    };
    let line = "version     v1 of pay, deprecated\n";
    assert!(told("/pay").contains(line), "{}", told("/pay"));
    let directory = one_version(&endpoint, "state = \"retired\"").write();
    let arguments = ["explain", "--config", "tollgate.toml", "--token", &token, "GET", "/pay"];
    let told = String::from_utf8(tollgate(directory.path(), &arguments).stdout).unwrap();
    assert!(told.contains("version     v1 of pay, retired\nrefused: 410 version_retired"), "{told}");
}

#[test]
fn counts_outlive_a_reload() {
    let endpoint = named("v1");
    let gateway = one_version(&endpoint, "").start();
    let token = bearer(&mint(&json!({ "sub": "acme", "exp": now_s() + 600 })));
    assert_eq!(gateway.client().get("/pay", &token).status, 200);
    let calls = |gateway: &Gateway| -> Value {
        let apis: Value = serde_json::from_str(&gateway.admin_get("/apis").1).unwrap();
        apis[0]["versions"][0]["callers"][0]["calls"].clone()
    };
    until("the call to be counted", || calls(&gateway) == 1);
    let changed = one_version(&endpoint, "state = \"retired\"");
    assert_eq!(gateway.reload(&changed).0, 200);
    assert_eq!(gateway.client().get("/pay", &token).code(), "version_retired");
    until("both calls to be counted", || calls(&gateway) == 2);
}

#[test]
fn a_broken_description_leaves_the_old_one_in_force() {
    let endpoint = named("v1");
    let setup = |document: &str| {
        one_version(&endpoint, "openapi = \"pay.yaml\"").file("pay.yaml", document.as_bytes())
    };
    let gateway = setup(OPENAPI).start();
    let token = bearer(&valid_token("acme"));
    let (status, report) = gateway.reload(&setup("openapi: 3.1.0\npaths:\n  /a: { get: text }\n"));
    assert_eq!(status, 422);
    let mistake = report["mistakes"][0].as_str().unwrap();
    assert!(mistake.contains("pay.yaml:3: paths./a.get: "), "{mistake}");
    let mut client = gateway.client();
    assert_eq!(client.get("/pay", &token).text(), "v1");
    assert_eq!(client.get("/pay/a", &token).code(), "operation_unknown");
    assert_eq!(gateway.reload(&setup("openapi: 3.1.0\npaths:\n  /pay/a: { get: {} }\n")).0, 200);
    assert_eq!(client.get("/pay/a", &token).text(), "v1");
    assert_eq!(client.get("/pay", &token).code(), "operation_unknown");
}

#[test]
fn mistakes_are_told_with_their_place() {
    let endpoint = named("v1");
    for (lines, expected) in [
        (
            "deprecated = \"2026-02-01\"\nsunset = \"2026-01-01\"",
            "version[0].sunset: \"2026-01-01\" is not after",
        ),
        ("state = \"deprecated\"", "version[0].state: a deprecated version says since when"),
        (
            "state = \"retired\"\nsunset = \"2999-01-01\"",
            "version[0].sunset: \"2999-01-01\" is still to come",
        ),
        (
            "state = \"deprecated\"\ndeprecated = \"2999-01-01\"",
            "version[0].deprecated: \"2999-01-01\" is still to come",
        ),
        ("successor = \"v2\"", "version[0].successor: no version is named \"v2\""),
        ("successor = \"v1\"", "version[0].successor: following the successors of \"v1\" leads back to it"),
        (
            "brownouts = [{ from = \"2026-01-02\", until = \"2026-01-01\" }]",
            "brownouts[0].until: \"2026-01-01\" is not after",
        ),
        (
            "brownouts = [{ from = \"2026-01-01\", until = \"2026-01-02\" }]",
            "deprecated before its first brown-out",
        ),
        ("openapi = \"none.yaml\"", "version[0].openapi: "),
        ("openapi = \"broken.yaml\"", "broken.yaml:3: paths./a.get: "),
        ("openapi = \"broken.json\"", "broken.json:2: "),
        ("openapi_path = \"/pay/x\"", "version[0].openapi_path: there is nothing to serve there"),
        ("[[api.version]]\nname = \"V1\"", "version[1].name: \"v1\" on line"),
        ("state = \"old\"", "version[0].state: \"old\" is not one of"),
    ] {
        let directory = one_version(&endpoint, lines)
            .file("broken.yaml", b"openapi: 3.1.0\npaths:\n  /a: { get: text }\n")
            .file("broken.json", b"{\n  \"openapi\" 1\n}\n")
            .write();
        let checked = tollgate(directory.path(), &["check", "tollgate.toml"]);
        let said =
            String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
        assert_eq!(checked.status.code(), Some(78), "{lines}: {said}");
        assert!(said.contains(expected) && said.contains("tollgate.toml:"), "{lines}: {said}");
    }
}
