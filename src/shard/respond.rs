//! Step 8 for the gateway's own answers: write a refusal, then see what becomes of the connection.
//!
//! A refused request may have a body on its way. If it is short it is read and forgotten, and the
//! connection stays; if not, the connection closes after the client was heard out for a while.

use crate::{
    http::{answer::Asked, body::BodyReader, encode::Persistence, framing::Framing},
    stage::{
        refusal::{self, After, Envelope, Refusal},
        settle::Outcome,
        termination::{Reached, Termination},
        version::{Document, description},
    },
};

use super::{
    Shard,
    audit::{End, WITHHELD},
    connection::{Downstream, Next},
    exchange::Exchange,
    patience::Patience,
    watch::Direction,
};

/// Bodies up to this length are read and forgotten to save the connection.
const FORGOTTEN_BYTES_MAX: u64 = 64 * 1024;

/// Refuses a request of which nothing was read but the head, if that, and nothing sent anywhere.
pub(super) async fn refuse_unsent<'s>(
    shard: &Shard,
    downstream: &mut Downstream,
    exchange: &Exchange<'s>,
    refusal: Refusal,
) -> (Outcome<'s>, Next) {
    let reached = Reached::Decision(exchange.facts.step);
    let termination = Termination::of_refusal(refusal.code, reached);
    refuse_before_sending(shard, downstream, exchange, refusal, termination).await
}

/// Refuses a request that was granted and could not be put on record: nothing was sent anywhere.
pub(super) async fn refuse_unrecorded<'s>(
    shard: &Shard,
    downstream: &mut Downstream,
    exchange: &Exchange<'s>,
    refusal: Refusal,
) -> (Outcome<'s>, Next) {
    refuse_before_sending(shard, downstream, exchange, refusal, Termination::Unrecorded).await
}

async fn refuse_before_sending<'s>(
    shard: &Shard,
    downstream: &mut Downstream,
    exchange: &Exchange<'s>,
    refusal: Refusal,
    termination: Termination,
) -> (Outcome<'s>, Next) {
    let outcome = Outcome { refusal: Some(refusal), ..exchange.outcome(0, "", termination) };
    // Without its head nobody knows where the request ends.
    let body = (exchange.head_bytes > 0).then(|| BodyReader::new(exchange.framing, FORGOTTEN_BYTES_MAX));
    refuse(shard, downstream, exchange, outcome, body).await
}

/// Sends the answer for `outcome.refusal`. `body` is what is still to come of the request; `None` when the
/// connection is of no further use.
pub(super) async fn refuse<'s>(
    shard: &Shard,
    downstream: &mut Downstream,
    exchange: &Exchange<'s>,
    mut outcome: Outcome<'s>,
    body: Option<BodyReader>,
) -> (Outcome<'s>, Next) {
    let Some(refusal) = &outcome.refusal else { return (outcome, Next::Close) };
    let answer = refusal.code.answer();
    outcome.status = answer.status;
    let body = body.filter(|_| answer.after == After::MayStay).filter(|body| is_forgettable(body, exchange));
    let persistence = match &body {
        Some(_) => exchange.persistence(shard, downstream.requests),
        None => Persistence::Close,
    };
    if let Some(intent) = &exchange.intent {
        let (delivery, reason) = (outcome.delivery, refusal.reason);
        let end = End { status: outcome.status, code: Some(refusal.code), delivery, reason };
        if !intent.may_end(shard, exchange, end).await {
            let termination = Termination::Withheld;
            return (Outcome { status: 499, reason: WITHHELD, termination, ..outcome }, Next::Reset);
        }
    }
    let unsent = |outcome: Outcome<'s>| {
        (Outcome { status: 499, reason: "client gone before its answer", ..outcome }, Next::Close)
    };
    let Some(mut out) = shard.replies.rent() else { return unsent(outcome) };
    let encoded = {
        let desk = shard.desk.borrow();
        let envelope = Envelope {
            request_id: exchange.request_id.as_bytes(),
            date: &*shard.date.borrow(),
            persistence,
            delivery: outcome.delivery,
            lines: exchange.answer_lines(),
            standings: &desk.standings,
            head_only: exchange.asked == Asked::ForHeadOnly,
        };
        refusal::encode(refusal, &envelope, &mut out)
    };
    debug_assert!(encoded.is_ok(), "REPLY_BYTES holds any refusal");
    let patience = Patience::with_client(&exchange.snapshot.timeouts);
    let sent = downstream.socket.send_all([out.unread()], &patience, || shard.recent_ms()).await;
    exchange.note_sent(sent.as_ref().map_or_else(|failed| failed.sent, |()| out.unread().len()));
    if sent.is_err() {
        return unsent(outcome);
    }
    drop(out);
    let next = go_on(shard, downstream, exchange, body, persistence).await;
    (outcome, next)
}

