//! What is counted: latencies in histograms, everything else in numbers. Kept per thread and second, then added up.

use std::{collections::BTreeMap, ops::AddAssign};

use hdrhistogram::Histogram;

/// The longest latency a histogram tells apart; longer ones count as this.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Significant decimal digits of recorded latencies.
const DIGITS: u8 = 3;
/// Statuses run from 0 to 599.
const STATUSES: usize = 600;

/// Latencies in nanoseconds, to three digits, never averaged away.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns.max(1));
    }

    pub(crate) fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self(
            Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS).expect("constant bounds that are in order"),
        )
    }
}

impl AddAssign<&Self> for Latencies {
    fn add_assign(&mut self, other: &Self) {
        if !other.0.is_empty() {
            self.0.add(&other.0).expect("all have the same bounds");
        }
    }
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection: refused, unreachable or out of ports.
    Connect,
    /// No complete answer in time.
    Timeout,
    /// The peer reset the connection.
    Reset,
    /// The peer closed the connection before the answer was complete.
    ClosedEarly,
    /// What came was not an HTTP answer, or came unasked.
    Malformed,
    /// The run was stopped before an answer came.
    Unfinished,
}

/// How many kinds of [`Failure`] there are.
pub(crate) const FAILURES: usize = 6;

/// Everything counted in some time by some thread.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// Actual send to complete answer, of answered and timed-out requests.
    pub(crate) service: Latencies,
    /// Intended start to complete answer; of timed-out and missed requests the time that they waited.
    pub(crate) response: Latencies,
    /// Intended start, or the end of a time without a free connection if that was later, to the moment the generator
    /// acted on it: its own lateness, whatever the target did.
    pub(crate) lag: Latencies,
    /// How long late and missed requests waited for a connection.
    pub(crate) waiting: Latencies,
    /// From one look at the ring to the next while there was work: how long an answer can lie unseen.
    pub(crate) turn: Latencies,
    /// Intended starts that fell into the time.
    pub(crate) arrivals: u64,
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// Answers that arrived within the measured time, whenever they were asked for.
    pub(crate) answered_in_time: u64,
    /// Requests that had to wait for a connection.
    pub(crate) late: u64,
    /// Requests never sent: the bound of requests in flight, or the end of the run, came first.
    pub(crate) missed: u64,
    pub(crate) failures: [u64; FAILURES],
    pub(crate) statuses: Statuses,
    pub(crate) routes: Vec<RouteTally>,
    pub(crate) bad_tokens: BadTokens,
    /// Connections that had to be opened again after the first.
    pub(crate) reconnects: u64,
    /// Idle connections that the peer closed.
    pub(crate) idle_lost: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// Answers by status.
#[derive(Debug, Clone)]
pub(crate) struct Statuses(Box<[u64; STATUSES]>);

/// What became of requests with a broken token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct BadTokens {
    pub(crate) refused: u64,
    /// Answered 2xx: the target does not check signatures.
    pub(crate) accepted: u64,
    pub(crate) other: u64,
}

/// One route's answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RouteTally {
    pub(crate) answered: u64,
    pub(crate) unexpected: BTreeMap<u16, u64>,
}

impl Tally {
    pub(crate) fn new(routes: usize) -> Self {
        Self {
            service: Latencies::default(),
            response: Latencies::default(),
            lag: Latencies::default(),
            waiting: Latencies::default(),
            turn: Latencies::default(),
            arrivals: 0,
            sent: 0,
            answered: 0,
            answered_in_time: 0,
            late: 0,
            missed: 0,
            failures: [0; FAILURES],
            statuses: Statuses(Box::new([0; STATUSES])),
            routes: vec![RouteTally::default(); routes],
            bad_tokens: BadTokens::default(),
            reconnects: 0,
            idle_lost: 0,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    pub(crate) fn fail(&mut self, failure: Failure) {
        self.failures[failure as usize] += 1;
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failures.iter().sum()
    }

    /// Answers with a status that their route does not expect.
    pub(crate) fn unexpected(&self) -> u64 {
        self.routes.iter().flat_map(|route| route.unexpected.values()).sum()
    }

    /// Unexpected answers of one class of statuses, such as 5 for 5xx.
    pub(crate) fn unexpected_class(&self, class: u16) -> u64 {
        let of_class = |(status, count): (&u16, &u64)| if status / 100 == class { *count } else { 0 };
        self.routes.iter().flat_map(|route| route.unexpected.iter().map(of_class)).sum()
    }

    /// Failures, unexpected answers and missed requests, of all requests that should have been made.
    pub(crate) fn error_share(&self) -> f64 {
        let whole = self.answered + self.failed() + self.missed;
        if whole == 0 { 0.0 } else { (self.failed() + self.unexpected() + self.missed) as f64 / whole as f64 }
    }
}

impl AddAssign<&Self> for Tally {
    fn add_assign(&mut self, other: &Self) {
        self.service += &other.service;
        self.response += &other.response;
        self.lag += &other.lag;
        self.waiting += &other.waiting;
        self.turn += &other.turn;
        self.arrivals += other.arrivals;
        self.sent += other.sent;
        self.answered += other.answered;
        self.answered_in_time += other.answered_in_time;
        self.late += other.late;
        self.missed += other.missed;
        for (own, other) in self.failures.iter_mut().zip(other.failures) {
            *own += other;
        }
        for (own, other) in self.statuses.0.iter_mut().zip(other.statuses.0.iter()) {
            *own += other;
        }
        for (own, other) in self.routes.iter_mut().zip(&other.routes) {
            own.answered += other.answered;
            for (&status, &count) in &other.unexpected {
                *own.unexpected.entry(status).or_default() += count;
            }
        }
        self.bad_tokens.refused += other.bad_tokens.refused;
        self.bad_tokens.accepted += other.bad_tokens.accepted;
        self.bad_tokens.other += other.bad_tokens.other;
        self.reconnects += other.reconnects;
        self.idle_lost += other.idle_lost;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }
}

impl Statuses {
    pub(crate) fn count(&mut self, status: u16) {
        self.0[usize::from(status).min(STATUSES - 1)] += 1;
    }

    /// The statuses that occurred.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, u64)> {
        (0u16..).zip(self.0.iter().copied()).filter(|&(_, count)| count > 0)
    }
}
