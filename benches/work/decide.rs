//! Decisions: each of the four, and all of them.

use std::{net::IpAddr, rc::Rc, sync::Arc};

use ring::digest::{SHA256, digest};

use tollgate::{
    base::clock::Moment,
    http::{field::Storage, head, target},
    shared::{
        meters::{ShardMeters, TokenMeters},
        record::Delivery,
        revoked::{Entries, FOREVER, Fingerprints, Mark, Revoked, RevokedCell, Table},
    },
    stage::{
        self, Desk, Facts, Request, auth,
        balance::{self, Wish},
        headroom::Headroom,
        limit,
        route::Route,
        settle::{Outcome, settle},
        snapshot::Snapshot,
        termination::Termination,
    },
};

use super::{payments, payments_and, request, request_to};

/// A request that was read, and a shard to decide on it. What it borrows is leaked: it lives as long as the
/// benchmark, and reading it again each time would be measured too.
pub(crate) struct Decision {
    snapshot: &'static Snapshot,
    token: &'static [u8],
    request: Request<'static>,
    route: &'static Route,
    caller: Rc<auth::Verified>,
    /// Boxed, for the piece is moved in and out while it is counted.
    desk: Box<Desk>,
    meters: TokenMeters,
    /// Boxed for the same reason.
    shard_meters: Box<ShardMeters>,
    now: Moment,
}

impl Decision {
    /// A request with a good token, for a route with scopes and two limits, three windows in all.
    pub(crate) fn new() -> Self {
        let (snapshot, token, now) = payments();
        let bytes = request(&token);
        let mut decision = Self::on(snapshot, token, bytes, now);
        assert!(decision.whole(), "a good request is let through");
        decision
    }

    /// A request with this API key, for a gateway with a thousand consumers, each with a key and a list.
    /// `key-7` is one.
    pub(crate) fn with_key(key: &str) -> Self {
        let mut also = String::from(
            "[[route]]\nname = \"keys\"\npath = \"/keys\"\nauth = \"api-key\"\ncluster = \"payments\"\n",
        );
        for number in 0..1_000 {
            let hash: String = digest(&SHA256, format!("key-{number}").as_bytes())
                .as_ref()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            also += &format!(
                "[[consumer]]\nid = \"c{number}\"\nallow = [{{ routes = [\"keys\"] }}]\n\
                 api_keys = [{{ id = \"{number}\", sha256 = \"{hash}\" }}]\n"
            );
        }
        let (snapshot, token, now) = payments_and(&also);
        let mut decision = Self::on(snapshot, token, request_to("/keys", &format!("X-Api-Key: {key}")), now);
        decision.whole();
        decision
    }

    fn on(snapshot: Snapshot, token: String, bytes: Vec<u8>, now: Moment) -> Self {
        let snapshot: &Snapshot = Box::leak(Box::new(snapshot));
        let bytes = bytes.leak();
        let storage = Box::leak(Box::new(Storage::new()));
        let head = Box::leak(Box::new(head::parse(bytes, 100, storage).expect("the head is good")));
        let target =
            target::parse(head.method, head.target, Box::leak(Box::default())).expect("so is its target");
        let target = Box::leak(Box::new(target));
        let route = snapshot.routes.find(head.host, target.path, head.method).expect("there is such a route");
        let keys = &snapshot.key_sets[0];
        let caller = auth::verify(token.as_bytes(), keys, now.unix_seconds()).expect("the token is good");
        Self {
            snapshot,
            token: token.into_bytes().leak(),
            request: Request {
                head,
                target,
                client_ip: IpAddr::from([127, 0, 0, 1]),
                headroom: Headroom::IDLE,
            },
            route,
            caller: Rc::new(caller),
            desk: Box::new(Desk::new(1_024, fastrand::Rng::with_seed(7))),
            meters: TokenMeters::default(),
            shard_meters: Box::default(),
            now,
        }
    }

