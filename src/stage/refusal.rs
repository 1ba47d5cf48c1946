//! Every answer the gateway makes by itself, in one table.
//!
//! A refusal is a code, a reason for the log, and sometimes a number or a list that goes into a field.
//! What the client reads is fixed text: no byte of a request ever comes back in a refusal, so there is
//! nothing to escape.

use crate::{
    base::block::{Block, Full},
    http::{
        HeadError,
        encode::{self, Persistence},
    },
    shared::{meters::CODES_MAX, record::Delivery},
};

use super::{limit::Standings, route::Methods};

/// Why the gateway answers itself. The order is that of [`ANSWERS`].
#[expect(missing_docs, reason = "the table below says of each what it is")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    TokenMissing,
    TokenInvalid,
    ApiKeyMissing,
    ApiKeyInvalid,
    CredentialsConflict,
    ScopeInsufficient,
    RoleMissing,
    ConsumerNotAllowed,
    QuotaExceeded,
    LimitKeyMissing,
    RouteNotFound,
    MethodNotAllowed,
    VersionUnknown,
    VersionNotAcceptable,
    VersionRetired,
    VersionBrownout,
    OperationUnknown,
    HeadMalformed,
    FramingAmbiguous,
    HeadTimeout,
    BodyMalformed,
    BodyTimeout,
    TargetTooLong,
    HeadTooLarge,
    BodyTooLarge,
    ExpectationFailed,
    NotImplemented,
    VersionNotSupported,
    UpstreamUnreachable,
    UpstreamFailed,
    UpstreamTimeout,
    NoEndpoint,
    Overloaded,
    Draining,
}

/// One row of the table.
#[derive(Debug)]
pub struct Answer {
    /// Which refusal.
    pub code: Code,
    /// The code as clients, logs and metrics spell it.
    pub word: &'static str,
    /// The status.
    pub status: u16,
    /// The reason phrase and the problem's title.
    pub title: &'static str,
    /// The problem's detail.
    pub detail: &'static str,
    /// What a person is told.
    pub message: &'static str,
    /// Whether the connection can be used again afterwards.
    pub after: After,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It may stay open, if the request was read to its end.
    MayStay,
    /// It closes: what follows on it cannot be trusted, or nobody is listening.
    Closes,
}

