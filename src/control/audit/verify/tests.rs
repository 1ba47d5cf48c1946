//! Whatever is done to a log is found, and a log to which nothing was done is intact.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use proptest::prelude::*;

use crate::shared::{
    audit_record::{AuditEvent, AuditRecord},
    record::Delivery,
};

use super::{
    super::{
        AuditKey,
        lines::{Mark, Scribe},
        tail,
    },
    Question, Report, verify,
};

fn key() -> AuditKey {
    AuditKey::new(&[7; 32]).unwrap()
}

fn record(event: AuditEvent, seq: u64, intent: u64) -> AuditRecord<'static> {
    AuditRecord {
        event,
        seq,
        intent,
        unix_us: 1_795_409_367_000_000 + seq,
        client_ip: [192, 0, 2, 1].into(),
        trace_id: 3,
        status: 200,
        code: None,
        attempts: 1,
        delivery: Delivery::Answered,
        bytes_in: 5,
        duration_us: 6,
        request_id: b"id-1",
        consumer: b"acme",
        method: b"POST",
        path: b"/pay",
        route: b"pay",
        cluster: b"payments",
        endpoint: b"127.0.0.1:9001",
        reason: b"",
    }
}

/// Writes logs line by line.
struct Made {
    scribe: Scribe,
    shards: usize,
    lines: Vec<Vec<u8>>,
    now_us: u64,
}

impl Made {
    /// A process that finds `before` in its file.
    fn new(run: u64, shards: usize, before: &[Vec<u8>]) -> Self {
        let mut made =
            Self { scribe: Scribe::new(key(), None, run, shards), shards, lines: Vec::new(), now_us: run };
        let tail::Tail { earlier, torn_bytes, .. } = tail::look_through(&before.concat());
        made.line(|scribe, out, now_us| scribe.genesis(out, now_us, &earlier, torn_bytes));
        made
    }

    fn line(&mut self, write: impl FnOnce(&mut Scribe, &mut Vec<u8>, u64)) {
        let mut out = Vec::new();
        self.now_us += 1_000_000;
        write(&mut self.scribe, &mut out, 1_795_409_367_000_000 + self.now_us);
        self.lines.push(out);
    }

    fn mark(&mut self, mark: Mark) {
        self.line(|scribe, out, now_us| scribe.mark(out, now_us, mark));
    }

    /// An exchange on every shard, all under way at the same time.
    fn exchanges(&mut self) {
        let intents: Vec<u64> = (0..self.shards).map(|shard| self.scribe.seq(shard) + 1).collect();
        for event in [AuditEvent::Intent, AuditEvent::Outcome] {
            for (shard, &intent) in intents.iter().enumerate() {
                let seq = self.scribe.seq(shard) + 1;
                self.line(|scribe, out, _| scribe.record(out, shard, &record(event, seq, intent)));
            }
        }
    }
}

/// Two files: a process that is killed, one that goes on in the second file and ends, and a third one.
fn sample() -> Vec<Vec<Vec<u8>>> {
    let mut killed = Made::new(1, 2, &[]);
    (0..3).for_each(|_| killed.exchanges());
    killed.mark(Mark::Checkpoint);
    killed.exchanges();
    let mut first = killed.lines;
    let mut long = Made::new(2, 2, &first);
    (0..4).for_each(|_| long.exchanges());
    long.mark(Mark::Rotated);
    first.append(&mut long.lines);
    long.mark(Mark::Continued);
    long.exchanges();
    long.line(|scribe, out, now_us| scribe.gap(out, now_us, 1, 14));
    long.exchanges();
    long.mark(Mark::End);
    let mut second = long.lines;
    let mut last = Made::new(3, 1, &second);
    last.exchanges();
    last.exchanges();
    last.mark(Mark::End);
    second.append(&mut last.lines);
    vec![first, second]
}

