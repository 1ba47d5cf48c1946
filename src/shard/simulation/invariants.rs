//! What must hold, in every world, whatever the peers do.
//!
//! Compares what the clients got, what the endpoints saw, what was logged and what the shard still holds. Uses
//! nothing of the shard's own reckoning but its counters; the limits are reckoned anew from the list of decisions.

use std::collections::BTreeMap;

use crate::{
    shared::record::Delivery,
    stage::{
        headroom::Priority,
        limit::{By, Limit},
        refusal::Code,
    },
};

use super::{
    super::connection::LINGER_MS,
    audited,
    client::{Client, says_close},
    endpoint::{Upstream, id_in},
    link::Heard,
    message::body_of,
    script::Asked,
    setting::{RESPONSE_MS, SHADOW, TIMEOUTS},
    world::{Instant, Logged, World},
};

pub(super) use audited::nothing_goes_unrecorded;

pub(super) type Verdict = Result<(), String>;

macro_rules! rule {
    ($holds:expr, $($broken:tt)*) => {
        if !$holds {
            return Err(format!($($broken)*));
        }
    };
}

/// What holds between any two moves.
pub(super) fn always(world: &World) -> Verdict {
    let shard = &world.shard;
    let in_flight = shard.meters().in_flight.get();
    let (permits, active) = held(world, 0);
    rule!(u64::from(permits) <= 2 * in_flight, "{permits} permits for {in_flight} exchanges");
    rule!(active <= u64::from(permits), "{active} upstream connections in use for {permits} permits");
    let (copies, active) = held(world, SHADOW);
    let under_way = shard.copies.get();
    rule!(copies as usize <= under_way, "{copies} permits for {under_way} copies");
    rule!(active <= u64::from(copies), "{active} upstream connections in use for {copies} copies");
    rule!(
        in_flight <= world.snapshot.ceilings.in_flight + shard.connections.get() as u64,
        "{in_flight} in flight"
    );
    rule!(shard.connections.get() <= shard.connections_max, "{} connections", shard.connections.get());
    let ceilings = &world.snapshot.ceilings;
    let carried = shard.meters().carried.get();
    rule!(carried <= ceilings.in_flight, "{carried} carried at once, of {}", ceilings.in_flight);
    let waiting = shard.queue.length();
    let is_full = ceilings.is_full(Priority::Normal, in_flight);
    rule!(waiting == 0 || is_full, "{waiting} wait for a turn while {in_flight} are in flight");
    rule!(shard.queue.promised() == 0, "places are promised to those who do not come");
    Ok(())
}

/// Permits and connections that are in use with a cluster.
fn held(world: &World, cluster: usize) -> (u32, u64) {
    let cluster = &world.snapshot.clusters[cluster];
    let permits = cluster.endpoints.iter().map(|endpoint| endpoint.load.in_flight()).sum();
    (permits, cluster.meters.of(0).connections_active.get())
}

/// What holds once all peers have done all they can, without any time having passed.
pub(super) fn nothing_hangs(world: &World) -> Verdict {
    for client in world.clients.iter().filter(|client| client.is_open()) {
        let (number, answered) = (client.number, client.answered());
        rule!(client.is_satisfied(), "client {number} waits after {answered} answers");
        let closes = client.answers.last().is_some_and(says_close);
        rule!(!closes, "client {number} waits for the end that was announced");
    }
    let in_flight = world.shard.meters().in_flight.get();
    rule!(in_flight == 0, "{in_flight} exchanges hang");
    always(world)
}

