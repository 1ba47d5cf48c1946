//! Who is revoked: the file's list and what the admin API adds, put in force together.
//!
//! Every change is published to the shards before the call that made it returns. Entries of the admin API are
//! few, kept as text so that they can be shown and taken back, and gone when the process ends; what shall last
//! stands in the file. Outlives every snapshot.

pub mod api;
pub mod list;
pub mod watch;

use std::{
    collections::BTreeMap,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::shared::revoked::{Entries, FOREVER, Fingerprints, Mark, Revoked, RevokedCell, Table, UntilS};

use self::list::Mistake;

use super::seed::seed;

/// Entries the admin API can make; longer lists belong into the file.
pub const ADMIN_ENTRIES_MAX: usize = 10_000;

/// `[revocation]`.
#[expect(missing_docs, reason = "the table of defaults says of each what it is")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationPlan {
    pub file: Option<PathBuf>,
    pub entries_max: usize,
}

/// The deny list while the gateway runs.
#[derive(Debug)]
pub struct Revocations {
    plan: RevocationPlan,
    fingerprints: Fingerprints,
    cell: RevokedCell,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: Arc<Table>,
    /// Why the file as it stands now is not in force.
    trouble: Option<String>,
    admin: BTreeMap<(Mark, String), UntilS>,
    admin_table: Arc<Table>,
}

/// What there is to see of the list.
#[derive(Debug)]
pub struct Overview {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// Entries in force from the file.
    pub file_entries: usize,
    /// Why the file as it stands now is not in force.
    pub trouble: Option<String>,
    /// Entries of the admin API with their ends.
    pub admin: Vec<(Mark, String, UntilS)>,
}

/// The admin API's entries are [`ADMIN_ENTRIES_MAX`] already.
#[derive(Debug)]
pub struct ListFull;

impl Revocations {
    /// Reads the file of `plan`.
    ///
    /// # Errors
    /// The file cannot be read or has a mistake.
    pub fn start(plan: RevocationPlan, now_s: i64) -> Result<Self, String> {
        let fingerprints = Fingerprints::new(seed()?);
        let entries = match &plan.file {
            None => Entries::default(),
            Some(path) => read_file(path, fingerprints, plan.entries_max, now_s)
                .map_err(|mistake| format!("revocation.file: {}: {mistake}", path.display()))?,
        };
        let file = Arc::new(Table::new(&entries));
        let cell = RevokedCell::new(Revoked::new(fingerprints, [Arc::clone(&file), Arc::default()]));
        let state =
            Mutex::new(State { file, trouble: None, admin: BTreeMap::new(), admin_table: Arc::default() });
        Ok(Self { plan, fingerprints, cell, state })
    }

    /// The most memory the list takes, in bytes: while one table takes another's place, both are there.
    pub fn bytes_max(&self) -> usize {
        // A table's entry has 30 bytes, and 20 before it is in a table; a restless file may have twice as many.
        const FILE_ENTRY_BYTES: usize = 2 * (30 + 30 + 20);
        const ADMIN_ENTRY_BYTES: usize = list::VALUE_BYTES_MAX + 256;
        let file = self.plan.file.as_ref().map_or(0, |_| self.plan.entries_max * FILE_ENTRY_BYTES);
        file + ADMIN_ENTRIES_MAX * ADMIN_ENTRY_BYTES
    }

    /// Where the list is published.
    pub fn cell(&self) -> &RevokedCell {
        &self.cell
    }

    /// Revokes `value`, whatever was said of it before.
    ///
    /// # Errors
    /// [`ListFull`].
    pub fn revoke(&self, mark: Mark, value: &str, until_s: UntilS, now_s: i64) -> Result<(), ListFull> {
        let mut state = self.state();
        state.admin.retain(|_, until_s| !has_ended(*until_s, now_s));
        let entry = (mark, value.to_owned());
        if state.admin.len() >= ADMIN_ENTRIES_MAX && !state.admin.contains_key(&entry) {
            return Err(ListFull);
        }
        state.admin.insert(entry, until_s);
        self.publish_admin(&mut state);
        Ok(())
    }

    /// Takes up the entries of a predecessor's admin API.
    pub fn adopt(&self, entries: Vec<(Mark, String, UntilS)>) {
        let mut state = self.state();
        state.admin.extend(entries.into_iter().map(|(mark, value, until_s)| ((mark, value), until_s)));
        self.publish_admin(&mut state);
    }

    /// Takes back an entry of the admin API. Whether there was one.
    pub fn restore(&self, mark: Mark, value: &str) -> bool {
        let mut state = self.state();
        let there = state.admin.remove(&(mark, value.to_owned())).is_some();
        self.publish_admin(&mut state);
        there
    }

    /// Forgets entries of the admin API that have ended.
    pub fn prune(&self, now_s: i64) {
        let mut state = self.state();
        let before = state.admin.len();
        state.admin.retain(|_, until_s| !has_ended(*until_s, now_s));
        if state.admin.len() != before {
            self.publish_admin(&mut state);
        }
    }

    /// What is in force.
    pub fn overview(&self) -> Overview {
        let state = self.state();
        Overview {
            file: self.plan.file.clone(),
            file_entries: state.file.len(),
            trouble: state.trouble.clone(),
            admin: state
                .admin
                .iter()
                .map(|((mark, value), &until_s)| (*mark, value.clone(), until_s))
                .collect(),
        }
    }

