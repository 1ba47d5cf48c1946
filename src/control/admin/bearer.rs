//! The token of the admin API: what its file may hold, and whether somebody has it.
//!
//! The token itself is not kept, only its hash under a key that nobody knows, and no comparison takes longer the more
//! of a guess is right.

use std::{fmt, sync::Arc};

use ring::{
    digest::{SHA256, digest},
    hmac,
    rand::SystemRandom,
};

/// The shortest token, in bytes.
const TOKEN_BYTES_MIN: usize = 32;
/// The longest: a head has no room for more.
const TOKEN_BYTES_MAX: usize = 4096;
/// Hexadecimal digits of a fingerprint.
const FINGERPRINT_DIGITS: usize = 12;

/// What a client must know.
#[derive(Clone)]
pub struct BearerToken {
    key: hmac::Key,
    tag: hmac::Tag,
    /// Says which token it is without saying what it is.
    pub fingerprint: Arc<str>,
}

impl BearerToken {
    /// The token whose text is `bytes`.
    ///
    /// # Errors
    /// It is too short, or cannot be sent as it is; says what would do.
    pub fn new(bytes: &[u8]) -> Result<Self, String> {
        let found = bytes.len();
        if !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&found) {
            return Err(format!(
                "the token has {found} bytes; {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} are possible, such as those \
                 of `openssl rand -hex 32`"
            ));
        }
        if !bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte)) {
            // RFC 6750, section 2.1: b64token.
            return Err("a token has letters, digits and -._~+/= only, or it cannot be sent".to_owned());
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| "the system gives no random bytes".to_owned())?;
        let hash = digest(&SHA256, bytes);
        let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let tag = hmac::sign(&key, bytes);
        Ok(Self { key, tag, fingerprint: hex[..FINGERPRINT_DIGITS].into() })
    }

    /// Whether `presented` is the token.
    pub fn is(&self, presented: &[u8]) -> bool {
        hmac::verify(&self.key, presented, self.tag.as_ref()).is_ok()
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "token {}", self.fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_can_be_sent_and_are_not_kept() {
        let text = "0123456789abcdef0123456789ABCDEF";
        let token = BearerToken::new(text.as_bytes()).unwrap();
        assert!(token.is(text.as_bytes()) && token.clone().is(text.as_bytes()));
        for other in ["", "0123456789abcdef0123456789ABCDE", "0123456789abcdef0123456789abcdef"] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
        // printf 0123456789abcdef0123456789ABCDEF | sha256sum
        assert_eq!(format!("{token:?}"), "token f02ae380606c");
        assert!(BearerToken::new(&[b'a'; 31]).unwrap_err().contains("31 bytes"));
        assert!(BearerToken::new(&[b'a'; 4097]).is_err());
        for bad in [" ", "\n", "\"", ",", "\u{e9}"] {
            assert!(BearerToken::new(format!("{text}{bad}").as_bytes()).is_err(), "{bad:?}");
        }
    }
}
