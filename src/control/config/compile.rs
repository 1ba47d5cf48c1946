//! From the plan to the snapshot: names become places, host names become endpoints, tables are made.
//!
//! What counts and what is counted outlives a snapshot: a route, a cluster, an endpoint or a limit that
//! stands in the new configuration as it did in the old one keeps its meters, its load and its keys.

use std::{net::SocketAddr, sync::Arc};

use siphasher::sip128::SipHasher13;

use crate::{
    shared::{
        load::Load,
        meters::PerShard,
        spares::Spares,
        standing::{Standing, WEIGHT_UNIT},
    },
    stage::{
        auth::{ApiKey, ApiKeys, IssuedKeys, KeySet, Verified},
        balance::{self, Cluster, Endpoint, Waiting},
        client::TrustedProxies,
        consumer::{Consumer, Consumers, Grant},
        destination::Destinations,
        headroom::Ceilings,
        limit::Limit,
        retry::Allowance,
        route::{Route, RouteTable},
        snapshot::{Snapshot, Timeouts},
    },
};

use super::{
    super::{
        discovery::{Addresses, Located, locate},
        heritage::Heritage,
        seed::seed,
    },
    cluster::ClusterPlan,
    consumer::{ApiKeyPlan, ConsumerPlan},
    destination::DestinationsPlan,
    plan::{KeySetPlan, LogSink, Plan, RoutePlan},
    tables::{Workshop, places},
    versions,
};

/// Endpoints that have left and are remembered; of more, the first to leave are forgotten and would come back as others.
const DEPARTED_MAX: usize = 1_024;

/// Builds the snapshot of `plan`, with `addresses` for its host names, for `shards` shards: the first, or the one that
/// follows `before`.
///
/// # Errors
/// A system without random bytes.
pub fn compile(
    plan: Plan,
    addresses: &Addresses,
    shards: usize,
    before: Option<&Snapshot>,
) -> Result<Snapshot, String> {
    build(plan, addresses, shards, before, None)
}

/// The snapshot that follows `before` when its `clusters` have other endpoints; none if they have not.
pub fn relocate(
    clusters: &[ClusterPlan],
    addresses: &Addresses,
    shards: usize,
    before: &Snapshot,
) -> Option<Snapshot> {
    let is_same = clusters.iter().zip(before.clusters.iter()).all(|(plan, cluster)| {
        let located = locate(plan, addresses);
        let same = |now: &Located, then: &Endpoint| {
            (now.address, now.weight, now.name.as_str()) == (then.address, then.weight, &*then.name)
        };
        located.len() == cluster.endpoints.len()
            && located.iter().zip(&cluster.endpoints).all(|(now, then)| same(now, then))
    });
    if is_same {
        return None;
    }
    let inheritance = Inheritance { before: Some(before), heritage: None, shards };
    let mut slots = before.slots;
    let clusters: Arc<[Cluster]> = clusters
        .iter()
        .enumerate()
        .map(|(index, plan)| cluster(index, plan, addresses, &mut slots, inheritance))
        .collect();
    let departed = departed(&clusters, before);
    Some(Snapshot { generation: before.generation + 1, clusters, departed, slots, ..before.clone() })
}

/// Those of `before` and before it that are not in `clusters`.
fn departed(clusters: &[Cluster], before: &Snapshot) -> Arc<[(Box<str>, Endpoint)]> {
    let is_there = |name: &str, endpoint: &Endpoint| {
        let mut there = clusters.iter().filter(|cluster| *cluster.name == *name);
        there.any(|cluster| cluster.endpoints.iter().any(|one| one.address == endpoint.address))
    };
    let last = before.clusters.iter().flat_map(|cluster| {
        cluster.endpoints.iter().map(|endpoint| (cluster.name.clone(), endpoint.clone()))
    });
    let mut departed: Vec<_> = before.departed.iter().cloned().chain(last).collect();
    departed.retain(|(name, endpoint)| !is_there(name, endpoint));
    departed.drain(..departed.len().saturating_sub(DEPARTED_MAX));
    departed.into()
}

/// Builds the first snapshot of a process that goes on counting where another one does.
///
/// # Errors
/// Those of [`compile`].
pub fn succeed(
    plan: Plan,
    addresses: &Addresses,
    shards: usize,
    heritage: &Heritage,
) -> Result<Snapshot, String> {
    build(plan, addresses, shards, None, Some(heritage))
}

