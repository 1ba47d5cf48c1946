//! Loom models: the lock-free files of `src/shared`, compiled against loom's atomics, under every
//! interleaving of two or three threads.
//!
//! The files are included by path, so what is checked is what ships. Each model is kept small enough to
//! be exhausted in seconds.

#![allow(dead_code, unreachable_pub, clippy::allow_attributes, reason = "the models use parts of the files")]

#[path = "../../src/shared/callers.rs"]
mod callers;
#[path = "../../src/shared/cells.rs"]
mod cells;
#[path = "../../src/shared/key_table.rs"]
mod key_table;
#[path = "../../src/shared/load.rs"]
mod load;

/// Stands in for `src/shared/sync.rs`.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

    pub(super) fn spin_loop() {
        loom::thread::yield_now();
    }

    pub(super) fn zeroed_words(count: usize) -> Box<[AtomicU64]> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }
}

use std::sync::Arc;

use callers::Callers;
use cells::{Cells, Window};
use key_table::KeyTable;
use load::Load;
use sync::{AtomicU64, Ordering};

fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

/// Three claims race for two units: two are admitted, in every interleaving.
#[test]
fn racing_claims_never_admit_more() {
    model(|| {
        let window = Window::new(2, 1_000).unwrap();
        let words: Arc<[AtomicU64]> = sync::zeroed_words(window.words()).into();
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
        let window = Window::new(2, 1_000).unwrap();
        let words: Arc<[AtomicU64]> = sync::zeroed_words(window.words()).into();
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
        let table = Arc::new(KeyTable::new(&[Window::new(1, 1_000).unwrap()], 1));
        let admit = |table: &KeyTable| {
            let slot = table.slot(7, 0).unwrap();
            table.cells(slot, 0).claim(5_000).is_ok() && table.confirm(slot)
        };
        let other = {
            let table = Arc::clone(&table);
            loom::thread::spawn(move || admit(&table))
        };
        let mine = admit(&table);
        assert!(mine != other.join().unwrap());
    });
}

/// A claim races with the eviction of its key: if the claim was confirmed, the key still has its slot and
/// the unit is charged to it.
#[test]
fn an_eviction_never_loses_a_confirmed_claim() {
    model(|| {
        let table = Arc::new(KeyTable::new(&[Window::new(1, 1_000).unwrap()], 1));
        // Fill the set with keys that have nothing to lose.
        for key in 2..10 {
            table.slot(key, 0).unwrap();
        }
        let evictor = {
            let table = Arc::clone(&table);
            loom::thread::spawn(move || {
                // A newcomer takes the first slot, that of key 2.
                let _ = table.slot(10, 5_000);
            })
        };
        let slot = table.slot(2, 5_000).unwrap();
        let claimed = table.cells(slot, 0).claim(5_000);
        let confirmed = table.confirm(slot);
        evictor.join().unwrap();
        if claimed.is_ok() && confirmed {
            let slot = table.slot(2, 5_001).unwrap();
            assert_eq!(table.cells(slot, 0).standing(5_001).remaining, 0);
        }
    });
}

/// However entering and leaving interleave, two that saw nobody inside are never inside together.
#[test]
fn who_enters_finds_what_was_seen() {
    model(|| {
        let load = Arc::new(Load::new());
        let inside = Arc::new(AtomicU64::new(0));
        let visit = |load: &Load, inside: &AtomicU64| {
            if load.enter(0) {
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
