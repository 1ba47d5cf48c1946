//! A line of requests that wait for something: first come, first served, none for longer than it may, and none whose
//! client has left. `Lines` has one in front of each cluster whose endpoints can be full.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

use slab::Slab;

use super::watch::Watch;

/// Who waits, the first to come at the front.
#[derive(Default)]
pub(super) struct Line {
    tickets: RefCell<Slab<Ticket>>,
    order: RefCell<VecDeque<usize>>,
}

struct Ticket {
    until_ms: u64,
    called: Option<Call>,
    waker: Option<Waker>,
}

/// What waiting comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// What was waited for is there, or may be.
    Come,
    /// It took too long.
    TooLate,
    /// The client did not wait for it.
    Left,
}

impl Line {
    /// Waits to be called, until `until_ms` or until the client whose socket is watched by `client` leaves. Who has
    /// `waited` before and was called in vain is the first again.
    pub(super) async fn wait(&self, until_ms: u64, waited: bool, client: &Watch) -> Call {
        let key = self.tickets.borrow_mut().insert(Ticket { until_ms, called: None, waker: None });
        self.enter(key, waited);
        let call = poll_fn(|context| {
            let mut tickets = self.tickets.borrow_mut();
            let ticket = &mut tickets[key];
            match ticket.called {
                Some(call) => Poll::Ready(call),
                None if client.wait_for_end(context.waker()).is_ready() => Poll::Ready(Call::Left),
                None => {
                    ticket.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
        self.tickets.borrow_mut().remove(key);
        if call == Call::Left {
            self.order.borrow_mut().retain(|&waiting| waiting != key);
        }
        call
    }

    fn enter(&self, key: usize, first: bool) {
        let mut order = self.order.borrow_mut();
        if first {
            order.push_front(key);
        } else {
            order.push_back(key);
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.order.borrow().len()
    }

    /// Calls the first; whether anybody waits.
    pub(super) fn call_first(&self) -> bool {
        let first = self.order.borrow_mut().pop_front();
        self.call_if(first)
    }

    /// Calls the last.
    pub(super) fn call_last(&self) -> bool {
        let last = self.order.borrow_mut().pop_back();
        self.call_if(last)
    }

    fn call_if(&self, key: Option<usize>) -> bool {
        key.inspect(|&key| self.call(key, Call::Come)).is_some()
    }

    /// Sends away those who have waited too long, up to `most`, which is that many less then. They need not have come in
    /// the order in which they go.
    pub(super) fn expire(&self, now_ms: u64, most: &mut u64) {
        let mut order = self.order.borrow_mut();
        order.retain(|&key| {
            let waits_on = *most == 0 || self.tickets.borrow()[key].until_ms > now_ms;
            if !waits_on {
                *most -= 1;
                self.call(key, Call::TooLate);
            }
            waits_on
        });
    }

    /// Tickets that are held.
    #[cfg(test)]
    pub(super) fn tickets(&self) -> usize {
        self.tickets.borrow().len()
    }

    fn call(&self, key: usize, call: Call) {
        let ticket = &mut self.tickets.borrow_mut()[key];
        ticket.called = Some(call);
        if let Some(waker) = ticket.waker.take() {
            waker.wake();
        }
    }
}

/// Lines in front of clusters, by the place of the cluster. A new configuration may move a cluster; who is called by
/// mistake tries in vain and waits on.
#[derive(Default)]
pub(super) struct Lines(RefCell<Vec<Rc<Line>>>);

impl Lines {
    /// The one in front of the cluster at `place`.
    pub(super) fn of(&self, place: u16) -> Rc<Line> {
        let mut lines = self.0.borrow_mut();
        if lines.len() <= usize::from(place) {
            lines.resize_with(usize::from(place) + 1, Default::default);
        }
        Rc::clone(&lines[usize::from(place)])
    }

    /// Somebody has left the cluster at `place`: whoever is the first in front of it tries.
    pub(super) fn call_first(&self, place: u16) {
        if let Some(line) = self.0.borrow().get(usize::from(place)) {
            line.call_first();
        }
    }

    /// Sends away those who have waited too long; the first of each line tries, because a place that another shard gave
    /// back is told of nowhere else.
    pub(super) fn look(&self, now_ms: u64) {
        for line in &*self.0.borrow() {
            let mut all = u64::MAX;
            line.expire(now_ms, &mut all);
            line.call_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, os::unix::net::UnixStream, pin::pin, task::Context};

    use super::*;
    use crate::shard::watch::Watches;

    /// Broken by a line that forgets who was first, that keeps those who left, or that holds anybody for longer.
    #[test]
    fn in_order_in_time_and_not_for_ever() {
        let watches = Watches::new().unwrap();
        let (_, client) = watches.add(UnixStream::pair().unwrap().0).unwrap();
        let (lines, mut context) = (Lines::default(), Context::from_waker(Waker::noop()));
        let line = lines.of(3);
        lines.call_first(7);
        let mut first = pin!(line.wait(100, false, &client));
        let mut second = pin!(line.wait(50, false, &client));
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        lines.call_first(3);
        assert_eq!(first.as_mut().poll(&mut context), Poll::Ready(Call::Come));
        assert!(second.as_mut().poll(&mut context).is_pending());
        let mut again = pin!(line.wait(100, true, &client));
        assert!(again.as_mut().poll(&mut context).is_pending());
        lines.look(49);
        assert_eq!(again.as_mut().poll(&mut context), Poll::Ready(Call::Come), "it was the first");
        assert!(second.as_mut().poll(&mut context).is_pending());
        lines.look(50);
        assert_eq!(second.as_mut().poll(&mut context), Poll::Ready(Call::TooLate));
        assert_eq!((line.tickets(), line.len()), (0, 0));
    }
}
