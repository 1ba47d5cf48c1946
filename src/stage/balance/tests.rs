//! Every policy by itself, and what holds for all: exact over shards, never over a ceiling, nobody left out.

use std::sync::{
    Barrier,
    atomic::{AtomicUsize, Ordering},
};

use proptest::prelude::*;

use crate::{
    shared::standing::{UNBOUNDED, WEIGHT_UNIT},
    stage::{fixture, retry::Cause},
};

use super::*;

fn cluster(balance: Balance, weights: &[u32]) -> Cluster {
    let cluster = Cluster { balance, ..fixture::cluster(weights) };
    for (place, endpoint) in cluster.endpoints.iter().enumerate() {
        let weight = endpoint.standing.terms().weight;
        endpoint.load.put_off(first_turn(0, weight, place, weights.len()));
    }
    cluster
}

fn policies() -> [Balance; 5] {
    let hash = Balance::Hash(HashBy::Consumer);
    [Balance::LeastConnections, Balance::Latency, Balance::RoundRobin, Balance::Random, hash]
}

fn anyone(cluster: &Cluster, rng: &mut fastrand::Rng) -> usize {
    picked(cluster, Wish { affinity: Some(rng.u64(..)), skip: None, warm: None }, rng)
}

/// Where an exchange goes that ends at once.
fn picked(cluster: &Cluster, wish: Wish<'_>, rng: &mut fastrand::Rng) -> usize {
    usize::from(pick(cluster, wish, rng).unwrap().endpoint().index)
}

fn in_flight(cluster: &Cluster) -> Vec<u32> {
    cluster.endpoints.iter().map(|endpoint| endpoint.load.in_flight()).collect()
}

/// How often each is chosen, one exchange at a time.
fn counts(cluster: &Cluster, picks: usize, rng: &mut fastrand::Rng) -> Vec<usize> {
    let mut counts = vec![0; cluster.endpoints.len()];
    for _ in 0..picks {
        counts[anyone(cluster, rng)] += 1;
    }
    counts
}

#[test]
fn the_least_loaded_takes_it() {
    let cluster = cluster(Balance::LeastConnections, &[1, 1, 1]);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut permits: Vec<Permit<'_>> = Vec::new();
    for _ in 0..30 {
        permits.push(pick(&cluster, Wish::default(), &mut rng).unwrap());
        let loads = in_flight(&cluster);
        assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{loads:?}");
    }
    permits.clear();
    assert_eq!(in_flight(&cluster), [0; 3]);
}

/// Two shards choose at the same moment, many times over: they never crowd onto one endpoint.
#[test]
fn least_connections_is_exact_over_shards() {
    let cluster = cluster(Balance::LeastConnections, &[1, 1]);
    let crowded = AtomicUsize::new(0);
    let together = Barrier::new(2);
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (cluster, together, crowded) = (&cluster, &together, &crowded);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed);
                for _ in 0..5_000 {
                    together.wait();
                    let _permit = pick(cluster, Wish::default(), &mut rng).unwrap();
                    together.wait();
                    crowded.fetch_add(usize::from(in_flight(cluster) != [1, 1]), Ordering::SeqCst);
                    together.wait();
                }
            });
        }
    });
    assert_eq!(crowded.load(Ordering::SeqCst), 0);
}

