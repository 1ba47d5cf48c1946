//! Which endpoint of a cluster takes the exchange.
//!
//! Every policy is exact over shards: all shards count in the same padded words, and whoever chose on what another
//! shard has changed meanwhile chooses again. A [`Permit`] is one exchange counted in; dropping it counts it out, on
//! every path. Who may be chosen at all, and with which weight, is control's business; see `shared/standing.rs`.

mod affinity;
mod candidates;
mod care;
mod cluster;
mod experience;
mod hash;
mod latency;
mod least_connections;
mod load_report;
mod random;
mod round_robin;
mod warm;

pub use affinity::{HashBy, affinity};
pub use care::{Care, Ejection, Fuse, Probe, Question};
pub use cluster::{Cluster, Endpoint, Permit, Waiting};
pub use experience::{Fault, Faults, Finding, Trip, note};
pub use load_report::{AgentSaid, LoadReport, agent, utilization};
pub use round_robin::{first_turn, round};
pub use warm::Warm;

use arrayvec::ArrayVec;

use super::retry::ATTEMPTS_MAX;

use candidates::{Candidate, Trust};

/// How an endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The fewest exchanges in flight for its weight.
    LeastConnections,
    /// The least time to wait: what an answer takes, times those in flight.
    Latency,
    /// One after the other, as often as its weight says.
    RoundRobin,
    /// Two by chance, and of those the less loaded one.
    Random,
    /// By what the request says about whom it is for: the same goes to the same.
    Hash(HashBy),
}

impl Balance {
    /// As the configuration spells it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::LeastConnections => "least-connections",
            Self::Latency => "latency",
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
            Self::Hash(_) => "hash",
        }
    }

    /// What is hashed, as the configuration spells it.
    pub fn hash_by(&self) -> Option<String> {
        match self {
            Self::Hash(by) => Some(by.to_string()),
            _ => None,
        }
    }
}

/// Places of endpoints in their cluster that an exchange has tried.
pub type Tried = ArrayVec<u16, { ATTEMPTS_MAX as usize }>;

/// What is asked of a choice besides the policy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    /// None of these.
    pub skip: Option<&'a Tried>,
    /// Whom the request is for; see [`affinity`]. Chosen otherwise when absent.
    pub affinity: Option<u64>,
    /// Who is preferred among equals.
    pub warm: Option<&'a Warm>,
}

/// Why no endpoint takes the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPermit {
    /// There is none that may be chosen.
    NoEndpoint,
    /// There are, and all of them have as many in flight as they may.
    AllFull,
}

/// Chooses an endpoint and counts the exchange in.
///
/// # Errors
/// Why that is not possible.
pub fn pick<'s>(
    cluster: &'s Cluster,
    wish: Wish<'_>,
    rng: &mut fastrand::Rng,
) -> Result<Permit<'s>, NoPermit> {
    loop {
        let chosen = match choose(cluster, wish, Trust::Unsuspected, rng) {
            // All that is left is suspect, and better than nothing until control has looked.
            None => choose(cluster, wish, Trust::Anyone, rng),
            chosen => chosen,
        };
        let Some(mut candidate) = chosen else {
            return Err(candidates::why_none(&cluster.endpoints, wish.skip));
        };
        // Another shard may have counted itself in since we looked; then this is no longer the one to take.
        // Each time round some shard has got on, so this ends.
        loop {
            if let Some(permit) = Permit::enter(cluster, &candidate, wish.affinity) {
                return Ok(permit);
            }
            // A turn that was taken is used, whatever the load is by now.
            candidate = match candidate.again() {
                Some(again) if cluster.balance == Balance::RoundRobin => again,
                _ => break,
            };
        }
    }
}

fn choose<'s>(
    cluster: &'s Cluster,
    wish: Wish<'_>,
    trust: Trust,
    rng: &mut fastrand::Rng,
) -> Option<Candidate<'s>> {
    let all =
        candidates::Candidates { endpoints: &cluster.endpoints, skip: wish.skip, warm: wish.warm, trust };
    match (&cluster.balance, wish.affinity) {
        (Balance::Hash(_), Some(affinity)) => hash::choose(all, affinity),
        (Balance::LeastConnections | Balance::Hash(_), _) => least_connections::choose(all, rng),
        (Balance::Latency, _) => latency::choose(all, rng),
        (Balance::RoundRobin, _) => round_robin::choose(all),
        (Balance::Random, _) => random::choose(all, rng),
    }
}

#[cfg(test)]
mod tests;
