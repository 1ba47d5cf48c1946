//! The shard's part of the audit log: an intent before the first byte goes to an endpoint, an outcome once it is known
//! how the exchange ended, and no end of an answer before what vouches for it is where it should be.
//!
//! Only exchanges of audited routes come here. Records go into a ring; the writer's news come through a descriptor
//! in the shard's readiness set and wake whoever waits for them. The writer is woken once for all records of a turn of
//! the loop: on a CPU that it shares with the shard it would else run after each of them, and write each by itself.
//! Nothing here blocks, and no other exchange waits.
//! Decides nothing about lines, chains and files (`control/audit/`).

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
};

use crate::{
    base::clock::Moment,
    shared::{
        audit_record::{AuditEvent, AuditRecord, OUTCOME_BYTES_MAX},
        audit_ring::{AuditSender, AuditWay},
        record::Delivery,
    },
    stage::{
        refusal::{Code, Refusal},
        settle::Outcome,
    },
};

use super::{
    Shard,
    connection::Downstream,
    exchange::Exchange,
    request::Granted,
    watch::{Direction, Watch, Watches},
};

/// What a shard is given to audit with.
#[derive(Debug)]
pub struct AuditEnds {
    /// Where its records go.
    pub sender: AuditSender,
    /// Where the writer's news come from: readable when there are some.
    pub news: OwnedFd,
    /// What was promised.
    pub rules: AuditRules,
}

/// What the configuration promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditRules {
    /// Nothing is sent and no answer ends before its record is on the disk.
    pub waits_for_disk: bool,
    /// Without a record there is no request and no answer; else the records are dropped, and marked as missing.
    pub refuses: bool,
    /// How long an exchange waits for its record, in milliseconds.
    pub wait_max_ms: u64,
}

/// Why an answer did not get to its client, for the log.
pub(super) const WITHHELD: &str = "the answer was withheld: its audit record was not written in time";

/// Room that is kept in the ring for an exchange under way: its outcome, and that its client did not take it.
const KEPT_BYTES: usize = 2 * OUTCOME_BYTES_MAX;

/// One per shard.
pub(super) struct Auditor {
    sender: RefCell<AuditSender>,
    way: Arc<AuditWay>,
    rules: AuditRules,
    /// Open for as long as it is watched. Never read: each addition to the count is an edge of its own (eventfd(2),
    /// epoll(7)), and it holds more of them than there will ever be.
    _news: OwnedFd,
    watch: Rc<Watch>,
    /// Records were handed over since the writer was last rung for.
    is_unrung: Cell<bool>,
    /// Who rings for it.
    ringer: RefCell<Option<Waker>>,
    /// Bytes of the ring that are kept for exchanges under way.
    kept_bytes: Cell<usize>,
    /// A record that was sent, and when: while it is not settled, the writer is at least so far behind.
    probe: Cell<(u64, u64)>,
    /// Exchanges that wait for a record, at most all that are in flight.
    waiting: RefCell<Vec<Waiting>>,
    /// Nobody waits any more: what is left is cut.
    is_over: Cell<bool>,
    /// Where a record is put together. Grows to the longest record, at most a few KiB.
    scratch: RefCell<Vec<u8>>,
}

struct Waiting {
    seq: u64,
    until_ms: u64,
    waker: Waker,
}

/// How an exchange ends, as its record says it.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) status: u16,
    pub(super) code: Option<Code>,
    pub(super) delivery: Delivery,
    pub(super) reason: &'static str,
}

/// An exchange whose intent was recorded. Gives the room kept for its outcome back on drop.
pub(super) struct Intent {
    auditor: Rc<Auditor>,
    seq: u64,
    /// The status of the outcome that was recorded, if one was.
    recorded: Cell<Option<u16>>,
    /// The intent itself was late: nothing is sent, and the refusal that says so waits for nothing.
    is_void: Cell<bool>,
}

impl Auditor {
    /// The one of the shard that has these `ends`.
    ///
    /// # Errors
    /// The system has no room in the readiness set.
    pub(super) fn new(ends: AuditEnds, watches: &Watches) -> io::Result<Rc<Self>> {
        let (_, watch) = watches.add(&ends.news)?;
        Ok(Rc::new(Self {
            way: Arc::clone(ends.sender.way()),
            sender: RefCell::new(ends.sender),
            rules: ends.rules,
            _news: ends.news,
            watch,
            is_unrung: Cell::new(false),
            ringer: RefCell::default(),
            kept_bytes: Cell::new(0),
            probe: Cell::new((0, 0)),
            waiting: RefCell::default(),
            is_over: Cell::new(false),
            scratch: RefCell::default(),
        }))
    }

