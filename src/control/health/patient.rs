//! One endpoint as control knows it: what was seen of it, where that has led, and why.
//!
//! Pure: the time is an argument, and nothing here publishes, logs or asks. States follow one another like this:
//! well → ejected → probation → well, each ejection of a row longer than the one before; beside it probes say up or
//! down, and an operator may have drained it. Whoever comes back comes back slowly.

use std::fmt;

use crate::{
    shared::standing::{Streak, UNBOUNDED, WEIGHT_UNIT},
    stage::balance::{Care, Fault, Probe},
};

/// Answers that end a probation.
const PROBATION_GOOD: u64 = 3;
/// No ejection is longer, unless the first is.
const EJECTION_MS_MAX: u64 = 300_000;
/// For so long it is said that an endpoint was spared.
const SPARED_MS: u64 = 10_000;
/// What a slow start begins with, in percent.
const SLOW_START_PERCENT: u64 = 10;
/// What is left after a second of what was counted before: an attempt counts for about ten.
const REMEMBERED: f64 = 0.9;

/// What an operator ordered. Stands above everything that was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// It gets nothing new.
    pub drained: bool,
    /// In place of its configured weight.
    pub weight: Option<u32>,
}

/// What the shards counted of an endpoint, since it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts that went well.
    pub good: u64,
    /// Attempts that did not.
    pub bad: u64,
    /// Those of them that count as failures in a row.
    pub faults: u64,
}

/// What an endpoint is left out for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// In words.
    pub why: String,
    /// It did worse than the others, among whom everything bad counts and not only failures in a row.
    pub is_compared: bool,
}

/// How often attempts succeeded lately.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    /// Those that did, the older the less they count.
    pub good: f64,
    /// All of them.
    pub all: f64,
}

impl Rate {
    /// The share of successes; all when there was none.
    pub fn share(self) -> f64 {
        if self.all > 0.0 { self.good / self.all } else { 1.0 }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Illness {
    /// As far as anybody knows it is well.
    None,
    Ejected {
        until_ms: u64,
        charge: Charge,
    },
    /// It is tried, one exchange at a time.
    Probation {
        since: Counts,
        is_compared: bool,
    },
}

/// What changed, to be said once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It gets nothing for a while.
    Ejected {
        /// For what.
        why: String,
        /// For how long.
        for_ms: u64,
    },
    /// It is tried again.
    OnProbation,
    /// It is as good as any other.
    Recovered,
    /// Probes say that it is not there.
    Down(String),
    /// Probes say that it is.
    Up,
}

/// One endpoint.
#[derive(Debug)]
pub struct Patient {
    illness: Illness,
    /// Ejections that followed one another.
    ejections: u32,
    /// Ejections ever, for the metrics.
    pub ejected: u64,
    /// Since when nothing has happened that counts among those.
    well_since_ms: u64,
    ramp_from_ms: Option<u64>,
    /// When it would last have been ejected if not too many were, and why.
    spared: Option<(u64, String)>,
    /// What the last probes said; nothing before the first.
    is_up: Option<bool>,
    /// Of the last probes, how many said otherwise.
    contrary: u32,
    said: String,
    counts: Counts,
    rate: Rate,
}

impl Patient {
    /// One that has just become known, at `now_ms`. A newcomer among others starts slowly.
    pub fn new(counts: Counts, now_ms: u64, is_newcomer: bool) -> Self {
        Self {
            illness: Illness::None,
            ejections: 0,
            ejected: 0,
            well_since_ms: now_ms,
            ramp_from_ms: is_newcomer.then_some(now_ms),
            spared: None,
            is_up: None,
            contrary: 0,
            said: String::new(),
            counts,
            rate: Rate::default(),
        }
    }

    /// Takes up what was counted. Once a second `fades` makes the past count less.
    pub fn observe(&mut self, counts: Counts, fades: bool) {
        let good = counts.good.saturating_sub(self.counts.good);
        let bad = counts.bad.saturating_sub(self.counts.bad);
        self.counts = counts;
        self.rate.good += good as f64;
        self.rate.all += (good + bad) as f64;
        if fades {
            self.rate.good *= REMEMBERED;
            self.rate.all *= REMEMBERED;
        }
    }

