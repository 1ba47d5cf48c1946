//! Least connections: the endpoint with the fewest exchanges in flight for its weight.
//!
//! Those that have none are all alike, whatever their weight, or a light one would get nothing in a quiet time. Among
//! equals the one that was given the least lately for its weight takes it: chance alone would give one of many idle
//! endpoints twice what another gets (HAProxy b6bdb2553).

use std::cmp::Ordering;

use super::candidates::{Candidate, Candidates, FEW};

pub(super) fn choose<'s>(all: Candidates<'s, '_>, rng: &mut fastrand::Rng) -> Option<Candidate<'s>> {
    if all.endpoints.len() <= FEW { all.least(order, rng) } else { all.lesser_of_two(order, rng) }
}

/// Who is idle, or would be less loaded with one more exchange: (in flight + 1) / weight, compared without dividing.
pub(super) fn order(one: &Candidate<'_>, other: &Candidate<'_>) -> Ordering {
    let load = |candidate: &Candidate<'_>| match candidate.seen.in_flight() {
        0 => 0,
        in_flight => u64::from(in_flight) + 1,
    };
    let ours = load(one) * u64::from(other.weight);
    let theirs = load(other) * u64::from(one.weight);
    ours.cmp(&theirs).then_with(|| one.recently(other))
}
