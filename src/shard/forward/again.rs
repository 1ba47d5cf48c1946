//! Whether another attempt follows, and where it goes.
//!
//! What may be sent again is for `stage/retry/` to say; here its answer meets what only the shard knows: what
//! is left of the cluster's budget, of the time, and of the endpoints. Whoever says yes has a permit in hand.

use std::{cell::Cell, rc::Rc};

use crate::stage::{
    balance::{self, Cluster, Permit, Tried, Wish},
    retry::{self, Failure, Occasion, Policy},
};

use super::{
    super::{Shard, exchange::Exchange},
    pool::Source,
};

/// The decision about one attempt that may not be the last.
pub(super) struct Again<'a, 's> {
    pub(super) shard: &'a Rc<Shard>,
    pub(super) exchange: &'a Exchange<'s>,
    pub(super) cluster: &'s Cluster,
    /// Whom the request is for.
    affinity: Option<u64>,
    /// How many have been made with it.
    attempts: Cell<u8>,
    /// Where the next one goes, once an answer was turned down for its sake.
    next: Cell<Option<Permit<'s>>>,
}

impl<'a, 's> Again<'a, 's> {
    pub(super) fn new(
        shard: &'a Rc<Shard>,
        exchange: &'a Exchange<'s>,
        permit: &Permit<'s>,
        attempts: u8,
    ) -> Self {
        let (cluster, affinity) = (permit.cluster(), permit.affinity());
        Self { shard, exchange, cluster, affinity, attempts: Cell::new(attempts), next: Cell::new(None) }
    }

    /// How many attempts have been made by now.
    pub(super) fn attempts(&self) -> u8 {
        self.attempts.get()
    }

    /// After how long another endpoint is asked as well, if the route wants that.
    pub(super) fn hedge_after_ms(&self) -> Option<u64> {
        self.exchange.facts.route?.hedge_after_ms.filter(|_| self.attempts() < self.policy().attempts_max)
    }

    /// The endpoint that is asked besides, if there is one and the budget pays for it.
    pub(super) fn hedge(&self) -> Option<Permit<'s>> {
        let permit = self.elsewhere(Occasion::Timeout)?;
        let meters = self.cluster.meters.of(self.shard.index);
        meters.hedges.add(1);
        meters.retries.add(1);
        self.attempts.set(self.attempts() + 1);
        self.exchange.note_attempt(permit.endpoint());
        Some(permit)
    }

    /// Whether another attempt is made in place of an answer with `status`. If so, [`Self::after`] says where.
    pub(super) fn is_wanted(&self, status: u16) -> bool {
        let occasion =
            retry::allowed_instead_of(self.policy(), status, self.exchange.repetition, self.attempts());
        let Some(occasion) = occasion else { return false };
        let next = self.elsewhere(occasion);
        let is_wanted = next.is_some();
        self.next.set(next);
        is_wanted
    }

    /// The attempt that follows `failure`, if one does; without a permit it goes where the last one went, in the slot that
    /// it has there.
    pub(super) fn after(&self, failure: &Failure, resendable: bool) -> Option<(Option<Permit<'s>>, Source)> {
        if let Some(next) = self.next.take() {
            return Some((Some(next), Source::PoolFirst));
        }
        let repetition = self.exchange.repetition;
        match retry::allowed(self.policy(), failure, repetition, resendable, self.attempts())? {
            // It was only closing, but so may be the rest of its pool, and its endpoint: another one is safer.
            occasion @ Occasion::Stale => {
                self.is_affordable(occasion).then(|| (self.pick(&self.exchange.tried()), Source::FreshOnly))
            }
            occasion => self.elsewhere(occasion).map(|permit| (Some(permit), Source::PoolFirst)),
        }
    }

    /// An endpoint that was not tried yet, or else another one than the last. Its kept connections are as good as ever.
    fn elsewhere(&self, occasion: Occasion) -> Option<Permit<'s>> {
        let (_, last) = self.exchange.attempted.get();
        let last = last.map(|endpoint| endpoint.index).into_iter().collect();
        let permit = self.pick(&self.exchange.tried()).or_else(|| self.pick(&last))?;
        self.is_affordable(occasion).then_some(permit)
    }

    fn pick(&self, skip: &Tried) -> Option<Permit<'s>> {
        let desk = &mut *self.shard.desk.borrow_mut();
        let wish = Wish { skip: Some(skip), affinity: self.affinity, warm: Some(&desk.warm) };
        balance::pick(self.cluster, wish, &mut desk.rng).ok()
    }

    fn is_affordable(&self, occasion: Occasion) -> bool {
        !self.exchange.is_over(self.shard)
            && (!occasion.costs() || self.cluster.may_retry(self.shard.index, self.shard.recent_ms()))
    }

    fn policy(&self) -> &'s Policy {
        self.exchange.facts.route.map_or(&Policy::USUAL, |route| &route.retry)
    }
}
