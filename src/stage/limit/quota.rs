//! Quotas as operators write them: the grammar of Flask-Limiter's `limits`, without what cannot be meant.
//!
//! `COUNT/UNIT`, `COUNT per N UNITs`, several joined by `;`, `,` or `|`; case and blanks do not matter. A
//! month is 30 days and a year 360, as there, unless the quota goes by the calendar. Refused, although `limits` takes
//! them: a count of zero, a multiple of zero, the same window twice.

use std::fmt;

use crate::shared::{
    bucket::Bucket,
    calendar::{Calendar, Period},
    cells::{LIMIT_MAX, Sliding},
    window::{WINDOWS_MAX, Window},
};

/// One or more windows, longest first: the order in which they are claimed.
#[derive(Clone, PartialEq, Eq)]
pub struct Quota {
    windows: Vec<Window>,
}

/// What is wrong with a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaError(pub String);

impl Quota {
    /// Parses `text` as sliding windows: so many in any stretch of time of that length.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Self, QuotaError> {
        Self::parsed(text, |rate| {
            let length_us = rate.length_us()?;
            Sliding::new(rate.count, length_us).map(Window::Sliding).ok_or_else(too_much)
        })
    }

    /// Parses `text` as periods of the calendar: so many in each, from its first second on.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn calendar(text: &str) -> Result<Self, QuotaError> {
        Self::parsed(text, |rate| {
            let period = match (rate.multiple, rate.unit) {
                (1, Unit::Minute) => Period::Minute,
                (1, Unit::Hour) => Period::Hour,
                (1, Unit::Day) => Period::Day,
                (1, Unit::Month) => Period::Month,
                (1, Unit::Year) => Period::Year,
                _ => return Err("the calendar has a minute, hour, day, month or year".into()),
            };
            Calendar::new(rate.count, period).map(Window::Calendar).ok_or_else(too_much)
        })
    }

    /// Parses `rate`, such as `10/second`, as that of a bucket which holds `burst` units.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn bucket(rate: &str, burst: u32) -> Result<Self, QuotaError> {
        let quota = Self::parsed(rate, |rate| {
            let bucket = Bucket::new(burst, rate.count, rate.length_us()?);
            bucket.map(Window::Bucket).ok_or_else(|| "such a bucket would take years to fill".into())
        })?;
        if quota.windows.len() > 1 {
            return Err(QuotaError(format!("\"{rate}\": a bucket has one rate")));
        }
        Ok(quota)
    }

    fn parsed(text: &str, window: impl Fn(&Rate) -> Result<Window, String>) -> Result<Self, QuotaError> {
        let mut windows = Vec::new();
        for part in text.split([';', ',', '|']) {
            windows.push(Rate::parse(part).and_then(|rate| window(&rate)).map_err(|why| {
                let part = part.trim();
                QuotaError(format!(
                    "\"{part}\": {why}; write for example \"100/second\" or \"10 per 5 minutes\""
                ))
            })?);
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

    /// A quota of `windows`, which another process had in use.
    pub fn of(windows: Vec<Window>) -> Self {
        Self { windows }
    }

    /// The windows, longest first.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }
}

/// `100/1s;1000/60s`, shortest first; `1000/day by the calendar`; `10/1s in bursts of 20`.
impl fmt::Debug for Quota {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, window) in self.windows.iter().rev().enumerate() {
            formatter.write_str(if index == 0 { "" } else { ";" })?;
            let limit = window.limit();
            match window {
                Window::Sliding(sliding) => {
                    write!(formatter, "{limit}/{}s", sliding.length_us() / 1_000_000)?;
                }
                Window::Calendar(calendar) => {
                    let period = match calendar.period() {
                        Period::Minute => "minute",
                        Period::Hour => "hour",
                        Period::Day => "day",
                        Period::Month => "month",
                        Period::Year => "year",
                    };
                    write!(formatter, "{limit}/{period} by the calendar")?;
                }
                Window::Bucket(bucket) => {
                    let (rate, per_us) = bucket.rate();
                    write!(formatter, "{rate}/{}s in bursts of {limit}", per_us / 1_000_000)?;
                }
            }
        }
        Ok(())
    }
}

/// `COUNT per MULTIPLE UNITs`.
struct Rate {
    count: u32,
    multiple: u64,
    unit: Unit,
}

#[derive(Clone, Copy)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Month,
    Year,
}

impl Rate {
    fn parse(part: &str) -> Result<Self, String> {
        let lower = part.to_ascii_lowercase();
        let (count, rest) = take_number(lower.trim());
        let count = count.ok_or("a quota begins with a count")?;
        let rest = rest.strip_prefix('/').or_else(|| rest.strip_prefix("per"));
        let rest = rest.ok_or("\"/\" or \"per\" must follow the count")?;
        let (multiple, unit) = take_number(rest.trim());
        let unit = match unit.strip_suffix('s').unwrap_or(unit) {
            "second" => Unit::Second,
            "minute" => Unit::Minute,
            "hour" => Unit::Hour,
            "day" => Unit::Day,
            "month" => Unit::Month,
            "year" => Unit::Year,
            _ => return Err("the unit is second, minute, hour, day, month or year".into()),
        };
        let multiple = multiple.unwrap_or(1);
        if count == 0 || multiple == 0 {
            return Err("a quota of zero admits nothing".into());
        }
        let count = u32::try_from(count).map_err(|_| too_much())?;
        Ok(Self { count, multiple, unit })
    }

    /// Microseconds, a month being 30 days and a year 360.
    fn length_us(&self) -> Result<u64, String> {
        let seconds = match self.unit {
            Unit::Second => 1,
            Unit::Minute => 60,
            Unit::Hour => 3_600,
            Unit::Day => 86_400,
            Unit::Month => 30 * 86_400,
            Unit::Year => 360 * 86_400,
        };
        let length_us = self.multiple.checked_mul(seconds).and_then(|seconds| seconds.checked_mul(1_000_000));
        length_us.filter(|&length_us| length_us <= LENGTH_US_MAX).ok_or_else(too_much)
    }
}

fn too_much() -> String {
    format!("counts go up to {LIMIT_MAX} and windows up to ten years")
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
    fn by_the_calendar_and_in_buckets() {
        let shown = |quota: Result<Quota, QuotaError>| format!("{:?}", quota.unwrap());
        assert_eq!(
            shown(Quota::calendar("10/hour;1000 per day")),
            "10/hour by the calendar;1000/day by the calendar"
        );
        assert_eq!(shown(Quota::calendar("5/month")), "5/month by the calendar");
        assert_eq!(shown(Quota::bucket("10/second", 20)), "10/1s in bursts of 20");
        for text in ["10/second", "10 per 2 days", "10/day;20/day", "0/day"] {
            assert!(Quota::calendar(text).is_err(), "{text}");
        }
        for (rate, burst) in [("10/second;1/day", 5), ("1/year", 1_000), ("1/second", 0), ("1", 1)] {
            assert!(Quota::bucket(rate, burst).is_err(), "{rate} {burst}");
        }
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
