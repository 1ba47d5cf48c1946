//! The snapshots that records may still refer to: the one in force, and those whose exchanges have not ended.
//!
//! Control adds a snapshot before any shard can see it; the writer forgets one once nobody else has it and
//! the rings have been emptied after that, so that no record of it can come any more.

use std::sync::{Arc, Mutex, PoisonError};

use crate::stage::snapshot::Snapshot;

/// Shared by control and the writer.
#[derive(Clone, Debug)]
pub struct Generations(Arc<Mutex<Vec<Arc<Snapshot>>>>);

impl Generations {
    pub(super) fn new(first: Arc<Snapshot>) -> Self {
        Self(Arc::new(Mutex::new(vec![first])))
    }

    /// Knows the names of `snapshot` from here on. To be called before a shard can see it.
    pub fn add(&self, snapshot: Arc<Snapshot>) {
        self.lock().push(snapshot);
    }

    /// The one numbered `generation`, as long as it is known.
    pub(super) fn find(&self, generation: u64) -> Option<Arc<Snapshot>> {
        self.lock().iter().find(|snapshot| snapshot.generation == generation).cloned()
    }

    /// Numbers of the snapshots that nobody else holds: no shard can write another record of them.
    pub(super) fn abandoned(&self) -> Vec<u64> {
        let mut snapshots = self.lock();
        // Asking for exclusive use also makes visible what the last holder wrote before it let go.
        let abandoned =
            snapshots.iter_mut().filter_map(|snapshot| Arc::get_mut(snapshot).map(|own| own.generation));
        abandoned.collect()
    }

    /// Forgets them.
    pub(super) fn forget(&self, generations: &[u64]) {
        self.lock().retain(|snapshot| !generations.contains(&snapshot.generation));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Snapshot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
