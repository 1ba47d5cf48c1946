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
    stage::{balance::Permit, retry::Repetition},
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

/// Waits until an answer begins: the first endpoint's, to which `request` was sent, or, if that takes too long, the one
/// of another endpoint.
pub(super) async fn race<'s>(attempt: &Attempt<'_, 's>, first: &Socket, request: &Block) -> Race<'s> {
    let (shard, again) = (attempt.shard, &attempt.again);
    let is_safe = attempt.exchange.repetition == Repetition::Safe;
    let Some(after_ms) = again.hedge_after_ms().filter(|_| is_safe) else { return Race::First };
    first.watch().set(Direction::Read, (shard.recent_ms() + after_ms).min(attempt.exchange.until_ms));
    if listen(first).await != Heard::Silence {
        return Race::First;
    }
    first.watch().set(Direction::Read, attempt.answer_due_ms());
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
            if is_asked && let Poll::Ready(lease) = rival.as_mut().poll(context) {
                if let Some(lease) = lease {
                    return Poll::Ready(Ok(lease));
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
async fn ask<'s>(attempt: &Attempt<'_, 's>, permit: &Permit<'s>, request: &Block) -> Option<Lease<'s>> {
    let (shard, cluster) = (attempt.shard, attempt.cluster);
    let kept = Lease::from_pool(shard, cluster, permit.endpoint(), Look::Recent);
    let lease = match kept {
        Some(lease) => lease,
        None => {
            let left_ms = attempt.exchange.until_ms.saturating_sub(shard.recent_ms());
            Lease::dial(shard, cluster, permit.endpoint(), left_ms).await.ok()?
        }
    };
    let patience = attempt.exchange.patience_with_endpoint(cluster.response_timeout_ms);
    let upstream = lease.socket();
    upstream.send_all([request.unread()], &patience, || shard.recent_ms()).await.ok()?;
    upstream.watch().set(Direction::Read, attempt.answer_due_ms());
    (listen(upstream).await == Heard::Answer).then_some(lease)
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
