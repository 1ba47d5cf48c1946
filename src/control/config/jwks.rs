//! JSON Web Key Sets (RFC 7517): what an issuer publishes, as keys.
//!
//! Keys for encryption and of kinds unknown here are passed over, as the RFC wants it, and said. Private keys are
//! refused: whoever can read a gateway's disk must not be able to sign.

use std::path::Path;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use crate::stage::auth::{Algorithm, Key, Kind, PublicKey};

/// The longest set that is read, in bytes, and the most keys of one.
const SET_BYTES_MAX: u64 = 1024 * 1024;
const KEYS_MAX: usize = 1000;

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

/// One key; members unknown here are ignored.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    k: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// Only private keys have it.
    d: Option<serde_json::Value>,
}

/// The keys of the set at `path`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(path: &Path) -> Result<Vec<Key>, String> {
    let unreadable = |error| format!("{} cannot be read: {error}", path.display());
    if std::fs::metadata(path).map_err(unreadable)?.len() > SET_BYTES_MAX {
        return Err(format!("{} is longer than {SET_BYTES_MAX} bytes", path.display()));
    }
    let text = std::fs::read(path).map_err(unreadable)?;
    parse(&text).map_err(|mistake| format!("{}: {mistake}", path.display()))
}

/// The keys of a set.
///
/// # Errors
/// It is no set, has no key to verify with, or one that should not be there.
pub(in super::super) fn parse(text: &[u8]) -> Result<Vec<Key>, String> {
    let set: Set =
        serde_json::from_slice(text).map_err(|error| format!("not a JSON Web Key Set: {error}"))?;
    if set.keys.len() > KEYS_MAX {
        return Err(format!("{} keys; at most {KEYS_MAX} are taken", set.keys.len()));
    }
    let mut keys: Vec<Key> = Vec::new();
    for (index, jwk) in set.keys.iter().enumerate() {
        let name = jwk.kid.as_ref().map_or_else(|| format!("keys[{index}]"), |kid| format!("key \"{kid}\""));
        match key(jwk).map_err(|mistake| format!("{name}: {mistake}"))? {
            Some(key) if key.kid().is_some() && keys.iter().any(|known| known.kid() == key.kid()) => {
                return Err(format!("{name}: another key has this kid"));
            }
            Some(key) => keys.push(key),
            None => tracing::warn!("{name} is not for signatures that are verified here, and is passed over"),
        }
    }
    if keys.is_empty() {
        return Err("no key to verify signatures with".to_owned());
    }
    Ok(keys)
}

/// `None` if it is for something else.
fn key(jwk: &Jwk) -> Result<Option<Key>, String> {
    let is_for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
        && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    let Some(usual) = usual_algorithm(jwk).filter(|_| is_for_signatures) else { return Ok(None) };
    if jwk.d.is_some() {
        return Err("a private key has no place on a gateway; publish its public half".to_owned());
    }
    let algorithm = match &jwk.alg {
        None => usual,
        Some(name) => match Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name) {
            Some(algorithm) => algorithm,
            None => return Ok(None),
        },
    };
    let member = |name: &str, value: &Option<String>| {
        let text = value.as_ref().ok_or_else(|| format!("\"{name}\" is missing"))?;
        URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("\"{name}\" is not base64url without padding"))
    };
    let kid = jwk.kid.as_deref();
    let point =
        || -> Result<Vec<u8>, String> { Ok([vec![4], member("x", &jwk.x)?, member("y", &jwk.y)?].concat()) };
    let made = match usual.kind() {
        Kind::Secret => Key::secret(kid, algorithm, &member("k", &jwk.k)?),
        Kind::Rsa => {
            let key = PublicKey::Rsa { modulus: member("n", &jwk.n)?, exponent: member("e", &jwk.e)? };
            Key::public(kid, algorithm, key)
        }
        Kind::P256 => Key::public(kid, algorithm, PublicKey::P256(point()?)),
        Kind::P384 => Key::public(kid, algorithm, PublicKey::P384(point()?)),
        Kind::Ed25519 => Key::public(kid, algorithm, PublicKey::Ed25519(member("x", &jwk.x)?)),
    };
    made.map(Some).map_err(|unusable| unusable.0)
}

/// The algorithm of a key that names none: its curve's, or the one that every issuer of its kind uses.
fn usual_algorithm(jwk: &Jwk) -> Option<Algorithm> {
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("oct", _) => Some(Algorithm::Hs256),
        ("RSA", _) => Some(Algorithm::Rs256),
        ("EC", Some("P-256")) => Some(Algorithm::Es256),
        ("EC", Some("P-384")) => Some(Algorithm::Es384),
        ("OKP", Some("Ed25519")) => Some(Algorithm::EdDsa),
        _ => None,
    }
}
