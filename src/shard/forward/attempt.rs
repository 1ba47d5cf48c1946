//! One attempt: a connection, the request out, the answer back.
//!
//! While the body is still on its way both directions run at once, in one task: whichever has something to
//! do goes on. Dropping one of them loses nothing, because a wait holds no bytes.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    io,
    pin::pin,
    rc::Rc,
    task::Poll,
};

use crate::{
    base::block::Block,
    stage::{
        balance::{self, Cluster, Endpoint, Finding, LoadReport},
        refusal::{Code, Refusal},
        retry::{Answered, Carrier, Cause, Failure, Sent},
        termination::Termination,
    },
};

use super::{
    super::{
        Shard,
        connection::{Downstream, Next},
        exchange::Exchange,
        patience::Patience,
        socket::{SendError, Socket},
        watch::Direction,
    },
    again::Again,
    answer::{Download, DownloadEnd},
    hedge::{self, Race},
    pool::{Lease, Look, Source},
    upload::{Upload, UploadFault},
};

/// What one attempt is about.
pub(super) struct Attempt<'a, 's> {
    pub(super) shard: &'a Rc<Shard>,
    pub(super) exchange: &'a Exchange<'s>,
    pub(super) cluster: &'s Cluster,
    pub(super) endpoint: &'s Endpoint,
    /// How closely a kept connection is looked at.
    pub(super) look: Look,
    /// When it began.
    pub(super) began_ms: u64,
    /// What may become of an answer that nobody wants.
    pub(super) again: Again<'a, 's>,
    /// The place of the endpoint whose answer it is: another one if that was asked as well and was faster.
    pub(super) answered_by: Cell<u16>,
}

