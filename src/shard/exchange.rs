//! One request and its answer: what is known of it from its first byte to its log line.

use std::{cell::Cell, net::IpAddr, ops::Range};

use crate::{
    base::{
        clock::{Moment, monotonic_us},
        hex::hex_digits,
    },
    http::{Version, answer::Asked, encode::Persistence, framing::Framing, head::RequestHead},
    shared::{
        lifecycle::Phase,
        record::{Delivery, Record},
        sample::{STEPS, Sample},
    },
    stage::{
        Facts, StepTimes,
        balance::{Endpoint, Tried},
        retry::{ATTEMPTS_MAX, Repetition},
        settle::{Outcome, settle},
        snapshot::Snapshot,
        termination::Termination,
    },
};

use super::{Shard, audit::Intent, connection::Downstream, listed::Noted, patience::Patience};

/// An exchange in progress. Borrows the snapshot it was decided by.
pub(super) struct Exchange<'s> {
    pub(super) snapshot: &'s Snapshot,
    /// When the request's first byte came.
    pub(super) started: Moment,
    /// Bytes of the head, which stays at the front of the connection's block to the end.
    pub(super) head_bytes: usize,
    /// Where the method stands in the head.
    pub(super) method: Range<usize>,
    /// Where the path stands in the head, as it was sent.
    pub(super) path: Range<usize>,
    /// Where `Referer` and `User-Agent` stand, if the log wants them.
    pub(super) agents: [Range<usize>; 2],
    pub(super) request_id: RequestId,
    pub(super) trace_id: u128,
    pub(super) client_ip: IpAddr,
    pub(super) version: Version,
    pub(super) asked: Asked,
    pub(super) repetition: Repetition,
    /// When the exchange must have ended, on the monotonic clock.
    pub(super) until_ms: u64,
    /// How the request's body arrives.
    pub(super) framing: Framing,
    pub(super) expects_continue: bool,
    /// Whether the client can send another request on this connection.
    pub(super) keeps_alive: bool,
    pub(super) facts: Facts<'s>,
    /// Whether it waited for its turn and a place was kept for it.
    pub(super) was_called: bool,
    /// Bytes read of the request's body, framing included; or of what should have been a head.
    body_bytes_in: Cell<u64>,
    /// Bytes sent to the client.
    bytes_out: Cell<u64>,
    /// Status of the endpoint's answer whose head, or a part of it, may be on its way to the client; 0 while
    /// there is none, so that an answer of ours can still be sent instead.
    pub(super) status_sent: Cell<u16>,
    /// When the head of the endpoint's last answer was there, on the monotonic clock; 0 before.
    pub(super) answered_us: Cell<u64>,
    /// What the log's lists name of it.
    pub(super) listed: Noted,
    /// The span under which an endpoint is asked; 0 before.
    pub(super) span: Cell<u64>,
    /// The span of whoever called; 0 if none is named.
    parent: u64,
    /// Attempts begun, and the endpoint of the last one.
    pub(super) attempted: Cell<(u8, Option<&'s Endpoint>)>,
    /// The places of the endpoints of all attempts, in order.
    tried: Cell<[u16; ATTEMPTS_MAX as usize]>,
    /// What the audit log was told is intended, on a route that is audited.
    pub(super) intent: Option<Intent>,
}

/// `X-Request-Id`: the client's own, if it is a sane token, or one we made.
#[derive(Clone, Debug)]
pub(super) struct RequestId {
    bytes: [u8; Self::BYTES_MAX],
    length: u8,
}

impl RequestId {
    /// The longest id that is kept.
    pub(super) const BYTES_MAX: usize = 128;

    /// The client's, if it has 1 to [`Self::BYTES_MAX`] characters, none of which needs escaping anywhere.
    pub(super) fn given(id: &[u8]) -> Option<Self> {
        let sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte);
        if id.is_empty() || id.len() > Self::BYTES_MAX || !id.iter().all(sane) {
            return None;
        }
        let mut bytes = [0; Self::BYTES_MAX];
        bytes[..id.len()].copy_from_slice(id);
        Some(Self { bytes, length: u8::try_from(id.len()).ok()? })
    }

    fn made(number: u128) -> Self {
        let mut bytes = [0; Self::BYTES_MAX];
        bytes[..32].copy_from_slice(&hex_digits(number));
        Self { bytes, length: 32 }
    }

    /// The id.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// Two letters within every id that is made, so that no 13 decimal digits stand in a row: now and then the log would
