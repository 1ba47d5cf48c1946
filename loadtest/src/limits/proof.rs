//! What can be said of a limiter from outside: pure arithmetic on when requests were sent and answered.
//!
//! A request was decided at some moment between its sending and its answer; more is not known. So a window
//! *certainly* held a request only if the whole of that stretch lies within the window, and *possibly* held it if the
//! stretch touches the window. A violation is claimed only where it is certain.

use std::collections::{BinaryHeap, VecDeque};

/// When one request can have been decided: from `sent_ns` to `answered_ns`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) sent_ns: u64,
    pub(crate) answered_ns: u64,
}

/// A window, and how many requests it held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fullest {
    pub(crate) start_ns: u64,
    pub(crate) count: u64,
}

/// Of all half-open windows of a length, the one that certainly held the most; of equals the first. `admitted` is in order of sending.
///
/// Such a window can be moved forward until it begins with a sending, so only those are looked at. From the last to
/// the first: what ends too late for one window ends too late for all earlier ones.
pub(crate) fn certain(admitted: &[Stretch], length_ns: u64) -> Fullest {
    let mut inside: BinaryHeap<u64> = BinaryHeap::new();
    let mut fullest = Fullest::default();
    for stretch in admitted.iter().rev() {
        inside.push(stretch.answered_ns);
        while inside.peek().is_some_and(|&answered_ns| answered_ns - stretch.sent_ns >= length_ns) {
            inside.pop();
        }
        if inside.len() as u64 >= fullest.count {
            fullest = Fullest { start_ns: stretch.sent_ns, count: inside.len() as u64 };
        }
    }
    fullest
}

/// The most that any half-open window of a length can have held. `sent` and `answered` are each in ascending order.
///
/// Such a window can be moved on until it begins with an answer, so only those are looked at.
pub(crate) fn possible(sent: &[u64], answered: &[u64], length_ns: u64) -> u64 {
    let (mut begun, mut over, mut most) = (0, 0, 0);
    for &start_ns in answered {
        while begun < sent.len() && sent[begun].saturating_sub(start_ns) < length_ns {
            begun += 1;
        }
        while answered[over] < start_ns {
            over += 1;
        }
        most = most.max((begun - over) as u64);
    }
    most
}

/// How many requests an exact limiter would have admitted, had it decided each when it was sent. `windows` are pairs
/// of a limit and a length in nanoseconds; `sent` is in ascending order.
pub(crate) fn exact(sent: impl Iterator<Item = u64>, windows: &[(u64, u64)]) -> u64 {
    let longest_ns = windows.iter().map(|&(_, length_ns)| length_ns).max().unwrap_or(0);
    // Of the longest window; for each window the index of its first, counted from the beginning of time.
    let mut admitted: VecDeque<u64> = VecDeque::new();
    let mut dropped = 0;
    let mut firsts = vec![0; windows.len()];
    for now_ns in sent {
        let mut room = true;
        for (first, &(limit, length_ns)) in firsts.iter_mut().zip(windows) {
            while *first < dropped + admitted.len() && now_ns - admitted[*first - dropped] >= length_ns {
                *first += 1;
            }
            room &= ((dropped + admitted.len() - *first) as u64) < limit;
        }
        while admitted.front().is_some_and(|&first_ns| now_ns - first_ns >= longest_ns) {
            admitted.pop_front();
            dropped += 1;
        }
        if room {
            admitted.push_back(now_ns);
        }
    }
    (dropped + admitted.len()) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stretches(ends: &[(u64, u64)]) -> Vec<Stretch> {
        let mut stretches: Vec<Stretch> =
            ends.iter().map(|&(sent_ns, took)| Stretch { sent_ns, answered_ns: sent_ns + took }).collect();
        stretches.sort_unstable_by_key(|stretch| stretch.sent_ns);
        stretches
    }

    fn possible_of(stretches: &[Stretch], length_ns: u64) -> u64 {
        let sent: Vec<u64> = stretches.iter().map(|stretch| stretch.sent_ns).collect();
        let mut answered: Vec<u64> = stretches.iter().map(|stretch| stretch.answered_ns).collect();
        answered.sort_unstable();
        possible(&sent, &answered, length_ns)
    }

    #[test]
    fn only_what_lies_wholly_inside_is_certain() {
        // Three within 10, of which the last was answered at 10: that may have been decided outside.
        let admitted = stretches(&[(0, 1), (4, 2), (8, 2)]);
        assert_eq!(certain(&admitted, 10), Fullest { start_ns: 0, count: 2 });
        assert_eq!(certain(&admitted, 11).count, 3);
        assert_eq!(possible_of(&admitted, 8), 3, "decided at 1, 5 and 8 is possible");
        assert_eq!(possible_of(&admitted, 7), 2);
        assert_eq!(possible_of(&stretches(&[(0, 1), (11, 2)]), 10), 1);
    }

    proptest! {
        /// Against counting every window one after the other.
        #[test]
        fn agrees_with_counting(ends in prop::collection::vec((0u64..60, 0u64..12), 0..30), length in 1u64..40) {
            let admitted = stretches(&ends);
            let inside = |from: u64| admitted.iter()
                .filter(|s| s.sent_ns >= from && s.answered_ns < from + length).count() as u64;
            let touched = |from: i64| admitted.iter()
                .filter(|s| s.answered_ns as i64 >= from && (s.sent_ns as i64) < from + length as i64).count() as u64;
            prop_assert_eq!(certain(&admitted, length).count, (0..80).map(inside).max().unwrap_or(0));
            prop_assert_eq!(possible_of(&admitted, length), (-50..80).map(touched).max().unwrap_or(0));
        }

        /// Whatever an exact limiter admits is never called a violation, and another request is.
        #[test]
        fn an_exact_limiter_is_never_accused(gaps in prop::collection::vec(0u64..9, 1..200), limit in 1u64..6, length in 5u64..50) {
            let mut now = 0;
            let sent: Vec<u64> = gaps.iter().map(|gap| { now += gap; now }).collect();
            let mut admitted: Vec<u64> = Vec::new();
            for &at in &sent {
                if (admitted.iter().filter(|&&other| at - other < length).count() as u64) < limit {
                    admitted.push(at);
                }
            }
            prop_assert_eq!(exact(sent.iter().copied(), &[(limit, length), (1_000_000, 7)]), admitted.len() as u64);
            // Decided at `at`, sent before and answered after it.
            let around = |at: &u64| (at.saturating_sub(2), 5);
            let seen: Vec<(u64, u64)> = admitted.iter().map(around).collect();
            prop_assert!(certain(&stretches(&seen), length).count <= limit);
        }
    }
}
