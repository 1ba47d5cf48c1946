//! What the machine allows this process, held against what the configuration can come to need.
//!
//! Open files are raised as far as they may be. Memory is only compared: a bound that the machine cannot
//! keep is said at the start, with both numbers, and not found out by the out-of-memory killer.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit on open files as far as it may be and as far as it is needed, and says so if that is
/// not far enough.
pub fn raise_file_limit(connections: usize, shards: usize) {
    let needed = (2 * connections * shards + 64 * shards + 64) as u64;
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
    let limits = [cgroup_limit(Path::new("/")), address_space(), installed(Path::new("/"))];
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
#[derive(Debug, PartialEq, Eq)]
struct MemoryLimit {
    name: String,
    bytes: u64,
}

/// The smallest `memory.max` of this process's control groups (version 2) or its `memory.limit_in_bytes`.
fn cgroup_limit(root: &Path) -> Option<MemoryLimit> {
    let memberships = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let files = memberships.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (mount, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|controller| controller == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        // A group is bound by its parents' limits too.
        let group = Path::new(group.trim_start_matches('/'));
        group.ancestors().map(|group| root.join(mount).join(group).join(file)).collect::<Vec<PathBuf>>()
    });
    files
        .filter_map(|file| {
            let bytes = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
            Some(MemoryLimit { name: file.display().to_string(), bytes })
        })
        .min_by_key(|limit| limit.bytes)
}

fn address_space() -> Option<MemoryLimit> {
    let bytes = getrlimit(Resource::As).current?;
    Some(MemoryLimit { name: "the limit on address space (ulimit -v)".to_owned(), bytes })
}

fn installed(root: &Path) -> Option<MemoryLimit> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(MemoryLimit { name: "this machine's memory".to_owned(), bytes: kibibytes * 1024 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree below a directory of its own, with these files.
    fn machine(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("tollgate-machine-{}-{name}", std::process::id()));
        for (path, content) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn the_smallest_limit_up_the_tree_of_groups_counts() {
        let root = machine(
            "two",
            &[
                ("proc/self/cgroup", "0::/system.slice/tollgate.service\n"),
                ("sys/fs/cgroup/system.slice/tollgate.service/memory.max", "max\n"),
                ("sys/fs/cgroup/system.slice/memory.max", "1073741824\n"),
            ],
        );
        let limit = cgroup_limit(&root).unwrap();
        assert!(limit.name.ends_with("system.slice/memory.max"), "{limit:?}");
        assert_eq!(limit.bytes, 1 << 30);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn groups_of_the_first_version_count_too() {
        let root = machine(
            "one",
            &[
                ("proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/a\n"),
                ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "4096\n"),
                ("proc/meminfo", "MemTotal:       24689384 kB\nMemFree: 1 kB\n"),
            ],
        );
        assert_eq!(cgroup_limit(&root).unwrap().bytes, 4096);
        assert_eq!(installed(&root).unwrap().bytes, 24_689_384 * 1024);
        fs::remove_dir_all(root).unwrap();
    }
}
