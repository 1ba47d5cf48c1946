//! The HTML report: one page with its plots and its style inside, light or dark as the reader's machine is.

mod charts;
mod plot;

use std::{
    fmt::{self, Write},
    fs,
    path::Path,
};

use self::charts::Chart;
use super::{
    counted,
    json::{Distribution, RunReport},
    summary::{latency, pace},
};
use crate::{exit::SetUp, generator::Measured};

const STYLE: &str = include_str!("html/page.css");

/// Writes the page of a run; `failures` are the assertions that do not hold.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(
    path: &Path,
    report: &RunReport,
    measured: &Measured,
    failures: &[String],
) -> Result<(), SetUp> {
    let page = Page { report, measured, failures }.to_string();
    fs::write(path, page).map_err(|error| SetUp::new(format!("cannot write {}: {error}", path.display())))
}

struct Page<'a> {
    report: &'a RunReport,
    measured: &'a Measured,
    failures: &'a [String],
}

impl fmt::Display for Page<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report;
        let target = Escaped(&report.target);
        write!(
            out,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>loadtest: {target}</title>\n<style>\n{STYLE}</style></head><body><main>\n<h1>{target}</h1>\n\
             <p class=\"note\">{} · {}</p>\n",
            Escaped(&pace(report)),
            report.written_at
        )?;
        self.verdict(out)?;
        self.figures(out)?;
        chart(out, &charts::percentiles(report, self.measured))?;
        chart(out, &charts::latency_over_time(report))?;
        chart(out, &charts::throughput(report))?;
        chart(out, &charts::errors(&report.series))?;
        self.latencies(out)?;
        self.answers(out)?;
        self.environment(out)?;
        out.write_str("</main></body></html>\n")
    }
}

