//! How evenly connections find the shards.
//!
//! Looked at once a second over the last minute, whatever spreads them: a program steered by busy queues and a hash of
//! few clients can both leave a shard idle, and only counting tells.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
};

/// Looks that are remembered, one a second.
const LOOKS: usize = 60;
/// With fewer connections than this, chance is all there is to see.
const ACCEPTS_MIN: u64 = 100;
/// Each shard gets its share.
const EVEN_PERMILLE: u64 = 1_000;

/// The busiest shard's connections as a multiple of an even share. One writer, the control thread; whoever reads wants
/// the last value and orders nothing by it.
#[derive(Debug)]
pub struct Imbalance(AtomicU64);

impl Default for Imbalance {
    fn default() -> Self {
        Self(AtomicU64::new(EVEN_PERMILLE))
    }
}

impl Imbalance {
    /// From 1, even, to the number of shards, all on one. 1 as well while fewer than 100 connections are counted.
    pub fn ratio(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64 / EVEN_PERMILLE as f64
    }

    pub(super) fn set(&self, permille: u64) {
        self.0.store(permille, Ordering::Relaxed);
    }
}

/// What each shard had accepted at the last looks.
#[derive(Debug)]
pub(super) struct Accepts(VecDeque<Vec<u64>>);

impl Accepts {
    /// Before any of so many shards accepts.
    pub(super) fn new(shards: usize) -> Self {
        Self(VecDeque::from([vec![0; shards]]))
    }

    /// Takes a look at what each shard has accepted by now; the imbalance since the oldest look, in thousandths.
    pub(super) fn advance(&mut self, counts: Vec<u64>) -> u64 {
        let since = self.0.front().unwrap_or(&counts);
        let grown = || counts.iter().zip(since).map(|(now, then)| now.saturating_sub(*then));
        let (sum, most) = (grown().sum::<u64>(), grown().max().unwrap_or(0));
        let imbalance = match sum {
            0..ACCEPTS_MIN => EVEN_PERMILLE,
            sum => most * counts.len() as u64 * EVEN_PERMILLE / sum,
        };
        if self.0.len() == LOOKS {
            self.0.pop_front();
        }
        self.0.push_back(counts);
        imbalance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken by counting since the start: an hour of even load would hide a shard that gets nothing now.
    #[test]
    fn the_last_minute_counts() {
        let mut accepts = Accepts::new(2);
        assert_eq!(accepts.advance(vec![50, 49]), EVEN_PERMILLE, "too few");
        assert_eq!(accepts.advance(vec![100, 100]), EVEN_PERMILLE);
        assert_eq!(accepts.advance(vec![300, 100]), 1_500);
        for _ in 0..LOOKS {
            accepts.advance(vec![300, 100]);
        }
        assert_eq!(accepts.advance(vec![300, 300]), 2_000);
        assert_eq!(Imbalance::default().ratio(), 1.0);
    }
}
