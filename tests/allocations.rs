//! A warm request allocates nothing while it is decided, settled and encoded.
//!
//! A counting allocator counts this thread's allocations around the pure part of a request with a token, two
//! limits and two endpoints: head, target, `decide`, both heads that go out, `settle`, the log record, and
//! the refusals a client can provoke at will. The I/O around it is measured from outside, by the load generator.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test failing")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::IpAddr,
    path::Path,
    rc::Rc,
    sync::Arc,
};

use tollgate::{
    base::{
        block::{Block, BlockPool},
        clock::{Clock, Moment},
    },
    control::{
        config::{self, compile},
        discovery::Addresses,
        token::{Claims, mint},
    },
    http::{
        Version,
        answer::{self, Asked},
        encode::{self, ApiKeyField, Forwarded, Persistence, RequestAdditions},
        field::Storage,
        head, target,
    },
    shared::{
        audit_record::{AuditEvent, AuditRecord},
        audit_ring::{AuditSender, audit_ring},
        log_ring::log_ring,
        meters::ShardMeters,
        record::{Delivery, Record},
        revoked::{Entries, FOREVER, Fingerprints, Mark, Revoked, RevokedCell, Table},
    },
    stage::{
        self, Desk, Facts, Request,
        balance::Permit,
        headroom::Headroom,
        refusal::{self, Envelope, Refusal},
        settle::{Outcome, settle},
        snapshot::Snapshot,
        termination::Termination,
    },
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: every call goes to the system's allocator as it came; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

const CONFIGURATION: &str = r#"
[[jwt]]
name = "partners"
keys = [{ kid = "k1", alg = "HS256", secret_env = "KEY" }]

[[cluster]]
name = "payments"
endpoints = [{ address = "127.0.0.1:9001" }, { address = "127.0.0.1:9002" }]

[[route]]
name = "payment-v1"
path = "/api/v1/payment"
methods = ["POST"]
jwt = "partners"
scopes = ["payments:write"]
limit = [
  { by = "consumer", quota = "3/second;1000/minute" },
  { by = "ip", quota = "500/second" },
]
cluster = "payments"

[[consumer]]
id = "acme"
allow = [{ routes = ["keys"], methods = ["GET"] }, { routes = ["payment-v1"] }]
# printf %s letmein | sha256sum
api_keys = [{ id = "k", sha256 = "1c8bfe8f801d79745c4631d09fff36c82aa37fc4cce4fc946683d7b336b63032" }]

[[route]]
name = "keys"
path = "/keys"
auth = "either"
jwt = "partners"
cluster = "payments"
"#;

fn snapshot() -> (Snapshot, String) {
    let secret = |_: &str| Some(b"0123456789abcdef0123456789abcdef".to_vec());
    let plan = config::parse(Path::new("test.toml"), CONFIGURATION, &secret).unwrap();
    let issued_s = Clock::new().now().unix_seconds();
    let claims = Claims { consumer: "acme", scope: Some("payments:write"), ttl_s: 600, issued_s };
    let token = mint(&plan.key_sets[0], None, &claims).unwrap();
    (compile::compile(plan, &Addresses::default(), 1, None).unwrap(), token)
}

/// What one shard has around a request.
struct Bench {
    desk: Desk,
    meters: ShardMeters,
    blocks: Rc<BlockPool>,
    scratch: Vec<u8>,
    packed: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        Self {
            desk: Desk::new(64, fastrand::Rng::with_seed(7)),
            meters: ShardMeters::default(),
            blocks: BlockPool::new(32 * 1024, 4),
            scratch: Vec::new(),
            packed: Vec::new(),
        }
    }

    /// Everything that is pure about one request: decided, encoded, answered, settled, recorded.
    fn request(&mut self, snapshot: &Snapshot, bytes: &[u8], now: Moment) -> Option<u16> {
        let mut storage = Storage::new();
        let head = head::parse(bytes, 100, &mut storage).unwrap();
        let target = target::parse(head.method, head.target, &mut self.scratch).unwrap();
        let client_ip = IpAddr::from([127, 0, 0, 1]);
        let request = Request { head: &head, target: &target, client_ip, headroom: Headroom::IDLE };
        let mut facts = Facts::default();
        let mut out = self.blocks.rent().unwrap();
        let decided = stage::decide(snapshot, &mut self.desk, &self.meters.tokens, &request, &mut facts, now);
        let consumer = facts.caller.as_ref().map(|caller| caller.consumer.as_bytes());
        let (endpoint, refusal) = match decided {
            Ok(permit) => {
                encode_both(&mut out, &head, &target, &permit, consumer);
                (Some((permit.cluster(), permit.endpoint().index)), None)
            }
            Err(refusal) => {
                encode_refusal(&mut out, &refusal, &self.desk);
                (None, Some(refusal))
            }
        };
        let code = refusal.as_ref().map(|refusal| refusal.code);
        let outcome = Outcome {
            status: code.map_or(200, |code| code.answer().status),
            refusal,
            reason: "",
            termination: Termination::Complete,
            endpoint,
            attempts: 1,
            delivery: Delivery::Answered,
            upstream_us: 50,
        };
        settle(0, &self.meters, facts.route, &outcome, 100);
        record(&outcome, bytes, consumer.unwrap_or_default()).pack(&mut self.packed);
        code.map(|code| code.answer().status)
    }
}

