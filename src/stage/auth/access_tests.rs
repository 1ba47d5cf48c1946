//! API keys and permissions: what is refused, what is let through, and that a credential more never lets
//! more through.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use proptest::prelude::*;
use ring::digest::{SHA256, digest};
use siphasher::sip128::SipHasher13;

use super::*;
use crate::{
    http::{field::Storage, head, target},
    shared::revoked::{Entries, FOREVER, Fingerprints, Mark, Revoked, RevokedCell, Table},
    stage::{
        Desk, Facts, Request,
        consumer::{Consumer, Consumers, Grant},
        decide,
        fixture::{SECRET, keys, route, snapshot},
        headroom::Headroom,
        route::Methods,
        snapshot::Snapshot,
    },
};

const NOW_S: i64 = 1_795_000_000;

fn boxed(words: &[&str]) -> Box<[Box<str>]> {
    words.iter().map(|&word| word.into()).collect()
}

fn api_key(text: &str, consumer: &str, scopes: &[&str], roles: &[&str]) -> ApiKey {
    let holder = Verified {
        consumer: consumer.into(),
        consumer_hash: SipHasher13::new().hash(consumer.as_bytes()).h1,
        scopes: boxed(scopes),
        roles: boxed(roles),
        sub: Some(consumer.into()),
        ..Verified::default()
    };
    ApiKey { digest: digest(&SHA256, text.as_bytes()).as_ref().try_into().unwrap(), holder }
}

fn consumer(id: &str, allow: Option<Vec<Grant>>) -> Consumer {
    Consumer { id: id.into(), allow: allow.map(Into::into), places: None }
}

fn methods(names: &[&str]) -> Methods {
    Methods::These(boxed(names))
}

/// Routes `/jwt`, `/key`, `/either`, `/open`, each but the last with the same scopes and roles.
fn world(scopes: &[&str], roles: &[&str], consumers: Vec<Consumer>, api_keys: Vec<ApiKey>) -> Snapshot {
    let routes = ["/jwt", "/key", "/either", "/open"].iter().zip(0..).map(|(path, index)| {
        let mut route = route(path, index);
        route.keys = matches!(*path, "/jwt" | "/either").then_some(0);
        route.api_keys = matches!(*path, "/key" | "/either");
        if *path != "/open" {
            (route.scopes, route.roles) = (boxed(scopes), boxed(roles));
        }
        route
    });
    let mut keys = keys();
    keys.roles_claim = Some("realm_access.roles".into());
    Snapshot {
        key_sets: [keys].into(),
        consumers: Consumers::new(consumers, ApiKeys::new(api_keys, SipHasher13::new())).into(),
        ..snapshot(routes.collect())
    }
}