/// All answers the gateway makes by itself, in the order of [`Code`].
pub const ANSWERS: [Answer; 34] = {
    use After::{Closes, MayStay};
    #[rustfmt::skip]
    const fn row(code: Code, word: &'static str, status: u16, title: &'static str, after: After,
                 message: &'static str, detail: &'static str) -> Answer {
        Answer { code, word, status, title, detail, message, after }
    }
    #[rustfmt::skip]
    let rows = [
        row(Code::TokenMissing, "token_missing", 401, "Unauthorized", MayStay,
            "A token is required!", "Send the token as Authorization: Bearer."),
        row(Code::TokenInvalid, "token_invalid", 401, "Unauthorized", MayStay,
            "Token is invalid!", "The token was not accepted."),
        row(Code::ApiKeyMissing, "api_key_missing", 401, "Unauthorized", MayStay,
            "An API key is required!", "Send the key as X-Api-Key."),
        row(Code::ApiKeyInvalid, "api_key_invalid", 401, "Unauthorized", MayStay,
            "API key is invalid!", "The API key was not accepted."),
        row(Code::CredentialsConflict, "credentials_conflict", 401, "Unauthorized", MayStay,
            "Credentials disagree!", "The token and the API key name different consumers; send one of them."),
        row(Code::ScopeInsufficient, "scope_insufficient", 403, "Forbidden", MayStay,
            "Permission denied!", "The credential lacks a scope that this route requires."),
        row(Code::RoleMissing, "role_missing", 403, "Forbidden", MayStay,
            "Permission denied!", "The credential has none of the roles that this route requires."),
        row(Code::ConsumerNotAllowed, "consumer_not_allowed", 403, "Forbidden", MayStay,
            "Permission denied!", "This consumer may not use this route with this method."),
        row(Code::QuotaExceeded, "quota_exceeded", 429, "Too Many Requests", MayStay,
            "Too many requests!", "A quota is used up; Retry-After says when it opens again."),
        row(Code::LimitKeyMissing, "limit_key_missing", 400, "Bad Request", MayStay,
            "A required header is missing!", "A header that this route's limit counts by is missing or empty."),
        row(Code::RouteNotFound, "route_not_found", 404, "Not Found", MayStay,
            "Not found!", "No route matches the path."),
        row(Code::MethodNotAllowed, "method_not_allowed", 405, "Method Not Allowed", MayStay,
            "Method not allowed!", "The path exists; Allow lists its methods."),
        row(Code::VersionUnknown, "version_unknown", 400, "Bad Request", MayStay,
            "Unknown API version!", "The request names no version, or one that this path does not have."),
        row(Code::VersionNotAcceptable, "version_not_acceptable", 406, "Not Acceptable", MayStay,
            "Unknown API version!", "Accept names no version, or one that this path does not have."),
        row(Code::VersionRetired, "version_retired", 410, "Gone", MayStay,
            "This API version is retired!", "The version is not served any more; Link names its successor, if there is one."),
        row(Code::VersionBrownout, "version_brownout", 410, "Gone", MayStay,
            "This API version is about to be retired!", "The version is out for an announced time, as it will be from its Sunset on; Retry-After says until when."),
        row(Code::OperationUnknown, "operation_unknown", 404, "Not Found", MayStay,
            "Not found!", "This version of the API has no such operation."),
        row(Code::HeadMalformed, "head_malformed", 400, "Bad Request", Closes,
            "Bad request!", "The request head breaks the rules of HTTP/1.1."),
        row(Code::FramingAmbiguous, "framing_ambiguous", 400, "Bad Request", Closes,
            "Bad request!", "The end of the request body could be read in two ways."),
        row(Code::HeadTimeout, "head_timeout", 408, "Request Timeout", Closes,
            "Request timeout!", "The request head did not arrive in time."),
        row(Code::BodyMalformed, "body_malformed", 400, "Bad Request", Closes,
            "Bad request!", "The chunked request body breaks the rules of HTTP/1.1."),
        row(Code::BodyTimeout, "body_timeout", 408, "Request Timeout", Closes,
            "Request timeout!", "The request body did not arrive in time."),
        row(Code::TargetTooLong, "target_too_long", 414, "URI Too Long", Closes,
            "Request target too long!", "The request target is longer than this gateway accepts."),
        row(Code::HeadTooLarge, "head_too_large", 431, "Request Header Fields Too Large", Closes,
            "Request header too large!", "The request head has more bytes or fields than this gateway accepts."),
        row(Code::BodyTooLarge, "body_too_large", 413, "Content Too Large", Closes,
            "Request body too large!", "The request body is longer than this route accepts."),
        row(Code::ExpectationFailed, "expectation_failed", 417, "Expectation Failed", Closes,
            "Expectation failed!", "The only expectation this gateway meets is 100-continue."),
        row(Code::NotImplemented, "not_implemented", 501, "Not Implemented", Closes,
            "Not implemented!", "This gateway implements neither CONNECT nor transfer codings other than chunked."),
        row(Code::VersionNotSupported, "version_not_supported", 505, "HTTP Version Not Supported", Closes,
            "HTTP version not supported!", "This gateway speaks HTTP/1.1 and HTTP/1.0."),
        row(Code::UpstreamUnreachable, "upstream_unreachable", 502, "Bad Gateway", MayStay,
            "The service cannot be reached!", "No connection to an endpoint could be made; nothing was sent."),
        row(Code::UpstreamFailed, "upstream_failed", 502, "Bad Gateway", MayStay,
            "The service failed!", "The endpoint gave no valid answer; Tollgate-Delivery says whether it can have seen the request."),
        row(Code::UpstreamTimeout, "upstream_timeout", 504, "Gateway Timeout", MayStay,
            "The service did not answer in time!", "Tollgate-Delivery says whether the endpoint may have acted on the request."),
        row(Code::NoEndpoint, "no_endpoint", 503, "Service Unavailable", MayStay,
            "Service unavailable!", "No endpoint can take requests now; nothing was sent."),
        row(Code::Overloaded, "overloaded", 503, "Service Unavailable", MayStay,
            "Service overloaded!", "The gateway is at its bounds; nothing was sent."),
        row(Code::Draining, "draining", 503, "Service Unavailable", Closes,
            "Service is shutting down!", "The gateway is shutting down; nothing was sent."),
    ];
    let mut index = 0;
    while index < rows.len() {
        assert!(rows[index].code as usize == index, "the table is in the order of the codes");
        index += 1;
    }
    assert!(rows.len() <= CODES_MAX, "every code has a counter");
    rows
};

