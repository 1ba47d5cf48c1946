//! What a shard knows about each of its sockets: what is ready, and by when it must be.
//!
//! Readiness comes from the set in `readiness.rs` and is used up by direct calls that find nothing more.
//! Deadlines are without timers: setting one is a store, nothing is armed and nothing cancelled. A few times
//! a second the shard's housekeeping walks the sockets and wakes those whose time is up; their wait then ends
//! with `TimedOut`. A deadline is therefore kept to within one sweep.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    os::fd::AsFd,
    rc::Rc,
    task::{Poll, Waker},
};

use slab::Slab;

use super::{lobby::Place, readiness::ReadinessSet};

/// Which side of a socket is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Read = 0,
    Write = 1,
}

/// What the readiness set has to say about a socket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct News {
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The peer sends nothing more, or the connection is broken.
    pub(super) ended: bool,
}

/// Time never comes.
const NEVER: u64 = u64::MAX;
/// Waits that one sweep ends. What follows from each takes some ten microseconds, and ten thousand clients that came
/// together are late together.
const ENDED_MAX: usize = 256;
/// Bytes read in a row after which others get their turn; each read counts as at least a sixteenth of it, and each
/// request that another one follows in what was read as a 32nd.
const TURN_BYTES: usize = 512 * 1024;

/// One socket's readiness and deadlines.
#[derive(Debug)]
pub(super) struct Watch {
    /// Tells it from the sockets that had its key before.
    serial: u32,
    /// Whether a direct call may find something, by direction.
    ready: [Cell<bool>; 2],
    /// Reads will find the end, or an error, for ever.
    ended: Cell<bool>,
    /// Bytes read since the last news, or the least that so many reads and requests count as.
    turn_bytes: Cell<usize>,
    /// Milliseconds on the monotonic clock, by direction.
    until_ms: [Cell<u64>; 2],
    expired: [Cell<bool>; 2],
    /// When the wait to write has been too long for a shard that turns others away.
    spent_ms: Cell<u64>,
    /// Where its connection is parked, if it is.
    parked: Cell<Option<Place>>,
    waker: RefCell<Option<Waker>>,
}

impl Watch {
    fn new(serial: u32) -> Self {
        Self {
            serial,
            // Most clients speak at once, and a new socket has room for what is to be sent.
            ready: [Cell::new(true), Cell::new(true)],
            ended: Cell::new(false),
            turn_bytes: Cell::new(0),
            until_ms: [Cell::new(NEVER), Cell::new(NEVER)],
            expired: [Cell::new(false), Cell::new(false)],
            spent_ms: Cell::new(NEVER),
            parked: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    /// Whether a direct call may find something.
    pub(super) fn is_ready(&self, direction: Direction) -> bool {
        self.ready[direction as usize].get()
    }

    /// A direct call found nothing: only news make another one worth while.
    pub(super) fn exhausted(&self, direction: Direction) {
        self.ready[direction as usize].set(false);
    }

    /// A read found less than it had room for: nothing is left to read but the end, if it is known to be there.
    pub(super) fn drained(&self) {
        self.ready[Direction::Read as usize].set(self.ended.get());
    }

    /// Whether so much was read in a row that others should get their turn: a task that never waits starves the
    /// shard.
    pub(super) fn turn_is_over(&self) -> bool {
        self.turn_bytes.get() >= TURN_BYTES
    }

    /// A read found so many bytes.
    pub(super) fn note_read(&self, bytes: usize) {
        self.turn_bytes.set(self.turn_bytes.get() + bytes.max(TURN_BYTES / 16));
    }

    /// A request was served, and the next one was read with it.
    pub(super) fn note_pipelined(&self) {
        self.turn_bytes.set(self.turn_bytes.get() + TURN_BYTES / 32);
    }

    /// Sets a deadline; an earlier one of the same direction is forgotten.
    pub(super) fn set(&self, direction: Direction, until_ms: u64) {
        self.until_ms[direction as usize].set(until_ms);
        self.expired[direction as usize].set(false);
    }

    /// Sets when the wait to write has been too long for a shard that turns others away, if it ever is.
    pub(super) fn set_spent(&self, spent_ms: Option<u64>) {
        self.spent_ms.set(spent_ms.unwrap_or(NEVER));
    }

    /// Removes a deadline.
    pub(super) fn clear(&self, direction: Direction) {
        self.set(direction, NEVER);
    }

    /// Says where the connection is parked.
    pub(super) fn set_parked(&self, place: Option<Place>) {
        self.parked.set(place);
    }

    /// A wait: over because a direct call may find something or because the deadline has passed, or pending.
    pub(super) fn wait(&self, direction: Direction, waker: &Waker) -> Poll<io::Result<()>> {
        if self.ready[direction as usize].get() {
            return Poll::Ready(Ok(()));
        }
        if self.expired[direction as usize].get() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.keep(waker);
        Poll::Pending
    }

    /// Waits until a direct call may find something to read, or the read deadline passes.
    ///
    /// # Errors
    /// `TimedOut`.
    pub(super) async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| self.wait(Direction::Read, context.waker())).await
    }