    /// Exchanges that wait, and bytes of the ring that are kept for some.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        (self.waiting.borrow().len(), self.kept_bytes.get())
    }

    /// Passes news on to who waits for them, for ever.
    pub(super) async fn run(self: Rc<Self>) {
        loop {
            // That all waits are to end, which a drain says, is news too.
            let _ = poll_fn(|context| self.watch.wait(Direction::Read, context.waker())).await;
            self.watch.exhausted(Direction::Read);
            self.watch.clear(Direction::Read);
            self.pass_on();
        }
    }

    /// Rings for the writer when records were handed over, for ever. Tasks run in the order they are woken in, so this
    /// one has its turn after all exchanges that the same news woke.
    pub(super) async fn ring(self: Rc<Self>) {
        loop {
            poll_fn(|context| {
                if self.is_unrung.replace(false) {
                    return Poll::Ready(());
                }
                let mut kept = self.ringer.borrow_mut();
                if !kept.as_ref().is_some_and(|kept| kept.will_wake(context.waker())) {
                    *kept = Some(context.waker().clone());
                }
                Poll::Pending
            })
            .await;
            self.sender.borrow().ring();
        }
    }

    fn pass_on(&self) {
        let mut waiting = self.waiting.borrow_mut();
        let settled = self.way.settled.count();
        wake_where(&mut waiting, |waiting| waiting.seq <= settled);
        // Where nobody is left who waits there is nobody to be woken for the next records.
        if !waiting.is_empty() {
            let settled = self.way.settled.listen();
            wake_where(&mut waiting, |waiting| waiting.seq <= settled);
        }
    }

    /// Ends waits that were long enough.
    pub(super) fn sweep(&self, now_ms: u64) {
        wake_where(&mut self.waiting.borrow_mut(), |waiting| waiting.until_ms <= now_ms);
    }

    /// Ends all waits: what is left is cut.
    pub(super) fn give_up(&self) {
        self.is_over.set(true);
        wake_where(&mut self.waiting.borrow_mut(), |_| true);
    }

    /// Whether the writer is so far behind that a wait for another record would be in vain.
    fn is_stuck(&self, now_ms: u64) -> bool {
        let (seq, since_ms) = self.probe.get();
        let is_late = now_ms.saturating_sub(since_ms) >= self.rules.wait_max_ms / 2;
        self.way.is_failing() || is_late && seq > self.way.settled.count()
    }

    /// Hands over what stands in the scratch; it has the number that is next.
    fn send(&self, sender: &mut AuditSender, packed: &[u8], now_ms: u64) {
        let seq = sender.next();
        sender.send(packed);
        if !self.is_unrung.replace(true)
            && let Some(ringer) = &*self.ringer.borrow()
        {
            ringer.wake_by_ref();
        }
        let (probe, _) = self.probe.get();
        if probe <= self.way.settled.count() {
            self.probe.set((seq, now_ms));
        }
    }

    /// Waits until the record with this number is where it should be. Whether it came to be so in time.
    async fn is_settled(&self, seq: u64, shard: &Shard) -> bool {
        let until_ms = shard.recent_ms() + self.rules.wait_max_ms;
        let mut is_waiting = false;
        poll_fn(|context| {
            if self.way.settled.count() >= seq {
                return Poll::Ready(true);
            }
            if self.is_over.get() || shard.recent_ms() >= until_ms {
                return Poll::Ready(false);
            }
            if is_waiting {
                return Poll::Pending;
            }
            is_waiting = true;
            let waker = context.waker().clone();
            self.waiting.borrow_mut().push(Waiting { seq, until_ms, waker });
            // Who is found settled only now is woken once more with the next ones, which does no harm.
            match self.way.settled.listen() >= seq {
                true => Poll::Ready(true),
                false => Poll::Pending,
            }
        })
        .await
    }
}

/// Wakes and forgets those of which `is_over` holds.
fn wake_where(waiting: &mut Vec<Waiting>, is_over: impl Fn(&Waiting) -> bool) {
    waiting.retain(|waiting| {
        let over = is_over(waiting);
        if over {
            waiting.waker.wake_by_ref();
        }
        !over
    });
}

