//! What makes the audit log tell when it was changed: the key, the chain of codes, the signature of a checkpoint.
//!
//! Each line's code is HMAC-SHA256 over the code of the line before it in its chain and the line's own bytes, exactly
//! as they stand in the file. A checkpoint is signed with Ed25519 as well, so that whoever keeps one elsewhere can
//! check it by the public key and still make none. Both keys are derived from the one in the file, which never leaves
//! this type.

use std::{fmt, sync::Arc};

use ring::{
    hmac,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};

/// The shortest key that is taken, in bytes: as long as the code.
const KEY_BYTES_MIN: usize = 32;

/// The code of a line.
pub(super) type Mac = [u8; 32];
/// What a line that begins a chain follows.
pub(super) const NOTHING_BEFORE: Mac = [0; 32];
/// The signature of a checkpoint.
pub(super) type Signature = [u8; 64];

/// The key, ready for use.
#[derive(Clone)]
pub struct AuditKey {
    chain: hmac::Key,
    pair: Arc<Ed25519KeyPair>,
    /// Tells keys apart and gives nothing away.
    id: [u8; 8],
}

/// Where a chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The number of its last record.
    pub(super) seq: u64,
    /// The code of its last line.
    pub(super) mac: Mac,
}

impl AuditKey {
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
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derived = |purpose: &str| hmac::sign(&root, purpose.as_bytes());
        let seed = derived("tollgate audit signature 1");
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).map_err(|error| error.to_string())?;
        let id = derived("tollgate audit name of the key 1");
        Ok(Self {
            chain: hmac::Key::new(hmac::HMAC_SHA256, derived("tollgate audit chain 1").as_ref()),
            pair: Arc::new(pair),
            id: id.as_ref().first_chunk().copied().unwrap_or_default(),
        })
    }

    /// What it is called, in hexadecimal digits.
    pub fn id(&self) -> String {
        text_of(&self.id)
    }

    /// What checks its signatures, in hexadecimal digits.
    pub fn public(&self) -> String {
        text_of(self.pair.public_key().as_ref())
    }

    /// The code of a line with these bytes that follows one with the code `before`.
    pub(super) fn mac(&self, before: &Mac, line: &[u8]) -> Mac {
        let mut context = hmac::Context::with_key(&self.chain);
        context.update(before);
        context.update(line);
        context.sign().as_ref().first_chunk().copied().unwrap_or_default()
    }

    pub(super) fn sign(&self, text: &[u8]) -> Signature {
        self.pair.sign(text).as_ref().first_chunk().copied().unwrap_or([0; 64])
    }

    pub(super) fn has_signed(&self, text: &[u8], signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ED25519, self.pair.public_key().as_ref()).verify(text, signature).is_ok()
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "key {}", self.id())
    }
}

impl PartialEq for AuditKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for AuditKey {}

/// Appends `bytes` as lower-case hexadecimal digits.
pub(super) fn put_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// `bytes` as lower-case hexadecimal digits.
pub(super) fn text_of(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    put_hex(&mut text, bytes);
    String::from_utf8_lossy(&text).into_owned()
}

/// The bytes that so many lower-case hexadecimal digits stand for.
pub(super) fn bytes_of<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    let mut bytes = [0; N];
    if pairs.len() != N {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_and_never_shown() {
        assert!(AuditKey::new(&[b'k'; 31]).unwrap_err().contains("31 bytes; at least 32"));
        let key = AuditKey::new(&[b'k'; 32]).unwrap();
        assert!(!format!("{key:?}").contains("kkkk"));
        assert!(key == key.clone() && key != AuditKey::new(&[b'l'; 32]).unwrap());
    }

    #[test]
    fn a_code_depends_on_the_key_the_line_and_what_came_before() {
        let (key, other) = (AuditKey::new(&[1; 32]).unwrap(), AuditKey::new(&[2; 32]).unwrap());
        let mac = key.mac(&NOTHING_BEFORE, b"line");
        assert_eq!(mac, key.mac(&NOTHING_BEFORE, b"line"));
        for different in
            [other.mac(&NOTHING_BEFORE, b"line"), key.mac(&NOTHING_BEFORE, b"lime"), key.mac(&mac, b"line")]
        {
            assert_ne!(mac, different);
        }
        let signature = key.sign(b"line");
        assert!(key.has_signed(b"line", &signature) && !key.has_signed(b"lime", &signature));
        assert!(!other.has_signed(b"line", &signature));
    }

    #[test]
    fn digits_and_back() {
        let bytes = [0, 0x7f, 0xff, 0x0a];
        assert_eq!(text_of(&bytes), "007fff0a");
        assert_eq!(bytes_of::<4>(b"007fff0a"), Some(bytes));
        for wrong in ["007fff0", "007fff0a0b", "007FFF0A", "007fff0g"] {
            assert_eq!(bytes_of::<4>(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
