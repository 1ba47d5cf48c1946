//! Tests of the crossings on one thread, and hammering with many. The interleavings are loom's business.

mod bucket;
mod calendar;
mod key_table;
mod tally;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Barrier,
};

use proptest::prelude::*;

use crate::base::clock::Clock;

use super::{
    callers::{self, Callers, Calls},
    cells::{Cells, LIMIT_MAX, Sliding},
    load::Load,
    log_ring::log_ring,
    record::{Delivery, Record},
    sample::{STEPS, Sample},
    sync::zeroed_words,
};

/// The most admissions any half-open window `(t - length, t]` holds.
fn fullest_window(admitted: &[u64], length_us: u64) -> usize {
    let mut start = 0;
    let mut fullest = 0;
    for (index, &time) in admitted.iter().enumerate() {
        while admitted[start] + length_us <= time {
            start += 1;
        }
        fullest = fullest.max(index + 1 - start);
    }
    fullest
}

/// What an exact log of the last `limit` admissions would admit.
fn exact_log(arrivals: &[u64], limit: usize, length_us: u64) -> usize {
    let mut admitted: Vec<u64> = Vec::new();
    for &time in arrivals {
        let in_window = admitted.iter().rev().take_while(|&&earlier| earlier + length_us > time).count();
        if in_window < limit {
            admitted.push(time);
        }
    }
    admitted.len()
}

fn admit_all(window: Sliding, arrivals: &[u64]) -> Vec<u64> {
    let words = zeroed_words(window.words());
    let cells = Cells::new(window, &words);
    arrivals
        .iter()
        .copied()
        .filter(|&now| cells.closed_until(now).is_none() && cells.claim(now).is_ok())
        .collect()
}

