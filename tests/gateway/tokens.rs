//! Tokens that must not be believed, each for its own reason, which only the log and the metrics know.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use crate::rig::{
    Algorithm, Answer, Endpoint, Gateway, SECRET, Setup, bearer, mint, now_s, sign, valid_token,
};

/// A secret that is no key's.
const OTHER: &str = "another-secret-another-secret-another-secret-another-secret-1234";

/// Key `k1` (HS256), and by `keys` whatever else; everything below `/` wants a token.
pub(super) fn protected(endpoint: &Endpoint, lines: &str) -> Gateway {
    Setup::new()
        .keys(lines)
        .cluster("main", &[endpoint.address], "")
        .route("all", "/", "main", "jwt = \"partners\"")
        .start()
}

/// A good token but for what `change` does to its claims.
pub(super) fn with(change: &Value) -> String {
    let mut claims = json!({ "sub": "acme", "exp": now_s() + 600 });
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    mint(&claims)
}

/// A properly signed token with this text as its claims, `EXP` in it standing for a good date.
fn text_claims(claims: &str) -> String {
    let claims = claims.replace("EXP", &(now_s() + 600).to_string());
    sign(Algorithm::Hs256, SECRET.as_bytes(), r#"{"alg":"HS256","kid":"k1"}"#, &claims)
}

fn header(header: &str) -> String {
    let claims = json!({ "sub": "acme", "exp": now_s() + 600 });
    sign(Algorithm::Hs256, SECRET.as_bytes(), header, &claims.to_string())
}

#[track_caller]
pub(super) fn assert_invalid(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 401, "{what}: {}", answer.head);
    assert_eq!(answer.field("www-authenticate"), Some("Bearer error=\"invalid_token\""), "{what}");
    let body = answer.json();
    assert_eq!(
        (&body["code"], &body["message"]),
        (&json!("token_invalid"), &json!("Token is invalid!")),
        "{what}"
    );
    assert_eq!(body["detail"], "The token was not accepted.", "{what}: the same for every reason");
}

/// Sends every token in turn; each must be refused, for the reason beside it, which only the log knows.
fn refuse_all(gateway: &Gateway, tokens: &[(&str, String, &str)]) {
    let mut client = gateway.client();
    for (what, token, _) in tokens {
        assert_invalid(&client.get("/", &bearer(token)), what);
    }
    let log = gateway.log(tokens.len());
    for ((what, token, reason), line) in tokens.iter().zip(&log) {
        assert_eq!(line["reason"], *reason, "{what}");
        assert_eq!(line["consumer"], "-", "{what}");
        let text = line.to_string();
        assert!(token.len() < 20 || !text.contains(&token[..20]), "a token in the log: {text}");
    }
    let count = tokens.len() as f64;
    assert_eq!(gateway.metric("tollgate_jwt_verifications_total{result=\"refused\"}"), count);
    assert_eq!(gateway.metric("tollgate_refusals_total{code=\"token_invalid\"}"), count);
}

