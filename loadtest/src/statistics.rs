//! Deciding on samples: confidence intervals of shares and of ratios. Pure arithmetic.

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// The normal quantile of a two-sided 95 % interval.
const Z: f64 = 1.96;
/// Resamples of a bootstrap.
const RESAMPLES: usize = 2_000;

/// A confidence interval of 95 %.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// How often something happened in one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hits {
    pub(crate) hits: u64,
    pub(crate) of: u64,
}

/// The share of hits, with Wilson's interval. Seconds that differ more than chance would have them differ (requests
/// of one stall are not independent) widen it by their design effect.
pub(crate) fn share(seconds: &[Hits]) -> (f64, Interval) {
    let hits: u64 = seconds.iter().map(|second| second.hits).sum();
    let of: u64 = seconds.iter().map(|second| second.of).sum();
    if of == 0 {
        return (0.0, Interval { low: 0.0, high: 1.0 });
    }
    let share = hits as f64 / of as f64;
    (share, wilson(share, of as f64 / design_effect(seconds, share)))
}

/// Wilson's score interval of a share seen in `n` independent trials.
fn wilson(share: f64, n: f64) -> Interval {
    let square = Z * Z;
    let middle = (share + square / (2.0 * n)) / (1.0 + square / n);
    let half = Z / (1.0 + square / n) * (share * (1.0 - share) / n + square / (4.0 * n * n)).sqrt();
    Interval { low: (middle - half).max(0.0), high: (middle + half).min(1.0) }
}

/// The variance between seconds over the variance that independent requests would show; at least 1.
fn design_effect(seconds: &[Hits], share: f64) -> f64 {
    let filled: Vec<&Hits> = seconds.iter().filter(|second| second.of > 0).collect();
    let variance = share * (1.0 - share);
    if filled.len() < 3 || variance == 0.0 {
        return 1.0;
    }
    let spread: f64 = filled
        .iter()
        .map(|second| {
            let of = second.of as f64;
            of * (second.hits as f64 / of - share).powi(2) / variance
        })
        .sum();
    (spread / (filled.len() - 1) as f64).max(1.0)
}

/// The geometric mean of ratios of pairs, above over below, with a bootstrap interval (percentile method, pairs
/// resampled). A plain percentile interval of few pairs is too narrow; it is expanded as Hesterberg does ("What
/// Teachers Should Know About the Bootstrap", 2014), so that equal targets are called different in 1 of 20 cases.
///
/// `None` for fewer than two pairs, or when a value is not more than 0.
pub(crate) fn ratio(pairs: &[(f64, f64)], seed: u64) -> Option<(f64, Interval)> {
    if pairs.len() < 2 || pairs.iter().any(|&(below, above)| !(below > 0.0 && above > 0.0)) {
        return None;
    }
    let logs: Vec<f64> = pairs.iter().map(|&(below, above)| (above / below).ln()).collect();
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / logs.len() as f64;
    let mut random = StdRng::seed_from_u64(seed);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| mean(&mut (0..logs.len()).map(|_| logs[random.random_range(0..logs.len())])))
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    let middle = mean(&mut logs.iter().copied());
    let expansion = (logs.len() as f64 / (logs.len() - 1) as f64).sqrt() * student(logs.len() - 1) / Z;
    let at = |share: f64| {
        let plain = means[((RESAMPLES - 1) as f64 * share).round() as usize];
        (middle + (plain - middle) * expansion).exp()
    };
    Some((middle.exp(), Interval { low: at(0.025), high: at(0.975) }))
}

/// The 97.5 % quantile of Student's distribution, by its expansion around the normal one (Abramowitz and Stegun
/// 26.7.5): right to 1 % from 3 degrees of freedom on.
fn student(freedom: usize) -> f64 {
    let n = freedom as f64;
    let first = (Z.powi(3) + Z) / 4.0;
    let second = (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / 96.0;
    let third = (3.0 * Z.powi(7) + 19.0 * Z.powi(5) + 17.0 * Z.powi(3) - 15.0 * Z) / 384.0;
    Z + first / n + second / n.powi(2) + third / n.powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_agrees_with_the_textbook() {
        // 10 of 100: 5.52 % to 17.44 %.
        let (share, interval) = share(&[Hits { hits: 10, of: 100 }]);
        assert!((share - 0.1).abs() < 1e-12);
        assert!(
            (interval.low - 0.0552).abs() < 1e-4 && (interval.high - 0.1744).abs() < 1e-4,
            "{interval:?}"
        );
        // None of 384 is not yet fewer than 1 %, none of 400 is.
        assert!(super::share(&[Hits { hits: 0, of: 370 }]).1.high > 0.01);
        assert!(super::share(&[Hits { hits: 0, of: 400 }]).1.high < 0.01);
    }

    #[test]
    fn bursts_widen_the_interval() {
        let even = [Hits { hits: 10, of: 1000 }; 10];
        let mut burst = [Hits { hits: 0, of: 1000 }; 10];
        burst[4].hits = 100;
        let width = |seconds: &[Hits]| {
            let (_, interval) = share(seconds);
            interval.high - interval.low
        };
        assert!(width(&burst) > 3.0 * width(&even));
    }

    #[test]
    fn student_agrees_with_the_textbook() {
        for (freedom, quantile) in [(3, 3.182), (5, 2.571), (9, 2.262), (30, 2.042)] {
            assert!((student(freedom) / quantile - 1.0).abs() < 0.01, "{freedom}: {}", student(freedom));
        }
    }

    #[test]
    fn equals_are_seldom_called_different() {
        let mut random = StdRng::seed_from_u64(11);
        for pairs in [6, 10] {
            let mut mistaken = 0;
            for seed in 0..200 {
                let mut noise = || 100.0 * (1.0 + 0.1 * (random.random::<f64>() - 0.5));
                let equal: Vec<(f64, f64)> = (0..pairs).map(|_| (noise(), noise())).collect();
                let (_, interval) = ratio(&equal, seed).expect("pairs");
                mistaken += u32::from(interval.low > 1.0 || interval.high < 1.0);
            }
            // 10 expected with a standard deviation of 3; a plain percentile interval of 6 pairs has about 25.
            assert!(mistaken <= 19, "{mistaken} of 200 comparisons of {pairs} equal pairs");
        }
    }

    #[test]
    fn ratios_cover_what_made_them() {
        let mut random = StdRng::seed_from_u64(3);
        let mut pairs = |factor: f64| -> Vec<(f64, f64)> {
            let mut noise = || 100.0 * (1.0 + 0.05 * (random.random::<f64>() - 0.5));
            (0..12).map(|_| (noise(), factor * noise())).collect()
        };
        let (middle, interval) = ratio(&pairs(1.2), 1).expect("pairs");
        assert!(
            (middle - 1.2).abs() < 0.03 && interval.low > 1.1 && interval.high < 1.3,
            "{middle} {interval:?}"
        );
        let equal = [(100.0, 101.0), (100.0, 99.0), (100.0, 102.0), (100.0, 98.0)];
        let (_, interval) = ratio(&equal, 1).expect("pairs");
        assert!(interval.low < 1.0 && interval.high > 1.0);
        assert_eq!(ratio(&[], 1), None);
        assert_eq!(ratio(&[(0.0, 1.0), (1.0, 1.0)], 1), None);
    }
}
