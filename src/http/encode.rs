//! Heads written anew: what the next hop gets to see.
//!
//! Copies the fields that may travel on, in their order, and adds the gateway's own behind them. Removal
//! comes first and the gateway's fields last, so nothing a peer names in `Connection` can remove what the
//! gateway says (CVE-2022-31813). Writes into a block that is already rented; too little room is an
//! answer, not an allocation.

use crate::base::block::{Block, Full};

use super::{Version, answer::AnswerHead, field::Kind, framing::Framing, head::RequestHead, target::Target};

/// What the gateway adds to a request.
pub struct RequestAdditions<'a> {
    /// Stands in for a missing `Host` (HTTP/1.0): the endpoint's own address.
    pub host: &'a [u8],
    /// `X-Request-Id`.
    pub request_id: &'a [u8],
    /// `traceparent`.
    pub traceparent: &'a [u8],
    /// The peer's address, for `X-Forwarded-For`.
    pub peer: &'a [u8],
    /// Whether the peer's own `X-Forwarded-For` is believed.
    pub forwarded: Forwarded,
    /// `X-Consumer-Id`, when a token said who is calling.
    pub consumer: Option<&'a [u8]>,
    /// What happens to `X-Api-Key`.
    pub api_key: ApiKeyField,
}

/// What happens to the `X-Api-Key` that came with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiKeyField {
    /// It goes no further: it is the gateway's, and the endpoint's log is no place for it.
    Withheld,
    /// It travels on like any field: the gateway knows no API keys, or the route asks for it.
    PassedOn,
}

/// What happens to the `X-Forwarded-*` fields that came with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// Replaced: the peer could have written anything.
    Replace,
    /// Kept and appended to: the peer is a trusted proxy.
    Append,
}

/// Writes the head of the request to the endpoint.
///
/// # Errors
/// [`Full`] when it does not fit.
pub fn request(
    out: &mut Block,
    head: &RequestHead<'_, '_>,
    target: &Target<'_>,
    additions: &RequestAdditions<'_>,
) -> Result<(), Full> {
    let (mark, query): (&[u8], &[u8]) = target.query.map_or((b"", b""), |query| (b"?", query));
    let host = target.authority.or(head.host).unwrap_or(additions.host);
    out.put_all(&[
        head.method.as_bytes(),
        b" ",
        target.path,
        mark,
        query,
        b" HTTP/1.1\r\nHost: ",
        host,
        b"\r\n",
    ])?;
    for (kind, name, value) in head.fields.iter() {
        let travels = match kind {
            Kind::Other | Kind::Authorization | Kind::LoadMetrics => true,
            Kind::Expect => head.expects_continue,
            Kind::ApiKey => additions.api_key == ApiKeyField::PassedOn,
            Kind::ForwardedProto => additions.forwarded == Forwarded::Append,
            _ => false,
        };
        if travels && !(head.connection.nominates && head.fields.nominated(name)) {
            field(out, name.as_bytes(), value)?;
        }
    }
    out.put(b"X-Forwarded-For: ")?;
    if additions.forwarded == Forwarded::Append {
        for value in head.fields.of_kind(Kind::ForwardedFor) {
            out.put(value)?;
            out.put(b", ")?;
        }
    }
    let says_proto = additions.forwarded == Forwarded::Append && head.fields.has(Kind::ForwardedProto);
    let (consumer_name, consumer): (&[u8], &[u8]) =
        additions.consumer.map_or((b"", b""), |consumer| (b"\r\nX-Consumer-Id: ", consumer));
    out.put_all(&[
        additions.peer,
        if says_proto { b"" } else { b"\r\nX-Forwarded-Proto: http" },
        b"\r\nX-Request-Id: ",
        additions.request_id,
        b"\r\ntraceparent: ",
        additions.traceparent,
        consumer_name,
        consumer,
        b"\r\n",
    ])?;
    // A body-bearing method without a body says so, or endpoints may wait for one (RFC 9110 section 8.6).
    let announce = match head.framing {
        Framing::Empty if matches!(head.method, "POST" | "PUT" | "PATCH") => Some(0),
        _ => None,
    };
    body_fields(out, head.framing, announce)?;
    out.put(b"\r\n")
}

