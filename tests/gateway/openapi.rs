//! The description of the admin API against the API: every path, every method, every answer, in both directions.

mod schema;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::Path,
};

use serde_json::{Value, json};

use crate::rig::{Answer, Client, Endpoint, Gateway, Setup, bearer, until, valid_token};

#[track_caller]
fn ask(gateway: &Gateway, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let mut client = Client::connect(gateway.admin);
    let body = body.map(Value::to_string).unwrap_or_default();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{kind}Content-Length: {length}\r\n\r\n{body}"
    ));
    client.answer()
}

/// A gateway of which there is something to tell in every place.
fn started() -> (Endpoint, Gateway) {
    let endpoint = Endpoint::answering("ok");
    let gateway = Setup::new()
        .keys("")
        .cluster("payments", &[endpoint.address], "")
        .text("\n[[api]]\nname = \"pay\"\n[[api.version]]\nname = \"v1\"\nopenapi = \"pay.yaml\"\n")
        .file("pay.yaml", b"openapi: 3.1.0\npaths:\n  /pay:\n    get: { responses: {} }\n")
        .route(
            "pay",
            "/pay",
            "payments",
            "api = \"pay\"\nversion = \"v1\"\njwt = \"partners\"\nslo = \"99% < 1s\"\n\
             limit = [{ by = \"consumer\", quota = \"2/hour\" }]",
        )
        .start();
    let mut client = gateway.client();
    let token = bearer(&valid_token("acme"));
    let statuses: Vec<u16> = (0..3).map(|_| client.get("/pay", &token).status).collect();
    assert_eq!((statuses, client.get("/nowhere", "").status), (vec![200, 200, 429], 404));
    until("all four to be told of", || {
        ask(&gateway, "GET", "/exchanges", None).json().as_array().unwrap().len() == 4
    });
    until("the refusals to be told of", || {
        ask(&gateway, "GET", "/live", None).json()["last_refusals"].as_array().unwrap().len() == 2
    });
    (endpoint, gateway)
}

fn description(gateway: &Gateway) -> Value {
    let answer = ask(gateway, "GET", "/openapi.json", None);
    assert_eq!((answer.status, answer.field("content-type")), (200, Some("application/json")));
    answer.json()
}

/// Holds `answer` against what `operation` says of it.
#[track_caller]
fn hold(document: &Value, operation: &Value, answer: &Answer, what: &str) {
    let responses = &operation["responses"];
    let status = answer.status.to_string();
    let mut told = responses.get(&status).unwrap_or_else(|| {
        assert!(answer.status >= 400, "{what}: {status} is not described: {}", answer.text());
        &responses["default"]
    });
    if let Some(reference) = told["$ref"].as_str() {
        told = document.pointer(reference.trim_start_matches('#')).unwrap();
    }
    let kind = answer.field("content-type").unwrap();
    let kind = kind.split(';').next().unwrap();
    let content =
        told["content"].get(kind).unwrap_or_else(|| panic!("{what}: {status} as {kind} is not described"));
    let Some(schema) = content.get("schema").filter(|_| kind == "application/json") else { return };
    let (body, mut wrong) = (answer.json(), Vec::new());
    schema::check(document, schema, &body, "", &mut wrong);
    assert!(wrong.is_empty(), "{what}: {status}: {wrong:#?}\n{body:#}");
}

