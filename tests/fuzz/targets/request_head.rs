//! Feeds `invariants::request_head`.
#![no_main]

#[path = "../invariants/request_head.rs"]
mod request_head;
#[path = "../invariants/strict.rs"]
mod strict;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| request_head::check(bytes));
