//! What becomes of a generator's connection: opened, sent on, answered, failed, closed, forgotten.

use std::{io, net::Shutdown, os::fd::AsFd};

use super::{
    Pace,
    connection::{Connection, Outstanding, Role, State, Unsent},
    shard::{REOPEN, Shard},
    tally::Failure,
};
use crate::{
    clock::ns,
    http::answer::{Answer, AnswerReader, Progress},
    net::{
        ring::{Block, Completion, Token},
        socket,
    },
    workload::compose::Note,
};

/// How long a closing connection waits for the peer's end before its requests on the ring are cancelled.
const CLOSING_NS: u64 = 500_000_000;

impl Shard {
    /// Deals with one completion; `looked_ns` is when it was seen.
    pub(super) fn complete(&mut self, completion: Completion, looked_ns: u64) {
        match completion {
            Completion::Connected { token, result } => {
                let key = token as usize;
                self.connections[key].armed -= 1;
                self.connected(key, result);
                self.settle(key);
            }
            Completion::Received { token, block, armed } => {
                let key = token as usize;
                if !armed {
                    self.connections[key].armed -= 1;
                }
                self.received(key, block, looked_ns);
                if !armed {
                    self.receive(key);
                }
                self.settle(key);
            }
            Completion::Starved { token } => {
                self.connections[token as usize].armed -= 1;
                self.receive(token as usize);
                self.settle(token as usize);
            }
            Completion::Ended { token, result } => {
                self.connections[token as usize].armed -= 1;
                self.ended(token as usize, result, looked_ns);
                self.settle(token as usize);
            }
            Completion::Writable { token } => {
                let connection = &mut self.connections[token as usize];
                connection.armed -= 1;
                connection.unsent.awaits_room = false;
                self.send_rest(token as usize);
                self.settle(token as usize);
            }
            // This side never listens.
            Completion::Accepted { .. } => {}
        }
    }

    /// Opens a connection, for a request intended at some time where each has its own.
    pub(super) fn open(&mut self, role: Role, intended_ns: Option<u64>) {
        let socket = match socket::unconnected(self.plan.target.address) {
            Ok(socket) => socket,
            Err(error) => return self.not_connected(role, intended_ns, error),
        };
        let key = self.connections.insert(Connection {
            socket,
            reader: AnswerReader::default(),
            state: State::Connecting { since_ns: self.now_ns, intended_ns },
            role,
            armed: 1,
            unsent: Unsent::default(),
        });
        self.opening += 1;
        self.ring.connect(self.connections[key].socket.as_fd(), key as Token);
    }

    /// Sends the next request on a ready connection; what does not fit goes out when there is room.
    pub(super) fn send(&mut self, key: usize, intended_ns: Option<u64>) {
        let (bytes, note) = self.composer.compose();
        let connection = &mut self.connections[key];
        self.now_ns = self.clock.now_ns();
        let sent_ns = self.now_ns;
        let intended_ns = intended_ns.unwrap_or(sent_ns);
        connection.reader.begin(note.head);
        connection.state = State::Busy(Outstanding { intended_ns, sent_ns, note });
        let sent = socket::send(&connection.socket, bytes);
        // What is wrong with the connection is also told by its receive.
        let sent = sent.unwrap_or(bytes.len());
        if sent < bytes.len() {
            connection.unsent.set(&bytes[sent..]);
        }
        let measured = (self.start_ns..self.end_ns).contains(&intended_ns);
        if measured && connection.role == Role::Load {
            self.tally.sent += 1;
            self.tally.bytes_out += bytes.len() as u64;
        }
        if sent < bytes.len() {
            self.await_room(key);
        }
    }