/// How the downstream connection goes on after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// HTTP/1.1 keeps the connection; nothing need be said.
    Keep,
    /// An HTTP/1.0 client must be told that it is kept.
    KeepSaid,
    /// It closes after this answer.
    Close,
}

/// Writes the head of an endpoint's answer to the client. `framing` is how the body will be sent on, which
/// may differ from how it arrives: an HTTP/1.0 client cannot read chunks. `lines` are whole field lines of ours;
/// with them, `Deprecation` and `Sunset` are ours to say and the endpoint's do not pass.
///
/// # Errors
/// [`Full`] when it does not fit.
pub fn answer(
    out: &mut Block,
    head: &AnswerHead<'_, '_>,
    framing: Framing,
    request_id: &[u8],
    lines: &[u8],
    persistence: Persistence,
) -> Result<(), Full> {
    status_line(out, head.status, head.reason.as_bytes())?;
    for (kind, name, value) in head.fields.iter() {
        let travels = !matches!(
            kind,
            Kind::HopByHop
                | Kind::KeepAlive
                | Kind::Connection
                | Kind::ContentLength
                | Kind::TransferEncoding
                | Kind::RequestId
                | Kind::Delivery
        );
        let is_ours = !lines.is_empty()
            && (name.eq_ignore_ascii_case("deprecation") || name.eq_ignore_ascii_case("sunset"));
        let is_for_us = kind == Kind::LoadMetrics && head.load_is_read;
        let is_withheld = is_ours || is_for_us || head.connection.nominates && head.fields.nominated(name);
        if travels && !is_withheld {
            field(out, name.as_bytes(), value)?;
        }
    }
    if !head.is_interim() {
        field(out, b"X-Request-Id", request_id)?;
        out.put(lines)?;
        // 204 must not say a length (RFC 9110 section 8.6); other empty answers say zero.
        let announce = match head.framing {
            Framing::Empty if head.status == 204 => None,
            Framing::Empty if head.status == 304 => head.announced_length,
            Framing::Empty => head.announced_length.or(Some(0).filter(|_| !head.answers_head())),
            _ => None,
        };
        body_fields(out, framing, announce)?;
        out.put(persistence_line(persistence))?;
    }
    out.put(b"\r\n")
}

/// The `Connection` line that states `persistence`; empty where the protocol's default says it already.
pub fn persistence_line(persistence: Persistence) -> &'static [u8] {
    match persistence {
        Persistence::Keep => b"",
        Persistence::KeepSaid => b"Connection: keep-alive\r\n",
        Persistence::Close => b"Connection: close\r\n",
    }
}

/// How a body that arrives framed as `framing` is sent to a client that speaks `version`.
pub fn framing_for(version: Version, framing: Framing) -> Framing {
    match (version, framing) {
        (_, Framing::Empty | Framing::Length(_)) => framing,
        // A body that ends by close arrives without proof of its end; chunks give the client one.
        (Version::Http11, Framing::Chunked | Framing::Close) => Framing::Chunked,
        (Version::Http10, Framing::Chunked | Framing::Close) => Framing::Close,
    }
}

/// Writes one field line.
///
/// # Errors
/// [`Full`] when it does not fit.
pub fn field(out: &mut Block, name: &[u8], value: &[u8]) -> Result<(), Full> {
    out.put_all(&[name, b": ", value, b"\r\n"])
}

/// Writes a status line.
///
/// # Errors
/// [`Full`] when it does not fit.
pub fn status_line(out: &mut Block, status: u16, reason: &[u8]) -> Result<(), Full> {
    let mut digits = itoa::Buffer::new();
    out.put_all(&[b"HTTP/1.1 ", digits.format(status).as_bytes(), b" ", reason, b"\r\n"])
}

