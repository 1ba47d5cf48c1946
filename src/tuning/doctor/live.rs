//! What changes while traffic runs: counters of the kernel at the beginning and the end of a stretch of time.
//!
//! A count since the machine started may be a year old; what is counted here is happening.

use crate::tuning::{cgroup, root::Root};

use super::{
    Finding, Report, State,
    network::{NETSTAT, SNMP, counter, softnet_counts},
};

/// The counters at one moment. What the machine does not tell is absent.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Packets dropped before they were looked at, and times that a CPU had to stop early.
    softnet: Option<(u64, u64)>,
    /// Connections that found the backlog full.
    listen_drops: Option<u64>,
    /// Segments that were sent again, and segments sent.
    sent_again: Option<(u64, u64)>,
    /// Ticks that the host took away, and all ticks.
    stolen: Option<(u64, u64)>,
    /// Periods in which the group was stopped.
    throttled: Option<u64>,
    /// The shards' threads.
    shards: Vec<Thread>,
}

/// A shard's thread.
#[derive(Clone, Debug)]
struct Thread {
    id: String,
    /// Its name, `shard-3`.
    name: String,
    /// How long it was at work.
    worked_ns: Option<u64>,
    /// Times that it went to another CPU.
    migrations: Option<u64>,
    /// Times that it had to make room for another thread.
    preemptions: Option<u64>,
}

impl Sample {
    /// The counters below `root` now, with the threads of the gateway that is process `pid`.
    pub fn take(root: &Root, pid: Option<u64>) -> Self {
        let netstat = |name| counter(root, NETSTAT, "TcpExt", name);
        let tcp = |name| counter(root, SNMP, "Tcp", name);
        Self {
            softnet: softnet_counts(root),
            listen_drops: netstat("ListenDrops"),
            sent_again: tcp("RetransSegs").zip(tcp("OutSegs")),
            stolen: stolen(root),
            throttled: cgroup::throttling(root).map(|throttling| throttling.throttled),
            shards: pid.map(|pid| threads(root, pid)).unwrap_or_default(),
        }
    }
}

/// Ticks of all CPUs: `cpu  user nice system idle iowait irq softirq steal …`.
fn stolen(root: &Root) -> Option<(u64, u64)> {
    let text = root.read("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // What guests ran is counted among the first two already.
    let ticks: Vec<u64> = line.split_whitespace().take(8).filter_map(|ticks| ticks.parse().ok()).collect();
    Some((*ticks.get(7)?, ticks.iter().sum()))
}

fn threads(root: &Root, pid: u64) -> Vec<Thread> {
    let tasks = root.list(&format!("/proc/{pid}/task")).unwrap_or_default();
    let shards = tasks.into_iter().filter_map(|id| {
        let at = format!("/proc/{pid}/task/{id}");
        let name = root.read_trimmed(&format!("{at}/comm")).ok().filter(|name| name.starts_with("shard-"))?;
        let schedule = root.read(&format!("{at}/schedstat")).ok();
        let number = |file: &str, key: &str| {
            let text = root.read(&format!("{at}/{file}")).ok()?;
            let line = text.lines().find(|line| line.starts_with(key))?;
            line.rsplit(':').next()?.trim().parse().ok()
        };
        Some(Thread {
            worked_ns: schedule.and_then(|text| text.split_whitespace().next()?.parse().ok()),
            migrations: number("sched", "se.nr_migrations"),
            preemptions: number("status", "nonvoluntary_ctxt_switches"),
            id,
            name,
        })
    });
    let mut shards: Vec<Thread> = shards.collect();
    shards.sort_by_key(|shard| number(&shard.name));
    shards
}

/// The number of the shard whose thread has this name.
fn number(name: &str) -> Option<usize> {
    name.strip_prefix("shard-")?.parse().ok()
}

/// What the gateway says of itself at the end of the time.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Of each shard, how many clients it has.
    pub connections: Vec<u64>,
    /// How connections to each address find their shard, and why so: the address, `cpu` or `hash`, a sentence.
    pub steering: Vec<(String, String, String)>,
}

