//! What the operator wrote, table by table, each value with its place. Types are checked here; whether the
//! values make sense together is `plan.rs`'s business.

use std::net::SocketAddr;

use toml::de::DeTable;

use super::{
    access::{self, Access},
    admin::{self, Admin},
    api::{self, Api},
    audit::{self, Audit},
    cluster::{self, Cluster},
    consumer::{self, Consumer},
    delivery::{self, Delivery},
    destination::{self, Destinations},
    issue::Issues,
    limits::{self, Limit},
    monitor::{self, Monitor},
    reader::{Field, Section},
    resolve::{self, Resolve},
    revocation::{self, Revocation},
    shards::{self, Shards},
    values::{
        bytes, defaulted, duration_ms, number, optional_bytes, optional_duration_ms, optional_number,
        percent, socket_address, whole_seconds,
    },
};

pub(super) struct File {
    pub(super) listen: Vec<Field<SocketAddr>>,
    pub(super) proxied: Vec<Field<SocketAddr>>,
    pub(super) admin: Admin,
    pub(super) trusted_proxies: Vec<Field<String>>,
    pub(super) steering: Field<String>,
    pub(super) shards: Shards,
    pub(super) bounds: Bounds,
    pub(super) timeouts: Timeouts,
    pub(super) jwts: Vec<Jwt>,
    pub(super) consumers: Vec<Consumer>,
    pub(super) clusters: Vec<Cluster>,
    pub(super) apis: Vec<Api>,
    pub(super) routes: Vec<Route>,
    pub(super) resolve: Resolve,
    pub(super) revocation: Revocation,
    pub(super) monitor: Monitor,
    pub(super) log: Log,
    pub(super) audit: Audit,
}

/// See [`super::defaults`] for the meanings.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) connections: u64,
    pub(super) head_bytes_max: u64,
    pub(super) headers_max: u64,
    pub(super) body_bytes_max: u64,
    pub(super) body_rate_min: u64,
    pub(super) keepalive_requests: u64,
    pub(super) buffer_bytes: u64,
    pub(super) in_flight: u64,
    pub(super) critical_percent: u64,
    pub(super) limit_keys: u64,
    pub(super) tokens: u64,
}

/// In milliseconds.
#[derive(Clone, Debug)]
pub(super) struct Timeouts {
    pub(super) head_ms: u64,
    pub(super) body_ms: u64,
    pub(super) idle_ms: u64,
    pub(super) drain_ms: u64,
    pub(super) queue_ms: u64,
}

pub(super) struct Jwt {
    pub(super) name: Option<Field<String>>,
    pub(super) issuer: Option<Field<String>>,
    pub(super) audience: Option<Field<Vec<Field<String>>>>,
    pub(super) leeway_s: u64,
    pub(super) require: Option<Field<Vec<Field<String>>>>,
    pub(super) consumer_claim: Field<String>,
    pub(super) roles_claim: Option<Field<String>>,
    pub(super) keys: Vec<Key>,
    pub(super) jwks_file: Option<Field<String>>,
    pub(super) jwks_url: Option<Field<String>>,
    pub(super) jwks_refresh_ms: u64,
    pub(super) at: usize,
    pub(super) path: String,
}

pub(super) struct Key {
    pub(super) kid: Option<Field<String>>,
    pub(super) alg: Option<Field<String>>,
    pub(super) secret_file: Option<Field<String>>,
    pub(super) secret_env: Option<Field<String>>,
    pub(super) public_key_file: Option<Field<String>>,
    pub(super) at: usize,
    pub(super) path: String,
}

pub(super) struct Route {
    pub(super) name: Option<Field<String>>,
    pub(super) host: Option<Field<String>>,
    pub(super) path: Option<Field<String>>,
    pub(super) methods: Option<Field<Vec<Field<String>>>>,
    pub(super) jwt: Option<Field<String>>,
    pub(super) access: Access,
    pub(super) scopes: Option<Field<Vec<Field<String>>>>,
    pub(super) limits: Vec<Limit>,
    pub(super) cost: u64,
    pub(super) refund: Field<String>,
    pub(super) in_flight: Option<u64>,
    pub(super) cluster: Option<Field<String>>,
    pub(super) delivery: Delivery,
    pub(super) destinations: Destinations,
    pub(super) priority: Field<String>,
    pub(super) body_bytes_max: Option<u64>,
    pub(super) audit: Option<Field<bool>>,
    pub(super) slo: Option<Field<String>>,
    pub(super) api: Option<Field<String>>,
    pub(super) version: Option<Field<String>>,
    pub(super) at: usize,
    pub(super) table: String,
}

