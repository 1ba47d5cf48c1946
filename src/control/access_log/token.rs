//! Credentials in texts that are about to be logged: what has the shape of one is masked, wherever a client put it.
//!
//! Knows three shapes: a JSON Web Token, an API key of this gateway's own making, and whatever follows the name of an
//! authentication scheme. The places where credentials belong never get here; this is for those who send them
//! elsewhere: in a path, a query, a field of their own.

use std::borrow::Cow;

/// How a token begins: an object, in base64url (RFC 7519 section 3.1).
const TOKEN: &[u8] = b"eyJ";
/// How an API key begins.
const KEY: &[u8] = b"tg_";
/// Characters that make it one, behind its beginning.
const SHAPE_MIN: usize = 16;
/// Authentication schemes that carry a secret as it is.
const SCHEMES: [&[u8]; 3] = [b"bearer", b"basic", b"apikey"];

/// `text` with a `*` for each byte of a token or key.
pub(super) fn mask(text: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Cow::Borrowed(text);
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
            out.to_mut()[begin..end + length].fill(b'*');
            from = end + length;
        }
    }
    out
}

/// The same for the value of a field or a parameter, in which a scheme can stand as well.
pub(super) fn mask_value(text: &[u8]) -> Cow<'_, [u8]> {
    let mut out = mask(text);
    for scheme in SCHEMES {
        for begin in 0..text.len().saturating_sub(scheme.len()) {
            let (word, behind) = text[begin..].split_at(scheme.len());
            let gap = length_of(behind, |byte| b" +\t".contains(&byte));
            let gap = if behind.starts_with(b"%20") { 3 } else { gap };
            if gap > 0 && word.eq_ignore_ascii_case(scheme) {
                let secret = begin + scheme.len() + gap;
                let length =
                    length_of(&text[secret..], |byte| byte.is_ascii_graphic() && !b",;&\"".contains(&byte));
                out.to_mut()[secret..secret + length].fill(b'*');
            }
        }
    }
    out
}

/// How much of `behind` belongs to a token that began before it; nothing if that was none.
fn token_length(behind: &[u8]) -> usize {
    let length = length_of(behind, |byte| is_base64url(byte) || byte == b'.');
    // One that is cut off may have lost its dots.
    if length == behind.len() || behind[..length].contains(&b'.') { length } else { 0 }
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

    #[test]
    fn what_follows_a_scheme_is_masked() {
        for (value, expected) in [
            ("Bearer hunter2", "Bearer *******"),
            ("x, basic  aGk6aG8=; y", "x, basic  ********; y"),
            ("ApiKey%20k", "ApiKey%20*"),
            ("the bearer", "the bearer"),
            ("basically nothing", "basically nothing"),
        ] {
            assert_eq!(mask_value(value.as_bytes()), expected.as_bytes(), "{value}");
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
