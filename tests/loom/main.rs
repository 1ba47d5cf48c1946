//! Loom models: the lock-free files of `src/shared`, compiled against loom's atomics, under every
//! interleaving of two or three threads.
//!
//! The files are included by path, so what is checked is what ships. Each model is kept small enough to
//! be exhausted in seconds.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "the models use parts of the files"
)]

#[path = "../../src/shared/bell.rs"]
mod bell;
#[path = "../../src/shared/bucket.rs"]
mod bucket;
#[path = "../../src/shared/calendar.rs"]
mod calendar;
#[path = "../../src/shared/callers.rs"]
mod callers;
#[path = "../../src/shared/cells.rs"]
mod cells;
#[path = "../../src/base/clock.rs"]
mod clock;
#[path = "../../src/shared/key_table/mod.rs"]
mod key_table;
#[path = "../../src/shared/load.rs"]
mod load;
#[path = "../../src/shared/standing.rs"]
mod standing;
#[path = "../../src/shared/tally.rs"]
mod tally;
#[path = "../../src/shared/window.rs"]
mod window;

/// As in `src/`.
mod base {
    pub(crate) use super::clock;
}

/// Stands in for `src/shared/sync.rs`.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

    pub(super) fn spin_loop() {
        loom::thread::yield_now();
    }

    pub(super) type Words = Box<[AtomicU64]>;

    pub(super) fn zeroed_words(count: usize) -> Box<[AtomicU64]> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }

    pub(super) fn words(count: usize) -> Words {
        zeroed_words(count)
    }
}

use std::sync::Arc;

use base::clock::Moment;
use bell::Bell;
use callers::Callers;
use cells::{Cells, Sliding};
use key_table::{KeyTable, settle};
use load::Load;
use standing::{Standing, Terms};
use sync::{AtomicU64, Ordering};
use window::Window;

fn at(us: u64) -> Moment {
    Moment { monotonic_us: us, unix_us: us }
}

/// One unit for the key that hashes to `hash`, as the gateway takes it, but for another try where it does not count.
fn admit(table: &KeyTable, hash: u64, now: Moment) -> bool {
    let Ok(slot) = table.slot(hash, now) else { return false };
    let usage = table.usage(slot, 0);
    let claim = usage.claim_up_to(1, now);
    settle();
    claim.is_ok_and(|claim| usage.is_current() && usage.holds(&claim))
}

fn left(table: &KeyTable, hash: u64, now: Moment) -> u32 {
    let slot = table.slot(hash, now).expect("a slot");
    table.usage(slot, 0).standing(now).remaining
}

/// Every interleaving.
fn model(body: impl Fn() + Sync + Send + 'static) {
    check(None, body);
}

/// Every interleaving in which a thread is interrupted once.
fn model_of_one_interruption(body: impl Fn() + Sync + Send + 'static) {
    check(Some(1), body);
}

fn check(interruptions: Option<usize>, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = interruptions;
    builder.max_branches = 20_000;
    builder.check(body);
}

/// Three claims race for two units: two are admitted, in every interleaving.
#[test]
fn racing_claims_never_admit_more() {
    model(|| {
        let window = Sliding::new(2, 1_000).unwrap();
        let words: Arc<[AtomicU64]> = sync::words(window.words()).into();
        let other = {
            let words = Arc::clone(&words);
            loom::thread::spawn(move || {
                let cells = Cells::new(window, &words);
                u32::from(cells.claim(5_000).is_ok()) + u32::from(cells.claim(5_001).is_ok())
            })
        };
        let mine = u32::from(Cells::new(window, &words).claim(5_002).is_ok());
        assert_eq!(mine + other.join().unwrap(), 2);
        assert!(Cells::new(window, &words).claim(5_003).is_err());
    });
}

/// A claim is taken back while another shard claims: one unit is left, never two, never none.
#[test]
fn undoing_gives_back_exactly_one() {
    model(|| {
        let window = Sliding::new(2, 1_000).unwrap();
        let words: Arc<[AtomicU64]> = sync::words(window.words()).into();
        let other = {
            let words = Arc::clone(&words);
            loom::thread::spawn(move || Cells::new(window, &words).claim(5_000).is_ok())
        };
        let cells = Cells::new(window, &words);
        if let Ok(claim) = cells.claim(5_001) {
            cells.undo(claim);
        }
        let others = usize::from(other.join().unwrap());
        assert_eq!(others, 1);
        assert_eq!(cells.standing(5_002).remaining, 1);
    });
}

/// Two shards meet a new key at the same time: it gets one slot, and so one quota.
#[test]
fn a_new_key_gets_one_slot() {
    model(|| {
        let table = Arc::new(KeyTable::new(&[small(1)], 1));
        let other = {
            let table = Arc::clone(&table);
            loom::thread::spawn(move || admit(&table, 7, at(5_000)))
        };
        let mine = admit(&table, 7, at(5_000));
        assert!(mine != other.join().unwrap());
    });
}

