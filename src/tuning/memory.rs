//! Where the memory of a running gateway is: on which NUMA nodes, next to how many of its shards.
//!
//! Read from `/proc/PID/numa_maps`, which says for each stretch of memory how many of its pages are on which node. A
//! thread's pages are where it ran when it first touched them, so memory on a node without a shard was touched by
//! somebody else, or the node of the shards was full.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{cpus::parse_list, machine::Machine, root::Root};

/// The memory of one process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Held {
    /// The process.
    pub pid: u64,
    /// One entry for each node of the machine, and each on which it has memory.
    pub nodes: Vec<OnNode>,
    /// The policy by which it is spread over nodes, if there is one: `interleave:0-1`.
    pub spread_by: Option<String>,
}

/// What is on one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OnNode {
    /// Its number.
    pub id: usize,
    /// Memory of the process alone: buffers, tables, stacks.
    pub own_bytes: u64,
    /// Memory that it shares with a successor: quotas, loads of endpoints.
    pub shared_bytes: u64,
    /// Shards that can run nowhere else.
    pub shards: usize,
}

impl OnNode {
    /// All of it.
    pub fn bytes(&self) -> u64 {
        self.own_bytes + self.shared_bytes
    }
}

/// The processes below `root` that have shards, ascending.
pub fn gateways(root: &Root) -> Vec<u64> {
    let names = root.list("/proc").unwrap_or_default();
    let pids = names.iter().filter_map(|name| name.parse().ok());
    let has_shards = |pid: &u64| {
        root.read_trimmed(&format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("tollgate"))
            && !shards(root, *pid).is_empty()
    };
    pids.filter(has_shards).collect()
}

/// The CPUs that each shard's thread may run on.
fn shards(root: &Root, pid: u64) -> Vec<Vec<usize>> {
    let tasks = root.list(&format!("/proc/{pid}/task")).unwrap_or_default();
    let cpus = tasks.iter().filter_map(|id| {
        let at = format!("/proc/{pid}/task/{id}");
        root.read(&format!("{at}/comm")).ok().filter(|name| name.starts_with("shard-"))?;
        let status = root.read(&format!("{at}/status")).ok()?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        parse_list(list).ok()
    });
    cpus.collect()
}

impl Held {
    /// That of the process `pid`, which runs on `machine`.
    ///
    /// # Errors
    /// It cannot be seen: a sentence that says why.
    pub fn read(root: &Root, pid: u64, machine: &Machine) -> Result<Self, String> {
        let maps = root.read(&format!("/proc/{pid}/numa_maps")).map_err(|error| error.to_string())?;
        let mut nodes: BTreeMap<usize, OnNode> = BTreeMap::new();
        for id in machine.nodes.iter().map(|node| node.id) {
            nodes.insert(id, OnNode { id, ..OnNode::default() });
        }
        let mut spread_by = None;
        for line in maps.lines() {
            let stretch = Stretch::parse(line);
            for (id, bytes) in stretch.bytes {
                let node = nodes.entry(id).or_insert(OnNode { id, ..OnNode::default() });
                match stretch.whose {
                    Whose::Own => node.own_bytes += bytes,
                    Whose::Shared => node.shared_bytes += bytes,
                    Whose::File => {}
                }
            }
            if stretch.policy.contains("interleave") {
                spread_by = Some(stretch.policy.to_owned());
            }
        }
        for cpus in shards(root, pid) {
            let mut on = cpus.iter().filter_map(|&id| machine.cpu(id)).map(|cpu| cpu.node);
            if let Some(node) = on.next()
                && on.all(|other| other == node)
                && let Some(node) = nodes.get_mut(&node)
            {
                node.shards += 1;
            }
        }
        Ok(Self { pid, nodes: nodes.into_values().collect(), spread_by })
    }

    /// What part of the memory is on nodes that `fits` chooses.
    pub fn share_of(&self, fits: impl Fn(&OnNode) -> bool) -> f64 {
        let sum = |nodes: &mut dyn Iterator<Item = &OnNode>| nodes.map(OnNode::bytes).sum::<u64>() as f64;
        let all = sum(&mut self.nodes.iter());
        if all == 0.0 { 0.0 } else { sum(&mut self.nodes.iter().filter(|node| fits(node))) / all }
    }