impl Page<'_> {
    fn verdict(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let early = if self.report.stopped_early { " It was stopped early." } else { "" };
        match &self.report.void_reason {
            Some(reason) => writeln!(
                out,
                "<p class=\"verdict bad\"><b>Void.</b> The generator was the bottleneck: {}.{early}</p>",
                Escaped(reason)
            )?,
            None => {
                writeln!(out, "<p class=\"verdict good\"><b>Valid.</b> The generator kept up.{early}</p>")?;
            }
        }
        for failure in self.failures {
            writeln!(out, "<p class=\"verdict bad\"><b>Failed.</b> {}.</p>", Escaped(failure))?;
        }
        Ok(())
    }

    /// What is read first.
    fn figures(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report;
        let asked = report
            .rate_asked
            .map_or_else(|| "a second, closed loop".into(), |rate| format!("a second, of {rate:.0} asked"));
        let times = if report.settings.closed { "service time" } else { "response time" };
        let errors = report.errors.named().iter().map(|(_, count)| count).sum::<u64>() + report.missed;
        let mut figures = vec![
            ("Answers", format!("{:.0}", report.rate_achieved), asked),
            ("p50", latency(report.response_us.p50), times.into()),
            ("p99", latency(report.response_us.p99), times.into()),
            ("p99.9", latency(report.response_us.p999), times.into()),
            ("Errors", format!("{:.3} %", report.error_share * 100.0), format!("{errors} requests")),
        ];
        if let Some(cost) = report.cpu_us_per_request {
            figures.push(("Target's CPU", latency(cost), "per request".into()));
        }
        out.write_str("<dl class=\"figures\">")?;
        for (name, value, note) in figures {
            write!(out, "<div><dt>{name}</dt><dd>{value}</dd><dd class=\"note\">{note}</dd></div>")?;
        }
        out.write_str("</dl>\n")
    }

    fn latencies(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report;
        out.write_str(
            "<section><h2>Latencies</h2><div class=\"scroll\"><table><tr><th></th><th>p50</th><th>p90</th><th>p99</th>\
             <th>p99.9</th><th>p99.99</th><th>max</th><th>mean</th><th>count</th></tr>\n",
        )?;
        let mut rows = vec![("service: from the actual send", &report.service_us)];
        if !report.settings.closed {
            rows.insert(0, ("response: from the intended start", &report.response_us));
            rows.push(("lag: the generator's own lateness", &report.lag_us));
            rows.push(("waiting: for a connection", &report.waiting_us));
        }
        for (name, values) in rows {
            row(out, name, values)?;
        }
        out.write_str("</table></div></section>\n")
    }

    fn answers(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report;
        let mut rows: Vec<(String, u64)> =
            report.statuses.iter().map(|(status, &count)| (format!("status {status}"), count)).collect();
        rows.extend(report.errors.named().iter().map(|&(name, count)| (format!("error: {name}"), count)));
        rows.extend([
            ("missed: never sent".to_owned(), report.missed),
            ("late: waited for a connection".to_owned(), report.late),
            ("connections opened again".to_owned(), report.reconnects),
            ("bad tokens refused".to_owned(), report.bad_tokens.refused),
            ("bad tokens accepted".to_owned(), report.bad_tokens.accepted),
        ]);
        out.write_str("<section><h2>Answers and errors</h2><table>\n")?;
        for (name, count) in rows.iter().filter(|(_, count)| *count > 0) {
            writeln!(out, "<tr><th>{name}</th><td>{count}</td></tr>")?;
        }
        for route in report.routes.iter().filter(|_| report.routes.len() > 1) {
            let unexpected: u64 = route.unexpected.values().sum();
            writeln!(
                out,
                "<tr><th>route {}</th><td>{}, of which {unexpected} unexpected</td></tr>",
                Escaped(&route.name),
                route.answered
            )?;
        }
        out.write_str("</table></section>\n")
    }

    fn environment(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunReport { environment, settings, generator, .. } = self.report;
        let mut rows = vec![
            ("loadtest", environment.version.to_owned()),
            ("kernel", format!("{}, {}", environment.kernel, environment.architecture)),
            ("CPU", format!("{}, {} usable", environment.cpu_model, environment.cpus)),
            ("governor", environment.governor.clone()),
            ("clock source", environment.clocksource.clone()),
            ("load average", environment.load_average.clone()),
            (
                "load",
                format!(
                    "{}, {} idle, {}, {}, seed {}",
                    counted(settings.connections, "connection"),
                    settings.idle,
                    counted(settings.threads, "thread"),
                    counted(settings.clients as usize, "client"),
                    settings.seed
                ),
            ),
            (
                "generator",
                format!(
                    "{} CPU per request, {:.0} % of its busiest thread's time left",
                    latency(generator.cpu_us_per_request),
                    generator.idle_share * 100.0
                ),
            ),
        ];
        if let Some(process) = self.report.target_process {
            let mebibytes = process.resident_bytes as f64 / 1_048_576.0;
            rows.push((
                "target",
                format!(
                    "{:.2} s CPU in {} processes, {mebibytes:.1} MiB resident",
                    process.cpu_s, process.processes
                ),
            ));
        }
        out.write_str("<section><h2>Environment</h2><table class=\"words\">\n")?;
        for (name, value) in rows {
            writeln!(out, "<tr><th>{name}</th><td>{}</td></tr>", Escaped(&value))?;
        }
        writeln!(out, "</table><pre>{}</pre></section>", Escaped(&self.report.command))
    }
}

fn chart(out: &mut fmt::Formatter<'_>, chart: &Chart) -> fmt::Result {
    write!(out, "<section><h2>{}</h2><p class=\"note\">{}</p>", chart.title, chart.note)?;
    if chart.legend.len() > 1 {
        out.write_str("<p class=\"legend\">")?;
        for (colour, name) in &chart.legend {
            write!(out, "<span><i class=\"{}\"></i>{name}</span>", colour.class())?;
        }
        out.write_str("</p>")?;
    }
    writeln!(out, "{}</section>", chart.svg)
}

fn row(out: &mut fmt::Formatter<'_>, name: &str, values: &Distribution) -> fmt::Result {
    write!(out, "<tr><th>{name}</th>")?;
    for value in [values.p50, values.p90, values.p99, values.p999, values.p9999, values.max, values.mean] {
        write!(out, "<td>{}</td>", latency(value))?;
    }
    writeln!(out, "<td>{}</td></tr>", values.count)
}

/// Text that is no markup.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '<' => out.write_str("&lt;")?,
                '>' => out.write_str("&gt;")?,
                '&' => out.write_str("&amp;")?,
                '"' => out.write_str("&quot;")?,
                other => out.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Escaped;

    #[test]
    fn text_stays_text() {
        assert_eq!(Escaped("<b a=\"1\">&").to_string(), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }
}
