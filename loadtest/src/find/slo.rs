//! Objectives such as `p99<2ms,errors<0.1%`, and whether measured seconds meet them.

use std::{fmt, str::FromStr};

use serde::Serialize;

use crate::{
    clock::ns,
    generator::tally::Tally,
    statistics::{self, Hits, Interval},
};

/// Objectives that must all be met.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slo(Vec<Objective>);

/// Each says which share of all requests may miss it.
#[derive(Debug, Clone, PartialEq)]
enum Objective {
    /// At most `1 - quantile` of the response times may be longer.
    Latency {
        text: String,
        quantile: f64,
        limit_ns: u64,
    },
    Errors {
        text: String,
        share: f64,
    },
}

/// What samples say of an objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Decision {
    /// The whole interval is within what is allowed.
    Met,
    /// The interval holds what is allowed: more samples are needed.
    Undecided,
    /// The whole interval is beyond it.
    Missed,
}

/// One objective's figures.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Finding {
    pub(crate) objective: String,
    pub(crate) decision: Decision,
    /// The share of requests that missed it, and the share that may.
    pub(crate) share: f64,
    pub(crate) interval: Interval,
    pub(crate) allowed: f64,
}

/// Seconds of one probe, counted by objective.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<Vec<Hits>>);

impl Slo {
    /// Adds one second to a probe's samples.
    pub(crate) fn sample(&self, tally: &Tally, samples: &mut Samples) {
        samples.0.resize(self.0.len(), Vec::new());
        for (objective, seconds) in self.0.iter().zip(&mut samples.0) {
            seconds.push(objective.hits(tally));
        }
    }

    /// What the samples say of each objective; without any, nothing is decided.
    pub(crate) fn judge(&self, samples: &Samples) -> Vec<Finding> {
        let seconds = samples.0.iter().map(Vec::as_slice).chain(std::iter::repeat(&[][..]));
        self.0.iter().zip(seconds).map(|(objective, seconds)| objective.judge(seconds)).collect()
    }
}

impl Objective {
    fn hits(&self, tally: &Tally) -> Hits {
        let whole = tally.answered + tally.failed() + tally.missed;
        match self {
            Self::Latency { limit_ns, .. } => {
                let response = tally.response.histogram();
                let within = response.count_between(0, *limit_ns);
                // What failed without a time that it waited took too long by any measure.
                let timed = response.len();
                Hits { hits: (timed - within + whole.saturating_sub(timed)).min(whole), of: whole }
            }
            Self::Errors { .. } => {
                Hits { hits: tally.failed() + tally.unexpected() + tally.missed, of: whole }
            }
        }
    }

    fn judge(&self, seconds: &[Hits]) -> Finding {
        let (share, interval) = statistics::share(seconds);
        let allowed = self.allowed();
        let decision = if interval.high <= allowed {
            Decision::Met
        } else if interval.low > allowed {
            Decision::Missed
        } else {
            Decision::Undecided
        };
        Finding { objective: self.to_string(), decision, share, interval, allowed }
    }

    fn allowed(&self) -> f64 {
        match self {
            Self::Latency { quantile, .. } => 1.0 - quantile,
            Self::Errors { share, .. } => *share,
        }
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latency { text, .. } | Self::Errors { text, .. } => out.write_str(text),
        }
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, objective) in self.0.iter().enumerate() {
            write!(out, "{}{objective}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, limit) =
            text.split_once('<').ok_or_else(|| format!("{text:?} is not like p99<2ms or errors<0.1%"))?;
        let (name, limit) = (name.trim(), limit.trim_start_matches('=').trim());
        if name == "errors" {
            let share: crate::share::Share = limit.parse()?;
            // An interval never lies within nothing.
            return match share.value() {
                share if share > 0.0 => Ok(Self::Errors { text: text.into(), share }),
                _ => Err("errors< wants more than nothing: no number of requests proves that there are none"
                    .into()),
            };
        }
        let percent = name.strip_prefix('p').and_then(|percent| percent.parse::<f64>().ok());
        let Some(percent) = percent.filter(|percent| (1.0..100.0).contains(percent)) else {
            return Err(format!("{name:?} is neither errors nor a percentile such as p99 or p99.9"));
        };
        let limit = humantime::parse_duration(limit).map_err(|error| format!("{limit:?}: {error}"))?;
        Ok(Self::Latency { text: text.into(), quantile: percent / 100.0, limit_ns: ns(limit) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second of `n` answers, of which `slow` took 5 ms and the others 1 ms, and `failed` without an answer.
    fn second(n: u64, slow: u64, failed: u64) -> Tally {
        let mut tally = Tally::new(1);
        for index in 0..n {
            tally.response.record(if index < slow { 5_000_000 } else { 1_000_000 });
        }
        tally.answered = n;
        for _ in 0..failed {
            tally.fail(crate::generator::tally::Failure::Reset);
        }
        tally
    }

    fn decisions(slo: &str, seconds: &[Tally]) -> Vec<Decision> {
        let slo: Slo = slo.parse().expect("an objective");
        let mut samples = Samples::default();
        for tally in seconds {
            slo.sample(tally, &mut samples);
        }
        slo.judge(&samples).into_iter().map(|finding| finding.decision).collect()
    }

    #[test]
    fn decides_only_when_the_interval_allows_it() {
        let slo = "p99<2ms, errors<0.1%";
        assert_eq!(decisions(slo, &[second(10_000, 20, 0)]), [Decision::Met, Decision::Met]);
        assert_eq!(decisions(slo, &[second(10_000, 200, 100)]), [Decision::Missed, Decision::Missed]);
        assert_eq!(decisions(slo, &[second(10_000, 95, 0)])[0], Decision::Undecided);
        // Too few to say, or none.
        assert_eq!(decisions(slo, &[]), [Decision::Undecided, Decision::Undecided]);
        assert_eq!(decisions(slo, &[second(100, 0, 0)]), [Decision::Undecided, Decision::Undecided]);
        // Requests without an answer are not fast.
        assert_eq!(decisions(slo, &[second(10_000, 0, 300)])[0], Decision::Missed);
    }

    #[test]
    fn refuses_what_is_no_objective() {
        for text in ["", "p99", "p99<", "p0<1ms", "p100<1ms", "mean<1ms", "errors<0", "errors<200%", "p99<2"]
        {
            assert!(text.parse::<Slo>().is_err(), "{text:?} was taken");
        }
        assert_eq!(
            "p99.9<=2ms,errors<1%".parse::<Slo>().map(|slo| slo.to_string()),
            Ok("p99.9<=2ms,errors<1%".into())
        );
    }
}
