//! Round robin: one after the other, smoothly by weight, and the same round for all shards.
//!
//! Stride scheduling (Waldspurger 1995): every endpoint has a next turn on a clock of its own, the earliest takes the
//! exchange, and its next turn is later by one over its weight. With weights 5, 1 and 1 that is a a b a a c a, never
//! five in a row. A turn is taken by one compare-and-swap, so shards never take the same one.

use crate::shared::load::is_before;

use super::{
    Endpoint,
    candidates::{Candidate, Candidates, Trust},
};

/// What a turn costs an endpoint of weight one part. Turns wrap, and are compared as such.
const STRIDE: u64 = 1 << 40;

pub(super) fn choose<'s>(all: Candidates<'s, '_>) -> Option<Candidate<'s>> {
    loop {
        let mut earliest: Option<(Candidate<'s>, u64)> = None;
        for candidate in all.iter() {
            let turn = candidate.endpoint.load.turn();
            // Half a stride before the turn, so that the heavy come first and are spread between the light.
            if earliest
                .as_ref()
                .is_none_or(|(best, first)| is_before(due(turn, &candidate), due(*first, best)))
            {
                earliest = Some((candidate, turn));
            }
        }
        let (mut candidate, turn) = earliest?;
        // Otherwise another shard took it, and got on.
        if candidate.endpoint.load.take_turn(turn, stride(&candidate)) {
            candidate.seen = candidate.endpoint.load.look();
            return Some(candidate);
        }
    }
}

fn stride(candidate: &Candidate<'_>) -> u64 {
    STRIDE / u64::from(candidate.weight)
}

fn due(turn: u64, candidate: &Candidate<'_>) -> u64 {
    turn.wrapping_add(stride(candidate) / 2)
}

/// The first turn of the endpoint at `place` among `count`, which joins a round that has got to `round`: spread over a
/// stride, so that equals do not come all at once.
pub fn first_turn(round: u64, weight: u32, place: usize, count: usize) -> u64 {
    round.wrapping_add(STRIDE / u64::from(weight.max(1)) / count.max(1) as u64 * place as u64)
}

/// Where the round of `endpoints` has got to: the earliest turn of those that take part. Who did not take part does not
/// make up for it, and begins from here.
pub fn round(endpoints: &[Endpoint]) -> Option<u64> {
    let all = Candidates { endpoints, skip: None, warm: None, trust: Trust::Anyone };
    let turns = all.iter().map(|candidate| candidate.endpoint.load.turn());
    turns.reduce(|one, other| if is_before(other, one) { other } else { one })
}
