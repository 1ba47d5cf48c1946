//! What the configuration means: names resolved, quotas and keys made, contradictions found.
//!
//! A [`Plan`] that exists can be run. It holds checked values only, no text that still has to be
//! understood; what depends on the machine (addresses behind names, CPUs) is settled by `compile.rs` and
//! the start.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;

use crate::{
    http::{head::is_authority, target},
    stage::{
        auth::Key,
        headroom::Priority,
        limit::{LIMITS_MAX, Refund},
        listed::Lists,
        objective::Objective,
        route::Methods,
    },
    tuning::{
        pinning::{CpuChoice, Pinning},
        steering::Choice,
    },
};

use super::{
    super::{
        access_log::{ConsumerKey, Template},
        revocation::RevocationPlan,
    },
    Environment,
    access::{self, AccessPlan},
    admin::{self, AdminPlan},
    api::{self, ApiPlan, Apis},
    audit::{self, AuditPlan},
    cluster::{self, ClusterPlan},
    consumer::{self, ConsumerPlan},
    delivery::{self, DeliveryPlan},
    destination::{self, DestinationsPlan},
    file::{File, Route as FileRoute},
    issue::Issues,
    keys::{Secrets, key_set},
    limits::{self, LimitPlan},
    log,
    monitor::{self, MonitorPlan},
    reader::Field,
    resolve::{self, ResolvePlan},
    revocation, shards,
    values::one_of,
};

/// A configuration that can be run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where requests come in.
    pub listen: Vec<SocketAddr>,
    /// Where connections come in that begin with a PROXY header.
    pub proxied: Vec<SocketAddr>,
    /// Where the admin API is and who may ask it.
    pub admin: AdminPlan,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How connections find their shard.
    pub steering: Choice,
    /// How many shards, and where.
    pub pinning: Pinning,
    /// The runtime they use.
    pub driver: DriverChoice,
    /// How much of everything.
    pub bounds: Bounds,
    /// How long, in milliseconds.
    pub timeouts: Timeouts,
    /// Whose tokens are accepted.
    pub key_sets: Vec<KeySetPlan>,
    /// Consumers that are known beforehand.
    pub consumers: Vec<ConsumerPlan>,
    /// The services.
    pub clusters: Vec<ClusterPlan>,
    /// The APIs.
    pub apis: Vec<ApiPlan>,
    /// The routes.
    pub routes: Vec<RoutePlan>,
    /// What host names stand for.
    pub resolve: ResolvePlan,
    /// The deny list.
    pub revocation: RevocationPlan,
    /// How closely the gateway is watched.
    pub monitor: MonitorPlan,
    /// The access log.
    pub log: LogPlan,
    /// The audit log, if there is one.
    pub audit: Option<AuditPlan>,
}

/// Which runtime is asked for; `shard` has the same choice, and the planes do not know each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverChoice {
    /// The best there is.
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll.
    Epoll,
}

/// Bounds, per shard where there is one of each.
#[expect(missing_docs, reason = "the table of defaults says of each what it is")]
#[derive(Clone, Debug)]
pub struct Bounds {
    pub connections: usize,
    pub head_bytes_max: usize,
    pub headers_max: usize,
    pub body_bytes_max: u64,
    pub body_rate_min: u64,
    pub keepalive_requests: u64,
    pub buffer_bytes: usize,
    pub in_flight: u64,
    pub critical_percent: u64,
    pub limit_keys: usize,
    pub tokens: usize,
}

/// Time-outs in milliseconds.
#[expect(missing_docs, reason = "the table of defaults says of each what it is")]
#[derive(Clone, Debug)]
pub struct Timeouts {
    pub head_ms: u64,
    pub body_ms: u64,
    pub idle_ms: u64,
    pub drain_ms: u64,
    /// For a turn, while the shard serves all it may.
    pub queue_ms: u64,
}

