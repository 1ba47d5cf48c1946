//! A chunked body says the same however it is cut, and what leaves says what came.

use tollgate::http::{
    body::{BodyFault, BodyReader, FrameRoom, frame},
    framing::Framing,
};

/// The longest body that is taken.
const BYTES_MAX: u64 = 1_000_000;

/// What a reader makes of a body.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    /// The payload, and how many bytes the body took.
    Whole(Vec<u8>, usize),
    Refused(BodyFault),
    /// More is to come.
    Open(Vec<u8>),
}

/// Reads `bytes` as they come in pieces of `step`; also what a client behind the gateway gets.
fn read(bytes: &[u8], step: usize) -> (Reading, Vec<u8>) {
    let mut reader = BodyReader::new(Framing::Chunked, BYTES_MAX);
    let (mut buffer, mut payload, mut leaving) = (Vec::new(), Vec::new(), Vec::new());
    let mut consumed = 0;
    for piece_bytes in bytes.chunks(step) {
        buffer.extend_from_slice(piece_bytes);
        loop {
            let piece = match reader.piece(&mut buffer) {
                Ok(piece) => piece,
                Err(fault) => return (Reading::Refused(fault), leaving),
            };
            let mut room = FrameRoom::default();
            for part in frame(&piece, &buffer, Framing::Chunked, &mut room).parts {
                leaving.extend_from_slice(part);
            }
            payload.extend_from_slice(&buffer[..piece.payload]);
            buffer.drain(..piece.consumed);
            consumed += piece.consumed;
            if piece.last {
                return (Reading::Whole(payload, consumed), leaving);
            }
            if piece.consumed == 0 || buffer.is_empty() {
                break;
            }
        }
    }
    (Reading::Open(payload), leaving)
}

/// The plainest decoder there is: payload and length of a body that is whole.
fn plain(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let line_end =
        |from: usize| bytes[from..].windows(2).position(|pair| pair == b"\r\n").map(|at| from + at);
    let (mut at, mut payload) = (0, Vec::new());
    loop {
        let end = line_end(at)?;
        let digits: String =
            bytes[at..end].iter().map(|&byte| char::from(byte)).take_while(char::is_ascii_hexdigit).collect();
        let size = usize::from_str_radix(&digits, 16).ok()?;
        at = end + 2;
        if size == 0 {
            loop {
                let end = line_end(at)?;
                let empty = end == at;
                at = end + 2;
                if empty {
                    return Some((payload, at));
                }
            }
        }
        payload.extend_from_slice(bytes.get(at..at + size)?);
        at += size;
        if bytes.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
}

/// The invariant.
pub(crate) fn check(bytes: &[u8]) {
    let Some((&step, body)) = bytes.split_first() else { return };
    let (whole, leaving) = read(body, body.len().max(1));
    let (cut, leaving_cut) = read(body, usize::from(step) % 19 + 1);
    assert_eq!(whole, cut, "however it is cut");
    let Reading::Whole(payload, consumed) = whole else { return };
    let (reference, length) = plain(body).expect("what is accepted is whole");
    assert_eq!((&payload, consumed), (&reference, length), "as anybody reads it");
    for leaving in [leaving, leaving_cut] {
        let (got, length) = plain(&leaving).expect("what leaves is whole");
        assert_eq!((&got, length), (&payload, leaving.len()));
    }
}
