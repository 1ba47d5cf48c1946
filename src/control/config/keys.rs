//! Keys: from files and variables to what verifies tokens.
//!
//! Secrets as they are, public keys as PEM (`BEGIN PUBLIC KEY`, `RSA PUBLIC KEY` or `CERTIFICATE`), and sets of keys
//! as JWKS (`jwks.rs`). Read at the start and on each reload; nothing of it is kept but the keys.

use std::{collections::HashMap, path::Path};

use x509_parser::{
    asn1_rs::{Oid, oid},
    certificate::X509Certificate,
    pem::Pem,
    prelude::FromDer,
    public_key::{PublicKey as Parsed, RSAPublicKey},
    x509::SubjectPublicKeyInfo,
};

use crate::stage::auth::{Algorithm, Key, PublicKey};

use super::{
    Environment,
    file::{Jwt as FileJwt, Key as FileKey},
    issue::Issues,
    jwks,
    plan::KeySetPlan,
    reader::Field,
    values::one_of,
};

/// Where secrets are.
pub(super) struct Secrets<'a> {
    pub(super) directory: &'a Path,
    pub(super) environment: &'a Environment,
}

/// The plan of one `[[jwt]]`, with its keys.
pub(super) fn key_set(jwt: &FileJwt, secrets: &Secrets<'_>, issues: &Issues) -> Option<KeySetPlan> {
    if jwt.keys.is_empty() && jwt.jwks_file.is_none() && jwt.jwks_url.is_none() {
        let message = "at least one key is needed; give keys, jwks_file or jwks_url";
        issues.add(jwt.at, &format!("{}.keys", jwt.path), message);
    }
    let mut kids: HashMap<&str, usize> = HashMap::new();
    for kid in jwt.keys.iter().filter_map(|key| key.kid.as_ref()) {
        if let Some(line) = kids.insert(&kid.value, issues.line_of(kid.at)) {
            kid.wrong(issues, format!("another key has the kid \"{}\", on line {line}", kid.value));
        }
    }
    let mut keys: Vec<_> = jwt.keys.iter().map(|found| key(found, secrets, issues)).collect();
    if let Some(file) = &jwt.jwks_file {
        match jwks::read(&secrets.directory.join(&file.value)) {
            Ok(set) => {
                for kid in set.iter().filter_map(Key::kid).filter(|kid| kids.contains_key(kid)) {
                    file.wrong(issues, format!("the kid \"{kid}\" stands in keys and in the file"));
                }
                keys.extend(set.into_iter().map(Some));
            }
            Err(mistake) => file.wrong(issues, mistake),
        }
    }
    let texts = |list: &Option<Field<Vec<Field<String>>>>| -> Option<Vec<String>> {
        Some(list.as_ref()?.value.iter().map(|field| field.value.clone()).collect())
    };
    if let Some(url) = &jwt.jwks_url {
        check_issuer(url, issues);
    }
    Some(KeySetPlan {
        issuer_url: jwt.jwks_url.as_ref().map(|url| url.value.clone()),
        issuer_refresh_ms: jwt.jwks_refresh_ms,
        name: jwt.name.as_ref()?.value.clone(),
        issuer: jwt.issuer.as_ref().map(|issuer| issuer.value.clone()),
        audience: texts(&jwt.audience).unwrap_or_default(),
        leeway_s: i64::try_from(jwt.leeway_s).unwrap_or(0),
        require: texts(&jwt.require).unwrap_or_else(|| vec!["exp".to_owned(), "sub".to_owned()]),
        consumer_claim: jwt.consumer_claim.value.clone(),
        roles_claim: jwt.roles_claim.as_ref().map(|claim| claim.value.clone()),
        keys: keys.into_iter().collect::<Option<_>>()?,
    })
}