/// What is found in these files. The first process of the sample was killed, so ends are asked for only of the last.
fn look(files: &[Vec<Vec<u8>>], anchors: Option<&[u8]>, all_ended: bool) -> Report {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("tollgate-verify-{}-{number}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let paths: Vec<PathBuf> = (0..files.len()).map(|index| directory.join(format!("{index}.log"))).collect();
    for (path, lines) in paths.iter().zip(files) {
        fs::write(path, lines.concat()).unwrap();
    }
    let anchor_path = directory.join("anchors");
    fs::write(&anchor_path, anchors.unwrap_or_default()).unwrap();
    // The order in which they are named does not matter.
    let named: Vec<PathBuf> = paths.into_iter().rev().collect();
    let anchors = anchors.map(|_| anchor_path.as_path());
    let report = verify(&Question { files: &named, key: &key(), anchors, all_ended }).unwrap();
    fs::remove_dir_all(&directory).unwrap();
    report
}

#[test]
fn what_nobody_touched_is_intact() {
    let report = look(&sample(), None, false);
    assert!(report.intact, "{}", report.text());
    assert_eq!((report.runs, report.dropped), (3, 4));
    assert!(report.notes.iter().any(|note| note.contains("has no end")), "the first one was killed");
    assert!(report.notes.iter().any(|note| note.contains("4 records from seq 11 on are missing")));
    // One that was put aside can be checked by itself.
    let report = look(&sample()[1..], None, true);
    assert!(report.intact, "{}", report.text());
    assert!(report.notes.iter().any(|note| note.contains("goes on here from an earlier file")));
}

#[test]
fn another_key_is_not_taken_for_damage() {
    let files = sample();
    let path = std::env::temp_dir().join(format!("tollgate-verify-key-{}", std::process::id()));
    fs::write(&path, files[0].concat()).unwrap();
    let other = AuditKey::new(&[8; 32]).unwrap();
    let question =
        Question { files: std::slice::from_ref(&path), key: &other, anchors: None, all_ended: false };
    let report = verify(&question).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(report.problems.len(), 1);
    assert_eq!((report.problems[0].kind, report.problems[0].line), ("wrong_key", 1));
}

#[test]
fn a_torn_line_is_damage_unless_the_next_process_found_it() {
    let mut files = sample();
    let mut first = files[0].clone();
    first.push(b"{\"run\":\"0000".to_vec());
    let mut next = Made::new(9, 1, &first);
    next.mark(Mark::End);
    first.push(b"\n".to_vec());
    first.append(&mut next.lines);
    let report = look(&[first.clone()], None, false);
    assert!(report.intact, "{}", report.text());
    assert!(report.notes.iter().any(|note| note.contains("a line that never ended")));
    // Broken by anything else in its place.
    let torn = first.iter().position(|line| line.starts_with(b"{\"run\":\"0000") && line.len() < 20).unwrap();
    first[torn].push(b'0');
    assert!(!look(&[first], None, false).intact);
    files[1].last_mut().unwrap().pop();
    let report = look(&files, None, false);
    assert_eq!(report.problems[0].kind, "torn");
}

/// Broken by a log that was emptied and passes, and by an empty line that is taken for one that never ended.
#[test]
fn nothing_at_all_is_no_log_and_an_empty_line_no_torn_one() {
    for (lines, kind) in [(vec![], "cut"), ([vec![b"\n".to_vec()], sample()[0].clone()].concat(), "altered")]
    {
        let report = look(&[lines], None, false);
        assert!(!report.intact, "{}", report.text());
        assert_eq!(report.problems[0].kind, kind);
    }
}

#[test]
fn an_intent_without_an_outcome_is_named_unless_a_gap_explains_it() {
    let mut made = Made::new(1, 1, &[]);
    made.exchanges();
    made.line(|scribe, out, _| scribe.record(out, 0, &record(AuditEvent::Intent, 3, 3)));
    let (mut without, mut with) = (made.lines.clone(), made);
    with.line(|scribe, out, now_us| scribe.gap(out, now_us, 0, 4));
    with.mark(Mark::End);
    let report = look(&[with.lines], None, true);
    assert!(report.intact && report.notes.iter().any(|note| note.contains("1 intents have no outcome")));
    let mut again = Made::new(1, 1, &[]);
    again.exchanges();
    again.line(|scribe, out, _| scribe.record(out, 0, &record(AuditEvent::Intent, 3, 3)));
    assert_eq!(again.lines, without);
    again.mark(Mark::End);
    without.push(again.lines.pop().unwrap());
    let report = look(&[without], None, true);
    assert_eq!((report.problems[0].kind, report.problems[0].line), ("no_outcome", 4), "{}", report.text());
}

#[test]
fn only_an_anchor_tells_that_the_end_was_cut() {
    let mut made = Made::new(1, 1, &[]);
    made.exchanges();
    made.mark(Mark::Checkpoint);
    made.exchanges();
    made.mark(Mark::Checkpoint);
    let anchors = [&b"Nov 27 gateway: "[..], &made.lines[3], &made.lines[6], b"other words\n"].concat();
    let cut = [made.lines[..5].to_vec()];
    let whole = [made.lines];
    assert!(look(&cut, None, false).intact, "nothing in the file tells");
    let report = look(&cut, Some(&anchors), false);
    assert!(report.problems.iter().all(|problem| problem.kind == "cut") && !report.intact);
    assert!(look(&whole, Some(&anchors), false).intact);
    // A log that was written anew by somebody who has the key is none that was anchored.
    let mut forged = Made::new(1, 1, &[]);
    forged.line(|scribe, out, _| {
        scribe.record(out, 0, &AuditRecord { consumer: b"evil", ..record(AuditEvent::Intent, 1, 1) });
    });
    forged.line(|scribe, out, _| scribe.record(out, 0, &record(AuditEvent::Outcome, 2, 1)));
    let report = look(&[forged.lines], Some(&anchors), false);
    assert!(report.problems.iter().any(|problem| problem.kind == "altered"), "{}", report.text());
    // One that was altered is no anchor.
    let mut altered = anchors;
    let digit = altered.windows(7).position(|window| window == b"\"sig\":\"").unwrap() + 7;
    altered[digit] = if altered[digit] == b'0' { b'1' } else { b'0' };
    let report = look(&whole, Some(&altered), false);
    assert_eq!((report.problems[0].kind, report.problems[0].line), ("not_signed", 1));
}

/// What somebody may do to a log.
#[derive(Clone, Debug)]
enum Deed {
    Flip { at: usize, bits: u8 },
    Delete,
    Repeat { later: usize },
    SwapWithNextOfItsChain,
    Truncate { at: usize },
    SpliceFromElsewhere,
    SpliceFromItself { from: usize },
}

fn deeds() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => (any::<usize>(), 1_u8..).prop_map(|(at, bits)| Deed::Flip { at, bits }),
        2 => Just(Deed::Delete),
        1 => (1_usize..5).prop_map(|later| Deed::Repeat { later }),
        2 => Just(Deed::SwapWithNextOfItsChain),
        2 => any::<usize>().prop_map(|at| Deed::Truncate { at }),
        1 => Just(Deed::SpliceFromElsewhere),
        1 => any::<usize>().prop_map(|from| Deed::SpliceFromItself { from }),
    ]
}

