//! The page's four charts: which figures of a run they show, and over which axes.

use super::plot::{self, Axis, Colour, Line, Scale};
use crate::{
    generator::{Measured, Second, tally::Latencies},
    report::{json::RunReport, summary::latency},
};

/// Points of a percentile line for each nine.
const POINTS: u32 = 40;
/// Nines of the percentile axis, at most: 99.9999 %.
const NINES_MAX: f64 = 6.0;

/// One chart with its words.
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) note: String,
    pub(super) legend: Vec<(Colour, &'static str)>,
    /// Empty where there is nothing to draw.
    pub(super) svg: String,
}

/// Latencies over an axis of nines.
pub(super) fn percentiles(report: &RunReport, measured: &Measured) -> Chart {
    let tally = &measured.total;
    let closed = report.settings.closed;
    let mut shown = vec![(Colour::Second, "service time", &tally.service)];
    if !closed {
        shown.insert(0, (Colour::First, "response time", &tally.response));
        shown.push((Colour::Muted, "the generator's own lag", &tally.lag));
    }
    // The last percentile that at least one request is beyond.
    let count = shown[0].2.histogram().len().max(10);
    let nines = (count as f64).log10().min(NINES_MAX);
    let lines: Vec<Line> = shown
        .iter()
        .map(|(colour, _, latencies)| Line { colour: *colour, points: curve(latencies, nines) })
        .collect();
    let names = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"];
    let across = Axis {
        title: "share of the requests that took at most this long",
        scale: Scale::Linear,
        range: 0.0..nines,
        ticks: names.iter().enumerate().map(|(at, name)| (at as f64, (*name).to_owned())).collect(),
    };
    let note = if closed {
        "A closed run sends when an answer comes: waiting behind a slow answer is not in these times."
    } else {
        "Response time counts from the intended start, service time from the actual send: what lies between is waiting \
         that a closed loop would hide."
    };
    Chart {
        title: "Latency by percentile",
        note: note.into(),
        legend: shown.iter().map(|(colour, name, _)| (*colour, *name)).collect(),
        svg: plot::draw(&across, &times(&lines), &lines),
    }
}

/// The percentiles of each second.
pub(super) fn latency_over_time(report: &RunReport) -> Chart {
    type Of = fn(&Second) -> f64;
    let shown: [(Colour, &str, Of); 5] = [
        (Colour::Ramp1, "p50", |second| second.p50_us),
        (Colour::Ramp2, "p90", |second| second.p90_us),
        (Colour::Ramp3, "p99", |second| second.p99_us),
        (Colour::Ramp4, "p99.9", |second| second.p999_us),
        (Colour::Muted, "max", |second| second.max_us),
    ];
    let lines: Vec<Line> = shown
        .iter()
        .map(|(colour, _, of)| {
            let time = |second: &Second| if second.answered > 0 { of(second) } else { f64::NAN };
            Line { colour: *colour, points: points(&report.series, time) }
        })
        .collect();
    let kind = if report.settings.closed { "Service" } else { "Response" };
    Chart {
        title: "Latency over time",
        note: format!("{kind} times of what was intended in each second."),
        legend: shown.iter().map(|&(colour, name, _)| (colour, name)).collect(),
        svg: plot::draw(&seconds(&report.series), &times(&lines), &lines),
    }
}

/// What was asked for and answered in each second.
pub(super) fn throughput(report: &RunReport) -> Chart {
    let answered = Line {
        colour: Colour::First,
        points: points(&report.series, |second| second.answered as f64 / second.length_s),
    };
    let mut legend = vec![(Colour::First, "answered")];
    let mut lines = vec![answered];
    if let Some(rate) = report.rate_asked {
        legend.insert(0, (Colour::Muted, "asked"));
        lines.insert(0, Line { colour: Colour::Muted, points: points(&report.series, |_| rate) });
    }
    Chart {
        title: "Throughput",
        note: "Requests of each second that were answered, in requests per second.".into(),
        legend,
        svg: plot::draw(&seconds(&report.series), &counts(&lines, "requests/s"), &lines),
    }
}

/// What went wrong in each second.
pub(super) fn errors(series: &[Second]) -> Chart {
    type Of = fn(&Second) -> u64;
    let all: [(Colour, &str, Of); 3] = [
        (Colour::Bad, "without an answer", |second| second.failed),
        (Colour::Second, "unexpected status", |second| second.unexpected),
        (Colour::Muted, "missed: never sent", |second| second.missed),
    ];
    let shown: Vec<_> =
        all.into_iter().filter(|(_, _, of)| series.iter().any(|second| of(second) > 0)).collect();
    let names: Vec<&str> = shown.iter().map(|&(_, name, _)| name).collect();
    let lines: Vec<Line> = shown
        .iter()
        .map(|(colour, _, of)| Line { colour: *colour, points: points(series, |second| of(second) as f64) })
        .collect();
    let (note, svg) = if lines.is_empty() {
        ("There were none.".to_owned(), String::new())
    } else {
        let up = counts(&lines, "requests");
        (format!("In each second: {}.", names.join(", ")), plot::draw(&seconds(series), &up, &lines))
    };
    Chart {
        title: "Errors",
        note,
        legend: shown.iter().map(|&(colour, name, _)| (colour, name)).collect(),
        svg,
    }
}

