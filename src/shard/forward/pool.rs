//! Upstream connections kept for the next exchange: per shard and endpoint, last in, first out; and what a shard
//! does not need, where every shard finds it.
//!
//! Last in, first out keeps a few connections busy and lets the rest grow old. What a shard does not use several
//! times a tick is a spare (`shared/spares.rs`): a shard takes a spare before it makes a connection, so that there
//! are about as many as are needed at once, and not as many on every shard. A connection is handed out only if its peer has
//! neither closed it nor said anything unasked. The readiness set knows that without a call; of a spare, and for
//! a request that cannot be repeated, the kernel is asked, because a stale connection must not cost a payment a 502.

use std::{rc::Rc, sync::Arc};

use crate::{
    http::answer::AnswerHead,
    shared::{
        meters::{ClusterMeters, PerShard},
        spares::{Spare, Spares},
    },
    stage::{
        balance::{Cluster, Endpoint},
        retry::Carrier,
        snapshot::Snapshot,
    },
};

use super::super::{
    Shard,
    socket::{self, Socket},
    watch::Direction,
};

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
pub(in super::super) enum Look {
    /// What the last loop turn knew will do: if it has closed since, the request can be sent again.
    Recent,
    /// The kernel is asked: a request that must not be sent twice is not risked on a stale connection.
    Now,
}

/// A connection that was not used for so long is not needed by its shard.
const OWN_MS: u64 = 100;
/// A shard that ends so many exchanges with an endpoint in a tick has a use for connections of its own. Handing one
/// over costs three calls; with fewer exchanges that is nothing.
const BUSY_ENDS: u32 = 2;

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
    /// Where those go that are not needed; absent before the first.
    spares: Option<Arc<Spares>>,
    /// The endpoint has left: what still ends with it is not kept.
    has_left: bool,
    /// Exchanges that ended in this tick, and whether they were many in the last one.
    ends: u32,
    was_busy: bool,
}

struct Idle {
    socket: Socket,
    since_ms: u64,
    /// Until when it may wait.
    until_ms: u64,
    /// When it has served long enough.
    ends_ms: u64,
}

impl Idle {
    fn is_good(&self, now_ms: u64) -> bool {
        self.until_ms > now_ms && self.socket.is_quiet()
    }
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
        for ((slot, pool), is_known) in self.0.iter_mut().enumerate().zip(known) {
            pool.has_left = !is_known;
            if pool.has_left {
                pool.idle.clear();
                pool.spares = None;
                pool.count(slot, shard);
            }
        }
    }

    /// Leaves to all shards what this one has not used for a tick.
    pub(in super::super) fn share(&mut self, shard: &Shard, now_ms: u64) {
        for (slot, pool) in self.0.iter_mut().enumerate() {
            pool.was_busy = std::mem::take(&mut pool.ends) >= BUSY_ENDS;
            let count = pool.idle.iter().take_while(|idle| idle.since_ms + OWN_MS <= now_ms).count();
            if let (1.., Some(spares)) = (count, &pool.spares)
                && spares.capacity() > 0
            {
                pool.idle.drain(..count).for_each(|idle| leave(idle, spares, now_ms));
                pool.count(slot, shard);
            }
        }
    }

    /// Closes what has been idle too long, was closed by its peer, or leads to an endpoint that has left. The spares of each
    /// endpoint are looked at by one of the shards.
    pub(in super::super) fn retire(&mut self, shard: &Shard, now_ms: u64) {
        for (slot, pool) in self.0.iter_mut().enumerate() {
            pool.idle.retain(|idle| idle.is_good(now_ms));
            pool.count(slot, shard);
        }
        let (snapshot, shards) = (shard.in_force.current(), shard.meters.shards());
        for endpoint in snapshot.clusters.iter().flat_map(|cluster| &cluster.endpoints) {
            if endpoint.slot % shards == shard.index {
                endpoint.spares.sweep(|spare| spare.until_ms > now_ms && socket::is_quiet(&spare.stream));
            }
        }
        // A shard that did not know yet may have left some.
        for (_, endpoint) in snapshot.departed.iter() {
            if endpoint.slot % shards == shard.index && endpoint.spares.count() > 0 {
                endpoint.spares.sweep(|_| false);
            }
        }
    }

    /// Closes everything.
    pub(in super::super) fn clear(&mut self, shard: &Shard) {
        for (slot, pool) in self.0.iter_mut().enumerate() {
            pool.idle.clear();
            pool.count(slot, shard);
        }
        let snapshot = shard.in_force.current();
        let endpoints = snapshot.clusters.iter().flat_map(|cluster| &cluster.endpoints);
        endpoints.for_each(|endpoint| endpoint.spares.sweep(|_| false));
    }
}

impl Pool {
    /// Brings the cluster's gauge up to date, and what balancing knows of this pool, that of the endpoint with `slot`.
    fn count(&mut self, slot: usize, shard: &Shard) {
        let (idle, counted) = (self.idle.len(), std::mem::replace(&mut self.counted, self.idle.len()));
        if (idle > 0) != (counted > 0) {
            shard.desk.borrow_mut().warm.set(slot, idle > 0);
        }
        if let Some(meters) = &self.meters {
            let gauge = &meters.of(shard.index).connections_idle;
            gauge.add(idle as u64);
            gauge.subtract(counted as u64);
        }
    }

    /// The one that was used last and is good, by `look`.
    fn take(&mut self, look: Look, now_ms: u64) -> Option<Idle> {
        loop {
            let idle = self.idle.pop()?;
            if idle.is_good(now_ms) && (look == Look::Recent || idle.socket.is_quiet_now()) {
                return Some(idle);
            }
        }
    }
}

