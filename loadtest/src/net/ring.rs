//! One io_uring per thread, as a safe interface: accept, connect, receive, wait for room to send.
//!
//! The only file of the crate with `unsafe`. Two invariants carry it:
//! 1. Memory handed to the kernel (the blocks received into, the peer's address) is owned by [`Ring`], never
//!    moves, and is freed only after every request on the ring is cancelled and the blocks are unregistered.
//! 2. A block is readable exactly while its [`Block`] exists; only giving that back lets the kernel write again.
//!
//! Sends are not done here: they are ordinary non-blocking calls (see `socket`), so no buffer is ever lent.

#![expect(
    unsafe_code,
    reason = "the ring's queues and provided buffers are raw memory shared with the kernel"
)]

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use io_uring::{
    IoUring, cqueue, opcode, squeue,
    types::{self, BufRingEntry, CancelBuilder},
};
use socket2::SockAddr;

/// Submission entries; a full queue is submitted early, so this bounds a batch and nothing else.
const ENTRIES: u32 = 1024;
/// Completion entries; overflow is lossless but slow.
const COMPLETIONS: u32 = 8192;
/// Blocks per ring: 256 × 16 KiB = 4 MiB, of which small answers touch only the first lines of each.
const BLOCKS: u16 = 256;
/// Bytes per block: one receive takes at most this much.
const BLOCK_BYTES: usize = 16 * 1024;
/// The one group of provided buffers.
const GROUP: u16 = 0;
const PAGE_BYTES: usize = 4096;

/// The caller's name for a socket, given back with each of its completions.
pub(crate) type Token = u32;

/// A ring with its receive blocks. Stays in the thread that made it.
pub(crate) struct Ring {
    ring: IoUring,
    blocks: Blocks,
    /// Where `connect` goes; boxed so that its address is stable.
    peer: Option<Box<SockAddr>>,
}

/// What the kernel has finished.
#[derive(Debug)]
pub(crate) enum Completion {
    /// A listener's new connection. Not `armed`: call [`Ring::accept`] again.
    Accepted { token: Token, socket: io::Result<OwnedFd>, armed: bool },
    /// A connection attempt's end.
    Connected { token: Token, result: io::Result<()> },
    /// Bytes. Not `armed`: call [`Ring::receive`] again.
    Received { token: Token, block: Block, armed: bool },
    /// The peer sent its end (`Ok`), or receiving failed. Receiving is no longer armed.
    Ended { token: Token, result: io::Result<()> },
    /// No block was free. Receiving is no longer armed; nothing is lost.
    Starved { token: Token },
    /// There may be room to send.
    Writable { token: Token },
}

/// Received bytes, until given back with [`Ring::release`].
#[derive(Debug)]
#[must_use = "a block not given back is lost to the ring"]
pub(crate) struct Block {
    index: u16,
    len: u32,
}

#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Accept = 1,
    Connect = 2,
    Receive = 3,
    Writable = 4,
    Cancel = 5,
}

impl Ring {
    /// A ring for the calling thread, with the cheapest flags that this kernel takes.
    ///
    /// # Errors
    /// When io_uring is disabled here or older than Linux 6.0; the message says so.
    pub(crate) fn new(peer: Option<SockAddr>) -> io::Result<Self> {
        let ring = build().map_err(|error| {
            io::Error::new(
                error.kind(),
                format!(
                    "io_uring is not available ({error}): it needs Linux 6.0, kernel.io_uring_disabled = 0 and a \
                     container profile that allows it"
                ),
            )
        })?;
        // Only spares the kernel a look-up per call; without it everything works the same.
        let _ = ring.submitter().register_ring_fd();
        let blocks = Blocks::register(&ring)?;
        Ok(Self { ring, blocks, peer: peer.map(Box::new) })
    }

    /// Accepts from `listener` until a completion says that it is no longer armed.
    pub(crate) fn accept(&mut self, listener: BorrowedFd<'_>, token: Token) {
        let entry =
            opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
        self.push(&entry, Kind::Accept, token);
    }

