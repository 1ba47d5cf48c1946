//! The path every request takes: nine steps, in order, on one screen.
//!
//! There are two places where this can wait: reading from a socket and writing to one. Everything between
//! is decided synchronously, so no borrow of the shard's state ever lives across a wait.

use std::{net::IpAddr, rc::Rc};

use crate::{
    base::{block::Block, hex::hex_digits, ip_text::IpText},
    http::{
        body::BodyReader,
        encode::{self, ApiKeyField, Forwarded, RequestAdditions},
        field::{Kind, Storage},
        head::{self, RequestHead},
        target::{self, Target},
    },
    shared::record::Delivery,
    stage::{
        self, Request, Step,
        balance::{Cluster, Permit},
        headroom::{Headroom, Priority},
        limit::Place,
        refusal::{Code, Refusal},
        snapshot::Snapshot,
        termination::Termination,
        version::Document,
    },
};

use super::{
    Shard, audit,
    body_ahead::{self, Absence},
    connection::{Arrival, Downstream, Next},
    exchange::{Exchange, RequestId, place},
    forward,
    housekeeping::TICK_MS,
    line::{Call, Line},
    respond,
};

/// Serves one exchange on `downstream`, which 1 accept made.
pub(super) async fn serve(shard: &Rc<Shard>, downstream: &mut Downstream) -> Next {
    let arrival = downstream.read_head(shard).await; // 2 parse: where the head ends
    let in_force = shard.snapshot();
    let snapshot: &Snapshot = &in_force;
    let (verdict, mut exchange) = match arrival {
        Arrival::NotYet => return Next::Another,
        Arrival::Nothing => return Next::Close,
        Arrival::Stranger => {
            shard.meters().prefaces_refused.add(1);
            return Next::Close;
        }
        Arrival::Refused(refusal, started) => {
            let exchange = Exchange::new(shard, snapshot, downstream.peer, started);
            exchange.note_read(downstream.block.as_ref().map_or(0, |block| block.unread().len()));
            (Err(Absence::Refused(refusal)), exchange)
        }
        Arrival::Head(length, started) => {
            let mut exchange = Exchange::new(shard, snapshot, downstream.peer, started);
            exchange.head_bytes = length;
            (consider(shard, snapshot, downstream, &mut exchange).await, exchange) // 2 parse … 6 balance
        }
    };
    exchange.note_decided();
    downstream.requests += 1;
    shard.meters().in_flight.add(1);
    let had_place = exchange.was_called || matches!(verdict, Ok(Passage::Granted(_)));
    let (outcome, next) = match verdict {
        Ok(Passage::Description(document)) => {
            respond::describe(shard, downstream, &exchange, document).await // 8 respond
        }
        Ok(Passage::Granted(granted)) => {
            shard.meters().carried.add(1);
            let vouched = vouch(shard, downstream, &mut exchange, &granted).await;
            let carried = match vouched {
                Ok(()) => forward::carry(shard, downstream, &mut exchange, granted).await, // 7 forward 8 respond
                Err(refusal) => {
                    drop(granted);
                    respond::refuse_unrecorded(shard, downstream, &exchange, refusal).await // 8 respond
                }
            };
            shard.meters().carried.subtract(1);
            carried
        }
        Err(Absence::Refused(refusal)) => {
            let is_full = refusal.code == Code::Overloaded && exchange.facts.step != Step::Balance;
            shard.turned_away.set(shard.turned_away.get() + u64::from(is_full));
            respond::refuse_unsent(shard, downstream, &exchange, refusal).await // 8 respond
        }
        Err(Absence::ClientGone) => {
            let termination = Termination::ClientGoneInRequest;
            (exchange.outcome(499, "client gone within its request", termination), Next::Reset)
        }
        Err(Absence::ClientGoneInQueue) => {
            let termination = Termination::ClientGoneInQueue;
            (exchange.outcome(499, "client gone before its turn", termination), Next::Reset)
        }
    };
    shard.meters().in_flight.subtract(1);
    if had_place {
        shard.queue.note_finished();
    }
    shard.queue.call_next(&snapshot.ceilings, shard.meters().in_flight.get());
    if let Some((cluster, _)) = outcome.endpoint
        && cluster.queue.is_some()
    {
        shard.lines.call_first(cluster.index);
    }
    if outcome.delivery == Delivery::NotSent {
        exchange.facts.admission.refund(shard.clock.recent());
    }
    exchange.settle(shard, downstream, outcome); // 9 log
    downstream.end_exchange();
    next
}

