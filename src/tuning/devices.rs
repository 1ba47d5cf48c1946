//! Network devices: their queues, the interrupts of those, and the CPUs on which packets arrive.
//!
//! Reads only what the kernel says of itself. Drivers name their interrupts as they like; which one belongs to a queue
//! is guessed from the name as an operator would, and what is not understood counts as no queue's.

use serde::Serialize;

use super::{
    cpus::{parse_list, parse_mask},
    root::Root,
};

/// Where the kernel keeps its devices.
pub const DEVICES: &str = "/sys/class/net";

/// A device of hardware, or one that a hypervisor passes off as such, that is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Such as `eth0`.
    pub name: String,
    /// Its driver, if the machine tells.
    pub driver: Option<String>,
    /// Its NUMA node, if it is on one.
    pub node: Option<usize>,
    /// Megabits per second, if it knows.
    pub speed_mbits: Option<u32>,
    /// For each receive queue the CPUs that its packets are passed on to in software (RPS); mostly none.
    pub passed_on: Vec<Vec<usize>>,
    /// How many transmit queues there are.
    pub transmit: usize,
    /// For each transmit queue the CPUs that use it (XPS); none where the choice is a hash's.
    pub used_by: Vec<Vec<usize>>,
    /// The interrupts of queues, in the order of their numbers.
    pub interrupts: Vec<Interrupt>,
}

/// The interrupt of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interrupt {
    /// The system's number for it.
    pub number: usize,
    /// What its driver calls it.
    pub name: String,
    /// Which queue it is for.
    pub queue: usize,
    /// Whether the queue receives.
    pub receives: bool,
    /// The CPUs on which it arrives.
    pub cpus: Vec<usize>,
}

impl Device {
    /// All of them, by name.
    pub fn all(root: &Root) -> Vec<Self> {
        let names = root.list(DEVICES).unwrap_or_default();
        let actions = root.read("/proc/interrupts").unwrap_or_default();
        names.iter().filter_map(|name| Self::read(root, name, &actions)).collect()
    }

    fn read(root: &Root, name: &str, actions: &str) -> Option<Self> {
        let at = format!("{DEVICES}/{name}");
        let is_up = root.read_trimmed(&format!("{at}/operstate")).is_ok_and(|state| state == "up");
        if !is_up || !root.exists(&format!("{at}/device")) {
            return None;
        }
        let queues = root.list(&format!("{at}/queues")).unwrap_or_default();
        let masks = |kind: &str, file: &str| -> Vec<Vec<usize>> {
            let of_kind = queues.iter().filter(|queue| queue.starts_with(kind));
            let mask = |queue: &String| root.read(&format!("{at}/queues/{queue}/{file}")).unwrap_or_default();
            of_kind.map(|queue| parse_mask(&mask(queue)).unwrap_or_default()).collect()
        };
        let used_by = masks("tx-", "xps_cpus");
        let about = root.read(&format!("{at}/device/uevent")).unwrap_or_default();
        // A virtio device hangs below the one of the bus, which has the node. -1 is none.
        let node = ["device", "device/.."].iter().find_map(|at_bus| {
            let node: i64 = root.number(&format!("{at}/{at_bus}/numa_node"))?;
            usize::try_from(node).ok()
        });
        Some(Self {
            name: name.to_owned(),
            driver: about.lines().find_map(|line| line.strip_prefix("DRIVER=").map(str::to_owned)),
            node,
            speed_mbits: root.number(&format!("{at}/speed")),
            passed_on: masks("rx-", "rps_cpus"),
            transmit: used_by.len(),
            used_by,
            interrupts: interrupts(root, &at, actions),
        })
    }

    /// The CPUs that its receive queues interrupt, ascending.
    pub fn interrupted(&self) -> Vec<usize> {
        let receiving = self.interrupts.iter().filter(|interrupt| interrupt.receives);
        let mut cpus: Vec<usize> = receiving.flat_map(|interrupt| interrupt.cpus.iter().copied()).collect();
        cpus.sort_unstable();
        cpus.dedup();
        cpus
    }

    /// For each receive queue the CPUs on which the kernel takes up its packets; none where that is not known.
    pub fn arrivals(&self) -> Vec<Vec<usize>> {
        let one = |(queue, passed_on): (usize, &Vec<usize>)| match passed_on.as_slice() {
            [] => {
                let its = self.interrupts.iter().find(|one| one.receives && one.queue == queue);
                its.map(|interrupt| interrupt.cpus.clone()).unwrap_or_default()
            }
            cpus => cpus.to_vec(),
        };
        self.passed_on.iter().enumerate().map(one).collect()
    }
}

/// The interrupts of the device at `at`: the message-signalled ones of itself or of the bus device below it.
fn interrupts(root: &Root, at: &str, actions: &str) -> Vec<Interrupt> {
    let own = root.list(&format!("{at}/device/msi_irqs"));
    let numbers = own.or_else(|_| root.list(&format!("{at}/device/../msi_irqs"))).unwrap_or_default();
    let numbers = numbers.iter().filter_map(|number| number.parse::<usize>().ok());
    let found = numbers.filter_map(|number| {
        let name = action(actions, number)?;
        let (queue, receives) = queue_of(name)?;
        let list = ["effective_affinity_list", "smp_affinity_list"].iter().find_map(|file| {
            let list = root.read_trimmed(&format!("/proc/irq/{number}/{file}")).ok()?;
            parse_list(&list).ok().filter(|cpus| !cpus.is_empty())
        });
        Some(Interrupt { number, name: name.to_owned(), queue, receives, cpus: list.unwrap_or_default() })
    });
    found.collect()
}

