//! `tollgate demo`: the whole job on one machine, in one process, without a file.
//!
//! Embedded configuration, two embedded endpoints, a demo key, a valid token, and the commands to try.

use std::{net::TcpListener, path::Path};

use axum::{Json, Router, extract::Request, http::HeaderMap};
use serde_json::{Value, json};

use crate::{
    control::{
        config,
        token::{Claims, mint},
    },
    gateway::{Gateway, StartError},
};

/// The key of the demo. Everybody knows it; it signs nothing that matters.
const SECRET: &str = "tollgate-demo-key-tollgate-demo-key-0001";
/// The variable the demo's configuration takes its key from.
const SECRET_VARIABLE: &str = "TOLLGATE_DEMO_KEY";

/// The demo's configuration, for the two given endpoints. An operator's first file looks like this.
fn configuration(endpoints: &[String; 2]) -> String {
    include_str!("demo.toml")
        .replace("127.0.0.1:9001", &endpoints[0])
        .replace("127.0.0.1:9002", &endpoints[1])
}

/// Runs the demo until Ctrl-C.
///
/// # Errors
/// A port is taken, mostly.
pub fn run() -> Result<(), StartError> {
    let unbound = |error: std::io::Error| StartError::Unbound(format!("a demo endpoint: {error}"));
    let sockets = [TcpListener::bind("127.0.0.1:0"), TcpListener::bind("127.0.0.1:0")];
    let [first, second] = sockets;
    let sockets = [first.map_err(unbound)?, second.map_err(unbound)?];
    let address =
        |socket: &TcpListener| socket.local_addr().map(|address| address.to_string()).map_err(unbound);
    let endpoints = [address(&sockets[0])?, address(&sockets[1])?];

    let secrets = |variable: &str| (variable == SECRET_VARIABLE).then(|| SECRET.as_bytes().to_vec());
    let plan = config::parse(Path::new("demo.toml"), &configuration(&endpoints), &secrets)
        .map_err(|issues| StartError::Refused(issues.to_string()))?;
    let now_s = crate::base::clock::Clock::new().now().unix_seconds();
    let claims =
        Claims { consumer: "demo-shop", scope: Some("payments:write"), ttl_s: 86_400, issued_s: now_s };
    let token = mint(&plan.key_sets[0], None, &claims).map_err(StartError::Refused)?;
    let gateway = Gateway::start(plan, None)?;
    explain(&gateway, &endpoints, &token);
    let names = endpoints.clone();
    gateway
        .serve(async move {
            let mut tasks = Vec::new();
            for (socket, name) in sockets.into_iter().zip(names) {
                tasks.push(tokio::spawn(endpoint(socket, name)));
            }
            for task in tasks {
                let _ = task.await;
            }
        })
        .map_err(|error| StartError::Refused(error.to_string()))
}

/// An endpoint that says what it was asked.
async fn endpoint(socket: TcpListener, name: String) {
    let answer = move |headers: HeaderMap, request: Request| {
        let field =
            |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
        let answer: Value = json!({
            "endpoint": name,
            "method": request.method().as_str(),
            "path": request.uri().path(),
            "consumer": field("x-consumer-id"),
            "request_id": field("x-request-id"),
        });
        async move { Json(answer) }
    };
    if socket.set_nonblocking(true).is_err() {
        return;
    }
    let Ok(listener) = tokio::net::TcpListener::from_std(socket) else { return };
    if let Err(error) = axum::serve(listener, Router::new().fallback(answer)).await {
        tracing::error!("a demo endpoint ended: {error}");
    }
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn explain(gateway: &Gateway, endpoints: &[String; 2], token: &str) {
    let (gateway_at, admin) = (gateway.listen[0], &gateway.admin);
    println!(
        "tollgate demo

  gateway    http://{gateway_at}
  admin      http://{admin}  (/health /ready /metrics /config /clusters /routes)
  dashboard  http://{admin}/
  endpoints  http://{} http://{}
  quota      5 per second and 100 per minute for each consumer

A token that is good for a day:

TOKEN={token}

A payment that succeeds:

curl -i -H \"Authorization: Bearer {token}\" -d '{{\"amount\": 100}}' http://{gateway_at}/api/v1/payment

The same without a token (401):

curl -i -d '{{\"amount\": 100}}' http://{gateway_at}/api/v1/payment

Ten at once, which is more than the quota allows (200 and then 429):

for i in $(seq 10); do curl -s -o /dev/null -w '%{{http_code}}\\n' -H \"Authorization: Bearer {token}\" http://{gateway_at}/api/v1/payment; done

Ctrl-C ends it.
",
        endpoints[0], endpoints[1]
    );
}
