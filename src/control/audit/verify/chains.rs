//! Follows every chain through the files, line by line: whose line it is, and what it says of others.
//!
//! A line that does not fit is named once, and the chain goes on behind it as that line has it: so one change is one
//! finding, and what follows is checked all the same. Lines of the process's chain say where all others stood, which
//! finds what was cut from them.

use std::collections::HashMap;

use super::{
    super::chain::{AuditKey, Mac, NOTHING_BEFORE, bytes_of},
    Place, Report,
    anchored::Anchored,
    chain::Chain,
    line::{Fields, Line},
    run::Run,
};

/// All chains of all processes.
pub(super) struct Chains<'k> {
    key: &'k AuditKey,
    runs: HashMap<String, Run>,
    anchored: Anchored,
    /// A line that is none: where it stands, and how long it is without its end.
    torn: Option<(Place, u64)>,
    last: Place,
    /// When the first and the last line were written.
    span: Option<(String, String)>,
}

impl<'k> Chains<'k> {
    pub(super) fn new(key: &'k AuditKey, anchored: Anchored) -> Self {
        Self { key, runs: HashMap::new(), anchored, torn: None, last: Place { file: 0, line: 0 }, span: None }
    }

    /// Looks at the next line, its end included.
    pub(super) fn take(&mut self, place: Place, bytes: &[u8], report: &mut Report) {
        report.lines += 1;
        self.last = place;
        let line = Line::parse(bytes);
        if let Some((torn, torn_bytes)) = self.torn.take() {
            let explains = |line: &Line<'_>| {
                // Nobody ends a line that was never begun.
                torn_bytes > 0
                    && line.fields.event == "genesis"
                    && line.fields.torn_bytes == torn_bytes
                    && self.key.mac(&NOTHING_BEFORE, line.vouched) == line.mac
            };
            if line.as_ref().is_some_and(explains) {
                report.notes.push(format!(
                    "{}:{}: a line that never ended; the process that was started next found it so",
                    report.files[torn.file].display(),
                    torn.line
                ));
            } else {
                not_a_line(torn, report);
            }
        }
        let Some(line) = line else {
            let whole = bytes.strip_suffix(b"\n").unwrap_or(bytes);
            self.torn = Some((place, whole.len() as u64));
            return;
        };
        let ts = line.fields.ts;
        match &mut self.span {
            None => self.span = Some((ts.to_owned(), ts.to_owned())),
            Some((_, last)) => ts.clone_into(last),
        }
        if line.fields.event == "genesis" {
            self.genesis(place, &line, report);
        } else {
            self.follow(place, &line, report);
        }
    }

    /// A file has ended: what stands at its end is no line if it does not end.
    pub(super) fn end_of_file(&mut self, report: &mut Report) {
        if let Some((torn, _)) = self.torn.take() {
            report.wrong(
                torn,
                ("", None, 0),
                "torn",
                "the last line is not whole: a kill, a full disk or a loss of power tore it, or the end was cut off"
                    .to_owned(),
            );
        }
    }

    fn genesis(&mut self, place: Place, line: &Line<'_>, report: &mut Report) {
        let Fields { run, seq, key_id, shards, earlier, .. } = &line.fields;
        let about = (*run, None, *seq);
        if *key_id != Some(self.key.id().as_str()) {
            let written = key_id.unwrap_or("-");
            let text = format!("written with the key {written}, not with {}", self.key.id());
            report.wrong(place, about, "wrong_key", text);
            report.wrong_key = true;
            return;
        }
        if self.runs.contains_key(*run) {
            let text = "the first line of a process for the second time: lines were repeated or reordered";
            report.wrong(place, about, "displaced", text.to_owned());
            return;
        }
        let mac = self.key.mac(&NOTHING_BEFORE, line.vouched);
        if mac != line.mac {
            report.wrong(place, about, "altered", "this line was altered".to_owned());
        }
        report.runs += 1;
        let macs = [line.mac, mac];
        let count = (*shards).min(MAX_SHARDS);
        let mut chain = |shard| Chain {
            macs,
            begins_at: 1,
            expected: self.anchored.chains.remove(&((*run).to_owned(), shard)).unwrap_or_default(),
            ..Chain::default()
        };
        let mut process = Chain { seq: 1, ..chain(None) };
        let shards = (0..count).map(|shard| chain(Some(shard))).collect();
        process.compare_with_anchor(place, (run, None), report);
        for earlier in earlier {
            self.compare_with_earlier(place, run, earlier, report);
        }
        let made = Run {
            process,
            shards,
            is_ended: false,
            goes_on: false,
            is_partial: false,
            checkpoint: None,
            last: place,
        };
        self.runs.insert((*run).to_owned(), made);
    }

    /// What a process found in the file when it began must be what stands there.
    fn compare_with_earlier(
        &mut self,
        place: Place,
        run: &str,
        earlier: &super::line::EarlierHead<'_>,
        report: &mut Report,
    ) {
        let about = (earlier.run, earlier.shard, earlier.seq);
        let Some(known) = self.runs.get_mut(earlier.run) else {
            // Said once for each process, by its own chain.
            if earlier.shard.is_none() {
                let text = format!(
                    "the lines of process {} stood in this file before process {run} began, and are gone",
                    earlier.run
                );
                report.wrong(place, about, "missing", text);
            }
            return;
        };
        if let (Some(chain), Some(mac)) = (known.chain(earlier.shard), bytes_of(earlier.mac.as_bytes())) {
            chain.compare(place, about, mac, "when the next process began", report);
        }
    }

    fn follow(&mut self, place: Place, line: &Line<'_>, report: &mut Report) {
        let Fields { run, shard, seq, event, .. } = line.fields;
        let about = (run, shard, seq);
        if !self.runs.contains_key(run) && !self.begin_within(place, line, report) {
            return;
        }
        let Some(known) = self.runs.get_mut(run) else { return };
        if known.is_ended {
            let text =
                "it stands behind the end of its process: lines were reordered, or put in from elsewhere";
            report.wrong(place, about, "displaced", text.to_owned());
            return;
        }
        known.last = place;
        known.goes_on = false;
        let Some(chain) = known.chain(shard) else {
            let text = "there is no such shard in this process: it comes from elsewhere".to_owned();
            return report.wrong(place, about, "foreign", text);
        };
        if !chain.accept(self.key, place, line, report) {
            return;
        }
        match (event, line.fields.intent) {
            ("intent", _) => {
                report.records += 1;
                chain.open.insert(seq, place);
            }
            ("outcome", Some(intent)) => {
                report.records += 1;
                let is_known = chain.open.remove(&intent).is_some();
                let is_odd = !chain.is_broken && chain.gaps == 0 && intent >= chain.begins_at;
                if !is_known && is_odd {
                    let text = format!("the intent {intent}, which this is the outcome of, is not there");
                    report.wrong(place, about, "missing", text);
                }
            }
            ("undelivered", _) => report.records += 1,
            ("gap", _) => {
                chain.gaps += 1;
                report.dropped += line.fields.records;
                if report.notes.len() < NOTES_MAX {
                    report.notes.push(format!(
                        "{}:{}: shard {}: the gateway says itself that {} records from seq {seq} on are missing: \
                         its ring was full",
                        report.files[place.file].display(),
                        place.line,
                        shard.unwrap_or_default(),
                        line.fields.records
                    ));
                }
            }
            _ => known.mark(place, line, report),
        }
    }

    /// The first line of a process whose beginning is not in the files. Whether it can be checked all the same.
    fn begin_within(&mut self, place: Place, line: &Line<'_>, report: &mut Report) -> bool {
        let Fields { run, shard, seq, event, before, ref heads, ts, .. } = line.fields;
        let before: Option<Mac> = before.and_then(|digits| bytes_of(digits.as_bytes()));
        let mut made = Run {
            process: Chain::default(),
            shards: Vec::new(),
            is_ended: false,
            goes_on: false,
            is_partial: true,
            checkpoint: None,
            last: place,
        };
        match before {
            Some(before) if event == "continued" && self.key.mac(&before, line.vouched) == line.mac => {
                report.notes.push(format!(
                    "{}:{}: process {run} goes on here from an earlier file; what that has in it was not verified",
                    report.files[place.file].display(),
                    place.line
                ));
                made.process = Chain { seq: seq - 1, macs: [before; 2], begins_at: seq, ..Chain::default() };
                for head in heads.iter().take(MAX_SHARDS) {
                    let mac = bytes_of(head.mac.as_bytes()).unwrap_or(NOTHING_BEFORE);
                    let begins_at = head.seq + 1;
                    made.shards.push(Chain { seq: head.seq, macs: [mac; 2], begins_at, ..Chain::default() });
                }
                made.checkpoint = Some(ts.to_owned());
            }
            _ => {
                let text = format!(
                    "the line of a process, {run}, whose beginning is not there: lines before it are missing, it was \
                     altered, or it comes from elsewhere"
                );
                report.wrong(place, (run, shard, seq), "foreign", text);
                let adopted = || Chain { is_broken: true, macs: [line.mac; 2], ..Chain::default() };
                made.process = adopted();
                made.shards =
                    (0..shard.map_or(0, |shard| shard + 1).min(MAX_SHARDS)).map(|_| adopted()).collect();
                if let Some(chain) = made.chain(shard) {
                    chain.seq = seq;
                }
                self.runs.insert(run.to_owned(), made);
                report.runs += 1;
                return false;
            }
        }
        for (index, chain) in made.shards.iter_mut().enumerate() {
            chain.expected = self.anchored.chains.remove(&(run.to_owned(), Some(index))).unwrap_or_default();
        }
        made.process.expected = self.anchored.chains.remove(&(run.to_owned(), None)).unwrap_or_default();
        report.runs += 1;
        self.runs.insert(run.to_owned(), made);
        true
    }

    /// Everything was read: what is still open?
    pub(super) fn finish(mut self, all_ended: bool, is_anchored: bool, report: &mut Report) {
        if report.lines == 0 {
            // A gateway writes one before it serves.
            let text = "there is not a single line: everything was cut, or it is no audit log".to_owned();
            report.wrong(self.last, ("", None, 0), "cut", text);
        }
        if report.wrong_key {
            return;
        }
        let mut runs: Vec<(String, Run)> = self.runs.drain().collect();
        runs.sort_by_key(|(_, run)| run.last);
        for (name, mut run) in runs {
            run.compare_rest_with_anchors(&name, report);
            run.judge(&name, all_ended, is_anchored, report);
        }
        let (begun, ended) = self.span.unwrap_or_default();
        let mut elsewhere = 0;
        for ((run, shard), expected) in &self.anchored.chains {
            let within = |(_, ts): &&(Mac, String)| *ts >= begun && *ts <= ended;
            match expected.values().find(within) {
                Some((_, ts)) if shard.is_none() => {
                    let text = format!(
                        "a checkpoint of process {run} was anchored at {ts}; not a line of it is there"
                    );
                    report.wrong(self.last, (run, None, 0), "cut", text);
                }
                Some(_) => {}
                None => elsewhere += expected.len(),
            }
        }
        if elsewhere > 0 {
            report.notes.push(format!("{elsewhere} anchored positions are about other files than these"));
        }
    }
}

/// More shards than any process has.
const MAX_SHARDS: usize = 1024;
/// Notes about gaps beyond that are in the sum only.
const NOTES_MAX: usize = 50;

fn not_a_line(place: Place, report: &mut Report) {
    let text = "this is no line of an audit log: it was altered, or lines around it were cut".to_owned();
    report.wrong(place, ("", None, 0), "altered", text);
}
