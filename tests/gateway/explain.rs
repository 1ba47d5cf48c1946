//! `tollgate explain` tells what the running gateway does: the same configuration, the same requests, the same
//! verdicts, and never a secret.

use std::{fs, process::Output};

use serde_json::json;

use crate::{
    config::{code, said},
    rig::{Directory, Endpoint, Gateway, Setup, bearer, mint, now_s, tollgate, valid_token},
    tokens::with,
};

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asks the command about a request in the directory of `gateway`.
fn ask(gateway: &Gateway, arguments: &[&str]) -> Output {
    let all = [&["explain", "--config", "tollgate.toml"], arguments].concat();
    tollgate(gateway.directory(), &all)
}

/// Routes of every kind, a key, a list, quotas, revocations; and the key.
fn everything(endpoint: &Endpoint) -> (Gateway, String) {
    let directory = Directory::new();
    let minted = tollgate(directory.path(), &["key", "--id", "acme-1"]);
    let minted = String::from_utf8(minted.stdout).unwrap();
    let (key, entry) = minted.trim().split_once('\n').unwrap();
    let entry = entry.replace(" }", ", scopes = [\"pay\"] }");
    let gateway = Setup::new()
        .set("listen", "trusted_proxies = [\"10.0.0.0/8\"]")
        .keys("roles_claim = \"roles\"")
        .text(&format!(
            "[[consumer]]\nid = \"acme\"\napi_keys = [{entry}]\n\
             [[consumer]]\nid = \"shut\"\nallow = [{{ routes = [\"jwt\"], methods = [\"GET\"] }}]\n\
             [revocation]\nfile = \"revoked.txt\"\n"
        ))
        .file("revoked.txt", b"jti:lost\n")
        .cluster("main", &[endpoint.address], "")
        .route("open", "/open", "main", "limit = [{ by = \"header:X-Payer\", quota = \"5000/second\" }]")
        .route("jwt", "/jwt", "main", "jwt = \"partners\"\nscopes = [\"pay\"]\nbody_bytes_max = 10")
        .route(
            "key",
            "/key",
            "main",
            "auth = \"api-key\"\nlimit = [{ by = \"ip\", quota = \"5000/second\" }]",
        )
        .route("either", "/either", "main", "auth = \"either\"\njwt = \"partners\"\nscopes = [\"pay\"]")
        .route(
            "admin",
            "/admin",
            "main",
            "jwt = \"partners\"\nroles = [\"admin\"]\nmethods = [\"GET\"]\nhost = \"pay.example\"",
        )
        .start();
    (gateway, key.to_owned())
}

#[test]
fn the_command_says_what_the_gateway_does() {
    let endpoint = Endpoint::answering("ok");
    let (gateway, key) = everything(&endpoint);
    let token = |change: serde_json::Value| with(&change);
    let paying = token(json!({ "scope": "pay" }));
    let credentials: Vec<(Option<String>, Option<&str>)> = vec![
        (None, None),
        (Some(paying.clone()), None),
        (Some(valid_token("acme")), None),
        (Some(token(json!({ "sub": "shut", "scope": "pay" }))), None),
        (Some(token(json!({ "scope": "pay", "exp": 1 }))), None),
        (Some(token(json!({ "scope": "pay", "jti": "lost" }))), None),
        (Some(token(json!({ "scope": "pay", "roles": "admin" }))), None),
        (Some("x.y.z".to_owned()), None),
        (None, Some(&key)),
        (None, Some("wrong")),
        (Some(paying), Some(&key)),
        (Some(token(json!({ "sub": "shut", "scope": "pay" }))), Some(&key)),
    ];
    let mut requests = Vec::new();
    for path in ["/open", "/jwt", "/key/deep", "/either?q=1", "/admin", "/nowhere", "/jwt/%2e%2e", "/"] {
        for fields in [&[][..], &["X-Payer: p"], &["Host: pay.example"], &["Content-Length: 11"]] {
            requests.push((path, fields));
        }
    }
    let (mut forwarded, mut refused) = (0, 0);
    for (path, fields) in requests {
        for (token, key) in &credentials {
            let mut lines: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
            let mut arguments: Vec<&str> = Vec::new();
            for field in fields {
                arguments.extend(["--header", field]);
            }
            if let Some(token) = token {
                arguments.extend(["--token", token]);
                lines += &bearer(token);
            }
            if let Some(key) = key {
                arguments.extend(["--api-key", key]);
                lines += &format!("X-Api-Key: {key}\r\n");
            }
            arguments.extend(["POST", path]);
            let output = ask(&gateway, &arguments);
            let text = told(&output);
            let host = if lines.contains("Host:") { "" } else { "Host: localhost\r\n" };
            let body = if lines.contains("Content-Length") { "hello world" } else { "" };
            let mut client = gateway.client();
            client.send(format!("POST {path} HTTP/1.1\r\n{host}{lines}Connection: close\r\n\r\n{body}"));
            let answer = client.answer();
            if answer.status == 200 {
                assert_eq!(code(&output), Some(0), "{arguments:?}: {text}");
                assert!(text.ends_with("forwarded\n"), "{text}");
                forwarded += 1;
            } else {
                assert_eq!(code(&output), Some(1), "{arguments:?}: {text}");
                let end = format!("\nrefused: {} {}, ", answer.status, answer.code());
                assert!(format!("\n{text}").contains(&end), "{end} is not in\n{text}");
                refused += 1;
            }
            for secret in [token.as_deref(), *key, fields.first().and(Some("q=1"))].into_iter().flatten() {
                assert!(!text.contains(secret), "{secret} is in\n{text}");
            }
        }
    }
    assert!(forwarded > 30 && refused > 100, "{forwarded} {refused}");
}

