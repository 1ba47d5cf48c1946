//! The admission itself: look at every window, then take the request's units from each, or from none.
//!
//! First a read-only pass, so that a refused request writes nothing. Then the claims, longest window first;
//! a claim that loses a race to another shard takes the earlier ones back. At last every slot is confirmed:
//! one that was given to another key meanwhile starts the whole thing over. Limits in shadow come last, each by
//! itself, and refuse nobody.

use arrayvec::ArrayVec;

use crate::{
    base::clock::Moment,
    shared::{
        cells::Claim,
        key_table::{KeyTable, Slot, TableFull},
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

/// Units taken from one cell.
#[derive(Debug)]
struct Charge<'s> {
    table: &'s KeyTable,
    slot: Slot,
    window: usize,
    claim: Claim,
}

impl Admission<'_> {
    /// Gives back what was taken.
    pub fn refund(&mut self) {
        for charge in self.charges.drain(..) {
            // A slot that another key has by now holds nothing of ours: it was given away because all had expired.
            if charge.table.confirm(charge.slot) {
                charge.table.undo(charge.slot, charge.window, charge.claim);
            }
        }
    }
}

/// Room for claims between requests, so that none is allocated.
#[derive(Debug, Default)]
pub struct Scratch(Vec<(usize, usize, Claim)>);

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
    let now_us = now.monotonic_us;
    let mut enforced = Limits::new();
    for limit in route.limits.iter().filter(|limit| limit.mode == Mode::Enforce) {
        enforced.extend(effective(snapshot, limit, request, caller)?);
    }
    claim_all(&enforced, route.cost, standings, scratch, now_us)?;
    if route.refund == Refund::NotSent {
        admission.charges = scratch.charges(&enforced, now_us);
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
        match claim_all(&limits, route.cost, standings, scratch, now_us) {
            Ok(()) if route.refund == Refund::NotSent => {
                admission.charges.extend(scratch.charges(&limits, now_us));
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

/// Claims `cost` units in every window of `limits`; what was claimed is in `scratch` afterwards.
fn claim_all(
    limits: &[Effective<'_>],
    cost: u32,
    standings: &mut Standings,
    scratch: &mut Scratch,
    now_us: u64,
) -> Result<(), Refusal> {
    loop {
        scratch.0.clear();
        let mut slots: ArrayVec<Slot, LIMITS_MAX> = ArrayVec::new();
        for limit in limits {
            match limit.table.slot(limit.hash, now_us) {
                Ok(slot) => slots.push(slot),
                Err(TableFull { opens_us }) => {
                    standings.take_full(*limit, limits, opens_us, now_us);
                    return Err(Refusal::quota("limit table full", seconds_until(opens_us, now_us)));
                }
            }
        }
        let all_claimed =
            !is_closed(limits, &slots, cost, now_us) && scratch.claim(limits, &slots, cost, now_us);
        let confirmed = limits.iter().zip(&slots).all(|(limit, &slot)| limit.table.confirm(slot));
        if all_claimed && confirmed {
            return Ok(());
        }
        for (place, window, claim) in scratch.0.drain(..) {
            limits[place].table.undo(slots[place], window, claim);
        }
        if confirmed {
            let opens_us = windows(limits, &slots)
                .map(|(_, limit, slot, window)| limit.table.cells(slot, window).opens_for(cost, now_us))
                .max()
                .unwrap_or(now_us);
            let standing = windows(limits, &slots).map(|(_, limit, slot, window)| {
                (*limit, window, limit.table.cells(slot, window).standing(now_us))
            });
            standings.take(standing, limits, now_us);
            return Err(Refusal::quota("quota", seconds_until(opens_us, now_us)));
        }
    }
}

/// Whether a window is known to have too little. Writes nothing.
fn is_closed(limits: &[Effective<'_>], slots: &[Slot], cost: u32, now_us: u64) -> bool {
    for (limit, &slot) in limits.iter().zip(slots) {
        for window in 0..limit.quota.windows().len() {
            let cells = limit.table.cells(slot, window);
            if cells.closed_until(now_us).is_some() || cost > 1 && cells.standing(now_us).remaining < cost {
                return true;
            }
        }
    }
    false
}

impl Scratch {
    /// Claims `cost` units in every window. False when one had too little; what was claimed until then is kept.
    fn claim(&mut self, limits: &[Effective<'_>], slots: &[Slot], cost: u32, now_us: u64) -> bool {
        for (place, (limit, &slot)) in limits.iter().zip(slots).enumerate() {
            for window in 0..limit.quota.windows().len() {
                let cells = limit.table.cells(slot, window);
                let mut missing = cost;
                while missing > 0 {
                    let Ok(claim) = cells.claim_up_to(now_us, missing) else { return false };
                    missing -= claim.units;
                    self.0.push((place, window, claim));
                }
            }
        }
        true
    }

    /// What was claimed last, to be given back later.
    fn charges<'s>(&self, limits: &[Effective<'s>], now_us: u64) -> Vec<Charge<'s>> {
        let charge = |&(place, window, claim): &(usize, usize, Claim)| {
            let limit = limits.get(place)?;
            let slot = limit.table.slot(limit.hash, now_us).ok()?;
            Some(Charge { table: limit.table, slot, window, claim })
        };
        self.0.iter().filter_map(charge).collect()
    }
}

/// Every window of every limit with the limit's place and the slot its key has.
fn windows<'a, 's>(
    limits: &'a [Effective<'s>],
    slots: &'a [Slot],
) -> impl Iterator<Item = (usize, &'a Effective<'s>, Slot, usize)> {
    limits.iter().zip(slots).enumerate().flat_map(|(place, (limit, &slot))| {
        (0..limit.quota.windows().len()).map(move |window| (place, limit, slot, window))
    })
}

/// Whole seconds until `opens_us`, rounded up and at least one: a client that waits so long is not early.
fn seconds_until(opens_us: u64, now_us: u64) -> u32 {
    u32::try_from(opens_us.saturating_sub(now_us).div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1)
}
