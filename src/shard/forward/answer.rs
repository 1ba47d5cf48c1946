//! The endpoint's answer on its way to the client.
//!
//! Read, checked, written anew. Head and the beginning of the body go out in one write; the rest is relayed
//! piece by piece, so a client that reads slowly slows the endpoint down. An answer that breaks off is cut
//! in a way the client can see.

use std::io;

use crate::{
    base::block::Block,
    http::{
        Version, answer,
        body::{BodyReader, FrameRoom, frame},
        encode::{self, Persistence, framing_for},
        field::Storage,
        framing::Framing,
        scan::{HeadScan, Scan},
    },
    shared::record::Delivery,
    shared::standing::Standing,
    stage::{
        balance,
        retry::{Answered, Cause},
        termination::Termination,
    },
};

use super::{
    super::{
        Shard,
        audit::{End, WITHHELD},
        connection::Next,
        exchange::Exchange,
        patience::Patience,
        socket::{SendError, Socket},
        watch::Direction,
    },
    again::Again,
    pool,
};

/// Interim answers one exchange may have; an endpoint that sends more is broken.
const INTERIM_MAX: u32 = 16;
/// The longest answer head, in bytes, is what a block holds.
const HEAD_TOO_LONG: Cause = Cause::Invalid("the answer's head does not fit a block");
/// Payload up to this length is copied behind the head, so that both leave in one plain send.
const COPIED_BYTES_MAX: usize = 4096;

/// Reads one endpoint's answer and passes it on.
pub(super) struct Download<'a, 's> {
    pub(super) shard: &'a Shard,
    pub(super) exchange: &'a Exchange<'s>,
    pub(super) upstream: &'a Socket,
    pub(super) downstream: &'a Socket,
    /// Requests read on the downstream connection so far.
    pub(super) requests: u64,
    /// What was read from the endpoint and not yet passed on.
    pub(super) block: &'a mut Block,
    /// Where heads are written. Held the request until now; once the endpoint has begun to answer, that is
    /// not needed again.
    pub(super) out: &'a mut Block,
    pub(super) response_timeout_ms: u64,
    /// Who says whether the client gets this answer; without it, it does.
    pub(super) again: Option<&'a Again<'a, 's>>,
    /// Who is told what the endpoint says of its load, if anybody is.
    pub(super) reported_to: Option<&'a Standing>,
    /// With the client, which has to take it.
    pub(super) patience: Patience,
}

/// How an answer ended.
pub(super) enum DownloadEnd {
    /// Passed on whole.
    Complete {
        status: u16,
        next: Next,
        /// How long the endpoint keeps its connection, in milliseconds, if that can serve again.
        upstream_kept_ms: Option<u64>,
    },
    /// The endpoint broke off after the client had been sent some of it.
    Cut { status: u16, reason: &'static str, termination: Termination, next: Next },
    /// The client would not take it; 499 if it took nothing of it.
    ClientGone { status: u16, termination: Termination },
    /// No answer came of which anything was passed on.
    None { cause: Cause, answered: Answered },
}

impl Download<'_, '_> {
    /// Passes the answer on. `request_finished` tells whether all of the request was sent, as of now.
    pub(super) async fn run(mut self, request_finished: impl Fn() -> bool) -> DownloadEnd {
        for earlier in 0..INTERIM_MAX {
            let head_bytes = match self.read_head(earlier > 0).await {
                Ok(head_bytes) => head_bytes,
                Err(end) => return end,
            };
            let passage = match self.encode_head(head_bytes, request_finished()) {
                Ok(passage) => passage,
                Err(cause) => return DownloadEnd::None { cause, answered: Answered::Begun },
            };
            self.block.consume(head_bytes);
            match passage {
                Passage::Interim(status) => {
                    // The request is no longer there to be sent again.
                    self.again = None;
                    self.exchange.status_sent.set(status);
                    if !self.out.unread().is_empty()
                        && let Err(failed) = self.send([self.out.unread()]).await
                    {
                        return DownloadEnd::ClientGone { status: 499, termination: failed.by_client() };
                    }
                    self.exchange.status_sent.set(0);
                }
                Passage::Final(answer) => return self.pass_body(answer, request_finished).await,
            }
        }
        DownloadEnd::None { cause: Cause::Invalid("too many interim answers"), answered: Answered::Begun }
    }