/// Holds a line that `/tail` shows against what is said of it; it has no end that could be waited for.
#[track_caller]
fn hold_tail(gateway: &Gateway, document: &Value, operation: &Value) {
    let mut stream = TcpStream::connect(gateway.admin).unwrap();
    write!(stream, "GET /tail?status=404 HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    assert!(head[0].contains(" 200 "), "{head:?}");
    let kinds = operation["responses"]["200"]["content"].as_object().unwrap();
    let is_kind = |kind: &String| head.contains(&format!("content-type: {kind}"));
    assert!(kinds.keys().any(is_kind), "{head:?}");
    // The first sign of life: whatever ends from now on is shown.
    assert_eq!(lines.next().unwrap(), "");
    assert_eq!(gateway.client().get("/nowhere", "").status, 404);
    let line: Value = serde_json::from_str(&lines.find(|line| !line.is_empty()).unwrap()).unwrap();
    let mut wrong = Vec::new();
    schema::check(document, &document["components"]["schemas"]["LogLine"], &line, "", &mut wrong);
    assert!(wrong.is_empty(), "{wrong:#?}\n{line:#}");
}

/// All operations: path, method, what is said of it.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| {
        let methods = item.as_object().unwrap().clone().into_iter();
        methods
            .map(|(method, operation)| (path.clone(), method.to_uppercase(), operation))
            .collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

fn filled(path: &str) -> String {
    path.replace("{api}", "pay").replace("{version}", "v1")
}

/// Broken by an answer that has lost a member, a status that nobody described, or an example that does not work.
#[test]
fn every_operation_answers_as_it_is_described() {
    let (endpoint, gateway) = started();
    let document = description(&gateway);
    let (last, first): (Vec<_>, Vec<_>) =
        operations(&document).into_iter().partition(|(path, ..)| path == "/drain");
    assert!(first.len() > 20 && last.len() == 1);
    for (path, method, operation) in first {
        let (what, path) = (format!("{method} {path}"), filled(&path));
        let Some(body) = operation.get("requestBody") else {
            if path == "/tail" {
                hold_tail(&gateway, &document, &operation);
            } else {
                let answer = ask(&gateway, &method, &path, None);
                assert_eq!(answer.status, 200, "{what}: {}", answer.text());
                hold(&document, &operation, &answer, &what);
            }
            // What belongs to nobody is not described, and parameters that are described are read.
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().unwrap();
                let (query, status) = match (parameter["in"].as_str(), name) {
                    (Some("query"), "consumer") if path == "/tail" => continue,
                    (Some("query"), "route") if path == "/tail" => (format!("{path}?{name}=none"), 400),
                    (Some("query"), "route" | "consumer") => (format!("{path}?{name}=none"), 200),
                    (Some("query"), _) => (format!("{path}?{name}=none"), 400),
                    _ => (path.replace("pay", "none"), 404),
                };
                let answer = ask(&gateway, &method, &query, None);
                assert_eq!(answer.status, status, "{query}: {}", answer.text());
                hold(&document, &operation, &answer, &query);
            }
            continue;
        };
        for wrong in [json!([]), json!({}), json!({ "nonsense": 1 }), json!("text"), Value::Null] {
            let answer = ask(&gateway, &method, &path, Some(&wrong));
            let status = if path.starts_with("/endpoints/") { 422 } else { 400 };
            assert_eq!(answer.status, status, "{what} {wrong}: {}", answer.text());
            hold(&document, &operation, &answer, &what);
        }
        let examples = body["content"]["application/json"]["examples"].as_object();
        for example in examples.into_iter().flat_map(|examples| examples.values()) {
            let mut order = example["value"].clone();
            if let Some(address) = order.get_mut("address") {
                *address = json!(endpoint.address.to_string());
            }
            let answer = ask(&gateway, &method, &path, Some(&order));
            assert_eq!(answer.status, 200, "{what}: {}", answer.text());
            hold(&document, &operation, &answer, &what);
            if order.get("cluster").is_some() {
                order["cluster"] = json!("none");
                let answer = ask(&gateway, &method, &path, Some(&order));
                assert_eq!(answer.status, 404, "{what}: {}", answer.text());
                hold(&document, &operation, &answer, &what);
            }
        }
        if method == "DELETE" {
            let own =
                if path == "/revoke" { json!({ "jti": "none" }) } else { json!({ "consumer": "none" }) };
            let answer = ask(&gateway, &method, &path, Some(&own));
            assert_eq!(answer.status, 404, "{what}: {}", answer.text());
            hold(&document, &operation, &answer, &what);
        }
    }
    let (path, method, operation) = &last[0];
    hold(&document, operation, &ask(&gateway, method, path, None), path);
}

/// Broken by a method that is described and not taken, or the other way round.
#[test]
fn the_methods_are_those_that_are_described() {
    let (_endpoint, gateway) = started();
    let document = description(&gateway);
    let paths = document["paths"].as_object().unwrap();
    for (path, item) in paths {
        let mut described: BTreeSet<String> =
            item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        if described.contains("GET") {
            described.insert("HEAD".to_owned());
        }
        let answer = ask(&gateway, "PATCH", &filled(path), None);
        assert_eq!(answer.status, 405, "{path}");
        let allowed = answer.field("allow").unwrap_or_default();
        assert_eq!(allowed.split(',').map(str::to_owned).collect::<BTreeSet<_>>(), described, "{path}");
        hold(&document, &item[&item.as_object().unwrap().keys().next().unwrap().clone()], &answer, path);
    }
}

/// Broken by a route that is added to the code and not to the description.
#[test]
fn every_route_in_the_code_is_described() {
    fn collect(directory: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, found);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            let routes = text.split(".route(").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
            found.extend(routes.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
    let mut in_code = BTreeSet::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/control"), &mut in_code);
    let (_endpoint, gateway) = started();
    let document = description(&gateway);
    let described: BTreeSet<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(in_code, described);
}
