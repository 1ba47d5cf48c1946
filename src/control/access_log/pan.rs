//! Card numbers in texts that are about to be logged: found and masked, digit by digit.
//!
//! A card number is 13 to 19 digits, in groups or not, whose check digit is right (ISO/IEC 7812-1, annex B). Groups
//! are parted by up to eight bytes of blanks, dashes and the like, in ASCII or not (a page that a number is copied from
//! has blanks that do not break), and digits may be percent- or backslash-escaped, also more than once. Groups are taken whole: digits glued to other digits are not a card number. What is escaped too
//! often to be read loses all its digits. Never decides by issuer: numbers of every issuer are masked, and one in
//! ten other numbers of that length is as well.

use std::borrow::Cow;

use crate::shared::record::TEXT_BYTES_MAX;

use super::escapes::{Letter, ROUNDS, letters_of, unescape};

/// Digits of a card number.
const DIGITS: std::ops::RangeInclusive<usize> = 13..=19;
/// Bytes that may part two groups of one number.
const GAP_MAX: usize = 8;
/// Bytes an escape can have: `\u0034`.
const ESCAPE_BYTES_MAX: usize = 6;

/// `text` with a `*` for each byte of each digit of a card number in it.
pub(in crate::control) fn mask(text: &[u8]) -> Cow<'_, [u8]> {
    mask_cut(text, TEXT_BYTES_MAX)
}

/// The same for a text of which no more than `bytes_max` are left.
pub(super) fn mask_cut(text: &[u8], bytes_max: usize) -> Cow<'_, [u8]> {
    let is_cut = text.len() >= bytes_max;
    if !is_cut && !is_suspect(text) {
        return Cow::Borrowed(text);
    }
    let mut hits = vec![false; text.len()];
    let mut letters = letters_of(text);
    for round in 0..=ROUNDS {
        search(&letters, is_cut, &mut hits);
        let read = unescape(&letters);
        if read.len() == letters.len() {
            break;
        }
        if round == ROUNDS {
            hits.iter_mut().zip(text).for_each(|(hit, byte)| *hit |= byte.is_ascii_digit());
        }
        letters = read;
    }
    if !hits.contains(&true) {
        return Cow::Borrowed(text);
    }
    text.iter().zip(hits).map(|(&byte, hit)| if hit { b'*' } else { byte }).collect::<Vec<u8>>().into()
}

/// Whether a closer look is needed: nearly all texts have too few digits in a row and no escapes.
fn is_suspect(text: &[u8]) -> bool {
    let mut digits = 0;
    for &byte in text {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'%' | b'\\' => {
                return text.iter().filter(|byte| byte.is_ascii_digit()).count() >= *DIGITS.start();
            }
            byte if parts(byte) => {}
            _ => digits = 0,
        }
        if digits >= *DIGITS.start() {
            return true;
        }
    }
    false
}

/// Digits that follow each other.
struct Group {
    from: usize,
    to: usize,
}

/// Marks the card numbers among `letters`.
fn search(letters: &[Letter], is_cut: bool, hits: &mut [bool]) {
    let letters = if is_cut { &letters[..letters.len() - begun_escape(letters)] } else { letters };
    let mut chain: Vec<Group> = Vec::new();
    let mut at = 0;
    while at < letters.len() {
        let from = at;
        while letters.get(at).is_some_and(|letter| letter.byte.is_ascii_digit()) {
            at += 1;
        }
        if from == at {
            at += 1;
            continue;
        }
        let follows = chain.last().is_some_and(|before| {
            from - before.to <= GAP_MAX && letters[before.to..from].iter().all(|letter| parts(letter.byte))
        });
        if !follows {
            search_chain(letters, &chain, hits);
            chain.clear();
        }
        chain.push(Group { from, to: at });
    }
    search_chain(letters, &chain, hits);
    // The check digit of a number that was cut off is gone.
    if let Some(last) = chain.last()
        && is_cut
        && letters.len() - last.to < ESCAPE_BYTES_MAX
    {
        for group in chain.iter().rev().take(*DIGITS.end()) {
            strike(letters, group, hits);
        }
    }
}

