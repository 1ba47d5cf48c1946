//! Tokens signed with the algorithms of key pairs; what attackers make of public keys.

use std::fs;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    rsa,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};

use crate::{
    rig::{Algorithm, Endpoint, Gateway, Setup, bearer, now_s, sign as sign_hmac, tollgate},
    tokens::assert_invalid,
};

fn file(name: &str) -> Vec<u8> {
    fs::read(format!("{}/tests/keys/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Signs as whoever has the private half of the key that `algorithm` goes with.
fn signature(algorithm: &str, text: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    let ecdsa = |how, name| {
        EcdsaKeyPair::from_pkcs8(how, &file(name), &random)
            .unwrap()
            .sign(&random, text)
            .unwrap()
            .as_ref()
            .to_vec()
    };
    let rsa = |padding: &'static dyn signature::RsaEncoding| {
        let pair = rsa::KeyPair::from_pkcs8(&file("rsa.pk8")).unwrap();
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(padding, &random, text, &mut signature).unwrap();
        signature
    };
    match algorithm {
        "RS256" => rsa(&signature::RSA_PKCS1_SHA256),
        "RS384" => rsa(&signature::RSA_PKCS1_SHA384),
        "RS512" => rsa(&signature::RSA_PKCS1_SHA512),
        "PS256" => rsa(&signature::RSA_PSS_SHA256),
        "PS384" => rsa(&signature::RSA_PSS_SHA384),
        "PS512" => rsa(&signature::RSA_PSS_SHA512),
        "ES256" => ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, "p256.pk8"),
        "ES256 in DER" => ecdsa(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, "p256.pk8"),
        "ES384" => ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, "p384.pk8"),
        "EdDSA" => Ed25519KeyPair::from_pkcs8_maybe_unchecked(&file("ed25519.pk8"))
            .unwrap()
            .sign(text)
            .as_ref()
            .to_vec(),
        _ => unreachable!("{algorithm}"),
    }
}

/// A good token of `key`'s, but for what the header says it was signed with.
pub(super) fn token(header: &Value, key: &str) -> String {
    let claims = json!({ "sub": "acme", "exp": now_s() + 600 });
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(&claims));
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature(key, signed.as_bytes())))
}

const ALL: [(&str, &str); 9] = [
    ("RS256", "rsa.pem"),
    ("RS384", "rsa.pem"),
    ("RS512", "rsa.crt"),
    ("PS256", "rsa.pem"),
    ("PS384", "rsa-pkcs1.pem"),
    ("PS512", "rsa.pem"),
    ("ES256", "p256.pem"),
    ("ES384", "p384.pem"),
    ("EdDSA", "ed25519.pem"),
];

/// Everything below `/` wants a token of the key sets in `lines`.
fn protected(endpoint: &Endpoint, lines: &str) -> Setup {
    let mut setup = Setup::new().text(&format!("[[jwt]]\nname = \"partners\"\n{lines}\n"));
    for name in
        ["rsa.pem", "rsa.crt", "rsa-pkcs1.pem", "p256.pem", "p384.pem", "ed25519.pem", "weak.pem", "k256.pem"]
    {
        setup = setup.file(name, &file(name));
    }
    setup.cluster("main", &[endpoint.address], "").route("all", "/", "main", "jwt = \"partners\"")
}

fn keys(keys: &[(&str, &str)]) -> String {
    let lines: Vec<String> = keys
        .iter()
        .map(|(alg, name)| format!("{{ kid = \"{alg}\", alg = \"{alg}\", public_key_file = \"{name}\" }}"))
        .collect();
    format!("keys = [{}]", lines.join(", "))
}

#[test]
fn every_algorithm_verifies_its_own_signatures_and_no_others() {
    let endpoint = Endpoint::answering("ok");
    let gateway = protected(&endpoint, &keys(&ALL)).start();
    let mut client = gateway.client();
    for (alg, _) in ALL {
        for kid in [json!({ "alg": alg, "kid": alg }), json!({ "alg": alg })] {
            let good = token(&kid, alg);
            for _ in 0..2 {
                assert_eq!(client.get("/", &bearer(&good)).status, 200, "{alg}: verified, then remembered");
            }
            // One bit of the signature, and one letter of the claims.
            let (signed, signature) = good.rsplit_once('.').unwrap();
            let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
            bytes[20] ^= 1;
            let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes));
            assert_invalid(&client.get("/", &bearer(&forged)), alg);
            let (header, claims) = signed.split_once('.').unwrap();
            let claims =
                String::from_utf8(URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap().replace("acme", "evil");
            let forged = format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims));
            assert_invalid(&client.get("/", &bearer(&forged)), alg);
        }
        for (other, _) in ALL {
            if other != alg {
                let crossed = token(&json!({ "alg": alg, "kid": alg }), other);
                assert_invalid(&client.get("/", &bearer(&crossed)), &format!("{other} said to be {alg}"));
            }
        }
    }
}