/// What stands last in the line of that interrupt.
fn action(actions: &str, number: usize) -> Option<&str> {
    let begin = format!("{number}:");
    let line = actions.lines().find(|line| line.trim_start().starts_with(&begin))?;
    line.split_whitespace().next_back()
}

/// Which queue an interrupt of this name is for, and whether it receives: `virtio2-input.0`, `eth0-TxRx-3`,
/// `mlx5_comp7@pci:0000:01:00.0`, `ens5-Tx-Rx-1`.
fn queue_of(name: &str) -> Option<(usize, bool)> {
    let name = name.split('@').next().unwrap_or_default().to_ascii_lowercase();
    let digits = name.len() - name.trim_end_matches(|character: char| character.is_ascii_digit()).len();
    let (words, number) = name.split_at(name.len() - digits);
    let queue = number.parse().ok()?;
    let has = |part: &[&str]| part.iter().any(|part| words.contains(part));
    if has(&["config", "async", "mgm", "ctrl", "control", "cmd", "fdir", "event", "misc"]) {
        return None;
    }
    let receives = has(&["input", "rx", "comp", "fp"]);
    (receives || has(&["output", "tx"])).then_some((queue, receives))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuning::tree::{Tree, network};

    #[test]
    fn interrupts_are_known_by_their_names() {
        for (name, queue) in [
            ("virtio2-input.0", Some((0, true))),
            ("virtio2-output.3", Some((3, false))),
            ("eth0-TxRx-12", Some((12, true))),
            ("ens5-Tx-Rx-1", Some((1, true))),
            ("mlx5_comp7@pci:0000:01:00.0", Some((7, true))),
            ("eth1-rx-2", Some((2, true))),
            ("virtio2-config", None),
            ("mlx5_async0@pci:0000:01:00.0", None),
            ("nvme0q3", None),
            ("i8042", None),
        ] {
            assert_eq!(queue_of(name), queue, "{name}");
        }
    }

    /// Broken by a device of software taken for hardware, or by the list a driver asked for instead of the one
    /// that is in effect.
    #[test]
    fn a_device_is_read_with_its_queues() {
        let tree = Tree::new(&[("/sys/class/net/lo/operstate", "unknown\n"), ("/proc/interrupts", "")]);
        tree.put("/sys/class/net/veth0/operstate", "up\n");
        network(&tree, "eth0", &[0, 1]);
        let devices = Device::all(&tree.root());
        assert_eq!(devices.len(), 1);
        assert_eq!((devices[0].name.as_str(), devices[0].transmit), ("eth0", 2));
        assert_eq!(devices[0].arrivals(), [[0], [1]]);
        tree.put("/sys/class/net/eth0/queues/rx-1/rps_cpus", "c\n");
        assert_eq!(Device::all(&tree.root())[0].arrivals(), [vec![0], vec![2, 3]]);
        tree.put("/sys/class/net/eth0/queues/tx-0/xps_cpus", "1\n");
        tree.put("/sys/class/net/eth0/device/uevent", "DRIVER=ice\nPCI_CLASS=20000\n");
        tree.put("/sys/class/net/eth0/device/numa_node", "1\n");
        let device = &Device::all(&tree.root())[0];
        assert_eq!((device.driver.as_deref(), device.node, device.speed_mbits), (Some("ice"), Some(1), None));
        assert_eq!(device.used_by, [vec![0], vec![]]);
        assert_eq!(device.interrupted(), [0, 1]);
        tree.put("/sys/class/net/eth0/operstate", "down\n");
        assert!(Device::all(&tree.root()).is_empty());
    }

    /// Broken by looking for interrupts and node at the device alone: a virtual one's are one step up.
    #[test]
    fn a_virtual_device_has_its_interrupts_one_step_up() {
        let pci = "/sys/devices/pci0000:00/0000:00:03.0";
        let actions = " 37: 0 0 PCI-MSIX 0-edge virtio2-config\n 38: 0 9 PCI-MSIX 1-edge virtio2-input.0\n";
        let tree = Tree::new(&[
            ("/proc/interrupts", actions),
            ("/proc/irq/38/effective_affinity_list", "1\n"),
            (&format!("{pci}/msi_irqs/37"), "msix"),
            (&format!("{pci}/msi_irqs/38"), "msix"),
            (&format!("{pci}/numa_node"), "1\n"),
            (&format!("{pci}/virtio2/net/eth0/operstate"), "up\n"),
            (&format!("{pci}/virtio2/net/eth0/queues/rx-0/rps_cpus"), "0\n"),
        ]);
        tree.link("/sys/class/net/eth0", "../../devices/pci0000:00/0000:00:03.0/virtio2/net/eth0");
        tree.link(&format!("{pci}/virtio2/net/eth0/device"), "../../../virtio2");
        let device = &Device::all(&tree.root())[0];
        assert_eq!((device.node, device.interrupts.len(), device.interrupted()), (Some(1), 1, vec![1]));
    }
}
