//! What may keep a gateway on this machine from doing what its configuration promises, and what to do about it.
//!
//! Each check looks at files below a root and says what it found; why that matters, and what changing it brings,
//! stands in its row of [`CHECKS`] and at length in `tuning/HANDBOOK.md`. Nothing is written. What a file cannot tell
//! (whether rings are allowed) is asked by `cli` and handed in.

pub mod live;
mod network;
mod placement;
mod process;
mod system;

use std::path::PathBuf;

use serde::Serialize;

use super::{
    cpus::print_list,
    devices::Device,
    knobs::{Group, KNOBS},
    machine::Machine,
    pinning::{Pinning, Placement},
    root::Root,
};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It cannot be seen from here.
    Unknown,
    /// Good to know, or to change when convenient.
    Notice,
    /// It costs speed, or will fail under load.
    Warn,
    /// The gateway cannot work like this, or fails already.
    Fail,
}

impl State {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Notice => "notice",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub state: State,
    /// What there is, in a sentence.
    pub found: String,
    /// What to do; nothing if it is as it should be.
    pub remedy: Option<String>,
    /// The knobs by which `tollgate tune` does it, by their names in its table.
    pub knobs: Vec<&'static str>,
}

impl Finding {
    fn ok(found: impl Into<String>) -> Self {
        Self { state: State::Ok, found: found.into(), remedy: None, knobs: Vec::new() }
    }

    fn unknown(found: impl Into<String>) -> Self {
        Self { state: State::Unknown, ..Self::ok(found) }
    }

    fn bad(state: State, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state, remedy: Some(remedy.into()), ..Self::ok(found) }
    }

    /// The same where `tollgate tune` can do it.
    fn by(self, knobs: &[&'static str]) -> Self {
        Self { knobs: knobs.to_vec(), ..self }
    }

    fn notice(found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::bad(State::Notice, found, remedy)
    }

    fn warn(found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::bad(State::Warn, found, remedy)
    }

    fn fail(found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::bad(State::Fail, found, remedy)
    }
}

/// One thing that is looked at.
pub struct Check {
    /// Its name in output and handbook.
    pub id: &'static str,
    /// Why it matters.
    pub why: &'static str,
    /// What to expect of putting it right.
    pub effect: &'static str,
    look: fn(&Scene<'_>) -> Finding,
}

/// What the configuration needs of the machine.
#[derive(Clone, Debug)]
pub struct Needs {
    /// Its `[shards]`.
    pub pinning: Pinning,
    /// The runtime it asks for.
    pub runtime: Runtime,
    /// `bounds.connections`, per shard.
    pub connections: usize,
    /// `bounds.in_flight`, per shard.
    pub in_flight: u64,
    /// Connections that may wait to be accepted, per shard and address.
    pub backlog: u32,
    /// The ports it listens on.
    pub ports: Vec<u16>,
    /// Its clusters: the name, and the connections that wait, per endpoint and shard.
    pub clusters: Vec<(String, u64)>,
    /// Whether any route takes tokens, which begin and end at a time of day.
    pub tokens: bool,
    /// The file of the access log, if it is one.
    pub log: Option<PathBuf>,
}

/// The runtime that a configuration asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// The best there is.
    Best,
    /// io_uring or nothing.
    Ring,
    /// epoll.
    Epoll,
}

/// Everything a check may look at.
pub struct Scene<'s> {
    root: &'s Root,
    needs: &'s Needs,
    /// What an attempt to have a ring gave: the flags' name, or the system's words. Not tried when absent.
    ring: Option<Result<String, String>>,
    machine: Machine,
    devices: Vec<Device>,
    /// Where the threads go, or why they cannot.
    placement: Result<Placement, String>,
    kernel: Option<(u32, u32)>,
}

impl<'s> Scene<'s> {
    /// The machine below `root` for a gateway with these `needs`. `ring` is what an attempt to have one gave.
    pub fn new(root: &'s Root, needs: &'s Needs, ring: Option<Result<String, String>>) -> Self {
        let machine = Machine::read(root);
        let placement = Placement::new(&needs.pinning, &machine);
        let kernel = process::kernel_version(root);
        Self { root, needs, ring, devices: Device::all(root), placement, kernel, machine }
    }

    /// How many shards there will be; as many as usable CPUs if that cannot be said.
    fn shards(&self) -> usize {
        self.placement.as_ref().map_or(self.machine.usable.len().max(1), |placement| placement.shards.len())
    }

    /// The CPUs that shards are pinned to.
    fn pinned(&self) -> Vec<usize> {
        self.placement.as_ref().map(Placement::pinned).unwrap_or_default()
    }

