//! What the scripted endpoint answers: the bytes of each answer, made once, and when they leave.

use rand::rngs::StdRng;

use super::delay::{Delay, Stall};
use crate::{http::request::Request, share::Share};

/// Bytes of one chunk of a chunked body.
const CHUNK_BYTES: usize = 16 * 1024;

/// The script, shared by all threads and never changed.
#[derive(Debug)]
pub(crate) struct Script {
    delay: Delay,
    stall: Option<Stall>,
    fail: Share,
    close: bool,
    /// By failure, then by HEAD, then by whether the connection closes.
    answers: [[[Vec<u8>; 2]; 2]; 2],
}

/// One decision of the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) leave_ns: u64,
    pub(crate) failure: bool,
    pub(crate) head: bool,
    pub(crate) close: bool,
}

impl Script {
    pub(crate) fn new(
        delay: Delay,
        stall: Option<Stall>,
        fail: Share,
        body: usize,
        chunked: bool,
        close: bool,
    ) -> Self {
        let answer = |failure: bool, head: bool, close: bool| render(failure, head, close, body, chunked);
        let answers = [false, true]
            .map(|failure| [false, true].map(|head| [false, true].map(|close| answer(failure, head, close))));
        Self { delay, stall, fail, close, answers }
    }

    /// Decides on a request that was complete at `now_ns`.
    pub(crate) fn reply(&self, request: Request, now_ns: u64, random: &mut StdRng) -> Reply {
        let ready_ns = now_ns + self.delay.draw(random);
        Reply {
            leave_ns: self.stall.map_or(ready_ns, |stall| stall.leave_ns(ready_ns)),
            failure: self.fail.hit(random),
            head: request.head,
            close: self.close || !request.persistent,
        }
    }

    /// The bytes of a reply.
    pub(crate) fn bytes(&self, reply: Reply) -> &[u8] {
        &self.answers[usize::from(reply.failure)][usize::from(reply.head)][usize::from(reply.close)]
    }
}

fn render(failure: bool, head: bool, close: bool, body_bytes: usize, chunked: bool) -> Vec<u8> {
    let status = if failure { "500 Internal Server Error" } else { "200 OK" };
    let body: Vec<u8> = b"hello world\n".iter().copied().cycle().take(body_bytes).collect();
    let framing =
        if chunked { "Transfer-Encoding: chunked".into() } else { format!("Content-Length: {}", body.len()) };
    let connection = if close { "Connection: close\r\n" } else { "" };
    let mut answer =
        format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\n{framing}\r\n{connection}\r\n")
            .into_bytes();
    if head {
        return answer;
    }
    if !chunked {
        answer.extend_from_slice(&body);
        return answer;
    }
    for chunk in body.chunks(CHUNK_BYTES) {
        answer.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        answer.extend_from_slice(chunk);
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"0\r\n\r\n");
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::answer::{AnswerReader, Progress};

    #[test]
    fn every_answer_is_framed_as_it_says() {
        for (body, chunked) in [(0, false), (12, false), (100_000, false), (0, true), (100_000, true)] {
            let script = Script::new(Delay::Fixed { ns: 0 }, None, Share::NONE, body, chunked, false);
            for failure in [false, true] {
                for head in [false, true] {
                    for close in [false, true] {
                        let bytes = script.bytes(Reply { leave_ns: 0, failure, head, close });
                        let mut reader = AnswerReader::default();
                        reader.begin(head);
                        let Ok(Progress::Complete { answer, taken }) = reader.feed(bytes) else {
                            panic!("no whole answer for body {body}, chunked {chunked}");
                        };
                        assert_eq!(taken, bytes.len());
                        assert_eq!((answer.status == 500, answer.reusable), (failure, !close));
                    }
                }
            }
        }
    }
}
