//! A line of requests that wait for something: first come, first served, none for longer than it may, and none whose
//! client has left. `Lines` has one in front of each cluster whose endpoints can be full.

use std::{
    cell::{Cell, RefCell},
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
    /// Who left stands there until the next look: in a long line, to take one out costs as much as to serve it.
    order: RefCell<VecDeque<Place>>,
    /// Those who stand there and have neither left nor been called.
    waiting: Cell<usize>,
    /// Tickets given out so far.
    serial: Cell<u64>,
}

/// Whose turn it is: a ticket, and which of those that were given out under its key.
#[derive(Clone, Copy)]
struct Place {
    key: usize,
    serial: u64,
}

struct Ticket {
    serial: u64,
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
        let key = self.enter(until_ms, waited);
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
            self.waiting.set(self.waiting.get() - 1);
        }
        call
    }

    fn enter(&self, until_ms: u64, first: bool) -> usize {
        let serial = self.serial.get() + 1;
        self.serial.set(serial);
        self.waiting.set(self.waiting.get() + 1);
        let key = self.tickets.borrow_mut().insert(Ticket { serial, until_ms, called: None, waker: None });
        let (place, mut order) = (Place { key, serial }, self.order.borrow_mut());
        if first {
            order.push_front(place);
        } else {
            order.push_back(place);
        }
        key
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.get()
    }

    /// Calls the first; whether anybody waits.
    pub(super) fn call_first(&self) -> bool {
        self.call_next(VecDeque::pop_front)
    }

    /// Calls the last; whether anybody waits.
    pub(super) fn call_last(&self) -> bool {
        self.call_next(VecDeque::pop_back)
    }

    fn call_next(&self, take: impl Fn(&mut VecDeque<Place>) -> Option<Place>) -> bool {
        while let Some(place) = take(&mut self.order.borrow_mut()) {
            if self.waits_until(place).is_some() {
                self.call(place.key, Call::Come);
                return true;
            }
        }
        false
    }

    /// Until when who has this place waits; `None` when it has left.
    fn waits_until(&self, place: Place) -> Option<u64> {
        let tickets = self.tickets.borrow();
        let ticket = tickets.get(place.key).filter(|ticket| ticket.serial == place.serial)?;
        Some(ticket.until_ms)
    }

    /// Sends away those who have waited too long, up to `most`, which is that many less then. They need not have come in
    /// the order in which they go.
    pub(super) fn expire(&self, now_ms: u64, most: &mut u64) {
        let mut order = self.order.borrow_mut();
        order.retain(|&place| {
            let Some(until_ms) = self.waits_until(place) else { return false };
            let waits_on = *most == 0 || until_ms > now_ms;
            if !waits_on {
                *most -= 1;
                self.call(place.key, Call::TooLate);
            }
            waits_on
        });
    }

    /// Tickets that are held.
    #[cfg(test)]
    pub(super) fn tickets(&self) -> usize {
        self.tickets.borrow().len()
    }

    /// Places in line, of those who left as well.
    #[cfg(test)]
    fn places(&self) -> usize {
        self.order.borrow().len()
    }

    fn call(&self, key: usize, call: Call) {
        self.waiting.set(self.waiting.get() - 1);
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
    use crate::shard::watch::{News, Watches};

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
    /// Broken by a line that forgets to let go of who left, or takes who has its ticket now for it.
    #[test]
    fn who_left_is_never_called_and_not_kept() {
        let watches = Watches::new().unwrap();
        let pairs: Vec<_> = (0..2).map(|_| UnixStream::pair().unwrap()).collect();
        let [(leaver_key, leaver), (_, stayer)] = [0, 1].map(|one| watches.add(&pairs[one].0).unwrap());
        let (line, mut context) = (Line::default(), Context::from_waker(Waker::noop()));
        let mut leaves = Box::pin(line.wait(100, false, &leaver));
        assert!(leaves.as_mut().poll(&mut context).is_pending());
        watches.tell(leaver_key, News { ended: true, ..News::default() });
        assert_eq!(leaves.as_mut().poll(&mut context), Poll::Ready(Call::Left));
        assert_eq!((line.len(), line.places()), (0, 1));
        assert!(!line.call_first() && !line.call_last(), "nobody waits");
        // The ticket is given out again, and the place of who had it before is another one.
        let mut leaves = Box::pin(line.wait(100, false, &leaver));
        assert_eq!(leaves.as_mut().poll(&mut context), Poll::Ready(Call::Left));
        let mut stays = pin!(line.wait(100, false, &stayer));
        assert!(stays.as_mut().poll(&mut context).is_pending());
        assert_eq!((line.len(), line.places()), (1, 2));
        line.expire(0, &mut 1);
        assert_eq!((line.len(), line.places()), (1, 1), "a look lets go of who left");
        line.expire(100, &mut 1);
        assert_eq!(stays.as_mut().poll(&mut context), Poll::Ready(Call::TooLate));
        assert_eq!((line.len(), line.places(), line.tickets()), (0, 0, 0));
    }
}
