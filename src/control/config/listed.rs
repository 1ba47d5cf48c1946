//! `log.headers`, `log.response_headers` and `log.query`: what a log line may show besides, checked.
//!
//! A name that says it carries a credential is refused, however it is spelt: a list must not be the way by which
//! a token gets into a log.

use crate::{shared::listed::NAMES_MAX, stage::listed::Lists};

use super::{file::Log as FileLog, issue::Issues, reader::Field};

/// A list as it stands in the file.
type Names = Option<Field<Vec<Field<String>>>>;

/// Parts of names of what carries a credential, in small letters with hyphens.
const SECRET_PARTS: [&str; 13] = [
    "authorization",
    "cookie",
    "token",
    "jwt",
    "secret",
    "passw",
    "credential",
    "api-key",
    "apikey",
    "access-key",
    "session",
    "signature",
    "assertion",
];
/// Whole names of the same, and of what must not be kept of a card (PCI DSS requirement 3.3).
const SECRET_NAMES: [&str; 14] =
    ["auth", "key", "pwd", "sig", "sid", "otp", "pin", "pan", "cvv", "cvv2", "cvc", "cvc2", "csc", "card"];

/// The lists that `log` gives.
pub(super) fn plan(log: &FileLog, issues: &Issues) -> Lists {
    let fields = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let parameters = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~[]:".contains(&byte);
    Lists {
        headers: names(&log.headers, "a header", true, fields, issues),
        response_headers: names(&log.response_headers, "a header", true, fields, issues),
        query: names(&log.query, "a query parameter", false, parameters, issues),
    }
}

fn names(
    list: &Names,
    what: &str,
    any_case: bool,
    belongs: impl Fn(u8) -> bool,
    issues: &Issues,
) -> Box<[Box<str>]> {
    let Some(list) = list else { return Box::default() };
    let names = &list.value;
    if names.len() > NAMES_MAX {
        list.wrong(issues, format!("at most {NAMES_MAX} names; there are {}", names.len()));
    }
    for (index, name) in names.iter().enumerate() {
        let (text, same) = (&*name.value, |other: &Field<String>| {
            if any_case { other.value.eq_ignore_ascii_case(&name.value) } else { other.value == name.value }
        });
        if text.is_empty() || !text.bytes().all(&belongs) {
            name.wrong(issues, format!("{text:?} is not the name of {what}"));
        } else if is_secret(text) {
            name.wrong(issues, format!("{text:?} carries what must never reach a log"));
        } else if names[..index].iter().any(same) {
            name.wrong(issues, format!("{text:?} is listed twice"));
        }
    }
    names.iter().map(|name| name.value.as_str().into()).collect()
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace(['_', '.'], "-");
    SECRET_PARTS.iter().any(|part| name.contains(part)) || SECRET_NAMES.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_known_by_any_of_their_names() {
        for name in [
            "Authorization",
            "proxy-AUTHORIZATION",
            "Cookie",
            "Set-Cookie",
            "X-Api-Key",
            "x_api_key",
            "apiKey",
            "access_token",
            "X-Amz-Security-Token",
            "client_secret",
            "Password",
            "cvv",
            "PAN",
            "JSESSIONID",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "User-Agent",
            "page",
            "Idempotency-Key",
            "X-Request-Source",
            "keyword",
            "company",
            "Content-Type",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