fn build(
    plan: Plan,
    addresses: &Addresses,
    shards: usize,
    before: Option<&Snapshot>,
    heritage: Option<&Heritage>,
) -> Result<Snapshot, String> {
    // The seed is the process's secret: nobody can choose keys that share a limit's slot.
    let hasher = match (before, heritage) {
        (Some(before), _) => before.hasher,
        (None, Some(heritage)) => heritage.hasher,
        (None, None) => {
            let [first, second] = seed()?;
            SipHasher13::new_with_keys(first, second)
        }
    };
    let inheritance = Inheritance { before, heritage, shards };
    let key_sets =
        plan.key_sets.into_iter().enumerate().map(|(index, set)| key_set(index, set, hasher, before));
    let mut slots = before.map_or(0, |before| before.slots);
    let clusters: Arc<[Cluster]> = plan
        .clusters
        .iter()
        .enumerate()
        .map(|(index, plan)| cluster(index, plan, addresses, &mut slots, inheritance))
        .collect();
    let workshop = Workshop { limit_keys: plan.bounds.limit_keys, hasher, consumers: &plan.consumers };
    let apis = versions::apis(&plan.apis, shards, before);
    let memberships = versions::memberships(&plan.routes, &plan.apis, &apis)?;
    let routes = plan.routes.into_iter().zip(memberships).enumerate();
    let routes = routes
        .map(|(index, (plan, membership))| Route { membership, ..route(index, plan, workshop, inheritance) });
    let routes: Vec<Route> = routes.collect();
    let is_fine = routes.iter().any(|route| route.hedge_after_ms.is_some())
        || clusters.iter().any(|cluster| cluster.queue.is_some());
    Ok(Snapshot {
        generation: before.map_or(1, |before| before.generation + 1),
        routes: RouteTable::new(routes).into(),
        key_sets: key_sets.collect(),
        consumers: consumers(plan.consumers, hasher, before).into(),
        apis: apis.into(),
        departed: before.map_or_else(Arc::default, |before| departed(&clusters, before)),
        clusters,
        slots,
        trusted_proxies: TrustedProxies::new(plan.trusted_proxies),
        hasher,
        timeouts: Timeouts {
            head_ms: plan.timeouts.head_ms,
            body_ms: plan.timeouts.body_ms,
            idle_ms: plan.timeouts.idle_ms,
            queue_ms: plan.timeouts.queue_ms,
            body_rate_min: plan.bounds.body_rate_min,
        },
        ceilings: Ceilings {
            in_flight: plan.bounds.in_flight,
            critical_percent: plan.bounds.critical_percent,
        },
        keepalive_requests: plan.bounds.keepalive_requests,
        is_fine,
        fields_max: plan.bounds.headers_max,
        log_sample_percent: plan.log.sample_percent,
        listed: plan.log.lists,
        timed_percent: plan.monitor.sample_percent,
        logs_agents: plan.log.format.shows_agents() && plan.log.sink != LogSink::Off,
    })
}

fn key_set(index: usize, plan: KeySetPlan, hasher: SipHasher13, before: Option<&Snapshot>) -> KeySet {
    let known = |url: &str| {
        let issued = before?.key_sets.iter().filter_map(|set| set.issued.as_ref());
        issued.filter(|issued| issued.refresh_ms == plan.issuer_refresh_ms).find(|issued| *issued.url == *url)
    };
    KeySet {
        name: plan.name.into(),
        index,
        issuer: plan.issuer.map(Into::into),
        audience: plan.audience.into_iter().map(Into::into).collect(),
        leeway_s: plan.leeway_s,
        require: plan.require.into_iter().map(Into::into).collect(),
        consumer_claim: plan.consumer_claim.into(),
        roles_claim: plan.roles_claim.map(Into::into),
        issued: plan.issuer_url.as_ref().map(|url| {
            known(url).cloned().unwrap_or_else(|| Arc::new(IssuedKeys::new(url, plan.issuer_refresh_ms)))
        }),
        keys: plan.keys.into(),
        hasher,
    }
}

