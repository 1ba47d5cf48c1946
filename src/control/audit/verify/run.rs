//! What one process wrote: its own chain, which says where those of its shards stood, and how it ended.

use super::{
    super::chain::bytes_of,
    Place, Report,
    chain::Chain,
    line::{Fields, Line},
};

/// What one process wrote.
pub(super) struct Run {
    pub(super) process: Chain,
    pub(super) shards: Vec<Chain>,
    /// Its last line is the end.
    pub(super) is_ended: bool,
    /// Its last line says that it goes on in another file.
    pub(super) goes_on: bool,
    /// Its beginning is not in the files; why is said already.
    pub(super) is_partial: bool,
    /// When its last checkpoint was made.
    pub(super) checkpoint: Option<String>,
    pub(super) last: Place,
}

impl Run {
    pub(super) fn chain(&mut self, shard: Option<usize>) -> Option<&mut Chain> {
        match shard {
            None => Some(&mut self.process),
            Some(_) if self.is_partial && self.shards.is_empty() => None,
            Some(shard) => self.shards.get_mut(shard),
        }
    }

    /// A line of the process's own chain says where the others stand.
    pub(super) fn mark(&mut self, place: Place, line: &Line<'_>, report: &mut Report) {
        let Fields { run, ref heads, event, ts, .. } = line.fields;
        for head in heads {
            let about = (run, Some(head.shard), head.seq);
            if let (Some(chain), Some(mac)) = (self.shards.get_mut(head.shard), bytes_of(head.mac.as_bytes()))
            {
                chain.compare(place, about, mac, "when this line was written", report);
                chain.vouched_seq = chain.seq;
            }
        }
        self.is_ended = event == "end";
        self.goes_on = event == "rotated";
        self.checkpoint = Some(ts.to_owned());
    }

    pub(super) fn compare_rest_with_anchors(&mut self, run: &str, report: &mut Report) {
        if self.goes_on {
            return;
        }
        let chains = std::iter::once((None, &self.process))
            .chain(self.shards.iter().enumerate().map(|(shard, chain)| (Some(shard), chain)));
        for (shard, chain) in chains {
            if let Some((seq, (_, ts))) = chain.expected.last_key_value() {
                let text = format!(
                    "an anchored checkpoint of {ts} says that this chain had reached seq {seq}; here it ends at {}: \
                     the end was cut off",
                    chain.seq
                );
                report.wrong(self.last, (run, shard, *seq), "cut", text);
            }
        }
    }

    /// What can be said of the end of what this process wrote.
    pub(super) fn judge(&self, run: &str, all_ended: bool, is_anchored: bool, report: &mut Report) {
        let open: usize = self.shards.iter().map(|chain| chain.open.len()).sum();
        if self.is_ended {
            for (shard, chain) in self.shards.iter().enumerate().filter(|(_, chain)| !chain.is_broken) {
                let Some((&seq, &place)) = chain.open.first_key_value() else { continue };
                let count = chain.open.len();
                if chain.gaps > 0 {
                    report.notes.push(format!(
                        "shard {shard} of process {run}: {count} intents have no outcome, the first with seq {seq}; \
                         they may be among the records that were dropped"
                    ));
                } else {
                    let text =
                        format!("it has no outcome, although its process ended in good order ({count} such)");
                    report.wrong(place, (run, Some(shard), seq), "no_outcome", text);
                }
            }
            return;
        }
        if self.goes_on {
            report.notes.push(format!("process {run} goes on in a later file, which was not given"));
            return;
        }
        if all_ended {
            let text =
                "the end of its process is not there: it was killed, or the end was cut off".to_owned();
            report.wrong(self.last, (run, None, self.process.seq), "cut", text);
        }
        let unvouched: u64 =
            self.shards.iter().map(|chain| chain.seq - chain.vouched_seq.min(chain.seq)).sum();
        let since = self.checkpoint.as_deref().unwrap_or("its beginning");
        report.notes.push(format!(
            "process {run} has no end: it still runs, was killed, or the end was cut off. {unvouched} records came after \
             its last checkpoint ({since}); whether more did cannot be told from these files"
        ));
        if !is_anchored {
            report.notes.push(
                "nothing was said about anchors: whoever has the files and no key can cut the end of an unfinished \
                 process unseen; compare with checkpoints kept elsewhere (--anchor)"
                    .to_owned(),
            );
        }
        if open > 0 {
            report.notes.push(format!(
                "process {run}: {open} intents have no outcome yet: what became of these requests must be asked of \
                 their endpoints"
            ));
        }
    }
}
