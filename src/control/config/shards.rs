//! `[shards]`: how many, on which CPUs, and with which runtime.

use crate::tuning::pinning::{CpuChoice, Pinning, Reserve, ThreadsPerCore};

use super::{
    issue::Issues,
    reader::{Field, Section},
    values::{defaulted, defaulted_or_number},
};

/// The most shards that may be asked for.
const SHARDS_MAX: usize = 1024;

pub(super) struct Shards {
    count: Field<String>,
    cpus: Field<String>,
    threads_per_core: Field<String>,
    reserve: Field<String>,
    pub(super) driver: Field<String>,
}

pub(super) fn read(mut section: Section<'_, '_>) -> Shards {
    let read = Shards {
        count: defaulted_or_number(&mut section, "count", "\"auto\" or a number"),
        cpus: defaulted(&mut section, "cpus"),
        threads_per_core: defaulted_or_number(&mut section, "threads_per_core", "\"all\" or 1"),
        reserve: defaulted(&mut section, "reserve"),
        driver: defaulted(&mut section, "driver"),
    };
    section.finish();
    read
}

/// What is asked for; nothing if some of it makes no sense.
pub(super) fn pinning(file: &Shards, issues: &Issues) -> Option<Pinning> {
    let cpus = CpuChoice::parse(&file.cpus.value).map_err(|error| file.cpus.wrong(issues, error));
    let reserve = Reserve::parse(&file.reserve.value).map_err(|error| file.reserve.wrong(issues, error));
    let threads_per_core = ThreadsPerCore::parse(&file.threads_per_core.value)
        .map_err(|error| file.threads_per_core.wrong(issues, error));
    let count = count(&file.count, issues);
    let pinning =
        Pinning { count, cpus: cpus.ok()?, threads_per_core: threads_per_core.ok()?, reserve: reserve.ok()? };
    if let Some(message) = pinning.contradiction() {
        file.reserve.wrong(issues, message);
    }
    Some(pinning)
}

fn count(field: &Field<String>, issues: &Issues) -> Option<usize> {
    if field.value == "auto" {
        return None;
    }
    let count = field.value.parse().ok().filter(|count| (1..=SHARDS_MAX).contains(count));
    if count.is_none() {
        let message = format!("\"{}\" is neither \"auto\" nor a number from 1 to {SHARDS_MAX}", field.value);
        field.wrong(issues, message);
    }
    count
}