    /// The same, on a day when a million tokens and a subject and a key are revoked, none of them this one.
    pub(crate) fn among_a_million_revoked() -> Self {
        let fingerprints = Fingerprints::new([7, 11]);
        let mut entries = Entries::default();
        for number in 0..1_000_000 {
            let jti = format!("0192f3a4-7b1c-7def-8a90-{number:012}");
            entries.push(fingerprints, Mark::Jti, &jti, FOREVER);
        }
        entries.push(fingerprints, Mark::Sub, "mallory", FOREVER);
        entries.push(fingerprints, Mark::Kid, "2025-11", FOREVER);
        let tables = [Arc::new(Table::new(&entries)), Arc::default()];
        let cell = RevokedCell::new(Revoked::new(fingerprints, tables));
        let mut decision = Self::new();
        decision.desk.revoked = cell.reader();
        decision
    }

    /// How much is it to find one route among a hundred?
    pub(crate) fn route(&mut self) -> bool {
        let Request { head, target, .. } = self.request;
        self.snapshot.routes.find(head.host, target.path, head.method).is_ok()
    }

    /// How much is a token that was never seen: decoded, its signature computed, its claims read?
    pub(crate) fn token_first(&mut self) -> bool {
        let Some(keys) = self.snapshot.keys_of(self.route) else { return false };
        auth::verify(self.token, keys, self.now.unix_seconds()).is_ok()
    }

    /// How much is a token that the shard remembers?
    pub(crate) fn token_again(&mut self) -> bool {
        let Some(keys) = self.snapshot.keys_of(self.route) else { return false };
        let authorization = self.request.head.authorization;
        auth::authenticate(keys, &mut self.desk.tokens, &self.meters, authorization, self.now).is_ok()
    }

    /// How much is it to look the three marks of a credential up among a million that are revoked?
    pub(crate) fn revoked(&mut self) -> bool {
        let (revoked, now_s) = (self.desk.revoked.load(), self.now.unix_seconds());
        Mark::ALL.into_iter().all(|mark| !revoked.lists(mark, "0192f3a4-7b1c-7def-8a90-000001234567", now_s))
    }

    /// How much is it to claim three windows of two limits?
    pub(crate) fn quota(&mut self) -> bool {
        self.pass_time();
        let Desk { standings, scratch, .. } = &mut *self.desk;
        limit::admit(
            self.snapshot,
            self.route,
            &self.request,
            Some(&self.caller),
            standings,
            scratch,
            self.now,
        )
        .is_ok()
    }

    /// How much is it to choose among four endpoints, and to give the place back?
    pub(crate) fn balance(&mut self) -> bool {
        let cluster = self.snapshot.cluster_of(self.route);
        balance::pick(cluster, Wish::default(), &mut self.desk.rng).is_ok()
    }

    /// How much is the whole decision on a request that is let through?
    pub(crate) fn whole(&mut self) -> bool {
        self.pass_time();
        let mut facts = Facts::default();
        let request = &self.request;
        stage::decide(self.snapshot, &mut self.desk, &self.meters, request, &mut facts, self.now).is_ok()
    }

    /// How much is it to count what became of it, in the meters of route, cluster, shard and caller?
    pub(crate) fn settle(&mut self) -> bool {
        let outcome = Outcome {
            status: 200,
            refusal: None,
            reason: "",
            termination: Termination::Complete,
            endpoint: Some((self.snapshot.cluster_of(self.route), 0)),
            attempts: 1,
            delivery: Delivery::Answered,
            upstream_us: 900,
        };
        settle(0, &self.shard_meters, Some(self.route), &outcome, 1_000);
        let caller = Some((self.caller.consumer_hash, self.caller.consumer.as_bytes()));
        self.shard_meters.callers.note(caller, outcome.status, 1_800_000_000);
        self.route.objective.is_some()
    }

    /// Time passes, or all would be refused after a million. A hundred thousand requests a second.
    fn pass_time(&mut self) {
        self.now.monotonic_us += 10;
    }
}