/// A stretch of time under traffic.
#[derive(Clone, Debug)]
pub struct Interval {
    /// At its beginning.
    pub before: Sample,
    /// At its end.
    pub after: Sample,
    /// How long it was.
    pub seconds: u64,
    /// What the gateway said; nothing if none was asked.
    pub told: Told,
}

impl Interval {
    fn grown(&self, of: impl Fn(&Sample) -> Option<u64>) -> Option<u64> {
        Some(of(&self.after)?.saturating_sub(of(&self.before)?))
    }

    /// By how much a pair of counters grew: a part, and the whole.
    fn share(&self, of: impl Fn(&Sample) -> Option<(u64, u64)>) -> Option<f64> {
        let part = self.grown(|sample| of(sample).map(|(part, _)| part))?;
        let whole = self.grown(|sample| of(sample).map(|(_, whole)| whole))?;
        (whole > 0).then(|| part as f64 / whole as f64)
    }

    /// What share of the time each shard was at work, by its number; none where that cannot be seen.
    fn busy(&self) -> Vec<(usize, f64)> {
        let busy = self.after.shards.iter().filter_map(|after| {
            let before = self.before.shards.iter().find(|before| before.id == after.id)?;
            let worked_ns = after.worked_ns?.saturating_sub(before.worked_ns?);
            Some((number(&after.name)?, worked_ns as f64 / (self.seconds.max(1) as f64 * 1e9)))
        });
        busy.collect()
    }

    /// By how much a counter of the shards' threads grew, all together.
    fn of_threads(&self, of: impl Fn(&Thread) -> Option<u64>) -> Option<u64> {
        let mut sum = None;
        for after in &self.after.shards {
            let Some(before) = self.before.shards.iter().find(|before| before.id == after.id) else {
                continue;
            };
            let grown = of(after)?.saturating_sub(of(before)?);
            sum = Some(sum.unwrap_or(0) + grown);
        }
        sum
    }
}

/// One thing that is looked at while traffic runs.
pub struct LiveCheck {
    /// Its name in output and handbook.
    pub id: &'static str,
    /// Why it matters.
    pub why: &'static str,
    /// What to expect of putting it right.
    pub effect: &'static str,
    look: fn(&Interval) -> Finding,
}

const fn check(
    id: &'static str,
    look: fn(&Interval) -> Finding,
    why: &'static str,
    effect: &'static str,
) -> LiveCheck {
    LiveCheck { id, why, effect, look }
}

/// All of them.
#[rustfmt::skip]
pub const LIVE: &[LiveCheck] = &[
    check("live-softnet", softnet,
        "packets that a CPU had no time for are dropped, and sent again a fifth of a second later",
        "fewer retransmissions"),
    check("live-listen-drops", listen_drops,
        "each is a client that waits a second or more, or gives up",
        "new clients are taken as they come"),
    check("live-retransmits", retransmits,
        "a segment that is sent again comes a fifth of a second late, which is far beyond every other delay",
        "a shorter tail"),
    check("live-steal", steal,
        "a CPU that the host gives to others stands still, with all requests of its shard",
        "a shorter tail; only the host, or another one, can give it"),
    check("live-throttled", throttled,
        "a group that has used its time is stopped until the next period",
        "no pauses of up to a tenth of a second"),
    check("live-migrations", migrations,
        "a thread that goes to another CPU leaves its caches behind",
        "some microseconds per migration"),
    check("live-preemptions", preemptions,
        "a shard that has to make room for another thread stands still for as long as that one runs",
        "a shorter tail"),
    check("live-imbalance", imbalance,
        "the busiest shard decides the tail, and others cannot help it",
        "the load at which the first shard is full comes closer to that at which all are"),
];

