//! Keys from an issuer's address: rotation while requests come, an issuer that fails, clients that make up keys.

use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::{
    algorithms::{jwks, token},
    rig::{Client, Endpoint, Gateway, Setup, bearer, tollgate, until},
};

/// An issuer, and what it answers.
struct Issuer {
    endpoint: Endpoint,
    answer: Arc<Mutex<(u16, String)>>,
}

impl Issuer {
    fn publishing(algorithms: &[&str]) -> Self {
        let answer = Arc::new(Mutex::new((200, jwks(algorithms).to_string())));
        let said = Arc::clone(&answer);
        let endpoint = Endpoint::scripted(move |talk, _| {
            let (status, body) = said.lock().unwrap().clone();
            talk.send(format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        });
        Self { endpoint, answer }
    }

    fn publish(&self, status: u16, body: &str) {
        *self.answer.lock().unwrap() = (status, body.to_owned());
    }

    fn setup(&self, service: &Endpoint, refresh: &str) -> Setup {
        Setup::new()
            .text(&format!(
                "[[jwt]]\nname = \"partners\"\njwks_url = \"http://{}/keys\"\njwks_refresh = \"{refresh}\"\n",
                self.endpoint.address
            ))
            .cluster("main", &[service.address], "")
            .route("all", "/", "main", "jwt = \"partners\"")
    }
}

fn status(client: &mut Client, alg: &str) -> u16 {
    client.get("/", &bearer(&token(&json!({ "alg": alg, "kid": alg }), alg))).status
}

fn is_current(gateway: &Gateway) -> bool {
    gateway.metric("tollgate_jwks_current{jwt=\"partners\"}") == 1.0
}

/// Broken by a rotation that somebody who has a good token notices, or by one that forgets nothing.
#[test]
fn keys_rotate_while_requests_come() {
    let service = Endpoint::answering("ok");
    let issuer = Issuer::publishing(&["EdDSA"]);
    let gateway = issuer.setup(&service, "1s").start();
    let mut client = gateway.client();
    assert_eq!([status(&mut client, "EdDSA"), status(&mut client, "ES256")], [200, 401]);
    // The new one is published beside the old one, then used, then alone.
    issuer.publish(200, &jwks(&["EdDSA", "ES256"]).to_string());
    until("the new key to be good", || {
        assert_eq!(status(&mut client, "EdDSA"), 200);
        status(&mut client, "ES256") == 200
    });
    issuer.publish(200, &jwks(&["ES256"]).to_string());
    until("the old key to be gone, for remembered tokens too", || {
        assert_eq!(status(&mut client, "ES256"), 200);
        status(&mut client, "EdDSA") == 401
    });
}

#[test]
fn an_issuer_that_fails_leaves_the_keys_in_force() {
    let service = Endpoint::answering("ok");
    let issuer = Issuer::publishing(&["ES256"]);
    let gateway = issuer.setup(&service, "1s").start();
    let mut client = gateway.client();
    let said = |words: &str| gateway.said().iter().filter(|line| line.contains(words)).count();
    for (round, (code, body)) in
        [(500, "oops"), (200, "no set"), (200, r#"{"keys":[]}"#), (302, "elsewhere")].into_iter().enumerate()
    {
        issuer.publish(code, body);
        until("it to be noticed", || !is_current(&gateway));
        assert_eq!(status(&mut client, "ES256"), 200, "{code} {body}");
        until("it to be said", || said("the keys in force stay so") > round);
        assert_eq!(said("the keys in force stay so"), round + 1, "once for each time it fails");
        issuer.publish(200, &jwks(&["ES256"]).to_string());
        until("it to be well again", || is_current(&gateway));
    }
    until("each end to be said", || said("publishes its keys again") == 4);
}

/// Broken by a look at the issuer for each token that names a key nobody knows.
#[test]
fn made_up_keys_buy_one_look_and_no_more() {
    let service = Endpoint::answering("ok");
    let issuer = Issuer::publishing(&["ES256"]);
    let gateway = issuer.setup(&service, "1h").start();
    let mut client = gateway.client();
    let good = token(&json!({ "alg": "ES256", "kid": "ES256" }), "ES256");
    for number in 0..3_000 {
        let made_up = token(&json!({ "alg": "ES256", "kid": format!("made up {number}") }), "ES256");
        assert_eq!(client.get("/", &bearer(&made_up)).status, 401);
        if number % 100 == 0 {
            assert_eq!(client.get("/", &bearer(&good)).status, 200);
        }
    }
    // One at the start; the cooldown has not passed since.
    assert_eq!(
        (issuer.endpoint.seen(1).len(), gateway.metric("tollgate_jwks_fetches_total{jwt=\"partners\"}")),
        (1, 1.0)
    );
}

#[test]
fn a_gateway_starts_before_its_issuer_and_a_reload_waits_for_one() {
    let service = Endpoint::answering("ok");
    let issuer = Issuer::publishing(&["ES256"]);
    issuer.publish(503, "not yet");
    let gateway = issuer.setup(&service, "1s").start();
    assert!(gateway.said().iter().any(|line| line.contains("its tokens are refused")));
    let mut client = gateway.client();
    assert_eq!(status(&mut client, "ES256"), 401);
    issuer.publish(200, &jwks(&["ES256"]).to_string());
    until("its keys", || status(&mut client, "ES256") == 200);
    // Another issuer must be there when it is put in force, or its clients would be locked out.
    let other = Issuer::publishing(&["EdDSA"]);
    other.publish(503, "not yet");
    let (refused, report) = gateway.reload(&other.setup(&service, "1s"));
    assert_eq!(refused, 422);
    assert!(report["mistakes"][0].as_str().unwrap().contains("503"), "{report}");
    assert_eq!(status(&mut client, "ES256"), 200);
    other.publish(200, &jwks(&["EdDSA"]).to_string());
    assert_eq!(gateway.reload(&other.setup(&service, "1s")).0, 200);
    assert_eq!([status(&mut client, "ES256"), status(&mut client, "EdDSA")], [401, 200]);
}

#[test]
fn an_issuer_is_believed_only_over_https_or_from_this_machine() {
    for (url, words) in [
        ("http://issuer.example/keys", "https is needed"),
        ("http://192.0.2.1/keys", "https is needed"),
        ("ftp://127.0.0.1/keys", "is not a URL"),
        ("keys.json", "is not a URL"),
    ] {
        let setup = Setup::new()
            .text(&format!("[[jwt]]\nname = \"partners\"\njwks_url = \"{url}\"\n"))
            .cluster("main", &[Endpoint::nowhere()], "")
            .route("all", "/", "main", "jwt = \"partners\"");
        let checked = tollgate(setup.write().path(), &["check", "tollgate.toml"]);
        assert_eq!(checked.status.code(), Some(78), "{url}");
        let message = String::from_utf8(checked.stderr).unwrap();
        assert!(message.contains(words) && message.contains("jwt[0].jwks_url"), "{message}");
    }
}
