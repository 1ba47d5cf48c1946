//! The decisions as a whole: each refusal at its step, and nothing charged by a request that is refused.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use proptest::prelude::*;

use super::{
    auth::{Algorithm, Key},
    limit::{By, Limit},
    *,
};
use crate::{
    http::{field::Storage, head, target},
    shared::record::Delivery,
    stage::{
        fixture::{SECRET, limit, route, snapshot},
        route::Methods,
        settle::{Outcome, settle},
        termination::Termination,
    },
};

fn token(sub: &str, scope: &str) -> String {
    let key = Key::secret(None, Algorithm::Hs256, SECRET).unwrap();
    let payload = format!(r#"{{"sub":"{sub}","scope":"{scope}","exp":2000000000}}"#);
    let signed = format!("{}.{}", BASE64.encode(r#"{"alg":"HS256"}"#), BASE64.encode(payload));
    format!("{signed}.{}", BASE64.encode(key.sign(signed.as_bytes()).expect("a secret")))
}

struct World {
    snapshot: Snapshot,
    desk: Desk,
    meters: TokenMeters,
    headroom: Headroom,
    /// What the machine's wall clock shows, microseconds.
    unix_us: u64,
}

impl World {
    fn new(limits: Vec<Limit>) -> Self {
        let mut pay = route("/pay", 0);
        pay.keys = Some(0);
        pay.scopes = ["pay".into()].into();
        pay.methods = Methods::These(["POST".into()].into());
        pay.limits = limits.into();
        let mut open = route("/open", 1);
        open.limits = [limit(By::Header("X-Key".into()), "1/second")].into();
        Self {
            snapshot: snapshot(vec![pay, open]),
            desk: Desk::new(64, fastrand::Rng::with_seed(7)),
            meters: TokenMeters::default(),
            headroom: Headroom::IDLE,
            unix_us: 1_795_000_000_000_000,
        }
    }

    /// The code a request is refused with, or the endpoint it goes to.
    fn ask(&mut self, line: &str, fields: &str, now_us: u64) -> Result<u16, Refusal> {
        let text = format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let (mut storage, mut scratch) = (Storage::new(), Vec::new());
        let head = head::parse(text.as_bytes(), 100, &mut storage).unwrap();
        let target = target::parse(head.method, head.target, &mut scratch).unwrap();
        let client_ip = [192, 0, 2, 1].into();
        let request = Request { head: &head, target: &target, client_ip, headroom: self.headroom };
        let mut facts = Facts::default();
        let now = Moment { monotonic_us: now_us, unix_us: self.unix_us };
        decide(&self.snapshot, &mut self.desk, &self.meters, &request, &mut facts, now)
            .map(|permit| permit.endpoint().index)
    }

    fn code(&mut self, line: &str, fields: &str) -> Code {
        self.ask(line, fields, 0).unwrap_err().code
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[test]
fn each_step_refuses_in_its_order() {
    let mut world = World::new(vec![limit(By::Consumer, "1/second")]);
    let good = bearer(&token("acme", "pay"));
    assert_eq!(world.code("GET /nowhere", ""), Code::RouteNotFound);
    assert_eq!(world.code("GET /pay", ""), Code::MethodNotAllowed);
    assert_eq!(world.code("POST /pay", ""), Code::TokenMissing);
    assert_eq!(world.code("POST /pay", &bearer("x.y.z")), Code::TokenInvalid);
    assert_eq!(world.code("POST /pay", &format!("{good}{good}")), Code::TokenInvalid);
    assert_eq!(world.code("POST /pay", &bearer(&token("acme", "read"))), Code::ScopeInsufficient);
    assert_eq!(world.code("POST /pay", &format!("{good}Content-Length: 1001\r\n")), Code::BodyTooLarge);
    assert_eq!(world.code("GET /open", ""), Code::LimitKeyMissing);
    assert_eq!(world.code("GET /open", "X-Key:\r\n"), Code::LimitKeyMissing);
    assert_eq!(world.code("GET /open", "X-Key: a\r\nX-Key: b\r\n"), Code::LimitKeyMissing);
    assert!(world.ask("POST /pay", &good, 0).is_ok());
    let refusal = world.ask("POST /pay", &good, 0).unwrap_err();
    assert_eq!((refusal.code, refusal.retry_after_s), (Code::QuotaExceeded, 1));
    assert!(world.ask("POST /pay", &bearer(&token("other", "pay")), 0).is_ok());
    assert!(world.ask("POST /pay", &good, 1_000_000).is_ok());
}

#[test]
fn a_refused_request_charges_nothing() {
    let mut world = World::new(vec![
        limit(By::Consumer, "5/second;6/minute"),
        limit(By::Ip, "7/hour"),
        limit(By::Route, "9/day"),
    ]);
    let good = bearer(&token("acme", "pay"));
    for _ in 0..5 {
        assert!(world.ask("POST /pay", &good, 0).is_ok());
    }
    for _ in 0..100 {
        assert_eq!(world.ask("POST /pay", &good, 0).unwrap_err().retry_after_s, 1);
    }
    // Had the refused ones been charged, the minute would be used up by now.
    assert!(world.ask("POST /pay", &good, 1_000_000).is_ok());
    assert_eq!(world.ask("POST /pay", &good, 1_000_000).unwrap_err().retry_after_s, 59);
    // Another consumer from the same address: the hour has one left, the day three.
    assert!(world.ask("POST /pay", &bearer(&token("b", "pay")), 2_000_000).is_ok());
    let refusal = world.ask("POST /pay", &bearer(&token("c", "pay")), 3_000_000).unwrap_err();
    assert_eq!(refusal.retry_after_s, 3_597);
}

/// A wall clock that is set back or forward: tokens follow it, for it is what they are dated by; quotas do not.
#[test]
fn a_wall_clock_that_steps_moves_tokens_and_no_quota() {
    let hour_us = 3_600_000_000;
    for step_us in [-20 * hour_us, -hour_us, hour_us, 20 * hour_us] {
        let mut world = World::new(vec![limit(By::Consumer, "2/minute")]);
        let good = bearer(&token("acme", "pay"));
        world.ask("POST /pay", &good, 0).unwrap();
        world.ask("POST /pay", &good, 1_000_000).unwrap();
        world.unix_us = world.unix_us.strict_add_signed(step_us);
        let refusal = world.ask("POST /pay", &good, 59_999_999).unwrap_err();
        assert_eq!(refusal.code, Code::QuotaExceeded, "the step opens no window");
        assert!(world.ask("POST /pay", &good, 60_000_000).is_ok(), "nor keeps one shut");
    }
    let mut world = World::new(Vec::new());
    let good = bearer(&token("acme", "pay"));
    world.unix_us = 2_000_000_001_000_000;
    assert_eq!(world.code("POST /pay", &good), Code::TokenInvalid);
    world.unix_us -= 2_000_000;
    assert!(world.ask("POST /pay", &good, 0).is_ok());
}

#[test]
fn the_answer_says_where_the_limits_stand() {
    let mut world = World::new(vec![limit(By::Consumer, "2/second;10/minute")]);
    let good = bearer(&token("acme", "pay"));
    for _ in 0..3 {
        let _ = world.ask("POST /pay", &good, 5_000_000);
    }
    let pool = crate::base::block::BlockPool::new(1_024, 1);
    let mut out = pool.rent().unwrap();
    world.desk.standings.encode(&mut out).unwrap();
    assert_eq!(
        std::str::from_utf8(out.unread()).unwrap(),
        "RateLimit-Policy: \"consumer-60s\";q=10;w=60, \"consumer-1s\";q=2;w=1\r\n\
         RateLimit: \"consumer-60s\";r=8;t=60, \"consumer-1s\";r=0;t=1\r\n"
    );
}

#[test]
fn outcomes_are_counted_once() {
    let mut world = World::new(vec![limit(By::Consumer, "1/second")]);
    let shard = crate::shared::meters::ShardMeters::default();
    let route = world.snapshot.routes.find(None, b"/pay", "POST").unwrap();
    let mut outcome = Outcome {
        status: 200,
        refusal: None,
        reason: "",
        termination: Termination::Complete,
        endpoint: Some((&world.snapshot.clusters[0], 1)),
        attempts: 1,
        delivery: Delivery::Answered,
        upstream_us: 300,
    };
    settle(0, &shard, Some(route), &outcome, 450);
    outcome.status = 429;
    outcome.refusal = Some(Refusal::quota("quota", 1));
    outcome.endpoint = None;
    settle(0, &shard, Some(route), &outcome, 20);
    settle(0, &shard, None, &outcome, 20);
    let meters = route.meters.of(0);
    assert_eq!((meters.answers[2].get(), meters.answers[4].get()), (1, 1));
    assert_eq!((meters.admitted.get(), meters.limited.get()), (1, 1));
    assert_eq!(shard.refusals[Code::QuotaExceeded as usize].get(), 2);
    assert_eq!(shard.unrouted[4].get(), 1);
    world.desk.tokens.clear();
}

proptest! {
    /// Over any schedule of several consumers: no window of any limit ever holds more than its count, and
    /// what is refused could not have been admitted.
    #[test]
    fn all_limits_hold_together(
        schedule in prop::collection::vec((0_usize..3, 0_u64..400_000), 1..200),
    ) {
        let mut world =
            World::new(vec![limit(By::Consumer, "3/second;5/3 seconds"), limit(By::Route, "4/second")]);
        let tokens: Vec<String> = ["a", "b", "c"].iter().map(|sub| bearer(&token(sub, "pay"))).collect();
        let mut admitted: Vec<(usize, u64)> = Vec::new();
        let mut now = 0;
        for (who, gap) in schedule {
            now += gap;
            let in_window = |who: Option<usize>, length: u64| {
                admitted.iter().filter(|&&(w, t)| who.is_none_or(|who| who == w) && t + length > now).count()
            };
            let room = in_window(Some(who), 1_000_000) < 3
                && in_window(Some(who), 3_000_000) < 5
                && in_window(None, 1_000_000) < 4;
            let verdict = world.ask("POST /pay", &tokens[who], now);
            prop_assert_eq!(verdict.is_ok(), room, "at {}", now);
            if room {
                admitted.push((who, now));
            }
        }
    }
}
