//! What an answer of each endpoint takes: a moving average over two and a half seconds, from what the shards measured.
//!
//! A shard raises the estimate at once when an answer took more than twice as long; here it follows the average, up
//! and down, by time and not by the number of answers. Who gets no requests is not forgotten: its estimate falls until
//! it is worth another try, and not below, or everything would go there until it had answered.

use crate::stage::balance::{Balance, Cluster, Endpoint};

/// After so many looks a single one still counts for a third: two and a half seconds of ten looks. Longer, and a slow
/// answer in a hundred would keep an endpoint away for most of the time until the next.
const LOOKS: f64 = 25.0;

/// What the shards had measured at the last look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    waits: u64,
    waited_us: u64,
}

impl Reading {
    /// As of now.
    pub fn of(endpoint: &Endpoint) -> Self {
        Self {
            waits: endpoint.meters.sum(|meters| &meters.waits),
            waited_us: endpoint.meters.sum(|meters| &meters.waited_us),
        }
    }

    /// What an attempt took on average between `earlier` and this; `None` if there was none.
    fn mean_us(self, earlier: Self) -> Option<u64> {
        self.waited_us.saturating_sub(earlier.waited_us).checked_div(self.waits.saturating_sub(earlier.waits))
    }
}

/// Brings the estimates of all endpoints of `cluster` up to date.
pub fn settle<'r>(cluster: &Cluster, readings: impl Iterator<Item = &'r mut Reading>) {
    let worth = worth_a_try(cluster);
    for (endpoint, reading) in cluster.endpoints.iter().zip(readings) {
        let now = Reading::of(endpoint);
        let mean_us = now.mean_us(std::mem::replace(reading, now));
        let floor_us = if cluster.balance == Balance::Latency { worth(endpoint) } else { None };
        let before = endpoint.standing.estimate_us();
        let after = next(before, mean_us, floor_us);
        // If a shard has raised it meanwhile, that stands until the next look.
        endpoint.standing.settle_estimate(before, after);
    }
}

/// With which estimate an endpoint is as good a choice as the best one, with nothing in flight at either.
fn worth_a_try(cluster: &Cluster) -> impl Fn(&Endpoint) -> Option<u32> + use<> {
    let known = cluster.endpoints.iter().filter_map(|endpoint| {
        let (weight, estimate_us) = (endpoint.standing.terms().weight, endpoint.standing.estimate_us());
        (weight > 0 && estimate_us > 0).then(|| f64::from(estimate_us) / f64::from(weight))
    });
    let best = known.reduce(f64::min);
    move |endpoint| Some(whole(best? * f64::from(endpoint.standing.terms().weight)))
}

/// The estimate after `before`, with the mean of what was measured since.
fn next(before_us: u32, mean_us: Option<u64>, floor_us: Option<u32>) -> u32 {
    let toward = |target_us: f64| {
        let before_us = f64::from(before_us);
        whole(before_us + (target_us - before_us) / LOOKS)
    };
    match (before_us, mean_us, floor_us) {
        // The first that is known of it, or nothing at all: then it is taken to be like the best.
        (0, Some(mean_us), _) => u32::try_from(mean_us).unwrap_or(u32::MAX).max(1),
        (0, None, floor_us) => floor_us.unwrap_or(0),
        (_, Some(mean_us), _) => toward(mean_us as f64).max(1),
        (_, None, Some(floor_us)) => toward(0.0).max(floor_us).min(before_us),
        (_, None, None) => before_us,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and is never negative"
)]
fn whole(us: f64) -> u32 {
    us as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(looks: usize, mut estimate_us: u32, mean_us: Option<u64>, floor_us: Option<u32>) -> u32 {
        (0..looks).for_each(|_| estimate_us = next(estimate_us, mean_us, floor_us));
        estimate_us
    }

    #[test]
    fn it_follows_what_is_measured_within_some_seconds() {
        assert_eq!(next(0, Some(1_500), None), 1_500, "the first is all that is known");
        let up = after(25, 1_000, Some(101_000), None);
        assert!((60_000..70_000).contains(&up), "{up}");
        let down = after(75, 100_000, Some(1_000), None);
        assert!((1_000..7_000).contains(&down), "{down}");
        let one_in_a_thousand = next(10_000, Some(11_000), None);
        assert!((10_000..10_050).contains(&one_in_a_thousand), "{one_in_a_thousand}");
    }

    /// Broken by a fall to nothing: then an endpoint that was frozen gets everything until it has timed out again.
    #[test]
    fn who_gets_nothing_falls_to_where_it_is_worth_a_try_and_no_further() {
        assert_eq!(after(2_000, 900_000, None, Some(2_000)), 2_000);
        assert_eq!(after(10, 1_500, None, Some(2_000)), 1_500, "already better");
        assert_eq!(next(0, None, Some(2_000)), 2_000, "a newcomer is taken to be like the best");
        assert_eq!(after(10, 900_000, None, None), 900_000);
    }
}
