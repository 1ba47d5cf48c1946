//! Sockets: the only door between the data plane and the runtime.
//!
//! The ring tells when a socket is ready; the bytes then move by a direct, non-blocking call. On the ring
//! this costs the same as a ring receive (they tie within noise; see `benches/README.md`) and buys three
//! things: no buffer is lent to the kernel, so an idle connection holds none; no byte is lost when a wait
//! is dropped; and a send leaves before the loop turns. So the runtime only makes connections, and hands them
//! over (`runtime.rs`): what it would keep beside a descriptor is more than an idle connection may cost. Nothing
//! above this file knows which runtime runs.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::{SocketAddr, TcpStream},
    rc::Rc,
};

use socket2::{MsgHdr, SockRef};

use crate::{base::block::Block, stage::termination::Termination};

use super::{
    patience::Patience,
    runtime,
    watch::{Direction, Key, Watch, Watches},
};

/// One connection's socket.
pub(super) struct Socket {
    entry: Entry,
    stream: TcpStream,
    watch: Rc<Watch>,
}

/// A socket's place among those the shard watches, given back when dropped.
struct Entry {
    key: Key,
    watches: Rc<Watches>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.watches.remove(self.key);
    }
}

/// A send that did not get everything out.
#[derive(Debug)]
pub(super) struct SendError {
    /// Bytes the kernel took before.
    pub(super) sent: usize,
    /// Why no more.
    pub(super) error: io::Error,
}

impl SendError {
    /// What it means for an exchange whose client did not take its answer.
    pub(super) fn by_client(&self) -> Termination {
        match self.error.kind() {
            io::ErrorKind::TimedOut => Termination::ClientSlowInAnswer,
            _ => Termination::ClientGoneInAnswer,
        }
    }
}

impl Socket {
    /// Takes over a connection.
    ///
    /// # Errors
    /// The system has no room for one more in the readiness set.
    pub(super) fn new(stream: TcpStream, watches: &Rc<Watches>) -> io::Result<Self> {
        let (key, watch) = watches.add(&stream)?;
        Ok(Self { entry: Entry { key, watches: Rc::clone(watches) }, stream, watch })
    }

    /// Connects to `address` within `timeout_ms`.
    ///
    /// # Errors
    /// The system's, or `TimedOut`.
    pub(super) async fn connect(
        address: SocketAddr,
        timeout_ms: u64,
        watches: &Rc<Watches>,
    ) -> io::Result<Self> {
        let stream = runtime::connect(address, timeout_ms).await?;
        let socket = Self::new(stream, watches)?;
        // Nobody answers before they are asked.
        socket.watch.exhausted(Direction::Read);
        Ok(socket)
    }

