//! The request target: which resource is meant, in the one form in which it is routed *and* forwarded.
//!
//! A protected route must not be reachable by another spelling of its path. So percent-encoded unreserved
//! characters are decoded (RFC 3986 section 6.2.2.2 calls the two forms equivalent), and every spelling
//! that endpoints are known to fold differently is refused: dot segments, empty segments, encoded or raw
//! backslashes, encoded slashes, encoded control characters. Never guesses, never resolves.

use super::{HeadError, head::is_authority};

/// A parsed request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Normal form of the path, beginning with `/`; `*` for an asterisk-form target.
    pub path: &'a [u8],
    /// The path as it was sent.
    pub path_as_sent: &'a [u8],
    /// What follows the first `?`, without it.
    pub query: Option<&'a [u8]>,
    /// Host and port, when the target was in absolute form (RFC 9112 section 3.2.2).
    pub authority: Option<&'a [u8]>,
}

impl Target<'_> {
    /// Checks that target and `Host` field mean the same host. RFC 9112 section 3.2.2 would have the field
    /// ignored; but an endpoint may be one that believes it.
    ///
    /// # Errors
    /// [`HeadError::Malformed`] if they do not, or if the target's is none.
    pub fn check_host(&self, host: Option<&[u8]>) -> Result<(), HeadError> {
        let Some(authority) = self.authority else { return Ok(()) };
        if host.is_some_and(|host| !authority.eq_ignore_ascii_case(host)) {
            return Err(HeadError::Malformed("the target's host is not the Host field's"));
        }
        if !is_authority(authority) {
            return Err(HeadError::Malformed("the target's host"));
        }
        Ok(())
    }
}

/// Parses `raw`. `scratch` holds the path when its normal form differs from what was sent.
///
/// # Errors
/// [`HeadError::Malformed`] with the rule that is broken.
pub fn parse<'a>(method: &str, raw: &'a str, scratch: &'a mut Vec<u8>) -> Result<Target<'a>, HeadError> {
    let bytes = raw.as_bytes();
    if bytes == b"*" {
        return match method {
            "OPTIONS" => Ok(Target { path: bytes, path_as_sent: bytes, query: None, authority: None }),
            _ => Err(HeadError::Malformed("asterisk-form target with a method other than OPTIONS")),
        };
    }
    let (authority, origin) = if bytes.starts_with(b"/") { (None, bytes) } else { split_absolute(bytes)? };
    let (path, query) = match memchr::memchr(b'?', origin) {
        Some(mark) => (&origin[..mark], Some(&origin[mark + 1..])),
        None => (origin, None),
    };
    if let Some(query) = query
        && query.iter().any(|&byte| !byte.is_ascii_graphic() || byte == b'#')
    {
        return Err(HeadError::Malformed("a query holds a byte that must be percent-encoded"));
    }
    let path: &[u8] = if path.is_empty() { b"/" } else { path };
    let path_as_sent = path;
    let path = if is_normal(path) {
        path
    } else {
        normalize(path, scratch)?;
        scratch
    };
    Ok(Target { path, path_as_sent, query, authority })
}

fn split_absolute(bytes: &[u8]) -> Result<(Option<&[u8]>, &[u8]), HeadError> {
    let scheme_end = [&b"http://"[..], b"https://"]
        .iter()
        .find(|scheme| bytes.len() > scheme.len() && bytes[..scheme.len()].eq_ignore_ascii_case(scheme))
        .ok_or(HeadError::Malformed("target is neither a path nor an http URL"))?
        .len();
    let rest = &bytes[scheme_end..];
    let authority_end = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
    Ok((Some(&rest[..authority_end]), &rest[authority_end..]))
}

/// True for the paths that almost every request has: plain characters, no folding to think about.
fn is_normal(path: &[u8]) -> bool {
    let mut previous = 0;
    path.iter().all(|&byte| {
        let plain = PATH_BYTES[usize::from(byte)] && !(previous == b'/' && (byte == b'/' || byte == b'.'));
        previous = byte;
        plain
    })
}

