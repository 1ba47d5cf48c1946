//! The comparison for people: tables for the terminal, or as Markdown for a page.

use std::fmt::Write;

use super::{
    peer::Peer,
    report::{PeersReport, State},
    results::{Figure, Row},
    shape::Shape,
};

const MIB: f64 = 1024.0 * 1024.0;
/// Beyond this share of the peer's CPU other programs are worth a note.
const OTHERS_SHARE_MAX: f64 = 0.05;
/// Behind a rate that the load or the endpoints, not the peer, limited.
const LOAD_MARK: char = '*';

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Terminal,
    Markdown,
}

/// The whole comparison as text.
pub(crate) fn text(report: &PeersReport, style: Style) -> String {
    let mut text = heading(report, style);
    if style == Style::Markdown && report.shapes.iter().filter(|&&shape| shape != Shape::Idle).count() > 1 {
        section("CPU µs per request", &overview(report), style, &mut text);
    }
    for &shape in &report.shapes {
        let rows: Vec<&Row> = report.rows(shape).collect();
        section(
            shape.title(),
            &if shape == Shape::Idle { idle(&rows) } else { loaded(&rows) },
            style,
            &mut text,
        );
    }
    text.push_str(&notes(report));
    text
}

fn heading(report: &PeersReport, style: Style) -> String {
    let measured = report.peers.iter().filter(|peer| peer.state == State::Measured);
    let versions: Vec<String> = measured
        .map(|peer| match &peer.version {
            Some(version) if peer.name != Peer::Relay.name() => format!("{} {version}", peer.name),
            _ => peer.name.to_owned(),
        })
        .collect();
    let job = match report.job {
        "full" => {
            "JWT HS256 with exp, a limit per client, least connections over two endpoints, an access log"
        }
        _ => "plain proxying, least connections over two endpoints",
    };
    let loop_kind = report.rate_offered.map_or_else(
        || "closed loop".to_owned(),
        |rate| format!("open loop at {rate} requests/s, latencies from the intended start"),
    );
    let lines = [
        format!("{}, {}, {}", report.written_at, report.environment.cpu_model, report.environment.kernel),
        versions.join(", "),
        format!(
            "Job: {job}. The relay copies bytes and does none of it, over an upstream \
             connection of its own for each client's."
        ),
        format!(
            "Peer on CPU {}, load and endpoints on CPU {}; {loop_kind}; {} rounds of {} s, interleaved, the median \
             round's CPU time and percentiles; ×: times tollgate's figure.",
            report.peer_cpu, report.load_cpu, report.rounds, report.measured_s
        ),
    ];
    lines.join(if style == Style::Markdown { "  \n" } else { "\n" }) + "\n"
}

/// One row for each shape, one column for each peer.
fn overview(report: &PeersReport) -> Vec<Vec<String>> {
    let shown = |peer: &&Peer| report.results.iter().any(|row| row.peer == peer.name());
    let peers: Vec<&Peer> = Peer::ALL.iter().filter(shown).collect();
    let mut table = vec![vec![String::new()]];
    table[0].extend(peers.iter().map(|peer| peer.name().to_owned()));
    for &shape in report.shapes.iter().filter(|&&shape| shape != Shape::Idle) {
        let cell = |peer: &&Peer| {
            let row = report.rows(shape).find(|row| row.peer == peer.name());
            row.map_or_else(|| "–".into(), |row| figure(row.cpu_us_per_request, 1.0, 1))
        };
        table.push([vec![shape.title().to_owned()], peers.iter().map(cell).collect()].concat());
    }
    table
}