fn curve(latencies: &Latencies, nines: f64) -> Vec<(f64, f64)> {
    let histogram = latencies.histogram();
    if histogram.is_empty() {
        return Vec::new();
    }
    let steps = (nines * f64::from(POINTS)) as u32;
    let at = |step: u32| f64::from(step) / f64::from(POINTS);
    (0..=steps)
        .map(|step| (at(step), histogram.value_at_quantile(1.0 - 10f64.powf(-at(step))) as f64 / 1e3))
        .collect()
}

/// Of whole seconds: a shorter last one says little.
fn points(series: &[Second], of: impl Fn(&Second) -> f64) -> Vec<(f64, f64)> {
    let whole = |second: &&Second| second.length_s > 0.5 || (series.len() <= 2 && second.length_s > 0.0);
    series.iter().filter(whole).map(|second| (second.until_s - second.length_s / 2.0, of(second))).collect()
}

fn seconds(series: &[Second]) -> Axis {
    let end = series.iter().map(|second| second.until_s).fold(1.0, f64::max);
    let ticks = ticks(end).into_iter().map(|at| (at, format!("{at}"))).collect();
    Axis { title: "seconds since the warm-up", scale: Scale::Linear, range: 0.0..end, ticks }
}

fn counts(lines: &[Line], title: &'static str) -> Axis {
    let end = 1.05 * lines.iter().flat_map(|line| &line.points).map(|&(_, y)| y).fold(1.0, f64::max);
    let label = |at: f64| if at >= 10_000.0 { format!("{} k", at / 1e3) } else { format!("{at}") };
    Axis {
        title,
        scale: Scale::Linear,
        range: 0.0..end,
        ticks: ticks(end).into_iter().map(|at| (at, label(at))).collect(),
    }
}

/// From 1, 2 or 5 times a power of ten below the least time to one above the longest.
fn times(lines: &[Line]) -> Axis {
    let values = || lines.iter().flat_map(|line| &line.points).map(|&(_, y)| y).filter(|y| y.is_finite());
    let least = values().fold(f64::INFINITY, f64::min).max(1.0);
    let most = values().fold(1.0, f64::max);
    let low = if least.is_finite() { 10f64.powf(least.log10().floor()) } else { 0.1 };
    let decades = (most / low).log10();
    let of_a_decade: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let mut ticks: Vec<f64> = Vec::new();
    let mut decade = low;
    while ticks.last().is_none_or(|&last| last < most) {
        for factor in of_a_decade {
            if ticks.last().is_none_or(|&last| last < most) {
                ticks.push(decade * factor);
            }
        }
        decade *= 10.0;
    }
    // What lies below the least time says nothing.
    let from = ticks.iter().rposition(|&at| at <= least).unwrap_or(0);
    let ticks = ticks.split_off(from);
    let range = ticks[0]..ticks.last().copied().unwrap_or(most).max(ticks[0] * 1.1);
    Axis {
        title: "",
        scale: Scale::Logarithmic,
        range,
        ticks: ticks.into_iter().map(|at| (at, time(at))).collect(),
    }
}

/// A tick's label: a round number without needless digits.
fn time(us: f64) -> String {
    let text = latency(us);
    let digits = text.trim_end_matches(char::is_alphabetic);
    let unit = &text[digits.len()..];
    let digits =
        if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    format!("{digits} {unit}")
}

/// About five round numbers from 0 to `end`.
fn ticks(end: f64) -> Vec<f64> {
    let rough = end / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|&step| step >= rough);
    let step = step.unwrap_or(power * 10.0);
    (0..=(end / step) as u32).map(|index| f64::from(index) * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_axis() {
        assert_eq!(ticks(10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(31_500.0), [0.0, 10_000.0, 20_000.0, 30_000.0]);
        let line = Line { colour: Colour::First, points: vec![(0.0, 130.0), (1.0, 7_000.0)] };
        let axis = times(&[line]);
        let labels: Vec<&str> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["100 µs", "200 µs", "500 µs", "1 ms", "2 ms", "5 ms", "10 ms"]);
        assert_eq!(axis.range, 100.0..10_000.0);
    }

    #[test]
    fn nothing_measured_still_has_axes() {
        let axis = times(&[Line { colour: Colour::First, points: Vec::new() }]);
        assert!(axis.range.start > 0.0 && axis.range.end > axis.range.start);
        assert!(seconds(&[]).range.end > 0.0 && counts(&[], "").range.end > 0.0);
    }
}
