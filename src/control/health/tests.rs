//! Clusters that are looked after for minutes, with a clock that stands where the test puts it.

use std::path::Path;

use crate::{
    control::config,
    shared::standing::{UNBOUNDED, WEIGHT_UNIT},
    stage::{
        balance::{self, Care, Ejection, Finding, LoadReport, Permit, Probe, Question, Wish},
        fixture,
        retry::Cause,
        snapshot::Snapshot,
    },
};

use super::{patient::Patient, probe::Said, *};

/// A cluster that is looked after.
struct Clinic {
    snapshot: Snapshot,
    health: Health,
    now_ms: u64,
}

impl Clinic {
    fn new(weights: &[u32], care: impl FnOnce(&mut Care)) -> Self {
        let mut cluster = fixture::cluster(weights);
        cluster.care = Care {
            ejection: Ejection { margin_percent: 20, time_ms: 10_000, share_percent: 50 },
            slow_start_ms: 0,
            panic_percent: 10,
            probe: None,
            load_report: LoadReport::None,
            fuse: None,
        };
        care(&mut cluster.care);
        let snapshot = Snapshot { clusters: [cluster].into(), ..fixture::snapshot(Vec::new()) };
        let clinic = Self { snapshot, health: Health::default(), now_ms: 1_000 };
        clinic.health.look(&clinic.snapshot, clinic.now_ms);
        clinic
    }

    fn cluster(&self) -> &Cluster {
        &self.snapshot.clusters[0]
    }

    fn note(&self, place: usize, finding: Finding, times: usize) {
        let cluster = self.cluster();
        for _ in 0..times {
            balance::note(cluster, &cluster.endpoints[place], 0, finding, Some(1_000));
        }
    }

    fn pass(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while self.now_ms < until_ms {
            self.now_ms += 100;
            self.health.look(&self.snapshot, self.now_ms);
        }
    }

    /// The effective weights, in hundredths.
    fn weights(&self) -> Vec<u32> {
        let endpoints = self.cluster().endpoints.iter();
        let percent = |weight: u32| (weight * 100 + WEIGHT_UNIT / 2) / WEIGHT_UNIT;
        endpoints.map(|endpoint| percent(endpoint.standing.terms().weight)).collect()
    }

    fn told(&self, place: usize) -> (&'static str, String) {
        let (cluster, state) = (self.cluster(), self.health.state());
        let endpoint = &cluster.endpoints[place];
        let chart = &state.charts[&endpoint.slot];
        let panics = state.clusters[&cluster.name].panics;
        let offer = ward::offer(cluster, endpoint);
        chart.patient.tell(chart.order, offer, endpoint.standing.streak(), panics, self.now_ms)
    }
}

const OK: Finding = Finding::Answered(200);
const BAD: Finding = Finding::Answered(502);

#[test]
fn who_fails_in_a_row_is_ejected_tried_and_taken_back() {
    let mut clinic = Clinic::new(&[1, 1, 1], |_| {});
    clinic.note(1, BAD, 5);
    clinic.pass(100);
    assert_eq!(clinic.weights(), [100, 0, 100]);
    assert_eq!(clinic.told(1), ("ejected", "ejected: 5 consecutive 502, 10 s left".to_owned()));
    clinic.pass(3_000);
    assert_eq!(clinic.told(1).1, "ejected: 5 consecutive 502, 7 s left");
    clinic.pass(7_000);
    assert_eq!(clinic.told(1).0, "probation");
    let terms = clinic.cluster().endpoints[1].standing.terms();
    assert_eq!((terms.weight, terms.ceiling, terms.is_suspect), (WEIGHT_UNIT, 1, false));
    clinic.note(1, OK, 2);
    clinic.pass(100);
    assert_eq!(clinic.told(1).1, "probation: 2 of 3 went well, one at a time");
    clinic.note(1, OK, 1);
    clinic.pass(100);
    assert_eq!(clinic.told(1), ("up", "nothing speaks against it".to_owned()));
    assert_eq!(clinic.cluster().endpoints[1].standing.terms().ceiling, UNBOUNDED);
}

