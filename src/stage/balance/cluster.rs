//! Clusters and their endpoints.

use std::{net::SocketAddr, sync::Arc};

use crate::shared::{
    load::Load,
    meters::{ClusterMeters, EndpointMeters, PerShard},
    spares::Spares,
    standing::{Standing, UNBOUNDED},
};

use super::super::{
    limit::Places,
    retry::{Allowance, Budget},
};
use super::{Balance, Care, Trip, candidates::Candidate};

/// A service and the endpoints that provide it.
#[derive(Debug)]
pub struct Cluster {
    /// Its name in the configuration, logs and metrics.
    pub name: Box<str>,
    /// Its place among the clusters of the snapshot.
    pub index: u16,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// When an endpoint that fails is suspected.
    pub trip: Trip,
    /// How its endpoints are looked after.
    pub care: Care,
    /// Who may wait until an endpoint has room, if anybody may.
    pub queue: Option<Waiting>,
    /// How long a connection may take to be made, in milliseconds.
    pub connect_timeout_ms: u64,
    /// How long an answer may take to begin, or to go on, in milliseconds.
    pub response_timeout_ms: u64,
    /// How long a connection may wait in the pool, in milliseconds: less than its endpoint would wait.
    pub idle_timeout_ms: u64,
    /// How long a connection may serve, in milliseconds.
    pub age_max_ms: u64,
    /// Connections each shard may keep to itself per endpoint.
    pub idle_max: usize,
    /// How many further attempts its requests earn, on each shard.
    pub retries: Allowance,
    /// What the shards have left of them.
    pub budgets: Arc<PerShard<Budget>>,
    /// Who provides it.
    pub endpoints: Box<[Endpoint]>,
    /// Its counters.
    pub meters: Arc<PerShard<ClusterMeters>>,
}

impl Cluster {
    /// Whether `shard` may make an attempt that costs the service work it would not have had otherwise.
    pub fn may_retry(&self, shard: usize, now_ms: u64) -> bool {
        let meters = self.meters.of(shard);
        // Each attempt finds a connection or makes one.
        let attempts = meters.reuses.get() + meters.dials.get();
        let requests = attempts.saturating_sub(meters.retries.get());
        let taken = self.budgets.of(shard).take(self.retries, requests, now_ms);
        meters.retries_denied.add(u64::from(!taken));
        taken
    }
}

/// Who may wait while all endpoints are full.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// One for each who waits, all shards together.
    pub places: Places,
    /// For how long, in milliseconds.
    pub timeout_ms: u64,
}

/// One address of a service.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where it is.
    pub address: SocketAddr,
    /// The address as it was configured, or one that its host name stands for.
    pub name: Box<str>,
    /// The host name that stands for it, if it was configured by one.
    pub host: Option<Box<str>>,
    /// Its place in [`Cluster::endpoints`].
    pub index: u16,
    /// Its place among all endpoints there have been since the process began.
    pub slot: usize,
    /// Its share relative to the others as configured, at least one. What it is in effect is in its standing.
    pub weight: u32,
    /// The most exchanges in flight; `UNBOUNDED` if there is no such bound.
    pub in_flight_max: u32,
    /// Its name as a number, the same in every process.
    pub identity: u64,
    /// Connections to it that wait for any shard.
    pub spares: Arc<Spares>,
    /// Its exchanges in flight, over all shards.
    pub load: Arc<Load>,
    /// What it may be given at this moment.
    pub standing: Arc<Standing>,
    /// How its attempts went.
    pub meters: Arc<PerShard<EndpointMeters>>,
}

impl Cluster {
    /// Whether all endpoints can have as many in flight as they may.
    pub fn is_bounded(&self) -> bool {
        self.care.fuse.is_some() || self.endpoints.iter().all(|endpoint| endpoint.in_flight_max < UNBOUNDED)
    }
}

impl Cluster {
    /// Whether what answers take lets it have fewer in flight than it may.
    #[cold]
    pub fn is_throttled(&self) -> bool {
        let mut endpoints = self.endpoints.iter();
        self.care.fuse.is_some()
            && endpoints.any(|endpoint| endpoint.standing.terms().ceiling < endpoint.in_flight_max)
    }
}

/// One exchange counted in at an endpoint.
#[derive(Debug)]
pub struct Permit<'s> {
    cluster: &'s Cluster,
    endpoint: &'s Endpoint,
    affinity: Option<u64>,
}

impl<'s> Permit<'s> {
    /// Counts in, if all is still as it was seen.
    pub(super) fn enter(
        cluster: &'s Cluster,
        candidate: &Candidate<'s>,
        affinity: Option<u64>,
    ) -> Option<Self> {
        let endpoint = candidate.endpoint;
        endpoint.load.enter(candidate.seen).then(|| Self { cluster, endpoint, affinity })
    }

    /// The cluster.
    pub fn cluster(&self) -> &'s Cluster {
        self.cluster
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &'s Endpoint {
        self.endpoint
    }

    /// Whom the request is for, where that decides.
    pub fn affinity(&self) -> Option<u64> {
        self.affinity
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.endpoint.load.leave();
    }
}
