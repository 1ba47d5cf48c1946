//! One connection of the generator: what it is doing, and what it still has to send.

use socket2::Socket;

use crate::{http::answer::AnswerReader, workload::compose::Note};

/// A socket and its state. Forgotten only when `armed` is 0, so that no completion can name a stranger.
pub(super) struct Connection {
    pub(super) socket: Socket,
    pub(super) reader: AnswerReader,
    pub(super) state: State,
    pub(super) role: Role,
    /// Requests on the ring that name this connection.
    pub(super) armed: u8,
    /// What there was no room for.
    pub(super) unsent: Unsent,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Carries the load.
    Load,
    /// Is held open after one request.
    Idle,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// With a new connection for each request: for the request intended then.
    Connecting {
        since_ns: u64,
        intended_ns: Option<u64>,
    },
    Ready,
    Busy(Outstanding),
    /// Neither sends nor reads; forgotten when the ring is done with it.
    Closing {
        since_ns: u64,
        cancelled: bool,
    },
}

/// A request without its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outstanding {
    pub(super) intended_ns: u64,
    pub(super) sent_ns: u64,
    pub(super) note: Note,
}

/// The rest of a request that the socket had no room for.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    bytes: Vec<u8>,
    from: usize,
    /// The ring will say when there is room.
    pub(super) awaits_room: bool,
}

impl Unsent {
    pub(super) fn is_empty(&self) -> bool {
        self.from == self.bytes.len()
    }

    pub(super) fn set(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.from = 0;
    }

    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.from..]
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.from += bytes;
    }
}