    /// Waits for a head; its length once it is there. `after_interim`: the endpoint has spoken before.
    async fn read_head(&mut self, after_interim: bool) -> Result<usize, DownloadEnd> {
        let mut scan = HeadScan::default();
        let none = |cause, block: &Block| DownloadEnd::None {
            cause,
            answered: match block.unread().is_empty() && !after_interim {
                true => Answered::No,
                false => Answered::Begun,
            },
        };
        loop {
            match scan.advance(self.block.unread()) {
                Scan::Complete(length) => return Ok(length),
                Scan::BareLineFeed => return Err(none(Cause::Invalid("a bare line feed"), self.block)),
                Scan::Partial { .. } => {}
            }
            self.block.compact_to(0);
            if self.block.room() == 0 {
                return Err(none(HEAD_TOO_LONG, self.block));
            }
            match self.upstream.recv(self.block, usize::MAX).await {
                Ok(0) => return Err(none(Cause::Broken, self.block)),
                Ok(_) => {
                    self.shard.clock.now();
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(none(Cause::TimedOut, self.block));
                }
                Err(_) => return Err(none(Cause::Broken, self.block)),
            }
        }
    }

    /// Decides about the head at the front of the block, and writes what the client gets to see of it.
    fn encode_head(&mut self, head_bytes: usize, request_finished: bool) -> Result<Passage, Cause> {
        let exchange = self.exchange;
        exchange.answered_us.set(self.shard.clock.recent().monotonic_us);
        let mut storage = Storage::new();
        let mut head = answer::parse(&self.block.unread()[..head_bytes], exchange.asked, &mut storage)
            .map_err(|error| Cause::Invalid(error.0))?;
        if let Some(standing) = self.reported_to
            && let Some(permille) = head.read_load().find_map(balance::utilization)
        {
            standing.report(permille);
        }
        if let (Some(again), true) = (self.again, request_finished)
            && again.is_wanted(head.status)
        {
            return Err(Cause::Status(head.status));
        }
        self.out.clear();
        if head.is_interim() {
            // RFC 9110 section 15.2: not for an HTTP/1.0 client.
            if exchange.version == Version::Http11 {
                encode::answer(
                    self.out,
                    &head,
                    Framing::Empty,
                    exchange.request_id.as_bytes(),
                    b"",
                    Persistence::Keep,
                )
                .map_err(|_| HEAD_TOO_LONG)?;
            }
            return Ok(Passage::Interim(head.status));
        }
        exchange.listed.answer(&exchange.snapshot.listed, head.fields);
        let leaving = framing_for(exchange.version, head.framing);
        // Before the request was read to its end nobody knows whether it ever will be.
        let persistence = if leaving == Framing::Close || !request_finished {
            Persistence::Close
        } else {
            exchange.persistence(self.shard, self.requests)
        };
        let lines = exchange.answer_lines();
        encode::answer(self.out, &head, leaving, exchange.request_id.as_bytes(), lines, persistence)
            .map_err(|_| HEAD_TOO_LONG)?;
        let (status, arriving, kept_ms) = (head.status, head.framing, pool::kept_ms(&head));
        Ok(Passage::Final(FinalAnswer { status, arriving, leaving, persistence, kept_ms }))
    }

