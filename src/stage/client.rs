//! Which address is the client's.
//!
//! The peer's, unless the peer is a proxy the operator trusts: then the rightmost address in
//! `X-Forwarded-For` that is not such a proxy. Anything further left was written by strangers.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::http::field::{Fields, Kind};

/// Networks whose word on `X-Forwarded-For` counts.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Box<[IpNet]>);

impl TrustedProxies {
    /// Trusts `networks`.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks.into())
    }

    /// Whether `ip` belongs to a trusted proxy.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&ip))
    }

    /// The client's address for a request from `peer` with `fields`.
    pub fn client_ip(&self, peer: IpAddr, fields: Fields<'_, '_>) -> IpAddr {
        if !self.contains(peer) {
            return peer;
        }
        // Fields are one list in the order they came (RFC 9110 section 5.3); walked from its end, the last
        // address known is the last one a trusted proxy vouches for.
        let mut client = peer;
        let mut values = [&b""[..]; VALUES_MAX];
        let mut count = 0;
        for value in fields.of_kind(Kind::ForwardedFor) {
            if count == values.len() {
                return client;
            }
            values[count] = value;
            count += 1;
        }
        for value in values[..count].iter().rev() {
            let mut rest = Some(*value);
            while let Some(list) = rest {
                let (left, last) = match memchr::memrchr(b',', list) {
                    Some(comma) => (Some(&list[..comma]), &list[comma + 1..]),
                    None => (None, list),
                };
                rest = left;
                let Some(ip) = parse_address(last.trim_ascii()) else { return client };
                client = ip;
                if !self.contains(ip) {
                    return client;
                }
            }
        }
        client
    }
}

/// More `X-Forwarded-For` fields than this are nobody's honest chain.
const VALUES_MAX: usize = 8;

/// An address, with or without a port.
fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let ip = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))?;
    Some(ip.to_canonical())
}

/// The part of an address that stands for one client: all of an IPv4 address, the /64 of an IPv6 one,
/// because anybody who has one of those has all of it.
pub fn client_network(ip: IpAddr) -> [u8; 16] {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => {
            let mut octets = ip.octets();
            octets[8..].fill(0);
            octets
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{field::Storage, head};

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let trusted = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let lines: String = forwarded.iter().map(|value| format!("X-Forwarded-For: {value}\r\n")).collect();
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut storage = Storage::new();
        let head = head::parse(text.as_bytes(), 100, &mut storage).unwrap();
        trusted.client_ip(peer.parse().unwrap(), head.fields).to_string()
    }

    #[test]
    fn strangers_are_not_believed() {
        assert_eq!(client("192.0.2.1", &["1.1.1.1"]), "192.0.2.1");
    }

    #[test]
    fn the_chain_is_read_from_the_right() {
        assert_eq!(client("10.0.0.1", &["6.6.6.6, 1.1.1.1, 10.2.2.2"]), "1.1.1.1");
        assert_eq!(client("10.0.0.1", &["6.6.6.6", "1.1.1.1", "10.2.2.2"]), "1.1.1.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["10.3.3.3"]), "10.3.3.3");
        assert_eq!(client("fd00::1", &["2001:db8::7"]), "2001:db8::7");
        assert_eq!(client("10.0.0.1", &["[2001:db8::7]:443"]), "2001:db8::7");
        assert_eq!(client("10.0.0.1", &["::ffff:1.1.1.1"]), "1.1.1.1");
    }

    #[test]
    fn nonsense_ends_the_walk() {
        assert_eq!(client("10.0.0.1", &["1.1.1.1, unknown, 10.2.2.2"]), "10.2.2.2");
        assert_eq!(client("10.0.0.1", &["1.1.1.1,"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["10.1.1.1"; 9]), "10.0.0.1");
    }

    #[test]
    fn neighbours_in_a_64_are_one_client() {
        let network = |text: &str| client_network(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.1"));
    }
}
