//! A machine as a drawing for 80 columns: nodes, caches and cores, devices, and what runs where.
//!
//! Each core is a cell with two lines: the numbers of its CPUs, and below them who has them.

use std::fmt::Write;

use super::{
    cpus::print_list,
    devices::Device,
    machine::{Cache, Machine, Node},
    memory::{Held, mebibytes},
    pinning::Placement,
};

/// Columns of the terminal it is made for.
const COLUMNS: usize = 80;
/// Columns before the first cell of a line.
const MARGIN: usize = 10;

/// Draws `machine` with its `devices` and where `placement` puts threads.
pub fn draw(machine: &Machine, devices: &[Device], placement: &Placement) -> String {
    let mut text = headline(machine);
    let caches = last_level(machine);
    for node in &machine.nodes {
        text.push('\n');
        text.push_str(&node_line(machine, node));
        for (name, cores) in groups(machine, node, &caches) {
            draw_cores(&mut text, &name, &cores, machine, placement);
        }
    }
    let _ =
        writeln!(text, "\n  s0 a shard's   · all other threads'   × not for this process   blank: nobody's");
    for device in devices {
        draw_device(&mut text, device, placement);
    }
    text.push_str(&summary(placement));
    text
}

/// Where the memory of a running gateway is.
pub fn memory(held: &Held) -> String {
    let mut text = format!("\nmemory of process {}\n", held.pid);
    for node in &held.nodes {
        let shards = match node.shards {
            0 => "no shard".to_owned(),
            count => counted(count, "shard"),
        };
        let (own, shared) = (mebibytes(node.own_bytes), mebibytes(node.shared_bytes));
        let _ = writeln!(
            text,
            "  node {:<3}{own:>9.1} MiB of its own, {shared:.1} MiB shared with a successor, {shards}",
            node.id
        );
    }
    if let Some(policy) = &held.spread_by {
        let _ = writeln!(text, "  spread over nodes on purpose: {policy}");
    }
    text
}

