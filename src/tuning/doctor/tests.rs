//! Each check on a machine where things are well, and on ones where they are not.

use std::collections::HashSet;

use super::*;
use crate::tuning::{
    fixture::{self, Layout},
    pinning::{CpuChoice, Reserve},
    tree::{Tree, network},
};

/// A configuration for a machine with four CPUs.
fn needs() -> Needs {
    Needs {
        pinning: Pinning::default(),
        runtime: Runtime::Best,
        connections: 5_000,
        in_flight: 2_048,
        backlog: 4_096,
        ports: vec![8_080],
        clusters: vec![("main".to_owned(), 128)],
        tokens: true,
        log: Some("/var/log/tollgate/access.log".into()),
    }
}

const CPUS: &str = "/sys/devices/system/cpu";
const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0";
const PAGES: &str = "/sys/kernel/mm/transparent_hugepage";
const STATUS: &str = "Cpus_allowed_list:\t0-3\nSeccomp:\t0\n";
const LIMITS: &str =
    "Limit Soft Hard Units\nMax open files 1024 1048576 files\nMax locked memory 65536 65536 bytes\n";
const NETSTAT: &str =
    "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 0 0 0\nIpExt: A\nIpExt: 1\n";

/// A machine with four CPUs on which nothing is amiss.
fn well() -> Tree {
    let tree = Layout::cores(4).build();
    network(&tree, "eth0", &[0, 1, 2, 3]);
    for (node, content) in [
        ("/proc/sys/kernel/osrelease", "6.8.0-generic\n"),
        ("/proc/sys/kernel/io_uring_disabled", "0\n"),
        ("/proc/self/status", STATUS),
        ("/proc/self/limits", LIMITS),
        ("/proc/sys/fs/file-max", "9223372036854775807\n"),
        ("/proc/sys/net/core/somaxconn", "65535\n"),
        ("/proc/sys/net/ipv4/tcp_syncookies", "1\n"),
        ("/proc/sys/net/ipv4/tcp_max_syn_backlog", "65535\n"),
        ("/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
        ("/proc/sys/net/ipv4/ip_local_reserved_ports", "\n"),
        ("/proc/net/netstat", NETSTAT),
        ("/proc/net/softnet_stat", "00000009 00000000 00000000 0\n00000007 00000000 00000000 0\n"),
        ("/proc/cmdline", "quiet\n"),
        ("/proc/swaps", "Filename Type Size Used Priority\n"),
        ("/proc/1/comm", "systemd\n"),
        ("/proc/300/comm", "chronyd\n"),
        ("/proc/self/mounts", "/dev/sda1 / ext4 rw,relatime 0 0\n/dev/sdb1 /var/log xfs rw 0 0\n"),
        ("/var/log/tollgate/access.log", ""),
        (&format!("{CLOCK}/current_clocksource"), "tsc\n"),
        (&format!("{CLOCK}/available_clocksource"), "tsc hpet acpi_pm\n"),
        (&format!("{PAGES}/enabled"), "always [madvise] never\n"),
        (&format!("{PAGES}/defrag"), "always defer defer+madvise [madvise] never\n"),
        (&format!("{CPUS}/cpu0/cpuidle/state1/name"), "C1\n"),
        (&format!("{CPUS}/cpu0/cpuidle/state1/latency"), "2\n"),
        (&format!("{CPUS}/cpu0/cpuidle/state1/disable"), "0\n"),
    ] {
        tree.put(node, content);
    }
    for cpu in 0..4 {
        tree.put(&format!("{CPUS}/cpu{cpu}/cpufreq/scaling_governor"), "performance\n");
        tree.put(&format!("/sys/class/net/eth0/queues/tx-{cpu}/xps_cpus"), &format!("{:x}\n", 1 << cpu));
    }
    tree
}

fn reports(tree: &Tree, needs: &Needs) -> Vec<Report> {
    examine(&Scene::new(&tree.root(), needs, None))
}

fn report(tree: &Tree, needs: &Needs, id: &str) -> Report {
    reports(tree, needs).into_iter().find(|report| report.id == id).unwrap()
}

/// Broken by a check that complains about a machine on which nothing is amiss.
#[test]
fn all_is_well_on_a_machine_that_is_well() {
    for report in reports(&well(), &needs()) {
        assert_eq!(
            (report.state, report.remedy.clone()),
            (State::Ok, None),
            "{}: {}",
            report.id,
            report.found
        );
    }
}

/// A file that makes a machine unwell: the check that says so, how badly, and words of what it found.
type Ailment<'a> = (&'a str, State, &'a str, &'a [(&'a str, &'a str)]);