/// How many of the last letters are an escape that may have lost its end.
fn begun_escape(letters: &[Letter]) -> usize {
    let tail = &letters[letters.len().saturating_sub(ESCAPE_BYTES_MAX - 1)..];
    let begun = tail.iter().rposition(|letter| b"%\\".contains(&letter.byte));
    let belongs = |letter: &Letter| letter.byte.is_ascii_hexdigit() || b"xu".contains(&letter.byte);
    begun.filter(|&at| tail[at + 1..].iter().all(belongs)).map_or(0, |at| tail.len() - at)
}

/// Whether `byte` can stand between two groups of one number.
fn parts(byte: u8) -> bool {
    b" -+._/\\\t\r\n".contains(&byte) || !byte.is_ascii()
}

/// Marks each run of whole groups that is a card number.
fn search_chain(letters: &[Letter], chain: &[Group], hits: &mut [bool]) {
    for first in 0..chain.len() {
        let mut number = Vec::with_capacity(*DIGITS.end());
        for last in first..chain.len() {
            let group = &chain[last];
            if number.len() + (group.to - group.from) > *DIGITS.end() {
                break;
            }
            number.extend(letters[group.from..group.to].iter().map(|letter| letter.byte - b'0'));
            if DIGITS.contains(&number.len()) && has_check_digit(&number) {
                chain[first..=last].iter().for_each(|group| strike(letters, group, hits));
            }
        }
    }
}

fn strike(letters: &[Letter], group: &Group, hits: &mut [bool]) {
    for letter in &letters[group.from..group.to] {
        hits[letter.from..letter.to].fill(true);
    }
}

