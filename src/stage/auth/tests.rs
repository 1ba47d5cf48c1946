//! Tokens: the cases PyJWT was run with, the differences that are meant, and properties.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use proptest::prelude::*;

use super::*;
use crate::stage::fixture::{self, SECRET};

const NOW: i64 = 1_795_409_367;

fn token_of(header: &str, payload: &str) -> String {
    let key = Key::secret(None, Algorithm::Hs256, SECRET).unwrap();
    let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(payload));
    format!("{signed}.{}", BASE64.encode(key.sign(signed.as_bytes()).expect("a secret")))
}

fn token(payload: &str) -> String {
    token_of(r#"{"alg":"HS256","typ":"JWT"}"#, payload)
}

/// The verdict of a key set that requires nothing but the consumer's name, as PyJWT does by default.
fn lenient(change: impl FnOnce(&mut KeySet)) -> KeySet {
    let mut keys = fixture::keys();
    keys.require = Box::default();
    change(&mut keys);
    keys
}

fn verdict(keys: &KeySet, token: &str) -> Result<String, TokenFault> {
    verify(token.as_bytes(), keys, NOW).map(|verified| verified.consumer.into())
}

fn claims(keys: &KeySet, claims: &str) -> Result<String, TokenFault> {
    let comma = if claims.is_empty() { "" } else { "," };
    verdict(keys, &token(&format!(r#"{{"sub":"acme"{comma}{claims}}}"#)))
}

#[test]
fn what_pyjwt_accepts_is_accepted() {
    let keys = lenient(|_| {});
    let good = Ok("acme".to_owned());
    assert_eq!(claims(&keys, ""), good);
    assert_eq!(claims(&keys, &format!("\"exp\":{}.5", NOW + 1)), good);
    assert_eq!(claims(&keys, r#""aud":[]"#), good);
    assert_eq!(claims(&keys, r#""aud":"""#), good);
    assert_eq!(claims(&keys, r#""iss":"anyone""#), good);
    assert_eq!(verdict(&keys, &token_of(r#"{"alg":"HS256","typ":"foo"}"#, r#"{"sub":"acme"}"#)), good);
    let with_leeway = lenient(|keys| keys.leeway_s = 10);
    assert_eq!(claims(&with_leeway, &format!("\"exp\":{}", NOW - 5)), good);
    assert_eq!(claims(&with_leeway, &format!("\"nbf\":{}", NOW + 10)), good);
    let with_audience = lenient(|keys| keys.audience = ["x".into(), "b".into()].into());
    assert_eq!(claims(&with_audience, r#""aud":["a","b"]"#), good);
}

#[test]
fn what_pyjwt_refuses_is_refused() {
    use TokenFault::{
        Algorithm as Alg, Audience, ClaimType, Critical, Expired, IssuedInFuture, Issuer, Malformed,
        MissingClaim, NotYetValid, Signature,
    };
    let keys = lenient(|_| {});
    let audience = lenient(|keys| keys.audience = ["x".into()].into());
    let issuer = lenient(|keys| keys.issuer = Some("acme.com".into()));
    let cases: [(&KeySet, String, TokenFault); 22] = [
        (&keys, format!("\"exp\":{NOW}"), Expired),
        (&keys, r#""exp":"abc""#.into(), ClaimType),
        (&keys, r#""exp":null"#.into(), ClaimType),
        (&keys, r#""exp":[1]"#.into(), ClaimType),
        (&keys, r#""exp":true"#.into(), ClaimType),
        (&keys, r#""exp":1e400"#.into(), Malformed),
        (&keys, r#""exp":Infinity"#.into(), Malformed),
        (&keys, r#""exp":NaN"#.into(), Malformed),
        (&keys, format!("\"nbf\":{}", NOW + 100), NotYetValid),
        (&keys, format!("\"iat\":{}", NOW + 100), IssuedInFuture),
        (&keys, r#""iat":"x""#.into(), ClaimType),
        (&keys, r#""aud":"x""#.into(), Audience),
        (&audience, r#""aud":["x",1]"#.into(), ClaimType),
        (&audience, r#""aud":"y""#.into(), Audience),
        (&audience, String::new(), MissingClaim),
        (&issuer, String::new(), MissingClaim),
        (&issuer, r#""iss":"acme""#.into(), Issuer),
        (&issuer, r#""iss":["acme.com"]"#.into(), ClaimType),
        (&keys, r#""jti":1"#.into(), ClaimType),
        (&fixture::keys(), String::new(), MissingClaim),
        (&fixture::keys(), r#""exp":null"#.into(), MissingClaim),
        (&keys, r#""scope":5"#.into(), ClaimType),
    ];
    for (keys, extra, fault) in cases {
        assert_eq!(claims(keys, &extra), Err(fault), "{extra}");
    }
    let plain = r#"{"sub":"acme"}"#;
    for (header, fault) in [
        (r#"{"alg":"none"}"#, Alg),
        (r#"{"alg":"HS512"}"#, Alg),
        (r#"{"alg":"hs256"}"#, Alg),
        (r#"{"typ":"JWT"}"#, Alg),
        (r#"{"alg":"HS256","kid":1}"#, ClaimType),
        (r#"{"alg":"HS256","kid":null}"#, ClaimType),
        (r#"{"alg":"HS256","crit":["x"]}"#, Critical),
        (r#"{"alg":"HS256","crit":[]}"#, Critical),
        (r#"{"alg":"HS256","b64":false}"#, Critical),
        (r#"[1]"#, Malformed),
        (r#"{"#, Malformed),
    ] {
        assert_eq!(verdict(&keys, &token_of(header, plain)), Err(fault), "{header}");
    }
    let good = token(plain);
    for (bad, fault) in [
        (good.rsplit_once('.').unwrap().0.to_owned(), Malformed),
        (format!("{good}.x"), Malformed),
        (format!("{good}="), Malformed),
        (format!("{good}!"), Malformed),
        (format!("{good}\n"), Malformed),
        (format!(" {good}"), Malformed),
        (good.replacen("ey", "eZ", 1), Malformed),
        (String::new(), Malformed),
        ("..".to_owned(), Malformed),
    ] {
        assert_eq!(verdict(&keys, &bad), Err(fault), "{bad:?}");
    }
    let (signed, _) = good.rsplit_once('.').unwrap();
    assert_eq!(verdict(&keys, &format!("{signed}.{}", BASE64.encode([0; 32]))), Err(Signature));
    assert_eq!(verdict(&keys, &format!("{signed}.")), Err(Signature));
    for payload in ["[1]", "{"] {
        assert_eq!(verdict(&keys, &token(payload)), Err(Malformed));
    }
}

#[test]
fn stricter_than_pyjwt() {
    let keys = lenient(|_| {});
    for (extra, fault) in [
        (format!("\"exp\":\"{}\"", NOW + 100), TokenFault::ClaimType),
        (r#""exp":18446744073709551621"#.into(), TokenFault::ClaimType),
        (r#""exp":-5"#.into(), TokenFault::ClaimType),
        (r#""nbf":null"#.into(), TokenFault::ClaimType),
        (r#""sub":"acme""#.into(), TokenFault::DuplicateName),
        (r#""\u0073ub":"acme""#.into(), TokenFault::DuplicateName),
    ] {
        assert_eq!(claims(&keys, &extra), Err(fault), "{extra}");
    }
    // Four bits too many in the last character: the same bytes to a lax reader, another token to us.
    let good = token(r#"{"sub":"acme"}"#);
    let spare = format!("{}{}", &good[..good.len() - 1], if good.ends_with('A') { 'B' } else { 'A' });
    assert!(verdict(&keys, &spare).is_err());
}

#[test]
fn consumers_that_are_none() {
    let keys = lenient(|_| {});
    for sub in [r#""""#, r#""a\r\nX-Admin: 1""#, r#""a\u0000""#, r#"" a""#, r#""a\u0085""#] {
        assert_eq!(
            verdict(&keys, &token(&format!(r#"{{"sub":{sub}}}"#))),
            Err(TokenFault::Consumer),
            "{sub}"
        );
    }
    let long = format!(r#"{{"sub":"{}"}}"#, "x".repeat(257));
    assert_eq!(verdict(&keys, &token(&long)), Err(TokenFault::Consumer));
    assert_eq!(verdict(&keys, &token(r#"{"sub":1}"#)), Err(TokenFault::ClaimType));
    assert_eq!(verdict(&keys, &token("{}")), Err(TokenFault::MissingClaim));
    let by_client = lenient(|keys| keys.consumer_claim = "client_id".into());
    assert_eq!(verdict(&by_client, &token(r#"{"sub":"a","client_id":"b"}"#)), Ok("b".into()));
}

#[test]
fn keys_are_chosen_by_kid_and_bound_to_their_algorithm() {
    let other = [7; 64];
    let keys = lenient(|keys| {
        keys.keys = [
            Key::secret(Some("old"), Algorithm::Hs256, SECRET).unwrap(),
            Key::secret(Some("new"), Algorithm::Hs512, &other).unwrap(),
        ]
        .into();
    });
    let by = |key: &Key, header: &str| {
        let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(r#"{"sub":"acme"}"#));
        verdict(&keys, &format!("{signed}.{}", BASE64.encode(key.sign(signed.as_bytes()).expect("a secret"))))
    };
    let [old, new] = &*keys.keys else { panic!("two keys") };
    assert!(by(old, r#"{"alg":"HS256","kid":"old"}"#).is_ok());
    assert!(by(new, r#"{"alg":"HS512","kid":"new"}"#).is_ok());
    assert!(by(old, r#"{"alg":"HS256"}"#).is_ok());
    assert!(by(new, r#"{"alg":"HS512"}"#).is_ok());
    assert_eq!(by(old, r#"{"alg":"HS256","kid":"new"}"#), Err(TokenFault::Algorithm));
    assert_eq!(by(new, r#"{"alg":"HS512","kid":"gone"}"#), Err(TokenFault::UnknownKey));
    let weak = Key::secret(None, Algorithm::Hs256, &other).unwrap();
    assert_eq!(by(&weak, r#"{"alg":"HS256","kid":"new"}"#), Err(TokenFault::Algorithm));
    assert!(Key::secret(None, Algorithm::Hs512, &[0; 63]).is_err());
    assert!(!format!("{keys:?}").contains("[7, 7"));
}

#[test]
fn scopes_in_every_spelling() {
    let keys = lenient(|_| {});
    let scopes = |extra: &str| {
        let token = token(&format!(r#"{{"sub":"a",{extra}}}"#));
        verify(token.as_bytes(), &keys, NOW).unwrap()
    };
    let required: [Box<str>; 2] = ["pay:read".into(), "pay:write".into()];
    for good in [
        r#""scope":"pay:write x pay:read""#,
        r#""scp":["pay:read","pay:write"]"#,
        r#""scp":"pay:read pay:write""#,
    ] {
        assert!(permits(&scopes(good), &required).is_ok(), "{good}");
    }
    for bad in [r#""scope":"pay:read pay:writer""#, r#""scope":"""#, r#""scp":[]"#, r#""x":1"#] {
        let refusal = permits(&scopes(bad), &required).unwrap_err();
        assert_eq!(refusal.code, Code::ScopeInsufficient, "{bad}");
    }
}

fn authenticate_at(
    cache: &mut TokenCache,
    meters: &TokenMeters,
    value: &str,
    now_s: i64,
) -> Result<(), Refusal> {
    let now = Moment { monotonic_us: 0, unix_us: now_s.unsigned_abs() * 1_000_000 };
    let authorization =
        if value.is_empty() { Authorization::Absent } else { Authorization::One(value.as_bytes()) };
    authenticate(&fixture::keys(), cache, meters, authorization, now).map(drop)
}

#[test]
fn a_remembered_token_still_expires() {
    let (mut cache, meters) = (TokenCache::new(16), TokenMeters::default());
    let value = format!("bearer {}", token(&format!(r#"{{"sub":"a","exp":{}}}"#, NOW + 10)));
    assert!(authenticate_at(&mut cache, &meters, &value, NOW).is_ok());
    assert!(authenticate_at(&mut cache, &meters, &value, NOW + 9).is_ok());
    assert_eq!((meters.verified.get(), meters.remembered.get()), (1, 1));
    let refusal = authenticate_at(&mut cache, &meters, &value, NOW + 10).unwrap_err();
    assert_eq!((refusal.code, refusal.reason), (Code::TokenInvalid, "expired"));
}

#[test]
fn missing_tokens() {
    let (mut cache, meters) = (TokenCache::new(0), TokenMeters::default());
    for value in ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Bearerx"] {
        assert_eq!(authenticate_at(&mut cache, &meters, value, NOW).unwrap_err().code, Code::TokenMissing);
    }
    assert_eq!(authenticate_at(&mut cache, &meters, "Bearer x", NOW).unwrap_err().code, Code::TokenInvalid);
    assert_eq!((meters.missing.get(), meters.refused.get()), (5, 1));
}

#[test]
fn the_cache_is_bounded() {
    let (mut cache, meters) = (TokenCache::new(8), TokenMeters::default());
    for number in 0..100 {
        let value = format!("Bearer {}", token(&format!(r#"{{"sub":"c{number}","exp":{}}}"#, NOW + 10)));
        assert!(authenticate_at(&mut cache, &meters, &value, NOW).is_ok());
        assert!(authenticate_at(&mut cache, &meters, &value, NOW).is_ok());
    }
    assert_eq!((meters.verified.get(), meters.remembered.get()), (100, 100));
}

proptest! {
    /// Whatever stands in the claims, the answer is a verdict.
    #[test]
    fn any_claims_have_a_verdict(value in prop::collection::vec(any::<u8>(), 0..60), numbers: [i64; 3]) {
        let keys = fixture::keys();
        let payload = String::from_utf8_lossy(&value).into_owned();
        let _ = verdict(&keys, &token(&payload));
        let _ = verdict(&keys, &payload);
        for number in numbers {
            let exp = claims(&keys, &format!(r#""exp":{number}"#));
            let good = (NOW + 1..253_402_300_800).contains(&number);
            prop_assert_eq!(exp.is_ok(), good);
        }
    }

    /// No single byte of a good token can be changed without its being refused.
    #[test]
    fn a_changed_token_is_refused(at in any::<prop::sample::Index>(), byte: u8) {
        let keys = lenient(|_| {});
        let mut token = token(r#"{"sub":"acme","scope":"a"}"#).into_bytes();
        let at = at.index(token.len());
        prop_assume!(token[at] != byte);
        token[at] = byte;
        prop_assert!(verify(&token, &keys, NOW).is_err());
    }
}
