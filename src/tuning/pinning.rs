//! What `[shards]` says about CPUs, and where the threads then go on a machine.
//!
//! The words are HAProxy's where it has them. What is asked for explicitly is had or refused, never bent; what is
//! left to a policy takes only what the process may use. Decides; `gateway.rs` and the shards do it.

use serde::Serialize;

use super::{
    cpus::{parse_list, print_list},
    machine::{Cpu, Machine},
};

/// Which CPUs shards may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuChoice {
    /// Every CPU this process may use.
    Auto,
    /// Any, and the system moves shards between them.
    None,
    /// Those as fast as the fastest, where cores differ.
    Performance,
    /// Those as slow as the slowest, where cores differ.
    Efficiency,
    /// Those of the first NUMA node that has any.
    FirstUsableNode,
    /// These, in turn.
    These(Vec<usize>),
}

/// The policies that have a name.
const POLICIES: [(&str, CpuChoice); 5] = [
    ("auto", CpuChoice::Auto),
    ("none", CpuChoice::None),
    ("performance", CpuChoice::Performance),
    ("efficiency", CpuChoice::Efficiency),
    ("first-usable-node", CpuChoice::FirstUsableNode),
];

impl CpuChoice {
    /// Parses the name of a policy, or a list such as `0-3,8`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some((_, choice)) = POLICIES.iter().find(|(name, _)| *name == text) {
            return Ok(choice.clone());
        }
        match parse_list(text) {
            Ok(cpus) if !cpus.is_empty() => Ok(Self::These(cpus)),
            Err(error) if error.starts_with("CPU ") => Err(error),
            _ => {
                let names: Vec<String> = POLICIES.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                Err(format!(
                    "\"{text}\" is neither {} nor a list of CPUs such as \"0-3,8\"",
                    names.join(", ")
                ))
            }
        }
    }
}

/// The CPUs that shards leave to interrupts, to the control thread, the log and what else there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// None in particular.
    None,
    /// The first core of a machine with 8 usable CPUs or more, the first two beyond 32.
    Auto,
    /// These.
    These(Vec<usize>),
}

impl Reserve {
    /// Parses `none`, `auto` or a list.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "auto" => Ok(Self::Auto),
            _ => match parse_list(text) {
                Ok(cpus) if !cpus.is_empty() => Ok(Self::These(cpus)),
                Err(error) if error.starts_with("CPU ") => Err(error),
                _ => Err(format!(
                    "\"{text}\" is neither \"none\", \"auto\" nor a list of CPUs such as \"0-3,8\""
                )),
            },
        }
    }
}

/// How many shards a core gets, where it runs several threads (SMT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadsPerCore {
    /// One for each of its CPUs.
    All,
    /// One.
    One,
}

impl ThreadsPerCore {
    /// Parses `all` or `1`.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "1" => Ok(Self::One),
            _ => Err(format!("\"{text}\" is neither \"all\" nor 1")),
        }
    }
}

/// Everything that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinning {
    /// How many shards; one per CPU that they may have when absent.
    pub count: Option<usize>,
    /// Which CPUs they may have.
    pub cpus: CpuChoice,
    /// How many of one core.
    pub threads_per_core: ThreadsPerCore,
    /// Which are kept free of them.
    pub reserve: Reserve,
}

impl Default for Pinning {
    fn default() -> Self {
        Self {
            count: None,
            cpus: CpuChoice::Auto,
            threads_per_core: ThreadsPerCore::All,
            reserve: Reserve::None,
        }
    }
}

impl Pinning {
    /// What is wrong with the CPUs that are reserved, on whichever machine.
    pub fn contradiction(&self) -> Option<String> {
        match (&self.cpus, &self.reserve) {
            (CpuChoice::None, Reserve::Auto | Reserve::These(_)) => {
                let message = "nothing can be kept free of shards that cpus = \"none\" lets run anywhere";
                Some(message.to_owned())
            }
            (CpuChoice::These(cpus), Reserve::These(reserve)) => {
                let both: Vec<usize> = cpus.iter().filter(|cpu| reserve.contains(cpu)).copied().collect();
                let list = print_list(&both);
                (!both.is_empty())
                    .then(|| format!("CPU {list} is kept free of shards here and given to them by cpus"))
            }
            _ => None,
        }
    }
}

/// Where the threads go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// One entry per shard: its CPU, or none to let the system decide.
    pub shards: Vec<Option<usize>>,
    /// The CPUs of all other threads; any when empty.
    pub others: Vec<usize>,
    /// What an operator should know about it.
    pub notes: Vec<String>,
}

