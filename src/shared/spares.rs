//! Idle connections to one endpoint that no shard keeps to itself: whoever needs one takes it.
//!
//! A bounded lock-free ring. A connection belongs to whoever holds it: giving and taking hand it over whole, so
//! there is nothing to agree about. Nobody watches one that is in here; who takes it looks at it first, and what
//! has been here too long is swept out.

use std::net::TcpStream;

use crossbeam::queue::ArrayQueue;

/// A connection that waits for a shard.
#[derive(Debug)]
pub struct Spare {
    /// The connection.
    pub stream: TcpStream,
    /// Until when it may wait, in milliseconds on the monotonic clock.
    pub until_ms: u64,
    /// When it has served long enough.
    pub ends_ms: u64,
}

/// The ring of one endpoint.
#[derive(Debug)]
pub struct Spares(Option<ArrayQueue<Spare>>);

impl Spares {
    /// Room for `capacity` connections, which may be none.
    pub fn new(capacity: usize) -> Self {
        Self((capacity > 0).then(|| ArrayQueue::new(capacity)))
    }

    /// For how many there is room.
    pub fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, ArrayQueue::capacity)
    }

    /// How many there are, as of a moment ago.
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(0, ArrayQueue::len)
    }

    /// Leaves a connection here; it is closed if there is no room.
    pub fn give(&self, spare: Spare) {
        if let Some(ring) = &self.0 {
            drop(ring.push(spare));
        }
    }

    /// Takes one that may still wait at `now_ms`; what has waited too long is closed on the way.
    pub fn take(&self, now_ms: u64) -> Option<Spare> {
        let ring = self.0.as_ref()?;
        loop {
            let spare = ring.pop()?;
            if spare.until_ms > now_ms {
                return Some(spare);
            }
        }
    }

    /// Closes those that are not `good`. Looks once at as many as there are.
    pub fn sweep(&self, good: impl Fn(&Spare) -> bool) {
        for _ in 0..self.count() {
            let Some(spare) = self.0.as_ref().and_then(ArrayQueue::pop) else { return };
            if good(&spare) {
                self.give(spare);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        os::{
            fd::{AsRawFd, OwnedFd},
            unix::net::UnixStream,
        },
        sync::Mutex,
        thread,
    };

    use super::*;

    /// A connection, and the other end that notices its close.
    fn spare(until_ms: u64) -> (Spare, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Spare { stream: OwnedFd::from(ours).into(), until_ms, ends_ms: u64::MAX }, theirs)
    }

    fn is_closed(end: &UnixStream) -> bool {
        end.set_nonblocking(true).unwrap();
        matches!(std::io::Read::read(&mut &*end, &mut [0]), Ok(0))
    }

    #[test]
    fn what_has_no_room_or_no_time_is_closed() {
        let spares = Spares::new(2);
        let (all, ends): (Vec<_>, Vec<_>) = [10, 20, 30].map(spare).into_iter().unzip();
        all.into_iter().for_each(|spare| spares.give(spare));
        assert_eq!((spares.count(), is_closed(&ends[0]), is_closed(&ends[2])), (2, false, true));
        let taken = spares.take(10).unwrap();
        assert_eq!((taken.until_ms, is_closed(&ends[0])), (20, true));
        assert!(spares.take(10).is_none());
        spares.give(taken);
        spares.sweep(|spare| spare.until_ms > 20);
        assert_eq!((spares.count(), is_closed(&ends[1])), (0, true));
        Spares::new(0).give(spare(1).0);
        assert!(Spares::new(0).take(0).is_none());
    }

    /// Broken by a connection that two shards hold at once, or that is lost.
    #[test]
    fn each_is_held_by_one() {
        let spares = Spares::new(16);
        let _ends: Vec<_> = (0..8)
            .map(|_| {
                let (spare, end) = spare(u64::MAX);
                spares.give(spare);
                end
            })
            .collect();
        let held = Mutex::new(HashSet::new());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let Some(spare) = spares.take(0) else { continue };
                        let number = spare.stream.as_raw_fd();
                        assert!(held.lock().unwrap().insert(number), "held twice");
                        held.lock().unwrap().remove(&number);
                        spares.give(spare);
                    }
                });
            }
        });
        assert_eq!(spares.count(), 8);
    }
}
