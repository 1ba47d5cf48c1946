//! The CPUs of a machine, how they hang together, and which of them this process may use.
//!
//! Read from sysfs, which leaves things out on many machines: without NUMA there is one node, without a word about
//! threads every CPU is a core, without a word about speed all are equally fast.

use serde::Serialize;

use crate::base::affinity;

use super::{
    cgroup,
    cpus::{parse_list, print_list},
    root::Root,
};

/// A machine, as far as it concerns where threads run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// The CPUs that are switched on, ascending.
    pub cpus: Vec<Cpu>,
    /// Those of them that this process may run on: its affinity mask and control group leave them.
    pub usable: Vec<usize>,
    /// How many CPUs' worth of time its control group gives it, if that is bounded.
    pub quota: Option<f64>,
    /// The NUMA nodes; at least one.
    pub nodes: Vec<Node>,
    /// The caches, the lowest levels first; none where the machine does not say.
    pub caches: Vec<Cache>,
}

/// A CPU: what the scheduler runs a thread on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cpu {
    /// Its number.
    pub id: usize,
    /// The NUMA node it is on.
    pub node: usize,
    /// The socket it is in.
    pub package: usize,
    /// All CPUs of its core, ascending: itself, and its SMT siblings.
    pub core: Vec<usize>,
    /// How fast it is, in whatever unit the machine tells; 0 if it does not.
    pub capacity: u32,
}

/// A NUMA node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its number.
    pub id: usize,
    /// The CPUs on it that are switched on.
    pub cpus: Vec<usize>,
    /// The memory on it, if the machine tells.
    pub memory_bytes: Option<u64>,
}

/// A cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// 1 is next to the core.
    pub level: u32,
    /// Data, Instruction or Unified.
    pub kind: String,
    /// Its size, as the machine writes it.
    pub size: String,
    /// Whose it is.
    pub cpus: Vec<usize>,
}

const CPUS: &str = "/sys/devices/system/cpu";
const NODES: &str = "/sys/devices/system/node";

impl Machine {
    /// The machine below `root`. What it does not tell is filled in with what is true of a simple machine.
    pub fn read(root: &Root) -> Self {
        let allowed = allowed(root);
        let online = root.read(&format!("{CPUS}/online")).ok().and_then(|text| parse_list(&text).ok());
        let online = online.filter(|cpus| !cpus.is_empty()).unwrap_or_else(|| match allowed.is_empty() {
            true => vec![0],
            false => allowed.clone(),
        });
        let nodes = nodes(root, &online);
        let node_of =
            |cpu: usize| nodes.iter().find(|node| node.cpus.contains(&cpu)).map_or(0, |node| node.id);
        let cpus = online.iter().map(|&id| Cpu {
            id,
            node: node_of(id),
            // -1 where the firmware does not say.
            package: root.number(&format!("{CPUS}/cpu{id}/topology/physical_package_id")).unwrap_or(0),
            core: core(root, id, &online),
            capacity: capacity(root, id),
        });
        let cpus = cpus.collect();
        let caches = caches(root, &online);
        let group = cgroup::cpuset(root);
        let usable = |cpu: &&usize| {
            (allowed.is_empty() || allowed.contains(cpu))
                && group.as_ref().is_none_or(|group| group.contains(cpu))
        };
        let usable = online.iter().filter(usable).copied().collect();
        let quota = cgroup::cpu_quota(root).map(|limit| limit.amount);
        Self { cpus, usable, quota, nodes, caches }
    }

    /// The CPU with number `id`, if it is switched on.
    pub fn cpu(&self, id: usize) -> Option<&Cpu> {
        self.cpus.iter().find(|cpu| cpu.id == id)
    }

    /// Where a thread on CPU `id` is, for a message: with the node, if there are several.
    pub fn place(&self, id: usize) -> String {
        match self.cpu(id) {
            Some(cpu) if self.nodes.len() > 1 => format!("CPU {id}, NUMA node {}", cpu.node),
            _ => format!("CPU {id}"),
        }
    }

