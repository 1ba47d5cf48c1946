//! The search for the highest rate: pure decisions about the next rate, fed with what each probe found.

/// Raising or lowering the rate before there is a bracket.
const STEP: f64 = 2.0;
/// Confirming runs that may fail before the search gives up.
const CONFIRMATIONS_MAX: u32 = 5;

/// What a probe at some rate found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    Met,
    /// Missed, or not decided with all the samples that were allowed.
    NotMet,
    /// The generator was the bottleneck.
    Void,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Next {
    Probe {
        rate: f64,
    },
    /// Run longer at the rate that was found.
    Confirm {
        rate: f64,
    },
    Done(Found),
}

/// How the search ended.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Found {
    /// The highest confirmed rate, if any rate met the objectives.
    pub(crate) rate: Option<f64>,
    /// What stopped the search from above was the generator, so the true rate may be higher.
    pub(crate) generator_limited: bool,
    /// It was `--max-rate`.
    pub(crate) at_maximum: bool,
}

/// Brackets by doubling (or halving), then bisects geometrically until the bracket is as narrow as asked.
#[derive(Debug)]
pub(crate) struct Search {
    met: Option<f64>,
    not_met: Option<f64>,
    next: f64,
    min: f64,
    max: f64,
    /// How much higher than the result the first failing rate may be, as a share.
    precision: f64,
    generator_limited: bool,
    confirming: bool,
    confirmations: u32,
}

impl Search {
    pub(crate) fn new(start: f64, min: f64, max: f64, precision: f64) -> Self {
        Self {
            met: None,
            not_met: None,
            next: start.clamp(min, max),
            min,
            max,
            precision,
            generator_limited: false,
            confirming: false,
            confirmations: 0,
        }
    }

    /// The first thing to do.
    pub(crate) fn start(&self) -> Next {
        Next::Probe { rate: self.next }
    }

    /// Takes what was found at the rate last asked for.
    pub(crate) fn take(&mut self, probe: Probe) -> Next {
        if self.confirming {
            return self.take_confirmation(probe);
        }
        match probe {
            Probe::Met => self.met = Some(self.next),
            Probe::NotMet => {
                self.not_met = Some(self.next);
                self.generator_limited = false;
            }
            Probe::Void => {
                self.not_met = Some(self.next);
                self.generator_limited = true;
            }
        }
        match (self.met, self.not_met) {
            (Some(met), None) if met >= self.max => self.confirm(met),
            (Some(met), None) => self.probe((met * STEP).min(self.max)),
            (None, Some(not_met)) if not_met <= self.min => self.done(None),
            (None, Some(not_met)) => self.probe((not_met / STEP).max(self.min)),
            (Some(met), Some(not_met)) if not_met <= met * (1.0 + self.precision) => self.confirm(met),
            (Some(met), Some(not_met)) => self.probe((met * not_met).sqrt()),
            (None, None) => self.start(),
        }
    }

    fn take_confirmation(&mut self, probe: Probe) -> Next {
        self.confirmations += 1;
        match probe {
            Probe::Met => self.done(Some(self.next)),
            _ if self.confirmations >= CONFIRMATIONS_MAX => self.done(None),
            // A longer run sees more; a little less is the next candidate.
            _ => {
                self.generator_limited = probe == Probe::Void;
                self.not_met = Some(self.next);
                self.confirm((self.next / (1.0 + self.precision)).max(self.min))
            }
        }
    }

    fn probe(&mut self, rate: f64) -> Next {
        self.next = rate;
        Next::Probe { rate }
    }

    fn confirm(&mut self, rate: f64) -> Next {
        self.confirming = true;
        self.next = rate;
        Next::Confirm { rate }
    }

    fn done(&self, rate: Option<f64>) -> Next {
        let at_maximum = rate.is_some_and(|rate| rate >= self.max);
        Next::Done(Found { rate, generator_limited: self.generator_limited, at_maximum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches a target that meets its objectives up to `knee`, with a generator that reaches `reach`.
    fn search(start: f64, knee: f64, reach: f64, max: f64) -> (Found, u32) {
        let mut search = Search::new(start, 1.0, max, 0.05);
        let mut next = search.start();
        for probes in 1..200 {
            next = match next {
                Next::Probe { rate } | Next::Confirm { rate } if rate > reach => search.take(Probe::Void),
                Next::Probe { rate } | Next::Confirm { rate } if rate > knee => search.take(Probe::NotMet),
                Next::Probe { .. } | Next::Confirm { .. } => search.take(Probe::Met),
                Next::Done(found) => return (found, probes),
            };
        }
        panic!("the search does not end");
    }

    #[test]
    fn finds_the_knee_from_either_side() {
        for start in [10.0, 1_000.0, 500_000.0] {
            for knee in [3.0, 777.0, 43_210.0] {
                let (found, probes) = search(start, knee, f64::MAX, 1e6);
                let rate = found.rate.expect("a rate");
                assert!(rate <= knee && rate * 1.06 >= knee, "{rate} for a knee of {knee}");
                assert!(!found.generator_limited && probes < 40);
            }
        }
    }

    #[test]
    fn says_when_the_generator_or_the_maximum_ended_it() {
        let (found, _) = search(100.0, 1e6, 5_000.0, 1e9);
        assert!(
            found.generator_limited && found.rate.is_some_and(|rate| (4_700.0..=5_000.0).contains(&rate))
        );
        let (found, _) = search(100.0, 1e6, 1e9, 3_000.0);
        assert_eq!(found, Found { rate: Some(3_000.0), generator_limited: false, at_maximum: true });
        let (found, _) = search(100.0, 0.5, 1e9, 3_000.0);
        assert_eq!(found.rate, None);
    }

    #[test]
    fn a_failed_confirmation_steps_down() {
        let mut search = Search::new(100.0, 1.0, 100.0, 0.05);
        assert_eq!(search.take(Probe::Met), Next::Confirm { rate: 100.0 });
        let Next::Confirm { rate } = search.take(Probe::NotMet) else { panic!("no second confirmation") };
        assert!((rate - 100.0 / 1.05).abs() < 1e-9);
        assert!(matches!(search.take(Probe::Met), Next::Done(Found { rate: Some(_), .. })));
    }
}
