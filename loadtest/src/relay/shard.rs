//! The relay's one thread: pairs of connections, and the bytes that one side has no room for yet.
//!
//! Each direction ends on its own (a half-close is passed on once everything before it is sent); a failure of
//! either side resets the other one, so that nobody takes a cut stream for a whole one. What is kept is bounded:
//! a side whose bytes cannot be passed on is not received from until they are.

use std::{
    fmt, io,
    net::{Shutdown, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use slab::Slab;
use socket2::Socket;

use crate::net::{
    ring::{Block, Completion, Ring, Token},
    socket,
};

/// The listener's token; pairs count up from 0, two tokens each.
const LISTENER: Token = Token::MAX;
/// Pairs at a time: more than the descriptors of a process, and a bound on what is kept for them.
const PAIRS_MAX: usize = 500_000;
/// Bytes kept for one side before the other one is not received from. What is on its way by then (at most the
/// ring's blocks, 4 MiB) is kept too.
const UNSENT_BYTES_MAX: usize = 256 * 1024;
/// How often the stop flag is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What the relay has done.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    clients: u64,
    failed: u64,
    bytes: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "clients {} ({} of them reset), bytes {}", self.clients, self.failed, self.bytes)
    }
}

/// The thread's state.
pub(crate) struct Shard {
    ring: Ring,
    listener: Socket,
    target: SocketAddr,
    pairs: Slab<Pair>,
    counts: Counts,
    /// When to accept again after it failed.
    accept_at: Option<Instant>,
}

/// A client and its upstream connection.
struct Pair {
    /// The client, then the upstream connection.
    sides: [Side; 2],
    /// Both are being given up.
    failed: bool,
}

struct Side {
    socket: Socket,
    /// Requests on the ring that name this socket; the pair may be forgotten when neither side has any.
    armed: u8,
    receiving: Receiving,
    /// The ring will say when there is room.
    waits_for_room: bool,
    /// Received from the other side and not yet sent here, from `sent` on.
    unsent: Vec<u8>,
    sent: usize,
    /// Nothing more will be sent here.
    shut: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiving {
    /// Not armed: not yet, or not until there is room at the other side.
    Paused,
    Armed,
    /// Armed, and asked to stop until there is room at the other side.
    Pausing,
    /// The side has sent its end.
    Ended,
}

impl Shard {
    /// # Errors
    /// When a ring cannot be made.
    pub(crate) fn new(listener: Socket, target: SocketAddr) -> io::Result<Self> {
        let mut ring = Ring::new(Some(target.into()))?;
        ring.accept(listener.as_fd(), LISTENER);
        Ok(Self { ring, listener, target, pairs: Slab::new(), counts: Counts::default(), accept_at: None })
    }

    /// Relays until `stop`.
    ///
    /// # Errors
    /// When the ring fails.
    pub(crate) fn run(mut self, stop: &AtomicBool) -> io::Result<Counts> {
        while !stop.load(Ordering::Relaxed) {
            if self.accept_at.is_some_and(|at| Instant::now() >= at) {
                self.accept_at = None;
                self.ring.accept(self.listener.as_fd(), LISTENER);
            }
            self.ring.wait(LOOK)?;
            while let Some(completion) = self.ring.completion() {
                self.complete(completion);
            }
        }
        Ok(self.counts)
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { socket, armed, .. } => self.accepted(socket, armed),
            Completion::Connected { token, result } => {
                let (key, side) = place(token);
                self.pairs[key].sides[side].armed -= 1;
                match result {
                    Ok(()) if !self.pairs[key].failed => {
                        self.receive(key, 0);
                        self.receive(key, 1);
                    }
                    _ => self.fail(key),
                }
                self.forget(key);
            }
            Completion::Received { token, block, armed } => self.received(token, block, armed),
            Completion::Starved { token } => {
                let (key, side) = place(token);
                self.disarmed(key, side);
                self.resume(key, side);
                self.forget(key);
            }
            Completion::Ended { token, result } => {
                let (key, side) = place(token);
                let paused = self.pairs[key].sides[side].receiving == Receiving::Pausing;
                self.disarmed(key, side);
                match result {
                    Ok(()) => {
                        self.pairs[key].sides[side].receiving = Receiving::Ended;
                        self.pass_on_end(key, side);
                    }
                    Err(error) if paused && error.raw_os_error() == Some(libc::ECANCELED) => {
                        self.resume(key, side);
                    }
                    Err(_) => self.fail(key),
                }
                self.forget(key);
            }
            Completion::Writable { token } => {
                let (key, side) = place(token);
                let own = &mut self.pairs[key].sides[side];
                own.armed -= 1;
                own.waits_for_room = false;
                self.flush(key, side);
                self.forget(key);
            }
        }
    }

    fn accepted(&mut self, socket: io::Result<OwnedFd>, armed: bool) {
        match (&socket, armed) {
            (_, true) => {}
            (Ok(_), false) => self.ring.accept(self.listener.as_fd(), LISTENER),
            // Out of descriptors, say: at once it would fail again.
            (Err(_), false) => self.accept_at = Some(Instant::now() + LOOK),
        }
        let Ok(client) = socket else { return };
        if self.pairs.len() >= PAIRS_MAX {
            return;
        }
        // Without a descriptor for the upstream connection the client is closed, which is all that can be said to it.
        let Ok(upstream) = socket::unconnected(self.target) else { return };
        self.counts.clients += 1;
        let sides = [Side::new(Socket::from(client)), Side::new(upstream)];
        let key = self.pairs.insert(Pair { sides, failed: false });
        let upstream = &mut self.pairs[key].sides[1];
        upstream.armed += 1;
        self.ring.connect(upstream.socket.as_fd(), token(key, 1));
    }

