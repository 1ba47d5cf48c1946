//! Checks of what the kernel allows this process: rings, files, locked memory.

use crate::tuning::{needs::files_needed, root::Root};

use super::{Finding, Runtime, Scene};

/// A ring's memory in the kernel, at the most: two queues, their entries, what is around them.
const RING_BYTES: u64 = 256 * 1024;

/// The kernel's version, two numbers of it.
pub(super) fn kernel_version(root: &Root) -> Option<(u32, u32)> {
    let release = root.read("/proc/sys/kernel/osrelease").ok()?;
    let mut numbers = release.trim().split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub(super) fn io_uring(scene: &Scene<'_>) -> Finding {
    if scene.needs.runtime == Runtime::Epoll {
        let remedy = "set shards.driver = \"auto\", unless epoll is wanted for another reason";
        return Finding::notice("the configuration asks for epoll", remedy);
    }
    match scene.ring.clone().or_else(|| expected_ring(scene)) {
        Some(Ok(flags)) if flags.contains("defer-taskrun") => Finding::ok(format!("allowed, with {flags}")),
        Some(Ok(flags)) => Finding::notice(format!("allowed, with {flags} only"), "use a kernel from 6.1 on"),
        Some(Err(error)) => {
            let remedy = "set kernel.io_uring_disabled = 0 (or 1 and the gateway's group in kernel.io_uring_group), \
                          and let the container's seccomp profile allow io_uring_setup, io_uring_enter and \
                          io_uring_register";
            match scene.needs.runtime {
                Runtime::Ring => {
                    Finding::fail(format!("denied, and shards.driver = \"io-uring\": {error}"), remedy)
                }
                _ => Finding::warn(format!("denied, so shards use epoll: {error}"), remedy),
            }
        }
        None => Finding::unknown("neither the kernel's version nor its settings can be read"),
    }
}

/// What an attempt would probably give, after the kernel's files.
fn expected_ring(scene: &Scene<'_>) -> Option<Result<String, String>> {
    let kernel = scene.kernel?;
    Some(match (scene.root.number::<u32>("/proc/sys/kernel/io_uring_disabled"), kernel) {
        (Some(2), _) => Err("kernel.io_uring_disabled is 2".to_owned()),
        (Some(1), _) => {
            Err("kernel.io_uring_disabled is 1: only for root and kernel.io_uring_group".to_owned())
        }
        (_, (6, 1..) | (7.., _)) => Ok("io-uring-defer-taskrun".to_owned()),
        (_, (5, 19..) | (6, 0)) => Ok("io-uring-coop-taskrun".to_owned()),
        (_, (5, 1..)) => Ok("io-uring-plain".to_owned()),
        _ => Err("the kernel is older than 5.1".to_owned()),
    })
}

pub(super) fn kernel(scene: &Scene<'_>) -> Finding {
    let Some((major, minor)) = scene.kernel else {
        return Finding::unknown("/proc/sys/kernel/osrelease cannot be read");
    };
    let version = format!("Linux {major}.{minor}");
    match (major, minor) {
        (..=4, _) | (5, 0) => Finding::warn(format!("{version} has no io_uring"), "use a kernel from 6.1 on"),
        (5, _) | (6, 0) => Finding::warn(
            format!(
                "{version} lacks DEFER_TASKRUN, and SO_INCOMING_CPU does nothing on addresses that shards share, unless \
                 its distributor mended it"
            ),
            "use a kernel from 6.2 on",
        ),
        (6, 1) => Finding::notice(
            format!(
                "{version}: SO_INCOMING_CPU does nothing on addresses that shards share, unless its distributor mended it"
            ),
            "use a kernel from 6.2 on, or do not rely on it; the steering program of the gateway does not",
        ),
        _ => Finding::ok(version),
    }
}

/// The value of a line `Key:\tvalue` of this process's status.
fn status(scene: &Scene<'_>, key: &str) -> Option<String> {
    let text = scene.root.read("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.map(|value| value.trim().to_owned())
}

pub(super) fn seccomp(scene: &Scene<'_>) -> Finding {
    match status(scene, "Seccomp").as_deref() {
        Some("0") => Finding::ok("no filter on system calls here; a unit or container may bring its own"),
        Some("2") if scene.ring.as_ref().is_some_and(Result::is_ok) => {
            Finding::ok("there is a filter, and it lets rings through")
        }
        Some("2") => Finding::notice(
            "there is a filter on system calls",
            "if io-uring says denied, take a profile that allows io_uring_setup, io_uring_enter and io_uring_register",
        ),
        Some(_) => {
            Finding::fail("strict mode: nothing but reading and writing is allowed", "start it otherwise")
        }
        None => Finding::unknown("/proc/self/status does not say"),
    }
}

/// The hard limit of a line of `/proc/self/limits`: `Max open files   1024   4096   files`.
fn hard_limit(scene: &Scene<'_>, name: &str) -> Option<u64> {
    let text = scene.root.read("/proc/self/limits").ok()?;
    let values = text.lines().find_map(|line| line.strip_prefix(name))?;
    let hard = values.split_whitespace().nth(1)?;
    if hard == "unlimited" { Some(u64::MAX) } else { hard.parse().ok() }
}

pub(super) fn open_files(scene: &Scene<'_>) -> Finding {
    let needed = files_needed(scene.needs.connections, scene.shards());
    let Some(hard) = hard_limit(scene, "Max open files") else {
        return Finding::unknown("/proc/self/limits does not say");
    };
    let all = scene.root.number("/proc/sys/fs/file-max").unwrap_or(u64::MAX);
    let needs = format!(
        "{} shards with bounds.connections = {} can need {needed}",
        scene.shards(),
        scene.needs.connections
    );
    if hard < needed {
        // What a unit asks for is had up to here only.
        let most = scene.root.number::<u64>("/proc/sys/fs/nr_open");
        let knobs: &[&str] = match most.is_some_and(|most| most < needed) {
            true => &["fs.nr_open", "50-tune.conf"],
            false => &["50-tune.conf"],
        };
        return Finding::warn(
            format!("at most {hard} open files for a process started from here, and {needs}"),
            format!(
                "set LimitNOFILE={needed} in the unit (ulimit -Hn in a shell), or lower bounds.connections"
            ),
        )
        .by(knobs);
    }
    if all < needed {
        let remedy = format!("set fs.file-max to {needed} or more");
        return Finding::warn(
            format!("at most {all} open files for all processes together, and {needs}"),
            remedy,
        );
    }
    Finding::ok(format!("a process may have {hard}, and {needs}"))
}

pub(super) fn locked_memory(scene: &Scene<'_>) -> Finding {
    match scene.kernel {
        None => return Finding::unknown("the kernel's version cannot be read"),
        Some(kernel) if kernel >= (5, 12) => return Finding::ok("rings do not count as locked memory"),
        Some(_) => {}
    }
    let needed = RING_BYTES * scene.shards() as u64;
    match hard_limit(scene, "Max locked memory") {
        None => Finding::unknown("/proc/self/limits does not say"),
        Some(hard) if hard < needed => Finding::warn(
            format!(
                "{} KiB, and the rings of {} shards take {} KiB",
                hard / 1024,
                scene.shards(),
                needed / 1024
            ),
            "set LimitMEMLOCK=infinity in the unit (ulimit -Hl in a shell), or use a kernel from 5.12 on",
        )
        .by(&["50-tune.conf"]),
        Some(_) => Finding::ok(format!("enough for the rings of {} shards", scene.shards())),
    }
}