/// Broken by a ceiling that is checked at another moment than it is counted.
#[test]
fn no_policy_oversteps_a_ceiling_whatever_the_shards_do() {
    for balance in policies() {
        let cluster = cluster(balance, &[1, 1, 1]);
        for endpoint in &cluster.endpoints {
            endpoint.standing.publish(WEIGHT_UNIT, 2);
        }
        let inside: Vec<AtomicUsize> = (0..3).map(|_| AtomicUsize::new(0)).collect();
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let (cluster, inside) = (&cluster, &inside);
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(seed);
                    for _ in 0..1_000 {
                        let wish = Wish { affinity: Some(rng.u64(..)), skip: None, warm: None };
                        let permits = [pick(cluster, wish, &mut rng), pick(cluster, wish, &mut rng)];
                        for permit in permits.iter().flatten() {
                            let place = &inside[usize::from(permit.endpoint().index)];
                            assert!(place.fetch_add(1, Ordering::SeqCst) < 2, "{:?}", cluster.balance);
                        }
                        for permit in permits {
                            match permit {
                                Ok(permit) => {
                                    inside[usize::from(permit.endpoint().index)]
                                        .fetch_sub(1, Ordering::SeqCst);
                                }
                                Err(none) => assert_eq!(none, NoPermit::AllFull),
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(in_flight(&cluster), [0; 3]);
    }
}

#[test]
fn all_full_is_said_and_ends_with_the_first_that_leaves() {
    for balance in policies() {
        let cluster = cluster(balance, &[1, 2]);
        for endpoint in &cluster.endpoints {
            endpoint.standing.publish(WEIGHT_UNIT, 3);
        }
        let mut rng = fastrand::Rng::with_seed(5);
        let wish = Wish { affinity: Some(9), skip: None, warm: None };
        let mut permits: Vec<Permit<'_>> = (0..6).map(|_| pick(&cluster, wish, &mut rng).unwrap()).collect();
        assert_eq!(in_flight(&cluster), [3, 3]);
        assert_eq!(pick(&cluster, wish, &mut rng).unwrap_err(), NoPermit::AllFull);
        permits.pop();
        assert!(pick(&cluster, wish, &mut rng).is_ok(), "{:?}", cluster.balance);
    }
}

#[test]
fn weights_are_shares_of_what_is_in_flight() {
    let cluster = cluster(Balance::LeastConnections, &[1, 3]);
    let mut rng = fastrand::Rng::with_seed(2);
    let _permits: Vec<Permit<'_>> =
        (0..40).map(|_| pick(&cluster, Wish::default(), &mut rng).unwrap()).collect();
    assert_eq!(in_flight(&cluster), [10, 30]);
}

/// Broken by ties that only chance decides: of 4,000 it is off by thirty and more.
#[test]
fn in_a_quiet_time_each_gets_its_share_to_within_a_few() {
    let mut rng = fastrand::Rng::with_seed(3);
    for balance in [Balance::LeastConnections, Balance::Latency, Balance::RoundRobin] {
        let counts = counts(&cluster(balance.clone(), &[1; 4]), 4_000, &mut rng);
        assert!(counts.iter().all(|&count| (999..=1_001).contains(&count)), "{balance:?} {counts:?}");
    }
    // Many endpoints: two are drawn, and the one that got less lately takes it.
    let counts = counts(&cluster(Balance::LeastConnections, &[1; 100]), 20_000, &mut rng);
    assert!(counts.iter().all(|&count| (190..=210).contains(&count)), "{counts:?}");
}

#[test]
fn those_who_cannot_be_chosen_are_not() {
    for balance in policies() {
        let cluster = cluster(balance, &[1, 1, 1]);
        let mut rng = fastrand::Rng::with_seed(4);
        let [first, second, third] = &*cluster.endpoints else { unreachable!() };
        second.standing.publish(0, UNBOUNDED);
        third.standing.suspect();
        let tried = Tried::from_iter([first.index]);
        for _ in 0..100 {
            assert_eq!(anyone(&cluster, &mut rng), 0);
            let wish = Wish { skip: Some(&tried), affinity: Some(rng.u64(..)), warm: None };
            assert_eq!(picked(&cluster, wish, &mut rng), 2, "who is suspect is better than nobody");
        }
        third.standing.publish(0, UNBOUNDED);
        let wish = Wish { skip: Some(&tried), affinity: Some(1), warm: None };
        assert_eq!(pick(&cluster, wish, &mut rng).unwrap_err(), NoPermit::NoEndpoint);
    }
}

#[test]
fn turns_are_smooth() {
    let cluster = cluster(Balance::RoundRobin, &[5, 1, 1]);
    let mut rng = fastrand::Rng::with_seed(6);
    let round: Vec<usize> = (0..14).map(|_| anyone(&cluster, &mut rng)).collect();
    assert_eq!(round, [0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 1, 0, 0]);
}

/// Broken by a round for each shard: then every shard begins with the same endpoint.
#[test]
fn turns_are_exact_over_shards() {
    let cluster = cluster(Balance::RoundRobin, &[2, 1, 1]);
    let counts: Vec<AtomicUsize> = (0..3).map(|_| AtomicUsize::new(0)).collect();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (cluster, counts) = (&cluster, &counts);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed);
                for _ in 0..2_000 {
                    counts[anyone(cluster, &mut rng)].fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    let counts: Vec<usize> = counts.into_iter().map(AtomicUsize::into_inner).collect();
    assert_eq!(counts, [4_000, 2_000, 2_000]);
}

#[test]
fn who_comes_back_does_not_make_up_for_its_absence() {
    let cluster = cluster(Balance::RoundRobin, &[1, 1]);
    let mut rng = fastrand::Rng::with_seed(7);
    cluster.endpoints[0].standing.publish(0, UNBOUNDED);
    counts(&cluster, 1_000, &mut rng);
    let round = round(&cluster.endpoints).unwrap();
    cluster.endpoints.iter().for_each(|endpoint| endpoint.load.put_off(round));
    cluster.endpoints[0].standing.publish(WEIGHT_UNIT, UNBOUNDED);
    assert_eq!(counts(&cluster, 10, &mut rng), [5, 5]);
}

#[test]
fn the_slow_get_less_and_the_fast_more() {
    let cluster = cluster(Balance::Latency, &[1, 1]);
    cluster.endpoints[0].standing.raise_estimate(1_000);
    cluster.endpoints[1].standing.raise_estimate(10_000);
    let mut rng = fastrand::Rng::with_seed(8);
    let _permits: Vec<Permit<'_>> =
        (0..44).map(|_| pick(&cluster, Wish::default(), &mut rng).unwrap()).collect();
    assert_eq!(in_flight(&cluster), [40, 4]);
}

#[test]
fn a_slow_answer_counts_at_once_and_a_fast_failure_as_slow() {
    let cluster = cluster(Balance::Latency, &[1, 1]);
    let [one, _] = &*cluster.endpoints else { unreachable!() };
    let note = |finding, waited_us| note(&cluster, one, 0, finding, Some(waited_us));
    note(Finding::Answered(200), 900_000);
    assert_eq!(one.standing.estimate_us(), 0, "nothing is usual yet");
    one.standing.raise_estimate(1_000);
    note(Finding::Answered(200), 1_900);
    assert_eq!(one.standing.estimate_us(), 1_000);
    note(Finding::Answered(200), 50_000);
    assert_eq!(one.standing.estimate_us(), 50_000);
    let meters = one.meters.of(0);
    let before = meters.waited_us.get();
    note(Finding::Answered(503), 200);
    note(Finding::Answered(500), 200);
    assert_eq!(meters.waited_us.get() - before, 2_000_000);
    assert_eq!((meters.good.get(), meters.bad.get()), (3, 2));
}

#[test]
fn failures_in_a_row_make_a_suspect_and_a_success_ends_the_row() {
    let cluster = cluster(Balance::LeastConnections, &[1]);
    let endpoint = &cluster.endpoints[0];
    let note = |finding| note(&cluster, endpoint, 0, finding, None);
    let is_suspect = || endpoint.standing.terms().is_suspect;
    for _ in 0..3 {
        (0..4).for_each(|_| note(Finding::Answered(502)));
        note(Finding::Unknown);
        note(Finding::Answered(500));
        assert!(!is_suspect(), "a 500 is the application's own and ends the row");
    }
    (0..4).for_each(|_| note(Finding::Failed(Cause::TimedOut)));
    assert!(!is_suspect());
    note(Finding::Answered(504));
    assert!(is_suspect());
    assert_eq!(Fault::from_byte(endpoint.standing.streak().last).words(), "504");
    endpoint.standing.acquit();
    endpoint.standing.forget_streak();
    (0..3).for_each(|_| note(Finding::Failed(Cause::Connect)));
    assert!(is_suspect(), "three connections that could not be made are enough");
}

#[test]
fn with_a_hash_the_same_goes_to_the_same() {
    let cluster = cluster(Balance::Hash(HashBy::Consumer), &[1, 1, 1, 1]);
    let mut rng = fastrand::Rng::with_seed(9);
    let of = |affinity: u64, rng: &mut fastrand::Rng| {
        picked(&cluster, Wish { affinity: Some(affinity), skip: None, warm: None }, rng)
    };
    let before: Vec<usize> = (0..1_000).map(|key| of(key, &mut rng)).collect();
    assert_eq!(before, (0..1_000).map(|key| of(key, &mut rng)).collect::<Vec<_>>());
    let per_endpoint = |places: &[usize], at| places.iter().filter(|&&place| place == at).count();
    assert!((0..4).all(|at| (200..=300).contains(&per_endpoint(&before, at))));
    // One leaves: only its keys move.
    cluster.endpoints[2].standing.publish(0, UNBOUNDED);
    let after: Vec<usize> = (0..1_000).map(|key| of(key, &mut rng)).collect();
    assert!(before.iter().zip(&after).all(|(was, is)| was == is || *was == 2));
    assert!((0..4).filter(|&at| at != 2).all(|at| per_endpoint(&after, at) > per_endpoint(&before, at) + 40));
}

#[test]
fn one_busy_key_does_not_drown_its_endpoint() {
    let cluster = cluster(Balance::Hash(HashBy::Consumer), &[1, 1, 1, 1]);
    let mut rng = fastrand::Rng::with_seed(10);
    let wish = Wish { affinity: Some(7), skip: None, warm: None };
    let _permits: Vec<Permit<'_>> = (0..400).map(|_| pick(&cluster, wish, &mut rng).unwrap()).collect();
    let loads = in_flight(&cluster);
    assert!(loads.iter().all(|&load| load <= 126), "a quarter more than a hundred: {loads:?}");
    assert!(loads.iter().any(|&load| load >= 124), "and not less, for who is the same: {loads:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Weights are shares of what is chosen over time, by every policy that counts choices.
    #[test]
    fn over_time_each_gets_its_share(weights in prop::collection::vec(1_u32..20, 2..12), seed: u64) {
        let total: u32 = weights.iter().sum();
        let picks = 200 * total as usize;
        for balance in [Balance::RoundRobin, Balance::Hash(HashBy::Ip)] {
            let slack = if balance == Balance::RoundRobin { 0.005 } else { 0.35 };
            let cluster = cluster(balance.clone(), &weights);
            let counts = counts(&cluster, picks, &mut fastrand::Rng::with_seed(seed));
            for (count, weight) in counts.iter().zip(&weights) {
                let share = 200.0 * f64::from(*weight);
                let off = (*count as f64 - share).abs();
                prop_assert!(off <= share * slack + 60.0 * slack + 2.0, "{balance:?} {weights:?} {counts:?}");
            }
        }
    }

    /// However exchanges come and go, every permit is given back, nobody who may be chosen is left out for good, and
    /// no policy chooses who must not be.
    #[test]
    fn nobody_starves(
        weights in prop::collection::vec(1_u32..10, 2..24),
        out in prop::collection::vec(any::<bool>(), 24),
        stays in 1_usize..40,
        seed: u64,
    ) {
        for balance in policies() {
            let cluster = cluster(balance.clone(), &weights);
            let mut rng = fastrand::Rng::with_seed(seed);
            let is_out = |index: usize| index > 0 && out[index];
            for (index, endpoint) in cluster.endpoints.iter().enumerate() {
                endpoint.standing.raise_estimate(rng.u32(500..5_000));
                if is_out(index) {
                    endpoint.standing.publish(0, UNBOUNDED);
                }
            }
            let mut held = std::collections::VecDeque::new();
            let (mut chosen, mut lately) = (vec![0; weights.len()], vec![0; weights.len()]);
            for turn in 0..5_000 {
                let wish = Wish { affinity: Some(rng.u64(..)), skip: None, warm: None };
                let permit = pick(&cluster, wish, &mut rng).unwrap();
                for counts in [&mut chosen, &mut lately] {
                    counts[usize::from(permit.endpoint().index)] += 1;
                }
                held.push_back(permit);
                if held.len() > stays {
                    held.pop_front();
                }
                // What control does: who gets nothing has its estimate fall to where it is worth another try.
                if balance == Balance::Latency && turn % 10 == 0 {
                    let eligible = cluster.endpoints.iter().filter(|one| one.standing.terms().weight > 0);
                    let per_weight = |one: &Endpoint| one.standing.estimate_us() / one.weight;
                    let least = eligible.map(per_weight).min().unwrap();
                    let unused = |one: &&Endpoint| lately[usize::from(one.index)] == 0;
                    for endpoint in cluster.endpoints.iter().filter(unused) {
                        let (estimate, floor) = (endpoint.standing.estimate_us(), least * endpoint.weight);
                        let fallen = (estimate - estimate.div_ceil(50)).max(floor).min(estimate);
                        endpoint.standing.settle_estimate(estimate, fallen);
                    }
                    lately.fill(0);
                }
            }
            for (index, &count) in chosen.iter().enumerate() {
                prop_assert_eq!(count == 0, is_out(index), "{:?} {} {:?}", balance, index, chosen);
            }
            held.clear();
            prop_assert!(in_flight(&cluster).iter().all(|&load| load == 0));
        }
    }
}

#[test]
fn the_words_of_faults_are_those_of_an_operator() {
    let words = |finding, faults| Fault::of(finding, faults).map(Fault::words);
    assert_eq!(words(Finding::Answered(502), Faults::Gateway).as_deref(), Some("502"));
    assert_eq!(words(Finding::Answered(500), Faults::Gateway), None);
    assert_eq!(words(Finding::Answered(500), Faults::Any5xx).as_deref(), Some("500"));
    assert_eq!(words(Finding::Answered(404), Faults::Any5xx), None);
    assert_eq!(
        words(Finding::Failed(Cause::Connect), Faults::Gateway).as_deref(),
        Some("failures to connect")
    );
}

/// Broken by a preference that outdoes the rule: a warm endpoint must not get more than its share.
#[test]
fn among_equals_one_with_a_connection_is_chosen() {
    let cluster = fixture::cluster(&[1, 1, 1]);
    let mut warm = Warm::default();
    warm.set(cluster.endpoints[2].slot, true);
    let mut rng = fastrand::Rng::with_seed(5);
    let wish = Wish { warm: Some(&warm), ..Wish::default() };
    let mut chosen = Vec::new();
    let first: Vec<_> = (0..3).map(|_| pick(&cluster, wish, &mut rng).unwrap()).collect();
    chosen.extend(first.iter().map(|permit| permit.endpoint().index));
    assert_eq!(chosen[0], 2, "all are idle, and it has a connection");
    chosen.sort_unstable();
    assert_eq!(chosen, [0, 1, 2], "and then the others have fewer in flight");
    drop(first);
    warm.set(cluster.endpoints[2].slot, false);
    warm.set(cluster.endpoints[0].slot, true);
    let wish = Wish { warm: Some(&warm), ..Wish::default() };
    assert_eq!(pick(&cluster, wish, &mut rng).unwrap().endpoint().index, 0);
}
