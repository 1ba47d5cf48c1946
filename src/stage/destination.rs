//! Which of a route's clusters takes a request: one that a field names, a share of the callers, or the usual one.
//!
//! A caller that is in the share stays in it: which one is decided by who calls and by the route, the same on all
//! shards, in all processes and after all restarts, and a share that grows keeps those it had. Also says of
//! which requests a copy goes elsewhere.

use std::net::IpAddr;

use siphasher::sip128::SipHasher13;

use crate::http::{Version, framing::Framing, head::RequestHead};

use super::client::client_network;

/// Parts of a whole, such as 10,000 for all and 50 for half a percent.
pub const PARTS: u16 = 10_000;

/// Where the requests of a route go besides, or in place of, its own cluster. Clusters are places in
/// [`super::snapshot::Snapshot::clusters`].
#[derive(Debug)]
pub struct Destinations {
    /// The cluster of the first that applies is taken.
    pub by_header: Box<[ByHeader]>,
    /// Shares that together are not more than all.
    pub split: Box<[Share]>,
    /// Where copies go, and of how many of the requests that can be copied.
    pub mirror: Option<Share>,
    /// Which callers are in a share is another question on each route.
    pub hasher: SipHasher13,
}

/// A field that names a cluster.
#[derive(Clone, Debug)]
pub struct ByHeader {
    /// The field.
    pub name: Box<str>,
    /// What it has to say.
    pub value: Box<str>,
    /// Then this one.
    pub cluster: usize,
}

/// A part of what there is, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Of [`PARTS`].
    pub parts: u16,
    /// There.
    pub cluster: usize,
}

/// Why a request goes where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why<'d> {
    /// Nothing else was said.
    Usual,
    /// This field names it.
    Field(&'d str),
    /// Its caller is in the share.
    Share(u16),
}

impl Destinations {
    /// The hasher of the route named `route`.
    pub fn hasher(route: &str) -> SipHasher13 {
        let named = SipHasher13::new().hash(route.as_bytes());
        SipHasher13::new_with_keys(named.h1, named.h2)
    }

    /// The cluster for a request of `consumer` (else of whoever has the address), and why; `usual` if none is named.
    pub fn choose(
        &self,
        head: &RequestHead<'_, '_>,
        consumer: Option<&str>,
        client_ip: IpAddr,
        usual: usize,
    ) -> (usize, Why<'_>) {
        let applies = |rule: &&ByHeader| {
            let mut values = head.fields.named(&rule.name);
            values.any(|value| value == rule.value.as_bytes())
        };
        if let Some(rule) = self.by_header.iter().find(applies) {
            return (rule.cluster, Why::Field(&rule.name));
        }
        if self.split.is_empty() {
            return (usual, Why::Usual);
        }
        let mut place = self.place_of(consumer, client_ip);
        for share in &self.split {
            if place < share.parts {
                return (share.cluster, Why::Share(share.parts));
            }
            place -= share.parts;
        }
        (usual, Why::Usual)
    }

    /// Where a caller stands among all there could be, from 0 to [`PARTS`].
    fn place_of(&self, consumer: Option<&str>, client_ip: IpAddr) -> u16 {
        let hash = match (consumer, client_network(client_ip)) {
            (Some(consumer), _) => self.hasher.hash(consumer.as_bytes()),
            (None, network) => self.hasher.hash(&network),
        };
        (hash.h1 % u64::from(PARTS)) as u16
    }

