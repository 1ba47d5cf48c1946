//! The beginning of a body, waited for before the exchange takes anything from anybody.
//!
//! A client that announces a body and then dribbles would otherwise hold a place in flight, a connection to an
//! endpoint and what serves it there. So a body is there as a whole, or as much of it as a block holds, before
//! limits are charged and an endpoint is chosen. A client that waits for `100 Continue` is the endpoint's to
//! answer and is not waited for.

use std::io;

use crate::{
    base::block::Block,
    http::{
        body::{BodyFault, BodyReader},
        framing::Framing,
    },
    stage::refusal::{After, Code, Refusal},
};

use super::{Shard, connection::Downstream, exchange::Exchange, watch::Direction};

/// Why there is no request to be served.
#[derive(Debug)]
pub(super) enum Absence {
    /// The client is gone, and its body did not come.
    ClientGone,
    /// The client is gone, and its turn had not come.
    ClientGoneInQueue,
    /// It was too slow, sent something that is no body, or there is no room for it.
    Refused(Refusal),
}

/// Whether more of the body can be waited for. `block` holds what has come of it as its unread part.
///
/// # Errors
/// What has come is no body.
pub(super) fn is_to_come(shard: &Shard, exchange: &Exchange<'_>, block: &Block) -> Result<bool, Refusal> {
    if exchange.expects_continue || block.room() == 0 && block.capacity() >= shard.buffers.block_bytes() {
        return Ok(false);
    }
    match exchange.framing {
        Framing::Empty | Framing::Close => Ok(false),
        Framing::Length(length) => Ok((block.unread().len() as u64) < length),
        Framing::Chunked => {
            // Reading takes chunks apart in place, and they are to be forwarded from where they are.
            let mut copy = shard.body_scratch.borrow_mut();
            copy.clear();
            copy.extend_from_slice(block.unread());
            let bytes_max = exchange.facts.route.map_or(u64::MAX, |route| route.body_bytes_max);
            is_unfinished(&mut copy, bytes_max).map_err(|fault| match fault {
                BodyFault::Malformed(rule) => Refusal::new(Code::BodyMalformed, rule),
                BodyFault::TooLarge => Refusal::new(Code::BodyTooLarge, "body"),
            })
        }
    }
}

/// Whether `bytes` are the beginning of a chunked body of at most `bytes_max`, and not all of it.
fn is_unfinished(bytes: &mut [u8], bytes_max: u64) -> Result<bool, BodyFault> {
    let mut reader = BodyReader::new(Framing::Chunked, bytes_max);
    let mut at = 0;
    loop {
        match reader.piece(&mut bytes[at..])? {
            piece if piece.last => return Ok(false),
            piece if piece.consumed == 0 => return Ok(true),
            piece => at += piece.consumed,
        }
    }
}

/// Waits until the body has come, or as much of it as a block holds.
///
/// # Errors
/// [`Absence`].
pub(super) async fn collect(
    shard: &Shard,
    exchange: &Exchange<'_>,
    downstream: &mut Downstream,
) -> Result<(), Absence> {
    // One deadline for all of it: a block is little, and bytes that come one by one buy no time.
    let until_ms = shard.clock.now().monotonic_ms() + exchange.snapshot.timeouts.body_ms;
    downstream.socket.watch().set(Direction::Read, until_ms);
    let collected = read(shard, exchange, downstream).await;
    shard.clock.now();
    downstream.socket.watch().clear(Direction::Read);
    let is_lost = match &collected {
        Err(Absence::Refused(refusal)) => refusal.code.answer().after != After::MayStay,
        Err(Absence::ClientGone | Absence::ClientGoneInQueue) => true,
        Ok(()) => false,
    };
    if let (true, Some(block)) = (is_lost, &downstream.block) {
        exchange.note_read(block.unread().len());
    }
    collected
}

async fn read(shard: &Shard, exchange: &Exchange<'_>, downstream: &mut Downstream) -> Result<(), Absence> {
    let no_room = || Absence::Refused(Refusal::new(Code::Overloaded, "bounds.buffer_bytes"));
    let Some(block) = &mut downstream.block else { return Err(Absence::ClientGone) };
    while is_to_come(shard, exchange, block).map_err(Absence::Refused)? {
        let wanted = match exchange.framing {
            Framing::Length(length) => usize::try_from(length).unwrap_or(usize::MAX) - block.unread().len(),
            _ => usize::MAX,
        };
        match downstream.socket.try_recv(block, wanted) {
            Ok(Some(1..)) => {}
            Ok(Some(0)) | Err(_) => return Err(Absence::ClientGone),
            Ok(None) => {
                let waiting = shard.buffers.set_aside(block).ok_or_else(no_room)?;
                let readable = downstream.socket.readable().await;
                drop(waiting);
                match readable {
                    Ok(()) if shard.buffers.take_up(block) => {}
                    Ok(()) => return Err(no_room()),
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                        shard.buffers.take_up(block);
                        return Err(Absence::Refused(Refusal::new(Code::BodyTimeout, "body")));
                    }
                    Err(_) => return Err(Absence::ClientGone),
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_whole_or_not_at_every_byte() {
        let whole = b"5;ext\r\nhello\r\n3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(is_unfinished(&mut whole[..end].to_vec(), 8), Ok(true), "{end}");
        }
        assert_eq!(is_unfinished(&mut whole.to_vec(), 8), Ok(false));
        assert_eq!(is_unfinished(&mut [&whole[..], b"GET /next"].concat(), 8), Ok(false));
        assert_eq!(is_unfinished(&mut whole[..20].to_vec(), 7), Err(BodyFault::TooLarge));
        assert!(is_unfinished(&mut b"5\nhello".to_vec(), 8).is_err());
    }
}
