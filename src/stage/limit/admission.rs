//! The admission itself: look at every window, then take the request's units from each, or from none.
//!
//! First a read-only pass, so that a refused request writes nothing. Then the claims, longest window first;
//! a claim that loses a race to another shard takes the earlier ones back. At last every claim is confirmed:
//! where one does not count, because its key lost its place meanwhile, the whole thing starts over. Limits in shadow come last, each by
//! itself, and refuse nobody.

use arrayvec::ArrayVec;

use crate::{
    base::clock::Moment,
    shared::{
        key_table::{self, Claim, KeyTable, Slot, TableFull, Usage},
        window::WINDOWS_MAX,
    },
};

use super::{
    super::{
        Request,
        auth::Verified,
        client::client_network,
        refusal::{Code, Refusal},
        route::Route,
        snapshot::Snapshot,
    },
    By, LIMITS_MAX, Limit, Mode, Quota, Refund, Standings,
};

/// What the limits decided about a request that they let pass.
#[derive(Debug, Default)]
pub struct Admission<'s> {
    /// A limit in shadow would have refused it.
    pub shadow_refused: bool,
    /// What to give back if the request is not sent after all; empty unless its route gives back.
    charges: Vec<Charge<'s>>,
}

/// Units taken from one window.
#[derive(Debug)]
struct Charge<'s> {
    usage: Usage<'s>,
    claim: Claim,
}

impl Admission<'_> {
    /// Gives back what was taken, as far as it still counts at `now`.
    pub fn refund(&mut self, now: Moment) {
        for charge in self.charges.drain(..) {
            charge.usage.undo(charge.claim, now.monotonic_us);
        }
    }
}

/// Room for claims between requests, so that none is allocated.
#[derive(Debug, Default)]
pub struct Scratch(Vec<(usize, Claim)>);

/// A limit as it is for this request.
#[derive(Clone, Copy)]
pub(super) struct Effective<'s> {
    pub(super) limit: &'s Limit,
    /// The limit's own, or the consumer's.
    pub(super) quota: &'s Quota,
    table: &'s KeyTable,
    hash: u64,
}

/// Those of a route that concern a request.
type Limits<'s> = ArrayVec<Effective<'s>, LIMITS_MAX>;

/// All windows of those, each with the place of its limit.
type Usages<'s> = ArrayVec<(usize, Usage<'s>), { LIMITS_MAX * WINDOWS_MAX }>;

/// Admits a request to `route`, taking its cost from every window of every limit.
///
/// # Errors
/// `quota_exceeded`, after which `standings` says where the limits stand, or `limit_key_missing`. Nothing
/// was taken.
pub fn admit<'s>(
    snapshot: &'s Snapshot,
    route: &'s Route,
    request: &Request<'_>,
    caller: Option<&Verified>,
    standings: &mut Standings,
    scratch: &mut Scratch,
    now: Moment,
) -> Result<Admission<'s>, Refusal> {
    let mut admission = Admission::default();
    if route.limits.is_empty() {
        return Ok(admission);
    }
    let mut enforced = Limits::new();
    for limit in route.limits.iter().filter(|limit| limit.mode == Mode::Enforce) {
        enforced.extend(effective(snapshot, limit, request, caller)?);
    }
    let mut usages = Usages::new();
    claim_all(&enforced, route.cost, &mut usages, standings, scratch, now)?;
    if route.refund == Refund::NotSent {
        admission.charges.extend(scratch.charges(&usages));
    }
    for limit in route.limits.iter().filter(|limit| limit.mode == Mode::Shadow) {
        let alone = match effective(snapshot, limit, request, caller) {
            Ok(Some(effective)) => effective,
            Ok(None) => continue,
            Err(_) => {
                admission.shadow_refused = true;
                continue;
            }
        };
        let limits = [alone];
        match claim_all(&limits, route.cost, &mut usages, standings, scratch, now) {
            Ok(()) if route.refund == Refund::NotSent => {
                admission.charges.extend(scratch.charges(&usages));
            }
            Ok(()) => {}
            Err(_) => admission.shadow_refused = true,
        }
    }
    Ok(admission)
}

