//! Machines as their files show them, for tests: made from a description, since thousands of files are no reading.

use super::tree::Tree;

/// What a made-up machine has.
pub(crate) struct Layout {
    /// NUMA nodes, each a socket; 0: the machine does not know the word.
    pub(crate) nodes: usize,
    /// Cores, over all nodes.
    pub(crate) cores: usize,
    /// Threads of each core. The first threads of all cores are numbered before the second ones.
    pub(crate) threads: usize,
    /// Cores, the last ones, that have one thread and 60 % of the others' capacity.
    pub(crate) slow_cores: usize,
    /// Cores that share a last-level cache.
    pub(crate) cores_per_cache: usize,
}

impl Layout {
    /// One socket with `cores` cores of one thread, and one cache for all.
    pub(crate) fn cores(cores: usize) -> Self {
        Self { nodes: 1, cores, threads: 1, slow_cores: 0, cores_per_cache: cores }
    }

    /// Two sockets of 32 cores with two threads each, a cache for 8 cores: 128 CPUs.
    pub(crate) fn two_sockets() -> Self {
        Self { nodes: 2, cores: 64, threads: 2, slow_cores: 0, cores_per_cache: 8 }
    }

    /// A laptop: 4 fast cores of two threads, 4 slow ones of one.
    pub(crate) fn hybrid() -> Self {
        Self { nodes: 1, cores: 8, threads: 2, slow_cores: 4, cores_per_cache: 8 }
    }

    /// All CPUs: each with its core and whether it is a slow one.
    fn cpus(&self) -> Vec<(usize, bool)> {
        let fast = self.cores - self.slow_cores;
        let threads = (0..self.threads).flat_map(|_| (0..fast).map(|core| (core, false)));
        threads.chain((fast..self.cores).map(|core| (core, true))).collect()
    }

    /// The machine.
    pub(crate) fn build(&self) -> Tree {
        let cpus = self.cpus();
        let all = format!("0-{}", cpus.len() - 1);
        let tree = Tree::new(&[
            ("/proc/self/status", &format!("Name:\ttollgate\nCpus_allowed_list:\t{all}\nSeccomp:\t0\n")),
            ("/proc/self/cgroup", "0::/\n"),
            ("/proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\n"),
            ("/sys/devices/system/cpu/online", &all),
        ]);
        let node_of = |core: usize| core * self.nodes.max(1) / self.cores;
        let list = |fits: &dyn Fn(usize) -> bool| {
            let ids: Vec<usize> =
                cpus.iter().enumerate().filter(|(_, (core, _))| fits(*core)).map(|(id, _)| id).collect();
            super::cpus::print_list(&ids)
        };
        for (id, &(core, slow)) in cpus.iter().enumerate() {
            let cpu = format!("/sys/devices/system/cpu/cpu{id}");
            tree.put(&format!("{cpu}/topology/core_cpus_list"), &list(&|other| other == core));
            tree.put(&format!("{cpu}/topology/physical_package_id"), &node_of(core).to_string());
            if self.slow_cores > 0 {
                tree.put(&format!("{cpu}/cpu_capacity"), if slow { "614" } else { "1024" });
            }
            let group = core / self.cores_per_cache;
            let caches = [
                (1, "Data", "48K", list(&|other| other == core)),
                (3, "Unified", "32768K", list(&|other| other / self.cores_per_cache == group)),
            ];
            for (index, (level, kind, size, shared)) in caches.iter().enumerate() {
                let cache = format!("{cpu}/cache/index{index}");
                tree.put(&format!("{cache}/level"), &level.to_string());
                tree.put(&format!("{cache}/type"), kind);
                tree.put(&format!("{cache}/size"), size);
                tree.put(&format!("{cache}/shared_cpu_list"), shared);
            }
        }
        for node in 0..self.nodes {
            let at = format!("/sys/devices/system/node/node{node}");
            tree.put(&format!("{at}/cpulist"), &list(&|core| node_of(core) == node));
            tree.put(&format!("{at}/meminfo"), &format!("Node {node} MemTotal:       67108864 kB\n"));
        }
        tree
    }
}

/// Puts a card of NUMA node 1 into `tree`, with a queue for each of `cpus` that interrupts it.
pub(crate) fn card(tree: &Tree, name: &str, cpus: &[usize]) {
    super::tree::network(tree, name, cpus);
    tree.put(&format!("/sys/class/net/{name}/device/uevent"), "DRIVER=ice\nPCI_CLASS=20000\n");
    tree.put(&format!("/sys/class/net/{name}/device/numa_node"), "1\n");
    tree.put(&format!("/sys/class/net/{name}/speed"), "25000\n");
}

/// Lets process `pid` be a gateway with a shard for each of `shards`, the CPUs that it may run on. It has so many MiB on
/// each of two nodes, and one on the first that it shares.
pub(crate) fn gateway(tree: &Tree, pid: u64, shards: &[&str], policy: &str, mebibytes: [u64; 2]) {
    tree.put(&format!("/proc/{pid}/comm"), "tollgate\n");
    for (shard, cpus) in (0..).zip(shards) {
        let thread = format!("/proc/{pid}/task/{}", pid + 1 + shard);
        tree.put(&format!("{thread}/comm"), &format!("shard-{shard}\n"));
        tree.put(&format!("{thread}/status"), &format!("Name:\tshard-{shard}\nCpus_allowed_list:\t{cpus}\n"));
    }
    let [first, second] = mebibytes.map(|mebibytes| mebibytes * 256);
    let maps = format!(
        "5581a0000000 {policy} file=/usr/bin/tollgate mapped=900 N0=900 kernelpagesize_kB=4\n\
         7f5c00000000 {policy} anon={} dirty={} active=0 N0={first} N1={second} kernelpagesize_kB=4\n\
         7f5d00000000 {policy} file=/memfd:tollgate\\040(deleted) dirty=256 N0=256 kernelpagesize_kB=4\n",
        first + second,
        first + second
    );
    tree.put(&format!("/proc/{pid}/numa_maps"), &maps);
}
