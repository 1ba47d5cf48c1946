//! What must hold of audited routes: no byte goes to an endpoint and no answer ends before what was promised is where it
//! was promised to be, and at the end every intent has its outcome.

use std::collections::BTreeMap;

use crate::shared::audit_record::AuditEvent;

use super::{
    audit::Audited,
    invariants::Verdict,
    setting::AUDITED,
    world::{Logged, World},
};

macro_rules! rule {
    ($holds:expr, $($broken:tt)*) => {
        if !$holds {
            return Err(format!($($broken)*));
        }
    };
}

/// Whether the request that was logged so is on record, in this world.
fn is_audited(world: &World, record: &Logged) -> bool {
    let route = record.route.and_then(|route| world.snapshot.routes.routes().get(usize::from(route)));
    route.is_some_and(|route| route.is_audited)
}

/// What holds after every move: what an endpoint has of a request, and what a client has of an answer, was recorded.
pub(super) fn nothing_goes_unrecorded(world: &World) -> Verdict {
    let audit = &world.audit;
    rule!(!audit.was_left_asleep(), "the writer sleeps, and nobody rings for the records that are there");
    if !audit.has_routes || !audit.rules.refuses {
        return Ok(());
    }
    let is_one = |path: &str| AUDITED.iter().any(|name| path.starts_with(&format!("/{name}/")));
    if audit.rules.waits_for_disk {
        for upstream in world.upstreams.iter().filter(|upstream| !upstream.is_shadow) {
            let Some((path, id)) = upstream.next_request() else { continue };
            let is_on_disk = audit.is_settled(&id, AuditEvent::Intent);
            rule!(!is_one(&path) || is_on_disk, "{id} is on its way, and its intent is not on the disk");
        }
    }
    let promised = if audit.rules.waits_for_disk { AuditEvent::Outcome } else { AuditEvent::Intent };
    for client in &world.clients {
        for (answer, asked) in client.answers.iter().zip(&client.visit.asked) {
            if answer.complete && answer.field("X-Echo").is_some() && is_one(&asked.path) {
                let id = &asked.id;
                rule!(audit.is_settled(id, promised), "{id} was answered, and its {promised:?} is nowhere");
            }
        }
    }
    Ok(())
}

/// What holds when all peers have been silent for longer than any time-out.
pub(super) fn everything_is_given_back(world: &World) -> Verdict {
    let held = world.shard.auditor.as_ref().map_or((0, 0), |auditor| auditor.held());
    rule!(held == (0, 0), "{} wait for their record, {} bytes are kept", held.0, held.1);
    Ok(())
}

/// What holds of the whole story. `seen` says how often endpoints saw something of each request.
pub(super) fn verdict(world: &World, seen: &BTreeMap<String, usize>) -> Verdict {
    let (audit, dropped) = (&world.audit, world.audit.way().dropped.get());
    let mut last = 0;
    for record in &audit.records {
        rule!(record.seq > last, "{record:?} came after {last}");
        last = record.seq;
    }
    let missing = audit.way().issued.count() - audit.records.len() as u64;
    rule!(missing == dropped, "{missing} audit records are missing, {dropped} were counted");
    rule!(dropped == 0 || !audit.rules.refuses, "{dropped} records were dropped where there is none without");
    for record in &world.records {
        let id = &record.id;
        let told: Vec<&Audited> = audit.of(id).collect();
        if !is_audited(world, record) {
            rule!(told.is_empty(), "{id} is not to be audited, and there is {told:?}");
            continue;
        }
        let was_seen = seen.contains_key(id);
        let Some((intent, ends)) = told.split_first() else {
            rule!(!was_seen || dropped > 0, "{id} was seen by an endpoint and never recorded");
            continue;
        };
        if dropped > 0 {
            continue;
        }
        rule!(intent.event == AuditEvent::Intent, "{id} begins with {intent:?}");
        let events: Vec<AuditEvent> = ends.iter().map(|end| end.event).collect();
        let is_whole =
            matches!(events[..], [AuditEvent::Outcome] | [AuditEvent::Outcome, AuditEvent::Undelivered]);
        rule!(is_whole, "{id} ended as {events:?}");
        let end = ends[ends.len() - 1];
        let belongs = ends.iter().all(|end| end.intent == intent.seq);
        rule!(belongs, "{id}: an end belongs to another intent: {told:?}");
        let says = (end.status, end.delivery);
        let logged = (record.status, record.delivery);
        rule!(says == logged, "{id} is {says:?} in the audit log and {logged:?} in the other");
    }
    Ok(())
}
