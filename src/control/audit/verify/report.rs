//! What a verification found: what is wrong, first things first, and what cannot be told.

use std::{fmt::Write as _, path::PathBuf};

use serde::Serialize;

use super::Place;

/// Problems that are kept; the others are counted.
const PROBLEMS_MAX: usize = 100;

/// The findings.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether nothing is wrong.
    pub intact: bool,
    /// The files, in the order in which they were written.
    pub files: Vec<PathBuf>,
    /// Lines read.
    pub lines: u64,
    /// Records of requests and of their ends among them.
    pub records: u64,
    /// Records that are known to be missing, because the gateway said so at the time.
    pub dropped: u64,
    /// Processes that wrote them.
    pub runs: u64,
    /// What is wrong, in the order of the lines.
    pub problems: Vec<Problem>,
    /// Problems beyond those.
    pub further_problems: u64,
    /// What cannot be told, or explains itself.
    pub notes: Vec<String>,
    /// The files were not written with this key: there is no point in going on.
    #[serde(skip)]
    pub wrong_key: bool,
}

/// One thing that is wrong.
#[derive(Debug, Serialize)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 if it is about the file as a whole.
    pub line: u64,
    /// Which process wrote it; empty if that cannot be told.
    pub run: String,
    /// The shard whose chain it is in; none if it is in the process's own, or in none.
    pub shard: Option<usize>,
    /// The number of the record.
    pub seq: u64,
    /// What kind of thing: altered, missing, displaced, foreign, torn, cut, no_outcome, not_signed, wrong_key.
    pub kind: &'static str,
    /// What is wrong with it.
    pub text: String,
}

impl Report {
    pub(super) fn new(files: Vec<PathBuf>) -> Self {
        Self {
            intact: true,
            files,
            lines: 0,
            records: 0,
            dropped: 0,
            runs: 0,
            problems: Vec::new(),
            further_problems: 0,
            notes: Vec::new(),
            wrong_key: false,
        }
    }

    pub(super) fn wrong(
        &mut self,
        place: Place,
        (run, shard, seq): (&str, Option<usize>, u64),
        kind: &'static str,
        text: String,
    ) {
        let file = self.files.get(place.file).cloned().unwrap_or_default();
        self.add(Problem { file, line: place.line, run: run.to_owned(), shard, seq, kind, text });
    }

    pub(super) fn add(&mut self, problem: Problem) {
        self.intact = false;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.further_problems += 1;
        }
    }

    /// The findings for a person.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into memory cannot fail.
        for (index, problem) in self.problems.iter().enumerate() {
            let first = if index == 0 { "first bad record: " } else { "" };
            let _ = write!(text, "{first}{}:{}: ", problem.file.display(), problem.line);
            if let Some(shard) = problem.shard {
                let _ = write!(text, "shard {shard}, ");
            }
            let _ = writeln!(text, "seq {}: {}: {}", problem.seq, problem.kind, problem.text);
        }
        if self.further_problems > 0 {
            let _ = writeln!(text, "and {} more", self.further_problems);
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        let verdict = if self.intact { "intact" } else { "NOT INTACT" };
        let _ = writeln!(
            text,
            "{verdict}: {} lines with {} records of {} processes in {} files, {} records dropped at the time",
            self.lines,
            self.records,
            self.runs,
            self.files.len(),
            self.dropped
        );
        text
    }
}
