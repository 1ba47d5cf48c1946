//! What earlier processes left at the end of the file: where their chains stood, and whether a line never ended.
//!
//! A new process puts this into its own first line. From then on nobody can take away what the others wrote last
//! without contradicting it. Trusts nothing it reads: lines that are none are passed over.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::lines::Earlier;

/// What is looked at in a line.
#[derive(Deserialize)]
struct Line {
    run: String,
    shard: Option<usize>,
    seq: u64,
    event: String,
    mac: String,
    #[serde(default)]
    records: u64,
    #[serde(default)]
    shards: usize,
    #[serde(default)]
    heads: Vec<ShardHead>,
    key_id: Option<String>,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// Where the chains stand.
    pub(super) earlier: Vec<Earlier>,
    /// Bytes of a last line that never ended.
    pub(super) torn_bytes: u64,
    /// The key of the last process that began.
    pub(super) key_id: Option<String>,
}

#[derive(Deserialize)]
struct ShardHead {
    shard: usize,
    seq: u64,
    mac: String,
}

/// What stands in `tail`. Of chains that an earlier first line vouches for, only those are named that went on after it.
pub(super) fn look_through(tail: &[u8]) -> Tail {
    let end = tail.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let mut key_id = None;
    let mut heads: BTreeMap<(String, Option<usize>), (u64, String)> = BTreeMap::new();
    for line in tail[..end].split(|&byte| byte == b'\n') {
        let Ok(line) = serde_json::from_slice::<Line>(line) else { continue };
        if line.event == "genesis" {
            heads.clear();
            key_id = line.key_id;
            for shard in 0..line.shards.min(1024) {
                heads.insert((line.run.clone(), Some(shard)), (0, line.mac.clone()));
            }
        }
        for head in line.heads {
            heads.insert((line.run.clone(), Some(head.shard)), (head.seq, head.mac));
        }
        let last = line.seq + line.records.saturating_sub(1);
        heads.insert((line.run, line.shard), (last, line.mac));
    }
    let earlier =
        heads.into_iter().map(|((run, shard), (seq, mac))| Earlier { run, shard, seq, mac }).collect();
    Tail { earlier, torn_bytes: (tail.len() - end) as u64, key_id }
}
