//! Least connections: the endpoint with the fewest exchanges in flight for its weight.

use super::Endpoint;

/// The endpoint of `endpoints`, other than `skip`, that would be the least loaded with one more exchange.
/// Among equals each is as likely as the other, or the first would get all requests of a quiet time.
pub(super) fn choose<'s>(
    endpoints: &'s [Endpoint],
    skip: Option<&Endpoint>,
    rng: &mut fastrand::Rng,
) -> Option<&'s Endpoint> {
    let mut best: Option<(&Endpoint, u64)> = None;
    let mut equals = 1;
    for endpoint in endpoints {
        if skip.is_some_and(|skip| skip.slot == endpoint.slot) {
            continue;
        }
        let load = u64::from(endpoint.load.in_flight()) + 1;
        let Some((leader, leader_load)) = best else {
            best = Some((endpoint, load));
            continue;
        };
        // load / weight, compared without dividing.
        let ours = load * u64::from(leader.weight);
        let theirs = leader_load * u64::from(endpoint.weight);
        let wins = match ours.cmp(&theirs) {
            std::cmp::Ordering::Less => {
                equals = 1;
                true
            }
            std::cmp::Ordering::Equal => {
                equals += 1;
                rng.u32(0..equals) == 0
            }
            std::cmp::Ordering::Greater => false,
        };
        if wins {
            best = Some((endpoint, load));
        }
    }
    best.map(|(endpoint, _)| endpoint)
}

#[cfg(test)]
mod tests {
    use crate::stage::{
        balance::{Permit, pick},
        fixture::cluster,
    };

    #[test]
    fn the_least_loaded_takes_it() {
        let cluster = cluster(&[1, 1, 1]);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut permits: Vec<Permit<'_>> = Vec::new();
        for _ in 0..30 {
            permits.push(pick(&cluster, None, &mut rng).unwrap());
            let loads: Vec<u32> =
                cluster.endpoints.iter().map(|endpoint| endpoint.load.in_flight()).collect();
            assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{loads:?}");
        }
        permits.clear();
        assert!(cluster.endpoints.iter().all(|endpoint| endpoint.load.in_flight() == 0));
    }

    #[test]
    fn weights_are_shares() {
        let cluster = cluster(&[1, 3]);
        let mut rng = fastrand::Rng::with_seed(2);
        let _permits: Vec<Permit<'_>> = (0..40).map(|_| pick(&cluster, None, &mut rng).unwrap()).collect();
        assert_eq!(cluster.endpoints[0].load.in_flight(), 10);
        assert_eq!(cluster.endpoints[1].load.in_flight(), 30);
    }

    #[test]
    fn ties_are_spread_evenly() {
        let cluster = cluster(&[1, 1, 1, 1]);
        let mut rng = fastrand::Rng::with_seed(3);
        let mut counts = [0; 4];
        for _ in 0..4_000 {
            let permit = pick(&cluster, None, &mut rng).unwrap();
            counts[usize::from(permit.endpoint().index)] += 1;
        }
        assert!(counts.iter().all(|&count| (900..1_100).contains(&count)), "{counts:?}");
    }

    #[test]
    fn a_skipped_endpoint_is_not_chosen() {
        let cluster = cluster(&[1, 1]);
        let mut rng = fastrand::Rng::with_seed(4);
        for _ in 0..100 {
            let permit = pick(&cluster, Some(&cluster.endpoints[0]), &mut rng).unwrap();
            assert_eq!(permit.endpoint().index, 1);
        }
        let single = super::super::cluster::Cluster { endpoints: Box::default(), ..cluster };
        assert!(pick(&single, None, &mut rng).is_none());
    }
}