proptest! {
    #[test]
    fn dividing_by_the_length_is_exact(length_us in 1_u64..=1 << 50, us in 0_u64..1 << 60, small in 0_u64..1_000) {
        for length_us in [length_us, small + 1] {
            let window = Sliding::new(1, length_us).unwrap();
            for us in [us, us / length_us * length_us, (us / length_us * length_us).saturating_sub(1), small] {
                prop_assert_eq!(window.divide(us), (us / length_us, us % length_us));
            }
        }
    }

    /// Never more than L in any window, whatever arrives when; for L up to the number of cells exactly what
    /// an exact log admits, above that at least 98 % of it.
    #[test]
    fn cells_are_exact(
        limit in prop_oneof![1_u32..=64, 65_u32..300],
        gaps in prop::collection::vec(prop_oneof![Just(0_u64), 1_u64..50, 500_u64..3_000], 1..600),
        start in 0_u64..5_000,
    ) {
        let window = Sliding::new(limit, 1_000).unwrap();
        let arrivals: Vec<u64> = gaps.iter().scan(start, |now, gap| { *now += gap; Some(*now) }).collect();
        let admitted = admit_all(window, &arrivals);
        prop_assert!(fullest_window(&admitted, 1_000) <= limit as usize);
        let exact = exact_log(&arrivals, limit as usize, 1_000);
        if limit <= 64 {
            prop_assert_eq!(admitted.len(), exact);
        } else {
            prop_assert!(admitted.len() * 100 >= exact * 97, "{} of {exact}", admitted.len());
        }
    }

    /// A claim that is taken back leaves no trace.
    #[test]
    fn undone_claims_leave_no_trace(limit in 1_u32..200, before in 0_u32..250, now in 0_u64..10_000) {
        let window = Sliding::new(limit, 1_000).unwrap();
        let words = zeroed_words(window.words());
        let cells = Cells::new(window, &words);
        for _ in 0..before {
            let _ = cells.claim(now);
        }
        let standing = cells.standing(now + 10);
        if let Ok(claim) = cells.claim(now + 10) {
            cells.undo(claim);
        }
        prop_assert_eq!(cells.standing(now + 10), standing);
    }

    /// Requests of any cost: never more than L units in any window, and the time told for a refused one is the first
    /// at which its units are open.
    #[test]
    fn costs_are_taken_whole_or_not_at_all(
        limit in 1_u32..300,
        asked in prop::collection::vec((0_u64..200, 1_u32..40), 1..200),
    ) {
        let window = Sliding::new(limit, 1_000).unwrap();
        let words = zeroed_words(window.words());
        let cells = Cells::new(window, &words);
        let mut now = 5;
        let mut units = Vec::new();
        for (gap, cost) in asked {
            now += gap;
            let cost = cost.min(limit);
            let mut claims = Vec::new();
            let mut missing = cost;
            while missing > 0 {
                let Ok(claim) = cells.claim_up_to(now, missing) else { break };
                prop_assert!((1..=missing).contains(&claim.units));
                missing -= claim.units;
                claims.push(claim);
            }
            if missing == 0 {
                units.extend((0..cost).map(|_| now));
                prop_assert!(fullest_window(&units, 1_000) <= limit as usize);
                continue;
            }
            claims.into_iter().rev().for_each(|claim| cells.undo(claim));
            prop_assert!(cells.standing(now).remaining < cost);
            let opens = cells.opens_for(cost, now);
            prop_assert!(opens > now && cells.standing(opens).remaining >= cost);
            prop_assert!(cells.standing(opens - 1).remaining < cost);
        }
    }

    /// The time given with a refusal is the first at which a claim succeeds.
    #[test]
    fn refusals_tell_the_exact_time(limit in 1_u32..100, gaps in prop::collection::vec(0_u64..40, 100..200)) {
        let window = Sliding::new(limit, 1_000).unwrap();
        let words = zeroed_words(window.words());
        let cells = Cells::new(window, &words);
        let mut now = 0;
        for gap in gaps {
            now += gap;
            if let Err(opens_us) = cells.claim(now) {
                prop_assert!(opens_us > now);
                prop_assert_eq!(cells.standing(now).opens_us, opens_us);
                prop_assert_eq!(cells.closed_until(opens_us - 1), Some(opens_us));
                prop_assert_eq!(cells.closed_until(opens_us), None);
                prop_assert!(cells.standing(opens_us).remaining > 0);
            }
        }
    }

    #[test]
    fn records_survive_packing(
        numbers in any::<[u64; 6]>(), trace_id: u128, v4: Option<u32>, v6: u128,
        route in prop::option::of(0_u16..1_000), endpoint in prop::option::of((0_u16..9, 0_u16..9)),
        texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 8),
    ) {
        let record = Record {
            minor_version: u8::from(v4.is_some()),
            unix_us: numbers[0],
            generation: numbers[1],
            client_ip: v4.map_or(IpAddr::V6(Ipv6Addr::from(v6)), |v4| IpAddr::V4(Ipv4Addr::from(v4))),
            trace_id,
            route,
            endpoint,
            status: 429,
            code: Some(3),
            termination: 4,
            attempts: 2,
            delivery: Delivery::MaybeSent,
            bytes_in: numbers[2],
            bytes_out: numbers[3],
            duration_us: numbers[4],
            upstream_us: numbers[5],
            request_id: &texts[0],
            consumer: &texts[1],
            method: &texts[2],
            path: &texts[3],
            reason: &texts[4],
            referer: &texts[5],
            user_agent: &texts[6],
            listed: &texts[7],
        };
        let mut packed = Vec::new();
        record.pack(&mut packed);
        prop_assert_eq!(Record::unpack(&packed), Some(record));
        prop_assert_eq!(Record::unpack(&packed[..packed.len() - 1]), None);
        let steps_us = v4.map(|step| [u64::from(step); STEPS.len()]);
        let sample = Sample { steps_us, span: numbers[0], parent: numbers[1], record };
        sample.pack(&mut packed);
        prop_assert_eq!(Sample::unpack(&packed), Some(sample));
        prop_assert_eq!(Sample::unpack(&packed[..packed.len() - 1]), None);
    }
}

#[test]
fn windows_that_cannot_be() {
    assert!(Sliding::new(0, 1).is_none());
    assert!(Sliding::new(1, 0).is_none());
    assert!(Sliding::new(LIMIT_MAX + 1, 1).is_none());
    let large = Sliding::new(LIMIT_MAX, 1).unwrap();
    assert_eq!(large.words(), 1024 + 2);
}

