//! Checkpoints that were kept elsewhere: what the files must still show.
//!
//! A log can be cut at its end without breaking a chain; only who knows how far it went can tell. Reads lines that
//! may stand among others, as in what a service manager keeps of standard output.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
};

use super::{
    super::chain::{AuditKey, Mac, bytes_of},
    Report,
    line::Line,
    report::Problem,
};

/// What a chain must show: by number, the code and the time of the checkpoint that says so.
pub(super) type Expected = BTreeMap<u64, (Mac, String)>;

/// All of them, by process and shard.
#[derive(Default)]
pub(super) struct Anchored {
    pub(super) chains: HashMap<(String, Option<usize>), Expected>,
}

impl Anchored {
    /// Those that stand in the file at `path`.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn read(path: &Path, key: &AuditKey, report: &mut Report) -> io::Result<Self> {
        let mut anchored = Self::default();
        let mut count = 0;
        for (index, bytes) in std::fs::read(path)?.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let Some(start) = memchr::memmem::find(bytes, b"{\"run\":") else { continue };
            let Some(line) = Line::parse(&bytes[start..]).filter(|line| line.fields.shard.is_none()) else {
                continue;
            };
            let is_signed = line.signed().is_some_and(|(text, signature)| key.has_signed(text, &signature));
            let (run, seq) = (line.fields.run, line.fields.seq);
            if !is_signed {
                report.add(Problem {
                    file: path.to_owned(),
                    line: index as u64 + 1,
                    run: run.to_owned(),
                    shard: None,
                    seq,
                    kind: "not_signed",
                    text: "this checkpoint was not signed with this key, or was altered".to_owned(),
                });
                continue;
            }
            count += 1;
            anchored.expect(run, None, seq, line.mac, line.fields.ts);
            for head in &line.fields.heads {
                let Some(mac) = bytes_of(head.mac.as_bytes()) else { continue };
                anchored.expect(run, Some(head.shard), head.seq, mac, line.fields.ts);
            }
        }
        report.notes.push(format!("{count} anchored checkpoints in {}", path.display()));
        Ok(anchored)
    }

    fn expect(&mut self, run: &str, shard: Option<usize>, seq: u64, mac: Mac, ts: &str) {
        // Where the process began, every shard's chain has the code of its first line.
        if seq > 0 {
            let chain = self.chains.entry((run.to_owned(), shard)).or_default();
            chain.entry(seq).or_insert_with(|| (mac, ts.to_owned()));
        }
    }
}
