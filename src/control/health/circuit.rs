//! How many exchanges a cluster may have under way, by what its answers take: adaptive concurrency.
//!
//! A service that is given more than it can do queues, and whoever waits in its queue has gone before the answer comes.
//! So the limit follows the gradient: what an answer takes when nothing queues, over what it takes now. It grows while it
//! is used and answers take no longer; it shrinks by up to a tenth a look while they do, and by half while most
//! connections cannot be made. What is usual is learnt while less than half the limit is used; in a crowd that lasts, by
//! letting in few for a moment (Envoy's minRTT window).
//!
//! Pure: counts and the exchanges in flight are arguments. Shares of the limit are the endpoints' ceilings.

use crate::stage::balance::Fuse;

/// Answers that say something; fewer wait for the next look, up to [`LOOKS_MAX`].
const ANSWERS_MIN: u64 = 10;
const LOOKS_MAX: u32 = 10;
/// What the limit is before anything was measured.
const FIRST: f64 = 64.0;
/// What the limit becomes in a look at the least while answers are slow, and while nobody is there.
const SLOW: f64 = 0.9;
const UNREACHABLE: f64 = 0.5;
/// What it becomes while it is used and all is as usual.
const GROWTH: f64 = 1.1;
/// So much of a new mean goes into what is usual, when it is less and when it is more.
const LESS: f64 = 0.1;
const MORE: f64 = 0.02;
/// What is left after a look of the most that was under way.
const PEAK_KEPT: f64 = 0.995;
/// More than so many times that is not kept open.
const SPARE: f64 = 4.0;
/// Whoever uses such a part of the limit feels it.
const BINDING: f64 = 0.8;
/// Looks for which it is so, after which what is usual is measured anew: half a minute.
const CROWD_LOOKS: u32 = 300;
/// Part of the limit that is used meanwhile.
const FEW: f64 = 0.25;
/// Looks that are measured then.
const SOUNDING_LOOKS: u32 = 5;
/// The most looks that are waited before, until those who were in the crowd have been answered.
const EMPTYING_LOOKS_MAX: f64 = 50.0;
/// From one look to the next, in microseconds.
const LOOK_US: f64 = 100_000.0;

/// What the shards had counted of a cluster's attempts at some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts whose time was taken.
    pub waits: u64,
    /// Their times together, in microseconds; a failure counts as slow.
    pub waited_us: u64,
    /// Connections that could not be made.
    pub unreachable: u64,
}

impl Tally {
    fn since(self, earlier: Self) -> Self {
        Self {
            waits: self.waits.saturating_sub(earlier.waits),
            waited_us: self.waited_us.saturating_sub(earlier.waited_us),
            unreachable: self.unreachable.saturating_sub(earlier.unreachable),
        }
    }
}

/// What the limit follows at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reason {
    /// All is as usual.
    Usual,
    /// Answers take so many times as long.
    Slow(f64),
    /// They do, but not because there are too many.
    SlowAlone(f64),
    /// Most connections cannot be made.
    Unreachable,
    /// What is usual is being measured.
    Sounding,
}

/// The limit of one cluster.
#[derive(Debug)]
pub struct Circuit {
    limit: f64,
    /// What of it is open now.
    open: u32,
    /// What an answer takes while nothing queues, in microseconds; zero while nobody knows.
    usual_us: f64,
    /// The most under way lately.
    peak: f64,
    /// At the last judgement.
    seen: Tally,
    /// Looks since.
    looks: u32,
    /// Looks for which the limit has been used up.
    crowd: u32,
    /// Looks until what is usual has been measured, and those of them that are measured.
    sounding: u32,
    reason: Reason,
}

impl Circuit {
    /// A limit for what has been counted up to now.
    pub fn new(fuse: Fuse, seen: Tally) -> Self {
        let limit = FIRST.clamp(f64::from(fuse.min), f64::from(fuse.max));
        Self {
            limit,
            open: whole(limit),
            usual_us: 0.0,
            peak: 0.0,
            seen,
            looks: 0,
            crowd: 0,
            sounding: 0,
            reason: Reason::Usual,
        }
    }