/// How an attempt ended.
pub(super) enum Ending {
    /// The client was sent an answer, whole unless `reason` says otherwise.
    Answered { status: u16, reason: &'static str, termination: Termination, next: Next },
    /// The client left while its body was on its way.
    ClientGone { reason: &'static str, sent: Sent },
    /// The request turned out to be one to refuse.
    Refused { refusal: Refusal, sent: Sent },
    /// No answer; the client has been sent nothing.
    Failed(Failure),
}

impl<'s> Attempt<'_, 's> {
    /// Makes the attempt. Also says how long the endpoint was involved, in microseconds.
    pub(super) async fn run(
        &self,
        downstream: &mut Downstream,
        upload: &mut Upload,
        request: &mut Block,
        source: Source,
    ) -> (Ending, u64) {
        let shard = self.shard;
        let Some(mut block) = shard.buffers.rent() else {
            let refusal = Refusal::new(Code::Overloaded, "bounds.buffer_bytes");
            return (Ending::Refused { refusal, sent: Sent::Nothing }, 0);
        };
        let lease = match self.connect(source).await {
            Ok(lease) => lease,
            Err(failure) => {
                self.note(self.endpoint, self.blame(Cause::Connect, self.began_ms), None);
                return (Ending::Failed(failure), 0);
            }
        };
        let started = shard.clock.recent();
        // What is still to come of the body comes at the client's pace.
        let at_once = upload.is_finished();
        let mut sending = self.send_beginning(request, lease.socket()).await;
        let mut due_ms = at_once.then(|| self.answer_due_ms());
        let mut winner = (lease, self.endpoint, None);
        if sending == Sending::Done && upload.is_finished() && upload.is_resendable() {
            match hedge::race(self, winner.0.socket(), request, self.answer_due_ms()).await {
                Race::First => {}
                Race::Rival { permit, lease } => {
                    self.answered_by.set(permit.endpoint().index);
                    // How long it would have been silent nobody knows, but not less than this.
                    let silent_us = shard.clock.recent().since_us(started);
                    self.note(self.endpoint, Finding::Unknown, Some(silent_us));
                    // The first one's connection closes here, and nobody reads what it may still say.
                    due_ms = None;
                    winner = (lease, permit.endpoint(), Some(permit));
                }
                Race::Nobody => sending = Sending::Failed(Cause::TimedOut, Sent::Something),
            }
        }
        let (lease, endpoint, rival) = winner;
        let (end, sent) = match sending {
            Sending::Failed(cause, sent) => {
                (Transfer::Answer(DownloadEnd::None { cause, answered: Answered::No }), sent)
            }
            Sending::Done | Sending::Closed => {
                let is_closed = sending == Sending::Closed;
                let socket = lease.socket();
                let messages = self.exchange_messages(
                    downstream,
                    upload,
                    request,
                    &mut block,
                    (socket, endpoint),
                    (is_closed, due_ms),
                );
                (messages.await, Sent::Something)
            }
        };
        let upstream_us = shard.clock.recent().since_us(started);
        let answered_us = self.exchange.answered_us.get().checked_sub(started.monotonic_us);
        // Of another one that was asked later this would not be the wait.
        let waited_us = (at_once && rival.is_none()).then_some(answered_us.unwrap_or(upstream_us));
        let finding = match end.finding(lease.carrier) {
            Finding::Failed(cause) if rival.is_none() => self.blame(cause, self.began_ms),
            finding => finding,
        };
        self.note(endpoint, finding, waited_us);
        let ending = match end {
            Transfer::Answer(DownloadEnd::Complete { status, next, upstream_kept_ms }) => {
                if let Some(kept_ms) = upstream_kept_ms {
                    lease.keep(shard, self.cluster, endpoint, kept_ms);
                }
                Ending::Answered { status, reason: "", termination: Termination::Complete, next }
            }
            Transfer::Answer(DownloadEnd::Cut { status, reason, termination, next }) => {
                Ending::Answered { status, reason, termination, next }
            }
            Transfer::Answer(DownloadEnd::ClientGone { status, termination }) => {
                // It may only be slow, and must not take half of an answer for all of it.
                let (reason, next) = match status {
                    499 => ("client gone before its answer", Next::Close),
                    _ => ("client gone within its answer", Next::Reset),
                };
                Ending::Answered { status, reason, termination, next }
            }
            Transfer::Answer(DownloadEnd::None { cause, answered }) => {
                Ending::Failed(Failure { sent, carrier: lease.carrier, answered, cause })
            }
            Transfer::Refused(refusal) => Ending::Refused { refusal, sent },
            Transfer::ClientGone => Ending::ClientGone { reason: "client gone within its body", sent },
        };
        (ending, upstream_us)
    }

    /// What to think of an endpoint with which an attempt failed that began at `began_ms`. When the exchange's time is up,
    /// it was too short to judge by where it was less than half of all that a route grants.
    pub(super) fn blame(&self, cause: Cause, began_ms: u64) -> Finding {
        let timeout_ms = self.exchange.facts.route.map_or(u64::MAX, |route| route.timeout_ms);
        let judged_ms = self.exchange.until_ms.saturating_sub(timeout_ms / 2);
        let was_slow = matches!(cause, Cause::Connect | Cause::TimedOut) && self.exchange.is_over(self.shard);
        if was_slow && began_ms > judged_ms { Finding::Unknown } else { Finding::Failed(cause) }
    }

    /// Takes note of what an endpoint is like.
    pub(super) fn note(&self, endpoint: &Endpoint, finding: Finding, waited_us: Option<u64>) {
        balance::note(self.cluster, endpoint, self.shard.index, finding, waited_us);
    }

    async fn connect(&self, source: Source) -> Result<Lease<'s>, Failure> {
        if source == Source::PoolFirst
            && let Some(lease) = Lease::from_pool(self.shard, self.cluster, self.endpoint, self.look)
        {
            return Ok(lease);
        }
        let left_ms = self.exchange.until_ms.saturating_sub(self.shard.recent_ms());
        let dialled = Lease::dial(self.shard, self.cluster, self.endpoint, left_ms).await;
        self.shard.clock.now();
        dialled.map_err(|error| {
            // Whether a connection could have been made, nobody knows then.
            let is_over = error.kind() == io::ErrorKind::TimedOut && self.exchange.is_over(self.shard);
            let cause = if is_over { Cause::TimedOut } else { Cause::Connect };
            Failure { sent: Sent::Nothing, carrier: Carrier::Fresh, answered: Answered::No, cause }
        })
    }

    /// When an answer must have begun that is waited for from now on.
    pub(super) fn answer_due_ms(&self) -> u64 {
        (self.shard.recent_ms() + self.cluster.response_timeout_ms).min(self.exchange.until_ms)
    }

    /// Sends the head, with what came with it of the body.
    async fn send_beginning(&self, request: &Block, upstream: &Socket) -> Sending {
        let patience = self.exchange.patience_with_endpoint(self.cluster.response_timeout_ms);
        match upstream.send_all([request.unread()], &patience, || self.shard.recent_ms()).await {
            Ok(()) => Sending::Done,
            Err(SendError { sent: 1.., error }) if error.kind() != io::ErrorKind::TimedOut => Sending::Closed,
            Err(SendError { sent, error }) => {
                let cause =
                    if error.kind() == io::ErrorKind::TimedOut { Cause::TimedOut } else { Cause::Broken };
                Sending::Failed(cause, if sent == 0 { Sent::Nothing } else { Sent::Something })
            }
        }
    }

