//! The deny list: which tokens and keys count no longer, published by the control thread, read by shards.
//!
//! A [`Revoked`] is immutable. The control thread publishes a new one; a shard sees it at its next request,
//! for the price of one atomic load (`arc_swap::Cache`), and never waits. What is listed is kept as 128 bits
//! of a keyed hash, so an entry costs 30 bytes whatever its length; that another value has the same bits
//! happens once in 10^32 lookups of a million entries. Knows no files and no clock.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use siphasher::sip128::SipHasher13;

/// What an entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Mark {
    /// One token, by its `jti`.
    Jti,
    /// All credentials of one subject.
    Sub,
    /// All tokens that one key signed, or one API key.
    Kid,
}

impl Mark {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Jti, Self::Sub, Self::Kid];

    /// As files and the admin API write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Jti => "jti",
            Self::Sub => "sub",
            Self::Kid => "kid",
        }
    }
}

/// Makes 128 bits of what is listed, for each mark with a seed of its own. The seed is the process's secret, so
/// that nobody can choose values that share a place.
#[derive(Clone, Copy, Debug)]
pub struct Fingerprints([SipHasher13; Mark::ALL.len()]);

impl Fingerprints {
    /// With this seed.
    pub fn new(seed: [u64; 2]) -> Self {
        Self([0, 1, 2].map(|mark| SipHasher13::new_with_keys(seed[0], seed[1].wrapping_add(mark))))
    }

    /// Never zero.
    fn of(self, mark: Mark, value: &str) -> u128 {
        self.0[mark as usize].hash(value.as_bytes()).as_u128().max(1)
    }
}

/// Until when an entry counts, in seconds since the Unix epoch; [`FOREVER`] has no end.
pub type UntilS = u32;

/// An entry that does not end by itself.
pub const FOREVER: UntilS = UntilS::MAX;

/// Entries in the shape in which they are looked up. Open addressing, at most two thirds full.
#[derive(Debug, Default)]
pub struct Table {
    /// Zero where there is none.
    fingerprints: Box<[u128]>,
    until_s: Box<[UntilS]>,
    of_mark: [usize; Mark::ALL.len()],
    len: usize,
}

/// What a [`Table`] is made of.
#[derive(Debug, Default)]
pub struct Entries {
    fingerprints: Vec<u128>,
    until_s: Vec<UntilS>,
    of_mark: [usize; Mark::ALL.len()],
}

impl Entries {
    /// Adds one.
    pub fn push(&mut self, fingerprints: Fingerprints, mark: Mark, value: &str, until_s: UntilS) {
        self.fingerprints.push(fingerprints.of(mark, value));
        self.until_s.push(until_s);
        self.of_mark[mark as usize] += 1;
    }

    /// Adds all of `table`.
    pub fn extend(&mut self, table: &Table) {
        let there =
            table.fingerprints.iter().zip(&table.until_s).filter(|(fingerprint, _)| **fingerprint != 0);
        for (fingerprint, until_s) in there {
            self.fingerprints.push(*fingerprint);
            self.until_s.push(*until_s);
        }
        for (count, more) in self.of_mark.iter_mut().zip(table.of_mark) {
            *count += more;
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.fingerprints.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.fingerprints.is_empty()
    }
}

impl Table {
    /// A table of `entries`. Of two for the same thing the one that lasts longer counts.
    pub fn new(entries: &Entries) -> Self {
        let places = if entries.is_empty() { 0 } else { entries.len() + entries.len().div_ceil(2) };
        let mut table = Self {
            fingerprints: vec![0; places].into(),
            until_s: vec![0; places].into(),
            of_mark: entries.of_mark,
            len: 0,
        };
        for (&fingerprint, &until_s) in entries.fingerprints.iter().zip(&entries.until_s) {
            let place = table.place(fingerprint);
            table.len += usize::from(table.fingerprints[place] == 0);
            table.fingerprints[place] = fingerprint;
            table.until_s[place] = table.until_s[place].max(until_s);
        }
        table
    }

    /// Where `fingerprint` stands, or would.
    fn place(&self, fingerprint: u128) -> usize {
        let places = self.fingerprints.len();
        #[expect(clippy::cast_possible_truncation, reason = "the product is below places times 2^64")]
        let mut place = ((u128::from(fingerprint as u64) * places as u128) >> 64) as usize;
        while self.fingerprints[place] != 0 && self.fingerprints[place] != fingerprint {
            place = if place + 1 == places { 0 } else { place + 1 };
        }
        place
    }

    fn holds(&self, fingerprint: u128, now_s: i64) -> bool {
        if self.fingerprints.is_empty() {
            return false;
        }
        let place = self.place(fingerprint);
        let until_s = self.until_s[place];
        self.fingerprints[place] == fingerprint && (until_s == FOREVER || i64::from(until_s) > now_s)
    }

    /// How many different things it lists.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it lists nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        self.fingerprints.len() * (size_of::<u128>() + size_of::<UntilS>())
    }
}

/// One generation of the deny list.
#[derive(Debug)]
pub struct Revoked {
    fingerprints: Fingerprints,
    /// From the file and from the admin API: either may change without the other being built anew.
    tables: [Arc<Table>; 2],
    /// Whether anything is listed under each mark.
    lists: [bool; Mark::ALL.len()],
}

impl Revoked {
    /// What `tables` list, whose entries were made with `fingerprints`.
    pub fn new(fingerprints: Fingerprints, tables: [Arc<Table>; 2]) -> Self {
        let lists = Mark::ALL.map(|mark| tables.iter().any(|table| table.of_mark[mark as usize] > 0));
        Self { fingerprints, tables, lists }
    }

