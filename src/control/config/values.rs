//! The small languages inside strings: durations, sizes, counts, addresses.

use std::{net::SocketAddr, time::Duration};

use bytesize::ByteSize;

use super::{
    defaults,
    issue::Issues,
    reader::{Field, Section},
};

/// A field that has a default: what was written, or what the table says.
fn or_default(
    section: &mut Section<'_, '_>,
    key: &'static str,
    written: Option<Field<String>>,
) -> Field<String> {
    written.unwrap_or_else(|| {
        let whole = section.key(key);
        // Tables in lists have one default for all: "cluster[3].balance" is "cluster.balance".
        let generic: String =
            whole.split('.').map(|part| part.split('[').next().unwrap_or(part)).collect::<Vec<_>>().join(".");
        Field { value: defaults::of(&generic).to_owned(), at: section.at(), key: whole }
    })
}

/// A string with a default.
pub(super) fn defaulted(section: &mut Section<'_, '_>, key: &'static str) -> Field<String> {
    let written = section.text(key);
    or_default(section, key, written)
}

/// A string or a number, with a default.
pub(super) fn defaulted_or_number(
    section: &mut Section<'_, '_>,
    key: &'static str,
    wanted: &str,
) -> Field<String> {
    let written = section.text_or_number(key, wanted);
    or_default(section, key, written)
}

/// A duration such as `"250ms"`, within `range` milliseconds.
pub(super) fn duration_ms(
    section: &mut Section<'_, '_>,
    key: &'static str,
    range: std::ops::RangeInclusive<u64>,
    issues: &Issues,
) -> u64 {
    let field = defaulted(section, key);
    duration_of(&field, range, issues)
}

/// A duration that may be left out.
pub(super) fn optional_duration_ms(
    section: &mut Section<'_, '_>,
    key: &'static str,
    range: std::ops::RangeInclusive<u64>,
    issues: &Issues,
) -> Option<u64> {
    let field = section.text(key)?;
    Some(duration_of(&field, range, issues))
}

/// A duration of whole seconds such as `"5s"`, within `range` seconds: what is compared with the whole
/// seconds of a token's dates.
pub(super) fn whole_seconds(
    section: &mut Section<'_, '_>,
    key: &'static str,
    range: std::ops::RangeInclusive<u64>,
    issues: &Issues,
) -> u64 {
    let field = defaulted(section, key);
    let milliseconds = duration_of(&field, range.start() * 1_000..=range.end() * 1_000, issues);
    if !milliseconds.is_multiple_of(1_000) {
        let message =
            format!("\"{}\" is not a whole number of seconds; write for example \"5s\"", field.value);
        field.wrong(issues, message);
    }
    milliseconds / 1_000
}

fn duration_of(field: &Field<String>, range: std::ops::RangeInclusive<u64>, issues: &Issues) -> u64 {
    let milliseconds = humantime::parse_duration(&field.value)
        .ok()
        .and_then(|length| u64::try_from(length.as_millis()).ok());
    match milliseconds {
        Some(milliseconds) if range.contains(&milliseconds) => milliseconds,
        Some(_) => {
            let (low, high) = (show_ms(*range.start()), show_ms(*range.end()));
            field.wrong(issues, format!("\"{}\" is out of range; {low} to {high} is possible", field.value));
            *range.start()
        }
        None => {
            let message =
                format!("\"{}\" is not a duration; write for example \"250ms\" or \"5s\"", field.value);
            field.wrong(issues, message);
            *range.start()
        }
    }
}

fn show_ms(milliseconds: u64) -> String {
    humantime::format_duration(Duration::from_millis(milliseconds)).to_string()
}

/// A size such as `"16KiB"` or a number of bytes, within `range`.
pub(super) fn bytes(
    section: &mut Section<'_, '_>,
    key: &'static str,
    range: std::ops::RangeInclusive<u64>,
    issues: &Issues,
) -> u64 {
    let written = section.text_or_number(key, "a size such as \"16KiB\"");
    let field = or_default(section, key, written);
    size_of(&field, range, issues)
}

/// A size that may be left out.
pub(super) fn optional_bytes(
    section: &mut Section<'_, '_>,
    key: &'static str,
    range: std::ops::RangeInclusive<u64>,
    issues: &Issues,
) -> Option<u64> {
    let field = section.text_or_number(key, "a size such as \"16KiB\"")?;
    Some(size_of(&field, range, issues))
}

