//! What the benchmarks measure: one piece of work for each question about the pure rooms.
//!
//! Every piece is built once, with everything warm that is warm in a running shard, and then done any number
//! of times with `once`. `time.rs` and `instructions.rs` are two ways of looking at the same pieces. Nothing
//! here does input or output, so nothing here says what a request costs: most of that is the kernel's.

pub(crate) mod body;
pub(crate) mod claim;
pub(crate) mod decide;
pub(crate) mod head;

use std::path::Path;

use tollgate::{
    base::clock::{Clock, Moment},
    control::{
        config::{self, compile},
        discovery::Addresses,
        token::{Claims, mint},
    },
    stage::snapshot::Snapshot,
};

/// Routes besides the one that is asked for.
const OTHER_ROUTES: usize = 100;

/// A payment company's gateway: a hundred routes, one of them with everything on. And a token for it.
pub(crate) fn payments() -> (Snapshot, String, Moment) {
    payments_and("")
}

/// The same with more in its configuration.
pub(crate) fn payments_and(also: &str) -> (Snapshot, String, Moment) {
    let mut text = String::from(
        r#"
[[jwt]]
name = "partners"
keys = [{ kid = "k1", alg = "HS256", secret_env = "KEY" }]

[[cluster]]
name = "payments"
endpoints = [
  { address = "127.0.0.1:9001" }, { address = "127.0.0.1:9002" },
  { address = "127.0.0.1:9003" }, { address = "127.0.0.1:9004" },
]

[[route]]
name = "payment-v1"
path = "/api/v1/payment"
methods = ["POST"]
jwt = "partners"
scopes = ["payments:write"]
slo = "99.9% < 250ms"
limit = [
  { by = "consumer", quota = "1000000/second;60000000/minute" },
  { by = "ip", quota = "1000000/second" },
]
cluster = "payments"
"#,
    );
    text += also;
    for index in 0..OTHER_ROUTES {
        text += &format!(
            "[[route]]\nname = \"r{index}\"\npath = \"/api/v1/resource-{index}\"\ncluster = \"payments\"\n"
        );
    }
    let secret = |_: &str| Some(b"0123456789abcdef0123456789abcdef".to_vec());
    let plan = config::parse(Path::new("benches.toml"), &text, &secret).expect("the configuration is good");
    let now = Clock::new().now();
    let claims = Claims {
        consumer: "acme",
        scope: Some("payments:write"),
        ttl_s: 3_600,
        issued_s: now.unix_seconds(),
    };
    let token = mint(&plan.key_sets[0], None, &claims).expect("the key set has a key");
    (
        compile::compile(plan, &Addresses::default(), 1, None).expect("the endpoints have addresses"),
        token,
        now,
    )
}

/// What a partner's program sends.
pub(crate) fn request(token: &str) -> Vec<u8> {
    request_to("/api/v1/payment", &format!("Authorization: Bearer {token}"))
}

/// The same to another path, with another field to say who sends it.
pub(crate) fn request_to(path: &str, credential: &str) -> Vec<u8> {
    format!(
        "POST {path}?lang=en HTTP/1.1\r\n\
         Host: gateway.example\r\n\
         User-Agent: python-requests/2.32.3\r\n\
         Accept-Encoding: gzip, deflate\r\n\
         Accept: */*\r\n\
         Connection: keep-alive\r\n\
         {credential}\r\n\
         Idempotency-Key: 7f8d1f5e-6c1b-4c43-9f52-2b1c0e0e7c55\r\n\
         Content-Type: application/json\r\n\
         Content-Length: 14\r\n\r\n"
    )
    .into_bytes()
}
