//! Reads answers: where each one ends, its status, and whether the connection can carry another request.
//!
//! RFC 9112 section 6.3: `Content-Length`, chunked, until close, no body for HEAD, 204 and 304; interim 1xx
//! answers are skipped. Holds at most one head; never keeps a body.

use std::mem::MaybeUninit;

use super::{
    chunked::Chunked,
    head::{Beginning, FIELDS_MAX, Fields, Malformed},
};

/// A complete answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Whether the connection may carry another request.
    pub(crate) reusable: bool,
}

/// What the bytes given so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The answer has not ended; every byte was taken.
    Partial,
    /// The answer has ended after `taken` of the bytes given.
    Complete { answer: Answer, taken: usize },
}

/// Reads one answer after another.
#[derive(Debug, Default)]
pub(crate) struct AnswerReader {
    place: Place,
    beginning: Beginning,
    answer: Option<Answer>,
    /// The request was a HEAD: its answer has no body whatever its fields say.
    bodiless: bool,
}

#[derive(Debug, Default)]
enum Place {
    #[default]
    Head,
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

impl AnswerReader {
    /// Begins the answer to a new request.
    pub(crate) fn begin(&mut self, head_request: bool) {
        self.place = Place::Head;
        self.beginning.clear();
        self.answer = None;
        self.bodiless = head_request;
    }

    /// Takes received bytes.
    ///
    /// # Errors
    /// When they are not an HTTP/1.x answer.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Progress, Malformed> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            match &mut self.place {
                Place::Head => {
                    let Some(taken) = self.head(rest)? else { return Ok(Progress::Partial) };
                    at += taken;
                }
                Place::Length(left) => {
                    let taken = (*left).min(rest.len() as u64);
                    *left -= taken;
                    at += taken as usize;
                    return Ok(if *left == 0 { self.complete(at) } else { Progress::Partial });
                }
                Place::Chunked(coding) => {
                    let (taken, ended) = coding.feed(rest)?;
                    return Ok(if ended { self.complete(at + taken) } else { Progress::Partial });
                }
                Place::UntilClose => return Ok(Progress::Partial),
            }
        }
    }

    /// The peer has sent its end: the answer that ends with it, if one does.
    pub(crate) fn close(&mut self) -> Option<Answer> {
        matches!(self.place, Place::UntilClose).then_some(self.answer).flatten()
    }

    fn complete(&self, taken: usize) -> Progress {
        let answer = self.answer.unwrap_or(Answer { status: 0, reusable: false });
        Progress::Complete { answer, taken }
    }

    /// Reads a head; `Some(taken)` when it has ended and the place is what follows it.
    fn head(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        if self.beginning.is_empty() {
            return match read(bytes, self.bodiless)? {
                Some((head, taken)) => {
                    self.follow(head);
                    Ok(Some(taken))
                }
                None => {
                    self.beginning.push(bytes)?;
                    Ok(None)
                }
            };
        }
        let before = self.beginning.len();
        let Some((head, taken)) = read(self.beginning.push(bytes)?, self.bodiless)? else { return Ok(None) };
        self.beginning.clear();
        self.follow(head);
        Ok(Some(taken - before))
    }

    fn follow(&mut self, head: Head) {
        match head {
            Head::Interim => self.place = Place::Head,
            Head::Final { answer, body } => {
                self.answer = Some(answer);
                self.place = body;
            }
        }
    }
}

enum Head {
    Interim,
    Final { answer: Answer, body: Place },
}

