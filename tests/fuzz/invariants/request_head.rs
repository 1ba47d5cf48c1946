//! What is accepted has one reading, is forwarded with that reading, and reads the same wherever it is cut.

use tollgate::{
    base::block::BlockPool,
    http::{
        encode::{self, ApiKeyField, Forwarded, RequestAdditions},
        field::Storage,
        framing::Framing,
        head,
        scan::{HeadScan, Scan},
        target,
    },
};

use super::strict;

const ADDITIONS: RequestAdditions<'static> = RequestAdditions {
    host: b"127.0.0.1:9001",
    request_id: b"0af7651916cd43dd8448eb211c80319c",
    traceparent: b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
    peer: b"192.0.2.7",
    forwarded: Forwarded::Replace,
    consumer: Some(b"acme"),
    api_key: ApiKeyField::Withheld,
};

/// Fields that a head may have here.
const FIELDS_MAX: usize = 100;
/// Fields that the gateway may add to one.
const FIELDS_ADDED_MAX: usize = 6;

/// What the gateway makes of a head: what it forwards and how the body is framed; `None` if it refuses.
fn forwarded(whole: &[u8], fields_max: usize) -> Option<(Vec<u8>, Framing)> {
    let (mut storage, mut scratch) = (Storage::new(), Vec::new());
    let head = head::parse(whole, fields_max, &mut storage).ok()?;
    let target = target::parse(head.method, head.target, &mut scratch).ok()?;
    target.check_host(head.host).ok()?;
    let pool = BlockPool::new(256 * 1024, 1);
    let mut out = pool.rent()?;
    encode::request(&mut out, &head, &target, &ADDITIONS).ok()?;
    Some((out.unread().to_vec(), head.framing))
}

/// The invariant.
pub(crate) fn check(bytes: &[u8]) {
    let verdict = HeadScan::default().advance(bytes);
    for cut in (0..bytes.len()).step_by(bytes.len() / 16 + 1) {
        let mut scan = HeadScan::default();
        if let Scan::Partial { .. } = scan.advance(&bytes[..cut]) {
            assert_eq!(ended(scan.advance(bytes)), ended(verdict), "cut at {cut}");
        }
    }
    let Scan::Complete(length) = verdict else { return };
    let whole = &bytes[..length];
    let Some((first, framing)) = forwarded(whole, FIELDS_MAX) else { return };
    for cut in 1..length {
        assert!(head::check_partial(&whole[..cut]).is_ok(), "the beginning of a good head, {cut} bytes");
    }
    judge(&first, framing);
    // What came in has the framing that a strict reader finds in it.
    let came = strict::read_as_written(whole);
    let expected = match framing {
        Framing::Chunked => None,
        Framing::Length(length) => Some(length),
        Framing::Empty | Framing::Close => Some(0),
    };
    let coding = came.all("transfer-encoding").len();
    assert_eq!(coding == 1, expected.is_none());
    if coding == 0 {
        assert_eq!(strict::framing(&came), expected);
    }
    let (second, again) =
        forwarded(&first, FIELDS_MAX + FIELDS_ADDED_MAX).expect("what is forwarded is good");
    assert_eq!(again, framing);
    // It carries the gateway's own fields now, which are replaced by the same: nothing else moves.
    assert_eq!(sorted(&second), sorted(&first));
}

fn sorted(head: &[u8]) -> (String, Vec<(String, String)>) {
    let mut read = strict::read(head);
    read.fields.sort();
    (read.first_line, read.fields)
}

/// Checks what an endpoint is sent.
fn judge(head: &[u8], framing: Framing) {
    let read = strict::read(head);
    let parts: Vec<&str> = read.first_line.split(' ').collect();
    let [_, target, "HTTP/1.1"] = parts[..] else { panic!("a request line of {:?}", read.first_line) };
    let path = target.split('?').next().unwrap_or_default();
    assert!(path.starts_with('/') || path == "*", "a path of {path:?}");
    let lower = path.to_ascii_lowercase();
    assert!(
        !lower.contains("%2f") && !lower.contains("%5c") && !lower.contains("%00") && !path.contains('\\')
    );
    assert!(!path.contains("//"), "an empty segment in {path:?}");
    let segments = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    assert!(segments.clone().all(|segment| segment != "." && segment != ".."), "dots in {path:?}");
    assert_eq!(read.all("host").len(), 1, "one Host");
    assert_eq!(read.all("x-consumer-id"), ["acme"]);
    assert_eq!(read.all("x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(read.all("x-request-id").len(), 1);
    assert_eq!(read.all("traceparent").len(), 1);
    let ours = ["x-consumer-id"];
    for (name, _) in &read.fields {
        assert!(!name.starts_with("x-consumer-") || ours.contains(&name.as_str()), "{name} from a client");
        assert!(!strict::HOP_BY_HOP.contains(&name.as_str()) && name != "connection", "{name} travels on");
        assert_ne!(name, "tollgate-delivery");
    }
    let expected = match framing {
        Framing::Chunked => None,
        Framing::Length(length) => Some(length),
        Framing::Empty => Some(0),
        Framing::Close => panic!("a request that ends by close"),
    };
    assert_eq!(strict::framing(&read), expected);
}

/// A verdict without the advice about trials, which depends on where the cuts were.
fn ended(scan: Scan) -> Option<Option<usize>> {
    match scan {
        Scan::Complete(length) => Some(Some(length)),
        Scan::BareLineFeed => Some(None),
        Scan::Partial { .. } => None,
    }
}
