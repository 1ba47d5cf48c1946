//! Who is calling and what they may do: keys, scopes, expiry, and the consumer's way to the endpoint.

use serde_json::{Value, json};

use crate::{
    rig::{Algorithm, Client, Endpoint, Gateway, SECRET, Setup, bearer, now_s, sign, until, valid_token},
    tokens::{assert_invalid, protected, with},
};

const OTHER: &str = "another-secret-another-secret-another-secret-another-secret-1234";

/// Three keys with kids and one without, each with its algorithm.
fn with_keys(endpoint: &Endpoint) -> Gateway {
    Setup::new()
        .text(
            "[[jwt]]\nname = \"partners\"\nkeys = [\n\
             { kid = \"a\", alg = \"HS256\", secret_file = \"k1.key\" },\n\
             { kid = \"b\", alg = \"HS384\", secret_file = \"k1.key\" },\n\
             { kid = \"c\", alg = \"HS512\", secret_file = \"other.key\" },\n\
             { kid = \"d\", alg = \"HS256\", secret_file = \"other.key\" }]\n\
             [[jwt]]\nname = \"second\"\nkeys = [{ alg = \"HS256\", secret_file = \"other.key\" }]\n",
        )
        .file("other.key", OTHER.as_bytes())
        .cluster("main", &[endpoint.address], "")
        .route("first", "/first", "main", "jwt = \"partners\"")
        .route("second", "/second", "main", "jwt = \"second\"")
        .start()
}

#[test]
fn the_kid_chooses_the_key_and_without_one_every_key_is_tried() {
    let endpoint = Endpoint::answering("ok");
    let gateway = with_keys(&endpoint);
    let claims = json!({ "sub": "acme", "exp": now_s() + 600 }).to_string();
    let token = |algorithm: Algorithm, secret: &str, kid: Option<&str>| {
        let mut head = json!({ "alg": algorithm.name() });
        if let Some(kid) = kid {
            head["kid"] = json!(kid);
        }
        sign(algorithm, secret.as_bytes(), &head.to_string(), &claims)
    };
    use Algorithm::{Hs256, Hs384, Hs512};
    let mut client = gateway.client();
    for (path, token, status) in [
        ("/first", token(Hs256, SECRET, Some("a")), 200),
        ("/first", token(Hs384, SECRET, Some("b")), 200),
        ("/first", token(Hs512, OTHER, Some("c")), 200),
        ("/first", token(Hs256, OTHER, Some("d")), 200),
        ("/first", token(Hs256, SECRET, None), 200),
        ("/first", token(Hs384, SECRET, None), 200),
        ("/first", token(Hs512, OTHER, None), 200),
        ("/first", token(Hs256, OTHER, None), 200),
        ("/first", token(Hs256, SECRET, Some("b")), 401),
        ("/first", token(Hs256, SECRET, Some("d")), 401),
        ("/first", token(Hs384, OTHER, None), 401),
        ("/first", token(Hs512, SECRET, None), 401),
        ("/first", token(Hs256, SECRET, Some("A")), 401),
        ("/second", token(Hs256, OTHER, Some("d")), 200),
        ("/second", token(Hs256, OTHER, None), 200),
        // Good for the other route, and remembered there.
        ("/second", token(Hs256, SECRET, Some("a")), 401),
        ("/second", token(Hs512, OTHER, Some("c")), 401),
    ] {
        assert_eq!(client.get(path, &bearer(&token)).status, status, "{path} {token}");
    }
}

#[test]
fn credentials_in_other_shapes() {
    let endpoint = Endpoint::answering("ok");
    let gateway = protected(&endpoint, "");
    let token = valid_token("acme");
    let mut client = gateway.client();
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer  "] {
        let answer = client.get("/", &format!("Authorization: {scheme} {token}\r\n"));
        assert_eq!(answer.status, 200, "{scheme}");
    }
    let long = "a".repeat(8000);
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        &token,
        &format!("Bearer:{token}"),
        &format!("Token {token}"),
        &format!("Bearer\t{token}"),
    ] {
        let answer = client.get("/", &format!("Authorization: {value}\r\n"));
        assert_eq!(answer.status, 401, "{value}");
        assert_eq!(answer.field("www-authenticate"), Some("Bearer"), "{value}");
        let body = answer.json();
        assert_eq!(
            (&body["code"], &body["message"]),
            (&json!("token_missing"), &json!("A token is required!"))
        );
    }
    assert_eq!(client.get("/", "").code(), "token_missing");
    // Where a token does not belong it is not looked for.
    assert_eq!(client.get(&format!("/?access_token={token}"), "").code(), "token_missing");
    assert_eq!(client.get("/", &format!("Cookie: token={token}\r\n")).code(), "token_missing");
    for fields in [
        format!("{}{}", bearer(&token), bearer(&token)),
        format!("Authorization: Basic YTpi\r\n{}", bearer(&token)),
        format!("{}authorization: \r\n", bearer(&token)),
        bearer(&format!("{token} {token}")),
        bearer(&long),
    ] {
        assert_invalid(&client.get("/", &fields), &fields);
    }
    let huge = gateway.client().get("/", &bearer(&"a".repeat(20_000)));
    assert_eq!((huge.status, huge.code().as_str()), (431, "head_too_large"));
    // An endpoint may read an underscore as a hyphen, so such a field is neither believed nor passed on.
    let disguised = client.get("/", &format!("Authorization_: x\r\nauthorization: Bearer {token}\r\n"));
    assert_eq!(disguised.status, 200);
    let answer = client.send(format!("HEAD / HTTP/1.1\r\nHost: a\r\n{}\r\n", bearer("x"))).answer_to_head();
    assert_eq!(
        (answer.status, answer.field("www-authenticate")),
        (401, Some("Bearer error=\"invalid_token\""))
    );
}

