//! Request heads: parsed without copying a byte, checked against everything a gateway must not pass on.
//!
//! httparse finds the pieces; this module decides what they mean together. A [`RequestHead`] that exists
//! has exactly one reading. It borrows from the connection's buffer and never outlives the step that
//! decides about it.

use super::{
    HeadError, Version,
    field::{ConnectionOptions, Fields, Kind, Storage},
    framing::{Framing, FramingFields},
};

/// A request head with one reading.
pub struct RequestHead<'h, 'b> {
    /// The method as sent; an RFC 9110 token.
    pub method: &'b str,
    /// The target as sent; see [`super::target`].
    pub target: &'b str,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// All fields.
    pub fields: Fields<'h, 'b>,
    /// The one `Host` field; absent only in HTTP/1.0.
    pub host: Option<&'b [u8]>,
    /// Where the body ends.
    pub framing: Framing,
    /// What the `Connection` fields say.
    pub connection: ConnectionOptions,
    /// The client waits for `100 Continue` before it sends its body.
    pub expects_continue: bool,
    /// What stands in the `Authorization` field.
    pub authorization: Authorization<'b>,
    /// What stands in the `X-Api-Key` field.
    pub api_key: Authorization<'b>,
}

/// The fields of a request that say who sends it: all of one name, `Authorization` or `X-Api-Key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization<'b> {
    /// None.
    Absent,
    /// One, with this value.
    One(&'b [u8]),
    /// Several: nobody can say which counts.
    Several,
}

impl<'b> Authorization<'b> {
    /// With one more field of the name.
    fn and(self, value: &'b [u8]) -> Self {
        match self {
            Self::Absent => Self::One(value),
            Self::One(_) | Self::Several => Self::Several,
        }
    }
}

impl RequestHead<'_, '_> {
    /// Whether the client can send another request on this connection after this one.
    pub fn keeps_alive(&self) -> bool {
        !self.connection.close
            && match self.version {
                Version::Http11 => true,
                Version::Http10 => self.connection.keep_alive,
            }
    }
}

/// Parses `head`, which ends with its empty line.
///
/// # Errors
/// What is wrong with it; see [`HeadError`].
pub fn parse<'h, 'b>(
    head: &'b [u8],
    fields_max: usize,
    storage: &'h mut Storage<'b>,
) -> Result<RequestHead<'h, 'b>, HeadError> {
    let Storage { headers, kinds } = storage;
    let fields_max = fields_max.min(headers.len());
    let mut request = httparse::Request::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_request_with_uninit_headers(
        &mut request,
        head,
        &mut headers[..fields_max],
    );
    match parsed {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        // The scan found an empty line where httparse did not, or the other way round.
        Ok(_) => return Err(HeadError::Malformed("the head does not end where its empty line is")),
        Err(error) => return Err(explain(error, head)),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(HeadError::Malformed("an incomplete request line"));
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let fields = Fields::classify(request.headers, kinds);
    collect(RequestHead {
        method,
        target,
        version,
        fields,
        host: None,
        framing: Framing::Empty,
        connection: ConnectionOptions::default(),
        expects_continue: false,
        authorization: Authorization::Absent,
        api_key: Authorization::Absent,
    })
}

/// Whether `partial`, the beginning of a head, can still become a request.
///
/// # Errors
/// What is already wrong with it.
pub fn check_partial(partial: &[u8]) -> Result<(), HeadError> {
    let mut storage = Storage::new();
    let mut request = httparse::Request::new(&mut []);
    match httparse::ParserConfig::default().parse_request_with_uninit_headers(
        &mut request,
        partial,
        &mut storage.headers,
    ) {
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Ok(()),
        Err(error) => Err(explain(error, partial)),
    }
}

/// What is too long about a head of more than `bytes_max`: its target, if the first line alone is.
pub fn too_long(head: &[u8], bytes_max: usize) -> HeadError {
    let line = &head[..head.len().min(bytes_max)];
    match memchr::memchr(b'\n', line) {
        Some(_) => HeadError::HeadTooLarge("bytes"),
        None => HeadError::TargetTooLong,
    }
}

/// Reads the known fields, once, in the order they came.
fn collect<'h, 'b>(mut head: RequestHead<'h, 'b>) -> Result<RequestHead<'h, 'b>, HeadError> {
    let mut framing = FramingFields::default();
    for (kind, _, value) in head.fields.iter() {
        match kind {
            Kind::Host => {
                if head.host.is_some() {
                    return Err(HeadError::Malformed("several Host fields"));
                }
                if !is_authority(value) {
                    return Err(HeadError::Malformed("Host is not a host and port"));
                }
                head.host = Some(value);
            }
            Kind::ContentLength => framing.note_length(value),
            Kind::TransferEncoding => framing.note_coding(value),
            Kind::Connection => head.connection.add(value),
            // RFC 9110 section 10.1.1: an HTTP/1.0 client cannot mean it.
            Kind::Expect if head.version == Version::Http10 => {}
            Kind::Expect if value.eq_ignore_ascii_case(b"100-continue") => head.expects_continue = true,
            Kind::Expect => return Err(HeadError::ExpectationFailed),
            Kind::Authorization => head.authorization = head.authorization.and(value),
            Kind::ApiKey => head.api_key = head.api_key.and(value),
            _ => {}
        }
    }
    if head.host.is_none() && head.version == Version::Http11 {
        return Err(HeadError::Malformed("HTTP/1.1 without Host"));
    }
    if head.method == "CONNECT" {
        // RFC 9110 section 9.3.6: a tunnel would carry what nobody checks.
        return Err(HeadError::NotImplemented("CONNECT"));
    }
    head.framing = framing.of_request(head.version)?;
    Ok(head)
}

/// Whether `value` is a host, optionally with a port (RFC 3986 section 3.2, without user information).
pub fn is_authority(value: &[u8]) -> bool {
    let (host, port) = match value {
        [b'[', rest @ ..] => match memchr::memchr(b']', rest) {
            Some(end) => {
                let literal = &rest[..end];
                if literal.is_empty() || !literal.iter().all(|&b| b.is_ascii_hexdigit() || b":.".contains(&b))
                {
                    return false;
                }
                match &rest[end + 1..] {
                    [] => return true,
                    [b':', port @ ..] => (literal, port),
                    _ => return false,
                }
            }
            None => return false,
        },
        _ => match memchr::memchr(b':', value) {
            Some(colon) => (&value[..colon], &value[colon + 1..]),
            None => (value, &b""[..]),
        },
    };
    !host.is_empty()
        && host.len() <= 255
        && is_port(port)
        && (value[0] == b'[' || host.iter().all(|&b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)))
}

