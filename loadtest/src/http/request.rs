//! Reads requests for the scripted endpoint: where each one ends, and how it wants to be answered.
//!
//! Takes a body of any framing. Holds at most one head; never keeps a body.

use std::mem::MaybeUninit;

use super::{
    chunked::Chunked,
    head::{Beginning, FIELDS_MAX, Fields, Malformed},
};

/// A complete request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    /// HEAD: the answer must not have a body.
    pub(crate) head: bool,
    /// Whether the client wants to send another on this connection.
    pub(crate) persistent: bool,
}

/// What the bytes given so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Every byte was taken and the request has not ended.
    Partial,
    /// As `Partial`, and the client waits for `100 Continue` before it sends the body.
    Continue,
    /// The request has ended after `taken` of the bytes given.
    Complete { request: Request, taken: usize },
}

/// Reads one request after another.
#[derive(Debug, Default)]
pub(crate) struct RequestReader {
    place: Place,
    beginning: Beginning,
    request: Option<Request>,
}

#[derive(Debug, Default)]
enum Place {
    #[default]
    Head,
    Length(u64),
    Chunked(Chunked),
}

impl RequestReader {
    /// Takes received bytes.
    ///
    /// # Errors
    /// When they are not an HTTP/1.x request.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Progress, Malformed> {
        let mut at = 0;
        let mut waits = false;
        loop {
            let rest = &bytes[at..];
            let ended = match &mut self.place {
                Place::Head => {
                    let Some((taken, expect)) = self.head(rest)? else { return Ok(Progress::Partial) };
                    at += taken;
                    waits = expect && at == bytes.len();
                    matches!(self.place, Place::Length(0))
                }
                Place::Length(left) => {
                    let taken = (*left).min(rest.len() as u64);
                    *left -= taken;
                    at += taken as usize;
                    if *left > 0 {
                        return Ok(if waits { Progress::Continue } else { Progress::Partial });
                    }
                    true
                }
                Place::Chunked(coding) => {
                    let (taken, ended) = coding.feed(rest)?;
                    at += taken;
                    if !ended {
                        return Ok(if waits { Progress::Continue } else { Progress::Partial });
                    }
                    true
                }
            };
            if ended {
                self.place = Place::Head;
                let request = self.request.take().unwrap_or(Request { head: false, persistent: false });
                return Ok(Progress::Complete { request, taken: at });
            }
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Result<Option<(usize, bool)>, Malformed> {
        let before = self.beginning.len();
        let head = if before == 0 { read(bytes)? } else { read(self.beginning.push(bytes)?)? };
        let Some(head) = head else {
            if before == 0 {
                self.beginning.push(bytes)?;
            }
            return Ok(None);
        };
        self.beginning.clear();
        self.request = Some(head.request);
        self.place = head.body;
        Ok(Some((head.bytes - before, head.expect)))
    }
}

struct Head {
    request: Request,
    body: Place,
    expect: bool,
    bytes: usize,
}

fn read(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let taken = match request.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(taken)) => taken,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Malformed("not an HTTP/1.x request")),
    };
    let fields = Fields::read(request.headers)?;
    let body = if fields.chunked {
        Place::Chunked(Chunked::default())
    } else {
        Place::Length(fields.content_length.unwrap_or(0))
    };
    let persistent = if request.version == Some(1) { !fields.close } else { fields.keep_alive };
    let request = Request { head: request.method == Some("HEAD"), persistent };
    Ok(Some(Head { request, body, expect: fields.expect, bytes: taken }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every request of `stream`, given in pieces of `piece` bytes.
    fn requests(stream: &[u8], piece: usize) -> Result<Vec<Request>, Malformed> {
        let mut reader = RequestReader::default();
        let mut found = Vec::new();
        for mut part in stream.chunks(piece) {
            while !part.is_empty() {
                let Progress::Complete { request, taken } = reader.feed(part)? else { break };
                found.push(request);
                part = &part[taken..];
            }
        }
        Ok(found)
    }

    #[test]
    fn reads_bodies_of_any_framing_and_what_follows() {
        let stream = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\
            POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET \
            POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
            HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let plain = Request { head: false, persistent: true };
        let last = Request { head: true, persistent: false };
        for piece in 1..=stream.len() {
            assert_eq!(requests(stream, piece), Ok(vec![plain, plain, plain, last]), "pieces of {piece}");
        }
    }

    #[test]
    fn asks_for_the_body_once() {
        let mut reader = RequestReader::default();
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
        assert_eq!(reader.feed(head), Ok(Progress::Continue));
        assert_eq!(reader.feed(b"bo"), Ok(Progress::Partial));
        assert!(matches!(reader.feed(b"dy"), Ok(Progress::Complete { taken: 2, .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(stream in proptest::collection::vec(any::<u8>(), 0..400), piece in 1usize..40) {
            let _ = requests(&stream, piece);
        }
    }
}
