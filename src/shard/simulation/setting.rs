//! How the shard of a world is configured: routes and limits, bounds that are small enough to be reached.
//!
//! Quotas have no more units than a window has cells, so that the limits can be reckoned anew exactly.

use std::sync::Arc;

use arc_swap::ArcSwap;
use fastrand::Rng;

use crate::{
    shared::{
        lifecycle::Lifecycle,
        log_ring::LogSender,
        meters::PerShard,
        revoked::{Fingerprints, Revoked, RevokedCell},
    },
    stage::{
        balance::Cluster,
        destination::{Destinations, PARTS, Share},
        fixture,
        headroom::Ceilings,
        limit::{By, Limit},
        retry::{Occasion, Policy},
        route::Route,
        snapshot::{Snapshot, Timeouts},
    },
};

use super::{
    super::{AuditEnds, BufferPlan, Driver, ShardPlan},
    script::{self, ROUTES},
};

/// The time-outs of this world, in milliseconds.
pub(super) const TIMEOUTS: Timeouts =
    Timeouts { head_ms: 3_000, body_ms: 3_000, idle_ms: 5_000, queue_ms: 0, body_rate_min: 0 };
/// How long an endpoint may take to answer.
pub(super) const RESPONSE_MS: u64 = 4_000;
/// After how long another endpoint is asked by one of the routes.
const HEDGE_MS: u64 = 300;
/// How long an exchange of one of the routes may take.
const EXCHANGE_MS: u64 = 2_500;
/// Routes that are audited, in worlds where any is: those without limits, or a request that was refused because it could
/// not be recorded would have to be reckoned among the admitted.
pub(super) const AUDITED: [&str; 2] = ["open", "small"];
/// The cluster that only gets copies.
pub(super) const SHADOW: usize = 1;
/// How long a connection may take to be made.
const CONNECT_MS: u64 = 1_000;
/// How long a connection may wait in the pool.
const POOL_IDLE_MS: u64 = 2_500;

/// What a buffer holds of a request, with heads as short as these.
pub(super) const BLOCK_BYTES: usize = 32 * 1024;

/// The plan of one world's shard, which logs to `log`, tells of exchanges to `samples` and audits some routes.
pub(super) fn plan(
    rng: &mut Rng,
    log: LogSender,
    samples: LogSender,
    audit: Option<AuditEnds>,
    is_audited: bool,
) -> ShardPlan {
    let connections_max = if rng.u32(..4) == 0 { 4 } else { 100 };
    let buffer_bytes = if rng.u32(..4) == 0 { 8 * BLOCK_BYTES } else { 4 << 20 };
    ShardPlan {
        index: 0,
        cpu: None,
        driver: Driver::Epoll,
        listeners: Vec::new(),
        connections_max,
        head_bytes_max: script::HEAD_BYTES_MAX,
        buffers: BufferPlan::new(buffer_bytes, script::HEAD_BYTES_MAX, connections_max),
        tokens_max: 16,
        revoked: RevokedCell::new(Revoked::new(Fingerprints::new([0, 0]), Default::default())),
        log: Some(log),
        audit,
        samples: Some(samples),
        snapshot: Arc::new(ArcSwap::from_pointee(snapshot(rng, is_audited))),
        lifecycle: Arc::new(Lifecycle::default()),
        meters: Arc::new(PerShard::new(1)),
    }
}

/// The configuration of one world.
fn snapshot(rng: &mut Rng, is_audited: bool) -> Snapshot {
    let header = || By::Header("X-Payer".into());
    let limits: [Vec<Limit>; 5] = [
        vec![],
        vec![fixture::limit(header(), "2/second;5 per 20 seconds")],
        vec![fixture::limit(header(), "3/second"), fixture::limit(By::Route, "6 per 5 seconds")],
        vec![fixture::limit(By::Consumer, "3 per 4 seconds")],
        vec![],
    ];
    let routes = ROUTES.iter().zip(limits).zip(0..).map(|((name, limits), index)| Route {
        limits: limits.into(),
        keys: (*name == "token").then_some(0),
        is_audited: is_audited && AUDITED.contains(name),
        body_bytes_max: match *name {
            "small" => script::SMALL_BODY_BYTES_MAX,
            _ => script::BODY_BYTES_MAX,
        } as u64,
        destinations: (*name == "open").then(|| {
            Box::new(Destinations {
                by_header: Box::default(),
                split: Box::default(),
                mirror: Some(Share { parts: PARTS / 2, cluster: SHADOW }),
                hasher: Destinations::hasher(name),
            })
        }),
        hedge_after_ms: (*name == "open").then_some(HEDGE_MS),
        timeout_ms: if *name == "both" { EXCHANGE_MS } else { u64::MAX },
        retry: match *name {
            script::EAGER => Policy {
                attempts_max: script::EAGER_ATTEMPTS,
                on: Occasion::WORDS.into_iter().map(|(_, occasion)| occasion).collect(),
                by_key: true,
            },
            _ => Policy::USUAL,
        },
        ..fixture::route(&format!("/{name}"), index)
    });
    let cluster = Cluster {
        connect_timeout_ms: CONNECT_MS,
        response_timeout_ms: RESPONSE_MS,
        idle_timeout_ms: POOL_IDLE_MS,
        idle_max: 1 + rng.usize(..3),
        ..fixture::cluster(&[1, 1, 2])
    };
    let mut shadow = Cluster {
        index: 1,
        connect_timeout_ms: CONNECT_MS,
        response_timeout_ms: RESPONSE_MS,
        idle_timeout_ms: POOL_IDLE_MS,
        ..fixture::cluster(&[1, 1])
    };
    for endpoint in &mut shadow.endpoints {
        endpoint.address.set_ip([127, 0, 0, 2].into());
        endpoint.slot += 3;
    }
    let queue_ms = if rng.bool() { 500 } else { 0 };
    Snapshot {
        clusters: [cluster, shadow].into(),
        slots: 5,
        timeouts: Timeouts { queue_ms, ..TIMEOUTS },
        ceilings: Ceilings { in_flight: if rng.u32(..3) == 0 { 4 } else { 100 }, critical_percent: 10 },
        // When who waited was decided on, only the steps say.
        timed_percent: if queue_ms > 0 { 100 } else { 50 },
        keepalive_requests: if rng.u32(..4) == 0 { 2 } else { 1_000 },
        ..fixture::snapshot(routes.collect())
    }
}
