//! Only what a plain reference accepts is accepted; a good token is.
//!
//! The first byte says what follows: a token as it is, or a header and claims that get a true signature.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::hmac;
use serde_json::Value;
use siphasher::sip128::SipHasher13;
use tollgate::stage::auth::{self, Algorithm, Key, KeySet};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW_S: i64 = 1_795_000_000;

fn keys() -> KeySet {
    let key = Key::secret(None, Algorithm::Hs256, SECRET);
    KeySet {
        name: "fuzz".into(),
        index: 0,
        issuer: None,
        audience: Box::default(),
        leeway_s: 0,
        require: ["exp".into(), "sub".into()].into(),
        consumer_claim: "sub".into(),
        roles_claim: Some("realm_access.roles".into()),
        keys: key.into_iter().collect(),
        issued: None,
        hasher: SipHasher13::new(),
    }
}

fn sign(header: &[u8], claims: &[u8]) -> String {
    let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", BASE64.encode(signature))
}

/// Whether the plainest verifier takes it: the minimum of what must hold.
fn reference(token: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(token) else { return false };
    let parts: Vec<&str> = text.split('.').collect();
    let [header, claims, signature] = parts[..] else { return false };
    let object = |part: &str| -> Option<Value> {
        let bytes = BASE64.decode(part).ok()?;
        serde_json::from_slice::<Value>(&bytes).ok().filter(Value::is_object)
    };
    let (Some(head), Some(body), Ok(signature)) = (object(header), object(claims), BASE64.decode(signature))
    else {
        return false;
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let signed = &token[..header.len() + 1 + claims.len()];
    hmac::verify(&key, signed, &signature).is_ok()
        && head["alg"] == "HS256"
        && head.get("crit").is_none()
        && body["exp"].as_f64().is_some_and(|expires| expires > NOW_S as f64)
        && body.get("nbf").is_none_or(|from| from.as_f64().is_some_and(|from| from <= NOW_S as f64))
        && body["sub"].as_str().is_some_and(|sub| !sub.is_empty())
        && body.get("aud").is_none_or(Value::is_null)
}

/// The invariant.
pub(crate) fn check(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let token = match kind % 3 {
        0 => rest.to_vec(),
        1 => {
            let at = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
            let claims = rest.get(at + 1..).unwrap_or_default();
            sign(&rest[..at], claims).into_bytes()
        }
        // A good one, of which one byte is changed.
        _ => {
            let mut token = sign(br#"{"alg":"HS256"}"#, br#"{"sub":"acme","exp":1895000000}"#).into_bytes();
            assert!(auth::verify(&token, &keys(), NOW_S).is_ok(), "a good token");
            if let [at, mask, ..] = *rest {
                let at = usize::from(at) % token.len();
                token[at] ^= mask;
                if mask != 0 {
                    assert!(auth::verify(&token, &keys(), NOW_S).is_err(), "byte {at} ^ {mask}");
                }
            }
            token
        }
    };
    if let Ok(verified) = auth::verify(&token, &keys(), NOW_S) {
        assert!(reference(&token), "accepted: {}", String::from_utf8_lossy(&token));
        assert!(!verified.consumer.is_empty());
    }
}
