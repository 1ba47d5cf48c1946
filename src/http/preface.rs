//! The PROXY protocol's header: who a connection is from, said by the load balancer in front of it.
//!
//! Versions 1 and 2 (haproxy.org's proxy-protocol.txt), read by the `ppp` library. Only connections to an address that
//! asks for it begin with one: whoever can reach such an address can claim to be anybody.

use std::net::IpAddr;

use ppp::{HeaderResult, PartialResult, v1, v2};

/// The longest header that is taken, in bytes: a version 2 header with the extensions that balancers send.
pub const PREFACE_BYTES_MAX: usize = 1024;

/// How a version 1 header begins, and how long it can be: its own document says so.
const LINE: &[u8] = b"PROXY ";
const LINE_BYTES_MAX: usize = 107;

/// What the beginning of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preface {
    /// More bytes are needed.
    Partial,
    /// A header of so many bytes; who it names, unless it is the balancer's own connection or names nobody.
    Whole(usize, Option<IpAddr>),
    /// Something else.
    Malformed,
}

/// Reads the header at the beginning of `bytes`.
pub fn parse(bytes: &[u8]) -> Preface {
    // The library takes a line that ends within a word for a broken one, so it sees only whole lines.
    let is_line = bytes.starts_with(LINE) || LINE.starts_with(bytes);
    if is_line && memchr::memmem::find(bytes, b"\r\n").is_none() {
        return if bytes.len() < LINE_BYTES_MAX { Preface::Partial } else { Preface::Malformed };
    }
    let result = HeaderResult::parse(bytes);
    if result.is_incomplete() && bytes.len() < PREFACE_BYTES_MAX {
        return Preface::Partial;
    }
    let (length, source) = match result {
        HeaderResult::V1(Ok(header)) => {
            let source = match header.addresses {
                v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
                v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
                v1::Addresses::Unknown => None,
            };
            (header.header.len(), source)
        }
        HeaderResult::V2(Ok(header)) => {
            let source = match (header.command, header.addresses) {
                (v2::Command::Proxy, v2::Addresses::IPv4(addresses)) => Some(addresses.source_address.into()),
                (v2::Command::Proxy, v2::Addresses::IPv6(addresses)) => Some(addresses.source_address.into()),
                _ => None,
            };
            (header.len(), source)
        }
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => return Preface::Malformed,
    };
    if length <= PREFACE_BYTES_MAX { Preface::Whole(length, source) } else { Preface::Malformed }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x7f\0\0\x01\x12\x34\0\x50";

    #[test]
    fn headers_of_both_versions_are_read_at_every_cut() {
        let client = Some(IpAddr::from([192, 0, 2, 7]));
        let v1 = b"PROXY TCP4 192.0.2.7 127.0.0.1 4660 80\r\n";
        for header in [&v1[..], V2] {
            for end in 0..header.len() {
                assert_eq!(parse(&header[..end]), Preface::Partial, "{end}");
            }
            for behind in ["", "GET / HTTP/1.1\r\n"] {
                let bytes = [header, behind.as_bytes()].concat();
                assert_eq!(parse(&bytes), Preface::Whole(header.len(), client));
            }
        }
        let v6 = b"PROXY TCP6 2001:db8::7 ::1 4660 80\r\n";
        assert_eq!(parse(v6), Preface::Whole(v6.len(), "2001:db8::7".parse().ok()));
        assert_eq!(parse(b"PROXY UNKNOWN\r\n"), Preface::Whole(15, None));
        let mut local = V2.to_vec();
        local[12] = 0x20;
        assert_eq!(parse(&local), Preface::Whole(V2.len(), None), "the balancer looks whether we are alive");
    }

    #[test]
    fn nothing_else_is_a_header() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 192.0.2.7 127.0.0.1 4660\r\n",
            b"PROXY TCP4 192.0.2.777 127.0.0.1 4660 80\r\n",
            b"proxy TCP4 192.0.2.7 127.0.0.1 4660 80\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c\xc0\0\x02\x07\x7f\0\0\x01\x12\x34\0\x50",
        ] {
            assert_eq!(parse(bytes), Preface::Malformed, "{}", String::from_utf8_lossy(bytes));
        }
        let endless = [&V2[..14], &[0xff, 0xff], &[0; 2000]].concat();
        assert_eq!(parse(&endless), Preface::Malformed);
        assert_eq!(parse(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 2000]].concat()), Preface::Malformed);
    }
}
