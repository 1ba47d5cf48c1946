//! Who of a cluster can be chosen, and the two ways to look for the best: at all of them, or at two by chance.
//!
//! A look at an endpoint's load is a cache line that every shard writes; a look at its weight is one that hardly
//! anybody does. So all weights may be read, and of many endpoints only two loads.

use std::cmp::Ordering;

use crate::shared::load::Seen;

use super::{Endpoint, NoPermit, Tried, Warm};

/// Endpoints up to which all of them are looked at. Beyond it two choices are nearly as good, and the cost of a choice
/// does not grow with the cluster.
pub(super) const FEW: usize = 16;

/// Whether endpoints that a shard suspects are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    Unsuspected,
    Anyone,
}

/// An endpoint that can be chosen, as it was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'s> {
    pub(super) endpoint: &'s Endpoint,
    /// Its effective weight, at least one.
    pub(super) weight: u32,
    pub(super) seen: Seen,
}

impl<'s> Candidate<'s> {
    /// The same as it is by now, if it can still be chosen.
    pub(super) fn again(&self) -> Option<Self> {
        look(self.endpoint, self.weight, self.endpoint.standing.terms().ceiling)
    }

    /// Exchanges in flight with one more.
    pub(super) fn with_one_more(&self) -> u64 {
        u64::from(self.seen.in_flight()) + 1
    }

    /// Who was given less lately for its weight.
    pub(super) fn recently(&self, other: &Self) -> Ordering {
        let ours = u64::from(self.seen.begun()) * u64::from(other.weight);
        ours.cmp(&(u64::from(other.seen.begun()) * u64::from(self.weight)))
    }
}

/// Where to look for candidates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidates<'s, 'w> {
    pub(super) endpoints: &'s [Endpoint],
    pub(super) skip: Option<&'w Tried>,
    /// Who is preferred among equals.
    pub(super) warm: Option<&'w Warm>,
    pub(super) trust: Trust,
}

impl<'s> Candidates<'s, '_> {
    /// `endpoint` with its weight and ceiling, if it may be chosen at all.
    fn weighed(self, endpoint: &'s Endpoint) -> Option<(&'s Endpoint, u32, u32)> {
        let terms = endpoint.standing.terms();
        let shunned = terms.is_suspect && self.trust == Trust::Unsuspected;
        let skipped = self.skip.is_some_and(|skip| skip.contains(&endpoint.index));
        (terms.weight > 0 && !shunned && !skipped).then_some((endpoint, terms.weight, terms.ceiling))
    }

    fn all_weighed(self) -> impl Iterator<Item = (&'s Endpoint, u32, u32)> {
        self.endpoints.iter().filter_map(move |endpoint| self.weighed(endpoint))
    }

    /// All that can be chosen.
    pub(super) fn iter(self) -> impl Iterator<Item = Candidate<'s>> {
        self.all_weighed().filter_map(|(endpoint, weight, ceiling)| look(endpoint, weight, ceiling))
    }

    /// The least by `order`; if several are, one with a connection that waits for it, and of those one by chance.
    pub(super) fn least(
        self,
        order: impl Fn(&Candidate<'_>, &Candidate<'_>) -> Ordering,
        rng: &mut fastrand::Rng,
    ) -> Option<Candidate<'s>> {
        let mut candidates = self.iter();
        let mut best = candidates.next()?;
        let mut equals = 1;
        for candidate in candidates {
            match order(&candidate, &best) {
                Ordering::Less => (best, equals) = (candidate, 1),
                Ordering::Equal => match self.is_warm(&candidate).cmp(&self.is_warm(&best)) {
                    Ordering::Less => {}
                    Ordering::Greater => (best, equals) = (candidate, 1),
                    Ordering::Equal => {
                        equals += 1;
                        if rng.u32(0..equals) == 0 {
                            best = candidate;
                        }
                    }
                },
                Ordering::Greater => {}
            }
        }
        Some(best)
    }

    fn is_warm(&self, candidate: &Candidate<'_>) -> bool {
        self.warm.is_some_and(|warm| warm.has(candidate.endpoint))
    }

    /// The lesser by `order` of two that are drawn by weight. Of all when those two are full.
    pub(super) fn lesser_of_two(
        self,
        order: impl Fn(&Candidate<'_>, &Candidate<'_>) -> Ordering,
        rng: &mut fastrand::Rng,
    ) -> Option<Candidate<'s>> {
        let total: u64 = self.all_weighed().map(|(_, weight, _)| u64::from(weight)).sum();
        if total == 0 {
            return None;
        }
        let first = self.at(rng.u64(..total), None)?;
        let rest = total.saturating_sub(u64::from(first.1));
        let second = if rest == 0 { None } else { self.at(rng.u64(..rest), Some(first.0)) };
        let looked = |drawn: (&'s Endpoint, u32, u32)| look(drawn.0, drawn.1, drawn.2);
        match (looked(first), second.and_then(looked)) {
            (Some(one), Some(other)) if order(&other, &one) == Ordering::Less => Some(other),
            (Some(one), _) => Some(one),
            (None, Some(other)) => Some(other),
            (None, None) => self.least(order, rng),
        }
    }

    /// Who stands at `place` when all but `without` stand in a row, each as broad as its weight. Weights may change
    /// while this looks, so a place can lie beyond the last; then the last has it.
    fn at(self, mut place: u64, without: Option<&Endpoint>) -> Option<(&'s Endpoint, u32, u32)> {
        let mut last = None;
        for weighed in self.all_weighed() {
            if without.is_some_and(|without| without.slot == weighed.0.slot) {
                continue;
            }
            last = Some(weighed);
            match place.checked_sub(u64::from(weighed.1)) {
                Some(rest) => place = rest,
                None => break,
            }
        }
        last
    }
}

fn look(endpoint: &Endpoint, weight: u32, ceiling: u32) -> Option<Candidate<'_>> {
    let seen = endpoint.load.look();
    (seen.in_flight() < ceiling).then_some(Candidate { endpoint, weight, seen })
}

/// Why there was no candidate.
#[cold]
pub(super) fn why_none(endpoints: &[Endpoint], skip: Option<&Tried>) -> NoPermit {
    let all = Candidates { endpoints, skip, warm: None, trust: Trust::Anyone };
    if all.all_weighed().next().is_some() { NoPermit::AllFull } else { NoPermit::NoEndpoint }
}