/// As fast as the fastest, or as slow as the slowest, in percent. Cores of one kind differ by what their silicon
/// turned out to be; kinds differ by more.
const SAME_KIND_PERCENT: u64 = 80;

impl Placement {
    /// Places the shards and the other threads on `machine`.
    ///
    /// # Errors
    /// What was asked for and cannot be had, with the key.
    pub fn new(pinning: &Pinning, machine: &Machine) -> Result<Self, String> {
        let reserved = reserved(pinning, machine)?;
        let mut notes = Vec::new();
        let candidates = candidates(pinning, machine, &reserved)?;
        let mut shards: Vec<Option<usize>> = match &pinning.cpus {
            CpuChoice::None => vec![None; pinning.count.unwrap_or(candidates.len()).max(1)],
            CpuChoice::These(_) => {
                let count = pinning.count.unwrap_or(candidates.len()).max(1);
                (0..count).map(|shard| candidates.get(shard % candidates.len().max(1)).copied()).collect()
            }
            CpuChoice::Auto if pinning.count.is_some_and(|count| count > candidates.len()) => {
                let count = pinning.count.unwrap_or(1);
                notes.push(format!(
                    "{count} shards would fight over {} CPUs, so none is pinned",
                    candidates.len()
                ));
                vec![None; count]
            }
            // A machine that tells nothing has one CPU, wherever that is.
            _ if candidates.is_empty() => vec![None; pinning.count.unwrap_or(1)],
            policy => {
                let count = pinning.count.unwrap_or(candidates.len());
                if count > candidates.len() {
                    return Err(format!(
                        "shards.count: {count} is more than the CPUs that shards.cpus = \"{}\" leaves, {}; lower \
                         it, or name the CPUs",
                        name_of(policy),
                        print_list(&candidates)
                    ));
                }
                let mut chosen = candidates;
                chosen.truncate(count);
                chosen.sort_unstable();
                chosen.into_iter().map(Some).collect()
            }
        };
        bow_to_quota(&mut shards, pinning, machine, &mut notes);
        let pinned: Vec<usize> = shards.iter().flatten().copied().collect();
        Ok(Self { shards, others: others(&pinned, &reserved, machine), notes })
    }

    /// The shards on `cpu`.
    pub fn on(&self, cpu: usize) -> impl Iterator<Item = usize> {
        self.shards.iter().enumerate().filter(move |(_, at)| **at == Some(cpu)).map(|(shard, _)| shard)
    }

    /// The CPUs that have a shard, ascending.
    pub fn pinned(&self) -> Vec<usize> {
        let mut cpus: Vec<usize> = self.shards.iter().flatten().copied().collect();
        cpus.sort_unstable();
        cpus.dedup();
        cpus
    }
}

fn name_of(choice: &CpuChoice) -> &'static str {
    POLICIES.iter().find(|(_, known)| known == choice).map_or("a list", |(name, _)| name)
}

/// The CPUs that `shards.reserve` keeps, those of the machine that are there.
fn reserved(pinning: &Pinning, machine: &Machine) -> Result<Vec<usize>, String> {
    match &pinning.reserve {
        Reserve::None => Ok(Vec::new()),
        Reserve::Auto => {
            let cores = match machine.usable.len() {
                0..8 => 0,
                8..=32 => 1,
                _ => 2,
            };
            let mut first: Vec<&Cpu> = Vec::new();
            for cpu in machine.usable.iter().filter_map(|&id| machine.cpu(id)) {
                if first.len() < cores && !first.iter().any(|taken| taken.core == cpu.core) {
                    first.push(cpu);
                }
            }
            Ok(first.into_iter().flat_map(|cpu| cpu.core.iter().copied()).collect())
        }
        Reserve::These(cpus) => match cpus.iter().find(|&&id| machine.cpu(id).is_none()) {
            Some(missing) => {
                let online: Vec<usize> = machine.cpus.iter().map(|cpu| cpu.id).collect();
                Err(format!(
                    "shards.reserve: there is no CPU {missing}; this machine has {}",
                    print_list(&online)
                ))
            }
            None => Ok(cpus.clone()),
        },
    }
}

