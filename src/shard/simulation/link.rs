//! The world's end of a connection: a real socket of this machine's kernel, whose other end the shard has.
//!
//! Both ends are one AF_UNIX pair, so that what is written at one end is at the other at once and in every run
//! alike, with the kernel's own partial writes, edges, ends and resets. Two things it cannot do by itself: a
//! reset from this side is made by leaving a byte unread, and one from the shard's side is told to us.

use std::{
    cell::Cell,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    rc::Rc,
};

use rustix::event::{PollFd, PollFlags};
use socket2::SockRef;

use super::runtime::Runtime;

/// The most bytes a pair holds in one direction.
const UNREAD_MAX: usize = 1 << 20;

/// One end.
pub(super) struct Link {
    /// Not TCP, but the standard library asks as little as the kernel does.
    end: TcpStream,
    /// The shard's end, to be used only while it is known to be open.
    shards_end: RawFd,
    /// Set when the shard makes its close a reset.
    cut: Rc<Cell<bool>>,
    ended: bool,
}

/// What came of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// The shard has ended in good order.
    End,
    /// The shard has cut the connection on purpose.
    Cut,
    /// The shard closed with bytes unread, which over TCP can destroy what it sent before.
    Reset,
}

impl Link {
    /// A connection: our end and the shard's. With `send_bytes`, the shard's end takes about as much at a time.
    pub(super) fn pair(runtime: &Runtime, send_bytes: Option<usize>) -> (Self, TcpStream) {
        let (end, shards) = UnixStream::pair().expect("a pair of sockets");
        end.set_nonblocking(true).expect("a mode that every socket has");
        if let Some(bytes) = send_bytes {
            SockRef::from(&shards).set_send_buffer_size(bytes).expect("an option that every socket has");
        }
        let [end, shards] = [end, shards].map(|end| TcpStream::from(OwnedFd::from(end)));
        let cut = Rc::new(Cell::new(false));
        runtime.note_cut(&shards, &cut);
        (Self { end, shards_end: shards.as_raw_fd(), cut, ended: false }, shards)
    }

    /// Writes what the kernel takes of `bytes`: `None` when the shard takes no more for ever.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        match self.end.write(bytes) {
            Ok(written) => Some(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(0),
            Err(_) => None,
        }
    }

    /// Reads into `bytes`.
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> Heard {
        match self.end.read(bytes) {
            Ok(0) => {
                self.ended = true;
                if self.cut.get() { Heard::Cut } else { Heard::End }
            }
            Ok(read) => Heard::Bytes(read),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Heard::Nothing,
            Err(_) => {
                self.ended = true;
                if self.cut.get() { Heard::Cut } else { Heard::Reset }
            }
        }
    }

    /// All that the shard has sent and nobody read, left where it is.
    pub(super) fn unread(&self) -> Vec<u8> {
        let mut seen = vec![0; UNREAD_MAX];
        let bytes = self.end.peek(&mut seen).unwrap_or(0);
        seen.truncate(bytes);
        seen
    }

    /// The beginning of that, enough for the first line of a head.
    pub(super) fn next_unread(&self) -> Vec<u8> {
        let mut seen = vec![0; 512];
        let bytes = self.end.peek(&mut seen).unwrap_or(0);
        seen.truncate(bytes);
        seen
    }

    /// What tells whether the shard has closed its end.
    pub(super) fn hang_up(&self) -> PollFd<'_> {
        PollFd::new(&self.end, PollFlags::empty())
    }

    /// Says that nothing more will be sent.
    pub(super) fn finish_sending(&self) {
        // The shard may have closed, which is as good.
        let _ = self.end.shutdown(Shutdown::Write);
    }

    /// Closes in a way that the shard sees as a reset.
    #[expect(unsafe_code, reason = "only the shard's own end can put a byte where we leave it unread")]
    pub(super) fn reset(self) {
        let peeked = self.end.peek(&mut [0]);
        if !self.ended && matches!(&peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            // SAFETY: our end has not seen an end, so the shard's is open, and this thread is the only one
            // that could close it.
            let shards_end = unsafe { BorrowedFd::borrow_raw(self.shards_end) };
            let _ = SockRef::from(&shards_end).send_with_flags(b"!", libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        }
    }
}
