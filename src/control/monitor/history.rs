//! The last ten minutes, second by second: rates, latencies, how busy the shards were.
//!
//! A reading is a sum of counters; an entry is the difference of two. Reads per shard and cluster, never per route,
//! so that the cost does not grow with the configuration's routes.

use std::{collections::VecDeque, sync::atomic::Ordering};

use serde::Serialize;

use crate::{
    base::clock::Clock,
    shared::{
        counter::{Histogram, HistogramTotal},
        meters::ENDPOINTS_COUNTED,
    },
    stage::refusal::ANSWERS,
};

use super::super::view::View;

/// Seconds that are kept.
const SECONDS_MAX: usize = 600;
/// Seconds over which shares and refusals are taken.
pub const RECENT_S: usize = 60;

/// What happened in one second.
#[derive(Clone, Debug, Serialize)]
pub struct Second {
    /// Seconds since the Unix epoch.
    pub at: u64,
    /// Requests answered.
    pub requests: u64,
    /// Of them those that the gateway answered itself.
    pub refused: u64,
    /// Of them those answered with 5xx.
    pub failed: u64,
    /// Request durations in microseconds: half, nine tenths, 99 and 99.9 of a hundred took no longer.
    pub whole_us: [Option<u64>; 4],
    /// The same of the gateway's share.
    pub gateway_us: [Option<u64>; 4],
    /// The same of the endpoints' share.
    pub endpoint_us: [Option<u64>; 4],
    /// Requests in flight at its end.
    pub in_flight: u64,
    /// The share of it that each shard was at work, in thousandths.
    pub busy: Vec<u64>,
}

const SHARES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// The last seconds.
#[derive(Debug, Default)]
pub struct History {
    seconds: VecDeque<Second>,
    before: Option<Reading>,
    /// Refusals by code and exchanges by endpoint, of the last [`RECENT_S`] seconds and the one before.
    sums: VecDeque<Sums>,
}

#[derive(Debug)]
struct Reading {
    refused: u64,
    failed: u64,
    whole: HistogramTotal,
    gateway: HistogramTotal,
    endpoint: HistogramTotal,
}

#[derive(Debug)]
struct Sums {
    generation: u64,
    refusals: Vec<u64>,
    endpoints: Vec<Vec<u64>>,
}

impl History {
    /// Adds the second that ends now.
    pub fn note(&mut self, view: &View) {
        let now = Reading::of(view);
        if let Some(before) = &self.before {
            let whole = now.whole.since(&before.whole);
            let quantiles = |total: &HistogramTotal| SHARES.map(|share| total.quantile_us(share));
            if self.seconds.len() == SECONDS_MAX {
                self.seconds.pop_front();
            }
            self.seconds.push_back(Second {
                at: Clock::new().now().unix_seconds().unsigned_abs(),
                requests: whole.count(),
                refused: now.refused.saturating_sub(before.refused),
                failed: now.failed.saturating_sub(before.failed),
                whole_us: quantiles(&whole),
                gateway_us: quantiles(&now.gateway.since(&before.gateway)),
                endpoint_us: quantiles(&now.endpoint.since(&before.endpoint)),
                in_flight: view.shards.sum(|meters| &meters.in_flight),
                busy: view.busy_permille.iter().map(|busy| busy.load(Ordering::Relaxed)).collect(),
            });
        }
        self.before = Some(now);
        if self.sums.len() > RECENT_S {
            self.sums.pop_front();
        }
        self.sums.push_back(Sums::of(view));
    }

    /// The seconds after `after` (since the Unix epoch).
    pub fn after(&self, after: u64) -> impl Iterator<Item = &Second> {
        self.seconds.iter().filter(move |second| second.at > after)
    }

    /// Refusals of the last minute by code, in the order of [`ANSWERS`].
    pub fn refusals(&self) -> Vec<u64> {
        let (Some(first), Some(last)) = (self.sums.front(), self.sums.back()) else { return Vec::new() };
        last.refusals.iter().zip(&first.refusals).map(|(now, then)| now.saturating_sub(*then)).collect()
    }

    /// Exchanges of the last minute, by cluster and by endpoint in it. Of the configuration in force only: in
    /// another, places meant other endpoints.
    pub fn endpoints(&self) -> Vec<Vec<u64>> {
        let Some(last) = self.sums.back() else { return Vec::new() };
        let Some(first) = self.sums.iter().find(|sums| sums.generation == last.generation) else {
            return Vec::new();
        };
        let clusters = last.endpoints.iter().zip(&first.endpoints);
        clusters
            .map(|(now, then)| now.iter().zip(then).map(|(now, then)| now.saturating_sub(*then)).collect())
            .collect()
    }
}

impl Reading {
    fn of(view: &View) -> Self {
        let refused =
            ANSWERS.iter().map(|answer| view.shards.sum(|meters| &meters.refusals[answer.code as usize]));
        let routes = view.snapshot.routes.routes().iter();
        let failed: u64 = routes.map(|route| route.meters.sum(|meters| &meters.answers[5])).sum();
        let clusters = view.snapshot.clusters.iter().flat_map(|cluster| cluster.meters.iter());
        Self {
            refused: refused.sum(),
            failed: failed + view.shards.sum(|meters| &meters.unrouted[5]),
            whole: total(view.shards.iter().map(|meters| &meters.duration)),
            gateway: total(view.shards.iter().map(|meters| &meters.added)),
            endpoint: total(clusters.map(|meters| &meters.duration)),
        }
    }
}

impl Sums {
    fn of(view: &View) -> Self {
        let endpoints = view.snapshot.clusters.iter().map(|cluster| {
            let counted = cluster.endpoints.len().min(ENDPOINTS_COUNTED);
            (0..counted).map(|place| cluster.meters.sum(|meters| &meters.by_endpoint[place])).collect()
        });
        let refusals =
            ANSWERS.iter().map(|answer| view.shards.sum(|meters| &meters.refusals[answer.code as usize]));
        Self {
            generation: view.snapshot.generation,
            refusals: refusals.collect(),
            endpoints: endpoints.collect(),
        }
    }
}

fn total<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> HistogramTotal {
    let mut total = HistogramTotal::new();
    histograms.for_each(|histogram| histogram.add_to(&mut total));
    total
}
