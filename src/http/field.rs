//! Fields: the few names a gateway must know, and what each means for it.
//!
//! Owns the list of names that are hop-by-hop, that frame a message, or that the gateway sets itself. A
//! name is compared without case and with `_` read as `-`, because WSGI and CGI endpoints do that: a
//! field that would be mistaken there for one of ours must not slip past as a stranger.

use httparse::Header;

use std::mem::MaybeUninit;

/// The most fields a head can be configured to have.
pub const FIELDS_CAP: usize = 256;

/// What a field is to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Not our business: passed on as it is.
    Other,
    /// `Host`.
    Host,
    /// `Content-Length`: read, then written anew.
    ContentLength,
    /// `Transfer-Encoding`: read, then written anew.
    TransferEncoding,
    /// `Connection`: read, never passed on.
    Connection,
    /// Meant for the next hop only (RFC 9110 section 7.6.1): never passed on.
    HopByHop,
    /// `Keep-Alive`: meant for the next hop too, and read of an endpoint.
    KeepAlive,
    /// `Expect`.
    Expect,
    /// `Authorization`.
    Authorization,
    /// `X-Api-Key`: the gateway's where it knows API keys, and passed on only when asked for.
    ApiKey,
    /// `X-Request-Id`: read, then written anew.
    RequestId,
    /// `traceparent`: read, then written anew.
    Traceparent,
    /// `X-Forwarded-For`: read, then written anew.
    ForwardedFor,
    /// `X-Forwarded-Proto`: written anew.
    ForwardedProto,
    /// `X-Consumer-*`: ours alone; a client's is never passed on.
    Consumer,
    /// `endpoint-load-metrics`: passed on, unless it is for the gateway.
    LoadMetrics,
    /// `Tollgate-Delivery`: a promise of ours alone; nobody else's is passed on.
    Delivery,
    /// Spelt with an underscore so that an endpoint may take it for one of the above: never passed on.
    Disguised,
}

impl Kind {
    /// The kind of the field called `name`.
    pub fn of(name: &[u8]) -> Self {
        let Some(first) = name.first() else { return Self::Other };
        // Most names are none of ours: length and first letter tell almost all of them apart.
        let (kind, known): (Self, &[u8]) = match (name.len(), first.to_ascii_lowercase()) {
            (2, b't') => (Self::HopByHop, b"te"),
            (4, b'h') => (Self::Host, b"host"),
            (6, b'e') => (Self::Expect, b"expect"),
            (7, b'u') => (Self::HopByHop, b"upgrade"),
            (9, b'x') => (Self::ApiKey, b"x-api-key"),
            (10, b'c') => (Self::Connection, b"connection"),
            (10, b'k') => (Self::KeepAlive, b"keep-alive"),
            (11, b't') => (Self::Traceparent, b"traceparent"),
            (12, b'x') if !is_consumer(name) => (Self::RequestId, b"x-request-id"),
            (13, b'a') => (Self::Authorization, b"authorization"),
            (14, b'c') => (Self::ContentLength, b"content-length"),
            (15, b'x') if !is_consumer(name) => (Self::ForwardedFor, b"x-forwarded-for"),
            (16, b'p') => (Self::HopByHop, b"proxy-connection"),
            (17, b't') if matches!(name[1], b'o' | b'O') => (Self::Delivery, b"tollgate-delivery"),
            (17, b't') => (Self::TransferEncoding, b"transfer-encoding"),
            (17, b'x') if !is_consumer(name) => (Self::ForwardedProto, b"x-forwarded-proto"),
            (18, b'p') => (Self::HopByHop, b"proxy-authenticate"),
            (19, b'p') => (Self::HopByHop, b"proxy-authorization"),
            (21, b'e') => (Self::LoadMetrics, b"endpoint-load-metrics"),
            (11.., b'x') => (Self::Consumer, CONSUMER),
            _ => return Self::Other,
        };
        if !same(name, known) {
            return Self::Other;
        }
        // The known names have no underscore, so one in a name that matched stands for a hyphen.
        if name.contains(&b'_') { Self::Disguised } else { kind }
    }
}

/// How the names begin that are ours alone.
const CONSUMER: &[u8] = b"x-consumer-";

fn is_consumer(name: &[u8]) -> bool {
    name.len() >= CONSUMER.len() && same(name, CONSUMER)
}

/// Whether `name`, no shorter than `known` (lower case, hyphens), begins with it, ignoring case and reading
/// `_` as `-`. Setting the bit that makes letters small changes no other character of a token into one that
/// a known name has.
fn same(name: &[u8], known: &[u8]) -> bool {
    const SMALL: u8 = 0x20;
    let difference = name.iter().zip(known).fold(0, |all, (&byte, &wanted)| all | ((byte | SMALL) ^ wanted));
    let underscore = (b'_' | SMALL) ^ b'-';
    name.len() >= known.len()
        && (difference == 0
            || difference == underscore
                && name
                    .iter()
                    .zip(known)
                    .all(|(&byte, &wanted)| byte | SMALL == wanted || byte == b'_' && wanted == b'-'))
}