    fn received(&mut self, token: Token, block: Block, armed: bool) {
        let (key, side) = place(token);
        if !armed {
            self.disarmed(key, side);
        }
        let pair = &mut self.pairs[key];
        let bytes = self.ring.bytes(&block);
        let passed = pair.failed || pair.sides[1 - side].push(bytes);
        self.counts.bytes += bytes.len() as u64;
        self.ring.release(block);
        if passed {
            self.settle(key, 1 - side);
            self.resume(key, side);
        } else {
            self.fail(key);
        }
        self.forget(key);
    }

    /// Sends what a side had no room for, and goes on with the other side when that is done.
    fn flush(&mut self, key: usize, side: usize) {
        let pair = &mut self.pairs[key];
        if pair.failed {
            return;
        }
        if !pair.sides[side].push(&[]) {
            return self.fail(key);
        }
        self.settle(key, side);
        self.resume(key, 1 - side);
        self.pass_on_end(key, 1 - side);
    }

    /// After sending to a side: waits for room if there was too little, and slows the other side down.
    fn settle(&mut self, key: usize, side: usize) {
        let pair = &mut self.pairs[key];
        if pair.failed {
            return;
        }
        let kept = pair.sides[side].kept();
        if kept > 0 && !pair.sides[side].waits_for_room {
            let own = &mut pair.sides[side];
            own.waits_for_room = true;
            own.armed += 1;
            self.ring.writable(own.socket.as_fd(), token(key, side));
        }
        let source = &mut pair.sides[1 - side];
        if kept > UNSENT_BYTES_MAX && source.receiving == Receiving::Armed {
            source.receiving = Receiving::Pausing;
            // Ends a wait for room on this socket too, which then only looks for it once more.
            self.ring.cancel(source.socket.as_fd());
        }
    }

    fn receive(&mut self, key: usize, side: usize) {
        let own = &mut self.pairs[key].sides[side];
        own.armed += 1;
        own.receiving = Receiving::Armed;
        self.ring.receive(own.socket.as_fd(), token(key, side));
    }

    /// Receives from a side again, if it stopped and the other side has room.
    fn resume(&mut self, key: usize, side: usize) {
        let pair = &self.pairs[key];
        if !pair.failed
            && pair.sides[side].receiving == Receiving::Paused
            && pair.sides[1 - side].kept() <= UNSENT_BYTES_MAX
        {
            self.receive(key, side);
        }
    }

    fn disarmed(&mut self, key: usize, side: usize) {
        let own = &mut self.pairs[key].sides[side];
        own.armed -= 1;
        own.receiving = Receiving::Paused;
    }

    /// Once everything from a side that has ended is sent, ends the other side's stream.
    fn pass_on_end(&mut self, key: usize, side: usize) {
        let pair = &mut self.pairs[key];
        let ended = pair.sides[side].receiving == Receiving::Ended;
        let other = &mut pair.sides[1 - side];
        if ended && !pair.failed && other.kept() == 0 && !other.shut {
            other.shut = true;
            // One that is gone already tells so where it is received from.
            let _ = other.socket.shutdown(Shutdown::Write);
        }
    }

    /// Gives both sides up: what is armed completes, then both are closed with a reset.
    fn fail(&mut self, key: usize) {
        let pair = &mut self.pairs[key];
        if pair.failed {
            return;
        }
        pair.failed = true;
        self.counts.failed += 1;
        for side in &pair.sides {
            let _ = side.socket.set_linger(Some(Duration::ZERO));
            self.ring.cancel(side.socket.as_fd());
        }
    }

    /// Forgets a pair that is over, once the ring is done with it.
    fn forget(&mut self, key: usize) {
        let pair = &self.pairs[key];
        let over = pair.failed || pair.sides.iter().all(|side| side.shut);
        if over && pair.sides.iter().all(|side| side.armed == 0) {
            self.pairs.remove(key);
        }
    }
}

impl Side {
    fn new(socket: Socket) -> Self {
        Self {
            socket,
            armed: 0,
            receiving: Receiving::Paused,
            waits_for_room: false,
            unsent: Vec::new(),
            sent: 0,
            shut: false,
        }
    }

    /// Bytes not yet sent.
    fn kept(&self) -> usize {
        self.unsent.len() - self.sent
    }

    /// Sends what is kept and then `bytes`, and keeps what there is no room for; false when the connection is gone.
    fn push(&mut self, bytes: &[u8]) -> bool {
        if self.kept() > 0 {
            let Ok(sent) = socket::send(&self.socket, &self.unsent[self.sent..]) else { return false };
            self.sent += sent;
            if self.kept() > 0 {
                if self.sent > UNSENT_BYTES_MAX {
                    // What is sent must not pile up in front of what is not.
                    self.unsent.drain(..self.sent);
                    self.sent = 0;
                }
                self.unsent.extend_from_slice(bytes);
                return true;
            }
            // Given back rather than kept: most connections never need it.
            (self.unsent, self.sent) = (Vec::new(), 0);
        }
        if bytes.is_empty() {
            return true;
        }
        let Ok(sent) = socket::send(&self.socket, bytes) else { return false };
        self.unsent.extend_from_slice(&bytes[sent..]);
        true
    }
}

fn token(key: usize, side: usize) -> Token {
    (key * 2 + side) as Token
}

/// The pair and the side of a token.
fn place(token: Token) -> (usize, usize) {
    (token as usize / 2, token as usize % 2)
}
