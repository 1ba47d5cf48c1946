//! Every input that the fuzzers found worth keeping, through the same invariants, on every run of the tests.
//!
//! `tests/fuzz/` is where inputs are searched for; what is found there is kept in `tests/fuzz/corpus/`.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test failing")]

#[path = "fuzz/invariants/answer_head.rs"]
mod answer_head;
#[path = "fuzz/invariants/chunked.rs"]
mod chunked;
#[path = "fuzz/invariants/config.rs"]
mod config;
#[path = "fuzz/invariants/quota.rs"]
mod quota;
#[path = "fuzz/invariants/request_head.rs"]
mod request_head;
#[path = "fuzz/invariants/strict.rs"]
mod strict;
#[path = "fuzz/invariants/token.rs"]
mod token;

use std::{fs, path::Path};

/// Runs `check` on every input kept for `target`.
#[track_caller]
fn replay(target: &str, check: impl Fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() >= 10, "{} inputs for {target}", inputs.len());
    for input in inputs {
        let bytes = fs::read(&input).unwrap();
        let name = input.display().to_string();
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&bytes)));
        assert!(ended.is_ok(), "{name} breaks the invariant");
    }
}

#[test]
fn request_heads() {
    replay("request_head", request_head::check);
}

#[test]
fn answer_heads() {
    replay("answer_head", answer_head::check);
}

#[test]
fn chunked_bodies() {
    replay("chunked", chunked::check);
}

#[test]
fn configurations() {
    replay("config", config::check);
}

#[test]
fn tokens() {
    replay("token", token::check);
}

#[test]
fn quotas() {
    replay("quota", quota::check);
}
