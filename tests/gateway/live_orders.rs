//! What the admin API changes while the gateway runs: quotas of consumers, the log's level; and the last exchanges.

use std::fs;

use serde_json::{Value, json};

use crate::{
    rig::{Client, Endpoint, Gateway, Setup, bearer, until, valid_token},
    upgrade::Dynasty,
};

/// Status and answer of an order or a question.
#[track_caller]
pub(crate) fn ask(gateway: &Gateway, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let mut client = Client::connect(gateway.admin);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    ));
    let answer = client.answer();
    (answer.status, answer.json())
}

fn limited(endpoint: &Endpoint, quota: &str) -> Setup {
    Setup::new().keys("").cluster("main", &[endpoint.address], "").route(
        "all",
        "/",
        "main",
        &format!("jwt = \"partners\"\nlimit = [{{ by = \"consumer\", quota = \"{quota}\" }}]"),
    )
}

/// How many of `tries` requests of `consumer` pass.
fn passes(gateway: &Gateway, consumer: &str, tries: usize) -> usize {
    let token = bearer(&valid_token(consumer));
    let mut client = gateway.client();
    (0..tries).filter(|_| client.get("/", &token).status == 200).count()
}

/// Broken by an override that begins with nothing used, or one whose end hands out the old quota again.
#[test]
fn an_override_counts_at_once_and_what_was_used_stays_used() {
    let endpoint = Endpoint::answering("ok");
    let gateway = limited(&endpoint, "4/hour").shards(2).start();
    assert_eq!((passes(&gateway, "acme", 9), passes(&gateway, "other", 1)), (4, 1));
    let set =
        |quota: &str| ask(&gateway, "POST", "/overrides", &json!({ "consumer": "acme", "quota": quota }));
    let (status, answer) = set("10/hour");
    assert_eq!(
        (status, &answer["override"]["quota"], &answer["routes"]),
        (200, &json!("10/3600s"), &json!(["all"]))
    );
    assert_eq!(passes(&gateway, "acme", 20), 6, "ten, of which four were used");
    // Less than is used already: nothing passes.
    assert_eq!(set("5/hour").0, 200);
    assert_eq!(passes(&gateway, "acme", 5), 0);
    assert_eq!(set("12/hour").0, 200);
    let passed = passes(&gateway, "acme", 20);
    assert!(passed <= 7, "{passed}: five of twelve are used at least");
    let (status, cleared) = ask(&gateway, "DELETE", "/overrides", &json!({ "consumer": "acme" }));
    assert_eq!((status, &cleared["cleared"]["consumer"]), (200, &json!("acme")));
    assert_eq!(passes(&gateway, "acme", 5), 0, "the four of the configuration are used");
    assert_eq!(passes(&gateway, "other", 9), 3, "nobody else has noticed anything");
    assert_eq!(ask(&gateway, "DELETE", "/overrides", &json!({ "consumer": "acme" })).0, 404);
    assert_eq!(ask(&gateway, "GET", "/overrides", &Value::Null).1["overrides"], json!([]));
}

#[test]
fn an_override_survives_reloads_and_ends_when_it_should() {
    let endpoint = Endpoint::answering("ok");
    let gateway = limited(&endpoint, "2/hour").start();
    let order = |ttl: &str| json!({ "consumer": "acme", "quota": "100/hour", "ttl": ttl });
    assert_eq!(ask(&gateway, "POST", "/overrides", &order("1h")).0, 200);
    assert_eq!(passes(&gateway, "acme", 5), 5);
    // The file says something else of the same consumer, and what an operator has ordered counts.
    let with_file = limited(&endpoint, "2/hour").text("\n[[consumer]]\nid = \"acme\"\nquota = \"1/hour\"\n");
    assert_eq!(gateway.reload(&with_file).0, 200);
    assert_eq!(passes(&gateway, "acme", 5), 5);
    let listed = ask(&gateway, "GET", "/overrides", &Value::Null).1;
    assert_eq!(listed["overrides"][0]["consumer"], "acme");
    assert!(listed["overrides"][0]["until"].is_string());
    assert_eq!(ask(&gateway, "POST", "/overrides", &order("1s")).0, 200);
    until("its end", || ask(&gateway, "GET", "/overrides", &Value::Null).1["overrides"] == json!([]));
    until("the quota of the file", || passes(&gateway, "acme", 1) == 0);
    until("the line", || gateway.said().iter().any(|line| line.contains("overrides have ended: acme")));
}

#[test]
fn orders_that_make_no_sense_change_nothing() {
    let endpoint = Endpoint::answering("ok");
    let gateway = limited(&endpoint, "2/hour").start();
    for order in [
        json!({ "consumer": "", "quota": "1/second" }),
        json!({ "consumer": "a" }),
        json!({ "consumer": "a", "quota": "1/week" }),
        json!({ "consumer": "a", "quota": "1/second", "rate": "1/second" }),
        json!({ "consumer": "a", "strategy": "token-bucket", "rate": "1/second" }),
        json!({ "consumer": "a", "strategy": "sometimes", "quota": "1/second" }),
        json!({ "consumer": "a", "quota": "1/second", "ttl": "1h", "until": "2100-01-01" }),
        json!({ "consumer": "a", "quota": "1/second", "until": "2001-01-01" }),
    ] {
        let (status, answer) = ask(&gateway, "POST", "/overrides", &order);
        assert_eq!((status, answer["error"].is_string()), (400, true), "{order}");
    }
    for (path, order) in
        [("/log-level", json!({ "level": "loud" })), ("/log-level", json!({ "level": "info", "ttl": "-1s" }))]
    {
        assert_eq!(ask(&gateway, "POST", path, &order).0, 400, "{order}");
    }
    assert_eq!(gateway.metric("tollgate_config_generation"), 1.0);
    let public = Setup::proxy(endpoint.address).start();
    let order = json!({ "consumer": "a", "quota": "1/second" });
    let (status, answer) = ask(&public, "POST", "/overrides", &order);
    assert_eq!(status, 409, "{answer}");
}

