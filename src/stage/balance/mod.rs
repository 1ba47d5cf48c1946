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
    loop {
        let (endpoint, in_flight) = least_connections::choose(&cluster.endpoints, skip, rng)?;
        // Another shard may have counted itself in since we looked; then this is no longer the one to take.
        // Each time round some shard has got on, so this ends.
        if let Some(permit) = Permit::enter(cluster, endpoint, in_flight) {
            return Some(permit);
        }
    }
}
