//! What is known of one host name: its addresses, how long they are good, and what is wrong. Pure: `now` is an argument.
//!
//! IPv4 and IPv6 are asked for separately, and each keeps what it has while only the other is answered. Addresses are
//! taken away by an answer that has others, never by a failure, nor by "there is no such name" or "it has no address":
//! whether an endpoint still works is for health to say, and a mistake in a zone shall not end payments.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::super::config::resolve::ResolvePlan;

/// The most addresses of one family; those that sort first are kept.
const ADDRESSES_MAX: usize = 256;
/// The longest pause after a failure.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Addresses of one family, none when the name has none, and how long that is good; or what went wrong.
pub(super) type Part = Result<(Vec<IpAddr>, Duration), String>;

/// What name servers say.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// IPv4.
    pub(super) four: Part,
    /// IPv6.
    pub(super) six: Part,
}

/// What an operator has not heard yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing.
    None,
    /// Looking it up went wrong, and had not before.
    Failed(String),
    /// It went right again.
    Recovered,
}

/// One host name.
#[derive(Debug)]
pub(super) struct Name {
    four: Vec<IpAddr>,
    six: Vec<IpAddr>,
    due: Instant,
    /// It is being looked up.
    pub(super) is_asked: bool,
    trouble: Option<String>,
    failures_in_a_row: u32,
    lookups: [u64; 2],
}

