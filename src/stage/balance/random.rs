//! Random: of two endpoints, drawn by weight, the less loaded one (the power of two choices).

use super::{
    candidates::{Candidate, Candidates},
    least_connections::order,
};

pub(super) fn choose<'s>(all: Candidates<'s, '_>, rng: &mut fastrand::Rng) -> Option<Candidate<'s>> {
    all.lesser_of_two(order, rng)
}
