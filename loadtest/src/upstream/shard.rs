//! One thread of the scripted endpoint: its connections, and the answers waiting for their time.
//!
//! A connection answers one request at a time; what a client pipelines behind it is kept (bounded) until then.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fmt, io,
    net::Shutdown,
    ops::AddAssign,
    os::fd::{AsFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rand::{SeedableRng, rngs::StdRng};
use slab::Slab;
use socket2::Socket;

use super::script::{Reply, Script};
use crate::{
    clock::Clock,
    http::request::{Progress, RequestReader},
    net::{
        ring::{Block, Completion, Ring, Token},
        socket,
    },
};

/// Tokens from here on are listeners.
const LISTENERS: Token = Token::MAX - 1024;
/// Bytes a client may pipeline behind an unanswered request; beyond it the connection is closed.
const PIPELINED_BYTES_MAX: usize = 1024 * 1024;
/// How often the stop flag is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What one or more shards have done.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    connections: u64,
    answered: u64,
    failed: u64,
    malformed: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.answered += other.answered;
        self.failed += other.failed;
        self.malformed += other.malformed;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "connections {}, answers {} ({} of them 500), malformed requests {}, bytes in {}, bytes out {}",
            self.connections, self.answered, self.failed, self.malformed, self.bytes_in, self.bytes_out
        )
    }
}

/// One thread's part of the endpoint.
pub(crate) struct Shard<'a> {
    ring: Ring,
    listeners: Vec<Socket>,
    connections: Slab<Connection>,
    /// Answers by the time they leave; the number finds out whether the connection is still the same.
    due: BinaryHeap<Reverse<(u64, usize, u64)>>,
    replies: u64,
    script: &'a Script,
    clock: Clock,
    random: StdRng,
    counts: Counts,
}

struct Connection {
    socket: Socket,
    reader: RequestReader,
    state: State,
    /// Requests on the ring that name this connection; it may be forgotten when there are none.
    armed: u8,
    /// Received behind a request that is not yet answered.
    pipelined: Vec<u8>,
    /// What there was no room for: the reply, from this byte on.
    unsent: Option<(Reply, usize)>,
    /// The ring will say when there is room.
    waits_for_room: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// A request is complete; its answer, of this number, leaves later.
    Answering {
        number: u64,
        reply: Reply,
    },
    /// No more is read or sent; forgotten when the ring is done with it.
    Closing,
}

impl<'a> Shard<'a> {
    /// # Errors
    /// When a ring cannot be made.
    pub(crate) fn new(
        listeners: Vec<Socket>,
        script: &'a Script,
        clock: Clock,
        seed: u64,
    ) -> io::Result<Self> {
        let mut ring = Ring::new(None)?;
        for (index, listener) in listeners.iter().enumerate() {
            ring.accept(listener.as_fd(), LISTENERS + index as Token);
        }
        Ok(Self {
            ring,
            listeners,
            connections: Slab::new(),
            due: BinaryHeap::new(),
            replies: 0,
            script,
            clock,
            random: StdRng::seed_from_u64(seed),
            counts: Counts::default(),
        })
    }

