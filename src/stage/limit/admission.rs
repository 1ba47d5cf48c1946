//! The admission itself: look at every window, then take a unit from each, or from none.
//!
//! First a read-only pass, so that a refused request writes nothing. Then the claims, longest window first;
//! a claim that loses a race to another shard takes the earlier ones back. At last every slot is confirmed:
//! one that was given to another key meanwhile starts the whole thing over.

use crate::{
    base::clock::Moment,
    shared::{
        cells::Claim,
        key_table::{Slot, TableFull},
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
    By, LIMITS_MAX, Limit, Standings, WINDOWS_MAX,
};

/// Windows all limits of a route may have together.
const CLAIMS_MAX: usize = LIMITS_MAX * WINDOWS_MAX;

/// Admits a request to `route`, taking one unit from every window of every limit.
///
/// # Errors
/// `quota_exceeded`, after which `standings` says where the limits stand, or `limit_key_missing`. Nothing
/// was taken.
pub fn admit(
    snapshot: &Snapshot,
    route: &Route,
    request: &Request<'_>,
    caller: Option<&Verified>,
    standings: &mut Standings,
    now: Moment,
) -> Result<(), Refusal> {
    if route.limits.is_empty() {
        return Ok(());
    }
    let mut hashes = [0; LIMITS_MAX];
    for (limit, hash) in route.limits.iter().zip(&mut hashes) {
        *hash = key_hash(snapshot, limit, request, caller)
            .ok_or(Refusal::new(Code::LimitKeyMissing, "a header that a limit counts by"))?;
    }
    claim_all(&route.limits, &hashes, standings, now.monotonic_us)
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

/// Claims one unit in every window of the keys with `hashes`.
fn claim_all(
    limits: &[Limit],
    hashes: &[u64; LIMITS_MAX],
    standings: &mut Standings,
    now_us: u64,
) -> Result<(), Refusal> {
    loop {
        let mut slots: [Option<Slot>; LIMITS_MAX] = [None; LIMITS_MAX];
        for ((limit, hash), place) in limits.iter().zip(hashes).zip(&mut slots) {
            match limit.table.slot(*hash, now_us) {
                Ok(slot) => *place = Some(slot),
                Err(TableFull { opens_us }) => {
                    standings.take_full(limit, limits, opens_us, now_us);
                    return Err(Refusal::quota("limit table full", seconds_until(opens_us, now_us)));
                }
            }
        }
        let known_closed = windows(limits, &slots)
            .any(|(limit, slot, window)| limit.table.cells(slot, window).closed_until(now_us).is_some());
        let mut claims: [Option<Claim>; CLAIMS_MAX] = [None; CLAIMS_MAX];
        let all_claimed = !known_closed
            && windows(limits, &slots).zip(&mut claims).all(|((limit, slot, window), claim)| {
                *claim = limit.table.cells(slot, window).claim(now_us).ok();
                claim.is_some()
            });
        let confirmed =
            limits.iter().zip(slots.iter().flatten()).all(|(limit, &slot)| limit.table.confirm(slot));
        if all_claimed && confirmed {
            return Ok(());
        }
        for ((limit, slot, window), claim) in windows(limits, &slots).zip(claims) {
            if let Some(claim) = claim {
                limit.table.undo(slot, window, claim);
            }
        }
        if confirmed {
            standings.take(windows(limits, &slots), limits, now_us);
            return Err(Refusal::quota("quota", seconds_until(standings.opens_us(), now_us)));
        }
    }
}

/// Every window of every limit, with the slot its key has.
fn windows<'a>(
    limits: &'a [Limit],
    slots: &'a [Option<Slot>; LIMITS_MAX],
) -> impl Iterator<Item = (&'a Limit, Slot, usize)> {
    limits
        .iter()
        .zip(slots.iter().flatten())
        .flat_map(|(limit, &slot)| (0..limit.quota.windows().len()).map(move |window| (limit, slot, window)))
}

/// Whole seconds until `opens_us`, rounded up and at least one: a client that waits so long is not early.
fn seconds_until(opens_us: u64, now_us: u64) -> u32 {
    u32::try_from(opens_us.saturating_sub(now_us).div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1)
}