#[test]
fn each_ejection_is_longer_until_it_is_well_for_a_while() {
    let mut clinic = Clinic::new(&[1, 1], |_| {});
    clinic.note(0, Finding::Failed(Cause::Connect), 3);
    for seconds in [10, 20, 30] {
        clinic.pass(100);
        assert!(clinic.told(0).1.ends_with(&format!(", {seconds} s left")), "{:?}", clinic.told(0));
        clinic.pass(seconds * 1_000);
        assert_eq!(clinic.told(0).0, "probation");
        clinic.note(0, Finding::Failed(Cause::Connect), 1);
    }
    clinic.pass(40_100);
    clinic.note(0, OK, 3);
    clinic.pass(60_000);
    clinic.note(0, BAD, 5);
    clinic.pass(100);
    assert_eq!(clinic.told(0).1, "ejected: 5 consecutive 502, 10 s left");
}

#[test]
fn no_more_are_ejected_than_may_be_and_never_the_last() {
    let mut clinic = Clinic::new(&[1; 5], |_| {});
    (0..5).for_each(|place| clinic.note(place, BAD, 9));
    clinic.pass(100);
    assert_eq!(clinic.weights().iter().filter(|&&weight| weight == 0).count(), 2, "half of five");
    let spared = "9 consecutive 502; not ejected, because too many are";
    let spared = (0..5).filter(|&place| clinic.told(place).1 == spared);
    assert_eq!(spared.count(), 3);
    let mut alone = Clinic::new(&[1], |_| {});
    alone.note(0, BAD, 100);
    alone.pass(1_000);
    assert_eq!(alone.weights(), [100]);
}

/// Broken by words about a row that is over: "0 consecutive 500".
#[test]
fn who_answers_again_before_anybody_has_looked_is_told_so() {
    let mut clinic = Clinic::new(&[1, 1], |_| {});
    clinic.note(0, BAD, 5);
    clinic.note(0, OK, 1);
    clinic.note(0, BAD, 1);
    clinic.pass(100);
    let why = "ejected: too many failures in a row, before it answered again, 10 s left";
    assert_eq!(clinic.told(0), ("ejected", why.to_owned()));
}

/// Broken by a count of those who are well among whom some may get nothing: the last who serves would be ejected.
#[test]
fn who_gets_nothing_is_no_substitute() {
    let no_panic = |care: &mut Care| (care.panic_percent, care.load_report) = (0, LoadReport::Agent);
    let drain = |clinic: &Clinic, place: usize| {
        let endpoint = &clinic.cluster().endpoints[place];
        clinic
            .health
            .order(&clinic.snapshot, clinic.cluster(), endpoint, |order| order.drained = true)
            .unwrap();
    };
    let rest = |clinic: &mut Clinic, place: usize| {
        let slot = clinic.cluster().endpoints[place].slot;
        clinic.health.state().charts.get_mut(&slot).unwrap().report.note_percent(0, clinic.now_ms);
        clinic.pass(100);
    };
    let mut drained = Clinic::new(&[1, 1], no_panic);
    drain(&drained, 0);
    let mut resting = Clinic::new(&[1, 1], no_panic);
    rest(&mut resting, 0);
    for clinic in [&mut drained, &mut resting] {
        clinic.note(1, BAD, 5);
        clinic.pass(100);
        assert_eq!(clinic.weights(), [0, 100], "{:?}", clinic.told(0));
    }
    // Half of those in service, of which there are four.
    let mut clinic = Clinic::new(&[1; 8], no_panic);
    (4..8).for_each(|place| drain(&clinic, place));
    (0..4).for_each(|place| clinic.note(place, BAD, 5));
    clinic.pass(100);
    assert_eq!(clinic.weights().iter().filter(|&&weight| weight > 0).count(), 2);
}

