//! The table.
//!
//! A knob is here because the gateway can notice it. What was measured was measured as `tuning/README.md` says; what a
//! virtual machine or loopback cannot show is said not to have been.

use super::{Group, Knob, Place, Want, When};

/// Not measured for want of a network card: the machine at hand has one of one queue, of a hypervisor.
const NO_CARD: &str = "not measured here: needs a network card with several queues";
/// Not measured because it shows only at the edge.
const EDGE: &str = "not measured here: shows only where it would otherwise run out";
/// Measured on loopback, where nothing runs out.
const NOT_AT_EASE: &str = "no measurable effect on loopback; shows only where it would otherwise run out";
/// Measured with short bodies over no distance.
const NOT_NEAR: &str =
    "no measurable effect with short bodies on loopback; shows with long ones over long paths";
/// Not measured because the hypervisor decides.
const HYPERVISOR: &str = "not measured here: in a virtual machine the host decides";

const fn sysctl(
    group: Group,
    name: &'static str,
    want: Want,
    why: &'static str,
    effect: &'static str,
) -> Knob {
    Knob { name, group, place: Place::Sysctl, want, when: When::Always, why, effect }
}

/// All of them.
#[rustfmt::skip]
pub const KNOBS: &[Knob] = &[
    sysctl(Group::Network, "net.core.somaxconn", Want::AtLeast(4096),
        "bounds the queue of connections that wait to be accepted; the gateway asks for 4096 per shard and address", EDGE),
    sysctl(Group::Network, "net.ipv4.tcp_max_syn_backlog", Want::AtLeast(4096),
        "connections whose handshake is under way, before cookies take over", NOT_AT_EASE),
    sysctl(Group::Network, "net.ipv4.tcp_syncookies", Want::AtLeast(1),
        "under a flood of SYNs new clients still get in", NOT_AT_EASE),
    sysctl(Group::Network, "net.ipv4.ip_local_port_range", Want::Covers(10240, 65535),
        "ports for connections to endpoints: each endpoint can have as many as the range is wide", NOT_AT_EASE),
    sysctl(Group::Network, "net.ipv4.tcp_tw_reuse", Want::Exactly("1"),
        "a port whose connection was closed a second ago can be used again towards the same endpoint; needs timestamps", NOT_AT_EASE),
    sysctl(Group::Network, "net.ipv4.tcp_timestamps", Want::AtLeast(1),
        "tcp_tw_reuse and the protection against old segments rest on them; 12 bytes a segment", NOT_AT_EASE),
    sysctl(Group::Network, "net.ipv4.tcp_fin_timeout", Want::AtMost(15),
        "a connection whose other side never closes is forgotten sooner; saves a little memory and nothing else", NOT_AT_EASE),
    sysctl(Group::Network, "net.ipv4.tcp_slow_start_after_idle", Want::Exactly("0"),
        "a pooled connection that rested sends at the speed it had, where 1 would begin anew after each pause", 
        "no measurable effect on loopback, which has no round trips to save"),
    sysctl(Group::Network, "net.ipv4.tcp_notsent_lowat", Want::AtMost(131_072),
        "of a long body at most 128 KiB wait in the kernel beyond what is under way; for clients' connections the gateway sets 256 KiB itself",
        "no measurable effect with short bodies on loopback; shows with long ones and slow receivers"),
    sysctl(Group::Network, "net.ipv4.tcp_rmem", Want::LastAtLeast(16_777_216),
        "the most a receive buffer may grow to: long bodies over long paths; small ones never come near",
        NOT_NEAR),
    sysctl(Group::Network, "net.ipv4.tcp_wmem", Want::LastAtLeast(16_777_216),
        "the same for sending", NOT_NEAR),
    sysctl(Group::Network, "net.ipv4.tcp_migrate_req", Want::Exactly("1"),
        "what waits in the queue of a listener that closes goes to another of its group: a restart that is no upgrade loses fewer clients", NOT_AT_EASE),
    Knob { name: "net.core.netdev_max_backlog", group: Group::Network, place: Place::Sysctl,
        want: Want::AtLeast(16_384), when: When::Dropped,
        why: "packets that wait for the stack, per CPU; matters once /proc/net/softnet_stat counts drops", effect: EDGE },
    Knob { name: "net.core.netdev_budget", group: Group::Network, place: Place::Sysctl,
        want: Want::AtLeast(600), when: When::Squeezed,
        why: "packets taken up in one go; matters once /proc/net/softnet_stat counts squeezes", effect: NO_CARD },
    sysctl(Group::Network, "net.netfilter.nf_conntrack_max", Want::AtLeast(1_048_576),
        "a full table drops new connections; better not to track the gateway's ports at all (`tuning/nftables/notrack.nft`)", EDGE),

    sysctl(Group::Memory, "vm.swappiness", Want::AtMost(10),
        "a page of the gateway that was swapped out stops a shard until it is back", NOT_AT_EASE),
    sysctl(Group::Memory, "vm.stat_interval", Want::AtLeast(10),
        "the kernel updates its memory statistics on every CPU less often, and interrupts a shard less often for it",
        "no measurable effect: one wake-up a second on each CPU is below what this machine can tell"),
    sysctl(Group::Memory, "fs.nr_open", Want::AtLeast(1_048_576),
        "the most a process's limit on open files can be set to; a proxied request takes two", EDGE),
    Knob { name: "transparent_hugepage", group: Group::Memory, place: Place::Nodes("/sys/kernel/mm/transparent_hugepage/enabled"),
        want: Want::OneOf(&["madvise", "never"]), when: When::Always,
        why: "with `always`, a buffer's first touch can stop a shard while 2 MiB are cleared, and memory grows in such steps",
        effect: "no measurable effect with memory to spare; shows while it is short or fragmented" },

    sysctl(Group::Cpu, "kernel.numa_balancing", Want::Exactly("0"),
        "pinned shards touch their own memory first; unmapping pages to see who uses them only costs faults",
        "not measured here: needs more than one memory node"),
    sysctl(Group::Cpu, "kernel.nmi_watchdog", Want::Exactly("0"),
        "frees a counter and saves an interrupt every few seconds on each CPU; a CPU that hangs is then not reported", HYPERVISOR),
    sysctl(Group::Cpu, "kernel.timer_migration", Want::Exactly("0"),
        "timers stay on the CPU that set them, so a shard's are its own", 
        "no measurable effect: a shard has one timer"),
    Knob { name: "scaling_governor", group: Group::Cpu, place: Place::Nodes("/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"),
        want: Want::OneOf(&["performance"]), when: When::Always,
        why: "a CPU that has to speed up first answers the first requests after a pause late; takes more power", effect: HYPERVISOR },

    Knob { name: "combined queues", group: Group::Queues, place: Place::Queues, want: Want::Derived, when: When::Always,
        why: "a queue for each shard's CPU; the link is down for a moment while it changes, and interrupts get new numbers: plan again afterwards",
        effect: NO_CARD },

    Knob { name: "interrupts", group: Group::Devices, place: Place::Interrupts, want: Want::Derived, when: When::Always,
        why: "receive queue i interrupts the CPU of shard i, so that packets are served where they arrive; see listen.accept_steering",
        effect: NO_CARD },
    Knob { name: "xps_cpus", group: Group::Devices, place: Place::Transmit, want: Want::Derived, when: When::Always,
        why: "each CPU sends over a queue of its own, and no two contend for one", effect: NO_CARD },
    Knob { name: "rps_cpus", group: Group::Devices, place: Place::PassingOn, want: Want::Derived, when: When::Always,
        why: "with as many queues as CPUs the hardware has spread packets already; passing them on again costs an interrupt each",
        effect: NO_CARD },

    sysctl(Group::Polling, "net.core.busy_poll", Want::AtLeast(50),
        "microseconds that epoll asks a device before it sleeps: helps shards on epoll only, a ring does not heed it; loopback has nothing to ask",
        "no measurable effect on loopback, with a ring or epoll; needs a network card"),
    sysctl(Group::Polling, "net.core.busy_read", Want::AtLeast(50), "the same for blocking reads", NO_CARD),
    Knob { name: "napi_defer_hard_irqs", group: Group::Polling, place: Place::Device("napi_defer_hard_irqs"),
        want: Want::AtLeast(2), when: When::Always,
        why: "rounds of polling with nothing found before a queue's interrupt is allowed again: fewer interrupts under load", effect: NO_CARD },
    Knob { name: "gro_flush_timeout", group: Group::Polling, place: Place::Device("gro_flush_timeout"),
        want: Want::AtLeast(20_000), when: When::Always,
        why: "nanoseconds between those rounds, which is what a packet can come late by", effect: NO_CARD },

    Knob { name: "60-tollgate.conf", group: Group::Boot, place: Place::SysctlFile, want: Want::Derived, when: When::Always,
        why: "the sysctls above after a restart; those that were better already are written down as they are",
        effect: "has none by itself" },
    Knob { name: "50-tune.conf", group: Group::Boot, place: Place::DropIn, want: Want::Derived, when: When::Always,
        why: "descriptors, locked memory and the service's rank when memory or CPU time is short, for a unit named tollgate.service", effect: EDGE },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_knob_says_everything() {
        let mut names = HashSet::new();
        for knob in KNOBS {
            assert!(names.insert(knob.name), "{} stands twice", knob.name);
            assert!(!knob.why.is_empty() && !knob.effect.is_empty(), "{}", knob.name);
            assert!(!knob.why.contains('|') && !knob.effect.contains('|'), "{} breaks its row", knob.name);
        }
        let order: Vec<usize> = KNOBS
            .iter()
            .map(|knob| Group::ALL.iter().position(|&group| group == knob.group).unwrap())
            .collect();
        assert!(order.is_sorted(), "knobs stand in the order in which their groups are applied");
    }
}