/// Makes a connection a spare.
fn leave(idle: Idle, spares: &Spares, now_ms: u64) {
    if idle.is_good(now_ms)
        && let Ok(stream) = idle.socket.release()
    {
        spares.give(Spare { stream, until_ms: idle.until_ms, ends_ms: idle.ends_ms });
    }
}

/// A spare connection to `endpoint` that is quiet at this moment, watched by `shard` from now on.
fn take_spare(shard: &Shard, endpoint: &Endpoint, now_ms: u64) -> Option<(Socket, u64)> {
    while let Some(spare) = endpoint.spares.take(now_ms) {
        // Watched first: what comes after the look is news.
        if let Ok(socket) = Socket::new(spare.stream, &shard.watches)
            && socket.is_quiet_now()
        {
            return Some((socket, spare.ends_ms));
        }
    }
    None
}

/// How long an endpoint that answered like this keeps its connection, in milliseconds, if it does: less than it says,
/// because its clock began before ours.
pub(super) fn kept_ms(head: &AnswerHead<'_, '_>) -> Option<u64> {
    head.keeps_alive().then(|| match head.keeps_alive_s.map(|seconds| u64::from(seconds) * 1_000) {
        Some(said_ms) => said_ms - (said_ms / 2).min(1_000),
        None => u64::MAX,
    })
}

/// A connection in use; counted as such until dropped.
pub(in super::super) struct Lease<'s> {
    socket: Socket,
    /// Whether it served before.
    pub(super) carrier: Carrier,
    /// When it has served long enough.
    ends_ms: u64,
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
    pub(in super::super) fn from_pool(
        shard: &Rc<Shard>,
        cluster: &'s Cluster,
        endpoint: &Endpoint,
        look: Look,
    ) -> Option<Self> {
        let now_ms = shard.recent_ms();
        let own = {
            let mut pools = shard.pools.borrow_mut();
            let pool = &mut pools.0[endpoint.slot];
            let found = pool.take(look, now_ms);
            pool.count(endpoint.slot, shard);
            found
        };
        let meters = cluster.meters.of(shard.index);
        let (socket, ends_ms) = match own {
            Some(idle) => (idle.socket, idle.ends_ms),
            None => {
                let taken = take_spare(shard, endpoint, now_ms)?;
                meters.moves.add(1);
                taken
            }
        };
        meters.reuses.add(1);
        endpoint.meters.of(shard.index).reused.add(1);
        Some(Self::new(socket, Carrier::Reused, ends_ms, shard, cluster))
    }

    /// A new connection to `endpoint`, made within its cluster's time and `left_ms`.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn dial(
        shard: &Rc<Shard>,
        cluster: &'s Cluster,
        endpoint: &Endpoint,
        left_ms: u64,
    ) -> std::io::Result<Self> {
        cluster.meters.of(shard.index).dials.add(1);
        let timeout_ms = cluster.connect_timeout_ms.min(left_ms);
        let socket = Socket::connect(endpoint.address, timeout_ms, &shard.watches).await?;
        endpoint.meters.of(shard.index).fresh.add(1);
        Ok(Self::fresh(socket, shard, cluster))
    }

    /// A connection that was just made. Those made together do not end together.
    pub(in super::super) fn fresh(socket: Socket, shard: &Rc<Shard>, cluster: &'s Cluster) -> Self {
        let early_ms = shard.desk.borrow_mut().rng.u64(..=cluster.age_max_ms / 10);
        let ends_ms = shard.recent_ms() + cluster.age_max_ms - early_ms;
        Self::new(socket, Carrier::Fresh, ends_ms, shard, cluster)
    }

    fn new(socket: Socket, carrier: Carrier, ends_ms: u64, shard: &Rc<Shard>, cluster: &'s Cluster) -> Self {
        cluster.meters.of(shard.index).connections_active.add(1);
        Self { socket, carrier, ends_ms, _active: Active { shard: Rc::clone(shard), cluster } }
    }

    /// The connection.
    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Keeps the connection for another exchange, if there is room for it and its endpoint, which keeps it for
    /// `kept_ms`, does so for long enough.
    pub(in super::super) fn keep(self, shard: &Shard, cluster: &Cluster, endpoint: &Endpoint, kept_ms: u64) {
        let mut pools = shard.pools.borrow_mut();
        let pool = &mut pools.0[endpoint.slot];
        let (since_ms, ends_ms) = (shard.recent_ms(), self.ends_ms);
        let until_ms = since_ms.saturating_add(cluster.idle_timeout_ms.min(kept_ms)).min(ends_ms);
        if shard.draining.get() || pool.has_left || until_ms <= since_ms {
            return;
        }
        if !pool.meters.as_ref().is_some_and(|meters| Arc::ptr_eq(meters, &cluster.meters)) {
            pool.meters = Some(Arc::clone(&cluster.meters));
        }
        if !pool.spares.as_ref().is_some_and(|spares| Arc::ptr_eq(spares, &endpoint.spares)) {
            pool.spares = Some(Arc::clone(&endpoint.spares));
        }
        let socket = self.socket;
        socket.watch().clear(Direction::Read);
        socket.watch().clear(Direction::Write);
        socket.watch().forget_waker();
        let idle = Idle { socket, since_ms, until_ms, ends_ms };
        pool.ends += 1;
        let is_shared = endpoint.spares.capacity() > 0;
        let is_needed = !is_shared || pool.was_busy || pool.ends >= BUSY_ENDS;
        if is_needed && pool.idle.len() < cluster.idle_max {
            pool.idle.push(idle);
            pool.count(endpoint.slot, shard);
        } else if is_shared {
            leave(idle, &endpoint.spares, since_ms);
        }
    }
}
