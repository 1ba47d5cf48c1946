//! The key table on one thread and hammered by many: what keys owe survives every move of theirs.

use std::sync::Barrier;

use proptest::prelude::*;

use crate::base::clock::{Clock, Moment};

use super::{
    super::{
        bucket::Bucket,
        calendar::{Calendar, Period},
        cells::Sliding,
        key_table::{KeyTable, Usage, settle},
        window::Window,
    },
    Span, certainly_in_one_window, exact_log, fullest_window,
};

fn at(us: u64) -> Moment {
    Moment { monotonic_us: us, unix_us: us }
}

fn sliding(limit: u32, length_us: u64) -> Window {
    Window::Sliding(Sliding::new(limit, length_us).unwrap())
}

/// A hash whose high half is zero: all keys in one set.
fn hash(key: u64) -> u64 {
    key + 2
}

/// Sets are chosen by the high half.
fn spread(key: u64) -> u64 {
    (key + 7).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// One unit of every window for the key that hashes to `hash`, or of none.
fn admit(table: &KeyTable, hash: u64, now: Moment) -> bool {
    loop {
        let Ok(slot) = table.slot(hash, now) else { return false };
        let usages: Vec<Usage<'_>> = (0..table.windows().len()).map(|at| table.usage(slot, at)).collect();
        let mut claims = Vec::new();
        let all = usages.iter().all(|usage| {
            usage.may_have(1, now) && usage.claim_up_to(1, now).map(|claim| claims.push(claim)).is_ok()
        });
        settle();
        let count = usages.iter().all(Usage::is_current)
            && usages.iter().zip(&claims).all(|(usage, claim)| usage.holds(claim));
        if all && count {
            return true;
        }
        for (usage, claim) in usages.iter().zip(claims) {
            if usage.holds(&claim) {
                usage.undo(claim, now.monotonic_us);
            }
        }
        if count {
            return false;
        }
    }
}

fn left(table: &KeyTable, hash: u64, now: Moment) -> u32 {
    table.slot(hash, now).map_or(0, |slot| table.usage(slot, 0).standing(now).remaining)
}

fn now() -> Moment {
    Clock::new().now()
}

/// Breaks when the table of the deployment the limits were made for outgrows its memory.
#[test]
fn a_million_keys_fit_in_two_hundred_megabytes() {
    let windows = [sliding(1_000, 60_000_000), sliding(100, 1_000_000)];
    let bytes = KeyTable::new(&windows, 1_000_000).bytes();
    assert!(bytes < 200_000_000, "{bytes}");
}

/// Breaks if a key were refused because a tally cannot count so far.
#[test]
fn large_limits_outgrow_their_tally() {
    let table = KeyTable::new(&[sliding(6_000_000, 60_000_000)], 8);
    assert!((0..100_000_u64).all(|index| admit(&table, 7, at(70_000_000 + index))));
    assert_eq!(left(&table, 7, at(71_000_000)), 5_900_000);
}

/// Breaks if a burst found less than the quota, or a window more, wherever the units are counted on the way.
#[test]
fn one_caller_gets_the_whole_quota_and_no_more() {
    for limit in [1, 2, 16, 17, 64, 100, 1_000, 100_000] {
        let table = KeyTable::new(&[sliding(limit, 1_000_000)], 8);
        let arrivals = (0..u64::from(limit) + 50).map(|index| 5_000_000 + index / 10);
        assert_eq!(arrivals.filter(|&us| admit(&table, 7, at(us))).count(), limit as usize, "{limit}");
        assert_eq!(left(&table, 7, at(6_500_000)), limit);
    }
}

proptest! {
    /// Never more than the limit in any window and at least 97 % of what an exact log grants: for clients that come
    /// now and then, pace themselves at the limit, or send far too much, and go from one to the other.
    #[test]
    fn as_good_as_an_exact_log(
        limit in prop_oneof![1_u32..=16, 17_u32..300],
        sessions in prop::collection::vec((0_u64..4_000, 0_u32..40, 1_usize..5), 1..12),
    ) {
        let length_us = 1_000_000;
        let table = KeyTable::new(&[sliding(limit, length_us)], 8);
        let mut now_us = 5_000_000;
        let mut arrivals = Vec::new();
        for (idle_ms, pace, windows) in sessions {
            now_us += idle_ms * 1_000;
            // From a tenth of the limit to four times as much.
            let requests = (u64::from(limit) * u64::from(pace + 1)).div_ceil(10) * windows as u64;
            let gap_us = length_us * windows as u64 / requests;
            for _ in 0..requests.min(1_500) {
                now_us += gap_us;
                arrivals.push(now_us);
            }
        }
        let admitted: Vec<u64> = arrivals.iter().copied().filter(|&us| admit(&table, 7, at(us))).collect();
        prop_assert!(fullest_window(&admitted, length_us) <= limit as usize);
        let exact = exact_log(&arrivals, limit as usize, length_us);
        prop_assert!(admitted.len() * 100 >= exact * 97, "{} of {exact}", admitted.len());
    }

    /// All three kinds of windows together: what is taken back leaves no trace.
    #[test]
    fn undone_claims_leave_no_trace(limit in 1_u32..200, before in 0_u32..250, units in 1_u32..5) {
        let windows = [
            Window::Calendar(Calendar::new(limit, Period::Day).unwrap()),
            sliding(limit, 1_000),
            Window::Bucket(Bucket::new(limit, limit, 1_000).unwrap()),
        ];
        let table = KeyTable::new(&windows, 8);
        let slot = table.slot(7, at(90_000)).unwrap();
        for place in 0..windows.len() {
            for _ in 0..before {
                let _ = table.usage(slot, place).claim_up_to(1, at(90_000));
            }
            // Where it is counted coarsely one more may show that it is to be counted exactly.
            if let Ok(claim) = table.usage(slot, place).claim_up_to(1, at(90_000)) {
                table.usage(slot, place).undo(claim, 90_000);
            }
            let standing = table.usage(slot, place).standing(at(90_000));
            if let Ok(claim) = table.usage(slot, place).claim_up_to(units, at(90_000)) {
                table.usage(slot, place).undo(claim, 90_000);
            }
            let after = table.usage(slot, place).standing(at(90_000));
            prop_assert_eq!(after.remaining, standing.remaining);
        }
    }
}

/// Breaks if a key that is not near its limit holds cells, or one that was keeps them when they are needed.
#[test]
fn cells_are_for_those_who_come_near_their_limit() {
    let table = KeyTable::new(&[sliding(6_400, 1_000)], 2_048);
    for key in 0..1_500 {
        assert!(admit(&table, spread(key), at(5_000)));
    }
    assert_eq!(table.in_cells(), 0);
    // More than there are blocks for, one half after the other.
    for (half, us) in [(0, 5_000), (1, 50_000)] {
        for key in half * 700..(half + 1) * 700 {
            for _ in 0..101 {
                admit(&table, spread(key), at(us));
            }
        }
        assert!((500..=1_024).contains(&table.in_cells()), "{}", table.in_cells());
    }
}

/// Breaks if a key for which there are no cells had more than its limit, or a refusal without an end.
#[test]
fn without_cells_the_limit_is_kept_all_the_same() {
    let table = KeyTable::new(&[sliding(100, 1_000)], 8_192);
    let busy: Vec<u64> = (0..1_024).map(spread).collect();
    for key in &busy {
        for _ in 0..60 {
            admit(&table, *key, at(5_500));
        }
    }
    assert_eq!(table.in_cells(), 1_024);
    let late = spread(4_000);
    let arrivals: Vec<u64> = (0..4_000).map(|index| 5_500 + index).collect();
    let mut admitted = Vec::new();
    for &us in &arrivals {
        if us % 100 == 0 {
            // The others stay busy.
            busy.iter().for_each(|&key| {
                admit(&table, key, at(us));
            });
        }
        if admit(&table, late, at(us)) {
            admitted.push(us);
        } else {
            let slot = table.slot(late, at(us)).unwrap();
            let opens_us = table.usage(slot, 0).opens_for(1, at(us));
            assert!(opens_us > us && opens_us <= us + 2_000, "{opens_us} at {us}");
        }
    }
    assert!(fullest_window(&admitted, 1_000) <= 100);
    assert!(admitted.len() >= 200, "{}", admitted.len());
}

/// Breaks if one who owes nothing were refused a slot, or one near the limit lost it.
#[test]
fn a_key_near_its_limit_keeps_its_slot() {
    let table = KeyTable::new(&[sliding(20, 1_000)], 8);
    assert_eq!(table.capacity(), 8);
    for key in 0..8 {
        (0..19).for_each(|_| assert!(admit(&table, hash(key), at(10))));
    }
    assert_eq!(table.occupied(), 8);
    let full = table.slot(hash(99), at(500)).unwrap_err();
    assert!((1_010..=1_020).contains(&full.opens_us), "{full:?}");
    for key in 0..8 {
        assert_eq!(left(&table, hash(key), at(500)), 1);
    }
    assert_eq!(left(&table, hash(99), at(1_050)), 20);
    assert_eq!((table.occupied(), table.displaced()), (8, 0));
}

/// Breaks if whoever pushes a key out, or waits until others do, gained a unit by it: an attacker with ten times as
/// many keys as the table holds, with a small limit, a large one, by the calendar and with a bucket.
#[test]
fn pushing_others_out_frees_nothing() {
    let cases = [
        sliding(10, 60_000_000),
        sliding(500, 60_000_000),
        Window::Calendar(Calendar::new(500, Period::Day).unwrap()),
        Window::Bucket(Bucket::new(500, 500, 86_400_000_000).unwrap()),
    ];
    for window in cases {
        let table = KeyTable::new(&[window], 64);
        let old: Vec<u64> = (1_000..1_020).map(spread).collect();
        let used = |index: usize| (index * 25) % (window.limit() as usize + 1);
        for (index, &key) in old.iter().enumerate() {
            (0..used(index)).for_each(|_| assert!(admit(&table, key, at(90_000_000))));
        }
        for fresh in 0..640 {
            admit(&table, spread(50_000 + fresh), at(91_000_000));
        }
        assert!(table.displaced() > 0);
        for (index, &key) in old.iter().enumerate() {
            let more = (0..1_000).filter(|_| admit(&table, key, at(92_000_000))).count();
            let total = used(index) + more;
            assert!(total <= window.limit() as usize, "{total} for {index} of {window:?}");
        }
    }
}

/// Breaks if a claim in a place that was lost were taken for one that counts.
#[test]
fn a_lost_slot_is_noticed() {
    let table = KeyTable::new(&[sliding(1, 10)], 8);
    let lost = table.usage(table.slot(hash(0), at(0)).unwrap(), 0);
    for key in 1..=8 {
        table.slot(hash(key), at(100)).unwrap();
    }
    let claim = lost.claim_up_to(1, at(100)).unwrap();
    assert!(!lost.is_current() && !lost.holds(&claim));
    let owner = (1..=8).find(|&key| left(&table, hash(key), at(100)) == 0);
    // It is somebody else's, who is charged for it; taken back it is not.
    lost.undo(claim, 100);
    assert_eq!((1..=8).find(|&key| left(&table, hash(key), at(100)) == 0), owner);
}

/// Breaks if any interleaving of 64 threads let a window hold more than its limit, or less.
#[test]
fn sixty_four_threads_admit_exactly_the_limit() {
    for limit in [10, 100] {
        let length_us = 20_000;
        let table = KeyTable::new(&[sliding(limit, length_us)], 8);
        let barrier = Barrier::new(64);
        let spans: Vec<Span> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..64)
                .map(|_| {
                    scope.spawn(|| {
                        let mut spans = Vec::new();
                        barrier.wait();
                        let end = now().monotonic_us + 150_000;
                        loop {
                            let asked = now();
                            if asked.monotonic_us > end {
                                return spans;
                            }
                            if admit(&table, 7, asked) {
                                spans.push((asked.monotonic_us, now().monotonic_us));
                            }
                        }
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        // Sixty-four threads on a busy machine: every window was asked for more than it has.
        assert!(spans.len() >= limit as usize * 3, "the quota was hardly used: {}", spans.len());
        assert!(certainly_in_one_window(spans, length_us) <= limit as usize);
    }
}

/// Breaks if keys that come and go under many threads ever had more than their limit.
#[test]
fn hammered_by_threads_it_never_admits_more() {
    // In the slot, and near the limit in cells.
    for limit in [5, 20] {
        let table = KeyTable::new(&[sliding(limit, 500)], 8);
        let end = now().monotonic_us + 150_000;
        let admitted: Vec<(u64, Span)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut admitted = Vec::new();
                        loop {
                            let asked = now();
                            if asked.monotonic_us > end {
                                return admitted;
                            }
                            // Twelve keys for eight slots: somebody always has to go.
                            let key = asked.monotonic_us / 100 % 12;
                            if admit(&table, hash(key), asked) {
                                admitted.push((key, (asked.monotonic_us, now().monotonic_us)));
                            }
                        }
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        for key in 0..12 {
            let spans: Vec<Span> =
                admitted.iter().filter(|&&(k, _)| k == key).map(|&(_, span)| span).collect();
            assert!(!spans.is_empty(), "key {key} was never admitted");
            assert!(certainly_in_one_window(spans, 500) <= limit as usize, "key {key}");
        }
    }
}

/// What was used of one table is used of the one that follows it, as far as that has room, and frees itself.
#[test]
fn a_table_takes_over_what_was_used() {
    let windows = |limit| [sliding(limit, 60_000), sliding(limit * 10, 1_000_000)];
    let before = KeyTable::new(&windows(10), 4096);
    for key in 0..40 {
        for _ in 0..key % 11 {
            assert!(admit(&before, spread(key), at(100)));
        }
    }
    for limit in [4, 10, 30] {
        let after = KeyTable::new(&windows(limit), 4096);
        after.take_over(&before, at(200));
        for key in 0..40 {
            let slot = after.slot(spread(key), at(200)).unwrap();
            let used = u32::try_from(key % 11).unwrap();
            let remaining = |window| after.usage(slot, window).standing(at(200)).remaining;
            assert_eq!(
                [remaining(0), remaining(1)],
                [limit.saturating_sub(used), limit * 10 - used],
                "{key}"
            );
            assert_eq!(after.usage(slot, 0).standing(at(121_000)).remaining, limit);
        }
    }
}

/// Breaks if a reload forgave those who had been pushed out.
#[test]
fn a_table_takes_over_what_those_owe_who_are_not_there() {
    let before = KeyTable::new(&[sliding(50, 60_000)], 8);
    for key in 0..30 {
        for _ in 0..5 {
            admit(&before, hash(key), at(100));
        }
    }
    assert!(before.displaced() > 0);
    let after = KeyTable::new(&[sliding(20, 60_000)], 8);
    after.take_over(&before, at(200));
    let more = (0..100).filter(|_| admit(&after, hash(0), at(300))).count();
    assert!(more <= 15, "{more}");
}
