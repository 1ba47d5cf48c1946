//! How a cluster's endpoints are looked after: `cluster.ejection`, `cluster.health`, `cluster.circuit`,
//! `load_report`, `slow_start` and `panic`.

use std::ops::RangeInclusive;

use crate::{
    http::{head::is_authority, target},
    stage::balance::{Care, Ejection, Faults, Fuse, LoadReport, Probe, Question, Trip},
};

use super::{
    issue::Issues,
    reader::{Field, Section},
    values::{defaulted, duration_ms, number, one_of, percent},
};

/// What the operator wrote.
pub(super) struct Written {
    slow_start_ms: u64,
    panic_percent: u64,
    load_report: Field<String>,
    failures: u64,
    on: Field<String>,
    margin_percent: u64,
    time_ms: u64,
    share_percent: u64,
    probe: Field<String>,
    path: Field<String>,
    host: Option<Field<String>>,
    expect: Field<String>,
    interval_ms: u64,
    timeout_ms: u64,
    rise: u64,
    fall: u64,
    circuit: Field<String>,
    limit_min: u64,
    limit_max: u64,
    tolerance_percent: u64,
    at: usize,
    place: String,
}

const MILLISECOND: u64 = 1;
const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;
/// More than there can be connections to the endpoints of a cluster.
const IN_FLIGHT_MAX: u64 = 1_000_000;

pub(super) fn read(cluster: &mut Section<'_, '_>, issues: &Issues) -> Written {
    let slow_start_ms = duration_ms(cluster, "slow_start", 0..=HOUR, issues);
    let panic_percent = percent(cluster, "panic", 0..=100, issues);
    let load_report = defaulted(cluster, "load_report");
    let (mut ejection, mut health) = (cluster.section("ejection"), cluster.section("health"));
    let mut circuit = cluster.section("circuit");
    let written = Written {
        slow_start_ms,
        panic_percent,
        load_report,
        failures: number(&mut ejection, "failures", 0..=1_000, issues),
        on: defaulted(&mut ejection, "on"),
        margin_percent: percent(&mut ejection, "margin", 0..=100, issues),
        time_ms: duration_ms(&mut ejection, "time", 100 * MILLISECOND..=HOUR, issues),
        share_percent: percent(&mut ejection, "max", 0..=100, issues),
        probe: defaulted(&mut health, "probe"),
        path: defaulted(&mut health, "path"),
        host: health.text("host"),
        expect: defaulted(&mut health, "expect"),
        interval_ms: duration_ms(&mut health, "interval", 100 * MILLISECOND..=HOUR, issues),
        timeout_ms: duration_ms(&mut health, "timeout", 10 * MILLISECOND..=HOUR, issues),
        rise: number(&mut health, "rise", 1..=1_000, issues),
        fall: number(&mut health, "fall", 1..=1_000, issues),
        circuit: defaulted(&mut circuit, "mode"),
        limit_min: number(&mut circuit, "min", 1..=IN_FLIGHT_MAX, issues),
        limit_max: number(&mut circuit, "max", 1..=IN_FLIGHT_MAX, issues),
        tolerance_percent: percent(&mut circuit, "tolerance", 10..=1_000, issues),
        at: circuit.at(),
        place: circuit.path().to_owned(),
    };
    ejection.finish();
    health.finish();
    circuit.finish();
    written
}

/// Checks it; `None` if some mistake left a hole.
pub(super) fn plan(written: &Written, issues: &Issues) -> Option<(Trip, Care)> {
    let faults = one_of(&written.on, &[("gateway", Faults::Gateway), ("5xx", Faults::Any5xx)], issues);
    let (probe, fuse) = (probe(written, issues), fuse(written, issues));
    let load_report = load_report(written, issues);
    let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let trip = Trip { failures: count(written.failures), faults: faults? };
    let ejection = Ejection {
        margin_percent: written.margin_percent,
        time_ms: written.time_ms,
        share_percent: written.share_percent,
    };
    let probe = probe?.map(|question| Probe {
        question,
        interval_ms: written.interval_ms,
        timeout_ms: written.timeout_ms,
        rise: count(written.rise),
        fall: count(written.fall),
    });
    let (slow_start_ms, panic_percent) = (written.slow_start_ms, written.panic_percent);
    Some((
        trip,
        Care { ejection, slow_start_ms, panic_percent, probe, load_report: load_report?, fuse: fuse? },
    ))
}

fn load_report(written: &Written, issues: &Issues) -> Option<LoadReport> {
    let words = [LoadReport::None, LoadReport::Orca, LoadReport::Agent].map(|report| (report.word(), report));
    let report = one_of(&written.load_report, &words, issues)?;
    if report == LoadReport::Agent && written.probe.value != "http" {
        let message =
            "is read from the answers of http probes: write health = { probe = \"http\", … } as well";
        written.load_report.wrong(issues, message);
        return None;
    }
    Some(report)
}

fn fuse(written: &Written, issues: &Issues) -> Option<Option<Fuse>> {
    let is_adaptive = one_of(&written.circuit, &[("off", false), ("adaptive", true)], issues)?;
    let (min, max) = (written.limit_min, written.limit_max);
    if min > max {
        issues.add(
            written.at,
            &written.place,
            format!("min is {min} and max is {max}; min must not be more"),
        );
        return None;
    }
    let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let tolerance = 1.0 + written.tolerance_percent as f64 / 100.0;
    Some(is_adaptive.then(|| Fuse { min: count(min), max: count(max), tolerance }))
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    None,
    Tcp,
    Http,
}

fn probe(written: &Written, issues: &Issues) -> Option<Option<Question>> {
    let kinds = [("none", Kind::None), ("tcp", Kind::Tcp), ("http", Kind::Http)];
    let kind = one_of(&written.probe, &kinds, issues);
    let (path, expect) = (path(&written.path, issues), expectation(&written.expect, issues));
    if let Some(host) = written.host.as_ref().filter(|host| !is_authority(host.value.as_bytes())) {
        host.wrong(issues, format!("\"{}\" is not a host", host.value));
    }
    Some(match kind? {
        Kind::None => None,
        Kind::Tcp => Some(Question::Tcp),
        Kind::Http => Some(Question::Http {
            path: path?,
            host: written.host.as_ref().map(|host| host.value.clone()),
            expect: expect?,
        }),
    })
}

fn path(field: &Field<String>, issues: &Issues) -> Option<String> {
    let is_path = field.value.starts_with('/') && target::parse("GET", &field.value, &mut Vec::new()).is_ok();
    if !is_path {
        field.wrong(issues, format!("\"{}\" is not a path; it begins with /", field.value));
    }
    is_path.then(|| field.value.clone())
}

/// One status such as `"204"`, or from one to another such as `"200-399"`.
fn expectation(field: &Field<String>, issues: &Issues) -> Option<RangeInclusive<u16>> {
    let status = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (100..=599).contains(status));
    let range = match field.value.split_once('-') {
        Some((first, last)) => status(first).zip(status(last)),
        None => status(&field.value).map(|only| (only, only)),
    };
    let range = range.filter(|(first, last)| first <= last);
    if range.is_none() {
        let message =
            format!("\"{}\" is not a status; write for example \"200\" or \"200-399\"", field.value);
        field.wrong(issues, message);
    }
    range.map(|(first, last)| first..=last)
}
