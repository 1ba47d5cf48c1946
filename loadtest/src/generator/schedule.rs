//! Intended times: when each request of an open-loop run should start, whatever happened to the ones before.

use std::time::Duration;

use clap::ValueEnum;
use rand::{RngExt, SeedableRng, rngs::StdRng};
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
    pauses: Option<Pauses>,
}

/// Load that comes in bursts: stretches of load and of silence, each of a random length.
#[derive(Debug)]
pub(crate) struct Pauses {
    /// The longest stretch; the shortest is a tenth of it.
    length_ns: f64,
    random: StdRng,
    /// Where the present stretch of load ends, with silences left out.
    until_ns: f64,
    /// All silences so far.
    silent_ns: f64,
}

impl Pauses {
    /// Threads with the same seed pause together.
    pub(crate) fn new(longest: Duration, seed: u64) -> Self {
        let mut pauses = Self {
            length_ns: longest.as_nanos() as f64,
            random: StdRng::seed_from_u64(seed),
            until_ns: 0.0,
            silent_ns: 0.0,
        };
        pauses.until_ns = pauses.draw();
        pauses
    }

    fn pass(&mut self, since_ns: f64) {
        while since_ns >= self.until_ns {
            self.silent_ns += self.draw();
            self.until_ns += self.draw();
        }
    }

    fn draw(&mut self) -> f64 {
        self.length_ns * self.random.random_range(0.1..1.0)
    }
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
        Self { arrivals, start_ns, gap_ns, passed: 0, offset_ns, random, pauses: None }
    }

    /// The same with pauses.
    pub(crate) fn with_pauses(mut self, pauses: Pauses) -> Self {
        self.pauses = Some(pauses);
        self
    }

    /// The next intended time.
    pub(crate) fn next_ns(&self) -> u64 {
        let silent_ns = self.pauses.as_ref().map_or(0.0, |pauses| pauses.silent_ns);
        self.start_ns + (self.since_ns() + silent_ns) as u64
    }

    /// Goes on to the time after it.
    pub(crate) fn advance(&mut self) {
        match self.arrivals {
            Arrivals::Fixed => self.passed += 1,
            Arrivals::Poisson => self.offset_ns += self.gap_ns * exponential(&mut self.random),
        }
        let since_ns = self.since_ns();
        if let Some(pauses) = &mut self.pauses {
            pauses.pass(since_ns);
        }
    }

    /// Without pauses.
    fn since_ns(&self) -> f64 {
        match self.arrivals {
            Arrivals::Fixed => self.passed as f64 * self.gap_ns + self.offset_ns,
            Arrivals::Poisson => self.offset_ns,
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

    #[test]
    fn threads_pause_together() {
        let pauses = || Pauses::new(Duration::from_millis(100), 3);
        let mut times = Vec::new();
        for index in 0..2 {
            let mut schedule = Schedule::new(Arrivals::Fixed, 10_000.0, index, 2, 0, 7).with_pauses(pauses());
            while schedule.next_ns() < 10_000_000_000 {
                times.push(schedule.next_ns());
                schedule.advance();
            }
        }
        times.sort_unstable();
        // About half of the time is silent, in stretches of 10 to 100 ms; the rest is at the full rate.
        assert!((35_000..65_000).contains(&times.len()), "{} arrivals", times.len());
        for pair in times.windows(2) {
            let gap_ns = pair[1] - pair[0];
            assert!(gap_ns < 102_000 || (10_000_000..101_000_000).contains(&gap_ns), "a gap of {gap_ns} ns");
        }
    }
}
