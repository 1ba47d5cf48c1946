//! What a shard does besides requests: ten times a second it looks at deadlines, pools, clocks and phases.
//!
//! The shard's main future. It starts the accept loops and ends when the process drains and the last
//! connection is gone. The only timer of the shard ticks here.

use std::{rc::Rc, time::Duration};

use monoio::io::Canceller;

use crate::shared::lifecycle::Phase;

use super::{
    Shard,
    accept::{self, Listener},
    readiness,
};

/// Between two looks. Time-outs are kept to within one of these.
const TICK: Duration = Duration::from_millis(100);
/// Pooled connections are looked at every so many ticks.
const POOL_TICKS: u32 = 10;

/// Accepts on `listeners` and keeps house until everything is drained.
pub(super) async fn run(shard: &Rc<Shard>, listeners: Vec<Listener>) {
    let canceller = Canceller::new();
    let loops: Vec<_> = listeners
        .into_iter()
        .map(|listener| monoio::spawn(accept::run(Rc::clone(shard), listener, canceller.handle())))
        .collect();
    let news = Rc::clone(shard);
    monoio::spawn(async move {
        let ended = readiness::run(news).await;
        // Without news nothing on this shard can go on: the supervisor shall start a new process.
        panic!("the shard's readiness set failed: {ended:?}");
    });
    let mut accepting = Some((canceller, loops));
    let mut ticks = 0_u32;
    let mut overdue = Vec::new();
    loop {
        shard.clock.follow_wall_clock();
        let now = shard.clock.now();
        write_date(&mut shard.date.borrow_mut(), now.unix_us / 1_000_000);
        shard.watches.sweep(now.monotonic_ms(), &mut overdue);
        for place in overdue.drain(..) {
            drop(shard.lobby.leave(place));
        }
        if ticks.is_multiple_of(POOL_TICKS) {
            shard.pools.borrow_mut().retire(shard, now.monotonic_ms());
        }
        shard.meters().blocks.set(shard.buffers.rented() as u64);
        let phase = shard.lifecycle.phase();
        if phase >= Phase::Draining {
            if let Some((canceller, loops)) = accepting.take() {
                shard.draining.set(true);
                canceller.cancel();
                // A shard without connections must not end before its listeners are closed and what waited
                // in their queues is counted among its connections.
                for accepting in loops {
                    accepting.await;
                }
                shard.pools.borrow_mut().clear(shard);
            }
            // Connections fall idle one by one as their requests finish.
            shard.lobby.clear();
            if shard.connections.get() == 0 {
                return;
            }
        }
        if phase == Phase::Cutting {
            shard.watches.expire_all();
        }
        ticks = ticks.wrapping_add(1);
        monoio::time::sleep(TICK).await;
    }
}

/// Writes the time as an IMF-fixdate (RFC 9110 section 5.6.7).
fn write_date(date: &mut [u8; 29], unix_s: u64) {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(unix_s);
    let text = httpdate::fmt_http_date(time);
    if let Ok(text) = text.as_bytes().try_into() {
        *date = text;
    }
}
