//! Pieces of lines: values as a JSON string or between quotation marks has them, numbers and times.
//!
//! Everything appends to a buffer that is there already. The writer thread shares the machine with the shards, so
//! what nearly all values are, plain text that is short and times of the same second, costs a look and a copy.

use jiff::Timestamp;

use crate::{
    base::hex::hex_digits,
    shared::listed::{Entry, VALUE_BYTES_MAX},
};

use super::redact;

/// A JSON object as it is written: each call appends the text up to and into the next value. The writer
/// thread shares the machine with the shards, and building lines this way costs it a third of what a
/// serializer does.
pub(super) struct JsonLine<'a> {
    pub(super) out: &'a mut Vec<u8>,
}

impl JsonLine<'_> {
    /// A value that needs no escape.
    pub(super) fn plain(&mut self, before: &[u8], value: &str) {
        self.out.extend_from_slice(before);
        self.out.extend_from_slice(value.as_bytes());
    }

    pub(super) fn number(&mut self, before: &[u8], value: u64) {
        self.out.extend_from_slice(before);
        number(self.out, value);
    }

    /// A value that may hold anything; a dash when it is empty.
    pub(super) fn text(&mut self, before: &[u8], value: &[u8]) {
        self.out.extend_from_slice(before);
        if value.is_empty() {
            self.out.push(b'-');
        } else if is_plain(value) {
            self.out.extend_from_slice(value);
        } else {
            let quoted = serde_json::Value::from(String::from_utf8_lossy(value)).to_string();
            self.out.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
        }
    }

    /// The members of an object: the values of those of `names` that are there.
    pub(super) fn entries<'e>(&mut self, names: &[Box<str>], entries: impl Iterator<Item = Entry<'e>>) {
        let mut before = "\"";
        for entry in entries {
            let Some(name) = names.get(entry.name) else { continue };
            self.plain(before.as_bytes(), name);
            self.text(b"\":\"", &redact::beginning(entry.value, VALUE_BYTES_MAX));
            self.out.push(b'"');
            before = ",\"";
        }
    }

    /// 32 lower-case hex digits.
    pub(super) fn hex(&mut self, number: u128) {
        self.out.extend_from_slice(&hex_digits(number));
    }
}

/// Whether JSON takes these bytes as they are. Looks at all of them rather than stopping at the first, so
/// that it becomes a handful of vector instructions.
fn is_plain(value: &[u8]) -> bool {
    let odd = |byte: u8| !(b' '..=b'~').contains(&byte) | (byte == b'"') | (byte == b'\\');
    !value.iter().fold(false, |any, &byte| any | odd(byte))
}

/// Appends text for between quotation marks, as nginx escapes it; a dash when it is empty.
pub(super) fn quoted(out: &mut Vec<u8>, value: &[u8]) {
    if value.is_empty() {
        out.push(b'-');
    } else if is_plain(value) {
        out.extend_from_slice(value);
    } else {
        value.iter().for_each(|&byte| escaped(out, byte, !is_plain(&[byte])));
    }
}

/// The same where no quotation marks enclose it: nor may it have a blank.
pub(super) fn quoted_word(out: &mut Vec<u8>, value: &[u8]) {
    if memchr::memchr(b' ', value).is_none() {
        return quoted(out, value);
    }
    value.iter().for_each(|&byte| escaped(out, byte, byte == b' ' || !is_plain(&[byte])));
}

/// Appends a byte, or its two hexadecimal digits.
fn escaped(out: &mut Vec<u8>, byte: u8, is_odd: bool) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    match is_odd {
        false => out.push(byte),
        true => out.extend([b'\\', b'x', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]),
    }
}

/// Appends a number.
pub(super) fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends `.` and six digits.
pub(super) fn micros(out: &mut Vec<u8>, unix_us: u64) {
    let mut digits = itoa::Buffer::new();
    out.push(b'.');
    out.extend_from_slice(&digits.format(1_000_000 + unix_us % 1_000_000).as_bytes()[1..]);
}

/// The text of a second, made once for all lines of that second.
pub(super) struct Second {
    /// In the notation of `strftime`.
    pattern: &'static str,
    known: Option<(u64, String)>,
}

impl Second {
    pub(super) fn new(pattern: &'static str) -> Self {
        Self { pattern, known: None }
    }

    pub(super) fn text(&mut self, unix_us: u64) -> &[u8] {
        let unix_s = unix_us / 1_000_000;
        if self.known.as_ref().is_none_or(|(known_s, _)| *known_s != unix_s) {
            let text = Timestamp::from_second(i64::try_from(unix_s).unwrap_or_default())
                .map(|time| time.strftime(self.pattern).to_string())
                .unwrap_or_default();
            self.known = Some((unix_s, text));
        }
        self.known.as_ref().map_or(b"", |(_, text)| text.as_bytes())
    }
}
