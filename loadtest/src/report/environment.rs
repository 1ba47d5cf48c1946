//! Where a run was made: what a reader must know before comparing it with another.

use std::fs;

use serde::Serialize;

/// The machine and the tool.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Environment {
    /// The tool's version.
    pub(crate) version: &'static str,
    pub(crate) kernel: String,
    pub(crate) architecture: String,
    pub(crate) cpu_model: String,
    /// CPUs that the process may run on.
    pub(crate) cpus: usize,
    /// The frequency governor of the first CPU, `unknown` in most virtual machines.
    pub(crate) governor: String,
    pub(crate) clocksource: String,
    pub(crate) load_average: String,
}

impl Environment {
    /// Reads it from the running kernel; what cannot be read is `unknown`.
    pub(crate) fn read() -> Self {
        let names = rustix::system::uname();
        let text = |name: &std::ffi::CStr| name.to_string_lossy().into_owned();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            kernel: format!("{} {}", text(names.sysname()), text(names.release())),
            architecture: text(names.machine()),
            cpu_model: cpu_model().unwrap_or_else(unknown),
            cpus: crate::cpus::usable(),
            governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            clocksource: line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            load_average: line("/proc/loadavg"),
        }
    }
}

/// The command line that started the process, as a shell would take it.
pub(crate) fn command_line() -> String {
    let quoted = std::env::args().map(|word| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,%@+".contains(&byte);
        if !word.is_empty() && word.bytes().all(plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn line(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| unknown(), |text| text.trim().to_owned())
}

fn unknown() -> String {
    "unknown".to_owned()
}
