//! How many further attempts a cluster may be asked for: a share of its requests, and a few on top.
//!
//! When everything fails, attempts that follow failures are what keeps a service from recovering. The
//! account is each shard's own, so a request costs it nothing: what was earned is reckoned when an attempt
//! asks, from counters that are there anyway. A shard's requests earn its own attempts, and the floor is
//! shared out, so the sum over shards keeps to the same bound.

use crate::shared::counter::Counter;

/// Attempts that can be saved up, by each shard.
const SAVED_MAX: u64 = 100;
/// The account is in millionths of an attempt.
const ATTEMPT: u64 = 1_000_000;

/// What a shard earns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Attempts for a hundred requests.
    pub percent: u32,
    /// Thousandths of an attempt in a second, whatever the requests.
    pub floor_milli: u64,
}

/// One shard's account with one cluster. The shard alone uses it.
#[derive(Debug, Default)]
pub struct Budget {
    saved: Counter,
    /// Requests that have been reckoned.
    requests: Counter,
    /// When it was last reckoned, in milliseconds; zero before the first time, when it is full.
    at_ms: Counter,
}

impl Budget {
    /// Takes one attempt, if there is one to take. `requests` are those of the shard to the cluster so far.
    ///
    /// In any stretch of time there are no more than its requests and its length earn, and [`SAVED_MAX`].
    pub fn take(&self, allowance: Allowance, requests: u64, now_ms: u64) -> bool {
        if allowance.percent == 0 && allowance.floor_milli == 0 {
            return false;
        }
        let saved = match self.at_ms.get() {
            0 => SAVED_MAX * ATTEMPT,
            at_ms => {
                let by_requests = requests
                    .saturating_sub(self.requests.get())
                    .saturating_mul(u64::from(allowance.percent) * (ATTEMPT / 100));
                let by_time = now_ms.saturating_sub(at_ms).saturating_mul(allowance.floor_milli);
                let earned = by_requests.saturating_add(by_time);
                self.saved.get().saturating_add(earned).min(SAVED_MAX * ATTEMPT)
            }
        };
        self.requests.set(requests);
        self.at_ms.set(now_ms.max(1));
        let taken = saved >= ATTEMPT;
        self.saved.set(if taken { saved - ATTEMPT } else { saved });
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Allowance = Allowance { percent: 20, floor_milli: 10_000 };

    /// Broken by a share that counts the attempts it allows, or by an account that forgets a remainder.
    #[test]
    fn a_share_of_the_requests_and_a_floor() {
        let budget = Budget::default();
        let taken = |times: u64, requests: u64, now_ms: u64| {
            (0..times).filter(|_| budget.take(USUAL, requests, now_ms)).count()
        };
        assert_eq!(taken(200, 0, 1_000), 100, "full to begin with");
        // Nobody asks anything: the floor. A request at a time, a millisecond at a time: nothing is lost.
        assert_eq!((1_001..2_001).map(|now_ms| taken(9, 0, now_ms)).sum::<usize>(), 10);
        assert_eq!((1..=1_000).map(|requests| taken(9, requests, 2_000)).sum::<usize>(), 200);
        assert_eq!(taken(200, 1_000_000, 2_000), 100, "no more is saved up");
    }

    #[test]
    fn a_small_share_of_the_floor_adds_up() {
        let budget = Budget::default();
        let allowance = Allowance { percent: 0, floor_milli: 156 };
        (0..100).for_each(|_| assert!(budget.take(allowance, 0, 1)));
        let taken = (2..=100_001).filter(|&now_ms| budget.take(allowance, 0, now_ms)).count();
        assert_eq!(taken, 15);
    }

    #[test]
    fn nothing_is_nothing() {
        let none = Allowance { percent: 0, floor_milli: 0 };
        assert!(!Budget::default().take(none, 1_000, 1_000));
    }
}