fn loaded(rows: &[&Row]) -> Vec<Vec<String>> {
    let head = ["", "CPU µs/request", "rounds", "requests/s", "p50 ms", "p99 ms", "resident MiB"];
    let row = |row: &&Row| {
        let [lowest, highest] = row.cpu_us_per_request_range;
        let mut rate = figure(row.requests_per_s, 1.0, 0);
        if row.load_was_the_limit {
            rate.push(LOAD_MARK);
        }
        vec![
            row.peer.to_owned(),
            figure(row.cpu_us_per_request, 1.0, 1),
            format!("{lowest:.1}–{highest:.1}"),
            rate,
            figure(row.p50_us, 1e3, 2),
            figure(row.p99_us, 1e3, 2),
            figure(row.resident_bytes, MIB, 1),
        ]
    };
    [vec![head.map(str::to_owned).to_vec()], rows.iter().map(row).collect()].concat()
}

fn idle(rows: &[&Row]) -> Vec<Vec<String>> {
    let head = ["", "bytes per idle connection", "resident MiB with all of them"];
    let row = |row: &&Row| {
        vec![
            row.peer.to_owned(),
            row.idle_bytes_per_connection.map_or_else(|| "–".into(), |bytes| figure(bytes, 1.0, 0)),
            figure(row.resident_bytes, MIB, 1),
        ]
    };
    [vec![head.map(str::to_owned).to_vec()], rows.iter().map(row).collect()].concat()
}

/// What a reader must know before believing a row, and who took no part.
fn notes(report: &PeersReport) -> String {
    let mut notes = String::new();
    let limited = |row: &Row| row.load_was_the_limit && row.shape != Shape::Idle.name();
    if report.results.iter().any(limited) {
        let _ = writeln!(
            notes,
            "{LOAD_MARK} the peer's CPU had time left: the rate and the percentiles are those of the load and the endpoints."
        );
    }
    let others = |row: &Row| row.cpu_others_share;
    let most = report.results.iter().map(others).fold(0.0, f64::max);
    if most > OTHERS_SHARE_MAX {
        let mean = report.results.iter().map(others).sum::<f64>() / report.results.len() as f64;
        let _ = writeln!(
            notes,
            "Other programs had {:.0} % of the peers' CPU (at worst {:.0} %): rates and percentiles suffer from that.",
            mean * 100.0,
            most * 100.0
        );
    }
    for row in &report.results {
        if row.errors > 0 {
            let _ = writeln!(
                notes,
                "{} in {}: {} of {} requests failed, had a wrong status or lost their connection.",
                row.peer, row.shape, row.errors, row.requests
            );
        }
        if row.unlogged > 0 {
            let _ = writeln!(
                notes,
                "{} in {}: {} answers have no line in the access log.",
                row.peer, row.shape, row.unlogged
            );
        }
    }
    for peer in report.peers.iter().filter(|peer| peer.state != State::Measured) {
        let state = if peer.state == State::Missing { "not found" } else { "broken, not measured" };
        let _ = writeln!(notes, "{} {state}: {}", peer.name, peer.detail.as_deref().unwrap_or("no reason"));
    }
    if report.stopped_early {
        notes.push_str("Stopped early: the figures are of the measurements made until then.\n");
    }
    if notes.is_empty() { notes } else { format!("\n{notes}") }
}

fn figure(figure: Figure, unit: f64, digits: usize) -> String {
    let ratio = figure.ratio.map(|ratio| format!(" ×{ratio:.2}")).unwrap_or_default();
    format!("{:.digits$}{ratio}", figure.value / unit)
}

fn section(title: &str, table: &[Vec<String>], style: Style, out: &mut String) {
    let columns = table.first().map_or(0, Vec::len);
    let wide = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(wide).collect();
    let _ = match style {
        Style::Terminal => writeln!(out, "\n{title}"),
        Style::Markdown => writeln!(out, "\n**{title}**\n"),
    };
    for (index, row) in table.iter().enumerate() {
        // Names to the left, figures to the right.
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let cells: Vec<String> = cells.collect();
        let _ = match style {
            Style::Terminal => writeln!(out, "  {}", cells.join("   ")),
            Style::Markdown => writeln!(out, "| {} |", cells.join(" | ")),
        };
        if index == 0 && style == Style::Markdown {
            let _ = writeln!(out, "|---|{}", "---:|".repeat(columns.saturating_sub(1)));
        }
    }
}