    /// Whether a process of one of these names runs; the first found.
    fn running(&self, names: &[&'static str]) -> Option<&'static str> {
        let processes = self.root.list("/proc").unwrap_or_default();
        let numbered = processes.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        let mut commands = numbered.filter_map(|id| self.root.read_trimmed(&format!("/proc/{id}/comm")).ok());
        commands.find_map(|command| names.iter().copied().find(|name| *name == command))
    }
}

/// What is printed of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The check.
    pub id: &'static str,
    /// How bad it is.
    pub state: State,
    /// What was found.
    pub found: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to do about it, if anything.
    pub remedy: Option<String>,
    /// The command that does it, if one does.
    pub tune: Option<String>,
    /// What to expect of that.
    pub effect: &'static str,
}

/// The command that sets `knobs` for shards on `cpus`.
fn tune(knobs: &[&str], cpus: &[usize]) -> Option<String> {
    let known = KNOBS.iter().filter(|knob| knobs.contains(&knob.name));
    let placed = known.clone().any(|knob| matches!(knob.group, Group::Devices | Group::Queues));
    let only: String = known
        .map(|knob| match knob.name.contains(' ') {
            true => format!(" --only \"{}\"", knob.name),
            false => format!(" --only {}", knob.name),
        })
        .collect();
    let cpus = if placed { format!(" --cpus {}", print_list(cpus)) } else { String::new() };
    (!only.is_empty()).then(|| format!("tollgate tune apply{only}{cpus}"))
}

/// Looks at everything in `scene`, in the order of [`CHECKS`].
pub fn examine(scene: &Scene<'_>) -> Vec<Report> {
    let report = |check: &Check| {
        let Finding { state, found, remedy, knobs } = (check.look)(scene);
        let tune = tune(&knobs, &scene.pinned());
        Report { id: check.id, state, found, why: check.why, remedy, tune, effect: check.effect }
    };
    CHECKS.iter().map(report).collect()
}

const fn check(
    id: &'static str,
    look: fn(&Scene<'_>) -> Finding,
    why: &'static str,
    effect: &'static str,
) -> Check {
    Check { id, why, effect, look }
}

/// All checks. Those that most often pay come first.
#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    check("io-uring", process::io_uring,
        "without a ring every wait and every write is a system call of its own",
        "DEFER_TASKRUN took about a quarter of the CPU of a proxied request on a virtual machine; epoll costs more still"),
    check("kernel", process::kernel,
        "old kernels lack flags of rings and have bugs in what shards rely on",
        "better flags of rings from 5.19 and 6.1; SO_INCOMING_CPU does what it says from 6.2"),
    check("seccomp", process::seccomp,
        "the default filters of Docker and containerd deny rings",
        "rings instead of epoll; the filter costs every system call some ten nanoseconds either way"),
    check("open-files", process::open_files,
        "a connection is a file; without files new clients wait and requests get 502",
        "as many connections as bounds.connections promises"),
    check("locked-memory", process::locked_memory,
        "before 5.12 rings count as locked memory, and a shard that gets none falls back to epoll",
        "every shard gets its ring"),
    check("placement", placement::placement,
        "a shard wants a CPU of its own; threads of one core share its units and its first caches",
        "warm caches and a steadier tail; a second thread per core gives about a third more throughput, not twice"),
    check("cpu-quota", placement::cpu_quota,
        "a group that has used its time is stopped, with all requests in it, until the next period",
        "no pauses of up to a tenth of a second"),
    check("numa", placement::numa,
        "what shards share, and what the device wrote, is farther away on another node",
        "accesses to shared words take a half to a third of the time"),
    check("numa-memory", placement::numa_memory,
        "a shard that finds its buffers on another node waits longer for each line that its caches do not hold",
        "accesses that miss the caches take a half to a third of the time"),
    check("interrupts", placement::interrupts,
        "a packet costs least when the CPU that is interrupted is the one whose shard serves it",
        "fewer wake-ups of other CPUs; elsewhere CPU and queue placement gave tens of percent, a virtual machine cannot show it"),
    check("irqbalance", placement::irqbalance,
        "it moves interrupts away from where they were placed",
        "a placement that stays"),
    check("packet-steering", placement::packet_steering,
        "RPS adds an interrupt between CPUs for each packet; it helps only where queues are fewer than shards",
        "packets stay on the CPU that received them, or are spread where there is one queue"),
    check("backlog", network::backlog,
        "connections that wait to be accepted beyond the backlog are dropped, and the client waits a second before it tries again",
        "bursts of new clients are taken as they come"),
    check("listen-overflows", network::listen_overflows,
        "each was a client that waited a second or more, or gave up",
        "none, unless shards are too busy to accept"),
    check("ephemeral-ports", network::ephemeral_ports,
        "each connection to one endpoint takes a port of its own, and a closed one keeps it for a minute",
        "no 502 for want of a port"),
    check("conntrack", network::conntrack,
        "the table of tracked connections is a lock, memory and a limit: when it is full, packets are dropped",
        "elsewhere 10 to 30 percent of the CPU of small requests"),
    check("softnet", network::softnet,
        "packets that a CPU had no time for were dropped, or waited",
        "fewer retransmissions under bursts"),
    check("audit", system::audit,
        "one rule on system calls makes all system calls of all processes take the slow way",
        "elsewhere 10 percent and more of the CPU"),
    check("governor", system::governor,
        "a CPU that saves power is slow when a request comes after a pause",
        "a steadier tail at low load; little at full load"),
    check("c-states", system::c_states,
        "waking from a deep state takes as long as the state says, which is added to the first request after a pause",
        "tens to hundreds of microseconds less at the tail at low load"),
    check("clock-source", system::clock_source,
        "shards read the clock once per event; a slow source makes that a system call or a bus access",
        "about a microsecond per event"),
    check("huge-pages", system::huge_pages,
        "always: a touch of fresh memory may wait until 2 MiB are cleared, or memory is compacted",
        "fewer pauses of a millisecond, less memory held"),
    check("swap", system::swap,
        "a page that comes back from a disk stops its shard, and all connections of it",
        "no pauses of milliseconds"),
    check("time-sync", system::time_sync,
        "tokens begin and end at a time of day: a clock that is wrong refuses good tokens and takes expired ones",
        "the clock agrees with the issuers' to milliseconds"),
    check("log-disk", system::log_disk,
        "the log is written beside the shards; when the disk is full or slow, lines are lost and counted",
        "no log_gap lines"),
];

#[cfg(test)]
mod tests;
