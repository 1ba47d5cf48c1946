//! What `/metrics` says: the meters of all shards, summed when asked.
//!
//! The shards do not notice a scrape. Text exposition by `prometheus-client`; the names are the contract's.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Registry,
};

use crate::{
    shared::{
        counter::{Histogram, HistogramTotal},
        meters::{ClusterMeters, ShardMeters},
    },
    stage::{balance::Cluster, refusal::ANSWERS, termination::TERMINATIONS},
};

use super::{
    audit, clusters, discovery,
    performance::performance,
    view::{PHASES, View},
};

/// The text of `/metrics`.
pub fn text(view: &Arc<View>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics(Arc::clone(view))));
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => text,
        // Writing into a string fails only if a collector does, and ours only passes that on.
        Err(error) => format!("# {error}\n"),
    }
}

/// Upper bounds of the histograms, in seconds: fine where a gateway's own share lies.
const BUCKETS_S: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

const CLASSES: [&str; 6] = ["0xx", "1xx", "2xx", "3xx", "4xx", "5xx"];

#[derive(Debug)]
struct Metrics(Arc<View>);

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut out = Out(encoder);
        let view = &*self.0;
        requests(&mut out, view)?;
        connections(&mut out, view)?;
        discovery::metrics(&mut out, view)?;
        decisions(&mut out, view)?;
        process(&mut out, view)?;
        audit::exposition(&mut out, view)?;
        performance(&mut out, view)
    }
}

fn requests(out: &mut Out<'_>, view: &View) -> fmt::Result {
    let routes = view.snapshot.routes.routes();
    let mut answers: Vec<([(&str, &str); 2], u64)> = Vec::new();
    for (class, word) in CLASSES.iter().enumerate() {
        for route in routes {
            let count = route.meters.sum(|meters| &meters.answers[class]);
            answers.push(([("route", &*route.name), ("code_class", *word)], count));
        }
        let unrouted = view.shards.sum(|meters| &meters.unrouted[class]);
        answers.push(([("route", "-"), ("code_class", *word)], unrouted));
    }
    answers.retain(|(_, count)| *count > 0);
    out.counters("tollgate_requests", "Requests answered, by route and class of status", &answers)?;
    let refusals: Vec<_> = ANSWERS
        .iter()
        .map(|answer| {
            ([("code", answer.word)], view.shards.sum(|meters| &meters.refusals[answer.code as usize]))
        })
        .collect();
    out.counters("tollgate_refusals", "Requests the gateway answered itself, by code", &refusals)?;
    let ends: Vec<_> = TERMINATIONS
        .iter()
        .map(|(way, code)| ([("code", *code)], view.shards.sum(|meters| &meters.terminations[*way as usize])))
        .collect();
    out.counters("tollgate_terminations", "Exchanges by who ended them and in which step", &ends)?;
    let durations: Vec<_> = routes
        .iter()
        .map(|route| ([("route", &*route.name)], total(route.meters.iter().map(|meters| &meters.duration))))
        .collect();
    out.histograms(
        "tollgate_request_duration_seconds",
        "From the first byte of a request to the last of its answer",
        &durations,
    )?;
    let none: [(&str, &str); 0] = [];
    let added = [(none, total(view.shards.iter().map(|meters| &meters.added)))];
    out.histograms("tollgate_added_latency_seconds", "Request duration minus the endpoint's share", &added)?;
    let upstream = per_cluster(view, |cluster| total(cluster.meters.iter().map(|meters| &meters.duration)));
    out.histograms(
        "tollgate_upstream_duration_seconds",
        "From the first byte sent to an endpoint to the last one read from it",
        &upstream,
    )
}

