//! The limits of a route with their tables: new ones, and those that a reload hands on.
//!
//! A limit that stands as it did keeps its table. One whose quota changed gets a new table in which what was used
//! lately counts as used now, so that lowering a quota never admits more than the new one and raising it opens what
//! is more at once. So it is for a consumer that gets a quota of its own, or loses it.

use std::sync::Arc;

use siphasher::sip128::SipHasher13;

use crate::{
    base::clock::Clock,
    shared::key_table::KeyTable,
    stage::limit::{By, Exempt, Limit, Override, Places, Quota},
};

use super::{consumer::ConsumerPlan, limits::LimitPlan};

/// What the limits of all routes are made with.
#[derive(Clone, Copy)]
pub(super) struct Workshop<'p> {
    /// Keys that a limit can count.
    pub(super) limit_keys: usize,
    /// Hashes consumers.
    pub(super) hasher: SipHasher13,
    /// Those that may have quotas of their own.
    pub(super) consumers: &'p [ConsumerPlan],
}

impl Workshop<'_> {
    /// The limits planned for a route that had those in `before`.
    pub(super) fn limits(self, plans: Vec<LimitPlan>, before: &[Limit]) -> Box<[Limit]> {
        let mut limits: Vec<Limit> = Vec::new();
        for plan in plans {
            // All requests of a route share one key; eight slots are the smallest table.
            let keys = if plan.by == By::Route { 1 } else { self.limit_keys };
            // Two limits that are alike have a table each.
            let is_free =
                |known: &&Limit| !limits.iter().any(|limit| Arc::ptr_eq(&limit.table, &known.table));
            let known: Vec<&Limit> =
                before.iter().filter(|known| known.by == plan.by).filter(is_free).collect();
            let same = known.iter().find(|known| known.quota == plan.quota).or_else(|| known.first());
            let overrides = self.overrides(&plan, same.copied());
            let table = table(&plan.quota, keys, same.map(|known| (&known.quota, &known.table)));
            let had_own = same.into_iter().flat_map(|known| &known.overrides);
            for lost in had_own.filter(|known| !is_among(known.consumer_hash, &overrides)) {
                table.take_over_key(&lost.table, lost.consumer_hash, Clock::new().now());
            }
            limits.push(Limit {
                table,
                by: plan.by,
                quota: plan.quota,
                mode: plan.mode,
                exempt: Exempt {
                    consumers: plan.exempt_consumers.iter().map(|id| self.hash(id)).collect(),
                    networks: plan.exempt_networks.into(),
                },
                overrides,
            });
        }
        limits.into()
    }

    /// The quotas of consumers' own, in place of `plan`'s.
    fn overrides(self, plan: &LimitPlan, before: Option<&Limit>) -> Box<[Override]> {
        let own = self.consumers.iter().filter(|_| plan.by == By::Consumer).filter_map(|consumer| {
            let (consumer_hash, quota) = (self.hash(&consumer.id), consumer.quota.clone()?);
            let known = before
                .into_iter()
                .flat_map(|limit| &limit.overrides)
                .find(|known| known.consumer_hash == consumer_hash);
            let table = table(&quota, 1, known.map(|known| (&known.quota, &known.table)));
            if let (None, Some(common)) = (known, before) {
                table.take_over_key(&common.table, consumer_hash, Clock::new().now());
            }
            Some(Override { consumer_hash, quota, table })
        });
        let mut overrides: Vec<Override> = own.collect();
        overrides.sort_by_key(|own| own.consumer_hash);
        overrides.into()
    }

    fn hash(self, consumer: &str) -> u64 {
        self.hasher.hash(consumer.as_bytes()).h1
    }
}

fn is_among(consumer_hash: u64, overrides: &[Override]) -> bool {
    overrides.binary_search_by_key(&consumer_hash, |own| own.consumer_hash).is_ok()
}

/// The table for `quota` and so many keys: the one before if it is the same, or one that takes over what was used.
fn table(quota: &Quota, keys: usize, before: Option<(&Quota, &Arc<KeyTable>)>) -> Arc<KeyTable> {
    if let Some((known, table)) = before
        && known == quota
        && table.capacity() == KeyTable::capacity_for(keys)
    {
        return Arc::clone(table);
    }
    let table = KeyTable::new(quota.windows(), keys);
    if let Some((_, known)) = before {
        table.take_over(known, Clock::new().now());
    }
    Arc::new(table)
}

/// Places for `max` requests at once; those that are taken stay so.
pub(super) fn places(max: Option<u32>, before: Option<&Places>) -> Option<Places> {
    max.map(|max| before.map_or_else(|| Places::new(max), |before| before.resized(max)))
}
