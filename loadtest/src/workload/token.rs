//! One JWT for each client (RFC 7519, HMAC of RFC 7518 section 3.2), minted before the run and again before they expire.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::ValueEnum;
use ring::hmac;
use serde::Serialize;

use crate::exit::SetUp;

/// Bytes of tokens that a run may hold.
const MINTED_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Algorithm {
    #[value(name = "HS256", alias = "hs256")]
    Hs256,
    #[value(name = "HS384", alias = "hs384")]
    Hs384,
    #[value(name = "HS512", alias = "hs512")]
    Hs512,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Hs256 => hmac::HMAC_SHA256,
            Self::Hs384 => hmac::HMAC_SHA384,
            Self::Hs512 => hmac::HMAC_SHA512,
        }
    }
}

/// What tokens say besides whose they are.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Option<String>,
    pub(crate) ttl: Duration,
    pub(crate) scope: Option<String>,
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
}

/// Every client's token. Threads hold a [`Minted`] and take the newest one about once a second.
#[derive(Debug)]
pub(crate) struct Tokens {
    claims: Claims,
    key: hmac::Key,
    clients: u32,
    newest: Mutex<(Arc<Minted>, SystemTime)>,
}

/// The tokens of one minting, in the order of the clients.
#[derive(Debug)]
pub(crate) struct Minted {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Tokens {
    /// Reads the secret (one trailing newline is not part of it) and mints `clients` tokens.
    ///
    /// # Errors
    /// When the file cannot be read or holds nothing, or the tokens would not fit in memory.
    pub(crate) fn mint(secret_file: &Path, claims: Claims, clients: u32) -> Result<Self, SetUp> {
        let name = secret_file.display();
        let secret = std::fs::read(secret_file)
            .map_err(|error| SetUp::new(format!("cannot read the secret file {name}: {error}")))?;
        let secret = secret.strip_suffix(b"\n").unwrap_or(&secret);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        if secret.is_empty() {
            return Err(SetUp::new(format!("the secret file {name} is empty")));
        }
        let key = hmac::Key::new(claims.algorithm.hmac(), secret);
        let now = SystemTime::now();
        let one = mint(&claims, &key, clients, now).len();
        if one.saturating_mul(clients as usize) > MINTED_BYTES_MAX {
            return Err(SetUp::new(format!(
                "{clients} tokens of {one} bytes are more than 2 GiB; use fewer clients"
            )));
        }
        let newest = Mutex::new((Arc::new(Minted::new(&claims, &key, clients, now)), now));
        Ok(Self { claims, key, clients, newest })
    }

