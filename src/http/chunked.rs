//! Chunked bodies (RFC 9112 section 7.1): decoded in place, written anew.
//!
//! The decoder moves the payload of whatever chunks a buffer holds to the buffer's front; the sender then
//! frames it as one chunk of its own. Chunk extensions and odd spellings of sizes therefore never travel
//! on. Keeps a few words of state, holds no buffer, works on any split of its input.

use super::field::Kind;

/// The longest chunk size line: 15 hex digits are a petabyte.
const SIZE_DIGITS_MAX: u8 = 15;
/// Bytes all chunk extensions of one body may have together; nobody honest sends any.
const EXTENSION_BYTES_MAX: u32 = 8 * 1024;
/// Fields in a trailer section.
const TRAILER_FIELDS_MAX: usize = 32;

/// Where the decoder stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the hex digits of a chunk size; so many were read.
    Size { digits: u8 },
    /// Between `;` and the end of the size line.
    Extension,
    /// The line feed of a size line is due.
    SizeEnd,
    /// In the payload of a chunk; `remaining` counts what is left.
    Payload,
    /// The carriage return after a payload is due.
    PayloadReturn,
    /// The line feed after a payload is due.
    PayloadEnd,
    /// The last chunk was read; the trailer section is due.
    Trailers,
    /// All was read.
    Done,
}

/// Decodes one body.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    state: State,
    remaining: u64,
    extension_bytes: u32,
}

/// What one call decoded. The buffer then reads: payload, leftovers, undecoded bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Payload bytes, at the front of the buffer.
    pub payload: usize,
    /// Bytes of the buffer that are done with; what follows belongs to a later call or a later message.
    pub consumed: usize,
    /// The trailer section, its empty line included, as a range of the buffer; set when the body ends.
    pub end: Option<(usize, usize)>,
}

/// The rule a chunked body broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkError(pub &'static str);

impl Decoder {
    /// At the beginning of a body.
    pub fn new() -> Self {
        Self { state: State::Size { digits: 0 }, remaining: 0, extension_bytes: 0 }
    }

