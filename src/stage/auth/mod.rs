//! Who is calling, and may they: from a credential to a consumer.
//!
//! The signature is checked first, in constant time, over the text as received, with an algorithm that
//! belongs to the key and is never taken from the token. Verified tokens are remembered per shard, which
//! saves the work but no check that time can change: expiry is looked at on every request. The client is
//! told that its token is invalid; why is for the log and the metrics. API keys are the second kind of
//! credential (`api_key.rs`); `caller.rs` says which kinds a route takes.

mod api_key;
mod cache;
mod caller;
mod claims;
mod issued;
mod jwt;
mod key;
mod revocation;

pub use api_key::{API_KEY_BYTES_MAX, ApiKey, ApiKeys, KeyDigest};
pub use cache::TokenCache;
pub use caller::{Caller, identify};
pub use issued::IssuedKeys;
pub use jwt::{TokenFault, Verified, is_usable_as_consumer, verify};
pub use key::{Algorithm, Key, KeySet, Kind, PublicKey, UnusableKey};

use std::rc::Rc;

use crate::{base::clock::Moment, http::head::Authorization, shared::meters::TokenMeters};

use super::refusal::{Code, Refusal};

/// Establishes who sent a request.
///
/// # Errors
/// `token_missing` or `token_invalid`.
pub fn authenticate(
    keys: &KeySet,
    cache: &mut TokenCache,
    meters: &TokenMeters,
    authorization: Authorization<'_>,
    now: Moment,
) -> Result<Rc<Verified>, Refusal> {
    let token = match authorization {
        Authorization::Absent => None,
        Authorization::One(value) => bearer(value),
        Authorization::Several => {
            meters.refused.add(1);
            return Err(Refusal::new(Code::TokenInvalid, TokenFault::SeveralCredentials.word()));
        }
    };
    let Some(token) = token else {
        meters.missing.add(1);
        return Err(Refusal::new(Code::TokenMissing, "no bearer token"));
    };
    let seconds = now.unix_seconds();
    if let Some(verified) = cache.get(keys, token) {
        return match verified.check_time(keys, seconds) {
            Ok(()) => {
                meters.remembered.add(1);
                Ok(verified)
            }
            Err(fault) => {
                meters.refused.add(1);
                Err(Refusal::new(Code::TokenInvalid, fault.word()))
            }
        };
    }
    let generation = keys.generation();
    match verify(token, keys, seconds) {
        Ok(verified) => {
            meters.verified.add(1);
            let verified = Rc::new(verified);
            cache.put(keys, generation, token, &verified, seconds);
            Ok(verified)
        }
        Err(fault) => {
            meters.refused.add(1);
            Err(Refusal::new(Code::TokenInvalid, fault.word()))
        }
    }
}

/// Whether the caller has all `required` scopes.
///
/// # Errors
/// `scope_insufficient`.
pub fn permits(caller: &Verified, required: &[Box<str>]) -> Result<(), Refusal> {
    if required.iter().all(|scope| caller.scopes.contains(scope)) {
        return Ok(());
    }
    Err(Refusal::new(Code::ScopeInsufficient, "scope"))
}

/// Whether the caller has one of the `wanted` roles; without any wanted, everybody has.
///
/// # Errors
/// `role_missing`.
pub fn has_role(caller: &Verified, wanted: &[Box<str>]) -> Result<(), Refusal> {
    if wanted.is_empty() || wanted.iter().any(|role| caller.roles.contains(role)) {
        return Ok(());
    }
    Err(Refusal::new(Code::RoleMissing, "role"))
}

/// The token of a bearer credential (RFC 6750 section 2.1; the scheme in any case, RFC 9110 section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return None;
    }
    Some(rest.trim_ascii()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod access_tests;
#[cfg(test)]
mod tests;
