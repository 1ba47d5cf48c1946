//! Which snapshot a shard goes by.
//!
//! Control publishes a new one at any time; a shard takes it up between two requests, or on its next round
//! when there are none. An exchange keeps the one it was decided by to its end. Asking costs a load and a
//! comparison: the count of the shared pointer, which all shards would fight over, is touched only by a change.

use std::{cell::RefCell, ops::Deref, rc::Rc, sync::Arc};

use arc_swap::{ArcSwap, Cache};

use crate::stage::snapshot::Snapshot;

/// A snapshot that this shard has taken up.
pub(super) struct Taken(Arc<Snapshot>);

impl Deref for Taken {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

/// A shard's view of what control publishes.
pub(super) struct InForce {
    published: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    current: RefCell<Rc<Taken>>,
}

impl InForce {
    pub(super) fn new(published: Arc<ArcSwap<Snapshot>>) -> Self {
        let current = Rc::new(Taken(published.load_full()));
        Self { published: RefCell::new(Cache::new(published)), current: RefCell::new(current) }
    }

    /// The snapshot this shard goes by.
    pub(super) fn current(&self) -> Rc<Taken> {
        Rc::clone(&self.current.borrow())
    }

    /// Goes by the newest from here on. It is returned if it is another one than before.
    pub(super) fn advance(&self) -> Option<Rc<Taken>> {
        let mut published = self.published.borrow_mut();
        let newest = published.load();
        let mut current = self.current.borrow_mut();
        if Arc::ptr_eq(newest, &current.0) {
            return None;
        }
        *current = Rc::new(Taken(Arc::clone(newest)));
        Some(Rc::clone(&current))
    }
}
