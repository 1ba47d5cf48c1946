//! Answer heads: what an endpoint says, believed only as far as it is unambiguous.
//!
//! The counterpart of `head.rs` for responses. Knows which answers have no body (RFC 9112 section 6.3).
//! An error here is the endpoint's fault and costs it the connection.

use super::{
    AnswerError, Version,
    field::{ConnectionOptions, Fields, Kind, Storage},
    framing::{Framing, FramingFields},
};

/// The head of an endpoint's answer.
pub struct AnswerHead<'h, 'b> {
    /// 100 to 599, never 101.
    pub status: u16,
    /// The reason phrase as sent; may be empty.
    pub reason: &'b str,
    /// All fields.
    pub fields: Fields<'h, 'b>,
    /// Where the body ends.
    pub framing: Framing,
    /// The length announced by an answer that has no body itself: to HEAD, or a 304.
    pub announced_length: Option<u64>,
    /// What the `Connection` fields say.
    pub connection: ConnectionOptions,
    /// How long the endpoint says it keeps an idle connection, in seconds.
    pub keeps_alive_s: Option<u32>,
    /// Whether `endpoint-load-metrics` was for the gateway, and goes no further.
    pub load_is_read: bool,
    asked: Asked,
    version: Version,
}

impl AnswerHead<'_, '_> {
    /// An interim answer: the final one is still to come (RFC 9110 section 15.2).
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }

    /// Whether the question was a HEAD, whose answer may keep silent about the length.
    pub fn answers_head(&self) -> bool {
        self.asked == Asked::ForHeadOnly
    }

    /// What the endpoint says of its load, which is for the gateway from now on.
    pub fn read_load(&mut self) -> impl Iterator<Item = &[u8]> {
        self.load_is_read = true;
        self.fields.of_kind(Kind::LoadMetrics)
    }

    /// Whether the endpoint keeps the connection open for another request.
    pub fn keeps_alive(&self) -> bool {
        self.framing != Framing::Close
            && !self.connection.close
            && match self.version {
                Version::Http11 => true,
                Version::Http10 => self.connection.keep_alive,
            }
    }
}

/// Whether the request's method forbids a body in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// HEAD: the answer ends with its head.
    ForHeadOnly,
    /// Anything else.
    ForAll,
}

/// Parses `head`, which ends with its empty line.
///
/// # Errors
/// The rule the endpoint broke.
pub fn parse<'h, 'b>(
    head: &'b [u8],
    asked: Asked,
    storage: &'h mut Storage<'b>,
) -> Result<AnswerHead<'h, 'b>, AnswerError> {
    let Storage { headers, kinds } = storage;
    let mut response = httparse::Response::new(&mut []);
    let parsed =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, head, headers);
    match parsed {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(AnswerError("the head does not end where its empty line is")),
        Err(httparse::Error::TooManyHeaders) => return Err(AnswerError("too many fields")),
        Err(_) => return Err(AnswerError("not an HTTP/1 answer head")),
    }
    let (Some(status), Some(minor)) = (response.code, response.version) else {
        return Err(AnswerError("an incomplete status line"));
    };
    let reason = response.reason.unwrap_or_default();
    if !(100..=599).contains(&status) {
        return Err(AnswerError("a status outside 100 to 599"));
    }
    if status == 101 {
        // We never forward Upgrade, so nobody asked to switch.
        return Err(AnswerError("101 without an upgrade"));
    }
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let fields = Fields::classify(response.headers, kinds);
    let mut framing = FramingFields::default();
    let mut connection = ConnectionOptions::default();
    let mut keeps_alive_s = None;
    for (kind, _, value) in fields.iter() {
        match kind {
            Kind::ContentLength => framing.note_length(value),
            Kind::TransferEncoding => framing.note_coding(value),
            Kind::Connection => connection.add(value),
            Kind::KeepAlive => keeps_alive_s = keeps_alive_s.or_else(|| timeout_in(value)),
            _ => {}
        }
    }
    let bodiless = asked == Asked::ForHeadOnly || status < 200 || status == 204 || status == 304;
    let announced_length = match bodiless && status >= 200 && status != 204 {
        true => framing.announced_length()?,
        false => None,
    };
    let framing = if bodiless { Framing::Empty } else { framing.of_answer(version)? };
    Ok(AnswerHead {
        status,
        reason,
        fields,
        framing,
        announced_length,
        connection,
        keeps_alive_s,
        load_is_read: false,
        asked,
        version,
    })
}

/// The `timeout` of a `Keep-Alive` field, such as `timeout=5, max=100` (RFC 2068 section 19.7.1.1).
fn timeout_in(value: &[u8]) -> Option<u32> {
    let parameters = std::str::from_utf8(value).ok()?.split(',').map(str::trim);
    let mut parts = parameters.filter_map(|parameter| parameter.split_once('='));
    let (_, seconds) = parts.find(|(name, _)| name.trim_end().eq_ignore_ascii_case("timeout"))?;
    seconds.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str, asked: Asked) -> Result<(u16, Framing, bool), AnswerError> {
        let mut storage = Storage::new();
        parse(head.as_bytes(), asked, &mut storage)
            .map(|head| (head.status, head.framing, head.keeps_alive()))
    }

    #[test]
    fn answers_with_and_without_bodies() {
        let all = |head| read(head, Asked::ForAll).unwrap();
        assert_eq!(all("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"), (200, Framing::Length(3), true));
        assert_eq!(all("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), (200, Framing::Empty, true));
        assert_eq!(all("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n"), (200, Framing::Chunked, true));
        assert_eq!(all("HTTP/1.1 200 OK\r\n\r\n"), (200, Framing::Close, false));
        assert_eq!(all("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n"), (200, Framing::Length(3), false));
        assert_eq!(all("HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n"), (204, Framing::Empty, true));
        assert_eq!(all("HTTP/1.1 304 Not\r\n\r\n"), (304, Framing::Empty, true));
        assert_eq!(all("HTTP/1.1 100 Go\r\n\r\n"), (100, Framing::Empty, true));
        assert_eq!(
            read("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", Asked::ForHeadOnly),
            Ok((200, Framing::Empty, true))
        );
    }

    #[test]
    fn how_long_an_endpoint_keeps_a_connection() {
        let keeps = |fields: &str| {
            let mut storage = Storage::new();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{fields}\r\n");
            parse(head.as_bytes(), Asked::ForAll, &mut storage).unwrap().keeps_alive_s
        };
        assert_eq!(keeps("Keep-Alive: timeout=5, max=100\r\n"), Some(5));
        assert_eq!(keeps("keep-alive: max=100,Timeout = 75\r\n"), Some(75));
        for nothing in ["", "Keep-Alive: max=5\r\n", "Keep-Alive: timeout=x\r\n", "Keep-Alive: 5\r\n"] {
            assert_eq!(keeps(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn answers_that_lie() {
        for head in [
            "HTTP/1.1 101 Switching\r\n\r\n",
            "HTTP/1.1 999 What\r\n\r\n",
            "HTTP/1.1 099 What\r\n\r\n",
            "HTTP/1.1 20 What\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "garbage\r\n\r\n",
        ] {
            assert!(read(head, Asked::ForAll).is_err(), "{head:?}");
        }
    }
}
