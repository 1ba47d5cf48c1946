//! The queue in front of a full shard: requests that wait a moment for their turn.
//!
//! Turning a request away costs a shard almost half of what serving it costs, since the kernel's calls are most of either.
//! A shard that is asked for twice what its CPU can do would spend its time on refusals. So while requests are
//! being finished, one that would be served within `timeouts.queue` at that rate waits for its turn, its
//! head unanswered in its buffer; when nothing gets on, or too many wait, it is turned away at once as ever.
//! Critical routes have a line of their own and go first. Whoever leaves loses its place in line at once: what nobody
//! waits for any more is not worth serving. At most as many wait as have buffers.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    task::{Poll, Waker},
};

use slab::Slab;

use crate::stage::headroom::{Ceilings, Priority};

use super::watch::Watch;

/// Who waits, and how the shard gets on.
#[derive(Default)]
pub(super) struct Queue {
    tickets: RefCell<Slab<Ticket>>,
    /// Tickets of those who wait, the first to come at the front: normal routes, critical routes.
    lines: [RefCell<VecDeque<usize>>; 2],
    /// Places of those who were called and have not come yet.
    promised: Cell<u64>,
    /// Requests finished since the last round, and from the round before to that.
    finished: Cell<u64>,
    finished_before: Cell<u64>,
}

/// One who waits.
struct Ticket {
    until_ms: u64,
    called: Option<Turn>,
    waker: Option<Waker>,
}

/// What waiting comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is a place, kept until [`Queue::take_place`].
    Come,
    /// It took too long.
    TooLate,
    /// The client did not wait for it.
    Left,
}

impl Queue {
    /// Whether one more of `priority` would have its turn within `timeout_ms`, if requests go on being finished as they
    /// were in the last round, which took `round_ms`.
    pub(super) fn is_worth_it(&self, priority: Priority, timeout_ms: u64, round_ms: u64) -> bool {
        let ahead = self.lines[priority as usize].borrow().len() as u64;
        let rate = self.finished_before.get().max(self.finished.get());
        ahead < rate * timeout_ms / round_ms
    }