#[test]
fn tokens_that_are_none_are_refused() {
    let endpoint = Endpoint::answering("ok");
    let gateway = protected(&endpoint, "");
    let good = valid_token("acme");
    let parts: Vec<&str> = good.split('.').collect();
    let [head, claims, signature] = parts[..] else { unreachable!("a token has three parts") };
    let signed = |signature: &str| format!("{head}.{claims}.{signature}");
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    // 32 bytes are 43 characters; the last of them has two bits that must be zero.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = alphabet.find(&signature[42..]).unwrap();
    let spare = format!("{}{}", &signature[..42], &alphabet[last + 1..last + 2]);
    let mut flipped = raw.clone();
    flipped[31] ^= 1;
    let malformed = "token malformed";
    let deep = format!(r#"{{"sub":"acme","exp":EXP,"x":{}1{}}}"#, "[".repeat(4000), "]".repeat(4000));
    let many: String = (0..400).map(|number| format!(r#","c{number}":1"#)).collect();
    let bad_utf8 = {
        let claims = [b"{\"sub\":\"ac\xff\",\"exp\":9999999999}".as_slice()].concat();
        let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, signed.as_bytes())))
    };
    refuse_all(
        &gateway,
        &[
            ("not a token", "x".into(), malformed),
            ("two parts", format!("{head}.{claims}"), malformed),
            ("no signature", signed(""), "signature"),
            ("no payload", format!("{head}..{signature}"), "signature"),
            ("no header", format!(".{claims}.{signature}"), malformed),
            ("only dots", "..".into(), malformed),
            ("four parts", format!("{good}."), malformed),
            ("five parts", format!("{good}.{signature}.{signature}"), malformed),
            ("truncated signature", signed(&signature[..40]), "signature"),
            ("signature of one byte", signed("AA"), "signature"),
            ("a bit flipped", signed(&URL_SAFE_NO_PAD.encode(&flipped)), "signature"),
            ("a byte more", signed(&URL_SAFE_NO_PAD.encode([&raw[..], b"x"].concat())), "signature"),
            ("padded", signed(&URL_SAFE.encode(&raw)), malformed),
            ("spare bits set", signed(&spare), malformed),
            ("the other alphabet", signed(&STANDARD.encode([0xfb; 33])), malformed),
            ("a blank within", good.replacen('.', ". ", 1), "signature"),
            ("a tab within", good.replacen('.', ".\t", 1), "signature"),
            ("percent-encoded", good.replacen('.', "%2E", 1), malformed),
            ("quoted", format!("\"{good}\""), malformed),
            ("two of them", format!("{good},{good}"), malformed),
            ("header is no object", header("[1]"), malformed),
            ("header is text", header("\"HS256\""), malformed),
            ("header is cut", header(r#"{"alg":"HS256""#), malformed),
            ("header goes on", header(r#"{"alg":"HS256","kid":"k1"}{}"#), malformed),
            ("header in UTF-16", header("\u{feff}{\"alg\":\"HS256\"}"), malformed),
            ("claims are a list", text_claims("[1]"), malformed),
            ("claims are a number", text_claims("1"), malformed),
            ("claims are null", text_claims("null"), malformed),
            ("claims are nothing", text_claims(""), malformed),
            ("claims are cut", text_claims("{\"sub\":\"acme\",\"exp\":EXP"), malformed),
            ("claims go on", text_claims("{\"sub\":\"acme\",\"exp\":EXP} x"), malformed),
            ("a comma too many", text_claims("{\"sub\":\"acme\",\"exp\":EXP,}"), malformed),
            ("a comment", text_claims("{\"sub\":\"acme\",/**/\"exp\":EXP}"), malformed),
            ("single quotes", text_claims("{'sub':'acme','exp':EXP}"), malformed),
            ("half a surrogate pair", text_claims(r#"{"sub":"\ud800","exp":EXP}"#), malformed),
            ("too deep", text_claims(&deep), malformed),
            ("too many claims", text_claims(&format!("{{\"sub\":\"acme\",\"exp\":EXP{many}}}")), malformed),
            ("not UTF-8", bad_utf8, malformed),
        ],
    );
    assert_eq!(endpoint.count(), 0, "none of them got through");
}

#[test]
fn headers_that_ask_for_other_rules_are_refused() {
    let endpoint = Endpoint::answering("ok");
    let gateway = protected(&endpoint, "");
    let none = |alg: &str, signature: &str| {
        let claims = json!({ "sub": "acme", "exp": now_s() + 600 });
        let head = json!({ "alg": alg, "kid": "k1" });
        let [head, claims] = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        format!("{head}.{claims}.{signature}")
    };
    let algorithm = "algorithm is not the key's";
    let mut tokens: Vec<(&str, String, &str)> =
        ["none", "None", "NONE", "nOnE", "", "HS1", "hs256", "HS256 ", "HS-256", "RS256", "ES256"]
            .into_iter()
            .map(|alg| (alg, none(alg, ""), algorithm))
            .collect();
    let hs512 = sign(
        Algorithm::Hs512,
        SECRET.as_bytes(),
        r#"{"alg":"HS512","kid":"k1"}"#,
        &json!({ "sub": "acme", "exp": now_s() + 600 }).to_string(),
    );
    tokens.extend([
        ("none with a signature", none("none", "AAAA"), algorithm),
        ("HS512 under an HS256 key", hs512, algorithm),
        ("HS512 said, HS256 made", header(r#"{"alg":"HS512","kid":"k1"}"#), algorithm),
        ("no alg", header(r#"{"kid":"k1"}"#), algorithm),
        ("alg null", header(r#"{"alg":null,"kid":"k1"}"#), algorithm),
        ("alg in a list", header(r#"{"alg":["HS256"],"kid":"k1"}"#), algorithm),
        ("alg a number", header(r#"{"alg":256,"kid":"k1"}"#), algorithm),
        ("alg twice", header(r#"{"alg":"none","alg":"HS256","kid":"k1"}"#), "name occurs twice in token"),
        (
            "kid twice, once escaped",
            header(r#"{"alg":"HS256","kid":"k1","k\u0069d":"k1"}"#),
            "name occurs twice in token",
        ),
        ("crit", header(r#"{"alg":"HS256","kid":"k1","crit":["exp"]}"#), "token has crit or b64"),
        ("crit of nothing", header(r#"{"alg":"HS256","kid":"k1","crit":[]}"#), "token has crit or b64"),
        ("crit null", header(r#"{"alg":"HS256","kid":"k1","crit":null}"#), "token has crit or b64"),
        ("b64", header(r#"{"alg":"HS256","kid":"k1","b64":false,"crit":["b64"]}"#), "token has crit or b64"),
        ("b64 alone", header(r#"{"alg":"HS256","kid":"k1","b64":false}"#), "token has crit or b64"),
        ("unknown kid", header(r#"{"alg":"HS256","kid":"k2"}"#), "no key with this kid"),
        ("empty kid", header(r#"{"alg":"HS256","kid":""}"#), "no key with this kid"),
        ("kid a path", header(r#"{"alg":"HS256","kid":"../../dev/null"}"#), "no key with this kid"),
        ("kid a number", header(r#"{"alg":"HS256","kid":1}"#), "claim of wrong type or range"),
        ("kid null", header(r#"{"alg":"HS256","kid":null}"#), "claim of wrong type or range"),
        (
            "key brought along",
            header(r#"{"alg":"HS256","kid":"k2","jwk":{"kty":"oct","k":"AA"}}"#),
            "no key with this kid",
        ),
        (
            "another secret",
            sign(Algorithm::Hs256, OTHER.as_bytes(), r#"{"alg":"HS256"}"#, r#"{"sub":"a","exp":9999999999}"#),
            "signature",
        ),
    ]);
    refuse_all(&gateway, &tokens);
    let typed = header(r#"{"typ":"anything","alg":"HS256","kid":"k1","cty":"x"}"#);
    assert_eq!(gateway.client().get("/", &bearer(&typed)).status, 200, "what means nothing changes nothing");
}

#[test]
fn claims_of_odd_types_and_times_are_401_and_never_5xx() {
    let endpoint = Endpoint::answering("ok");
    let gateway = protected(&endpoint, "");
    let range = "claim of wrong type or range";
    let mut tokens: Vec<(&str, String, &str)> = Vec::new();
    for (odd, reason) in [
        ("null", "required claim missing"),
        ("\"EXP\"", range),
        ("\"\"", range),
        ("true", range),
        ("[EXP]", range),
        ("{\"at\":EXP}", range),
        ("-1", range),
        ("-9223372036854775808", range),
        ("9223372036854775807", range),
        ("18446744073709551615", range),
        ("99999999999999999999999999", range),
        ("253402300800", range),
        ("1e300", range),
        ("-1e300", range),
        ("1e400", "token malformed"),
        ("NaN", "token malformed"),
        ("Infinity", "token malformed"),
        ("0x7fffffff", "token malformed"),
        ("+1", "token malformed"),
        ("0", "expired"),
        ("1", "expired"),
        ("1.5", "expired"),
        ("1e-300", "expired"),
    ] {
        tokens.push((odd, text_claims(&format!("{{\"sub\":\"acme\",\"exp\":{odd}}}")), reason));
    }
    for odd in ["null", "\"1\"", "true", "[]", "-1", "1e300"] {
        for name in ["nbf", "iat"] {
            tokens.push((
                odd,
                text_claims(&format!("{{\"sub\":\"acme\",\"exp\":EXP,\"{name}\":{odd}}}")),
                range,
            ));
        }
    }
    let soon = now_s() + 300;
    tokens.extend([
        ("exp is now", with(&json!({ "exp": now_s() })), "expired"),
        ("exp is past", with(&json!({ "exp": now_s() - 1 })), "expired"),
        ("nbf to come", with(&json!({ "nbf": soon })), "not yet valid"),
        ("iat to come", with(&json!({ "iat": soon })), "issued in the future"),
        ("no exp", mint(&json!({ "sub": "acme" })), "required claim missing"),
        ("no sub", mint(&json!({ "exp": soon })), "required claim missing"),
        ("an aud nobody asked for", with(&json!({ "aud": "payments" })), "audience"),
        ("aud a number", with(&json!({ "aud": 1 })), range),
        ("aud with a number", with(&json!({ "aud": ["a", 1] })), range),
        ("sub a number", with(&json!({ "sub": 1 })), range),
        ("sub a list", with(&json!({ "sub": ["acme"] })), range),
        ("jti a number", with(&json!({ "jti": 1 })), range),
        ("scope a number", with(&json!({ "scope": 1 })), range),
        ("exp twice", text_claims(r#"{"sub":"acme","exp":1,"exp":EXP}"#), "name occurs twice in token"),
        (
            "exp twice, disguised",
            text_claims(r#"{"sub":"acme","exp":1,"e\u0078p":EXP}"#),
            "name occurs twice in token",
        ),
        (
            "sub twice",
            text_claims(r#"{"sub":"acme","exp":EXP,"sub":"mallory"}"#),
            "name occurs twice in token",
        ),
        ("sub empty", with(&json!({ "sub": "" })), "consumer claim unusable"),
        ("sub with a line end", with(&json!({ "sub": "a\r\nX-Admin: 1" })), "consumer claim unusable"),
        ("sub with a null", with(&json!({ "sub": "a\u{0}" })), "consumer claim unusable"),
        ("sub with C1", with(&json!({ "sub": "a\u{85}b" })), "consumer claim unusable"),
        ("sub with a blank", with(&json!({ "sub": " acme" })), "consumer claim unusable"),
        ("sub too long", with(&json!({ "sub": "a".repeat(257) })), "consumer claim unusable"),
    ]);
    refuse_all(&gateway, &tokens);

    let mut client = gateway.client();
    for (what, token) in [
        ("a fraction", text_claims(r#"{"sub":"acme","exp":EXP.75}"#)),
        ("an exponent", text_claims(r#"{"sub":"acme","exp":2e10}"#)),
        ("empty aud", with(&json!({ "aud": [] }))),
        ("nbf and iat just now", with(&json!({ "nbf": now_s(), "iat": now_s() }))),
        ("claims of other trades", with(&json!({ "amr": null, "x": { "exp": 1, "exp2": [[[]]] } }))),
    ] {
        assert_eq!(client.get("/", &bearer(&token)).status, 200, "{what}");
    }
}

#[test]
fn issuer_audience_leeway_require_and_consumer_claim() {
    let endpoint = Endpoint::answering("ok");
    let gateway = protected(
        &endpoint,
        "issuer = \"https://auth.example\"\naudience = [\"payments\", \"refunds\"]\nleeway = \"30s\"\n\
         require = [\"tenant\"]\nconsumer_claim = \"client_id\"",
    );
    let claims = |change: Value| {
        let mut claims = json!({ "iss": "https://auth.example", "aud": ["x", "refunds"], "tenant": 0, "client_id": "acme" });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        mint(&claims)
    };
    let now = now_s();
    let good = [
        ("exp is not required here", claims(json!({}))),
        ("one audience", claims(json!({ "aud": "payments" }))),
        ("within the leeway", claims(json!({ "exp": now - 5, "nbf": now + 20, "iat": now + 20 }))),
    ];
    let mut client = gateway.client();
    for (what, token) in &good {
        assert_eq!(client.get("/", &bearer(token)).status, 200, "{what}");
    }
    assert!(endpoint.seen(3).iter().all(|seen| seen.field("x-consumer-id") == Some("acme")));
    let bad = [
        ("beyond the leeway", claims(json!({ "exp": now - 31 })), "expired"),
        ("beyond it, before", claims(json!({ "nbf": now + 100 })), "not yet valid"),
        ("another issuer", claims(json!({ "iss": "https://auth.example/" })), "issuer"),
        ("part of the issuer", claims(json!({ "iss": "https://auth" })), "issuer"),
        (
            "issuers in a list",
            claims(json!({ "iss": ["https://auth.example"] })),
            "claim of wrong type or range",
        ),
        ("issuer null", claims(json!({ "iss": null })), "claim of wrong type or range"),
        ("another audience", claims(json!({ "aud": "payment" })), "audience"),
        ("no audience", claims(json!({ "aud": null })), "required claim missing"),
        ("audience of nobody", claims(json!({ "aud": [] })), "required claim missing"),
        ("required claim null", claims(json!({ "tenant": null })), "required claim missing"),
        ("no consumer", claims(json!({ "client_id": null, "sub": "acme" })), "claim of wrong type or range"),
        ("sub null", claims(json!({ "sub": null })), "claim of wrong type or range"),
        ("jti null", claims(json!({ "jti": null })), "claim of wrong type or range"),
        ("consumer a number", claims(json!({ "client_id": 7 })), "claim of wrong type or range"),
    ];
    for (what, token, _) in &bad {
        assert_invalid(&client.get("/", &bearer(token)), what);
    }
    for ((what, _, reason), line) in bad.iter().zip(&gateway.log(good.len() + bad.len())[good.len()..]) {
        assert_eq!(line["reason"], *reason, "{what}");
    }
}