/// Room for the fields of one head, on the stack of whoever parses it.
pub struct Storage<'b> {
    pub(super) headers: [MaybeUninit<Header<'b>>; FIELDS_CAP],
    pub(super) kinds: [Kind; FIELDS_CAP],
}

impl Storage<'_> {
    /// Empty storage; costs no initialisation to speak of.
    pub fn new() -> Self {
        Self { headers: [const { MaybeUninit::uninit() }; FIELDS_CAP], kinds: [Kind::Other; FIELDS_CAP] }
    }
}

impl Default for Storage<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// The fields of a parsed head, each with its kind.
#[derive(Clone, Copy)]
pub struct Fields<'h, 'b> {
    headers: &'h [Header<'b>],
    kinds: &'h [Kind],
    /// One bit for each kind that is there: most lookups are for fields that are not.
    present: u32,
}

impl<'h, 'b> Fields<'h, 'b> {
    pub(super) fn classify(headers: &'h [Header<'b>], kinds: &'h mut [Kind; FIELDS_CAP]) -> Self {
        let mut present = 0;
        for (header, kind) in headers.iter().zip(kinds.iter_mut()) {
            *kind = Kind::of(header.name.as_bytes());
            present |= 1 << *kind as u8;
        }
        Self { headers, kinds: &kinds[..headers.len()], present }
    }

    /// Kind, name and value of each field in the order they came.
    pub fn iter(self) -> impl Iterator<Item = (Kind, &'b str, &'b [u8])> + use<'h, 'b> {
        self.headers.iter().zip(self.kinds).map(|(header, &kind)| (kind, header.name, header.value))
    }

    /// The values of the fields called `name` (any case).
    pub fn named<'n>(self, name: &'n str) -> impl Iterator<Item = &'b [u8]> + use<'h, 'b, 'n> {
        self.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|h| h.value)
    }

    /// Whether there is a field of this kind.
    pub fn has(self, kind: Kind) -> bool {
        self.present & 1 << kind as u8 != 0
    }

    /// The values of the fields of one kind.
    pub fn of_kind(self, wanted: Kind) -> impl Iterator<Item = &'b [u8]> + use<'h, 'b> {
        let among = if self.has(wanted) { self.headers.len() } else { 0 };
        self.iter().take(among).filter(move |&(kind, _, _)| kind == wanted).map(|(_, _, value)| value)
    }

    /// Whether a `Connection` field names `name`, which then belongs to the previous hop.
    pub fn nominated(self, name: &str) -> bool {
        self.of_kind(Kind::Connection)
            .flat_map(tokens)
            .any(|token| token.eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// What the `Connection` fields of a message ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// `close` was named.
    pub close: bool,
    /// `keep-alive` was named.
    pub keep_alive: bool,
    /// Some field was named: those fields must not be passed on.
    pub nominates: bool,
}

impl ConnectionOptions {
    /// Adds what one `Connection` value says.
    pub fn add(&mut self, value: &[u8]) {
        for token in tokens(value) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if !token.is_empty() {
                self.nominates = true;
            }
        }
    }
}

/// The elements of a comma-separated list, without the white space around them (RFC 9110 section 5.6.1).
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        assert_eq!(Kind::of(b"HOST"), Kind::Host);
        assert_eq!(Kind::of(b"Content-Length"), Kind::ContentLength);
        assert_eq!(Kind::of(b"X-Consumer-Id"), Kind::Consumer);
        assert_eq!(Kind::of(b"x-consumer-"), Kind::Consumer);
        assert_eq!(Kind::of(b"x-consumer-groups-and-more"), Kind::Consumer);
        assert_eq!(Kind::of(b"X-Consumers"), Kind::Other);
        assert_eq!(Kind::of(b"X-API-Key"), Kind::ApiKey);
        assert_eq!(Kind::of(b"X-Api-Kez"), Kind::Other);
        assert_eq!(Kind::of(b"traceparenT"), Kind::Traceparent);
        assert_eq!(Kind::of(b""), Kind::Other);
    }

    #[test]
    fn an_underscore_does_not_hide_a_known_name() {
        for name in [
            "X_Consumer_Id",
            "x-consumer_id",
            "Content_Length",
            "transfer_Encoding",
            "X_FORWARDED_FOR",
            "x_api-key",
        ] {
            assert_eq!(Kind::of(name.as_bytes()), Kind::Disguised, "{name}");
        }
        assert_eq!(Kind::of(b"my_field"), Kind::Other);
    }

    #[test]
    fn connection_options_are_read_from_lists() {
        let mut options = ConnectionOptions::default();
        options.add(b"Keep-Alive , X-Secret");
        options.add(b"");
        assert_eq!(options, ConnectionOptions { close: false, keep_alive: true, nominates: true });
        options.add(b"CLOSE");
        assert!(options.close);
    }
}
