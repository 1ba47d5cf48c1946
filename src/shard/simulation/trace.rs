//! The story of a world: every line of it hashed, and told while it happens if somebody listens.

use std::fmt;

/// What happened so far.
pub(super) struct Trace {
    hash: u64,
    is_told: bool,
}

impl Trace {
    /// Nothing yet. With `is_told`, every line goes to standard error as well.
    pub(super) fn new(is_told: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, is_told }
    }

    /// Adds a line.
    pub(super) fn note(&mut self, what: fmt::Arguments<'_>) {
        let text = what.to_string();
        // FNV-1a: two stories that differ anywhere have different hashes, as good as always.
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        if self.is_told {
            eprintln!("{text}");
        }
    }

    /// The hash of all lines.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }
}
