//! Which listening socket a new connection goes to: the one whose shard runs on the CPU that received it, or any.
//!
//! Each address has a group of sockets (`SO_REUSEPORT`), one for each shard, of which the kernel takes one by a hash of
//! the addresses. A program attached to the group ([`program`]) takes the one of the CPU instead, so that a connection is
//! served where its packets arrive. That is right only where packets arrive on all shards' CPUs, which [`decide`] finds
//! out. A program names sockets by their place in the group, so none may ever leave it alone.

mod attach;
mod program;

pub use attach::attach;
pub use program::Program;

use std::net::IpAddr;

use super::{cpus::print_list, devices::Device, root::Root};

/// What the operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// By CPU where packets arrive on the CPUs of all shards.
    Auto,
    /// By CPU.
    Cpu,
    /// By a hash of the addresses.
    Hash,
}

/// How connections to an address find their shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steering {
    /// To the shard of the CPU: for each CPU its socket, by its place in the group.
    Cpu(Vec<(usize, usize)>),
    /// To any, and why.
    Hash(String),
}

impl Steering {
    /// The word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Cpu(_) => "cpu",
            Self::Hash(_) => "hash",
        }
    }

    /// Why it is so.
    pub fn why(&self) -> String {
        match self {
            Self::Cpu(sockets) => {
                let cpus: Vec<usize> = sockets.iter().map(|&(cpu, _)| cpu).collect();
                format!("CPUs {} have a shard each; what others receive is spread by hash", print_list(&cpus))
            }
            Self::Hash(why) => why.clone(),
        }
    }
}

/// A group of sockets, and who accepts from them.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// What they listen on.
    pub address: IpAddr,
    /// How many there are. Shard `i` accepts from socket `i`, modulo their number.
    pub sockets: usize,
    /// The CPU of each shard; none where the system decides.
    pub shards: &'a [Option<usize>],
}

/// Decides for one group.
///
/// # Errors
/// `choice` cannot be had: a sentence that says why.
pub fn decide(choice: Choice, group: Group<'_>, root: &Root) -> Result<Steering, String> {
    let by_cpu = match (choice, sockets_by_cpu(group)) {
        (Choice::Hash, _) => return Ok(Steering::Hash("asked for".to_owned())),
        (Choice::Cpu, placed) => return placed.map(Steering::Cpu),
        (Choice::Auto, Err(why)) => return Ok(Steering::Hash(why)),
        (Choice::Auto, Ok(by_cpu)) => by_cpu,
    };
    let why_not = |why: &str| Ok(Steering::Hash(why.to_owned()));
    if group.shards.len() == 1 {
        return why_not("there is one shard");
    }
    if group.sockets < group.shards.len() {
        return why_not("fewer sockets were given than there are shards");
    }
    if group.address.is_loopback() {
        return why_not("on loopback connections arrive on the CPUs of their clients");
    }
    let devices = Device::all(root);
    if devices.is_empty() {
        return why_not("no network device is known on which packets would arrive");
    }
    let shards: Vec<usize> = by_cpu.iter().map(|&(cpu, _)| cpu).collect();
    match devices.iter().find_map(|device| uneven(device, &shards)) {
        Some(why) => Ok(Steering::Hash(why)),
        None => Ok(Steering::Cpu(by_cpu)),
    }
}

/// For each CPU with a shard the socket it accepts from; an error if some shard has no CPU of its own.
fn sockets_by_cpu(group: Group<'_>) -> Result<Vec<(usize, usize)>, String> {
    let mut by_cpu: Vec<(usize, usize)> = Vec::new();
    for (shard, cpu) in group.shards.iter().enumerate() {
        let Some(cpu) = *cpu else {
            return Err("shards are not pinned, so no CPU has one of its own".to_owned());
        };
        if by_cpu.iter().any(|&(other, _)| other == cpu) {
            return Err(format!("CPU {cpu} has more than one shard"));
        }
        by_cpu.push((cpu, shard % group.sockets.max(1)));
    }
    by_cpu.sort_unstable();
    Ok(by_cpu)
}

/// How many queues' worth of packets one shard's CPU may receive for each of another's.
const UNEVEN_MAX: f64 = 2.0;

