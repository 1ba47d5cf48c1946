//! Wall time of the pure rooms: `cargo bench --bench time`.
//!
//! Says how long a piece of work takes on this machine now, and how that compares with the last run. It does
//! not say what a request costs, nor is it a gate: other work on the machine moves it. `instructions.rs` is
//! the gate, the load generator says what a request costs.

mod work;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use work::{
    body::Unchunk,
    claim::Claim,
    decide::Decision,
    head::{Encode, Parse},
};

fn heads(criterion: &mut Criterion) {
    let (mut parse, mut encode) = (Parse::new(), Encode::new());
    criterion.bench_function("head/parse", |bencher| bencher.iter(|| parse.once()));
    criterion.bench_function("head/parse and encode both", |bencher| bencher.iter(|| encode.once()));
}

fn bodies(criterion: &mut Criterion) {
    let mut unchunk = Unchunk::new();
    let mut group = criterion.benchmark_group("body");
    group.throughput(Throughput::Bytes(16 * 1024));
    group.bench_function("unchunk", |bencher| bencher.iter(|| unchunk.once()));
    group.finish();
}

fn decisions(criterion: &mut Criterion) {
    let mut decision = Decision::new();
    let mut group = criterion.benchmark_group("decide");
    group.throughput(Throughput::Elements(1));
    group.bench_function("route", |bencher| bencher.iter(|| decision.route()));
    group.bench_function("token, first time", |bencher| bencher.iter(|| decision.token_first()));
    group.bench_function("token, again", |bencher| bencher.iter(|| decision.token_again()));
    let mut by_key = Decision::with_key("key-7");
    group.bench_function("whole, by API key", |bencher| bencher.iter(|| by_key.whole()));
    let mut bad_day = Decision::among_a_million_revoked();
    group.bench_function("not among a million revoked", |bencher| bencher.iter(|| bad_day.revoked()));
    let (mut granted, mut refused) = (Claim::granted(), Claim::refused());
    group.bench_function("claim, granted", |bencher| bencher.iter(|| granted.once()));
    group.bench_function("claim, refused", |bencher| bencher.iter(|| refused.once()));
    group.bench_function("quota", |bencher| bencher.iter(|| decision.quota()));
    group.bench_function("balance", |bencher| bencher.iter(|| decision.balance()));
    group.bench_function("whole", |bencher| bencher.iter(|| decision.whole()));
    group.bench_function("settle", |bencher| bencher.iter(|| decision.settle()));
    group.finish();
}

criterion_group!(pure_rooms, heads, bodies, decisions);
criterion_main!(pure_rooms);