/// Before anything is sent: an audited route has it on record.
async fn vouch(
    shard: &Shard,
    downstream: &Downstream,
    exchange: &mut Exchange<'_>,
    granted: &Granted<'_>,
) -> Result<(), Refusal> {
    match exchange.facts.route {
        Some(route) if route.is_audited => audit::intend(shard, downstream, exchange, granted).await,
        _ => Ok(()),
    }
}

/// A request that may pass: where it goes, and what goes there.
pub(super) struct Granted<'s> {
    pub(super) permit: Permit<'s>,
    /// The head as the endpoint will see it, and perhaps the beginning of the body.
    pub(super) request: Block,
    /// What is still to come of the body.
    pub(super) body: BodyReader,
}

/// What is done about a request that nothing speaks against.
enum Passage<'s> {
    /// It goes to an endpoint.
    Granted(Granted<'s>),
    /// It asks for the description of its API version, which is at hand.
    Description(&'s Document),
}

/// What steps 2 to 6 come to.
enum Verdict<'s> {
    Passes(Passage<'s>),
    /// Nothing speaks against the request so far, and not all of its body has come that could be waited for.
    BodyFirst,
}

/// Steps 2 to 6. When the body is late, or the shard is full, they are taken again after the wait: a limit is
/// charged and an endpoint chosen at the moment the request can be sent.
async fn consider<'s>(
    shard: &Shard,
    snapshot: &'s Snapshot,
    downstream: &mut Downstream,
    exchange: &mut Exchange<'s>,
) -> Result<Passage<'s>, Absence> {
    if let Some(block) = &mut downstream.block {
        block.consume(exchange.head_bytes);
    }
    let (mut has_waited, mut in_line) = (false, None::<InLine<'_>>);
    loop {
        match decide(shard, snapshot, downstream, exchange) {
            Ok(Verdict::Passes(passage)) => {
                if let Some(place) = in_line {
                    // There may be room for more than one.
                    place.line.call_first();
                }
                return Ok(passage);
            }
            Ok(Verdict::BodyFirst) => {
                if std::mem::take(&mut exchange.was_called) {
                    // Its body may take a while. The place is the next one's, and this one may wait again.
                    has_waited = false;
                    shard.queue.call_next(&snapshot.ceilings, shard.meters().in_flight.get());
                }
                body_ahead::collect(shard, exchange, downstream).await?;
            }
            Err(refusal) => {
                if let Some(cluster) = full_cluster(snapshot, exchange) {
                    let Some(place) = in_line.take().or_else(|| InLine::enter(shard, cluster)) else {
                        return Err(Absence::Refused(refusal));
                    };
                    match place.wait(downstream).await {
                        Call::Come => in_line = Some(place.called()),
                        Call::TooLate => return Err(Absence::Refused(refusal)),
                        Call::Left => return Err(Absence::ClientGoneInQueue),
                    }
                    // They are taken again with the next try.
                    exchange.facts.places = [const { None }; 2];
                } else if has_waited || !is_worth_waiting(shard, snapshot, exchange) {
                    return Err(Absence::Refused(refusal));
                } else {
                    has_waited = true;
                    wait_for_turn(shard, snapshot, downstream, exchange).await?;
                }
            }
        }
    }
}

/// The cluster whose endpoints were full, if requests may wait for them.
fn full_cluster<'s>(snapshot: &'s Snapshot, exchange: &Exchange<'_>) -> Option<&'s Cluster> {
    let place = exchange.facts.full.filter(|_| exchange.facts.step == Step::Balance)?;
    snapshot.clusters.get(usize::from(place)).filter(|cluster| cluster.queue.is_some())
}

/// A request that waits for an endpoint, with its place among those who may.
struct InLine<'s> {
    line: Rc<Line>,
    _place: Place<'s>,
    until_ms: u64,
    was_called: bool,
}

impl<'s> InLine<'s> {
    /// `None` when as many wait as may.
    fn enter(shard: &Shard, cluster: &'s Cluster) -> Option<Self> {
        let queue = cluster.queue.as_ref()?;
        let place = queue.places.take()?;
        cluster.meters.of(shard.index).queue_waits.add(1);
        let until_ms = shard.recent_ms() + queue.timeout_ms;
        Some(Self { line: shard.lines.of(cluster.index), _place: place, until_ms, was_called: false })
    }

    async fn wait(&self, downstream: &Downstream) -> Call {
        let client = downstream.socket.watch();
        let call = self.line.wait(self.until_ms, self.was_called, client).await;
        if client.has_ended() { Call::Left } else { call }
    }

    fn called(self) -> Self {
        Self { was_called: true, ..self }
    }
}

