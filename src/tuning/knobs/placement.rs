//! Where the queues and interrupts of a device should be served, for shards on given CPUs. Pure but for what says
//! whether somebody else moves them.

use super::{Form, Place, node};
use crate::tuning::{
    cpus::{print_list, print_mask},
    devices::{DEVICES, Device},
    root::Root,
};

/// A node, its form, and what should stand there, or why it is left as it is.
type Wanted = (String, Form, Result<String, String>);

/// What `place` should be on `device`.
pub(super) fn wanted(place: Place, root: &Root, device: &Device, cpus: &[usize]) -> Vec<Wanted> {
    match place {
        Place::Interrupts => interrupts(root, device, cpus),
        Place::Transmit => transmit(device, cpus),
        Place::PassingOn => passing_on(device, cpus),
        Place::Queues => vec![queues(root, device, cpus)],
        _ => Vec::new(),
    }
}

/// The interrupt of each receive queue on the CPU of a shard, in turn.
fn interrupts(root: &Root, device: &Device, cpus: &[usize]) -> Vec<Wanted> {
    let balanced = is_balanced(root);
    let receiving = device.interrupts.iter().filter(|interrupt| interrupt.receives);
    let wanted = receiving.map(|interrupt| {
        let node = format!("/proc/irq/{}/smp_affinity_list", interrupt.number);
        let wanted = match cpus {
            [] => Err("no CPU is known".to_owned()),
            _ if device.passed_on.len() < 2 => Err(format!(
                "{} has one receive queue; wherever it interrupts, one shard is near and the others are not",
                device.name
            )),
            _ if balanced => {
                Err("irqbalance runs and would move it again; stop it or ban this interrupt".to_owned())
            }
            cpus => Ok(print_list(&[cpus[interrupt.queue % cpus.len()]])),
        };
        (node, Form::List, wanted)
    });
    wanted.collect()
}

/// Each CPU on one transmit queue.
fn transmit(device: &Device, cpus: &[usize]) -> Vec<Wanted> {
    // With one queue there is nothing to choose, and the kernel has no such file.
    let queues = if device.transmit < 2 { 0 } else { device.transmit };
    let wanted = (0..queues).map(|queue| {
        let node = format!("{DEVICES}/{}/queues/tx-{queue}/xps_cpus", device.name);
        let its: Vec<usize> = cpus.iter().copied().skip(queue).step_by(queues).collect();
        (node, Form::Mask, Ok(print_mask(&its)))
    });
    wanted.collect()
}

/// Nothing passed on in software where there are queues enough.
fn passing_on(device: &Device, cpus: &[usize]) -> Vec<Wanted> {
    let queues = device.passed_on.len();
    let wanted = (0..queues).map(|queue| {
        let node = format!("{DEVICES}/{}/queues/rx-{queue}/rps_cpus", device.name);
        let wanted = if queues >= cpus.len() {
            Ok("0".to_owned())
        } else {
            Err(format!(
                "{} has fewer receive queues than shards, so passing packets on can be right",
                device.name
            ))
        };
        (node, Form::Mask, wanted)
    });
    wanted.collect()
}

/// As many queues as CPUs, as far as the device has them.
fn queues(root: &Root, device: &Device, cpus: &[usize]) -> Wanted {
    let wanted = match node::queues_max(root, &device.name) {
        Ok(Some(most)) => Ok(cpus.len().clamp(1, most.max(1)).to_string()),
        Ok(None) => Err("ethtool, which can say and set it, is not installed".to_owned()),
        Err(why) => Err(why),
    };
    (device.name.clone(), Form::Queues, wanted)
}

/// Whether `irqbalance` runs.
fn is_balanced(root: &Root) -> bool {
    let names = root.list("/proc").unwrap_or_default();
    let processes = names.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let mut commands =
        processes.filter_map(|process| root.read_trimmed(&format!("/proc/{process}/comm")).ok());
    commands.any(|command| command == "irqbalance")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuning::tree::{Tree, network};

    fn on(tree: &Tree, place: Place, cpus: &[usize]) -> Vec<(String, Result<String, String>)> {
        let root = tree.root();
        let device = &Device::all(&root)[0];
        wanted(place, &root, device, cpus).into_iter().map(|(node, _, wanted)| (node, wanted)).collect()
    }

    fn values(tree: &Tree, place: Place, cpus: &[usize]) -> Vec<String> {
        on(tree, place, cpus).into_iter().map(|(_, wanted)| wanted.unwrap_or_else(|why| why)).collect()
    }

    #[test]
    fn queues_are_dealt_out_to_the_shards_cpus() {
        let tree = Tree::new(&[]);
        network(&tree, "eth0", &[0, 0, 0, 0]);
        assert_eq!(values(&tree, Place::Interrupts, &[2, 3]), ["2", "3", "2", "3"]);
        assert_eq!(values(&tree, Place::Transmit, &[2, 3, 4, 5]), ["4", "8", "10", "20"]);
        assert_eq!(values(&tree, Place::Transmit, &[0, 1, 2, 3, 4, 5, 6, 7]), ["11", "22", "44", "88"]);
        assert_eq!(values(&tree, Place::PassingOn, &[0, 1]), ["0"; 4]);
        assert!(values(&tree, Place::PassingOn, &[0, 1, 2, 3, 4])[0].contains("fewer receive queues"));
        let nodes: Vec<String> = on(&tree, Place::Transmit, &[0]).into_iter().map(|(node, _)| node).collect();
        assert_eq!(nodes[3], "/sys/class/net/eth0/queues/tx-3/xps_cpus");
    }

    /// Broken by a tug-of-war with the daemon that balances interrupts.
    #[test]
    fn what_somebody_else_moves_is_left() {
        let tree = Tree::new(&[("/proc/77/comm", "irqbalance\n")]);
        network(&tree, "eth0", &[0, 1]);
        assert!(values(&tree, Place::Interrupts, &[0, 1])[0].contains("irqbalance runs"));
        tree.put("/proc/77/comm", "sh\n");
        assert_eq!(values(&tree, Place::Interrupts, &[0, 1]), ["0", "1"]);
        network(&tree, "eth0", &[0]);
        assert!(values(&tree, Place::Interrupts, &[0, 1])[0].contains("one receive queue"));
        assert!(values(&tree, Place::Transmit, &[0, 1]).is_empty());
    }

    #[test]
    fn queues_are_asked_of_ethtool() {
        use std::{fs, os::unix::fs::PermissionsExt};
        let tree = Tree::new(&[("/usr/sbin/ethtool", "#!/bin/sh\nprintf 'Combined: 8\\nCombined: 2\\n'\n")]);
        network(&tree, "eth0", &[0, 1]);
        let program = tree.root().path("/usr/sbin/ethtool");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let cpus: Vec<usize> = (0..16).collect();
        assert_eq!(values(&tree, Place::Queues, &cpus), ["8"]);
        assert_eq!(values(&tree, Place::Queues, &[0, 1, 2, 3]), ["4"]);
        assert_eq!(node::read(&tree.root(), Form::Queues, "eth0"), Ok(Some("2".to_owned())));
        tree.put("/usr/sbin/ethtool", "#!/bin/sh\necho netlink error: Operation not supported >&2; exit 1\n");
        assert!(values(&tree, Place::Queues, &cpus)[0].contains("Operation not supported"));
    }
}