    /// Connects `socket` to the ring's peer.
    ///
    /// # Panics
    /// If the ring was made without a peer.
    pub(crate) fn connect(&mut self, socket: BorrowedFd<'_>, token: Token) {
        let peer = self.peer.as_deref().expect("a ring that connects was made with a peer");
        let entry =
            opcode::Connect::new(types::Fd(socket.as_raw_fd()), peer.as_ptr().cast(), peer.len()).build();
        self.push(&entry, Kind::Connect, token);
    }

    /// Receives from `socket` until a completion says that it is no longer armed.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>, token: Token) {
        let entry = opcode::RecvMulti::new(types::Fd(socket.as_raw_fd()), GROUP).build();
        self.push(&entry, Kind::Receive, token);
    }

    /// Says once when `socket` has room to send.
    pub(crate) fn writable(&mut self, socket: BorrowedFd<'_>, token: Token) {
        let entry = opcode::PollAdd::new(types::Fd(socket.as_raw_fd()), libc::POLLOUT as u32).build();
        self.push(&entry, Kind::Writable, token);
    }

    /// Ends everything armed on `socket`: each armed request completes once more, with an error.
    pub(crate) fn cancel(&mut self, socket: BorrowedFd<'_>) {
        let all = CancelBuilder::fd(types::Fd(socket.as_raw_fd())).all();
        self.push(&opcode::AsyncCancel2::new(all).build(), Kind::Cancel, 0);
    }

    /// Submits what was asked for and waits until something has completed, at most `timeout`.
    ///
    /// # Errors
    /// Only what leaves the ring unusable.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let limit = types::Timespec::from(timeout);
        let args = types::SubmitArgs::new().timespec(&limit);
        match self.ring.submitter().submit_with_args(1, &args) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// The next completion, without waiting.
    pub(crate) fn completion(&mut self) -> Option<Completion> {
        loop {
            let entry = self.ring.completion().next()?;
            if let Some(completion) = self.read(&entry) {
                return Some(completion);
            }
        }
    }

    /// The bytes of a block.
    pub(crate) fn bytes(&self, block: &Block) -> &[u8] {
        self.blocks.bytes(block)
    }

    /// Gives a block back to the kernel.
    #[expect(clippy::needless_pass_by_value, reason = "taking the block is what ends its reading")]
    pub(crate) fn release(&mut self, block: Block) {
        self.blocks.provide(block.index);
    }

    fn read(&self, entry: &cqueue::Entry) -> Option<Completion> {
        let token = entry.user_data() as u32;
        let kind = (entry.user_data() >> 32) as u8;
        let armed = cqueue::more(entry.flags());
        let result = entry.result();
        let failure = || io::Error::from_raw_os_error(-result);
        if kind == Kind::Receive as u8 {
            return Some(match result {
                1.. => {
                    let index = cqueue::buffer_select(entry.flags())?;
                    Completion::Received { token, block: Block { index, len: result as u32 }, armed }
                }
                0 => Completion::Ended { token, result: Ok(()) },
                _ if -result == libc::ENOBUFS => Completion::Starved { token },
                _ => Completion::Ended { token, result: Err(failure()) },
            });
        }
        if kind == Kind::Accept as u8 {
            let socket = if result < 0 {
                Err(failure())
            } else {
                // SAFETY: a non-negative result of an accept is a descriptor made for us and owned by no one else.
                Ok(unsafe { OwnedFd::from_raw_fd(result) })
            };
            return Some(Completion::Accepted { token, socket, armed });
        }
        if kind == Kind::Connect as u8 {
            let result = if result < 0 { Err(failure()) } else { Ok(()) };
            return Some(Completion::Connected { token, result });
        }
        (kind == Kind::Writable as u8).then_some(Completion::Writable { token })
    }

    fn push(&mut self, entry: &squeue::Entry, kind: Kind, token: Token) {
        let entry = entry.clone().user_data((kind as u64) << 32 | u64::from(token));
        // SAFETY: invariant 1: the entries made above name descriptors, the ring's own blocks and its own peer.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            // A full queue: hand it over. An error shows again, and is reported, at the next wait.
            let _ = self.ring.submit();
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let cancelled = match self.ring.submitter().register_sync_cancel(None, CancelBuilder::any()) {
            Ok(()) => true,
            Err(error) => error.raw_os_error() == Some(libc::ENOENT),
        };
        let unregistered = self.ring.submitter().unregister_buf_ring(GROUP).is_ok();
        // Whatever the kernel might still write to is left to the process's end.
        self.blocks.leak = !(cancelled && unregistered);
    }
}