    /// Lets go of the connection, which is watched no more.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn release(self) -> io::Result<TcpStream> {
        self.entry.watches.set().remove(&self.stream)?;
        Ok(self.stream)
    }

    /// The socket's deadlines.
    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Waits until there is something to read, or the read deadline passes.
    ///
    /// # Errors
    /// `TimedOut`, or the system's.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.watch.readable().await
    }

    /// Waits until something can be written, or the write deadline passes.
    ///
    /// # Errors
    /// `TimedOut`, or the system's.
    pub(super) async fn writable(&self) -> io::Result<()> {
        poll_fn(|context| self.watch.wait(Direction::Write, context.waker())).await
    }

    /// Waits until others had their turn, and the client takes answers.
    ///
    /// # Errors
    /// `TimedOut` by the write deadline, or the system's.
    pub(super) async fn others_first(&self) -> io::Result<()> {
        // That there is room the set says at once; that there is more to read it may have nothing to say of.
        self.watch.exhausted(Direction::Write);
        self.entry.watches.set().repeat(&self.stream, self.entry.key)?;
        self.writable().await
    }

    /// Receives up to `bytes_max` bytes into the spare room of `block`: `None` if there are none now,
    /// `Some(0)` if there will be none any more.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn try_recv(&self, block: &mut Block, bytes_max: usize) -> io::Result<Option<usize>> {
        if !self.watch.is_ready(Direction::Read) {
            return Ok(None);
        }
        if self.watch.turn_is_over() {
            // Others first; the set will say again that there is more.
            self.watch.exhausted(Direction::Read);
            self.entry.watches.set().repeat(&self.stream, self.entry.key)?;
            return Ok(None);
        }
        let spare = block.spare();
        let room = spare.len().min(bytes_max);
        debug_assert!(room > 0, "a read into no room looks like the end");
        let received = loop {
            match SockRef::from(&self.stream).recv_with_flags(&mut spare[..room], libc::MSG_DONTWAIT) {
                Ok(received) => break received,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.watch.exhausted(Direction::Read);
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        };
        self.watch.note_read(received);
        if received < room {
            self.watch.drained();
        }
        #[expect(unsafe_code, reason = "what the kernel wrote, only the kernel can say")]
        // SAFETY: the kernel initialised the first `received` bytes of the spare room.
        unsafe {
            block.fill(received);
        }
        Ok(Some(received))
    }

    /// Waits for bytes and receives them; 0 when there will be none any more.
    ///
    /// # Errors
    /// `TimedOut`, or the system's.
    pub(super) async fn recv(&self, block: &mut Block, bytes_max: usize) -> io::Result<usize> {
        loop {
            self.readable().await?;
            if let Some(received) = self.try_recv(block, bytes_max)? {
                return Ok(received);
            }
        }
    }

    /// Sends as much of `parts` as the kernel takes now, which may be nothing.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn try_send(&self, parts: &[&[u8]]) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let socket = SockRef::from(&self.stream);
        loop {
            let sent = match parts {
                [only] => socket.send_with_flags(only, flags),
                _ => {
                    let mut slices = [IoSlice::new(&[]); PARTS_MAX];
                    let mut count = 0;
                    for part in parts.iter().filter(|part| !part.is_empty()) {
                        slices[count] = IoSlice::new(part);
                        count += 1;
                    }
                    socket.sendmsg(&MsgHdr::new().with_buffers(&slices[..count]), flags)
                }
            };
            match sent {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.watch.exhausted(Direction::Write);
                    return Ok(0);
                }
                other => return other,
            }
        }
    }

    /// Sends all of `parts`, waiting where the kernel's buffer is full for as long as `patience` has it; `now_ms`
    /// tells the time.
    ///
    /// # Errors
    /// [`SendError`] with what did get out.
    pub(super) async fn send_all<const N: usize>(
        &self,
        mut parts: [&[u8]; N],
        patience: &Patience,
        now_ms: impl Fn() -> u64,
    ) -> Result<(), SendError> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut sent = 0;
        while sent < total {
            match self.try_send(&parts) {
                Ok(0) => {
                    let from_ms = now_ms();
                    self.watch.set(Direction::Write, patience.ends_ms(from_ms));
                    self.watch.set_spent(patience.spent_ms(from_ms));
                    let waited = self.writable().await;
                    self.watch.set_spent(None);
                    waited.map_err(|error| SendError { sent, error })?;
                    self.watch.clear(Direction::Write);
                    patience.waited(now_ms() - from_ms);
                }
                Ok(count) => {
                    sent += count;
                    patience.moved(count);
                    skip(&mut parts, count);
                }
                Err(error) => return Err(SendError { sent, error }),
            }
        }
        Ok(())
    }

    /// Whether the peer has neither closed the connection nor sent anything, as far as the last loop turn
    /// knew: what a pooled connection must be to be used.
    pub(super) fn is_quiet(&self) -> bool {
        !self.watch.is_ready(Direction::Read)
    }

    /// The same, asked of the kernel at this moment.
    pub(super) fn is_quiet_now(&self) -> bool {
        matches!(self.peek(), Ok(None))
    }

    /// Whether a read would find something, asked of the kernel: `None` if not now, `Some(false)` if there will
    /// be nothing any more.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn peek(&self) -> io::Result<Option<bool>> {
        let peeked = peek(&self.stream);
        if matches!(peeked, Ok(None)) {
            self.watch.exhausted(Direction::Read);
        }
        peeked
    }

    /// Tells the peer that nothing more will be sent.
    pub(super) fn finish_sending(&self) {
        // It may be gone already, which is as good.
        let _ = SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write);
    }

    /// Makes the close that follows a reset, so that the peer cannot take what it got for the whole.
    pub(super) fn reset_on_close(&self) {
        runtime::reset_on_close(&self.stream);
    }
}

/// Whether the peer of a connection that nobody watches has neither closed it nor sent anything.
pub(super) fn is_quiet(stream: &TcpStream) -> bool {
    matches!(peek(stream), Ok(None))
}

fn peek(stream: &TcpStream) -> io::Result<Option<bool>> {
    let mut byte = [MaybeUninit::uninit(); 1];
    loop {
        match SockRef::from(stream).recv_with_flags(&mut byte, libc::MSG_DONTWAIT | libc::MSG_PEEK) {
            Ok(peeked) => return Ok(Some(peeked > 0)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Runs of bytes one send takes at the most.
const PARTS_MAX: usize = 5;

/// Takes the first `count` bytes off `parts`.
fn skip(parts: &mut [&[u8]], mut count: usize) {
    for part in parts {
        let skipped = count.min(part.len());
        *part = &part[skipped..];
        count -= skipped;
    }
}
