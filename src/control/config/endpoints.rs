//! Where a cluster's endpoints are written: in the configuration, in a file of their own, or both.
//!
//! Knows what an address and a list look like, and finds mistakes in both. What a host name stands for is
//! `discovery/`'s business.

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use crate::{http::head::is_authority, shared::standing::UNBOUNDED};

use super::{cluster::Cluster, issue::Issues, reader::Field};

/// The most endpoints a file may list.
pub const LISTED_MAX: usize = 1_024;
/// The longest file: every entry as long as can be, and as many comments.
const FILE_BYTES_MAX: u64 = 2 * 300 * LISTED_MAX as u64;
/// The largest weight.
pub(super) const WEIGHT_MAX: u64 = 65_535;

/// One endpoint as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPlan {
    /// Host name or address, and port.
    pub address: String,
    /// Its share.
    pub weight: u32,
    /// The most exchanges in flight.
    pub in_flight_max: u32,
}

impl EndpointPlan {
    /// The host and the port. [`check_address`] has seen that there are both.
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        let (host, port) = self.address.rsplit_once(':')?;
        Some((host, port.parse().ok()?))
    }
}

/// A file of endpoints, with what it held when the configuration was read.
#[derive(Clone, Debug)]
pub struct ListPlan {
    /// Where it is.
    pub path: PathBuf,
    /// What it lists; never nothing.
    pub entries: Vec<EndpointPlan>,
    /// The most exchanges in flight at each of them.
    pub in_flight_max: u32,
}

/// Checks what `cluster` says of its endpoints. The file is read to find mistakes early.
pub(super) fn plan(
    cluster: &Cluster,
    directory: &Path,
    issues: &Issues,
) -> (Vec<EndpointPlan>, Option<ListPlan>) {
    let mut lines: HashMap<&str, usize> = HashMap::new();
    let mut endpoints = Vec::new();
    for endpoint in &cluster.endpoints {
        let Some(address) = &endpoint.address else { continue };
        if let Err(message) = check_address(&address.value) {
            address.wrong(issues, message);
        }
        if let Some(line) = lines.insert(&address.value, issues.line_of(address.at)) {
            let message = format!("the endpoint stands on line {line} too; give it a weight instead");
            address.wrong(issues, message);
        }
        endpoints.push(EndpointPlan {
            address: address.value.clone(),
            weight: u32::try_from(endpoint.weight).unwrap_or(1),
            in_flight_max: bound(endpoint.max_in_flight.or(cluster.max_in_flight)),
        });
    }
    let in_flight_max = bound(cluster.max_in_flight);
    let list =
        cluster.endpoints_file.as_ref().and_then(|field| list(field, in_flight_max, directory, issues));
    if cluster.endpoints.is_empty() && cluster.endpoints_file.is_none() {
        let message = "at least one endpoint is needed, here or in a file (endpoints_file)";
        issues.add(cluster.at, &format!("{}.endpoints", cluster.path), message);
    }
    (endpoints, list)
}

fn bound(max: Option<u64>) -> u32 {
    max.and_then(|max| u32::try_from(max).ok()).unwrap_or(UNBOUNDED)
}

fn list(field: &Field<String>, in_flight_max: u32, directory: &Path, issues: &Issues) -> Option<ListPlan> {
    let path = directory.join(&field.value);
    match read_list(&path) {
        Ok(entries) => Some(ListPlan { path, entries, in_flight_max }),
        Err(mistake) => {
            field.wrong(issues, format!("{}: {mistake}", path.display()));
            None
        }
    }
}

/// Whether `address` is a host and a port.
fn check_address(address: &str) -> Result<(), String> {
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if address.len() > 260 || !is_authority(address.as_bytes()) || port.is_none_or(|port| port == 0) {
        return Err(format!("\"{address}\" is not a host and port; write for example \"127.0.0.1:9001\""));
    }
    Ok(())
}

