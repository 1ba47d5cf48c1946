//! Feeds `invariants::answer_head`.
#![no_main]

#[path = "../invariants/answer_head.rs"]
mod answer_head;
#[path = "../invariants/strict.rs"]
mod strict;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| answer_head::check(bytes));
