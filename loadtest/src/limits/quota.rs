//! Quotas such as `100/second;1000 per 5 minutes`: how many requests any window of some length may hold.

use std::{fmt, str::FromStr, time::Duration};

/// Windows of one client; more are refused.
const WINDOWS_MAX: usize = 16;

/// One client's quota: every one of its windows holds at the same time. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quota(Vec<Window>);

/// At most `limit` in any half-open stretch of time of this `length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) limit: u64,
    pub(crate) length: Duration,
}

impl Quota {
    pub(crate) fn windows(&self) -> &[Window] {
        &self.0
    }

    /// The highest rate that any of its windows allows, in requests per second.
    pub(crate) fn rate_max(&self) -> f64 {
        self.0.iter().map(|window| window.limit as f64 / window.length.as_secs_f64()).fold(0.0, f64::max)
    }

    pub(crate) fn shortest(&self) -> Duration {
        self.0.iter().map(|window| window.length).min().unwrap_or_default()
    }
}

impl FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let windows: Vec<Window> =
            text.split([';', ',']).map(|part| part.trim().parse()).collect::<Result<_, _>>()?;
        if windows.len() > WINDOWS_MAX {
            return Err(format!("at most {WINDOWS_MAX} windows"));
        }
        Ok(Self(windows))
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("{text:?} is not like 100/second or 10 per 5 minutes");
        let (count, rest) = text.split_once('/').or_else(|| text.split_once(" per ")).ok_or_else(fault)?;
        let limit = count.trim().parse().ok().filter(|&limit: &u64| limit > 0).ok_or_else(fault)?;
        let rest = rest.trim();
        let (number, unit) = match rest.split_once(' ') {
            Some((number, unit)) => (number.parse().map_err(|_| fault())?, unit.trim()),
            None => (1, rest),
        };
        let seconds: u64 = match unit.strip_suffix('s').unwrap_or(unit) {
            "second" => 1,
            "minute" => 60,
            "hour" => 3_600,
            "day" => 86_400,
            _ => return Err(fault()),
        };
        let length = seconds.checked_mul(number).filter(|&length| length > 0 && length <= 366 * 86_400);
        Ok(Self { limit, length: Duration::from_secs(length.ok_or_else(fault)?) })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} in {}", self.limit, humantime::format_duration(self.length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_gateway_reads() {
        let quota: Quota = "100/second; 1000 per 5 minutes,2/hour".parse().expect("a quota");
        let read: Vec<(u64, u64)> =
            quota.0.iter().map(|window| (window.limit, window.length.as_secs())).collect();
        assert_eq!(read, [(100, 1), (1000, 300), (2, 3600)]);
        assert_eq!((quota.rate_max(), quota.shortest().as_secs()), (100.0, 1));
        for text in [
            "",
            "100",
            "0/second",
            "-1/second",
            "1/week",
            "1 per 0 seconds",
            "1 per x days",
            "5/second;",
            "1/",
        ] {
            assert!(text.parse::<Quota>().is_err(), "{text:?} was taken");
        }
    }
}
