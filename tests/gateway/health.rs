//! Endpoints that fail, freeze, come back, are probed, drained and weighed: what clients notice and what is said of it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};

use crate::rig::{Answer, Client, Endpoint, Gate, Gateway, Setup, until};

/// A switch between two states of an endpoint.
#[derive(Clone, Default)]
struct Switch(Arc<AtomicBool>);

impl Switch {
    fn set(&self, on: bool) {
        self.0.store(on, Ordering::SeqCst);
    }

    fn is_on(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Answers everything with its name, and with 503 while `ill` is on.
fn ailing(name: &'static str, ill: &Switch) -> Endpoint {
    let ill = ill.clone();
    Endpoint::scripted(move |talk, seen| {
        talk.read_body(seen);
        let status = if ill.is_on() { "503 Service Unavailable" } else { "200 OK" };
        talk.send(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{name}", name.len()));
    })
}

fn behind(endpoints: &[&Endpoint], lines: &str) -> Setup {
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
    Setup::new().cluster("main", &addresses, lines).route("all", "/", "main", "")
}

/// What `/clusters` says of the endpoint at `place`.
fn told(gateway: &Gateway, place: usize) -> Value {
    let clusters: Value = serde_json::from_str(&gateway.admin_get("/clusters").1).unwrap();
    clusters[0]["endpoints"][place].clone()
}

fn state(gateway: &Gateway, place: usize) -> String {
    told(gateway, place)["state"].as_str().unwrap().to_owned()
}

fn up(gateway: &Gateway, endpoint: &Endpoint) -> f64 {
    let address = endpoint.address;
    gateway.metric(&format!("tollgate_endpoint_up{{cluster=\"main\",endpoint=\"{address}\"}}"))
}

fn order(gateway: &Gateway, action: &str, body: &Value) -> Answer {
    let mut client = Client::connect(gateway.admin);
    let body = body.to_string();
    client.send(format!(
        "POST /endpoints/{action} HTTP/1.1\r\nHost: admin\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    client.answer()
}

fn texts(gateway: &Gateway, requests: usize) -> Vec<String> {
    let mut client = gateway.client();
    (0..requests).map(|_| client.get("/", "").text()).collect()
}

#[test]
fn who_fails_fast_attracts_nothing_and_comes_back_when_it_is_well() {
    for policy in ["least-connections", "latency", "round-robin"] {
        let (ill, well) = (Switch::default(), Switch::default());
        let (first, second) = (ailing("first", &ill), ailing("second", &well));
        let lines = format!("balance = \"{policy}\"\nejection = {{ time = \"300ms\" }}");
        let gateway = behind(&[&first, &second], &lines).shards(2).start();
        ill.set(true);
        let mut failed = 0;
        until("the endpoint to be ejected", || {
            failed += usize::from(gateway.client().get("/", "").status == 503);
            gateway.said().iter().any(|line| line.contains("is ejected for 1 s: 5 consecutive 503"))
        });
        assert_eq!(failed, 5, "the sixth goes elsewhere at once: {policy}");
        ill.set(false);
        until("the endpoint to be well again", || {
            texts(&gateway, 1);
            gateway.said().iter().any(|line| line.contains("is well again"))
        });
        assert_eq!(state(&gateway, 0), "up");
        assert!(told(&gateway, 0)["ejections"].as_u64() >= Some(1));
        until("the endpoint to serve again", || texts(&gateway, 4).contains(&"first".to_owned()));
        assert_eq!(up(&gateway, &first), 1.0);
    }
}

#[test]
fn an_ejection_is_explained_while_it_lasts() {
    let (ill, well) = (Switch::default(), Switch::default());
    let (first, second) = (ailing("first", &ill), ailing("second", &well));
    let gateway = behind(&[&first, &second], "ejection = { time = \"1h\" }").start();
    ill.set(true);
    until("the endpoint to be ejected", || {
        texts(&gateway, 2);
        state(&gateway, 0) == "ejected"
    });
    let told = told(&gateway, 0);
    let reason = told["reason"].as_str().unwrap();
    assert!(reason.starts_with("ejected: 5 consecutive 503, 3") && reason.ends_with(" s left"), "{reason}");
    assert_eq!((&told["effective_weight"], &told["failed"]), (&json!(0.0), &json!(5)));
    assert_eq!(up(&gateway, &first), 0.0);
    assert_eq!(texts(&gateway, 20), ["second"; 20]);
    // The last one is used whatever it does.
    well.set(true);
    for _ in 0..20 {
        assert_eq!(gateway.client().get("/", "").status, 503);
    }
    until("it to be said why it is not ejected", || {
        told_reason(&gateway, 1).ends_with("not ejected, because too many are")
    });
}

fn told_reason(gateway: &Gateway, place: usize) -> String {
    told(gateway, place)["reason"].as_str().unwrap().to_owned()
}

#[test]
fn who_is_frozen_costs_a_few_time_outs_and_no_more() {
    let gate = Gate::default();
    let (frozen, second) = (Endpoint::holding(&gate), Endpoint::answering("second"));
    let lines = "response_timeout = \"200ms\"\nejection = { failures = 3, time = \"1h\" }";
    let gateway = behind(&[&frozen, &second], lines).start();
    let mut timed_out = 0;
    until("the endpoint to be ejected", || {
        timed_out += usize::from(gateway.client().get("/", "").status == 504);
        state(&gateway, 0) == "ejected"
    });
    assert_eq!(timed_out, 3);
    assert!(told_reason(&gateway, 0).contains("3 consecutive time-outs"), "{}", told_reason(&gateway, 0));
    assert_eq!(texts(&gateway, 20), ["second"; 20]);
    gate.open();
}

#[test]
fn probes_find_who_is_not_well_before_a_client_does() {
    let (ill, well) = (Switch::default(), Switch::default());
    let (first, second) = (ailing("first", &ill), ailing("second", &well));
    let lines = "health = { probe = \"http\", path = \"/healthz\", host = \"probe.example\", expect = \"200\", \
                 interval = \"100ms\", timeout = \"1s\", rise = 1, fall = 2 }";
    let gateway = behind(&[&first, &second], lines).start();
    until("both to be asked", || !first.seen(1).is_empty() && !second.seen(1).is_empty());
    let asked = first.seen(1).remove(0);
    assert_eq!(
        (asked.method(), asked.target(), asked.field("host")),
        ("GET", "/healthz", Some("probe.example"))
    );
    ill.set(true);
    until("the endpoint to be down", || state(&gateway, 0) == "down");
    assert_eq!(told_reason(&gateway, 0), "down: the last probe: status 503");
    assert_eq!(texts(&gateway, 10), ["second"; 10]);
    ill.set(false);
    until("the endpoint to be up", || state(&gateway, 0) == "up");
    until("the endpoint to serve", || texts(&gateway, 4).contains(&"first".to_owned()));
    let times = |words: &str| gateway.said().iter().filter(|line| line.contains(words)).count();
    for words in ["is down: status 503", "is up again"] {
        until("the change to be said", || times(words) > 0);
        assert_eq!(times(words), 1, "one line for each change");
    }
    // Without probes nobody is down.
    well.set(true);
    until("the other to be down", || state(&gateway, 1) == "down");
    assert_eq!(gateway.reload(&behind(&[&first, &second], "")).0, 200);
    until("the probes to be forgotten", || state(&gateway, 1) == "up");
}

#[test]
fn where_nobody_listens_a_probe_of_the_connection_says_so() {
    let endpoint = Endpoint::answering("ok");
    let lines = "health = { probe = \"tcp\", interval = \"100ms\" }";
    let addresses = [Endpoint::nowhere(), endpoint.address];
    let gateway = Setup::new().cluster("main", &addresses, lines).route("all", "/", "main", "").start();
    until("the endpoint to be down", || state(&gateway, 0) == "down");
    let mut client = gateway.client();
    (0..10).for_each(|_| assert_eq!(client.get("/", "").status, 200));
    assert!(gateway.log(10).iter().rev().take(10).all(|line| line["attempts"] == 1));
    until("a good answer to be told", || told_reason(&gateway, 1) == "the last probe: connected");
}

#[test]
fn a_newcomer_starts_slowly() {
    let (first, second) = (Endpoint::answering("first"), Endpoint::answering("second"));
    let gateway = behind(&[&first], "slow_start = \"1h\"").start();
    assert_eq!(state(&gateway, 0), "up");
    assert_eq!(gateway.reload(&behind(&[&first, &second], "slow_start = \"1h\"")).0, 200);
    assert_eq!((state(&gateway, 0).as_str(), state(&gateway, 1).as_str()), ("up", "slow-start"));
    assert_eq!(told_reason(&gateway, 1), "slow start: 10 % of its weight");
    let texts = texts(&gateway, 110);
    let new = texts.iter().filter(|text| *text == "second").count();
    assert!((5..=20).contains(&new), "a tenth of a share: {new} of 110");
}

#[test]
fn an_operator_drains_weighs_and_restores_and_a_reload_changes_nothing_of_it() {
    let (first, second) = (Endpoint::answering("first"), Endpoint::answering("second"));
    let setup = || behind(&[&first, &second], "");
    let gateway = setup().shards(2).start();
    let named = json!({ "cluster": "main", "address": first.address.to_string() });
    let drained = order(&gateway, "drain", &named);
    assert_eq!((drained.status, &drained.json()["state"]), (200, &json!("drained")));
    assert_eq!(texts(&gateway, 20), ["second"; 20]);
    assert_eq!(gateway.reload(&setup()).0, 200);
    assert_eq!(texts(&gateway, 20), ["second"; 20]);
    assert_eq!((state(&gateway, 0).as_str(), up(&gateway, &first)), ("drained", 0.0));
    // With all drained there is nobody left, and a request says so at once.
    let other = json!({ "cluster": "main", "address": second.address.to_string() });
    assert_eq!(order(&gateway, "drain", &other).status, 200);
    let answer = gateway.client().post("/", "", b"pay");
    assert_eq!((answer.status, answer.code().as_str()), (503, "no_endpoint"));
    assert_eq!(answer.field("tollgate-delivery"), Some("not-sent"));
    assert_eq!(gateway.admin_get("/ready").0, 503, "who asks for a place to send clients to goes elsewhere");
    for named in [&named, &other] {
        assert_eq!(order(&gateway, "restore", named).json()["drained"], false);
    }
    assert_eq!(gateway.admin_get("/ready").0, 200);
    let mut weighed = named.clone();
    weighed["weight"] = json!(9);
    assert_eq!(order(&gateway, "weight", &weighed).json()["weight"], 9);
    assert_eq!(told(&gateway, 0)["effective_weight"], 9.0);
    let share = texts(&gateway, 100).iter().filter(|text| *text == "first").count();
    assert!(share > 75, "{share}");
}

#[test]
fn orders_that_name_nobody_or_make_no_sense_are_refused_in_json() {
    let endpoint = Endpoint::answering("ok");
    let gateway = behind(&[&endpoint], "").start();
    let address = endpoint.address.to_string();
    for (action, body, status, words) in [
        ("drain", json!({ "cluster": "mian", "address": address }), 404, "no cluster is named \"mian\""),
        ("drain", json!({ "cluster": "main", "address": "10.0.0.1:1" }), 404, "has no endpoint"),
        ("drain", json!({ "cluster": "main" }), 422, "missing field `address`"),
        ("weight", json!({ "cluster": "main", "address": address, "weight": 0 }), 400, "drain it"),
        ("weight", json!({ "cluster": "main", "address": address }), 422, "missing field `weight`"),
        ("restore", json!({ "cluster": "main", "address": address, "x": 1 }), 422, "unknown field"),
    ] {
        let answer = order(&gateway, action, &body);
        assert_eq!(answer.status, status, "{body}");
        let message = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(state(&gateway, 0), "up");
}