/// Broken by a successor that knows only the file: who was revoked would be let in, who was given more refused.
#[test]
fn a_successor_is_told_of_orders() {
    let endpoint = Endpoint::answering("ok");
    let mut dynasty = Dynasty::found(limited(&endpoint, "2/hour"));
    let order = json!({ "consumer": "acme", "quota": "5/hour" });
    assert_eq!(ask(&dynasty.gateway, "POST", "/overrides", &order).0, 200);
    assert_eq!(ask(&dynasty.gateway, "POST", "/revoke", &json!({ "sub": "lost", "ttl": "1h" })).0, 200);
    assert_eq!((passes(&dynasty.gateway, "acme", 3), passes(&dynasty.gateway, "lost", 1)), (3, 0));
    dynasty.upgrade();
    assert_eq!((passes(&dynasty.gateway, "acme", 9), passes(&dynasty.gateway, "lost", 1)), (2, 0));
    let (_, listed) = ask(&dynasty.gateway, "GET", "/overrides", &Value::Null);
    assert_eq!(listed["overrides"][0]["consumer"], "acme");
    let (_, revoked) = ask(&dynasty.gateway, "GET", "/revoked", &Value::Null);
    assert_eq!(revoked["admin"][0]["sub"], "lost");
    assert!(revoked["admin"][0]["until"].is_string());
    assert_eq!(ask(&dynasty.gateway, "DELETE", "/revoke", &json!({ "sub": "lost" })).0, 200);
    // What the predecessor still accepts while it parts goes by what it knew.
    until("the successor to be asked", || passes(&dynasty.gateway, "lost", 1) == 1);
}

#[test]
fn the_log_says_more_for_a_while_and_orders_at_any_level() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address).start();
    let said = |words: &str| gateway.said().iter().filter(|line| line.contains(words)).count();
    let level = || ask(&gateway, "GET", "/log-level", &Value::Null).1["level"].clone();
    assert_eq!(level(), "info");
    assert_eq!(said("admin: GET /log-level"), 0);
    let (status, answer) = ask(&gateway, "POST", "/log-level", &json!({ "level": "debug" }));
    assert_eq!((status, &answer["level"], &answer["until"]), (200, &json!("debug"), &Value::Null));
    assert_eq!(level(), "debug");
    until("questions to be said", || said("admin: GET /log-level") == 1);
    assert_eq!(ask(&gateway, "POST", "/log-level", &json!({ "level": "error", "ttl": "1s" })).0, 200);
    assert_eq!(ask(&gateway, "POST", "/reload", &Value::Null).0, 200);
    until("the order to be said all the same", || said("admin: POST /reload") == 1);
    assert_eq!(said("reload: configuration 2 is in force"), 0);
    until("the usual level", || level() == "info");
    until("the line", || said("level is info again") == 1);
}

#[test]
fn the_last_exchanges_are_those_of_the_log() {
    let endpoint = Endpoint::answering("ok");
    let gateway = limited(&endpoint, "2/hour")
        .route("open", "/open", "main", "")
        .set("log", "format = \"combined\"")
        .start();
    assert_eq!((passes(&gateway, "acme", 3), passes(&gateway, "other", 1)), (2, 1));
    let card =
        gateway.client().get("/open/4111111111111111?token=secret", "Authorization: Bearer secret\r\n");
    assert_eq!(card.status, 200);
    let listed = |query: &str| -> Vec<Value> {
        let (status, listed) = ask(&gateway, "GET", &format!("/exchanges{query}"), &Value::Null);
        assert_eq!(status, 200, "{listed}");
        listed.as_array().unwrap().clone()
    };
    until("all of them", || listed("").len() == 5);
    let all = listed("");
    let newest = &all[0];
    assert_eq!((&newest["route"], &newest["status"]), (&json!("open"), &json!(200)));
    assert_eq!((&newest["cluster"], &newest["delivery"]), (&json!("main"), &json!("answered")));
    let text = Value::from(all.clone()).to_string();
    assert!(!text.contains("4111111111111111") && !text.contains("secret"), "{text}");
    let count = |query: &str| listed(query).len();
    assert_eq!([count("?last=2"), count("?last=0"), count("?route=all"), count("?route=none")], [2, 0, 4, 0]);
    assert_eq!([count("?status=429"), count("?status=4xx"), count("?status=2xx")], [1, 1, 4]);
    assert_eq!([count("?consumer=acme"), count("?consumer=acme&status=200&last=1")], [3, 1]);
    // Names are those of the configuration that decided.
    let renamed = limited(&endpoint, "2/hour").route("renamed", "/open", "main", "");
    assert_eq!(gateway.reload(&renamed).0, 200);
    assert_eq!([count("?route=open"), count("?route=renamed")], [1, 0]);
    let silent = Setup::proxy(endpoint.address).set("log", "access = \"off\"").start();
    assert_eq!(ask(&silent, "GET", "/exchanges", &Value::Null).0, 409);
    assert!(fs::read_to_string(gateway.directory().join("access.log")).unwrap().contains("GET /open/"));
}
