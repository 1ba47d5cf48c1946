//! Clusters and their endpoints.

use std::{net::SocketAddr, sync::Arc};

use crate::shared::{
    load::Load,
    meters::{ClusterMeters, PerShard},
};

/// A service and the endpoints that provide it.
#[derive(Debug)]
pub struct Cluster {
    /// Its name in the configuration, logs and metrics.
    pub name: Box<str>,
    /// Its place among the clusters of the snapshot.
    pub index: u16,
    /// How long a connection may take to be made, in milliseconds.
    pub connect_timeout_ms: u64,
    /// How long an answer may take to begin, or to go on, in milliseconds.
    pub response_timeout_ms: u64,
    /// How long a connection may wait in the pool, in milliseconds: less than its endpoint would wait.
    pub idle_timeout_ms: u64,
    /// Connections each shard may keep waiting per endpoint.
    pub idle_max: usize,
    /// Who provides it.
    pub endpoints: Box<[Endpoint]>,
    /// Its counters.
    pub meters: Arc<PerShard<ClusterMeters>>,
}

/// One address of a service.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it is.
    pub address: SocketAddr,
    /// The address as it was configured.
    pub name: Box<str>,
    /// Its place in [`Cluster::endpoints`].
    pub index: u16,
    /// Its place among all endpoints there have been since the process began.
    pub slot: usize,
    /// Its share relative to the others, at least one.
    pub weight: u32,
    /// Its exchanges in flight, over all shards.
    pub load: Arc<Load>,
}

/// One exchange counted in at an endpoint.
#[derive(Debug)]
pub struct Permit<'s> {
    cluster: &'s Cluster,
    endpoint: &'s Endpoint,
}

impl<'s> Permit<'s> {
    /// Counts in, if there are still `seen` in flight.
    pub(super) fn enter(cluster: &'s Cluster, endpoint: &'s Endpoint, seen: u32) -> Option<Self> {
        endpoint.load.enter(seen).then(|| Self { cluster, endpoint })
    }

    /// The cluster.
    pub fn cluster(&self) -> &'s Cluster {
        self.cluster
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &'s Endpoint {
        self.endpoint
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.endpoint.load.leave();
    }
}