fn size_of(field: &Field<String>, range: std::ops::RangeInclusive<u64>, issues: &Issues) -> u64 {
    match field.value.parse::<ByteSize>() {
        Ok(size) if range.contains(&size.as_u64()) => return size.as_u64(),
        Ok(_) => {
            let (low, high) = (ByteSize::b(*range.start()), ByteSize::b(*range.end()));
            let message = format!("\"{}\" is out of range; {low} to {high} is possible", field.value);
            field.wrong(issues, message);
        }
        Err(_) => {
            let message =
                format!("\"{}\" is not a size; write for example \"16KiB\", \"10MiB\" or 4096", field.value);
            field.wrong(issues, message);
        }
    }
    *range.start()
}

/// A whole number within `range`.
pub(super) fn number(
    section: &mut Section<'_, '_>,
    key: &'static str,
    range: std::ops::RangeInclusive<u64>,
    issues: &Issues,
) -> u64 {
    let written = section.text_or_number(key, "a number");
    let field = or_default(section, key, written);
    match field.value.parse::<u64>() {
        Ok(number) if range.contains(&number) => number,
        _ => {
            let (low, high) = (range.start(), range.end());
            field.wrong(issues, format!("\"{}\" is not a number from {low} to {high}", field.value));
            *range.start()
        }
    }
}

/// A number within `range` that may be left out.
pub(super) fn optional_number(
    section: &mut Section<'_, '_>,
    key: &'static str,
    range: std::ops::RangeInclusive<u64>,
    issues: &Issues,
) -> Option<u64> {
    let field = section.text_or_number(key, "a number")?;
    let number = field.value.parse::<u64>().ok().filter(|number| range.contains(number));
    if number.is_none() {
        let (low, high) = (range.start(), range.end());
        field.wrong(issues, format!("\"{}\" is not a number from {low} to {high}", field.value));
    }
    number
}

/// A share such as `"10%"`, within `range` percent.
pub(super) fn percent(
    section: &mut Section<'_, '_>,
    key: &'static str,
    range: std::ops::RangeInclusive<u64>,
    issues: &Issues,
) -> u64 {
    let field = defaulted(section, key);
    match field.value.strip_suffix('%').and_then(|number| number.parse().ok()) {
        Some(number) if range.contains(&number) => number,
        _ => {
            let (low, high) = (range.start(), range.end());
            field.wrong(issues, format!("\"{}\" is not a share from \"{low}%\" to \"{high}%\"", field.value));
            *range.start()
        }
    }
}

/// A point in time such as `"2027-06-30"` (its first second, UTC) or `"2027-06-30T12:00:00Z"`, in seconds
/// since the Unix epoch.
pub(super) fn unix_seconds(field: &Field<String>, issues: &Issues) -> Option<i64> {
    let parsed = parse_time(&field.value);
    if parsed.is_none() {
        let message = format!(
            "\"{}\" is not a time; write for example \"2027-06-30\" or \"2027-06-30T12:00:00Z\"",
            field.value
        );
        field.wrong(issues, message);
    }
    parsed
}

/// As [`unix_seconds`], for text that stands elsewhere.
pub(in crate::control) fn parse_time(text: &str) -> Option<i64> {
    let moment = match text.len() {
        // A date of this length has no time that could be lost.
        10 => {
            let day: jiff::civil::Date = text.parse().ok()?;
            jiff::tz::TimeZone::UTC.to_timestamp(day.to_datetime(jiff::civil::Time::midnight())).ok()?
        }
        _ => text.parse::<jiff::Timestamp>().ok()?,
    };
    Some(moment.as_second())
}

/// An address to listen on.
pub(super) fn socket_address(field: &Field<String>, issues: &Issues) -> Option<Field<SocketAddr>> {
    let parsed: Option<SocketAddr> = field.value.parse().ok();
    if parsed.is_none() {
        let message =
            format!("\"{}\" is not an IP address and port; write for example \"0.0.0.0:8080\"", field.value);
        field.wrong(issues, message);
    }
    parsed.map(|address| field.map(|_| address))
}

/// One of a few words.
pub(super) fn one_of<T: Copy>(field: &Field<String>, words: &[(&str, T)], issues: &Issues) -> Option<T> {
    let found = words.iter().find(|(word, _)| *word == field.value).map(|&(_, value)| value);
    if found.is_none() {
        let known: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        field.wrong(issues, format!("\"{}\" is not one of {}", field.value, known.join(", ")));
    }
    found
}