fn body_fields(out: &mut Block, framing: Framing, announce: Option<u64>) -> Result<(), Full> {
    let length = match framing {
        Framing::Chunked => return out.put(b"Transfer-Encoding: chunked\r\n"),
        Framing::Length(length) => length,
        Framing::Empty => match announce {
            Some(length) => length,
            None => return Ok(()),
        },
        Framing::Close => return Ok(()),
    };
    field(out, b"Content-Length", itoa::Buffer::new().format(length).as_bytes())
}

/// The line in front of a chunk of `length` bytes, written into `line`.
pub fn chunk_size_line(length: usize, line: &mut [u8; 18]) -> &[u8] {
    let mut at = line.len();
    at -= 2;
    line[at..].copy_from_slice(b"\r\n");
    let mut rest = length;
    loop {
        at -= 1;
        line[at] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
        if rest == 0 {
            return &line[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::block::BlockPool,
        http::{
            answer::{self, Asked},
            field::Storage,
            head, target,
        },
    };

    fn forward(request_head: &str, forwarded: Forwarded) -> String {
        forward_with(request_head, forwarded, ApiKeyField::Withheld)
    }

    fn forward_with(request_head: &str, forwarded: Forwarded, api_key: ApiKeyField) -> String {
        let pool = BlockPool::new(4096, 1);
        let mut out = pool.rent().unwrap();
        let mut storage = Storage::new();
        let mut scratch = Vec::new();
        let head = head::parse(request_head.as_bytes(), 100, &mut storage).unwrap();
        let target = target::parse(head.method, head.target, &mut scratch).unwrap();
        let additions = RequestAdditions {
            host: b"127.0.0.1:9001",
            request_id: b"id-1",
            traceparent: b"00-0-0-00",
            peer: b"192.0.2.7",
            forwarded,
            consumer: Some(b"acme"),
            api_key,
        };
        request(&mut out, &head, &target, &additions).unwrap();
        // What we forward, read strictly, has one reading only.
        let mut again = Storage::new();
        let reread = head::parse(out.unread(), 100, &mut again).expect("our own head is a head");
        assert_eq!(reread.framing, head.framing);
        String::from_utf8(out.unread().to_vec()).unwrap()
    }

    #[test]
    fn a_request_loses_what_is_not_for_the_endpoint() {
        let sent = forward(
            "POST /p%61y?a=b HTTP/1.1\r\nHost: pay\r\nConnection: close, X-Hop, Host, X-Forwarded-For\r\n\
             X-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\nProxy-Authorization: x\r\n\
             X-Consumer-Id: mallory\r\nX_Consumer_Id: mallory\r\nX-Forwarded-For: 6.6.6.6\r\n\
             X-Forwarded-Proto: https\r\nX-Request-Id: theirs\r\ntraceparent: theirs\r\nAccept: */*\r\n\
             Content_Length: 3\r\nContent-Length: 2\r\n\r\n",
            Forwarded::Replace,
        );
        assert_eq!(
            sent,
            "POST /pay?a=b HTTP/1.1\r\nHost: pay\r\nAccept: */*\r\nX-Forwarded-For: 192.0.2.7\r\n\
             X-Forwarded-Proto: http\r\nX-Request-Id: id-1\r\ntraceparent: 00-0-0-00\r\n\
             X-Consumer-Id: acme\r\nContent-Length: 2\r\n\r\n"
        );
    }

    #[test]
    fn a_trusted_proxys_word_is_kept() {
        let sent = forward(
            "GET http://other/ HTTP/1.1\r\nHost: pay\r\nX-Forwarded-For: 1.1.1.1\r\n\
             X-Forwarded-Proto: https\r\n\r\n",
            Forwarded::Append,
        );
        assert!(sent.contains("Host: other\r\n"), "{sent}");
        assert!(sent.contains("X-Forwarded-For: 1.1.1.1, 192.0.2.7\r\n"), "{sent}");
        assert!(sent.contains("X-Forwarded-Proto: https\r\n") && !sent.contains("Proto: http\r\n"), "{sent}");
    }

    #[test]
    fn an_api_key_travels_only_when_it_may() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nx-api-key: tg_secret\r\nX_Api_Key: tg_secret\r\n\r\n";
        let sent = forward_with(head, Forwarded::Replace, ApiKeyField::Withheld);
        assert!(!sent.contains("tg_secret"), "{sent}");
        let sent = forward_with(head, Forwarded::Replace, ApiKeyField::PassedOn);
        assert!(sent.contains("x-api-key: tg_secret\r\n") && !sent.contains("X_Api_Key"), "{sent}");
    }

    #[test]
    fn bodies_are_announced_once() {
        let post = forward("POST / HTTP/1.1\r\nHost: a\r\n\r\n", Forwarded::Replace);
        assert!(post.ends_with("Content-Length: 0\r\n\r\n"), "{post}");
        let get = forward("GET / HTTP/1.0\r\n\r\n", Forwarded::Replace);
        assert!(!get.contains("Content-Length") && get.contains("Host: 127.0.0.1:9001"), "{get}");
        let chunked =
            forward("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", Forwarded::Replace);
        assert!(chunked.ends_with("Transfer-Encoding: chunked\r\n\r\n"), "{chunked}");
    }

    fn relay(answer_head: &str, asked: Asked, version: Version, persistence: Persistence) -> String {
        let pool = BlockPool::new(4096, 1);
        let mut out = pool.rent().unwrap();
        let mut storage = Storage::new();
        let head = answer::parse(answer_head.as_bytes(), asked, &mut storage).unwrap();
        answer(&mut out, &head, framing_for(version, head.framing), b"id-1", b"", persistence).unwrap();
        String::from_utf8(out.unread().to_vec()).unwrap()
    }

    #[test]
    fn an_answer_is_framed_for_its_client() {
        let head = "HTTP/1.1 200 Fine\r\nServer: nginx\r\nX-Request-Id: theirs\r\nKeep-Alive: 5\r\n\
                    Connection: X-Hop\r\nX-Hop: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(
            relay(head, Asked::ForAll, Version::Http11, Persistence::Keep),
            "HTTP/1.1 200 Fine\r\nServer: nginx\r\nX-Request-Id: id-1\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        assert_eq!(
            relay(head, Asked::ForAll, Version::Http10, Persistence::Close),
            "HTTP/1.1 200 Fine\r\nServer: nginx\r\nX-Request-Id: id-1\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn empty_answers_say_what_they_may() {
        let lines = |head: &str, asked| relay(head, asked, Version::Http11, Persistence::Keep);
        assert!(lines("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Asked::ForAll).contains("Length: 0"));
        assert!(
            lines("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", Asked::ForHeadOnly).contains("Length: 7")
        );
        assert!(!lines("HTTP/1.1 200 OK\r\n\r\n", Asked::ForHeadOnly).contains("Length"));
        assert!(!lines("HTTP/1.1 204 OK\r\nContent-Length: 7\r\n\r\n", Asked::ForAll).contains("Length"));
        assert!(!lines("HTTP/1.1 304 OK\r\n\r\n", Asked::ForAll).contains("Length"));
        assert_eq!(lines("HTTP/1.1 100 Continue\r\n\r\n", Asked::ForAll), "HTTP/1.1 100 Continue\r\n\r\n");
    }

    #[test]
    fn chunk_size_lines() {
        for length in [0, 1, 15, 16, 255, 65_536, usize::MAX] {
            let expected = format!("{length:x}\r\n");
            assert_eq!(chunk_size_line(length, &mut [0; 18]), expected.as_bytes());
        }
    }
}
