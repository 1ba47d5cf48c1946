//! What a group of settings does to load: before and after in turn, the ratio of both, and how sure that is.
//!
//! Decides and calculates; the blocks are measured by `loadtest`, whose report is read here. What drifts on the machine
//! drifts for both blocks of a pair, whose order changes from pair to pair.

use serde::Deserialize;
use serde_json::{Value, json};

/// Fewer pairs say nothing: of five, all five favour the same one of two equals in 1 of 16 cases.
pub const PAIRS_MIN: usize = 6;
/// More take longer than anything on a machine stays as it is.
pub const PAIRS_MAX: usize = 500;

/// The part of `loadtest run --json` that counts here.
#[derive(Clone, Debug, Deserialize)]
pub struct Block {
    void: bool,
    void_reason: Option<String>,
    error_share: f64,
    rate_achieved: f64,
    response_us: Distribution,
    cpu_us_per_request: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
struct Distribution {
    p50: f64,
    p99: f64,
}

impl Block {
    /// Reads a report.
    ///
    /// # Errors
    /// It is none, or what it says is no measurement.
    pub fn parse(report: &str) -> Result<Self, String> {
        let block: Self = serde_json::from_str(report)
            .map_err(|error| format!("loadtest's report is not understood: {error}"))?;
        if block.error_share > 0.0 {
            return Err(format!("{:.2} % of the requests failed", block.error_share * 100.0));
        }
        Ok(block)
    }

    /// Why it does not count, if it does not.
    pub fn void_reason(&self) -> Option<&str> {
        self.void.then(|| self.void_reason.as_deref().unwrap_or("the generator was the bottleneck"))
    }

    fn figures(&self) -> [Option<f64>; FIGURES.len()] {
        let cpu = self.cpu_us_per_request;
        [cpu, Some(self.response_us.p50), Some(self.response_us.p99), Some(self.rate_achieved)]
    }
}

/// What is compared.
const FIGURES: [&str; 4] = ["CPU per request", "p50", "p99", "requests per second"];

/// One figure over all pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What it is of.
    pub figure: &'static str,
    /// With the settings over without them: the geometric mean over pairs.
    pub ratio: f64,
    /// Where 95 of 100 such intervals hold the true ratio.
    pub interval: (f64, f64),
}

impl Comparison {
    /// Whether the interval leaves out that nothing changed.
    pub fn is_measurable(&self) -> bool {
        self.interval.0 > 1.0 || self.interval.1 < 1.0
    }

    /// For a person.
    pub fn text(&self) -> String {
        let verdict = if self.is_measurable() { "" } else { ", no measurable effect" };
        let (low, high) = self.interval;
        format!("{} ×{:.3} ({low:.3} to {high:.3}){verdict}", self.figure, self.ratio)
    }

    /// For a program.
    pub fn to_json(&self) -> Value {
        json!({
            "figure": self.figure,
            "ratio": self.ratio,
            "low": self.interval.0,
            "high": self.interval.1,
            "measurable": self.is_measurable(),
        })
    }
}

/// Compares pairs of blocks, the first of each without the settings and the second with them. A figure that some block
/// does not have is left out.
pub fn compare(pairs: &[(Block, Block)]) -> Vec<Comparison> {
    let figures = FIGURES.iter().enumerate().filter_map(|(at, &figure)| {
        let ratios: Option<Vec<f64>> =
            pairs.iter().map(|(without, with)| Some(with.figures()[at]? / without.figures()[at]?)).collect();
        let (ratio, interval) = interval(&ratios?)?;
        Some(Comparison { figure, ratio, interval })
    });
    figures.collect()
}

/// The geometric mean of `ratios` with Student's interval of 95 % on their logarithms; nothing for fewer than two, or
/// where one is no positive number.
fn interval(ratios: &[f64]) -> Option<(f64, (f64, f64))> {
    if ratios.len() < 2 || ratios.iter().any(|ratio| !(ratio.is_finite() && *ratio > 0.0)) {
        return None;
    }
    let count = ratios.len() as f64;
    let logs: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
    let mean = logs.iter().sum::<f64>() / count;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let half = student(ratios.len() - 1) * (variance / count).sqrt();
    Some((mean.exp(), ((mean - half).exp(), (mean + half).exp())))
}

/// The quantile of Student's distribution for a two-sided interval of 95 %, rounded up between the rows of the table.
fn student(degrees: usize) -> f64 {
    const ROWS: [(usize, f64); 16] = [
        (1, 12.706),
        (2, 4.303),
        (3, 3.182),
        (4, 2.776),
        (5, 2.571),
        (6, 2.447),
        (7, 2.365),
        (8, 2.306),
        (9, 2.262),
        (10, 2.228),
        (12, 2.179),
        (15, 2.131),
        (20, 2.086),
        (30, 2.042),
        (60, 2.000),
        (120, 1.980),
    ];
    let at = ROWS.partition_point(|&(row, _)| row <= degrees);
    ROWS[at.saturating_sub(1)].1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(cpu: Option<f64>, p99: f64) -> Block {
        let report = json!({
            "void": false, "void_reason": null, "error_share": 0.0, "rate_achieved": 1000.0,
            "response_us": { "p50": 100.0, "p99": p99, "max": 1.0 }, "cpu_us_per_request": cpu,
        });
        Block::parse(&report.to_string()).unwrap()
    }

    /// Figures by hand: logs 0, ln 1.1 and ln 1.2 have mean 0.0926 and deviation 0.0914.
    #[test]
    fn the_interval_is_students() {
        let (ratio, (low, high)) = interval(&[1.0, 1.1, 1.2]).unwrap();
        assert!((ratio - 1.0970).abs() < 1e-3, "{ratio}");
        assert!((low - 0.874).abs() < 2e-3 && (high - 1.377).abs() < 3e-3, "{low} {high}");
        assert_eq!(interval(&[1.0]), None);
        assert_eq!(interval(&[1.0, 0.0]), None);
        assert_eq!(student(5), 2.571);
        assert_eq!(student(11), 2.228);
    }

    #[test]
    fn equal_is_no_measurable_effect_and_faster_is_one() {
        let pairs: Vec<(Block, Block)> = (0..8)
            .map(|turn| {
                let noise = 1.0 + f64::from(turn % 4) / 100.0;
                (block(Some(20.0), 100.0 * noise), block(Some(18.0 * noise), 100.0 * (2.0 - noise) + 1.0))
            })
            .collect();
        let compared = compare(&pairs);
        let of = |figure: &str| compared.iter().find(|one| one.figure == figure).unwrap();
        assert!(of("CPU per request").is_measurable() && of("CPU per request").ratio < 0.95);
        assert!(of("p50").text().ends_with("×1.000 (1.000 to 1.000), no measurable effect"));
        assert!(!of("requests per second").is_measurable());
    }

    #[test]
    fn a_figure_that_was_not_measured_is_left_out() {
        let pairs = vec![(block(None, 1.0), block(Some(1.0), 1.0)), (block(None, 1.0), block(None, 1.0))];
        assert!(compare(&pairs).iter().all(|one| one.figure != "CPU per request"));
    }

    #[test]
    fn failed_requests_are_no_measurement() {
        let report = json!({
            "void": true, "void_reason": "lag", "error_share": 0.5, "rate_achieved": 1.0,
            "response_us": { "p50": 1.0, "p99": 1.0 }, "cpu_us_per_request": null,
        });
        assert!(Block::parse(&report.to_string()).unwrap_err().contains("50.00 % of the requests failed"));
        assert!(Block::parse("{}").is_err());
    }
}
