//! What a shard does besides requests: ten times a second it looks at deadlines, pools, clocks and phases.
//!
//! The shard's main future. It starts the accept loops and ends when the process drains and the last
//! connection is gone. The only timer of the shard ticks here.

use std::{rc::Rc, time::Duration};

use monoio::net::UnixStream;

use crate::shared::lifecycle::Phase;

use super::{
    Shard,
    accept::{self, Listener},
    lobby::Place,
    readiness,
};

/// Between two looks, in milliseconds. Time-outs are kept to within one of these.
pub(super) const TICK_MS: u64 = 100;
const TICK: Duration = Duration::from_millis(TICK_MS);
/// Deadlines are looked at so many times a tick where routes ask for that.
const FINE_TICKS: u32 = 10;
/// Between two rounds when the first left deadlines behind.
const CATCHING_UP: Duration = Duration::from_millis(1);
/// Pooled connections are looked at every so many ticks.
const POOL_TICKS: u32 = 10;

/// Accepts on `listeners` and keeps house until everything is drained. `set` is the shard's readiness set.
pub(super) async fn run(shard: &Rc<Shard>, listeners: Vec<Rc<Listener>>, set: UnixStream) {
    let loops: Vec<_> = listeners
        .iter()
        .map(|listener| monoio::spawn(accept::run(Rc::clone(shard), Rc::clone(listener))))
        .collect();
    let news = Rc::clone(shard);
    monoio::spawn(async move {
        let ended = readiness::run(news, set).await;
        // Without news nothing on this shard can go on: the supervisor shall start a new process.
        panic!("the shard's readiness set failed: {ended:?}");
    });
    if let Some(auditor) = &shard.auditor {
        monoio::spawn(Rc::clone(auditor).run());
        monoio::spawn(Rc::clone(auditor).ring());
    }
    let mut accepting = Some((listeners, loops));
    let mut rounds = Rounds::default();
    loop {
        let phase = rounds.look(shard);
        if phase >= Phase::Parting {
            if let Some((listeners, loops)) = accepting.take() {
                shard.draining.set(true);
                listeners.iter().for_each(|listener| listener.stop());
                // A shard without connections must not end before its listeners are closed and what waited
                // in their queues is counted among its connections.
                for accepting in loops {
                    accepting.await;
                }
                shard.pools.borrow_mut().clear(shard);
            }
            if wind_up(shard, phase) {
                return;
            }
        }
        if rounds.is_behind {
            monoio::time::sleep(CATCHING_UP).await;
        } else if shard.in_force.current().is_fine {
            for _ in 0..FINE_TICKS {
                monoio::time::sleep(TICK / FINE_TICKS).await;
                rounds.sweep(shard);
            }
        } else {
            monoio::time::sleep(TICK).await;
        }
    }
}

/// The rounds of a shard through its own house.
#[derive(Default)]
pub(super) struct Rounds {
    made: u32,
    /// More deadlines have passed than the last round dealt with.
    is_behind: bool,
    /// Parked connections whose time is up; empty between rounds.
    overdue: Vec<Place>,
}

impl Rounds {
    /// Ends the waits whose time is up.
    fn sweep(&mut self, shard: &Shard) {
        let now_ms = shard.clock.now().monotonic_ms();
        shard.lines.look(now_ms);
        self.is_behind = shard.watches.sweep(now_ms, &mut self.overdue);
        for place in self.overdue.drain(..) {
            drop(shard.lobby.leave(place));
        }
    }

    /// Makes one: clocks, deadlines, pools, counters. Says which phase the process is in.
    pub(super) fn look(&mut self, shard: &Shard) -> Phase {
        shard.clock.follow_wall_clock();
        // A shard that is asked nothing lets go of the old configuration too.
        shard.snapshot();
        let now = shard.note_idle();
        write_date(&mut shard.date.borrow_mut(), now.unix_us / 1_000_000);
        shard.queue.look(now.monotonic_ms());
        self.sweep(shard);
        match shard.turned_away.replace(0) {
            0 => {}
            count => shard.watches.make_room(now.monotonic_ms(), count),
        }
        shard.pools.borrow_mut().share(shard, now.monotonic_ms());
        if self.made.is_multiple_of(POOL_TICKS) {
            shard.pools.borrow_mut().retire(shard, now.monotonic_ms());
        }
        shard.samples.refill();
        shard.meters().queued.set(shard.queue.length() as u64);
        if let Some(auditor) = &shard.auditor {
            auditor.sweep(now.monotonic_ms());
        }
        shard.meters().blocks.set(shard.buffers.rented() as u64);
        self.made = self.made.wrapping_add(1);
        shard.lifecycle.phase()
    }
}

/// Closes what a draining shard no longer needs, when it accepts nothing more. Whether nothing is left.
pub(super) fn wind_up(shard: &Shard, phase: Phase) -> bool {
    if phase >= Phase::Draining {
        // Connections fall idle one by one as their requests finish.
        shard.lobby.clear();
    }
    if shard.connections.get() == 0 {
        return true;
    }
    if phase == Phase::Cutting {
        shard.watches.expire_all();
        if let Some(auditor) = &shard.auditor {
            auditor.give_up();
        }
    }
    false
}

/// Writes the time as an IMF-fixdate (RFC 9110 section 5.6.7).
fn write_date(date: &mut [u8; 29], unix_s: u64) {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(unix_s);
    let text = httpdate::fmt_http_date(time);
    if let Ok(text) = text.as_bytes().try_into() {
        *date = text;
    }
}
