//! Feeds `invariants::chunked`.
#![no_main]

#[path = "../invariants/chunked.rs"]
mod chunked;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| chunked::check(bytes));