    /// How often attempts succeeded lately.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Goes on to what is due by now.
    pub fn advance(&mut self, care: &Care, now_ms: u64) -> Option<Change> {
        match &self.illness {
            Illness::Ejected { until_ms, charge } if now_ms >= *until_ms => {
                let is_compared = charge.is_compared;
                self.illness = Illness::Probation { since: self.counts, is_compared };
                Some(Change::OnProbation)
            }
            Illness::Probation { since, is_compared } if self.failed(*since, *is_compared) > 0 => {
                let (failed, is_compared) = (self.failed(*since, *is_compared), *is_compared);
                let why = format!("{failed} failed on probation");
                Some(self.eject(Charge { why, is_compared }, care, now_ms))
            }
            Illness::Probation { since, .. } if self.counts.good >= since.good + PROBATION_GOOD => {
                self.recover(now_ms);
                Some(Change::Recovered)
            }
            Illness::None if self.ejections > 0 && now_ms >= self.well_since_ms + care.ejection.time_ms => {
                self.ejections -= 1;
                self.well_since_ms = now_ms;
                None
            }
            _ => None,
        }
    }

    /// What speaks against it on probation: a 500, which a client may provoke everywhere, only if it did worse than others.
    fn failed(&self, since: Counts, is_compared: bool) -> u64 {
        if is_compared {
            self.counts.bad.saturating_sub(since.bad)
        } else {
            self.counts.faults.saturating_sub(since.faults)
        }
    }

    fn recover(&mut self, now_ms: u64) {
        self.illness = Illness::None;
        (self.well_since_ms, self.ramp_from_ms) = (now_ms, Some(now_ms));
        self.rate = Rate::default();
    }

    /// Leaves it out for a while.
    pub fn eject(&mut self, charge: Charge, care: &Care, now_ms: u64) -> Change {
        self.ejections += 1;
        self.ejected += 1;
        let longest_ms = EJECTION_MS_MAX.max(care.ejection.time_ms);
        let for_ms = care.ejection.time_ms.saturating_mul(u64::from(self.ejections)).min(longest_ms);
        let why = charge.why.clone();
        self.illness = Illness::Ejected { until_ms: now_ms + for_ms, charge };
        self.spared = None;
        self.rate = Rate::default();
        Change::Ejected { why, for_ms }
    }

    /// It should be ejected and is not, because too many are.
    pub fn spare(&mut self, charge: Charge, now_ms: u64) {
        self.spared = Some((now_ms, charge.why));
    }

    /// Takes note of a probe's answer: what went well, or what did not.
    pub fn probed(&mut self, answer: Result<String, String>, probe: &Probe, now_ms: u64) -> Option<Change> {
        let is_good = answer.is_ok();
        let said = answer.unwrap_or_else(|failure| failure);
        let changes = match self.is_up {
            // The first answer is all that is known.
            None => true,
            Some(is_up) if is_up == is_good => {
                self.contrary = 0;
                false
            }
            Some(_) => {
                self.contrary += 1;
                self.contrary >= if is_good { probe.rise } else { probe.fall }
            }
        };
        self.said = said;
        if !changes {
            return None;
        }
        let before = self.is_up.replace(is_good);
        self.contrary = 0;
        match (before, is_good) {
            (_, false) => Some(Change::Down(self.said.clone())),
            (Some(false), true) => {
                self.ramp_from_ms = Some(now_ms);
                Some(Change::Up)
            }
            (_, true) => None,
        }
    }

    /// Nobody probes it any more.
    pub fn forget_probes(&mut self) {
        (self.is_up, self.contrary) = (None, 0);
    }

    /// Whether it is left out for what it did.
    pub fn is_ejected(&self) -> bool {
        matches!(self.illness, Illness::Ejected { .. })
    }

    /// Whether it may be ejected at all: it is neither left out nor on probation.
    pub fn is_ejectable(&self) -> bool {
        self.illness == Illness::None
    }