fn connections(out: &mut Out<'_>, view: &View) -> fmt::Result {
    let in_flight = view.shards.sum(|meters| &meters.in_flight);
    out.gauge("tollgate_inflight_requests", "Requests in flight", in_flight)?;
    let queued = view.shards.sum(|meters| &meters.queued);
    out.gauge(
        "tollgate_queued_requests",
        "Requests that wait for their turn, in the last tenth of a second",
        queued,
    )?;
    let waits = view.shards.sum(|meters| &meters.queue_waits);
    out.counters(
        "tollgate_queue_waits",
        "Requests that waited for their turn because the shard was full, by why",
        &[([("reason", "in_flight")], waits)],
    )?;
    let connections = view.shards.sum(|meters| &meters.connections);
    out.gauge("tollgate_downstream_connections", "Client connections open", connections)?;
    accepts(out, view)?;
    let pauses = view.shards.sum(|meters| &meters.accept_pauses);
    out.counters(
        "tollgate_accept_pauses",
        "Times accepting paused because the system had no descriptor or memory left",
        &[([("reason", "exhausted")], pauses)],
    )?;
    let prefaces = view.shards.sum(|meters| &meters.prefaces_refused);
    let none: [(&str, &str); 0] = [];
    out.counters(
        "tollgate_proxy_headers_refused",
        "Connections closed because they did not begin with a PROXY protocol header",
        &[(none, prefaces)],
    )?;
    let mut upstream = Vec::new();
    for cluster in view.snapshot.clusters.iter() {
        let sum = |counter: fn(&ClusterMeters) -> &_| cluster.meters.sum(counter);
        let active = sum(|meters| &meters.connections_active);
        let spare: usize = cluster.endpoints.iter().map(|endpoint| endpoint.spares.count()).sum();
        let idle = sum(|meters| &meters.connections_idle) + spare as u64;
        upstream.push(([("cluster", &*cluster.name), ("state", "active")], active));
        upstream.push(([("cluster", &*cluster.name), ("state", "idle")], idle));
    }
    out.gauges("tollgate_upstream_connections", "Connections to endpoints, in use and waiting", &upstream)?;
    let reuses = per_cluster(view, |cluster| cluster.meters.sum(|meters| &meters.reuses));
    out.counters("tollgate_upstream_reuse", "Exchanges that found a waiting connection", &reuses)?;
    let dials = per_cluster(view, |cluster| cluster.meters.sum(|meters| &meters.dials));
    out.counters("tollgate_upstream_dials", "Connections made to endpoints", &dials)?;
    let moves = per_cluster(view, |cluster| cluster.meters.sum(|meters| &meters.moves));
    out.counters(
        "tollgate_upstream_moves",
        "Connections that a shard took from those that wait for any shard",
        &moves,
    )?;
    let retries = per_cluster(view, |cluster| cluster.meters.sum(|meters| &meters.retries));
    out.counters("tollgate_retries", "Attempts that followed another one of the same request", &retries)?;
    let mut hedges = Vec::new();
    for cluster in view.snapshot.clusters.iter() {
        let won = cluster.meters.sum(|meters| &meters.hedges_won);
        let made = cluster.meters.sum(|meters| &meters.hedges);
        for (result, count) in [("won", won), ("lost", made.saturating_sub(won))] {
            hedges.push(([("cluster", &*cluster.name), ("result", result)], count));
        }
    }
    hedges.retain(|(_, count)| *count > 0);
    out.counters(
        "tollgate_hedges",
        "Endpoints that were asked besides a silent one, by who answered first",
        &hedges,
    )?;
    let denied = per_cluster(view, |cluster| cluster.meters.sum(|meters| &meters.retries_denied));
    let help = "Attempts that were not made because cluster.retry_budget was used up";
    out.counters("tollgate_retries_denied", help, &denied)?;
    let mut copies = Vec::new();
    for cluster in view.snapshot.clusters.iter() {
        let results = [
            ("answered", cluster.meters.sum(|meters| &meters.mirrored)),
            ("failed", cluster.meters.sum(|meters| &meters.mirrored_failed)),
            ("skipped", cluster.meters.sum(|meters| &meters.mirrored_skipped)),
        ];
        for (result, count) in results {
            copies.push(([("cluster", &*cluster.name), ("result", result)], count));
        }
    }
    copies.retain(|(_, count)| *count > 0);
    out.counters(
        "tollgate_mirrored_requests",
        "Copies of requests for this cluster, by what became of them",
        &copies,
    )?;
    clusters::metrics(out, view)
}

fn accepts(out: &mut Out<'_>, view: &View) -> fmt::Result {
    let names: Vec<String> = (0..view.drivers.len()).map(|shard| shard.to_string()).collect();
    let accepted: Vec<_> = (names.iter().zip(view.shards.iter()))
        .map(|(shard, meters)| ([("shard", shard.as_str())], meters.accepted.get()))
        .collect();
    out.counters("tollgate_shard_accepts", "Client connections accepted, by shard", &accepted)?;
    let none: [(&str, &str); 0] = [];
    out.ratios(
        "tollgate_accept_imbalance_ratio",
        "The busiest shard's new connections of the last minute, as a multiple of an even share",
        &[(none, view.accept_imbalance.ratio())],
    )?;
    let addresses: Vec<String> = view.steered.iter().map(|steered| steered.address.to_string()).collect();
    let steered: Vec<_> = (addresses.iter().zip(&*view.steered))
        .map(|(address, steered)| ([("address", address.as_str()), ("steering", steered.steering.word())], 1))
        .collect();
    out.gauges("tollgate_accept_steering", "How connections to each address find their shard", &steered)
}

