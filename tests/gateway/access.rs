//! API keys and permissions over the wire: keys of the gateway's own minting, roles, allow lists, and where
//! a key is never seen.

use serde_json::json;

use crate::{
    config::{GOOD, check, code, said},
    rig::{Directory, Endpoint, Gateway, Setup, bearer, tollgate, valid_token},
    tokens::with,
};

/// A new key from `tollgate key`: what the client sends, and the line for the configuration.
fn minted(id: &str) -> (String, String) {
    let directory = Directory::new();
    let output = tollgate(directory.path(), &["key", "--id", id]);
    assert_eq!(code(&output), Some(0), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(!lines[1].contains(lines[0]));
    (lines[0].to_owned(), lines[1].to_owned())
}

/// Consumer `acme` with the key of `entry`, and routes for each kind of credential.
fn with_key(endpoint: &Endpoint, entry: &str) -> Setup {
    Setup::new()
        .keys("roles_claim = \"roles\"")
        .text(&format!("[[consumer]]\nid = \"acme\"\napi_keys = [{entry}]\n"))
        .cluster("main", &[endpoint.address], "")
        .route("key", "/key", "main", "auth = \"api-key\"")
        .route("told", "/told", "main", "auth = \"api-key\"\nforward_api_key = true")
        .route("either", "/either", "main", "auth = \"either\"\njwt = \"partners\"")
        .route("jwt", "/jwt", "main", "jwt = \"partners\"")
        .route("open", "/open", "main", "")
}

fn presented(key: &str) -> String {
    format!("X-Api-Key: {key}\r\n")
}

/// Waits for so many log lines, ends the gateway, and looks for `key` in everything that it wrote.
fn assert_nowhere(gateway: Gateway, lines: usize, key: &str) {
    let log = gateway.log(lines);
    assert!(!format!("{log:?}").contains(key));
    for path in ["/config", "/metrics", "/routes"] {
        assert!(!gateway.admin_get(path).1.contains(key), "{path}");
    }
    assert!(!gateway.said().join("\n").contains(key));
    gateway.stop();
}

#[test]
fn a_minted_key_opens_its_routes_and_is_seen_nowhere() {
    let endpoint = Endpoint::answering("ok");
    let (key, entry) = minted("acme-1");
    let gateway = with_key(&endpoint, &entry).start();
    let mut client = gateway.client();
    for path in ["/key", "/told", "/either", "/open"] {
        assert_eq!(client.get(path, &presented(&key)).status, 200, "{path}");
    }
    assert_eq!(client.get("/jwt", &presented(&key)).code(), "token_missing");
    let both = format!("{}{}", presented(&key), bearer(&valid_token("acme")));
    assert_eq!(client.get("/either", &both).status, 200);
    assert_eq!(client.get("/jwt", &both).status, 200);
    let seen = endpoint.seen(6);
    let keys: Vec<Option<&str>> = seen.iter().map(|seen| seen.field("x-api-key")).collect();
    assert_eq!(keys, [None, Some(key.as_str()), None, None, None, None]);
    let consumers: Vec<Option<&str>> = seen.iter().map(|seen| seen.field("x-consumer-id")).collect();
    assert_eq!(consumers, [Some("acme"), Some("acme"), Some("acme"), None, Some("acme"), Some("acme")]);
    assert_eq!(gateway.metric("tollgate_api_key_verifications_total{result=\"accepted\"}"), 4.0);
    assert_nowhere(gateway, 7, &key);
}

#[test]
fn what_is_no_key_is_refused_and_told_why_only_in_the_log() {
    let endpoint = Endpoint::answering("ok");
    let (key, entry) = minted("acme-1");
    let gateway = with_key(&endpoint, &entry).start();
    let mut client = gateway.client();
    let long = "k".repeat(4_000);
    for (path, fields, code, challenge, reason) in [
        ("/key", String::new(), "api_key_missing", "ApiKey", "no API key"),
        ("/key", presented(""), "api_key_missing", "ApiKey", "no API key"),
        ("/key", bearer(&valid_token("acme")), "api_key_missing", "ApiKey", "no API key"),
        ("/key", presented("wrong"), "api_key_invalid", "ApiKey", "no such API key"),
        ("/key", presented(&long), "api_key_invalid", "ApiKey", "API key too long"),
        ("/key", presented(&key).repeat(2), "api_key_invalid", "ApiKey", "several X-Api-Key fields"),
        ("/key", presented(&format!("{key}, {key}")), "api_key_invalid", "ApiKey", "no such API key"),
        ("/either", String::new(), "token_missing", "Bearer", "no bearer token"),
        (
            "/either",
            format!("{}{}", presented(&key), bearer(&valid_token("other"))),
            "credentials_conflict",
            "Bearer, ApiKey",
            "token and API key name different consumers",
        ),
    ] {
        let answer = client.get(path, &fields);
        assert_eq!((answer.status, answer.code().as_str()), (401, code), "{path} {fields}");
        assert_eq!(answer.field("www-authenticate"), Some(challenge), "{path} {fields}");
        assert!(!answer.text().contains(reason) || reason.starts_with("token and"), "{}", answer.text());
        let log = gateway.log(1);
        assert!(log.iter().all(|line| line["consumer"] == "" || line["consumer"] == "-"), "{log:?}");
    }
    let log = gateway.log(9);
    assert_eq!(log[4]["reason"], "API key too long");
    assert_eq!(log[8]["reason"], "token and API key name different consumers");
    assert_eq!(endpoint.count(), 0);
    assert_eq!(gateway.metric("tollgate_refusals_total{code=\"api_key_invalid\"}"), 4.0);
    assert_nowhere(gateway, 9, &key);
}

/// Without API keys of its own the gateway has no business with the field.
#[test]
fn a_gateway_without_keys_passes_the_field_on() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::proxy(endpoint.address).start();
    assert_eq!(gateway.client().get("/", &presented("theirs")).status, 200);
    assert_eq!(endpoint.seen(1)[0].field("x-api-key"), Some("theirs"));
}

