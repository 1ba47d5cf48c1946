//! Mints tokens for configured keys: for development and load tests.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use super::config::plan::KeySetPlan;

/// What a minted token says.
#[derive(Debug)]
pub struct Claims<'a> {
    /// The consumer.
    pub consumer: &'a str,
    /// `scope`, if any.
    pub scope: Option<&'a str>,
    /// How long it is good, in seconds.
    pub ttl_s: i64,
    /// When it is issued, seconds since the Unix epoch.
    pub issued_s: i64,
}

/// Mints a token that `keys` accept, signed with the key called `kid`, or the first.
///
/// # Errors
/// There is no such key, or it can sign nothing.
pub fn mint(keys: &KeySetPlan, kid: Option<&str>, claims: &Claims<'_>) -> Result<String, String> {
    let key = match kid {
        None => keys.keys.first(),
        Some(kid) => keys.keys.iter().find(|key| key.kid() == Some(kid)),
    };
    let key = key.ok_or_else(|| {
        let known: Vec<&str> = keys.keys.iter().filter_map(|key| key.kid()).collect();
        format!("jwt \"{}\" has no key with this kid; it has: {}", keys.name, known.join(", "))
    })?;
    let mut header = json!({ "alg": key.algorithm().name(), "typ": "JWT" });
    if let Some(kid) = key.kid() {
        header["kid"] = json!(kid);
    }
    let mut payload = json!({ "iat": claims.issued_s, "exp": claims.issued_s.saturating_add(claims.ttl_s) });
    payload["sub"] = json!(claims.consumer);
    payload[&keys.consumer_claim] = json!(claims.consumer);
    if let Some(issuer) = &keys.issuer {
        payload["iss"] = json!(issuer);
    }
    if let Some(audience) = keys.audience.first() {
        payload["aud"] = json!(audience);
    }
    if let Some(scope) = claims.scope {
        payload["scope"] = json!(scope);
    }
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(payload.to_string())
    );
    let signature = key.sign(signed.as_bytes()).ok_or_else(|| {
        let kid = key.kid().unwrap_or("without a kid");
        format!("key {kid} is a public key; tokens for it are signed by whoever has the private one")
    })?;
    let signature = URL_SAFE_NO_PAD.encode(signature);
    Ok(format!("{signed}.{signature}"))
}