/// What holds when all peers have been silent for longer than any time-out.
pub(super) fn everything_is_given_back(world: &World) -> Verdict {
    let shard = &world.shard;
    let meters = shard.meters();
    let (waiting, promised) = (shard.queue.length(), shard.queue.promised());
    rule!((waiting, promised) == (0, 0), "{waiting} wait for a turn, {promised} places are promised");
    rule!(meters.in_flight.get() == 0, "{} exchanges are left", meters.in_flight.get());
    rule!(shard.buffers.rented() == 0, "{} blocks are not given back", shard.buffers.rented());
    rule!(shard.replies.rented() == 0, "{} reply blocks are not given back", shard.replies.rented());
    audited::everything_is_given_back(world)?;
    rule!(shard.connections.get() == 0, "{} connections are left", shard.connections.get());
    rule!(shard.farewells.get() == 0, "{} farewells are left", shard.farewells.get());
    rule!(shard.copies.get() == 0, "{} copies are left", shard.copies.get());
    for cluster in world.snapshot.clusters.iter() {
        for endpoint in &cluster.endpoints {
            let permits = endpoint.load.in_flight();
            rule!(permits == 0, "{permits} permits of {} are not given back", endpoint.name);
        }
        let meters = cluster.meters.of(0);
        rule!(meters.connections_active.get() == 0, "{} leases are left", meters.connections_active.get());
        let idle = meters.connections_idle.get();
        rule!(idle == 0, "{idle} pooled connections are left");
        let spare: usize = cluster.endpoints.iter().map(|endpoint| endpoint.spares.count()).sum();
        rule!(spare == 0, "{spare} spare connections are left");
    }
    Ok(())
}

/// What holds of the whole story, when everybody has read all there is.
pub(super) fn verdict(world: &World) -> Verdict {
    let meters = world.shard.meters();
    let counted = meters.log_records.get();
    rule!(counted == world.records.len() as u64, "{counted} records counted, {} found", world.records.len());
    let seen = sightings(&world.upstreams)?;
    for upstream in &world.upstreams {
        let ended = upstream.end.is_some() || !upstream.is_open();
        rule!(ended, "upstream {} was never closed", upstream.number);
    }
    audited::verdict(world, &seen)?;
    let mut decisions = Vec::new();
    for client in &world.clients {
        let records: Vec<&Logged> =
            world.records.iter().filter(|record| record.client == client.number).collect();
        one_client(world, client, &records, &seen, &mut decisions)
            .map_err(|broken| format!("client {}: {broken}", client.number))?;
    }
    for id in seen.keys() {
        let is_known = world.records.iter().any(|record| record.id == *id);
        rule!(is_known, "{id} was seen by an endpoint and never logged");
    }
    decisions.sort_by_key(|decision| decision.at);
    for (index, route) in world.snapshot.routes.routes().iter().enumerate() {
        let of_route: Vec<&Decision<'_>> =
            decisions.iter().filter(|decision| usize::from(decision.route) == index).collect();
        limits_were_kept(&route.limits, &of_route).map_err(|broken| format!("{}: {broken}", route.path))?;
    }
    Ok(())
}

/// How often endpoints saw something of each request.
fn sightings(upstreams: &[Upstream]) -> Result<BTreeMap<String, usize>, String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for upstream in upstreams {
        if upstream.is_shadow {
            copies_are_marked(upstream)?;
            continue;
        }
        for message in &upstream.seen {
            let id = id_in(&message.start_line);
            rule!(!id.is_empty(), "upstream {}: whose is {:?}?", upstream.number, message.start_line);
            *seen.entry(id.to_owned()).or_default() += 1;
            let named = message.field("X-Request-Id").unwrap_or(id);
            rule!(named == id, "{id} came to an endpoint as {named}");
            rule!(message.field("Tollgate-Mirror").is_none(), "{id} came to an endpoint as a copy");
            let bytes = message.body.len();
            rule!(message.body == body_of(id, bytes), "{id}: its body came to an endpoint as another");
            let meant = message.field("X-Sent").and_then(|sent| sent.parse::<usize>().ok());
            if let (true, Some(meant)) = (message.complete, meant) {
                rule!(bytes == meant, "{id}: {bytes} of {meant} bytes of its body were passed off as all");
            }
        }
    }
    Ok(seen)
}

/// What came to an endpoint that gets copies only.
fn copies_are_marked(upstream: &Upstream) -> Verdict {
    for message in &upstream.seen {
        let line = &message.start_line;
        let is_safe = line.starts_with("GET ") || line.starts_with("HEAD ");
        let is_beginning = message.fields.is_empty();
        let is_marked = message.field("Tollgate-Mirror") == Some("1");
        rule!(is_beginning || is_safe && is_marked, "{line:?} came as a copy: {message:?}");
        rule!(message.body.is_empty(), "a copy of {line:?} has a body");
    }
    Ok(())
}

/// What a request whose head is as it should be can be refused as without its id being known.
const UNREAD: [Code; 2] = [Code::HeadTimeout, Code::Overloaded];

