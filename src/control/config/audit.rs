//! `[audit]`: which records are promised, where they go, and what vouches for them; checked.
//!
//! Opens nothing, but asks whether the file could be written: an audited route must not find that out.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    super::audit::{Anchor, AuditKey},
    issue::Issues,
    keys::{read, without_newline},
    plan::{LogPlan, LogSink, Rotation},
    reader::{Field, Section},
    values::{bytes, defaulted, duration_ms, number, one_of, optional_bytes, optional_duration_ms},
    writable::may_be_written,
};

/// `[audit]` as it was written.
pub(super) struct Audit {
    path: Option<Field<String>>,
    key_file: Option<Field<String>>,
    durability: Field<String>,
    on_full: Field<String>,
    wait_max_ms: u64,
    ring: u64,
    checkpoint_ms: u64,
    checkpoint_records: u64,
    anchors: Vec<Field<String>>,
    rotate_bytes: Option<u64>,
    rotate_age_ms: Option<u64>,
    at: usize,
}

/// The audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPlan {
    /// Where it is written.
    pub path: PathBuf,
    /// What it is authenticated with.
    pub key: AuditKey,
    /// Whether a record counts as made only when it is on the disk.
    pub durability: Durability,
    /// Whether there is no request without a record.
    pub refuses: bool,
    /// How long an exchange waits for its record, in milliseconds.
    pub wait_max_ms: u64,
    /// Bytes each shard can be ahead of the file.
    pub ring_bytes: usize,
    /// Between two checkpoints, while records come.
    pub checkpoint: Duration,
    /// Records after which a checkpoint comes sooner.
    pub checkpoint_records: u64,
    /// Where checkpoints go besides.
    pub anchors: Vec<Anchor>,
    /// When the file is put aside for a new one.
    pub rotation: Rotation,
}

/// When a record counts as made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When the system has taken it: it outlives the process, but not the machine.
    Buffered,
    /// When it is on the disk.
    Fsync,
}

impl Durability {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Buffered => "buffered",
            Self::Fsync => "fsync",
        }
    }
}

const MILLISECOND: u64 = 1;
const SECOND: u64 = 1_000;
const DAY: u64 = 24 * 3_600 * SECOND;
const KIB: u64 = 1024;

pub(super) fn read_section(mut section: Section<'_, '_>, issues: &Issues) -> Audit {
    let audit = Audit {
        path: section.text("path"),
        key_file: section.text("key_file"),
        durability: defaulted(&mut section, "durability"),
        on_full: defaulted(&mut section, "on_full"),
        wait_max_ms: duration_ms(&mut section, "wait_max", 100 * MILLISECOND..=600 * SECOND, issues),
        ring: bytes(&mut section, "ring", 64 * KIB..=1024 * KIB * KIB, issues),
        checkpoint_ms: duration_ms(&mut section, "checkpoint", 100 * MILLISECOND..=DAY, issues),
        checkpoint_records: number(&mut section, "checkpoint_records", 1..=1_000_000, issues),
        anchors: section.texts("anchor").map_or_else(Vec::new, |list| list.value),
        rotate_bytes: optional_bytes(&mut section, "rotate_bytes", 64 * KIB..=KIB * KIB * KIB * KIB, issues),
        rotate_age_ms: optional_duration_ms(&mut section, "rotate_age", SECOND..=366 * DAY, issues),
        at: section.at(),
    };
    section.finish();
    audit
}

/// What `audit` means; the inner `None` if there is to be no audit log, the outer one if a mistake left a hole.
pub(super) fn plan(
    audit: &Audit,
    log: Option<&LogPlan>,
    directory: &Path,
    issues: &Issues,
) -> Option<Option<AuditPlan>> {
    let durability = one_of(
        &audit.durability,
        &[("buffered", Durability::Buffered), ("fsync", Durability::Fsync)],
        issues,
    );
    let refuses = one_of(&audit.on_full, &[("refuse", true), ("drop", false)], issues);
    let anchors: Vec<_> = audit.anchors.iter().map(|field| anchor(field, directory, issues)).collect();
    let key = audit.key_file.as_ref().map(|field| {
        let key =
            read(&directory.join(&field.value)).and_then(|bytes| AuditKey::new(without_newline(&bytes)));
        key.map_err(|mistake| field.wrong(issues, mistake)).ok()
    });
    let path = match (&audit.path, &audit.key_file) {
        (None, None) => return Some(None),
        (None, Some(field)) => {
            issues.add(field.at, "audit.path", "is missing; a key alone writes nothing");
            return None;
        }
        (Some(field), None) => {
            let message = "is missing; name a file with at least 32 random bytes";
            issues.add(field.at.max(audit.at), "audit.key_file", message);
            return None;
        }
        (Some(field), Some(_)) => path(field, log, directory, issues),
    };
    Some(Some(AuditPlan {
        path: path?,
        key: key??,
        durability: durability?,
        refuses: refuses?,
        wait_max_ms: audit.wait_max_ms,
        ring_bytes: usize::try_from(audit.ring).unwrap_or(usize::MAX),
        checkpoint: Duration::from_millis(audit.checkpoint_ms),
        checkpoint_records: audit.checkpoint_records,
        anchors: anchors.into_iter().collect::<Option<_>>()?,
        rotation: Rotation { bytes: audit.rotate_bytes, age: audit.rotate_age_ms.map(Duration::from_millis) },
    }))
}

fn path(field: &Field<String>, log: Option<&LogPlan>, directory: &Path, issues: &Issues) -> Option<PathBuf> {
    let path = directory.join(&field.value);
    if log.is_some_and(|log| log.sink == LogSink::File(path.clone())) {
        field.wrong(issues, "is the access log; the audit log needs a file of its own");
        return None;
    }
    writable(field, &path, issues).then_some(path)
}

/// Whether a file could be written, or made, at `path`; notes why not.
fn writable(field: &Field<String>, path: &Path, issues: &Issues) -> bool {
    may_be_written(path).map_err(|mistake| field.wrong(issues, mistake)).is_ok()
}

fn anchor(field: &Field<String>, directory: &Path, issues: &Issues) -> Option<Anchor> {
    match field.value.as_str() {
        "stdout" => Some(Anchor::Stdout),
        url if url.contains("://") => {
            let parsed = url.parse::<ureq::http::Uri>().ok();
            let is_http = |parsed: &ureq::http::Uri| {
                matches!(parsed.scheme_str(), Some("http" | "https")) && parsed.host().is_some()
            };
            if parsed.as_ref().is_some_and(is_http) {
                return Some(Anchor::Url(url.to_owned()));
            }
            field.wrong(issues, format!("\"{url}\" is not an address that can be posted to"));
            None
        }
        path => {
            let path = directory.join(path);
            writable(field, &path, issues).then_some(Anchor::File(path))
        }
    }
}
