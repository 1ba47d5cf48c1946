//! An endpoint's answer that is believed has one reading, and the client gets an answer with one.

use tollgate::{
    base::block::BlockPool,
    http::{
        Version,
        answer::{self, Asked},
        encode::{self, Persistence},
        field::Storage,
        framing::Framing,
        scan::{HeadScan, Scan},
    },
};

use super::strict;

/// The invariant.
pub(crate) fn check(bytes: &[u8]) {
    let Scan::Complete(length) = HeadScan::default().advance(bytes) else { return };
    for asked in [Asked::ForAll, Asked::ForHeadOnly] {
        for version in [Version::Http11, Version::Http10] {
            relay(&bytes[..length], asked, version);
        }
    }
}

fn relay(whole: &[u8], asked: Asked, version: Version) {
    let mut storage = Storage::new();
    let Ok(head) = answer::parse(whole, asked, &mut storage) else { return };
    assert!((100..600).contains(&head.status) && head.status != 101, "status {}", head.status);
    if asked == Asked::ForHeadOnly || head.status < 200 || matches!(head.status, 204 | 304) {
        assert_eq!(head.framing, Framing::Empty, "no body may follow");
    }
    let leaving = encode::framing_for(version, head.framing);
    let pool = BlockPool::new(256 * 1024, 1);
    let Some(mut out) = pool.rent() else { return };
    if encode::answer(&mut out, &head, leaving, b"request-1", b"", Persistence::Keep).is_err() {
        return;
    }
    let read = strict::read(out.unread());
    assert!(read.first_line.starts_with(&format!("HTTP/1.1 {} ", head.status)), "{:?}", read.first_line);
    // As written: `Keep_Alive` means nothing to a client, and is no field that the gateway must know.
    for (name, _) in &strict::read_as_written(out.unread()).fields {
        assert!(!strict::HOP_BY_HOP.contains(&name.as_str()), "{name} travels on");
        assert_ne!(name, "tollgate-delivery", "an endpoint makes promises of ours");
    }
    if head.is_interim() {
        assert!(read.all("content-length").is_empty() && read.all("transfer-encoding").is_empty());
        return;
    }
    assert_eq!(read.all("x-request-id"), ["request-1"]);
    match leaving {
        Framing::Chunked => assert_eq!(strict::framing(&read), None),
        Framing::Length(length) => assert_eq!(strict::framing(&read), Some(length)),
        Framing::Close => {
            assert!(read.all("content-length").is_empty() && read.all("transfer-encoding").is_empty());
        }
        Framing::Empty => {
            assert!(read.all("transfer-encoding").is_empty() && read.all("content-length").len() <= 1);
        }
    }
    if head.status == 204 {
        assert!(read.all("content-length").is_empty(), "a 204 says no length");
    }
}