    /// Waits for a turn, until `until_ms` or until the client whose socket is watched by `client` leaves.
    pub(super) async fn turn(&self, priority: Priority, until_ms: u64, client: &Watch) -> Turn {
        let key = self.tickets.borrow_mut().insert(Ticket { until_ms, called: None, waker: None });
        self.lines[priority as usize].borrow_mut().push_back(key);
        let turn = poll_fn(|context| {
            let mut tickets = self.tickets.borrow_mut();
            let ticket = &mut tickets[key];
            match ticket.called {
                Some(turn) => Poll::Ready(turn),
                None if client.wait_for_end(context.waker()).is_ready() => Poll::Ready(Turn::Left),
                None => {
                    ticket.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
        self.tickets.borrow_mut().remove(key);
        if turn == Turn::Left {
            let mut line = self.lines[priority as usize].borrow_mut();
            // A walk along the line is cheap beside the close that follows.
            if let Some(place) = line.iter().position(|&waiting| waiting == key) {
                line.remove(place);
            }
        }
        turn
    }

    /// Places that are kept for those who were called.
    pub(super) fn promised(&self) -> u64 {
        self.promised.get()
    }

    /// How many wait.
    pub(super) fn length(&self) -> usize {
        self.lines.iter().map(|line| line.borrow().len()).sum()
    }

    /// Who was called has come: what was kept for it is free, for it to take.
    pub(super) fn take_place(&self) {
        self.promised.set(self.promised.get() - 1);
    }

    /// A request that had a place is finished: the shard gets on.
    pub(super) fn note_finished(&self) {
        self.finished.set(self.finished.get() + 1);
    }

    /// One less is in flight or has a place kept for it, and `in_flight` still are: calls who comes next, if there is room.
    pub(super) fn call_next(&self, ceilings: &Ceilings, in_flight: u64) {
        for priority in [Priority::Critical, Priority::Normal] {
            if ceilings.is_full(priority, in_flight + self.promised.get()) {
                continue;
            }
            let next = self.lines[priority as usize].borrow_mut().pop_front();
            if let Some(next) = next {
                self.promised.set(self.promised.get() + 1);
                self.call(next, Turn::Come);
                return;
            }
        }
    }

    /// Looks, once a round, after those who have waited too long and how the shard gets on.
    pub(super) fn look(&self, now_ms: u64) {
        self.finished_before.set(self.finished.replace(0));
        for line in &self.lines {
            let mut line = line.borrow_mut();
            while line.front().is_some_and(|&first| self.tickets.borrow()[first].until_ms <= now_ms) {
                if let Some(first) = line.pop_front() {
                    self.call(first, Turn::TooLate);
                }
            }
        }
    }

    fn call(&self, key: usize, turn: Turn) {
        let ticket = &mut self.tickets.borrow_mut()[key];
        ticket.called = Some(turn);
        if let Some(waker) = ticket.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, os::unix::net::UnixStream, pin::pin, rc::Rc, task::Context};

    use super::*;
    use crate::shard::watch::{News, Watches};

    const CEILINGS: Ceilings = Ceilings { in_flight: 10, critical_percent: 10 };

    fn watched() -> (Watches, Rc<Watch>) {
        let watches = Watches::new().unwrap();
        let (_, watch) = watches.add(UnixStream::pair().unwrap().0).unwrap();
        (watches, watch)
    }

    #[test]
    fn who_waits_is_called_in_order_and_the_place_is_kept() {
        let (queue, (_, client)) = (Queue::default(), watched());
        assert!(!queue.is_worth_it(Priority::Normal, 200, 100), "nothing gets on");
        queue.note_finished();
        assert!(queue.is_worth_it(Priority::Normal, 200, 100));
        let mut context = Context::from_waker(Waker::noop());
        let mut first = pin!(queue.turn(Priority::Normal, 500, &client));
        let mut second = pin!(queue.turn(Priority::Normal, 600, &client));
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(!queue.is_worth_it(Priority::Normal, 200, 100), "two are as many as two rounds serve");
        assert!(queue.is_worth_it(Priority::Critical, 200, 100));
        // The last place of ten is for critical routes.
        queue.call_next(&CEILINGS, 9);
        assert!(first.as_mut().poll(&mut context).is_pending());
        queue.call_next(&CEILINGS, 8);
        assert_eq!((first.as_mut().poll(&mut context), queue.promised()), (Poll::Ready(Turn::Come), 1));
        // One place, and it is promised.
        queue.call_next(&CEILINGS, 8);
        assert!(second.as_mut().poll(&mut context).is_pending());
        queue.take_place();
        queue.look(599);
        assert!(second.as_mut().poll(&mut context).is_pending());
        queue.look(600);
        assert_eq!((second.as_mut().poll(&mut context), queue.promised()), (Poll::Ready(Turn::TooLate), 0));
        assert!(!queue.is_worth_it(Priority::Normal, 200, 100), "a round without an end");
        assert_eq!((queue.length(), queue.tickets.borrow().len()), (0, 0));
    }

    #[test]
    fn critical_routes_go_first_and_to_the_last_place() {
        let (queue, (_, client)) = (Queue::default(), watched());
        let mut context = Context::from_waker(Waker::noop());
        let mut normal = pin!(queue.turn(Priority::Normal, 500, &client));
        let mut critical = pin!(queue.turn(Priority::Critical, 500, &client));
        assert!(normal.as_mut().poll(&mut context).is_pending());
        assert!(critical.as_mut().poll(&mut context).is_pending());
        queue.call_next(&CEILINGS, 10);
        assert!(critical.as_mut().poll(&mut context).is_pending());
        queue.call_next(&CEILINGS, 9);
        assert!(normal.as_mut().poll(&mut context).is_pending());
        assert_eq!(critical.as_mut().poll(&mut context), Poll::Ready(Turn::Come));
    }
    #[test]
    fn who_leaves_loses_the_place_in_line_and_others_move_up() {
        let queue = Queue::default();
        let watches = Watches::new().unwrap();
        let (one, other) = UnixStream::pair().unwrap();
        let (key, leaver) = watches.add(&one).unwrap();
        let (_, stayer) = watches.add(&other).unwrap();
        let mut context = Context::from_waker(Waker::noop());
        let mut first = pin!(queue.turn(Priority::Normal, 500, &leaver));
        let mut second = pin!(queue.turn(Priority::Normal, 500, &stayer));
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        watches.tell(key, News { readable: true, ..News::default() });
        assert!(first.as_mut().poll(&mut context).is_pending(), "the next request, not the end");
        watches.tell(key, News { ended: true, ..News::default() });
        assert_eq!(first.as_mut().poll(&mut context), Poll::Ready(Turn::Left));
        assert_eq!(queue.length(), 1);
        queue.call_next(&CEILINGS, 8);
        assert_eq!((second.as_mut().poll(&mut context), queue.promised()), (Poll::Ready(Turn::Come), 1));
        assert_eq!((queue.length(), queue.tickets.borrow().len()), (0, 0));
    }
}