    /// Sends the rest of the request and passes the answer on, which must have begun at `due_ms` if that is settled.
    async fn exchange_messages(
        &self,
        downstream: &mut Downstream,
        upload: &mut Upload,
        request: &mut Block,
        block: &mut Block,
        (upstream, endpoint): (&Socket, &Endpoint),
        (endpoint_closed, due_ms): (bool, Option<u64>),
    ) -> Transfer {
        let shard = self.shard;
        let stall_ms = self.cluster.response_timeout_ms;
        let finished = Cell::new(upload.is_finished() && !endpoint_closed);
        let Downstream { socket, block: client_block, requests, .. } = downstream;
        let again = (upload.is_finished() && upload.is_resendable()).then_some(&self.again);
        let download = Download {
            shard,
            exchange: self.exchange,
            upstream,
            downstream: socket,
            requests: *requests,
            block,
            out: request,
            response_timeout_ms: stall_ms,
            again,
            reported_to: (self.cluster.care.load_report == LoadReport::Orca).then_some(&*endpoint.standing),
            patience: Patience::with_client(&self.exchange.snapshot.timeouts),
        };
        let answer = download.run(|| finished.get());
        let expect_answer = || {
            let due_ms = due_ms.unwrap_or_else(|| self.answer_due_ms());
            upstream.watch().set(Direction::Read, due_ms);
        };
        match client_block {
            Some(client_block) if !upload.is_finished() && !endpoint_closed => {
                upstream.watch().clear(Direction::Read);
                let relay = upload.relay(shard, self.exchange, socket, client_block, upstream, stall_ms);
                both(
                    relay,
                    answer,
                    || {
                        finished.set(true);
                        expect_answer();
                    },
                    expect_answer,
                    &self.exchange.status_sent,
                )
                .await
            }
            _ => {
                expect_answer();
                Transfer::Answer(answer.await)
            }
        }
    }
}

/// Why an answer is cut although the endpoint went on with it.
const CLIENT_BROKE_OFF: &str = "client broke off its body within its answer";

/// What became of the first write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// All of it is out.
    Done,
    /// The endpoint took some and closed. It may have answered all the same.
    Closed,
    Failed(Cause, Sent),
}

/// How the messages of one attempt went.
enum Transfer {
    Answer(DownloadEnd),
    /// The request's body is to be refused.
    Refused(Refusal),
    /// The client left while its body was on its way.
    ClientGone,
}

impl Transfer {
    /// What it says about the endpoint, which was reached by `carrier`.
    fn finding(&self, carrier: Carrier) -> Finding {
        match *self {
            Self::Answer(DownloadEnd::Complete { status, .. }) => Finding::Answered(status),
            Self::Answer(DownloadEnd::Cut { reason: CLIENT_BROKE_OFF, .. }) => Finding::Unknown,
            // That the audit log did not let the answer end is no fault of the endpoint's.
            Self::Answer(DownloadEnd::Cut { status, termination: Termination::Withheld, .. }) => {
                Finding::Answered(status)
            }
            Self::Answer(DownloadEnd::Cut { .. }) => Finding::Failed(Cause::Broken),
            // A kept connection may have been closing all along.
            Self::Answer(DownloadEnd::None { cause: Cause::Broken, answered: Answered::No })
                if carrier == Carrier::Reused =>
            {
                Finding::Unknown
            }
            Self::Answer(DownloadEnd::None { cause, .. }) => Finding::Failed(cause),
            Self::Answer(DownloadEnd::ClientGone { .. }) | Self::Refused(_) | Self::ClientGone => {
                Finding::Unknown
            }
        }
    }
}

/// Runs the upload and the answer side by side until the answer has ended, or the upload has failed in a way
/// that makes an answer pointless. `uploaded` is called when the body is out, `given_up` when the endpoint
/// takes no more of it but may still answer.
async fn both(
    relay: impl Future<Output = Result<(), UploadFault>>,
    answer: impl Future<Output = DownloadEnd>,
    uploaded: impl Fn(),
    given_up: impl Fn(),
    status_sent: &Cell<u16>,
) -> Transfer {
    let (mut relay, mut answer) = (pin!(relay), pin!(answer));
    let mut relaying = true;
    poll_fn(|context| {
        if relaying && let Poll::Ready(relayed) = relay.as_mut().poll(context) {
            relaying = false;
            let begun = status_sent.get();
            match relayed {
                Ok(()) => uploaded(),
                Err(UploadFault::EndpointClosed) => given_up(),
                Err(fault) if begun != 0 => {
                    return Poll::Ready(Transfer::Answer(DownloadEnd::Cut {
                        status: begun,
                        reason: CLIENT_BROKE_OFF,
                        termination: fault.termination(),
                        next: Next::Reset,
                    }));
                }
                Err(UploadFault::EndpointStalled) => {
                    let end = DownloadEnd::None { cause: Cause::TimedOut, answered: Answered::No };
                    return Poll::Ready(Transfer::Answer(end));
                }
                Err(UploadFault::Refused(refusal)) => return Poll::Ready(Transfer::Refused(refusal)),
                Err(UploadFault::ClientGone) => return Poll::Ready(Transfer::ClientGone),
            }
        }
        answer.as_mut().poll(context).map(Transfer::Answer)
    })
    .await
}
