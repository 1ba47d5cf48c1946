//! What a route promises: so many of its requests answered well, and within this time.
//!
//! A request is bad when it was answered with 5xx, by whomever, or took too long. A client that left (499) before
//! that time counts neither way: nobody knows what it would have got.

/// A service level objective, as in `99.9% < 250ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Objective {
    /// Of a million requests, how many must be good.
    pub good_per_million: u32,
    /// How long a good one takes at most, in microseconds.
    pub within_us: u64,
}

impl Objective {
    /// Whether a request kept it; `None` if it says nothing about it.
    pub fn is_kept(self, status: u16, duration_us: u64) -> Option<bool> {
        let in_time = duration_us < self.within_us;
        match status {
            499 if in_time => None,
            status => Some(in_time && status < 500),
        }
    }

    /// The share of requests that may be bad.
    pub fn budget(self) -> f64 {
        1.0 - f64::from(self.good_per_million) / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_and_broken_answers_are_bad() {
        let objective = Objective { good_per_million: 999_000, within_us: 250_000 };
        assert_eq!(objective.is_kept(200, 249_999), Some(true));
        assert_eq!(objective.is_kept(200, 250_000), Some(false));
        assert_eq!(objective.is_kept(429, 10), Some(true));
        assert_eq!(objective.is_kept(503, 10), Some(false));
        assert_eq!(objective.is_kept(499, 10), None);
        assert_eq!(objective.is_kept(499, 250_000), Some(false));
        assert!((objective.budget() - 0.001).abs() < 1e-9);
    }
}
