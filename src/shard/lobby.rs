//! Connections that wait for a request to begin: no task, no buffer, a few hundred bytes each.
//!
//! A connection is parked when its last answer is out and nothing more has come, and leaves when there is
//! news about its socket, when it has waited too long, or when the shard drains.

use std::cell::RefCell;

use slab::Slab;

use super::{connection::Downstream, watch::Direction};

/// The parked connections of a shard; at most as many as the shard may have connections.
#[derive(Default)]
pub(super) struct Lobby(RefCell<Slab<Downstream>>);

/// Where a connection is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Lobby {
    /// Parks `downstream` until `until_ms` on the monotonic clock. Gives it back at once if there is
    /// something to read already.
    pub(super) fn park(&self, downstream: Downstream, until_ms: u64) -> Option<Downstream> {
        let watch = downstream.socket.watch();
        if watch.is_ready(Direction::Read) {
            return Some(downstream);
        }
        watch.forget_waker();
        watch.set(Direction::Read, until_ms);
        let mut parked = self.0.borrow_mut();
        let vacant = parked.vacant_entry();
        // A shard has fewer connections than that.
        let Ok(place) = u32::try_from(vacant.key()) else { return Some(downstream) };
        watch.set_parked(Some(Place(place)));
        vacant.insert(downstream);
        None
    }

    /// The connection that is parked at `place`, which leaves.
    pub(super) fn leave(&self, place: Place) -> Option<Downstream> {
        let downstream = self.0.borrow_mut().try_remove(place.0 as usize)?;
        downstream.socket.watch().set_parked(None);
        downstream.socket.watch().clear(Direction::Read);
        Some(downstream)
    }

    /// Closes everything that is parked.
    pub(super) fn clear(&self) {
        let parked = std::mem::take(&mut *self.0.borrow_mut());
        drop(parked);
    }
}