    /// How many there may be under way now.
    pub fn limit(&self) -> u32 {
        self.open
    }

    /// How many there may be under way, after a look that found `tally` and `in_flight`.
    pub fn look(&mut self, fuse: Fuse, tally: Tally, in_flight: u64) -> u32 {
        let (min, max) = (f64::from(fuse.min), f64::from(fuse.max));
        let in_flight = in_flight as f64;
        self.peak = in_flight.max(self.peak * PEAK_KEPT);
        self.looks += 1;
        let new = tally.since(self.seen);
        if new.unreachable > 0 && new.unreachable >= new.waits {
            self.judged(tally);
            (self.sounding, self.crowd) = (0, 0);
            self.limit = self.limit.min(in_flight.max(min)) * UNREACHABLE;
            self.reason = Reason::Unreachable;
        } else if self.sounding > 0 {
            self.sound(tally, new);
        } else if new.waits >= ANSWERS_MIN || new.waits > 0 && self.looks >= LOOKS_MAX {
            let looks = self.judged(tally);
            self.judge(fuse, new.waited_us as f64 / new.waits as f64, in_flight, looks);
        } else if self.looks >= LOOKS_MAX {
            // Nobody is waiting any more for whom it could be too much.
            self.judged(tally);
            if in_flight == 0.0 {
                self.reason = Reason::Usual;
            }
        }
        self.limit = self.limit.clamp(min, max);
        self.open = whole(if self.sounding > 0 { (self.limit * FEW).max(min) } else { self.limit });
        self.open
    }

    /// What was counted up to `tally` is done with. How many looks it took.
    fn judged(&mut self, tally: Tally) -> u32 {
        self.seen = tally;
        std::mem::take(&mut self.looks)
    }

    /// Draws the conclusion from `mean_us`, which answers took in the last `looks`.
    fn judge(&mut self, fuse: Fuse, mean_us: f64, in_flight: f64, looks: u32) {
        let is_crowded = in_flight * 2.0 >= self.limit;
        if self.usual_us == 0.0 {
            self.usual_us = mean_us;
        } else if mean_us < self.usual_us {
            self.usual_us += (mean_us - self.usual_us) * LESS;
        } else if !is_crowded {
            self.usual_us += (mean_us - self.usual_us) * MORE;
        }
        let times = mean_us / self.usual_us.max(1.0);
        let gradient = (fuse.tolerance / times).min(1.0);
        if gradient < 1.0 && is_crowded {
            // What is not used is no help: what counts is how many there are.
            self.limit = self.limit.min(in_flight) * gradient.max(SLOW);
            self.reason = Reason::Slow(times);
        } else {
            self.reason = if gradient < 1.0 { Reason::SlowAlone(times) } else { Reason::Usual };
            if is_crowded {
                self.limit *= 1.0 + (GROWTH - 1.0) * (gradient * fuse.tolerance - times).clamp(0.0, 1.0);
            } else {
                let enough = self.peak * SPARE + f64::from(fuse.min);
                self.limit = self.limit.min(enough.max(self.limit * PEAK_KEPT));
            }
        }
        self.crowd = if in_flight >= self.limit * BINDING { self.crowd + looks } else { 0 };
        if self.crowd >= CROWD_LOOKS {
            self.crowd = 0;
            let emptying = (mean_us / LOOK_US).clamp(1.0, EMPTYING_LOOKS_MAX);
            self.sounding = SOUNDING_LOOKS + whole(emptying.ceil());
            self.reason = Reason::Sounding;
        }
    }

    /// Measures what is usual, once those are gone who came in a crowd.
    fn sound(&mut self, tally: Tally, new: Tally) {
        self.sounding -= 1;
        if self.sounding >= SOUNDING_LOOKS {
            self.judged(tally);
        } else if self.sounding == 0 {
            if new.waits > 0 {
                self.usual_us = new.waited_us as f64 / new.waits as f64;
            }
            self.judged(tally);
            self.reason = Reason::Usual;
        }
    }