/// Broken by a check that never complains. Each is in this list or in the tests below.
#[test]
fn what_is_amiss_is_found() {
    use State::{Fail, Notice, Unknown, Warn};
    let governor: Vec<String> =
        (0..4).map(|cpu| format!("{CPUS}/cpu{cpu}/cpufreq/scaling_governor")).collect();
    let xps: Vec<String> =
        (0..4).map(|queue| format!("/sys/class/net/eth0/queues/tx-{queue}/xps_cpus")).collect();
    let ailments: &[Ailment<'_>] = &[
        ("io-uring", Warn, "io_uring_disabled is 2", &[("/proc/sys/kernel/io_uring_disabled", "2\n")]),
        ("io-uring", Notice, "io-uring-coop-taskrun only", &[("/proc/sys/kernel/osrelease", "6.0.1\n")]),
        ("kernel", Warn, "lacks DEFER_TASKRUN", &[("/proc/sys/kernel/osrelease", "5.15.0-100\n")]),
        ("kernel", Warn, "no io_uring", &[("/proc/sys/kernel/osrelease", "4.18.0\n")]),
        ("kernel", Notice, "SO_INCOMING_CPU does nothing", &[("/proc/sys/kernel/osrelease", "6.1.90\n")]),
        ("kernel", Unknown, "cannot be read", &[("/proc/sys/kernel/osrelease", "?\n")]),
        (
            "seccomp",
            Notice,
            "there is a filter",
            &[("/proc/self/status", "Cpus_allowed_list:\t0-3\nSeccomp:\t2\n")],
        ),
        (
            "open-files",
            Warn,
            "at most 4096 open files",
            &[("/proc/self/limits", "Max open files 1024 4096 files\n")],
        ),
        ("open-files", Warn, "for all processes together", &[("/proc/sys/fs/file-max", "1000\n")]),
        (
            "locked-memory",
            Warn,
            "64 KiB, and the rings of 4 shards",
            &[("/proc/sys/kernel/osrelease", "5.10.0\n")],
        ),
        (
            "cpu-quota",
            Warn,
            "1.50 CPUs' worth",
            &[
                ("/sys/fs/cgroup/cpu.max", "150000 100000\n"),
                ("/sys/fs/cgroup/cpu.stat", "nr_periods 10\nnr_throttled 3\n"),
            ],
        ),
        (
            "interrupts",
            Warn,
            "4 receive queues of eth0 interrupt CPUs 0 alone",
            &[
                ("/proc/irq/101/effective_affinity_list", "0\n"),
                ("/proc/irq/102/effective_affinity_list", "0\n"),
                ("/proc/irq/103/effective_affinity_list", "0\n"),
            ],
        ),
        ("irqbalance", Warn, "will move", &[("/proc/200/comm", "irqbalance\n")]),
        (
            "packet-steering",
            Warn,
            "RPS is on for 1 queues of eth0",
            &[("/sys/class/net/eth0/queues/rx-0/rps_cpus", "f\n")],
        ),
        (
            "packet-steering",
            Notice,
            "no XPS",
            &[(&xps[0], "0\n"), (&xps[1], "0\n"), (&xps[2], "0\n"), (&xps[3], "0\n")],
        ),
        ("backlog", Warn, "somaxconn = 128 cuts", &[("/proc/sys/net/core/somaxconn", "128\n")]),
        ("backlog", Warn, "tcp_syncookies = 0", &[("/proc/sys/net/ipv4/tcp_syncookies", "0\n")]),
        (
            "backlog",
            Notice,
            "tcp_max_syn_backlog = 512",
            &[("/proc/sys/net/ipv4/tcp_max_syn_backlog", "512\n")],
        ),
        (
            "listen-overflows",
            Notice,
            "5 overflows and 7 drops",
            &[("/proc/net/netstat", "TcpExt: ListenOverflows ListenDrops\nTcpExt: 5 7\n")],
        ),
        (
            "ephemeral-ports",
            Warn,
            "1000 ports, and 4 shards can have 8704",
            &[("/proc/sys/net/ipv4/ip_local_port_range", "40000 40999\n")],
        ),
        (
            "ephemeral-ports",
            Notice,
            "port 8080, which is listened on",
            &[("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535\n")],
        ),
        (
            "conntrack",
            Fail,
            "90 of 100",
            &[
                ("/proc/sys/net/netfilter/nf_conntrack_count", "90\n"),
                ("/proc/sys/net/netfilter/nf_conntrack_max", "100\n"),
            ],
        ),
        (
            "conntrack",
            Notice,
            "cannot be seen",
            &[
                ("/proc/sys/net/netfilter/nf_conntrack_count", "9\n"),
                ("/proc/sys/net/netfilter/nf_conntrack_max", "100\n"),
            ],
        ),
        (
            "conntrack",
            Warn,
            "1 connections on our ports",
            &[
                ("/proc/sys/net/netfilter/nf_conntrack_count", "9\n"),
                ("/proc/sys/net/netfilter/nf_conntrack_max", "100\n"),
                (
                    "/proc/net/nf_conntrack",
                    "ipv4 2 tcp 6 src=10.0.0.1 sport=50000 dport=8080\nipv4 2 tcp 6 sport=22 dport=50001\n",
                ),
            ],
        ),
        ("softnet", Notice, "10 packets dropped", &[("/proc/net/softnet_stat", "9 0000000a 0 0\n")]),
        (
            "audit",
            Warn,
            "1 rules on system calls",
            &[
                ("/proc/400/comm", "auditd\n"),
                ("/etc/audit/rules.d/a.rules", "-w /etc/passwd\n-a always,exit -S connect\n"),
            ],
        ),
        ("audit", Unknown, "cannot be read", &[("/proc/400/comm", "auditd\n")]),
        ("governor", Warn, "schedutil on CPUs 0", &[(&governor[0], "schedutil\n")]),
        (
            "governor",
            Notice,
            "powersave on CPUs 2",
            &[
                (&governor[2], "powersave\n"),
                ("/sys/devices/system/cpu/cpu2/cpufreq/scaling_driver", "intel_pstate\n"),
            ],
        ),
        (
            "c-states",
            Warn,
            "C6, 133 µs",
            &[
                ("/sys/devices/system/cpu/cpu0/cpuidle/state3/name", "C6\n"),
                ("/sys/devices/system/cpu/cpu0/cpuidle/state3/latency", "133\n"),
                ("/sys/devices/system/cpu/cpu0/cpuidle/state3/disable", "0\n"),
            ],
        ),
        (
            "clock-source",
            Warn,
            "hpet",
            &[("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n")],
        ),
        (
            "huge-pages",
            Notice,
            "always",
            &[("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n")],
        ),
        (
            "huge-pages",
            Warn,
            "on the spot",
            &[
                ("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
                ("/sys/kernel/mm/transparent_hugepage/defrag", "[always] defer never\n"),
            ],
        ),
        (
            "swap",
            Notice,
            "unused; vm.swappiness = 60",
            &[
                ("/proc/swaps", "Filename Type Size Used Priority\n/swap file 1048572 0 -2\n"),
                ("/proc/sys/vm/swappiness", "60\n"),
            ],
        ),
        (
            "swap",
            Warn,
            "4 MiB are in use",
            &[("/proc/swaps", "Filename Type Size Used Priority\n/swap file 1048572 4096 -2\n")],
        ),
        ("time-sync", Warn, "nobody keeps the clock", &[("/proc/300/comm", "other\n")]),
        ("time-sync", Warn, "has not synchronized", &[("/proc/300/comm", "systemd-timesyn\n")]),
        ("log-disk", Fail, "read-only", &[("/proc/self/mounts", "/dev/sda1 / ext4 ro 0 0\n")]),
        ("log-disk", Notice, "memory (tmpfs)", &[("/proc/self/mounts", "none /var tmpfs rw 0 0\n")]),
        ("log-disk", Warn, "another machine (nfs4)", &[("/proc/self/mounts", "host:/ / nfs4 rw 0 0\n")]),
    ];
    let mut seen: HashSet<&str> = ["placement", "numa"].into();
    for (id, state, words, files) in ailments {
        let tree = well();
        for (node, content) in *files {
            tree.put(node, content);
        }
        let report = report(&tree, &needs(), id);
        assert_eq!(report.state, *state, "{id}: {}", report.found);
        assert!(report.found.contains(words), "{id}: \"{}\" does not say \"{words}\"", report.found);
        assert_eq!(report.remedy.is_some(), *state != Unknown, "{id}: what to do");
        seen.insert(id);
    }
    for check in CHECKS {
        assert!(seen.contains(check.id), "{} is tried on no machine that is unwell", check.id);
    }
}

#[test]
fn placements_that_cost_are_found() {
    let tree = Layout::two_sockets().build();
    fixture::card(&tree, "eth0", &[40, 41]);
    let with = |cpus: &str, reserve: Reserve| Needs {
        pinning: Pinning { cpus: CpuChoice::parse(cpus).unwrap(), reserve, ..Pinning::default() },
        ..needs()
    };
    for (asked, id, state, words) in [
        (with("500", Reserve::None), "placement", State::Fail, "CPU 500 cannot be used"),
        (with("0,64", Reserve::None), "placement", State::Notice, "share cores in twos"),
        (with("auto", Reserve::None), "numa", State::Warn, "shards on the nodes 0-1"),
        (with("first-usable-node", Reserve::Auto), "numa", State::Warn, "eth0 on node 1"),
        (with("none", Reserve::None), "numa", State::Notice, "not pinned"),
        (with("32-63", Reserve::None), "numa", State::Ok, "all shards on node 1"),
        (with("40-43", Reserve::None), "interrupts", State::Notice, "shards on CPUs 42-43 get none"),
        (
            with("0-3", Reserve::None),
            "interrupts",
            State::Notice,
            "interrupt CPUs 40-41, which have no shard",
        ),
        (with("none", Reserve::None), "interrupts", State::Unknown, "not pinned"),
    ] {
        let report = report(&tree, &asked, id);
        assert_eq!(report.state, state, "{id}: {}", report.found);
        assert!(report.found.contains(words), "{id}: {}", report.found);
    }
    let crowded = Needs { pinning: Pinning { count: Some(9), ..Pinning::default() }, ..needs() };
    assert_eq!(report(&well(), &crowded, "placement").state, State::Warn);
}

/// Broken by a guess from files where the machine was asked.
#[test]
fn an_answer_of_the_machine_counts_more_than_its_files() {
    let tree = well();
    let look = |needs: &Needs, ring| {
        let root = tree.root();
        let reports = examine(&Scene::new(&root, needs, Some(ring)));
        reports.into_iter().find(|report| report.id == "io-uring").unwrap().state
    };
    let denied = || Err("Operation not permitted".to_owned());
    let wants = |runtime| Needs { runtime, ..needs() };
    assert_eq!(look(&wants(Runtime::Best), denied()), State::Warn);
    assert_eq!(look(&wants(Runtime::Ring), denied()), State::Fail);
    assert_eq!(look(&wants(Runtime::Epoll), denied()), State::Notice);
    assert_eq!(look(&wants(Runtime::Best), Ok("io-uring-defer-taskrun".to_owned())), State::Ok);
}

/// Broken by a check that takes a file it cannot read for a bad one, or for a good one where that is not known.
#[test]
fn what_cannot_be_seen_is_no_failure() {
    let bare = Tree::new(&[]);
    let modest = Needs { log: None, tokens: false, ..needs() };
    for report in reports(&bare, &modest) {
        assert!(report.state < State::Warn, "{}: {}", report.id, report.found);
    }
}

/// Broken by a check that the handbook does not explain, or a heading that is no check's.
#[test]
fn the_handbook_explains_each_check() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tuning/HANDBOOK.md");
    let handbook = std::fs::read_to_string(path).unwrap();
    let headings: Vec<&str> = handbook.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let checks = CHECKS.iter().map(|check| check.id);
    let all: Vec<&str> = checks.chain(live::LIVE.iter().map(|check| check.id)).collect();
    assert_eq!(headings, all, "the headings of {path} are the checks, in their order");
}

