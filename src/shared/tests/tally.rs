//! Tallies: what counts, what is sown in cells, what comes back.

use super::super::{
    cells::{Cells, Sliding},
    sync::zeroed_words,
    tally::Tally,
};

/// Of a word, where they are counted.
const EPOCHS: u64 = 1 << 22;

fn window() -> Sliding {
    Sliding::new(100, 1_000).unwrap()
}

#[test]
fn two_epochs_count() {
    let window = window();
    let mut word = 0;
    for now_us in [5_100, 5_900, 6_000] {
        word = Tally::at(word, window, now_us).and(1, window, now_us).unwrap().word();
    }
    assert_eq!(Tally::at(word, window, 6_999).used(), 3);
    assert_eq!(Tally::at(word, window, 7_999).used(), 1);
    assert_eq!(Tally::at(word, window, 8_000).used(), 0);
    // A shard whose clock was read before the epoch began counts in it all the same.
    assert_eq!(Tally::at(word, window, 5_999).used(), 3);
    assert_eq!(Tally::at(word, window, 7_000).fresh_us(window, 7_000), 8_000);
    let years = 1_000 * EPOCHS;
    assert_eq!(Tally::at(word, window, 6_000 + years / 2).used(), 0);
}

#[test]
fn what_is_sown_is_as_late_as_it_can_have_been() {
    let window = window();
    let mut word = 0;
    for now_us in [5_100, 5_900, 6_000, 6_300] {
        word = Tally::at(word, window, now_us).and(10, window, now_us).unwrap().word();
    }
    let memory = zeroed_words(window.words());
    let cells = Cells::new(window, &memory);
    Tally::at(word, window, 6_400).sow(window, cells, u64::MAX);
    assert_eq!(cells.standing(6_400).remaining, 60);
    assert_eq!(cells.standing(6_999).remaining, 60);
    assert_eq!(cells.standing(7_000).remaining, 80);
    // To a 512th of the window.
    assert_eq!(cells.standing(7_300).remaining, 80);
    assert_eq!(cells.standing(7_302).remaining, 100);
    assert_eq!(Tally::of(cells, window, 6_400).used(), 40);
    assert!(Tally::of(cells, window, 6_400).fresh_us(window, 6_400) >= 7_300);
}

#[test]
fn units_come_back_while_they_count() {
    let window = window();
    let tally = Tally::at(0, window, 5_000).and(3, window, 5_000).unwrap();
    let word = tally.and(4, window, 5_500).unwrap().word();
    assert_eq!(Tally::at(Tally::without(word, 3, 5), window, 5_600).used(), 4);
    let next = Tally::at(word, window, 6_000).and(1, window, 6_000).unwrap().word();
    assert_eq!(Tally::at(Tally::without(next, 3, 5), window, 6_000).used(), 5);
    let after = Tally::at(next, window, 7_000).and(1, window, 7_000).unwrap().word();
    assert_eq!(Tally::without(after, 3, 5), after);
}

#[test]
fn a_window_of_years_is_counted_too() {
    let window = Sliding::new(1_000, 10 * 365 * 86_400 * 1_000_000).unwrap();
    let tally = Tally::at(0, window, 1 << 47).and(3, window, 1 << 47).unwrap();
    assert_eq!(Tally::at(tally.word(), window, 1 << 47).used(), 3);
    assert!(tally.fresh_us(window, 1 << 47) > 1 << 47);
}

#[test]
fn nothing_is_sown_later_than_the_clock_says() {
    let window = Sliding::new(100, 86_400_000_000).unwrap();
    let now_us = 1_000_000;
    let tally = Tally::at(0, window, now_us).and(5, window, now_us).unwrap();
    let memory = zeroed_words(window.words());
    let cells = Cells::new(window, &memory);
    tally.sow(window, cells, now_us + 7);
    assert_eq!(cells.standing(now_us).full_us, now_us + 7 + window.length_us());
    assert_eq!(tally.standing(100, window, now_us).full_us, now_us + window.length_us());
}