impl Name {
    /// One that was never looked up.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            four: Vec::new(),
            six: Vec::new(),
            due: now,
            is_asked: false,
            trouble: None,
            failures_in_a_row: 0,
            lookups: [0, 0],
        }
    }

    /// Its addresses, IPv4 first, each family in order: an answer that only turns them round changes nothing.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.four.iter().chain(&self.six).copied()
    }

    /// Why the last look-up did not succeed.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// How many look-ups succeeded and how many failed.
    pub(super) fn lookups(&self) -> [u64; 2] {
        self.lookups
    }

    /// Whether it shall be looked up.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.is_asked && self.due <= now
    }

    /// How long until it shall be looked up again.
    pub(super) fn due_in(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now)
    }

    /// Takes an answer. Whether there are other addresses than before, and what there is to say.
    pub(super) fn settle(&mut self, answer: Answer, plan: &ResolvePlan, now: Instant) -> (bool, News) {
        self.is_asked = false;
        let (shortest, longest) =
            (Duration::from_millis(plan.ttl_min_ms), Duration::from_millis(plan.ttl_max_ms));
        let mut ttl = longest;
        let mut trouble = None;
        let has_none = [&answer.four, &answer.six]
            .iter()
            .all(|part| matches!(part, Ok((addresses, _)) if addresses.is_empty()));
        let mut changed = false;
        for (known, part) in [(&mut self.four, answer.four), (&mut self.six, answer.six)] {
            match part {
                Ok(_) if has_none => trouble = Some("it has no address".to_owned()),
                Ok((mut addresses, good_for)) => {
                    if !addresses.is_empty() {
                        ttl = ttl.min(good_for);
                    }
                    addresses.sort_unstable();
                    addresses.dedup();
                    addresses.truncate(ADDRESSES_MAX);
                    changed |= *known != addresses;
                    *known = addresses;
                }
                Err(failure) => trouble = Some(failure),
            }
        }
        self.lookups[usize::from(trouble.is_some())] += 1;
        self.failures_in_a_row = if trouble.is_some() { self.failures_in_a_row + 1 } else { 0 };
        let wait = match self.failures_in_a_row {
            0 => ttl,
            failures => {
                let pause = shortest.saturating_mul(1 << (failures - 1).min(16));
                pause.min(PAUSE_MAX).min(longest)
            }
        };
        self.due = now + wait.max(shortest);
        let news = match (&self.trouble, &trouble) {
            (None, Some(trouble)) => News::Failed(trouble.clone()),
            (Some(_), None) => News::Recovered,
            _ => News::None,
        };
        self.trouble = trouble;
        (changed, news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::config::resolve::Family;

    const PLAN: ResolvePlan = ResolvePlan {
        servers: Vec::new(),
        family: Family::Both,
        ttl_min_ms: 1_000,
        ttl_max_ms: 60_000,
        timeout_ms: 1_000,
    };

    fn part(addresses: &[&str], ttl_s: u64) -> Part {
        Ok((addresses.iter().map(|ip| ip.parse().unwrap()).collect(), Duration::from_secs(ttl_s)))
    }

    fn failed() -> Part {
        Err("SERVFAIL".to_owned())
    }

    fn addresses(name: &Name) -> Vec<String> {
        name.addresses().map(|ip| ip.to_string()).collect()
    }

    #[test]
    fn the_ttl_says_when_within_its_bounds() {
        let now = Instant::now();
        for (ttls, wait_s) in [([30, 40], 30), ([40, 30], 30), ([0, 9], 1), ([600, 700], 60)] {
            let mut name = Name::new(now);
            assert!(name.is_due(now));
            let answer = Answer { four: part(&["10.0.0.1"], ttls[0]), six: part(&["::1"], ttls[1]) };
            assert_eq!(name.settle(answer, &PLAN, now), (true, News::None));
            assert_eq!(name.due_in(now), Duration::from_secs(wait_s), "{ttls:?}");
        }
        // Broken by the TTL of "there is no IPv6 address" counting like that of an address.
        let mut name = Name::new(now);
        name.settle(Answer { four: part(&["10.0.0.1"], 30), six: part(&[], 2) }, &PLAN, now);
        assert_eq!(name.due_in(now), Duration::from_secs(30));
    }

    #[test]
    fn other_addresses_are_news_and_another_order_is_not() {
        let now = Instant::now();
        let mut name = Name::new(now);
        let mut answered = |four: &[&str]| {
            let (changed, _) = name.settle(Answer { four: part(four, 5), six: part(&[], 5) }, &PLAN, now);
            (changed, addresses(&name))
        };
        assert!(answered(&["10.0.0.2", "10.0.0.1"]).0);
        assert!(!answered(&["10.0.0.1", "10.0.0.2", "10.0.0.1"]).0);
        assert_eq!(answered(&["10.0.0.2"]), (true, vec!["10.0.0.2".to_owned()]));
    }

    #[test]
    fn what_fails_keeps_its_addresses_and_is_said_once() {
        let now = Instant::now();
        let mut name = Name::new(now);
        name.settle(Answer { four: part(&["10.0.0.1"], 5), six: part(&["::1"], 5) }, &PLAN, now);
        let mut answered = |four: Part, six: Part| name.settle(Answer { four, six }, &PLAN, now);
        let said = News::Failed("SERVFAIL".to_owned());
        assert_eq!(answered(failed(), failed()), (false, said));
        assert_eq!(answered(failed(), failed()), (false, News::None));
        // Broken by taking "no such name" for an answer.
        assert_eq!(answered(part(&[], 5), part(&[], 5)), (false, News::None));
        assert_eq!(answered(part(&["10.0.0.2"], 5), failed()), (true, News::None));
        assert_eq!(addresses(&name), ["10.0.0.2", "::1"]);
        let answer = Answer { four: part(&["10.0.0.2"], 5), six: part(&[], 5) };
        assert_eq!(name.settle(answer, &PLAN, now), (true, News::Recovered));
        assert_eq!(name.lookups(), [2, 4]);
    }

    #[test]
    fn failures_are_repeated_ever_later_up_to_a_bound() {
        let now = Instant::now();
        let mut name = Name::new(now);
        let waits: Vec<u64> = (0..8)
            .map(|_| {
                name.settle(Answer { four: failed(), six: failed() }, &PLAN, now);
                name.due_in(now).as_secs()
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
    }
}
