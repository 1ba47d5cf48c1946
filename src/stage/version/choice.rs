//! Which version of an API a request means: the one of its path, or the one that a field names.
//!
//! Reads nothing but the head, copies nothing, allocates nothing unless it refuses. A version that is named
//! twice, or that does not exist, is refused: to guess one would serve an answer that nobody asked for.

use crate::http::{field::Fields, head::RequestHead};

use super::{
    super::{
        refusal::{Code, Refusal},
        route::Route,
        snapshot::Snapshot,
    },
    Membership,
};

/// How a request says which version it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// By its path alone.
    Path,
    /// By the value of this field; without it, the version named here is meant.
    Header(Box<str>, Option<Box<str>>),
    /// By a media type of `Accept`; without one that names a version, the one named here is meant.
    MediaType(MediaType, Option<Box<str>>),
}

/// A media type with a place for the version's name. In lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// In its subtype, between these two: `application/vnd.acme.` and `+json`.
    Subtype(Box<str>, Box<str>),
    /// In a parameter: `application/json` and `version`.
    Parameter(Box<str>, Box<str>),
}

impl Choice {
    /// The field that answers vary by; none when the path says it all.
    pub fn varies_by(&self) -> Option<&str> {
        match self {
            Self::Path => None,
            Self::Header(name, _) => Some(name),
            Self::MediaType(..) => Some("Accept"),
        }
    }
}

/// The route for the version that a request means, given that its path and method led to `route`.
///
/// # Errors
/// The version is unknown, or does not take the method.
pub fn choose<'s>(
    snapshot: &'s Snapshot,
    route: &'s Route,
    membership: &'s Membership,
    head: &RequestHead<'_, '_>,
) -> Result<&'s Route, Refusal> {
    let (asked, code) = match &*membership.choice {
        Choice::Path => return Ok(route),
        Choice::Header(name, default) => {
            let mut values = head.fields.named(name);
            let asked = match (values.next(), values.next()) {
                (Some(_), Some(_)) => {
                    return Err(Refusal::new(Code::VersionUnknown, "several versions are named"));
                }
                (Some(one), None) => Some(one),
                (None, _) => default.as_ref().map(|name| name.as_bytes()),
            };
            (asked, Code::VersionUnknown)
        }
        Choice::MediaType(media_type, default) => {
            let asked = media_type.version_in(head.fields);
            (asked.or(default.as_ref().map(|name| name.as_bytes())), Code::VersionNotAcceptable)
        }
    };
    let asked = asked.ok_or(Refusal::new(code, "no version is named and none is the default"))?;
    let is_meant = |route: &Route| {
        // Media types know no case (RFC 9110 section 8.3.1), and a field that did would only be a trap.
        let membership = route.membership.as_ref();
        membership.is_some_and(|other| other.version.name.as_bytes().eq_ignore_ascii_case(asked))
    };
    if is_meant(route) {
        return Ok(route);
    }
    let routes = snapshot.routes.routes();
    let meant =
        membership.rivals.iter().map(|&place| &routes[usize::from(place)]).filter(|&rival| is_meant(rival));
    match meant.clone().find(|rival| rival.methods.contain(head.method)) {
        Some(rival) => Ok(rival),
        None if meant.clone().next().is_some() => Err(Refusal::method(meant.map(|rival| &rival.methods))),
        None => Err(Refusal::new(code, "no such version of this path")),
    }
}

