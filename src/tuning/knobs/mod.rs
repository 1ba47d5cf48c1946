//! What can be set on a machine for the gateway's sake: one table, and how it stands against a machine.
//!
//! [`table`] is the only place that says what is wanted and why. The commands, the files in `tuning/` and its README are
//! made from it or compared with it. Nothing here writes; `journal` does.

mod files;
mod node;
mod placement;
mod survey;
mod table;
mod value;

pub use files::{drop_in, limits_file, markdown, plain_sysctls, tuned_profile};
pub use node::Form;
pub(super) use node::{read, write, write_file};
pub use survey::{Setting, State, survey, survey_of};
pub use table::KNOBS;
pub use value::Want;

use std::fmt;

/// One thing that can be set.
#[derive(Debug)]
pub struct Knob {
    /// The sysctl's name, or ours.
    pub name: &'static str,
    /// What it is applied together with.
    pub group: Group,
    /// Where it stands.
    pub place: Place,
    /// What it should be.
    pub want: Want,
    /// When it matters at all.
    pub when: When,
    /// What it is good for here, and what it costs.
    pub why: &'static str,
    /// What it did where it was measured, or that it was not.
    pub effect: &'static str,
}

/// Knobs that are applied, measured and undone together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// The network stack's own settings.
    Network,
    /// Memory and descriptors.
    Memory,
    /// What interrupts a pinned thread, and how fast its CPU is.
    Cpu,
    /// How many queues a network device has. Setting it takes the link down for a moment.
    Queues,
    /// Where its queues and interrupts are served.
    Devices,
    /// Asking devices again and again instead of being told. Takes CPU time to save latency.
    Polling,
    /// Files that bring the settings back after a restart.
    Boot,
}

impl Group {
    /// All of them, in the order in which they are applied.
    pub const ALL: [Self; 7] =
        [Self::Network, Self::Memory, Self::Cpu, Self::Queues, Self::Devices, Self::Polling, Self::Boot];

    /// Those that are meant when none is named: they interrupt nothing and end with a restart.
    pub const USUAL: [Self; 4] = [Self::Network, Self::Memory, Self::Cpu, Self::Devices];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Devices => "devices",
            Self::Queues => "queues",
            Self::Polling => "polling",
            Self::Boot => "boot",
        }
    }

    /// The group of that name.
    ///
    /// # Errors
    /// There is none: a sentence that names all.
    pub fn parse(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|group| group.word() == word).ok_or_else(|| {
            let words: Vec<&str> = Self::ALL.iter().map(|group| group.word()).collect();
            format!("\"{word}\" is no group; there are {}", words.join(", "))
        })
    }
}

impl fmt::Display for Group {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.word())
    }
}

/// What of the table is meant: a group, or a knob by itself.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// Everything that is applied together.
    Group(Group),
    /// One row.
    Knob(&'static Knob),
}

impl Part {
    /// The knob of that name.
    ///
    /// # Errors
    /// There is none: a sentence that says where the names are.
    pub fn parse_knob(name: &str) -> Result<Self, String> {
        let known = KNOBS.iter().find(|knob| knob.name == name).map(Self::Knob);
        known.ok_or_else(|| {
            let near = KNOBS.iter().map(|knob| (strsim::jaro_winkler(knob.name, name), knob.name));
            let near = near.max_by(|one, other| one.0.total_cmp(&other.0)).filter(|(near, _)| *near > 0.8);
            let hint = near.map_or(String::new(), |(_, near)| format!(" (did you mean {near}?)"));
            format!("\"{name}\" is no knob{hint}; all stand in tuning/README.md")
        })
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Group(group) => group.word(),
            Self::Knob(knob) => knob.name,
        }
    }

    /// The group it is, or is of.
    pub fn group(self) -> Group {
        match self {
            Self::Group(group) => group,
            Self::Knob(knob) => knob.group,
        }
    }

    /// Whether the knob of that name, of the group of that name, belongs to it.
    pub fn has(self, knob: &str, group: &str) -> bool {
        match self {
            Self::Group(this) => this.word() == group,
            Self::Knob(this) => this.name == knob,
        }
    }
}

/// Where a knob stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Below `/proc/sys`, by its name.
    Sysctl,
    /// A file of the kernel's, one word of which may be `*`.
    Nodes(&'static str),
    /// A file of every hardware network device that is up, below its directory.
    Device(&'static str),
    /// The CPU on which each queue's interrupt arrives.
    Interrupts,
    /// The CPUs that send over each transmit queue.
    Transmit,
    /// The CPUs that packets are passed on to in software.
    PassingOn,
    /// How many queues a device has.
    Queues,
    /// A file that holds the sysctls.
    SysctlFile,
    /// A file that holds the service's limits.
    DropIn,
}

/// When a knob matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Wherever it exists.
    Always,
    /// Once packets were dropped between a device and the stack.
    Dropped,
    /// Once the stack had to leave packets for later.
    Squeezed,
}

impl Knob {
    /// How to undo it by hand; the old value stands in the journal.
    pub fn undo(&self) -> String {
        match self.place {
            Place::Sysctl => format!("`sysctl -w {}=OLD`", self.name),
            Place::Queues => "`ethtool -L DEVICE combined OLD`".to_owned(),
            Place::SysctlFile => "remove the file, then restart".to_owned(),
            Place::DropIn => "remove the file, then `systemctl daemon-reload`".to_owned(),
            _ => "write the old value to the same file".to_owned(),
        }
    }
}