pub(super) struct Log {
    pub(super) access: Field<String>,
    pub(super) format: Field<String>,
    pub(super) ring: u64,
    pub(super) consumer_key_file: Option<Field<String>>,
    pub(super) headers: Option<Field<Vec<Field<String>>>>,
    pub(super) response_headers: Option<Field<Vec<Field<String>>>>,
    pub(super) query: Option<Field<Vec<Field<String>>>>,
    pub(super) sample_percent: u64,
    pub(super) rotate_bytes: Option<u64>,
    pub(super) rotate_age_ms: Option<u64>,
}

const MILLISECOND: u64 = 1;
const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const TIB: u64 = MIB * MIB;

/// Reads `text`; notes what is not TOML, not known, or not of its type.
pub(super) fn read(text: &str, issues: &Issues) -> File {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        issues.add(error.span().map_or(0, |span| span.start), "", format!("not TOML: {}", error.message()));
    }
    let table = table.into_inner();
    let mut root = Section::root(&table, issues);
    let mut listen = root.section("listen");
    let file = File {
        listen: read_addresses(&mut listen, issues),
        proxied: listen.texts("proxied").map_or_else(Vec::new, |list| {
            list.value.iter().filter_map(|address| socket_address(address, issues)).collect()
        }),
        admin: admin::read(&mut listen),
        trusted_proxies: listen.texts("trusted_proxies").map_or_else(Vec::new, |list| list.value),
        steering: defaulted(&mut listen, "accept_steering"),
        shards: shards::read(root.section("shards")),
        bounds: read_bounds(root.section("bounds"), issues),
        timeouts: {
            let mut timeouts = root.section("timeouts");
            let read = Timeouts {
                head_ms: duration_ms(&mut timeouts, "head", MILLISECOND..=HOUR, issues),
                body_ms: duration_ms(&mut timeouts, "body", MILLISECOND..=HOUR, issues),
                idle_ms: duration_ms(&mut timeouts, "idle", MILLISECOND..=DAY, issues),
                drain_ms: duration_ms(&mut timeouts, "drain", 0..=DAY, issues),
                queue_ms: duration_ms(&mut timeouts, "queue", 0..=10_000, issues),
            };
            timeouts.finish();
            read
        },
        jwts: root.sections("jwt").into_iter().map(|section| read_jwt(section, issues)).collect(),
        consumers: root
            .sections("consumer")
            .into_iter()
            .map(|section| consumer::read(section, issues))
            .collect(),
        clusters: root
            .sections("cluster")
            .into_iter()
            .map(|section| cluster::read(section, issues))
            .collect(),
        apis: root.sections("api").into_iter().map(api::read).collect(),
        routes: root.sections("route").into_iter().map(|section| read_route(section, issues)).collect(),
        resolve: resolve::read(root.section("resolve"), issues),
        revocation: revocation::read(root.section("revocation"), issues),
        monitor: monitor::read(root.section("monitor"), issues),
        log: {
            let mut log = root.section("log");
            let read = Log {
                access: defaulted(&mut log, "access"),
                format: defaulted(&mut log, "format"),
                ring: bytes(&mut log, "ring", 64 * KIB..=1024 * MIB, issues),
                consumer_key_file: log.text("consumer_key_file"),
                headers: log.texts("headers"),
                response_headers: log.texts("response_headers"),
                query: log.texts("query"),
                sample_percent: percent(&mut log, "sample", 0..=100, issues),
                rotate_bytes: optional_bytes(&mut log, "rotate_bytes", 4 * KIB..=TIB, issues),
                rotate_age_ms: optional_duration_ms(&mut log, "rotate_age", SECOND..=366 * DAY, issues),
            };
            log.finish();
            read
        },
        audit: audit::read_section(root.section("audit"), issues),
    };
    listen.finish();
    root.finish();
    file
}