/// The Luhn sum, doubling every second digit from the right.
fn has_check_digit(number: &[u8]) -> bool {
    let sum: u32 = number
        .iter()
        .rev()
        .enumerate()
        .map(|(place, &digit)| {
            u32::from(if place % 2 == 0 { digit } else { digit * 2 / 10 + digit * 2 % 10 })
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(text: &str) -> String {
        String::from_utf8(mask(text.as_bytes()).into_owned()).unwrap()
    }

    /// `digits` and what makes their sum right.
    fn card(digits: &[u8]) -> Vec<u8> {
        let check = (0..10).map(|check| [digits, &[check]].concat()).find(|number| has_check_digit(number));
        check.unwrap().iter().map(|digit| digit + b'0').collect()
    }

    fn escaped(byte: u8, way: u8) -> String {
        match way {
            0 => char::from(byte).to_string(),
            1 => format!("%{byte:02x}"),
            2 => format!("\\u00{byte:02X}"),
            3 => format!("\\x{byte:02x}"),
            4 => format!("%25{byte:02X}"),
            _ => format!("%255c%75%30%30{byte:02x}"),
        }
    }

    #[test]
    fn card_numbers_are_masked_and_the_rest_stays() {
        for (text, expected) in [
            ("/pay/4111111111111111/x", "/pay/****************/x"),
            ("card4111111111111111x", "card****************x"),
            ("4111-1111 1111_1111", "****-**** ****_****"),
            ("3782 822463 10005, 7", "**** ****** *****, 7"),
            ("12 4111111111111111", "12 ****************"),
            ("/%34111111111111111", "/******************"),
            ("a%20%204111111111111111", "a%20%20****************"),
            ("a%25204111111111111111", "a%2520****************"),
            ("4111111111111112", "4111111111111112"),
            ("4111\u{a0}1111\u{2009}1111 \u{2013} 1111", "****\u{a0}****\u{2009}**** \u{2013} ****"),
            ("4111%C2%A01111%E2%80%931111%0d%0a1111", "****%C2%A0****%E2%80%93****%0d%0a****"),
            ("4111    1111\\n1111\\/1111", "****    ****\\n****\\/****"),
            ("41111111111111110000", "41111111111111110000"),
            ("/2026/11/23", "/2026/11/23"),
        ] {
            assert_eq!(masked(text), expected, "{text}");
        }
    }

    #[test]
    fn a_number_that_was_cut_off_is_masked_as_far_as_it_is_there() {
        let text = format!("{}411111111111", "x".repeat(TEXT_BYTES_MAX - 12));
        assert!(masked(&text).ends_with("x************"));
    }

    /// Broken by a cut within an escape behind which the rest of a number looks like a number of its own.
    #[test]
    fn wherever_a_number_is_cut_off_no_more_than_a_digit_is_left() {
        for way in 0..5 {
            let number: String = b"4111111111111111".iter().map(|&digit| escaped(digit, way)).collect();
            for bytes_max in 40..=number.len() {
                let cut = mask_cut(&number.as_bytes()[..bytes_max], bytes_max).into_owned();
                let mut letters = letters_of(&cut);
                for _ in 0..ROUNDS {
                    letters = unescape(&letters);
                }
                letters.truncate(letters.len() - begun_escape(&letters));
                let digits = letters.iter().filter(|letter| letter.byte.is_ascii_digit()).count();
                assert!(digits <= 1, "{} of {number}", String::from_utf8_lossy(&cut));
            }
        }
    }

    #[test]
    fn what_is_escaped_too_often_loses_its_digits() {
        let text = format!("%{}341111111111111111", "25".repeat(40));
        assert!(!masked(&text).contains(|character: char| character.is_ascii_digit()));
    }

    #[test]
    fn ordinary_ids_are_seldom_mistaken() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut rate = |make: &dyn Fn(&mut fastrand::Rng) -> String| {
            let mistaken = (0..50_000).filter(|_| {
                let id = make(&mut rng);
                masked(&id) != id
            });
            mistaken.count() as f64 / 50_000.0
        };
        let uuid = |rng: &mut fastrand::Rng| {
            let hex = format!("{:032x}", rng.u128(..));
            format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
        };
        let base32 = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let ulid = |rng: &mut fastrand::Rng| {
            let random: String = (0..16).map(|_| char::from(base32[rng.usize(..32)])).collect();
            format!("01KAQ{}{random}", rng.u32(10_000..100_000))
        };
        let rates = [
            ("UUIDs", rate(&uuid), 0.0..0.002),
            ("128 bits in hex", rate(&|rng| format!("{:032x}", rng.u128(..))), 0.0..0.006),
            ("ULIDs", rate(&ulid), 0.0..0.001),
            (
                "order numbers of 12 digits",
                rate(&|rng| format!("ord-{:012}", rng.u64(..1_000_000_000_000))),
                0.0..0.0001,
            ),
            (
                "times in microseconds",
                rate(&|rng| format!("/at/{}", 1_795_000_000_000_000 + rng.u64(..10_000_000_000_000))),
                0.08..0.12,
            ),
            (
                "numbers of 16 digits",
                rate(&|rng| format!("{:016}", rng.u64(..10_000_000_000_000_000))),
                0.08..0.12,
            ),
        ];
        for (what, rate, expected) in rates {
            assert!(expected.contains(&rate), "{what}: {rate}");
        }
    }

    proptest! {
        #[test]
        fn no_card_number_is_left(
            digits in prop::collection::vec(0_u8..10, 12..=18),
            ways in prop::collection::vec(0_u8..6, 19),
            gaps in prop::collection::vec(prop::sample::select(vec!["", "", "", " ", "-", " - ", "+", "%20", "_", "."]), 19),
            before in "([a-zA-Z=:, ?&;]|[0-9]{1,8} ){0,20}[a-z]",
            after in "([^0-9%\\\\]{1,20})?",
        ) {
            let number = card(&digits);
            let mut text = before.clone();
            for (place, &digit) in number.iter().enumerate() {
                if place > 0 {
                    text.push_str(gaps[place]);
                }
                text.push_str(&escaped(digit, ways[place]));
            }
            text.push_str(&after);
            let out = mask(text.as_bytes());
            // Read as often as anybody might: none of the number's digits is left where it stood.
            let mut letters = letters_of(&out);
            for _ in 0..ROUNDS {
                letters = unescape(&letters);
            }
            let tail: Vec<u8> = letters.iter().map(|letter| letter.byte).skip(before.len()).collect();
            let left: Vec<u8> = tail.into_iter().filter(u8::is_ascii_digit).collect();
            prop_assert!(left.is_empty(), "{text} became {}", String::from_utf8_lossy(&out));
        }
    }
}
