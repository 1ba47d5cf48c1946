//! Upstream connections kept for the next exchange: per shard and endpoint, last in, first out.
//!
//! Last in, first out keeps a few connections busy and lets the rest grow old. A connection is handed out
//! only if its peer has neither closed it nor said anything unasked. The readiness set knows that without a
//! call; for a request that cannot be repeated the kernel is asked as well, because a stale connection must
//! not cost a payment a 502.

use std::{rc::Rc, sync::Arc};

use crate::{
    shared::meters::{ClusterMeters, PerShard},
    stage::{
        balance::{Cluster, Endpoint},
        retry::Carrier,
        snapshot::Snapshot,
    },
};

use super::super::{Shard, socket::Socket, watch::Direction};

/// Where an attempt may take its connection from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A kept one if there is one.
    PoolFirst,
    /// A new one: kept ones have just proved stale.
    FreshOnly,
}

/// How closely a kept connection is looked at before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// What the last loop turn knew will do: if it has closed since, the request can be sent again.
    Recent,
    /// The kernel is asked: a request that must not be sent twice is not risked on a stale connection.
    Now,
}

/// The idle connections of one shard, by the slot of their endpoint.
#[derive(Default)]
pub(in super::super) struct Pools(Vec<Pool>);

#[derive(Default)]
struct Pool {
    /// The longest idle first.
    idle: Vec<Idle>,
    /// Of the cluster whose gauge counts them; absent before the first.
    meters: Option<Arc<PerShard<ClusterMeters>>>,
    /// How many the gauge knows of.
    counted: usize,
    idle_timeout_ms: u64,
}

struct Idle {
    socket: Socket,
    since_ms: u64,
}

impl Pools {
    /// Has a pool for each of `slots` slots, at least.
    pub(in super::super) fn make_room(&mut self, slots: usize) {
        let slots = slots.max(self.0.len());
        self.0.resize_with(slots, Pool::default);
    }

    /// Has a pool for every endpoint of `snapshot`, and no connection to any other.
    pub(in super::super) fn adopt(&mut self, snapshot: &Snapshot, shard: &Shard) {
        self.make_room(snapshot.slots);
        let mut known = vec![false; self.0.len()];
        for endpoint in snapshot.clusters.iter().flat_map(|cluster| &cluster.endpoints) {
            known[endpoint.slot] = true;
        }
        for (pool, _) in self.0.iter_mut().zip(known).filter(|(_, known)| !known) {
            pool.idle.clear();
            pool.count(shard);
        }
    }

    /// Closes what has been idle too long or was closed by its peer.
    pub(in super::super) fn retire(&mut self, shard: &Shard, now_ms: u64) {
        for pool in &mut self.0 {
            let idle_timeout_ms = pool.idle_timeout_ms;
            pool.idle.retain(|idle| idle.since_ms + idle_timeout_ms > now_ms && idle.socket.is_quiet());
            pool.count(shard);
        }
    }

    /// Closes everything.
    pub(in super::super) fn clear(&mut self, shard: &Shard) {
        for pool in &mut self.0 {
            pool.idle.clear();
            pool.count(shard);
        }
    }
}

impl Pool {
    /// Brings the cluster's gauge up to date.
    fn count(&mut self, shard: &Shard) {
        let (idle, counted) = (self.idle.len(), std::mem::replace(&mut self.counted, self.idle.len()));
        if let Some(meters) = &self.meters {
            let gauge = &meters.of(shard.index).connections_idle;
            gauge.add(idle as u64);
            gauge.subtract(counted as u64);
        }
    }
}

/// A connection in use; counted as such until dropped.
pub(super) struct Lease<'s> {
    socket: Socket,
    /// Whether it served before.
    pub(super) carrier: Carrier,
    _active: Active<'s>,
}

/// Counts a connection as in use.
struct Active<'s> {
    shard: Rc<Shard>,
    cluster: &'s Cluster,
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.cluster.meters.of(self.shard.index).connections_active.subtract(1);
    }
}

impl<'s> Lease<'s> {
    /// A kept connection to `endpoint`, if there is a good one, by `look`.
    pub(super) fn from_pool(
        shard: &Rc<Shard>,
        cluster: &'s Cluster,
        endpoint: &Endpoint,
        look: Look,
    ) -> Option<Self> {
        let now_ms = shard.recent_ms();
        let socket = {
            let mut pools = shard.pools.borrow_mut();
            let pool = &mut pools.0[endpoint.slot];
            let found = loop {
                let Some(idle) = pool.idle.pop() else { break None };
                let good = idle.since_ms + pool.idle_timeout_ms > now_ms
                    && idle.socket.is_quiet()
                    && (look == Look::Recent || idle.socket.is_quiet_now());
                if good {
                    break Some(idle.socket);
                }
            };
            pool.count(shard);
            found?
        };
        cluster.meters.of(shard.index).reuses.add(1);
        Some(Self::new(socket, Carrier::Reused, shard, cluster))
    }

    /// A new connection to `endpoint`.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn dial(
        shard: &Rc<Shard>,
        cluster: &'s Cluster,
        endpoint: &Endpoint,
    ) -> std::io::Result<Self> {
        cluster.meters.of(shard.index).dials.add(1);
        let socket = Socket::connect(endpoint.address, cluster.connect_timeout_ms, &shard.watches).await?;
        Ok(Self::new(socket, Carrier::Fresh, shard, cluster))
    }

    fn new(socket: Socket, carrier: Carrier, shard: &Rc<Shard>, cluster: &'s Cluster) -> Self {
        cluster.meters.of(shard.index).connections_active.add(1);
        Self { socket, carrier, _active: Active { shard: Rc::clone(shard), cluster } }
    }

    /// The connection.
    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Keeps the connection for another exchange, if there is room for it.
    pub(super) fn keep(self, shard: &Shard, cluster: &Cluster, endpoint: &Endpoint) {
        let mut pools = shard.pools.borrow_mut();
        let pool = &mut pools.0[endpoint.slot];
        if shard.draining.get() || pool.idle.len() >= cluster.idle_max {
            return;
        }
        if !pool.meters.as_ref().is_some_and(|meters| Arc::ptr_eq(meters, &cluster.meters)) {
            pool.meters = Some(Arc::clone(&cluster.meters));
        }
        pool.idle_timeout_ms = cluster.idle_timeout_ms;
        let socket = self.socket;
        socket.watch().clear(Direction::Read);
        socket.watch().clear(Direction::Write);
        socket.watch().forget_waker();
        pool.idle.push(Idle { socket, since_ms: shard.recent_ms() });
        pool.count(shard);
    }
}