#[test]
fn the_steps_are_told_in_words() {
    let endpoint = Endpoint::answering("ok");
    let (gateway, key) = everything(&endpoint);
    fs::write(gateway.directory().join("key.txt"), format!("{key}\n")).unwrap();
    let address = endpoint.address;
    let arguments =
        ["--client-ip", "10.0.0.9", "--header", "X-Forwarded-For: 2001:db8::7", "--api-key", "@key.txt"];
    let output = ask(&gateway, &[&arguments[..], &["GET", "/k%65y"]].concat());
    let expected = format!(
        "parse       GET /key, from 2001:db8::7\n\
         route       key, for /key\n\
         credential  an API key is asked for\n\
         \x20           API key: consumer acme, kid acme-1, scopes pay, roles none, expires never\n\
         permission  consumer acme has no list and is allowed everywhere\n\
         body        at most 10485760 bytes\n\
         limit       5000/1s by ip, which is 2001:db8::/64\n\
         cluster     main, to one of {address}\n\
         delivery    at most 2 attempts, on unreachable, stale; it may be repeated\n\
         forwarded\n"
    );
    assert_eq!(told(&output), expected, "{}", said(&output));
    let exp = now_s() + 600;
    let token = mint(&json!({ "sub": "acme", "exp": exp, "scope": "read" }));
    let output = ask(&gateway, &["--token", &token, "GET", "/jwt"]);
    let text = told(&output);
    for line in [
        "credential  a token of \"partners\" is asked for\n",
        "token: consumer acme, kid k1, scopes read, roles none, expires 20",
        "permission  all of the scopes pay are asked for\n",
        "refused: 403 scope_insufficient, \"Permission denied!\"",
        "the log's reason: scope\n",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("cluster") && !text.contains("limit "), "{text}");
    let text = told(&ask(&gateway, &["--header", "Host: pay.example", "DELETE", "/admin"]));
    assert!(
        text.contains("refused: 405 method_not_allowed") && text.contains("Allow: GET, HEAD\n"),
        "{text}"
    );
    let long = "x".repeat(20_000);
    let text = told(&ask(&gateway, &["--token", &long, "GET", "/jwt"]));
    assert!(text.contains("refused: 431 head_too_large") && text.contains("connection is closed"), "{text}");
}

#[test]
fn what_is_no_question_is_wrong_usage() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address).start();
    for arguments in [
        &["GET"][..],
        &["--header", "no colon", "GET", "/"],
        &["--header", "A: b\r\nX-Api-Key: c", "GET", "/"],
        &["--token", "@nowhere.txt", "GET", "/"],
        &["--client-ip", "here", "GET", "/"],
        &["GET", "/\r\nHost: a"],
    ] {
        let output = ask(&gateway, arguments);
        assert_eq!(code(&output), Some(64), "{arguments:?}: {}", said(&output));
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{arguments:?}");
    }
    let output = tollgate(gateway.directory(), &["explain", "--config", "none.toml", "GET", "/"]);
    assert_eq!(code(&output), Some(78));
}