/// take them for a card number and mask the id.
const LETTERS: u128 = (0xa << 84) | (0xa << 40);

/// A new id.
pub(super) fn made_id(rng: &mut fastrand::Rng) -> u128 {
    rng.u128(1..) | LETTERS
}

impl<'s> Exchange<'s> {
    /// An exchange of whose request nothing is known yet.
    pub(super) fn new(shard: &Shard, snapshot: &'s Snapshot, peer: IpAddr, started: Moment) -> Self {
        let trace_id = made_id(&mut shard.desk.borrow_mut().rng);
        Self {
            snapshot,
            started,
            head_bytes: 0,
            method: 0..0,
            path: 0..0,
            agents: [0..0, 0..0],
            request_id: RequestId::made(trace_id),
            trace_id,
            client_ip: peer,
            version: Version::Http11,
            asked: Asked::ForAll,
            repetition: Repetition::Harmful,
            until_ms: u64::MAX,
            framing: Framing::Empty,
            expects_continue: false,
            keeps_alive: false,
            facts: Facts {
                // The id is as good as any dice.
                times: (trace_id % 100 < u128::from(snapshot.timed_percent))
                    .then(|| StepTimes::new(monotonic_us)),
                ..Facts::default()
            },
            was_called: false,
            body_bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            status_sent: Cell::new(0),
            answered_us: Cell::new(0),
            listed: Noted::default(),
            span: Cell::new(0),
            parent: 0,
            attempted: Cell::new((0, None)),
            tried: Cell::default(),
            intent: None,
        }
    }

    /// Notes who asks, of a well-formed `traceparent`. A trusted proxy says which exchanges are looked at closely; of
    /// a client that could be any number.
    pub(super) fn note_parent(&mut self, traceparent: &[u8]) {
        let text = traceparent.get(36..52).and_then(|span| std::str::from_utf8(span).ok());
        self.parent = text.and_then(|span| u64::from_str_radix(span, 16).ok()).unwrap_or(0);
        let sampled = traceparent.get(54).is_some_and(|digit| b"13579bdf".contains(digit));
        if sampled && self.snapshot.trusted_proxies.contains(self.client_ip) && self.facts.times.is_none() {
            self.facts.times = Some(StepTimes::new(monotonic_us));
        }
    }

    /// Notes that it was decided what becomes of the request.
    pub(super) fn note_decided(&mut self) {
        if let Some(times) = &mut self.facts.times {
            times.end();
        }
    }

    /// How long each step took, in microseconds, of an exchange that ended at `ended`.
    fn steps_us(&self, downstream: &Downstream, ended: Moment) -> Option<[u64; STEPS.len()]> {
        let times = self.facts.times.as_ref()?;
        let ([route, authenticate, limit, balance], began_us, decided_us) = times.lengths_us();
        let first = downstream.requests <= 1;
        let accept = if first { self.started.since_us(downstream.accepted) } else { 0 };
        let end_us = ended.monotonic_us;
        let parse = began_us.saturating_sub(self.started.monotonic_us);
        let (forward, respond) = match self.answered_us.get() {
            0 if self.span.get() == 0 => (0, end_us.saturating_sub(decided_us)),
            0 => (end_us.saturating_sub(decided_us), 0),
            answered_us => (answered_us.saturating_sub(decided_us), end_us.saturating_sub(answered_us)),
        };
        let log = monotonic_us().saturating_sub(end_us);
        Some([accept, parse, route, authenticate, limit, balance, forward, respond, log])
    }

    /// Notes what the head says, all of it as places in `block`, the bytes the head was parsed from.
    pub(super) fn note_head(&mut self, head: &RequestHead<'_, '_>, block: &[u8]) {
        self.method = place(block, head.method.as_bytes());
        self.repetition = Repetition::of(head.method);
        self.version = head.version;
        self.framing = head.framing;
        self.expects_continue = head.expects_continue;
        self.keeps_alive = head.keeps_alive();
        self.asked = if head.method == "HEAD" { Asked::ForHeadOnly } else { Asked::ForAll };
    }

