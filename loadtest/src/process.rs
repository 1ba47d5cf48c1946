//! The CPU time and memory of a target's processes, from `/proc`.
//!
//! A process is counted together with its descendants, so that the pid of a master stands for its workers too.

use std::{collections::BTreeMap, fs, time::Duration};

use crate::exit::SetUp;

/// Processes by their pids, as they were named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Processes(Vec<u32>);

/// What processes had used at some moment.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    ticks: BTreeMap<u32, u64>,
    resident_bytes: u64,
}

/// What processes used between two moments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Usage {
    /// User and system time. The kernel counts it in steps of (usually) 10 ms.
    pub(crate) cpu: Duration,
    /// At the later moment; memory that processes share is counted for each.
    pub(crate) resident_bytes: u64,
    pub(crate) processes: usize,
}

struct Stat {
    parent: u32,
    ticks: u64,
    resident_pages: u64,
}

impl Processes {
    /// # Errors
    /// When one of them does not exist.
    pub(crate) fn new(pids: &[u32]) -> Result<Option<Self>, SetUp> {
        for &pid in pids {
            if stat(pid).is_none() {
                return Err(SetUp::new(format!("--pid {pid}: there is no such process")));
            }
        }
        Ok((!pids.is_empty()).then(|| Self(pids.to_vec())))
    }

    /// The pids of those that live, and of their descendants.
    pub(crate) fn members(&self) -> Vec<u32> {
        let all = all();
        let member = |&pid: &u32| self.0.iter().any(|&root| descends(&all, pid, root));
        all.keys().copied().filter(member).collect()
    }

    /// What they and their descendants have used so far; `None` when one of the named ones is gone.
    pub(crate) fn sample(&self) -> Option<Sample> {
        let all = all();
        if self.0.iter().any(|pid| !all.contains_key(pid)) {
            return None;
        }
        let mut sample = Sample { ticks: BTreeMap::new(), resident_bytes: 0 };
        for (&pid, own) in &all {
            if self.0.iter().any(|&root| descends(&all, pid, root)) {
                sample.ticks.insert(pid, own.ticks);
                sample.resident_bytes += own.resident_pages * rustix::param::page_size() as u64;
            }
        }
        Some(sample)
    }
}

impl Sample {
    /// Resident memory; what processes share is counted for each.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }

    /// What was used since an earlier sample.
    pub(crate) fn since(&self, earlier: &Self) -> Usage {
        let used =
            |(pid, ticks): (&u32, &u64)| ticks - earlier.ticks.get(pid).copied().unwrap_or(0).min(*ticks);
        let ticks: u64 = self.ticks.iter().map(used).sum();
        let cpu = Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64);
        Usage { cpu, resident_bytes: self.resident_bytes, processes: self.ticks.len() }
    }
}

/// Every process; none when `/proc` cannot be read.
fn all() -> BTreeMap<u32, Stat> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .collect()
}

fn descends(all: &BTreeMap<u32, Stat>, mut pid: u32, root: u32) -> bool {
    // Bounded by the number of processes, in case pids were reused while they were read.
    for _ in 0..=all.len() {
        if pid == root {
            return true;
        }
        match all.get(&pid) {
            Some(stat) if stat.parent != 0 => pid = stat.parent,
            _ => return false,
        }
    }
    false
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command stands in parentheses and may hold anything; fields 3, 4, 14, 15 and 24 of proc_pid_stat(5) follow.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat { parent: field(4)? as u32, ticks: field(14)? + field(15)?, resident_pages: field(24)? })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn counts_a_process_with_its_children() {
        let mut child = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().expect("sleep");
        let processes =
            Processes::new(&[std::process::id()]).expect("this process exists").expect("one was named");
        let before = processes.sample().expect("alive");
        assert!(before.ticks.contains_key(&child.id()) && before.ticks.len() >= 2);
        let usage = processes.sample().expect("alive").since(&before);
        assert!(usage.resident_bytes > 0 && usage.processes >= 2);
        child.kill().expect("killed");
        child.wait().expect("reaped");
        assert!(Processes::new(&[child.id()]).is_err(), "a process that is gone was taken");
    }
}
