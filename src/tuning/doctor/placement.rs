//! Checks of where shards are, and whether interrupts and memory are there too.

use crate::tuning::{
    cgroup,
    cpus::print_list,
    devices::Device,
    memory::{self, Held},
};

use super::{Finding, Scene, network::sysctl};

pub(super) fn placement(scene: &Scene<'_>) -> Finding {
    let placement = match &scene.placement {
        Ok(placement) => placement,
        Err(error) => {
            return Finding::fail(error.clone(), "see what tollgate topology draws, and change [shards]");
        }
    };
    let pinned = placement.pinned();
    let shards = placement.shards.len();
    if pinned.len() < shards && !pinned.is_empty() {
        return Finding::warn(
            format!("{shards} shards share the CPUs {}", print_list(&pinned)),
            "name more CPUs in shards.cpus, or lower shards.count",
        );
    }
    if pinned.is_empty() && shards > scene.machine.usable.len() {
        let usable = scene.machine.usable.len();
        return Finding::warn(format!("{shards} shards for {usable} CPUs"), "lower shards.count");
    }
    if pinned.is_empty() {
        return Finding::ok(format!("{shards} shards, not pinned"));
    }
    let shared: Vec<usize> = pinned
        .iter()
        .filter(|&&id| {
            let core = scene.machine.cpu(id).map(|cpu| cpu.core.as_slice()).unwrap_or_default();
            core.iter().any(|sibling| *sibling != id && pinned.contains(sibling))
        })
        .copied()
        .collect();
    if !shared.is_empty() {
        return Finding::notice(
            format!("{shards} shards; those on CPUs {} share cores in twos", print_list(&shared)),
            "set shards.threads_per_core = 1 if the tail matters more than throughput",
        );
    }
    Finding::ok(format!("{shards} shards, each with a core of its own: CPUs {}", print_list(&pinned)))
}

pub(super) fn cpu_quota(scene: &Scene<'_>) -> Finding {
    let throttling = cgroup::throttling(scene.root).unwrap_or_default();
    let Some(quota) = cgroup::cpu_quota(scene.root) else {
        return Finding::ok("the control group's time is not bounded");
    };
    let usable = scene.machine.usable.len();
    let times = format!("{} of {} periods stopped", throttling.throttled, throttling.periods);
    if quota.amount >= usable as f64 && throttling.throttled == 0 {
        return Finding::ok(format!("{:.2} CPUs' worth of time for {usable} CPUs; {times}", quota.amount));
    }
    let found = format!("{}: {:.2} CPUs' worth of time for {usable} CPUs; {times}", quota.node, quota.amount);
    let remedy = "give the group whole CPUs (AllowedCPUs=, cpuset) and no quota, or set shards.count to what the quota \
                  is worth";
    if throttling.throttled > 0 || (scene.shards() as f64) > quota.amount {
        Finding::warn(found, remedy)
    } else {
        Finding::notice(found, remedy)
    }
}

