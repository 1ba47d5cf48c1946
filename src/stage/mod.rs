//! The decisions: route, authenticate, limit, balance.
//!
//! Pure functions and small tables. Nothing here waits, reads a clock, touches a socket or allocates once
//! warm; `now` is an argument, and the only effects are on the shared cells and counters a decision is
//! about. What a decision needs to remember between requests is a [`Desk`], one per shard.

pub mod auth;
pub mod balance;
pub mod client;
pub mod consumer;
pub mod destination;
pub mod headroom;
pub mod limit;
pub mod listed;
pub mod objective;
pub mod refusal;
pub mod retry;
pub mod route;
pub mod settle;
pub mod snapshot;
mod steps;
pub mod termination;
pub mod version;

pub use self::steps::{Step, StepTimes};

use std::net::IpAddr;

use crate::{
    base::clock::Moment,
    http::{framing::Framing, head::RequestHead, target::Target},
    shared::{meters::TokenMeters, revoked::RevokedReader},
};

use self::{
    auth::{Caller, TokenCache},
    balance::{Cluster, NoPermit, Permit, Warm, Wish},
    destination::PARTS,
    headroom::Headroom,
    limit::{Admission, Place, Scratch, Standings},
    refusal::{Code, Refusal},
    route::Route,
    snapshot::Snapshot,
};

/// What one shard remembers between decisions.
#[derive(Debug)]
pub struct Desk {
    /// Tokens that were verified before.
    pub tokens: TokenCache,
    /// Which of them count no longer.
    pub revoked: RevokedReader,
    /// Where the limits of the last refused request stand, for the fields of its answer.
    pub standings: Standings,
    /// Room for what limits claim.
    pub scratch: Scratch,
    /// To whom the shard has connections that are idle.
    pub warm: Warm,
    /// Spreads ties.
    pub rng: fastrand::Rng,
}

impl Desk {
    /// An empty desk that remembers up to `tokens_max` tokens, and to which nothing is revoked.
    pub fn new(tokens_max: usize, rng: fastrand::Rng) -> Self {
        let revoked = RevokedReader::default();
        Self {
            tokens: TokenCache::new(tokens_max),
            revoked,
            standings: Standings::default(),
            scratch: Scratch::default(),
            warm: Warm::default(),
            rng,
        }
    }
}

/// A request as the decisions see it.
pub struct Request<'a> {
    /// The parsed head.
    pub head: &'a RequestHead<'a, 'a>,
    /// Its target in normal form: the form in which it is forwarded.
    pub target: &'a Target<'a>,
    /// The client's address, after trusted proxies.
    pub client_ip: IpAddr,
    /// What room the shard has for it.
    pub headroom: Headroom,
}

/// What was found out about a request, as far as the decisions got.
#[derive(Debug, Default)]
pub struct Facts<'s> {
    /// The last step that was begun: of a refused request, the one that refused it.
    pub step: Step,
    /// The route that matched.
    pub route: Option<&'s Route>,
    /// Who is calling.
    pub caller: Option<Caller<'s>>,
    /// What the limits said.
    pub admission: Admission<'s>,
    /// The cluster that gets a copy of it.
    pub mirror: Option<usize>,
    /// The places it takes among the requests under way: of its route, of its consumer.
    pub places: [Option<Place<'s>>; 2],
    /// The place of the cluster whose endpoints were all full, when that was why the request was refused last.
    pub full: Option<u16>,
    /// When the steps began, if somebody wants to know.
    pub times: Option<StepTimes>,
}

impl Facts<'_> {
    fn begin(&mut self, step: Step) {
        self.step = step;
        if let Some(times) = &mut self.times {
            times.begin(step);
        }
    }
}

