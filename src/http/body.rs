//! Bodies on their way through: cut into pieces as they arrive, framed anew as they leave.
//!
//! Works on whatever bytes are at hand; knows nothing of sockets. One reader serves requests and answers
//! alike. Payload is never copied: a piece is a range of the buffer it arrived in.

use super::{
    chunked::{ChunkError, Decoder, each_trailer},
    encode::chunk_size_line,
    framing::Framing,
};

/// Reads one body.
#[derive(Clone, Copy, Debug)]
pub struct BodyReader {
    state: State,
    received: u64,
    bytes_max: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Length(u64),
    Chunked(Decoder),
    Close,
    Done,
}

/// A run of payload at the front of the buffer it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Payload bytes, at the front.
    pub payload: usize,
    /// Bytes of the buffer that are done with once the payload is sent.
    pub consumed: usize,
    /// Whether the body ends with this piece.
    pub last: bool,
    /// The trailer section, as a range of the buffer, if there is one.
    pub trailers: Option<(usize, usize)>,
}

/// Why a body cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// It breaks the chunked coding.
    Malformed(&'static str),
    /// It is longer than allowed.
    TooLarge,
}

impl BodyReader {
    /// A reader for a body framed as `framing`, of which at most `bytes_max` bytes of payload are taken.
    pub fn new(framing: Framing, bytes_max: u64) -> Self {
        let state = match framing {
            Framing::Empty => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Decoder::new()),
            Framing::Close => State::Close,
        };
        Self { state, received: 0, bytes_max }
    }

    /// Whether the body was read to its end.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// How many bytes may be read from the connection without reading into the next message; `None` when
    /// that cannot be known.
    pub fn wanted(&self) -> Option<u64> {
        match self.state {
            State::Length(remaining) => Some(remaining),
            State::Done => Some(0),
            State::Chunked(_) | State::Close => None,
        }
    }

    /// The next piece in `bytes`, which may be empty-handed: no payload and nothing consumed means that
    /// more bytes are needed.
    ///
    /// # Errors
    /// [`BodyFault`].
    pub fn piece(&mut self, bytes: &mut [u8]) -> Result<Piece, BodyFault> {
        // A chunk that says it will be too long is too long at once, as a length in the head is.
        let mut announced = 0;
        let piece = match &mut self.state {
            State::Done => Piece { payload: 0, consumed: 0, last: true, trailers: None },
            State::Length(remaining) => {
                let payload = usize::try_from(*remaining).unwrap_or(usize::MAX).min(bytes.len());
                *remaining -= payload as u64;
                Piece { payload, consumed: payload, last: *remaining == 0, trailers: None }
            }
            State::Close => {
                Piece { payload: bytes.len(), consumed: bytes.len(), last: false, trailers: None }
            }
            State::Chunked(decoder) => {
                let decoded = decoder.decode(bytes).map_err(|ChunkError(rule)| BodyFault::Malformed(rule))?;
                announced = decoder.announced();
                Piece {
                    payload: decoded.payload,
                    consumed: decoded.consumed,
                    last: decoded.end.is_some(),
                    // An empty section is just its empty line.
                    trailers: decoded.end.filter(|(start, end)| end - start > 2),
                }
            }
        };
        self.received += piece.payload as u64;
        if self.received.saturating_add(announced) > self.bytes_max {
            return Err(BodyFault::TooLarge);
        }
        if piece.last {
            self.state = State::Done;
        }
        Ok(piece)
    }

    /// The connection closed. Whether that is where the body ends.
    pub fn closed(&mut self) -> bool {
        match self.state {
            State::Close => {
                self.state = State::Done;
                true
            }
            State::Done => true,
            State::Length(_) | State::Chunked(_) => false,
        }
    }
}

/// What goes over the wire for one piece: up to three runs of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Framed<'a> {
    /// What stands before the payload, the payload, what stands behind it; unused runs are empty.
    pub parts: [&'a [u8]; 3],
}

/// Room for the bytes a piece's frame needs besides its payload.
#[derive(Debug, Default)]
pub struct FrameRoom {
    size_line: [u8; 18],
    trailers: Vec<u8>,
}