    /// How many entries of the file and of the admin API are in force, and whether the file is as it stands.
    pub fn counts(&self) -> (usize, usize, bool) {
        let state = self.state();
        (state.file.len(), state.admin.len(), state.trouble.is_none())
    }

    /// Puts `entries` in force as what the file lists.
    fn replace_from_file(&self, entries: &Entries) {
        let table = Arc::new(Table::new(entries));
        let mut state = self.state();
        if state.trouble.take().is_some() || state.file.len() != table.len() {
            tracing::info!("revocation.file: {} entries are in force", table.len());
        }
        state.file = table;
        self.publish(&state);
    }

    /// Adds `entries` to what the file lists, if there is room.
    fn add_from_file(&self, mut entries: Entries) {
        let mut state = self.state();
        entries.extend(&state.file);
        if entries.len() <= 2 * self.plan.entries_max {
            state.file = Arc::new(Table::new(&entries));
            self.publish(&state);
        }
    }

    /// The file as it stands now is not in force; says so when that is news.
    fn note_trouble(&self, trouble: String) {
        let mut state = self.state();
        if state.trouble.as_ref() != Some(&trouble) {
            let (file, entries) = (self.plan.file.as_deref().unwrap_or(Path::new("")), state.file.len());
            let file = file.display();
            tracing::warn!(
                "revocation.file: {file}: {trouble}; the {entries} entries in force stay in force"
            );
            state.trouble = Some(trouble);
        }
    }

    fn publish_admin(&self, state: &mut State) {
        let mut entries = Entries::default();
        for ((mark, value), &until_s) in &state.admin {
            entries.push(self.fingerprints, *mark, value, until_s);
        }
        state.admin_table = Arc::new(Table::new(&entries));
        self.publish(state);
    }

    fn publish(&self, state: &State) {
        let tables = [Arc::clone(&state.file), Arc::clone(&state.admin_table)];
        self.cell.publish(Revoked::new(self.fingerprints, tables));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic ends the process; until it has, what stands there is still right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the file at `path` can be used.
///
/// # Errors
/// Why not.
pub fn check_file(path: &Path, entries_max: usize) -> Result<(), Mistake> {
    read_file(path, Fingerprints::new([0, 0]), entries_max, 0).map(|_| ())
}

fn read_file(
    path: &Path,
    fingerprints: Fingerprints,
    entries_max: usize,
    now_s: i64,
) -> Result<Entries, Mistake> {
    list::read(BufReader::new(File::open(path)?), fingerprints, entries_max, now_s)
}

fn has_ended(until_s: UntilS, now_s: i64) -> bool {
    until_s != FOREVER && i64::from(until_s) <= now_s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_being_written_takes_nothing_away_and_has_a_bound() {
        let plan = RevocationPlan { file: None, entries_max: 2 };
        let revocations = Revocations::start(plan, 0).unwrap();
        let read = |text: &str| list::read(text.as_bytes(), revocations.fingerprints, 2, 0).unwrap();
        let mut reader = revocations.cell().reader();
        let mut listed = |value| reader.load().lists(Mark::Jti, value, 0);
        revocations.replace_from_file(&read("jti:a\njti:b"));
        revocations.add_from_file(read("jti:b\njti:c"));
        assert!(listed("a") && listed("b") && listed("c"));
        assert_eq!(revocations.counts().0, 3);
        revocations.add_from_file(read("jti:d\njti:e"));
        assert!(!listed("d"), "the bound");
        revocations.note_trouble("a mistake".to_owned());
        assert!(listed("a") && !revocations.counts().2);
        revocations.replace_from_file(&read("jti:e"));
        assert!(!listed("a") && listed("e") && revocations.counts() == (1, 0, true));
    }

    #[test]
    fn entries_of_the_admin_api_come_end_and_are_bounded() {
        let plan = RevocationPlan { file: None, entries_max: 10 };
        let revocations = Revocations::start(plan, 0).unwrap();
        let mut reader = revocations.cell().reader();
        revocations.revoke(Mark::Sub, "acme", FOREVER, 0).unwrap();
        revocations.revoke(Mark::Jti, "t", 50, 0).unwrap();
        assert!(reader.load().lists(Mark::Sub, "acme", 0) && reader.load().lists(Mark::Jti, "t", 49));
        assert!(!reader.load().lists(Mark::Jti, "t", 50));
        revocations.prune(50);
        assert_eq!(revocations.overview().admin, [(Mark::Sub, "acme".to_owned(), FOREVER)]);
        assert!(revocations.restore(Mark::Sub, "acme") && !revocations.restore(Mark::Sub, "acme"));
        assert!(!reader.load().lists(Mark::Sub, "acme", 0));
        for number in 0..ADMIN_ENTRIES_MAX - 1 {
            revocations.state().admin.insert((Mark::Jti, number.to_string()), 100);
        }
        revocations.revoke(Mark::Kid, "last", FOREVER, 60).unwrap();
        assert!(revocations.revoke(Mark::Kid, "one more", FOREVER, 60).is_err());
        revocations.revoke(Mark::Kid, "last", 200, 60).unwrap();
        assert!(reader.load().lists(Mark::Kid, "last", 60) && reader.load().lists(Mark::Jti, "77", 60));
        // What has ended makes room.
        revocations.revoke(Mark::Kid, "one more", FOREVER, 100).unwrap();
        assert_eq!(revocations.counts(), (0, 2, true));
    }
}
