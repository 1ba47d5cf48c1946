//! Feeds `invariants::token`.
#![no_main]

#[path = "../invariants/token.rs"]
mod token;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| token::check(bytes));
