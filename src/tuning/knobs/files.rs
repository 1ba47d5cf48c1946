//! The texts that are made from the table: the file of sysctls, the service's drop-in, the README's table.

use super::{Group, KNOBS, Knob, Place, When};

/// Where the sysctls stand, so that a restart brings them back.
pub(super) const SYSCTL_FILE: &str = "/etc/sysctl.d/60-tollgate.conf";
/// Where the service's limits stand.
pub(super) const DROP_IN: &str = "/etc/systemd/system/tollgate.service.d/50-tune.conf";

/// A file for `sysctl.d`, with the value that `of` gives each knob; without those that it gives none.
pub(super) fn sysctl_file(of: impl Fn(&Knob) -> Option<String>) -> String {
    let mut text = "# What `tollgate tune` sets, for after a restart. See tuning/README.md.\n".to_owned();
    for group in [Group::Network, Group::Memory, Group::Cpu] {
        let knobs = KNOBS.iter().filter(|knob| knob.group == group && knob.place == Place::Sysctl);
        for knob in knobs {
            if let Some(value) = of(knob) {
                text.push_str(&format!("\n# {}\n{} = {value}\n", knob.why, knob.name));
            }
        }
    }
    text
}

/// The sysctls of a machine about which nothing is known. Those that depend on it, or on what it counted, are left out.
fn plain() -> impl Iterator<Item = (&'static str, String)> {
    // A module that is not loaded has no settings, and would make `sysctl --system` complain. Polling is asked for.
    let usual = |knob: &&Knob| {
        knob.place == Place::Sysctl
            && knob.when == When::Always
            && knob.group != Group::Polling
            && !knob.name.starts_with("net.netfilter.")
    };
    KNOBS.iter().filter(usual).filter_map(|knob| Some((knob.name, knob.want.plain()?)))
}

/// The same as a file for `sysctl.d`.
pub fn plain_sysctls() -> String {
    sysctl_file(|knob| plain().find(|(name, _)| *name == knob.name).map(|(_, value)| value))
}

/// Open files of a process, at the most: a proxied request takes two.
const OPEN_FILES: u64 = 1_048_576;

/// A file for `limits.d`, for gateways that are not started by systemd.
pub fn limits_file() -> String {
    format!(
        "# For a user named tollgate that starts gateways from a login. See tuning/README.md.\n\
         # A proxied request takes two.\n\
         tollgate soft nofile {OPEN_FILES}\n\
         tollgate hard nofile {OPEN_FILES}\n\
         # Rings and registered memory, on kernels before 5.12.\n\
         tollgate soft memlock unlimited\n\
         tollgate hard memlock unlimited\n"
    )
}

/// A profile for `tuned`, which would otherwise set again what it thinks right.
pub fn tuned_profile() -> String {
    let mut text =
        "# What `tollgate tune` sets, as a child of a profile that comes with tuned. See tuning/README.md.\n\
                    [main]\n\
                    summary=An API gateway with a pinned thread for each CPU\n\
                    include=network-latency\n\
                    \n\
                    [sysctl]\n"
            .to_owned();
    for (name, value) in plain() {
        text.push_str(&format!("{name}={value}\n"));
    }
    for knob in KNOBS.iter().filter(|knob| knob.place != Place::Sysctl) {
        let section = match knob.name {
            "transparent_hugepage" => "[vm]\ntransparent_hugepages",
            "scaling_governor" => "[cpu]\ngovernor",
            _ => continue,
        };
        if let Some(value) = knob.want.plain() {
            text.push_str(&format!("\n{section}={value}\n"));
        }
    }
    text
}

/// The limits and the rank of the service.
pub fn drop_in() -> String {
    format!(
        "# What `tollgate tune` sets for the service. See tuning/README.md.\n\
     [Service]\n\
     # A proxied request takes two.\n\
     LimitNOFILE={OPEN_FILES}\n\
     # Rings and registered memory, on kernels before 5.12.\n\
     LimitMEMLOCK=infinity\n\
     # When memory runs out, others go first.\n\
     OOMScoreAdjust=-800\n\
     # Before other services, behind nothing of the kernel's.\n\
     Nice=-5\n"
    )
}

/// The table as Markdown, as `tuning/README.md` shows it.
pub fn markdown() -> String {
    let mut text = String::new();
    for group in Group::ALL {
        text.push_str(&format!("\n**{group}**{}\n\n", note(group)));
        text.push_str("| knob | wanted | what for | effect | undo by hand |\n|---|---|---|---|---|\n");
        for knob in KNOBS.iter().filter(|knob| knob.group == group) {
            let when = match knob.when {
                When::Always => "",
                When::Dropped => ", once packets were dropped",
                When::Squeezed => ", once packets had to wait",
            };
            text.push_str(&format!(
                "| `{}` | {}{when} | {} | {} | {} |\n",
                knob.name,
                knob.want.text(),
                knob.why,
                knob.effect,
                knob.undo()
            ));
        }
    }
    text
}

fn note(group: Group) -> &'static str {
    match group {
        Group::Network | Group::Memory | Group::Cpu | Group::Devices => "",
        Group::Queues => ", only with `--group queues`: the link is down for a moment",
        Group::Polling => ", only with `--group polling`: takes CPU time to save latency",
        Group::Boot => ", only with `--group boot`: lasts beyond a restart",
    }
}
