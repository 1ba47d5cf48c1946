//! Keys: whose signature counts, and with which algorithm.
//!
//! A key has one algorithm, and a token that names another is refused: nobody can have a public key taken for a
//! secret. Verification is `ring`'s; what a key looks like in a file is control's.

use std::sync::Arc;

use ring::{
    hmac,
    signature::{
        self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RsaParameters,
        RsaPublicKeyComponents, UnparsedPublicKey,
    },
};
use siphasher::sip128::SipHasher13;

use super::issued::IssuedKeys;

/// The algorithms a key can be for (RFC 7518 section 3.1, RFC 8037 section 3.1).
#[expect(missing_docs, reason = "the names are the registered ones")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// What a key of some algorithm is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A secret that both sides know.
    Secret,
    /// An RSA public key.
    Rsa,
    /// A point on P-256.
    P256,
    /// A point on P-384.
    P384,
    /// An Ed25519 public key.
    Ed25519,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The name in a token's header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// What its keys are made of.
    pub fn kind(self) -> Kind {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => Kind::Secret,
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => Kind::Rsa,
            Self::Es256 => Kind::P256,
            Self::Es384 => Kind::P384,
            Self::EdDsa => Kind::Ed25519,
        }
    }

    /// Its hash as an HMAC; `None` where keys are no secrets.
    fn hmac(self) -> Option<hmac::Algorithm> {
        match self {
            Self::Hs256 => Some(hmac::HMAC_SHA256),
            Self::Hs384 => Some(hmac::HMAC_SHA384),
            Self::Hs512 => Some(hmac::HMAC_SHA512),
            _ => None,
        }
    }

    /// Its padding and hash; `None` where keys are not RSA's.
    fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
            _ => None,
        }
    }
}

/// A public key as it stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// Modulus and exponent, big-endian.
    Rsa {
        /// `n`.
        modulus: Vec<u8>,
        /// `e`.
        exponent: Vec<u8>,
    },
    /// A point on P-256, uncompressed (SEC 1 section 2.3.3).
    P256(Vec<u8>),
    /// A point on P-384, uncompressed.
    P384(Vec<u8>),
    /// 32 bytes.
    Ed25519(Vec<u8>),
}

/// Why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusableKey(pub String);

/// A key with its algorithm and its name.
#[derive(Clone)]
pub struct Key {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Secret(hmac::Key),
    Rsa(RsaPublicKeyComponents<Vec<u8>>, &'static RsaParameters),
    Other(UnparsedPublicKey<Vec<u8>>),
}

/// RSA moduli, in bits: what is shorter is broken, what is longer costs too much.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

impl Key {
    /// A shared secret, no shorter than its algorithm's hash (RFC 7518 section 3.2): a shorter one is guessed faster
    /// than the hash is broken.
    ///
    /// # Errors
    /// [`UnusableKey`].
    pub fn secret(kid: Option<&str>, algorithm: Algorithm, secret: &[u8]) -> Result<Self, UnusableKey> {
        let Some(hmac) = algorithm.hmac() else {
            return Err(UnusableKey(format!(
                "{} wants a public key, and this is a secret",
                algorithm.name()
            )));
        };
        let bytes_min = hmac.digest_algorithm().output_len();
        if secret.len() < bytes_min {
            return Err(UnusableKey(format!(
                "the secret has {} bytes; {} needs at least {bytes_min}, the length of its hash (RFC 7518 section 3.2)",
                secret.len(),
                algorithm.name()
            )));
        }
        Ok(Self {
            kid: kid.map(Into::into),
            algorithm,
            material: Material::Secret(hmac::Key::new(hmac, secret)),
        })
    }

