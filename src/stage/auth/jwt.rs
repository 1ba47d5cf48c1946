//! JSON Web Tokens (RFC 7519, RFC 7515): verified as PyJWT does, stricter where a gateway must be.
//!
//! Differences from PyJWT, all on the side of refusing: names that occur twice, any `crit`, base64 that is
//! padded or has spare bits, numbers as strings or out of the range of dates, a missing `exp` unless the
//! operator says otherwise. Whatever stands in a token, the answer is a verdict and never an error of ours.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{
    claims::{Claims, JsonFault},
    key::{Key, KeySet},
};

/// What a verified credential says: a token, or an API key in the same shape.
#[derive(Debug, Default)]
pub struct Verified {
    /// Who is calling: 1 to 256 bytes, fit for a header field.
    pub consumer: Box<str>,
    /// The consumer's hash, for its limits.
    pub consumer_hash: u64,
    /// What it may do.
    pub scopes: Box<[Box<str>]>,
    /// What it is.
    pub roles: Box<[Box<str>]>,
    /// The name of the key that signed the token, or of the API key.
    pub kid: Option<Box<str>>,
    /// The token's own name.
    pub jti: Option<Box<str>>,
    /// Whom the token is about; an API key is about its consumer.
    pub sub: Option<Box<str>>,
    /// When it ends, seconds since the Unix epoch.
    pub expires_s: Option<i64>,
    /// When it begins, seconds since the Unix epoch.
    pub not_before_s: Option<i64>,
}

/// Why a token was refused.
#[expect(missing_docs, reason = "each word says it")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFault {
    Malformed,
    SeveralCredentials,
    DuplicateName,
    Critical,
    Algorithm,
    UnknownKey,
    Signature,
    MissingClaim,
    ClaimType,
    Expired,
    NotYetValid,
    IssuedInFuture,
    Issuer,
    Audience,
    Consumer,
}

impl TokenFault {
    /// The fault in the words of log and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Malformed => "token malformed",
            Self::SeveralCredentials => "several Authorization fields",
            Self::DuplicateName => "name occurs twice in token",
            Self::Critical => "token has crit or b64",
            Self::Algorithm => "algorithm is not the key's",
            Self::UnknownKey => "no key with this kid",
            Self::Signature => "signature",
            Self::MissingClaim => "required claim missing",
            Self::ClaimType => "claim of wrong type or range",
            Self::Expired => "expired",
            Self::NotYetValid => "not yet valid",
            Self::IssuedInFuture => "issued in the future",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Consumer => "consumer claim unusable",
        }
    }
}

impl Verified {
    /// Whether the token, once good, is good now.
    ///
    /// # Errors
    /// [`TokenFault::Expired`] or [`TokenFault::NotYetValid`].
    pub fn check_time(&self, keys: &KeySet, now_s: i64) -> Result<(), TokenFault> {
        if self.not_before_s.is_some_and(|not_before_s| not_before_s > now_s.saturating_add(keys.leeway_s)) {
            return Err(TokenFault::NotYetValid);
        }
        if self.has_expired(keys.leeway_s, now_s) {
            return Err(TokenFault::Expired);
        }
        Ok(())
    }

    /// A token that expires now has expired.
    pub(super) fn has_expired(&self, leeway_s: i64, now_s: i64) -> bool {
        self.expires_s.is_some_and(|expires_s| expires_s <= now_s.saturating_sub(leeway_s))
    }
}

/// Verifies `token` with `keys` at `now_s`, seconds since the Unix epoch.
///
/// # Errors
/// The first fault found, in PyJWT's order: structure, header, signature, payload, claims.
pub fn verify(token: &[u8], keys: &KeySet, now_s: i64) -> Result<Verified, TokenFault> {
    let parts = Parts::split(token)?;
    let header = parse(&decode(parts.header)?)?;
    let algorithm = header.get("alg").and_then(Value::as_str).ok_or(TokenFault::Algorithm)?;
    let kid = text(&header, "kid")?;
    // No extension is understood here, so one that must be is a reason to refuse (RFC 7515 section 4.1.11).
    if header.has("crit") || header.has("b64") {
        return Err(TokenFault::Critical);
    }
    let signature = decode(parts.signature)?;
    let issued = keys.issued.as_ref().map(|issued| issued.current());
    let all = || keys.keys.iter().chain(issued.iter().flat_map(|issued| issued.iter()));
    let candidates = candidates(all, kid).inspect_err(|_| {
        if let Some(issued) = &keys.issued {
            issued.ask();
        }
    })?;
    let mut of_algorithm = candidates.filter(|key| key.algorithm().name() == algorithm).peekable();
    if of_algorithm.peek().is_none() {
        return Err(TokenFault::Algorithm);
    }
    let signer =
        of_algorithm.find(|key| key.signed(parts.signed, &signature)).ok_or(TokenFault::Signature)?;
    let claims = parse(&decode(parts.payload)?)?;
    let mut verified = check(&claims, keys, now_s)?;
    verified.kid = signer.kid().or(kid).map(Into::into);
    Ok(verified)
}

