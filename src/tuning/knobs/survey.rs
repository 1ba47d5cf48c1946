//! How a machine stands against the table. Reads and writes nothing.

use serde_json::{Value, json};

use super::{
    Form, Group, KNOBS, Knob, Part, Place, When,
    files::{DROP_IN, SYSCTL_FILE, drop_in, sysctl_file},
    node, placement,
};
use crate::tuning::{
    devices::{DEVICES, Device},
    root::Root,
};

/// One place where a knob stands on this machine.
#[derive(Debug)]
pub struct Setting {
    /// The knob.
    pub knob: &'static Knob,
    /// The node, as a path on a machine, or a device's name.
    pub node: String,
    /// How it is written.
    pub form: Form,
    /// How it stands.
    pub state: State,
}

/// How a setting stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// As wanted.
    AsWanted(String),
    /// Otherwise.
    Differs {
        /// What is there; nothing where a file does not exist.
        now: Option<String>,
        /// What should be.
        wanted: String,
    },
    /// It is left as it is, for this reason.
    Left(String),
}

impl Setting {
    /// As JSON.
    pub fn to_json(&self) -> Value {
        let (word, now, wanted, why) = match &self.state {
            State::AsWanted(now) => ("as-wanted", Some(now), None, None),
            State::Differs { now, wanted } => ("differs", now.as_ref(), Some(wanted), None),
            State::Left(why) => ("left", None, None, Some(why)),
        };
        json!({
            "knob": self.knob.name,
            "group": self.knob.group.word(),
            "node": self.node,
            "state": word,
            "now": now,
            "wanted": wanted,
            "left_because": why,
            "what_for": self.knob.why,
            "effect": self.knob.effect,
        })
    }
}

/// Looks at all knobs of `groups`, for shards on `cpus`.
pub fn survey(root: &Root, groups: &[Group], cpus: &[usize]) -> Vec<Setting> {
    let parts: Vec<Part> = groups.iter().copied().map(Part::Group).collect();
    survey_of(root, &parts, cpus)
}

/// Looks at all knobs of `parts`, in the order of the table, for shards on `cpus`.
pub fn survey_of(root: &Root, parts: &[Part], cpus: &[usize]) -> Vec<Setting> {
    let devices = Device::all(root);
    let meant = |knob: &&Knob| parts.iter().any(|part| part.has(knob.name, knob.group.word()));
    let knobs = KNOBS.iter().filter(meant);
    knobs.flat_map(|knob| settings(knob, root, &devices, cpus)).collect()
}

fn settings(knob: &'static Knob, root: &Root, devices: &[Device], cpus: &[usize]) -> Vec<Setting> {
    let one = |node: String, form: Form, state: State| Setting { knob, node, form, state };
    let at = |node: String, form: Form| {
        let state = stands(knob, root, form, &node);
        one(node, form, state)
    };
    match knob.place {
        Place::Sysctl => vec![at(sysctl_node(knob.name), Form::Words)],
        Place::Nodes(pattern) => {
            let nodes = matching(root, pattern);
            if nodes.is_empty() {
                return vec![one(pattern.to_owned(), Form::Choice, absent())];
            }
            nodes.into_iter().map(|node| at(node, Form::Choice)).collect()
        }
        Place::Device(file) => {
            let nodes = devices.iter().map(|device| format!("{DEVICES}/{}/{file}", device.name));
            nodes.map(|node| at(node, Form::Words)).collect()
        }
        Place::Interrupts | Place::Transmit | Place::PassingOn | Place::Queues => {
            let wanted = devices.iter().flat_map(|device| placement::wanted(knob.place, root, device, cpus));
            let derived = wanted.map(|(node, form, wanted)| {
                let state = match wanted {
                    Ok(wanted) => compare(root, form, &node, wanted),
                    Err(why) => State::Left(why),
                };
                one(node, form, state)
            });
            derived.collect()
        }
        Place::SysctlFile => {
            let text = sysctl_file(|knob| lasting(knob, root));
            vec![one(SYSCTL_FILE.to_owned(), Form::File, compare(root, Form::File, SYSCTL_FILE, text))]
        }
        Place::DropIn => {
            vec![one(DROP_IN.to_owned(), Form::File, compare(root, Form::File, DROP_IN, drop_in()))]
        }
    }
}

fn absent() -> State {
    State::Left("this machine has no such setting".to_owned())
}

fn compare(root: &Root, form: Form, node: &str, wanted: String) -> State {
    match node::read(root, form, node) {
        Ok(Some(now)) if now == wanted => State::AsWanted(now),
        Ok(None) if form != Form::File => absent(),
        Ok(now) => State::Differs { now, wanted },
        Err(why) => State::Left(why),
    }
}

/// How a knob with a wish of its own stands.
fn stands(knob: &Knob, root: &Root, form: Form, node: &str) -> State {
    let now = match node::read(root, form, node) {
        Ok(Some(now)) => now,
        Ok(None) => return absent(),
        Err(why) => return State::Left(why),
    };
    match knob.want.beyond(&now) {
        Ok(None) => State::AsWanted(now),
        Ok(Some(wanted)) => match needless(knob.when, root) {
            Some(why) => State::Left(why),
            None => State::Differs { now: Some(now), wanted },
        },
        Err(why) => State::Left(format!("{}: {why}", root.path(node).display())),
    }
}