/// Tries the flags from the cheapest to the plainest.
fn build() -> io::Result<IoUring> {
    let builder = || {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(COMPLETIONS).setup_submit_all().dontfork();
        builder
    };
    // Completions are processed when this thread asks for them, never by interrupting it (Linux 6.1).
    builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(ENTRIES)
        .or_else(|_| builder().setup_coop_taskrun().build(ENTRIES))
        .or_else(|_| IoUring::builder().setup_cqsize(COMPLETIONS).build(ENTRIES))
}

/// The blocks that the kernel receives into, and the queue through which it gets them back.
struct Blocks {
    queue: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    /// Entries ever provided, modulo 2^16; only this side writes it.
    tail: u16,
    leak: bool,
}

impl Blocks {
    fn register(ring: &IoUring) -> io::Result<Self> {
        let queue = allocate(Self::queue_layout()).cast();
        let memory = allocate(Self::memory_layout());
        let mut blocks = Self { queue, memory, tail: 0, leak: false };
        // SAFETY: the queue is page-aligned, zeroed, of BLOCKS entries, and outlives the registration (`Drop for Ring`).
        unsafe { ring.submitter().register_buf_ring_with_flags(queue.as_ptr() as u64, BLOCKS, GROUP, 0) }
            .map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("cannot register receive buffers, which needs Linux 5.19: {error}"),
                )
            })?;
        for index in 0..BLOCKS {
            blocks.provide(index);
        }
        Ok(blocks)
    }

    fn provide(&mut self, index: u16) {
        let place = usize::from(self.tail & (BLOCKS - 1));
        // SAFETY: `place` is below BLOCKS, the kernel does not read an entry at or after the tail it was told, and
        // `index` is below BLOCKS: it comes from `register` or from a `Block` made from the kernel's own number.
        unsafe {
            let entry = &mut *self.queue.as_ptr().add(place);
            entry.set_addr(self.memory.as_ptr().add(usize::from(index) * BLOCK_BYTES) as u64);
            entry.set_len(BLOCK_BYTES as u32);
            entry.set_bid(index);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the reserved field of the first entry, aligned for u16; the kernel only reads it.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.queue.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    fn bytes(&self, block: &Block) -> &[u8] {
        let (index, len) = (usize::from(block.index), block.len as usize);
        assert!(index < usize::from(BLOCKS) && len <= BLOCK_BYTES, "a block lies within the blocks");
        // SAFETY: in bounds as just checked; initialised (zeroed, then written by the kernel); invariant 2.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(index * BLOCK_BYTES), len) }
    }

    fn queue_layout() -> Layout {
        let bytes = usize::from(BLOCKS) * size_of::<BufRingEntry>();
        Layout::from_size_align(bytes, PAGE_BYTES).expect("a constant power of two")
    }

    fn memory_layout() -> Layout {
        Layout::from_size_align(usize::from(BLOCKS) * BLOCK_BYTES, PAGE_BYTES)
            .expect("a constant power of two")
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        if self.leak {
            return;
        }
        // SAFETY: allocated with the same layouts in `register`; the ring, which is dropped first, no longer has them.
        unsafe {
            dealloc(self.queue.as_ptr().cast(), Self::queue_layout());
            dealloc(self.memory.as_ptr(), Self::memory_layout());
        }
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: neither layout is of size zero.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}