#[test]
fn scopes_are_all_required() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::new()
        .keys("")
        .cluster("main", &[endpoint.address], "")
        .route("one", "/one", "main", "jwt = \"partners\"\nscopes = [\"pay:write\"]")
        .route("two", "/two", "main", "jwt = \"partners\"\nscopes = [\"pay:write\", \"pay:read\"]")
        .start();
    let mut client = gateway.client();
    let mut ask = |path: &str, claims: &Value| client.get(path, &bearer(&with(claims)));
    for (claims, one, two) in [
        (json!({}), 403, 403),
        (json!({ "scope": "" }), 403, 403),
        (json!({ "scope": "pay:write" }), 200, 403),
        (json!({ "scope": "pay:read pay:write x" }), 200, 200),
        (json!({ "scope": ["pay:read", "pay:write"] }), 200, 200),
        (json!({ "scp": "pay:read pay:write" }), 200, 200),
        (json!({ "scp": ["pay:write"] }), 200, 403),
        (json!({ "scope": "PAY:WRITE" }), 403, 403),
        (json!({ "scope": "pay:writer" }), 403, 403),
        (json!({ "scope": "pay" }), 403, 403),
        (json!({ "scope": ["pay:write pay:read"] }), 403, 403),
        (json!({ "scopes": "pay:write pay:read" }), 403, 403),
    ] {
        for (path, status) in [("/one", one), ("/two", two)] {
            let answer = ask(path, &claims);
            assert_eq!(answer.status, status, "{path} {claims}");
            if status == 403 {
                assert_eq!(answer.code(), "scope_insufficient");
                assert_eq!(answer.field("www-authenticate"), Some("Bearer error=\"insufficient_scope\""));
            }
        }
    }
    let log = gateway.log(24);
    assert_eq!(
        (&log[0]["status"], &log[0]["consumer"], &log[0]["code"]),
        (&json!(403), &json!("acme"), &json!("scope_insufficient"))
    );
}

/// Asks until the answer is 401; until then it must be 200.
fn ask_until_refused(client: &mut Client, token: &str) {
    until("the token to expire", || {
        let answer = client.get("/", &bearer(token));
        assert!(answer.status == 200 || answer.status == 401, "{}", answer.head);
        answer.status == 401
    });
}

#[test]
fn a_remembered_token_expires_all_the_same() {
    let endpoint = Endpoint::answering("ok");
    let gateway = protected(&endpoint, "");
    let expires = now_s() + 2;
    let token = with(&json!({ "exp": expires }));
    let mut client = gateway.client();
    assert_eq!(client.get("/", &bearer(&token)).status, 200);
    assert_eq!(client.get("/", &bearer(&token)).status, 200);
    assert!(gateway.metric("tollgate_jwt_verifications_total{result=\"remembered\"}") >= 1.0);
    ask_until_refused(&mut client, &token);
    assert!(now_s() >= expires, "refused before its time");
    assert_invalid(&client.get("/", &bearer(&token)), "and again");
    until("its line", || gateway.log(4).iter().any(|line| line["reason"] == "expired"));
    // The memory of a token whose signature was good helps no other signature.
    let good = valid_token("acme");
    assert_eq!(client.get("/", &bearer(&good)).status, 200);
    let (signed, _) = good.rsplit_once('.').unwrap();
    assert_invalid(&client.get("/", &bearer(&format!("{signed}.{}", "A".repeat(43)))), "another signature");
}

#[test]
fn the_consumer_reaches_the_endpoint_and_cannot_be_forged() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::new()
        .keys("")
        .cluster("main", &[endpoint.address], "")
        .route("closed", "/closed", "main", "jwt = \"partners\"")
        .route("open", "/open", "main", "")
        .start();
    let mut client = gateway.client();
    let forged = "X-Consumer-Id: mallory\r\nx-consumer-id: mallory\r\nX_Consumer_Id: mallory\r\nX-Consumer_Id: mallory\r\n\
                  X-CONSUMER-GROUPS: admin\r\nConnection: x-consumer-id\r\n";
    for consumer in ["acme", "ré-公司", "a b", "a\"b\\c", "a,b;c=d", &"x".repeat(256), "null", "-"] {
        let fields = format!("{forged}{}", bearer(&valid_token(consumer)));
        assert_eq!(client.get("/closed", &fields).status, 200, "{consumer}");
    }
    assert_eq!(client.get("/open", &format!("{forged}{}", bearer(&valid_token("acme")))).status, 200);
    let seen = endpoint.seen(9);
    let names: Vec<Option<&str>> = seen.iter().map(|seen| seen.field("x-consumer-id")).collect();
    assert_eq!(names[..3], [Some("acme"), Some("ré-公司"), Some("a b")]);
    assert_eq!(names[8], None, "a public route has no consumer, whatever the token says");
    for seen in &seen {
        let head = seen.head.to_ascii_lowercase();
        assert!(!head.contains("mallory") && !head.contains("admin"), "{head}");
    }
    let log = gateway.log(9);
    assert_eq!((&log[1]["consumer"], &log[3]["consumer"]), (&json!("ré-公司"), &json!("a\"b\\c")));
    assert_eq!(log[5]["consumer"].as_str().unwrap().len(), 256);
    gateway.stop();
}