    /// What an answer takes while nothing queues, in microseconds, if that is known.
    pub fn usual_us(&self) -> Option<f64> {
        (self.usual_us > 0.0).then_some(self.usual_us)
    }

    /// Why the limit is what it is.
    pub fn words(&self) -> String {
        match self.reason {
            Reason::Usual => "answers take as long as usual".to_owned(),
            Reason::Slow(times) => format!("answers take {times:.1} times as long as usual"),
            Reason::SlowAlone(times) => {
                format!("answers take {times:.1} times as long as usual, though most of the limit is free")
            }
            Reason::Unreachable => "most connections cannot be made".to_owned(),
            Reason::Sounding => "few are let in for a moment, to measure what is usual".to_owned(),
        }
    }

    /// Whether it turns requests away that there would be room for if all were well.
    pub fn is_tripped(&self) -> bool {
        matches!(self.reason, Reason::Slow(_) | Reason::Unreachable)
    }
}

/// Each one's share of `limit` by its weight, at least one: no more together than the limit if that is as many as
/// there are endpoints with a weight.
pub fn shares(limit: u32, weights: &[u32]) -> Vec<u32> {
    let total: u64 = weights.iter().copied().map(u64::from).sum();
    let share = |weight: u32| (u64::from(limit) * u64::from(weight)).checked_div(total).unwrap_or(0);
    // Whoever has no weight gets nothing, whatever its share.
    let mut shares: Vec<u64> = weights.iter().map(|&weight| share(weight).max(1)).collect();
    let weighed = || shares.iter().zip(weights).filter(|(_, weight)| **weight > 0);
    let left = u64::from(limit).saturating_sub(weighed().map(|(share, _)| share).sum());
    let weighed = shares.iter_mut().zip(weights).filter(|(_, weight)| **weight > 0);
    weighed.take(usize::try_from(left).unwrap_or(usize::MAX)).for_each(|(share, _)| *share += 1);
    shares.into_iter().map(|share| u32::try_from(share).unwrap_or(u32::MAX)).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and is never negative"
)]
fn whole(number: f64) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUSE: Fuse = Fuse { min: 8, max: 1_000, tolerance: 2.0 };

    /// A service that answers so many at a time, each in `answer_us`; the rest queues.
    struct Service {
        capacity: f64,
        answer_us: f64,
        is_there: bool,
        circuit: Circuit,
        tally: Tally,
        limit: u32,
        in_flight: f64,
    }

    impl Service {
        fn new() -> Self {
            let circuit = Circuit::new(FUSE, Tally::default());
            let (tally, limit) = (Tally::default(), 64);
            Self {
                capacity: 50.0,
                answer_us: 20_000.0,
                is_there: true,
                circuit,
                tally,
                limit,
                in_flight: 0.0,
            }
        }

        /// `wanted` clients that ask again at once, for so many looks. The limit then.
        fn serve(&mut self, wanted: f64, looks: u32) -> u32 {
            for _ in 0..looks {
                self.in_flight = wanted.min(f64::from(self.limit));
                if self.is_there {
                    let takes_us = self.takes_us();
                    let answers = (self.in_flight * LOOK_US / takes_us) as u64;
                    self.tally.waits += answers;
                    self.tally.waited_us += answers * takes_us as u64;
                } else {
                    self.tally.unreachable += 20;
                }
                self.limit = self.circuit.look(FUSE, self.tally, self.in_flight as u64);
            }
            self.limit
        }

        fn takes_us(&self) -> f64 {
            self.answer_us * (self.in_flight / self.capacity).max(1.0)
        }
    }

    /// Broken by a limit that lets the service queue, by one that never opens, and by one that shuts out what there is
    /// room for.
    #[test]
    fn it_finds_what_a_service_can_do_and_no_more() {
        let mut service = Service::new();
        let quiet = service.serve(10.0, 300);
        assert!(quiet >= 20 && service.in_flight == 10.0, "{quiet}");
        service.serve(1_000.0, 100);
        for _ in 0..60 {
            let crowded = service.serve(1_000.0, 100);
            assert!((8..=110).contains(&crowded), "never so many that all wait: {crowded}");
        }
        let crowded = (0..20).map(|_| service.serve(1_000.0, 1)).max().unwrap();
        assert!(
            (50..=110).contains(&crowded),
            "what it can do is used: {crowded}, {}",
            service.circuit.words()
        );
        service.capacity = 400.0;
        let grown = (0..20).map(|_| service.serve(300.0, 50)).max().unwrap();
        assert!(grown >= 300 && !service.circuit.is_tripped(), "{grown}");
    }

    #[test]
    fn slow_answers_shut_it_by_and_by_and_quick_ones_open_it() {
        let mut service = Service::new();
        service.serve(30.0, 300);
        service.answer_us = 200_000.0;
        service.serve(30.0, 3);
        // Ten times the time, ten times the crowd.
        let after = service.serve(300.0, 40);
        assert!(after <= 20 && service.circuit.is_tripped(), "{after}, {}", service.circuit.words());
        assert!(service.circuit.words().contains("times as long as usual"));
        service.answer_us = 20_000.0;
        let again = service.serve(30.0, 60);
        assert!(again >= 30, "{again}");
    }

    /// Broken by words that call usual what is only not too much.
    #[test]
    fn few_that_are_answered_slowly_shut_nothing_and_are_told() {
        let mut service = Service::new();
        let before = service.serve(10.0, 20);
        service.answer_us *= 10.0;
        let after = service.serve(10.0, 10);
        let words = service.circuit.words();
        assert!(words.ends_with("times as long as usual, though most of the limit is free"), "{words}");
        assert!(!service.circuit.is_tripped() && before - after <= 5, "{before}, {after}");
    }

    /// Broken by a circuit for which a dead service is a slow one.
    #[test]
    fn a_service_that_is_not_there_shuts_it_at_once() {
        let limits = |spoil: fn(&mut Service)| {
            let mut service = Service::new();
            service.serve(45.0, 300);
            spoil(&mut service);
            service.serve(45.0, 3)
        };
        let slow = limits(|service| service.answer_us *= 10.0);
        let gone = limits(|service| service.is_there = false);
        assert_eq!(gone, FUSE.min);
        assert!(gone * 2 < slow, "{gone}, {slow}");
    }

    /// Broken by what is usual creeping up with the queue, after which any crowd is usual.
    #[test]
    fn a_crowd_that_stays_does_not_become_usual() {
        let mut service = Service::new();
        service.serve(10.0, 100);
        let most = (0..36_000).map(|_| service.serve(1_000.0, 1)).max().unwrap();
        assert!(most <= 110, "an hour of overload: {most}");
        let usual_us = service.circuit.usual_us().unwrap();
        assert!(usual_us < 25_000.0, "{usual_us}");
    }

    #[test]
    fn a_service_that_became_slower_for_good_is_not_shut_for_good() {
        let mut service = Service::new();
        service.serve(30.0, 300);
        service.answer_us = 100_000.0;
        let most = (0..600).map(|_| service.serve(45.0, 1)).max().unwrap();
        assert!(most >= 45, "{most}");
        let least = (0..600).map(|_| service.serve(45.0, 1)).min().unwrap();
        assert!(least >= 45, "{}", service.circuit.words());
    }

    #[test]
    fn shares_are_the_limit_together() {
        assert_eq!(shares(100, &[256, 256, 256]), [34, 33, 33]);
        assert_eq!(shares(10, &[768, 256, 0]), [8, 2, 1]);
        assert_eq!(shares(2, &[256, 256, 256]), [1, 1, 1]);
        assert_eq!(shares(5, &[0, 0]), [1, 1]);
        assert_eq!(shares(7, &[]), [0; 0]);
    }
}
