//! Counters and histograms of one shard, read by the control thread.
//!
//! Each has a single writer, so adding is a load and a store: no locked instruction, and no line that two
//! shards fight over. A reader may see a sum that is a moment older than its parts.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread writes and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`. Only the owning thread may call this.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Takes `amount` away, for gauges. Only the owning thread may call this.
    pub fn subtract(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(amount), Ordering::Relaxed);
    }

    /// Replaces the value, for gauges. Only the owning thread may call this.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Several numbers in a row.
#[derive(Debug)]
pub struct Counters<const N: usize>([Counter; N]);

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self([const { Counter(AtomicU64::new(0)) }; N])
    }
}

impl<const N: usize> std::ops::Index<usize> for Counters<N> {
    type Output = Counter;

    fn index(&self, index: usize) -> &Counter {
        &self.0[index]
    }
}

/// Sub-buckets per power of two: a value is known to one part in sixteen.
const STEPS_LOG2: u32 = 4;
/// Values from here on (134 s) share the last bucket.
const VALUE_LOG2_MAX: u32 = 27;
/// Buckets of a histogram.
const BUCKETS: usize = ((VALUE_LOG2_MAX - STEPS_LOG2 + 1) << STEPS_LOG2) as usize;

/// A log-linear histogram of microseconds.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[Counter; BUCKETS]>,
    sum_us: Counter,
}

impl Histogram {
    /// Empty.
    pub fn new() -> Self {
        Self {
            buckets: Box::new([const { Counter(AtomicU64::new(0)) }; BUCKETS]),
            sum_us: Counter::default(),
        }
    }

    /// Counts one value. Only the owning thread may call this.
    pub fn record(&self, value_us: u64) {
        self.buckets[bucket_of(value_us)].add(1);
        self.sum_us.add(value_us);
    }

    /// Adds what was recorded here to `total`.
    pub fn add_to(&self, total: &mut HistogramTotal) {
        for (sum, bucket) in total.buckets.iter_mut().zip(self.buckets.iter()) {
            *sum += bucket.get();
        }
        total.sum_us += self.sum_us.get();
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// The sum of several shards' histograms.
#[derive(Clone, Debug)]
pub struct HistogramTotal {
    buckets: Vec<u64>,
    /// Sum of all values, in microseconds.
    pub sum_us: u64,
}

impl HistogramTotal {
    /// Empty.
    pub fn new() -> Self {
        Self { buckets: vec![0; BUCKETS], sum_us: 0 }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// What was recorded since `earlier`, a total of the same histograms.
    pub fn since(&self, earlier: &Self) -> Self {
        let buckets = self.buckets.iter().zip(&earlier.buckets);
        Self {
            buckets: buckets.map(|(now, then)| now.saturating_sub(*then)).collect(),
            sum_us: self.sum_us.saturating_sub(earlier.sum_us),
        }
    }

    /// A value that `share` of all values do not exceed, to one part in sixteen; `None` without values.
    pub fn quantile_us(&self, share: f64) -> Option<u64> {
        let count = self.count();
        let mut below = 0;
        let wanted = share * count as f64;
        let place = self.buckets.iter().position(|&values| {
            below += values;
            values > 0 && below as f64 >= wanted
        });
        place.map(top_of)
    }

    /// How many values are certainly at most `limit_us`; one that may lie above is not counted.
    pub fn count_up_to(&self, limit_us: u64) -> u64 {
        self.buckets.iter().enumerate().filter(|&(index, _)| top_of(index) <= limit_us).map(|(_, &n)| n).sum()
    }
}

impl Default for HistogramTotal {
    fn default() -> Self {
        Self::new()
    }
}

fn bucket_of(value_us: u64) -> usize {
    let value = value_us.min((1 << VALUE_LOG2_MAX) - 1);
    let log2 = (value | 1).ilog2();
    let bucket = if log2 < STEPS_LOG2 {
        value
    } else {
        let row = u64::from(log2 - STEPS_LOG2 + 1);
        (row << STEPS_LOG2) + ((value >> (log2 - STEPS_LOG2)) & ((1 << STEPS_LOG2) - 1))
    };
    usize::try_from(bucket).unwrap_or(BUCKETS - 1)
}

/// The largest value that falls into the bucket at `index`.
fn top_of(index: usize) -> u64 {
    let (row, step) = (index as u64 >> STEPS_LOG2, index as u64 & ((1 << STEPS_LOG2) - 1));
    match row {
        0 => step,
        _ => (((1 << STEPS_LOG2) + step + 1) << (row - 1)) - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket() {
        for value in (0..5_000).chain((0..60).map(|shift| 1_u64 << shift)) {
            let bucket = bucket_of(value);
            let clamped = value.min((1 << VALUE_LOG2_MAX) - 1);
            assert!(top_of(bucket) >= clamped, "{value}");
            assert!(bucket == 0 || top_of(bucket - 1) < clamped, "{value}");
            assert!(top_of(bucket) as f64 <= clamped as f64 * 1.0625 + 1.0, "{value}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn totals_add_up() {
        let (first, second) = (Histogram::new(), Histogram::new());
        first.record(10);
        first.record(2_000);
        second.record(1_000_000);
        let mut total = HistogramTotal::new();
        first.add_to(&mut total);
        second.add_to(&mut total);
        assert_eq!((total.count(), total.sum_us), (3, 1_002_010));
        assert_eq!(total.count_up_to(10), 1);
        assert_eq!(total.count_up_to(2_500), 2);
        assert_eq!(total.count_up_to(u64::MAX), 3);
        for (share, value_us) in [(0.0, 10), (0.3, 10), (0.5, 2_000), (1.0, 1_000_000)] {
            let quantile_us = total.quantile_us(share).unwrap();
            assert!((value_us..=value_us + value_us / 16).contains(&quantile_us), "{share}: {quantile_us}");
        }
        let later = {
            first.record(10);
            let mut later = HistogramTotal::new();
            first.add_to(&mut later);
            second.add_to(&mut later);
            later.since(&total)
        };
        assert_eq!((later.count(), later.sum_us, later.quantile_us(0.99)), (1, 10, Some(10)));
        assert_eq!(HistogramTotal::new().quantile_us(0.5), None);
    }

    #[test]
    fn counters_count() {
        let counter = Counter::default();
        counter.add(5);
        counter.subtract(2);
        assert_eq!(counter.get(), 3);
        counter.set(9);
        assert_eq!(counter.get(), 9);
    }
}