/// Looks at everything in `interval`, in the order of [`LIVE`].
pub fn examine(interval: &Interval) -> Vec<Report> {
    let report = |check: &LiveCheck| {
        let Finding { state, found, remedy, knobs } = (check.look)(interval);
        let tune = super::tune(&knobs, &[]);
        Report { id: check.id, state, found, why: check.why, remedy, tune, effect: check.effect }
    };
    LIVE.iter().map(report).collect()
}

fn softnet(interval: &Interval) -> Finding {
    let grown = |at: fn((u64, u64)) -> u64| interval.grown(|sample| sample.softnet.map(at));
    match (grown(|(dropped, _)| dropped), grown(|(_, squeezed)| squeezed)) {
        (Some(0), Some(0)) => Finding::ok("nothing dropped"),
        (Some(0), Some(squeezed)) => Finding::notice(
            format!("{squeezed} times a CPU had to stop early; nothing dropped"),
            "raise net.core.netdev_budget to 600, or spread interrupts over more CPUs",
        )
        .by(&["net.core.netdev_budget"]),
        (Some(dropped), _) => Finding::warn(
            format!("{dropped} packets dropped"),
            "raise net.core.netdev_max_backlog to 16384, and spread interrupts over more CPUs",
        )
        .by(&["net.core.netdev_max_backlog"]),
        _ => Finding::unknown("/proc/net/softnet_stat does not say"),
    }
}

fn listen_drops(interval: &Interval) -> Finding {
    match interval.grown(|sample| sample.listen_drops) {
        Some(0) => Finding::ok("none"),
        Some(drops) => Finding::warn(
            format!("{drops} connections found a full backlog"),
            "raise net.core.somaxconn, then restart; if shards are at work all the time, add shards or machines",
        )
        .by(&["net.core.somaxconn"]),
        None => Finding::unknown("/proc/net/netstat does not say"),
    }
}

fn retransmits(interval: &Interval) -> Finding {
    let Some(share) = interval.share(|sample| sample.sent_again) else {
        return Finding::unknown("nothing was sent, or /proc/net/snmp does not say");
    };
    let found = format!("{:.2} % of segments were sent again", share * 100.0);
    let remedy = "look for drops on the device (ethtool -S), on the way, and at live-softnet";
    match share {
        0.01.. => Finding::warn(found, remedy),
        0.001.. => Finding::notice(found, remedy),
        _ => Finding::ok(found),
    }
}

fn steal(interval: &Interval) -> Finding {
    let Some(share) = interval.share(|sample| sample.stolen) else {
        return Finding::unknown("/proc/stat does not say");
    };
    let found = format!("{:.1} % of the time was the host's", share * 100.0);
    let remedy = "ask for CPUs of its own for this machine, or move it to another host";
    match share {
        0.05.. => Finding::warn(found, remedy),
        0.01.. => Finding::notice(found, remedy),
        _ => Finding::ok(found),
    }
}

fn throttled(interval: &Interval) -> Finding {
    match interval.grown(|sample| sample.throttled) {
        Some(0) => Finding::ok("never stopped"),
        Some(times) => Finding::warn(
            format!("stopped in {times} periods"),
            "give the group whole CPUs and no quota, or more of it",
        ),
        None => Finding::ok("the control group's time is not counted, so it is not bounded"),
    }
}

/// What is said when the shards' threads cannot be seen.
const NO_THREADS: &str =
    "the gateway's threads cannot be seen; is it running here, and is --admin its address?";

fn migrations(interval: &Interval) -> Finding {
    let Some(count) = interval.of_threads(|thread| thread.migrations) else {
        return Finding::unknown(NO_THREADS);
    };
    let found = format!("shards went to another CPU {count} times in {} s", interval.seconds);
    let remedy = "pin shards (shards.cpus), and look for whoever else is pinned to their CPUs";
    let per_second = count / interval.seconds.max(1);
    match per_second / interval.after.shards.len().max(1) as u64 {
        0 => Finding::ok(found),
        1..100 => Finding::notice(found, remedy),
        _ => Finding::warn(found, remedy),
    }
}

