//! What the control groups of a process let it have: CPUs, time on them, memory. Both versions.
//!
//! A group is bound by its parents' limits too, so the smallest up the tree counts.

use super::{cpus::parse_list, root::Root};

/// A limit, and the file that says so.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit<T> {
    /// How much.
    pub amount: T,
    /// The file, as a path on this machine.
    pub node: String,
}

/// How often a group was stopped because it had used its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods that have passed with something to run.
    pub periods: u64,
    /// Those of them in which the group was stopped.
    pub throttled: u64,
}

/// A directory of a group, and whether it is of the second version.
struct Group {
    node: String,
    unified: bool,
}

/// The groups of this process that have `controller`, from its own up to the root.
fn groups(root: &Root, controller: &str) -> Vec<Group> {
    let memberships = root.read("/proc/self/cgroup").unwrap_or_default();
    let mut found = Vec::new();
    for line in memberships.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let unified = controllers.is_empty();
        let mount = match unified {
            true => "/sys/fs/cgroup".to_owned(),
            false if controllers.split(',').any(|known| known == controller) => {
                format!("/sys/fs/cgroup/{controller}")
            }
            false => continue,
        };
        let mut group = group.trim_matches('/');
        loop {
            let node = if group.is_empty() { mount.clone() } else { format!("{mount}/{group}") };
            found.push(Group { node, unified });
            if group.is_empty() {
                break;
            }
            group = group.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
    }
    found
}

/// The CPUs that the group may run on; nothing if no group says.
pub fn cpuset(root: &Root) -> Option<Vec<usize>> {
    groups(root, "cpuset").into_iter().find_map(|Group { node, unified }| {
        let file = if unified { "cpuset.cpus.effective" } else { "cpuset.effective_cpus" };
        let cpus = parse_list(&root.read(&format!("{node}/{file}")).ok()?).ok()?;
        (!cpus.is_empty()).then_some(cpus)
    })
}

/// How many CPUs' worth of time the group gets; nothing if it gets all there is.
pub fn cpu_quota(root: &Root) -> Option<Limit<f64>> {
    let limits = groups(root, "cpu").into_iter().filter_map(|Group { node, unified }| {
        let (node, quota, period): (_, f64, f64) = if unified {
            let node = format!("{node}/cpu.max");
            let text = root.read(&node).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            (node, quota.parse().ok()?, period.parse().ok()?)
        } else {
            let quota = root.number::<i64>(&format!("{node}/cpu.cfs_quota_us"))?;
            let period = root.number::<u32>(&format!("{node}/cpu.cfs_period_us"))?;
            (format!("{node}/cpu.cfs_quota_us"), quota as f64, f64::from(period))
        };
        (quota > 0.0 && period > 0.0)
            .then(|| Limit { amount: quota / period, node: root.path(&node).display().to_string() })
    });
    limits.min_by(|one, other| one.amount.total_cmp(&other.amount))
}

/// How often the group was stopped since it was made; nothing if no group says.
pub fn throttling(root: &Root) -> Option<Throttling> {
    groups(root, "cpu").into_iter().find_map(|Group { node, .. }| {
        let text = root.read(&format!("{node}/cpu.stat")).ok()?;
        let count = |key: &str| {
            text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
        };
        Some(Throttling { periods: count("nr_periods")?, throttled: count("nr_throttled")? })
    })
}

/// The memory the group may have, in bytes; nothing if no group says.
pub fn memory(root: &Root) -> Option<Limit<u64>> {
    let limits = groups(root, "memory").into_iter().filter_map(|Group { node, unified }| {
        let file = if unified { "memory.max" } else { "memory.limit_in_bytes" };
        let node = format!("{node}/{file}");
        Some(Limit { amount: root.number(&node)?, node: root.path(&node).display().to_string() })
    });
    limits.min_by_key(|limit| limit.amount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuning::tree::Tree;

    /// Broken by reading the process's own group alone: systemd puts limits on slices.
    #[test]
    fn the_smallest_limit_up_the_tree_of_groups_counts() {
        let tree = Tree::new(&[
            ("/proc/self/cgroup", "0::/system.slice/tollgate.service\n"),
            ("/sys/fs/cgroup/system.slice/tollgate.service/memory.max", "max\n"),
            ("/sys/fs/cgroup/system.slice/memory.max", "1073741824\n"),
            ("/sys/fs/cgroup/system.slice/tollgate.service/cpu.max", "400000 100000\n"),
            ("/sys/fs/cgroup/system.slice/cpu.max", "150000 100000\n"),
            ("/sys/fs/cgroup/system.slice/tollgate.service/cpu.stat", "nr_periods 10\nnr_throttled 3\n"),
            ("/sys/fs/cgroup/cpuset.cpus.effective", "0-7\n"),
            ("/sys/fs/cgroup/system.slice/cpuset.cpus.effective", "2-3\n"),
        ]);
        let root = tree.root();
        let limit = memory(&root).unwrap();
        assert!(limit.node.ends_with("system.slice/memory.max"), "{limit:?}");
        assert_eq!(limit.amount, 1 << 30);
        let quota = cpu_quota(&root).unwrap();
        assert!(quota.node.ends_with("system.slice/cpu.max"), "{quota:?}");
        assert_eq!(quota.amount, 1.5);
        assert_eq!(throttling(&root), Some(Throttling { periods: 10, throttled: 3 }));
        assert_eq!(cpuset(&root), Some(vec![2, 3]));
    }

    #[test]
    fn groups_of_the_first_version_count_too() {
        let tree = Tree::new(&[
            ("/proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/a\n3:cpuset:/a\n"),
            ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "4096\n"),
            ("/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "50000\n"),
            ("/sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/cpuset/a/cpuset.effective_cpus", "5,7\n"),
        ]);
        let root = tree.root();
        assert_eq!(memory(&root).unwrap().amount, 4096);
        assert_eq!(cpu_quota(&root).unwrap().amount, 0.5);
        assert_eq!(cpuset(&root), Some(vec![5, 7]));
    }

    #[test]
    fn a_machine_without_groups_limits_nothing() {
        let tree = Tree::new(&[("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/cpu.max", "max 100000\n")]);
        let root = tree.root();
        assert_eq!(
            (memory(&root), cpu_quota(&root), throttling(&root), cpuset(&root)),
            (None, None, None, None)
        );
    }
}