fn consumers(plans: Vec<ConsumerPlan>, hasher: SipHasher13, before: Option<&Snapshot>) -> Consumers {
    let hash = |id: &str| hasher.hash(id.as_bytes()).h1;
    let mut keys = Vec::new();
    let mut consumers = Vec::new();
    for ConsumerPlan { id, allow, api_keys, in_flight, quota: _ } in plans {
        keys.extend(api_keys.into_iter().map(|key| api_key(&id, hash(&id), key)));
        let grants = allow.map(|grants| {
            let grants = grants.into_iter().map(|grant| Grant {
                routes: grant.routes.map(|routes| routes.into_iter().map(place_of).collect()),
                methods: grant.methods,
            });
            grants.collect()
        });
        let known = before.and_then(|before| before.consumers.find(&id)?.places.as_ref());
        consumers.push(Consumer { places: places(in_flight, known), id: id.into(), allow: grants });
    }
    Consumers::new(consumers, ApiKeys::new(keys, hasher))
}

fn api_key(consumer: &str, consumer_hash: u64, plan: ApiKeyPlan) -> ApiKey {
    let holder = Verified {
        consumer: consumer.into(),
        consumer_hash,
        scopes: plan.scopes.into_iter().map(Into::into).collect(),
        roles: plan.roles.into_iter().map(Into::into).collect(),
        kid: Some(plan.id.into()),
        jti: None,
        sub: Some(consumer.into()),
        expires_s: plan.expires_s,
        not_before_s: None,
    };
    ApiKey { digest: plan.digest, holder }
}

/// What a new snapshot takes over from the one before.
#[derive(Clone, Copy)]
struct Inheritance<'b> {
    before: Option<&'b Snapshot>,
    heritage: Option<&'b Heritage>,
    shards: usize,
}

impl<'b> Inheritance<'b> {
    fn cluster(self, name: &str) -> Option<&'b Cluster> {
        self.before?.clusters.iter().find(|cluster| *cluster.name == *name)
    }

    /// The endpoint of this cluster at this address: there now, or before it left.
    fn endpoint(self, cluster: &str, address: SocketAddr) -> Option<&'b Endpoint> {
        let there = self.cluster(cluster).into_iter().flat_map(|cluster| &cluster.endpoints);
        let departed = self.before?.departed.iter().filter(|(name, _)| **name == *cluster);
        there.chain(departed.map(|(_, endpoint)| endpoint)).find(|known| known.address == address)
    }

    fn limits(self, route: &str) -> &'b [Limit] {
        match self.route(route) {
            Some(before) => &before.limits,
            None => self.heritage.map_or(&[], |heritage| heritage.limits_of(route)),
        }
    }

    fn route(self, name: &str) -> Option<&'b Route> {
        self.before?.routes.routes().iter().find(|route| *route.name == *name)
    }
}

fn cluster(
    index: usize,
    plan: &ClusterPlan,
    addresses: &Addresses,
    slots: &mut usize,
    inheritance: Inheritance<'_>,
) -> Cluster {
    let before = inheritance.cluster(&plan.name);
    let idle = IdleShares::of(plan.idle_connections, inheritance.shards);
    let mut endpoints = Vec::new();
    let all = locate(plan, addresses);
    let count = all.len();
    for (place, located) in all.into_iter().enumerate() {
        let known = inheritance.endpoint(&plan.name, located.address);
        let spares = known.map(|known| &known.spares).filter(|spares| spares.capacity() == idle.spare);
        let spares = spares.map_or_else(|| Arc::new(Spares::new(idle.spare)), Arc::clone);
        let newcomer = Endpoint {
            address: located.address,
            index: place_of(place),
            slot: known.map_or(*slots, |known| known.slot),
            weight: located.weight,
            in_flight_max: located.in_flight_max,
            identity: SipHasher13::new().hash(located.name.as_bytes()).h1,
            name: located.name.into(),
            host: located.host.map(Into::into),
            spares,
            load: Arc::new(Load::new()),
            standing: Arc::new(Standing::new(
                first_weight(plan, located.weight, before),
                located.in_flight_max,
            )),
            meters: Arc::new(PerShard::new(inheritance.shards)),
        };
        endpoints.push(match known {
            Some(known) => Endpoint {
                load: Arc::clone(&known.load),
                standing: Arc::clone(&known.standing),
                meters: Arc::clone(&known.meters),
                ..newcomer
            },
            None => {
                *slots += 1;
                let round = before.and_then(|before| balance::round(&before.endpoints)).unwrap_or(0);
                let weight = newcomer.standing.terms().weight;
                let turn = balance::first_turn(round, weight, place, count);
                newcomer.load.put_off(turn);
                newcomer
            }
        });
    }
    Cluster {
        name: plan.name.as_str().into(),
        index: place_of(index),
        balance: plan.balance.clone(),
        trip: plan.trip,
        care: plan.care.clone(),
        queue: waiting(plan, before),
        connect_timeout_ms: plan.connect_timeout_ms,
        response_timeout_ms: plan.response_timeout_ms,
        idle_timeout_ms: plan.idle_timeout_ms,
        age_max_ms: plan.age_max_ms,
        idle_max: idle.own,
        retries: Allowance {
            percent: plan.retry_percent,
            floor_milli: (plan.retry_floor * 1_000).div_ceil(inheritance.shards.max(1) as u64),
        },
        budgets: before.map_or_else(
            || Arc::new(PerShard::new(inheritance.shards)),
            |before| Arc::clone(&before.budgets),
        ),
        endpoints: endpoints.into(),
        meters: before
            .map_or_else(|| Arc::new(PerShard::new(inheritance.shards)), |before| Arc::clone(&before.meters)),
    }
}