fn decisions(out: &mut Out<'_>, view: &View) -> fmt::Result {
    let sum = |counter: fn(&ShardMeters) -> &_| view.shards.sum(counter);
    let tokens = [
        ([("result", "verified")], sum(|meters| &meters.tokens.verified)),
        ([("result", "remembered")], sum(|meters| &meters.tokens.remembered)),
        ([("result", "missing")], sum(|meters| &meters.tokens.missing)),
        ([("result", "refused")], sum(|meters| &meters.tokens.refused)),
        ([("result", "revoked")], sum(|meters| &meters.tokens.revoked)),
    ];
    out.counters("tollgate_jwt_verifications", "Verdicts on tokens", &tokens)?;
    let keys = [
        ([("result", "accepted")], sum(|meters| &meters.tokens.keys_accepted)),
        ([("result", "missing")], sum(|meters| &meters.tokens.keys_missing)),
        ([("result", "refused")], sum(|meters| &meters.tokens.keys_refused)),
        ([("result", "revoked")], sum(|meters| &meters.tokens.keys_revoked)),
    ];
    out.counters("tollgate_api_key_verifications", "Verdicts on API keys", &keys)?;
    let (from_file, from_admin, current) = view.revocations.counts();
    let revoked = [([("source", "file")], from_file as u64), ([("source", "admin")], from_admin as u64)];
    out.gauges("tollgate_revoked_entries", "Entries of the deny list, by source", &revoked)?;
    let help = "Whether the file of revocations is in force as it stands";
    out.gauge("tollgate_revocation_file_current", help, u64::from(current))?;
    let mut current = Vec::new();
    let mut fetches = Vec::new();
    for set in view.snapshot.key_sets.iter() {
        if let Some(issued) = &set.issued {
            current.push(([("jwt", &*set.name)], u64::from(issued.is_current())));
            fetches.push(([("jwt", &*set.name)], issued.fetches()));
        }
    }
    out.gauges("tollgate_jwks_current", "Whether the issuer's last answer was a good one", &current)?;
    out.counters("tollgate_jwks_fetches", "Times the issuer was asked for its keys", &fetches)?;
    let mut limits = Vec::new();
    let (mut keys, mut cells, mut displaced) = (0, 0, 0);
    for route in view.snapshot.routes.routes().iter().filter(|route| !route.limits.is_empty()) {
        let admitted = route.meters.sum(|meters| &meters.admitted);
        let limited = route.meters.sum(|meters| &meters.limited);
        limits.push(([("route", &*route.name), ("decision", "admit")], admitted));
        limits.push(([("route", &*route.name), ("decision", "refuse")], limited));
        let shadow = route.meters.sum(|meters| &meters.shadow_limited);
        limits.push(([("route", &*route.name), ("decision", "shadow_refuse")], shadow));
        for limit in &route.limits {
            keys += limit.table.occupied() as u64;
            cells += limit.table.in_cells() as u64;
            displaced += limit.table.displaced();
        }
    }
    out.counters("tollgate_limit_decisions", "What the limits of a route decided", &limits)?;
    out.gauge("tollgate_limit_keys", "Keys the limits hold", keys)?;
    out.gauge(
        "tollgate_limit_cells",
        "Windows of keys that are near their limit and counted in cells",
        cells,
    )?;
    let none: [(&str, &str); 0] = [];
    out.counters(
        "tollgate_limit_displaced",
        "Keys that made room for others while some of their quota was used",
        &[(none, displaced)],
    )
}