    /// The newest tokens.
    pub(crate) fn newest(&self) -> Arc<Minted> {
        Arc::clone(&self.newest.lock().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// A token that was good long ago.
    pub(crate) fn expired(&self) -> String {
        mint(&self.claims, &self.key, 0, UNIX_EPOCH)
    }

    /// Mints again once half of the tokens' life is over. Called by the thread that coordinates a run.
    pub(crate) fn refresh(&self) {
        let now = SystemTime::now();
        let minted_at = self.newest.lock().unwrap_or_else(PoisonError::into_inner).1;
        if now.duration_since(minted_at).is_ok_and(|age| age >= self.claims.ttl / 2) {
            let minted = Arc::new(Minted::new(&self.claims, &self.key, self.clients, now));
            *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = (minted, now);
        }
    }
}

impl Minted {
    fn new(claims: &Claims, key: &hmac::Key, clients: u32, now: SystemTime) -> Self {
        let mut minted = Self { text: Vec::new(), ends: Vec::with_capacity(clients as usize) };
        for client in 0..clients {
            minted.text.extend_from_slice(mint(claims, key, client, now).as_bytes());
            minted.ends.push(minted.text.len());
        }
        minted
    }

    /// A client's token.
    pub(crate) fn token(&self, client: u32) -> &[u8] {
        let client = client as usize;
        let start = if client == 0 { 0 } else { self.ends[client - 1] };
        &self.text[start..self.ends[client]]
    }
}

/// Appends `token` with a signature that is well formed and wrong.
pub(crate) fn push_broken(token: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(token);
    // The first character of the signature: all of its six bits count, unlike the last one's.
    if let Some(dot) = out.iter().rposition(|&byte| byte == b'.')
        && let Some(first) = out.get_mut(dot + 1)
    {
        *first = if *first == b'A' { b'B' } else { b'A' };
    }
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

#[derive(Serialize)]
struct Body<'a> {
    sub: String,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
}

fn mint(claims: &Claims, key: &hmac::Key, client: u32, now: SystemTime) -> String {
    let iat = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let header = Header { alg: claims.algorithm.name(), typ: "JWT", kid: claims.kid.as_deref() };
    let body = Body {
        sub: format!("client-{client}"),
        iat,
        exp: iat.saturating_add(claims.ttl.as_secs().max(1)),
        iss: claims.issuer.as_deref(),
        aud: claims.audience.as_deref(),
        scope: claims.scope.as_deref(),
    };
    let mut token = encode(&header);
    token.push('.');
    token.push_str(&encode(&body));
    let signature = hmac::sign(key, token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}

fn encode(part: &impl Serialize) -> String {
    // Structs of strings and numbers always serialise.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(part).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn claims(algorithm: Algorithm) -> Claims {
        Claims {
            algorithm,
            kid: Some("k1".into()),
            ttl: Duration::from_secs(60),
            scope: Some("a b".into()),
            issuer: None,
            audience: Some("payments".into()),
        }
    }

    fn secret(text: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text).expect("written");
        file
    }

    #[test]
    fn signs_what_anyone_can_verify() {
        for (algorithm, hmac) in [
            (Algorithm::Hs256, hmac::HMAC_SHA256),
            (Algorithm::Hs384, hmac::HMAC_SHA384),
            (Algorithm::Hs512, hmac::HMAC_SHA512),
        ] {
            let tokens = Tokens::mint(secret(b"sesame\n").path(), claims(algorithm), 3).expect("tokens");
            let minted = tokens.newest();
            let token = std::str::from_utf8(minted.token(2)).expect("text");
            let parts: Vec<&str> = token.split('.').collect();
            let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).expect("base64url");
            let signed = &token[..parts[0].len() + 1 + parts[1].len()];
            let key = hmac::Key::new(hmac, b"sesame");
            assert!(hmac::verify(&key, signed.as_bytes(), &decode(parts[2])).is_ok());
            let header: serde_json::Value = serde_json::from_slice(&decode(parts[0])).expect("JSON");
            let body: serde_json::Value = serde_json::from_slice(&decode(parts[1])).expect("JSON");
            assert_eq!(
                (header["alg"].as_str(), header["kid"].as_str()),
                (Some(algorithm.name()), Some("k1"))
            );
            assert_eq!((body["sub"].as_str(), body["aud"].as_str()), (Some("client-2"), Some("payments")));
            assert_eq!(body["exp"].as_u64(), body["iat"].as_u64().map(|iat| iat + 60));
            assert!(body.get("iss").is_none());

            let mut broken = Vec::new();
            push_broken(minted.token(2), &mut broken);
            let broken = String::from_utf8(broken).expect("text");
            assert!(broken.starts_with(signed));
            let wrong = broken.rsplit('.').next().map(decode).expect("a signature");
            assert!(hmac::verify(&key, signed.as_bytes(), &wrong).is_err());
        }
    }

    #[test]
    fn says_what_is_wrong_with_the_secret() {
        let missing = Tokens::mint(Path::new("/nowhere/secret"), claims(Algorithm::Hs256), 1);
        assert!(missing.is_err_and(|error| error.to_string().contains("/nowhere/secret")));
        let empty = Tokens::mint(secret(b"\n").path(), claims(Algorithm::Hs256), 1);
        assert!(empty.is_err_and(|error| error.to_string().contains("empty")));
    }
}