/// Writes the normal form of `path` into `normal`.
fn normalize(path: &[u8], normal: &mut Vec<u8>) -> Result<(), HeadError> {
    normal.clear();
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            if !PATH_BYTES[usize::from(byte)] {
                return Err(HeadError::Malformed("a path holds a byte that must be percent-encoded"));
            }
            normal.push(byte);
            continue;
        }
        let decoded = match tail {
            [high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        }
        .ok_or(HeadError::Malformed("a % in the path is not followed by two hex digits"))?;
        match decoded {
            b'/' | b'\\' => return Err(HeadError::Malformed("an encoded slash or backslash in the path")),
            0..=0x1f | 0x7f => return Err(HeadError::Malformed("an encoded control character in the path")),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => normal.push(decoded),
            _ => normal.extend([b'%', tail[0].to_ascii_uppercase(), tail[1].to_ascii_uppercase()]),
        }
        rest = &tail[2..];
    }
    let mut segments = normal[1..].split(|&byte| byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        // Servlet containers cut path parameters off before they resolve dots: "..;x" is "..".
        let name = segment.split(|&byte| byte == b';').next().unwrap_or_default();
        if name == b"." || name == b".." {
            return Err(HeadError::Malformed("a dot segment in the path"));
        }
        if segment.is_empty() && segments.peek().is_some() {
            return Err(HeadError::Malformed("an empty segment in the path"));
        }
    }
    Ok(())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The bytes that may stand in a path as they are: `pchar` and `/` of RFC 3986, `%` excluded.
const PATH_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let allowed = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/";
    let mut index = 0;
    while index < allowed.len() {
        table[allowed[index] as usize] = true;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(raw: &str) -> Result<String, HeadError> {
        let mut scratch = Vec::new();
        parse("GET", raw, &mut scratch).map(|target| String::from_utf8(target.path.to_vec()).unwrap())
    }

    #[test]
    fn ordinary_paths_pass_as_they_are() {
        for plain in ["/", "/api/v1/payment", "/a/", "/a.b/c", "/a;v=1/b", "/caf%C3%A9", "/x@y:z"] {
            assert_eq!(path(plain).as_deref(), Ok(plain));
        }
    }

    #[test]
    fn equivalent_spellings_become_one() {
        assert_eq!(path("/api/v1/%70ayment").as_deref(), Ok("/api/v1/payment"));
        assert_eq!(path("/%7Euser/%2dx").as_deref(), Ok("/~user/-x"));
        assert_eq!(path("/caf%c3%a9").as_deref(), Ok("/caf%C3%A9"));
        assert_eq!(path("/a%3Fb").as_deref(), Ok("/a%3Fb"));
        assert_eq!(path("/.well-known/x").as_deref(), Ok("/.well-known/x"));
        assert_eq!(path("/..x/.").err(), Some(HeadError::Malformed("a dot segment in the path")));
    }

    #[test]
    fn spellings_that_endpoints_fold_are_refused() {
        for hostile in [
            "/api/../admin",
            "/./a",
            "/a/.",
            "/a/..",
            "/%2e%2e/a",
            "/a/.%2E/b",
            "/a//b",
            "//a",
            "/a%2fb",
            "/a%5Cb",
            "/a\\b",
            "/a%00",
            "/a%0d%0a",
            "/a%7F",
            "/%",
            "/%2",
            "/%zz",
            "/a/..;x/b",
            "/a/%2e;/b",
            "/a#b",
            "/a\"b",
            "/a<b",
            "/a|b",
            "/a`b",
        ] {
            assert!(path(hostile).is_err(), "{hostile}");
        }
    }

    #[test]
    fn queries_are_kept_and_checked() {
        let mut scratch = Vec::new();
        let target = parse("GET", "/a?b=/../c?d|[]", &mut scratch).unwrap();
        assert_eq!((target.path, target.query), (&b"/a"[..], Some(&b"b=/../c?d|[]"[..])));
        assert!(path("/a?b#c").is_err());
    }

    #[test]
    fn the_other_forms() {
        let mut scratch = Vec::new();
        let target = parse("GET", "HTTP://pay.example:80/a?q", &mut scratch).unwrap();
        assert_eq!(target.authority, Some(&b"pay.example:80"[..]));
        assert_eq!((target.path, target.query), (&b"/a"[..], Some(&b"q"[..])));
        assert_eq!(parse("GET", "http://h", &mut scratch).unwrap().path, b"/");
        assert_eq!(parse("OPTIONS", "*", &mut scratch).unwrap().path, b"*");
        assert!(parse("GET", "*", &mut scratch).is_err());
        assert!(parse("GET", "ftp://h/", &mut scratch).is_err());
        assert!(parse("GET", "h:443", &mut scratch).is_err());
        assert!(parse("GET", "a/b", &mut scratch).is_err());
    }

    proptest! {
        /// The normal form is a fixed point, and the fast check calls it normal unless it holds a
        /// percent sign: would break if the two ways of looking at a path ever disagreed.
        #[test]
        fn normal_is_a_fixed_point(raw in "/[a-c./%;2eEfF5cC]{0,12}") {
            if let Ok(normal) = path(&raw) {
                prop_assert_eq!(path(&normal), Ok(normal.clone()));
                prop_assert!(!normal.contains("//") && !normal.split('/').any(|s| s == "." || s == ".."));
            }
        }
    }
}