impl Code {
    /// Its row.
    pub fn answer(self) -> &'static Answer {
        &ANSWERS[self as usize]
    }
}

/// One answer the gateway makes by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which.
    pub code: Code,
    /// Why in particular; for log and metrics, never for the client.
    pub reason: &'static str,
    /// `Retry-After` in seconds; zero for none.
    pub retry_after_s: u32,
    /// `Allow`, with the 405.
    pub allow: Option<Box<str>>,
}

impl Refusal {
    /// A refusal that says no more than its code does. A 503 asks to come back in a second.
    pub fn new(code: Code, reason: &'static str) -> Self {
        Self { code, reason, retry_after_s: u32::from(code.answer().status == 503), allow: None }
    }

    /// The 405 for a path that knows only `methods`.
    pub fn method<'a>(methods: impl Iterator<Item = &'a Methods>) -> Self {
        let allow = Some(Methods::allow_line(methods).into());
        Self { allow, ..Self::new(Code::MethodNotAllowed, "method") }
    }

    /// The 429.
    pub fn quota(reason: &'static str, retry_after_s: u32) -> Self {
        Self { retry_after_s, ..Self::new(Code::QuotaExceeded, reason) }
    }
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Malformed(rule) => Self::new(Code::HeadMalformed, rule),
            HeadError::FramingAmbiguous(rule) => Self::new(Code::FramingAmbiguous, rule),
            HeadError::TargetTooLong => Self::new(Code::TargetTooLong, "request line"),
            HeadError::HeadTooLarge(bound) => Self::new(Code::HeadTooLarge, bound),
            HeadError::NotImplemented(what) => Self::new(Code::NotImplemented, what),
            HeadError::VersionNotSupported => Self::new(Code::VersionNotSupported, "version"),
            HeadError::ExpectationFailed => Self::new(Code::ExpectationFailed, "Expect"),
        }
    }
}

/// What a refusal's answer says besides the refusal itself.
pub struct Envelope<'a> {
    /// `X-Request-Id`, a sane token.
    pub request_id: &'a [u8],
    /// `Date`.
    pub date: &'a [u8],
    /// What becomes of the connection.
    pub persistence: Persistence,
    /// How far the request got, said with every 5xx.
    pub delivery: Delivery,
    /// Whole field lines that the route's API version adds.
    pub lines: &'a [u8],
    /// Where the limits stand, with the 429.
    pub standings: &'a Standings,
    /// Whether the method was HEAD.
    pub head_only: bool,
}

