//! `[resolve]`: who is asked what host names stand for, and how long an answer is good.

use std::net::{IpAddr, SocketAddr};

use super::{
    issue::Issues,
    reader::{Field, Section},
    values::{defaulted, duration_ms, one_of},
};

/// The port of name servers that are written without one.
const PORT: u16 = 53;
/// The most servers.
const SERVERS_MAX: usize = 8;

/// Which addresses of a name are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// All of them.
    Both,
    /// IPv4.
    Four,
    /// IPv6.
    Six,
}

/// `[resolve]`.
#[expect(missing_docs, reason = "the table of defaults says of each what it is")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvePlan {
    /// None: the system's.
    pub servers: Vec<SocketAddr>,
    pub family: Family,
    pub ttl_min_ms: u64,
    pub ttl_max_ms: u64,
    pub timeout_ms: u64,
}

/// `[resolve]` as it was written.
pub(super) struct Resolve {
    servers: Option<Field<Vec<Field<String>>>>,
    family: Field<String>,
    ttl_min_ms: u64,
    ttl_max_ms: u64,
    timeout_ms: u64,
    at: usize,
}

/// Reads it.
pub(super) fn read(mut section: Section<'_, '_>, issues: &Issues) -> Resolve {
    const DAY_MS: u64 = 24 * 3_600 * 1_000;
    let resolve = Resolve {
        servers: section.texts("servers"),
        family: defaulted(&mut section, "family"),
        ttl_min_ms: duration_ms(&mut section, "ttl_min", 10..=DAY_MS, issues),
        ttl_max_ms: duration_ms(&mut section, "ttl_max", 10..=DAY_MS, issues),
        timeout_ms: duration_ms(&mut section, "timeout", 10..=60_000, issues),
        at: section.at(),
    };
    section.finish();
    resolve
}

/// Checks it.
pub(super) fn plan(found: &Resolve, issues: &Issues) -> Option<ResolvePlan> {
    if found.ttl_min_ms > found.ttl_max_ms {
        issues.add(found.at, "resolve.ttl_min", "is longer than resolve.ttl_max");
    }
    let mut servers = Vec::new();
    if let Some(list) = &found.servers {
        if list.value.is_empty() || list.value.len() > SERVERS_MAX {
            let message = format!("one to {SERVERS_MAX} servers; leave it out to ask the system's");
            list.wrong(issues, message);
        }
        servers.extend(list.value.iter().filter_map(|field| server(field, issues)));
    }
    let families = [("both", Family::Both), ("ipv4", Family::Four), ("ipv6", Family::Six)];
    Some(ResolvePlan {
        servers,
        family: one_of(&found.family, &families, issues)?,
        ttl_min_ms: found.ttl_min_ms,
        ttl_max_ms: found.ttl_max_ms,
        timeout_ms: found.timeout_ms,
    })
}

fn server(field: &Field<String>, issues: &Issues) -> Option<SocketAddr> {
    let text = &field.value;
    let server = text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, PORT)));
    if server.is_none() {
        let message =
            format!("\"{text}\" is not an IP address; write for example \"10.0.0.53\" or \"10.0.0.53:5353\"");
        field.wrong(issues, message);
    }
    server
}
