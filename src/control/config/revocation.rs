//! `[revocation]`: where the deny list is, and how long it may be. Its file is read to find mistakes early.

use std::path::Path;

use crate::control::revocation::{RevocationPlan, check_file};

use super::{
    issue::Issues,
    reader::{Field, Section},
    values::number,
};

/// `[revocation]` as it was written.
pub(super) struct Revocation {
    file: Option<Field<String>>,
    entries: u64,
}

/// Reads it.
pub(super) fn read(mut section: Section<'_, '_>, issues: &Issues) -> Revocation {
    let revocation = Revocation {
        file: section.text("file"),
        entries: number(&mut section, "entries", 1..=10_000_000, issues),
    };
    section.finish();
    revocation
}

/// Checks it.
pub(super) fn plan(found: &Revocation, directory: &Path, issues: &Issues) -> RevocationPlan {
    let entries_max = usize::try_from(found.entries).unwrap_or(usize::MAX);
    let file = found.file.as_ref().map(|field| {
        let path = directory.join(&field.value);
        if let Err(mistake) = check_file(&path, entries_max) {
            field.wrong(issues, format!("{}: {mistake}", path.display()));
        }
        path
    });
    RevocationPlan { file, entries_max }
}