/// The keys a token with this `kid` may have been signed with: the one it names; without a name, any.
fn candidates<'k, I: Iterator<Item = &'k Key>>(
    all: impl Fn() -> I,
    kid: Option<&'k str>,
) -> Result<impl Iterator<Item = &'k Key>, TokenFault> {
    // A key that was configured without a kid serves tokens whose kid names no other.
    let named = kid.is_some_and(|kid| all().any(|key| key.kid() == Some(kid)));
    let fits = move |key: &&Key| match kid {
        None => true,
        Some(kid) if named => key.kid() == Some(kid),
        Some(_) => key.kid().is_none(),
    };
    if all().any(|key| fits(&key)) { Ok(all().filter(fits)) } else { Err(TokenFault::UnknownKey) }
}

struct Parts<'t> {
    /// Header and payload with the dot between them: the text that was signed.
    signed: &'t [u8],
    header: &'t [u8],
    payload: &'t [u8],
    signature: &'t [u8],
}

impl<'t> Parts<'t> {
    /// Three parts and two dots, no more.
    fn split(token: &'t [u8]) -> Result<Self, TokenFault> {
        let mut dots = memchr::memchr_iter(b'.', token);
        match (dots.next(), dots.next(), dots.next()) {
            (Some(first), Some(second), None) => Ok(Self {
                signed: &token[..second],
                header: &token[..first],
                payload: &token[first + 1..second],
                signature: &token[second + 1..],
            }),
            _ => Err(TokenFault::Malformed),
        }
    }
}

/// Strict base64url: no padding, no spare bits, no white space.
fn decode(text: &[u8]) -> Result<Vec<u8>, TokenFault> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenFault::Malformed)
}

fn parse(json: &[u8]) -> Result<Claims, TokenFault> {
    Claims::parse(json).map_err(|fault| match fault {
        JsonFault::Malformed => TokenFault::Malformed,
        JsonFault::Duplicate => TokenFault::DuplicateName,
    })
}

fn check(claims: &Claims, keys: &KeySet, now_s: i64) -> Result<Verified, TokenFault> {
    if keys.require.iter().any(|name| claims.get(name).is_none()) {
        return Err(TokenFault::MissingClaim);
    }
    let issued_s = date(claims, "iat")?;
    if issued_s.is_some_and(|issued_s| issued_s > now_s.saturating_add(keys.leeway_s)) {
        return Err(TokenFault::IssuedInFuture);
    }
    let (not_before_s, expires_s) = (date(claims, "nbf")?, date(claims, "exp")?);
    if let Some(issuer) = &keys.issuer
        && text(claims, "iss")?.ok_or(TokenFault::MissingClaim)? != &**issuer
    {
        return Err(TokenFault::Issuer);
    }
    check_audience(claims, &keys.audience)?;
    let sub = text(claims, "sub")?.map(Into::into);
    let jti = text(claims, "jti")?.map(Into::into);
    let consumer = text(claims, &keys.consumer_claim)?.ok_or(TokenFault::MissingClaim)?;
    if !is_usable_as_consumer(consumer) {
        return Err(TokenFault::Consumer);
    }
    let verified = Verified {
        consumer: consumer.into(),
        consumer_hash: keys.hasher.hash(consumer.as_bytes()).h1,
        scopes: scopes(claims)?,
        roles: roles(claims, keys.roles_claim.as_deref())?,
        kid: None,
        jti,
        sub,
        expires_s,
        not_before_s,
    };
    verified.check_time(keys, now_s)?;
    Ok(verified)
}