    /// Passes on the body behind a head that is written but not yet sent.
    async fn pass_body(mut self, answer: FinalAnswer, request_finished: impl Fn() -> bool) -> DownloadEnd {
        let status = answer.status;
        // A body that ends by close must not seem to end where it was cut.
        let cut_by = if answer.leaving == Framing::Close { Next::Reset } else { Next::Close };
        let ended = |reason, termination| DownloadEnd::Cut { status, reason, termination, next: cut_by };
        let cut = |reason| ended(reason, Termination::EndpointBrokeOff);
        let withheld = DownloadEnd::Cut {
            status,
            reason: WITHHELD,
            termination: Termination::Withheld,
            next: Next::Reset,
        };
        let mut reader = BodyReader::new(answer.arriving, u64::MAX);
        let mut room = FrameRoom::default();
        let mut head_sent = false;
        let mut filled_up = self.block.room() == 0;
        if filled_up {
            // Most likely there is more, which can then leave in the same write.
            self.shard.buffers.lengthen(self.block);
            if self.block.room() > 0 && self.upstream.try_recv(self.block, usize::MAX).is_err() {
                return DownloadEnd::None { cause: Cause::Broken, answered: Answered::Begun };
            }
            filled_up = self.block.room() == 0;
        }
        loop {
            let piece = match reader.piece(self.block.unread_mut()) {
                Ok(piece) => piece,
                Err(_) if !head_sent => {
                    let cause = Cause::Invalid("a malformed chunk");
                    return DownloadEnd::None { cause, answered: Answered::Begun };
                }
                Err(_) => return cut("endpoint sent a malformed chunk"),
            };
            if !head_sent || piece.payload > 0 || piece.last {
                let [before, payload, behind] =
                    frame(&piece, self.block.unread(), answer.leaving, &mut room).parts;
                // From here on it is this answer or none: the send may have to wait in its middle.
                self.exchange.status_sent.set(status);
                if reader.is_done() && !self.may_end(status).await {
                    return withheld;
                }
                let sent = if head_sent {
                    self.send([before, payload, behind]).await
                } else if payload.len() <= COPIED_BYTES_MAX
                    && self.out.put_all(&[before, payload, behind]).is_ok()
                {
                    self.send([self.out.unread()]).await
                } else {
                    self.send([self.out.unread(), before, payload, behind]).await
                };
                if let Err(failed) = sent {
                    let status = if failed.sent == 0 && !head_sent { 499 } else { status };
                    return DownloadEnd::ClientGone { status, termination: failed.by_client() };
                }
                head_sent = true;
            }
            self.block.consume(piece.consumed);
            if reader.is_done() {
                break;
            }
            self.block.compact_to(0);
            if filled_up {
                self.shard.buffers.lengthen(self.block);
            }
            if self.block.room() == 0 {
                return cut("endpoint's trailers do not fit a block");
            }
            match self.read_body(filled_up).await {
                Ok(0) if reader.closed() => {
                    if !self.may_end(status).await {
                        return withheld;
                    }
                    if answer.leaving == Framing::Chunked
                        && let Err(failed) = self.send([b"0\r\n\r\n"]).await
                    {
                        return DownloadEnd::ClientGone { status, termination: failed.by_client() };
                    }
                    break;
                }
                Ok(0) => return cut("endpoint closed within its answer"),
                Ok(_) => filled_up = self.block.room() == 0,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    let is_over = self.exchange.is_over(self.shard);
                    let reason = if is_over { "route.timeout" } else { "endpoint stalled within its answer" };
                    return ended(reason, Termination::EndpointStalled);
                }
                Err(_) => return cut("endpoint broke off its answer"),
            }
        }
        let finished = request_finished();
        DownloadEnd::Complete {
            status,
            next: match answer.persistence {
                Persistence::Keep | Persistence::KeepSaid => Next::Another,
                // A client that meant to go on may have sent its next request already.
                Persistence::Close if finished && !self.exchange.keeps_alive => Next::Close,
                Persistence::Close => Next::CloseAfterLinger,
            },
            // Whatever follows the answer was not asked for.
            upstream_kept_ms: answer.kept_ms.filter(|_| finished && self.block.unread().is_empty()),
        }
    }

    /// Whether the answer may end: on an audited route, once that is on record.
    async fn may_end(&self, status: u16) -> bool {
        let Some(intent) = &self.exchange.intent else { return true };
        let end = End { status, code: None, delivery: Delivery::Answered, reason: "" };
        intent.may_end(self.shard, self.exchange, end).await
    }

    /// More of the body. When the last read filled the block there is most likely more already, and a wait
    /// would only cost.
    async fn read_body(&mut self, filled_up: bool) -> io::Result<usize> {
        if filled_up && let Some(received) = self.upstream.try_recv(self.block, usize::MAX)? {
            return Ok(received);
        }
        let now_ms = self.shard.clock.now().monotonic_ms();
        let until_ms = self.exchange.until_ms;
        if now_ms >= until_ms {
            // Bytes that are there already would go on for ever.
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.upstream.watch().set(Direction::Read, (now_ms + self.response_timeout_ms).min(until_ms));
        let received = self.upstream.recv(self.block, usize::MAX).await;
        self.shard.clock.now();
        received
    }

    async fn send<const N: usize>(&self, parts: [&[u8]; N]) -> Result<(), SendError> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let sent = self.downstream.send_all(parts, &self.patience, || self.shard.recent_ms()).await;
        let bytes = sent.as_ref().map_or_else(|failed| failed.sent, |()| bytes);
        self.exchange.note_sent(bytes);
        sent
    }
}

/// What follows from an answer's head.
enum Passage {
    /// One with this status; the final answer is still to come.
    Interim(u16),
    /// This is it.
    Final(FinalAnswer),
}

struct FinalAnswer {
    status: u16,
    /// How its body comes from the endpoint.
    arriving: Framing,
    /// How it goes to the client.
    leaving: Framing,
    persistence: Persistence,
    /// How long the endpoint keeps its connection open, in milliseconds, if it does.
    kept_ms: Option<u64>,
}