/// Reads a whole head and its length, or says that its end has not arrived.
fn read(bytes: &[u8], bodiless: bool) -> Result<Option<(Head, usize)>, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let taken = match httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        &mut fields,
    ) {
        Ok(httparse::Status::Complete(taken)) => taken,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed("an answer with more than 128 fields")),
        Err(_) => return Err(Malformed("not an HTTP/1.x answer")),
    };
    let status = response.code.unwrap_or(0);
    let fields = Fields::read(response.headers)?;
    if !(100..600).contains(&status) || status == 101 {
        return Err(Malformed("a status that answers nothing"));
    }
    if status < 200 {
        return Ok(Some((Head::Interim, taken)));
    }
    let persistent = if response.version == Some(1) { !fields.close } else { fields.keep_alive };
    let body = if bodiless || status == 204 || status == 304 {
        Place::Length(0)
    } else if fields.chunked {
        Place::Chunked(Chunked::default())
    } else {
        fields.content_length.map_or(Place::UntilClose, Place::Length)
    };
    let reusable = persistent && !matches!(body, Place::UntilClose);
    Ok(Some((Head::Final { answer: Answer { status, reusable }, body }, taken)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads `stream` cut at `cuts`: the answer, and how many bytes it took.
    fn read_in_pieces(
        stream: &[u8],
        head_request: bool,
        cuts: &[usize],
    ) -> Result<Option<(Answer, usize)>, Malformed> {
        let mut reader = AnswerReader::default();
        reader.begin(head_request);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        cuts.push(stream.len());
        cuts.sort_unstable();
        let mut at = 0;
        for cut in cuts {
            if let Progress::Complete { answer, taken } = reader.feed(&stream[at..cut])? {
                return Ok(Some((answer, at + taken)));
            }
            at = cut;
        }
        Ok(reader.close().map(|answer| (answer, stream.len())))
    }

    fn whole(stream: &str, head_request: bool) -> Result<Option<(Answer, usize)>, Malformed> {
        read_in_pieces(stream.as_bytes(), head_request, &[])
    }

    #[test]
    fn knows_every_way_an_answer_ends() {
        let cases = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false, 200, true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false, 200, true),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                false,
                200,
                true,
            ),
            ("HTTP/1.1 200 OK\r\n\r\nuntil close", false, 200, false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", true, 200, true),
            ("HTTP/1.1 204 No Content\r\n\r\n", false, 204, true),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", false, 304, true),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok",
                false,
                201,
                true,
            ),
            ("HTTP/1.1 500 X\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno", false, 500, false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false, 200, false),
            ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok", false, 200, true),
        ];
        for (stream, head_request, status, reusable) in cases {
            let expected = Ok(Some((Answer { status, reusable }, stream.len())));
            assert_eq!(whole(stream, head_request), expected, "{stream:?}");
        }
    }

    #[test]
    fn refuses_what_is_no_answer() {
        for stream in [
            "SSH-2.0-OpenSSH_9.2\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 700 X\r\nContent-Length: 0\r\n\r\n",
        ] {
            assert!(whole(stream, false).is_err(), "{stream:?} was taken");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(200_000));
        assert!(read_in_pieces(endless.as_bytes(), false, &[1000, 70_000, 140_000]).is_err());
    }

    #[test]
    fn an_answer_cut_short_is_not_an_answer() {
        for stream in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"] {
            assert_eq!(whole(stream, false), Ok(None), "{stream:?}");
        }
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            body in proptest::collection::vec(any::<u8>(), 0..300),
            chunk in 1usize..60,
            framing in 0u8..2,
            interim in any::<bool>(),
            cuts in proptest::collection::vec(any::<usize>(), 0..12),
            after in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut stream = Vec::new();
            if interim {
                stream.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            if framing == 0 {
                stream.extend_from_slice(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes());
                stream.extend_from_slice(&body);
            } else {
                stream.extend_from_slice(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                for part in body.chunks(chunk) {
                    stream.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                    stream.extend_from_slice(part);
                    stream.extend_from_slice(b"\r\n");
                }
                stream.extend_from_slice(b"0\r\n\r\n");
            }
            let end = stream.len();
            stream.extend_from_slice(&after);
            let answer = Answer { status: 200, reusable: true };
            prop_assert_eq!(read_in_pieces(&stream, false, &cuts), Ok(Some((answer, end))));
        }

        #[test]
        fn no_bytes_make_it_panic(stream in proptest::collection::vec(any::<u8>(), 0..400), cuts in proptest::collection::vec(any::<usize>(), 0..8)) {
            let _ = read_in_pieces(&stream, false, &cuts);
        }
    }
}
