//! What is reported against what is known: percentiles of stalls, delays, and counts on both sides.

use serde_json::Value;

use crate::rig::{Upstream, number, report, valid_report};

/// What a busy machine may add to a wait, in microseconds.
const NOISE_US: f64 = 60_000.0;

#[track_caller]
fn near(what: &str, measured_us: f64, expected_us: f64) {
    assert!(
        (measured_us - expected_us).abs() < NOISE_US,
        "{what} is {measured_us} µs, by arithmetic {expected_us} µs"
    );
}

/// Breaks if latency were counted from the actual send: the stall would be one slow request of 600.
#[test]
fn a_stall_shows_in_response_times_and_not_in_service_times() {
    // Answers nothing in the third second of every three. Measured for three seconds, a third of the arrivals fall
    // into the stall and wait for its end, evenly from 1 s down to nothing; the one connection sends one of them.
    let run = || {
        let upstream = Upstream::new(&["--stall", "3s:1s"]);
        valid_report(&[
            "run",
            "--target",
            &upstream.url,
            "-r",
            "200",
            "-c",
            "1",
            "-t",
            "1",
            "-d",
            "3s",
            "--warmup",
            "200ms",
            "--max-lag",
            "20ms",
        ])
    };
    // Where the machine is crowded others than the stall's wait as well; then it says nothing of the stall.
    let is_undisturbed = |report: &Value| number(report, "/late") <= 230.0;
    let report = (0..3).map(|_| run()).find(is_undisturbed).expect("one of three undisturbed");
    assert_eq!(number(&report, "/arrivals"), 600.0);
    let waited = |quantile: f64| 1e6 * (quantile - 2.0 / 3.0) / (1.0 / 3.0);
    near("response p90", number(&report, "/response_us/p90"), waited(0.9));
    near("response p99", number(&report, "/response_us/p99"), waited(0.99));
    near("response max", number(&report, "/response_us/max"), 1e6);
    near("response p50", number(&report, "/response_us/p50"), 0.0);
    near("response mean", number(&report, "/response_us/mean"), 1e6 / 6.0);
    near("service p99", number(&report, "/service_us/p99"), 0.0);
    near("service max", number(&report, "/service_us/max"), 1e6);
    let late = number(&report, "/late");
    assert!(late >= 180.0, "{late} of the 200 arrivals of the stall waited for the connection");
}

/// Breaks if a closed run invented intended times, or if a delay were lost.
#[test]
fn delays_are_measured_from_below() {
    let upstream = Upstream::new(&["--delay", "bimodal:30ms,300ms,20%"]);
    let (_, report) = report(&[
        "run",
        "--target",
        &upstream.url,
        "--closed",
        "-c",
        "16",
        "-t",
        "2",
        "-d",
        "1500ms",
        "--warmup",
        "0s",
    ]);
    assert!(number(&report, "/service_us/min") >= 30_000.0);
    near("service p50", number(&report, "/service_us/p50"), 30_000.0);
    near("service p99", number(&report, "/service_us/p99"), 300_000.0);
    assert_eq!(report["response_us"], report["service_us"], "a closed run has no intended starts");
    assert!(report["rate_asked"].is_null());
}

/// Breaks if an answer were lost, counted twice, or a status taken for another.
#[test]
fn both_sides_count_the_same() {
    for mode in [&["--closed"][..], &["-r", "500", "--arrivals", "poisson"], &["-r", "200", "--close"]] {
        let upstream = Upstream::new(&["--fail", "10%", "--threads", "2"]);
        let mut args =
            vec!["run", "--target", &upstream.url, "-c", "16", "-t", "2", "-d", "500ms", "--warmup", "0s"];
        args.extend(mode);
        let (_, report) = report(&args);
        let (answers, failures) = upstream.counts();
        assert!(answers > 50, "{mode:?}: {answers} answers");
        assert_eq!(number(&report, "/requests"), answers as f64, "{mode:?}");
        assert_eq!(number(&report, "/arrivals"), answers as f64, "{mode:?}");
        assert_eq!(number(&report, "/statuses/500"), failures as f64, "{mode:?}");
        assert_eq!(number(&report, "/errors/status_5xx"), failures as f64, "{mode:?}");
        let series = report["series"].as_array().unwrap();
        let sum: u64 = series.iter().map(|second| second["answered"].as_u64().unwrap()).sum();
        assert_eq!(sum, answers, "{mode:?}: the seconds add up to the whole");
    }
}
