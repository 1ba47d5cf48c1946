//! The file of revocations: one per line, `jti:VALUE`, `sub:VALUE` or `kid:VALUE`.
//!
//! `until=TIME` and a blank may stand in front; what has ended is left out. A line that begins with `#` is a
//! comment. One bad line makes the whole file bad: who misspells a revocation must hear of it. Lines are
//! bounded and read one at a time, so a file of any size is no more in memory than what it lists.

use std::{
    fmt,
    io::{self, BufRead},
};

use crate::shared::revoked::{Entries, FOREVER, Fingerprints, Mark, UntilS};

use super::super::config::values::parse_time;

/// The longest value that can be revoked, in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 1024;
/// The longest line: a value, what stands before it, and its end.
const LINE_BYTES_MAX: usize = VALUE_BYTES_MAX + 64;

/// Why a list cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line, from 1; 0 when it is the file as a whole.
    line: usize,
    message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(formatter, "{}", self.message),
            line => write!(formatter, "line {line}: {}", self.message),
        }
    }
}

impl From<io::Error> for Mistake {
    fn from(error: io::Error) -> Self {
        Self { line: 0, message: format!("cannot be read: {error}") }
    }
}

/// Reads a list of at most `entries_max`.
///
/// # Errors
/// The first mistake in it.
pub fn read(
    mut from: impl BufRead,
    fingerprints: Fingerprints,
    entries_max: usize,
    now_s: i64,
) -> Result<Entries, Mistake> {
    let mut entries = Entries::default();
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        let taken = io::Read::take(&mut from, LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut text)?;
        if taken == 0 {
            break;
        }
        let wrong = |message: String| Mistake { line, message };
        if taken > LINE_BYTES_MAX {
            return Err(wrong(format!("longer than {LINE_BYTES_MAX} bytes")));
        }
        let text = std::str::from_utf8(&text).map_err(|_| wrong("not UTF-8".to_owned()))?.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (mark, value, until_s) = parse(text).map_err(wrong)?;
        if i64::from(until_s) <= now_s {
            continue;
        }
        if entries.len() == entries_max {
            return Err(wrong(format!("more than {entries_max} entries; see revocation.entries")));
        }
        entries.push(fingerprints, mark, value, until_s);
    }
    Ok(entries)
}

fn parse(text: &str) -> Result<(Mark, &str, UntilS), String> {
    let (until_s, entry) = match text.strip_prefix("until=") {
        None => (FOREVER, text),
        Some(rest) => {
            let (time, entry) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let seconds = parse_time(time).ok_or_else(|| {
                format!("\"{time}\" is not a time; write for example until=2027-06-30T12:00:00Z")
            })?;
            (until(seconds), entry.trim_start())
        }
    };
    let found = entry.split_once(':').and_then(|(word, value)| {
        let mark = Mark::ALL.into_iter().find(|mark| mark.word() == word)?;
        Some((mark, value.trim_start()))
    });
    // The line is not repeated: it may be a whole token by mistake.
    let (mark, value) = found.ok_or("not a revocation; write jti:VALUE, sub:VALUE or kid:VALUE")?;
    check_value(value)?;
    Ok((mark, value, until_s))
}

/// Whether `value` can be listed.
///
/// # Errors
/// Why not.
pub(crate) fn check_value(value: &str) -> Result<(), String> {
    if value.is_empty() || value.len() > VALUE_BYTES_MAX || value.chars().any(char::is_control) {
        return Err(format!("a value has 1 to {VALUE_BYTES_MAX} bytes and no control characters"));
    }
    Ok(())
}

/// `seconds` since the Unix epoch as the end of an entry; later than can be written is for ever.
pub(crate) fn until(seconds: i64) -> UntilS {
    UntilS::try_from(seconds.max(0)).unwrap_or(FOREVER)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::shared::revoked::{Revoked, Table};

    fn lists(text: &[u8], asked: &[(Mark, &str)]) -> Result<Vec<bool>, String> {
        let fingerprints = Fingerprints::new([0, 0]);
        let entries = read(text, fingerprints, 3, 1_000).map_err(|mistake| mistake.to_string())?;
        let revoked = Revoked::new(fingerprints, [Arc::new(Table::new(&entries)), Arc::default()]);
        Ok(asked.iter().map(|(mark, value)| revoked.lists(*mark, value, 1_000)).collect())
    }

    #[test]
    fn lines_are_read() {
        let text =
            "# comment\n\n  jti:a:b c # d \r\nuntil=1970-01-02  sub: acme\nuntil=1970-01-01 kid:k\nkid:x";
        let asked = [
            (Mark::Jti, "a:b c # d"),
            (Mark::Sub, "acme"),
            (Mark::Kid, "k"),
            (Mark::Kid, "x"),
            (Mark::Jti, "x"),
        ];
        assert_eq!(lists(text.as_bytes(), &asked), Ok(vec![true, true, false, true, false]));
        assert_eq!(lists(b"", &[(Mark::Jti, "")]), Ok(vec![false]));
    }

    #[test]
    fn one_bad_line_spoils_the_list() {
        let long = format!("jti:a\njti:{}\n", "x".repeat(2_000));
        for (text, mistake) in [
            (&b"jti:a\nabc\n"[..], "line 2: not a revocation"),
            (b"JTI:a", "line 1: not a revocation"),
            (b"jti:", "line 1: a value has 1 to 1024 bytes"),
            (b"jti: \n", "line 1: a value has 1 to 1024 bytes"),
            (b"jti:a\tb", "line 1: a value has 1 to 1024 bytes"),
            (b"until=soon jti:a", "line 1: \"soon\" is not a time"),
            (b"until=2027-01-01", "line 1: not a revocation"),
            (b"\nsub:\xff", "line 2: not UTF-8"),
            (b"jti:a\njti:b\njti:c\njti:d\n", "line 4: more than 3 entries"),
            (long.as_bytes(), "line 2: longer than 1088 bytes"),
        ] {
            let said = lists(text, &[]).unwrap_err();
            assert!(said.starts_with(mistake), "{said}");
        }
    }

    proptest! {
        /// Any bytes have a verdict, no mistake repeats what stands there, and what is revoked through one
        /// good line is listed.
        #[test]
        fn any_bytes_have_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..200), value in "[!-~]{1,40}") {
            let _ = lists(&bytes, &[]);
            let said = lists(format!("nonsense-{value}").as_bytes(), &[]);
            prop_assert!(said.is_err_and(|said| !said.contains("nonsense")));
            let line = format!("sub:{value}\n");
            prop_assert_eq!(lists(line.as_bytes(), &[(Mark::Sub, &value)]), Ok(vec![true]));
        }
    }
}
