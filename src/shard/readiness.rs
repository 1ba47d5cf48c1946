//! One set of all the shard's sockets, and the task that asks it for news.
//!
//! A socket is registered once, when it is made, and is forgotten by the kernel when it closes. The ring
//! watches the set's own descriptor: one operation a loop turn instead of one for every wait. News are edges,
//! so they only set flags; what to do about them is the business of whoever owns the socket. Only a parked
//! connection has no owner: it is handed to a server.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix,
    },
    rc::Rc,
};

use monoio::net::UnixStream;
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
};

use super::{
    Shard,
    servers::Servers,
    watch::{Key, News},
};

/// News taken from the kernel at a time.
pub(super) const NEWS_MAX: usize = 512;

/// The set.
#[derive(Debug)]
pub(super) struct ReadinessSet(OwnedFd);

impl ReadinessSet {
    /// An empty set.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Registers a socket for news about both directions, under `key`.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn add(&self, socket: impl AsFd, key: Key) -> io::Result<()> {
        Ok(epoll::add(&self.0, socket, EventData::new_u64(key.into()), EDGES)?)
    }

    /// Forgets a socket that stays open.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn remove(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, socket)?)
    }

    /// Asks to be told again what is ready at this socket now.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn repeat(&self, socket: impl AsFd, key: Key) -> io::Result<()> {
        Ok(epoll::modify(&self.0, socket, EventData::new_u64(key.into()), EDGES)?)
    }
}

const EDGES: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

/// The set as the runtime can wait for it. Made before anybody is accepted: who waits to be accepted may take the last
/// descriptors.
///
/// # Errors
/// The system's.
pub(super) fn pollable(shard: &Shard) -> io::Result<UnixStream> {
    // The runtime waits for descriptors of streams; any descriptor that can be polled will do.
    UnixStream::from_std(unix::net::UnixStream::from(shard.watches.set().0.try_clone()?))
}

/// Passes news on to the sockets, for ever. `set` is the [`pollable`] one.
///
/// # Errors
/// The set cannot be watched; the shard cannot work without.
pub(super) async fn run(shard: Rc<Shard>, set: UnixStream) -> io::Result<()> {
    let mut news: Vec<Event> = Vec::with_capacity(NEWS_MAX);
    loop {
        set.readable(false).await?;
        pass_on(&shard, &mut news)?;
    }
}

/// Passes on what news there are at this moment, without waiting; how many. `news` is where they are put.
///
/// # Errors
/// The system's.
pub(super) fn pass_on(shard: &Rc<Shard>, news: &mut Vec<Event>) -> io::Result<usize> {
    shard.note_idle();
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    news.clear();
    match epoll::wait(&shard.watches.set().0, spare_capacity(news), Some(&at_once)) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(0),
        Err(error) => return Err(error.into()),
    }
    for event in &*news {
        let (flags, data) = (event.flags, event.data);
        let news = News {
            readable: flags.contains(EventFlags::IN),
            writable: flags.contains(EventFlags::OUT),
            ended: flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR),
        };
        let parked = shard.watches.tell(Key::from(data.u64()), news);
        if let Some(downstream) = parked.and_then(|place| shard.lobby.leave(place)) {
            Servers::dispatch(shard, downstream);
        }
    }
    Ok(news.len())
}
