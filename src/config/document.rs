//! Reading a TOML document table by table. What is wrong is collected, so that all of it can be said at once.

use std::cell::RefCell;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use varu::job::nearest;
use varu::job::spec::SourceKind;

use super::keys::{self, ConfigTable, Key, keys_of_document};
use super::values::Read;

/// Something that is wrong in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigProblem {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and where it can be said, what is right.
    pub message: String,
}

/// What was met while a document was read.
pub struct Findings<'d> {
    text: &'d str,
    problems: RefCell<Vec<ConfigProblem>>,
    not_acted_on: RefCell<Vec<String>>,
}

impl<'d> Findings<'d> {
    /// None yet, in `text`.
    pub fn new(text: &'d str) -> Self {
        Self { text, problems: RefCell::default(), not_acted_on: RefCell::default() }
    }

    /// Notes a problem at a byte of the document.
    pub fn problem(&self, at: usize, message: impl Into<String>) {
        let line = 1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        self.problems.borrow_mut().push(ConfigProblem { line, message: message.into() });
    }

    /// All problems, by line, and the keys that this version doesn't act on, in the order of the document's sections.
    pub fn end(self) -> (Vec<ConfigProblem>, Vec<String>) {
        let mut problems = self.problems.into_inner();
        problems.sort();
        (problems, self.not_acted_on.into_inner())
    }
}

/// One table of the document.
pub struct Section<'f, 'd> {
    part: ConfigTable,
    /// `sets.agama`, empty for the document itself.
    name: String,
    start: usize,
    table: Option<&'f DeTable<'d>>,
    findings: &'f Findings<'d>,
}

impl<'f, 'd> Section<'f, 'd> {
    /// The document itself. Its keys are checked.
    pub fn root(part: ConfigTable, table: &'f DeTable<'d>, findings: &'f Findings<'d>) -> Self {
        let root = Self { part, name: String::new(), start: 0, table: Some(table), findings };
        root.check_keys(None);
        root
    }

    /// The table under `key`, an empty one where there is none. Its keys are checked, except for a set's, for which
    /// [`Section::check_keys`] is called when its source is known.
    pub fn section(&self, key: &str, part: ConfigTable) -> Self {
        let found = self.table.and_then(|table| table.get_key_value(key));
        let (start, table) = match found {
            Some((name, value)) => (name.span().start, self.table_of(key, value)),
            None => (self.start, None),
        };
        let section = Self { part, name: self.full_name(key), start, table, findings: self.findings };
        if part != ConfigTable::Set {
            section.check_keys(None);
        }
        section
    }

