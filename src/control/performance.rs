//! The part of `/metrics` that says how well routes do, for whom, and how fast their budgets are used up.
//!
//! Labels are bounded: routes and versions are the configuration's, and of consumers only those with the most
//! calls have a line of their own. Sums are made when they are asked for.

use std::{fmt, sync::atomic::Ordering};

use crate::{base::clock::Clock, shared::callers::Calls};

use super::{
    access_log::masked_name,
    apis::Census,
    metrics::{Out, total},
    monitor::WINDOWS,
    view::View,
};

/// Consumers with lines of their own.
const CONSUMERS_MAX: usize = 100;

/// Writes it.
pub(super) fn performance(out: &mut Out<'_>, view: &View) -> fmt::Result {
    routes(out, view)?;
    objectives(out, view)?;
    consumers(out, view)?;
    versions(out, view)?;
    let exports = view.monitor.exports();
    let spans = [("exported", &exports.exported), ("dropped", &exports.dropped), ("failed", &exports.failed)];
    let spans = spans.map(|(result, count)| ([("result", result)], count.load(Ordering::Relaxed)));
    out.counters("tollgate_span_exports", "Timed exchanges on their way to the OTLP receiver", &spans)
}

fn routes(out: &mut Out<'_>, view: &View) -> fmt::Result {
    let routes = view.snapshot.routes.routes();
    let upstream: Vec<_> = routes
        .iter()
        .map(|route| ([("route", &*route.name)], total(route.meters.iter().map(|meters| &meters.upstream))))
        .collect();
    out.histograms(
        "tollgate_route_upstream_duration_seconds",
        "The endpoints' share of the duration, by route",
        &upstream,
    )?;
    let added: Vec<_> = routes
        .iter()
        .map(|route| ([("route", &*route.name)], total(route.meters.iter().map(|meters| &meters.added))))
        .collect();
    out.histograms(
        "tollgate_route_added_latency_seconds",
        "The gateway's share of the duration, by route",
        &added,
    )
}

fn objectives(out: &mut Out<'_>, view: &View) -> fmt::Result {
    let mut requests = Vec::new();
    let (mut objectives, mut thresholds) = (Vec::new(), Vec::new());
    for route in view.snapshot.routes.routes() {
        let Some(objective) = route.objective else { continue };
        let name = &*route.name;
        requests.push(([("route", name), ("outcome", "good")], route.meters.sum(|meters| &meters.kept)));
        requests.push(([("route", name), ("outcome", "bad")], route.meters.sum(|meters| &meters.missed)));
        objectives.push(([("route", name)], f64::from(objective.good_per_million) / 1e6));
        thresholds.push(([("route", name)], objective.within_us as f64 / 1e6));
    }
    let help = "Requests of routes with an objective, by whether they kept it";
    out.counters("tollgate_slo_requests", help, &requests)?;
    out.ratios("tollgate_slo_objective_ratio", "The share of requests that shall be good", &objectives)?;
    out.ratios("tollgate_slo_threshold_seconds", "How long a good request takes at most", &thresholds)?;
    let burns = view.monitor.burn(view.snapshot.routes.routes());
    let mut rates = Vec::new();
    for burn in &burns {
        for ((window, _), rate) in WINDOWS.iter().zip(burn.rates) {
            rates.push(([("route", &*burn.route), ("window", *window)], rate));
        }
    }
    out.ratios("tollgate_slo_burn_rate", "How fast the budget is used up; 1 is exactly as planned", &rates)
}

fn consumers(out: &mut Out<'_>, view: &View) -> fmt::Result {
    let mut census = Census::of(view.shards.iter().map(|meters| &meters.callers));
    for calls in &mut census.named {
        calls.name = match &view.told.consumer_key {
            Some(key) => key.disguise(&calls.name),
            None => masked_name(&calls.name),
        };
    }
    // Names may be alike where they were cut or masked, and no label may stand there twice.
    census.named.sort_by(|one, other| one.name.cmp(&other.name));
    census.named.dedup_by(|next, calls| {
        let same = next.name == calls.name;
        if same {
            calls.calls += next.calls;
            calls.refused += next.refused;
            calls.failed += next.failed;
        }
        same
    });
    census.named.sort_by(|one, other| other.calls.cmp(&one.calls).then_with(|| one.name.cmp(&other.name)));
    let listed = census.named.len().min(CONSUMERS_MAX);
    let mut others = census.others;
    for calls in &census.named[listed..] {
        others.calls += calls.calls;
        others.refused += calls.refused;
        others.failed += calls.failed;
    }
    let mut samples = Vec::new();
    let named = census.named[..listed].iter().map(|calls| (&*calls.name, calls));
    for (name, calls) in named.chain([("-", &census.nameless), ("(others)", &others)]) {
        let Calls { calls, refused, failed, .. } = *calls;
        for (outcome, count) in
            [("answered", calls.saturating_sub(refused + failed)), ("4xx", refused), ("5xx", failed)]
        {
            samples.push(([("consumer", name), ("outcome", outcome)], count));
        }
    }
    let help = "Requests by consumer: those with the most calls, \"-\" without a credential, and the rest";
    out.counters("tollgate_consumer_requests", help, &samples)
}

fn versions(out: &mut Out<'_>, view: &View) -> fmt::Result {
    let now_s = Clock::new().now().unix_seconds();
    let (mut states, mut calls) = (Vec::new(), Vec::new());
    for version in view.snapshot.apis.iter().flat_map(|api| &api.versions) {
        let labels = [("api", &*version.api), ("version", &*version.name)];
        let state = version.state(now_s).word();
        states.push(([labels[0], labels[1], ("state", state)], 1));
        let census = Census::of(version.callers.iter());
        let named: u64 = census.named.iter().map(|calls| calls.calls).sum();
        calls.push((labels, named + census.nameless.calls + census.others.calls));
    }
    out.gauges("tollgate_api_version_state", "Where each version of an API is in its life", &states)?;
    out.counters("tollgate_api_version_requests", "Requests that meant the version", &calls)
}
