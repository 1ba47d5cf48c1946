//! A gateway's life: it starts, serves one payment with everything on, and ends when told to.

use serde_json::json;

use crate::rig::{Endpoint, Setup, valid_token};

#[test]
fn one_payment_through_all_nine_steps() {
    let endpoint = Endpoint::answering("paid");
    let gateway = Setup::new()
        .keys("")
        .cluster("payments", &[endpoint.address], "")
        .route(
            "payment-v1",
            "/api/v1/payment",
            "payments",
            "jwt = \"partners\"\nlimit = [{ by = \"consumer\", quota = \"2/minute\" }]",
        )
        .start();
    let mut client = gateway.client();
    let bearer = format!("Authorization: Bearer {}\r\n", valid_token("acme"));

    let paid = client.post("/api/v1/payment?card=4111", &bearer, b"{\"amount\":100}");
    assert_eq!((paid.status, paid.text().as_str()), (200, "paid"));
    let refused = client.get("/api/v1/payment", "");
    assert_eq!((refused.status, refused.json()["message"].clone()), (401, json!("A token is required!")));
    assert_eq!(client.get("/api/v1/payment", &bearer).status, 200);
    let limited = client.get("/api/v1/payment", &bearer);
    assert_eq!((limited.status, limited.code().as_str()), (429, "quota_exceeded"));

    let seen = endpoint.seen(2);
    assert_eq!(seen[0].body, b"{\"amount\":100}");
    assert_eq!(seen[0].field("x-consumer-id"), Some("acme"));
    assert_eq!(seen[0].field("host"), Some("gateway.example"));

    let log = gateway.log(4);
    let statuses: Vec<u64> = log.iter().map(|line| line["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 401, 200, 429]);
    assert_eq!(log[0]["consumer"], "acme");
    assert_eq!(log[0]["path"], "/api/v1/payment");
    gateway.stop();
}