    fn table_of(&self, key: &str, value: &'f Spanned<DeValue<'d>>) -> Option<&'f DeTable<'d>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.findings.problem(value.span().start, format!("{}: a table is expected", self.full_name(key)));
        }
        table
    }

    /// The tables in the table under `key`, whose own keys are the user's names: `sets`.
    pub fn named_sections(&self, key: &str, part: ConfigTable) -> Vec<(String, Self)> {
        let outer = Self { part: self.part, ..self.section(key, ConfigTable::Set) };
        let names = outer.table.into_iter().flat_map(DeTable::keys);
        names.map(|name| (name.get_ref().to_string(), outer.section(name.get_ref(), part))).collect()
    }

    /// Reads the value of `key`, None where it is absent or wrong (which is noted).
    pub fn take<T>(&self, key: &'static str, read: impl FnOnce(&DeValue) -> Read<T>) -> Option<T> {
        debug_assert!(keys::find(self.part, key).is_some(), "{key} is not entered in the table of keys");
        let value = self.table?.get(key)?;
        match read(value.get_ref()) {
            Ok(value) => Some(value),
            Err(message) => {
                self.findings.problem(value.span().start, format!("{}: {message}", self.full_name(key)));
                None
            }
        }
    }

    /// As [`Section::take`], and an absent key is a problem.
    pub fn need<T>(&self, key: &'static str, read: impl FnOnce(&DeValue) -> Read<T>) -> Option<T> {
        if self.table.is_some() && !self.has(key) {
            self.problem(format!("{} is missing", self.full_name(key)));
        }
        self.take(key, read)
    }

    /// Whether the key stands here.
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Notes a problem of the table as a whole.
    pub fn problem(&self, message: impl Into<String>) {
        self.findings.problem(self.start, message);
    }

    /// Notes a problem of `key`'s value, or of the table where the key is absent.
    pub fn problem_of(&self, key: &str, message: &str) {
        let at = self.table.and_then(|table| table.get(key)).map_or(self.start, |value| value.span().start);
        self.findings.problem(at, format!("{}: {message}", self.full_name(key)));
    }

    fn full_name(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// Notes each key that isn't known here. For a set: that isn't known for its source.
    pub fn check_keys(&self, source: Option<SourceKind>) {
        for key in self.table.into_iter().flat_map(DeTable::keys) {
            let name: &str = key.get_ref();
            let message = match keys::find(self.part, name) {
                Some(known) if !fits(known, source) => self.of_another_source(known, source),
                Some(known) => {
                    if !known.acted_on {
                        self.findings.not_acted_on.borrow_mut().push(self.full_name(name));
                    }
                    continue;
                }
                None => self.unknown(name, source),
            };
            self.findings.problem(key.span().start, message);
        }
    }

    fn of_another_source(&self, key: &Key, source: Option<SourceKind>) -> String {
        let sources: Vec<&str> = key.sources.iter().map(|source| source.name()).collect();
        let own = source.map_or("another", SourceKind::name);
        format!(
            "{}: is a key of the source {}; this set's source is {own}",
            self.full_name(key.name),
            sources.join(", ")
        )
    }

    fn unknown(&self, name: &str, source: Option<SourceKind>) -> String {
        let shown = self.full_name(&varu::entry::Escaped(name.as_bytes()).to_string());
        if keys::is_secret(name) {
            return format!(
                "{shown}: secrets are never in this file: MySQL reads its option file (option_file) or the socket's \
                 authentication, PostgreSQL ~/.pgpass or the socket's, SSH its own configuration"
            );
        }
        let keys = keys_of_document(self.part);
        let known = keys.iter().filter(|key| key.part == self.part && fits(key, source)).map(|key| key.name);
        if let Some(near) = nearest(name, known) {
            return format!("{shown}: there is no such key; did you mean {near}?");
        }
        let is_document = |key: &Key| matches!(key.part, ConfigTable::Root | ConfigTable::Policy);
        match keys.iter().find(|key| key.name == name && !is_document(key)) {
            Some(elsewhere) => format!("{shown}: there is no such key here; {}", elsewhere.part.place(name)),
            None => format!("{shown}: there is no such key"),
        }
    }
}

impl ConfigTable {
    /// Where a key of this part stands.
    fn place(self, key: &str) -> String {
        match self {
            ConfigTable::Root | ConfigTable::Policy => format!("{key} belongs outside of every table"),
            ConfigTable::Repository => format!("{key} belongs in [repository]"),
            ConfigTable::Retention => format!("{key} belongs in [retention]"),
            ConfigTable::Environment => format!("{key} belongs in [environment]"),
            ConfigTable::Set => format!("{key} belongs in a set, [sets.NAME]"),
            ConfigTable::Restore => format!("{key} belongs in a refresh, [restores.NAME]"),
            ConfigTable::Schedule => format!("{key} belongs in a set's schedule"),
            ConfigTable::Hook => format!("{key} belongs in a command round a backup"),
            ConfigTable::Account => format!("{key} belongs in an account, [accounts.NAME]"),
            ConfigTable::AccountSet => format!("{key} belongs in a set of an account, [accounts.NAME.sets.NAME]"),
        }
    }
}

/// Whether a key belongs to sets of that source; where the source isn't known, to any.
fn fits(key: &Key, source: Option<SourceKind>) -> bool {
    key.sources.is_empty() || source.is_none_or(|source| key.sources.contains(&source))
}