/// One `[[jwt]]`.
#[expect(missing_docs, reason = "the table of defaults says of each what it is")]
#[derive(Clone, Debug)]
pub struct KeySetPlan {
    pub name: String,
    pub issuer: Option<String>,
    pub audience: Vec<String>,
    pub leeway_s: i64,
    pub require: Vec<String>,
    pub consumer_claim: String,
    pub roles_claim: Option<String>,
    pub keys: Vec<Key>,
    pub issuer_url: Option<String>,
    pub issuer_refresh_ms: u64,
}

/// One `[[route]]`.
#[expect(missing_docs, reason = "the table of defaults says of each what it is")]
#[derive(Clone, Debug)]
pub struct RoutePlan {
    pub name: String,
    pub host: Option<String>,
    pub path: String,
    pub methods: Methods,
    pub access: AccessPlan,
    pub limits: Vec<LimitPlan>,
    pub cost: u32,
    pub in_flight: Option<u32>,
    pub refund: Refund,
    pub cluster: usize,
    pub delivery: DeliveryPlan,
    pub destinations: DestinationsPlan,
    pub priority: Priority,
    pub body_bytes_max: u64,
    pub audit: bool,
    pub version: String,
    pub membership: Option<(usize, usize)>,
    pub objective: Option<Objective>,
}

/// The access log.
#[derive(Clone, Debug)]
pub struct LogPlan {
    /// Where it goes.
    pub sink: LogSink,
    /// What its lines look like.
    pub format: LogFormat,
    /// Bytes each shard can be ahead of the disk.
    pub ring_bytes: usize,
    /// When a file is put aside for a new one.
    pub rotation: Rotation,
    /// What consumers are hashed with, if they are.
    pub consumer_key: Option<ConsumerKey>,
    /// Which fields and query parameters lines show.
    pub lists: Lists,
    /// How many of a hundred successes have a line; all else has one.
    pub sample_percent: u8,
}

/// When a log file has had enough; never if neither is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Before it would grow beyond this many bytes.
    pub bytes: Option<u64>,
    /// When it has been in use for so long.
    pub age: Option<std::time::Duration>,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogSink {
    /// Nowhere: nothing is recorded.
    Off,
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
    /// The system's log daemon, at its unix datagram socket.
    Syslog(PathBuf),
}

/// What the lines of the access log look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object each.
    Json,
    /// As Apache and nginx write them.
    Combined,
    /// As the configuration spells them.
    Template(Template),
}

impl LogFormat {
    /// Whether lines show `Referer` or `User-Agent`.
    pub fn shows_agents(&self) -> bool {
        match self {
            Self::Json => false,
            Self::Combined => true,
            Self::Template(template) => template.shows_agents(),
        }
    }
}