impl MediaType {
    /// The name of the version in the `Accept` fields: of the entry with the highest weight that names one, the
    /// first of those that weigh the same.
    fn version_in<'b>(&self, fields: Fields<'_, 'b>) -> Option<&'b [u8]> {
        let mut best: Option<(u16, &[u8])> = None;
        for value in fields.named("accept") {
            for entry in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                let Some(name) = self.version_of(entry) else { continue };
                let weight = weight_of(entry);
                if weight > 0 && best.is_none_or(|(heaviest, _)| weight > heaviest) {
                    best = Some((weight, name));
                }
            }
        }
        best.map(|(_, name)| name)
    }

    /// The name of the version in one media range.
    fn version_of<'b>(&self, entry: &'b [u8]) -> Option<&'b [u8]> {
        let mut parts = entry.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let media_type = parts.next()?;
        match self {
            Self::Subtype(before, after) => {
                let begins = media_type.get(..before.len())?;
                let rest = &media_type[before.len()..];
                let name_bytes = rest.len().checked_sub(after.len())?;
                let (name, ends) = rest.split_at(name_bytes);
                let matches = begins.eq_ignore_ascii_case(before.as_bytes())
                    && ends.eq_ignore_ascii_case(after.as_bytes())
                    && !name.is_empty();
                matches.then_some(name)
            }
            Self::Parameter(wanted, name) => {
                if !media_type.eq_ignore_ascii_case(wanted.as_bytes()) {
                    return None;
                }
                parts.find_map(|part| parameter(part, name))
            }
        }
    }
}

/// The value of the parameter `part` if its name is `name`.
fn parameter<'b>(part: &'b [u8], name: &str) -> Option<&'b [u8]> {
    let equals = memchr::memchr(b'=', part)?;
    let value = &part[equals + 1..];
    let plain = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value);
    (part[..equals].eq_ignore_ascii_case(name.as_bytes()) && !plain.is_empty()).then_some(plain)
}

/// The weight of a media range in thousandths (RFC 9110 section 12.4.2); one that cannot be read counts as 1.
fn weight_of(entry: &[u8]) -> u16 {
    let weight = entry.split(|&byte| byte == b';').skip(1).find_map(|part| parameter(part.trim_ascii(), "q"));
    let digits = match weight {
        Some([b'0']) => return 0,
        Some([b'0', b'.', digits @ ..]) if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => {
            digits
        }
        _ => return 1_000,
    };
    let mut thousandths = 0;
    for place in 0..3 {
        thousandths = thousandths * 10 + u16::from(digits.get(place).map_or(0, |digit| digit - b'0'));
    }
    thousandths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{field::Storage, head};

    fn version(media_type: &MediaType, accept: &[&str]) -> Option<String> {
        let lines: String = accept.iter().map(|value| format!("Accept: {value}\r\n")).collect();
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut storage = Storage::new();
        let head = head::parse(bytes.as_bytes(), 100, &mut storage).unwrap();
        media_type.version_in(head.fields).map(|name| String::from_utf8(name.to_vec()).unwrap())
    }

    #[test]
    fn versions_in_subtypes() {
        let vendor = MediaType::Subtype("application/vnd.acme.".into(), "+json".into());
        for (accept, expected) in [
            (&["application/vnd.acme.v2+json"][..], Some("v2")),
            (&["Application/VND.acme.v2+JSON; charset=utf-8"], Some("v2")),
            (
                &["text/html, application/vnd.acme.v1+json;q=0.5, application/vnd.acme.v2+json;q=0.9"],
                Some("v2"),
            ),
            (&["application/vnd.acme.v1+json", "application/vnd.acme.v2+json"], Some("v1")),
            (&["application/vnd.acme.v1+json;q=0, application/vnd.acme.v2+json;q=0.001"], Some("v2")),
            (&["application/vnd.acme.+json"], None),
            (&["application/vnd.acme+json"], None),
            (&["*/*"], None),
            (&["application/vnd.other.v2+json"], None),
            (&[], None),
        ] {
            assert_eq!(version(&vendor, accept).as_deref(), expected, "{accept:?}");
        }
    }

    #[test]
    fn versions_in_parameters() {
        let json = MediaType::Parameter("application/json".into(), "version".into());
        for (accept, expected) in [
            (&["application/json;version=2"][..], Some("2")),
            (&["application/json; q=0.5; Version=\"2\""], Some("2")),
            (&["application/json"], None),
            (&["text/json;version=2"], None),
            (&["application/json;version="], None),
        ] {
            assert_eq!(version(&json, accept).as_deref(), expected, "{accept:?}");
        }
    }
}