    /// In a sentence.
    pub fn text(&self) -> String {
        let on = |node: &OnNode| {
            format!("{:.1} MiB on node {} with {} shards", mebibytes(node.bytes()), node.id, node.shards)
        };
        let nodes: Vec<String> = self.nodes.iter().map(on).collect();
        format!("process {} has {}", self.pid, nodes.join(", "))
    }
}

/// For a person.
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// One line of `numa_maps`.
#[derive(Debug, PartialEq, Eq)]
struct Stretch<'l> {
    policy: &'l str,
    whose: Whose,
    /// On which node how much.
    bytes: Vec<(usize, u64)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Whose {
    /// Nobody else's.
    Own,
    /// In memory, and whoever has the file sees it.
    Shared,
    /// The page cache's: text and libraries, wherever they were first read.
    File,
}

impl<'l> Stretch<'l> {
    /// `7f5c00000000 default anon=6 dirty=6 N0=4 N1=2 kernelpagesize_kB=4`.
    fn parse(line: &'l str) -> Self {
        let value = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let page_bytes = value("kernelpagesize_kB").and_then(|size| size.parse().ok()).unwrap_or(4) * 1024;
        let on = |word: &str| -> Option<(usize, u64)> {
            let (node, pages) = word.strip_prefix('N')?.split_once('=')?;
            Some((node.parse().ok()?, pages.parse::<u64>().ok()? * page_bytes))
        };
        let whose = match value("file") {
            None => Whose::Own,
            Some(file) if file.starts_with("/memfd:") => Whose::Shared,
            // What was written of a private one is no longer the file's.
            Some(_) if value("anon").is_some() && value("mapped").is_none() => Whose::Own,
            Some(_) => Whose::File,
        };
        let policy = line.split(' ').nth(1).unwrap_or_default();
        Self { policy, whose, bytes: line.split(' ').filter_map(on).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuning::fixture::{Layout, gateway};

    #[test]
    fn a_line_says_whose_memory_is_where() {
        let own =
            Stretch::parse("7f5c00000000 prefer:1 anon=6 dirty=6 active=0 N0=4 N1=2 kernelpagesize_kB=4");
        let bytes = vec![(0, 4 * 4096), (1, 2 * 4096)];
        assert_eq!(own, Stretch { policy: "prefer:1", whose: Whose::Own, bytes });
        let huge = Stretch::parse("7f5c40000000 default anon=1 dirty=1 N1=1 kernelpagesize_kB=2048");
        assert_eq!(huge.bytes, [(1, 2 << 20)]);
        let shared =
            Stretch::parse("7f01 default file=/memfd:quotas\\040(deleted) dirty=3 N1=3 kernelpagesize_kB=4");
        assert_eq!(shared.whose, Whose::Shared);
        let text =
            Stretch::parse("5581 default file=/usr/bin/tollgate mapped=200 N0=200 kernelpagesize_kB=4");
        assert_eq!(text.whose, Whose::File);
        let written =
            Stretch::parse("5582 default file=/usr/bin/tollgate anon=2 dirty=2 N0=2 kernelpagesize_kB=4");
        assert_eq!(written.whose, Whose::Own);
        assert!(Stretch::parse("7fff default").bytes.is_empty());
    }

    #[test]
    fn memory_is_counted_beside_the_shards_of_its_node() {
        let tree = Layout::two_sockets().build();
        gateway(&tree, 900, &["0", "1", "32", "0-127"], "default", [30, 10]);
        let (root, machine) = (tree.root(), Machine::read(&tree.root()));
        assert_eq!(gateways(&root), [900]);
        let held = Held::read(&root, 900, &machine).unwrap();
        let of = |node: usize| held.nodes[node];
        assert_eq!((of(0).own_bytes, of(0).shared_bytes, of(0).shards), (30 << 20, 1 << 20, 2));
        assert_eq!((of(1).own_bytes, of(1).shared_bytes, of(1).shards), (10 << 20, 0, 1));
        let share = held.share_of(|node| node.id == 1);
        assert!((share - 10.0 / 41.0).abs() < 1e-9, "{share}");
        assert_eq!(
            held.text(),
            "process 900 has 31.0 MiB on node 0 with 2 shards, 10.0 MiB on node 1 with 1 shards"
        );
        tree.remove("/proc/900/numa_maps");
        assert!(Held::read(&root, 900, &machine).unwrap_err().contains("numa_maps cannot be read"));
        tree.put("/proc/900/comm", "other\n");
        assert!(gateways(&root).is_empty());
    }
}