/// Why steering by CPU would leave some of the `shards`' CPUs idle with what `device` receives; nothing if it would not.
fn uneven(device: &Device, shards: &[usize]) -> Option<String> {
    let name = &device.name;
    let arrivals = device.arrivals();
    if arrivals.iter().all(|cpus| cpus.len() <= 1) && arrivals.len() < shards.len() {
        let queues = if arrivals.len() == 1 { "queue" } else { "queues" };
        return Some(format!(
            "{name} has {} receive {queues} for {} shards, so some would get nothing",
            arrivals.len(),
            shards.len()
        ));
    }
    if let Some(queue) = arrivals.iter().position(Vec::is_empty) {
        return Some(format!("on which CPU receive queue {queue} of {name} arrives is not known"));
    }
    // An interrupt that may arrive on several CPUs arrives on one of them at a time; RPS spreads.
    let share = |cpu: usize| -> f64 {
        arrivals.iter().filter(|cpus| cpus.contains(&cpu)).map(|cpus| 1.0 / cpus.len() as f64).sum()
    };
    let shares: Vec<f64> = shards.iter().map(|&cpu| share(cpu)).collect();
    if let Some(idle) = shares.iter().position(|&share| share == 0.0) {
        return Some(format!("nothing that {name} receives arrives on CPU {}", shards[idle]));
    }
    let (most, least) =
        shares.iter().fold((0.0_f64, f64::MAX), |(most, least), &share| (most.max(share), least.min(share)));
    (most > UNEVEN_MAX * least).then(|| {
        format!("what {name} receives arrives too unevenly on the shards' CPUs ({most:.1} to {least:.1})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuning::tree::{Tree, network};

    fn group<'a>(address: &str, sockets: usize, shards: &'a [Option<usize>]) -> Group<'a> {
        Group { address: address.parse().unwrap(), sockets, shards }
    }

    #[track_caller]
    fn hash(steering: Result<Steering, String>, words: &str) {
        match steering {
            Ok(Steering::Hash(why)) => assert!(why.contains(words), "{why}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_asks_for_cpus_gets_them_or_is_told_why_not() {
        let root = Tree::new(&[]).root();
        let ask = |sockets, shards: &[Option<usize>]| {
            decide(Choice::Cpu, group("127.0.0.1", sockets, shards), &root)
        };
        assert_eq!(ask(2, &[Some(5), Some(1)]), Ok(Steering::Cpu(vec![(1, 1), (5, 0)])));
        // A predecessor had one shard, or three.
        assert_eq!(ask(1, &[Some(0), Some(1)]), Ok(Steering::Cpu(vec![(0, 0), (1, 0)])));
        assert_eq!(ask(3, &[Some(0), Some(1)]), Ok(Steering::Cpu(vec![(0, 0), (1, 1)])));
        assert!(ask(2, &[Some(0), None]).unwrap_err().contains("not pinned"));
        assert!(ask(2, &[Some(4), Some(4)]).unwrap_err().contains("CPU 4 has more than one shard"));
    }

    /// Broken by steering where some shard would never see a connection.
    #[test]
    fn auto_steers_only_where_packets_arrive_on_the_cpus_of_all_shards() {
        let shards = [Some(0), Some(1)];
        let tree = Tree::new(&[]);
        let auto = |address, sockets| decide(Choice::Auto, group(address, sockets, &shards), &tree.root());
        hash(auto("10.0.0.1", 2), "no network device");
        network(&tree, "eth0", &[0]);
        hash(auto("10.0.0.1", 2), "eth0 has 1 receive queue for 2 shards");
        network(&tree, "eth0", &[0, 0]);
        hash(auto("10.0.0.1", 2), "nothing that eth0 receives arrives on CPU 1");
        network(&tree, "eth0", &[0, 1]);
        assert_eq!(auto("0.0.0.0", 2), Ok(Steering::Cpu(vec![(0, 0), (1, 1)])));
        hash(auto("::1", 2), "on loopback");
        hash(auto("10.0.0.1", 1), "fewer sockets");
        // A second device that has all its packets on one CPU spoils it, until RPS spreads them.
        network(&tree, "eth1", &[1]);
        hash(auto("10.0.0.1", 2), "eth1 has 1 receive queue");
        tree.put("/sys/class/net/eth1/queues/rx-0/rps_cpus", "3\n");
        assert_eq!(auto("10.0.0.1", 2).unwrap().word(), "cpu");
        network(&tree, "eth2", &[0, 1, 1, 1]);
        hash(auto("10.0.0.1", 2), "too unevenly");
    }

    #[test]
    fn nothing_is_steered_for_shards_that_have_no_cpu_or_no_company() {
        let root = Tree::new(&[]).root();
        hash(decide(Choice::Auto, group("10.0.0.1", 2, &[None, None]), &root), "not pinned");
        hash(decide(Choice::Auto, group("10.0.0.1", 1, &[Some(0)]), &root), "one shard");
        hash(decide(Choice::Hash, group("10.0.0.1", 2, &[Some(0), Some(1)]), &root), "asked for");
    }
}
