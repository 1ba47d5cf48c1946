//! Feeds `invariants::quota`.
#![no_main]

#[path = "../invariants/quota.rs"]
mod quota;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quota::check(bytes));
