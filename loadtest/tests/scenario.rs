//! `loadtest scenario` from outside: what it says when it cannot begin, and that it leaves nothing behind.

use std::process::{Command, Output};

fn scenario(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).arg("scenario").args(args).output().expect("started")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_unknown_scenario_is_told_which_there_are() {
    let output = scenario(&["slowone"]);
    assert_eq!(output.status.code(), Some(2));
    for name in
        ["slow-one", "failing-fast", "frozen", "rolling-restart", "best-possible", "endpoints-file", "all"]
    {
        assert!(said(&output).contains(name), "{name} is not in {}", said(&output));
    }
}

#[test]
fn gateways_that_take_no_part_and_rates_that_say_nothing_are_refused() {
    for (args, words) in [
        (&["all", "--gateway", "envoy"][..], "want tollgate, nginx or haproxy"),
        (&["all", "--rate", "1"][..], "--rate 10 to 100000"),
        (&["all", "--duration", "1s"][..], "at least 2 s"),
        (&["all", "--gateway", "tollgate", "--tollgate", "/nowhere"][..], "/nowhere is not there"),
    ] {
        let output = scenario(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(said(&output).contains(words), "{}", said(&output));
    }
}

/// Breaks when a gateway that ends at its start is waited for, or its own words are lost.
#[test]
fn a_gateway_that_does_not_start_is_heard() {
    let output = scenario(&["frozen", "--gateway", "tollgate", "--tollgate", "/bin/false"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("tollgate does not answer; its own words: it wrote nothing"),
        "{}",
        said(&output)
    );
}
