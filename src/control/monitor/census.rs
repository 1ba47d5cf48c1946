//! Who calls how often just now: the counts of callers, and what they were ten to twenty seconds ago.

use std::{collections::HashMap, time::Instant};

use crate::shared::callers::Calls;

use super::super::{apis::Census, view::View};

/// A consumer and how much it asks for.
#[derive(Clone, Debug)]
pub(super) struct Consumer {
    /// What was counted of it since the process began.
    pub(super) calls: Calls,
    /// Requests a second, lately.
    pub(super) per_s: f64,
}

/// The counts as they were.
#[derive(Debug, Default)]
pub(super) struct Censuses {
    older: Option<Count>,
    newer: Option<Count>,
}

/// Calls by key at one time.
#[derive(Debug)]
struct Count {
    at: Instant,
    calls: HashMap<u64, u64>,
}

impl Censuses {
    /// Notes how often everybody has called so far.
    pub(super) fn note(&mut self, view: &View) {
        let calls = census(view).named.into_iter().map(|calls| (calls.key, calls.calls)).collect();
        self.older = self.newer.take();
        self.newer = Some(Count { at: Instant::now(), calls });
    }

    /// Everybody, who asks for most first.
    pub(super) fn consumers(&self, view: &View) -> Vec<Consumer> {
        let before = self.older.as_ref().or(self.newer.as_ref());
        let elapsed_s = before.map_or(1.0, |before| before.at.elapsed().as_secs_f64().max(1.0));
        let named = census(view).named.into_iter();
        let mut consumers: Vec<Consumer> = named
            .map(|calls| {
                let then = before.and_then(|before| before.calls.get(&calls.key)).copied().unwrap_or(0);
                Consumer { per_s: calls.calls.saturating_sub(then) as f64 / elapsed_s, calls }
            })
            .collect();
        consumers.sort_by(|one, other| {
            other.per_s.total_cmp(&one.per_s).then_with(|| other.calls.calls.cmp(&one.calls.calls))
        });
        consumers
    }
}

fn census(view: &View) -> Census {
    Census::of(view.shards.iter().map(|meters| &meters.callers))
}
