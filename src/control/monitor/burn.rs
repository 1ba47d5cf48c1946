//! How fast routes use up the budgets of their objectives.
//!
//! A burn rate of 1 uses up the budget exactly; alerts look at several windows at once (Google's SRE Workbook,
//! chapter 5). Kept in memory for the longest window only, and by the route's name, so that a reload loses none.

use std::collections::{HashMap, VecDeque};

use crate::stage::{objective::Objective, route::Route};

/// The windows, with their lengths in seconds.
pub const WINDOWS: [(&str, usize); 3] = [("5m", 300), ("1h", 3_600), ("6h", 21_600)];
/// Between two notes.
const STEP_S: usize = super::CENSUS_S as usize;
/// Notes that are kept: as many as the longest window has, and the one before it.
const NOTES_MAX: usize = WINDOWS[WINDOWS.len() - 1].1 / STEP_S + 1;

/// What is kept of all routes with an objective.
#[derive(Debug, Default)]
pub(super) struct BurnRates {
    routes: HashMap<Box<str>, Kept>,
}

#[derive(Debug)]
struct Kept {
    objective: Objective,
    /// Requests that kept the objective and that did not, at each note.
    notes: VecDeque<(u64, u64)>,
}

/// How fast one route uses up its budget.
#[derive(Clone, Debug)]
pub struct Burn {
    /// The route.
    pub route: Box<str>,
    /// What it promises.
    pub objective: Objective,
    /// The rate in each of [`WINDOWS`]; 0 without requests.
    pub rates: [f64; WINDOWS.len()],
}

impl BurnRates {
    /// Notes how often each route kept its objective so far.
    pub(super) fn note(&mut self, routes: &[Route]) {
        self.routes
            .retain(|name, _| routes.iter().any(|route| route.name == *name && route.objective.is_some()));
        for route in routes {
            let Some(objective) = route.objective else { continue };
            let so_far = so_far(route);
            let kept = self
                .routes
                .entry(route.name.clone())
                .or_insert_with(|| Kept { objective, notes: VecDeque::from([so_far]) });
            kept.objective = objective;
            if kept.notes.len() == NOTES_MAX {
                kept.notes.pop_front();
            }
            kept.notes.push_back(so_far);
        }
    }

    /// The rates of those of `routes` that have an objective, up to now.
    pub(super) fn rates(&self, routes: &[Route]) -> Vec<Burn> {
        let promised = routes.iter().filter_map(|route| Some((route, route.objective?)));
        promised
            .map(|(route, objective)| {
                let kept = self.routes.get(&route.name);
                let rate = |length_s| kept.map_or(0.0, |kept| kept.rate(so_far(route), length_s));
                let rates = WINDOWS.map(|(_, length_s)| rate(length_s));
                Burn { route: route.name.clone(), objective, rates }
            })
            .collect()
    }
}

/// Requests that kept the objective of `route` and that did not.
fn so_far(route: &Route) -> (u64, u64) {
    (route.meters.sum(|meters| &meters.kept), route.meters.sum(|meters| &meters.missed))
}

impl Kept {
    /// The rate over the last `length_s` seconds; `now` is what the next note would be.
    fn rate(&self, now: (u64, u64), length_s: usize) -> f64 {
        let first = self.notes.len().saturating_sub(length_s / STEP_S);
        let Some(&(kept_before, missed_before)) = self.notes.get(first).or(self.notes.back()) else {
            return 0.0;
        };
        let missed = now.1.saturating_sub(missed_before);
        let all = now.0.saturating_sub(kept_before) + missed;
        if all == 0 { 0.0 } else { missed as f64 / all as f64 / self.objective.budget() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_share_of_bad_requests_over_the_budget() {
        let objective = Objective { good_per_million: 990_000, within_us: 1 };
        let mut kept = Kept { objective, notes: VecDeque::from([(0, 0)]) };
        for step in 1..100 {
            // Ten steps ago it began to go wrong: one in ten.
            let bad = if step > 90 { (step - 90) * 10 } else { 0 };
            kept.notes.push_back((step * 100 - bad, bad));
        }
        for (length_s, expected) in [(100, 10.0), (21_600, 1.0)] {
            let rate = kept.rate((9_900, 100), length_s);
            assert!((rate - expected).abs() < 1e-6, "{rate} over {length_s}");
        }
        let quiet = Kept { objective, notes: VecDeque::from([(7, 7)]) };
        assert!(quiet.rate((7, 7), 300).abs() < 1e-9);
    }
}