/// Which chain a line is of.
fn chain_of(line: &[u8]) -> (String, Option<u64>) {
    let line: serde_json::Value = serde_json::from_slice(line).unwrap();
    (line["run"].as_str().unwrap().to_owned(), line["shard"].as_u64())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Broken by a check that is left out: each deed is found by one of them only.
    #[test]
    fn whatever_is_done_is_found(file in 0_usize..2, line in any::<usize>(), deed in deeds()) {
        let mut files = sample();
        let lines = &mut files[file];
        let at_line = line % lines.len();
        match deed {
            Deed::Flip { at, bits } => {
                let place = at % lines[at_line].len();
                lines[at_line][place] ^= bits;
            }
            Deed::Delete => drop(lines.remove(at_line)),
            Deed::Repeat { later } => {
                let copy = lines[at_line].clone();
                let place = (at_line + later).min(lines.len());
                lines.insert(place, copy);
            }
            Deed::SwapWithNextOfItsChain => {
                let chain = chain_of(&lines[at_line]);
                let next = (at_line + 1..lines.len()).find(|&other| chain_of(&lines[other]) == chain);
                prop_assume!(next.is_some());
                lines.swap(at_line, next.unwrap());
            }
            Deed::Truncate { at } => {
                let place = at % lines[at_line].len();
                lines[at_line].truncate(place);
                lines.truncate(at_line + 1);
            }
            Deed::SpliceFromElsewhere => {
                let mut other = Made::new(99, 2, &[]);
                other.exchanges();
                lines.insert(at_line, other.lines.pop().unwrap());
            }
            Deed::SpliceFromItself { from } => {
                let other = files[1 - file].clone();
                let from = from % other.len();
                files[file].insert(at_line, other[from].clone());
            }
        }
        let report = look(&files, None, false);
        let is_cut_end = file == 1 && report.intact;
        // The very end of the last process is what only `--ended`, or an anchor, vouches for.
        let report = if is_cut_end { look(&files[1..], None, true) } else { report };
        prop_assert!(!report.intact, "{deed:?} at {file}:{}", at_line + 1);
        if matches!(deed, Deed::Flip { .. }) {
            let first = &report.problems[0];
            prop_assert_eq!(first.line, at_line as u64 + 1, "{:?}: {}", deed, report.text());
        }
    }
}
