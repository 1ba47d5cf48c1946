//! Credentials in texts that are about to be logged: what has the shape of one is masked, wherever a client put it.
//!
//! Knows three shapes: a JSON Web Token, an API key of this gateway's own making, and whatever follows the name of an
//! authentication scheme. The places where credentials belong never get here; this is for those who send them
//! elsewhere: in a path, a query, a field of their own.

use std::{borrow::Cow, ops::Range};

use super::escapes::{ROUNDS, letters_of, unescape};

/// How a token begins: an object, in base64url (RFC 7519 section 3.1).
const TOKEN: &[u8] = b"eyJ";
/// How an API key begins.
const KEY: &[u8] = b"tg_";
/// Characters that make it one, behind its beginning.
const SHAPE_MIN: usize = 16;
/// Authentication schemes that carry a secret as it is.
const SCHEMES: [&[u8]; 3] = [b"bearer", b"basic", b"apikey"];

/// `text` with a `*` for each byte of a token or key, and of what follows the name of a scheme; also where they are
/// escaped.
pub(super) fn mask(text: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Cow::Borrowed(text);
    find(text, |hit| out.to_mut()[hit].fill(b'*'));
    if memchr::memchr2(b'%', b'\\', text).is_some() {
        let mut letters = letters_of(text);
        for _ in 0..ROUNDS {
            let read = unescape(&letters);
            if read.len() == letters.len() {
                break;
            }
            letters = read;
            let bytes: Vec<u8> = letters.iter().map(|letter| letter.byte).collect();
            find(&bytes, |hit| {
                letters[hit].iter().for_each(|letter| out.to_mut()[letter.from..letter.to].fill(b'*'));
            });
        }
    }
    out
}

/// Tells `hit` where in `text` tokens, keys and what follows a scheme stand, unless that is nothing.
fn find(text: &[u8], mut hit: impl FnMut(Range<usize>)) {
    let mut from = 0;
    // The one of their bytes that others seldom have.
    while let Some(at) = memchr::memchr2(b'J', b'_', &text[from..]) {
        let end = from + at + 1;
        from = end;
        let Some(begin) = end.checked_sub(TOKEN.len()) else { continue };
        let length = match &text[begin..end] {
            TOKEN => token_length(&text[end..]),
            KEY => length_of(&text[end..], is_base64url),
            _ => 0,
        };
        if length >= SHAPE_MIN {
            hit(begin..end + length);
            from = end + length;
        }
    }
    // Nearly all texts have nothing that can stand behind a scheme. Looks at all bytes rather than stopping at the first,
    // so that it becomes a handful of vector instructions.
    if !text.iter().fold(false, |any, &byte| any | parts(byte)) {
        return;
    }
    let mut from = 0;
    while let Some(at) = text[from..].iter().position(|&byte| parts(byte)) {
        let (before, behind) = text.split_at(from + at);
        let gap = length_of(behind, parts);
        from = before.len() + gap;
        if SCHEMES.iter().any(|scheme| ends_with(before, scheme)) {
            let length =
                length_of(&text[from..], |byte| byte.is_ascii_graphic() && !b",;&\"".contains(&byte));
            if length > 0 {
                hit(from..from + length);
            }
        }
    }
}

/// Whether `text` ends with the name of a scheme, in any case.
fn ends_with(text: &[u8], scheme: &[u8]) -> bool {
    text.len() >= scheme.len() && text[text.len() - scheme.len()..].eq_ignore_ascii_case(scheme)
}

/// Whether `byte` can stand between the name of a scheme and what follows it.
fn parts(byte: u8) -> bool {
    let is = |part: u8| byte == part;
    is(b' ') | is(b'+') | is(b'\t') | is(b':') | is(b'=') | is(b'"') | is(b'\\')
}

/// How much of `behind` belongs to a token that began before it; nothing if that was none.
fn token_length(behind: &[u8]) -> usize {
    let length = length_of(behind, |byte| is_base64url(byte) || byte == b'.');
    // One that is cut off may have lost its dots, or they are escaped.
    let goes_on = behind.get(length).is_none_or(|next| b"%\\".contains(next));
    if goes_on || behind[..length].contains(&b'.') { length } else { 0 }
}

fn length_of(text: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    text.iter().take_while(|&&byte| belongs(byte)).count()
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhY21lIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    #[track_caller]
    fn hides(masked: &[u8], secret: &str) {
        let text = String::from_utf8_lossy(masked);
        for part in secret.split('.') {
            assert!(!text.contains(part), "{text}");
        }
    }

    #[test]
    fn what_has_the_shape_of_a_credential_is_masked() {
        for text in [JWT.to_owned(), format!("/verify/{JWT}/x"), format!("a={JWT}&b=1"), format!("_J{JWT}")] {
            hides(&mask(text.as_bytes()), JWT);
        }
        hides(&mask(format!("/x?{}", &JWT[..20]).as_bytes()), &JWT[..20]);
        let key = "tg_8f2Cq1Kf0mQzX_9-vB3nT7yLw5rE2uHsJdGpAoIcVbM";
        hides(&mask(format!("/{key}").as_bytes()), key);
        let path = format!("/{}/x/{key}", "eyJ".repeat(3));
        assert!(mask(path.as_bytes()).starts_with(b"/eyJeyJeyJ/x/*"), "what is none stays");
    }

    /// As those write them who escape everything but letters and digits.
    #[test]
    fn escapes_hide_no_credential() {
        let key = "tg_8f2Cq1Kf0mQzX_9-vB3nT7yLw5rE2uHsJdGpAoIcVbM";
        for secret in [JWT, key] {
            let odd = |percent: &str| {
                let escaped = |byte: u8| format!("{percent}{byte:02X}");
                let each = secret.bytes().map(|byte| match byte {
                    b'.' | b'-' | b'_' => escaped(byte),
                    _ => char::from(byte).to_string(),
                });
                each.collect::<String>()
            };
            let all: String = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
            for text in [odd("%"), odd("%25"), odd("\\u00"), all, odd("%")[..40].to_owned()] {
                let masked = mask(format!("page={text}").as_bytes()).into_owned();
                let left = masked[b"page=".len()..].iter().filter(|&&byte| byte != b'*').count();
                assert!(left <= 2, "{text} became {}", String::from_utf8_lossy(&masked));
            }
        }
    }

    #[test]
    fn what_follows_a_scheme_is_masked() {
        for (value, expected) in [
            ("Bearer hunter2", "Bearer *******"),
            ("x, basic  aGk6aG8=; y", "x, basic  ********; y"),
            ("ApiKey%20k", "ApiKey%20*"),
            ("Bearer%2520k", "Bearer%2520*"),
            ("Bearer \"k\"", "Bearer \"*\""),
            (r#"{"a":"Bearer \"k\""}"#, r#"{"a":"Bearer \"**""}"#),
            ("bearer:k", "bearer:*"),
            ("/x/%42earer%09k", "/x/%42earer%09*"),
            ("the bearer", "the bearer"),
            ("basically nothing", "basically nothing"),
        ] {
            assert_eq!(mask(value.as_bytes()), expected.as_bytes(), "{value}");
        }
    }

    #[test]
    fn ordinary_texts_stay_as_they_are() {
        for text in
            ["/api/v1/payment_intents/pi_3MtwBwLkdIwHu7ix28a3tqPa", "JOB_17", "eyJ", "tg_short", "", "J_"]
        {
            assert!(matches!(mask(text.as_bytes()), Cow::Borrowed(_)), "{text}");
        }
    }
}
