//! The hostile corpus against the pure parser: every case has the verdict it promises, without a socket.
//!
//! Reads `tests/corpus/`; `tests/gateway/corpus.rs` runs the same cases against the live gateway.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test failing")]

use tollgate::{
    http::{
        HeadError,
        body::{BodyFault, BodyReader},
        field::Storage,
        framing::Framing,
        head,
        scan::{HeadScan, Scan},
        target,
    },
    stage::refusal::{Code, Refusal},
};

#[path = "corpus/cases.rs"]
mod cases;

/// The longest body, as the live gateway of the corpus has it.
const BODY_BYTES_MAX: u64 = 1_000;
/// The longest head, which is the default.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What the parser makes of `wire`: the requests, and the code with which it stops.
#[derive(Debug, Default)]
struct Reading {
    requests: Vec<String>,
    refused: Option<&'static str>,
    /// The head of the refused request was good.
    within_body: bool,
}

fn read(wire: &[u8]) -> Reading {
    let mut reading = Reading::default();
    let mut rest = wire.to_vec();
    while !rest.is_empty() {
        match read_one(&mut rest) {
            Ok(request) => reading.requests.push(request),
            Err((refusal, within_body)) => {
                reading.refused = Some(refusal.code.answer().word);
                reading.within_body = within_body;
                break;
            }
        }
    }
    reading
}

fn read_one(rest: &mut Vec<u8>) -> Result<String, (Refusal, bool)> {
    let in_head = |error: HeadError| (Refusal::from(error), false);
    if rest.starts_with(b"\r\n") {
        rest.drain(..2);
    }
    if rest.len() > HEAD_BYTES_MAX
        && matches!(HeadScan::default().advance(&rest[..HEAD_BYTES_MAX]), Scan::Partial { .. })
    {
        return Err(in_head(head::too_long(rest, HEAD_BYTES_MAX)));
    }
    let length = match HeadScan::default().advance(rest) {
        Scan::Complete(length) => length,
        Scan::BareLineFeed => return Err(in_head(HeadError::Malformed("a bare line feed"))),
        Scan::Partial { .. } => {
            head::check_partial(rest).map_err(in_head)?;
            return Err(in_head(HeadError::Malformed("an unfinished head")));
        }
    };
    let head_bytes: Vec<u8> = rest.drain(..length).collect();
    let (mut storage, mut scratch) = (Storage::new(), Vec::new());
    let head = head::parse(&head_bytes, 100, &mut storage).map_err(in_head)?;
    let target = target::parse(head.method, head.target, &mut scratch).map_err(in_head)?;
    target.check_host(head.host).map_err(in_head)?;
    if matches!(head.framing, Framing::Length(length) if length > BODY_BYTES_MAX) {
        return Err((Refusal::new(Code::BodyTooLarge, ""), false));
    }
    let mut reader = BodyReader::new(head.framing, BODY_BYTES_MAX);
    let mut body = Vec::new();
    while !reader.is_done() {
        let piece = reader.piece(rest).map_err(|fault| match fault {
            BodyFault::Malformed(rule) => (Refusal::new(Code::BodyMalformed, rule), true),
            BodyFault::TooLarge => (Refusal::new(Code::BodyTooLarge, ""), true),
        })?;
        assert!(piece.consumed > 0 || reader.is_done(), "the case ends within a body: {rest:?}");
        body.extend_from_slice(&rest[..piece.payload]);
        rest.drain(..piece.consumed);
    }
    let path = String::from_utf8_lossy(target.path);
    Ok(format!("{} {path} [{}]", head.method, String::from_utf8_lossy(&body)))
}

#[test]
fn every_case_has_the_verdict_it_promises() {
    let cases = cases::all();
    let says_of_fields = |case: &&cases::Case| !case.arrives.is_empty() || !case.missing.is_empty();
    assert!(cases.iter().filter(says_of_fields).all(|case| !case.forwarded.is_empty()), "fields of nothing");
    assert!(cases.len() > 190, "the corpus is not where it was: {} cases", cases.len());
    let broken: Vec<String> = cases
        .iter()
        .map(|case| (case, read(&case.wire)))
        .filter(|(case, reading)| {
            reading.requests != case.forwarded
                || reading.refused != case.refused.as_deref().or(case.cut.as_deref())
                || reading.within_body != case.cut.is_some()
        })
        .map(|(case, reading)| format!("{}: {}: {reading:?}", case.class, case.name))
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_refused_head_is_refused_however_its_bytes_arrive() {
    for case in cases::all().iter().filter(|case| case.refused.is_some() && case.forwarded.is_empty()) {
        // What was searched before a cut is not searched again, and nothing is forgotten over it.
        for cut in 0..case.wire.len() {
            let mut scan = HeadScan::default();
            let early = scan.advance(&case.wire[..cut]);
            let whole = match early {
                Scan::Partial { .. } => scan.advance(&case.wire),
                found => found,
            };
            let at_once = HeadScan::default().advance(&case.wire);
            assert!(
                whole == at_once || matches!((whole, at_once), (Scan::Partial { .. }, Scan::Partial { .. })),
                "{}: {}: cut at {cut}: {whole:?}, at once {at_once:?}",
                case.class,
                case.name
            );
        }
    }
}