/// RFC 8725 section 2.1 and the CVEs behind it: a public key is no secret, and a token does not say what to trust.
#[test]
fn a_public_key_helps_nobody_to_sign() {
    let endpoint = Endpoint::answering("ok");
    let gateway = protected(&endpoint, &keys(&ALL)).start();
    let mut client = gateway.client();
    let claims = json!({ "sub": "acme", "exp": now_s() + 600 }).to_string();
    for name in ["rsa.pem", "p256.pem", "ed25519.pem"] {
        for kid in ["RS256", "ES256", "EdDSA", "none"] {
            let header = json!({ "alg": "HS256", "kid": kid }).to_string();
            let confused = sign_hmac(Algorithm::Hs256, &file(name), &header, &claims);
            assert_invalid(&client.get("/", &bearer(&confused)), name);
        }
    }
    let own = token(&json!({ "alg": "RS256", "kid": "RS256" }), "RS256");
    let [header, claims, signature] = own.split('.').collect::<Vec<_>>()[..] else { unreachable!() };
    let forge = |header: Value, signature: &[u8]| {
        format!(
            "{}.{claims}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(signature)
        )
    };
    for (what, forged) in [
        ("no signature", format!("{header}.{claims}.")),
        ("alg none", forge(json!({ "alg": "none", "kid": "RS256" }), b"")),
        ("ECDSA of zeros (CVE-2022-21449)", forge(json!({ "alg": "ES256", "kid": "ES256" }), &[0; 64])),
        ("Ed25519 of zeros", forge(json!({ "alg": "EdDSA", "kid": "EdDSA" }), &[0; 64])),
        ("RSA of zeros", forge(json!({ "alg": "RS256", "kid": "RS256" }), &[0; 256])),
        ("RSA cut short", {
            let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
            format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(&bytes[..255]))
        }),
        ("ECDSA in DER", token(&json!({ "alg": "ES256", "kid": "ES256" }), "ES256 in DER")),
        ("another case", token(&json!({ "alg": "rs256", "kid": "RS256" }), "RS256")),
    ] {
        assert_invalid(&client.get("/", &bearer(&forged)), what);
    }
    // A key that the token brings along is nobody's.
    let jwk = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode([7; 32]) });
    let header =
        json!({ "alg": "HS256", "jwk": jwk, "jku": "http://127.0.0.1:1/keys", "x5u": "http://127.0.0.1:1/" });
    let brought =
        sign_hmac(Algorithm::Hs256, &[7; 32], &header.to_string(), r#"{"sub":"acme","exp":9999999999}"#);
    assert_invalid(&client.get("/", &bearer(&brought)), "jwk");
}

/// What an issuer publishes, from the keys of the tests.
pub(super) fn jwks(algorithms: &[&str]) -> Value {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let random = SystemRandom::new();
    let keys = algorithms.iter().map(|&alg| match alg {
        "EdDSA" => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&file("ed25519.pk8")).unwrap();
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": "EdDSA", "x": encode(pair.public_key().as_ref()) })
        }
        "ES256" => {
            let how = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
            let pair = EcdsaKeyPair::from_pkcs8(how, &file("p256.pk8"), &random).unwrap();
            let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
            json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": "ES256", "x": encode(x), "y": encode(y) })
        }
        _ => {
            let pair = rsa::KeyPair::from_pkcs8(&file("rsa.pk8")).unwrap();
            let public = rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
            json!({ "kty": "RSA", "alg": alg, "kid": alg, "n": encode(&public.n), "e": encode(&public.e) })
        }
    });
    json!({ "keys": keys.collect::<Vec<_>>() })
}