fn key(key: &FileKey, secrets: &Secrets<'_>, issues: &Issues) -> Option<Key> {
    let algorithms: Vec<(&str, Algorithm)> = Algorithm::ALL.iter().map(|&alg| (alg.name(), alg)).collect();
    let algorithm = key.alg.as_ref().and_then(|alg| one_of(alg, &algorithms, issues));
    let given = [&key.secret_file, &key.secret_env, &key.public_key_file];
    let mut sources = given.into_iter().flatten();
    let source = match (sources.next(), sources.next()) {
        (Some(source), None) => source,
        (Some(_), Some(second)) => {
            second.wrong(
                issues,
                "the key is given already; keep one of secret_file, secret_env and public_key_file",
            );
            return None;
        }
        (None, _) => {
            let message = "the key itself is missing; give secret_file, secret_env or public_key_file";
            issues.add(key.at, &key.path, message);
            return None;
        }
    };
    let bytes = match &key.secret_env {
        Some(variable) => (secrets.environment)(&variable.value)
            .ok_or_else(|| format!("the environment has no variable {}", variable.value)),
        None => read(&secrets.directory.join(&source.value)),
    };
    let kid = key.kid.as_ref().map(|kid| kid.value.as_str());
    let made = bytes.map_err(|mistake| source.wrong(issues, mistake)).ok().zip(algorithm).map(
        |(bytes, algorithm)| {
            let made = match &key.public_key_file {
                Some(_) => Key::public(kid, algorithm, public_key(&bytes)?),
                None if key.secret_file.is_some() => Key::secret(kid, algorithm, without_newline(&bytes)),
                None => Key::secret(kid, algorithm, &bytes),
            };
            made.map_err(|unusable| unusable.0)
        },
    );
    made?.map_err(|mistake| source.wrong(issues, mistake)).ok()
}

/// Whoever answers for an issuer decides who is let in: nobody on the way may.
fn check_issuer(url: &Field<String>, issues: &Issues) {
    let parsed = url.value.parse::<ureq::http::Uri>().ok();
    let parts = parsed.as_ref().and_then(|parsed| parsed.scheme_str().zip(parsed.host()));
    match parts {
        Some(("https", _)) => {}
        Some(("http", host)) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            if !host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
                url.wrong(issues, "plain http is for an address of this machine only; https is needed");
            }
        }
        _ => url.wrong(
            issues,
            format!("\"{}\" is not a URL; write for example \"https://issuer.example/keys\"", url.value),
        ),
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

const P256: Oid<'static> = oid!(1.2.840.10045.3.1.7);
const P384: Oid<'static> = oid!(1.3.132.0.34);
const ED25519: Oid<'static> = oid!(1.3.101.112);

/// The public key in `pem`.
fn public_key(pem: &[u8]) -> Result<PublicKey, String> {
    const WANTED: &str =
        "not a public key in PEM; it begins with -----BEGIN PUBLIC KEY-----, RSA PUBLIC KEY or CERTIFICATE";
    let mut blocks = Pem::iter_from_buffer(pem);
    let block = match (blocks.next(), blocks.next()) {
        (Some(Ok(block)), None) => block,
        (Some(Ok(_)), Some(_)) => {
            return Err("there is more than one key in the file; give each its own".to_owned());
        }
        _ => return Err(WANTED.to_owned()),
    };
    let broken = || format!("the {} in the file is damaged", block.label);
    match block.label.as_str() {
        "PUBLIC KEY" => {
            let (_, info) = SubjectPublicKeyInfo::from_der(&block.contents).map_err(|_| broken())?;
            of_info(&info)
        }
        "CERTIFICATE" => {
            let (_, certificate) = X509Certificate::from_der(&block.contents).map_err(|_| broken())?;
            of_info(certificate.public_key())
        }
        "RSA PUBLIC KEY" => {
            let (_, key) = RSAPublicKey::from_der(&block.contents).map_err(|_| broken())?;
            Ok(PublicKey::Rsa { modulus: key.modulus.to_vec(), exponent: key.exponent.to_vec() })
        }
        label if label.contains("PRIVATE") => {
            Err(format!("{label}: a private key has no place on a gateway; give its public half"))
        }
        label => Err(format!("{label}: {WANTED}")),
    }
}

fn of_info(info: &SubjectPublicKeyInfo<'_>) -> Result<PublicKey, String> {
    if info.algorithm.algorithm == ED25519 {
        return Ok(PublicKey::Ed25519(info.subject_public_key.data.to_vec()));
    }
    let unknown = || "a key of a kind that no algorithm here uses".to_owned();
    match info.parsed().map_err(|_| unknown())? {
        Parsed::RSA(key) => {
            Ok(PublicKey::Rsa { modulus: key.modulus.to_vec(), exponent: key.exponent.to_vec() })
        }
        Parsed::EC(point) => {
            let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
            match curve {
                Some(curve) if curve == P256 => Ok(PublicKey::P256(point.data().to_vec())),
                Some(curve) if curve == P384 => Ok(PublicKey::P384(point.data().to_vec())),
                _ => Err("a point on a curve that no algorithm here uses; P-256 and P-384 are".to_owned()),
            }
        }
        _ => Err(unknown()),
    }
}

/// One trailing newline is the editor's, not the secret's.
pub fn without_newline(secret: &[u8]) -> &[u8] {
    let secret = secret.strip_suffix(b"\n").unwrap_or(secret);
    secret.strip_suffix(b"\r").unwrap_or(secret)
}
