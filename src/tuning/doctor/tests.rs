//! Each check on a machine where things are well, and on ones where they are not.

use std::collections::HashSet;

use super::*;
use crate::tuning::{
    cpus::parse_list,
    fixture::{self, Layout},
    journal,
    knobs::{Part, survey_of},
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

/// Files that make a machine unwell: the check that says so, how badly, and words of what it found.
type Ailment = (&'static str, State, &'static str, Vec<(String, String)>);

/// The same in words of the list below.
type Written<'a> = (&'static str, State, &'static str, &'a [(&'a str, &'a str)]);

fn ailments() -> Vec<Ailment> {
    use State::{Fail, Notice, Unknown, Warn};
    let governor: Vec<String> =
        (0..4).map(|cpu| format!("{CPUS}/cpu{cpu}/cpufreq/scaling_governor")).collect();
    let xps: Vec<String> =
        (0..4).map(|queue| format!("/sys/class/net/eth0/queues/tx-{queue}/xps_cpus")).collect();
    let ailments: &[Written<'_>] = &[
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
    let owned = |files: &[(&str, &str)]| {
        files.iter().map(|&(node, content)| (node.to_owned(), content.to_owned())).collect()
    };
    ailments.iter().map(|&(id, state, words, files)| (id, state, words, owned(files))).collect()
}

/// Broken by a check that never complains. Each is in this list or in the tests below.
#[test]
fn what_is_amiss_is_found() {
    let mut seen: HashSet<&str> = ["placement", "numa", "numa-memory"].into();
    for (id, state, words, files) in ailments() {
        let tree = well();
        for (node, content) in &files {
            tree.put(node, content);
        }
        let report = report(&tree, &needs(), id);
        assert_eq!(report.state, state, "{id}: {}", report.found);
        assert!(report.found.contains(words), "{id}: \"{}\" does not say \"{words}\"", report.found);
        assert_eq!(report.remedy.is_some(), state != State::Unknown, "{id}: what to do");
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

/// Broken by a check that looks at where shards are and not at where their memory is.
#[test]
fn memory_that_is_not_where_the_shards_are_is_found() {
    for (shards, policy, mebibytes, state, words) in [
        (&["32", "33"][..], "default", [1, 60], State::Ok, "60.0 MiB on node 1 with 2 shards"),
        (&["32", "33"], "default", [40, 60], State::Warn, "and shards run on node 1 only"),
        (&["0", "32"], "interleave:0-1", [50, 50], State::Warn, "on purpose (interleave:0-1)"),
        (&["0", "32"], "default", [50, 50], State::Ok, "on node 1 with 1 shards"),
        (&["0", "32"], "default", [90, 10], State::Notice, "less on node 1 than its shards would take"),
        (&["0-127", "0-127"], "default", [90, 10], State::Ok, "its shards run on any node"),
    ] {
        let tree = Layout::two_sockets().build();
        let look = || report(&tree, &needs(), "numa-memory");
        assert_eq!(look().state, State::Unknown, "no gateway runs");
        fixture::gateway(&tree, 900, shards, policy, mebibytes);
        let report = look();
        assert_eq!(report.state, state, "{}", report.found);
        assert!(report.found.contains(words), "{}", report.found);
        tree.remove("/proc/900/numa_maps");
        assert_eq!(look().state, State::Unknown, "{}", look().found);
    }
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

/// A moment of a machine under traffic, with process 70 as its gateway, whose shards had worked for so many milliseconds.
fn moment(numbers: [u64; 8], worked_ms: &[u64]) -> live::Sample {
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
    for (shard, worked_ms) in worked_ms.iter().enumerate() {
        // Threads are listed by their numbers, which need not be in the order of their shards.
        let thread = format!("/proc/70/task/{}", if shard == 0 { 71 } else { 90 - shard });
        tree.put(&format!("{thread}/comm"), &format!("shard-{shard}\n"));
        tree.put(&format!("{thread}/schedstat"), &format!("{} 5 5\n", worked_ms * 1_000_000));
        if shard > 0 {
            tree.put(&format!("{thread}/sched"), "se.nr_migrations : 0\n");
            tree.put(&format!("{thread}/status"), "nonvoluntary_ctxt_switches:\t0\n");
        }
    }
    live::Sample::take(&tree.root(), Some(70))
}

/// Ten seconds of traffic.
fn interval(ends: [[u64; 8]; 2], worked_ms: &[u64], told: live::Told) -> live::Interval {
    let idle = vec![1_000; worked_ms.len()];
    let worked: Vec<u64> = worked_ms.iter().map(|worked| 1_000 + worked).collect();
    live::Interval { before: moment(ends[0], &idle), after: moment(ends[1], &worked), seconds: 10, told }
}

/// Broken by counts since the machine started: only what grows meanwhile is happening.
#[test]
fn traffic_is_judged_by_what_grows() {
    let begin = [50, 50, 50, 10_000, 50, 50, 50, 50];
    let watched = |end: [u64; 8], worked_ms: &[u64]| {
        live::examine(&interval([begin, end], worked_ms, live::Told::default()))
    };
    let mut calm = begin;
    calm[3] += 10_000;
    for report in watched(calm, &[5_000, 5_200]) {
        assert_eq!(report.state, State::Ok, "{}: {}", report.id, report.found);
    }
    let stormy = [51, 52, 550, 20_000, 2_000, 53, 20_050, 30_050];
    let reports = watched(stormy, &[9_000, 1_000]);
    for report in &reports {
        assert_eq!(report.state, State::Warn, "{}: {}", report.id, report.found);
        assert!(report.remedy.is_some());
    }
    assert!(reports[0].found.contains("1 packets dropped"), "{}", reports[0].found);
    let only = reports[0].tune.as_deref();
    assert_eq!(only, Some("tollgate tune apply --only net.core.netdev_max_backlog"));
    let unseen = live::Interval {
        before: live::Sample::default(),
        after: live::Sample::default(),
        seconds: 1,
        told: live::Told::default(),
    };
    assert!(live::examine(&unseen).iter().all(|report| report.state < State::Notice));
}

/// Broken by advice that has nothing to do with what makes shards uneven.
#[test]
fn an_imbalance_is_said_with_what_makes_it() {
    let calm = [[0; 8]; 2];
    let by = |by: &str| vec![("0.0.0.0:80".to_owned(), by.to_owned(), "a reason".to_owned())];
    for (worked_ms, connections, steering, state, words) in [
        (
            &[9_000, 1_000][..],
            vec![9, 1],
            by("hash"),
            State::Warn,
            "10 clients' connections cannot be spread",
        ),
        (&[6_000, 3_000], vec![40, 60], by("cpu"), State::Notice, "accept_steering = \"hash\""),
        (
            &[2_000, 8_000],
            vec![30, 70],
            by("hash"),
            State::Notice,
            "shard 1 has 70 of 100 connections, which",
        ),
        (&[2_000, 8_000], vec![50, 50], by("hash"), State::Notice, "some of them carry much more"),
        (&[2_000, 8_000], vec![], vec![], State::Notice, "compare tollgate_shard_accepts_total"),
        (&[4_000, 5_000], vec![9, 1], by("hash"), State::Ok, ""),
        (&[300, 1], vec![9, 1], by("hash"), State::Unknown, ""),
        (&[9_000], vec![9], by("hash"), State::Ok, ""),
    ] {
        let said = !steering.is_empty();
        let reports = live::examine(&interval(calm, worked_ms, live::Told { connections, steering }));
        let report = reports.into_iter().find(|report| report.id == "live-imbalance").unwrap();
        assert_eq!(report.state, state, "{}", report.found);
        assert!(report.remedy.as_deref().unwrap_or_default().contains(words), "{:?}", report.remedy);
        if said && state > State::Unknown {
            assert!(
                report.found.contains("is spread by") && report.found.contains("a reason"),
                "{}",
                report.found
            );
        }
    }
}

/// What `tollgate tune` is told to do by a report: the settings of the machine, put as wanted.
fn done(tree: &Tree, command: &str) -> usize {
    let quoted = command.replace("\"combined queues\"", "combined%queues");
    let mut words = quoted.strip_prefix("tollgate tune apply ").unwrap().split(' ');
    let (mut parts, mut cpus) = (Vec::new(), vec![0]);
    while let (Some(option), Some(value)) = (words.next(), words.next()) {
        match option {
            "--only" => parts.push(Part::parse_knob(&value.replace('%', " ")).unwrap()),
            "--cpus" => cpus = parse_list(value).unwrap(),
            other => panic!("{other}"),
        }
    }
    let root = tree.root();
    let mut held = journal::Held::wait(&root.path(journal::PLACE)).unwrap();
    let settings = survey_of(&root, &parts, &cpus);
    let outcomes = journal::apply(&root, &mut held, &settings, true).unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.applied == journal::Applied::Done), "{outcomes:?}");
    outcomes.len()
}

/// Broken by advice to use `tollgate tune` for what it does not have, or for what it has set already, or that does not
/// help.
#[test]
fn what_tune_can_do_is_named_and_helps() {
    // What these find is of a running process or counted since the machine started, and changes when that begins anew;
    // and it takes a kernel to move an interrupt that was placed.
    let later = ["open-files", "locked-memory", "softnet", "interrupts"];
    let mut tried = HashSet::new();
    let places = [
        ("/proc/sys/net/core/netdev_max_backlog", "1000\n"),
        ("/proc/sys/net/core/netdev_budget", "300\n"),
        ("/proc/sys/fs/nr_open", "1024\n"),
    ];
    for (id, _, _, ailment) in ailments() {
        let tree = well();
        places.iter().for_each(|(node, content)| tree.put(node, content));
        ailment.iter().for_each(|(node, content)| tree.put(node, content));
        let before = report(&tree, &needs(), id);
        let Some(command) = &before.tune else { continue };
        tried.insert(id);
        assert!(done(&tree, command) > 0, "{id}: {command} has nothing to do");
        let after = report(&tree, &needs(), id);
        assert!(after.state < before.state || later.contains(&id), "{id}: {command}: {}", after.found);
    }
    for id in ["backlog", "ephemeral-ports", "governor", "huge-pages", "swap", "packet-steering", "conntrack"]
    {
        assert!(tried.contains(id), "{id} says nothing of tune");
    }
}
