//! What control publishes and shards pick up between requests.
//!
//! A shard compares one number per request; only when it has changed does it load the new value. Readers
//! never wait for the writer, nor the writer for them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;

/// A value with one writer, replaced as a whole.
#[derive(Debug)]
pub struct Published<T> {
    value: ArcSwap<T>,
    generation: AtomicU64,
}

impl<T> Published<T> {
    /// The first generation.
    pub fn new(value: T) -> Self {
        Self { value: ArcSwap::from_pointee(value), generation: AtomicU64::new(1) }
    }

    /// The number of the value in force. Acquire pairs with the release in [`Published::publish`]: who
    /// sees the number can load the value.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The value in force.
    pub fn load(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// Puts `value` in force for every request that begins from now on.
    pub fn publish(&self, value: T) {
        self.value.store(Arc::new(value));
        self.generation.fetch_add(1, Ordering::Release);
    }
}
