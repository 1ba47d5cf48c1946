//! The queue in front of a full shard: requests that wait a moment for their turn.
//!
//! Turning a request away costs a shard almost half of what serving it costs, since the kernel's calls are most of either.
//! A shard that is asked for twice what its CPU can do would spend its time on refusals. So while requests are
//! being finished, one that would be served within `timeouts.queue` at that rate waits for its turn, its
//! head unanswered in its buffer; when nothing gets on, or too many wait, it is turned away at once as ever.
//!
//! When it is the CPU that is short, every refusal is taken from those that are served, and with enough clients that come
//! again at once nothing else is done: such a shard lets all wait that it has buffers for, and turns away one, the one
//! that has waited longest and too long, for so many that it serves.
//!
//! Critical routes have a line of their own and go first. First come, first served, as long as they wait: when clients
//! leave, the newest goes first, for one about to leave is served for nothing. Whoever leaves loses its place in line at
//! once.

use std::cell::Cell;

use crate::stage::headroom::{Ceilings, Priority};

use super::{
    line::{Call, Line},
    watch::Watch,
};

/// Requests that a shard short of CPU serves for one that it turns away: with refusals at half the cost of serving, they take
/// a seventeenth of it.
const SERVED_FOR_A_REFUSAL: u64 = 8;
/// A round with less than this share of it idle is one of a shard that is short of CPU, in percent.
const IDLE_PERCENT: u64 = 10;

/// Who waits, and how the shard gets on.
#[derive(Default)]
pub(super) struct Queue {
    /// Those who wait: for normal routes, for critical ones.
    lines: [Line; 2],
    /// Places of those who were called and have not come yet.
    promised: Cell<u64>,
    /// Requests finished since the last round, and from the round before to that.
    finished: Cell<u64>,
    finished_before: Cell<u64>,
    /// Clients that left the line since the last round.
    left: Cell<u64>,
    /// Microseconds since the last round in which the shard had nothing to do, and when that was.
    idle_us: Cell<u64>,
    looked_ms: Cell<u64>,
    /// What the last round found: that the CPU is short, and that clients leave.
    is_pressed: Cell<bool>,
    clients_leave: Cell<bool>,
}

impl Queue {
    /// Whether one more of `priority` would have its turn within `timeout_ms`, if requests go on being finished as they
    /// were in the last round, which took `round_ms`; or whether turning it away would be the greater loss.
    pub(super) fn is_worth_it(&self, priority: Priority, timeout_ms: u64, round_ms: u64) -> bool {
        let ahead = self.lines[priority as usize].len() as u64;
        let rate = self.finished_before.get().max(self.finished.get());
        ahead < rate * timeout_ms / round_ms || self.is_pressed.get() && timeout_ms > 0
    }

    /// Waits for a turn, until `until_ms` or until the client whose socket is watched by `client` leaves. For who comes
    /// there is a place, kept until [`Queue::take_place`].
    pub(super) async fn turn(&self, priority: Priority, until_ms: u64, client: &Watch) -> Call {
        let call = self.lines[priority as usize].wait(until_ms, false, client).await;
        if call == Call::Left {
            self.left.set(self.left.get() + 1);
        }
        call
    }

    /// Places that are kept for those who were called.
    pub(super) fn promised(&self) -> u64 {
        self.promised.get()
    }