    /// Whether anything speaks for giving it requests.
    pub fn is_well(&self) -> bool {
        !self.is_ejected() && self.is_up != Some(false)
    }

    /// Its effective weight and its ceiling. In a panic it counts as well.
    pub fn terms(&self, order: Order, offer: Offer, panics: bool, now_ms: u64) -> (u32, u32) {
        let weight = order.weight.unwrap_or(offer.weight).saturating_mul(WEIGHT_UNIT);
        if order.drained {
            return (0, offer.in_flight_max);
        }
        if panics {
            return (weight, offer.in_flight_max);
        }
        if !self.is_well() {
            return (0, offer.in_flight_max);
        }
        if matches!(self.illness, Illness::Probation { .. }) {
            return (weight, 1);
        }
        let percent = self.ramp_percent(offer.slow_start_ms, now_ms).unwrap_or(100);
        let slowed = u64::from(weight) * percent / 100;
        (u32::try_from(slowed).unwrap_or(weight).max(1), offer.in_flight_max)
    }

    /// How far a slow start has come, in percent; `None` when there is none.
    fn ramp_percent(&self, slow_start_ms: u64, now_ms: u64) -> Option<u64> {
        let since_ms = now_ms.saturating_sub(self.ramp_from_ms?);
        let percent = since_ms.saturating_mul(100).checked_div(slow_start_ms)?;
        (percent < 100).then_some(percent.max(SLOW_START_PERCENT))
    }

    /// Its state in a word, and why.
    pub fn tell(
        &self,
        order: Order,
        offer: Offer,
        streak: Streak,
        panics: bool,
        now_ms: u64,
    ) -> (&'static str, String) {
        let seconds_left = |until_ms: u64| until_ms.saturating_sub(now_ms).div_ceil(1_000);
        if order.drained {
            return ("drained", "drained by an operator".to_owned());
        }
        let in_panic = if panics { "; used all the same, because too few are well" } else { "" };
        match &self.illness {
            Illness::Ejected { until_ms, charge: Charge { why, .. } } => {
                let left_s = seconds_left(*until_ms);
                return ("ejected", format!("ejected: {why}, {left_s} s left{in_panic}"));
            }
            _ if self.is_up == Some(false) => {
                return ("down", format!("down: the last probe: {}{in_panic}", self.said));
            }
            Illness::Probation { since, .. } => {
                let good = self.counts.good.saturating_sub(since.good);
                let why = format!("probation: {good} of {PROBATION_GOOD} went well, one at a time");
                return ("probation", why);
            }
            Illness::None => {}
        }
        if let Some(percent) = self.ramp_percent(offer.slow_start_ms, now_ms) {
            return ("slow-start", format!("slow start: {percent} % of its weight"));
        }
        let why = match (streak.failures, self.is_up) {
            (0, Some(_)) => format!("the last probe: {}", self.said),
            (0, None) => "nothing speaks against it".to_owned(),
            (1, _) => format!("the last attempt failed: {}", Fault::from_byte(streak.last).words()),
            _ => in_a_row(streak).to_string(),
        };
        match &self.spared {
            Some((spared_ms, accused_of)) if now_ms < spared_ms + SPARED_MS => {
                ("up", format!("{accused_of}; not ejected, because too many are"))
            }
            _ => ("up", why),
        }
    }
}

/// What is configured of an endpoint's share.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Its weight.
    pub weight: u32,
    /// The most in flight.
    pub in_flight_max: u32,
    /// How long it takes to its full weight.
    pub slow_start_ms: u64,
}

impl Default for Offer {
    fn default() -> Self {
        Self { weight: 1, in_flight_max: UNBOUNDED, slow_start_ms: 0 }
    }
}

/// Failures in a row, in words.
pub fn in_a_row(streak: Streak) -> impl fmt::Display {
    struct InARow(Streak);
    impl fmt::Display for InARow {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            let what = Fault::from_byte(self.0.last).words();
            write!(formatter, "{} consecutive {what}", self.0.failures)
        }
    }
    InARow(streak)
}
