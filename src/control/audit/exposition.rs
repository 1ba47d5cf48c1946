//! What `/metrics` and the dashboard say about the audit log.

use std::{fmt, sync::atomic::Ordering};

use serde_json::{Value, json};

use super::{
    super::{
        metrics::{Labelled, Out, total},
        view::View,
    },
    AuditCounts,
};

/// Adds it, if there is an audit log.
pub(in crate::control) fn exposition(out: &mut Out<'_>, view: &View) -> fmt::Result {
    let Some(audit) = &view.audit else { return Ok(()) };
    let none: [(&str, &str); 0] = [];
    let mut count = |name: &str, help: &str, value: u64| out.counters(name, help, &[(none, value)]);
    count("tollgate_audit_records", "Lines written to the audit log", audit.lines.get())?;
    let dropped = audit.sum(|way| &way.dropped);
    count(
        "tollgate_audit_dropped",
        "Records that are missing from the audit log, and marked there",
        dropped,
    )?;
    let refused = audit.sum(|way| &way.refused);
    count("tollgate_audit_refused", "Requests refused because no record of them could be made", refused)?;
    let withheld = audit.sum(|way| &way.withheld);
    count("tollgate_audit_withheld", "Answers withheld because their record was not made in time", withheld)?;
    let unproven = audit.sum(|way| &way.unproven);
    count("tollgate_audit_unproven", "Answers let go before their record was made", unproven)?;
    count("tollgate_audit_gaps", "Lines that say that records are missing", audit.gaps.get())?;
    count("tollgate_audit_checkpoints", "Signed checkpoints in the audit log", audit.checkpoints.get())?;
    let results = ["arrived", "failed"].iter().zip(&audit.anchored);
    let anchored: Vec<_> =
        results.map(|(word, count)| ([("result", *word)], count.load(Ordering::Relaxed))).collect();
    out.counters("tollgate_audit_anchored", "Checkpoints sent elsewhere", &anchored)?;
    let names: Vec<String> = (0..audit.ways.len()).map(|shard| shard.to_string()).collect();
    out.gauges("tollgate_audit_chain_length", "Records in the shard's chain", &chain_lengths(audit, &names))?;
    let failing = u64::from(audit.is_failing());
    out.gauges("tollgate_audit_failing", "1 while the audit log cannot be written", &[(none, failing)])?;
    let sync = [(none, total(std::iter::once(&audit.sync)))];
    out.histograms(
        "tollgate_audit_sync_seconds",
        "Waits for the disk; next to nothing unless fsync is on",
        &sync,
    )
}

/// The same for the dashboard.
pub(in crate::control) fn told(audit: &AuditCounts) -> Value {
    let [arrived, failed] = &audit.anchored;
    json!({
        "failing": audit.is_failing(),
        "lines": audit.lines.get(),
        "refused": audit.sum(|way| &way.refused),
        "withheld": audit.sum(|way| &way.withheld),
        "unproven": audit.sum(|way| &way.unproven),
        "dropped": audit.sum(|way| &way.dropped),
        "checkpoints": audit.checkpoints.get(),
        "anchored": { "arrived": arrived.load(Ordering::Relaxed), "failed": failed.load(Ordering::Relaxed) },
    })
}

fn chain_lengths<'n>(audit: &AuditCounts, names: &'n [String]) -> Vec<Labelled<'n, 1, u64>> {
    let ways = names.iter().zip(&audit.ways);
    ways.map(|(shard, way)| ([("shard", shard.as_str())], way.chain_length.get())).collect()
}
