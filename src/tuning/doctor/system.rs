//! Checks of the system around: power, clocks, memory, auditing, time, the disk of the log.

use std::path::Path;

use crate::tuning::cpus::print_list;

use super::{Finding, Scene, network::sysctl};

const CPUS: &str = "/sys/devices/system/cpu";
/// A state that takes this long to wake from is seen at the tail, in microseconds.
const WAKING_US_NOTICE: u64 = 20;
/// … and from here on it is most of it.
const WAKING_US_WARN: u64 = 100;

/// The CPUs that shards can run on.
fn shards_cpus(scene: &Scene<'_>) -> Vec<usize> {
    Some(scene.pinned()).filter(|cpus| !cpus.is_empty()).unwrap_or_else(|| scene.machine.usable.clone())
}

pub(super) fn governor(scene: &Scene<'_>) -> Finding {
    let governor =
        |cpu: usize| scene.root.read_trimmed(&format!("{CPUS}/cpu{cpu}/cpufreq/scaling_governor")).ok();
    let governors: Vec<(usize, String)> =
        shards_cpus(scene).into_iter().filter_map(|cpu| Some((cpu, governor(cpu)?))).collect();
    if governors.is_empty() {
        return Finding::unknown("no governor here: the host decides, or the firmware");
    }
    let Some((_, name)) = governors.iter().find(|(_, name)| name != "performance") else {
        return Finding::ok("performance");
    };
    let cpus: Vec<usize> = governors.iter().filter(|(_, other)| other == name).map(|(cpu, _)| *cpu).collect();
    let found = format!("{name} on CPUs {}", print_list(&cpus));
    let remedy = "write performance to scaling_governor of each (cpupower frequency-set -g performance)";
    let driver = scene.root.read_trimmed(&format!("{CPUS}/cpu{}/cpufreq/scaling_driver", cpus[0]));
    // Under these the hardware goes up by itself, and powersave is only its name.
    if name == "powersave"
        && driver.is_ok_and(|driver| ["intel_pstate", "amd-pstate-epp"].contains(&&*driver))
    {
        return Finding::notice(found, remedy).by(&["scaling_governor"]);
    }
    Finding::warn(found, remedy).by(&["scaling_governor"])
}

pub(super) fn c_states(scene: &Scene<'_>) -> Finding {
    let cpu = shards_cpus(scene).first().copied().unwrap_or(0);
    let at = format!("{CPUS}/cpu{cpu}/cpuidle");
    let states = scene.root.list(&at).unwrap_or_default();
    let enabled = states.iter().filter_map(|state| {
        let off: u32 = scene.root.number(&format!("{at}/{state}/disable"))?;
        let waking_us: u64 = scene.root.number(&format!("{at}/{state}/latency"))?;
        let name = scene.root.read_trimmed(&format!("{at}/{state}/name")).ok()?;
        (off == 0).then_some((waking_us, name))
    });
    let Some((waking_us, name)) = enabled.max() else {
        return Finding::unknown("no states here: the host decides");
    };
    let found = format!("the deepest that CPU {cpu} may enter is {name}, {waking_us} µs to wake from");
    let remedy = "hold /dev/cpu_dma_latency at 0, or write 1 to cpuidle/state*/disable of the deep ones";
    match waking_us {
        WAKING_US_WARN.. => Finding::warn(found, remedy),
        WAKING_US_NOTICE.. => Finding::notice(found, remedy),
        _ => Finding::ok(found),
    }
}

pub(super) fn clock_source(scene: &Scene<'_>) -> Finding {
    let at = "/sys/devices/system/clocksource/clocksource0";
    let Ok(current) = scene.root.read_trimmed(&format!("{at}/current_clocksource")) else {
        return Finding::unknown("the kernel does not say");
    };
    let fast = ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"];
    if fast.contains(&&*current) {
        return Finding::ok(format!("{current}, read without a system call"));
    }
    let available = scene.root.read_trimmed(&format!("{at}/available_clocksource")).unwrap_or_default();
    let better = fast.iter().find(|name| available.split_whitespace().any(|other| other == **name));
    Finding::warn(
        format!("{current}: each reading is a system call or slower"),
        match better {
            Some(better) => format!("write {better} to {at}/current_clocksource"),
            None => "see in the kernel's log why it distrusts the TSC; on a virtual machine ask its host"
                .to_owned(),
        },
    )
}

