//! A second copy of a safe request, once the first endpoint has been silent for a while: whoever speaks first answers.
//!
//! Until one of them has said something nobody has been told anything, so the other can be dropped, with its
//! connection. A copy is an attempt like any other: it needs another endpoint, and the cluster's budget pays.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    task::Poll,
};

use crate::{
    base::block::Block,
    stage::{
        balance::{Finding, Permit},
        retry::{Carrier, Cause, Repetition},
    },
};

use super::{
    super::{socket::Socket, watch::Direction},
    attempt::Attempt,
    pool::{Lease, Look},
};

/// Whose answer it will be.
pub(super) enum Race<'s> {
    /// The first endpoint's, or whatever reading from it will tell.
    First,
    /// This one's, on which it has begun.
    Rival { permit: Permit<'s>, lease: Lease<'s> },
    /// Nobody's: all time is up.
    Nobody,
}

/// Waits until an answer begins: the first endpoint's, to which `request` was sent and which has until `due_ms`, or, if
/// that takes too long, the one of another endpoint.
pub(super) async fn race<'s>(
    attempt: &Attempt<'_, 's>,
    first: &Socket,
    request: &Block,
    due_ms: u64,
) -> Race<'s> {
    let (shard, again) = (attempt.shard, &attempt.again);
    let is_safe = attempt.exchange.repetition == Repetition::Safe;
    let Some(after_ms) = again.hedge_after_ms().filter(|_| is_safe) else { return Race::First };
    let silent_ms = shard.recent_ms() + after_ms;
    if silent_ms >= due_ms {
        return Race::First;
    }
    first.watch().set(Direction::Read, silent_ms);
    if listen(first).await != Heard::Silence {
        return Race::First;
    }
    first.watch().set(Direction::Read, due_ms);
    let Some(permit) = again.hedge() else { return Race::First };
    let lease = {
        let (mut first, mut rival) = (pin!(listen(first)), pin!(ask(attempt, &permit, request)));
        let (mut said, mut is_asked) = (None, true);
        poll_fn(|context| {
            if said.is_none()
                && let Poll::Ready(heard) = first.as_mut().poll(context)
            {
                said = Some(heard);
            }
            if said == Some(Heard::Answer) {
                return Poll::Ready(Err(Race::First));
            }
            if is_asked && let Poll::Ready(answered) = rival.as_mut().poll(context) {
                match answered {
                    Ok(lease) => return Poll::Ready(Ok(lease)),
                    Err(finding) => attempt.note(permit.endpoint(), finding, None),
                }
                is_asked = false;
            }
            match said {
                Some(Heard::Silence) if !is_asked => Poll::Ready(Err(Race::Nobody)),
                Some(_) if !is_asked => Poll::Ready(Err(Race::First)),
                _ => Poll::Pending,
            }
        })
        .await
    };
    match lease {
        Ok(lease) => {
            attempt.cluster.meters.of(shard.index).hedges_won.add(1);
            Race::Rival { permit, lease }
        }
        Err(race) => {
            attempt.exchange.note_answerer(attempt.endpoint);
            race
        }
    }
}

/// Sends `request` to the endpoint of `permit`; the connection, once an answer has begun on it.
///
/// # Errors
/// What that says of the endpoint.
async fn ask<'s>(
    attempt: &Attempt<'_, 's>,
    permit: &Permit<'s>,
    request: &Block,
) -> Result<Lease<'s>, Finding> {
    let (shard, cluster) = (attempt.shard, attempt.cluster);
    let began_ms = shard.recent_ms();
    let kept = Lease::from_pool(shard, cluster, permit.endpoint(), Look::Recent);
    let lease = match kept {
        Some(lease) => lease,
        None => {
            let left_ms = attempt.exchange.until_ms.saturating_sub(shard.recent_ms());
            let dialled = Lease::dial(shard, cluster, permit.endpoint(), left_ms).await;
            shard.clock.now();
            dialled.map_err(|_| attempt.blame(Cause::Connect, began_ms))?
        }
    };
    // A kept connection may have been closing all along.
    let broken = || match lease.carrier {
        Carrier::Reused => Finding::Unknown,
        Carrier::Fresh => Finding::Failed(Cause::Broken),
    };
    let patience = attempt.exchange.patience_with_endpoint(cluster.response_timeout_ms);
    let upstream = lease.socket();
    match upstream.send_all([request.unread()], &patience, || shard.recent_ms()).await {
        Err(failed) if failed.error.kind() == io::ErrorKind::TimedOut => {
            return Err(attempt.blame(Cause::TimedOut, began_ms));
        }
        Err(_) => return Err(broken()),
        Ok(()) => {}
    }
    upstream.watch().set(Direction::Read, attempt.answer_due_ms());
    match listen(upstream).await {
        Heard::Answer => Ok(lease),
        Heard::Silence => Err(attempt.blame(Cause::TimedOut, began_ms)),
        Heard::End => Err(broken()),
    }
}

/// What an endpoint was heard to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// An answer has begun.
    Answer,
    /// Nothing until the deadline.
    Silence,
    /// The connection has ended.
    End,
}

async fn listen(socket: &Socket) -> Heard {
    loop {
        match socket.readable().await {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Heard::Silence,
            Err(_) => return Heard::End,
            Ok(()) => {}
        }
        match socket.peek() {
            Ok(Some(true)) => return Heard::Answer,
            // Old news: the next wait is a real one.
            Ok(None) => {}
            Ok(Some(false)) | Err(_) => return Heard::End,
        }
    }
}