fn encode_both(
    out: &mut Block,
    head: &head::RequestHead<'_, '_>,
    target: &target::Target<'_>,
    permit: &Permit<'_>,
    consumer: Option<&[u8]>,
) {
    let additions = RequestAdditions {
        host: permit.endpoint().name.as_bytes(),
        request_id: b"0af7651916cd43dd8448eb211c80319c",
        traceparent: b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        peer: b"127.0.0.1",
        forwarded: Forwarded::Replace,
        consumer,
        api_key: ApiKeyField::Withheld,
    };
    encode::request(out, head, target, &additions).unwrap();
    let mut storage = Storage::new();
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n";
    let answer = answer::parse(bytes, Asked::ForAll, &mut storage).unwrap();
    let framing = encode::framing_for(Version::Http11, answer.framing);
    encode::answer(out, &answer, framing, additions.request_id, b"", Persistence::Keep).unwrap();
}

fn encode_refusal(out: &mut Block, refusal: &Refusal, desk: &Desk) {
    let envelope = Envelope {
        lines: b"",
        request_id: b"0af7651916cd43dd8448eb211c80319c",
        date: b"Sun, 06 Nov 1994 08:49:37 GMT",
        persistence: Persistence::Keep,
        delivery: Delivery::NotSent,
        standings: &desk.standings,
        head_only: false,
    };
    refusal::encode(refusal, &envelope, out).unwrap();
}

fn record<'a>(outcome: &Outcome<'_>, bytes: &'a [u8], consumer: &'a [u8]) -> Record<'a> {
    Record {
        minor_version: 1,
        unix_us: 1,
        generation: 1,
        client_ip: IpAddr::from([127, 0, 0, 1]),
        trace_id: 7,
        route: Some(0),
        endpoint: None,
        status: outcome.status,
        code: outcome.code().map(|code| code as u8),
        termination: outcome.termination as u8,
        attempts: outcome.attempts,
        delivery: outcome.delivery,
        bytes_in: bytes.len() as u64,
        bytes_out: 100,
        duration_us: 100,
        upstream_us: 50,
        request_id: b"0af7651916cd43dd8448eb211c80319c",
        consumer,
        method: b"POST",
        path: b"/api/v1/payment",
        reason: outcome.reason().as_bytes(),
        referer: b"",
        user_agent: b"",
        listed: b"",
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(Box::new(1))), 1);
}

