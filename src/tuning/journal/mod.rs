//! What was changed on a machine, so that it can be undone: kept on disk before anything is touched.
//!
//! Owns the file: it is replaced as a whole, on disk before it has its name, and one process at a time works by it. An
//! entry says what stood somewhere, what we put there, and how far that had come, so that an undoing can tell our
//! value from somebody else's, also when we were killed half-way.

mod apply;
mod revert;
mod watch;

pub use apply::{Applied, Outcome, apply};
pub use revert::{Reverted, Undone, of_parts, revert, standing};
pub use watch::{confirm, watch};

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    knobs::{Form, Part, write_file},
    root::Root,
};

/// Where it stands, below the root, unless somebody says otherwise.
pub const PLACE: &str = "/var/lib/tollgate/tune/journal.json";
/// Grows with every change of what entries mean.
const FORMAT: u32 = 1;

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    format: u32,
    /// When everything not confirmed is undone, in seconds since 1970; nobody waits for a word if absent.
    pub confirm_by_s: Option<u64>,
    /// In the order in which it was written.
    pub entries: Vec<Entry>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The knob's name.
    pub knob: String,
    /// Its group's.
    pub group: String,
    /// Where it stands.
    pub node: String,
    /// How it is written there.
    pub form: Form,
    /// What stood there; nothing where there was no file.
    pub before: Option<String>,
    /// What we put there: once written, as it read back.
    pub ours: String,
    /// How far that has come.
    pub stage: Stage,
    /// Whether it stays without a further word.
    pub confirmed: bool,
    /// Which start of the machine it belongs to.
    boot: String,
}

/// How far a change has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Not begun.
    Intended,
    /// Begun: what stands there may be either, or what the kernel made of ours.
    Writing,
    /// Done.
    Written,
}

impl Default for Journal {
    fn default() -> Self {
        Self { format: FORMAT, confirm_by_s: None, entries: Vec::new() }
    }
}

impl Journal {
    /// What stands at `path`; empty if nothing does.
    ///
    /// # Errors
    /// It cannot be read or is not one of ours.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(format!("the journal {} cannot be read: {error}", path.display())),
        };
        let journal: Self = serde_json::from_str(&text)
            .map_err(|error| format!("{} is not a journal of this version: {error}", path.display()))?;
        if journal.format == FORMAT {
            return Ok(journal);
        }
        Err(format!("{} has format {}, and this version knows {FORMAT}", path.display(), journal.format))
    }

    /// Whether anything of `part` is written down.
    pub fn has(&self, part: Part) -> bool {
        self.entries.iter().any(|entry| entry.is_of(&[part]))
    }

    /// Nothing if everything is settled; otherwise what waits for a confirmation, and what to do about it at `now_s`, in
    /// seconds since 1970.
    pub fn waits(&self, now_s: u64) -> Option<String> {
        let by_s = self.confirm_by_s?;
        let count = self.entries.iter().filter(|entry| !entry.confirmed).count();
        let when = match by_s.checked_sub(now_s) {
            Some(left_s) => format!("undoes itself in {left_s} s"),
            None => "was to be undone by now, and nobody did".to_owned(),
        };
        Some(format!(
            "an earlier apply of {count} settings waits for its confirmation and {when}; run `tollgate tune confirm` to \
             keep it or `tollgate tune revert` to undo it, then try again"
        ))
    }
}

impl Entry {
    /// Whether it belongs to one of `parts`.
    pub fn is_of(&self, parts: &[Part]) -> bool {
        parts.iter().any(|part| part.has(&self.knob, &self.group))
    }
}

/// A journal that this process alone works by.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    /// What stands in it.
    pub journal: Journal,
    /// Lets go of it when closed.
    _lock: fs::File,
}

impl Held {
    /// Takes the one at `path`, and waits for nobody.
    ///
    /// # Errors
    /// Another process has it, or it cannot be read or written.
    pub fn take(path: &Path) -> Result<Self, String> {
        Self::lock(path, |lock| match lock.try_lock() {
            Ok(()) => Ok(()),
            Err(fs::TryLockError::WouldBlock) => {
                Err(format!("another tollgate works by {}; try again when it is done", path.display()))
            }
            Err(fs::TryLockError::Error(error)) => Err(error.to_string()),
        })
    }

    /// Takes it once whoever has it is done.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn wait(path: &Path) -> Result<Self, String> {
        Self::lock(path, |lock| lock.lock().map_err(|error| error.to_string()))
    }

    fn lock(path: &Path, lock: impl FnOnce(&fs::File) -> Result<(), String>) -> Result<Self, String> {
        let beside = beside(path, ".lock");
        let made = || -> io::Result<fs::File> {
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)?;
            }
            fs::OpenOptions::new().create(true).truncate(false).write(true).open(&beside)
        };
        let file =
            made().map_err(|error| format!("no journal can be kept at {}: {error}", path.display()))?;
        lock(&file)?;
        Ok(Self { path: path.to_owned(), journal: Journal::read(path)?, _lock: file })
    }

    /// Puts it on disk as it now is; an empty one goes.
    ///
    /// # Errors
    /// It cannot be written; on disk it is then as it was.
    pub fn save(&self) -> Result<(), String> {
        let text = serde_json::to_string_pretty(&self.journal).map_err(|error| error.to_string())? + "\n";
        let is_empty = self.journal.entries.is_empty() && self.journal.confirm_by_s.is_none();
        let content = (!is_empty).then_some(text.as_str());
        write_file(&self.path, content)
            .map_err(|error| format!("the journal {} cannot be written: {error}", self.path.display()))
    }
}

/// The name of a file that belongs to the journal at `path`.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Tells one start of the machine from another.
fn boot(root: &Root) -> String {
    root.read_trimmed("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuning::tree::Tree;

    #[test]
    fn a_journal_that_is_not_understood_is_no_empty_one() {
        let tree = Tree::new(&[("/j/half", "{\"format\":1,"), ("/j/new", "{\"format\":2,\"entries\":[]}")]);
        let read = |name: &str| Journal::read(&tree.root().path(name));
        assert_eq!(read("/j/none"), Ok(Journal::default()));
        assert!(read("/j/half").unwrap_err().contains("not a journal of this version"));
        assert!(read("/j/new").unwrap_err().contains("format 2, and this version knows 1"));
    }

    /// Broken by two that change the machine at once: each would take the other's values for the machine's own.
    #[test]
    fn one_works_by_it_at_a_time() {
        let tree = Tree::new(&[("/x", "")]);
        let path = tree.root().path(PLACE);
        let held = Held::take(&path).unwrap();
        assert!(Held::take(&path).unwrap_err().contains("another tollgate works by"));
        drop(held);
        // A process that another test starts at this moment has a copy of the lock until it is under way.
        assert!(Held::wait(&path).is_ok());
    }
}
