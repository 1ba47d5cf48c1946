//! Placements on machines of every shape.

use super::*;
use crate::tuning::{fixture::Layout, tree::Tree};

fn pinning(cpus: &str) -> Pinning {
    Pinning {
        count: None,
        cpus: CpuChoice::parse(cpus).unwrap(),
        threads_per_core: ThreadsPerCore::All,
        reserve: Reserve::None,
    }
}

fn place(tree: &Tree, pinning: &Pinning) -> Result<Placement, String> {
    Placement::new(pinning, &Machine::read(&tree.root()))
}

/// The shards' CPUs as a list, and those of the others.
fn lists(placement: &Placement) -> (String, String) {
    let shards: Option<Vec<usize>> = placement.shards.iter().copied().collect();
    (shards.map_or("any".to_owned(), |cpus| print_list(&cpus)), print_list(&placement.others))
}

fn placed(tree: &Tree, pinning: &Pinning) -> (String, String) {
    lists(&place(tree, pinning).unwrap())
}

fn both(shards: &str, others: &str) -> (String, String) {
    (shards.to_owned(), others.to_owned())
}

#[test]
fn choices() {
    assert_eq!(CpuChoice::parse("0-2, 8"), Ok(CpuChoice::These(vec![0, 1, 2, 8])));
    assert_eq!(CpuChoice::parse("first-usable-node"), Ok(CpuChoice::FirstUsableNode));
    for text in ["", "a", "3-1", "1,1", "0-99999", "-1", "1,", "Performance"] {
        assert!(CpuChoice::parse(text).is_err(), "{text}");
        assert!(Reserve::parse(text).is_err(), "{text}");
    }
    assert!(CpuChoice::parse("x").unwrap_err().contains("\"first-usable-node\""));
    assert_eq!(Reserve::parse("0"), Ok(Reserve::These(vec![0])));
}

#[test]
fn one_shard_for_each_cpu_unless_said_otherwise() {
    let one = Layout::cores(1).build();
    assert_eq!(placed(&one, &pinning("auto")), both("0", ""));
    let two = Layout::cores(2).build();
    assert_eq!(placed(&two, &pinning("auto")), both("0-1", ""));
    assert_eq!(placed(&two, &pinning("none")), both("any", ""));
    assert_eq!(placed(&two, &pinning("1")), both("1", "0"));
    let four = Pinning { count: Some(4), ..pinning("0-1") };
    assert_eq!(placed(&two, &four), both("0-1,0-1", ""));
    // More than there are: the system moves them.
    let three = place(&two, &Pinning { count: Some(3), ..pinning("auto") }).unwrap();
    assert_eq!(three.shards, [None; 3]);
    assert!(three.notes[0].contains("3 shards would fight over 2 CPUs"), "{:?}", three.notes);
    let big = Layout::cores(64).build();
    assert_eq!(placed(&big, &pinning("auto")), both("0-63", ""));
}

/// Broken by a control thread or a log that runs where a shard does although there is room elsewhere.
#[test]
fn other_threads_go_where_no_shard_is() {
    let two_sockets = Layout::two_sockets().build();
    let kept = Pinning { reserve: Reserve::Auto, ..pinning("auto") };
    assert_eq!(placed(&two_sockets, &kept), both("2-63,66-127", "0-1,64-65"));
    // Two shards have a core each; the second threads of these cores are not the first choice for others.
    let few = Pinning { count: Some(2), ..pinning("auto") };
    assert_eq!(placed(&two_sockets, &few), both("0-1", "2-63,66-127"));
    let one_each = Pinning { threads_per_core: ThreadsPerCore::One, ..pinning("auto") };
    assert_eq!(placed(&two_sockets, &one_each), both("0-63", "64-127"));
    let eight = Layout::cores(8).build();
    assert_eq!(placed(&eight, &kept), both("1-7", "0"));
    let four = Layout::cores(4).build();
    assert_eq!(placed(&four, &kept), both("0-3", ""));
    let named = Pinning { reserve: Reserve::These(vec![3]), ..pinning("auto") };
    assert_eq!(placed(&four, &named), both("0-2", "3"));
}

#[test]
fn policies_choose_by_node_and_by_speed() {
    let two_sockets = Layout::two_sockets().build();
    assert_eq!(placed(&two_sockets, &pinning("first-usable-node")), both("0-31,64-95", "32-63,96-127"));
    let hybrid = Layout::hybrid().build();
    assert_eq!(placed(&hybrid, &pinning("performance")), both("0-7", "8-11"));
    assert_eq!(placed(&hybrid, &pinning("efficiency")), both("8-11", "0-7"));
    let fast = Pinning { threads_per_core: ThreadsPerCore::One, ..pinning("performance") };
    assert_eq!(placed(&hybrid, &fast), both("0-3", "8-11"));
    // Where all are equal, each policy has them all.
    let eight = Layout::cores(8).build();
    for policy in ["performance", "efficiency", "first-usable-node"] {
        assert_eq!(placed(&eight, &pinning(policy)), both("0-7", ""), "{policy}");
    }
}