/// Whether `text` is a port, or nothing, which RFC 3986 section 3.2.3 lets stand for the usual one.
fn is_port(text: &[u8]) -> bool {
    text.len() <= 5
        && text.iter().all(u8::is_ascii_digit)
        && text.iter().fold(0, |port, digit| port * 10 + u32::from(digit - b'0')) <= u32::from(u16::MAX)
}

fn explain(error: httparse::Error, head: &[u8]) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::HeadTooLarge("more fields than headers_max"),
        httparse::Error::Version if names_other_version(head) => HeadError::VersionNotSupported,
        httparse::Error::Version => HeadError::Malformed("not an HTTP version"),
        httparse::Error::HeaderName => HeadError::Malformed("a field name or the white space around it"),
        httparse::Error::HeaderValue => HeadError::Malformed("a byte that a field value must not hold"),
        httparse::Error::NewLine => HeadError::Malformed("a line end that is not CR LF"),
        httparse::Error::Status | httparse::Error::Token => HeadError::Malformed("the request line"),
    }
}

/// Whether the request line ends with a version that is well-formed but not ours: `HTTP/2.0`, `HTTP/1.2`.
fn names_other_version(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let version = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit() && !(*major == b'1' && matches!(minor, b'0' | b'1')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn verdict(head: &str) -> Result<Framing, HeadError> {
        let mut storage = Storage::new();
        parse(head.as_bytes(), 100, &mut storage).map(|head| head.framing)
    }

    fn malformed(head: &str) -> bool {
        matches!(verdict(head), Err(HeadError::Malformed(_)))
    }

    #[test]
    fn an_ordinary_head() {
        let bytes = b"POST /pay?x=1 HTTP/1.1\r\nHost: pay.example\r\nAuthorization: Bearer abc\r\n\
                      Content-Length: 5\r\nConnection: keep-alive, X-Hop\r\nExpect: 100-continue\r\n\r\n";
        let mut storage = Storage::new();
        let head = parse(bytes, 100, &mut storage).unwrap();
        assert_eq!((head.method, head.target, head.version), ("POST", "/pay?x=1", Version::Http11));
        assert_eq!(head.host, Some(&b"pay.example"[..]));
        assert_eq!(head.framing, Framing::Length(5));
        assert_eq!(head.authorization, Authorization::One(b"Bearer abc"));
        assert!(head.expects_continue && head.keeps_alive());
        assert!(
            head.connection.nominates && head.fields.nominated("x-hop") && !head.fields.nominated("Host")
        );
    }

    #[test]
    fn who_keeps_alive() {
        let keeps = |head: &str| {
            let mut storage = Storage::new();
            parse(head.as_bytes(), 100, &mut storage).unwrap().keeps_alive()
        };
        assert!(keeps("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
        assert!(keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"));
    }

    #[test]
    fn broken_heads_are_malformed() {
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n: nameless\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nA\0: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nA: b\0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            "GET / HTTX/1.1\r\nHost: a\r\n\r\n",
            "GET /\r\n\r\n",
            "\r\n",
        ] {
            assert!(malformed(head), "{head:?} gave {:?}", verdict(head));
        }
    }

    #[test]
    fn heads_refused_for_other_reasons() {
        assert_eq!(verdict("PRI * HTTP/2.0\r\n\r\n"), Err(HeadError::VersionNotSupported));
        assert_eq!(verdict("GET / HTTP/1.2\r\nHost: a\r\n\r\n"), Err(HeadError::VersionNotSupported));
        assert_eq!(
            verdict("GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n"),
            Err(HeadError::ExpectationFailed)
        );
        assert_eq!(
            verdict("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
            Err(HeadError::NotImplemented("CONNECT"))
        );
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(100));
        assert!(matches!(verdict(&many), Err(HeadError::HeadTooLarge(_))));
    }

    #[test]
    fn nonsense_is_known_before_it_ends() {
        assert!(check_partial(b"GET /pay HT").is_ok());
        assert!(check_partial(b"POST / HTTP/1.1\r\nHost: a\r\nX-").is_ok());
        assert!(check_partial(b"\x16\x03\x01\x02\x00").is_err());
        assert!(check_partial(b"GET / HTTP/1.1\r\nbad name: x").is_err());
    }

    #[test]
    fn authorities() {
        for good in ["a", "pay.example", "a:80", "a:", "[::1]", "[::1]:8080", "127.0.0.1:1"] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "a:b", "a:123456", "a:65536", "a,b", "a/b", "a@b", "[::1", "[]", "[::1]x", "a b",
            "a:80:80",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    proptest! {
        /// Any bytes: never a panic, and what is accepted never has two framings.
        #[test]
        fn any_bytes_have_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut storage = Storage::new();
            let _ = parse(&bytes, 100, &mut storage);
            let _ = check_partial(&bytes);
        }
    }
}
