//! Steps 7 and 8: carry the request to an endpoint and its answer back.
//!
//! Attempts follow one another until one is answered, or until another could pay twice; what may follow
//! what stands in `stage/retry.rs`. Bodies stream in both directions at once, so an endpoint may answer
//! before it has read everything.

mod answer;
mod attempt;
pub(super) mod pool;
mod upload;

use std::rc::Rc;

use crate::{
    shared::record::Delivery,
    stage::{
        balance::{self, Wish},
        refusal::{Code, Refusal},
        retry::{self, Answered, Cause, Failure, Repetition, Sent},
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
    let mut outcome = exchange.outcome(0, "", Termination::Complete);
    let mut source = Source::PoolFirst;
    let look = match exchange.repetition {
        Repetition::Harmless if upload.is_finished() => Look::Recent,
        _ => Look::Now,
    };
    loop {
        outcome.attempts += 1;
        exchange.note_attempt(permit.endpoint());
        outcome.endpoint = Some((cluster, permit.endpoint().index));
        let attempt = Attempt { shard, exchange, cluster, endpoint: permit.endpoint(), look };
        let (ending, upstream_us) = attempt.run(downstream, &mut upload, &mut request, source).await;
        outcome.upstream_us += upstream_us;
        let failure = match ending {
            Ending::Answered { status, reason, termination, next } => {
                outcome.delivery = Delivery::Answered;
                // Bytes that nobody will read would reset the connection under the answer.
                let unread = downstream.block.as_ref().is_some_and(|block| !block.unread().is_empty());
                let next = if next == Next::Close && unread { Next::CloseAfterLinger } else { next };
                return (Outcome { status, reason, termination, ..outcome }, next);
            }
            Ending::ClientGone { reason, sent } => {
                outcome.delivery = delivery(sent);
                let termination = Termination::ClientGoneInBody;
                return (Outcome { status: 499, reason, termination, ..outcome }, Next::Reset);
            }
            Ending::Refused { refusal, sent } => {
                outcome.delivery = delivery(sent);
                outcome.termination = Termination::of_refusal(refusal.code, Reached::Forward);
                outcome.refusal = Some(refusal);
                drop(permit);
                return respond::refuse(shard, downstream, exchange, outcome, None).await;
            }
            Ending::Failed(failure) => failure,
        };
        outcome.delivery = outcome.delivery.max(delivery(failure.sent));
        if retry::allowed(&failure, exchange.repetition, upload.is_resendable(), outcome.attempts) {
            // What cannot be reached is left alone, and the others' connections are as good as ever; what
            // broke off was only closing, but so may be the rest of its pool.
            let unreachable = failure.cause == Cause::Connect;
            let skip = unreachable.then(|| permit.endpoint());
            source = if unreachable { Source::PoolFirst } else { Source::FreshOnly };
            let wish = Wish { skip, affinity: permit.affinity() };
            let next = balance::pick(cluster, wish, &mut shard.desk.borrow_mut().rng);
            if let Ok(next) = next {
                permit = next;
                continue;
            }
        }
        let refusal = refusal_for(&failure);
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

/// What the client is told when no attempt is left.
fn refusal_for(failure: &Failure) -> Refusal {
    match (failure.cause, failure.answered) {
        (Cause::Connect, _) => Refusal::new(Code::UpstreamUnreachable, "connect"),
        (Cause::TimedOut, _) => Refusal::new(Code::UpstreamTimeout, "no answer in time"),
        (Cause::Broken, Answered::No) => Refusal::new(Code::UpstreamFailed, "closed without an answer"),
        (Cause::Broken, Answered::Begun) => {
            Refusal::new(Code::UpstreamFailed, "closed within the answer's head")
        }
        (Cause::Invalid(rule), _) => Refusal::new(Code::UpstreamFailed, rule),
    }
}