    /// Waits until the peer is known to send nothing more; other news wake the task for nothing.
    pub(super) fn wait_for_end(&self, waker: &Waker) -> Poll<()> {
        if self.has_ended() {
            return Poll::Ready(());
        }
        self.keep(waker);
        Poll::Pending
    }

    /// Whether the peer is known to send nothing more: it has closed, or half of it, or the connection is broken.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    fn keep(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    /// Lets go of the task that last waited. For a socket that changes hands.
    pub(super) fn forget_waker(&self) {
        *self.waker.borrow_mut() = None;
    }

    fn tell(&self, news: News) {
        self.turn_bytes.set(0);
        self.ended.set(self.ended.get() || news.ended);
        for (ready, now) in self.ready.iter().zip([news.readable, news.writable]) {
            ready.set(ready.get() || now || news.ended);
        }
        self.wake();
    }

    /// Has a wait end as if its deadline had passed.
    pub(super) fn expire(&self, direction: Direction) {
        self.until_ms[direction as usize].set(NEVER);
        self.expired[direction as usize].set(true);
        if direction == Direction::Write {
            self.spent_ms.set(NEVER);
        }
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// All sockets of a shard.
#[derive(Debug)]
pub(super) struct Watches {
    watches: RefCell<Slab<Rc<Watch>>>,
    serial: Cell<u32>,
    set: ReadinessSet,
}

/// Names a socket to the readiness set: where it stands, and which of those that stood there it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    place: u32,
    serial: u32,
}

impl From<Key> for u64 {
    fn from(key: Key) -> Self {
        Self::from(key.serial) << 32 | Self::from(key.place)
    }
}

impl From<u64> for Key {
    fn from(data: u64) -> Self {
        let [place, serial] = [data & u64::from(u32::MAX), data >> 32].map(|half| half as u32);
        Self { place, serial }
    }
}

impl Watches {
    /// None yet.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { watches: RefCell::default(), serial: Cell::new(0), set: ReadinessSet::new()? })
    }

    /// The set that the news come from.
    pub(super) fn set(&self) -> &ReadinessSet {
        &self.set
    }

