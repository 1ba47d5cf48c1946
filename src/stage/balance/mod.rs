//! Which endpoint of a cluster takes the exchange.
//!
//! Least connections, exact over shards: every shard counts in the same padded word per endpoint. A
//! [`Permit`] is one exchange counted in; dropping it counts it out, on every path.

mod cluster;
mod least_connections;

pub use cluster::{Cluster, Endpoint, Permit};

/// Chooses an endpoint and counts the exchange in; `None` when there is none but `skip`.
pub fn pick<'s>(
    cluster: &'s Cluster,
    skip: Option<&Endpoint>,
    rng: &mut fastrand::Rng,
) -> Option<Permit<'s>> {
    let endpoint = least_connections::choose(&cluster.endpoints, skip, rng)?;
    Some(Permit::enter(cluster, endpoint))
}