/// Reads a file of endpoints: `HOST:PORT` on each line, perhaps ` weight=N` behind it; `#` begins a comment.
///
/// A file without an endpoint is a mistake: it is more often one that was cut short than one that was meant.
///
/// # Errors
/// The first mistake in it.
pub fn read_list(path: &Path) -> Result<Vec<EndpointPlan>, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    let length = read.map_err(|error| format!("cannot be read: {error}"))?;
    if length as u64 > FILE_BYTES_MAX {
        return Err(format!("longer than {FILE_BYTES_MAX} bytes"));
    }
    parse_list(&text)
}

/// Reads the `text` of a file of endpoints.
fn parse_list(text: &str) -> Result<Vec<EndpointPlan>, String> {
    let mut entries = Vec::new();
    let mut lines: HashMap<&str, usize> = HashMap::new();
    for (line, entry) in (1..).zip(text.lines()) {
        let entry = entry.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let wrong = |message: String| format!("line {line}: {message}");
        let (address, rest) = entry.split_once(char::is_whitespace).unwrap_or((entry, ""));
        check_address(address).map_err(wrong)?;
        if let Some(first) = lines.insert(address, line) {
            return Err(wrong(format!("the endpoint stands on line {first} too")));
        }
        let weight = match rest.trim() {
            "" => 1,
            rest => {
                let number = rest.strip_prefix("weight=").and_then(|number| number.parse::<u64>().ok());
                let number = number.filter(|number| (1..=WEIGHT_MAX).contains(number));
                let number = number.and_then(|number| u32::try_from(number).ok());
                number.ok_or_else(|| {
                    wrong(format!("\"{rest}\" is not a weight; write weight=1 to weight={WEIGHT_MAX}"))
                })?
            }
        };
        if entries.len() == LISTED_MAX {
            return Err(wrong(format!("more than {LISTED_MAX} endpoints")));
        }
        // How many may be in flight is the cluster's to say.
        entries.push(EndpointPlan { address: address.to_owned(), weight, in_flight_max: UNBOUNDED });
    }
    if entries.is_empty() {
        return Err("it lists no endpoint".to_owned());
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(address: &str, weight: u32) -> EndpointPlan {
        EndpointPlan { address: address.to_owned(), weight, in_flight_max: UNBOUNDED }
    }

    #[test]
    fn lines_are_read() {
        let text = "# ours\n\n127.0.0.1:9001\r\n  pay.internal:80 \t weight=7 # new\n[::1]:9001#\n";
        let read = parse_list(text);
        let expected = vec![entry("127.0.0.1:9001", 1), entry("pay.internal:80", 7), entry("[::1]:9001", 1)];
        assert_eq!(read, Ok(expected));
        assert_eq!(entry("[::1]:9001", 1).host_and_port(), Some(("[::1]", 9_001)));
    }

    #[test]
    fn one_bad_line_spoils_the_list() {
        let many: String = (1..=1_025).map(|port| format!("10.0.0.1:{port}\n")).collect();
        for (text, mistake) in [
            ("", "it lists no endpoint"),
            ("# 10.0.0.1:80\n", "it lists no endpoint"),
            ("10.0.0.1:80\n10.0.0.2\n", "line 2: \"10.0.0.2\" is not a host and port"),
            ("10.0.0.1:0", "line 1: \"10.0.0.1:0\" is not a host and port"),
            ("10.0.0.1:80\n\n10.0.0.1:80 weight=2", "line 3: the endpoint stands on line 1 too"),
            ("10.0.0.1:80 weight=0", "line 1: \"weight=0\" is not a weight"),
            ("10.0.0.1:80 weight=65536", "line 1: \"weight=65536\" is not a weight"),
            ("10.0.0.1:80 backup", "line 1: \"backup\" is not a weight"),
            (many.as_str(), "line 1025: more than 1024 endpoints"),
        ] {
            let said = parse_list(text).unwrap_err();
            assert!(said.starts_with(mistake), "{said}");
        }
    }

    proptest! {
        /// Any text has a verdict, and what is good has a host and a port.
        #[test]
        fn any_text_has_a_verdict(text in "[ -~\n]{0,80}") {
            for entry in parse_list(&text).into_iter().flatten() {
                prop_assert!(entry.host_and_port().is_some_and(|(host, port)| !host.is_empty() && port > 0));
            }
        }
    }
}
