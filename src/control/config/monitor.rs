//! `[monitor]`, and what a route promises: how closely the gateway is watched.

use std::time::Duration;

use crate::stage::objective::Objective;

use super::{
    issue::Issues,
    reader::{Field, Section},
    values::{duration_ms, percent},
};

/// `[monitor]` as it was written.
pub(super) struct Monitor {
    sample_percent: u64,
    slow_ms: u64,
    otlp: Option<Field<String>>,
}

/// How closely the gateway is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorPlan {
    /// How many of a hundred exchanges are timed step by step.
    pub sample_percent: u8,
    /// From which duration on a timed exchange is shown as slow, in milliseconds.
    pub slow_ms: u64,
    /// Where spans of timed exchanges are sent, if anywhere.
    pub otlp: Option<String>,
}

/// Reads `[monitor]`.
pub(super) fn read(mut section: Section<'_, '_>, issues: &Issues) -> Monitor {
    let monitor = Monitor {
        sample_percent: percent(&mut section, "sample", 0..=100, issues),
        slow_ms: duration_ms(&mut section, "slow", 1..=3_600_000, issues),
        otlp: section.text("otlp"),
    };
    section.finish();
    monitor
}

/// Checks it.
pub(super) fn plan(monitor: &Monitor, issues: &Issues) -> MonitorPlan {
    if let Some(otlp) = &monitor.otlp {
        let url = otlp.value.strip_prefix("http://").or_else(|| otlp.value.strip_prefix("https://"));
        if url.is_none_or(|rest| rest.split_once('/').is_none_or(|(host, _)| host.is_empty())) {
            let message = format!(
                "\"{}\" is not the URL of an OTLP receiver over HTTP; write for example \
                 \"http://127.0.0.1:4318/v1/traces\"",
                otlp.value
            );
            otlp.wrong(issues, message);
        }
    }
    MonitorPlan {
        sample_percent: u8::try_from(monitor.sample_percent).unwrap_or(100),
        slow_ms: monitor.slow_ms,
        otlp: monitor.otlp.as_ref().map(|field| field.value.clone()),
    }
}

/// The objective that a route's `slo` states. `None` for a mistake.
pub(super) fn objective(field: &Field<String>, issues: &Issues) -> Option<Objective> {
    let objective = parse(&field.value);
    if objective.is_none() {
        let message = format!(
            "\"{}\" is not an objective; write for example \"99.9% < 250ms\", with a share from 1% to 99.999%",
            field.value
        );
        field.wrong(issues, message);
    }
    objective
}

fn parse(text: &str) -> Option<Objective> {
    let (share, within) = text.split_once('<')?;
    let (whole, part) = {
        let share = share.trim().strip_suffix('%')?;
        share.split_once('.').unwrap_or((share, ""))
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 3 {
        return None;
    }
    let thousandths: u32 = format!("{part:0<3}").parse().ok()?;
    let good_per_million = (whole.parse::<u32>().ok()?.checked_mul(1_000)? + thousandths).checked_mul(10)?;
    let within: Duration = humantime::parse_duration(within.trim()).ok()?;
    let within_us = u64::try_from(within.as_micros()).ok()?;
    ((10_000..=999_990).contains(&good_per_million) && within_us > 0)
        .then_some(Objective { good_per_million, within_us })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives() {
        let objective = |good_per_million, within_us| Some(Objective { good_per_million, within_us });
        assert_eq!(parse("99.9% < 250ms"), objective(999_000, 250_000));
        assert_eq!(parse("99.999%<1s"), objective(999_990, 1_000_000));
        assert_eq!(parse("95% < 2s 500ms"), objective(950_000, 2_500_000));
        for bad in [
            "",
            "99.9%",
            "100% < 1s",
            "99.9 < 1s",
            "99.9% < ",
            "0% < 1s",
            "99.9999% < 1s",
            "+9% < 1s",
            "99.9% > 1s",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