fn process(out: &mut Out<'_>, view: &View) -> fmt::Result {
    let (written, dropped) =
        view.log.as_ref().map_or((0, 0), |log| (log.written.load(Ordering::Relaxed), log.dropped()));
    let none: [(&str, &str); 0] = [];
    out.counters("tollgate_log_lines", "Lines written to the access log", &[(none, written)])?;
    let unsampled = view.shards.sum(|meters| &meters.log_unsampled);
    out.counters("tollgate_log_unsampled", "Successes that log.sample left out", &[(none, unsampled)])?;
    out.counters("tollgate_log_dropped", "Lines missing from the access log", &[(none, dropped)])?;
    let names: Vec<String> = (0..view.drivers.len()).map(|shard| shard.to_string()).collect();
    let busy: Vec<_> = names
        .iter()
        .zip(view.busy_permille.iter())
        .map(|(shard, busy)| ([("shard", shard.as_str())], busy.load(Ordering::Relaxed) as f64 / 1_000.0))
        .collect();
    out.ratios("tollgate_shard_busy_ratio", "Share of the last second the shard was at work", &busy)?;
    let drivers: Vec<_> = names
        .iter()
        .zip(view.drivers.iter())
        .map(|(shard, driver)| ([("shard", shard.as_str()), ("driver", driver.as_str())], 1))
        .collect();
    out.gauges("tollgate_shard_driver", "The runtime each shard got", &drivers)?;
    let blocks: Vec<_> = names
        .iter()
        .zip(view.shards.iter())
        .map(|(shard, meters)| ([("shard", shard.as_str())], meters.blocks.get()))
        .collect();
    out.gauges("tollgate_shard_buffers", "Buffers lent out", &blocks)?;
    let phases = PHASES.map(|phase| ([("phase", phase)], u64::from(phase == view.phase())));
    out.gauges("tollgate_phase", "1 for the phase the process is in, else 0", &phases)?;
    let none: [(&str, &str); 0] = [];
    out.counters(
        "tollgate_drain_cut_requests",
        "Requests that were cut because the drain deadline had passed",
        &[(none, view.lifecycle.requests_cut())],
    )?;
    let (changes, turned_away) = view.changes.counts();
    out.counters(
        "tollgate_admin_changes",
        "Orders to the admin API, carried out or not",
        &[(none, changes)],
    )?;
    out.counters(
        "tollgate_admin_turned_away",
        "Requests to the admin API of clients that may not ask",
        &[(none, turned_away)],
    )?;
    out.gauge("tollgate_config_generation", "Which configuration is in force", view.snapshot.generation)?;
    out.gauges("tollgate_build_info", "Which build this is", &[([("version", env!("CARGO_PKG_VERSION"))], 1)])
}

fn per_cluster<T>(view: &View, read: impl Fn(&Cluster) -> T) -> Vec<([(&str, &str); 1], T)> {
    view.snapshot.clusters.iter().map(|cluster| ([("cluster", &*cluster.name)], read(cluster))).collect()
}

pub(super) fn total<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> HistogramTotal {
    let mut total = HistogramTotal::new();
    histograms.for_each(|histogram| histogram.add_to(&mut total));
    total
}

/// `prometheus-client`'s encoder with the few shapes we need.
pub(super) struct Out<'e>(DescriptorEncoder<'e>);

pub(super) type Labelled<'a, const N: usize, T> = ([(&'a str, &'a str); N], T);

impl Out<'_> {
    pub(super) fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: &[Labelled<'_, N, u64>],
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            labelled(&mut metric, labels, |sample| {
                sample.encode_counter::<NoLabelSet, u64, u64>(value, None)
            })?;
        }
        Ok(())
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let none: [(&str, &str); 0] = [];
        self.gauges(name, help, &[(none, value)])
    }

    pub(super) fn gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: &[Labelled<'_, N, u64>],
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            labelled(&mut metric, labels, |sample| sample.encode_gauge(value))?;
        }
        Ok(())
    }

    pub(super) fn ratios<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: &[Labelled<'_, N, f64>],
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            labelled(&mut metric, labels, |sample| sample.encode_gauge(value))?;
        }
        Ok(())
    }

    pub(super) fn histograms<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: &[Labelled<'_, N, HistogramTotal>],
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, total) in samples {
            let mut below = 0;
            let mut buckets = Vec::with_capacity(BUCKETS_S.len() + 1);
            for limit_s in BUCKETS_S {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "small and positive"
                )]
                let up_to = total.count_up_to((limit_s * 1e6).round() as u64);
                buckets.push((limit_s, up_to - below));
                below = up_to;
            }
            // Read the parts first and derive the count: the two then always agree.
            let count = total.count();
            buckets.push((f64::INFINITY, count - below));
            let sum_s = total.sum_us as f64 / 1e6;
            labelled(&mut metric, labels, |sample| {
                sample.encode_histogram::<NoLabelSet>(sum_s, count, &buckets, None)
            })?;
        }
        Ok(())
    }
}

/// Writes one sample with its labels; one without labels has no braces either.
fn labelled<const N: usize>(
    metric: &mut MetricEncoder<'_>,
    labels: &[(&str, &str); N],
    write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    if N == 0 { write(metric) } else { write(&mut metric.encode_family(labels)?) }
}
