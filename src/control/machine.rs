//! What the machine allows this process, held against what the configuration can come to need.
//!
//! Open files are raised as far as they may be. Memory is only compared: a bound that the machine cannot
//! keep is said at the start, with both numbers, and not found out by the out-of-memory killer.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::tuning::{cgroup, machine::memory_bytes, needs::files_needed, root::Root};

/// Raises the limit on open files as far as it may be and as far as it is needed, and says so if that is
/// not far enough.
pub fn raise_file_limit(connections: usize, shards: usize) {
    let needed = files_needed(connections, shards);
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    if limit.current.is_some_and(|current| current < needed) {
        let raised = Rlimit { current: Some(needed.min(hard)), maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!("the limit on open files cannot be raised: {error}");
        }
    }
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if current < needed {
        tracing::warn!(
            "the limit on open files is {current}, but {shards} shards with bounds.connections = {connections} \
             can need {needed} (one client and one endpoint connection each); raise it, or lower \
             bounds.connections to {}",
            (current.saturating_sub(64) / shards as u64).saturating_sub(64) / 2
        );
    }
}

/// The limit on open files, as text for a message.
pub fn file_limit() -> String {
    match getrlimit(Resource::Nofile).current {
        Some(limit) => format!("this process may have {limit} open files"),
        None => "this machine has no more".to_owned(),
    }
}

/// Warns if the machine gives this process less than `needed_bytes` of memory.
pub fn warn_of_memory_limit(needed_bytes: u64) {
    let root = Root::system();
    let limits = [cgroup_limit(&root), address_space(), installed(&root)];
    let Some(smallest) = limits.into_iter().flatten().min_by_key(|limit| limit.bytes) else { return };
    if smallest.bytes < needed_bytes {
        tracing::warn!(
            "{} is {} MiB, but the bounds add up to {} MiB: at full load the system would kill this process; \
             raise it, or lower bounds.buffer_bytes, bounds.connections or bounds.limit_keys",
            smallest.name,
            mebibytes(smallest.bytes),
            mebibytes(needed_bytes)
        );
    }
}

/// `bytes` as MiB with one digit after the point.
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / (1024.0 * 1024.0))
}

/// Something that bounds this process's memory.
struct MemoryLimit {
    name: String,
    bytes: u64,
}

fn cgroup_limit(root: &Root) -> Option<MemoryLimit> {
    cgroup::memory(root).map(|limit| MemoryLimit { name: limit.node, bytes: limit.amount })
}

fn address_space() -> Option<MemoryLimit> {
    let bytes = getrlimit(Resource::As).current?;
    Some(MemoryLimit { name: "the limit on address space (ulimit -v)".to_owned(), bytes })
}

fn installed(root: &Root) -> Option<MemoryLimit> {
    let bytes = memory_bytes(&root.read("/proc/meminfo").ok()?)?;
    Some(MemoryLimit { name: "this machine's memory".to_owned(), bytes })
}