    /// Takes up one more socket: its watch, and the key under which to let go of it.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn add(&self, socket: impl AsFd) -> io::Result<(Key, Rc<Watch>)> {
        self.serial.set(self.serial.get().wrapping_add(1));
        let watch = Rc::new(Watch::new(self.serial.get()));
        let mut watches = self.watches.borrow_mut();
        let vacant = watches.vacant_entry();
        let place = u32::try_from(vacant.key()).map_err(io::Error::other)?;
        let key = Key { place, serial: watch.serial };
        self.set.add(socket, key)?;
        vacant.insert(Rc::clone(&watch));
        Ok((key, watch))
    }

    /// The socket is gone.
    pub(super) fn remove(&self, key: Key) {
        self.watches.borrow_mut().remove(key.place as usize);
    }

    /// News about the socket under `key`, which may be gone. Where its connection is parked, if it is: it
    /// has no task that could be woken.
    pub(super) fn tell(&self, key: Key, news: News) -> Option<Place> {
        let watches = self.watches.borrow();
        let watch = watches.get(key.place as usize).filter(|watch| watch.serial == key.serial)?;
        watch.tell(news);
        watch.parked.get()
    }

    /// Ends waits whose deadline has passed, so many at a time that others get their turn in between. Puts the parked
    /// connections among them into `overdue`. Whether there are more.
    pub(super) fn sweep(&self, now_ms: u64, overdue: &mut Vec<Place>) -> bool {
        let mut ended = 0;
        for (_, watch) in &*self.watches.borrow() {
            for direction in [Direction::Read, Direction::Write] {
                if watch.until_ms[direction as usize].get() <= now_ms {
                    watch.expire(direction);
                    overdue.extend(watch.parked.get());
                    ended += 1;
                }
            }
            if ended >= ENDED_MAX {
                return true;
            }
        }
        false
    }

    /// Ends up to `count` waits to write of clients that have taken nothing for too long, now that others are turned away.
    pub(super) fn make_room(&self, now_ms: u64, count: u64) {
        let watches = self.watches.borrow();
        let spent = watches.iter().filter(|(_, watch)| watch.spent_ms.get() <= now_ms);
        let count = usize::try_from(count).unwrap_or(ENDED_MAX).min(ENDED_MAX);
        spent.take(count).for_each(|(_, watch)| watch.expire(Direction::Write));
    }

    /// Ends every wait.
    pub(super) fn expire_all(&self) {
        for (_, watch) in &*self.watches.borrow() {
            watch.expire(Direction::Read);
            watch.expire(Direction::Write);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn watched(watches: &Watches) -> (Key, Rc<Watch>) {
        let (socket, _) = UnixStream::pair().unwrap();
        let (key, watch) = watches.add(socket).unwrap();
        watch.exhausted(Direction::Read);
        watch.exhausted(Direction::Write);
        (key, watch)
    }

    #[test]
    fn a_deadline_ends_a_wait_once_it_has_passed() {
        let watches = Watches::new().unwrap();
        let (key, watch) = watched(&watches);
        watch.set(Direction::Read, 100);
        watches.sweep(99, &mut Vec::new());
        assert!(watch.wait(Direction::Read, Waker::noop()).is_pending());
        watches.sweep(100, &mut Vec::new());
        let ended = watch.wait(Direction::Read, Waker::noop());
        assert!(matches!(ended, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut));
        assert!(watch.wait(Direction::Write, Waker::noop()).is_pending());
        watch.set(Direction::Read, 200);
        assert!(watch.wait(Direction::Read, Waker::noop()).is_pending());
        watch.clear(Direction::Read);
        watches.sweep(1_000_000, &mut Vec::new());
        assert!(watch.wait(Direction::Read, Waker::noop()).is_pending());
        watches.remove(key);
    }

    #[test]
    fn news_are_used_up_but_an_end_stays_until_it_is_disproved() {
        let watches = Watches::new().unwrap();
        let (key, watch) = watched(&watches);
        watches.tell(key, News { readable: true, ..News::default() });
        assert!(watch.is_ready(Direction::Read) && !watch.is_ready(Direction::Write));
        watch.drained();
        assert!(!watch.is_ready(Direction::Read));
        watches.tell(key, News { ended: true, ..News::default() });
        watch.drained();
        assert!(watch.is_ready(Direction::Read));
        watch.exhausted(Direction::Read);
        assert!(!watch.is_ready(Direction::Read));
    }

    #[test]
    fn news_of_a_socket_that_is_gone_do_not_reach_its_successor() {
        let watches = Watches::new().unwrap();
        let (first, _) = watched(&watches);
        assert_eq!(Key::from(u64::from(first)), first);
        watches.remove(first);
        let (second, watch) = watched(&watches);
        assert_eq!(first.place, second.place);
        watches.tell(first, News { ended: true, ..News::default() });
        assert!(!watch.is_ready(Direction::Read));
    }

    #[test]
    fn a_sweep_ends_so_many_waits_and_the_next_ones_the_rest() {
        let watches = Watches::new().unwrap();
        let all: Vec<_> = (0..ENDED_MAX + 10).map(|_| watched(&watches).1).collect();
        all.iter().for_each(|watch| watch.set(Direction::Read, 100));
        let ended =
            || all.iter().filter(|watch| watch.wait(Direction::Read, Waker::noop()).is_ready()).count();
        assert!(watches.sweep(100, &mut Vec::new()));
        assert_eq!(ended(), ENDED_MAX);
        assert!(!watches.sweep(100, &mut Vec::new()));
        assert_eq!(ended(), all.len());
    }

    #[test]
    fn nobody_reads_for_ever() {
        let watches = Watches::new().unwrap();
        let (key, watch) = watched(&watches);
        let reads =
            |bytes| (0..).take_while(|_| !watch.turn_is_over()).map(|_| watch.note_read(bytes)).count();
        assert_eq!(reads(1), 16);
        watches.tell(key, News { readable: true, ..News::default() });
        assert_eq!(reads(TURN_BYTES / 2), 2);
        watches.tell(key, News { writable: true, ..News::default() });
        assert_eq!((0..).take_while(|_| !watch.turn_is_over()).map(|_| watch.note_pipelined()).count(), 32);
    }
}
