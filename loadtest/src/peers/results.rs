//! What was found, per shape and peer: the rounds' samples, their sum and its ratios to tollgate.

use serde::Serialize;

use super::{
    bench::Sample,
    peer::Peer,
    shape::{IDLE_CONNECTIONS, Shape},
};

/// A peer whose CPU was idle for more of the time than this was not what limited the rate.
const IDLE_SHARE_MAX: f64 = 0.05;

/// Every sample, in the order of measuring.
#[derive(Debug, Default)]
pub(crate) struct Results(Vec<(Shape, Peer, Sample)>);

/// A shape's figures of one peer, over all rounds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) shape: &'static str,
    pub(crate) peer: &'static str,
    pub(crate) rounds: usize,
    pub(crate) requests: u64,
    /// User and system time of all the peer's threads and processes per request: the median of the rounds, because
    /// a neighbour on the machine makes single rounds dearer.
    pub(crate) cpu_us_per_request: Figure,
    /// Of the cheapest and the dearest round.
    pub(crate) cpu_us_per_request_range: [f64; 2],
    pub(crate) requests_per_s: Figure,
    /// Of the latencies: the median of the rounds' percentiles.
    pub(crate) p50_us: Figure,
    pub(crate) p99_us: Figure,
    /// At the end of the load, the rounds' mean; what processes share is counted for each.
    pub(crate) resident_bytes: Figure,
    /// Of `idle`: what each idle connection added to the resident memory.
    pub(crate) idle_bytes_per_connection: Option<Figure>,
    /// Of the peer's CPU: nobody had anything to do there.
    pub(crate) cpu_idle_share: f64,
    /// Of the peer's CPU: somebody else had it, be it another program, interrupts or the hypervisor.
    pub(crate) cpu_others_share: f64,
    /// The peer's CPU had time left in a closed loop: rate and percentiles are those of the load and the endpoints.
    pub(crate) load_was_the_limit: bool,
    pub(crate) errors: u64,
    /// Answers without a line in the access log.
    pub(crate) unlogged: u64,
}

/// A figure, and how many times tollgate's it is.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Figure {
    pub(crate) value: f64,
    pub(crate) ratio: Option<f64>,
}

impl Results {
    pub(crate) fn add(&mut self, shape: Shape, peer: Peer, sample: Sample) {
        self.0.push((shape, peer, sample));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A shape's rows, in the peers' order, with the ratios to tollgate where it was measured.
    pub(crate) fn rows(&self, shape: Shape) -> Vec<Row> {
        let mut rows: Vec<Row> = Peer::ALL
            .into_iter()
            .filter_map(|peer| {
                let own = self.0.iter().filter(|&&(of, by, _)| of == shape && by == peer);
                Row::new(shape, peer, &own.map(|(.., sample)| sample).collect::<Vec<_>>())
            })
            .collect();
        if let Some(base) = rows.iter().find(|row| row.peer == Peer::Tollgate.name()).cloned() {
            rows.iter_mut().for_each(|row| row.relate(&base));
        }
        rows
    }
}

impl Row {
    fn new(shape: Shape, peer: Peer, samples: &[&Sample]) -> Option<Self> {
        if samples.is_empty() {
            return None;
        }
        let sum = |part: &dyn Fn(&Sample) -> f64| samples.iter().map(|sample| part(sample)).sum::<f64>();
        let mean = |part: &dyn Fn(&Sample) -> f64| sum(part) / samples.len() as f64;
        let requests = sum(&|sample| sample.requests as f64);
        let cpu_idle_share = mean(&|sample| sample.shares.idle);
        let measured_s = sum(&|sample| sample.measured.as_secs_f64());
        let ordered = |part: &dyn Fn(&Sample) -> f64| {
            let mut rounds: Vec<f64> = samples.iter().map(|sample| part(sample)).collect();
            rounds.sort_by(f64::total_cmp);
            rounds
        };
        let quantile = |quantile| {
            median(&ordered(&|sample| sample.latency.histogram().value_at_quantile(quantile) as f64 / 1e3))
        };
        let costs = ordered(&cost);
        let idle = |sample: &Sample| {
            let before = sample.resident_before_bytes.unwrap_or(sample.resident_bytes);
            (sample.resident_bytes as f64 - before as f64) / IDLE_CONNECTIONS as f64
        };
        Some(Self {
            shape: shape.name(),
            peer: peer.name(),
            rounds: samples.len(),
            requests: requests as u64,
            cpu_us_per_request: Figure::new(median(&costs)),
            cpu_us_per_request_range: [costs[0], costs[costs.len() - 1]],
            requests_per_s: Figure::new(requests / measured_s),
            p50_us: Figure::new(quantile(0.5)),
            p99_us: Figure::new(quantile(0.99)),
            resident_bytes: Figure::new(mean(&|sample| sample.resident_bytes as f64)),
            idle_bytes_per_connection: (shape == Shape::Idle).then(|| Figure::new(mean(&idle))),
            cpu_idle_share,
            cpu_others_share: mean(&|sample| sample.shares.others),
            load_was_the_limit: cpu_idle_share > IDLE_SHARE_MAX
                && samples.iter().all(|sample| sample.closed_loop),
            errors: samples.iter().map(|sample| sample.errors).sum(),
            unlogged: samples.iter().map(|sample| sample.unlogged).sum(),
        })
    }