    /// The public half of a pair.
    ///
    /// # Errors
    /// [`UnusableKey`] when it is not of the algorithm's kind, or RSA's of a size that is not taken.
    pub fn public(kid: Option<&str>, algorithm: Algorithm, key: PublicKey) -> Result<Self, UnusableKey> {
        let point = |bytes: Vec<u8>, length: usize, verification| {
            if bytes.len() != length || bytes[0] != 4 {
                return Err(wrong_kind(algorithm, "a point of another length"));
            }
            Ok(Material::Other(UnparsedPublicKey::new(verification, bytes)))
        };
        let material = match (algorithm.kind(), key) {
            (Kind::Rsa, PublicKey::Rsa { modulus, exponent }) => {
                let stripped =
                    |bytes: Vec<u8>| -> Vec<u8> { bytes.into_iter().skip_while(|&byte| byte == 0).collect() };
                let (n, e) = (stripped(modulus), stripped(exponent));
                let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
                if !RSA_BITS.contains(&bits) {
                    return Err(UnusableKey(format!(
                        "the RSA key has {bits} bits; from {} to {} are taken",
                        RSA_BITS.start(),
                        RSA_BITS.end()
                    )));
                }
                let parameters = algorithm.rsa().ok_or_else(|| wrong_kind(algorithm, "an RSA key"))?;
                Material::Rsa(RsaPublicKeyComponents { n, e }, parameters)
            }
            (Kind::P256, PublicKey::P256(bytes)) => point(bytes, 65, &ECDSA_P256_SHA256_FIXED)?,
            (Kind::P384, PublicKey::P384(bytes)) => point(bytes, 97, &ECDSA_P384_SHA384_FIXED)?,
            (Kind::Ed25519, PublicKey::Ed25519(bytes)) if bytes.len() == 32 => {
                Material::Other(UnparsedPublicKey::new(&ED25519, bytes))
            }
            (_, PublicKey::Rsa { .. }) => return Err(wrong_kind(algorithm, "an RSA key")),
            (_, PublicKey::P256(_)) => return Err(wrong_kind(algorithm, "a point on P-256")),
            (_, PublicKey::P384(_)) => return Err(wrong_kind(algorithm, "a point on P-384")),
            (_, PublicKey::Ed25519(_)) => return Err(wrong_kind(algorithm, "an Ed25519 key")),
        };
        Ok(Self { kid: kid.map(Into::into), algorithm, material })
    }

    /// Its name.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` is this key's for `text`; for secrets, in time that does not depend on where they differ.
    pub fn signed(&self, text: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Secret(key) => hmac::verify(key, text, signature).is_ok(),
            Material::Rsa(key, parameters) => key.verify(parameters, text, signature).is_ok(),
            Material::Other(key) => key.verify(text, signature).is_ok(),
        }
    }

    /// Signs `text`; only a secret can.
    pub fn sign(&self, text: &[u8]) -> Option<hmac::Tag> {
        match &self.material {
            Material::Secret(key) => Some(hmac::sign(key, text)),
            Material::Rsa(..) | Material::Other(_) => None,
        }
    }
}

fn wrong_kind(algorithm: Algorithm, found: &str) -> UnusableKey {
    let wanted = match algorithm.kind() {
        Kind::Secret => "a secret",
        Kind::Rsa => "an RSA key",
        Kind::P256 => "a point on P-256",
        Kind::P384 => "a point on P-384",
        Kind::Ed25519 => "an Ed25519 key",
    };
    UnusableKey(format!("{} wants {wanted}, and this is {found}", algorithm.name()))
}

/// Never the secret.
impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Key({:?}, {})", self.kid, self.algorithm.name())
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
    pub keys: Box<[Key]>,
    /// Keys that an issuer publishes, besides.
    pub issued: Option<Arc<IssuedKeys>>,
    /// Hashes consumers for their limits; the seed is secret, so that nobody can choose to collide.
    pub hasher: SipHasher13,
}

impl KeySet {
    /// Which set of published keys is in force; always the same where nothing is published.
    pub fn generation(&self) -> u64 {
        self.issued.as_ref().map_or(0, |issued| issued.generation())
    }
}