/// A NumericDate (RFC 7519 section 2): a number, integral or not, between 1970 and 9999.
fn date(claims: &Claims, name: &str) -> Result<Option<i64>, TokenFault> {
    const YEAR_10000: i64 = 253_402_300_800;
    if !claims.has(name) {
        return Ok(None);
    }
    // Null is there and is no number.
    let Some(Value::Number(number)) = claims.get(name) else { return Err(TokenFault::ClaimType) };
    let seconds = match (number.as_i64(), number.as_f64()) {
        (Some(seconds), _) => seconds,
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the range was just checked; int() truncates too"
        )]
        (None, Some(seconds)) if (0.0..YEAR_10000 as f64).contains(&seconds) => seconds as i64,
        _ => return Err(TokenFault::ClaimType),
    };
    if (0..YEAR_10000).contains(&seconds) { Ok(Some(seconds)) } else { Err(TokenFault::ClaimType) }
}

/// A string, if it is there. Null is there and is no string.
fn text<'c>(claims: &'c Claims, name: &str) -> Result<Option<&'c str>, TokenFault> {
    match claims.get(name) {
        Some(Value::String(text)) => Ok(Some(text)),
        None if !claims.has(name) => Ok(None),
        Some(_) | None => Err(TokenFault::ClaimType),
    }
}

/// RFC 7519 section 4.1.3: who does not find itself in `aud` must refuse, and who expects nothing is in
/// nobody's `aud`. An empty one counts as absent.
fn check_audience(claims: &Claims, expected: &[Box<str>]) -> Result<(), TokenFault> {
    let named: Vec<&str> = match claims.get("aud") {
        None => Vec::new(),
        Some(Value::String(audience)) if audience.is_empty() => Vec::new(),
        Some(Value::String(audience)) => vec![audience],
        Some(Value::Array(audiences)) => {
            audiences.iter().map(Value::as_str).collect::<Option<_>>().ok_or(TokenFault::ClaimType)?
        }
        Some(_) => return Err(TokenFault::ClaimType),
    };
    match (named.is_empty(), expected.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(TokenFault::MissingClaim),
        (false, _) if named.iter().any(|name| expected.iter().any(|known| &**known == *name)) => Ok(()),
        (false, _) => Err(TokenFault::Audience),
    }
}

/// The scopes of `scope` (RFC 8693 section 4.2) or `scp`: words in a string, or strings in a list.
fn scopes(claims: &Claims) -> Result<Box<[Box<str>]>, TokenFault> {
    match claims.get("scope").or_else(|| claims.get("scp")) {
        None => Ok(Box::default()),
        Some(Value::String(words)) => Ok(words.split_ascii_whitespace().map(Into::into).collect()),
        Some(Value::Array(list)) => list
            .iter()
            .map(|word| word.as_str().map(Into::into))
            .collect::<Option<_>>()
            .ok_or(TokenFault::ClaimType),
        Some(_) => Err(TokenFault::ClaimType),
    }
}

/// The roles of the claim `place`: a string is one role, a list of strings several. A name with dots that is
/// no claim's as a whole leads into objects: `realm_access.roles`.
fn roles(claims: &Claims, place: Option<&str>) -> Result<Box<[Box<str>]>, TokenFault> {
    let Some(place) = place else { return Ok(Box::default()) };
    let found = claims.get(place).or_else(|| {
        let mut names = place.split('.');
        let outermost = claims.get(names.next()?)?;
        names.try_fold(outermost, |value, name| value.get(name))
    });
    match found {
        None | Some(Value::Null) => Ok(Box::default()),
        Some(Value::String(role)) => Ok([role.as_str().into()].into()),
        Some(Value::Array(list)) => list
            .iter()
            .map(|role| role.as_str().map(Into::into))
            .collect::<Option<_>>()
            .ok_or(TokenFault::ClaimType),
        Some(_) => Err(TokenFault::ClaimType),
    }
}

/// Whether a consumer's name can stand in `X-Consumer-Id` and in a log line as it is. One that is empty
/// would make all who have it one consumer.
pub fn is_usable_as_consumer(consumer: &str) -> bool {
    !consumer.is_empty()
        && consumer.len() <= 256
        && consumer.trim() == consumer
        && !consumer.chars().any(char::is_control)
}