/// Checks `file`; `None` if some mistake left a hole. Relative paths refer to `directory`.
pub(super) fn build(
    file: &File,
    directory: &Path,
    environment: &Environment,
    issues: &Issues,
) -> Option<Plan> {
    let secrets = Secrets { directory, environment };
    let key_sets: Vec<_> = file.jwts.iter().map(|jwt| key_set(jwt, &secrets, issues)).collect();
    let clusters: Vec<_> =
        file.clusters.iter().map(|found| cluster::plan(found, directory, issues)).collect();
    let (api_names, apis) = api::plan(&file.apis, &file.routes, directory, issues);
    let names = Names {
        apis: api_names,
        key_sets: unique(file.jwts.iter().map(|jwt| jwt.name.as_ref()), "jwt", issues),
        clusters: unique(file.clusters.iter().map(|cluster| cluster.name.as_ref()), "cluster", issues),
    };
    let route_names = unique(file.routes.iter().map(|route| route.name.as_ref()), "route", issues);
    if file.routes.is_empty() {
        issues.add(0, "route", "there is none; at least one [[route]] is needed");
    }
    if file.clusters.is_empty() {
        issues.add(0, "cluster", "there is none; at least one [[cluster]] is needed");
    }
    let cost = file.routes.iter().map(|route| route.cost).max().unwrap_or(1);
    let cost = u32::try_from(cost).unwrap_or(u32::MAX);
    let consumers = consumer::plan(&file.consumers, &route_names, cost, directory, issues);
    let body_bytes_max = file.bounds.body_bytes_max;
    let places: Vec<_> = file.routes.iter().map(|found| route_place(found, issues)).collect();
    refuse_duplicates(&file.routes, &places, &names.apis, issues);
    let routes: Vec<_> = file
        .routes
        .iter()
        .zip(places)
        .map(|(found, place)| route(found, place, &names, body_bytes_max, issues))
        .collect();
    refuse_shared_addresses(file, issues);
    let trusted_proxies = file.trusted_proxies.iter().filter_map(|field| network(field, issues)).collect();
    let pinning = shards::pinning(&file.shards, issues);
    let driver = one_of(
        &file.shards.driver,
        &[("auto", DriverChoice::Auto), ("io-uring", DriverChoice::IoUring), ("epoll", DriverChoice::Epoll)],
        issues,
    );
    let steering = one_of(
        &file.steering,
        &[("auto", Choice::Auto), ("cpu", Choice::Cpu), ("hash", Choice::Hash)],
        issues,
    );
    if steering == Some(Choice::Cpu)
        && pinning.as_ref().is_some_and(|pinning| pinning.cpus == CpuChoice::None)
    {
        file.steering.wrong(issues, "shards that are pinned nowhere (shards.cpus) have no CPU to steer by");
    }
    let resolve = resolve::plan(&file.resolve, issues);
    let revocation = revocation::plan(&file.revocation, directory, issues);
    let admin = admin::plan(&file.admin, directory, issues);
    let log = log::plan(&file.log, directory, issues);
    let audit = audit::plan(&file.audit, log.as_ref(), directory, issues);
    for audited in file.routes.iter().filter_map(|route| route.audit.as_ref()).filter(|audited| audited.value)
    {
        if matches!(audit, Some(None)) {
            audited.wrong(issues, "there is no audit log; [audit] needs path and key_file");
        }
    }
    // From here on nothing is checked any more: a hole ends it, and everything has been said.
    Some(Plan {
        listen: file.listen.iter().map(|address| address.value).collect(),
        proxied: file.proxied.iter().map(|address| address.value).collect(),
        admin: admin?,
        trusted_proxies,
        steering: steering?,
        pinning: pinning?,
        driver: driver?,
        bounds: Bounds {
            connections: usize(file.bounds.connections),
            head_bytes_max: usize(file.bounds.head_bytes_max),
            headers_max: usize(file.bounds.headers_max),
            body_bytes_max,
            body_rate_min: file.bounds.body_rate_min,
            keepalive_requests: file.bounds.keepalive_requests,
            buffer_bytes: usize(file.bounds.buffer_bytes),
            in_flight: file.bounds.in_flight,
            critical_percent: file.bounds.critical_percent,
            limit_keys: usize(file.bounds.limit_keys),
            tokens: usize(file.bounds.tokens),
        },
        timeouts: Timeouts {
            head_ms: file.timeouts.head_ms,
            body_ms: file.timeouts.body_ms,
            idle_ms: file.timeouts.idle_ms,
            drain_ms: file.timeouts.drain_ms,
            queue_ms: file.timeouts.queue_ms,
        },
        key_sets: key_sets.into_iter().collect::<Option<_>>()?,
        consumers,
        clusters: clusters.into_iter().collect::<Option<_>>()?,
        apis: apis.into_iter().collect::<Option<_>>()?,
        routes: routes.into_iter().collect::<Option<_>>()?,
        resolve: resolve?,
        revocation,
        monitor: monitor::plan(&file.monitor, issues),
        log: log?,
        audit: audit?,
    })
}

/// No address can be listened on twice.
fn refuse_shared_addresses(file: &File, issues: &Issues) {
    let mut lines: HashMap<SocketAddr, usize> = HashMap::new();
    let admin = file.admin.tcp();
    // Port 0 is another one each time.
    for address in
        file.listen.iter().chain(&file.proxied).chain(&admin).filter(|address| address.value.port() != 0)
    {
        if let Some(line) = lines.insert(address.value, issues.line_of(address.at)) {
            address.wrong(issues, format!("{} stands on line {line} too", address.value));
        }
    }
}