/// Where threads go, in words.
fn summary(placement: &Placement) -> String {
    let shards = counted(placement.shards.len(), "shard");
    let mut text = match print_list(&placement.pinned()) {
        list if list.is_empty() => format!("\n{shards}, not pinned\n"),
        list => format!("\n{shards} on CPUs {list}\n"),
    };
    match print_list(&placement.others) {
        list if list.is_empty() => text.push_str("control, log and all else anywhere\n"),
        list => {
            let _ = writeln!(text, "control, log and all else on CPUs {list}");
        }
    }
    for note in &placement.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

fn headline(machine: &Machine) -> String {
    let count = |of: Vec<usize>| {
        let mut of = of;
        of.sort_unstable();
        of.dedup();
        of.len()
    };
    let cores = count(machine.cpus.iter().filter_map(|cpu| cpu.core.first().copied()).collect());
    let sockets = count(machine.cpus.iter().map(|cpu| cpu.package).collect());
    let mut text = format!(
        "{}, {}, {}, {}; this process may use {}",
        counted(machine.cpus.len(), "CPU"),
        counted(cores, "core"),
        counted(sockets, "socket"),
        counted(machine.nodes.len(), "NUMA node"),
        if machine.usable.len() == machine.cpus.len() { "all".to_owned() } else { machine.usable_list() },
    );
    if let Some(quota) = machine.quota {
        let _ = write!(text, ", for {quota:.2} CPUs' worth of time");
    }
    text + "\n"
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn node_line(machine: &Machine, node: &Node) -> String {
    let mut text = format!("NUMA node {}", node.id);
    if let Some(bytes) = node.memory_bytes {
        let _ = write!(text, ", {:.1} GiB", bytes as f64 / (1 << 30) as f64);
    }
    let mut sockets: Vec<usize> =
        machine.cpus.iter().filter(|cpu| cpu.node == node.id).map(|cpu| cpu.package).collect();
    sockets.dedup();
    if let [socket] = sockets[..] {
        let _ = write!(text, ", socket {socket}");
    }
    if node.cpus.is_empty() {
        text.push_str(", no CPU");
    }
    text + "\n"
}

/// The caches of the highest level.
fn last_level(machine: &Machine) -> Vec<&Cache> {
    let level = machine.caches.iter().map(|cache| cache.level).max();
    machine.caches.iter().filter(|cache| Some(cache.level) == level).collect()
}

/// The cores of a node, those together that share a cache, under its name. A core is the list of its CPUs.
fn groups<'m>(machine: &'m Machine, node: &Node, caches: &[&Cache]) -> Vec<(String, Vec<&'m [usize]>)> {
    let cache_of = |id: usize| caches.iter().position(|cache| cache.cpus.contains(&id));
    let mut groups: Vec<(Option<usize>, Vec<&[usize]>)> = Vec::new();
    for cpu in machine.cpus.iter().filter(|cpu| cpu.node == node.id && cpu.core.first() == Some(&cpu.id)) {
        let cache = cache_of(cpu.id);
        match groups.iter_mut().find(|(known, _)| *known == cache) {
            Some((_, cores)) => cores.push(&cpu.core),
            None => groups.push((cache, vec![&cpu.core])),
        }
    }
    let name = |cache: Option<usize>| {
        cache.map_or(String::new(), |at| format!("L{} {}", caches[at].level, short(&caches[at].size)))
    };
    groups.into_iter().map(|(cache, cores)| (name(cache), cores)).collect()
}

/// `32M` for `32768K`.
fn short(size: &str) -> String {
    let kibibytes = size.strip_suffix('K').and_then(|number| number.parse::<u64>().ok());
    match kibibytes {
        Some(kibibytes) if kibibytes >= 1024 && kibibytes % 1024 == 0 => format!("{}M", kibibytes / 1024),
        _ => size.to_owned(),
    }
}

fn draw_cores(text: &mut String, name: &str, cores: &[&[usize]], machine: &Machine, placement: &Placement) {
    let marks = |id: usize| mark(id, machine, placement);
    let cpus = || cores.iter().flat_map(|core| core.iter().copied());
    let width = cpus().map(|id| id.to_string().len().max(marks(id).chars().count())).max().unwrap_or(1);
    let threads = cores.iter().map(|core| core.len()).max().unwrap_or(1);
    let cell = threads * (width + 1) + 2;
    let lines = cores.len().div_ceil(((COLUMNS - MARGIN - 1) / cell).max(1)).max(1);
    let per_line = cores.len().div_ceil(lines).max(1);
    for (line, cores) in cores.chunks(per_line).enumerate() {
        let name = if line == 0 { name } else { "" };
        let number = |id: usize| id.to_string();
        let lines: [(&str, &dyn Fn(usize) -> String); 2] = [(name, &number), ("", &marks)];
        for (name, shown) in lines {
            let _ = write!(text, "  {name:<width$}", width = MARGIN - 2);
            for core in cores {
                text.push('│');
                for thread in 0..threads {
                    let entry = core.get(thread).map(|&id| shown(id)).unwrap_or_default();
                    let _ = write!(text, " {entry:>width$}");
                }
                text.push(' ');
            }
            text.push_str("│\n");
        }
    }
}

/// Who has a CPU.
fn mark(id: usize, machine: &Machine, placement: &Placement) -> String {
    let mut shards = placement.on(id);
    match (shards.next(), shards.count()) {
        (Some(shard), 0) => format!("s{shard}"),
        (Some(shard), more) => format!("s{shard}+{more}"),
        _ if placement.others.contains(&id) => "·".to_owned(),
        _ if !machine.usable.contains(&id) => "×".to_owned(),
        _ => String::new(),
    }
}

fn draw_device(text: &mut String, device: &Device, placement: &Placement) {
    let mut about = vec![device.driver.clone().unwrap_or_else(|| "unknown driver".to_owned())];
    if let Some(speed) = device.speed_mbits {
        about.push(format!("{speed} Mbit/s"));
    }
    about.extend(device.node.map(|node| format!("NUMA node {node}")));
    let receive = counted(device.passed_on.len(), "receive queue");
    about.push(format!("{receive}, {} to transmit", device.transmit));
    let _ = writeln!(text, "\n{}: {}", device.name, about.join(", "));
    let entries: Vec<String> =
        (0..).zip(&device.passed_on).map(|(queue, _)| queue_entry(device, queue, placement)).collect();
    let width = entries.iter().map(|entry| entry.chars().count()).max().unwrap_or(1) + 3;
    for line in entries.chunks(((COLUMNS - 2) / width).max(1)) {
        text.push_str("  ");
        for entry in line {
            let _ = write!(text, "{entry:<width$}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
}

/// Whom a receive queue interrupts: `rx 3 > CPU 4 (s3)`.
fn queue_entry(device: &Device, index: usize, placement: &Placement) -> String {
    let of_queue =
        device.interrupts.iter().filter(|interrupt| interrupt.receives && interrupt.queue == index);
    let mut cpus: Vec<usize> = of_queue.flat_map(|interrupt| interrupt.cpus.iter().copied()).collect();
    cpus.sort_unstable();
    cpus.dedup();
    match cpus[..] {
        [] => format!("rx {index} > unknown"),
        [cpu] => {
            let who = placement.on(cpu).next().map_or(String::new(), |shard| format!(" (s{shard})"));
            format!("rx {index} > CPU {cpu}{who}")
        }
        _ => format!("rx {index} > CPUs {}", print_list(&cpus)),
    }
}

/// The `[shards]` that asks for `placement` by name, whatever asked for it before.
pub fn toml(placement: &Placement) -> String {
    let pinned = placement.pinned();
    let mut text = format!("[shards]\ncount = {}\n", placement.shards.len());
    if pinned.is_empty() {
        text.push_str("cpus = \"none\"\n");
        return text;
    }
    let order: Vec<usize> = placement.shards.iter().flatten().copied().take(pinned.len()).collect();
    let _ = writeln!(text, "cpus = \"{}\"", print_list(&order));
    if !placement.others.is_empty() {
        let _ = writeln!(text, "reserve = \"{}\"", print_list(&placement.others));
    }
    text
}

#[cfg(test)]
mod tests;