/// Decides whether a request may pass and to which endpoint it goes. `facts` is filled on the way, so that
/// a refused request can be logged with what was known of it.
///
/// # Errors
/// The refusal to answer with. Nothing was charged to any limit.
pub fn decide<'s>(
    snapshot: &'s Snapshot,
    desk: &mut Desk,
    meters: &TokenMeters,
    request: &Request<'_>,
    facts: &mut Facts<'s>,
    now: Moment,
) -> Result<Permit<'s>, Refusal> {
    let route = screen(snapshot, desk, meters, request, facts, now)?;
    facts.begin(Step::Limit);
    // First what costs nothing to give back.
    let consumer = facts.caller.as_ref().and_then(|caller| snapshot.consumers.find(&caller.consumer));
    let of_consumer = consumer.and_then(|consumer| consumer.places.as_ref());
    for (held, places) in facts.places.iter_mut().zip([route.places.as_ref(), of_consumer]) {
        if let Some(places) = places {
            *held = Some(places.take().ok_or(Refusal::quota("in_flight", 1))?);
        }
    }
    let cluster = &snapshot.clusters[destination(route, request, desk, facts)];
    let affinity = balance::affinity(cluster, request, facts.caller.as_deref());
    let early = if cluster.is_bounded() { Some(endpoint(cluster, affinity, desk, facts)?) } else { None };
    facts.admission = limit::admit(
        snapshot,
        route,
        request,
        facts.caller.as_deref(),
        &mut desk.standings,
        &mut desk.scratch,
        now,
    )?;
    facts.begin(Step::Balance);
    match early {
        Some(permit) => Ok(permit),
        None => endpoint(cluster, affinity, desk, facts),
    }
}

/// The place of the cluster that the request goes to; notes which one gets a copy.
fn destination(route: &Route, request: &Request<'_>, desk: &mut Desk, facts: &mut Facts<'_>) -> usize {
    let Some(destinations) = &route.destinations else { return route.cluster };
    facts.mirror = destinations.mirror(request.head, desk.rng.u16(..PARTS));
    let consumer = facts.caller.as_ref().map(|caller| &*caller.consumer);
    destinations.choose(request.head, consumer, request.client_ip, route.cluster).0
}

/// A place at an endpoint of `cluster`.
fn endpoint<'s>(
    cluster: &'s Cluster,
    affinity: Option<u64>,
    desk: &mut Desk,
    facts: &mut Facts<'s>,
) -> Result<Permit<'s>, Refusal> {
    let wish = Wish { affinity, skip: None, warm: Some(&desk.warm) };
    balance::pick(cluster, wish, &mut desk.rng).map_err(|none| {
        facts.step = Step::Balance;
        facts.full = (none == NoPermit::AllFull).then_some(cluster.index);
        match none {
            NoPermit::NoEndpoint => Refusal::new(Code::NoEndpoint, "no endpoint"),
            NoPermit::AllFull if cluster.is_throttled() => Refusal::new(Code::Overloaded, "circuit"),
            NoPermit::AllFull => Refusal::new(Code::Overloaded, "max_in_flight"),
        }
    })
}

/// The part of [`decide`] that takes nothing: which route, whose request, whether it is permitted.
///
/// # Errors
/// The refusal to answer with.
pub fn screen<'s>(
    snapshot: &'s Snapshot,
    desk: &mut Desk,
    meters: &TokenMeters,
    request: &Request<'_>,
    facts: &mut Facts<'s>,
    now: Moment,
) -> Result<&'s Route, Refusal> {
    facts.begin(Step::Route);
    let authority = request.target.authority.or(request.head.host);
    let mut route = snapshot.routes.find(authority, request.target.path, request.head.method)?;
    if let Some(membership) = &route.membership {
        route = version::choose(snapshot, route, membership, request.head)?;
    }
    facts.route = Some(route);
    facts.begin(Step::Headroom);
    snapshot.ceilings.admit(route.priority, request.headroom)?;

    facts.begin(Step::Credential);
    facts.caller = auth::identify(snapshot, route, desk, meters, request.head, now)?;
    facts.begin(Step::Permission);
    if let Some(caller) = &facts.caller {
        for credential in caller.credentials() {
            auth::permits(credential, &route.scopes)?;
            auth::has_role(credential, &route.roles)?;
        }
        let method = request.head.method;
        snapshot.consumers.permit(&caller.consumer, route, method)?;
    }
    if let Some(membership) = &route.membership {
        facts.begin(Step::Version);
        version::check(membership, request, now)?;
    }
    facts.begin(Step::Body);
    if let Framing::Length(length) = request.head.framing
        && length > route.body_bytes_max
    {
        return Err(Refusal::new(Code::BodyTooLarge, "Content-Length"));
    }
    Ok(route)
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
