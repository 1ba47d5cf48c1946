//! Reads a TOML tree field by field, remembering where each stands and what was never asked for.
//!
//! Knows types and places, not meanings. A key that nobody asked for is a mistake, with the nearest known
//! one as a suggestion.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::issue::Issues;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Field<T> {
    pub(super) value: T,
    /// Byte of the file.
    pub(super) at: usize,
    /// The whole key, such as `route[2].cluster`.
    pub(super) key: String,
}

impl<T> Field<T> {
    /// The field with another value in its place.
    pub(super) fn map<U>(&self, change: impl FnOnce(&T) -> U) -> Field<U> {
        Field { value: change(&self.value), at: self.at, key: self.key.clone() }
    }

    /// Notes a mistake about this field.
    pub(super) fn wrong(&self, issues: &Issues, message: impl Into<String>) {
        issues.add(self.at, &self.key, message);
    }
}

/// One table of the file, while it is read.
pub(super) struct Section<'t, 'i> {
    table: Option<&'t DeTable<'t>>,
    /// Its key, empty for the file itself.
    path: String,
    span: Range<usize>,
    asked: Vec<&'static str>,
    issues: &'i Issues,
}

impl<'t, 'i> Section<'t, 'i> {
    /// The file itself.
    pub(super) fn root(table: &'t DeTable<'t>, issues: &'i Issues) -> Self {
        Self { table: Some(table), path: String::new(), span: 0..0, asked: Vec::new(), issues }
    }

    /// Where the table stands.
    pub(super) fn at(&self) -> usize {
        self.span.start
    }

    /// The key of the table itself.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The whole key of `key` in this table.
    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn take(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.asked.push(key);
        self.table?.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    fn field<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        read: impl FnOnce(&'t DeValue<'t>) -> Option<T>,
    ) -> Option<Field<T>> {
        let value = self.take(key)?;
        let (at, key) = (value.span().start, self.key(key));
        match read(value.get_ref()) {
            Some(value) => Some(Field { value, at, key }),
            None => {
                self.issues.add(at, &key, mistyped(wanted, value.get_ref()));
                None
            }
        }
    }

    /// A string.
    pub(super) fn text(&mut self, key: &'static str) -> Option<Field<String>> {
        self.field(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    /// Whether `key` was written at all.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.iter().any(|(name, _)| name.get_ref() == key))
    }

    /// True or false.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<Field<bool>> {
        self.field(key, "true or false", DeValue::as_bool)
    }

    /// A string that must be there.
    pub(super) fn required_text(&mut self, key: &'static str) -> Option<Field<String>> {
        if self.table.is_some_and(|table| !table.iter().any(|(name, _)| name.get_ref() == key)) {
            let message = format!("is missing; every {} needs one", self.kind());
            self.issues.add(self.span.start, &self.key(key), message);
        }
        self.text(key)
    }

    /// What one such table is called: `route` for `route[2]`, `entry of keys` for `jwt[0].keys[1]`.
    fn kind(&self) -> String {
        let last = self.path.rsplit('.').next().unwrap_or_default();
        let name = last.split('[').next().unwrap_or_default();
        if last.len() == self.path.len() { name.to_owned() } else { format!("entry of {name}") }
    }

    /// A string or an integer, as text.
    pub(super) fn text_or_number(&mut self, key: &'static str, wanted: &str) -> Option<Field<String>> {
        self.field(key, wanted, |value| match value {
            DeValue::Integer(number) => {
                i64::from_str_radix(number.as_str(), number.radix()).ok().map(|n| n.to_string())
            }
            other => other.as_str().map(str::to_owned),
        })
    }

    /// A list of strings. An item that is none is noted and left out.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Field<Vec<Field<String>>>> {
        let (path, issues) = (self.key(key), self.issues);
        self.field(key, "a list of strings", |value| {
            let items = value.as_array()?.iter().enumerate();
            Some(
                items
                    .filter_map(|(index, item)| {
                        let (at, key) = (item.span().start, format!("{path}[{index}]"));
                        let value = item.get_ref().as_str().map(str::to_owned);
                        if value.is_none() {
                            issues.add(at, &key, mistyped("a string", item.get_ref()));
                        }
                        Some(Field { value: value?, at, key })
                    })
                    .collect(),
            )
        })
    }

    /// A table that may be left out; then it reads as empty.
    pub(super) fn section(&mut self, key: &'static str) -> Self {
        let (path, issues) = (self.key(key), self.issues);
        let found = self.take(key);
        let table = found.and_then(|value| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                issues.add(value.span().start, &path, format!("a table is wanted here: [{path}]"));
            }
            table
        });
        let span = found.map_or(0..0, Spanned::span);
        Section { table, path, span, asked: Vec::new(), issues }
    }

    /// A list of tables, whether written `[[key]]` or `key = [{…}]`.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Self> {
        let (path, issues) = (self.key(key), self.issues);
        let Some(value) = self.take(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            issues.add(value.span().start, &path, "a list of tables is wanted here");
            return Vec::new();
        };
        let sections = items.iter().enumerate().filter_map(|(index, item)| {
            let path = format!("{path}[{index}]");
            let table = item.get_ref().as_table();
            if table.is_none() {
                issues.add(item.span().start, &path, "a table is wanted here");
            }
            Some(Section { table: Some(table?), path, span: item.span(), asked: Vec::new(), issues })
        });
        sections.collect()
    }

    /// Notes every key that was not asked for.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        for (name, _) in table {
            if self.asked.iter().any(|asked| asked == name.get_ref()) {
                continue;
            }
            let nearest = self
                .asked
                .iter()
                .map(|asked| (strsim::damerau_levenshtein(asked, name.get_ref()), *asked))
                .min()
                .filter(|&(distance, _)| distance <= 3);
            let mut message = match nearest {
                Some((_, nearest)) => format!("unknown key; did you mean \"{nearest}\"?"),
                None => "unknown key".to_owned(),
            };
            if nearest.is_none() {
                let mut known = self.asked.clone();
                known.sort_unstable();
                message.push_str(&format!("; known here: {}", known.join(", ")));
            }
            self.issues.add(name.span().start, &self.key(name.get_ref()), message);
        }
    }
}

fn mistyped(wanted: &str, found: &DeValue<'_>) -> String {
    let found = found.type_str();
    format!("{wanted} is wanted here, not {} {found}", article(found))
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}