/// A moment of a machine under traffic, with process 70 as its gateway.
fn moment(numbers: [u64; 8]) -> live::Sample {
    let [dropped, drops, again, sent, stolen, stopped, migrations, preemptions] = numbers;
    let tree = Tree::new(&[
        ("/proc/net/softnet_stat", &format!("9 {dropped:08x} 0 0\n")),
        ("/proc/net/netstat", &format!("TcpExt: ListenDrops\nTcpExt: {drops}\n")),
        ("/proc/net/snmp", &format!("Tcp: OutSegs RetransSegs\nTcp: {sent} {again}\n")),
        ("/proc/stat", &format!("cpu  100 0 0 {} 0 0 0 {stolen} 0 0\n", 1000 + sent)),
        ("/proc/self/cgroup", "0::/\n"),
        ("/sys/fs/cgroup/cpu.stat", &format!("nr_periods 100\nnr_throttled {stopped}\n")),
        ("/proc/70/task/70/comm", "tollgate\n"),
        ("/proc/70/task/71/comm", "shard-0\n"),
        ("/proc/70/task/71/sched", &format!("se.nr_migrations      :   {migrations}\n")),
        ("/proc/70/task/71/status", &format!("nonvoluntary_ctxt_switches:\t{preemptions}\n")),
    ]);
    live::Sample::take(&tree.root(), Some(70))
}