/// Frames `piece` of `bytes` as `framing`.
pub fn frame<'a>(piece: &Piece, bytes: &'a [u8], framing: Framing, room: &'a mut FrameRoom) -> Framed<'a> {
    let payload = &bytes[..piece.payload];
    if framing != Framing::Chunked {
        return Framed { parts: [b"", payload, b""] };
    }
    let FrameRoom { size_line, trailers } = room;
    let before: &[u8] = if payload.is_empty() { b"" } else { chunk_size_line(payload.len(), size_line) };
    let behind: &[u8] = match (payload.is_empty(), piece.last, piece.trailers) {
        (true, false, _) => b"",
        (false, false, _) => b"\r\n",
        (true, true, None) => b"0\r\n\r\n",
        (false, true, None) => b"\r\n0\r\n\r\n",
        (empty, true, Some((start, end))) => {
            trailers.clear();
            trailers.extend_from_slice(if empty { b"0\r\n" } else { b"\r\n0\r\n" });
            let passed: Result<(), std::convert::Infallible> =
                each_trailer(&bytes[start..end], |name, value| {
                    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                        trailers.extend_from_slice(part);
                    }
                    Ok(())
                });
            let Ok(()) = passed;
            trailers.extend_from_slice(b"\r\n");
            trailers
        }
    };
    Framed { parts: [before, payload, behind] }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sends `wire`, cut at `cut`, through a reader and out as `framing`.
    fn through(wire: &[u8], cut: usize, from: Framing, to: Framing) -> Result<(Vec<u8>, bool), BodyFault> {
        let mut reader = BodyReader::new(from, 1_000);
        let mut room = FrameRoom::default();
        let (mut buffer, mut out) = (Vec::new(), Vec::new());
        for part in [&wire[..cut], &wire[cut..]] {
            buffer.extend_from_slice(part);
            let piece = reader.piece(&mut buffer)?;
            for part in frame(&piece, &buffer, to, &mut room).parts {
                out.extend_from_slice(part);
            }
            buffer.drain(..piece.consumed);
        }
        let complete = reader.is_done();
        if !complete && reader.closed() && to == Framing::Chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
        Ok((out, reader.is_done()))
    }

    #[test]
    fn lengths_stop_where_they_should() {
        let mut reader = BodyReader::new(Framing::Length(5), 1_000);
        assert_eq!(reader.wanted(), Some(5));
        let piece = reader.piece(&mut b"hello world".to_vec()).unwrap();
        assert_eq!(piece, Piece { payload: 5, consumed: 5, last: true, trailers: None });
        assert!(reader.is_done() && reader.closed());
        let mut short = BodyReader::new(Framing::Length(5), 1_000);
        short.piece(&mut b"hell".to_vec()).unwrap();
        assert!(!short.closed());
    }

    #[test]
    fn the_bound_counts_payload() {
        let mut reader = BodyReader::new(Framing::Chunked, 4);
        assert_eq!(reader.piece(&mut b"5\r\nhello\r\n".to_vec()), Err(BodyFault::TooLarge));
        let mut reader = BodyReader::new(Framing::Chunked, 5);
        assert!(reader.piece(&mut b"5\r\nhello\r\n0\r\n\r\n".to_vec()).unwrap().last);
    }

    #[test]
    fn trailers_travel_filtered() {
        let wire = b"2\r\nhi\r\n0\r\nX-Sum: 1\r\nContent-Length: 3\r\n\r\n";
        let (out, done) = through(wire, 0, Framing::Chunked, Framing::Chunked).unwrap();
        assert!(done);
        assert_eq!(out, b"2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n");
        let (out, _) = through(wire, 0, Framing::Chunked, Framing::Close).unwrap();
        assert_eq!(out, b"hi");
    }

    proptest! {
        /// What leaves, read again, is what came: for every framing, cut anywhere.
        #[test]
        fn reframing_keeps_the_payload(payload in prop::collection::vec(any::<u8>(), 1..80), cut: prop::sample::Index) {
            let chunked = [
                format!("{:x};ext=1\r\n", payload.len()).into_bytes(), payload.clone(), b"\r\n0\r\n\r\n".to_vec(),
            ].concat();
            for (wire, from) in [
                (payload.clone(), Framing::Length(payload.len() as u64)),
                (chunked, Framing::Chunked),
                (payload.clone(), Framing::Close),
            ] {
                let (out, done) = through(&wire, cut.index(wire.len() + 1), from, Framing::Chunked).unwrap();
                prop_assert!(done);
                let (again, done) = through(&out, 0, Framing::Chunked, Framing::Close).unwrap();
                prop_assert!(done);
                prop_assert_eq!(&again, &payload);
            }
        }
    }
}
