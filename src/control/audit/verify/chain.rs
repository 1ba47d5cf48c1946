//! One chain: whether a line is the one that comes next, and what it is if not.
//!
//! A chain that does not fit is taken up again behind the line that broke it, as that line has it.

use std::collections::BTreeMap;

use super::{
    super::chain::{AuditKey, Mac},
    Place, Report,
    anchored::Expected,
    line::{Fields, Line},
};

/// One chain, as far as it was followed.
#[derive(Default)]
pub(super) struct Chain {
    pub(super) seq: u64,
    /// The code of the last line as it stands there, and as it should be: they differ if the line was altered, and
    /// what follows fits one of them.
    pub(super) macs: [Mac; 2],
    /// The number it had when the last checkpoint was made.
    pub(super) vouched_seq: u64,
    /// Whether anything was wrong with it: what is odd afterwards may come from that.
    pub(super) is_broken: bool,
    /// Lines that say that records are missing.
    pub(super) gaps: u64,
    /// The first number that is in the files.
    pub(super) begins_at: u64,
    /// Intents without an outcome so far.
    pub(super) open: BTreeMap<u64, Place>,
    pub(super) expected: Expected,
}

impl Chain {
    /// Takes the line up if it is the next one, or the next one that is there; else says why not.
    pub(super) fn accept(
        &mut self,
        key: &AuditKey,
        place: Place,
        line: &Line<'_>,
        report: &mut Report,
    ) -> bool {
        let Fields { run, shard, seq, records, .. } = line.fields;
        let about = (run, shard, seq);
        let expected = self.seq + 1;
        let [first, second] = self.macs;
        let mut mac = key.mac(&first, line.vouched);
        if mac != line.mac && first != second {
            mac = key.mac(&second, line.vouched);
        }
        if mac != line.mac {
            if seq < expected {
                self.is_broken = true;
                let text = format!(
                    "it stands behind seq {}: lines were reordered or repeated, or put in from elsewhere",
                    self.seq
                );
                report.wrong(place, about, "displaced", text);
                return false;
            }
            self.is_broken = true;
            if seq > expected {
                let text = format!(
                    "seq {expected} was to come next: {} records are missing before it, or stand elsewhere",
                    seq - expected
                );
                report.wrong(place, about, "missing", text);
                mac = line.mac;
            } else {
                report.wrong(place, about, "altered", "this line was altered".to_owned());
            }
        }
        self.seq = seq + records.saturating_sub(1);
        self.macs = [line.mac, mac];
        self.compare_with_anchor(place, (run, shard), report);
        true
    }

    /// Another line says that the chain stood at this number with this code when it was written.
    pub(super) fn compare(
        &mut self,
        place: Place,
        about: (&str, Option<usize>, u64),
        mac: Mac,
        when: &str,
        report: &mut Report,
    ) {
        let (_, _, seq) = about;
        if seq == self.seq && self.macs.contains(&mac) {
            return;
        }
        if seq > self.seq {
            let text = format!(
                "the chain had reached seq {seq} {when}, and here it ends at {}: {} records were cut out before",
                self.seq,
                seq - self.seq
            );
            report.wrong(place, about, "missing", text);
        } else if !self.is_broken {
            let text =
                format!("the chain stood at another record {when}: lines were altered or put in before");
            report.wrong(place, about, "altered", text);
        }
        self.is_broken = true;
        (self.seq, self.macs) = (seq.max(self.seq), [mac; 2]);
    }

    /// What was kept elsewhere of this record must be what stands here.
    pub(super) fn compare_with_anchor(
        &mut self,
        place: Place,
        (run, shard): (&str, Option<usize>),
        report: &mut Report,
    ) {
        while let Some(entry) = self.expected.first_entry() {
            if *entry.key() > self.seq {
                return;
            }
            let (seq, (mac, ts)) = entry.remove_entry();
            if seq == self.seq && !self.macs.contains(&mac) {
                let text = format!(
                    "a checkpoint anchored at {ts} has another code for this record: it was replaced"
                );
                report.wrong(place, (run, shard, seq), "altered", text);
            }
        }
    }
}