    /// Ends what has taken too long.
    pub(super) fn sweep(&mut self) {
        let timeout_ns = ns(self.plan.timeout);
        let now_ns = self.now_ns;
        let overdue = |connection: &Connection| match connection.state {
            State::Connecting { since_ns, .. } => now_ns.saturating_sub(since_ns) > timeout_ns,
            State::Busy(outstanding) => now_ns.saturating_sub(outstanding.sent_ns) > timeout_ns,
            State::Closing { since_ns, cancelled } => {
                !cancelled && now_ns.saturating_sub(since_ns) > CLOSING_NS
            }
            State::Ready => false,
        };
        let keys: Vec<usize> = self
            .connections
            .iter()
            .filter(|(_, connection)| overdue(connection))
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            match self.connections[key].state {
                State::Connecting { .. } => {
                    self.connecting_failed(key, io::ErrorKind::TimedOut.into());
                    self.ring.cancel(self.connections[key].socket.as_fd());
                }
                State::Busy(_) => self.fail(key, Failure::Timeout, now_ns),
                State::Closing { since_ns, .. } => {
                    self.connections[key].state = State::Closing { since_ns, cancelled: true };
                    self.ring.cancel(self.connections[key].socket.as_fd());
                }
                State::Ready => {}
            }
            self.settle(key);
        }
    }

    fn connected(&mut self, key: usize, result: io::Result<()>) {
        let State::Connecting { since_ns, intended_ns } = self.connections[key].state else { return };
        if let Err(error) = result {
            return self.connecting_failed(key, error);
        }
        self.opening -= 1;
        self.connections[key].state = State::Ready;
        self.receive(key);
        match (self.connections[key].role, intended_ns) {
            (Role::Load, None) => self.take_next(Some(key)),
            (Role::Load, Some(intended_ns)) => {
                self.send(key, Some(intended_ns));
                // Opening the connection is part of the service.
                if let State::Busy(outstanding) = &mut self.connections[key].state {
                    outstanding.sent_ns = since_ns;
                }
            }
            (Role::Idle, _) => {
                self.in_flight += 1;
                self.send(key, None);
            }
        }
    }

    fn connecting_failed(&mut self, key: usize, error: io::Error) {
        let connection = &mut self.connections[key];
        let State::Connecting { intended_ns, .. } = connection.state else { return };
        let role = connection.role;
        connection.state = State::Closing { since_ns: self.now_ns, cancelled: false };
        self.opening -= 1;
        self.not_connected(role, intended_ns, error);
    }

    /// Counts a connection that could not be opened, and has it tried again a little later.
    fn not_connected(&mut self, role: Role, intended_ns: Option<u64>, error: io::Error) {
        if self.measures(intended_ns.unwrap_or(self.now_ns)) {
            self.tally.fail(Failure::Connect);
        }
        if intended_ns.is_some() {
            self.in_flight -= 1;
        }
        self.last_error = Some(error);
        self.reopen_ns = self.now_ns + ns(REOPEN);
        match role {
            Role::Load => self.to_open += 1,
            Role::Idle => self.to_open_idle += 1,
        }
    }

    fn receive(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if !matches!(connection.state, State::Closing { .. }) {
            connection.armed += 1;
            self.ring.receive(connection.socket.as_fd(), key as Token);
        }
    }

    fn received(&mut self, key: usize, block: Block, looked_ns: u64) {
        let bytes = self.ring.bytes(&block);
        let len = bytes.len();
        let connection = &mut self.connections[key];
        let progress = match connection.state {
            State::Busy(_) => connection.reader.feed(bytes),
            State::Closing { .. } => Ok(Progress::Partial),
            // Bytes that no request asked for.
            State::Connecting { .. } | State::Ready => {
                self.ring.release(block);
                return self.fail(key, Failure::Malformed, looked_ns);
            }
        };
        self.ring.release(block);
        if (self.start_ns..self.end_ns).contains(&looked_ns) {
            self.tally.bytes_in += len as u64;
        }
        match progress {
            Ok(Progress::Partial) => {}
            Ok(Progress::Complete { answer, taken }) if taken == len => self.answered(key, answer, looked_ns),
            Ok(Progress::Complete { .. }) | Err(_) => self.fail(key, Failure::Malformed, looked_ns),
        }
    }

    /// The peer has sent its end, or the connection broke.
    fn ended(&mut self, key: usize, result: io::Result<()>, looked_ns: u64) {
        match (self.connections[key].state, result) {
            (State::Busy(_), Ok(())) => match self.connections[key].reader.close() {
                Some(answer) => self.answered(key, answer, looked_ns),
                None => self.fail(key, Failure::ClosedEarly, looked_ns),
            },
            (State::Busy(_), Err(_)) => self.fail(key, Failure::Reset, looked_ns),
            (State::Ready, _) => {
                self.ready.retain(|&ready| ready != key);
                self.replace(key);
            }
            (State::Connecting { .. } | State::Closing { .. }, _) => {}
        }
    }

    fn answered(&mut self, key: usize, answer: Answer, looked_ns: u64) {
        let connection = &mut self.connections[key];
        let State::Busy(outstanding) = connection.state else { return };
        connection.state = State::Ready;
        let reusable = answer.reusable && connection.unsent.is_empty() && !self.plan.workload.close;
        let role = connection.role;
        self.in_flight -= 1;
        if role == Role::Load {
            self.record(outstanding, answer.status, looked_ns);
        }
        match (reusable, role) {
            (true, Role::Load) => self.take_next(Some(key)),
            (true, Role::Idle) => {}
            (false, _) => self.replace(key),
        }
    }

    fn record(&mut self, outstanding: Outstanding, status: u16, looked_ns: u64) {
        if self.measures(looked_ns) {
            self.tally.answered_in_time += 1;
        }
        let Outstanding { intended_ns, sent_ns, note } = outstanding;
        self.keep(note.client, status, sent_ns);
        if !self.measures(intended_ns) {
            return;
        }
        self.tally.answered += 1;
        self.tally.service.record(looked_ns.saturating_sub(sent_ns));
        if self.plan.pace != Pace::Closed {
            self.tally.response.record(looked_ns.saturating_sub(intended_ns));
        }
        self.tally.statuses.count(status);
        self.judge(note, status);
    }

    /// Compares a status with what the route expects.
    fn judge(&mut self, note: Note, status: u16) {
        let route = usize::from(note.route);
        self.tally.routes[route].answered += 1;
        let expected = if note.bad_token {
            match status {
                401 => self.tally.bad_tokens.refused += 1,
                200..300 => self.tally.bad_tokens.accepted += 1,
                _ => self.tally.bad_tokens.other += 1,
            }
            status == 401
        } else {
            self.plan.workload.routes[route].expected.holds(status)
        };
        if !expected {
            *self.tally.routes[route].unexpected.entry(status).or_default() += 1;
        }
    }

    fn fail(&mut self, key: usize, failure: Failure, now_ns: u64) {
        let connection = &self.connections[key];
        let role = connection.role;
        match connection.state {
            State::Busy(outstanding) => {
                self.in_flight -= 1;
                if role == Role::Load && self.measures(outstanding.intended_ns) {
                    self.tally.fail(failure);
                    // How long a client would have waited; other failures come too early to be called a latency.
                    if failure == Failure::Timeout {
                        self.tally.service.record(now_ns - outstanding.sent_ns);
                        if self.plan.pace != Pace::Closed {
                            self.tally.response.record(now_ns - outstanding.intended_ns);
                        }
                    }
                }
            }
            State::Ready if self.measures(now_ns) => {
                self.ready.retain(|&ready| ready != key);
                self.tally.fail(failure);
            }
            State::Ready => self.ready.retain(|&ready| ready != key),
            State::Connecting { .. } | State::Closing { .. } => {}
        }
        self.replace(key);
    }

    /// Closes a connection and has another take its place.
    fn replace(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        connection.state = State::Closing { since_ns: self.now_ns, cancelled: false };
        match connection.role {
            Role::Load if self.plan.workload.close => self.take_next(None),
            Role::Load => {
                self.to_open += 1;
                if self.measures(self.now_ns) {
                    self.tally.reconnects += 1;
                }
            }
            // Before the run it is missing; in the run its loss is what was to be seen.
            Role::Idle if self.start_ns == u64::MAX => self.to_open_idle += 1,
            Role::Idle => self.tally.idle_lost += 1,
        }
    }

    fn send_rest(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if matches!(connection.state, State::Closing { .. }) {
            return;
        }
        let rest = connection.unsent.rest();
        let sent = socket::send(&connection.socket, rest).unwrap_or(rest.len());
        connection.unsent.sent(sent);
        if !connection.unsent.is_empty() {
            self.await_room(key);
        }
    }

    fn await_room(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if !connection.unsent.awaits_room {
            connection.unsent.awaits_room = true;
            connection.armed += 1;
            self.ring.writable(connection.socket.as_fd(), key as Token);
        }
    }

    /// Tells the peer of a closing connection, and forgets it once the ring is done with it.
    fn settle(&mut self, key: usize) {
        let connection = &self.connections[key];
        if !matches!(connection.state, State::Closing { .. }) {
            return;
        }
        if connection.armed == 0 {
            self.connections.remove(key);
        } else if !self.plan.workload.close {
            // The armed receive completes with the end that this makes. Where each request has its own connection,
            // the server closes first (it was asked to), so that it and not this machine keeps the used port.
            let _ = connection.socket.shutdown(Shutdown::Both);
        }
    }
}
