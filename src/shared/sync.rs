//! The atomics the lock-free files are written against. `tests/loom/` puts loom's in their place.

pub(super) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};

/// `count` zeroed words. Straight from the system, so that pages never touched are never resident.
pub(super) fn zeroed_words(count: usize) -> Box<[AtomicU64]> {
    bytemuck::zeroed_slice_box(count)
}
