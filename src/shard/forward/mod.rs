//! Steps 7 and 8: carry the request to an endpoint and its answer back.
//!
//! Attempts follow one another until one is answered, or until another could pay twice or would be too many;
//! what may follow what stands in `stage/retry/`. Bodies stream in both directions at once, so an endpoint may answer
//! before it has read everything.

mod again;
mod answer;
mod attempt;
mod hedge;
mod mirror;
pub(super) mod pool;
mod upload;

use std::{cell::Cell, rc::Rc};

use crate::{
    shared::record::Delivery,
    stage::{
        refusal::{Code, Refusal},
        retry::{Answered, Cause, Failure, Repetition, Sent},
        settle::Outcome,
        termination::{Reached, Termination},
    },
};

use super::{
    Shard,
    connection::{Downstream, Next},
    exchange::Exchange,
    request::Granted,
    respond,
};

use self::{
    again::Again,
    attempt::{Attempt, Ending},
    pool::{Look, Source},
    upload::Upload,
};

/// Carries a request that was granted.
pub(super) async fn carry<'s>(
    shard: &Rc<Shard>,
    downstream: &mut Downstream,
    exchange: &mut Exchange<'s>,
    granted: Granted<'s>,
) -> (Outcome<'s>, Next) {
    let Granted { mut permit, mut request, body } = granted;
    let cluster = permit.cluster();
    let mut upload = Upload::begin(body, exchange, downstream, &mut request);
    let timeout_ms = exchange.facts.route.map_or(u64::MAX, |route| route.timeout_ms);
    exchange.until_ms = shard.recent_ms().saturating_add(timeout_ms);
    if let Some(place) = exchange.facts.mirror {
        mirror::send_copy(shard, exchange, place, &request);
    }
    let mut outcome = exchange.outcome(0, "", Termination::Complete);
    let mut source = Source::PoolFirst;
    let look = match exchange.repetition {
        Repetition::Safe | Repetition::Harmless if upload.is_finished() => Look::Recent,
        _ => Look::Now,
    };
    loop {
        outcome.attempts += 1;
        exchange.note_attempt(permit.endpoint());
        let again = Again::new(shard, exchange, &permit, outcome.attempts);
        let endpoint = permit.endpoint();
        let answered_by = Cell::new(endpoint.index);
        let began_ms = shard.recent_ms();
        let attempt = Attempt { shard, exchange, cluster, endpoint, look, began_ms, again, answered_by };
        let (ending, upstream_us) = attempt.run(downstream, &mut upload, &mut request, source).await;
        outcome.upstream_us += upstream_us;
        outcome.attempts = attempt.again.attempts();
        outcome.endpoint = Some((cluster, attempt.answered_by.get()));
        let failure = match ending {
            Ending::Answered { status, reason, termination, next } => {
                outcome.delivery = Delivery::Answered;
                // Bytes that nobody will read would reset the connection under the answer.
                let unread = downstream.block.as_ref().is_some_and(|block| !block.unread().is_empty());
                let next = if next == Next::Close && unread { Next::CloseAfterLinger } else { next };
                return (Outcome { status, reason, termination, ..outcome }, next);
            }
            Ending::ClientGone { reason, sent } => {
                outcome.delivery = outcome.delivery.max(delivery(sent));
                let termination = Termination::ClientGoneInBody;
                return (Outcome { status: 499, reason, termination, ..outcome }, Next::Reset);
            }
            Ending::Refused { refusal, sent } => {
                outcome.delivery = outcome.delivery.max(delivery(sent));
                let refusal = of_all_attempts(refusal, outcome.delivery);
                outcome.termination = Termination::of_refusal(refusal.code, Reached::Forward);
                outcome.refusal = Some(refusal);
                drop(permit);
                return respond::refuse(shard, downstream, exchange, outcome, None).await;
            }
            Ending::Failed(failure) => failure,
        };
        outcome.delivery = outcome.delivery.max(delivery(failure.sent));
        if let Some((next, from)) = attempt.again.after(&failure, upload.is_resendable()) {
            cluster.meters.of(shard.index).retries.add(1);
            permit = next.unwrap_or(permit);
            source = from;
            continue;
        }
        let mut refusal = of_all_attempts(refusal_for(&failure), outcome.delivery);
        if failure.cause == Cause::TimedOut && exchange.is_over(shard) {
            refusal.reason = "route.timeout";
        }
        outcome.termination = Termination::of_refusal(refusal.code, Reached::Forward);
        outcome.refusal = Some(refusal);
        drop(permit);
        let rest = upload.abandon(exchange, downstream);
        return respond::refuse(shard, downstream, exchange, outcome, rest).await;
    }
}

fn delivery(sent: Sent) -> Delivery {
    match sent {
        Sent::Nothing => Delivery::NotSent,
        Sent::Something => Delivery::MaybeSent,
    }
}

/// `refusal` where it is true of all attempts together: some say that nothing was sent, which an earlier one may have.
fn of_all_attempts(refusal: Refusal, delivery: Delivery) -> Refusal {
    match refusal.code {
        Code::UpstreamUnreachable | Code::Overloaded if delivery != Delivery::NotSent => {
            Refusal::new(Code::UpstreamFailed, refusal.reason)
        }
        _ => refusal,
    }
}

/// What the client is told when no attempt is left.
fn refusal_for(failure: &Failure) -> Refusal {
    match (failure.cause, failure.answered) {
        (Cause::Connect, _) => Refusal::new(Code::UpstreamUnreachable, "connect"),
        (Cause::TimedOut, _) => Refusal::new(Code::UpstreamTimeout, "no answer in time"),
        (Cause::Broken, Answered::No) => Refusal::new(Code::UpstreamFailed, "closed without an answer"),
        (Cause::Broken, Answered::Begun) => {
            Refusal::new(Code::UpstreamFailed, "closed within the answer's head")
        }
        (Cause::Status(_), _) => Refusal::new(Code::UpstreamFailed, "its answer was turned down"),
        (Cause::Invalid(rule), _) => Refusal::new(Code::UpstreamFailed, rule),
    }
}