    /// Whether it has taken as long as it may.
    pub(super) fn is_over(&self, shard: &Shard) -> bool {
        shard.recent_ms() >= self.until_ms
    }

    /// How long an endpoint may keep it waiting: `stall_ms` at a time, while the exchange may last.
    pub(super) fn patience_with_endpoint(&self, stall_ms: u64) -> Patience {
        Patience::with_endpoint(stall_ms, self.until_ms)
    }

    /// So many bytes of the request's body were read.
    pub(super) fn note_read(&self, bytes: usize) {
        self.body_bytes_in.set(self.body_bytes_in.get() + bytes as u64);
    }

    /// Bytes read of the request so far.
    pub(super) fn bytes_in(&self) -> u64 {
        self.head_bytes as u64 + self.body_bytes_in.get()
    }

    /// An attempt at `endpoint` begins.
    pub(super) fn note_attempt(&self, endpoint: &'s Endpoint) {
        let (attempts, _) = self.attempted.get();
        self.attempted.set((attempts + 1, Some(endpoint)));
        let mut tried = self.tried.get();
        if let Some(place) = tried.get_mut(usize::from(attempts)) {
            *place = endpoint.index;
        }
        self.tried.set(tried);
    }

    /// The places of the endpoints that were tried.
    pub(super) fn tried(&self) -> Tried {
        let (attempts, _) = self.attempted.get();
        self.tried.get().into_iter().take(usize::from(attempts)).collect()
    }

    /// Of several that were asked at once, the answer is that of `endpoint`.
    pub(super) fn note_answerer(&self, endpoint: &'s Endpoint) {
        let (attempts, _) = self.attempted.get();
        self.attempted.set((attempts, Some(endpoint)));
    }

    /// The kernel took so many bytes for the client.
    pub(super) fn note_sent(&self, bytes: usize) {
        self.bytes_out.set(self.bytes_out.get() + bytes as u64);
    }

