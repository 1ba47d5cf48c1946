//! Tokens verified before, so that a client that sends the same one again costs a comparison and no
//! signature.
//!
//! Keyed by the whole token and the key set; holds only tokens whose signature was good, so nobody fills
//! it with rubbish. Bounded: four places for each hash, the one that expired or else the oldest makes way.
//! What time can change is not remembered but checked on every request.

use std::{hash::BuildHasher, rc::Rc};

use super::{jwt::Verified, key::KeySet};

/// Places a token can have.
const WAYS: usize = 4;

/// The tokens one shard remembers.
#[derive(Debug)]
pub struct TokenCache {
    sets: Box<[Set]>,
    hasher: foldhash::quality::RandomState,
}

#[derive(Debug, Default)]
struct Set {
    places: [Option<Remembered>; WAYS],
    /// The place that makes way next.
    oldest: usize,
}

#[derive(Debug)]
struct Remembered {
    /// Which of the key sets; a reload that changes them clears the cache.
    keys: usize,
    /// The published keys it was verified with.
    generation: u64,
    token: Box<[u8]>,
    verified: Rc<Verified>,
}

impl TokenCache {
    /// A cache for up to `tokens_max` tokens, rounded up to a power of two; none for zero.
    pub fn new(tokens_max: usize) -> Self {
        let sets = if tokens_max == 0 { 0 } else { tokens_max.div_ceil(WAYS).next_power_of_two() };
        Self {
            sets: (0..sets).map(|_| Set::default()).collect(),
            hasher: foldhash::quality::RandomState::default(),
        }
    }

    /// What `token` said when it was verified with `keys`.
    pub fn get(&self, keys: &KeySet, token: &[u8]) -> Option<Rc<Verified>> {
        let set = self.sets.get(self.place(token))?;
        let remembered = set
            .places
            .iter()
            .flatten()
            .find(|remembered| remembered.keys == keys.index && *remembered.token == *token)
            .filter(|remembered| remembered.generation == keys.generation())?;
        Some(Rc::clone(&remembered.verified))
    }

    /// Remembers that `token` was verified with `keys`, of whose published ones `generation` was in force.
    pub fn put(&mut self, keys: &KeySet, generation: u64, token: &[u8], verified: &Rc<Verified>, now_s: i64) {
        let place = self.place(token);
        let Some(set) = self.sets.get_mut(place) else { return };
        let free = set.places.iter().position(|place| {
            place.as_ref().is_none_or(|remembered| remembered.verified.has_expired(keys.leeway_s, now_s))
        });
        let place = free.unwrap_or_else(|| {
            set.oldest = (set.oldest + 1) % WAYS;
            set.oldest
        });
        set.places[place] = Some(Remembered {
            keys: keys.index,
            generation,
            token: token.into(),
            verified: Rc::clone(verified),
        });
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        for set in &mut self.sets {
            *set = Set::default();
        }
    }

    fn place(&self, token: &[u8]) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "a hash has bits to spare")]
        let hash = self.hasher.hash_one(token) as usize;
        hash & self.sets.len().wrapping_sub(1)
    }
}
