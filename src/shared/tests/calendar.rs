//! Quotas by the calendar: when periods end, and clocks that are set back.

use jiff::Timestamp;

use crate::base::clock::Moment;

use super::super::{
    calendar::{Calendar, Period},
    window::Standing,
};

const SECOND_US: u64 = 1_000_000;

/// This time of the wall clock, a week after the machine started.
fn at(time: &str) -> Moment {
    let time: Timestamp = time.parse().unwrap();
    let unix_us = u64::try_from(time.as_microsecond()).unwrap();
    Moment { monotonic_us: 7 * 86_400 * SECOND_US, unix_us }
}

#[test]
fn all_come_back_when_the_period_ends() {
    for (period, now, seconds) in [
        (Period::Minute, "2026-11-24T23:59:58Z", 2),
        (Period::Hour, "2026-11-24T23:00:00Z", 3_600),
        (Period::Day, "2026-11-24T23:59:00Z", 60),
        (Period::Month, "2026-02-28T00:00:00Z", 86_400),
        (Period::Month, "2028-02-28T00:00:00Z", 2 * 86_400),
        (Period::Month, "2026-12-31T23:59:59Z", 1),
        (Period::Year, "2026-12-31T00:00:00Z", 86_400),
    ] {
        let calendar = Calendar::new(2, period).unwrap();
        let now = at(now);
        let once = calendar.claim(0, 1, now).unwrap();
        let twice = calendar.claim(once, 1, now).unwrap();
        let ends_us = now.monotonic_us + seconds * SECOND_US;
        assert_eq!(calendar.claim(twice, 1, now), Err(ends_us), "{period:?}");
        let standing = Standing { remaining: 0, opens_us: ends_us, full_us: ends_us };
        assert_eq!(calendar.standing(twice, now), standing);
        let later = Moment { monotonic_us: ends_us, unix_us: now.unix_us + seconds * SECOND_US };
        assert_eq!(calendar.standing(twice, later).remaining, 2, "{period:?}");
        let earlier = Moment { monotonic_us: ends_us - 1, unix_us: later.unix_us - 1 };
        assert_eq!(calendar.standing(twice, earlier).remaining, 0, "{period:?}");
    }
}

#[test]
fn a_clock_that_is_set_back_opens_nothing() {
    let calendar = Calendar::new(1, Period::Day).unwrap();
    let used = calendar.claim(0, 1, at("2026-11-25T00:00:01Z")).unwrap();
    assert!(calendar.claim(used, 1, at("2026-11-24T23:59:59Z")).is_err());
    assert!(calendar.claim(used, 1, at("2026-11-26T00:00:00Z")).is_ok());
    // One that was wrong by years does not close a key for years.
    assert!(calendar.claim(used, 1, at("2026-01-01T00:00:00Z")).is_ok());
}

#[test]
fn what_was_taken_comes_back_within_its_period() {
    let calendar = Calendar::new(5, Period::Day).unwrap();
    let (today, tomorrow) = (at("2026-11-24T12:00:00Z"), at("2026-11-25T12:00:00Z"));
    let word = calendar.claim(0, 3, today).unwrap();
    assert_eq!(calendar.standing(Calendar::undo(word, 3, word), today).remaining, 5);
    let next = calendar.claim(word, 2, tomorrow).unwrap();
    assert_eq!(calendar.standing(Calendar::undo(next, 3, word), tomorrow).remaining, 3);
}