#[test]
fn a_key_set_verifies_and_a_reload_rotates_it_without_a_401() {
    let endpoint = Endpoint::answering("ok");
    let setup = |set: &Value| {
        protected(&endpoint, "jwks_file = \"keys.json\"").file("keys.json", set.to_string().as_bytes())
    };
    let mut set = jwks(&["EdDSA", "ES256"]);
    // For something else, and of a kind nobody knows: passed over.
    set["keys"].as_array_mut().unwrap().extend([
        json!({ "kty": "RSA", "use": "enc", "kid": "e", "n": "AQAB", "e": "AQAB" }),
        json!({ "kty": "lattice", "kid": "later" }),
    ]);
    let gateway = setup(&set).start();
    assert!(gateway.said().iter().any(|line| line.contains("later") && line.contains("passed over")));
    let mut client = gateway.client();
    let of = |alg: &str| bearer(&token(&json!({ "alg": alg, "kid": alg }), alg));
    let statuses = |client: &mut crate::rig::Client| {
        ["EdDSA", "ES256", "PS256"].map(|alg| client.get("/", &of(alg)).status)
    };
    assert_eq!(statuses(&mut client), [200, 200, 401]);
    assert_eq!(gateway.reload(&setup(&jwks(&["ES256", "PS256"]))).0, 200);
    assert_eq!(statuses(&mut client), [401, 200, 200], "the key in both sets goes on");
}

#[test]
fn keys_that_cannot_be_used_are_refused_by_name() {
    let endpoint = Endpoint::answering("ok");
    let refused = |lines: &str, files: &[(&'static str, Vec<u8>)]| {
        let mut setup = protected(&endpoint, lines);
        for (name, content) in files {
            setup = setup.file(name, content);
        }
        let directory = setup.write();
        let checked = tollgate(directory.path(), &["check", "tollgate.toml"]);
        assert_eq!(checked.status.code(), Some(78), "{lines}");
        String::from_utf8(checked.stderr).unwrap()
    };
    let key = |alg: &str, name: &str| keys(&[(alg, name)]);
    for (lines, words) in [
        (key("RS256", "weak.pem"), "1024 bits"),
        (key("RS256", "p256.pem"), "RS256 wants an RSA key, and this is a point on P-256"),
        (key("ES256", "rsa.pem"), "ES256 wants a point on P-256, and this is an RSA key"),
        (key("ES256", "p384.pem"), "and this is a point on P-384"),
        (key("ES256", "k256.pem"), "curve"),
        (key("HS256", "rsa.pem"), "wants a secret"),
        (key("EdDSA", "absent.pem"), "absent.pem cannot be read"),
        (key("RS256", "private.pem"), "a private key has no place"),
        (key("RS256", "text.pem"), "not a public key in PEM"),
        (key("ES512", "p256.pem"), "ES512"),
        ("keys = [{ kid = \"a\", alg = \"ES256\" }]".to_owned(), "public_key_file"),
        ("".to_owned(), "jwks_file"),
        ("jwks_file = \"text.pem\"".to_owned(), "not a JSON Web Key Set"),
        ("jwks_file = \"private.json\"".to_owned(), "a private key has no place"),
        ("jwks_file = \"empty.json\"".to_owned(), "no key to verify"),
        ("jwks_file = \"twice.json\"".to_owned(), "another key has this kid"),
    ] {
        let mut private = jwks(&["EdDSA"]);
        private["keys"][0]["d"] = json!("AAAA");
        let one = jwks(&["EdDSA"])["keys"][0].clone();
        let files = [
            ("private.pem", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_vec()),
            ("text.pem", b"hello".to_vec()),
            ("private.json", private.to_string().into_bytes()),
            ("empty.json", br#"{"keys":[]}"#.to_vec()),
            ("twice.json", json!({ "keys": [one, one] }).to_string().into_bytes()),
        ];
        let message = refused(&lines, &files);
        assert!(message.contains(words) && message.contains("jwt[0]"), "{lines}: {message}");
    }
}

/// A gateway that is asked for a token of a public key cannot make one, and says who can.
#[test]
fn nobody_mints_tokens_of_a_public_key() {
    let endpoint = Endpoint::answering("ok");
    let gateway: Gateway = protected(&endpoint, &keys(&ALL[..1])).start();
    let arguments = ["token", "--config", "tollgate.toml", "--jwt", "partners", "--sub", "acme"];
    let minted = tollgate(gateway.directory(), &arguments);
    assert_eq!(minted.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&minted.stderr).contains("public key"));
}