    /// The cluster that gets a copy, if one does: of a request that changes nothing and has no body, and for which the
    /// `dice`, less than [`PARTS`], fell that way.
    pub fn mirror(&self, head: &RequestHead<'_, '_>, dice: u16) -> Option<usize> {
        let mirror = self.mirror?;
        let is_safe = matches!(head.method, "GET" | "HEAD")
            && matches!(head.framing, Framing::Empty | Framing::Length(0))
            && head.version == Version::Http11;
        (is_safe && dice < mirror.parts).then_some(mirror.cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{field::Storage, head};

    fn destinations(split: &[(u16, usize)]) -> Destinations {
        Destinations {
            by_header: [ByHeader { name: "X-Release".into(), value: "next".into(), cluster: 9 }].into(),
            split: split.iter().map(|&(parts, cluster)| Share { parts, cluster }).collect(),
            mirror: Some(Share { parts: PARTS / 2, cluster: 7 }),
            hasher: Destinations::hasher("pay"),
        }
    }

    fn with_head<T>(text: &str, then: impl FnOnce(&RequestHead<'_, '_>) -> T) -> T {
        let mut storage = Storage::new();
        let text = format!("{text}\r\nHost: a\r\n\r\n");
        then(&head::parse(text.as_bytes(), 100, &mut storage).unwrap())
    }

    const NOBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Where callers 0 to 9,999 go.
    fn chosen(destinations: &Destinations) -> Vec<usize> {
        with_head("GET / HTTP/1.1", |head| {
            let choose =
                |number: u32| destinations.choose(head, Some(&format!("consumer-{number}")), NOBODY, 0).0;
            (0..10_000).map(choose).collect()
        })
    }

    /// Broken by a share that is reckoned per request, or from anything but who calls.
    #[test]
    fn a_share_holds_its_part_of_the_callers_and_keeps_them_as_it_grows() {
        let small = chosen(&destinations(&[(500, 1)]));
        let large = chosen(&destinations(&[(2_000, 1), (1_000, 2)]));
        let count = |all: &[usize], cluster| all.iter().filter(|&&chosen| chosen == cluster).count();
        assert!((430..570).contains(&count(&small, 1)), "{}", count(&small, 1));
        assert!((1_850..2_150).contains(&count(&large, 1)) && (880..1_120).contains(&count(&large, 2)));
        assert!(small.iter().zip(&large).all(|(small, large)| *small != 1 || *large == 1));
        assert_eq!(small, chosen(&destinations(&[(500, 1)])), "the same in every process");
        let other = Destinations { hasher: Destinations::hasher("refund"), ..destinations(&[(500, 1)]) };
        assert_ne!(small, chosen(&other), "not the same callers on every route");
        assert_eq!(count(&chosen(&destinations(&[(PARTS, 1)])), 1), 10_000);
    }

    #[test]
    fn without_a_consumer_the_address_decides() {
        let halves = destinations(&[(PARTS / 2, 1)]);
        with_head("GET / HTTP/1.1", |head| {
            let of = |last| halves.choose(head, None, IpAddr::from([10, 0, 0, last]), 0).0;
            assert_eq!(of(1), of(1));
            assert!((100..156).contains(&(0..=255).filter(|&last| of(last) == 1).count()));
        });
    }

    #[test]
    fn a_field_goes_before_a_share() {
        let all = destinations(&[(PARTS, 1)]);
        for (field, expected) in [
            ("X-Release: next", (9, Why::Field("X-Release"))),
            ("x-release: next", (9, Why::Field("X-Release"))),
            ("X-Release: nex", (1, Why::Share(PARTS))),
            ("X-Other: next", (1, Why::Share(PARTS))),
        ] {
            with_head(&format!("GET / HTTP/1.1\r\n{field}"), |head| {
                assert_eq!(all.choose(head, Some("acme"), NOBODY, 0), expected, "{field}");
            });
        }
    }

    /// Broken by a copy of anything that could change something, or that is more than a head.
    #[test]
    fn only_what_is_safe_and_short_is_copied() {
        let half = destinations(&[]);
        for (text, is_safe) in [
            ("GET / HTTP/1.1", true),
            ("HEAD / HTTP/1.1", true),
            ("GET / HTTP/1.1\r\nContent-Length: 0", true),
            ("GET / HTTP/1.1\r\nContent-Length: 1", false),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked", false),
            ("POST / HTTP/1.1", false),
            ("PUT / HTTP/1.1", false),
            ("OPTIONS / HTTP/1.1", false),
        ] {
            let copies =
                with_head(text, |head| (0..PARTS).filter(|&dice| half.mirror(head, dice) == Some(7)).count());
            assert_eq!(copies, if is_safe { 5_000 } else { 0 }, "{text}");
        }
    }
}
