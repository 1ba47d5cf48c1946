//! The atomics the lock-free files are written against. `tests/loom/` puts loom's in their place.

pub(super) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

pub(super) use super::region::Region as Words;

/// `count` zeroed words of this process's own. Straight from the system, so that pages never touched are never resident.
pub(super) fn zeroed_words(count: usize) -> Box<[AtomicU64]> {
    bytemuck::zeroed_slice_box(count)
}

/// `count` zeroed words that a successor can share, from pages that are resident only once they are touched.
pub(super) fn words(count: usize) -> Words {
    Words::new(count)
}