/// The word in brackets of a setting that lists its choices: `always [madvise] never`.
fn chosen(text: &str) -> Option<&str> {
    text.split_once('[')?.1.split_once(']').map(|(word, _)| word)
}

pub(super) fn huge_pages(scene: &Scene<'_>) -> Finding {
    let at = "/sys/kernel/mm/transparent_hugepage";
    let Ok(enabled) = scene.root.read(&format!("{at}/enabled")) else {
        return Finding::ok("this kernel makes none by itself");
    };
    let defrag = scene.root.read(&format!("{at}/defrag")).unwrap_or_default();
    match (chosen(&enabled), chosen(&defrag)) {
        (Some("always"), Some("always")) => Finding::warn(
            "always, and whoever touches memory compacts it on the spot",
            format!("write madvise to {at}/enabled"),
        )
        .by(&["transparent_hugepage"]),
        (Some("always"), _) => {
            Finding::notice("always", format!("write madvise to {at}/enabled")).by(&["transparent_hugepage"])
        }
        (Some(word), _) => Finding::ok(word),
        (None, _) => Finding::unknown(format!("{at}/enabled says \"{}\"", enabled.trim())),
    }
}

/// Up to here the kernel rather drops pages of files than takes those of processes.
const SWAPPINESS_MAX: u32 = 10;

pub(super) fn swap(scene: &Scene<'_>) -> Finding {
    let Ok(text) = scene.root.read("/proc/swaps") else {
        return Finding::ok("this kernel has none");
    };
    let used = |line: &str| line.split_whitespace().nth(3)?.parse::<u64>().ok();
    let areas: Vec<u64> = text.lines().skip(1).filter_map(used).collect();
    let remedy = "set MemorySwapMax=0 in the unit, or vm.swappiness to 10 or less, or turn it off";
    let swappiness = sysctl::<u32>(scene.root, "vm.swappiness");
    let shown = swappiness.map_or("?".to_owned(), |swappiness| swappiness.to_string());
    let finding = match areas.iter().sum::<u64>() {
        _ if areas.is_empty() => return Finding::ok("none"),
        0 if swappiness.is_some_and(|swappiness| swappiness <= SWAPPINESS_MAX) => {
            return Finding::ok(format!("there is some, unused; vm.swappiness = {shown}"));
        }
        0 => Finding::notice(format!("there is some, unused; vm.swappiness = {shown}"), remedy),
        kibibytes => Finding::warn(
            format!("{} MiB are in use; vm.swappiness = {shown}", kibibytes / 1024),
            "set MemorySwapMax=0 in the unit, or turn it off (swapoff -a) and see who needs the memory",
        ),
    };
    if swappiness.is_some_and(|swappiness| swappiness > SWAPPINESS_MAX) {
        return finding.by(&["vm.swappiness"]);
    }
    finding
}

pub(super) fn audit(scene: &Scene<'_>) -> Finding {
    let command_line = scene.root.read("/proc/cmdline").unwrap_or_default();
    if command_line.split_whitespace().any(|word| word == "audit=0") {
        return Finding::ok("switched off on the kernel's command line");
    }
    if scene.running(&["auditd"]).is_none() {
        return Finding::ok("auditd does not run");
    }
    let directory = "/etc/audit/rules.d";
    let names = scene.root.list(directory).unwrap_or_default();
    let mut files: Vec<String> = names.iter().map(|name| format!("{directory}/{name}")).collect();
    files.push("/etc/audit/audit.rules".to_owned());
    let texts: Vec<String> = files.iter().filter_map(|file| scene.root.read(file).ok()).collect();
    if texts.is_empty() {
        return Finding::unknown("auditd runs, and its rules cannot be read without root");
    }
    let rules = texts.iter().flat_map(|text| text.lines()).map(str::trim);
    let on_calls =
        rules.filter(|rule| rule.starts_with("-a") && rule.split_whitespace().any(|word| word == "-S"));
    match on_calls.count() {
        0 => Finding::ok("auditd runs and has no rule on system calls"),
        count => Finding::warn(
            format!("auditd has {count} rules on system calls"),
            "exempt the gateway's user by a rule that comes first (-a never,exit -F uid=tollgate), or watch files (-w) instead",
        ),
    }
}