/// Sends a version's own description instead of asking an endpoint.
pub(super) async fn describe<'s>(
    shard: &Shard,
    downstream: &mut Downstream,
    exchange: &Exchange<'s>,
    document: &'s Document,
) -> (Outcome<'s>, Next) {
    let body = Some(BodyReader::new(exchange.framing, FORGOTTEN_BYTES_MAX));
    let body = body.filter(|body| is_forgettable(body, exchange));
    let persistence = match &body {
        Some(_) => exchange.persistence(shard, downstream.requests),
        None => Persistence::Close,
    };
    let unsent =
        |termination| (exchange.outcome(499, "client gone before its answer", termination), Next::Close);
    let Some(mut out) = shard.replies.rent() else { return unsent(Termination::NoRoomToForward) };
    let encoded = description::encode_head(
        document,
        exchange.request_id.as_bytes(),
        &*shard.date.borrow(),
        exchange.answer_lines(),
        persistence,
        &mut out,
    );
    debug_assert!(encoded.is_ok(), "REPLY_BYTES holds the head");
    let bytes = if exchange.asked == Asked::ForHeadOnly { b"" } else { &*document.bytes };
    let patience = Patience::with_client(&exchange.snapshot.timeouts);
    let sent = downstream.socket.send_all([out.unread(), bytes], &patience, || shard.recent_ms()).await;
    let all = out.unread().len() + bytes.len();
    exchange.note_sent(sent.as_ref().map_or_else(|failed| failed.sent, |()| all));
    match sent {
        Ok(()) => {}
        Err(failed) if failed.sent == 0 => return unsent(failed.by_client()),
        // It may only be slow, and must not take half of a document for all of it.
        Err(failed) => {
            let outcome = exchange.outcome(200, "client gone within its answer", failed.by_client());
            return (outcome, Next::Reset);
        }
    }
    drop(out);
    let next = go_on(shard, downstream, exchange, body, persistence).await;
    (exchange.outcome(200, "the description of the API version", Termination::Complete), next)
}

/// What becomes of the connection after an answer of ours, once the rest of the request is read.
async fn go_on(
    shard: &Shard,
    downstream: &mut Downstream,
    exchange: &Exchange<'_>,
    body: Option<BodyReader>,
    persistence: Persistence,
) -> Next {
    match (body, persistence) {
        (_, Persistence::Close) | (None, _) => Next::CloseAfterLinger,
        (Some(body), Persistence::Keep | Persistence::KeepSaid) => {
            match forget_body(shard, downstream, exchange, body).await {
                true => Next::Another,
                false => Next::CloseAfterLinger,
            }
        }
    }
}

/// Whether the rest of a body is short enough to be read for nothing. A client that waits for
/// `100 Continue` may or may not send it now; nobody can tell where its next request begins.
fn is_forgettable(body: &BodyReader, exchange: &Exchange<'_>) -> bool {
    let short = match exchange.framing {
        Framing::Length(_) => body.wanted().is_some_and(|bytes| bytes <= FORGOTTEN_BYTES_MAX),
        Framing::Empty | Framing::Chunked | Framing::Close => true,
    };
    body.is_done() || short && !exchange.expects_continue
}

/// Reads the rest of a body and forgets it. False when it is longer, broken, or late.
async fn forget_body(
    shard: &Shard,
    downstream: &mut Downstream,
    exchange: &Exchange<'_>,
    mut body: BodyReader,
) -> bool {
    let Some(block) = &mut downstream.block else { return body.is_done() };
    let until_ms = shard.clock.now().monotonic_ms() + exchange.snapshot.timeouts.body_ms;
    downstream.socket.watch().set(Direction::Read, until_ms);
    while !body.is_done() {
        let Ok(piece) = body.piece(block.unread_mut()) else { return false };
        block.consume(piece.consumed);
        exchange.note_read(piece.consumed);
        if piece.last {
            break;
        }
        block.compact_to(exchange.head_bytes);
        let wanted = body.wanted().map_or(usize::MAX, |wanted| usize::try_from(wanted).unwrap_or(usize::MAX));
        if block.room() == 0 || !matches!(downstream.socket.recv(block, wanted).await, Ok(1..)) {
            return false;
        }
    }
    downstream.socket.watch().clear(Direction::Read);
    true
}
