//! How many requests may be under way at once: of one route, of one consumer.
//!
//! Exact over all shards: a place is taken by counting in and then looking, and whoever finds one too many counts out
//! again. A [`Place`] is one request counted in; dropping it counts it out, on every path.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use crossbeam::utils::CachePadded;

/// Places of a route or a consumer, on a line of their own: all shards write it.
#[derive(Clone, Debug)]
pub struct Places {
    taken: Arc<CachePadded<AtomicU32>>,
    max: u32,
}

/// One of them, taken.
#[derive(Debug)]
pub struct Place<'s>(&'s AtomicU32);

impl Places {
    /// `max` places, all free.
    pub fn new(max: u32) -> Self {
        Self { taken: Arc::default(), max }
    }

    /// `max` places, of which as many are taken as of these.
    pub fn resized(&self, max: u32) -> Self {
        Self { taken: Arc::clone(&self.taken), max }
    }

    /// Takes one; `None` when there is none.
    pub fn take(&self) -> Option<Place<'_>> {
        // Dropped again at once if it is one too many.
        let place = Place(&self.taken);
        (place.0.fetch_add(1, Ordering::Relaxed) < self.max).then_some(place)
    }

    /// How many are taken.
    pub fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    /// How many there are.
    pub fn max(&self) -> u32 {
        self.max
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn never_more_than_there_are_and_all_come_back() {
        let places = Places::new(3);
        let most = AtomicU32::new(0);
        let inside = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if let Some(place) = places.take() {
                            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            inside.fetch_sub(1, Ordering::SeqCst);
                            drop(place);
                        }
                    }
                });
            }
        });
        assert!(most.into_inner() <= 3);
        assert_eq!(places.taken(), 0);
        let all: Vec<_> = (0..3).filter_map(|_| places.take()).collect();
        assert_eq!((all.len(), places.take().is_none()), (3, true));
        assert!(places.resized(2).take().is_none() && places.resized(4).take().is_some());
    }
}
