//! How runs end: in time, too much for the machine, by Ctrl-C; and the shape of what they leave.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tempfile::TempDir;

use crate::rig::{Started, Upstream, endpoint, loadtest, number, report, until};

/// Breaks if a run that measured the generator called itself anything else.
#[test]
fn more_than_the_machine_can_send_is_void() {
    let upstream = Upstream::new(&[]);
    let args = [
        "run",
        "--target",
        &upstream.url,
        "-r",
        "3000000",
        "-c",
        "32",
        "-t",
        "1",
        "-d",
        "500ms",
        "--warmup",
        "0s",
    ];
    let (ended, report) = report(&args);
    let ended = ended.expect_code(3);
    let first = ended.out.lines().next().unwrap();
    assert!(first.starts_with("VOID: the generator was the bottleneck: "), "{first}");
    assert_eq!(report["void"], true);
    assert!(report["void_reason"].as_str().is_some_and(|reason| first.ends_with(reason)));
    // Nothing is dropped silently: every arrival was answered, failed or missed.
    let ends = number(&report, "/requests") + number(&report, "/missed");
    assert_eq!(number(&report, "/arrivals"), ends);
    assert_eq!(number(&report, "/arrivals"), 1_500_000.0);
    assert_eq!(number(&report, "/response_us/count"), ends, "what was missed counts with its waiting time");
}

/// Breaks if Ctrl-C lost what was measured, or if the run went on.
#[test]
fn ctrl_c_reports_what_was_measured() {
    let requests = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&requests);
    let address = endpoint(move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
        200
    });
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("report.json");
    let target = format!("http://{address}/");
    let run = Started::new(&[
        "run",
        "--target",
        &target,
        "-r",
        "500",
        "-c",
        "4",
        "-d",
        "1h",
        "--warmup",
        "0s",
        "--json",
        file.to_str().unwrap(),
    ]);
    until("a hundred requests", || requests.load(Ordering::Relaxed) >= 100);
    run.interrupt();
    let ended = run.end();
    assert!(matches!(ended.status.code(), Some(0 | 3)), "{ended:?}");
    assert!(ended.out.contains("answers/s"), "{}", ended.out);
    let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(report["stopped_early"], true);
    assert!(number(&report, "/requests") >= 90.0 && number(&report, "/duration_s") < 3_000.0);
    assert_eq!(number(&report, "/requests") + number(&report, "/missed"), number(&report, "/arrivals"));
}

/// Breaks if a failed assertion did not decide the exit code.
#[test]
fn assertions_decide_the_exit_code() {
    let directory = TempDir::new().unwrap();
    let secret = directory.path().join("secret");
    fs::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
    let careless = endpoint(|_| 200).to_string();
    let target = format!("http://{careless}/");
    let base =
        ["run", "--target", &target, "-r", "200", "-c", "2", "-t", "1", "-d", "500ms", "--warmup", "0s"];
    let with = |more: &[&str]| loadtest(&[&base[..], more].concat());
    let ended = with(&["--secret-file", secret.to_str().unwrap(), "--bad-token", "20%"]).expect_code(1);
    assert!(ended.out.contains("FAILED: ") && ended.out.contains("broken signature"), "{}", ended.out);
    let ended = with(&["--expect", "201"]).expect_code(1);
    assert!(ended.out.contains("unexpected status"), "{}", ended.out);
    let ended = with(&["--expect", "200", "--max-lag", "1s"]).expect_code(0);
    assert!(ended.out.starts_with("valid: "), "{}", ended.out);
}

/// Breaks if the page needed anything but itself, or the reports lost their version.
#[test]
fn reports_stand_alone() {
    let upstream = Upstream::new(&["--fail", "5%"]);
    let directory = TempDir::new().unwrap();
    let page = directory.path().join("page.html");
    let (ended, report) = report(&[
        "run",
        "--target",
        &upstream.url,
        "-r",
        "400",
        "-c",
        "4",
        "-d",
        "1200ms",
        "--warmup",
        "0s",
        "--max-lag",
        "1s",
        "--pid",
        &upstream.pid(),
        "--html",
        page.to_str().unwrap(),
    ]);
    ended.expect_code(0);
    assert_eq!(report["schema_version"], 1);
    for field in ["kernel", "cpu_model", "governor", "version"] {
        assert!(report["environment"][field].as_str().is_some_and(|text| !text.is_empty()), "{field}");
    }
    assert!(report["cpu_us_per_request"].is_number());
    let page = fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<svg").count(), 4, "percentiles, latency, throughput and errors");
    for part in ["99 %", "Valid.", "governor", "--max-lag 1s", "Target's CPU", "status 500"] {
        assert!(page.contains(part), "no {part} in the page");
    }
    for outside in ["<script", "<link", "<img", "@import", "url("] {
        assert!(!page.contains(outside), "the page has {outside}");
    }
}