/// Why a knob does not matter yet.
fn needless(when: When, root: &Root) -> Option<String> {
    let (column, what) = match when {
        When::Always => return None,
        When::Dropped => (1, "dropped"),
        When::Squeezed => (2, "left for later"),
    };
    let counts = root.read("/proc/net/softnet_stat").unwrap_or_default();
    let count = |line: &str| u64::from_str_radix(line.split_whitespace().nth(column)?, 16).ok();
    let sum: u64 = counts.lines().filter_map(count).sum();
    (sum == 0).then(|| format!("no packet was {what} (/proc/net/softnet_stat), so it would change nothing"))
}

fn sysctl_node(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}

/// What a sysctl should be after a restart: what is wanted, or what it is if that is as good.
fn lasting(knob: &Knob, root: &Root) -> Option<String> {
    match stands(knob, root, Form::Words, &sysctl_node(knob.name)) {
        State::AsWanted(now) => Some(now),
        State::Differs { wanted, .. } => Some(wanted),
        State::Left(_) => None,
    }
}

/// The nodes that `pattern` stands for; one of its words may hold one `*`.
fn matching(root: &Root, pattern: &str) -> Vec<String> {
    let Some((before, after)) = pattern.split_once('*') else {
        return if root.exists(pattern) { vec![pattern.to_owned()] } else { Vec::new() };
    };
    let (directory, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let names = root.list(directory).unwrap_or_default();
    let nodes = names
        .iter()
        .filter(|name| {
            name.strip_prefix(prefix).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
        })
        .map(|name| format!("{directory}/{name}{after}"));
    nodes.filter(|node| root.exists(node)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuning::tree::{Tree, network};

    fn machine() -> Tree {
        let tree = Tree::new(&[
            ("/proc/sys/net/core/somaxconn", "128\n"),
            ("/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("/proc/sys/net/core/netdev_max_backlog", "1000\n"),
            ("/proc/sys/vm/swappiness", "odd\n"),
            ("/proc/net/softnet_stat", "00000010 00000000 00000002\n0000000f 00000000 00000000\n"),
            ("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
            ("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
            ("/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n"),
            ("/sys/devices/system/cpu/cpuidle/x", ""),
        ]);
        network(&tree, "eth0", &[0, 0]);
        tree
    }

    #[track_caller]
    fn state(settings: &[Setting], node: &str) -> State {
        settings.iter().find(|setting| setting.node.ends_with(node)).unwrap().state.clone()
    }

    fn differs(now: &str, wanted: &str) -> State {
        State::Differs { now: Some(now.to_owned()), wanted: wanted.to_owned() }
    }

    #[track_caller]
    fn left(state: &State, words: &str) {
        assert!(matches!(state, State::Left(why) if why.contains(words)), "{state:?}");
    }

    #[test]
    fn a_machine_is_held_against_the_table() {
        let tree = machine();
        let found = survey(&tree.root(), &Group::USUAL, &[0, 1]);
        assert_eq!(state(&found, "core/somaxconn"), differs("128", "4096"));
        assert_eq!(state(&found, "ip_local_port_range"), differs("32768 60999", "10240 65535"));
        assert_eq!(state(&found, "hugepage/enabled"), differs("always", "madvise"));
        assert_eq!(state(&found, "cpu0/cpufreq/scaling_governor"), differs("powersave", "performance"));
        assert_eq!(state(&found, "cpu1/cpufreq/scaling_governor"), State::AsWanted("performance".to_owned()));
        left(&state(&found, "core/netdev_max_backlog"), "no packet was dropped");
        left(&state(&found, "vm/swappiness"), "vm/swappiness: \"odd\" is not the number");
        left(&state(&found, "kernel/numa_balancing"), "no such setting");
        tree.put("/proc/net/softnet_stat", "00000010 0000000a 00000002\n");
        let found = survey(&tree.root(), &[Group::Network], &[0, 1]);
        assert_eq!(state(&found, "core/netdev_max_backlog"), differs("1000", "16384"));
    }

    /// Broken by a file that a restart makes worse than the machine was.
    #[test]
    fn the_file_for_a_restart_keeps_what_is_better() {
        let tree = machine();
        tree.put("/proc/sys/net/core/somaxconn", "65535\n");
        let found = survey(&tree.root(), &[Group::Boot], &[0, 1]);
        let State::Differs { now: None, wanted } = state(&found, "60-tollgate.conf") else { panic!() };
        assert!(wanted.contains("net.core.somaxconn = 65535\n"), "{wanted}");
        assert!(wanted.contains("net.ipv4.ip_local_port_range = 10240 65535\n"), "{wanted}");
        assert!(!wanted.contains("numa_balancing") && !wanted.contains("vm.swappiness"), "{wanted}");
        tree.put("/etc/sysctl.d/60-tollgate.conf", &wanted);
        let found = survey(&tree.root(), &[Group::Boot], &[0, 1]);
        assert!(matches!(state(&found, "60-tollgate.conf"), State::AsWanted(_)));
    }
}