    /// How many wait.
    pub(super) fn length(&self) -> usize {
        self.lines.iter().map(Line::len).sum()
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
            let line = &self.lines[priority as usize];
            let is_called = if self.clients_leave.get() { line.call_last() } else { line.call_first() };
            if is_called {
                self.promised.set(self.promised.get() + 1);
                return;
            }
        }
    }

    /// The shard had nothing to do for so long.
    pub(super) fn note_idle(&self, idle_us: u64) {
        self.idle_us.set(self.idle_us.get() + idle_us);
    }

    /// Looks, once a round, after those who have waited too long and how the shard gets on.
    pub(super) fn look(&self, now_ms: u64) {
        let finished = self.finished.replace(0);
        self.finished_before.set(finished);
        let round_us = (now_ms - self.looked_ms.replace(now_ms)) * 1_000;
        let is_busy = self.idle_us.replace(0) * 100 < round_us * IDLE_PERCENT;
        self.is_pressed.set(is_busy && finished > 0);
        self.clients_leave.set(self.left.replace(0) * SERVED_FOR_A_REFUSAL > finished);
        let mut refusals = if self.is_pressed.get() { finished / SERVED_FOR_A_REFUSAL + 1 } else { u64::MAX };
        for line in &self.lines {
            line.expire(now_ms, &mut refusals);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        os::unix::net::UnixStream,
        pin::pin,
        rc::Rc,
        task::{Context, Poll, Waker},
    };

    use super::*;
    use crate::shard::watch::{Key, News, Watches};

    const CEILINGS: Ceilings = Ceilings { in_flight: 10, critical_percent: 10 };

    fn watched() -> (Watches, Rc<Watch>) {
        let watches = Watches::new().unwrap();
        let (_, watch) = watches.add(UnixStream::pair().unwrap().0).unwrap();
        (watches, watch)
    }

    fn two(watches: &Watches) -> [(Key, Rc<Watch>); 2] {
        let (one, other) = UnixStream::pair().unwrap();
        [watches.add(one).unwrap(), watches.add(other).unwrap()]
    }

    fn tickets(queue: &Queue) -> usize {
        queue.lines.iter().map(Line::tickets).sum()
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
        assert_eq!((first.as_mut().poll(&mut context), queue.promised()), (Poll::Ready(Call::Come), 1));
        // One place, and it is promised.
        queue.call_next(&CEILINGS, 8);
        assert!(second.as_mut().poll(&mut context).is_pending());
        queue.take_place();
        queue.look(599);
        assert!(second.as_mut().poll(&mut context).is_pending());
        queue.look(600);
        assert_eq!((second.as_mut().poll(&mut context), queue.promised()), (Poll::Ready(Call::TooLate), 0));
        assert!(!queue.is_worth_it(Priority::Normal, 200, 100), "a round without an end");
        assert_eq!((queue.length(), tickets(&queue)), (0, 0));
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
        assert_eq!(critical.as_mut().poll(&mut context), Poll::Ready(Call::Come));
    }

    #[test]
    fn who_leaves_loses_the_place_in_line_and_others_move_up() {
        let queue = Queue::default();
        let watches = Watches::new().unwrap();
        let [(key, leaver), (_, stayer)] = two(&watches);
        let mut context = Context::from_waker(Waker::noop());
        let mut first = pin!(queue.turn(Priority::Normal, 500, &leaver));
        let mut second = pin!(queue.turn(Priority::Normal, 500, &stayer));
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        watches.tell(key, News { readable: true, ..News::default() });
        assert!(first.as_mut().poll(&mut context).is_pending(), "the next request, not the end");
        watches.tell(key, News { ended: true, ..News::default() });
        assert_eq!(first.as_mut().poll(&mut context), Poll::Ready(Call::Left));
        assert_eq!(queue.length(), 1);
        queue.call_next(&CEILINGS, 8);
        assert_eq!((second.as_mut().poll(&mut context), queue.promised()), (Poll::Ready(Call::Come), 1));
        assert_eq!((queue.length(), tickets(&queue)), (0, 0));
    }

    #[test]
    fn a_shard_short_of_cpu_lets_all_wait_and_turns_away_a_few() {
        let (queue, (_, client)) = (Queue::default(), watched());
        let mut context = Context::from_waker(Waker::noop());
        queue.look(1_000);
        (0..16).for_each(|_| queue.note_finished());
        queue.note_idle(9_999);
        queue.look(1_100);
        let mut waiting: Vec<_> =
            (0..40).map(|_| Box::pin(queue.turn(Priority::Normal, 1_150, &client))).collect();
        for one in &mut waiting {
            assert!(one.as_mut().poll(&mut context).is_pending());
        }
        assert!(queue.is_worth_it(Priority::Normal, 200, 100), "40 are more than two rounds serve");
        assert!(!queue.is_worth_it(Priority::Normal, 0, 100), "nobody shall ever wait");
        (0..16).for_each(|_| queue.note_finished());
        queue.note_idle(9_999);
        queue.look(1_200);
        assert_eq!(queue.length(), 37, "16 pay for two, and one is always told");
        (0..16).for_each(|_| queue.note_finished());
        queue.note_idle(10_000);
        queue.look(1_300);
        assert_eq!(queue.length(), 0, "refusals cost nothing that is short");
        assert!(queue.is_worth_it(Priority::Normal, 200, 100));
    }

    #[test]
    fn when_clients_leave_the_newest_goes_first() {
        let queue = Queue::default();
        let watches = Watches::new().unwrap();
        let [(key, leaver), (_, stayer)] = two(&watches);
        let mut context = Context::from_waker(Waker::noop());
        let mut leaves = pin!(queue.turn(Priority::Normal, 500, &leaver));
        let mut oldest = pin!(queue.turn(Priority::Normal, 500, &stayer));
        let mut newest = pin!(queue.turn(Priority::Normal, 500, &stayer));
        for one in [leaves.as_mut(), oldest.as_mut(), newest.as_mut()] {
            assert!(one.poll(&mut context).is_pending());
        }
        watches.tell(key, News { ended: true, ..News::default() });
        assert_eq!(leaves.as_mut().poll(&mut context), Poll::Ready(Call::Left));
        queue.look(100);
        queue.call_next(&CEILINGS, 8);
        assert!(oldest.as_mut().poll(&mut context).is_pending());
        assert_eq!(newest.as_mut().poll(&mut context), Poll::Ready(Call::Come));
        queue.take_place();
        queue.look(200);
        queue.call_next(&CEILINGS, 8);
        assert_eq!(oldest.as_mut().poll(&mut context), Poll::Ready(Call::Come));
    }
}
