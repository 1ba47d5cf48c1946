//! `tollgate topology`: the machine, where its threads would go, and where the memory of gateways that run is.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::json;

use crate::{
    control::config::{self, environment},
    tuning::{
        devices::Device,
        drawing,
        machine::Machine,
        memory::{self, Held},
        pinning::{CpuChoice, Pinning, Placement, Reserve, ThreadsPerCore},
        root::Root,
    },
};

use super::{Failure, REFUSED, USAGE};

#[derive(Debug, clap::Args)]
pub(super) struct Topology {
    /// Print JSON; the same as --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// What to print; toml is the [shards] to paste, with every CPU by its number.
    #[arg(long, value_name = "FORMAT", default_value = "drawing")]
    format: Format,
    /// Place shards as this configuration says; when left out, as the default does.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Try this shards.count.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    count: Option<u16>,
    /// Try this shards.cpus.
    #[arg(long, value_name = "POLICY|LIST", value_parser = CpuChoice::parse)]
    cpus: Option<CpuChoice>,
    /// Try this shards.threads_per_core: all or 1.
    #[arg(long, value_name = "all|1", value_parser = ThreadsPerCore::parse)]
    threads_per_core: Option<ThreadsPerCore>,
    /// Try this shards.reserve.
    #[arg(long, value_name = "none|auto|LIST", value_parser = Reserve::parse)]
    reserve: Option<Reserve>,
    /// Where the machine's /sys and /proc are; another one's copy may be looked at.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A drawing for a terminal.
    Drawing,
    /// Everything.
    Json,
    /// The [shards] of a configuration.
    Toml,
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub(super) fn run(asked: Topology) -> Result<(), Failure> {
    let mut pinning = match &asked.config {
        Some(path) => config::load(path, &environment)?.pinning,
        None => Pinning::default(),
    };
    pinning.count = asked.count.map(usize::from).or(pinning.count);
    pinning.cpus = asked.cpus.unwrap_or(pinning.cpus);
    pinning.threads_per_core = asked.threads_per_core.unwrap_or(pinning.threads_per_core);
    pinning.reserve = asked.reserve.unwrap_or(pinning.reserve);
    if let Some(message) = pinning.contradiction() {
        return Err(Failure { code: USAGE, message: format!("shards.reserve: {message}\n") });
    }
    let root = Root::at(asked.root);
    let machine = Machine::read(&root);
    let devices = Device::all(&root);
    let placement = Placement::new(&pinning, &machine)
        .map_err(|error| Failure { code: REFUSED, message: format!("{error}\n") })?;
    // Another user's is left out: what can be drawn of the machine is no less true for it.
    let running = memory::gateways(&root).into_iter();
    let memory: Vec<Held> = running.filter_map(|pid| Held::read(&root, pid, &machine).ok()).collect();
    match if asked.json { Format::Json } else { asked.format } {
        Format::Drawing => {
            print!("{}", drawing::draw(&machine, &devices, &placement));
            memory.iter().for_each(|held| print!("{}", drawing::memory(held)));
        }
        Format::Toml => print!("{}", drawing::toml(&placement)),
        Format::Json => {
            let all =
                json!({ "machine": machine, "devices": devices, "placement": placement, "memory": memory });
            println!("{all:#}");
        }
    }
    Ok(())
}