fn small(limit: u32) -> Window {
    Window::Sliding(Sliding::new(limit, 1_000).expect("a window"))
}

/// A claim races with the eviction of its key: if it counted, the key is still charged for it, in its slot or by the
/// floor it finds when it comes back.
#[test]
fn an_eviction_never_loses_a_claim_that_counts() {
    model(|| {
        let table = Arc::new(KeyTable::new(&[small(2)], 1));
        // A full set: whoever has nothing to lose, key 2 above all, makes room.
        for key in 2..10 {
            table.slot(key, at(0)).unwrap();
        }
        let evictor = {
            let table = Arc::clone(&table);
            loom::thread::spawn(move || {
                let _ = table.slot(10, at(5_000));
            })
        };
        let counts = admit(&table, 2, at(5_000));
        evictor.join().unwrap();
        if counts {
            assert!(left(&table, 2, at(5_001)) <= 1);
        }
    });
}

/// The same for a key that is pushed out although it owes something, and whose use is a word.
#[test]
fn who_is_pushed_out_comes_back_owing_what_counted() {
    model(|| {
        let table = Arc::new(KeyTable::new(&[small(200)], 1));
        for key in 2..10 {
            for _ in 0..if key == 2 { 1 } else { 2 } {
                assert!(admit(&table, key, at(5_000)));
            }
        }
        let evictor = {
            let table = Arc::clone(&table);
            loom::thread::spawn(move || {
                let _ = table.slot(10, at(5_001));
            })
        };
        let counts = admit(&table, 2, at(5_001));
        evictor.join().unwrap();
        assert!(left(&table, 2, at(5_002)) <= 199 - u32::from(counts));
    });
}

/// Two shards bring a key to the point at which it gets cells; none of what counted is lost on the way.
#[test]
fn moving_to_cells_loses_no_claim() {
    model(|| {
        let table = Arc::new(KeyTable::new(&[small(17)], 1));
        assert!(admit(&table, 2, at(5_000)));
        let other = {
            let table = Arc::clone(&table);
            loom::thread::spawn(move || admit(&table, 2, at(5_001)))
        };
        let counts = 1 + u32::from(admit(&table, 2, at(5_002))) + u32::from(other.join().unwrap());
        assert_eq!(left(&table, 2, at(5_003)), 17 - counts);
    });
}

/// A key with cells claims again after a long time while its slot is given to another: what counted is not lost.
#[test]
fn a_slot_with_cells_is_taken_only_from_who_has_nothing_to_lose() {
    model(|| {
        let table = Arc::new(KeyTable::new(&[small(17)], 1));
        for key in 2..10 {
            let last_us = if key == 2 { 1_000 } else { 5_000 };
            // So many that they keep their slots; the last get cells only when they come near their limit.
            (0..9).for_each(|_| assert!(admit(&table, key, at(last_us))));
        }
        let taker = {
            let table = Arc::clone(&table);
            loom::thread::spawn(move || table.slot(10, at(5_001)).is_ok())
        };
        let counts = admit(&table, 2, at(5_001));
        let is_taken = taker.join().unwrap();
        assert!(!(counts && is_taken), "the newcomer has the slot, and the old key its unit");
    });
}

/// The same while its cells alone are given to another.
#[test]
fn cells_are_taken_only_from_who_has_nothing_to_lose() {
    model_of_one_interruption(|| {
        let table = Arc::new(KeyTable::with_blocks(&[small(17)], 1, 1));
        (0..2).for_each(|_| assert!(admit(&table, 2, at(1_000))));
        (0..8).for_each(|_| assert!(admit(&table, 3, at(5_000))));
        assert_eq!(table.in_cells(), 1);
        let taker = {
            let table = Arc::clone(&table);
            loom::thread::spawn(move || admit(&table, 3, at(5_001)))
        };
        let counts = admit(&table, 2, at(5_001));
        assert!(taker.join().unwrap(), "with or without cells there is room");
        assert!(!counts || left(&table, 2, at(5_002)) <= 16);
    });
}

/// However entering and leaving interleave, two that saw nobody inside are never inside together.
#[test]
fn who_enters_finds_what_was_seen() {
    model(|| {
        let load = Arc::new(Load::new());
        let inside = Arc::new(AtomicU64::new(0));
        let visit = |load: &Load, inside: &AtomicU64| {
            let seen = load.look();
            if seen.in_flight() == 0 && load.enter(seen) {
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                inside.fetch_sub(1, Ordering::SeqCst);
                load.leave();
            }
        };
        let other = {
            let (load, inside) = (Arc::clone(&load), Arc::clone(&inside));
            loom::thread::spawn(move || visit(&load, &inside))
        };
        visit(&load, &inside);
        other.join().unwrap();
        assert_eq!(load.in_flight(), 0);
    });
}

