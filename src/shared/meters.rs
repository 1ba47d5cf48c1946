//! What is counted, and where: one set of meters per shard for each thing that is measured.
//!
//! Meters belong to the thing they measure (a route, a cluster, a shard) and outlive the snapshot that
//! mentions it, so a reload loses no count. Every number has one writer; see `counter.rs`.

use crossbeam::utils::CachePadded;

use super::{
    callers::Callers,
    counter::{Counter, Counters, Histogram},
};

/// One set of meters for each shard, on lines of their own.
#[derive(Debug)]
pub struct PerShard<T>(Box<[CachePadded<T>]>);

impl<T: Default> PerShard<T> {
    /// Zeroed meters for `shards` shards.
    pub fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| CachePadded::default()).collect())
    }

    /// The meters of one shard.
    pub fn of(&self, shard: usize) -> &T {
        &self.0[shard]
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.0.len()
    }

    /// Those of all shards, to be summed.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|padded| &**padded)
    }

    /// The sum of one counter over all shards.
    pub fn sum(&self, counter: impl Fn(&T) -> &Counter) -> u64 {
        self.iter().map(|meters| counter(meters).get()).sum()
    }
}

/// One shard's meters of one route.
#[derive(Debug, Default)]
pub struct RouteMeters {
    /// Answers by the first digit of their status; a client that was gone before its answer counts as 499.
    pub answers: [Counter; 6],
    /// Requests the route's limits let pass.
    pub admitted: Counter,
    /// Requests the route's limits refused.
    pub limited: Counter,
    /// Requests that a limit in shadow would have refused.
    pub shadow_limited: Counter,
    /// From the first byte of a request to the last of its answer.
    pub duration: Histogram,
    /// The endpoint's share of it, of requests that an endpoint saw.
    pub upstream: Histogram,
    /// The gateway's share of it.
    pub added: Histogram,
    /// Requests that kept the route's objective.
    pub kept: Counter,
    /// Requests that did not.
    pub missed: Counter,
}

/// Endpoints of a cluster that are counted each by itself.
pub const ENDPOINTS_COUNTED: usize = 64;

/// One shard's meters of one cluster.
#[derive(Debug, Default)]
pub struct ClusterMeters {
    /// Connections dialled.
    pub dials: Counter,
    /// Exchanges that found a pooled connection.
    pub reuses: Counter,
    /// Attempts that followed another one of the same exchange.
    pub retries: Counter,
    /// Those among them that were made while the first endpoint could still answer.
    pub hedges: Counter,
    /// Those among these that answered first.
    pub hedges_won: Counter,
    /// Attempts that were not made because the budget was used up.
    pub retries_denied: Counter,
    /// Copies of requests for other clusters that were answered.
    pub mirrored: Counter,
    /// Those that were not.
    pub mirrored_failed: Counter,
    /// Those that were not sent for want of room.
    pub mirrored_skipped: Counter,
    /// Requests that waited for an endpoint to have room.
    pub queue_waits: Counter,
    /// Connections taken from those that wait for any shard.
    pub moves: Counter,
    /// Connections in use now.
    pub connections_active: Counter,
    /// Connections it keeps to itself for the next exchange.
    pub connections_idle: Counter,
    /// Exchanges by the place of their endpoint; those from the last place on share one count.
    pub by_endpoint: Counters<ENDPOINTS_COUNTED>,
    /// From the first byte sent to an endpoint to the last one read from it.
    pub duration: Histogram,
}

/// One shard's meters of one endpoint.
#[derive(Debug, Default)]
pub struct EndpointMeters {
    /// Attempts that the endpoint answered as it should.
    pub good: Counter,
    /// Attempts that it did not: no connection, no answer, or one that counts as a failure.
    pub bad: Counter,
    /// Those of them that count as failures in a row.
    pub faults: Counter,
    /// Attempts whose time is in [`EndpointMeters::waited_us`].
    pub waits: Counter,
    /// Time until the answer began, in microseconds; a failure counts as slow.
    pub waited_us: Counter,
    /// Attempts for which no connection could be made.
    pub unreachable: Counter,
    /// Attempts on a connection made for them.
    pub fresh: Counter,
    /// Attempts on one that had served before.
    pub reused: Counter,
}

/// Verdicts on tokens and API keys.
#[derive(Debug, Default)]
pub struct TokenMeters {
    /// Verified anew.
    pub verified: Counter,
    /// Found among the tokens verified before.
    pub remembered: Counter,
    /// No token where one was required.
    pub missing: Counter,
    /// Refused.
    pub refused: Counter,
    /// Good but for its revocation; counted above as well.
    pub revoked: Counter,
    /// API keys accepted.
    pub keys_accepted: Counter,
    /// No API key where one was required.
    pub keys_missing: Counter,
    /// API keys refused.
    pub keys_refused: Counter,
    /// Accepted but for its revocation; counted above as well.
    pub keys_revoked: Counter,
}

/// Codes of refusals there can be; `stage::refusal::Code` must fit.
pub const CODES_MAX: usize = 48;

/// Ways for an exchange to end there can be; `stage::termination::Termination` must fit.
pub const TERMINATIONS_MAX: usize = 32;

/// One shard's meters of itself.
#[derive(Debug, Default)]
pub struct ShardMeters {
    /// Downstream connections open now.
    pub connections: Counter,
    /// Connections accepted so far.
    pub accepted: Counter,
    /// Times accepting paused because the system had no descriptor or memory for another connection.
    pub accept_pauses: Counter,
    /// Connections closed because they did not begin with the PROXY header that their address asks for.
    pub prefaces_refused: Counter,
    /// Exchanges in flight now.
    pub in_flight: Counter,
    /// Requests that waited for their turn because the shard was full.
    pub queue_waits: Counter,
    /// Requests that wait for it; set once a round.
    pub queued: Counter,
    /// Of them those that have a place at an endpoint.
    pub carried: Counter,
    /// Requests answered by the gateway itself, by code.
    pub refusals: Counters<CODES_MAX>,
    /// Exchanges by how they ended.
    pub terminations: Counters<TERMINATIONS_MAX>,
    /// Requests that match no route: no route's meters count them.
    pub unrouted: [Counter; 6],
    /// Verdicts on tokens.
    pub tokens: TokenMeters,
    /// From the first byte of a request to the last of its answer, over all routes.
    pub duration: Histogram,
    /// Who calls.
    pub callers: Callers,
    /// What the gateway added: duration minus the endpoint's share.
    pub added: Histogram,
    /// Records handed to the log, dropped ones included.
    pub log_records: Counter,
    /// Successes of which `log.sample` keeps no record.
    pub log_unsampled: Counter,
    /// Blocks rented now.
    pub blocks: Counter,
    /// The system's number for the shard's thread.
    pub thread: Counter,
}