/// Whether the limits let a request pass.
struct Decision<'a> {
    at: Instant,
    route: u16,
    key: &'a str,
    is_admitted: bool,
}

fn one_client<'a>(
    world: &World,
    client: &'a Client,
    records: &[&Logged],
    seen: &BTreeMap<String, usize>,
    decisions: &mut Vec<Decision<'a>>,
) -> Verdict {
    rule!(!client.is_open(), "its connection was never closed");
    let (records_count, answers) = (records.len(), client.answers.len());
    if client.is_one_too_many {
        rule!(records.is_empty(), "turned away, and {records_count} records");
        rule!(client.answers.iter().all(|answer| answer.status() == 503), "turned away, and answered");
        return Ok(());
    }
    rule!(records_count <= client.visit.asked.len(), "{records_count} records");
    rule!(answers <= records_count, "{answers} answers and {records_count} records");
    for (place, (record, asked)) in records.iter().zip(&client.visit.asked).enumerate() {
        let refused_as = |code: Code| record.code == Some(code as u8);
        let was_read = asked.is_readable && !UNREAD.into_iter().any(refused_as) || record.id == asked.id;
        if was_read {
            rule!(record.id == asked.id, "{} is logged as {}", asked.id, record.id);
            rule!(place < client.head_sent.len(), "{} is logged, its head was never sent", asked.id);
        }
        one_record(world, record, asked, seen)?;
        match client.answers.get(place) {
            Some(_) => one_answer(client, place, record, asked)?,
            None => {
                let ended_well = client.end == Some(Heard::End) && !client.has_parted;
                rule!(
                    !ended_well || record.status == 499,
                    "{}: {} logged, nothing came",
                    asked.id,
                    record.status
                );
            }
        }
        if let (Some(route), true) = (record.route, refused_as(Code::QuotaExceeded) || record.has_endpoint) {
            let before = place.checked_sub(1).map(|before| records[before].at);
            let ready = client.ready.get(place).copied();
            let Some(ready) = ready else {
                return Err(format!("{} was decided before its body came", asked.id));
            };
            let at = ready.max(before.unwrap_or(ready));
            let at = decided_at(world, &asked.id, at)?;
            decisions.push(Decision { at, route, key: &asked.key, is_admitted: record.has_endpoint });
        }
    }
    // Over TCP, bytes that nobody read turn a close into a reset, which can overtake the answer before it.
    let is_whole = client.answers.last().is_some_and(|answer| answer.complete);
    let is_reset = client.end == Some(Heard::Reset) && is_whole && !client.has_parted;
    let last_us = records.last().map_or(0, |record| record.at.us);
    let was_heard_out = client.closed_us.is_none_or(|closed_us| closed_us >= last_us + LINGER_MS * 1_000);
    // Nor is one who takes nothing owed anything.
    let was_given_up = records.last().is_some_and(|record| record.status == 499);
    rule!(
        !is_reset || was_heard_out || was_given_up,
        "its last answer was put at risk by a close over unread bytes"
    );
    Ok(())
}

/// When it was decided on a request that could be from `ready` on: at once, if it did not have to wait for its turn.
fn decided_at(world: &World, id: &str, ready: Instant) -> Result<Instant, String> {
    let timed_us = world.decided_us.get(id).copied();
    if world.shard.meters().queue_waits.get() == 0 {
        let is_true = timed_us.is_none_or(|timed_us| timed_us == ready.us);
        rule!(is_true, "{id} was decided at {timed_us:?}, and was there at {}", ready.us);
        return Ok(ready);
    }
    let us = timed_us.ok_or(format!("nobody knows when {id} was decided"))?;
    rule!(us >= ready.us, "{id} was decided at {us} us, before it was there");
    // Which move it was within that microsecond nobody knows.
    Ok(Instant { turn: us, us })
}

