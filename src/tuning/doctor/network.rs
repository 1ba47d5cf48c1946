//! Checks of the kernel's network settings and counters.

use crate::tuning::root::Root;

use super::{Finding, Scene};

/// A setting below `/proc/sys`, by its dotted name.
pub(super) fn sysctl<T: std::str::FromStr>(root: &Root, name: &str) -> Option<T> {
    root.number(&format!("/proc/sys/{}", name.replace('.', "/")))
}

pub(super) fn backlog(scene: &Scene<'_>) -> Finding {
    let wanted = scene.needs.backlog;
    let Some(allowed) = sysctl::<u32>(scene.root, "net.core.somaxconn") else {
        return Finding::unknown("net.core.somaxconn cannot be read");
    };
    if allowed < wanted {
        return Finding::warn(
            format!("net.core.somaxconn = {allowed} cuts the backlog of each shard, {wanted}"),
            format!("set net.core.somaxconn to {wanted} or more, then restart the gateway"),
        )
        .by(&["net.core.somaxconn"]);
    }
    if sysctl::<u32>(scene.root, "net.ipv4.tcp_syncookies") == Some(0) {
        return Finding::warn(
            "net.ipv4.tcp_syncookies = 0: a flood of openings fills the backlog",
            "set net.ipv4.tcp_syncookies = 1",
        )
        .by(&["net.ipv4.tcp_syncookies"]);
    }
    match sysctl::<u32>(scene.root, "net.ipv4.tcp_max_syn_backlog") {
        Some(half_open) if half_open < wanted => Finding::notice(
            format!(
                "net.ipv4.tcp_max_syn_backlog = {half_open} is less than the backlog of a shard, {wanted}"
            ),
            format!("set net.ipv4.tcp_max_syn_backlog to {wanted} or more"),
        )
        .by(&["net.ipv4.tcp_max_syn_backlog"]),
        _ => Finding::ok(format!("net.core.somaxconn = {allowed}, of which a shard uses {wanted}")),
    }
}

/// A counter of `/proc/net/netstat` or `/proc/net/snmp`: a line of names and one of numbers, both after `group:`.
pub(super) fn counter(root: &Root, file: &str, group: &str, name: &str) -> Option<u64> {
    let text = root.read(file).ok()?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(':'));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|known| known == name)?;
    numbers.split_whitespace().nth(at)?.parse().ok()
}

pub(super) const NETSTAT: &str = "/proc/net/netstat";
pub(super) const SNMP: &str = "/proc/net/snmp";

pub(super) fn listen_overflows(scene: &Scene<'_>) -> Finding {
    let counted = |name| counter(scene.root, NETSTAT, "TcpExt", name);
    match (counted("ListenOverflows"), counted("ListenDrops")) {
        (Some(0), Some(0)) => Finding::ok("none since the machine started"),
        (Some(overflows), Some(drops)) => Finding::notice(
            format!("{overflows} overflows and {drops} drops, of all programs, since the machine started"),
            "see with --live whether they go on; then look at backlog, or add shards",
        ),
        _ => Finding::unknown("/proc/net/netstat does not say"),
    }
}

