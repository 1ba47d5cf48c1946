//! Consumers in log lines as keyed hashes: the same consumer always looks the same, and nobody without the key
//! can tell who it is or try names until one fits.
//!
//! Never shows the key, not even when it is printed for debugging.

use ring::hmac;

use crate::base::hex::hex_digits;

/// The shortest key that is taken, in bytes: as long as the hash.
const KEY_BYTES_MIN: usize = 32;

/// The key, ready for use.
#[derive(Clone)]
pub struct ConsumerKey(hmac::Key);

impl ConsumerKey {
    /// The key whose raw bytes are `secret`.
    ///
    /// # Errors
    /// It is too short; says how long it should be.
    pub fn new(secret: &[u8]) -> Result<Self, String> {
        if secret.len() < KEY_BYTES_MIN {
            let found = secret.len();
            return Err(format!(
                "the key has {found} bytes; at least {KEY_BYTES_MIN} random ones are needed"
            ));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// The same as text.
    pub fn disguise(&self, consumer: &str) -> String {
        String::from_utf8_lossy(&self.hash(consumer.as_bytes())).into_owned()
    }

    /// The first 128 bits of HMAC-SHA256 over `consumer`, as 32 hex digits.
    pub(super) fn hash(&self, consumer: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&self.0, consumer);
        let front = tag.as_ref().first_chunk().copied().unwrap_or_default();
        hex_digits(u128::from_be_bytes(front))
    }
}

impl std::fmt::Debug for ConsumerKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a key")
    }
}

impl PartialEq for ConsumerKey {
    /// Whether both make the same hashes.
    fn eq(&self, other: &Self) -> bool {
        self.hash(b"tollgate") == other.hash(b"tollgate")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_of_rfc_4231() {
        // Test case 6 has a key of 131 bytes; its tag begins with these 128 bits.
        let key = ConsumerKey::new(&[0xaa; 131]).unwrap();
        let hash = key.hash(b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(hash, *b"60e431591ee0b67f0d8a26aacbf5b77f");
    }

    #[test]
    fn keys_are_long_and_never_shown() {
        assert!(ConsumerKey::new(&[b'k'; 31]).unwrap_err().contains("31 bytes; at least 32"));
        let key = ConsumerKey::new(&[b'k'; 32]).unwrap();
        assert!(!format!("{key:?}").contains("107"));
        assert!(key == key.clone() && key != ConsumerKey::new(&[b'l'; 32]).unwrap());
    }
}