/// What a record says against what the endpoints saw.
fn one_record(world: &World, record: &Logged, asked: &Asked, seen: &BTreeMap<String, usize>) -> Verdict {
    let id = &asked.id;
    let times = seen.get(id).copied().unwrap_or(0);
    rule!(times <= asked.sightings_max, "{} {id} came to endpoints {times} times", asked.method);
    rule!(
        times <= usize::from(record.attempts),
        "{id} was seen {times} times in {} attempts",
        record.attempts
    );
    match record.delivery {
        Delivery::NotSent => rule!(times == 0, "{id} is said not to be sent, and was seen"),
        Delivery::MaybeSent => {
            let promises = [Code::UpstreamUnreachable, Code::NoEndpoint, Code::Overloaded, Code::Draining];
            let promise = promises.into_iter().find(|&code| record.code == Some(code as u8));
            let words = promise.map(|code| code.answer().word);
            rule!(words.is_none(), "{id} may have been sent, and its answer {words:?} says that nothing was");
        }
        Delivery::Answered => rule!(times > 0, "{id} is said to be answered, and was never seen"),
    }
    let waited_ms = if world.is_cutting() { u64::MAX } else { record.duration_us / 1_000 };
    let route = record.route.map(|place| &world.snapshot.routes.routes()[usize::from(place)]);
    for (code, timeout_ms) in [
        (Code::UpstreamTimeout, RESPONSE_MS.min(route.map_or(u64::MAX, |route| route.timeout_ms))),
        (Code::HeadTimeout, TIMEOUTS.head_ms),
        (Code::BodyTimeout, TIMEOUTS.body_ms),
    ] {
        let is_early = record.code == Some(code as u8) && waited_ms.saturating_add(1) < timeout_ms;
        rule!(!is_early, "{id}: {} after {waited_ms} ms", code.answer().word);
    }
    Ok(())
}

/// What a client got against what it asked and what was logged.
fn one_answer(client: &Client, place: usize, record: &Logged, asked: &Asked) -> Verdict {
    let (answer, id) = (&client.answers[place], &asked.id);
    let status = answer.status();
    let is_logged = status == record.status || !answer.complete && record.status == 499;
    rule!(is_logged, "{id}: {} logged, {status} answered", record.status);
    let named = answer.field("X-Request-Id").unwrap_or_default();
    rule!(named == record.id, "{id}: logged as {}, answered as {named}", record.id);
    let Some(echo) = answer.field("X-Echo") else {
        let delivery = answer.field("Tollgate-Delivery");
        rule!(status < 500 || delivery.is_some(), "{id}: {status} without Tollgate-Delivery");
        let is_promise = delivery == Some("not-sent");
        rule!(
            !is_promise || record.delivery == Delivery::NotSent,
            "{id}: promised not-sent, logged otherwise"
        );
        let problem = answer.field("Content-Type") == Some("application/problem+json");
        rule!(problem, "{id}: neither an endpoint's answer nor one of the gateway's: {answer:?}");
        return Ok(());
    };
    rule!(echo == id, "{id} got the answer to {echo}");
    let bytes = answer.body.len();
    rule!(answer.body == body_of(id, bytes), "{id}: its answer's body is another's");
    let meant = answer.field("X-Length").and_then(|length| length.parse::<usize>().ok());
    if let (true, Some(meant)) = (answer.complete, meant) {
        rule!(bytes == meant, "{id}: {bytes} of {meant} bytes of its answer were passed off as all");
    }
    Ok(())
}

/// Reckons every decision of a route's limits anew. With quotas of no more than a cell for each unit the answer is
/// exact: a request passes if and only if every window behind it has a unit left.
fn limits_were_kept(limits: &[Limit], decisions: &[&Decision<'_>]) -> Verdict {
    let mut admitted: Vec<(u64, &str)> = Vec::new();
    for together in decisions.chunk_by(|one, other| one.at.turn == other.at.turn) {
        let now_us = together[0].at.us;
        // Which came first within one move of the world nobody knows, so all that passed are counted first.
        let passed = together.iter().filter(|decision| decision.is_admitted);
        admitted.extend(passed.map(|decision| (now_us, decision.key)));
        for decision in together {
            let mut is_full = false;
            for limit in limits {
                for window in limit.quota.windows() {
                    let used = admitted
                        .iter()
                        .filter(|(at_us, key)| {
                            now_us - at_us < window.length_us()
                                && (limit.by == By::Route || *key == decision.key)
                        })
                        .count();
                    let quota = window.limit() as usize;
                    rule!(used <= quota, "{used} passed in a window of {quota} for {}", decision.key);
                    is_full |= used == quota;
                }
            }
            let is_justified = decision.is_admitted || is_full;
            rule!(is_justified, "{} was refused at {now_us} us with no window used up", decision.key);
        }
    }
    Ok(())
}