/// Broken by a client that provokes 500 everywhere and so keeps an endpoint from coming back.
#[test]
fn what_a_client_provokes_does_not_end_a_probation() {
    let mut clinic = Clinic::new(&[1, 1], |_| {});
    clinic.note(0, BAD, 5);
    clinic.pass(10_100);
    assert_eq!(clinic.told(0).0, "probation");
    for _ in 0..3 {
        clinic.note(0, Finding::Answered(500), 1);
        clinic.pass(100);
        clinic.note(0, OK, 1);
        clinic.pass(100);
    }
    assert_eq!(clinic.told(0).0, "up");
    clinic.note(0, BAD, 5);
    clinic.pass(20_100);
    assert_eq!(clinic.told(0).0, "probation");
    clinic.note(0, BAD, 1);
    clinic.note(0, OK, 3);
    clinic.pass(100);
    assert_eq!(clinic.told(0).0, "ejected", "what counts in a row counts here, whatever came after it");
}

/// Broken by a comparison with a fixed number: then a bad hour of all would eject them.
#[test]
fn who_succeeds_much_less_often_than_the_others_is_ejected() {
    let mut clinic = Clinic::new(&[1, 1, 1], |_| {});
    let work = |clinic: &mut Clinic, bad_of_ten: [usize; 3]| {
        for _ in 0..30 {
            for (place, bad) in bad_of_ten.into_iter().enumerate() {
                clinic.note(place, Finding::Answered(500), bad.min(4));
                clinic.note(place, OK, 10 - bad);
                clinic.note(place, BAD, bad.saturating_sub(4));
                clinic.note(place, OK, 1);
            }
            clinic.pass(100);
        }
    };
    work(&mut clinic, [5, 5, 5]);
    assert_eq!(clinic.weights(), [100; 3]);
    work(&mut clinic, [0, 4, 1]);
    work(&mut clinic, [0, 4, 1]);
    assert_eq!(clinic.weights()[1], 0);
    let why = clinic.told(1).1;
    assert!(why.contains("% of its attempts succeed") && why.contains("of the others'"), "{why}");
}

#[test]
fn in_a_panic_all_are_used_but_for_those_an_operator_drained() {
    let probe = Probe { question: Question::Tcp, interval_ms: 1_000, timeout_ms: 500, rise: 2, fall: 2 };
    let mut clinic = Clinic::new(&[1, 1, 1], |care| care.probe = Some(probe.clone()));
    let say = |clinic: &mut Clinic, place: usize, answer: Result<&str, &str>| {
        let slot = clinic.cluster().endpoints[place].slot;
        let answer = answer.map(|words| Said { words: words.to_owned(), percent: None });
        let answer = answer.map_err(str::to_owned);
        clinic.health.state().charts.get_mut(&slot).unwrap().answer = Some(answer);
        clinic.pass(100);
    };
    say(&mut clinic, 0, Err("status 500"));
    assert_eq!(clinic.told(0), ("down", "down: the last probe: status 500".to_owned()), "the first decides");
    say(&mut clinic, 1, Ok("200"));
    for answer in [Err("x"), Ok("200"), Err("x")] {
        say(&mut clinic, 1, answer);
        assert_eq!(clinic.weights(), [0, 100, 100], "one is not two in a row");
    }
    say(&mut clinic, 1, Err("time-out"));
    assert_eq!(clinic.weights(), [0, 0, 100]);
    say(&mut clinic, 2, Err("time-out"));
    assert_eq!(clinic.weights(), [100; 3]);
    assert!(clinic.told(0).1.ends_with("used all the same, because too few are well"));
    let endpoint = &clinic.cluster().endpoints[0];
    clinic.health.order(&clinic.snapshot, clinic.cluster(), endpoint, |order| order.drained = true).unwrap();
    assert_eq!(clinic.weights(), [0, 100, 100]);
    say(&mut clinic, 1, Ok("200"));
    assert_eq!(clinic.weights(), [0, 100, 100]);
    say(&mut clinic, 1, Ok("200"));
    assert_eq!(clinic.weights(), [0, 100, 0], "one is well, and that is enough");
}

