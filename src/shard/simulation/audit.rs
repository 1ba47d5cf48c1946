//! The audit writer of a world: takes the shard's records when the world lets it, and says how far it got, late or
//! not at all. Keeps what it took for the verdict.
//!
//! Draws from a seed of its own, so that worlds without audited routes are what they were without it.

use std::{os::fd::OwnedFd, thread};

use fastrand::Rng;
use rustix::event::{EventfdFlags, eventfd};

use crate::shared::{
    audit_record::{AuditEvent, AuditRecord},
    audit_ring::{AuditReceiver, AuditSender, AuditWay, audit_ring},
    record::Delivery,
};

use super::super::{AuditEnds, AuditRules};

/// A record that the writer took.
#[derive(Debug)]
pub(super) struct Audited {
    pub(super) seq: u64,
    pub(super) intent: u64,
    pub(super) event: AuditEvent,
    pub(super) id: String,
    pub(super) status: u16,
    pub(super) delivery: Delivery,
}

/// How the writer does.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Writing,
    Hanging,
    Failing,
}

/// The writer's end.
pub(super) struct Auditing {
    receiver: AuditReceiver,
    news: OwnedFd,
    rng: Rng,
    mood: Mood,
    /// Whether it has no moods any more.
    has_recovered: bool,
    pub(super) rules: AuditRules,
    /// Whether any route is audited.
    pub(super) has_routes: bool,
    pub(super) records: Vec<Audited>,
    /// The last number that may be said to be settled: taken, or known never to come.
    taken: u64,
}

impl Auditing {
    /// A writer, and what its shard gets.
    pub(super) fn new(seed: u64) -> (Self, AuditEnds) {
        let mut rng = Rng::with_seed(!seed);
        let rules = AuditRules {
            waits_for_disk: rng.bool(),
            refuses: rng.u32(..3) > 0,
            wait_max_ms: rng.u64(500..2_000),
        };
        // Where nothing is dropped, room is kept for the ends of what was begun.
        let bytes = match (rng.bool(), rules.refuses) {
            (true, true) => 4 * 1024,
            (true, false) => 1024,
            (false, _) => 1 << 20,
        };
        let (ring, receiver) = audit_ring(bytes);
        let news = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("a descriptor");
        let ends = AuditEnds {
            sender: AuditSender::new(ring, receiver.way.clone(), thread::current()),
            news: news.try_clone().expect("a descriptor"),
            rules,
        };
        let (mood, has_routes) = (Mood::Writing, rng.bool());
        let auditing = Self {
            receiver,
            news,
            rng,
            mood,
            has_recovered: false,
            rules,
            has_routes,
            records: Vec::new(),
            taken: 0,
        };
        (auditing, ends)
    }

    /// What both ends see.
    pub(super) fn way(&self) -> &AuditWay {
        &self.receiver.way
    }

    /// Some of its work, if it is in the mood; whether anything came of it.
    pub(super) fn work(&mut self) -> bool {
        if !self.has_recovered && self.rng.u32(..40) == 0 {
            self.mood = [Mood::Writing, Mood::Writing, Mood::Hanging, Mood::Failing][self.rng.usize(..4)];
            self.receiver.way.set_failing(self.mood == Mood::Failing);
        }
        let some = if self.has_recovered { usize::MAX } else { self.rng.usize(..4) };
        if self.mood != Mood::Writing || some == 0 {
            return false;
        }
        self.take(some);
        let is_news = self.receiver.way.settled.count() < self.taken;
        if is_news && self.receiver.way.settled.advance(self.taken) {
            let _ = rustix::io::write(&self.news, &1_u64.to_ne_bytes());
        }
        if self.taken >= self.receiver.way.issued.count() {
            // It sleeps until it is rung for.
            let _ = self.receiver.way.issued.listen();
        }
        is_news
    }

    /// Whether it sleeps although there are records, for want of somebody who rings.
    pub(super) fn was_left_asleep(&self) -> bool {
        let issued = &self.receiver.way.issued;
        issued.count() > self.taken && issued.rings()
    }

    /// It writes from now on as it should.
    pub(super) fn recover(&mut self) {
        (self.mood, self.has_recovered) = (Mood::Writing, true);
        self.receiver.way.set_failing(false);
    }

    /// Takes up to so many records.
    pub(super) fn take(&mut self, records_max: usize) {
        let issued = self.receiver.way.issued.count();
        for _ in 0..records_max {
            let Some(packed) = self.receiver.ring.receive() else {
                // What was given out and is not there never comes.
                self.taken = issued;
                return;
            };
            let record = AuditRecord::unpack(packed).expect("what was packed");
            self.taken = record.seq;
            self.records.push(Audited {
                seq: record.seq,
                intent: record.intent,
                event: record.event,
                id: String::from_utf8_lossy(record.request_id).into_owned(),
                status: record.status,
                delivery: record.delivery,
            });
        }
    }

    /// The records of the request with this id.
    pub(super) fn of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Audited> {
        self.records.iter().filter(move |record| record.id == id)
    }

    /// Whether this record of the request is where it was promised to be.
    pub(super) fn is_settled(&self, id: &str, event: AuditEvent) -> bool {
        let settled = self.receiver.way.settled.count();
        self.of(id).any(|record| record.event == event && record.seq <= settled)
    }
}
