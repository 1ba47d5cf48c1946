//! What each scenario is: its endpoints, what happens to them and when, and what is expected. Pure.

use std::time::Duration;

use clap::ValueEnum;

use super::outcome::Outcome;
use crate::peers::peer::Peer;

/// When an endpoint that is well answers.
const FAST: Duration = Duration::from_millis(5);
/// When one answers that is ten times slower.
const SLOW: Duration = Duration::from_millis(50);

/// What can be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// One of four endpoints is ten times slower.
    SlowOne,
    /// One of four answers 500 at once.
    FailingFast,
    /// One of four is stopped in the middle of its work, and goes on later.
    Frozen,
    /// All four are restarted one after the other.
    RollingRestart,
    /// Three fast ones and a slow one against the three alone.
    BestPossible,
    /// Endpoints come and go by a file.
    EndpointsFile,
}

/// How an endpoint behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndpointScript {
    pub(crate) delay: Duration,
    pub(crate) fails: bool,
}

/// What happens to endpoints, by their number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// It is stopped, with its connections open.
    Freeze(usize),
    /// It goes on.
    Thaw(usize),
    /// Its process ends.
    Stop(usize),
    /// It is started again, at its port.
    Start(usize),
    /// The file lists these.
    List(Vec<usize>),
}

const WELL: EndpointScript = EndpointScript { delay: FAST, fails: false };

impl Scenario {
    /// What it is called on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SlowOne => "slow-one",
            Self::FailingFast => "failing-fast",
            Self::Frozen => "frozen",
            Self::RollingRestart => "rolling-restart",
            Self::BestPossible => "best-possible",
            Self::EndpointsFile => "endpoints-file",
        }
    }

    /// In words.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::SlowOne => "one of four endpoints takes 50 ms, the others 5 ms; least connections",
            Self::FailingFast => "one of four endpoints answers 500 at once, the others 200 after 5 ms",
            Self::Frozen => "one of four endpoints is stopped (SIGSTOP) for half of the time",
            Self::RollingRestart => "all four endpoints are ended and started again, one after the other",
            Self::BestPossible => {
                "three endpoints take 5 ms and one 50 ms, against the three alone; by latency where there is that"
            }
            Self::EndpointsFile => "endpoints are added to and removed from the file that lists them",
        }
    }

    /// What is expected of a gateway.
    pub(crate) fn expected(self) -> String {
        match self {
            Self::SlowOne => format!(
                "at most {SLOW_SHARE_MAX} % of answers from the slow endpoint, which gives 5 % one at a time (round robin: 25 %)"
            ),
            Self::FailingFast => format!("at most {FAILED_SHARE_MAX} % of requests fail (round robin: 25 %)"),
            Self::Frozen => format!("at most {FAILED_SHARE_MAX} % of requests fail (round robin: 12.5 %)"),
            Self::RollingRestart | Self::EndpointsFile => "no request fails".to_owned(),
            Self::BestPossible => {
                format!("p99 at most {BEST_RATIO_MAX} times that of the three alone (round robin: 10 times)")
            }
        }
    }

    /// Whether this gateway can do the job.
    pub(crate) fn takes(self, peer: Peer) -> bool {
        self != Self::EndpointsFile || peer == Peer::Tollgate
    }

    /// The endpoints there are.
    pub(crate) fn endpoints(self) -> Vec<EndpointScript> {
        let last = match self {
            Self::SlowOne | Self::BestPossible => EndpointScript { delay: SLOW, ..WELL },
            Self::FailingFast => EndpointScript { delay: Duration::ZERO, fails: true },
            _ => WELL,
        };
        vec![WELL, WELL, WELL, last]
    }

    /// The endpoints of an undisturbed run to compare with, if there is one.
    pub(crate) fn best_possible(self) -> Option<Vec<EndpointScript>> {
        (self == Self::BestPossible).then(|| vec![WELL; 3])
    }

    /// Those that are listed at the start.
    pub(crate) fn listed(self, count: usize) -> Vec<usize> {
        if self == Self::EndpointsFile { vec![0, 1] } else { (0..count).collect() }
    }

    /// tollgate's policy.
    pub(crate) fn balance(self) -> &'static str {
        if self == Self::BestPossible { "latency" } else { "least-connections" }
    }

    /// What happens when, over `duration`.
    pub(crate) fn acts(self, duration: Duration) -> Vec<(Duration, Act)> {
        let at = |share: f64| duration.mul_f64(share);
        match self {
            Self::SlowOne | Self::FailingFast | Self::BestPossible => Vec::new(),
            Self::Frozen => vec![(at(0.25), Act::Freeze(3)), (at(0.75), Act::Thaw(3))],
            Self::RollingRestart => (0..4)
                .flat_map(|number| {
                    let begin = 0.1 + 0.2 * number as f64;
                    [(at(begin), Act::Stop(number)), (at(begin + 0.1), Act::Start(number))]
                })
                .collect(),
            Self::EndpointsFile => vec![
                (at(0.2), Act::List(vec![0, 1, 2])),
                (at(0.4), Act::List(vec![1, 2])),
                (at(0.6), Act::List(vec![2, 3])),
                (at(0.8), Act::List(vec![0, 1, 2, 3])),
            ],
        }
    }

    /// An answer that took longer came from the slow endpoint.
    pub(crate) fn slow_after(self) -> Duration {
        SLOW / 2
    }

    /// Whether what is expected was met, and the figure that says so.
    pub(crate) fn judge(self, outcome: &Outcome) -> (bool, String) {
        let failed = outcome.failed_share() * 100.0;
        let (met, result) = match self {
            Self::SlowOne => {
                let slow = outcome.slow_share * 100.0;
                (slow <= SLOW_SHARE_MAX && outcome.failed == 0, format!("{slow:.2} % slow"))
            }
            Self::FailingFast | Self::Frozen => (failed <= FAILED_SHARE_MAX, format!("{failed:.2} % failed")),
            Self::RollingRestart => (outcome.failed == 0, format!("{} failed", outcome.failed)),
            Self::EndpointsFile => {
                let served = outcome.endpoint_answers.iter().filter(|&&answers| answers > 0).count();
                let all = outcome.endpoint_answers.len();
                let met = outcome.failed == 0 && served == all;
                (met, format!("{} failed, {served} of {all} endpoints served", outcome.failed))
            }
            Self::BestPossible => {
                let ratio = outcome.best_p99_ms.map_or(f64::NAN, |best| outcome.p99_ms / best);
                (ratio <= BEST_RATIO_MAX && outcome.failed == 0, format!("{ratio:.2} times the best p99"))
            }
        };
        match outcome.left_in_flight {
            Some(left) if left > 0 => (false, format!("{result}, {left} counted in flight for ever")),
            _ => (met, result),
        }
    }
}