/// The CPUs that shards may have, those first that are to be taken first.
fn candidates(pinning: &Pinning, machine: &Machine, reserved: &[usize]) -> Result<Vec<usize>, String> {
    if let CpuChoice::These(cpus) = &pinning.cpus {
        for id in cpus {
            if !machine.usable.contains(id) {
                return Err(format!(
                    "shards.cpus: CPU {id} cannot be used; this process may run on {}",
                    machine.usable_list()
                ));
            }
        }
        return distinct_cores(pinning, machine, cpus).map(|()| cpus.clone());
    }
    let free: Vec<&Cpu> = machine.usable.iter().filter_map(|&id| machine.cpu(id)).collect();
    let free: Vec<&Cpu> = free.into_iter().filter(|cpu| !reserved.contains(&cpu.id)).collect();
    if free.is_empty() && !reserved.is_empty() {
        return Err(format!(
            "shards.reserve: {} keeps all that this process may run on, {}; no CPU is left for shards",
            print_list(reserved),
            machine.usable_list()
        ));
    }
    let fastest = free.iter().map(|cpu| u64::from(cpu.capacity)).max().unwrap_or(0);
    let slowest = free.iter().map(|cpu| u64::from(cpu.capacity)).min().unwrap_or(0);
    let node = free.iter().map(|cpu| cpu.node).min();
    let fits = |cpu: &&&Cpu| match pinning.cpus {
        CpuChoice::Performance => u64::from(cpu.capacity) * 100 >= fastest * SAME_KIND_PERCENT,
        CpuChoice::Efficiency => u64::from(cpu.capacity) * SAME_KIND_PERCENT <= slowest * 100,
        CpuChoice::FirstUsableNode => Some(cpu.node) == node,
        _ => true,
    };
    let fitting: Vec<&Cpu> = free.iter().filter(fits).copied().collect();
    // Which thread of its core a CPU is, among those that are left.
    let turn = |cpu: &Cpu| fitting.iter().filter(|other| other.core == cpu.core && other.id < cpu.id).count();
    let mut candidates: Vec<(usize, usize, usize)> =
        fitting.iter().map(|cpu| (turn(cpu), cpu.node, cpu.id)).collect();
    if pinning.threads_per_core == ThreadsPerCore::One {
        candidates.retain(|(turn, ..)| *turn == 0);
    }
    // A core of its own is worth more than half of one, and the nearer memory more than the farther.
    candidates.sort_unstable();
    Ok(candidates.into_iter().map(|(.., id)| id).collect())
}

/// Whether no two of `cpus` share a core, where that is not wanted.
fn distinct_cores(pinning: &Pinning, machine: &Machine, cpus: &[usize]) -> Result<(), String> {
    if pinning.threads_per_core == ThreadsPerCore::All {
        return Ok(());
    }
    for (index, &id) in cpus.iter().enumerate() {
        let Some(cpu) = machine.cpu(id) else { continue };
        if let Some(other) = cpus[..index].iter().find(|other| cpu.core.contains(other)) {
            return Err(format!(
                "shards.cpus: CPUs {other} and {id} are threads of one core, and shards.threads_per_core is 1"
            ));
        }
    }
    Ok(())
}

/// A group that gets less time than its CPUs have is stopped in the middle of requests if more threads than that
/// are busy. Its neighbours have their first CPUs where ours are, so none is pinned either.
fn bow_to_quota(
    shards: &mut Vec<Option<usize>>,
    pinning: &Pinning,
    machine: &Machine,
    notes: &mut Vec<String>,
) {
    let Some(quota) = machine.quota.filter(|quota| *quota < machine.usable.len() as f64) else { return };
    if pinning.cpus != CpuChoice::Auto || pinning.count.is_some() {
        if quota < shards.len() as f64 {
            notes.push(format!(
                "the control group gives {quota:.2} CPUs' worth of time to {} shards and will stop them when it is used",
                shards.len()
            ));
        }
        return;
    }
    let count = (quota.floor().max(1.0) as usize).min(shards.len());
    notes.push(format!(
        "the control group gives {quota:.2} CPUs' worth of time, so there are {count} shards and none is pinned"
    ));
    *shards = vec![None; count];
}

/// Where the other threads go: on what is reserved, else on cores without a shard, else on CPUs without one.
fn others(pinned: &[usize], reserved: &[usize], machine: &Machine) -> Vec<usize> {
    if pinned.is_empty() {
        return Vec::new();
    }
    let spare: Vec<&Cpu> =
        machine.usable.iter().filter(|cpu| !pinned.contains(cpu)).filter_map(|&id| machine.cpu(id)).collect();
    let choices: [&dyn Fn(&Cpu) -> bool; 3] = [
        &|cpu| reserved.contains(&cpu.id),
        &|cpu| !cpu.core.iter().any(|sibling| pinned.contains(sibling)),
        &|_| true,
    ];
    let choice = choices.iter().map(|fits| spare.iter().filter(|cpu| fits(cpu)).map(|cpu| cpu.id).collect());
    choice.into_iter().find(|cpus: &Vec<usize>| !cpus.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
