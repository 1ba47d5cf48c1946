//! Mistakes in a configuration, collected over the whole run.

use std::{
    cell::RefCell,
    fmt,
    path::{Path, PathBuf},
};

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Issue {
    /// The line it stands on, from 1; 0 when it concerns the file as a whole.
    pub line: usize,
    /// The key it concerns, such as `route[2].cluster`.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// All mistakes of one file.
#[derive(Debug)]
pub struct Issues {
    path: PathBuf,
    /// Where each line begins.
    lines: Vec<usize>,
    found: RefCell<Vec<Issue>>,
}

impl Issues {
    pub(super) fn new(path: &Path, text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n').map(|(at, _)| at + 1);
        Self {
            path: path.to_owned(),
            lines: std::iter::once(0).chain(breaks).collect(),
            found: RefCell::default(),
        }
    }

    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let issues = Self::new(path, "");
        let message = format!("cannot be read: {error}");
        issues.found.borrow_mut().push(Issue { line: 0, key: String::new(), message });
        issues
    }

    pub(super) fn not_text(path: &Path, bytes: &[u8], error: &std::str::Utf8Error) -> Self {
        let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let issues = Self::new(path, &good);
        issues.add(good.len(), "", "not TOML: the file must be UTF-8, and here is a byte that is not");
        issues
    }

    /// Notes a mistake at byte `at` of the file.
    pub(super) fn add(&self, at: usize, key: &str, message: impl Into<String>) {
        let line = self.line_of(at);
        self.found.borrow_mut().push(Issue { line, key: key.to_owned(), message: message.into() });
    }

    /// The line of byte `at`, from 1.
    pub(super) fn line_of(&self, at: usize) -> usize {
        self.lines.partition_point(|&start| start <= at)
    }

    /// `value`, if there was no mistake.
    pub(super) fn into_result<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.found.borrow().is_empty() => Ok(value),
            _ => Err(self),
        }
    }

    /// The mistakes in the order of their lines.
    pub fn sorted(&self) -> Vec<Issue> {
        let mut found = self.found.borrow().clone();
        found.sort();
        found.dedup();
        found
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for issue in self.sorted() {
            write!(formatter, "{}", self.path.display())?;
            if issue.line > 0 {
                write!(formatter, ":{}", issue.line)?;
            }
            if !issue.key.is_empty() {
                write!(formatter, ": {}", issue.key)?;
            }
            writeln!(formatter, ": {}", issue.message)?;
        }
        Ok(())
    }
}