    /// The usable CPUs, as a list for a message.
    pub fn usable_list(&self) -> String {
        print_list(&self.usable)
    }
}

/// The CPUs that the process's mask names; none if nobody says.
fn allowed(root: &Root) -> Vec<usize> {
    if root.is_system()
        && let Ok(cpus) = affinity::of_current()
    {
        return cpus;
    }
    let status = root.read("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.and_then(|list| parse_list(list).ok()).unwrap_or_default()
}

fn nodes(root: &Root, online: &[usize]) -> Vec<Node> {
    let names = root.list(NODES).unwrap_or_default();
    let ids = names.iter().filter_map(|name| name.strip_prefix("node")?.parse::<usize>().ok());
    let nodes = ids.filter_map(|id| {
        let cpus = parse_list(&root.read(&format!("{NODES}/node{id}/cpulist")).ok()?).ok()?;
        let cpus = cpus.into_iter().filter(|cpu| online.contains(cpu)).collect();
        Some(Node {
            id,
            cpus,
            memory_bytes: memory_bytes(&root.read(&format!("{NODES}/node{id}/meminfo")).ok()?),
        })
    });
    let nodes: Vec<Node> = nodes.collect();
    if nodes.iter().any(|node| !node.cpus.is_empty()) {
        return nodes;
    }
    let memory_bytes = root.read("/proc/meminfo").ok().and_then(|text| memory_bytes(&text));
    vec![Node { id: 0, cpus: online.to_vec(), memory_bytes }]
}

/// The bytes that a `MemTotal` line speaks of: `Node 0 MemTotal:  8 kB`, or the same without the node.
pub fn memory_bytes(text: &str) -> Option<u64> {
    let (_, rest) = text.lines().find_map(|line| line.split_once("MemTotal:"))?;
    let kibibytes: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn core(root: &Root, id: usize, online: &[usize]) -> Vec<usize> {
    let list = ["core_cpus_list", "thread_siblings_list"]
        .iter()
        .find_map(|file| root.read(&format!("{CPUS}/cpu{id}/topology/{file}")).ok());
    let siblings = list.and_then(|list| parse_list(&list).ok()).unwrap_or_default();
    let mut core: Vec<usize> = siblings.into_iter().filter(|cpu| online.contains(cpu)).collect();
    if !core.contains(&id) {
        core = vec![id];
    }
    core.sort_unstable();
    core
}

/// How fast a CPU is, after the first of those who know: the scheduler, the firmware, the frequency driver.
fn capacity(root: &Root, id: usize) -> u32 {
    ["cpu_capacity", "acpi_cppc/highest_perf", "cpufreq/cpuinfo_max_freq"]
        .iter()
        .find_map(|file| root.number(&format!("{CPUS}/cpu{id}/{file}")))
        .unwrap_or(0)
}

fn caches(root: &Root, online: &[usize]) -> Vec<Cache> {
    let mut caches: Vec<Cache> = Vec::new();
    for id in online {
        let names = root.list(&format!("{CPUS}/cpu{id}/cache")).unwrap_or_default();
        for name in names.iter().filter(|name| name.starts_with("index")) {
            let read = |file: &str| root.read_trimmed(&format!("{CPUS}/cpu{id}/cache/{name}/{file}")).ok();
            let cache = || {
                let cpus = parse_list(&read("shared_cpu_list")?).ok()?;
                let cpus = cpus.into_iter().filter(|cpu| online.contains(cpu)).collect();
                Some(Cache {
                    level: read("level")?.parse().ok()?,
                    kind: read("type")?,
                    size: read("size")?,
                    cpus,
                })
            };
            if let Some(cache) = cache().filter(|cache| cache.cpus.first() == Some(id)) {
                caches.push(cache);
            }
        }
    }
    caches.sort_by_key(|cache| cache.level);
    caches
}
