//! Latency: the endpoint where a request would wait the least, by what an answer takes times those in flight.
//!
//! The estimate is a peak-sensitive moving average (Finagle's Peak EWMA): a slow answer raises it at once, from the
//! shard that got it, and control lets it fall again (`control/health/estimate.rs`), also without any answers, so
//! that nobody is forgotten. A failure counts as slow, or whoever fails fast would get everything.

use std::cmp::Ordering;

use super::candidates::{Candidate, Candidates, FEW};

pub(super) fn choose<'s>(all: Candidates<'s, '_>, rng: &mut fastrand::Rng) -> Option<Candidate<'s>> {
    if all.endpoints.len() <= FEW { all.least(order, rng) } else { all.lesser_of_two(order, rng) }
}

fn order(one: &Candidate<'_>, other: &Candidate<'_>) -> Ordering {
    let ours = wait(one) * u128::from(other.weight);
    let theirs = wait(other) * u128::from(one.weight);
    ours.cmp(&theirs).then_with(|| one.recently(other))
}

fn wait(candidate: &Candidate<'_>) -> u128 {
    let estimate_us = candidate.endpoint.standing.estimate_us().max(1);
    u128::from(estimate_us) * u128::from(candidate.with_one_more())
}