fn preemptions(interval: &Interval) -> Finding {
    let Some(count) = interval.of_threads(|thread| thread.preemptions) else {
        return Finding::unknown(NO_THREADS);
    };
    let found = format!("shards had to make room {count} times in {} s", interval.seconds);
    let remedy =
        "keep other programs off the shards' CPUs (AllowedCPUs= of their units), and set shards.reserve";
    match count / interval.seconds.max(1) / interval.after.shards.len().max(1) as u64 {
        0..10 => Finding::ok(found),
        10..200 => Finding::notice(found, remedy),
        _ => Finding::warn(found, remedy),
    }
}

/// A shard that is at work less than this share of the time has no load to compare.
const BUSY_MIN: f64 = 0.05;
/// Of what all shards could do, this much is reached when the busiest is full. Below it, it is worth a look …
const REACHED_NOTICE: f64 = 0.8;
/// … and here a large part of the machine stands idle.
const REACHED_WARN: f64 = 0.6;
/// Fewer clients for each shard than this are spread unevenly by any hash.
const CLIENTS_MIN: u64 = 16;

fn imbalance(interval: &Interval) -> Finding {
    let busy = interval.busy();
    let Some(&(busiest, most)) = busy.iter().max_by(|one, other| one.1.total_cmp(&other.1)) else {
        return Finding::unknown(NO_THREADS);
    };
    if busy.len() == 1 {
        return Finding::ok(format!("one shard, at work {:.0} % of the time", most * 100.0));
    }
    if most < BUSY_MIN {
        return Finding::unknown("there is no traffic to speak of");
    }
    let mean = busy.iter().map(|(_, busy)| busy).sum::<f64>() / busy.len() as f64;
    let reached = mean / most;
    let mut found = format!(
        "shard {busiest} is at work {:.0} % of the time, all of them {:.0} %: when it is full, {:.0} % of what the shards \
         could do is reached",
        most * 100.0,
        mean * 100.0,
        reached * 100.0
    );
    if reached >= REACHED_NOTICE {
        return Finding::ok(found);
    }
    let told = &interval.told;
    for (address, by, why) in &told.steering {
        found.push_str(&format!("; {address} is spread by {by} ({why})"));
    }
    let state = if reached < REACHED_WARN { State::Warn } else { State::Notice };
    Finding::bad(state, found, against_imbalance(told, busiest))
}

/// What to change so that shards have more equal shares, after what makes them unequal.
fn against_imbalance(told: &Told, busiest: usize) -> String {
    let clients: u64 = told.connections.iter().sum();
    let shards = told.connections.len().max(1) as u64;
    let its = told.connections.get(busiest).copied().unwrap_or(0);
    if told.steering.iter().any(|(_, by, _)| by == "cpu") {
        return "set listen.accept_steering = \"hash\", or let receive queues interrupt the CPUs of all shards evenly (see \
                interrupts)"
            .to_owned();
    }
    if told.connections.is_empty() {
        return "compare tollgate_shard_accepts_total of the shards: if they are uneven, let clients open more connections"
            .to_owned();
    }
    if clients < CLIENTS_MIN * shards {
        return format!(
            "{clients} clients' connections cannot be spread evenly over {shards} shards by any hash: let clients open \
             more of them, or lower shards.count"
        );
    }
    if its * shards * 4 > clients * 5 {
        return format!(
            "shard {busiest} has {its} of {clients} connections, which were made while others had more: lower \
             bounds.keepalive_requests, so that long-lived ones are spread anew"
        );
    }
    format!(
        "shard {busiest} has {its} of {clients} connections, and some of them carry much more than others: let those \
         clients use several, or lower bounds.keepalive_requests, so that they are spread anew"
    )
}