#[test]
fn a_warm_request_allocates_nothing() {
    let (snapshot, token) = snapshot();
    let good = format!(
        "POST /api/v1/p%61yment?x=1 HTTP/1.1\r\nHost: a.example\r\nUser-Agent: t\r\n\
         Authorization: Bearer {token}\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n"
    );
    // Reading a token that was not seen before may allocate; what a token-less client provokes may not.
    let bare = "POST /api/v1/payment HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\n";
    let (mut bench, clock) = (Bench::new(), Clock::new());

    let now = clock.now();

    // What must be warm: the token's memory, the limits' slots, the scratch buffers, the list of standings.
    for request in [&*good, &good, &good, &good, bare] {
        bench.request(&snapshot, request.as_bytes(), now);
    }
    // A second later the window is open again.
    let now = Moment { monotonic_us: now.monotonic_us + 1_100_000, ..now };
    for (request, expected) in
        [(&*good, None), (&*good, None), (&*good, None), (&*good, Some(429)), (bare, Some(401))]
    {
        let mut status = None;
        let count = allocations(|| status = bench.request(&snapshot, request.as_bytes(), now));
        assert_eq!((status, count), (expected, 0), "{request}");
    }
}

#[test]
fn nor_does_an_api_key_or_a_look_at_the_deny_list() {
    let (snapshot, token) = snapshot();
    let request = |method: &str, fields: &str| format!("{method} /keys HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let (key, bearer) = ("X-Api-Key: letmein\r\n", format!("Authorization: Bearer {token}\r\n"));
    let (mut bench, now) = (Bench::new(), Clock::new().now());
    let fingerprints = Fingerprints::new([7, 11]);
    let cell = RevokedCell::new(Revoked::new(fingerprints, Default::default()));
    bench.desk.revoked = cell.reader();
    for fields in [key, &bearer, "X-Api-Key: wrong\r\n"] {
        bench.request(&snapshot, request("GET", fields).as_bytes(), now);
    }
    let counted = |bench: &mut Bench, request: String, expected| {
        let mut status = None;
        let count = allocations(|| status = bench.request(&snapshot, request.as_bytes(), now));
        assert_eq!((status, count), (expected, 0), "{request}");
    };
    counted(&mut bench, request("GET", key), None);
    counted(&mut bench, request("GET", &format!("{key}{bearer}")), None);
    counted(&mut bench, request("GET", "X-Api-Key: wrong\r\n"), Some(401));
    counted(&mut bench, request("PUT", key), Some(403));
    let mut entries = Entries::default();
    entries.push(fingerprints, Mark::Kid, "k", FOREVER);
    cell.publish(Revoked::new(fingerprints, [Arc::new(Table::new(&entries)), Arc::default()]));
    counted(&mut bench, request("GET", &bearer), None);
    counted(&mut bench, request("GET", key), Some(401));
}

#[test]
fn nor_does_an_audit_record() {
    let (ring, mut receiver) = audit_ring(64 * 1024);
    let mut sender = AuditSender::new(ring, Arc::clone(&receiver.way), std::thread::current());
    let record = AuditRecord {
        event: AuditEvent::Intent,
        seq: 1,
        intent: 1,
        unix_us: 1,
        client_ip: IpAddr::from([127, 0, 0, 1]),
        trace_id: 7,
        status: 0,
        code: None,
        attempts: 0,
        delivery: Delivery::NotSent,
        bytes_in: 1,
        duration_us: 1,
        request_id: b"0af7651916cd43dd8448eb211c80319c",
        consumer: b"acme",
        method: b"POST",
        path: b"/api/v1/payment",
        route: b"payment-v1",
        cluster: b"payments",
        endpoint: b"127.0.0.1:9001",
        reason: b"",
    };
    let mut packed = Vec::new();
    record.pack(&mut packed);
    let mut send = || {
        receiver.way.issued.listen();
        record.pack(&mut packed);
        sender.send(&packed)
    };
    assert_eq!(allocations(|| assert!((0..100).all(|_| send()))), 0);
    assert_eq!(AuditRecord::unpack(receiver.ring.receive().unwrap()), Some(record));
}

#[test]
fn a_log_record_is_sent_without_an_allocation() {
    let (mut sender, mut receiver) = log_ring(64 * 1024);
    let packed = [b'x'; 300];
    assert_eq!(allocations(|| (0..100).for_each(|_| sender.send(&packed))), 0);
    assert_eq!(receiver.receive(), Some(&packed[..]));
}
