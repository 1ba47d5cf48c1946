//! Quotas as operators write them: the grammar of Flask-Limiter's `limits`, without what cannot be meant.
//!
//! `COUNT/UNIT`, `COUNT per N UNITs`, several joined by `;`, `,` or `|`; case and blanks do not matter. A
//! month is 30 days and a year 360, as there. Refused, although `limits` takes them: a count of zero, a
//! multiple of zero, the same window twice.

use std::fmt;

use crate::shared::cells::{LIMIT_MAX, Window};

/// Windows one quota may have.
pub const WINDOWS_MAX: usize = 8;

/// One or more windows, longest first: the order in which they are claimed.
#[derive(Clone, PartialEq, Eq)]
pub struct Quota {
    windows: Vec<Window>,
}

/// What is wrong with a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaError(pub String);

impl Quota {
    /// Parses `text`.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Self, QuotaError> {
        let mut windows = Vec::new();
        for part in text.split([';', ',', '|']) {
            windows.push(parse_window(part)?);
        }
        windows.sort_by_key(|window| std::cmp::Reverse(window.length_us()));
        if windows.len() > WINDOWS_MAX {
            return Err(QuotaError(format!("a quota has at most {WINDOWS_MAX} windows")));
        }
        if windows.windows(2).any(|pair| pair[0].length_us() == pair[1].length_us()) {
            return Err(QuotaError(format!(
                "\"{text}\" limits the same window twice; keep the smaller count"
            )));
        }
        Ok(Self { windows })
    }

    /// The windows, longest first.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }
}

/// `100/1s;1000/60s`, shortest first.
impl fmt::Debug for Quota {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, window) in self.windows.iter().rev().enumerate() {
            let separator = if index == 0 { "" } else { ";" };
            write!(formatter, "{separator}{}/{}s", window.limit(), window.length_us() / 1_000_000)?;
        }
        Ok(())
    }
}

fn parse_window(part: &str) -> Result<Window, QuotaError> {
    let wrong = |why: &str| {
        QuotaError(format!(
            "\"{}\": {why}; write for example \"100/second\" or \"10 per 5 minutes\"",
            part.trim()
        ))
    };
    let lower = part.to_ascii_lowercase();
    let (count, rest) = take_number(lower.trim());
    let count = count.ok_or_else(|| wrong("a quota begins with a count"))?;
    let rest = rest.strip_prefix('/').or_else(|| rest.strip_prefix("per"));
    let rest = rest.ok_or_else(|| wrong("\"/\" or \"per\" must follow the count"))?;
    let (multiple, unit) = take_number(rest.trim());
    let seconds = match unit.strip_suffix('s').unwrap_or(unit) {
        "second" => 1,
        "minute" => 60,
        "hour" => 3_600,
        "day" => 86_400,
        "month" => 30 * 86_400,
        "year" => 360 * 86_400,
        _ => return Err(wrong("the unit is second, minute, hour, day, month or year")),
    };
    let multiple = multiple.unwrap_or(1);
    if count == 0 || multiple == 0 {
        return Err(wrong("a quota of zero admits nothing"));
    }
    u32::try_from(count)
        .ok()
        .zip(multiple.checked_mul(seconds).and_then(|seconds| seconds.checked_mul(1_000_000)))
        .filter(|&(_, length_us)| length_us <= LENGTH_US_MAX)
        .and_then(|(limit, length_us)| Window::new(limit, length_us))
        .ok_or_else(|| wrong(&format!("counts go up to {LIMIT_MAX} and windows up to ten years")))
}

const LENGTH_US_MAX: u64 = 10 * 360 * 86_400 * 1_000_000;

/// The digits `text` begins with, as a number, and what follows them without blanks in front.
fn take_number(text: &str) -> (Option<u64>, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = match &text[..digits] {
        "" => None,
        digits => Some(digits.parse().unwrap_or(u64::MAX)),
    };
    (number, text[digits..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(text: &str) -> Option<Vec<(u32, u64)>> {
        let quota = Quota::parse(text).ok()?;
        Some(quota.windows().iter().rev().map(|w| (w.limit(), w.length_us() / 1_000_000)).collect())
    }

    #[test]
    fn what_limits_accepts() {
        assert_eq!(windows("10/second;10/minute"), Some(vec![(10, 1), (10, 60)]));
        assert_eq!(windows("10/minute, 5/second"), Some(vec![(5, 1), (10, 60)]));
        assert_eq!(windows("1/hour|1/day"), Some(vec![(1, 3_600), (1, 86_400)]));
        assert_eq!(windows("10 per 5 minutes"), Some(vec![(10, 300)]));
        assert_eq!(windows("10/5minutes"), Some(vec![(10, 300)]));
        assert_eq!(windows("1persecond"), Some(vec![(1, 1)]));
        assert_eq!(windows("10per2day"), Some(vec![(10, 172_800)]));
        assert_eq!(windows(" 10 PER Second\n"), Some(vec![(10, 1)]));
        assert_eq!(windows("3/month"), Some(vec![(3, 2_592_000)]));
        assert_eq!(windows("3/year"), Some(vec![(3, 31_104_000)]));
        assert_eq!(format!("{:?}", Quota::parse("1000/minute;100/second").unwrap()), "100/1s;1000/60s");
    }

    #[test]
    fn what_limits_refuses_and_we_too() {
        for text in [
            "",
            "10/second;",
            "10/second;;5/minute",
            "10/week",
            "10/s",
            "1.5/second",
            "-1/second",
            "10 second",
            "１０/second",
            "/second",
            "second",
            "10//second",
            "10/second 5/minute",
        ] {
            assert_eq!(windows(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_only_we_refuse() {
        for text in [
            "0/second",
            "10/0 second",
            "10/second:;5/minute",
            "5/second;9/second",
            "1/60 second;1/minute",
            "99999999999/second",
            "1/11years",
            "1/18446744073709551616 seconds",
        ] {
            assert_eq!(windows(text), None, "{text:?}");
        }
    }
}