    /// Whether nothing is listed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.lists == [false; Mark::ALL.len()]
    }

    /// Whether `value` is listed under `mark`. What nothing is listed under costs no hash.
    pub fn lists(&self, mark: Mark, value: &str, now_s: i64) -> bool {
        if !self.lists[mark as usize] {
            return false;
        }
        let fingerprint = self.fingerprints.of(mark, value);
        self.tables.iter().any(|table| table.holds(fingerprint, now_s))
    }
}

/// Where the list in force is published. The control thread writes it, shards read it.
#[derive(Clone, Debug)]
pub struct RevokedCell(Arc<ArcSwap<Revoked>>);

impl RevokedCell {
    /// Publishes `first`.
    pub fn new(first: Revoked) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(first)))
    }

    /// Puts `next` in force: every [`RevokedReader::load`] that begins after this returns sees it.
    pub fn publish(&self, next: Revoked) {
        self.0.store(Arc::new(next));
    }

    /// A reader for one shard.
    pub fn reader(&self) -> RevokedReader {
        RevokedReader(Cache::new(Arc::clone(&self.0)))
    }
}

/// One shard's view of the list.
#[derive(Debug)]
pub struct RevokedReader(Cache<Arc<ArcSwap<Revoked>>, Arc<Revoked>>);

impl RevokedReader {
    /// The list in force.
    pub fn load(&mut self) -> &Revoked {
        self.0.load()
    }
}

/// Of a list with nothing on it, which stays so.
impl Default for RevokedReader {
    fn default() -> Self {
        RevokedCell::new(Revoked::new(Fingerprints::new([0, 0]), Default::default())).reader()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const FINGERPRINTS: fn() -> Fingerprints = || Fingerprints::new([7, 11]);

    fn table(entries: &[(Mark, String, UntilS)]) -> Arc<Table> {
        let mut made = Entries::default();
        for (mark, value, until_s) in entries {
            made.push(FINGERPRINTS(), *mark, value, *until_s);
        }
        Arc::new(Table::new(&made))
    }

    #[test]
    fn an_entry_counts_under_its_mark_until_its_end() {
        let entries = [(Mark::Jti, "a".to_owned(), 100), (Mark::Sub, "a".to_owned(), FOREVER)];
        let revoked = Revoked::new(FINGERPRINTS(), [table(&entries[..1]), table(&entries[1..])]);
        assert!(revoked.lists(Mark::Jti, "a", 99) && !revoked.lists(Mark::Jti, "a", 100));
        assert!(revoked.lists(Mark::Sub, "a", i64::MAX) && !revoked.lists(Mark::Kid, "a", 0));
        assert!(!revoked.lists(Mark::Jti, "b", 0) && !revoked.lists(Mark::Sub, "", 0));
    }

    #[test]
    fn a_reader_sees_what_is_published() {
        let cell = RevokedCell::new(Revoked::new(FINGERPRINTS(), Default::default()));
        let mut reader = cell.reader();
        assert!(!reader.load().lists(Mark::Kid, "k", 0));
        let entry = [(Mark::Kid, "k".to_owned(), FOREVER)];
        cell.publish(Revoked::new(FINGERPRINTS(), [table(&entry), Arc::default()]));
        assert!(reader.load().lists(Mark::Kid, "k", 0));
        cell.publish(Revoked::new(FINGERPRINTS(), Default::default()));
        assert!(!reader.load().lists(Mark::Kid, "k", 0));
    }

    #[test]
    fn a_million_entries_fit_into_thirty_megabytes() {
        let mut entries = Entries::default();
        for number in 0..1_000_000_u32 {
            entries.push(FINGERPRINTS(), Mark::Jti, &format!("token-{number}"), FOREVER);
        }
        let table = Arc::new(Table::new(&entries));
        assert_eq!(table.bytes(), 30_000_000);
        let revoked = Revoked::new(FINGERPRINTS(), [table, Arc::default()]);
        for number in (0..1_000_000).step_by(997) {
            assert!(revoked.lists(Mark::Jti, &format!("token-{number}"), 0));
            assert!(!revoked.lists(Mark::Jti, &format!("other-{number}"), 0));
        }
    }

    proptest! {
        /// The table agrees with a map, whatever is put in, twice too, and whatever is asked.
        #[test]
        fn the_table_agrees_with_a_map(
            entries in prop::collection::vec((0_usize..3, "[ab]{0,3}", 1_u32..9), 0..40),
            asked in prop::collection::vec((0_usize..3, "[ab]{0,3}", 0_u32..10), 40),
        ) {
            let entries: Vec<_> =
                entries.into_iter().map(|(mark, value, until_s)| (Mark::ALL[mark], value, until_s)).collect();
            let mut map: HashMap<(Mark, &str), UntilS> = HashMap::new();
            for (mark, value, until_s) in &entries {
                let known = map.entry((*mark, value)).or_default();
                *known = (*known).max(*until_s);
            }
            let (first, second) = entries.split_at(entries.len() / 2);
            let mut both = Entries::default();
            both.extend(&table(first));
            both.extend(&table(second));
            let whole = Revoked::new(FINGERPRINTS(), [Arc::new(Table::new(&both)), Arc::default()]);
            let halves = Revoked::new(FINGERPRINTS(), [table(first), table(second)]);
            for (mark, value, now_s) in asked {
                let mark = Mark::ALL[mark];
                let expected = map.get(&(mark, value.as_str())).is_some_and(|&until_s| until_s > now_s);
                prop_assert_eq!(halves.lists(mark, &value, now_s.into()), expected);
                prop_assert_eq!(whole.lists(mark, &value, now_s.into()), expected);
            }
        }
    }
}
