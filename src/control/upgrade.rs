//! Upgrade: a successor process takes over between two requests, or not at all.
//!
//! The running process starts the binary that now stands at its own path, with its own arguments, and leaves it
//! everything of `heritage.rs` over a socket that is the successor's standard input. The successor reads its
//! configuration, starts its shards on the same sockets, which are never closed, and says that it is ready. Until then nothing
//! has changed for the predecessor, and if the successor ends or is silent for too long nothing does. After that
//! the predecessor parts from its clients and ends. What is not handed over: places of requests in flight (`in_flight` bounds
//! each process for itself while both serve), counters, pooled connections, cached tokens.

use std::{
    env, fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
    sockopt::{Timeout, set_socket_timeout},
};

use crate::{base::affinity, stage::snapshot::Snapshot};

use super::{
    heritage::{Heritage, Orders, bequeath},
    listening::Listening,
};

/// Tells a process that its standard input is a predecessor.
const SUCCESSION: &str = "TOLLGATE_SUCCESSION";
/// How long the other process may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// What a successor says when its shards accept.
const READY: &[u8] = b"ready";

/// How successors of this process are started: as it was itself.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The binary.
    path: PathBuf,
    /// The CPUs it might run on, before its threads were given theirs.
    cpus: Vec<usize>,
}

/// Why there is no successor.
#[derive(Debug)]
pub struct NoSuccessor(String);

impl fmt::Display for NoSuccessor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<io::Error> for NoSuccessor {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl Origin {
    /// Notes the path of the running binary, which asked later would be that of a file that was replaced, and the
    /// CPUs of the calling thread.
    ///
    /// # Errors
    /// The system's.
    pub fn note() -> io::Result<Self> {
        Ok(Self { path: env::current_exe()?, cpus: affinity::of_current()? })
    }

    /// Starts a successor, leaves it `listening`, the limits of `snapshot` and `orders`, and waits until it is ready; its
    /// process id.
    ///
    /// # Errors
    /// [`NoSuccessor`]; whatever was started has then ended.
    pub fn succeed(
        &self,
        snapshot: &Snapshot,
        listening: &[Listening],
        orders: &Orders,
        on_epoll: bool,
    ) -> Result<u32, NoSuccessor> {
        let kind = SocketType::SEQPACKET;
        let (line, far) =
            socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).map_err(io::Error::from)?;
        for direction in [Timeout::Recv, Timeout::Send] {
            for end in [&line, &far] {
                set_socket_timeout(end, direction, Some(SILENCE_MAX)).map_err(io::Error::from)?;
            }
        }
        // A process begins with the CPUs of the thread that starts it, and this one has what shards left.
        let own = affinity::of_current()?;
        affinity::keep_current_on(&self.cpus)?;
        let spawned = Command::new(&self.path)
            .args(env::args_os().skip(1))
            .env(SUCCESSION, "stdin")
            // It names us; the successor's notifications are its own.
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(far))
            .spawn();
        // If this fails, the thread has more CPUs than it should.
        let _ = affinity::keep_current_on(&own);
        let mut successor = spawned
            .map_err(|error| NoSuccessor(format!("{} cannot be started: {error}", self.path.display())))?;
        let heard =
            bequeath(line.as_fd(), snapshot, listening, orders, on_epoll).and_then(|()| hear(line.as_fd()));
        heard.map(|()| successor.id()).map_err(|error| {
            let ended = end(&mut successor, &error);
            NoSuccessor(format!("the successor was not ready ({error}), {ended}"))
        })
    }
}

/// Waits for a successor's word.
fn hear(line: BorrowedFd<'_>) -> io::Result<()> {
    let mut word = [0; READY.len()];
    match recv(line, &mut word[..], RecvFlags::empty())? {
        (_, count) if word[..count] == *READY => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::BrokenPipe, "it hung up")),
    }
}

/// Ends a successor with which `error` came up; how it ended.
fn end(successor: &mut Child, error: &io::Error) -> String {
    // Who hung up ends by itself, since it does so nowhere else, and its status tells why.
    if !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
        let _ = successor.kill();
    }
    match successor.wait() {
        Ok(status) => format!("it ended with {status}"),
        Err(error) => format!("and is out of reach: {error}"),
    }
}

/// The predecessor of this process, which waits to be told that it can go.
#[derive(Debug)]
pub struct Predecessor(OwnedFd);

impl Predecessor {
    /// The one that started this process to follow it, with what it leaves; none if somebody else did.
    ///
    /// # Errors
    /// It does not say what it should.
    pub fn find() -> io::Result<Option<(Self, Heritage)>> {
        if env::var_os(SUCCESSION).is_none() {
            return Ok(None);
        }
        let line = io::stdin().as_fd().try_clone_to_owned()?;
        let heritage = Heritage::receive(line.as_fd())?;
        Ok(Some((Self(line), heritage)))
    }

    /// Lets it go: this process serves.
    pub fn dismiss(self) {
        // If it is gone already, the better.
        let _ = send(&self.0, READY, SendFlags::NOSIGNAL);
    }
}