pub(super) fn time_sync(scene: &Scene<'_>) -> Finding {
    let who = ["chronyd", "ntpd", "systemd-timesyn", "systemd-timesyncd", "openntpd", "ptp4l", "phc2sys"];
    let running = scene.running(&who);
    let synchronized = scene.root.exists("/run/systemd/timesync/synchronized");
    match running {
        Some("systemd-timesyn" | "systemd-timesyncd") if !synchronized => Finding::warn(
            "systemd-timesyncd runs, and has not synchronized the clock yet",
            "see with timedatectl timesync-status whether its servers answer",
        ),
        Some(name) => Finding::ok(format!("{name} keeps the clock")),
        None if scene.needs.tokens => Finding::warn(
            "nobody keeps the clock, and routes take tokens",
            "run chronyd or systemd-timesyncd, unless the host of this machine sets its clock",
        ),
        None => Finding::notice("nobody keeps the clock", "run chronyd or systemd-timesyncd"),
    }
}

/// File systems that are slow, forget, or both.
const REMOTE: [&str; 5] = ["nfs", "nfs4", "cifs", "fuse.sshfs", "9p"];
/// Less room than this is soon none, in bytes.
const ROOM_MIN: u64 = 1 << 30;

pub(super) fn log_disk(scene: &Scene<'_>) -> Finding {
    let Some(file) = &scene.needs.log else {
        return Finding::ok("the access log is no file");
    };
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("/"));
    let shown = directory.display();
    if !scene.root.exists(&directory.to_string_lossy()) {
        return Finding::fail(
            format!("{shown} does not exist"),
            format!("make {shown}, writable for the gateway's user"),
        );
    }
    let mounts = scene.root.read("/proc/self/mounts").unwrap_or_default();
    let mounted = mounts.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (at, kind, options) = (words.next()?, words.next()?, words.next()?);
        directory.starts_with(at).then_some((at, kind, options))
    });
    let Some((at, kind, options)) = mounted.max_by_key(|(at, ..)| at.len()) else {
        return Finding::unknown(format!("no file system is mounted at {shown}, as far as can be seen"));
    };
    if options.split(',').any(|option| option == "ro") {
        return Finding::fail(format!("{at} is mounted read-only"), "mount it for writing, or log elsewhere");
    }
    if kind == "tmpfs" {
        let remedy = "log to a disk, unless losing the log with the power is meant";
        return Finding::notice(format!("{shown} is memory (tmpfs)"), remedy);
    }
    if REMOTE.contains(&kind) {
        let remedy = "log to a disk of this machine, and ship the log from there";
        return Finding::warn(format!("{shown} is on another machine ({kind})"), remedy);
    }
    let room = scene.root.is_system().then(|| rustix::fs::statvfs(directory).ok()).flatten();
    match room.map(|room| room.f_bavail * room.f_frsize) {
        Some(bytes) if bytes < ROOM_MIN => Finding::warn(
            format!("{} MiB are left at {at}", bytes >> 20),
            "make room, or let log.rotate_bytes and a job that deletes old files keep it",
        ),
        Some(bytes) => {
            Finding::ok(format!("{shown} is on {kind}, {:.1} GiB are left", bytes as f64 / (1 << 30) as f64))
        }
        None => Finding::ok(format!("{shown} is on {kind}")),
    }
}
