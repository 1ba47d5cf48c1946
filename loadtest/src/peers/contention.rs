//! What the peer's CPU did besides serving the peer: nothing, because the load was too small, or other work.
//!
//! Idle time is what the kernel counts exactly, per CPU; whatever is neither idle nor the peer's is somebody else's.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::process::{Processes, Sample};

/// The moment at which a measurement began.
#[derive(Debug)]
pub(crate) struct Watch {
    cpu: usize,
    begun: Instant,
    idle: Duration,
    peer: Sample,
}

/// Of the CPU's time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    pub(crate) idle: f64,
    /// Interrupts, other processes and what the hypervisor took.
    pub(crate) others: f64,
}

impl Watch {
    /// `None` when the peer is gone or the kernel does not tell.
    pub(crate) fn start(cpu: usize, processes: &Processes) -> Option<Self> {
        Some(Self { cpu, begun: Instant::now(), idle: idle(cpu)?, peer: processes.sample()? })
    }

    /// What the CPU did since the start.
    pub(crate) fn shares(&self, processes: &Processes) -> Option<Shares> {
        let time = self.begun.elapsed().as_secs_f64().max(1e-9);
        let idle = idle(self.cpu)?.saturating_sub(self.idle).as_secs_f64() / time;
        let peer = processes.sample()?.since(&self.peer).cpu.as_secs_f64() / time;
        Some(Shares { idle: idle.min(1.0), others: (1.0 - idle - peer).max(0.0) })
    }
}

/// How long a CPU has been idle since the start of the machine.
fn idle(cpu: usize) -> Option<Duration> {
    parse_idle(&fs::read_to_string("/proc/stat").ok()?, cpu)
}

fn parse_idle(text: &str, cpu: usize) -> Option<Duration> {
    let name = format!("cpu{cpu}");
    let mut fields = text.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        (fields.next()? == name).then_some(fields)
    })?;
    // user nice system idle iowait (proc_stat(5)); waiting for a disk is idle too.
    let ticks: u64 = fields.by_ref().skip(3).take(2).map(|field| field.parse().unwrap_or(0)).sum();
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_of_the_one_cpu() {
        let text = "cpu  9 9 9 900 9 9\ncpu1 1 2 3 400 50 6 7\ncpu11 1 2 3 4 5 6\n";
        let tick = 1.0 / rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(parse_idle(text, 1), Some(Duration::from_secs_f64(450.0 * tick)));
        assert_eq!(parse_idle(text, 2), None);
    }
}