fn token_of(payload: &str) -> String {
    let key = Key::secret(None, Algorithm::Hs256, SECRET).unwrap();
    let signed = format!("{}.{}", BASE64.encode(r#"{"alg":"HS256"}"#), BASE64.encode(payload));
    format!("{signed}.{}", BASE64.encode(key.sign(signed.as_bytes()).unwrap()))
}

fn bearer_of(sub: &str, scope: &str, roles: &str) -> String {
    let payload =
        format!(r#"{{"sub":"{sub}","exp":2000000000,"scope":"{scope}","realm_access":{{"roles":{roles}}}}}"#);
    format!("Authorization: Bearer {}\r\n", token_of(&payload))
}

/// The verdict on a request: who is calling, or the code and the reason.
fn ask(snapshot: &Snapshot, line: &str, fields: &str) -> Result<Option<String>, (Code, &'static str)> {
    ask_at(&mut Desk::new(64, fastrand::Rng::with_seed(7)), snapshot, line, fields)
}

fn ask_at(
    desk: &mut Desk,
    snapshot: &Snapshot,
    line: &str,
    fields: &str,
) -> Result<Option<String>, (Code, &'static str)> {
    let text = format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let (mut storage, mut scratch) = (Storage::new(), Vec::new());
    let head = head::parse(text.as_bytes(), 100, &mut storage).unwrap();
    let target = target::parse(head.method, head.target, &mut scratch).unwrap();
    let request =
        Request { head: &head, target: &target, client_ip: [192, 0, 2, 1].into(), headroom: Headroom::IDLE };
    let (meters, mut facts) = (TokenMeters::default(), Facts::default());
    let now = Moment { monotonic_us: 0, unix_us: u64::try_from(NOW_S).unwrap() * 1_000_000 };
    match decide(snapshot, desk, &meters, &request, &mut facts, now) {
        Ok(_) => Ok(facts.caller.map(|caller| caller.consumer.to_string())),
        Err(refusal) => Err((refusal.code, refusal.reason)),
    }
}

fn code(snapshot: &Snapshot, line: &str, fields: &str) -> Code {
    ask(snapshot, line, fields).unwrap_err().0
}

#[test]
fn a_key_stands_for_its_consumer() {
    let mut expired = api_key("old", "acme", &[], &[]);
    expired.holder.expires_s = Some(NOW_S);
    let mut lasting = api_key("lasting", "acme", &[], &[]);
    lasting.holder.expires_s = Some(NOW_S + 1);
    let world = world(
        &[],
        &[],
        Vec::new(),
        vec![api_key("first", "acme", &[], &[]), api_key("second", "büro", &[], &[]), expired, lasting],
    );
    for (presented, consumer) in [("first", "acme"), ("second", "büro"), ("lasting", "acme")] {
        let verdict = ask(&world, "GET /key", &format!("X-API-KEY: {presented}\r\n"));
        assert_eq!(verdict, Ok(Some(consumer.to_owned())));
    }
    for presented in ["First", "firs", "firstt", "first second", "first,second", "\u{e9}", &"a".repeat(256)] {
        let verdict = ask(&world, "GET /key", &format!("X-Api-Key: {presented}\r\n"));
        assert_eq!(verdict, Err((Code::ApiKeyInvalid, "no such API key")), "{presented}");
    }
    let invalid = |fields: &str| ask(&world, "GET /key", fields);
    let too_long = format!("X-Api-Key: {}\r\n", "a".repeat(257));
    assert_eq!(invalid(&too_long), Err((Code::ApiKeyInvalid, "API key too long")));
    assert_eq!(invalid("X-Api-Key: old\r\n"), Err((Code::ApiKeyInvalid, "API key expired")));
    for twice in [
        "X-Api-Key: first\r\nX-Api-Key: first\r\n",
        "X-Api-Key: first\r\nx-api-key: second\r\n",
        "X-Api-Key: first\r\nX-Api-Key:\r\n",
    ] {
        assert_eq!(invalid(twice), Err((Code::ApiKeyInvalid, "several X-Api-Key fields")), "{twice:?}");
    }
    for none in ["", "X-Api-Key:\r\n", "X-Api-Key:  \r\n", "X_Api_Key: first\r\n", "Api-Key: first\r\n"] {
        assert_eq!(invalid(none), Err((Code::ApiKeyMissing, "no API key")), "{none:?}");
    }
}

/// What the configuration no longer lists is no key, whatever was accepted before.
#[test]
fn the_key_of_a_removed_consumer_opens_nothing() {
    let before = world(&[], &[], Vec::new(), vec![api_key("k", "acme", &[], &[])]);
    assert!(ask(&before, "GET /key", "X-Api-Key: k\r\n").is_ok());
    let after = world(&[], &[], Vec::new(), Vec::new());
    assert_eq!(code(&after, "GET /key", "X-Api-Key: k\r\n"), Code::ApiKeyInvalid);
}

#[test]
fn each_route_takes_its_kinds_only() {
    let world = world(&[], &[], Vec::new(), vec![api_key("k", "acme", &[], &[])]);
    let token = bearer_of("acme", "", "[]");
    let key = "X-Api-Key: k\r\n";
    assert_eq!(code(&world, "GET /jwt", key), Code::TokenMissing);
    assert_eq!(code(&world, "GET /key", &token), Code::ApiKeyMissing);
    assert!(ask(&world, "GET /jwt", &format!("{token}X-Api-Key: wrong\r\n")).is_ok());
    assert!(ask(&world, "GET /key", &format!("Authorization: Bearer x.y.z\r\n{key}")).is_ok());
    assert_eq!(ask(&world, "GET /open", &format!("{token}{key}")), Ok(None));
    assert!(ask(&world, "GET /either", &token).is_ok() && ask(&world, "GET /either", key).is_ok());
    assert!(ask(&world, "GET /either", &format!("Authorization: Basic YTpi\r\n{key}")).is_ok());
    assert_eq!(code(&world, "GET /either", ""), Code::TokenMissing);
    assert_eq!(code(&world, "GET /either", "Authorization: Basic YTpi\r\n"), Code::TokenMissing);
}

#[test]
fn two_credentials_must_both_be_good_and_agree() {
    let keys = vec![api_key("k", "acme", &["pay"], &[]), api_key("other", "other", &["pay"], &[])];
    let world = world(&["pay"], &[], Vec::new(), keys);
    let both = |token: &str, key: &str| ask(&world, "GET /either", &format!("{token}X-Api-Key: {key}\r\n"));
    let good = bearer_of("acme", "pay", "[]");
    assert_eq!(both(&good, "k"), Ok(Some("acme".to_owned())));
    assert_eq!(both(&good, "other").unwrap_err().0, Code::CredentialsConflict);
    assert_eq!(both(&good, "wrong").unwrap_err().0, Code::ApiKeyInvalid);
    assert_eq!(both(&format!("{good}{good}"), "k").unwrap_err().0, Code::TokenInvalid);
    assert_eq!(both("Authorization: Bearer x.y.z\r\n", "k").unwrap_err().0, Code::TokenInvalid);
    assert_eq!(both(&bearer_of("acme", "", "[]"), "k").unwrap_err().0, Code::ScopeInsufficient);
}

#[test]
fn one_role_of_several_is_enough() {
    let keys = vec![api_key("admin", "a", &[], &["admin"]), api_key("none", "a", &[], &[])];
    let world = world(&[], &["admin", "owner"], Vec::new(), keys);
    let with = |roles: &str| ask(&world, "GET /jwt", &bearer_of("acme", "", roles)).map_err(|(code, _)| code);
    for roles in [r#"["owner"]"#, r#"["x","admin"]"#, r#""admin""#] {
        assert!(with(roles).is_ok(), "{roles}");
    }
    for roles in ["[]", "null", r#"["Admin"]"#, r#""not admin""#, r#""admin owner""#, r#"["administrator"]"#]
    {
        assert_eq!(with(roles), Err(Code::RoleMissing), "{roles}");
    }
    for roles in ["7", "true", r#"{"admin":true}"#, r#"["admin",7]"#, r#"[["admin"]]"#] {
        assert_eq!(with(roles), Err(Code::TokenInvalid), "{roles}");
    }
    assert!(ask(&world, "GET /key", "X-Api-Key: admin\r\n").is_ok());
    assert_eq!(code(&world, "GET /key", "X-Api-Key: none\r\n"), Code::RoleMissing);
}

#[test]
fn a_claim_of_the_whole_name_goes_before_the_way_through_objects() {
    let mut keys = keys();
    let roles = |keys: &KeySet, payload: &str| {
        let token = token_of(&format!(r#"{{"sub":"a","exp":2000000000,{payload}}}"#));
        verify(token.as_bytes(), keys, NOW_S).map(|verified| verified.roles.join(" "))
    };
    keys.roles_claim = Some("https://acme.example/roles".into());
    assert_eq!(roles(&keys, r#""https://acme.example/roles":["admin"]"#), Ok("admin".to_owned()));
    keys.roles_claim = Some("a.b.c".into());
    assert_eq!(roles(&keys, r#""a":{"b":{"c":"deep"}}"#), Ok("deep".to_owned()));
    assert_eq!(roles(&keys, r#""a":{"b":{"c":"deep"}},"a.b.c":"flat""#), Ok("flat".to_owned()));
    assert_eq!(roles(&keys, r#""a":{"b":"c"}"#), Ok(String::new()));
    keys.roles_claim = None;
    assert_eq!(roles(&keys, r#""roles":7"#), Ok(String::new()));
}

#[test]
fn a_listed_consumer_goes_where_its_list_says() {
    let grants = vec![
        Grant { routes: Some([0].into()), methods: methods(&["GET"]) },
        Grant { routes: Some([2].into()), methods: Methods::Any },
    ];
    let world = world(
        &[],
        &[],
        vec![consumer("listed", Some(grants)), consumer("free", None), consumer("shut", Some(Vec::new()))],
        vec![api_key("k", "listed", &[], &[])],
    );
    let ask = |line: &str, sub: &str| {
        let fields = format!("{}X-Api-Key: k\r\n", bearer_of(sub, "", "[]"));
        let fields = if line.ends_with("/key") { "X-Api-Key: k\r\n".to_owned() } else { fields };
        ask(&world, line, &fields).map_err(|(_, reason)| reason)
    };
    assert!(ask("GET /jwt", "listed").is_ok() && ask("HEAD /jwt", "listed").is_ok());
    assert_eq!(ask("POST /jwt", "listed"), Err("consumer not allowed with method"));
    assert!(ask("DELETE /either", "listed").is_ok());
    assert_eq!(ask("GET /key", "listed"), Err("consumer not allowed on route"));
    assert!(ask("POST /jwt", "free").is_ok() && ask("POST /jwt", "stranger").is_ok());
    assert_eq!(ask("GET /jwt", "shut"), Err("consumer not allowed on route"));
    assert!(ask("GET /open", "shut").is_ok(), "a public route asks nobody who they are");
}

/// A key is revoked by its name, whatever the token says of who signed it; a token cannot lose its mark.
#[test]
fn a_token_bears_the_name_of_the_key_that_signed_it() {
    let kid = |key_kid: Option<&str>, header: &str| {
        let mut keys = keys();
        keys.keys = [Key::secret(key_kid, Algorithm::Hs256, SECRET).unwrap()].into();
        let signed =
            format!("{}.{}", BASE64.encode(header), BASE64.encode(r#"{"sub":"a","exp":2000000000}"#));
        let token = format!("{signed}.{}", BASE64.encode(keys.keys[0].sign(signed.as_bytes()).unwrap()));
        verify(token.as_bytes(), &keys, NOW_S).unwrap().kid
    };
    assert_eq!(kid(Some("k1"), r#"{"alg":"HS256","kid":"k1"}"#).as_deref(), Some("k1"));
    assert_eq!(kid(Some("k1"), r#"{"alg":"HS256"}"#).as_deref(), Some("k1"));
    assert_eq!(kid(None, r#"{"alg":"HS256","kid":"other"}"#).as_deref(), Some("other"));
    assert_eq!(kid(None, r#"{"alg":"HS256"}"#), None);
}

/// Each mark takes back what bears it and nothing else, on each route, with one desk that remembers tokens.
#[test]
fn what_is_revoked_is_refused_from_the_next_request_on() {
    let mut key = api_key("k", "acme", &[], &[]);
    key.holder.kid = Some("acme-1".into());
    let world = world(&[], &[], Vec::new(), vec![key]);
    let token =
        format!("Authorization: Bearer {}\r\n", token_of(r#"{"sub":"acme","jti":"t1","exp":2000000000}"#));
    let fingerprints = Fingerprints::new([7, 11]);
    let cell = RevokedCell::new(Revoked::new(fingerprints, Default::default()));
    let mut desk = Desk::new(64, fastrand::Rng::with_seed(7));
    desk.revoked = cell.reader();
    let mut verdicts = || {
        [("GET /jwt", token.as_str()), ("GET /key", "X-Api-Key: k\r\n")].map(|(line, fields)| {
            ask_at(&mut desk, &world, line, fields).map(drop).map_err(|(_, reason)| reason)
        })
    };
    assert_eq!(verdicts(), [Ok(()), Ok(())]);
    for (mark, value, expected) in [
        (Mark::Jti, "t1", [Err("revoked by jti"), Ok(())]),
        (Mark::Sub, "acme", [Err("revoked by sub"), Err("revoked by sub")]),
        (Mark::Kid, "acme-1", [Ok(()), Err("revoked by kid")]),
        (Mark::Jti, "acme", [Ok(()), Ok(())]),
        (Mark::Kid, "t1", [Ok(()), Ok(())]),
    ] {
        let mut entries = Entries::default();
        entries.push(fingerprints, mark, value, FOREVER);
        cell.publish(Revoked::new(fingerprints, [Arc::default(), Arc::new(Table::new(&entries))]));
        assert_eq!(verdicts(), expected, "{mark:?} {value}");
    }
}

/// What a made-up credential says: consumer, scopes, roles.
fn credential() -> impl Strategy<Value = (usize, Vec<&'static str>, Vec<&'static str>)> {
    let scopes = prop::sample::subsequence(vec!["pay", "read"], 0..=2);
    let roles = prop::sample::subsequence(vec!["admin", "clerk"], 0..=2);
    (0_usize..3, scopes, roles)
}

proptest! {
    /// Whatever a route asks for and whatever two credentials say: together they pass only if each passes
    /// alone, and on no route does a credential that is added turn a refusal into a yes, unless it is the
    /// first of a kind that the route takes.
    #[test]
    fn a_credential_more_never_widens(
        scopes in prop::sample::subsequence(vec!["pay", "read"], 0..=2),
        roles in prop::sample::subsequence(vec!["admin", "clerk"], 0..=2),
        (token_consumer, token_scopes, token_roles) in credential(),
        (key_consumer, key_scopes, key_roles) in credential(),
        shut in 0_usize..4,
        spoilt in 0_usize..4,
    ) {
        let names = ["a", "b", "c"];
        let consumers = names.get(shut).map(|name| consumer(name, Some(Vec::new())));
        let keys = vec![api_key("k", names[key_consumer], &key_scopes, &key_roles)];
        let world = world(&scopes, &roles, consumers.into_iter().collect(), keys);
        let token = match spoilt {
            1 | 3 => "Authorization: Bearer x.y.z\r\n".to_owned(),
            _ => {
                let roles = serde_json::to_string(&token_roles).unwrap();
                bearer_of(names[token_consumer], &token_scopes.join(" "), &roles)
            }
        };
        let key = if spoilt >= 2 { "X-Api-Key: wrong\r\n" } else { "X-Api-Key: k\r\n" };
        let passes = |path: &str, fields: &str| ask(&world, &format!("GET {path}"), fields).is_ok();
        let both = format!("{token}{key}");
        let each = passes("/either", &token) && passes("/either", key);
        prop_assert_eq!(passes("/either", &both), each && token_consumer == key_consumer);
        prop_assert_eq!(passes("/jwt", &both), passes("/jwt", &token));
        prop_assert_eq!(passes("/key", &both), passes("/key", key));
        prop_assert!(!passes("/jwt", key) && !passes("/key", &token));
    }
}
