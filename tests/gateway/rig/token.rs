//! Tokens, minted with nothing of the gateway's.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use serde_json::{Value, json};

/// The key of `Setup::keys`: 64 bytes, long enough for every hash.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The three HMAC algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
}

impl Algorithm {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
        }
    }

    fn hash(self) -> hmac::Algorithm {
        match self {
            Self::Hs256 => hmac::HMAC_SHA256,
            Self::Hs384 => hmac::HMAC_SHA384,
            Self::Hs512 => hmac::HMAC_SHA512,
        }
    }
}

/// A token with exactly these two JSON texts in it, however odd, properly signed.
pub(crate) fn sign(algorithm: Algorithm, secret: &[u8], header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let tag = hmac::sign(&hmac::Key::new(algorithm.hash(), secret), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}

/// A token of key `k1` of `Setup::keys` with these claims.
pub(crate) fn mint(claims: &Value) -> String {
    let header = json!({ "typ": "JWT", "alg": "HS256", "kid": "k1" });
    sign(Algorithm::Hs256, SECRET.as_bytes(), &header.to_string(), &claims.to_string())
}

/// A token that is good for an hour, for this consumer.
pub(crate) fn valid_token(consumer: &str) -> String {
    mint(&json!({ "sub": consumer, "exp": now_s() + 3600 }))
}

/// The field line that carries a token.
pub(crate) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