/// Who may wait in front of the cluster. Those who do keep their places.
fn waiting(plan: &ClusterPlan, before: Option<&Cluster>) -> Option<Waiting> {
    let known = before.and_then(|before| before.queue.as_ref()).map(|queue| &queue.places);
    let places = places(plan.queue_length, known)?;
    Some(Waiting { places, timeout_ms: plan.queue_timeout_ms })
}

/// The effective weight of an endpoint until control has looked at it. One that joins others starts slowly: were it
/// given its full weight first, everything would go there at once, because it has nothing in flight.
fn first_weight(plan: &ClusterPlan, weight: u32, before: Option<&Cluster>) -> u32 {
    let full = weight * WEIGHT_UNIT;
    if before.is_some() && plan.care.slow_start_ms > 0 { full / 10 } else { full }
}

fn route(index: usize, plan: RoutePlan, workshop: Workshop<'_>, inheritance: Inheritance<'_>) -> Route {
    let before = inheritance.route(&plan.name);
    let limits = workshop.limits(plan.limits, inheritance.limits(&plan.name));
    let name: Box<str> = plan.name.into();
    Route {
        index: place_of(index),
        host: plan.host.map(Into::into),
        path: plan.path.into(),
        methods: plan.methods,
        keys: plan.access.keys,
        api_keys: plan.access.api_keys,
        forward_api_key: plan.access.forward_api_key,
        scopes: plan.access.scopes.into_iter().map(Into::into).collect(),
        roles: plan.access.roles.into_iter().map(Into::into).collect(),
        limits,
        cost: plan.cost,
        refund: plan.refund,
        places: places(plan.in_flight, before.and_then(|before| before.places.as_ref())),
        cluster: plan.cluster,
        destinations: destinations(plan.destinations, &name),
        timeout_ms: plan.delivery.timeout_ms.unwrap_or(u64::MAX),
        retry: plan.delivery.retry,
        hedge_after_ms: plan.delivery.hedge_after_ms,
        priority: plan.priority,
        body_bytes_max: plan.body_bytes_max,
        is_audited: plan.audit,
        version: plan.version.into(),
        membership: None,
        objective: plan.objective,
        name,
        meters: before
            .map_or_else(|| Arc::new(PerShard::new(inheritance.shards)), |before| Arc::clone(&before.meters)),
    }
}

/// Where the connections wait that an endpoint may have idle.
struct IdleShares {
    /// With each shard.
    own: usize,
    /// Where every shard finds them.
    spare: usize,
}

/// Connections that one of several shards keeps to itself, per endpoint.
const IDLE_OWN_MAX: usize = 32;

impl IdleShares {
    fn of(idle_max: usize, shards: usize) -> Self {
        let own = if shards == 1 { idle_max } else { IDLE_OWN_MAX.min(idle_max / 2) };
        Self { own, spare: idle_max - own }
    }
}

fn destinations(plan: DestinationsPlan, route: &str) -> Option<Box<Destinations>> {
    (!plan.is_empty()).then(|| {
        Box::new(Destinations {
            by_header: plan.by_header.into(),
            split: plan.split.into(),
            mirror: plan.mirror,
            hasher: Destinations::hasher(route),
        })
    })
}

/// Places fit sixteen bits: a file with more routes than that is not one a person wrote, and the highest
/// place stands for "none" in log records.
fn place_of(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}