#[test]
fn a_newcomer_and_a_convalescent_start_slowly() {
    let mut clinic = Clinic::new(&[4, 4], |care| care.slow_start_ms = 10_000);
    assert_eq!(clinic.weights(), [400; 2], "those of the beginning are no newcomers");
    clinic.note(0, BAD, 5);
    clinic.pass(10_100);
    clinic.note(0, OK, 3);
    clinic.pass(100);
    let mut seen = Vec::new();
    for _ in 0..11 {
        seen.push(clinic.weights()[0]);
        clinic.pass(1_000);
    }
    assert_eq!(seen, [40, 40, 80, 120, 160, 200, 240, 280, 320, 360, 400]);
    let newcomer = Patient::new(Default::default(), 0, true);
    let offer = ward::offer(clinic.cluster(), &clinic.cluster().endpoints[0]);
    assert_eq!(newcomer.terms(Order::default(), offer, false, 5_000).0, 4 * WEIGHT_UNIT / 2);
}

#[test]
fn an_order_stands_until_it_is_taken_back_and_outlives_a_reload() {
    let mut clinic = Clinic::new(&[1, 1], |_| {});
    let order = |clinic: &Clinic, change: fn(&mut Order)| {
        let endpoint = &clinic.cluster().endpoints[0];
        clinic.health.order(&clinic.snapshot, clinic.cluster(), endpoint, change).unwrap();
    };
    order(&clinic, |order| order.weight = Some(5));
    assert_eq!(clinic.weights(), [500, 100]);
    order(&clinic, |order| order.drained = true);
    assert_eq!(clinic.weights(), [0, 100]);
    // The endpoint goes, and comes again in another slot.
    let cluster = fixture::cluster(&[1, 1]);
    let mut endpoints = cluster.endpoints.into_vec();
    endpoints[0].slot = 7;
    let cluster = Cluster { endpoints: endpoints.into(), ..fixture::cluster(&[]) };
    clinic.snapshot = Snapshot { clusters: [cluster].into(), ..fixture::snapshot(Vec::new()) };
    clinic.pass(100);
    assert_eq!(clinic.weights(), [0, 100]);
    order(&clinic, |order| *order = Order::default());
    assert_eq!(clinic.weights(), [100, 100]);
    assert!(clinic.health.state().orders.is_empty());
}

/// Broken by an order that is lost because a name or a file does not say just now what it said before.
#[test]
fn who_inherits_orders_keeps_those_that_can_still_mean_something() {
    let clinic = Clinic::new(&[1, 1], |_| {});
    let configured = &clinic.cluster().endpoints[1];
    let plan = |cluster: &str, endpoint: &str| {
        let text = format!(
            "[[cluster]]\nname = \"{cluster}\"\nendpoints = [{{ address = \"{endpoint}\" }}]\n\
             [[route]]\nname = \"r\"\npath = \"/\"\ncluster = \"{cluster}\"\n"
        );
        config::parse(Path::new("t.toml"), &text, &|_| None).unwrap().clusters.remove(0)
    };
    let plans = [plan(&clinic.cluster().name, "10.0.0.2:80"), plan("named", "pay.test:80")];
    let drained = Order { drained: true, weight: None };
    let order = |cluster: &str, address: &str| ((cluster.into(), address.parse().unwrap()), drained);
    let inherited = EndpointOrders::from([
        ((clinic.cluster().name.clone(), configured.address), drained),
        order(&clinic.cluster().name, "10.9.9.9:80"),
        order("named", "10.0.0.3:80"),
        order("gone", "10.0.0.4:80"),
    ]);
    let health = Health::default();
    health.inherit(inherited, &plans, &clinic.snapshot);
    let kept: Vec<_> = health.orders().into_keys().map(|(cluster, _)| cluster).collect();
    assert_eq!(kept.iter().map(|name| &**name).collect::<Vec<_>>(), ["named", &*clinic.cluster().name]);
    assert_eq!(clinic.weights(), [100, 0], "before anybody has chosen");
}

/// A shard that suspects an endpoint between two looks does not wait for the next.
#[test]
fn a_suspect_gets_nothing_before_control_has_looked() {
    let clinic = Clinic::new(&[1, 1], |_| {});
    clinic.note(0, BAD, 5);
    let mut rng = fastrand::Rng::with_seed(1);
    let permits: Vec<Permit<'_>> =
        (0..20).map(|_| balance::pick(clinic.cluster(), Wish::default(), &mut rng).unwrap()).collect();
    assert!(permits.iter().all(|permit| permit.endpoint().index == 1));
}
