//! A snapshot: one generation of everything the decisions look up, immutable once published.
//!
//! What one generation has in common with the next is shared, so that other endpoints for a cluster are another
//! snapshot and not another copy of the configuration.

use std::sync::Arc;

use siphasher::sip128::SipHasher13;

use super::{
    auth::KeySet,
    balance::{Cluster, Endpoint},
    client::TrustedProxies,
    consumer::Consumers,
    headroom::Ceilings,
    listed::Lists,
    route::{Route, RouteTable},
    version::Api,
};

/// One generation of compiled configuration.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its number; the first is one.
    pub generation: u64,
    /// All routes.
    pub routes: Arc<RouteTable>,
    /// All key sets.
    pub key_sets: Arc<[KeySet]>,
    /// Consumers that are known beforehand.
    pub consumers: Arc<Consumers>,
    /// All APIs with their versions.
    pub apis: Arc<[Api]>,
    /// All clusters.
    pub clusters: Arc<[Cluster]>,
    /// Endpoints that earlier snapshots had and this one has not, with the names of their clusters: what is still in
    /// flight there ends, and one that comes back has its slot and its load again. The last to leave stands last.
    pub departed: Arc<[(Box<str>, Endpoint)]>,
    /// Slots that endpoints of this or an earlier snapshot have had. None is ever given to another endpoint:
    /// a connection kept under a slot goes where the slot says.
    pub slots: usize,
    /// Whose `X-Forwarded-For` counts.
    pub trusted_proxies: TrustedProxies,
    /// Hashes the keys of limits; the seed is secret.
    pub hasher: SipHasher13,
    /// Time-outs of downstream connections.
    pub timeouts: Timeouts,
    /// How much of a shard's room requests may take.
    pub ceilings: Ceilings,
    /// Requests one downstream connection may make.
    pub keepalive_requests: u64,
    /// The most fields a head may have.
    pub fields_max: usize,
    /// Whether the log shows `Referer` and `User-Agent`.
    pub logs_agents: bool,
    /// Which fields and parameters the log shows.
    pub listed: Lists,
    /// Whether some route has another endpoint asked after a while, or requests wait for endpoints, which asks for a finer
    /// tick.
    pub is_fine: bool,
    /// How many of a hundred successes the log shows.
    pub log_sample_percent: u8,
    /// How many of a hundred exchanges are timed step by step.
    pub timed_percent: u8,
}

/// How long a downstream connection may keep us waiting, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a whole head, from its first byte.
    pub head_ms: u64,
    /// Between two reads of a body, and between two writes of an answer.
    pub body_ms: u64,
    /// For a turn, while the shard serves all it may.
    pub queue_ms: u64,
    /// Without a request.
    pub idle_ms: u64,
    /// Bytes per second that a body must come at, and an answer be taken at, once the waits for the client add
    /// up to more than `body_ms`; any when zero.
    pub body_rate_min: u64,
}

impl Snapshot {
    /// The key set whose tokens `route` accepts; `None` for a public route.
    pub fn keys_of(&self, route: &Route) -> Option<&KeySet> {
        route.keys.map(|index| &self.key_sets[index])
    }

    /// Where `route` goes.
    pub fn cluster_of(&self, route: &Route) -> &Cluster {
        &self.clusters[route.cluster]
    }
}
