//! Instructions of the pure rooms, and a ceiling for each: `cargo bench --bench instructions`.
//!
//! Counted by callgrind, so the same on a busy machine and on an idle one. A piece of work that goes over its
//! ceiling fails the run. Ceilings stand a tenth above what was counted when they were set; lower them when
//! the code gets better, raise them only with a reason in the commit. Instructions are not time: what misses
//! the cache or waits for another core is dearer than it looks here.

#![expect(missing_docs, unused_qualifications, reason = "the macros write modules")]

mod work;

use std::hint::black_box;

use gungraun::prelude::*;

use work::{
    body::Unchunk,
    claim::Claim,
    decide::Decision,
    head::{Encode, Parse},
};

/// At most so many instructions.
fn at_most(instructions: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = gungraun::Callgrind::default();
    callgrind.hard_limits([(gungraun::EventKind::Ir, instructions)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

/// Does `work` once with the memory of the first time still in place. What is returned is dropped uncounted.
fn warm<W, R>(mut made: W, once: impl FnOnce(&mut W) -> R) -> W {
    once(&mut made);
    made
}

fn granted() -> Claim {
    warm(Claim::granted(), Claim::once)
}

fn refused() -> Claim {
    warm(Claim::refused(), Claim::once)
}

fn parse() -> Parse {
    warm(Parse::new(), Parse::once)
}

fn encode() -> Encode {
    warm(Encode::new(), Encode::once)
}

fn unchunk() -> Unchunk {
    warm(Unchunk::new(), Unchunk::once)
}

fn decision() -> Decision {
    Decision::new()
}

fn good_key() -> Decision {
    Decision::with_key("key-7")
}

fn wrong_key() -> Decision {
    Decision::with_key("key-x")
}

fn on_a_bad_day() -> Decision {
    Decision::among_a_million_revoked()
}

#[library_benchmark(setup = parse, config = at_most(6_000))]
fn head_parse(mut parse: Parse) -> (usize, Parse) {
    (black_box(parse.once()), parse)
}

#[library_benchmark(setup = encode, config = at_most(9_600))]
fn head_parse_and_encode_both(mut encode: Encode) -> (usize, Encode) {
    (black_box(encode.once()), encode)
}

#[library_benchmark(setup = unchunk, config = at_most(25_600))]
fn body_unchunk(mut unchunk: Unchunk) -> (usize, Unchunk) {
    (black_box(unchunk.once()), unchunk)
}

#[library_benchmark(setup = decision, config = at_most(1_150))]
fn decide_route(mut decision: Decision) -> (bool, Decision) {
    (black_box(decision.route()), decision)
}

#[library_benchmark(setup = decision, config = at_most(25_200))]
fn decide_token_first(mut decision: Decision) -> (bool, Decision) {
    (black_box(decision.token_first()), decision)
}

#[library_benchmark(setup = decision, config = at_most(480))]
fn decide_token_again(mut decision: Decision) -> (bool, Decision) {
    (black_box(decision.token_again()), decision)
}

#[library_benchmark(setup = good_key, config = at_most(4_840))]
fn decide_whole_by_key(mut decision: Decision) -> (bool, Decision) {
    (black_box(decision.whole()), decision)
}

#[library_benchmark(setup = wrong_key, config = at_most(3_800))]
fn decide_whole_by_wrong_key(mut decision: Decision) -> (bool, Decision) {
    (black_box(decision.whole()), decision)
}

#[library_benchmark(setup = on_a_bad_day, config = at_most(1_400))]
fn decide_revoked(mut decision: Decision) -> (bool, Decision) {
    (black_box(decision.revoked()), decision)
}

#[library_benchmark(setup = on_a_bad_day, config = at_most(4_710))]
fn decide_whole_among_a_million_revoked(mut decision: Decision) -> (bool, Decision) {
    (black_box(decision.whole()), decision)
}

#[library_benchmark(setup = decision, config = at_most(1_700))]
fn decide_quota(mut decision: Decision) -> (bool, Decision) {
    (black_box(decision.quota()), decision)
}

#[library_benchmark(setup = granted, config = at_most(400))]
fn claim_granted(mut claim: Claim) -> (bool, Claim) {
    (black_box(claim.once()), claim)
}

#[library_benchmark(setup = refused, config = at_most(165))]
fn claim_refused(mut claim: Claim) -> (bool, Claim) {
    (black_box(claim.once()), claim)
}

#[library_benchmark(setup = decision, config = at_most(455))]
fn decide_balance(mut decision: Decision) -> (bool, Decision) {
    (black_box(decision.balance()), decision)
}

#[library_benchmark(setup = decision, config = at_most(3_990))]
fn decide_whole(mut decision: Decision) -> (bool, Decision) {
    (black_box(decision.whole()), decision)
}

#[library_benchmark(setup = decision, config = at_most(260))]
fn settle(mut decision: Decision) -> (bool, Decision) {
    (black_box(decision.settle()), decision)
}

library_benchmark_group!(
    name = pure_rooms,
    benchmarks = [
        head_parse,
        head_parse_and_encode_both,
        body_unchunk,
        decide_route,
        decide_token_first,
        decide_token_again,
        decide_whole_by_key,
        decide_whole_by_wrong_key,
        claim_granted,
        claim_refused,
        decide_revoked,
        decide_whole_among_a_million_revoked,
        decide_quota,
        decide_balance,
        decide_whole,
        settle
    ]
);

main!(library_benchmark_groups = pure_rooms);
