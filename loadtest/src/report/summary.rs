//! The summary for people: the verdict first, then rates, latencies, costs and errors.

use std::fmt::{self, Write};

use super::{
    counted,
    json::{Distribution, RunReport},
};

/// A run's summary, several lines with the verdict first.
pub(crate) struct Summary<'a>(pub(crate) &'a RunReport);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        match &report.void_reason {
            Some(reason) => writeln!(out, "VOID: the generator was the bottleneck: {reason}")?,
            None => writeln!(
                out,
                "valid: the generator kept up{}",
                if report.stopped_early { " (stopped early)" } else { "" }
            )?,
        }
        writeln!(out, "{}: {}", report.target, pace(report))?;
        let asked = report.rate_asked.map_or_else(String::new, |rate| format!(" of {rate:.1} asked"));
        writeln!(out, "  rate       {:.1} answers/s{asked}", report.rate_achieved)?;
        let failed: u64 = report.errors.named().iter().map(|(_, count)| count).sum();
        writeln!(
            out,
            "  requests   {} answered, {failed} errors, {} late, {} missed, {} reconnects",
            report.requests, report.late, report.missed, report.reconnects
        )?;
        writeln!(out, "  latency        p50      p90      p99    p99.9   p99.99      max     mean")?;
        if !report.settings.closed {
            distribution(out, "response", &report.response_us)?;
        }
        distribution(out, "service", &report.service_us)?;
        if !report.settings.closed {
            distribution(out, "lag", &report.lag_us)?;
        }
        if report.waiting_us.count > 0 {
            distribution(out, "waiting", &report.waiting_us)?;
        }
        costs(out, report)?;
        let statuses = report.statuses.iter().fold(String::new(), |mut text, (status, count)| {
            let _ = write!(text, "  {status}: {count}");
            text
        });
        writeln!(out, "  statuses {statuses}")?;
        for (name, count) in report.errors.named().into_iter().filter(|&(_, count)| count > 0) {
            writeln!(out, "  error      {name}: {count}")?;
        }
        for route in report.routes.iter().filter(|route| !route.unexpected.is_empty()) {
            writeln!(
                out,
                "  unexpected {}: {:?} of {} answers",
                route.name, route.unexpected, route.answered
            )?;
        }
        let bad = &report.bad_tokens;
        if bad.refused + bad.accepted + bad.other > 0 {
            writeln!(
                out,
                "  bad tokens {} refused, {} accepted, {} answered otherwise",
                bad.refused, bad.accepted, bad.other
            )?;
        }
        if report.idle_lost > 0 {
            writeln!(
                out,
                "  idle       {} of {} connections were closed by the target",
                report.idle_lost, report.settings.idle
            )?;
        }
        Ok(())
    }
}

/// How the load was driven.
pub(crate) fn pace(report: &RunReport) -> String {
    let settings = &report.settings;
    let pace = settings
        .arrivals
        .map_or_else(|| "closed loop".to_owned(), |arrivals| format!("open loop, {arrivals} arrivals"));
    let idle = if settings.idle > 0 { format!(" and {} idle", settings.idle) } else { String::new() };
    format!(
        "{pace}, {}{idle}, {}, {:.1} s",
        counted(settings.connections, "connection"),
        counted(settings.threads, "thread"),
        report.duration_s
    )
}

fn costs(out: &mut fmt::Formatter<'_>, report: &RunReport) -> fmt::Result {
    if let (Some(cost), Some(process)) = (report.cpu_us_per_request, &report.target_process) {
        writeln!(
            out,
            "  target     {cost:.2} CPU µs per request ({:.2} s in {}), {:.1} MiB resident",
            process.cpu_s,
            counted(process.processes, "process"),
            process.resident_bytes as f64 / 1_048_576.0
        )?;
    }
    writeln!(
        out,
        "  generator  {:.2} CPU µs per request, {:.0} % of its busiest thread's time left; {:.1} MiB in, {:.1} MiB out",
        report.generator.cpu_us_per_request,
        report.generator.idle_share * 100.0,
        report.bytes_in as f64 / 1_048_576.0,
        report.bytes_out as f64 / 1_048_576.0
    )
}

fn distribution(out: &mut fmt::Formatter<'_>, name: &str, values: &Distribution) -> fmt::Result {
    write!(out, "  {name:<9}")?;
    for value in [values.p50, values.p90, values.p99, values.p999, values.p9999, values.max, values.mean] {
        write!(out, " {:>8}", latency(value))?;
    }
    writeln!(out)
}

/// A latency for people: three digits and a unit.
pub(crate) fn latency(us: f64) -> String {
    let (value, unit) = match us {
        _ if us < 1_000.0 => (us, "µs"),
        _ if us < 1_000_000.0 => (us / 1e3, "ms"),
        _ => (us / 1e6, "s"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::latency;

    #[test]
    fn latencies_have_three_digits() {
        let cases = [
            (0.0, "0.00µs"),
            (9.994, "9.99µs"),
            (42.25, "42.2µs"),
            (640.0, "640µs"),
            (1_500.0, "1.50ms"),
            (61e6, "61.0s"),
        ];
        for (us, text) in cases {
            assert_eq!(latency(us), text);
        }
    }
}
