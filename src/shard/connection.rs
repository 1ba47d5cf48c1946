//! One downstream connection: its requests in turn, from the first byte to the close.
//!
//! Owns the socket and the buffer its requests arrive in, which is rented when a request begins and given
//! back when none is there. Knows how to read a head and how to part from a client; what happens in
//! between is `request.rs`. Between requests it is parked in the lobby.

use std::{io, net::IpAddr, rc::Rc};

use crate::{
    base::{block::Block, clock::Moment},
    http::{
        HeadError, head,
        preface::{self, Preface},
        scan::{HeadScan, Scan},
    },
    shared::lifecycle::Phase,
    stage::refusal::{Code, Refusal},
};

use super::{Shard, accept::Opening, request, socket::Socket, watch::Direction};

/// A client's connection; counted until dropped.
pub(super) struct Downstream {
    pub(super) socket: Socket,
    pub(super) peer: IpAddr,
    /// How it begins; plain once that is over.
    opening: Opening,
    /// What was read and not yet used; while an exchange runs, its head is still in front.
    pub(super) block: Option<Block>,
    /// Requests read so far.
    pub(super) requests: u64,
    /// When it was taken up.
    pub(super) accepted: Moment,
    shard: Rc<Shard>,
}

impl Downstream {
    /// Takes up a connection.
    pub(super) fn new(shard: &Rc<Shard>, socket: Socket, peer: IpAddr, opening: Opening) -> Self {
        shard.connections.set(shard.connections.get() + 1);
        shard.meters().connections.add(1);
        Self {
            socket,
            peer,
            opening,
            block: None,
            requests: 0,
            accepted: shard.clock.recent(),
            shard: Rc::clone(shard),
        }
    }
}

impl Drop for Downstream {
    fn drop(&mut self) {
        self.shard.connections.set(self.shard.connections.get() - 1);
        self.shard.meters().connections.subtract(1);
    }
}

/// How an exchange leaves its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It can take another request.
    Another,
    /// All is said, and nothing more can come that matters.
    Close,
    /// It closes, but the client may still be sending: it is heard out for a while, because bytes that
    /// arrive at a closed socket make the kernel throw away the answer on its way.
    CloseAfterLinger,
    /// It is cut, so that the client cannot take half an answer for a whole one.
    Reset,
}

/// What came of waiting for a head.
pub(super) enum Arrival {
    /// A head of so many bytes stands at the front of the block; its first byte came at this moment.
    Head(usize, Moment),
    /// Not a byte yet.
    NotYet,
    /// Something that is none, or too late; the moment is that of its first byte.
    Refused(Refusal, Moment),
    /// The client left, or never said anything.
    Nothing,
    /// The connection did not begin as its address asks for: nobody knows who it is from, so nobody is answered.
    Stranger,
}

/// How long a parting client is heard out, in milliseconds, and how many bytes of it.
pub(super) const LINGER_MS: u64 = 2_000;
const LINGER_BYTES: usize = 8 * 1024 * 1024;

/// Serves a connection until it has nothing more to say for now, and parks it, or to its end.
pub(super) async fn run(shard: &Rc<Shard>, mut downstream: Downstream) {
    loop {
        let next = match request::serve(shard, &mut downstream).await {
            // The last answer did not say so, and the next request may be on its way.
            // While we part from a client, its next answer will.
            Next::Another
                if downstream.block.is_none()
                    && shard.draining.get()
                    && shard.lifecycle.phase() >= Phase::Draining =>
            {
                Next::CloseAfterLinger
            }
            next => next,
        };
        match next {
            Next::Another if downstream.block.is_some() => {
                if give_way(shard, &downstream.socket).await.is_err() {
                    downstream.socket.reset_on_close();
                    return;
                }
            }
            Next::Another => {
                let until_ms = shard.recent_ms() + shard.in_force.current().timeouts.idle_ms;
                match shard.lobby.park(downstream, until_ms) {
                    Some(more) => downstream = more,
                    None => return,
                }
            }
            Next::Close => return,
            Next::CloseAfterLinger => {
                downstream.block = None;
                if let Some(block) = &mut shard.buffers.rent_small() {
                    let until_ms = shard.clock.now().monotonic_ms() + LINGER_MS;
                    linger(&downstream.socket, block, until_ms).await;
                }
                return;
            }
            Next::Reset => {
                downstream.socket.reset_on_close();
                return;
            }
        }
    }
}

/// After a request behind which the next one is there already: lets others have their turn when there were many such.
///
/// # Errors
/// The client takes no answers, for `timeouts.body` by now, or the system's.
async fn give_way(shard: &Shard, socket: &Socket) -> io::Result<()> {
    let watch = socket.watch();
    watch.note_pipelined();
    if !watch.turn_is_over() {
        return Ok(());
    }
    watch.set(Direction::Write, shard.recent_ms() + shard.in_force.current().timeouts.body_ms);
    let waited = socket.others_first().await;
    watch.clear(Direction::Write);
    waited
}