/// Whether the request was turned away because the shard is full, and would soon have its turn.
fn is_worth_waiting(shard: &Shard, snapshot: &Snapshot, exchange: &Exchange<'_>) -> bool {
    let Some(route) = exchange.facts.route else { return false };
    exchange.facts.step == Step::Headroom
        && !snapshot.ceilings.is_short_of_buffers(route.priority, headroom(shard))
        && shard.queue.is_worth_it(route.priority, snapshot.timeouts.queue_ms, TICK_MS)
}

/// Waits until there is a place or it took too long.
///
/// # Errors
/// The client did not wait as long. One that says it will send nothing more counts as gone, as it does in proxies that
/// were here before: almost always it is, and a full shard has better to do than to serve nobody.
async fn wait_for_turn(
    shard: &Shard,
    snapshot: &Snapshot,
    downstream: &Downstream,
    exchange: &mut Exchange<'_>,
) -> Result<(), Absence> {
    let priority = exchange.facts.route.map_or(Priority::Normal, |route| route.priority);
    shard.meters().queue_waits.add(1);
    let until_ms = shard.recent_ms() + snapshot.timeouts.queue_ms;
    let client = downstream.socket.watch();
    if shard.queue.turn(priority, until_ms, client).await == Call::Come {
        // Nothing waits between here and the decision, so nobody else takes the place.
        shard.queue.take_place();
        exchange.was_called = true;
    }
    if client.has_ended() { Err(Absence::ClientGoneInQueue) } else { Ok(()) }
}

/// What the shard is doing, and what it has left.
fn headroom(shard: &Shard) -> Headroom {
    Headroom {
        in_flight: shard.meters().in_flight.get() + shard.queue.promised(),
        blocks_free: shard.buffers.free(),
        blocks: shard.buffers.blocks(),
    }
}

/// Steps 2 to 6, all of which only think: parse, route, authenticate, limit, balance. The head is encoded
/// for the endpoint on the way out, while it is parsed.
fn decide<'s>(
    shard: &Shard,
    snapshot: &'s Snapshot,
    downstream: &mut Downstream,
    exchange: &mut Exchange<'s>,
) -> Result<Verdict<'s>, Refusal> {
    let block = downstream.block.as_ref().ok_or(Refusal::new(Code::HeadMalformed, "no head"))?;
    let head_bytes = exchange.head_bytes;
    let whole = &block.filled()[..head_bytes];

    let mut storage = Storage::new();
    let head = head::parse(whole, snapshot.fields_max, &mut storage)?; // 2 parse
    exchange.note_head(&head, whole);
    note_identity(exchange, &head, whole);
    exchange.listed.request(shard, &snapshot.listed, head.fields);
    exchange.client_ip = snapshot.trusted_proxies.client_ip(downstream.peer, head.fields);
    let mut scratch = shard.path_scratch.borrow_mut();
    let target = target::parse(head.method, head.target, &mut scratch)?;
    exchange.path = place(whole, target.path_as_sent);
    exchange.listed.query(&snapshot.listed, target.query);
    target.check_host(head.host)?;
    let request =
        Request { head: &head, target: &target, client_ip: exchange.client_ip, headroom: headroom(shard) };
    let body_is_to_come = body_ahead::is_to_come(shard, exchange, block)?;
    let now = shard.clock.now();
    let (mut desk, meters) = (shard.desk.borrow_mut(), &shard.meters().tokens);
    if body_is_to_come {
        stage::screen(snapshot, &mut desk, meters, &request, &mut exchange.facts, now)?; // 3 route  4 authenticate
        return Ok(Verdict::BodyFirst);
    }
    let permit = stage::decide(snapshot, &mut desk, meters, &request, &mut exchange.facts, now)?; // … 5 limit  6 balance
    drop(desk);
    if exchange.facts.route.is_some_and(|route| route.retry.by_key) {
        let keys = head.fields.named("Idempotency-Key");
        exchange.repetition = exchange.repetition.keyed(keys);
    }
    let version =
        exchange.facts.route.and_then(|route| route.membership.as_ref()).map(|known| &known.version);
    if let Some(document) = version.and_then(|version| version.document_at(target.path, head.method)) {
        return Ok(Verdict::Passes(Passage::Description(document)));
    }

    let mut out = shard.buffers.rent().ok_or(Refusal::new(Code::Overloaded, "bounds.buffer_bytes"))?;
    encode_request(shard, exchange, downstream.peer, &head, &target, &permit, &mut out)?;
    let body_bytes_max = exchange.facts.route.map_or(0, |route| route.body_bytes_max);
    let body = BodyReader::new(head.framing, body_bytes_max);
    Ok(Verdict::Passes(Passage::Granted(Granted { permit, request: out, body })))
}

