//! Hash: who is the same goes to the same endpoint, as long as that has no more than its fair share to do.
//!
//! Weighted rendezvous hashing (Schindelhauer and Schomaker 2005): every endpoint draws a number from the request's
//! key and its own name, and the highest takes it. When one leaves, only its keys move, and to all the others. With
//! bounded loads (Mirrokni, Thorup, Zadimoghaddam 2016): an endpoint with a quarter more in flight than its share
//! is passed over, so one busy key cannot drown it.

use super::candidates::{Candidate, Candidates};

/// Of its fair share in flight, what an endpoint may have: five quarters.
const SHARE_MAX: (u128, u128) = (5, 4);
/// So many it may have in any case: in a quiet time two at once are more than a fair share, and no burden.
const IN_FLIGHT_FREE: u32 = 8;

pub(super) fn choose<'s>(all: Candidates<'s, '_>, affinity: u64) -> Option<Candidate<'s>> {
    let (mut in_flight, mut weight) = (1, 0);
    for candidate in all.iter() {
        in_flight += u128::from(candidate.seen.in_flight());
        weight += u128::from(candidate.weight);
    }
    let has_room = |candidate: &Candidate<'_>| {
        let ours = u128::from(candidate.with_one_more()) * weight * SHARE_MAX.1;
        candidate.seen.in_flight() < IN_FLIGHT_FREE
            || ours <= in_flight * u128::from(candidate.weight) * SHARE_MAX.0
    };
    let best = highest(all.iter().filter(has_room), affinity);
    // Loads change while this looks: if nobody seemed to have room, the key's own endpoint has it.
    best.or_else(|| highest(all.iter(), affinity))
}

fn highest<'s>(candidates: impl Iterator<Item = Candidate<'s>>, affinity: u64) -> Option<Candidate<'s>> {
    let scored = candidates.map(|candidate| (score(&candidate, affinity), candidate));
    scored.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, candidate)| candidate)
}

/// A number from the key and the name; the higher the weight, the more often the highest.
fn score(candidate: &Candidate<'_>, affinity: u64) -> f64 {
    let mixed = mix(affinity ^ candidate.endpoint.identity);
    // Between zero and one, neither of them.
    let drawn = ((mixed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(candidate.weight) / -drawn.ln()
}

/// Spreads every bit over all others (the finalizer of MurmurHash3, variant 13).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}
