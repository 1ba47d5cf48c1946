//! What the peers of the shard do, drawn from the seed: which requests, how they are sent, how they are answered.
//!
//! Only draws; nothing here has a socket or a state. Every request has an id of its own that stands in its path,
//! in its `X-Request-Id` and all through its body, and an honest answer is made of nothing else.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use fastrand::Rng;

use crate::stage::{
    auth::{Algorithm, Key},
    fixture::SECRET,
};

use super::message::body_of;

/// The routes of the world, by the first segment of their path.
pub(super) const ROUTES: [&str; 5] = ["open", "payer", "both", "token", "small"];
/// The route whose requests are repeated on every occasion, those with a key as well.
pub(super) const EAGER: &str = "payer";
/// Attempts that it makes at the most.
pub(super) const EAGER_ATTEMPTS: u8 = 3;
/// The longest body that all routes but the last take.
pub(super) const BODY_BYTES_MAX: usize = 400_000;
/// The longest body that the last route takes.
pub(super) const SMALL_BODY_BYTES_MAX: usize = 200;
/// The longest head.
pub(super) const HEAD_BYTES_MAX: usize = 4_096;

/// A request as a client means it.
pub(super) struct Asked {
    pub(super) id: String,
    pub(super) method: &'static str,
    pub(super) path: String,
    /// What its limits count by: the payer, or who the token names.
    pub(super) key: String,
    pub(super) bytes: Vec<u8>,
    pub(super) head_bytes: usize,
    /// Whether its head can be read, so that the gateway knows its id.
    pub(super) is_readable: bool,
    /// How often endpoints may get it.
    pub(super) sightings_max: usize,
}

/// How a peer breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    Close,
    Reset,
    /// It sends nothing more, but listens.
    HalfClose,
    /// It stays, and says nothing.
    Silence,
}

/// What one client does.
pub(super) struct Visit {
    pub(super) asked: Vec<Asked>,
    /// Whether it sends without waiting for answers.
    pub(super) is_pipelined: bool,
    /// The most it writes, and reads, at a time.
    pub(super) bytes_at_once: [usize; 2],
    /// After how many bytes sent it breaks off.
    pub(super) parting: Option<(usize, Parting)>,
    /// After how many bytes of answers it reads no further.
    pub(super) appetite: usize,
}

/// One visit; `number` makes its ids.
pub(super) fn visit(rng: &mut Rng, number: usize) -> Visit {
    let count = rng.usize(1..=4);
    let mut asked: Vec<Asked> = Vec::new();
    for place in 0..count {
        let id = format!("c{number}r{place}x{}", rng.u16(..));
        asked.push(ask(rng, id, place + 1 == count));
    }
    let total: usize = asked.iter().map(|asked| asked.bytes.len()).sum();
    let parting = match rng.u32(..100) {
        0..6 => Some(Parting::Close),
        6..12 => Some(Parting::Reset),
        12..18 => Some(Parting::HalfClose),
        18..24 => Some(Parting::Silence),
        _ => None,
    };
    Visit {
        asked,
        is_pipelined: rng.u32(..100) < 35,
        bytes_at_once: [at_once(rng), at_once(rng)],
        parting: parting.map(|parting| (rng.usize(..=total), parting)),
        appetite: if rng.u32(..100) < 12 { rng.usize(..2_000) } else { usize::MAX },
    }
}

/// How much moves at a time: down to a byte.
pub(super) fn at_once(rng: &mut Rng) -> usize {
    match rng.u32(..10) {
        0 => 1 + rng.usize(..4),
        1..3 => 1 + rng.usize(..200),
        3..5 => 1 + rng.usize(..5_000),
        _ => 1 << 20,
    }
}

/// A length of a body: mostly little, seldom much.
fn length(rng: &mut Rng) -> usize {
    match rng.u32(..100) {
        0..15 => 0,
        15..65 => rng.usize(..300),
        65..85 => rng.usize(..9_000),
        // About as much as a block holds.
        85..92 => rng.usize(30_000..50_000),
        92..97 => rng.usize(..80_000),
        _ => rng.usize(..300_000),
    }
}

