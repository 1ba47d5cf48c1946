//! Deadlines without timers: every socket has two, a sweep of the shard looks at all of them.
//!
//! Setting a deadline is a store; nothing is armed and nothing cancelled. A few times a second the shard's
//! housekeeping walks the sockets and wakes those whose time is up; their wait then ends with `TimedOut`.
//! A deadline is therefore kept to within one sweep, which is what time-outs of whole seconds need.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    task::{Poll, Waker},
};

use slab::Slab;

/// Which side of a socket is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Read = 0,
    Write = 1,
}

/// Time never comes.
const NEVER: u64 = u64::MAX;

/// The deadlines of one socket.
#[derive(Debug)]
pub(super) struct Watch {
    /// Milliseconds on the monotonic clock, by direction.
    until_ms: [Cell<u64>; 2],
    expired: [Cell<bool>; 2],
    /// Waiting for a first byte that may never come: ends at once when the shard drains.
    idle: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Watch {
    /// Sets a deadline; an earlier one of the same direction is forgotten.
    pub(super) fn set(&self, direction: Direction, until_ms: u64) {
        self.until_ms[direction as usize].set(until_ms);
        self.expired[direction as usize].set(false);
    }

    /// Removes a deadline.
    pub(super) fn clear(&self, direction: Direction) {
        self.set(direction, NEVER);
    }

    /// Says whether the socket waits for a request to begin.
    pub(super) fn set_idle(&self, idle: bool) {
        self.idle.set(idle);
    }

    /// Called by a wait that found nothing: pending, or over because the deadline has passed.
    pub(super) fn pend(&self, direction: Direction, waker: &Waker) -> Poll<io::Result<()>> {
        if self.expired[direction as usize].get() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
        Poll::Pending
    }

    /// Lets go of the task that last waited. For a socket that changes hands.
    pub(super) fn forget_waker(&self) {
        *self.waker.borrow_mut() = None;
    }

    fn expire(&self, direction: Direction) {
        self.until_ms[direction as usize].set(NEVER);
        self.expired[direction as usize].set(true);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// All sockets of a shard.
#[derive(Debug, Default)]
pub(super) struct Watches(RefCell<Slab<Rc<Watch>>>);

impl Watches {
    /// A watch for one more socket, and the key under which to let go of it.
    pub(super) fn add(&self) -> (usize, Rc<Watch>) {
        let watch = Rc::new(Watch {
            until_ms: [Cell::new(NEVER), Cell::new(NEVER)],
            expired: [Cell::new(false), Cell::new(false)],
            idle: Cell::new(false),
            waker: RefCell::new(None),
        });
        (self.0.borrow_mut().insert(Rc::clone(&watch)), watch)
    }

    /// The socket is gone.
    pub(super) fn remove(&self, key: usize) {
        self.0.borrow_mut().remove(key);
    }

    /// Ends every wait whose deadline has passed.
    pub(super) fn sweep(&self, now_ms: u64) {
        for (_, watch) in &*self.0.borrow() {
            for direction in [Direction::Read, Direction::Write] {
                if watch.until_ms[direction as usize].get() <= now_ms {
                    watch.expire(direction);
                }
            }
        }
    }

    /// Ends every wait for a request to begin.
    pub(super) fn expire_idle(&self) {
        for (_, watch) in &*self.0.borrow() {
            if watch.idle.get() {
                watch.expire(Direction::Read);
            }
        }
    }

    /// Ends every wait.
    pub(super) fn expire_all(&self) {
        for (_, watch) in &*self.0.borrow() {
            watch.expire(Direction::Read);
            watch.expire(Direction::Write);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_ends_a_wait_once_it_has_passed() {
        let watches = Watches::default();
        let (key, watch) = watches.add();
        watch.set(Direction::Read, 100);
        watches.sweep(99);
        assert!(watch.pend(Direction::Read, Waker::noop()).is_pending());
        watches.sweep(100);
        let ended = watch.pend(Direction::Read, Waker::noop());
        assert!(matches!(ended, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut));
        assert!(watch.pend(Direction::Write, Waker::noop()).is_pending());
        watch.set(Direction::Read, 200);
        assert!(watch.pend(Direction::Read, Waker::noop()).is_pending());
        watch.clear(Direction::Read);
        watches.sweep(1_000_000);
        assert!(watch.pend(Direction::Read, Waker::noop()).is_pending());
        watches.remove(key);
    }

    #[test]
    fn draining_ends_only_idle_waits() {
        let watches = Watches::default();
        let (_, idle) = watches.add();
        let (_, busy) = watches.add();
        idle.set_idle(true);
        watches.expire_idle();
        assert!(idle.pend(Direction::Read, Waker::noop()).is_ready());
        assert!(busy.pend(Direction::Read, Waker::noop()).is_pending());
        watches.expire_all();
        assert!(busy.pend(Direction::Write, Waker::noop()).is_ready());
    }
}