/// Broken by counts since the machine started: only what grows meanwhile is happening.
#[test]
fn traffic_is_judged_by_what_grows() {
    let begin = [50, 50, 50, 10_000, 50, 50, 50, 50];
    let watched = |end: [u64; 8], busy: &[f64]| {
        let interval =
            live::Interval { before: moment(begin), after: moment(end), seconds: 10, busy: busy.to_vec() };
        live::examine(&interval)
    };
    let mut calm = begin;
    calm[3] += 10_000;
    for report in watched(calm, &[0.5, 0.52]) {
        assert_eq!(report.state, State::Ok, "{}: {}", report.id, report.found);
    }
    let stormy = [51, 52, 550, 20_000, 2_000, 53, 10_050, 30_050];
    let reports = watched(stormy, &[0.9, 0.1]);
    for report in &reports {
        let wanted = if report.id == "live-imbalance" { State::Notice } else { State::Warn };
        assert_eq!(report.state, wanted, "{}: {}", report.id, report.found);
        assert!(report.remedy.is_some());
    }
    assert!(reports[0].found.contains("1 packets dropped"), "{}", reports[0].found);
    let unseen = live::Interval {
        before: live::Sample::default(),
        after: live::Sample::default(),
        seconds: 1,
        busy: vec![],
    };
    assert!(live::examine(&unseen).iter().all(|report| report.state < State::Notice));
}