/// The names routes may refer to, with their places.
struct Names {
    key_sets: HashMap<String, usize>,
    clusters: HashMap<String, usize>,
    apis: Apis,
}

fn usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Where each name stands; notes names that are empty or stand twice.
pub(super) fn unique<'f>(
    names: impl Iterator<Item = Option<&'f Field<String>>>,
    kind: &str,
    issues: &Issues,
) -> HashMap<String, usize> {
    let mut places = HashMap::new();
    let mut first_lines: HashMap<&str, usize> = HashMap::new();
    for (index, name) in names.enumerate() {
        let Some(name) = name else { continue };
        if name.value.is_empty() {
            name.wrong(issues, "a name must not be empty");
        }
        match first_lines.get(name.value.as_str()) {
            Some(line) => {
                let message = format!("another {kind} is named \"{}\", on line {line}", name.value);
                name.wrong(issues, message);
            }
            None => {
                first_lines.insert(&name.value, issues.line_of(name.at));
                places.insert(name.value.clone(), index);
            }
        }
    }
    places
}

/// The place of the thing `field` names, or a mistake with the nearest name there is.
pub(super) fn refer(
    field: &Field<String>,
    places: &HashMap<String, usize>,
    kind: &str,
    issues: &Issues,
) -> Option<usize> {
    let found = places.get(&field.value).copied();
    if found.is_none() {
        let mut known: Vec<&str> = places.keys().map(String::as_str).collect();
        known.sort_unstable();
        let nearest = known
            .iter()
            .map(|name| (strsim::damerau_levenshtein(name, &field.value), *name))
            .min()
            .filter(|&(distance, _)| distance <= 3);
        let hint = match (nearest, known.is_empty()) {
            (Some((_, nearest)), _) => format!("did you mean \"{nearest}\"?"),
            (None, true) => format!("there is no [[{kind}]] at all"),
            (None, false) => format!("there are: {}", known.join(", ")),
        };
        field.wrong(issues, format!("no {kind} is named \"{}\"; {hint}", field.value));
    }
    found
}

/// Which requests a route is for.
struct RoutePlace {
    host: Option<String>,
    path: Option<String>,
    methods: Methods,
}

fn route_place(route: &FileRoute, issues: &Issues) -> RoutePlace {
    let host = route.host.as_ref().map(|host| {
        let plain = host.value.trim_end_matches('.').to_ascii_lowercase();
        if !is_authority(plain.as_bytes()) || plain.rsplit_once(':').is_some_and(|_| !plain.ends_with(']')) {
            host.wrong(issues, format!("\"{}\" is not a host name; write it without a port", host.value));
        }
        plain
    });
    let path = route.path.as_ref().and_then(|path| route_path(path, issues));
    RoutePlace { host, path, methods: methods(route.methods.as_ref(), issues) }
}

fn route(
    route: &FileRoute,
    place: RoutePlace,
    names: &Names,
    body_bytes_max: u64,
    issues: &Issues,
) -> Option<RoutePlan> {
    let access = access::plan(route, &names.key_sets, issues);
    let cluster = route.cluster.as_ref().and_then(|name| refer(name, &names.clusters, "cluster", issues));
    let delivery = delivery::plan(&route.delivery, issues);
    let destinations =
        destination::plan(&route.destinations, route.cluster.as_ref(), &names.clusters, issues);
    let priority =
        one_of(&route.priority, &[("normal", Priority::Normal), ("critical", Priority::Critical)], issues);
    if route.limits.len() > LIMITS_MAX {
        let key = format!("{}.limit", route.table);
        issues.add(route.at, &key, format!("a route has at most {LIMITS_MAX} limits"));
    }
    let authenticated = route.jwt.is_some() || route.access.auth.is_some();
    let cost = u32::try_from(route.cost).unwrap_or(u32::MAX);
    let limits: Vec<_> =
        route.limits.iter().map(|found| limits::plan(found, cost, authenticated, issues)).collect();
    let membership = names.apis.membership(route, issues);
    let refund = one_of(&route.refund, &[("never", Refund::Never), ("not-sent", Refund::NotSent)], issues);
    Some(RoutePlan {
        name: route.name.as_ref()?.value.clone(),
        host: place.host,
        path: place.path?,
        methods: place.methods,
        access: access?,
        limits: limits.into_iter().collect::<Option<_>>()?,
        cost,
        in_flight: route.in_flight.map(|max| u32::try_from(max).unwrap_or(u32::MAX)),
        refund: refund?,
        cluster: cluster?,
        delivery: delivery?,
        destinations: destinations?,
        priority: priority?,
        body_bytes_max: route.body_bytes_max.unwrap_or(body_bytes_max),
        audit: route.audit.as_ref().is_some_and(|audit| audit.value),
        version: route.version.as_ref().map_or_else(String::new, |version| version.value.clone()),
        membership: membership?,
        objective: match route.slo.as_ref().map(|field| monitor::objective(field, issues)) {
            None => None,
            Some(objective) => Some(objective?),
        },
    })
}