/// `limit` for this request; `None` if it does not concern it.
fn effective<'s>(
    snapshot: &Snapshot,
    limit: &'s Limit,
    request: &Request<'_>,
    caller: Option<&Verified>,
) -> Result<Option<Effective<'s>>, Refusal> {
    let consumer = caller.map(|caller| caller.consumer_hash);
    if !limit.concerns(consumer, request.client_ip) {
        return Ok(None);
    }
    let hash = key_hash(snapshot, limit, request, caller)
        .ok_or(Refusal::new(Code::LimitKeyMissing, "a header that a limit counts by"))?;
    let (quota, table) = limit.quota_of(consumer);
    Ok(Some(Effective { limit, quota, table, hash }))
}

fn key_hash(
    snapshot: &Snapshot,
    limit: &Limit,
    request: &Request<'_>,
    caller: Option<&Verified>,
) -> Option<u64> {
    match &limit.by {
        By::Consumer => Some(caller?.consumer_hash),
        By::Ip => Some(snapshot.hasher.hash(&client_network(request.client_ip)).h1),
        By::Route => Some(0),
        By::Header(name) => {
            let mut values = request.head.fields.named(name).filter(|value| !value.is_empty());
            let value = values.next()?;
            // Two values would let a client choose which one counts.
            values.next().is_none().then(|| snapshot.hasher.hash(value).h1)
        }
    }
}

/// Claims `cost` units in every window of `limits`; `usages` are those afterwards, and what was claimed is in `scratch`.
fn claim_all<'s>(
    limits: &[Effective<'s>],
    cost: u32,
    usages: &mut Usages<'s>,
    standings: &mut Standings,
    scratch: &mut Scratch,
    now: Moment,
) -> Result<(), Refusal> {
    let now_us = now.monotonic_us;
    loop {
        scratch.0.clear();
        usages.clear();
        for (place, limit) in limits.iter().enumerate() {
            let slot: Slot = match limit.table.slot(limit.hash, now) {
                Ok(slot) => slot,
                Err(TableFull { opens_us }) => {
                    standings.take_full(*limit, limits, opens_us, now_us);
                    return Err(Refusal::quota("limit table full", seconds_until(opens_us, now_us)));
                }
            };
            usages.extend((0..limit.quota.windows().len()).map(|at| (place, limit.table.usage(slot, at))));
        }
        // Known to have too little: nothing is written.
        let all_claimed =
            usages.iter().all(|(_, usage)| usage.may_have(cost, now)) && scratch.claim(usages, cost, now);
        key_table::settle();
        let all_hold = scratch.0.iter().all(|(at, claim)| usages[*at].1.holds(claim));
        if all_claimed && all_hold {
            return Ok(());
        }
        for (at, claim) in scratch.0.drain(..) {
            if usages[at].1.holds(&claim) {
                usages[at].1.undo(claim, now_us);
            }
        }
        // What made us refuse must have been the key's as well.
        if !all_claimed && all_hold && usages.iter().all(|(_, usage)| usage.is_current()) {
            let opens = usages.iter().map(|(_, usage)| usage.opens_for(cost, now));
            let opens_us = opens.max().unwrap_or(now_us);
            let standing =
                usages.iter().map(|(place, usage)| (limits[*place], usage.window(), usage.standing(now)));
            standings.take(standing, limits, now_us);
            return Err(Refusal::quota("quota", seconds_until(opens_us, now_us)));
        }
    }
}

impl Scratch {
    /// Claims `cost` units in every window. False when one had too little; what was claimed until then is kept.
    fn claim(&mut self, usages: &[(usize, Usage<'_>)], cost: u32, now: Moment) -> bool {
        for (at, (_, usage)) in usages.iter().enumerate() {
            let mut missing = cost;
            while missing > 0 {
                let Ok(claim) = usage.claim_up_to(missing, now) else { return false };
                missing -= claim.units;
                self.0.push((at, claim));
            }
        }
        true
    }

    /// What was claimed last, to be given back later.
    fn charges<'a, 's: 'a>(&'a self, usages: &'a Usages<'s>) -> impl Iterator<Item = Charge<'s>> + 'a {
        self.0.iter().map(|(at, claim)| Charge { usage: usages[*at].1, claim: *claim })
    }
}

/// Whole seconds until `opens_us`, rounded up and at least one: a client that waits so long is not early.
fn seconds_until(opens_us: u64, now_us: u64) -> u32 {
    u32::try_from(opens_us.saturating_sub(now_us).div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1)
}