/// In percent: the slow endpoint gives 20 answers a second one at a time, which is 5 % of 400, and has two at a time now
/// and then.
const SLOW_SHARE_MAX: f64 = 10.0;
/// In percent.
const FAILED_SHARE_MAX: f64 = 1.0;
/// Both at the 99th percentile.
const BEST_RATIO_MAX: f64 = 1.5;

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken by an endpoint that is left stopped or ended, which the next scenario would inherit.
    #[test]
    fn acts_are_in_order_and_leave_every_endpoint_running() {
        let duration = Duration::from_secs(8);
        for scenario in Scenario::value_variants() {
            let acts = scenario.acts(duration);
            assert!(acts.is_sorted_by_key(|(at, _)| *at), "{scenario:?}");
            assert!(acts.iter().all(|(at, _)| *at < duration), "{scenario:?}");
            let count = scenario.endpoints().len();
            let mut runs = vec![true; count];
            for (_, act) in acts {
                match act {
                    Act::Freeze(number) | Act::Stop(number) => runs[number] = false,
                    Act::Thaw(number) | Act::Start(number) => runs[number] = true,
                    Act::List(numbers) => assert!(numbers.iter().all(|&number| number < count)),
                }
            }
            assert!(runs.iter().all(|&runs| runs), "{scenario:?}");
        }
    }

    #[test]
    fn a_figure_beyond_the_bound_or_a_slot_that_is_never_given_back_is_not_met() {
        let good = Outcome { requests: 1_000, p99_ms: 6.0, best_p99_ms: Some(5.0), ..Outcome::default() };
        let good = Outcome { endpoint_answers: vec![1; 4], left_in_flight: Some(0), ..good };
        let worse = Outcome { failed: 11, slow_share: 0.08, p99_ms: 7.6, ..good.clone() };
        let leaking = Outcome { left_in_flight: Some(1), ..good.clone() };
        for scenario in Scenario::value_variants() {
            assert!(scenario.judge(&good).0, "{scenario:?}");
            assert!(!scenario.judge(&worse).0, "{scenario:?}");
            assert!(!scenario.judge(&leaking).0, "{scenario:?}");
        }
        let unserved = Outcome { endpoint_answers: vec![1, 1, 0, 1], ..good };
        assert!(!Scenario::EndpointsFile.judge(&unserved).0);
    }
}
