//! How each route does just now: its rate and its latencies, against a reading of ten to twenty seconds ago.
//!
//! Readings are by name, so that a reload compares like with like.

use std::{collections::HashMap, time::Instant};

use serde::Serialize;

use crate::{
    shared::{
        counter::{Histogram, HistogramTotal},
        meters::RouteMeters,
    },
    stage::route::Route,
};

/// Routes that are read: the first ones of the configuration.
const ROUTES_MAX: usize = 100;

/// How a route does.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Pulse {
    /// Its name.
    pub(super) route: Box<str>,
    /// Requests answered a second.
    pub(super) per_s: f64,
    /// Of them those answered with 4xx and with 5xx.
    pub(super) refused_per_s: f64,
    pub(super) failed_per_s: f64,
    /// Half of the requests and 99 of a hundred took no longer, in microseconds; none without requests.
    pub(super) whole_us: [Option<u64>; 2],
    /// The same of the gateway's share.
    pub(super) gateway_us: [Option<u64>; 2],
    /// The same of the endpoints' share.
    pub(super) endpoint_us: [Option<u64>; 2],
}

/// The readings of before.
#[derive(Debug, Default)]
pub(super) struct Pulses {
    older: Option<Reading>,
    newer: Option<Reading>,
}

#[derive(Debug)]
struct Reading {
    at: Instant,
    routes: HashMap<Box<str>, Sums>,
}

#[derive(Debug)]
struct Sums {
    refused: u64,
    failed: u64,
    whole: HistogramTotal,
    gateway: HistogramTotal,
    endpoint: HistogramTotal,
}

impl Pulses {
    /// Reads `routes`.
    pub(super) fn note(&mut self, routes: &[Route]) {
        let sums = routes.iter().take(ROUTES_MAX).map(|route| (route.name.clone(), Sums::of(route)));
        self.older = self.newer.take();
        self.newer = Some(Reading { at: Instant::now(), routes: sums.collect() });
    }

    /// How `routes` do, the busiest first.
    pub(super) fn now(&self, routes: &[Route]) -> Vec<Pulse> {
        let Some(before) = self.older.as_ref().or(self.newer.as_ref()) else { return Vec::new() };
        let elapsed_s = before.at.elapsed().as_secs_f64().max(1.0);
        let pulse = |route: &Route| {
            let (now, none) = (Sums::of(route), Sums::default());
            let then = before.routes.get(&route.name).unwrap_or(&none);
            let whole = now.whole.since(&then.whole);
            let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / elapsed_s;
            let quantiles = |total: &HistogramTotal| [0.5, 0.99].map(|share| total.quantile_us(share));
            Pulse {
                route: route.name.clone(),
                per_s: whole.count() as f64 / elapsed_s,
                refused_per_s: rate(now.refused, then.refused),
                failed_per_s: rate(now.failed, then.failed),
                whole_us: quantiles(&whole),
                gateway_us: quantiles(&now.gateway.since(&then.gateway)),
                endpoint_us: quantiles(&now.endpoint.since(&then.endpoint)),
            }
        };
        let mut pulses: Vec<Pulse> = routes.iter().take(ROUTES_MAX).map(pulse).collect();
        pulses.sort_by(|one, other| other.per_s.total_cmp(&one.per_s));
        pulses
    }
}

impl Sums {
    fn of(route: &Route) -> Self {
        let total = |histogram: fn(&RouteMeters) -> &Histogram| {
            let mut total = HistogramTotal::new();
            route.meters.iter().for_each(|meters| histogram(meters).add_to(&mut total));
            total
        };
        Self {
            refused: route.meters.sum(|meters| &meters.answers[4]),
            failed: route.meters.sum(|meters| &meters.answers[5]),
            whole: total(|meters| &meters.duration),
            gateway: total(|meters| &meters.added),
            endpoint: total(|meters| &meters.upstream),
        }
    }
}

impl Default for Sums {
    fn default() -> Self {
        let none = HistogramTotal::new;
        Self { refused: 0, failed: 0, whole: none(), gateway: none(), endpoint: none() }
    }
}