pub(super) fn ephemeral_ports(scene: &Scene<'_>) -> Finding {
    let range = scene.root.read("/proc/sys/net/ipv4/ip_local_port_range").ok().and_then(|text| {
        let mut numbers = text.split_whitespace().map(str::parse::<u64>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?)).filter(|(first, last)| first <= last)
    });
    let Some((first, last)) = range else {
        return Finding::unknown("net.ipv4.ip_local_port_range cannot be read");
    };
    let ports = last - first + 1;
    let shards = scene.shards() as u64;
    // Each request in flight has a connection, and these are the ones that wait.
    let most = scene.needs.clusters.iter().max_by_key(|(_, idle)| *idle);
    let needed = most.map_or(0, |(_, idle)| (scene.needs.in_flight + idle) * shards);
    if needed > ports {
        let cluster = most.map_or("", |(name, _)| name);
        let narrow = first > 10_240 || last < 65_535;
        let finding = Finding::warn(
            format!(
                "{ports} ports, and {shards} shards can have {needed} connections to an endpoint of cluster {cluster} \
                 (bounds.in_flight and cluster.idle_connections of each)"
            ),
            "set net.ipv4.ip_local_port_range = 10240 65535, lower bounds.in_flight, or give the service more endpoints",
        );
        return if narrow { finding.by(&["net.ipv4.ip_local_port_range"]) } else { finding };
    }
    let reserved = scene.root.read_trimmed("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    let reserved = |port: u16| {
        reserved.split(',').any(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&port))
        })
    };
    let taken =
        scene.needs.ports.iter().find(|&&port| (first..=last).contains(&u64::from(port)) && !reserved(port));
    match taken {
        Some(port) => Finding::notice(
            format!(
                "port {port}, which is listened on, lies among the ports of outgoing connections, {first} to {last}"
            ),
            format!(
                "add {port} to net.ipv4.ip_local_reserved_ports: a program may have it when the gateway restarts"
            ),
        ),
        None => Finding::ok(format!("{ports} ports, of which an endpoint can take {needed}")),
    }
}

pub(super) fn conntrack(scene: &Scene<'_>) -> Finding {
    let count = sysctl::<u64>(scene.root, "net.netfilter.nf_conntrack_count");
    let max = sysctl::<u64>(scene.root, "net.netfilter.nf_conntrack_max");
    let (Some(count), Some(max)) = (count, max) else {
        return Finding::ok("connections are not tracked");
    };
    let remedy = "add NOTRACK rules for the gateway's ports (tuning/ has an example), or raise \
                  net.netfilter.nf_conntrack_max";
    if max > 0 && count * 10 >= max * 8 {
        return Finding::fail(
            format!("{count} of {max} connections are tracked: soon packets are dropped"),
            remedy,
        )
        .by(&["net.netfilter.nf_conntrack_max"]);
    }
    let Ok(table) = scene.root.read("/proc/net/nf_conntrack") else {
        return Finding::notice(
            format!("connections are tracked, {count} of {max}; whether ours are among them cannot be seen"),
            remedy,
        );
    };
    let ours = |line: &str| {
        line.split_whitespace().any(|word| {
            let port = word.strip_prefix("dport=").or_else(|| word.strip_prefix("sport="));
            port.and_then(|port| port.parse().ok()).is_some_and(|port| scene.needs.ports.contains(&port))
        })
    };
    match table.lines().filter(|line| ours(line)).count() {
        0 => Finding::ok(format!("connections are tracked, {count} of {max}, none of them on our ports")),
        tracked => Finding::warn(format!("{tracked} connections on our ports are tracked"), remedy),
    }
}

/// What `/proc/net/softnet_stat` counts over all CPUs: packets dropped, and times that a CPU had to stop early.
pub(super) fn softnet_counts(root: &Root) -> Option<(u64, u64)> {
    let text = root.read("/proc/net/softnet_stat").ok()?;
    let column = |line: &str, at: usize| u64::from_str_radix(line.split_whitespace().nth(at)?, 16).ok();
    text.lines().try_fold((0, 0), |(dropped, squeezed), line| {
        Some((dropped + column(line, 1)?, squeezed + column(line, 2)?))
    })
}

pub(super) fn softnet(scene: &Scene<'_>) -> Finding {
    match softnet_counts(scene.root) {
        None => Finding::unknown("/proc/net/softnet_stat does not say"),
        Some((0, 0)) => Finding::ok("nothing dropped since the machine started"),
        Some((0, squeezed)) => {
            Finding::ok(format!("nothing dropped; {squeezed} times a CPU had to stop early"))
        }
        Some((dropped, squeezed)) => Finding::notice(
            format!(
                "{dropped} packets dropped since the machine started; {squeezed} times a CPU had to stop early"
            ),
            "see with --live whether it goes on; then raise net.core.netdev_max_backlog and net.core.netdev_budget",
        )
        .by(&["net.core.netdev_max_backlog", "net.core.netdev_budget"]),
    }
}
