//! How long an order of the admin API counts: `until` a time or for a `ttl`, or without an end.

use crate::control::config::values::parse_time;

/// When it ends, in seconds since the Unix epoch; never if neither is given.
///
/// # Errors
/// What is wrong with them.
pub(in crate::control) fn end_s(
    until: Option<&str>,
    ttl: Option<&str>,
    now_s: i64,
) -> Result<Option<i64>, String> {
    let end_s = match (until, ttl) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err("give until or ttl, not both".to_owned()),
        (Some(time), None) => parse_time(time)
            .ok_or_else(|| format!("until: \"{time}\" is not a time such as 2027-06-30T12:00:00Z"))?,
        (None, Some(length)) => {
            let length = humantime::parse_duration(length)
                .map_err(|_| format!("ttl: \"{length}\" is not a duration such as 1h"))?;
            // A part of a second more is better than one less.
            now_s.saturating_add(i64::try_from(length.as_secs()).unwrap_or(i64::MAX)).saturating_add(1)
        }
    };
    if end_s <= now_s { Err("the end has passed already".to_owned()) } else { Ok(Some(end_s)) }
}

/// An end as it is shown.
pub(in crate::control) fn shown(end_s: i64) -> Option<String> {
    jiff::Timestamp::from_second(end_s).ok().map(|moment| moment.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends() {
        assert_eq!(end_s(None, None, 0), Ok(None));
        assert_eq!(end_s(None, Some("1h"), 10), Ok(Some(3_611)));
        assert_eq!(end_s(None, Some("10ms"), 10), Ok(Some(11)));
        assert_eq!(end_s(Some("1970-01-01T00:01:00Z"), None, 10), Ok(Some(60)));
        for (until, ttl) in [
            (Some("1970-01-01T00:00:10Z"), None),
            (Some("soon"), None),
            (None, Some("an hour")),
            (Some("2100-01-01"), Some("1h")),
        ] {
            assert!(end_s(until, ttl, 10).is_err(), "{until:?} {ttl:?}");
        }
    }
}
