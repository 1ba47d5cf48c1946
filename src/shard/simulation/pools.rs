//! Many shards and many endpoints: there are about as many connections as are needed, not as many on every shard.
//!
//! Real pools over real sockets and a clock by hand; the load is made up. Leaves out what exchanges say to each
//! other, which the worlds of the other files are about.

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    rc::Rc,
    sync::Arc,
};

use arc_swap::ArcSwap;
use fastrand::Rng;

use crate::{
    base::clock::{Moment, manual},
    shared::{
        lifecycle::Lifecycle,
        meters::PerShard,
        revoked::{Fingerprints, Revoked, RevokedCell},
        spares::Spares,
    },
    stage::{balance::Cluster, fixture, snapshot::Snapshot},
};

use super::super::{
    BufferPlan, Driver, Shard, ShardPlan,
    forward::pool::{Lease, Look},
    housekeeping::Rounds,
    socket::Socket,
    watch::Direction,
};

const SHARDS: usize = 64;
const ENDPOINTS: usize = 60;
/// Between two exchanges.
const PAUSE_MS: u64 = 2;
/// The longest exchange.
const LENGTH_MS_MAX: u64 = 10;
/// The tick of `housekeeping.rs`.
const ROUND_MS: u64 = 100;
const WARM_MS: u64 = 10_000;
const END_MS: u64 = 30_000;

/// `SHARDS` shards in front of one cluster of `ENDPOINTS`, at rest.
fn shards() -> (Vec<Rc<Shard>>, Arc<Snapshot>) {
    let mut cluster = Cluster {
        idle_max: 32,
        age_max_ms: 3_600_000,
        meters: Arc::new(PerShard::new(SHARDS)),
        ..fixture::cluster(&[1; ENDPOINTS])
    };
    for endpoint in &mut cluster.endpoints {
        endpoint.spares = Arc::new(Spares::new(480));
        endpoint.meters = Arc::new(PerShard::new(SHARDS));
    }
    let snapshot = Snapshot {
        clusters: [cluster].into(),
        slots: ENDPOINTS,
        ..fixture::snapshot(vec![fixture::route("/", 0)])
    };
    let published = Arc::new(ArcSwap::from_pointee(snapshot));
    let meters = Arc::new(PerShard::new(SHARDS));
    let plan = |index| ShardPlan {
        index,
        cpu: None,
        driver: Driver::Epoll,
        listeners: Vec::new(),
        connections_max: 1,
        head_bytes_max: 4_096,
        buffers: BufferPlan::new(1 << 20, 4_096, 1),
        tokens_max: 1,
        revoked: RevokedCell::new(Revoked::new(Fingerprints::new([0, 0]), Default::default())),
        audit: None,
        log: None,
        samples: None,
        snapshot: Arc::clone(&published),
        lifecycle: Arc::new(Lifecycle::default()),
        meters: Arc::clone(&meters),
    };
    let shards = (0..SHARDS).map(|index| Shard::new(plan(index)).expect("a readiness set").0);
    (shards.collect(), published.load_full())
}

/// Broken by pools that keep to themselves what others could use, and by spares that are not found.
#[test]
fn connections_are_as_many_as_are_needed_and_not_as_many_on_every_shard() {
    let at = |ms: u64| Moment { monotonic_us: 1_000_000_000 + ms * 1_000, unix_us: 1_795_409_367_000_000 };
    manual::set(Some(at(0)));
    let (shards, snapshot) = shards();
    let cluster = &snapshot.clusters[0];
    let mut rounds: Vec<Rounds> = shards.iter().map(|_| Rounds::default()).collect();
    let mut rng = Rng::with_seed(7);
    let mut others: Vec<UnixStream> = Vec::new();
    let mut under_way: Vec<(u64, usize, usize, Lease<'_>)> = Vec::new();
    let (mut exchanges, mut dials, mut in_use_most, mut open_most) = (0_u32, 0_u32, 0, 0);
    for now_ms in 0..END_MS {
        manual::set(Some(at(now_ms)));
        for (_, place, endpoint, lease) in under_way.extract_if(.., |(until_ms, ..)| *until_ms <= now_ms) {
            shards[place].clock.now();
            lease.keep(&shards[place], cluster, &cluster.endpoints[endpoint], u64::MAX);
        }
        if now_ms.is_multiple_of(PAUSE_MS) {
            let (place, endpoint) = (rng.usize(..SHARDS), rng.usize(..ENDPOINTS));
            let shard = &shards[place];
            shard.clock.now();
            let kept = Lease::from_pool(shard, cluster, &cluster.endpoints[endpoint], Look::Recent);
            let is_warm = now_ms >= WARM_MS;
            exchanges += u32::from(is_warm);
            dials += u32::from(is_warm && kept.is_none());
            let lease = kept.unwrap_or_else(|| {
                let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
                others.push(theirs);
                let socket = Socket::new(OwnedFd::from(ours).into(), &shard.watches).expect("a place");
                socket.watch().exhausted(Direction::Read);
                Lease::fresh(socket, shard, cluster)
            });
            under_way.push((now_ms + rng.u64(1..=LENGTH_MS_MAX), place, endpoint, lease));
        }
        if now_ms.is_multiple_of(ROUND_MS) {
            for (shard, rounds) in shards.iter().zip(&mut rounds) {
                rounds.look(shard);
            }
            let idle = cluster.meters.sum(|meters| &meters.connections_idle);
            let spare: usize = cluster.endpoints.iter().map(|endpoint| endpoint.spares.count()).sum();
            in_use_most = in_use_most.max(under_way.len());
            open_most = open_most.max(under_way.len() + usize::try_from(idle).expect("few") + spare);
        }
    }
    manual::set(None);
    // Each shard for itself would come to most of these: a second exchange of the same two is four seconds away.
    let apart = SHARDS * ENDPOINTS;
    assert!(open_most * 10 < apart, "{open_most} connections, with {in_use_most} in use at the most");
    let moves = cluster.meters.sum(|meters| &meters.moves);
    assert!(moves > 1_000, "{moves} moved");
    assert!(u64::from(dials) * 1_000 <= u64::from(exchanges), "{dials} made for {exchanges} exchanges");
}
