//! Whole shards in made-up worlds: 256 seeds in every test run, each a different story, all kept to the same rules.
//!
//! A world is decided by its seed alone and can be lived through again: `TOLLGATE_SEED=7 cargo test --lib
//! simulation::every_seed -- --nocapture` tells the story of seed 7. The shard's code is the real one, from the accepted
//! connection to the log record, on real sockets of the kernel; `runtime.rs` stands in for the runtime. What the
//! peers do is in `script.rs`, `client.rs` and `endpoint.rs`, what must hold in `invariants.rs`.

mod audit;
mod audited;
mod client;
mod endpoint;
mod invariants;
mod link;
mod message;
mod pools;
pub(super) mod runtime;
mod script;
mod setting;
mod trace;
mod world;

use std::{
    collections::BTreeMap,
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use self::world::World;

/// How many worlds a test run visits.
const SEEDS: u64 = 256;

/// What must have happened at least once in all of them, or the rules were kept by nobody doing anything.
const HAPPENINGS: [&str; 34] = [
    "200",
    "201",
    "204",
    "400",
    "401",
    "404",
    "408",
    "413",
    "429",
    "431",
    "499",
    "502",
    "503",
    "504",
    "second attempt",
    "third attempt",
    "attempt that sent nothing",
    "answer cut",
    "connection too many",
    "wait for a turn",
    "left before its turn",
    "reuse",
    "move",
    "hedge won",
    "hedge lost",
    "copy answered",
    "copy failed",
    "copy not sent",
    "drain",
    "cut",
    "refused without a record",
    "answer withheld",
    "answer before its record",
    "audit record dropped",
];

/// What one world came to.
struct Story {
    hash: u64,
    tally: BTreeMap<String, u64>,
}

/// Broken by whatever loses, doubles, mixes up or leaks: see the rules.
#[test]
fn every_seed_keeps_the_rules() {
    if let Ok(seed) = std::env::var("TOLLGATE_SEED") {
        let seed = seed.parse().expect("TOLLGATE_SEED is a number");
        let broken = live(seed, true).err();
        assert!(broken.is_none(), "seed {seed}: {}", broken.unwrap_or_default());
        return;
    }
    let next = AtomicU64::new(0);
    let visit = || {
        let (mut broken, mut tallies) = (Vec::new(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return (broken, tallies);
            }
            match live(seed, false) {
                Ok(story) => tallies.push(story.tally),
                Err(rule) => broken.push(format!("seed {seed}: {rule}\n    {}", command(seed))),
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (mut broken, mut tally) = (Vec::new(), BTreeMap::<String, u64>::new());
    thread::scope(|scope| {
        let visitors: Vec<_> = (0..threads).map(|_| scope.spawn(visit)).collect();
        for visitor in visitors {
            let (found, tallies) = visitor.join().expect("it catches panics");
            broken.extend(found);
            for (what, times) in tallies.into_iter().flatten() {
                *tally.entry(what).or_default() += times;
            }
        }
    });
    assert!(broken.is_empty(), "{} of {SEEDS} seeds broke a rule:\n{}", broken.len(), broken.join("\n"));
    for what in HAPPENINGS {
        assert!(tally.get(what).is_some_and(|&times| times > 0), "no {what} in {SEEDS} worlds: {tally:?}");
    }
}

/// Broken by whatever makes a story depend on more than its seed: then no failure could be looked at again.
#[test]
fn the_same_seed_tells_the_same_story() {
    let hash = |seed| live(seed, false).map(|story| story.hash);
    for seed in 0..16 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
    }
    assert_ne!(hash(0), hash(1), "two seeds, two stories");
}

/// Lives through the world of one seed.
///
/// # Errors
/// The rule that was broken, or what the shard panicked with.
fn live(seed: u64, is_told: bool) -> Result<Story, String> {
    panic::catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, is_told);
        world.live().map(|hash| Story { hash, tally: world.tally() })
    }))
    .unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
    })
}

/// What tells the story of a seed again.
fn command(seed: u64) -> String {
    format!("TOLLGATE_SEED={seed} cargo test --lib simulation::every_seed -- --nocapture")
}
