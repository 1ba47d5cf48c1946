//! Revocation: by file and by admin API, on every shard, for tokens that are remembered too, and a list that
//! breaks or vanishes opens nothing.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::{Value, json};

use crate::{
    config::{GOOD, check, code, said},
    rig::{Client, Endpoint, Gateway, Setup, bearer, tollgate, until},
    tokens::with,
};

/// Status and answer of an order to the admin API.
fn order(gateway: &Gateway, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(gateway.admin).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: admin\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

fn protected(endpoint: &Endpoint) -> Setup {
    Setup::new().keys("").cluster("main", &[endpoint.address], "").route(
        "all",
        "/",
        "main",
        "jwt = \"partners\"",
    )
}

/// A good token with this name.
fn named(jti: &str) -> String {
    bearer(&with(&json!({ "jti": jti })))
}

/// Replaces the list as an operator should: whole, by a rename.
fn replace(gateway: &Gateway, text: &str) {
    let path = gateway.directory().join("revoked.txt");
    fs::write(path.with_extension("new"), text).unwrap();
    fs::rename(path.with_extension("new"), path).unwrap();
}

/// Asks until the status is `wanted`. Every answer until then is the other one.
fn until_status(client: &mut Client, fields: &str, wanted: u16) {
    until(&format!("{wanted} for {fields}"), || {
        let status = client.get("/", fields).status;
        assert!([200, 401].contains(&status), "{status}");
        status == wanted
    });
}

#[test]
fn the_admin_api_revokes_on_every_shard_before_it_answers() {
    let endpoint = Endpoint::answering("ok");
    let gateway = protected(&endpoint).shards(3).start();
    let (lost, kept) = (named("lost"), named("kept"));
    let mut clients: Vec<Client> = (0..12).map(|_| gateway.client()).collect();
    for client in &mut clients {
        assert_eq!((client.get("/", &lost).status, client.get("/", &kept).status), (200, 200));
    }
    assert!(gateway.metric("tollgate_jwt_verifications_total{result=\"remembered\"}") >= 9.0);
    for round in 0..3 {
        let (status, answer) = order(&gateway, "POST", "/revoke", r#"{"jti":"lost","ttl":"1h"}"#);
        assert_eq!((status, &answer["revoked"]["jti"]), (200, &json!("lost")), "{answer}");
        for client in &mut clients {
            let answer = client.get("/", &lost);
            assert_eq!((answer.status, answer.code().as_str()), (401, "token_invalid"), "round {round}");
            assert_eq!(client.get("/", &kept).status, 200);
        }
        assert_eq!(order(&gateway, "DELETE", "/revoke", r#"{"jti":"lost"}"#).0, 200);
        for client in &mut clients {
            assert_eq!(client.get("/", &lost).status, 200, "round {round}");
        }
    }
    assert_eq!(order(&gateway, "DELETE", "/revoke", r#"{"jti":"lost"}"#).0, 404);
    let log = gateway.log(24 + 3 * 36);
    let refused: Vec<&Value> = log.iter().filter(|line| line["status"] == 401).collect();
    assert_eq!(refused.len(), 36);
    assert!(refused.iter().all(|line| line["reason"] == "revoked by jti"), "{refused:?}");
    assert_eq!(gateway.metric("tollgate_jwt_verifications_total{result=\"revoked\"}"), 36.0);
    assert_eq!(gateway.metric("tollgate_revoked_entries{source=\"admin\"}"), 0.0);
}

#[test]
fn subjects_and_keys_are_revoked_whole_and_api_keys_too() {
    let endpoint = Endpoint::answering("ok");
    let directory = crate::rig::Directory::new();
    let minted = tollgate(directory.path(), &["key", "--id", "acme-1"]);
    let minted = String::from_utf8(minted.stdout).unwrap();
    let (key, entry) = minted.trim().split_once('\n').unwrap();
    let gateway = Setup::new()
        .keys("")
        .text(&format!("[[consumer]]\nid = \"acme\"\napi_keys = [{entry}]\n"))
        .cluster("main", &[endpoint.address], "")
        .route("all", "/", "main", "jwt = \"partners\"\nauth = \"either\"")
        .start();
    let api_key = format!("X-Api-Key: {key}\r\n");
    let credentials = [bearer(&with(&json!({}))), bearer(&with(&json!({ "sub": "other" }))), api_key.clone()];
    let mut client = gateway.client();
    for (entry, expected) in [
        (r#"{"sub":"acme"}"#, [401, 200, 401]),
        (r#"{"kid":"k1"}"#, [401, 401, 200]),
        (r#"{"kid":"acme-1"}"#, [200, 200, 401]),
        (r#"{"jti":"acme"}"#, [200, 200, 200]),
    ] {
        assert_eq!(order(&gateway, "POST", "/revoke", entry).0, 200);
        let statuses = [0, 1, 2].map(|index| client.get("/", &credentials[index]).status);
        assert_eq!(statuses, expected, "{entry}");
        assert_eq!(order(&gateway, "DELETE", "/revoke", entry).0, 200);
    }
    assert_eq!(order(&gateway, "POST", "/revoke", r#"{"kid":"acme-1"}"#).0, 200);
    assert_eq!(client.get("/", &api_key).code(), "api_key_invalid");
}

#[test]
fn orders_that_make_no_sense_are_refused() {
    let endpoint = Endpoint::answering("ok");
    let gateway = protected(&endpoint).start();
    let long = format!(r#"{{"jti":"{}"}}"#, "x".repeat(1025));
    for (body, words) in [
        ("", "EOF"),
        ("{}", "name one of jti, sub and kid"),
        (r#"{"jti":"a","sub":"b"}"#, "name one of"),
        (r#"{"jti":""}"#, "1 to 1024 bytes"),
        (r#"{"jti":" a"}"#, "no blanks"),
        (r#"{"jti":"a\nb"}"#, "no control characters"),
        (r#"{"jti":7}"#, "string"),
        (r#"{"jti":"a","jti":"b"}"#, "duplicate"),
        (r#"{"token":"a"}"#, "unknown field"),
        (r#"{"jti":"a","ttl":"soon"}"#, "is not a duration"),
        (r#"{"jti":"a","until":"2020-01-01"}"#, "has passed"),
        (r#"{"jti":"a","until":"2999-01-01","ttl":"1h"}"#, "not both"),
        (&long, "1 to 1024 bytes"),
    ] {
        let (status, answer) = order(&gateway, "POST", "/revoke", body);
        assert_eq!(status, 400, "{body}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(words), "{body}: {answer}");
    }
    assert_eq!(order(&gateway, "POST", "/revoke", r#"{"sub":"b","until":"2099-01-01"}"#).0, 200);
    let (_, listed) = order(&gateway, "GET", "/revoked", "");
    assert_eq!(listed["admin"], json!([{ "sub": "b", "until": "2099-01-01T00:00:00Z" }]));
    assert_eq!((&listed["admin_entries"], &listed["file"]), (&json!(1), &Value::Null));
}

#[test]
fn the_file_is_followed_within_a_second() {
    let endpoint = Endpoint::answering("ok");
    let gateway = protected(&endpoint)
        .shards(2)
        .text("[revocation]\nfile = \"revoked.txt\"\n")
        .file("revoked.txt", b"# nobody yet but\njti:early\n")
        .start();
    let mut client = gateway.client();
    let (early, late) = (named("early"), named("late"));
    assert_eq!((client.get("/", &early).status, client.get("/", &late).status), (401, 200));
    replace(&gateway, "jti:late\n");
    until_status(&mut client, &late, 401);
    assert_eq!(client.get("/", &early).status, 200, "both changes at once");
    // In place, as an editor or `echo >>` does it.
    let mut file = fs::OpenOptions::new().append(true).open(gateway.directory().join("revoked.txt")).unwrap();
    file.write_all(b"until=2999-01-01 jti:early").unwrap();
    until_status(&mut client, &early, 401);
    assert_eq!(client.get("/", &late).status, 401);
    assert_eq!(gateway.metric("tollgate_revoked_entries{source=\"file\"}"), 2.0);
}

#[test]
fn a_file_that_never_rests_still_revokes() {
    let endpoint = Endpoint::answering("ok");
    let gateway = protected(&endpoint)
        .text("[revocation]\nfile = \"revoked.txt\"\n")
        .file("revoked.txt", b"jti:old\n")
        .start();
    let mut client = gateway.client();
    let path = gateway.directory().join("revoked.txt");
    let mut number = 0;
    until("the last of ever more lines to count", || {
        number += 1;
        fs::write(&path, format!("jti:new\n{}", "# line\n".repeat(number))).unwrap();
        client.get("/", &named("new")).status == 401
    });
}

#[test]
fn a_list_that_is_broken_or_gone_stays_in_force_and_is_spoken_of_once() {
    let endpoint = Endpoint::answering("ok");
    let gateway = protected(&endpoint)
        .text("[revocation]\nfile = \"revoked.txt\"\n")
        .file("revoked.txt", b"jti:a\n")
        .start();
    let mut client = gateway.client();
    let warnings = |words: &str| gateway.said().iter().filter(|line| line.contains(words)).count();
    let current = || gateway.metric("tollgate_revocation_file_current");
    replace(&gateway, "jti:b\nwhat is this\n");
    until("the warning", || warnings("line 2: not a revocation") == 1);
    assert_eq!(current(), 0.0);
    assert_eq!((client.get("/", &named("a")).status, client.get("/", &named("b")).status), (401, 200));
    fs::remove_file(gateway.directory().join("revoked.txt")).unwrap();
    until("another warning", || warnings("cannot be looked at") == 1);
    // Long enough for several more looks, which the ends of entries of the admin API make visible.
    order(&gateway, "POST", "/revoke", r#"{"jti":"x","ttl":"1s"}"#);
    until("an end", || gateway.metric("tollgate_revoked_entries{source=\"admin\"}") == 0.0);
    assert_eq!((warnings("line 2: not a revocation"), warnings("cannot be looked at")), (1, 1));
    assert_eq!(client.get("/", &named("a")).status, 401);
    let (_, listed) = order(&gateway, "GET", "/revoked", "");
    assert_eq!(listed["file"]["entries"], 1);
    assert!(listed["file"]["trouble"].as_str().unwrap().contains("cannot be looked at"), "{listed}");
    replace(&gateway, "jti:c\n");
    until_status(&mut client, &named("c"), 401);
    assert_eq!((client.get("/", &named("a")).status, current()), (200, 1.0));
}

#[test]
fn a_long_list_is_taken_up_too() {
    let endpoint = Endpoint::answering("ok");
    let gateway = protected(&endpoint)
        .text("[revocation]\nfile = \"revoked.txt\"\nentries = 200000\n")
        .file("revoked.txt", b"")
        .start();
    let mut text = String::new();
    for number in 0..199_999 {
        text += &format!("jti:0192f3a4-7b1c-7def-8a90-{number:012}\n");
    }
    text += "jti:last\n";
    replace(&gateway, &text);
    until_status(&mut gateway.client(), &named("last"), 401);
    assert_eq!(gateway.metric("tollgate_revoked_entries{source=\"file\"}"), 200_000.0);
    assert_eq!(gateway.client().get("/", &named("0192f3a4-7b1c-7def-8a90-000000000007")).status, 401);
    assert_eq!(gateway.client().get("/", &named("0192f3a4-7b1c-7def-8a90-000000200007")).status, 200);
}

#[test]
fn a_list_with_a_mistake_is_refused_at_the_start() {
    let output = check(&format!("{GOOD}[revocation]\nfile = \"short.key\"\nentries = 0\n"));
    assert_eq!(code(&output), Some(78));
    let text = said(&output);
    assert!(text.contains("t.toml:9: revocation.file: short.key: line 1: not a revocation"), "{text}");
    assert!(text.contains("t.toml:10: revocation.entries: \"0\" is not a number from 1"), "{text}");
    let output = check(&format!("{GOOD}[revocation]\nfile = \"nowhere.txt\"\n"));
    assert!(said(&output).contains("revocation.file: nowhere.txt: cannot be read"), "{}", said(&output));
}
