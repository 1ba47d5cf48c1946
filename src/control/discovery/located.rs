//! From endpoints as they were written to endpoints with addresses. Pure.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use super::{
    super::config::{cluster::ClusterPlan, endpoints::EndpointPlan},
    ip_of,
};

/// The most endpoints of a cluster: a file of names that have many addresses each. The rest is left out, which
/// `/discovery` shows.
const ENDPOINTS_MAX: usize = 4_096;

/// What host names stand for.
pub type Addresses = HashMap<String, Vec<IpAddr>>;

/// An endpoint with its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Where it is.
    pub address: SocketAddr,
    /// The address as it was written, or one that its host name stands for.
    pub name: String,
    /// The host name, if it was written with one.
    pub host: Option<String>,
    /// Its share.
    pub weight: u32,
    /// The most exchanges in flight.
    pub in_flight_max: u32,
}

/// The endpoints of `cluster`. One that stands there twice, under two names, is one; the first says its weight.
pub fn locate(cluster: &ClusterPlan, addresses: &Addresses) -> Vec<Located> {
    let mut found: Vec<Located> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let written = cluster.endpoints.iter().map(|endpoint| (endpoint, endpoint.in_flight_max));
    let listed =
        cluster.list.iter().flat_map(|list| list.entries.iter().map(|entry| (entry, list.in_flight_max)));
    for (endpoint, in_flight_max) in written.chain(listed) {
        let Some((host, port)) = endpoint.host_and_port() else { continue };
        let mut add = |ip: IpAddr, name: Option<String>, host: Option<&str>| {
            let address = SocketAddr::new(ip, port);
            if found.len() < ENDPOINTS_MAX && seen.insert(address) {
                found.push(Located {
                    address,
                    name: name.unwrap_or_else(|| address.to_string()),
                    host: host.map(str::to_owned),
                    weight: endpoint.weight,
                    in_flight_max,
                });
            }
        };
        match ip_of(host) {
            Some(ip) => add(ip, Some(endpoint.address.clone()), None),
            None => {
                for &ip in addresses.get(host).into_iter().flatten() {
                    add(ip, None, Some(host));
                }
            }
        }
    }
    found
}

/// Whether `cluster` can have endpoints tomorrow that it has not today, by a name or a file.
pub fn may_find_others(cluster: &ClusterPlan) -> bool {
    cluster.list.is_some() || cluster.endpoints.iter().any(|endpoint| host_name(endpoint).is_some())
}

/// The host name of `endpoint`, if it has one and not an address.
pub(super) fn host_name(endpoint: &EndpointPlan) -> Option<&str> {
    let (host, _) = endpoint.host_and_port()?;
    ip_of(host).is_none().then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::config::{self, endpoints::ListPlan},
        shared::standing::UNBOUNDED,
    };

    fn cluster(endpoints: &str) -> ClusterPlan {
        let text = format!(
            "[[cluster]]\nname = \"c\"\nendpoints = [{endpoints}]\n\
             [[route]]\nname = \"r\"\npath = \"/\"\ncluster = \"c\"\n"
        );
        let mut plan = config::parse(std::path::Path::new("t.toml"), &text, &|_| None).unwrap();
        plan.clusters.remove(0)
    }

    #[test]
    fn names_become_their_addresses_and_each_address_is_one_endpoint() {
        let mut cluster = cluster(
            "{ address = \"pay.test:80\", weight = 3 }, { address = \"[::1]:81\" }, { address = \"127.0.0.2:80\" }",
        );
        let listed = ["gone.test:80", "10.0.0.9:80"].map(|address| EndpointPlan {
            address: address.to_owned(),
            weight: 2,
            in_flight_max: UNBOUNDED,
        });
        cluster.list = Some(ListPlan { path: "x".into(), entries: listed.into(), in_flight_max: 7 });
        let addresses = ["127.0.0.1", "127.0.0.2", "::1"].map(|ip| ip.parse().unwrap());
        let known = Addresses::from([("pay.test".to_owned(), addresses.to_vec())]);
        let found: Vec<_> = locate(&cluster, &known)
            .into_iter()
            .map(|one| {
                assert_eq!(one.in_flight_max, if one.weight == 2 { 7 } else { UNBOUNDED });
                (one.address.to_string(), one.name, one.host.is_some(), one.weight)
            })
            .collect();
        let expected = [
            ("127.0.0.1:80", true, 3),
            ("127.0.0.2:80", true, 3),
            ("[::1]:80", true, 3),
            ("[::1]:81", false, 1),
            ("10.0.0.9:80", false, 2),
        ]
        .map(|(address, named, weight)| (address.to_owned(), address.to_owned(), named, weight));
        assert_eq!(found, expected);
    }
}