    /// The method.
    pub(super) fn method_of<'b>(&self, block: &'b [u8]) -> &'b [u8] {
        &block[self.method.clone()]
    }

    /// Whole field lines that the route's API version adds to every answer.
    pub(super) fn answer_lines(&self) -> &'s [u8] {
        self.facts.route.map_or(b"", |route| route.answer_lines())
    }

    /// How the connection goes on after an answer.
    pub(super) fn persistence(&self, shard: &Shard, downstream_requests: u64) -> Persistence {
        let keep = self.keeps_alive
            && !shard.draining.get()
            && downstream_requests < self.snapshot.keepalive_requests;
        match (keep, self.version) {
            (false, _) => Persistence::Close,
            (true, Version::Http11) => Persistence::Keep,
            (true, Version::Http10) => Persistence::KeepSaid,
        }
    }

    /// Steps behind the answer: counts the outcome and hands its record to the log.
    pub(super) fn settle(&self, shard: &Shard, downstream: &Downstream, mut outcome: Outcome<'_>) {
        let ended = shard.clock.now();
        if shard.draining.get() && shard.lifecycle.phase() == Phase::Cutting {
            outcome.termination = outcome.termination.once_drained();
        }
        let outcome = &outcome;
        let duration_us = ended.since_us(self.started);
        settle(shard.index, shard.meters(), self.facts.route, outcome, duration_us);
        if let (Some(route), true) = (self.facts.route, self.facts.admission.shadow_refused) {
            route.meters.of(shard.index).shadow_limited.add(1);
        }
        if let Some(membership) = self.facts.route.and_then(|route| route.membership.as_ref()) {
            let callers = membership.version.callers.of(shard.index);
            callers.note(self.caller_name(), outcome.status, self.started.unix_seconds().unsigned_abs());
        }
        let started_s = self.started.unix_seconds().unsigned_abs();
        shard.meters().callers.note(self.caller_name(), outcome.status, started_s);
        let block: &[u8] = downstream.block.as_ref().map_or(&[], |block| block.filled());
        if (outcome.refusal.is_some() || self.facts.times.is_some()) && shard.samples.have_room() {
            shard.samples.tell(&Sample {
                steps_us: self.steps_us(downstream, ended),
                span: self.span.get(),
                parent: self.parent,
                record: self.record(block, outcome, duration_us),
            });
        }
        if let Some(intent) = &self.intent {
            intent.settle(shard, self, outcome);
        }
        let mut log = shard.log.borrow_mut();
        let Some(log) = log.as_mut().filter(|log| log.is_wanted()) else { return };
        let sample = self.snapshot.log_sample_percent;
        // The shard's own dice: an id that the client chose would let it choose to be overlooked.
        if sample < 100 && outcome.is_success() && shard.desk.borrow_mut().rng.u8(..100) >= sample {
            shard.meters().log_unsampled.add(1);
            return;
        }
        let record = self.record(block, outcome, duration_us);
        let mut packed = shard.record_scratch.borrow_mut();
        self.listed.with(|listed| Record { listed, ..record }.pack(&mut packed));
        shard.meters().log_records.add(1);
        log.send(&packed);
    }

    /// What the log knows of it. `block` holds its head.
    fn record<'a>(&'a self, block: &'a [u8], outcome: &Outcome<'_>, duration_us: u64) -> Record<'a> {
        Record {
            minor_version: u8::from(self.version == Version::Http11),
            unix_us: self.started.unix_us,
            generation: self.snapshot.generation,
            client_ip: self.client_ip,
            trace_id: self.trace_id,
            route: self.facts.route.map(|route| route.index),
            endpoint: outcome.endpoint.map(|(cluster, endpoint)| (cluster.index, endpoint)),
            status: outcome.status,
            code: outcome.code().map(|code| code as u8),
            termination: outcome.termination as u8,
            attempts: outcome.attempts,
            delivery: outcome.delivery,
            bytes_in: self.bytes_in(),
            bytes_out: self.bytes_out.get(),
            duration_us,
            upstream_us: outcome.upstream_us,
            request_id: self.request_id.as_bytes(),
            consumer: self.facts.caller.as_ref().map_or(b"", |caller| caller.consumer.as_bytes()),
            method: self.method_of(block),
            path: &block[self.path.clone()],
            reason: self.reason(outcome).as_bytes(),
            referer: &block[self.agents[0].clone()],
            user_agent: &block[self.agents[1].clone()],
            listed: b"",
        }
    }

    /// Who called, with the keyed hash of the name.
    fn caller_name(&self) -> Option<(u64, &[u8])> {
        self.facts.caller.as_ref().map(|caller| (caller.consumer_hash, caller.consumer.as_bytes()))
    }

    /// Why it ended as it did, for the log; empty when there is nothing to say.
    fn reason(&self, outcome: &Outcome<'_>) -> &'static str {
        match outcome.reason() {
            "" if self.facts.admission.shadow_refused => "a limit in shadow would have refused it",
            reason => reason,
        }
    }

    /// An outcome in which the gateway answered itself, or nobody was there to be answered.
    pub(super) fn outcome(&self, status: u16, reason: &'static str, termination: Termination) -> Outcome<'s> {
        Outcome {
            status,
            refusal: None,
            reason,
            termination,
            endpoint: None,
            attempts: 0,
            delivery: Delivery::NotSent,
            upstream_us: 0,
        }
    }
}

/// Where `part` stands in `whole`, which it was cut from; nowhere if it was not.
pub(super) fn place(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    match start.checked_add(part.len()) {
        Some(end) if end <= whole.len() => start..end,
        _ => 0..0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sane_ids() {
        for id in [&b"7f3a-b:c@d/e=+._"[..], &[b'a'; 128]] {
            assert_eq!(RequestId::given(id).unwrap().as_bytes(), id);
        }
        for id in [&b""[..], b"a b", b"a\"b", b"a\\b", b"\xc3\xa9", &[b'a'; 129]] {
            assert!(RequestId::given(id).is_none(), "{id:?}");
        }
    }

    /// Broken by an id that is made of digits alone, which the log masks when they look like a card number.
    #[test]
    fn no_made_id_is_a_card_number() {
        for number in [0, 0x4111_1111_1111_1111_4111_1111_1111_1111] {
            let id = RequestId::made(number | LETTERS);
            let longest = id.as_bytes().split(u8::is_ascii_alphabetic).map(<[u8]>::len).max();
            assert_eq!(longest, Some(10));
        }
    }

    #[test]
    fn places() {
        let whole = b"GET /a HTTP/1.1";
        assert_eq!(place(whole, &whole[4..6]), 4..6);
        assert_eq!(place(whole, b"elsewhere"), 0..0);
    }
}