fn read_addresses(listen: &mut Section<'_, '_>, issues: &Issues) -> Vec<Field<SocketAddr>> {
    let addresses = match listen.texts("address") {
        Some(list) => {
            if list.value.is_empty() {
                list.wrong(issues, "at least one address is needed");
            }
            list.value
        }
        None => vec![defaulted(listen, "address")],
    };
    addresses.iter().filter_map(|address| socket_address(address, issues)).collect()
}

fn read_bounds(mut section: Section<'_, '_>, issues: &Issues) -> Bounds {
    let bounds = Bounds {
        connections: number(&mut section, "connections", 1..=10_000_000, issues),
        head_bytes_max: bytes(&mut section, "head_bytes_max", KIB..=MIB, issues),
        headers_max: number(&mut section, "headers_max", 1..=256, issues),
        body_bytes_max: bytes(&mut section, "body_bytes_max", 0..=1024 * TIB, issues),
        body_rate_min: bytes(&mut section, "body_rate_min", 0..=TIB, issues),
        keepalive_requests: number(&mut section, "keepalive_requests", 1..=u64::MAX, issues),
        buffer_bytes: bytes(&mut section, "buffer_bytes", MIB..=TIB, issues),
        in_flight: number(&mut section, "in_flight", 1..=10_000_000, issues),
        critical_percent: percent(&mut section, "critical_share", 0..=90, issues),
        limit_keys: number(&mut section, "limit_keys", 8..=1 << 28, issues),
        tokens: number(&mut section, "tokens", 0..=1 << 24, issues),
    };
    section.finish();
    bounds
}

fn read_jwt(mut section: Section<'_, '_>, issues: &Issues) -> Jwt {
    let jwt = Jwt {
        name: section.required_text("name"),
        issuer: section.text("issuer"),
        audience: section.texts("audience"),
        leeway_s: whole_seconds(&mut section, "leeway", 0..=HOUR / SECOND, issues),
        require: section.texts("require"),
        consumer_claim: defaulted(&mut section, "consumer_claim"),
        roles_claim: section.text("roles_claim"),
        keys: section.sections("keys").into_iter().map(read_key).collect(),
        jwks_file: section.text("jwks_file"),
        jwks_url: section.text("jwks_url"),
        jwks_refresh_ms: duration_ms(&mut section, "jwks_refresh", SECOND..=DAY, issues),
        at: section.at(),
        path: section.path().to_owned(),
    };
    section.finish();
    jwt
}

fn read_key(mut section: Section<'_, '_>) -> Key {
    let key = Key {
        kid: section.text("kid"),
        alg: section.required_text("alg"),
        secret_file: section.text("secret_file"),
        secret_env: section.text("secret_env"),
        public_key_file: section.text("public_key_file"),
        at: section.at(),
        path: section.path().to_owned(),
    };
    section.finish();
    key
}

fn read_route(mut section: Section<'_, '_>, issues: &Issues) -> Route {
    let route = Route {
        name: section.required_text("name"),
        host: section.text("host"),
        path: section.required_text("path"),
        methods: section.texts("methods"),
        jwt: section.text("jwt"),
        access: access::read(&mut section),
        scopes: section.texts("scopes"),
        limits: section.sections("limit").into_iter().map(|limit| limits::read(limit, issues)).collect(),
        cost: number(&mut section, "cost", 1..=1_000_000, issues),
        refund: defaulted(&mut section, "refund"),
        in_flight: optional_number(&mut section, "in_flight", 1..=10_000_000, issues),
        cluster: section.required_text("cluster"),
        delivery: delivery::read(&mut section, issues),
        destinations: destination::read(&mut section),
        priority: defaulted(&mut section, "priority"),
        body_bytes_max: optional_bytes(&mut section, "body_bytes_max", 0..=1024 * TIB, issues),
        audit: section.flag("audit"),
        slo: section.text("slo"),
        api: section.text("api"),
        version: section.text("version"),
        at: section.at(),
        table: section.path().to_owned(),
    };
    section.finish();
    route
}