/// Takes up the identity a request brings along: its id, its trace, who sent it.
fn note_identity(exchange: &mut Exchange<'_>, head: &RequestHead<'_, '_>, whole: &[u8]) {
    let mut ids = head.fields.of_kind(Kind::RequestId);
    if let (Some(id), None) = (ids.next(), ids.next())
        && let Some(id) = RequestId::given(id)
    {
        exchange.request_id = id;
    }
    let mut traces = head.fields.of_kind(Kind::Traceparent);
    if let (Some(trace), None) = (traces.next(), traces.next())
        && let Some(trace_id) = trace_id_of(trace)
    {
        exchange.trace_id = trace_id;
        exchange.note_parent(trace);
    }
    if exchange.snapshot.logs_agents {
        for (agent, name) in exchange.agents.iter_mut().zip(["Referer", "User-Agent"]) {
            *agent = head.fields.named(name).next().map_or(0..0, |value| place(whole, value));
        }
        // A query may hold anything, the one of another page too.
        let referer = &mut exchange.agents[0];
        if let Some(mark) = memchr::memchr2(b'?', b'#', &whole[referer.clone()]) {
            referer.end = referer.start + mark;
        }
    }
}

/// The trace id of a `traceparent` (W3C Trace Context, section 3.2).
fn trace_id_of(value: &[u8]) -> Option<u128> {
    let lower_hex = |text: &[u8]| text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let [version @ .., _, _] = value.get(..4)? else { return None };
    let (trace, parent) = (value.get(3..35)?, value.get(36..52)?);
    let well_formed = value.len() >= 55
        && (value.len() == 55 || version != b"00" && value[55] == b'-')
        && lower_hex(version)
        && version != b"ff"
        && [value[2], value[35], value[52]] == *b"---"
        && lower_hex(trace)
        && lower_hex(parent)
        && parent.iter().any(|&digit| digit != b'0')
        && lower_hex(&value[53..55]);
    if !well_formed {
        return None;
    }
    u128::from_str_radix(std::str::from_utf8(trace).ok()?, 16).ok().filter(|&id| id != 0)
}

fn encode_request(
    shard: &Shard,
    exchange: &Exchange<'_>,
    peer: IpAddr,
    head: &RequestHead<'_, '_>,
    target: &Target<'_>,
    permit: &Permit<'_>,
    out: &mut Block,
) -> Result<(), Refusal> {
    let mut traceparent = *b"00-00000000000000000000000000000000-0000000000000000-00";
    traceparent[3..35].copy_from_slice(&hex_digits(exchange.trace_id));
    let span = u128::from(shard.desk.borrow_mut().rng.u64(1..));
    traceparent[36..52].copy_from_slice(&hex_digits(span)[16..]);
    exchange.span.set(span as u64);
    if let Some(flags) =
        head.fields.of_kind(Kind::Traceparent).next().filter(|trace| trace_id_of(trace).is_some())
    {
        traceparent[53..55].copy_from_slice(&flags[53..55]);
    }
    if exchange.facts.times.is_some() {
        // Sampled (W3C Trace Context, section 3.2.2.5.1): digits with an odd value are.
        traceparent[54] = odd_digit(traceparent[54]);
    }
    let peer_text = IpText::new(peer);
    let additions = RequestAdditions {
        host: permit.endpoint().name.as_bytes(),
        request_id: exchange.request_id.as_bytes(),
        traceparent: &traceparent,
        peer: peer_text.as_bytes(),
        forwarded: if exchange.snapshot.trusted_proxies.contains(peer) {
            Forwarded::Append
        } else {
            Forwarded::Replace
        },
        consumer: exchange.facts.caller.as_ref().map(|caller| caller.consumer.as_bytes()),
        api_key: api_key_field(exchange),
    };
    encode::request(out, head, target, &additions)
        .map_err(|_| Refusal::new(Code::HeadTooLarge, "bytes, with the gateway's own fields"))
}

/// The hexadecimal digit with its lowest bit set.
fn odd_digit(digit: u8) -> u8 {
    match digit {
        b'0' | b'2' | b'4' | b'6' | b'8' | b'a' | b'c' | b'e' => digit + 1,
        odd => odd,
    }
}

/// A gateway that knows API keys keeps them, on every route: one that is sent to the wrong route is a secret
/// all the same. Without any, the field is between client and endpoint.
fn api_key_field(exchange: &Exchange<'_>) -> ApiKeyField {
    let asked_for = exchange.facts.route.is_some_and(|route| route.forward_api_key);
    if asked_for || exchange.snapshot.consumers.api_keys().is_empty() {
        ApiKeyField::PassedOn
    } else {
        ApiKeyField::Withheld
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces() {
        let good = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(trace_id_of(good), Some(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736));
        assert!(trace_id_of(b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").is_some());
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
        ] {
            assert_eq!(trace_id_of(bad.as_bytes()), None, "{bad}");
        }
    }
}
