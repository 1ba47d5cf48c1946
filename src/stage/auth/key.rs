//! Keys: whose signature counts, and with which algorithm.

use ring::hmac;
use siphasher::sip128::SipHasher13;

/// The algorithms a key can be for. It belongs to the key: a token that names another is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Hs256, Self::Hs384, Self::Hs512];

    /// The name in a token's header (RFC 7518 section 3.1).
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
        }
    }

    /// The shortest key RFC 7518 section 3.2 allows, in bytes: the length of the hash.
    pub fn key_bytes_min(self) -> usize {
        match self {
            Self::Hs256 => 32,
            Self::Hs384 => 48,
            Self::Hs512 => 64,
        }
    }

    fn ring(self) -> hmac::Algorithm {
        match self {
            Self::Hs256 => hmac::HMAC_SHA256,
            Self::Hs384 => hmac::HMAC_SHA384,
            Self::Hs512 => hmac::HMAC_SHA512,
        }
    }
}

/// A shared secret with its algorithm and its name.
pub struct HmacKey {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    key: hmac::Key,
}

/// A secret shorter than its algorithm's hash is guessable faster than the hash is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTooShort;

impl HmacKey {
    /// A key of at least [`Algorithm::key_bytes_min`] bytes.
    ///
    /// # Errors
    /// [`KeyTooShort`].
    pub fn new(kid: Option<&str>, algorithm: Algorithm, secret: &[u8]) -> Result<Self, KeyTooShort> {
        if secret.len() < algorithm.key_bytes_min() {
            return Err(KeyTooShort);
        }
        Ok(Self { kid: kid.map(Into::into), algorithm, key: hmac::Key::new(algorithm.ring(), secret) })
    }

    /// Its name.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` is this key's for `text`, in time that does not depend on where they differ.
    pub fn signed(&self, text: &[u8], signature: &[u8]) -> bool {
        hmac::verify(&self.key, text, signature).is_ok()
    }

    /// Signs `text`.
    pub fn sign(&self, text: &[u8]) -> hmac::Tag {
        hmac::sign(&self.key, text)
    }
}

/// Never the secret.
impl std::fmt::Debug for HmacKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "HmacKey({:?}, {})", self.kid, self.algorithm.name())
    }
}

/// The keys and rules of one `[[jwt]]`.
#[derive(Debug)]
pub struct KeySet {
    /// Its name in the configuration.
    pub name: Box<str>,
    /// Its place among the key sets of the snapshot.
    pub index: usize,
    /// When set, `iss` must equal it.
    pub issuer: Option<Box<str>>,
    /// When not empty, `aud` must contain one of them; when empty, a token with an `aud` is refused.
    pub audience: Box<[Box<str>]>,
    /// Slack for clocks that disagree, in seconds.
    pub leeway_s: i64,
    /// Claims that must be there and not be null.
    pub require: Box<[Box<str>]>,
    /// The claim that names the consumer.
    pub consumer_claim: Box<str>,
    /// The claim that lists roles, with dots into objects; no token has roles when absent.
    pub roles_claim: Option<Box<str>>,
    /// The keys.
    pub keys: Box<[HmacKey]>,
    /// Hashes consumers for their limits; the seed is secret, so that nobody can choose to collide.
    pub hasher: SipHasher13,
}
