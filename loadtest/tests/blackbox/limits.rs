//! `limits` convicts limiters that are known to be wrong, and no other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::rig::{endpoint, number, report};

/// What every client may have in any second.
const LIMIT: usize = 20;
const WINDOW: Duration = Duration::from_secs(1);

/// A limiter: given when a client's admissions were (the first one first) and the time, whether to admit.
type Limiter = fn(&[Instant], Instant) -> bool;

/// The last second of the list, wherever it starts.
fn exact(admitted: &[Instant], now: Instant) -> bool {
    admitted.iter().filter(|&&at| now - at < WINDOW).count() < LIMIT
}

fn one_too_many(admitted: &[Instant], now: Instant) -> bool {
    admitted.iter().filter(|&&at| now - at < WINDOW).count() <= LIMIT
}

/// Seconds that begin with the client's first request: right within each, twice the quota around a boundary.
fn by_fixed_seconds(admitted: &[Instant], now: Instant) -> bool {
    let Some(&first) = admitted.first() else { return true };
    let second = |at: Instant| (at - first).as_secs();
    admitted.iter().filter(|&&at| second(at) == second(now)).count() < LIMIT
}

fn stingy(admitted: &[Instant], now: Instant) -> bool {
    admitted.iter().filter(|&&at| now - at < WINDOW).count() < LIMIT / 2
}

fn check(limiter: Limiter, more: &[&str]) -> (i32, Value, String) {
    let admitted: Arc<Mutex<HashMap<String, Vec<Instant>>>> = Arc::default();
    let address = endpoint(move |head| {
        let client = head.lines().find_map(|line| line.strip_prefix("X-Client: ")).unwrap();
        let mut admitted = admitted.lock().unwrap();
        let own = admitted.entry(client.to_owned()).or_default();
        let now = Instant::now();
        if !limiter(own, now) {
            return 429;
        }
        own.push(now);
        200
    });
    let target = format!("http://{address}/");
    let quota = format!("{LIMIT}/second");
    let base = [
        "limits",
        "--target",
        &target,
        "--quota",
        &quota,
        "--clients",
        "3",
        "-H",
        "X-Client: {{client}}",
        "-c",
        "6",
        "-t",
        "2",
        "--warmup",
        "0s",
    ];
    let (ended, report) = report(&[&base[..], more].concat());
    (ended.status.code().unwrap(), report, ended.out)
}

#[test]
fn a_right_limiter_passes() {
    let (code, report, out) = check(exact, &["-d", "3s"]);
    assert_eq!(code, 0, "{out}");
    assert_eq!(report["schema_version"], 1);
    assert_eq!(number(&report, "/clients"), 3.0);
    assert_eq!(number(&report, "/granted/over"), 3.0);
    assert!(number(&report, "/windows/0/certain_max") <= LIMIT as f64, "{out}");
    assert!(
        out.lines().next().is_some_and(|line| line.starts_with("held: ") || line.starts_with("proven: ")),
        "{out}"
    );
}

#[test]
fn one_request_too_many_is_convicted() {
    let (code, report, out) = check(one_too_many, &["--steady", "-d", "2s"]);
    assert_eq!(code, 1, "{out}");
    assert_eq!(number(&report, "/windows/0/certain_max"), (LIMIT + 1) as f64, "{out}");
    assert!(out.contains("FAILED: 3 of 3 clients had more than 20 in 1s"), "{out}");
}

/// Breaks if the load came without pauses: fixed seconds then look right.
#[test]
fn counting_by_fixed_seconds_is_convicted() {
    let (code, report, out) = check(by_fixed_seconds, &["--over", "4", "-d", "5s"]);
    assert_eq!(code, 1, "{out}");
    assert!(number(&report, "/windows/0/certain_max") > LIMIT as f64 * 1.2, "{out}");
}

#[test]
fn granting_too_little_is_a_failure_and_asking_too_little_is_void() {
    let (code, report, out) = check(stingy, &["-d", "2s"]);
    assert_eq!(code, 1, "{out}");
    assert!(
        number(&report, "/granted/share") < 0.8 && out.contains("were granted less than 90.0 %"),
        "{out}"
    );
    let (code, report, out) = check(exact, &["--rate", "15", "-d", "1s"]);
    assert_eq!(code, 3, "{out}");
    assert!(out.starts_with("VOID: no client asked for more than its quota"), "{out}");
    assert_eq!(report["void"], true);
}
