//! What an exchange leaves behind in the counters. Pure: the same outcome always counts the same.

use crate::shared::{
    meters::{ENDPOINTS_COUNTED, ShardMeters},
    record::Delivery,
};

use super::{
    balance::Cluster,
    refusal::{Code, Refusal},
    route::Route,
    termination::Termination,
};

/// What became of one exchange.
#[derive(Debug)]
pub struct Outcome<'s> {
    /// The status the client was sent; 499 when it was gone first.
    pub status: u16,
    /// Why the gateway answered itself, if it did.
    pub refusal: Option<Refusal>,
    /// What went wrong without an answer of ours: the client left, the endpoint broke off. Empty if nothing.
    pub reason: &'static str,
    /// Who ended it, and where.
    pub termination: Termination,
    /// The cluster of the last attempt and the endpoint's place in it.
    pub endpoint: Option<(&'s Cluster, u16)>,
    /// Attempts made.
    pub attempts: u8,
    /// How far the request got.
    pub delivery: Delivery,
    /// Time spent with the endpoint, in microseconds.
    pub upstream_us: u64,
}

impl Outcome<'_> {
    /// Why it ended as it did, for the log; empty when there is nothing to say.
    pub fn reason(&self) -> &'static str {
        match &self.refusal {
            Some(refusal) => refusal.reason,
            None => self.reason,
        }
    }

    /// Whether an endpoint's 2xx or 3xx reached the client whole. Nothing else is a success to the log.
    pub fn is_success(&self) -> bool {
        (200..400).contains(&self.status)
            && self.refusal.is_none()
            && self.reason.is_empty()
            && self.delivery == Delivery::Answered
    }

    /// The code of the gateway's own answer.
    pub fn code(&self) -> Option<Code> {
        self.refusal.as_ref().map(|refusal| refusal.code)
    }
}

/// Counts `outcome` of an exchange that took `duration_us`.
pub fn settle(
    shard: usize,
    meters: &ShardMeters,
    route: Option<&Route>,
    outcome: &Outcome<'_>,
    duration_us: u64,
) {
    let class = usize::from(outcome.status / 100).min(5);
    match route {
        Some(route) => {
            let meters = route.meters.of(shard);
            meters.answers[class].add(1);
            meters.duration.record(duration_us);
            meters.added.record(duration_us.saturating_sub(outcome.upstream_us));
            match route.objective.and_then(|objective| objective.is_kept(outcome.status, duration_us)) {
                Some(true) => meters.kept.add(1),
                Some(false) => meters.missed.add(1),
                None => {}
            }
            match outcome.code() {
                Some(Code::QuotaExceeded) => meters.limited.add(1),
                // Refused before the limits had a say.
                Some(
                    Code::Overloaded
                    | Code::TokenMissing
                    | Code::TokenInvalid
                    | Code::ApiKeyMissing
                    | Code::ApiKeyInvalid
                    | Code::CredentialsConflict
                    | Code::ScopeInsufficient
                    | Code::RoleMissing
                    | Code::ConsumerNotAllowed
                    | Code::LimitKeyMissing
                    | Code::VersionRetired
                    | Code::VersionBrownout
                    | Code::OperationUnknown
                    | Code::MethodNotAllowed,
                ) => {}
                _ if !route.limits.is_empty() => meters.admitted.add(1),
                _ => {}
            }
        }
        None => meters.unrouted[class].add(1),
    }
    meters.terminations[outcome.termination as usize].add(1);
    if let Some(code) = outcome.code() {
        meters.refusals[code as usize].add(1);
    }
    // An endpoint that was sent nothing took no time either; a zero would only make it look fast.
    if let Some((cluster, endpoint)) = outcome.endpoint
        && outcome.delivery != Delivery::NotSent
    {
        let of_cluster = cluster.meters.of(shard);
        of_cluster.duration.record(outcome.upstream_us);
        of_cluster.by_endpoint[usize::from(endpoint).min(ENDPOINTS_COUNTED - 1)].add(1);
        if let Some(route) = route {
            route.meters.of(shard).upstream.record(outcome.upstream_us);
        }
    }
    meters.duration.record(duration_us);
    meters.added.record(duration_us.saturating_sub(outcome.upstream_us));
}