    fn relate(&mut self, base: &Self) {
        self.cpu_us_per_request.relate(base.cpu_us_per_request);
        self.requests_per_s.relate(base.requests_per_s);
        self.p50_us.relate(base.p50_us);
        self.p99_us.relate(base.p99_us);
        self.resident_bytes.relate(base.resident_bytes);
        if let (Some(own), Some(base)) = (&mut self.idle_bytes_per_connection, base.idle_bytes_per_connection)
        {
            own.relate(base);
        }
    }
}

impl Figure {
    fn new(value: f64) -> Self {
        Self { value, ratio: None }
    }

    fn relate(&mut self, base: Self) {
        self.ratio = (base.value > 0.0).then(|| self.value / base.value);
    }
}

/// Of at least one, in order.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// CPU µs per request of one round.
pub(crate) fn cost(sample: &Sample) -> f64 {
    sample.cpu.as_secs_f64() * 1e6 / sample.requests.max(1) as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::contention::Shares, *};
    use crate::generator::tally::Latencies;

    fn sample(requests: u64, cpu_ms: u64, resident_bytes: u64) -> Sample {
        let mut latency = Latencies::default();
        latency.record(cpu_ms * 1_000);
        Sample {
            requests,
            measured: Duration::from_secs(1),
            cpu: Duration::from_millis(cpu_ms),
            closed_loop: true,
            latency,
            resident_bytes,
            resident_before_bytes: None,
            errors: 0,
            shares: Shares { idle: 0.5, others: 0.0 },
            unlogged: 0,
        }
    }

    /// Breaks when one dear round decides, rates are averaged instead of summed, or a ratio is turned round.
    #[test]
    fn rounds_are_put_together_and_related_to_tollgate() {
        let mut results = Results::default();
        for (requests, cpu_ms) in [(10_000, 100), (40_000, 4_000), (10_000, 110)] {
            results.add(Shape::C8, Peer::Tollgate, sample(requests, cpu_ms, requests));
        }
        results.add(Shape::C8, Peer::Haproxy, sample(10_000, 220, 40_000));
        let rows = results.rows(Shape::C8);
        assert_eq!(rows.iter().map(|row| row.peer).collect::<Vec<_>>(), ["tollgate", "haproxy"]);
        assert_eq!((rows[0].rounds, rows[0].cpu_us_per_request.value), (3, 11.0));
        assert_eq!(rows[0].cpu_us_per_request_range, [10.0, 100.0]);
        assert!((rows[0].p99_us.value - 110.0).abs() < 1.0, "the median round's, not the dearest's 4,000 µs");
        assert_eq!(rows[1].cpu_us_per_request.ratio, Some(2.0));
        assert_eq!(rows[1].requests_per_s.ratio, Some(0.5));
        assert_eq!(rows[1].resident_bytes.ratio, Some(2.0));
        assert!(rows[0].load_was_the_limit && results.rows(Shape::Idle).is_empty());
    }

    #[test]
    fn without_tollgate_there_are_no_ratios() {
        let mut results = Results::default();
        results.add(Shape::C8, Peer::Relay, sample(10, 1, 1));
        assert_eq!(results.rows(Shape::C8)[0].requests_per_s.ratio, None);
    }
}
