//! From the credentials of a request to a caller: which kinds a route takes, and what two of them mean.
//!
//! A route takes tokens, API keys or either. A request that brings both to a route that takes either must
//! satisfy with each alone, and both must name the same consumer: a credential that is added can narrow what
//! a request may do and never widen it.

use std::{ops::Deref, rc::Rc};

use super::{
    super::{
        Desk,
        refusal::{Code, Refusal},
        route::Route,
        snapshot::Snapshot,
    },
    api_key::{self, ApiKey},
    jwt::Verified,
    revocation,
};
use crate::{
    base::clock::Moment,
    http::head::{Authorization, RequestHead},
    shared::meters::TokenMeters,
};

/// Who sent a request, as far as it is proven.
#[derive(Clone, Debug)]
pub enum Caller<'s> {
    /// A token says so.
    Token(Rc<Verified>),
    /// An API key says so.
    Key(&'s ApiKey),
    /// Both say so, of the same consumer.
    Both(Rc<Verified>, &'s ApiKey),
}

impl Caller<'_> {
    /// What each credential says, one after the other.
    pub fn credentials(&self) -> impl Iterator<Item = &Verified> {
        let (token, key) = match self {
            Self::Token(token) => (Some(&**token), None),
            Self::Key(key) => (None, Some(&key.holder)),
            Self::Both(token, key) => (Some(&**token), Some(&key.holder)),
        };
        token.into_iter().chain(key)
    }
}

/// What is the same in all credentials: the consumer.
impl Deref for Caller<'_> {
    type Target = Verified;

    fn deref(&self) -> &Verified {
        match self {
            Self::Token(token) | Self::Both(token, _) => token,
            Self::Key(key) => &key.holder,
        }
    }
}

/// Establishes who sent a request to `route`; `None` on a public one.
///
/// # Errors
/// 401 with the code of the credential that is missing or bad.
pub fn identify<'s>(
    snapshot: &'s Snapshot,
    route: &Route,
    desk: &mut Desk,
    meters: &TokenMeters,
    head: &RequestHead<'_, '_>,
    now: Moment,
) -> Result<Option<Caller<'s>>, Refusal> {
    let (revoked, now_s) = (desk.revoked.load(), now.unix_seconds());
    let mut by_token = |keys| {
        let token = super::authenticate(keys, &mut desk.tokens, meters, head.authorization, now)?;
        revocation::check(revoked, &token, Code::TokenInvalid, now_s)
            .inspect_err(|_| meters.revoked.add(1))
            .map(|()| token)
    };
    let by_key = || {
        let key = api_key::authenticate(snapshot.consumers.api_keys(), meters, head.api_key, now)?;
        revocation::check(revoked, &key.holder, Code::ApiKeyInvalid, now_s)
            .inspect_err(|_| meters.keys_revoked.add(1))
            .map(|()| key)
    };
    let caller = match (snapshot.keys_of(route), route.api_keys) {
        (None, false) => return Ok(None),
        (Some(keys), false) => Caller::Token(by_token(keys)?),
        (None, true) => Caller::Key(by_key()?),
        (Some(keys), true) => match (brings_token(head), brings_key(head)) {
            (_, false) => Caller::Token(by_token(keys)?),
            (false, true) => Caller::Key(by_key()?),
            (true, true) => {
                let (token, key) = (by_token(keys)?, by_key()?);
                if token.consumer != key.holder.consumer {
                    let reason = "token and API key name different consumers";
                    return Err(Refusal::new(Code::CredentialsConflict, reason));
                }
                Caller::Both(token, key)
            }
        },
    };
    Ok(Some(caller))
}

/// `Authorization` with another scheme is the endpoint's business.
fn brings_token(head: &RequestHead<'_, '_>) -> bool {
    match head.authorization {
        Authorization::Absent => false,
        Authorization::One(value) => super::bearer(value).is_some(),
        Authorization::Several => true,
    }
}

fn brings_key(head: &RequestHead<'_, '_>) -> bool {
    !matches!(head.api_key, Authorization::Absent | Authorization::One(b""))
}