#[test]
fn one_caller_gets_the_whole_quota() {
    for limit in [1, 7, 64, 100, 1_000, 100_000] {
        let window = Sliding::new(limit, 1_000_000).unwrap();
        let arrivals: Vec<u64> = (0..u64::from(limit) * 2).map(|index| 5_000_000 + index / 10).collect();
        assert_eq!(admit_all(window, &arrivals).len(), limit as usize);
    }
}

/// When a claim was made, as its thread saw it: not before the first, not after the second.
type Span = (u64, u64);

/// The most claims that certainly lie in one window, whenever within its span each was made.
fn certainly_in_one_window(mut spans: Vec<Span>, length_us: u64) -> usize {
    spans.sort_unstable();
    (0..spans.len())
        .map(|first| {
            let end = spans[first].0 + length_us;
            spans[first..].iter().take_while(|span| span.0 < end).filter(|span| span.1 < end).count()
        })
        .max()
        .unwrap_or(0)
}

#[test]
fn many_threads_never_admit_more() {
    let window = Sliding::new(100, 5_000).unwrap();
    let words = zeroed_words(window.words());
    let barrier = Barrier::new(8);
    let clock = || Clock::new().now().monotonic_us;
    let spans: Vec<Span> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let cells = Cells::new(window, &words);
                    let mut spans = Vec::new();
                    barrier.wait();
                    let end = clock() + 100_000;
                    loop {
                        let now = clock();
                        if now > end {
                            return spans;
                        }
                        if cells.claim(now).is_ok() {
                            spans.push((now, clock()));
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(spans.len() >= 100, "the quota was hardly used: {}", spans.len());
    assert!(certainly_in_one_window(spans, 5_000) <= 100);
}

#[test]
fn nobody_enters_on_what_is_no_longer_so() {
    let load = Load::new();
    let at_first = load.look();
    assert!(load.enter(at_first) && !load.enter(at_first) && load.enter(load.look()));
    assert_eq!(load.in_flight(), 2);
    let full = load.look();
    load.leave();
    assert!(!load.enter(full) && load.enter(load.look()));
    assert_eq!((load.in_flight(), load.look().begun()), (2, 3));
}

#[test]
fn the_log_ring_keeps_records_whole_and_counts_what_it_drops() {
    let (mut sender, mut receiver) = log_ring(64);
    for round in 0..100_u8 {
        sender.send(&[round; 20]);
        sender.send(&[round; 13]);
        assert_eq!(receiver.receive(), Some(&[round; 20][..]));
        assert_eq!(receiver.receive(), Some(&[round; 13][..]));
        assert_eq!(receiver.receive(), None);
    }
    sender.send(&[1; 60]);
    sender.send(&[2; 1]);
    assert_eq!(receiver.newly_dropped(), 1);
    assert_eq!(receiver.newly_dropped(), 0);
    assert_eq!(receiver.receive().map(<[u8]>::len), Some(60));
}

#[test]
fn names_are_counted_and_cut() {
    let callers = Callers::default();
    let long = "x".repeat(callers::NAME_BYTES_MAX + 1);
    callers.note(Some((7, b"acme")), 200, 100);
    callers.note(Some((7, b"acme")), 429, 101);
    callers.note(Some((7 + 512, long.as_bytes())), 503, 102);
    callers.note(None, 410, 103);
    let mut named: Vec<Calls> = callers.named().collect();
    named.sort_by_key(|calls| calls.key);
    let acme = Calls { key: 7, name: "acme".into(), calls: 2, refused: 1, failed: 0, last_s: 101 };
    assert_eq!(named[0], acme);
    assert_eq!((named[1].name.len(), named[1].failed, named.len()), (callers::NAME_BYTES_MAX, 1, 2));
    assert_eq!((callers.nameless().refused, callers.nameless().last_s), (1, 103));
    assert_eq!(callers.others(), Calls::default());
}

#[test]
fn who_finds_no_slot_is_counted_among_the_others() {
    let callers = Callers::new(2);
    for number in 1..=5_u64 {
        callers.note(Some((number, number.to_string().as_bytes())), 200, number);
    }
    assert_eq!((callers.named().count(), callers.others().calls, callers.others().last_s), (2, 3, 5));
}
