//! The endpoints of one cluster beside each other: who is worse than the others, how many may be left out, what each
//! may be given.
//!
//! Looks at what the shards counted, decides, and publishes weight and ceiling of every endpoint. The time is an
//! argument.

use crate::{
    shared::{counter::Counter, meters::EndpointMeters, standing::Standing},
    stage::balance::{self, Balance, Cluster, Endpoint},
};

use super::{
    circuit::{self, Circuit, Tally},
    estimate,
    patient::{Change, Charge, Counts, Offer, Order, Patient, Rate, in_a_row},
    probe::Said,
    report::Report,
};

/// What control knows of one endpoint, beside its place in the snapshot.
#[derive(Debug)]
pub struct Chart {
    /// What was seen of it.
    pub patient: Patient,
    /// What an operator ordered.
    pub order: Order,
    /// What the last probe found, until the next look.
    pub answer: Option<Result<Said, String>>,
    /// What it says of its load.
    pub report: Report,
    estimate: estimate::Reading,
}

impl Chart {
    /// One for `endpoint`.
    pub fn new(endpoint: &Endpoint, order: Order, now_ms: u64, is_newcomer: bool) -> Self {
        let patient = Patient::new(counts(endpoint), now_ms, is_newcomer);
        Self {
            patient,
            order,
            answer: None,
            report: Report::default(),
            estimate: estimate::Reading::of(endpoint),
        }
    }
}

/// What is configured of the share of `endpoint`.
pub fn offer(cluster: &Cluster, endpoint: &Endpoint) -> Offer {
    Offer {
        weight: endpoint.weight,
        in_flight_max: endpoint.in_flight_max,
        slow_start_ms: cluster.care.slow_start_ms,
    }
}

fn counts(endpoint: &Endpoint) -> Counts {
    Counts {
        good: endpoint.meters.sum(|meters| &meters.good),
        bad: endpoint.meters.sum(|meters| &meters.bad),
        faults: endpoint.meters.sum(|meters| &meters.faults),
    }
}

/// One look at a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// When.
    pub now_ms: u64,
    /// Whether a second has passed since this was last so.
    pub fades: bool,
    /// The turn at which the last look found the cluster's round, if it has one.
    pub turn: Option<u64>,
}

/// What a look found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Whether too few are well, so that all are used.
    pub panics: bool,
    /// What changed, and of which endpoint.
    pub changes: Vec<(usize, Change)>,
    /// See [`Round::turn`].
    pub turn: Option<u64>,
}

/// Attempts below which a rate says nothing, of an endpoint and of all others together.
const RATE_ATTEMPTS_MIN: f64 = 50.0;

/// Looks at `cluster`, whose endpoints have these `charts`, in order.
pub fn look(
    cluster: &Cluster,
    charts: &mut [&mut Chart],
    circuit: &mut Option<Circuit>,
    round: Round,
) -> Findings {
    let Round { now_ms, fades, turn } = round;
    let care = &cluster.care;
    let mut findings = Findings::default();
    for (place, (endpoint, chart)) in cluster.endpoints.iter().zip(charts.iter_mut()).enumerate() {
        chart.patient.observe(counts(endpoint), fades);
        let due = chart.patient.advance(care, now_ms);
        if due == Some(Change::OnProbation) {
            // What it took when it failed says nothing about it now.
            endpoint.standing.settle_estimate(endpoint.standing.estimate_us(), 0);
        }
        let probed = match (&care.probe, chart.answer.take()) {
            (Some(probe), Some(answer)) => {
                if let Ok(Said { percent: Some(percent), .. }) = &answer {
                    chart.report.note_percent(*percent, now_ms);
                }
                chart.patient.probed(answer.map(|said| said.words), probe, now_ms)
            }
            (Some(_), None) => None,
            (None, _) => {
                chart.patient.forget_probes();
                None
            }
        };
        findings.changes.extend([due, probed].into_iter().flatten().map(|change| (place, change)));
        if let Some(permille) = endpoint.standing.take_report() {
            chart.report.note_load(permille, now_ms);
        }
        chart.report.advance(care.load_report, now_ms);
        if fades {
            endpoint.load.fade();
        }
        if let Some(turn) = turn {
            endpoint.load.put_off(turn);
        }
    }
    eject(cluster, charts, now_ms, &mut findings.changes);
    findings.panics = panics(cluster, charts);
    let terms = cluster.endpoints.iter().zip(charts.iter()).map(|(endpoint, chart)| {
        let (weight, ceiling) =
            chart.patient.terms(chart.order, offer(cluster, endpoint), findings.panics, now_ms);
        (if findings.panics { weight } else { chart.report.of(weight) }, ceiling)
    });
    let (weights, mut ceilings): (Vec<u32>, Vec<u32>) = terms.unzip();
    if let Some(limit) = limit(cluster, circuit) {
        let shares = circuit::shares(limit, &weights);
        ceilings.iter_mut().zip(shares).for_each(|(ceiling, share)| *ceiling = share.min(*ceiling));
    }
    for (endpoint, (weight, ceiling)) in cluster.endpoints.iter().zip(weights.into_iter().zip(ceilings)) {
        endpoint.standing.publish(weight, ceiling);
        // Its failures were looked at, and what follows from them is published.
        if endpoint.standing.acquit() {
            endpoint.standing.forget_streak();
        }
    }
    estimate::settle(cluster, charts.iter_mut().map(|chart| &mut chart.estimate));
    if cluster.balance == Balance::RoundRobin {
        findings.turn = balance::round(&cluster.endpoints);
    }
    findings
}