/// Broken by counting the CPUs of the machine instead of those the process has.
#[test]
fn masks_and_groups_are_honoured() {
    let tree = Layout::cores(64).build();
    tree.put("/proc/self/status", "Cpus_allowed_list:\t4-11\n");
    assert_eq!(placed(&tree, &pinning("auto")), both("4-11", ""));
    tree.put("/proc/self/cgroup", "0::/box\n");
    tree.put("/sys/fs/cgroup/box/cpuset.cpus.effective", "8-63\n");
    assert_eq!(placed(&tree, &pinning("auto")), both("8-11", ""));
    let refused = place(&tree, &pinning("4")).unwrap_err();
    assert_eq!(refused, "shards.cpus: CPU 4 cannot be used; this process may run on 8-11");
    // A CPU that exists and is not ours is free of our shards already.
    let named = Pinning { reserve: Reserve::These(vec![0]), ..pinning("auto") };
    assert_eq!(placed(&tree, &named), both("8-11", ""));
}

/// Broken by 64 shards on two CPUs' worth of time: each is stopped for most of every period.
#[test]
fn a_quota_counts_as_so_many_cpus() {
    let tree = Layout::cores(64).build();
    tree.put("/sys/fs/cgroup/cpu.max", "250000 100000\n");
    let placement = place(&tree, &pinning("auto")).unwrap();
    assert_eq!(placement.shards, [None; 2]);
    assert!(placement.notes[0].contains("2.50 CPUs' worth"), "{:?}", placement.notes);
    // What was asked for is had, and it is said what that means.
    let four = place(&tree, &Pinning { count: Some(4), ..pinning("0-3") }).unwrap();
    assert_eq!(four.pinned(), [0, 1, 2, 3]);
    assert!(four.notes[0].contains("will stop them"), "{:?}", four.notes);
    tree.put("/sys/fs/cgroup/cpu.max", "50000 100000\n");
    assert_eq!(place(&tree, &pinning("auto")).unwrap().shards, [None]);
    tree.put("/sys/fs/cgroup/cpu.max", "max 100000\n");
    assert_eq!(place(&tree, &pinning("auto")).unwrap().shards.len(), 64);
}

#[test]
fn what_cannot_be_had_is_refused() {
    let four = Layout::cores(4).build();
    let reserve = |cpus: &[usize]| Reserve::These(cpus.to_vec());
    for (asked, words) in [
        (pinning("7"), "shards.cpus: CPU 7 cannot be used; this process may run on 0-3"),
        (
            Pinning { reserve: reserve(&[9]), ..pinning("auto") },
            "shards.reserve: there is no CPU 9; this machine has 0-3",
        ),
        (Pinning { reserve: reserve(&[0, 1, 2, 3]), ..pinning("auto") }, "shards.reserve: 0-3 keeps all"),
        (Pinning { count: Some(5), ..pinning("performance") }, "shards.count: 5 is more than the CPUs"),
    ] {
        let refused = place(&four, &asked).unwrap_err();
        assert!(refused.starts_with(words), "{refused}");
    }
    let two_sockets = Layout::two_sockets().build();
    let siblings = Pinning { threads_per_core: ThreadsPerCore::One, ..pinning("0,64") };
    let refused = place(&two_sockets, &siblings).unwrap_err();
    assert!(refused.contains("CPUs 0 and 64 are threads of one core"), "{refused}");
    let given = Pinning { reserve: reserve(&[1, 5]), ..pinning("0-3") };
    let contradiction = given.contradiction();
    assert_eq!(contradiction.as_deref(), Some("CPU 1 is kept free of shards here and given to them by cpus"));
    assert!(Pinning { reserve: Reserve::Auto, ..pinning("none") }.contradiction().is_some());
    assert_eq!(Pinning { reserve: reserve(&[4]), ..pinning("0-3") }.contradiction(), None);
}

/// Broken by trusting that sysfs says everything: a container may hide all of it.
#[test]
fn a_machine_that_tells_little_is_a_simple_one() {
    let bare = Tree::new(&[]);
    assert_eq!(placed(&bare, &pinning("auto")), both("0", ""));
    let no_numa = Layout { nodes: 0, ..Layout::cores(4) }.build();
    let machine = Machine::read(&no_numa.root());
    assert_eq!(machine.nodes.len(), 1);
    assert_eq!(machine.nodes[0].cpus, [0, 1, 2, 3]);
    assert_eq!(machine.nodes[0].memory_bytes, Some(16 << 30));
    assert_eq!(placed(&no_numa, &pinning("first-usable-node")), both("0-3", ""));
    let masked = Tree::new(&[("/proc/self/status", "Cpus_allowed_list:\t2-3\n")]);
    assert_eq!(placed(&masked, &pinning("auto")), both("2-3", ""));
}

#[test]
fn machines_are_read_as_they_are() {
    let machine = Machine::read(&Layout::two_sockets().build().root());
    assert_eq!(machine.cpus.len(), 128);
    let cpu = machine.cpu(100).unwrap();
    assert_eq!((cpu.node, cpu.package, cpu.core.as_slice()), (1, 1, &[36, 100][..]));
    let shared: Vec<&Vec<usize>> =
        machine.caches.iter().filter(|cache| cache.level == 3).map(|cache| &cache.cpus).collect();
    assert_eq!(shared.len(), 8);
    assert_eq!(print_list(shared[1]), "8-15,72-79");
    // A CPU that is switched off is in no core, no cache and no node.
    let tree = Layout::two_sockets().build();
    tree.put("/sys/devices/system/cpu/online", "0-99,101-127");
    let machine = Machine::read(&tree.root());
    assert_eq!(machine.cpu(36).unwrap().core, [36]);
    assert!(machine.nodes.iter().all(|node| !node.cpus.contains(&100)));
}