/// What was begun fades while a shard counts itself in: nobody in flight is lost or invented.
#[test]
fn what_fades_takes_nobody_along() {
    model(|| {
        let load = Arc::new(Load::new());
        for _ in 0..3 {
            assert!(load.enter(load.look()));
            load.leave();
        }
        let shard = {
            let load = Arc::clone(&load);
            loom::thread::spawn(move || while !load.enter(load.look()) {})
        };
        load.fade();
        shard.join().unwrap();
        assert_eq!(load.in_flight(), 1);
        assert!((2..=3).contains(&load.look().begun()), "{:?}", load.look());
    });
}

/// Two shards take turns: each turn is taken once.
#[test]
fn a_turn_is_taken_once() {
    model(|| {
        let load = Arc::new(Load::new());
        let take = |load: &Load| u64::from(load.take_turn(load.turn(), 10));
        let other = {
            let load = Arc::clone(&load);
            loom::thread::spawn(move || take(&load))
        };
        let taken = take(&load) + other.join().unwrap();
        assert_eq!(load.turn(), 10 * taken);
    });
}

/// A shard suspects an endpoint while control publishes new terms: the suspicion stands, and so do the terms.
#[test]
fn a_suspicion_survives_new_terms() {
    model(|| {
        let standing = Arc::new(Standing::new(256, 9));
        let shard = {
            let standing = Arc::clone(&standing);
            loom::thread::spawn(move || standing.suspect())
        };
        standing.publish(25, 1);
        shard.join().unwrap();
        assert_eq!(standing.terms(), Terms { weight: 25, ceiling: 1, is_suspect: true });
        assert!(standing.acquit() && !standing.acquit());
    });
}

/// A shard raises the estimate while control lets it fall: the slow answer is not forgotten.
#[test]
fn a_raise_is_not_lost() {
    model(|| {
        let standing = Arc::new(Standing::new(256, 9));
        standing.raise_estimate(100);
        let shard = {
            let standing = Arc::clone(&standing);
            loom::thread::spawn(move || standing.raise_estimate(5_000))
        };
        standing.settle_estimate(100, 90);
        shard.join().unwrap();
        assert_eq!(standing.estimate_us(), 5_000);
    });
}

/// Two shards count a failure each: both count.
#[test]
fn failures_in_a_row_are_all_counted() {
    model(|| {
        let standing = Arc::new(Standing::new(256, 9));
        let shard = {
            let standing = Arc::clone(&standing);
            loom::thread::spawn(move || standing.note_failure(2, true).failures)
        };
        let mine = standing.note_failure(2, true).failures;
        assert_eq!(mine + shard.join().unwrap(), 3, "one was the first and one the second");
        assert_eq!((standing.streak().failures, standing.streak().unreachable), (2, 2));
    });
}

/// Who begins to wait while the count moves sees the new count, or is woken.
#[test]
fn no_move_of_a_bell_is_missed() {
    model(|| {
        let bell = Arc::new(Bell::new());
        let owner = {
            let bell = Arc::clone(&bell);
            loom::thread::spawn(move || bell.advance(1))
        };
        let seen = bell.listen();
        let rings = owner.join().unwrap();
        assert!(seen == 1 || rings, "asleep for ever");
        // The next one rings only for who asked anew.
        assert!(!rings || !bell.advance(2));
    });
}

/// Records are put into a ring one by one and rung for once, while the writer empties it and falls asleep: it has them
/// all, or is woken, whatever it took before it was rung for.
#[test]
fn a_batch_that_is_rung_for_once_is_not_slept_on() {
    model(|| {
        let (bell, ring) = (Arc::new(Bell::new()), Arc::new(AtomicU64::new(0)));
        let shard = {
            let (bell, ring) = (Arc::clone(&bell), Arc::clone(&ring));
            loom::thread::spawn(move || {
                for record in 1..=2 {
                    ring.store(record, Ordering::Release);
                    bell.move_on(record);
                }
                bell.rings()
            })
        };
        let taken = ring.load(Ordering::Acquire);
        let issued = bell.listen();
        let stays_awake = issued > taken;
        assert!(!stays_awake || ring.load(Ordering::Acquire) >= issued, "what is counted is there");
        let is_woken = shard.join().unwrap();
        assert!(taken == 2 || stays_awake || is_woken, "asleep for ever on {taken} of 2");
    });
}

/// A name is written while somebody reads: who sees a caller sees the whole name of it.
#[test]
fn names_are_seen_whole_or_not_at_all() {
    model(|| {
        let callers = Arc::new(Callers::new(1));
        let shard = {
            let callers = Arc::clone(&callers);
            loom::thread::spawn(move || {
                callers.note(Some((7, b"acme-payments")), 200, 5);
            })
        };
        for seen in callers.named() {
            assert_eq!((seen.key, seen.name.as_str()), (7, "acme-payments"));
        }
        shard.join().unwrap();
        assert_eq!(callers.named().next().unwrap().calls, 1);
    });
}