    /// Decodes what `bytes` holds. Bytes behind [`Decoded::consumed`] must be offered again, with more
    /// behind them.
    ///
    /// # Errors
    /// [`ChunkError`]: the body cannot be trusted any further; the connection must close.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<Decoded, ChunkError> {
        let mut at = 0;
        let mut payload = 0;
        while at < bytes.len() {
            match self.state {
                State::Payload => {
                    let take = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(bytes.len() - at);
                    bytes.copy_within(at..at + take, payload);
                    payload += take;
                    at += take;
                    self.remaining -= take as u64;
                    if self.remaining == 0 {
                        self.state = State::PayloadReturn;
                    }
                }
                State::Trailers => {
                    let Some(length) = trailers_length(&bytes[at..])? else { break };
                    self.state = State::Done;
                    let end = Some((at, at + length));
                    return Ok(Decoded { payload, consumed: at + length, end });
                }
                State::Done => break,
                _ => {
                    self.line_byte(bytes[at])?;
                    at += 1;
                }
            }
        }
        Ok(Decoded { payload, consumed: at, end: None })
    }

    /// Whether the whole body, trailers included, was decoded.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes that are still to come of the chunk that has begun.
    pub fn announced(&self) -> u64 {
        if self.state == State::Payload { self.remaining } else { 0 }
    }

    /// One byte of the frame around the payload.
    fn line_byte(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.state = match (self.state, byte) {
            (State::Size { digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == SIZE_DIGITS_MAX {
                    return Err(ChunkError("a chunk size with too many digits"));
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.remaining = self.remaining << 4 | u64::from(digit);
                State::Size { digits: digits + 1 }
            }
            (State::Size { digits: 0 }, _) => return Err(ChunkError("a chunk without a size")),
            (State::Size { .. }, b';') => State::Extension,
            (State::Size { .. } | State::Extension, b'\r') => State::SizeEnd,
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => {
                self.extension_bytes += 1;
                if self.extension_bytes > EXTENSION_BYTES_MAX {
                    return Err(ChunkError("too many bytes of chunk extensions"));
                }
                State::Extension
            }
            (State::SizeEnd, b'\n') if self.remaining == 0 => State::Trailers,
            (State::SizeEnd, b'\n') => State::Payload,
            (State::PayloadReturn, b'\r') => State::PayloadEnd,
            (State::PayloadEnd, b'\n') => State::Size { digits: 0 },
            (State::PayloadReturn | State::PayloadEnd, _) => {
                return Err(ChunkError("a chunk longer than its size"));
            }
            _ => return Err(ChunkError("a malformed chunk size line")),
        };
        Ok(())
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// The length of the trailer section at the front of `bytes`, its empty line included; `None` while it is
/// incomplete.
fn trailers_length(bytes: &[u8]) -> Result<Option<usize>, ChunkError> {
    match super::scan::HeadScan::default().advance(bytes) {
        super::scan::Scan::Complete(length) => {
            let mut headers = [httparse::EMPTY_HEADER; TRAILER_FIELDS_MAX];
            match httparse::parse_headers(&bytes[..length], &mut headers) {
                Ok(httparse::Status::Complete((parsed, _))) if parsed == length => Ok(Some(length)),
                _ => Err(ChunkError("a malformed trailer section")),
            }
        }
        super::scan::Scan::Partial { .. } => Ok(None),
        super::scan::Scan::BareLineFeed => Err(ChunkError("a bare line feed in the trailer section")),
    }
}

/// Calls `pass` with name and value of each trailer field in `section` that may travel on.
///
/// RFC 9110 section 6.5.1: a trailer must not frame, route, authenticate or condition a message, because
/// some reader may merge it into the head.
pub fn each_trailer<E>(section: &[u8], mut pass: impl FnMut(&str, &[u8]) -> Result<(), E>) -> Result<(), E> {
    let mut headers = [httparse::EMPTY_HEADER; TRAILER_FIELDS_MAX];
    // The decoder has parsed the section before; it cannot fail now, and would pass nothing if it did.
    let Ok(httparse::Status::Complete((_, headers))) = httparse::parse_headers(section, &mut headers) else {
        return Ok(());
    };
    for header in headers {
        let name = header.name.as_bytes();
        if Kind::of(name) == Kind::Other && !FORBIDDEN.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            pass(header.name, header.value)?;
        }
    }
    Ok(())
}

/// Fields beyond [`Kind`]'s that have no business in a trailer.
const FORBIDDEN: [&[u8]; 18] = [
    b"age",
    b"cache-control",
    b"content-encoding",
    b"content-range",
    b"content-type",
    b"cookie",
    b"date",
    b"expires",
    b"if-match",
    b"if-none-match",
    b"location",
    b"max-forwards",
    b"pragma",
    b"range",
    b"retry-after",
    b"set-cookie",
    b"trailer",
    b"vary",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Parts = (Vec<u8>, Vec<u8>, Option<Vec<u8>>);

    /// Decodes `pieces` as they would arrive in one buffer; returns payload, leftover and trailers.
    fn decode(pieces: &[&[u8]]) -> Result<Parts, ChunkError> {
        let mut decoder = Decoder::new();
        let (mut buffer, mut payload, mut trailers) = (Vec::new(), Vec::new(), None);
        for piece in pieces {
            buffer.extend_from_slice(piece);
            let decoded = decoder.decode(&mut buffer)?;
            payload.extend_from_slice(&buffer[..decoded.payload]);
            if let Some((start, end)) = decoded.end {
                trailers = Some(buffer[start..end].to_vec());
            }
            buffer.drain(..decoded.consumed);
        }
        assert_eq!(decoder.is_done(), trailers.is_some());
        Ok((payload, buffer, trailers))
    }

    #[test]
    fn a_body_with_everything() {
        let body =
            b"4\r\nWiki\r\n5;name=value\r\npedia\r\n00E\r\n in\r\n\r\nchunks.\r\n0\r\nX-Sum: 1\r\n\r\nGET /";
        let (payload, rest, trailers) = decode(&[body]).unwrap();
        assert_eq!(payload, b"Wikipedia in\r\n\r\nchunks.");
        assert_eq!(rest, b"GET /");
        assert_eq!(trailers.as_deref(), Some(&b"X-Sum: 1\r\n\r\n"[..]));
    }

    #[test]
    fn broken_bodies() {
        for body in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\na\r\n",
            "0x1\r\na\r\n",
            " 1\r\na\r\n",
            "1 \r\na\r\n",
            "1\na\r\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "1\r\na\rX",
            "1;\0\r\n",
            "1;a\nb\r\n",
            "1\r\r\na",
            "0\r\nX\r\n\r\n",
            "0\r\nX : y\r\n\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\n\n",
            "1000000000000000\r\n",
            "fffffffffffffffff\r\n",
        ] {
            assert!(decode(&[body.as_bytes()]).is_err(), "{body:?}");
        }
    }

    #[test]
    fn extensions_are_bounded_over_the_whole_body() {
        let chunk = [b"1;".to_vec(), vec![b'x'; 1000], b"\r\na\r\n".to_vec()].concat();
        assert!(decode(&[&chunk.repeat(8)]).is_ok());
        assert!(decode(&[&chunk.repeat(9)]).is_err());
    }

    #[test]
    fn only_harmless_trailers_travel_on() {
        let section =
            b"X-Sum: 1\r\nContent-Length: 5\r\nAuthorization: x\r\nX-Consumer-Id: evil\r\nset-cookie: a\r\n";
        let mut passed = Vec::new();
        each_trailer(&[&section[..], b"\r\n"].concat(), |name, value| {
            passed.push((name.to_owned(), value.to_vec()));
            Ok::<(), ()>(())
        })
        .unwrap();
        assert_eq!(passed, [("X-Sum".to_owned(), b"1".to_vec())]);
    }

    fn encode(chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut body = Vec::new();
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\nA: b\r\n\r\n");
        body
    }

    proptest! {
        /// Encode then decode is the identity, however the bytes are split.
        #[test]
        fn any_split_decodes_the_same(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let body = [encode(&chunks), b"next".to_vec()].concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len())).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect();
            let (payload, rest, trailers) = decode(&pieces).unwrap();
            prop_assert_eq!(payload, chunks.concat());
            prop_assert_eq!(rest, b"next");
            prop_assert_eq!(trailers.as_deref(), Some(&b"A: b\r\n\r\n"[..]));
        }

        /// Split anywhere, same verdict, broken bodies included.
        #[test]
        fn any_split_of_anything_has_the_same_verdict(
            body in "[0-2a;x: \r\n]{0,24}",
            cut in any::<prop::sample::Index>(),
        ) {
            let body = body.as_bytes();
            let (front, back) = body.split_at(cut.index(body.len() + 1));
            let (whole, split) = (decode(&[body]), decode(&[front, back]));
            prop_assert_eq!(whole.is_ok(), split.is_ok());
            if let (Ok(whole), Ok(split)) = (whole, split) {
                prop_assert_eq!(whole, split);
            }
        }
    }
}
