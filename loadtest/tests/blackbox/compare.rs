//! `find` and `ab` against endpoints whose limits and differences are arithmetic.

use crate::rig::{Upstream, number, report};

/// Breaks if a rate that cannot be sustained counted as met: one connection and 10 ms make at most 100 a second.
#[test]
fn find_stays_below_what_is_possible() {
    let upstream = Upstream::new(&["--delay", "10ms"]);
    let (ended, report) = report(&[
        "find",
        "--target",
        &upstream.url,
        "--slo",
        "p90<300ms,errors<10%",
        "-c",
        "1",
        "-t",
        "1",
        "--start-rate",
        "20",
        "--max-rate",
        "160",
        "--precision",
        "100%",
        "--warmup",
        "100ms",
        "--probe",
        "1s",
        "--confirm",
        "2s",
        "--max-lag",
        "100ms",
    ]);
    ended.expect_code(0);
    assert_eq!(report["schema_version"], 1);
    let found = number(&report, "/found/rate");
    assert!((20.0..=103.0).contains(&found), "{found} requests per second");
    let probes = report["probes"].as_array().unwrap();
    let confirmed = probes.iter().any(|probe| probe["confirming"] == true && probe["met"] == true);
    assert!(confirmed, "the result has a confirming run");
    for probe in probes.iter().filter(|probe| probe["rate"].as_f64().unwrap() > 103.0) {
        assert_eq!(probe["met"], false, "{probe}");
    }
}

/// Breaks if a plain difference were missed, or its direction turned round.
#[test]
fn ab_tells_different_targets_apart() {
    let (one, other) = (Upstream::new(&["--delay", "5ms"]), Upstream::new(&["--delay", "40ms"]));
    let (ended, report) = report(&[
        "ab",
        "--a",
        &one.url,
        "--b",
        &other.url,
        "-r",
        "100",
        "-c",
        "8",
        "-t",
        "1",
        "--pairs",
        "8",
        "--block",
        "200ms",
        "--warmup",
        "20ms",
        "--max-lag",
        "100ms",
        "--pid-a",
        &one.pid(),
        "--pid-b",
        &other.pid(),
    ]);
    let ended = ended.expect_code(0);
    assert_eq!(report["schema_version"], 1);
    let comparisons = report["comparisons"].as_array().unwrap();
    let figure = |name: &str| comparisons.iter().find(|comparison| comparison["figure"] == name).unwrap();
    let p50 = figure("p50_us");
    assert_eq!(p50["significant"], true, "{}", ended.out);
    let ratio = p50["ratio"].as_f64().unwrap();
    assert!(
        (2.0..=8.5).contains(&ratio),
        "40 ms over 5 ms, and what the machine adds to both: {}",
        ended.out
    );
    let interval = (p50["interval"]["low"].as_f64().unwrap(), p50["interval"]["high"].as_f64().unwrap());
    assert!(interval.0 <= ratio && ratio <= interval.1);
    // Each block had the same requests; the order of the blocks is not always the same.
    let pairs = report["pairs"].as_array().unwrap();
    let first = pairs.iter().filter(|pair| pair["a_first"] == true).count();
    assert!(pairs.len() == 8 && (1..8).contains(&first), "A came first in {first} of 8 pairs");
    assert!(
        ended.out.contains("service time p50") || ended.out.contains("response time p50"),
        "{}",
        ended.out
    );
}
