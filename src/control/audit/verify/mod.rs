//! `tollgate audit verify`: reads audit logs back and says whether they are what was written, all of it.
//!
//! Goes through the files once, line by line, whatever their size. Every chain is followed by itself; what breaks one
//! is named with its place, and the chain is taken up again behind it, so that the rest is still checked. Decides
//! nothing about who did it, and says of what is missing only what can be told.

mod anchored;
mod chain;
mod chains;
mod line;
mod report;
mod run;

pub use self::report::{Problem, Report};

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use super::AuditKey;

use self::{anchored::Anchored, chains::Chains, line::Line};

/// A longer line is none of ours.
const LINE_BYTES_MAX: u64 = 256 * 1024;

/// What is to be verified.
#[derive(Debug)]
pub struct Question<'a> {
    /// The files, in any order.
    pub files: &'a [PathBuf],
    /// What they were authenticated with.
    pub key: &'a AuditKey,
    /// Checkpoints that were kept elsewhere.
    pub anchors: Option<&'a Path>,
    /// Every process that wrote them has ended in good order: its end must be there.
    pub all_ended: bool,
}

/// A file that cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    /// Which one.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

/// Where a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The file, by its place in the order in which they were written.
    pub(super) file: usize,
    /// From 1.
    pub(super) line: u64,
}

/// Reads everything and says what it found.
///
/// # Errors
/// [`Unreadable`].
pub fn verify(question: &Question<'_>) -> Result<Report, Unreadable> {
    let unreadable = |path: &Path, error| Unreadable { path: path.to_owned(), error };
    let mut files = Vec::new();
    for path in question.files {
        let begun = first_time(path).map_err(|error| unreadable(path, error))?;
        files.push((begun, path.clone()));
    }
    // The names of files that were put aside sort before the one in use or behind it, as the shell likes.
    files.sort();
    let files: Vec<PathBuf> = files.into_iter().map(|(_, path)| path).collect();
    let mut report = Report::new(files.clone());
    let anchored = match question.anchors {
        Some(path) => {
            Anchored::read(path, question.key, &mut report).map_err(|error| unreadable(path, error))?
        }
        None => Anchored::default(),
    };
    let mut chains = Chains::new(question.key, anchored);
    let mut bytes = Vec::new();
    'files: for (index, path) in files.iter().enumerate() {
        let mut file =
            BufReader::with_capacity(1 << 20, File::open(path).map_err(|error| unreadable(path, error))?);
        let mut place = Place { file: index, line: 0 };
        loop {
            bytes.clear();
            let read = (&mut file).take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
            if read.map_err(|error| unreadable(path, error))? == 0 {
                break;
            }
            place.line += 1;
            chains.take(place, &bytes, &mut report);
            if report.wrong_key {
                break 'files;
            }
        }
        chains.end_of_file(&mut report);
    }
    chains.finish(question.all_ended, question.anchors.is_some(), &mut report);
    Ok(report)
}

/// When the first line of a file that is one was written.
fn first_time(path: &Path) -> io::Result<String> {
    let mut file = BufReader::new(File::open(path)?);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if (&mut file).take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(String::new());
        }
        if let Some(line) = Line::parse(&bytes) {
            return Ok(line.fields.ts.to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