/// Writes the whole answer.
///
/// # Errors
/// [`Full`] when it does not fit; a block is larger than any of these.
pub fn encode(refusal: &Refusal, envelope: &Envelope<'_>, out: &mut Block) -> Result<(), Full> {
    let answer = refusal.code.answer();
    encode::status_line(out, answer.status, answer.title.as_bytes())?;
    encode::field(out, b"Date", envelope.date)?;
    match refusal.code {
        Code::TokenMissing => out.put(b"WWW-Authenticate: Bearer\r\n")?,
        Code::TokenInvalid => out.put(b"WWW-Authenticate: Bearer error=\"invalid_token\"\r\n")?,
        Code::ApiKeyMissing | Code::ApiKeyInvalid => out.put(b"WWW-Authenticate: ApiKey\r\n")?,
        Code::CredentialsConflict => out.put(b"WWW-Authenticate: Bearer, ApiKey\r\n")?,
        Code::ScopeInsufficient => out.put(b"WWW-Authenticate: Bearer error=\"insufficient_scope\"\r\n")?,
        Code::QuotaExceeded => envelope.standings.encode(out)?,
        // A 410 may be kept by caches (RFC 9110 section 15.5.11), and this one passes.
        Code::VersionBrownout => out.put(b"Cache-Control: no-store\r\n")?,
        _ => {}
    }
    out.put(envelope.lines)?;
    if let Some(allow) = &refusal.allow {
        encode::field(out, b"Allow", allow.as_bytes())?;
    }
    if refusal.retry_after_s > 0 {
        encode::field(out, b"Retry-After", itoa::Buffer::new().format(refusal.retry_after_s).as_bytes())?;
    }
    if answer.status >= 500 {
        let delivery: &[u8] = match envelope.delivery {
            Delivery::NotSent => b"not-sent",
            Delivery::MaybeSent | Delivery::Answered => b"maybe-sent",
        };
        encode::field(out, b"Tollgate-Delivery", delivery)?;
    }
    encode::field(out, b"X-Request-Id", envelope.request_id)?;
    out.put(b"Content-Type: application/problem+json\r\n")?;
    let mut status = itoa::Buffer::new();
    let body: [&[u8]; 15] = [
        b"{\"type\":\"urn:tollgate:problem:",
        answer.word.as_bytes(),
        b"\",\"title\":\"",
        answer.title.as_bytes(),
        b"\",\"status\":",
        status.format(answer.status).as_bytes(),
        b",\"detail\":\"",
        answer.detail.as_bytes(),
        b"\",\"code\":\"",
        answer.word.as_bytes(),
        b"\",\"message\":\"",
        answer.message.as_bytes(),
        b"\",\"request_id\":\"",
        envelope.request_id,
        b"\"}",
    ];
    let length: usize = body.iter().map(|part| part.len()).sum();
    encode::field(out, b"Content-Length", itoa::Buffer::new().format(length).as_bytes())?;
    out.put(encode::persistence_line(envelope.persistence))?;
    out.put(b"\r\n")?;
    if !envelope.head_only {
        for part in body {
            out.put(part)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::block::BlockPool;

    fn text(refusal: &Refusal, head_only: bool) -> String {
        let pool = BlockPool::new(4096, 1);
        let mut out = pool.rent().unwrap();
        let standings = Standings::default();
        let envelope = Envelope {
            request_id: b"id-1",
            date: b"Sun, 06 Nov 1994 08:49:37 GMT",
            persistence: Persistence::Close,
            delivery: Delivery::MaybeSent,
            lines: b"",
            standings: &standings,
            head_only,
        };
        encode(refusal, &envelope, &mut out).unwrap();
        String::from_utf8(out.unread().to_vec()).unwrap()
    }

    #[test]
    fn every_code_has_an_answer_that_parses() {
        for row in &ANSWERS {
            let answer = text(&Refusal::new(row.code, "test"), false);
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let problem: serde_json::Value = serde_json::from_str(body).unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {} {}\r\n", row.status, row.title)));
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
            assert_eq!(problem["status"], row.status);
            assert_eq!(problem["code"], row.word);
            assert_eq!(problem["message"], row.message);
            assert_eq!(problem["request_id"], "id-1");
            let keys: Vec<&String> = problem.as_object().unwrap().keys().collect();
            assert_eq!(keys.len(), 7);
            assert_eq!(head.contains("Tollgate-Delivery: "), row.status >= 500, "{}", row.word);
            assert_eq!(head.contains("Retry-After: "), row.status == 503, "{}", row.word);
        }
    }

    #[test]
    fn the_words_of_the_contract() {
        let word = |code: Code| (code.answer().status, code.answer().word, code.answer().message);
        assert_eq!(word(Code::TokenMissing), (401, "token_missing", "A token is required!"));
        assert_eq!(word(Code::TokenInvalid), (401, "token_invalid", "Token is invalid!"));
        assert_eq!(word(Code::QuotaExceeded), (429, "quota_exceeded", "Too many requests!"));
    }

    #[test]
    fn a_head_gets_the_head_only() {
        let answer = text(&Refusal::new(Code::RouteNotFound, "test"), true);
        assert!(answer.ends_with("Connection: close\r\n\r\n"), "{answer}");
        let whole = text(&Refusal::new(Code::RouteNotFound, "test"), false);
        assert_eq!(answer, whole[..answer.len()]);
    }
}
