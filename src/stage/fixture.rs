//! Small worlds for the tests of this room and of those above.

use std::sync::Arc;

use siphasher::sip128::SipHasher13;

use crate::shared::{
    key_table::KeyTable,
    load::Load,
    meters::PerShard,
    spares::Spares,
    standing::{Standing, UNBOUNDED, WEIGHT_UNIT},
};

use super::{
    auth::{Algorithm, ApiKeys, Key, KeySet},
    balance::{Balance, Care, Cluster, Ejection, Endpoint, Faults, LoadReport, Trip},
    client::TrustedProxies,
    consumer::Consumers,
    headroom::{Ceilings, Priority},
    limit::{By, Exempt, Limit, Mode, Quota, Refund},
    retry::{Allowance, Policy},
    route::{Methods, Route, RouteTable},
    snapshot::{Snapshot, Timeouts},
};

pub(crate) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

pub(crate) fn route(path: &str, index: u16) -> Route {
    Route {
        name: format!("route-{index}").into(),
        index,
        host: None,
        path: path.into(),
        methods: Methods::Any,
        keys: None,
        api_keys: false,
        forward_api_key: false,
        scopes: Box::default(),
        roles: Box::default(),
        limits: Box::default(),
        cost: 1,
        refund: Refund::Never,
        places: None,
        cluster: 0,
        destinations: None,
        timeout_ms: u64::MAX,
        retry: Policy::USUAL,
        hedge_after_ms: None,
        priority: Priority::Normal,
        body_bytes_max: 1_000,
        is_audited: false,
        version: Box::default(),
        membership: None,
        objective: None,
        meters: Arc::new(PerShard::new(1)),
    }
}

pub(crate) fn limit(by: By, quota: &str) -> Limit {
    let quota = Quota::parse(quota).unwrap();
    let table = Arc::new(KeyTable::new(quota.windows(), 64));
    Limit { by, quota, table, mode: Mode::Enforce, exempt: Exempt::default(), overrides: Box::default() }
}

pub(crate) fn keys() -> KeySet {
    KeySet {
        name: "partners".into(),
        index: 0,
        issuer: None,
        audience: Box::default(),
        leeway_s: 0,
        require: ["exp".into(), "sub".into()].into(),
        consumer_claim: "sub".into(),
        roles_claim: None,
        keys: [Key::secret(None, Algorithm::Hs256, SECRET).unwrap()].into(),
        issued: None,
        hasher: SipHasher13::new(),
    }
}

pub(crate) fn cluster(weights: &[u32]) -> Cluster {
    let endpoints = weights.iter().enumerate().map(|(index, &weight)| Endpoint {
        address: ([127, 0, 0, 1], 9_001 + u16::try_from(index).unwrap()).into(),
        name: format!("127.0.0.1:{}", 9_001 + index).into(),
        host: None,
        index: u16::try_from(index).unwrap(),
        slot: index,
        weight,
        in_flight_max: UNBOUNDED,
        identity: index as u64,
        spares: Arc::new(Spares::new(16)),
        load: Arc::new(Load::new()),
        standing: Arc::new(Standing::new(weight * WEIGHT_UNIT, UNBOUNDED)),
        meters: Arc::new(PerShard::new(1)),
    });
    Cluster {
        name: "payments".into(),
        index: 0,
        balance: Balance::LeastConnections,
        trip: Trip { failures: 5, faults: Faults::Gateway },
        care: Care {
            ejection: Ejection { margin_percent: 0, time_ms: 10_000, share_percent: 50 },
            slow_start_ms: 0,
            panic_percent: 10,
            probe: None,
            load_report: LoadReport::None,
            fuse: None,
        },
        queue: None,
        connect_timeout_ms: 1_000,
        response_timeout_ms: 15_000,
        idle_timeout_ms: 4_000,
        age_max_ms: 600_000,
        idle_max: 16,
        retries: Allowance { percent: 20, floor_milli: 10_000 },
        budgets: Arc::new(PerShard::new(1)),
        endpoints: endpoints.collect(),
        meters: Arc::new(PerShard::new(1)),
    }
}

pub(crate) fn snapshot(routes: Vec<Route>) -> Snapshot {
    Snapshot {
        generation: 1,
        routes: RouteTable::new(routes).into(),
        key_sets: [keys()].into(),
        consumers: Consumers::new(Vec::new(), ApiKeys::new(Vec::new(), SipHasher13::new())).into(),
        clusters: [cluster(&[1, 1])].into(),
        departed: Arc::default(),
        apis: Arc::default(),
        slots: 2,
        trusted_proxies: TrustedProxies::default(),
        hasher: SipHasher13::new(),
        timeouts: Timeouts {
            head_ms: 10_000,
            body_ms: 30_000,
            idle_ms: 60_000,
            queue_ms: 200,
            body_rate_min: 1024,
        },
        ceilings: Ceilings { in_flight: 100, critical_percent: 10 },
        keepalive_requests: 1_000,
        fields_max: 100,
        logs_agents: false,
        listed: Default::default(),
        is_fine: false,
        log_sample_percent: 100,
        timed_percent: 1,
    }
}
