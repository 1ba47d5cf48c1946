//! Words that two processes can have in common: a file in memory that is mapped by both.
//!
//! What a limit counts stands in one, so that a gateway and its successor charge the same atomics while both
//! serve. Owns the mapping and its descriptor. A system that gives no such file gives private words instead:
//! they count as well, but cannot be handed over. Pages that are never touched are never resident.

use std::{
    fmt,
    fs::File,
    io,
    ops::Deref,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::AtomicU64,
};

use memmap2::MmapRaw;
use rustix::fs::{MemfdFlags, memfd_create};

/// A run of atomic words, zero at first.
#[derive(Debug)]
pub struct Region(Home);

enum Home {
    Mapped { map: MmapRaw, file: File },
    Private(Box<[AtomicU64]>),
}

impl Region {
    /// `count` zeroed words.
    pub fn new(count: usize) -> Self {
        Self::mapped_anew(count).unwrap_or_else(|_| Self(Home::Private(bytemuck::zeroed_slice_box(count))))
    }

    fn mapped_anew(count: usize) -> io::Result<Self> {
        let file = File::from(memfd_create("tollgate-limit", MemfdFlags::CLOEXEC)?);
        file.set_len(count as u64 * 8)?;
        Self::map(file)
    }

    /// The words of a region that another process made.
    ///
    /// # Errors
    /// The file does not hold exactly `count` words, or cannot be mapped.
    pub fn of(descriptor: OwnedFd, count: usize) -> io::Result<Self> {
        let file = File::from(descriptor);
        let bytes = file.metadata()?.len();
        if bytes != count as u64 * 8 {
            return Err(io::Error::other(format!("{bytes} bytes were handed over for {count} words")));
        }
        Self::map(file)
    }

    fn map(file: File) -> io::Result<Self> {
        Ok(Self(Home::Mapped { map: MmapRaw::map_raw(&file)?, file }))
    }

    /// What another process can map; none if the words are private.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Home::Mapped { file, .. } => Some(file.as_fd()),
            Home::Private(_) => None,
        }
    }
}

impl Deref for Region {
    type Target = [AtomicU64];

    #[expect(unsafe_code, reason = "a mapping is only an address until somebody says what stands there")]
    fn deref(&self) -> &[AtomicU64] {
        match &self.0 {
            Home::Private(words) => words,
            // SAFETY: the mapping begins at a page, lives as long as `self`, and is never shrunk: nobody but
            // this file has the descriptor of a memfd but the successor, which runs this same code. All
            // processes touch the words as atomics only, and any bits are a valid AtomicU64.
            Home::Mapped { map, .. } => unsafe {
                std::slice::from_raw_parts(map.as_ptr().cast::<AtomicU64>(), map.len() / 8)
            },
        }
    }
}

impl fmt::Debug for Home {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mapped { map, .. } => write!(formatter, "{} bytes in common", map.len()),
            Self::Private(words) => write!(formatter, "{} private words", words.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_one_counts_the_other_sees() {
        let first = Region::new(9);
        let second = first.descriptor().unwrap().try_clone_to_owned().unwrap();
        assert!(Region::of(second.try_clone().unwrap(), 10).is_err(), "another length is another table");
        let second = Region::of(second, 9).unwrap();
        first[8].fetch_add(3, Ordering::Relaxed);
        assert_eq!(second[8].fetch_add(1, Ordering::Relaxed), 3);
        assert_eq!((first.len(), first[8].load(Ordering::Relaxed)), (9, 4));
    }
}