/// Says that nothing more will be sent, then reads and forgets until the peer has closed.
pub(super) async fn linger(socket: &Socket, block: &mut Block, until_ms: u64) {
    socket.finish_sending();
    socket.watch().set(Direction::Read, until_ms);
    let mut heard = 0;
    while heard < LINGER_BYTES {
        block.clear();
        match socket.recv(block, usize::MAX).await {
            Ok(0) | Err(_) => return,
            Ok(received) => heard += received,
        }
    }
}

impl Downstream {
    /// Reads the head of the next request, of which something may have come.
    pub(super) async fn read_head(&mut self, shard: &Shard) -> Arrival {
        let started = shard.clock.now();
        let until_ms = started.monotonic_ms() + shard.in_force.current().timeouts.head_ms;
        self.socket.watch().set(Direction::Read, until_ms);
        let arrival = self.collect_head(shard, started).await;
        self.socket.watch().clear(Direction::Read);
        arrival
    }

    async fn collect_head(&mut self, shard: &Shard, started: Moment) -> Arrival {
        let refused = |refusal| Arrival::Refused(refusal, started);
        if self.block.is_none() {
            let Some(rented) = shard.buffers.rent() else {
                // Whoever has asked nothing is not to be refused anything.
                return match self.socket.peek() {
                    Ok(Some(true)) => refused(out_of_buffers()),
                    Ok(None) => Arrival::NotYet,
                    Ok(Some(false)) | Err(_) => Arrival::Nothing,
                };
            };
            self.block = Some(rented);
        }
        let Some(block) = &mut self.block else { return Arrival::Nothing };
        let mut scan = HeadScan::default();
        let mut leading_line = false;
        let mut fresh = block.unread().is_empty();
        loop {
            if fresh {
                match self.socket.try_recv(block, usize::MAX) {
                    Ok(Some(0)) | Err(_) => return Arrival::Nothing,
                    Ok(Some(_)) => {}
                    // Between requests a connection holds no buffer.
                    Ok(None) if block.unread().is_empty() && !leading_line => {
                        self.block = None;
                        return Arrival::NotYet;
                    }
                    Ok(None) => {
                        let Some(waiting) = shard.buffers.set_aside(block) else {
                            return refused(out_of_buffers());
                        };
                        let readable = self.socket.readable().await;
                        drop(waiting);
                        match readable {
                            Ok(()) if shard.buffers.take_up(block) => continue,
                            Ok(()) => return refused(out_of_buffers()),
                            Err(_) if self.opening == Opening::Proxied && !block.unread().is_empty() => {
                                return Arrival::Stranger;
                            }
                            Err(error)
                                if error.kind() == io::ErrorKind::TimedOut && !block.unread().is_empty() =>
                            {
                                return refused(Refusal::new(Code::HeadTimeout, "head"));
                            }
                            Err(_) => return Arrival::Nothing,
                        }
                    }
                }
            }
            fresh = true;
            if self.opening == Opening::Proxied {
                match preface::parse(block.unread()) {
                    Preface::Partial => continue,
                    Preface::Malformed => return Arrival::Stranger,
                    Preface::Whole(length, source) => {
                        self.opening = Opening::Plain;
                        self.peer = source.unwrap_or(self.peer);
                        block.consume(length);
                        block.compact_to(0);
                        if block.unread().is_empty() {
                            continue;
                        }
                    }
                }
            }
            // RFC 9112 section 2.2: one empty line before a request line is forgiven.
            if !leading_line && block.unread().starts_with(b"\r\n") {
                leading_line = true;
                block.consume(2);
                block.compact_to(0);
            }
            match scan.advance(block.unread()) {
                Scan::Complete(length) if length <= shard.head_bytes_max => {
                    return Arrival::Head(length, started);
                }
                Scan::Complete(_) => {
                    return refused(head::too_long(block.unread(), shard.head_bytes_max).into());
                }
                Scan::BareLineFeed => return refused(HeadError::Malformed("a bare line feed").into()),
                Scan::Partial { trial } => {
                    let unread = block.unread();
                    if unread.len() >= shard.head_bytes_max {
                        return refused(head::too_long(unread, shard.head_bytes_max).into());
                    }
                    if trial
                        && !unread.is_empty()
                        && unread != b"\r"
                        && let Err(error) = head::check_partial(unread)
                    {
                        return refused(error.into());
                    }
                }
            }
        }
    }
}

fn out_of_buffers() -> Refusal {
    Refusal::new(Code::Overloaded, "bounds.buffer_bytes")
}

impl Downstream {
    /// Lets go of the head that was served; what came behind it is the next request's.
    pub(super) fn end_exchange(&mut self) {
        match &mut self.block {
            Some(block) if block.unread().is_empty() => self.block = None,
            Some(block) => block.compact_to(0),
            None => {}
        }
    }
}
