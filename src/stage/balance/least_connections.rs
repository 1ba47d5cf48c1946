//! Least connections: the endpoint with the fewest exchanges in flight for its weight.

use super::Endpoint;

/// The endpoint of `endpoints`, other than `skip`, that would be the least loaded with one more exchange, and
/// how many it was seen to have in flight.
/// Among equals each is as likely as the other, or the first would get all requests of a quiet time.
pub(super) fn choose<'s>(
    endpoints: &'s [Endpoint],
    skip: Option<&Endpoint>,
    rng: &mut fastrand::Rng,
) -> Option<(&'s Endpoint, u32)> {
    let mut best: Option<(&Endpoint, u32)> = None;
    let mut equals = 1;
    for endpoint in endpoints {
        if skip.is_some_and(|skip| skip.slot == endpoint.slot) {
            continue;
        }
        let in_flight = endpoint.load.in_flight();
        let Some((leader, leader_in_flight)) = best else {
            best = Some((endpoint, in_flight));
            continue;
        };
        // (in flight + 1) / weight, compared without dividing.
        let ours = (u64::from(in_flight) + 1) * u64::from(leader.weight);
        let theirs = (u64::from(leader_in_flight) + 1) * u64::from(endpoint.weight);
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
            best = Some((endpoint, in_flight));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    };

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

    /// Two shards choose at the same moment, many times over: they never crowd onto one endpoint.
    #[test]
    fn exact_over_shards() {
        let cluster = cluster(&[1, 1]);
        let crowded = AtomicUsize::new(0);
        let together = Barrier::new(2);
        std::thread::scope(|scope| {
            for seed in 0..2 {
                let (cluster, together, crowded) = (&cluster, &together, &crowded);
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(seed);
                    for _ in 0..5_000 {
                        together.wait();
                        let _permit = pick(cluster, None, &mut rng).unwrap();
                        together.wait();
                        let even = cluster.endpoints.iter().all(|one| one.load.in_flight() == 1);
                        crowded.fetch_add(usize::from(!even), Ordering::SeqCst);
                        together.wait();
                    }
                });
            }
        });
        assert_eq!(crowded.load(Ordering::SeqCst), 0);
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
