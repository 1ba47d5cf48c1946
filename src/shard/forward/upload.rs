//! The request's body on its way to the endpoint.
//!
//! The beginning that came with the head goes out with the head, in one write. The rest is relayed piece by
//! piece from the connection's own block, or a longer one once it fills that; the next piece is read only when the last one is out, so an
//! endpoint that reads slowly slows the client down and nothing piles up here.

use std::io;

use crate::{
    base::block::Block,
    http::{
        body::{BodyFault, BodyReader, FrameRoom, Piece, frame},
        framing::Framing,
    },
    stage::{
        refusal::{Code, Refusal},
        termination::{Reached, Termination},
    },
};

use super::super::{
    Shard, connection::Downstream, exchange::Exchange, patience::Patience, socket::Socket, watch::Direction,
};

/// A request body in transit.
pub(super) struct Upload {
    reader: BodyReader,
    framing: Framing,
    /// A piece that was cut from the block and not yet sent.
    pending: Option<Result<Piece, BodyFault>>,
    /// Whether anything beyond the first write has been taken from the client.
    begun: bool,
    /// Whether all of it is out.
    finished: bool,
}

/// Why an upload ended early.
#[derive(Debug)]
pub(super) enum UploadFault {
    /// The client sent something that is no body, too much of it, or nothing for too long.
    Refused(Refusal),
    /// The client is gone.
    ClientGone,
    /// The endpoint takes no more. It may have answered all the same.
    EndpointClosed,
    /// The endpoint has taken nothing for too long.
    EndpointStalled,
}

impl UploadFault {
    /// What it means for an exchange whose answer has begun.
    pub(super) fn termination(&self) -> Termination {
        match self {
            Self::Refused(refusal) => Termination::of_refusal(refusal.code, Reached::Forward),
            Self::ClientGone => Termination::ClientGoneInBody,
            Self::EndpointClosed => Termination::EndpointFailed,
            Self::EndpointStalled => Termination::EndpointSlow,
        }
    }
}

impl Upload {
    /// Moves what is already here of the body behind the encoded head in `request`.
    pub(super) fn begin(
        mut reader: BodyReader,
        exchange: &Exchange<'_>,
        downstream: &mut Downstream,
        request: &mut Block,
    ) -> Self {
        let framing = match reader.wanted() {
            Some(0) => Framing::Empty,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        let mut pending = None;
        if let Some(block) = &mut downstream.block
            && !reader.is_done()
        {
            let piece = reader.piece(block.unread_mut());
            let mut room = FrameRoom::default();
            match piece {
                Ok(piece)
                    if piece.trailers.is_none()
                        && request
                            .put_all(&frame(&piece, block.unread(), framing, &mut room).parts)
                            .is_ok() =>
                {
                    block.consume(piece.consumed);
                    exchange.note_read(piece.consumed);
                }
                // Too much for one write, or nothing to be sent: `relay` takes it up.
                other => pending = Some(other),
            }
        }
        let finished = reader.is_done() && pending.is_none();
        Self { reader, framing, pending, begun: false, finished }
    }

    /// Whether all of the body has been handed to the kernel.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether the request can be sent again: all that was ever taken of it stands in the first write.
    pub(super) fn is_resendable(&self) -> bool {
        !self.begun
    }

    /// What is still to be read of the body, once nobody wants it any more; `None` if its end cannot be found,
    /// because some of it was relayed or it is no body.
    pub(super) fn abandon(self, exchange: &Exchange<'_>, downstream: &mut Downstream) -> Option<BodyReader> {
        if self.begun {
            return None;
        }
        // The reader is past the piece that was cut, so the block must be too: or else the rest of this body
        // would be taken for the next request.
        if let (Some(piece), Some(block)) = (self.pending, &mut downstream.block) {
            let piece = piece.ok()?;
            block.consume(piece.consumed);
            exchange.note_read(piece.consumed);
        }
        Some(self.reader)
    }

    /// Relays the rest of the body from the client to `upstream`.
    ///
    /// # Errors
    /// [`UploadFault`].
    pub(super) async fn relay(
        &mut self,
        shard: &Shard,
        exchange: &Exchange<'_>,
        downstream: &Socket,
        block: &mut Block,
        upstream: &Socket,
        stall_ms: u64,
    ) -> Result<(), UploadFault> {
        self.begun = true;
        let (client, endpoint) =
            (Patience::with_client(&exchange.snapshot.timeouts), exchange.patience_with_endpoint(stall_ms));
        let mut room = FrameRoom::default();
        loop {
            let piece = match self.pending.take() {
                Some(piece) => piece,
                None => self.reader.piece(block.unread_mut()),
            };
            let piece = piece.map_err(|fault| UploadFault::Refused(refusal_for(fault)))?;
            if piece.payload > 0 || piece.last {
                let parts = frame(&piece, block.unread(), self.framing, &mut room).parts;
                let sent = upstream.send_all(parts, &endpoint, || shard.recent_ms()).await;
                sent.map_err(|failed| match failed.error.kind() {
                    io::ErrorKind::TimedOut => UploadFault::EndpointStalled,
                    _ => UploadFault::EndpointClosed,
                })?;
            }
            block.consume(piece.consumed);
            exchange.note_read(piece.consumed);
            if piece.last {
                self.finished = true;
                return Ok(());
            }
            let filled_up = block.room() == 0;
            block.compact_to(exchange.head_bytes);
            if filled_up {
                shard.buffers.lengthen(block);
            }
            self.read_more(shard, &client, downstream, block).await?;
        }
    }

    async fn read_more(
        &self,
        shard: &Shard,
        client: &Patience,
        downstream: &Socket,
        block: &mut Block,
    ) -> Result<(), UploadFault> {
        if block.room() == 0 {
            // Only a trailer section is read whole before it is used.
            let refusal = Refusal::new(Code::BodyMalformed, "a trailer section longer than a block");
            return Err(UploadFault::Refused(refusal));
        }
        let wanted =
            self.reader.wanted().map_or(usize::MAX, |wanted| usize::try_from(wanted).unwrap_or(usize::MAX));
        // Most often the next bytes are there already: a wait would only cost.
        let received = match downstream.try_recv(block, wanted) {
            Ok(Some(received)) => Ok(received),
            Ok(None) => {
                let from_ms = shard.clock.now().monotonic_ms();
                downstream.watch().set(Direction::Read, client.ends_ms(from_ms));
                let received = downstream.recv(block, wanted).await;
                client.waited(shard.clock.now().monotonic_ms() - from_ms);
                downstream.watch().clear(Direction::Read);
                received
            }
            Err(error) => Err(error),
        };
        match received {
            Ok(0) => Err(UploadFault::ClientGone),
            Ok(received) => {
                client.moved(received);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Err(UploadFault::Refused(Refusal::new(Code::BodyTimeout, "body")))
            }
            Err(_) => Err(UploadFault::ClientGone),
        }
    }
}

fn refusal_for(fault: BodyFault) -> Refusal {
    match fault {
        BodyFault::Malformed(rule) => Refusal::new(Code::BodyMalformed, rule),
        BodyFault::TooLarge => Refusal::new(Code::BodyTooLarge, "body"),
    }
}