pub(super) fn numa(scene: &Scene<'_>) -> Finding {
    if scene.machine.nodes.iter().filter(|node| !node.cpus.is_empty()).count() < 2 {
        return Finding::ok("one node");
    }
    let mut nodes: Vec<usize> =
        scene.pinned().iter().filter_map(|&id| scene.machine.cpu(id)).map(|cpu| cpu.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    if nodes.is_empty() {
        return Finding::notice(
            "several nodes, and shards that are not pinned: their memory stays where they were first",
            "set shards.cpus = \"first-usable-node\"",
        );
    }
    if nodes.len() > 1 {
        return Finding::warn(
            format!(
                "shards on the nodes {}, with limits and loads that all of them write",
                print_list(&nodes)
            ),
            "set shards.cpus = \"first-usable-node\", and run a second gateway on the other node",
        );
    }
    let far = scene.devices.iter().find(|device| device.node.is_some_and(|node| !nodes.contains(&node)));
    if let Some(Device { name, node: Some(node), .. }) = far {
        return Finding::warn(
            format!("shards on node {}, and {name} on node {node}", nodes[0]),
            format!(
                "name the CPUs of node {node} in shards.cpus, or start the gateway with numactl --cpunodebind={node}"
            ),
        );
    }
    if sysctl::<u32>(scene.root, "kernel.numa_balancing").is_some_and(|balancing| balancing != 0) {
        return Finding::notice(
            "shards on one node, and kernel.numa_balancing takes page faults to find that out",
            "set kernel.numa_balancing = 0",
        )
        .by(&["kernel.numa_balancing"]);
    }
    Finding::ok(format!("all shards on node {}", nodes[0]))
}

/// Less than this share of the memory on a node without a shard is the program's text, a thread's stack and the like.
const ELSEWHERE_MAX: f64 = 0.1;

pub(super) fn numa_memory(scene: &Scene<'_>) -> Finding {
    if scene.machine.nodes.iter().filter(|node| !node.cpus.is_empty()).count() < 2 {
        return Finding::ok("one node");
    }
    let gateways = memory::gateways(scene.root);
    if gateways.is_empty() {
        return Finding::unknown("no gateway runs here whose memory could be looked at");
    }
    let mut said = Vec::new();
    for pid in gateways {
        let held = match Held::read(scene.root, pid, &scene.machine) {
            Ok(held) => held,
            Err(error) => return Finding::unknown(format!("{error}; its own user or root may see it")),
        };
        let sum = held.text();
        let nodes: Vec<usize> =
            held.nodes.iter().filter(|node| node.shards > 0).map(|node| node.id).collect();
        if nodes.is_empty() {
            said.push(format!("{sum}; its shards run on any node"));
            continue;
        }
        let list = print_list(&nodes);
        if let Some(policy) = held.spread_by {
            return Finding::warn(
                format!("{sum}; it is spread on purpose ({policy})"),
                format!("start the gateway without it, or with numactl --preferred={list}"),
            );
        }
        if held.share_of(|node| node.shards == 0) > ELSEWHERE_MAX {
            return Finding::warn(
                format!("{sum}, and shards run on node {list} only"),
                "see whether that node was full when the gateway started (numactl --hardware), make room, then restart \
                 it; or keep it there with NUMAPolicy=bind and NUMAMask= in the unit",
            );
        }
        let shards = held.nodes.iter().map(|node| node.shards).sum::<usize>() as f64;
        let short = held.nodes.iter().find(|short| {
            let due = short.shards as f64 / shards;
            held.share_of(|node| node.id == short.id) < due / 2.0
        });
        if let Some(short) = short {
            return Finding::notice(
                format!("{sum}: less on node {} than its shards would take there", short.id),
                "set shards.cpus = \"first-usable-node\", and run a second gateway on the other node; if traffic has only \
                 begun, look again later",
            );
        }
        said.push(sum);
    }
    Finding::ok(said.join("; "))
}

/// Devices with several receive queues, which can be placed.
fn several_queues<'s>(scene: &'s Scene<'_>) -> impl Iterator<Item = &'s Device> {
    scene.devices.iter().filter(|device| device.passed_on.len() > 1)
}

pub(super) fn interrupts(scene: &Scene<'_>) -> Finding {
    let pinned = scene.pinned();
    if scene.devices.is_empty() {
        return Finding::ok("no device that interrupts; loopback runs where the sender does");
    }
    if pinned.is_empty() {
        return Finding::unknown("shards are not pinned, so interrupts cannot be held against them");
    }
    for device in &scene.devices {
        let (name, cpus) = (&device.name, device.interrupted());
        let queues = device.interrupts.iter().filter(|interrupt| interrupt.receives).count();
        if queues == 0 {
            continue;
        }
        let missed: Vec<usize> = pinned.iter().filter(|cpu| !cpus.contains(cpu)).copied().collect();
        let elsewhere: Vec<usize> = cpus.iter().filter(|cpu| !pinned.contains(cpu)).copied().collect();
        if queues > 1 && cpus.len() * 2 <= queues && cpus.len() < pinned.len() {
            return Finding::warn(
                format!("{queues} receive queues of {name} interrupt CPUs {} alone", print_list(&cpus)),
                "let queue i interrupt the CPU of shard i",
            )
            .by(&["interrupts"]);
        }
        if !elsewhere.is_empty() {
            return Finding::notice(
                format!("queues of {name} interrupt CPUs {}, which have no shard", print_list(&elsewhere)),
                "let queue i interrupt the CPU of shard i, unless these CPUs are kept for interrupts on purpose",
            )
            .by(if queues > 1 { &["interrupts"] } else { &[] });
        }
        if !missed.is_empty() {
            return Finding::notice(
                format!(
                    "{name} has {queues} receive queue{}, and shards on CPUs {} get none",
                    if queues == 1 { "" } else { "s" },
                    print_list(&missed)
                ),
                "ask the device for as many queues as there are shards (ethtool -L), if it has them",
            )
            .by(&["combined queues"]);
        }
    }
    Finding::ok("every shard's CPU has a receive queue")
}

pub(super) fn irqbalance(scene: &Scene<'_>) -> Finding {
    if scene.running(&["irqbalance"]).is_none() {
        return Finding::ok("does not run");
    }
    if several_queues(scene).next().is_none() {
        return Finding::ok("runs, and there are no queues that were placed");
    }
    let list = print_list(&scene.pinned());
    Finding::warn(
        "runs, and will move the interrupts of queues",
        format!("stop it, or keep it off the shards' CPUs: IRQBALANCE_BANNED_CPULIST={list}"),
    )
}

pub(super) fn packet_steering(scene: &Scene<'_>) -> Finding {
    let shards = scene.shards();
    if scene.devices.is_empty() {
        return Finding::ok("no device");
    }
    for device in &scene.devices {
        let (name, queues) = (&device.name, device.passed_on.len());
        let with_rps = device.passed_on.iter().filter(|cpus| !cpus.is_empty()).count();
        if with_rps > 0 && queues >= shards && shards > 1 {
            return Finding::warn(
                format!("RPS is on for {with_rps} queues of {name}, which has {queues} for {shards} shards"),
                "write 0 to rps_cpus of each queue",
            )
            .by(&["rps_cpus"]);
        }
        if with_rps == 0 && queues == 1 && shards > 1 {
            return Finding::notice(
                format!("{name} has one receive queue for {shards} shards, and one CPU takes all packets"),
                "if that CPU is busier than the others under load, spread them: RPS to the shards' CPUs",
            );
        }
        let with_xps = device.used_by.iter().filter(|cpus| !cpus.is_empty()).count();
        if device.transmit > 1 && with_xps == 0 {
            return Finding::notice(
                format!(
                    "{name} has {} transmit queues and no XPS, so queues are shared by hash",
                    device.transmit
                ),
                "give queue i to the CPU of shard i",
            )
            .by(&["xps_cpus"]);
        }
    }
    Finding::ok("as many queues as it takes, and no software in between")
}
