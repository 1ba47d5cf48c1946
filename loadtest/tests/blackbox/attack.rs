//! Attacks: what offenders do is seen by the target, what the target does to them stands in the report.

use crate::rig::{Upstream, endpoint, loadtest, number, report};

/// Breaks if offenders and honest clients were mixed up in the report.
#[test]
fn what_offenders_are_answered_is_told_apart_from_the_honest() {
    // Only offenders have a body to be slow with.
    let url = format!("http://{}/", endpoint(|head| if head.starts_with("POST") { 408 } else { 200 }));
    let (ended, report) = report(&[
        "attack",
        "slow-bodies",
        "--target",
        &url,
        "-n",
        "20",
        "-d",
        "500ms",
        "--calm",
        "200ms",
        "-r",
        "100",
        "-t",
        "1",
        "--warmup",
        "0s",
    ]);
    let ended = ended.expect_code(0);
    assert_eq!(report["kind"], "slow-bodies");
    for phase in ["before", "during", "after"] {
        assert_eq!(number(&report, &format!("/{phase}/failed")), 0.0, "{phase}");
        assert!(number(&report, &format!("/{phase}/answered")) > 0.0, "{phase}");
    }
    let answered = number(&report, "/findings/statuses/408");
    assert!(answered >= 20.0, "{report}");
    assert!(ended.out.contains("answered 408"), "{}", ended.out);
}

/// Breaks if silence were anything else.
#[test]
fn silent_offenders_stay_where_nobody_cuts_them() {
    let upstream = Upstream::new(&[]);
    let pid = upstream.pid();
    let (ended, report) = report(&[
        "attack",
        "flood",
        "--target",
        &upstream.url,
        "-n",
        "300",
        "-d",
        "300ms",
        "--calm",
        "200ms",
        "-r",
        "100",
        "-t",
        "1",
        "--warmup",
        "0s",
        "--pid",
        &pid,
    ]);
    ended.expect_code(0);
    let found = |what: &str| number(&report, &format!("/findings/{what}"));
    assert_eq!((found("connected"), found("cut"), found("left")), (300.0, 0.0, 300.0));
    assert_eq!(found("answered_after/count"), 0.0);
    assert!(number(&report, "/memory/peak") >= number(&report, "/memory/before"));
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let url = format!("http://{}/", endpoint(|_| 200));
    for (argument, word) in [
        (["--attack-header", "no colon"], "--attack-header"),
        (["--offenders", "0"], "--offenders"),
        (["--every", "0s"], "--every"),
    ] {
        let args = ["attack", "flood", "--target", &url, "--calm", "10ms", "--warmup", "0s"];
        let ended = loadtest(&[&args[..], &argument[..]].concat()).expect_code(2);
        assert!(ended.err.contains(word), "{}", ended.err);
    }
}
