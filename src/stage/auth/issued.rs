//! Keys that an issuer publishes: the latest that control has fetched, for all shards.
//!
//! Replaced as a whole and only when they changed, so a token that was verified with a key that is gone is not
//! remembered any longer. A token that names a key nobody knows asks for a look at the issuer; how often there is one
//! is control's to decide, whatever clients send.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use arc_swap::{ArcSwap, Guard};

use super::key::Key;

/// What one issuer has published.
#[derive(Debug)]
pub struct IssuedKeys {
    /// Where.
    pub url: Box<str>,
    /// How often it is asked without a reason, in milliseconds.
    pub refresh_ms: u64,
    keys: ArcSwap<Vec<Key>>,
    /// Counts the sets; zero before the first.
    generation: AtomicU64,
    /// A token named a key that is not there.
    asked: AtomicBool,
    /// Whether the last answer was a good one.
    is_current: AtomicBool,
    /// Times it was asked.
    fetches: AtomicU64,
}

impl IssuedKeys {
    /// Those of the issuer at `url`, none yet.
    pub fn new(url: &str, refresh_ms: u64) -> Self {
        Self {
            url: url.into(),
            refresh_ms,
            keys: ArcSwap::default(),
            generation: AtomicU64::new(0),
            asked: AtomicBool::new(false),
            is_current: AtomicBool::new(false),
            fetches: AtomicU64::new(0),
        }
    }

    /// The keys in force.
    pub fn current(&self) -> Guard<Arc<Vec<Key>>> {
        self.keys.load()
    }

    /// Which set is in force. Read it before the keys: what is verified counts for this set or a later one.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Puts another set in force.
    pub fn replace(&self, keys: Vec<Key>) {
        self.keys.store(Arc::new(keys));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// A token named a key that is not there. Writes only when nobody has said so yet.
    pub fn ask(&self) {
        if !self.asked.load(Ordering::Relaxed) {
            self.asked.store(true, Ordering::Relaxed);
        }
    }

    /// Whether somebody asked since the last time.
    pub fn take_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) && self.asked.swap(false, Ordering::Relaxed)
    }

    /// The issuer was asked; whether its answer was a good one.
    pub fn note_fetch(&self, is_current: bool) {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        self.is_current.store(is_current, Ordering::Relaxed);
    }

    /// Whether the last answer was a good one.
    pub fn is_current(&self) -> bool {
        self.is_current.load(Ordering::Relaxed)
    }

    /// Times the issuer was asked.
    pub fn fetches(&self) -> u64 {
        self.fetches.load(Ordering::Relaxed)
    }
}
