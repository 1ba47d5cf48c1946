//! When the scripted endpoint answers: a delay drawn for each request, and stalls in which nothing is answered.

use std::{str::FromStr, time::Duration};

use rand::rngs::StdRng;
use rand_distr::{Distribution, LogNormal};

use crate::{clock::ns, share::Share};

/// How long after a request its answer is sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Delay {
    Fixed {
        ns: u64,
    },
    /// `exp(N(ln median, sigma))` nanoseconds.
    LogNormal(LogNormal<f64>),
    /// `slow` with probability `share`, else `fast`.
    Bimodal {
        fast_ns: u64,
        slow_ns: u64,
        share: Share,
    },
}

impl Delay {
    /// A delay for one request, in nanoseconds.
    pub(crate) fn draw(&self, random: &mut StdRng) -> u64 {
        match self {
            Self::Fixed { ns } => *ns,
            Self::LogNormal(distribution) => distribution.sample(random) as u64,
            Self::Bimodal { fast_ns, slow_ns, share } => {
                if share.hit(random) {
                    *slow_ns
                } else {
                    *fast_ns
                }
            }
        }
    }
}

impl FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').unwrap_or(("fixed", text));
        let parts: Vec<&str> = rest.split(',').map(str::trim).collect();
        match (kind, parts.as_slice()) {
            ("fixed", [delay]) => Ok(Self::Fixed { ns: duration(delay)? }),
            ("lognormal", [median, sigma]) => {
                let sigma = sigma.parse().ok().filter(|sigma: &f64| sigma.is_finite() && *sigma >= 0.0);
                let sigma = sigma.ok_or("sigma must be a number of 0 or more")?;
                let median = (duration(median)?.max(1) as f64).ln();
                let distribution = LogNormal::new(median, sigma).map_err(|error| error.to_string())?;
                Ok(Self::LogNormal(distribution))
            }
            ("bimodal", [fast, slow, share]) => Ok(Self::Bimodal {
                fast_ns: duration(fast)?,
                slow_ns: duration(slow)?,
                share: share.parse()?,
            }),
            _ => Err("want 2ms, fixed:2ms, lognormal:MEDIAN,SIGMA or bimodal:FAST,SLOW,SHARE".into()),
        }
    }
}

/// A silence at the end of each period: in `[every - length, every)` nothing is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stall {
    every_ns: u64,
    length_ns: u64,
}

impl Stall {
    /// When an answer that is ready at `ready_ns` leaves.
    pub(crate) fn leave_ns(self, ready_ns: u64) -> u64 {
        let phase = ready_ns % self.every_ns;
        if phase >= self.every_ns - self.length_ns { ready_ns - phase + self.every_ns } else { ready_ns }
    }
}

impl FromStr for Stall {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (every, length) = text.split_once(':').ok_or("want EVERY:LENGTH, such as 2s:200ms")?;
        let (every_ns, length_ns) = (duration(every)?, duration(length)?);
        if length_ns == 0 || length_ns >= every_ns {
            return Err("the length must be more than nothing and less than the period".into());
        }
        Ok(Self { every_ns, length_ns })
    }
}

fn duration(text: &str) -> Result<u64, String> {
    humantime::parse_duration(text)
        .map(|length: Duration| ns(length))
        .map_err(|error| format!("{text:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn draws_what_it_says() {
        let mut random = StdRng::seed_from_u64(7);
        let mut sorted = |text: &str| {
            let delay: Delay = text.parse().expect("a delay");
            let mut drawn: Vec<u64> = (0..10_001).map(|_| delay.draw(&mut random)).collect();
            drawn.sort_unstable();
            drawn
        };
        assert!(sorted("fixed:2ms").iter().all(|&delay| delay == 2_000_000));
        let median = sorted("lognormal:1ms,0.5")[5_000];
        assert!((950_000..1_050_000).contains(&median), "the median was {median} ns");
        let slow = sorted("bimodal:1ms,9ms,10%").iter().filter(|&&delay| delay == 9_000_000).count();
        assert!((850..1_150).contains(&slow), "{slow} of 10001 were slow");
    }

    #[test]
    fn stalls_hold_answers_to_their_end() {
        let stall: Stall = "10ms:4ms".parse().expect("a stall");
        let cases = [(0, 0), (5_999_999, 5_999_999), (6_000_000, 10_000_000), (19_999_999, 20_000_000)];
        for (ready, leave) in cases {
            assert_eq!(stall.leave_ns(ready), leave);
        }
    }

    #[test]
    fn refuses_nonsense() {
        for text in
            ["", "2", "fixed:x", "lognormal:1ms", "bimodal:1ms,2ms,150%", "uniform:1ms", "lognormal:1ms,-1"]
        {
            assert!(text.parse::<Delay>().is_err(), "{text:?} was taken");
        }
        for text in ["2s", "1s:1s", "1s:0s", "x:1s"] {
            assert!(text.parse::<Stall>().is_err(), "{text:?} was taken");
        }
    }
}
