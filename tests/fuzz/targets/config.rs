//! Feeds `invariants::config`.
#![no_main]

#[path = "../invariants/config.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| config::check(bytes));