    /// Serves until `stop`.
    ///
    /// # Errors
    /// When the ring fails.
    pub(crate) fn run(mut self, stop: &AtomicBool) -> io::Result<Counts> {
        while !stop.load(Ordering::Relaxed) {
            let wait = self.due.peek().map_or(LOOK, |Reverse((leave_ns, ..))| {
                LOOK.min(Duration::from_nanos(leave_ns.saturating_sub(self.clock.now_ns())))
            });
            self.ring.wait(wait)?;
            while let Some(completion) = self.ring.completion() {
                self.complete(completion);
            }
            self.leave();
        }
        Ok(self.counts)
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { token, socket, armed } => self.accepted(token, socket, armed),
            Completion::Received { token, block, armed } => {
                let key = token as usize;
                if !armed {
                    self.connections[key].armed -= 1;
                }
                self.counts.bytes_in += self.ring.bytes(&block).len() as u64;
                let goes_on = self.received(key, Some(&block));
                self.ring.release(block);
                if goes_on && !armed {
                    self.receive(key);
                }
                self.settle(key, goes_on);
            }
            Completion::Starved { token } => {
                self.connections[token as usize].armed -= 1;
                self.receive(token as usize);
                self.settle(token as usize, true);
            }
            Completion::Ended { token, .. } => {
                self.connections[token as usize].armed -= 1;
                self.settle(token as usize, false);
            }
            Completion::Writable { token } => {
                let connection = &mut self.connections[token as usize];
                connection.armed -= 1;
                connection.waits_for_room = false;
                let goes_on = self.flush(token as usize) && self.received(token as usize, None);
                self.settle(token as usize, goes_on);
            }
            // This side never connects.
            Completion::Connected { .. } => {}
        }
    }

    fn accepted(&mut self, token: Token, socket: io::Result<OwnedFd>, armed: bool) {
        if !armed {
            // After a failure too (no descriptors, say): the next accept completes when there is one again.
            let listener = self.listeners[(token - LISTENERS) as usize].as_fd();
            self.ring.accept(listener, token);
        }
        let Ok(socket) = socket else { return };
        self.counts.connections += 1;
        let key = self.connections.insert(Connection {
            socket: Socket::from(socket),
            reader: RequestReader::default(),
            state: State::Reading,
            armed: 0,
            pipelined: Vec::new(),
            unsent: None,
            waits_for_room: false,
        });
        self.receive(key);
    }

    fn receive(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if connection.state != State::Closing {
            connection.armed += 1;
            self.ring.receive(connection.socket.as_fd(), key as Token);
        }
    }

    /// Reads what was received, or what was pipelined before; false when the connection must end.
    fn received(&mut self, key: usize, block: Option<&Block>) -> bool {
        let connection = &mut self.connections[key];
        let kept;
        let mut bytes = match block {
            Some(block) if connection.pipelined.is_empty() => self.ring.bytes(block),
            Some(block) => {
                connection.pipelined.extend_from_slice(self.ring.bytes(block));
                kept = std::mem::take(&mut connection.pipelined);
                &kept[..]
            }
            None => {
                kept = std::mem::take(&mut connection.pipelined);
                &kept[..]
            }
        };
        while !bytes.is_empty() {
            if connection.state != State::Reading || connection.unsent.is_some() {
                connection.pipelined.extend_from_slice(bytes);
                return connection.state != State::Closing
                    && connection.pipelined.len() <= PIPELINED_BYTES_MAX;
            }
            match connection.reader.feed(bytes) {
                Ok(Progress::Partial) => return true,
                Ok(Progress::Continue) => {
                    return socket::send(&connection.socket, b"HTTP/1.1 100 Continue\r\n\r\n").is_ok();
                }
                Ok(Progress::Complete { request, taken }) => {
                    bytes = &bytes[taken..];
                    let now_ns = self.clock.now_ns();
                    let reply = self.script.reply(request, now_ns, &mut self.random);
                    if reply.leave_ns > now_ns {
                        self.replies += 1;
                        connection.state = State::Answering { number: self.replies, reply };
                        self.due.push(Reverse((reply.leave_ns, key, self.replies)));
                    } else if !answer(connection, &mut self.counts, self.script, reply) {
                        return false;
                    }
                }
                Err(_) => {
                    self.counts.malformed += 1;
                    return false;
                }
            }
        }
        true
    }

    /// Sends the answers whose time has come.
    fn leave(&mut self) {
        let now_ns = self.clock.now_ns();
        while let Some(&Reverse((leave_ns, key, number))) = self.due.peek() {
            if leave_ns > now_ns {
                return;
            }
            self.due.pop();
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let State::Answering { number: waiting, reply } = connection.state else { continue };
            if waiting != number {
                continue;
            }
            connection.state = State::Reading;
            let goes_on =
                answer(connection, &mut self.counts, self.script, reply) && self.received(key, None);
            self.settle(key, goes_on);
        }
    }

    fn flush(&mut self, key: usize) -> bool {
        let connection = &mut self.connections[key];
        match connection.unsent.take() {
            Some((reply, from)) => send_from(connection, &mut self.counts, self.script, reply, from),
            None => true,
        }
    }

    /// Waits for room where a reply is cut short, ends a connection that does not go on, and forgets it once the
    /// ring is done with it.
    fn settle(&mut self, key: usize, goes_on: bool) {
        let connection = &mut self.connections[key];
        if !goes_on && connection.state != State::Closing {
            connection.state = State::Closing;
            // What was sent still goes out; the armed receive completes with the end.
            let _ = connection.socket.shutdown(Shutdown::Both);
        }
        if goes_on && connection.unsent.is_some() && !connection.waits_for_room {
            connection.waits_for_room = true;
            connection.armed += 1;
            self.ring.writable(connection.socket.as_fd(), key as Token);
        }
        if connection.state == State::Closing && connection.armed == 0 {
            self.connections.remove(key);
        }
    }
}

/// Sends an answer; false when the connection must end now.
fn answer(connection: &mut Connection, counts: &mut Counts, script: &Script, reply: Reply) -> bool {
    counts.answered += 1;
    counts.failed += u64::from(reply.failure);
    send_from(connection, counts, script, reply, 0)
}

/// Sends a reply from byte `from` on, and notes what there was no room for; false when the connection must end now.
fn send_from(
    connection: &mut Connection,
    counts: &mut Counts,
    script: &Script,
    reply: Reply,
    from: usize,
) -> bool {
    let bytes = &script.bytes(reply)[from..];
    let Ok(sent) = socket::send(&connection.socket, bytes) else { return false };
    counts.bytes_out += sent as u64;
    if sent < bytes.len() {
        connection.unsent = Some((reply, from + sent));
        return true;
    }
    !reply.close
}