/// One request. Nothing can follow the last on its connection, so that may end it in many ways.
fn ask(rng: &mut Rng, id: String, is_last: bool) -> Asked {
    let route = match rng.u32(..100) {
        0..40 => "open",
        40..60 => "payer",
        60..75 => "both",
        75..88 => "token",
        88..95 => "small",
        _ => "nowhere",
    };
    let method = ["GET", "GET", "POST", "POST", "POST", "PUT", "PATCH", "DELETE", "HEAD"][rng.usize(..9)];
    let payer = format!("payer-{}", rng.u32(..2));
    let key = if route == "token" { format!("consumer-{}", rng.u32(..2)) } else { payer.clone() };
    let carries = matches!(method, "POST" | "PUT" | "PATCH") || rng.u32(..100) < 5;
    let body = body_of(&id, if carries { length(rng) } else { 0 });
    let mut is_readable = true;

    let version = if is_last && rng.u32(..100) < 15 { "1.0" } else { "1.1" };
    let mut head =
        format!("{method} /{route}/{id} HTTP/{version}\r\nHost: shop.example\r\nX-Request-Id: {id}\r\n");
    write!(head, "X-Payer: {payer}\r\nX-Sent: {}\r\n", body.len()).expect("a string takes it");
    if route == "token" && rng.u32(..100) < 90 {
        write!(head, "Authorization: Bearer {}\r\n", token(&key)).expect("a string takes it");
    }
    let has_key = matches!(method, "POST" | "PATCH") && rng.bool();
    if has_key {
        write!(head, "Idempotency-Key: {id}\r\n").expect("a string takes it");
    }
    let sightings_max = match (route, method) {
        (_, "POST" | "PATCH") if route != EAGER || !has_key => 1,
        (EAGER, _) => usize::from(EAGER_ATTEMPTS),
        _ => 2,
    };
    if is_last && rng.u32(..100) < 30 {
        head.push_str("Connection: close\r\n");
    }
    let chunked = version == "1.1" && carries && rng.u32(..100) < 40;
    match (chunked, carries) {
        (true, _) => head.push_str("Transfer-Encoding: chunked\r\n"),
        (false, true) => write!(head, "Content-Length: {}\r\n", body.len()).expect("a string takes it"),
        (false, false) => {}
    }
    if is_last && rng.u32(..100) < 6 {
        is_readable = false;
        match rng.u32(..4) {
            0 => head.push_str("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
            1 => head.push_str("X-Bare: line feed\n"),
            2 => head.insert(0, '\u{1}'),
            _ => write!(head, "X-Long: {}\r\n", "l".repeat(HEAD_BYTES_MAX)).expect("a string takes it"),
        }
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    let head_bytes = bytes.len();
    if chunked {
        bytes.extend(chunks(rng, &body));
        if is_last && !body.is_empty() && rng.u32(..100) < 12 {
            // The body breaks the rules before its end, and nobody may take it for whole.
            let end = bytes.iter().rposition(|&byte| byte == b'0').expect("the last chunk's size");
            bytes.truncate(end);
            bytes.extend_from_slice(b"no chunk\r\n\r\n");
        }
    } else {
        bytes.extend(body);
    }
    let path = format!("/{route}/{id}");
    Asked { id, method, path, key, bytes, head_bytes, is_readable, sightings_max }
}

/// A token for `consumer` that expires in the year 2100.
fn token(consumer: &str) -> String {
    let key = Key::secret(None, Algorithm::Hs256, SECRET).expect("a good key");
    let payload = format!(r#"{{"sub":"{consumer}","exp":4102444800}}"#);
    let signed = format!("{}.{}", BASE64.encode(r#"{"alg":"HS256"}"#), BASE64.encode(payload));
    format!("{signed}.{}", BASE64.encode(key.sign(signed.as_bytes()).expect("a secret")))
}

/// `body` in chunks of any size, sometimes with a trailer section.
fn chunks(rng: &mut Rng, mut body: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    while !body.is_empty() {
        let (chunk, rest) = body.split_at(rng.usize(1..=body.len()));
        coded.extend(format!("{:x}\r\n", chunk.len()).bytes());
        coded.extend_from_slice(chunk);
        coded.extend_from_slice(b"\r\n");
        body = rest;
    }
    coded.extend_from_slice(b"0\r\n");
    if rng.u32(..100) < 10 {
        coded.extend_from_slice(b"X-Trailer: x\r\n");
    }
    coded.extend_from_slice(b"\r\n");
    coded
}

/// What an endpoint does about one request.
pub(super) struct Reply {
    /// Whether it answers before it has read the body.
    pub(super) is_early: bool,
    pub(super) bytes: Vec<u8>,
    /// The rest of the answer, kept back until it recovers.
    pub(super) kept_back: Vec<u8>,
    /// Whether the connection closes behind the rest.
    pub(super) closes: bool,
    /// What follows; `None` when it keeps the connection.
    pub(super) parting: Option<Parting>,
}

/// An answer as it should be.
pub(super) fn honest_reply(rng: &mut Rng, id: &str, method: &str) -> Reply {
    let (bytes, closes) = answer(rng, id, method);
    let parting = closes.then_some(Parting::Close);
    Reply { is_early: rng.u32(..100) < 20, bytes, kept_back: Vec::new(), closes, parting }
}

/// Any answer, or none.
pub(super) fn reply(rng: &mut Rng, id: &str, method: &str) -> Reply {
    let mut reply = honest_reply(rng, id, method);
    let whole = reply.bytes.len();
    match rng.u32(..100) {
        // It closes a connection that it seemed to keep.
        0..6 => reply.parting = Some(Parting::Close),
        // Nothing at all.
        6..16 => {
            reply.kept_back = std::mem::take(&mut reply.bytes);
            reply.parting = Some([Parting::Close, Parting::Reset, Parting::Silence][rng.usize(..3)]);
        }
        // Half of it. One that would end by close can only be cut by a reset.
        16..26 => {
            reply.kept_back = reply.bytes.split_off(rng.usize(..whole));
            let close = if reply.closes { Parting::Reset } else { Parting::Close };
            reply.parting = Some([close, Parting::Reset, Parting::Silence][rng.usize(..3)]);
        }
        // No answer, but bytes.
        26..32 => {
            let text = match rng.u32(..5) {
                0 => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab".to_owned(),
                1 => format!("HTTP/1.1 200 OK\r\nX-Echo: {id}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
                2 => "HTTP/1.1 200 OK\nContent-Length: 0\n\n".to_owned(),
                3 => format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "l".repeat(40_000)),
                _ => "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n".to_owned(),
            };
            reply.bytes = text.into_bytes();
            reply.parting = Some([Parting::Close, Parting::Silence][rng.usize(..2)]);
        }
        // More than was asked for.
        32..36 if reply.parting.is_none() => reply.bytes.extend_from_slice(UNASKED),
        _ => {}
    }
    reply
}

/// An answer that nobody asked for and no client may ever see.
pub(super) const UNASKED: &[u8] = b"HTTP/1.1 200 OK\r\nX-Echo: nobody\r\nContent-Length: 6\r\n\r\nnobody";

/// An honest answer, and whether the connection closes behind it.
fn answer(rng: &mut Rng, id: &str, method: &str) -> (Vec<u8>, bool) {
    let status = match rng.u32(..100) {
        0..4 => "204 No Content",
        4..8 => "404 Not Found",
        8..12 => "503 Service Unavailable",
        12..20 => "201 Created",
        _ => "200 OK",
    };
    let body = body_of(id, if status.starts_with("204") { 0 } else { length(rng) });
    let mut text = String::new();
    for _ in 0..if rng.u32(..100) < 8 { rng.u32(1..3) } else { 0 } {
        write!(text, "HTTP/1.1 103 Early Hints\r\nX-Echo: {id}\r\n\r\n").expect("a string takes it");
    }
    write!(text, "HTTP/1.1 {status}\r\nX-Echo: {id}\r\n").expect("a string takes it");
    let bodiless = method == "HEAD" || status.starts_with("204");
    if !bodiless {
        write!(text, "X-Length: {}\r\n", body.len()).expect("a string takes it");
    }
    let mut closes = rng.u32(..100) < 8;
    if closes {
        text.push_str("Connection: close\r\n");
    }
    let framing = rng.u32(..100);
    if status.starts_with("204") {
        text.push_str("\r\n");
        return (text.into_bytes(), closes);
    }
    match framing {
        0..35 => text.push_str("Transfer-Encoding: chunked\r\n\r\n"),
        35..45 if !bodiless => {
            text.push_str("\r\n");
            closes = true;
        }
        _ => write!(text, "Content-Length: {}\r\n\r\n", body.len()).expect("a string takes it"),
    }
    let mut bytes = text.into_bytes();
    if !bodiless {
        match framing {
            0..35 => bytes.extend(chunks(rng, &body)),
            _ => bytes.extend(body),
        }
    }
    (bytes, closes)
}
