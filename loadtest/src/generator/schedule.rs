//! Intended times: when each request of an open-loop run should start, whatever happened to the ones before.

use clap::ValueEnum;
use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Exp1};

/// How intended times follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arrivals {
    /// Evenly.
    Fixed,
    /// With exponential gaps, as from many independent clients.
    Poisson,
}

impl Arrivals {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Poisson => "poisson",
        }
    }
}

/// One thread's intended times, in nanoseconds of the run's clock.
#[derive(Debug)]
pub(crate) struct Schedule {
    arrivals: Arrivals,
    start_ns: u64,
    gap_ns: f64,
    /// How many times have been passed; keeps fixed arrivals free of drift.
    passed: u64,
    offset_ns: f64,
    random: StdRng,
}

impl Schedule {
    /// The schedule of thread `index` of `threads`, which together make `rate` requests per second from `start_ns`
    /// on. With fixed arrivals, threads take turns: none fires together with another.
    pub(crate) fn new(
        arrivals: Arrivals,
        rate: f64,
        index: usize,
        threads: usize,
        start_ns: u64,
        seed: u64,
    ) -> Self {
        let gap_ns = 1e9 * threads as f64 / rate;
        let mut random = StdRng::seed_from_u64(seed);
        let offset_ns = match arrivals {
            Arrivals::Fixed => gap_ns * index as f64 / threads as f64,
            Arrivals::Poisson => gap_ns * exponential(&mut random),
        };
        Self { arrivals, start_ns, gap_ns, passed: 0, offset_ns, random }
    }

    /// The next intended time.
    pub(crate) fn next_ns(&self) -> u64 {
        let since = match self.arrivals {
            Arrivals::Fixed => self.passed as f64 * self.gap_ns + self.offset_ns,
            Arrivals::Poisson => self.offset_ns,
        };
        self.start_ns + since as u64
    }

    /// Goes on to the time after it.
    pub(crate) fn advance(&mut self) {
        match self.arrivals {
            Arrivals::Fixed => self.passed += 1,
            Arrivals::Poisson => self.offset_ns += self.gap_ns * exponential(&mut self.random),
        }
    }
}

fn exponential(random: &mut StdRng) -> f64 {
    Exp1.sample(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(arrivals: Arrivals, rate: f64, threads: usize, until_ns: u64) -> Vec<u64> {
        let mut times = Vec::new();
        for index in 0..threads {
            let mut schedule = Schedule::new(arrivals, rate, index, threads, 1_000, 7 + index as u64);
            while schedule.next_ns() < until_ns + 1_000 {
                times.push(schedule.next_ns() - 1_000);
                schedule.advance();
            }
        }
        times.sort_unstable();
        times
    }

    #[test]
    fn fixed_arrivals_are_even_across_threads_and_do_not_drift() {
        let times = times(Arrivals::Fixed, 30_000.0, 3, 10_000_000_000);
        assert_eq!(times.len(), 300_000);
        let gap = 1e9 / 30_000.0;
        for (index, &time) in times.iter().enumerate() {
            assert!((time as f64 - index as f64 * gap).abs() < 2.0, "arrival {index} is at {time} ns");
        }
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread() {
        let times = times(Arrivals::Poisson, 10_000.0, 4, 10_000_000_000);
        // 100 000 expected with a standard deviation of 316.
        assert!((98_000..102_000).contains(&times.len()), "{} arrivals", times.len());
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        let variation = variance.sqrt() / mean;
        assert!((0.95..1.05).contains(&variation), "the gaps' coefficient of variation is {variation}");
    }
}
