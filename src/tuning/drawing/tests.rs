//! Drawings of machines of every shape.

use super::*;
use crate::tuning::{
    fixture::{self, Layout},
    pinning::{CpuChoice, Pinning, Reserve, ThreadsPerCore},
    tree::Tree,
};

fn drawing(tree: &Tree, pinning: &Pinning) -> String {
    let (machine, devices) = (Machine::read(&tree.root()), Device::all(&tree.root()));
    let text = draw(&machine, &devices, &Placement::new(pinning, &machine).unwrap());
    for line in text.lines() {
        assert!(line.chars().count() <= COLUMNS, "more than {COLUMNS} columns: {line}\n{text}");
    }
    text
}

/// Whether each shard and each CPU is drawn once.
fn assert_complete(text: &str, tree: &Tree, shards: usize) {
    let grid = text.split("\n  s0 a shard's").next().unwrap();
    let words: Vec<&str> = grid.split_whitespace().collect();
    for shard in 0..shards {
        let name = format!("s{shard}");
        assert_eq!(words.iter().filter(|word| **word == name).count(), 1, "{name}\n{text}");
    }
    for cpu in Machine::read(&tree.root()).cpus {
        assert!(words.contains(&cpu.id.to_string().as_str()), "CPU {}\n{text}", cpu.id);
    }
}

#[test]
fn one_cpu() {
    let text = drawing(&Layout::cores(1).build(), &Pinning::default());
    let expected = "\
1 CPU, 1 core, 1 socket, 1 NUMA node; this process may use all

NUMA node 0, 64.0 GiB, socket 0
  L3 32M  │  0 │
          │ s0 │

  s0 a shard's   · all other threads'   × not for this process   blank: nobody's

1 shard on CPUs 0
control, log and all else anywhere
";
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn slow_cores_and_threads() {
    let tree = Layout::hybrid().build();
    let pinning = Pinning { cpus: CpuChoice::Performance, ..Pinning::default() };
    let text = drawing(&tree, &pinning);
    assert_complete(&text, &tree, 8);
    let expected = "\
12 CPUs, 8 cores, 1 socket, 1 NUMA node; this process may use all

NUMA node 0, 64.0 GiB, socket 0
  L3 32M  │  0  4 │  1  5 │  2  6 │  3  7 │  8    │  9    │ 10    │ 11    │
          │ s0 s4 │ s1 s5 │ s2 s6 │ s3 s7 │  ·    │  ·    │  ·    │  ·    │

  s0 a shard's   · all other threads'   × not for this process   blank: nobody's

8 shards on CPUs 0-7
control, log and all else on CPUs 8-11
";
    assert_eq!(text, expected, "\n{text}");
}

/// Broken by a drawing that grows beyond a terminal, or leaves somebody out.
#[test]
fn every_shape_is_complete_and_fits() {
    let limited = Layout::cores(64).build();
    limited.put("/proc/self/status", "Cpus_allowed_list:\t8-11\n");
    let kept = Pinning { reserve: Reserve::Auto, ..Pinning::default() };
    for (tree, pinning, shards) in [
        (Layout::cores(2).build(), Pinning::default(), 2),
        (Layout::cores(64).build(), kept.clone(), 62),
        (Layout::two_sockets().build(), kept, 124),
        (Layout { nodes: 0, ..Layout::cores(4) }.build(), Pinning::default(), 4),
        (Tree::new(&[]), Pinning::default(), 1),
        (limited, Pinning::default(), 4),
    ] {
        let text = drawing(&tree, &pinning);
        if shards > 1 {
            assert_complete(&text, &tree, shards);
        }
    }
}

/// Broken by a block that asks for something else than what was drawn.
#[test]
fn the_block_to_paste_asks_for_the_same() {
    let tree = Layout::two_sockets().build();
    let machine = Machine::read(&tree.root());
    let asked = Pinning { reserve: Reserve::Auto, cpus: CpuChoice::FirstUsableNode, ..Pinning::default() };
    let placement = Placement::new(&asked, &machine).unwrap();
    let block = toml(&placement);
    assert_eq!(block, "[shards]\ncount = 60\ncpus = \"2-31,66-95\"\nreserve = \"0-1,64-65\"\n");
    let named = Pinning {
        count: Some(60),
        cpus: CpuChoice::parse("2-31,66-95").unwrap(),
        reserve: Reserve::parse("0-1,64-65").unwrap(),
        ..Pinning::default()
    };
    assert_eq!(named.contradiction(), None);
    assert_eq!(Placement::new(&named, &machine).unwrap(), placement);
    let nowhere = Pinning { count: Some(3), cpus: CpuChoice::None, ..Pinning::default() };
    let placement = Placement::new(&nowhere, &machine).unwrap();
    assert_eq!(toml(&placement), "[shards]\ncount = 3\ncpus = \"none\"\n");
}

#[test]
fn two_sockets() {
    let tree = Layout::two_sockets().build();
    fixture::card(&tree, "eth0", &[2, 3, 32, 0]);
    let pinning = Pinning {
        cpus: CpuChoice::FirstUsableNode,
        threads_per_core: ThreadsPerCore::One,
        reserve: Reserve::Auto,
        ..Pinning::default()
    };
    let text = drawing(&tree, &pinning);
    for part in [
        "  L3 32M  │  0 64 │  1 65 │  2 66 │  3 67 │  4 68 │  5 69 │  6 70 │  7 71 │\n",
        "          │  ·  · │  ·  · │ s0    │ s1    │ s2    │ s3    │ s4    │ s5    │\n",
        "          │  12  76 │  13  77 │  14  78 │  15  79 │\n          │ s10     │ s11     │ s12     │ s13     │\n",
        "\neth0: ice, 25000 Mbit/s, NUMA node 1, 4 receive queues, 4 to transmit\n",
        "  rx 0 > CPU 2 (s0)   rx 1 > CPU 3 (s1)   rx 2 > CPU 32\n  rx 3 > CPU 0\n",
        "\n30 shards on CPUs 2-31\ncontrol, log and all else on CPUs 0-1,64-65\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn memory_is_drawn_beside_the_shards_of_its_node() {
    let tree = Layout::two_sockets().build();
    fixture::gateway(&tree, 900, &["32", "33"], "interleave:0-1", [30, 1010]);
    let held = Held::read(&tree.root(), 900, &Machine::read(&tree.root())).unwrap();
    let text = "\nmemory of process 900\n  \
                node 0       30.0 MiB of its own, 1.0 MiB shared with a successor, no shard\n  \
                node 1     1010.0 MiB of its own, 0.0 MiB shared with a successor, 2 shards\n  \
                spread over nodes on purpose: interleave:0-1\n";
    assert_eq!(memory(&held), text);
}
