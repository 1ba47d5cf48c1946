//! Heads: found, understood, written again.

use std::rc::Rc;

use tollgate::{
    base::block::{Block, BlockPool},
    http::{
        Version,
        answer::{self, Asked},
        encode::{self, ApiKeyField, Forwarded, Persistence, RequestAdditions},
        field::Storage,
        head,
        scan::{HeadScan, Scan},
        target,
    },
};

use super::{payments, request};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: gunicorn\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Connection: keep-alive\r\nContent-Type: application/json\r\nContent-Length: 512\r\n\r\n";

/// How much is it to understand a request's head: its end, its fields, its framing, its path?
pub(crate) struct Parse {
    bytes: Vec<u8>,
    scratch: Vec<u8>,
}

impl Parse {
    /// A request of ten fields.
    pub(crate) fn new() -> Self {
        Self { bytes: request(&payments().1), scratch: Vec::with_capacity(256) }
    }

    /// Parses it.
    pub(crate) fn once(&mut self) -> usize {
        let Scan::Complete(length) = HeadScan::default().advance(&self.bytes) else { return 0 };
        let mut storage = Storage::new();
        let head = head::parse(&self.bytes[..length], 100, &mut storage).expect("the head is good");
        let target = target::parse(head.method, head.target, &mut self.scratch).expect("so is its target");
        target.path.len()
    }
}

/// How much is it to write both heads that go on: the request's for the endpoint, the answer's for the client?
pub(crate) struct Encode {
    bytes: Vec<u8>,
    scratch: Vec<u8>,
    pool: Rc<BlockPool>,
}

impl Encode {
    /// A request of ten fields, an answer of five.
    pub(crate) fn new() -> Self {
        let pool = BlockPool::new(32 * 1024, 2);
        drop(pool.rent());
        Self { bytes: request(&payments().1), scratch: Vec::with_capacity(256), pool }
    }

    /// Parses and writes them: what is read cannot outlive a call, so compare with [`Parse`].
    pub(crate) fn once(&mut self) -> usize {
        let mut out: Block = self.pool.rent().expect("there are two");
        let mut storage = Storage::new();
        let head = head::parse(&self.bytes, 100, &mut storage).expect("the head is good");
        let target = target::parse(head.method, head.target, &mut self.scratch).expect("so is its target");
        let additions = RequestAdditions {
            host: b"127.0.0.1:9001",
            request_id: b"0af7651916cd43dd8448eb211c80319c",
            traceparent: b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            peer: b"127.0.0.1",
            forwarded: Forwarded::Replace,
            consumer: Some(b"acme"),
            api_key: ApiKeyField::Withheld,
        };
        encode::request(&mut out, &head, &target, &additions).expect("the block has room");
        let mut storage = Storage::new();
        let answer = answer::parse(ANSWER, Asked::ForAll, &mut storage).expect("the answer is good");
        let framing = encode::framing_for(Version::Http11, answer.framing);
        encode::answer(&mut out, &answer, framing, additions.request_id, b"", Persistence::Keep)
            .expect("the block has room");
        out.unread().len()
    }
}