/// How many exchanges there may be under way at `cluster`, if that is limited by what answers take.
fn limit(cluster: &Cluster, circuit: &mut Option<Circuit>) -> Option<u32> {
    let Some(fuse) = cluster.care.fuse else {
        *circuit = None;
        return None;
    };
    let sum = |of: fn(&EndpointMeters) -> &Counter| -> u64 {
        cluster.endpoints.iter().map(|endpoint| endpoint.meters.sum(of)).sum()
    };
    let tally = Tally {
        waits: sum(|meters| &meters.waits),
        waited_us: sum(|meters| &meters.waited_us),
        unreachable: sum(|meters| &meters.unreachable),
    };
    let in_flight = cluster.endpoints.iter().map(|endpoint| u64::from(endpoint.load.in_flight())).sum();
    Some(circuit.get_or_insert_with(|| Circuit::new(fuse, tally)).look(fuse, tally, in_flight))
}

/// Leaves out those that fail, worst first, as long as not too many are. Who gets nothing, because an operator or it
/// itself wants that, is not judged, and no substitute for those who do.
fn eject(cluster: &Cluster, charts: &mut [&mut Chart], now_ms: u64, changes: &mut Vec<(usize, Change)>) {
    let care = &cluster.care;
    let rates: Vec<Rate> = charts.iter().map(|chart| chart.patient.rate()).collect();
    let mut accused: Vec<(usize, Charge)> = Vec::new();
    for (place, endpoint) in cluster.endpoints.iter().enumerate() {
        if charts[place].patient.is_ejectable()
            && is_in_service(charts[place])
            && let Some(charge) = accusation(cluster, &endpoint.standing, place, &rates)
        {
            accused.push((place, charge));
        }
    }
    accused.sort_by(|(one, _), (other, _)| rates[*one].share().total_cmp(&rates[*other].share()));
    let count = charts.iter().filter(|chart| is_in_service(chart)).count();
    for (place, charge) in accused {
        let in_service = || charts.iter().filter(|chart| is_in_service(chart));
        let out = in_service().filter(|chart| chart.patient.is_ejected()).count();
        let left = in_service().filter(|chart| chart.patient.is_well()).count();
        let within_share = out == 0 || (out + 1) * 100 <= count * care.ejection.share_percent as usize;
        if within_share && left > 1 {
            changes.push((place, charts[place].patient.eject(charge, care, now_ms)));
        } else {
            charts[place].patient.spare(charge, now_ms);
        }
    }
}

/// What is said of failures in a row when there are none any more.
const FAILED_BEFORE: &str = "too many failures in a row, before it answered again";

fn is_in_service(chart: &Chart) -> bool {
    !chart.order.drained && chart.report.share() != Some(0.0)
}

/// What speaks for leaving the endpoint at `place` out.
fn accusation(cluster: &Cluster, standing: &Standing, place: usize, rates: &[Rate]) -> Option<Charge> {
    let streak = standing.streak();
    if standing.terms().is_suspect || cluster.trip.is_due(streak.failures, streak.unreachable) {
        // A shard suspected it, and it has answered since.
        let is_over = !cluster.trip.is_due(streak.failures, streak.unreachable);
        let why = if is_over { FAILED_BEFORE.to_owned() } else { in_a_row(streak).to_string() };
        return Some(Charge { why, is_compared: false });
    }
    let margin_percent = cluster.care.ejection.margin_percent;
    let (own, mut others) = (rates[place], Rate::default());
    for (_, rate) in rates.iter().enumerate().filter(|(other, _)| *other != place) {
        others.good += rate.good;
        others.all += rate.all;
    }
    let known = own.all >= RATE_ATTEMPTS_MIN && others.all >= RATE_ATTEMPTS_MIN;
    let is_worse = margin_percent > 0 && own.share() + margin_percent as f64 / 100.0 <= others.share();
    (known && is_worse).then(|| {
        let (own, others) = (own.share() * 100.0, others.share() * 100.0);
        let why = format!("{own:.1} % of its attempts succeed, {others:.1} % of the others'");
        Charge { why, is_compared: true }
    })
}

/// Whether so few are well that it is more likely the verdict that is wrong.
fn panics(cluster: &Cluster, charts: &[&mut Chart]) -> bool {
    let in_service = || charts.iter().filter(|chart| !chart.order.drained);
    let well = in_service().filter(|chart| chart.patient.is_well()).count() as u64;
    well * 100 < in_service().count() as u64 * cluster.care.panic_percent
}