/// Records what is intended with a request that was granted, and sees to it that the record is where it should be
/// before anything is sent.
///
/// # Errors
/// It cannot be recorded, and without a record there is no request.
pub(super) async fn intend(
    shard: &Shard,
    downstream: &Downstream,
    exchange: &mut Exchange<'_>,
    granted: &Granted<'_>,
) -> Result<(), Refusal> {
    let Some(auditor) = shard.auditor.as_ref().map(Rc::clone) else { return Ok(()) };
    let refused = |reason| {
        auditor.way.refused.add(1);
        Err(Refusal::new(Code::Overloaded, reason))
    };
    let now = shard.clock.now();
    let is_stuck = auditor.is_stuck(now.monotonic_ms());
    if is_stuck && auditor.rules.refuses {
        return refused("the audit log takes no records");
    }
    let block: &[u8] = downstream.block.as_ref().map_or(&[], |block| block.filled());
    let seq = {
        let (mut sender, mut packed) = (auditor.sender.borrow_mut(), auditor.scratch.borrow_mut());
        let seq = sender.next();
        let record = AuditRecord {
            event: AuditEvent::Intent,
            consumer: exchange.facts.caller.as_ref().map_or(b"", |caller| caller.consumer.as_bytes()),
            method: exchange.method_of(block),
            path: &block[exchange.path.clone()],
            route: exchange.facts.route.map_or(b"", |route| route.name.as_bytes()),
            cluster: granted.permit.cluster().name.as_bytes(),
            endpoint: granted.permit.endpoint().name.as_bytes(),
            ..record(exchange, seq, seq, now)
        };
        record.pack(&mut packed);
        let kept_bytes = auditor.kept_bytes.get() + KEPT_BYTES;
        if auditor.rules.refuses && sender.room() < packed.len() + size_of::<u32>() + kept_bytes {
            return refused("audit.ring");
        }
        auditor.kept_bytes.set(kept_bytes);
        auditor.send(&mut sender, &packed, now.monotonic_ms());
        seq
    };
    let rules = auditor.rules;
    let intent =
        Intent { auditor: Rc::clone(&auditor), seq, recorded: Cell::new(None), is_void: Cell::new(false) };
    let intent = exchange.intent.insert(intent);
    if rules.waits_for_disk && !(is_stuck || auditor.is_settled(seq, shard).await) && rules.refuses {
        intent.is_void.set(true);
        return refused("the audit record was not on the disk in time");
    }
    Ok(())
}

impl Intent {
    /// Before the end of an answer leaves: records the outcome if that must be on the disk, and waits for what must be
    /// there. Whether the answer may end.
    pub(super) async fn may_end(&self, shard: &Shard, exchange: &Exchange<'_>, end: End) -> bool {
        let auditor = &*self.auditor;
        if self.is_void.get() {
            return true;
        }
        let seq = match auditor.rules.waits_for_disk {
            true => self.tell(shard, exchange, AuditEvent::Outcome, end),
            false => self.seq,
        };
        let is_settled = match auditor.way.settled.count() >= seq {
            true => true,
            false if !auditor.rules.refuses && auditor.is_stuck(shard.recent_ms()) => false,
            false => auditor.is_settled(seq, shard).await,
        };
        if !is_settled {
            let counter = if auditor.rules.refuses { &auditor.way.withheld } else { &auditor.way.unproven };
            counter.add(1);
        }
        is_settled || !auditor.rules.refuses
    }

    /// After everything: records the outcome, or that the client did not take what was recorded.
    pub(super) fn settle(&self, shard: &Shard, exchange: &Exchange<'_>, outcome: &Outcome<'_>) {
        let end = End {
            status: outcome.status,
            code: outcome.code(),
            delivery: outcome.delivery,
            reason: outcome.reason(),
        };
        match self.recorded.get() {
            None => {
                self.tell(shard, exchange, AuditEvent::Outcome, end);
            }
            Some(status) if status != outcome.status || !outcome.reason.is_empty() => {
                self.tell(shard, exchange, AuditEvent::Undelivered, End { reason: outcome.reason, ..end });
            }
            Some(_) => {}
        }
    }

    fn tell(&self, shard: &Shard, exchange: &Exchange<'_>, event: AuditEvent, end: End) -> u64 {
        let now = shard.clock.now();
        let auditor = &*self.auditor;
        let (mut sender, mut packed) = (auditor.sender.borrow_mut(), auditor.scratch.borrow_mut());
        let seq = sender.next();
        let (attempts, endpoint) = exchange.attempted.get();
        let record = AuditRecord {
            event,
            status: end.status,
            code: end.code.map(|code| code as u8),
            attempts,
            delivery: end.delivery,
            endpoint: endpoint.map_or(b"", |endpoint| endpoint.name.as_bytes()),
            reason: end.reason.as_bytes(),
            ..record(exchange, seq, self.seq, now)
        };
        record.pack(&mut packed);
        auditor.send(&mut sender, &packed, now.monotonic_ms());
        self.recorded.set(Some(end.status));
        seq
    }
}

/// What every record of `exchange` says.
fn record<'a>(exchange: &'a Exchange<'_>, seq: u64, intent: u64, now: Moment) -> AuditRecord<'a> {
    AuditRecord {
        event: AuditEvent::Intent,
        seq,
        intent,
        unix_us: now.unix_us,
        client_ip: exchange.client_ip,
        trace_id: exchange.trace_id,
        status: 0,
        code: None,
        attempts: 0,
        delivery: Delivery::NotSent,
        bytes_in: exchange.bytes_in(),
        duration_us: now.since_us(exchange.started),
        request_id: exchange.request_id.as_bytes(),
        consumer: b"",
        method: b"",
        path: b"",
        route: b"",
        cluster: b"",
        endpoint: b"",
        reason: b"",
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        let kept_bytes = &self.auditor.kept_bytes;
        kept_bytes.set(kept_bytes.get().saturating_sub(KEPT_BYTES));
    }
}