#[test]
fn roles_and_allow_lists_refuse_with_their_codes() {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::new()
        .keys("roles_claim = \"realm_access.roles\"")
        .text(
            "[[consumer]]\nid = \"acme\"\nallow = [{ routes = [\"pay\"], methods = [\"GET\"] }]\n\
             [[consumer]]\nid = \"shut\"\nallow = []\n",
        )
        .cluster("main", &[endpoint.address], "")
        .route("pay", "/pay", "main", "jwt = \"partners\"")
        .route("admin", "/admin", "main", "jwt = \"partners\"\nroles = [\"admin\", \"owner\"]")
        .start();
    let mut client = gateway.client();
    let owner = bearer(&with(&json!({ "sub": "boss", "realm_access": { "roles": ["owner"] } })));
    let clerk = bearer(&with(&json!({ "sub": "clerk", "realm_access": { "roles": ["clerk"] } })));
    assert_eq!(client.get("/admin", &owner).status, 200);
    assert_eq!(client.post("/pay", &owner, b"x").status, 200);
    let acme_owner = bearer(&with(&json!({ "sub": "acme", "realm_access": { "roles": ["owner"] } })));
    assert_eq!(client.get("/pay", &acme_owner).status, 200);
    for (refused, code) in [
        (client.get("/admin", &clerk), "role_missing"),
        (client.get("/admin", &acme_owner), "consumer_not_allowed"),
        (client.post("/pay", &acme_owner, b"x"), "consumer_not_allowed"),
        (client.get("/pay", &bearer(&valid_token("shut"))), "consumer_not_allowed"),
    ] {
        assert_eq!((refused.status, refused.code().as_str()), (403, code));
        assert_eq!(refused.field("www-authenticate"), None);
    }
    let log = gateway.log(7);
    let told: Vec<(&str, &str)> = log[3..]
        .iter()
        .map(|line| (line["consumer"].as_str().unwrap(), line["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("clerk", "role"),
            ("acme", "consumer not allowed on route"),
            ("acme", "consumer not allowed with method"),
            ("shut", "consumer not allowed on route"),
        ]
    );
    assert_eq!(gateway.metric("tollgate_refusals_total{code=\"consumer_not_allowed\"}"), 3.0);
}

#[test]
fn mistakes_are_found_with_their_lines() {
    let (key, entry) = minted("k");
    let hash = entry.split("sha256 = \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let text = format!(
        "{GOOD}\n\
         [[consumer]]\n\
         id = \" acme\"\n\
         allow = [{{ routes = [\"al\"], methods = [\"get\"] }}, {{ routes = [], paths = [] }}]\n\
         api_keys = [\n\
         {{ id = \"a\", sha256 = \"{hash}\" }},\n\
         {{ id = \"a\", sha256 = \"{hash}\" }},\n\
         {{ id = \"c\", sha256 = \"{key}\" }},\n\
         {{ id = \"d\" }},\n\
         {{ id = \"e\", sha256 = \"{hash}\", sha256_file = \"x\" }},\n\
         {{ id = \"f\", sha256_file = \"nowhere\" }},\n\
         {{ id = \"g\", sha256_file = \"short.key\", expires = \"soon\" }},\n\
         {{ id = \"h\", sha256 = \"{}\", expires = \"2027-02-30\" }},\n\
         ]\n\
         [[consumer]]\n\
         id = \" acme\"\n\
         [[route]]\nname = \"r\"\npath = \"/r\"\ncluster = \"main\"\nroles = []\n\
         [[route]]\nname = \"s\"\npath = \"/s\"\ncluster = \"main\"\nauth = \"either\"\n\
         [[route]]\nname = \"t\"\npath = \"/t\"\ncluster = \"main\"\nauth = \"password\"\nforward_api_key = 1\n",
        "0".repeat(64),
    );
    let output = check(&text);
    assert_eq!(code(&output), Some(78));
    let said = said(&output);
    assert!(!said.contains(&key), "a key that was written by mistake is not repeated:\n{said}");
    for line in [
        "t.toml:10: consumer[0].id: a consumer has 1 to 256 bytes",
        "t.toml:11: consumer[0].allow[0].methods[0]: \"get\" is not a method",
        "t.toml:11: consumer[0].allow[0].routes[0]: no route is named \"al\"; did you mean \"all\"?",
        "t.toml:11: consumer[0].allow[1].routes: an empty list allows no route",
        "t.toml:11: consumer[0].allow[1].paths: unknown key",
        "t.toml:14: consumer[0].api_keys[1].id: another API key is named \"a\", on line 13",
        "t.toml:14: consumer[0].api_keys[1]: the same key stands on line 13 too",
        "t.toml:15: consumer[0].api_keys[2].sha256: not a SHA-256, which has 64 hex digits",
        "t.toml:16: consumer[0].api_keys[3]: the key's hash is missing",
        "t.toml:17: consumer[0].api_keys[4].sha256_file: there is a sha256 as well",
        "t.toml:18: consumer[0].api_keys[5].sha256_file: nowhere cannot be read",
        "t.toml:19: consumer[0].api_keys[6].sha256_file: not a SHA-256",
        "t.toml:20: consumer[0].api_keys[7].expires: \"2027-02-30\" is not a time",
        "t.toml:23: consumer[1].id: another consumer is named \" acme\", on line 10",
        "t.toml:28: route[1].roles: roles come from a token or an API key",
        "t.toml:28: route[1].roles: an empty list asks for no role",
        "t.toml:33: route[2].auth: tokens need keys; name the jwt",
        "t.toml:38: route[3].auth: \"password\" is not one of \"jwt\", \"api-key\", \"either\"",
        "t.toml:39: route[3].forward_api_key: true or false is wanted here",
    ] {
        assert!(said.contains(line), "{line}\nis not in\n{said}");
    }
    let both = format!("{GOOD}jwt = \"p\"\nauth = \"api-key\"\n");
    let output = check(&both);
    assert!(self::said(&output).contains("the route takes API keys only"), "{}", self::said(&output));
}

#[test]
fn a_hash_may_stand_in_a_file_as_sha256sum_writes_it() {
    let endpoint = Endpoint::answering("ok");
    // printf %s letmein | sha256sum
    let sum = "1c8bfe8f801d79745c4631d09fff36c82aa37fc4cce4fc946683d7b336b63032  -\n";
    let setup =
        with_key(&endpoint, "{ id = \"f\", sha256_file = \"acme.sha256\", expires = \"2999-01-01\" }")
            .file("acme.sha256", sum.as_bytes());
    let gateway = setup.start();
    assert_eq!(gateway.client().get("/key", &presented("letmein")).status, 200);
    let config = gateway.admin_get("/config").1;
    assert!(config.contains("\"id\":\"f\"") && !config.contains(&sum[..64]), "{config}");
}