fn route_path(path: &Field<String>, issues: &Issues) -> Option<String> {
    let trimmed = match path.value.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed,
    };
    let mut scratch = Vec::new();
    let parsed = target::parse("GET", trimmed, &mut scratch);
    let normal = parsed.ok().filter(|target| target.query.is_none() && target.authority.is_none());
    let normal = normal.map(|target| String::from_utf8_lossy(target.path).into_owned());
    match normal {
        Some(normal) if normal == trimmed && !trimmed.contains(';') => Some(normal),
        Some(normal) if !trimmed.contains(';') => {
            path.wrong(issues, format!("\"{}\" is matched as \"{normal}\"; write it that way", path.value));
            None
        }
        _ => {
            let message = format!(
                "\"{}\" is not a path; it begins with / and has no query, parameters, empty or dot segments",
                path.value
            );
            path.wrong(issues, message);
            None
        }
    }
}

pub(super) fn methods(list: Option<&Field<Vec<Field<String>>>>, issues: &Issues) -> Methods {
    let Some(list) = list else { return Methods::Any };
    if list.value.is_empty() {
        list.wrong(issues, "an empty list takes no request; leave it out to take any method");
    }
    for method in &list.value {
        let token = !method.value.is_empty()
            && method.value.bytes().all(|byte| byte.is_ascii_uppercase() || b"-_".contains(&byte));
        if !token || method.value == "CONNECT" {
            let message =
                format!("\"{}\" is not a method this gateway takes; methods are upper case", method.value);
            method.wrong(issues, message);
        }
    }
    Methods::These(list.value.iter().map(|method| method.value.as_str().into()).collect())
}

/// Two routes may share host and path only if no method is for both, or a field chooses between their versions.
fn refuse_duplicates(routes: &[FileRoute], places: &[RoutePlace], apis: &Apis, issues: &Issues) {
    for (index, place) in places.iter().enumerate() {
        for (earlier_index, earlier) in places[..index].iter().enumerate() {
            let same = place.path.is_some() && place.host == earlier.host && place.path == earlier.path;
            if same
                && place.methods.overlap(&earlier.methods)
                && !apis.tells_apart(&routes[index], &routes[earlier_index])
                && let (Some(path), Some(first)) = (&routes[index].path, &routes[earlier_index].path)
            {
                let name = routes[earlier_index].name.as_ref().map_or("", |name| &name.value);
                let message = format!(
                    "route \"{name}\" on line {} already has this path with some of these methods",
                    issues.line_of(first.at)
                );
                path.wrong(issues, message);
            }
        }
    }
}

pub(super) fn network(field: &Field<String>, issues: &Issues) -> Option<IpNet> {
    let parsed = field
        .value
        .parse::<IpNet>()
        .ok()
        .or_else(|| field.value.parse::<std::net::IpAddr>().ok().map(IpNet::from));
    if parsed.is_none() {
        let message = format!("\"{}\" is not a network; write for example \"10.0.0.0/8\"", field.value);
        field.wrong(issues, message);
    }
    parsed
}
