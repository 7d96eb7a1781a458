//! What a dump has beside its tables: small, and read before anything is written.

use std::collections::BTreeSet;

use super::accounts::Account;
use super::filter::{Filter, Scope};
use crate::entry::StreamName;
use crate::source::Error;
use crate::source::mysql::names::{DumpPart, quoted};

/// Streams by what they are, in the order of the dump.
#[derive(Debug, Default)]
pub(super) struct Definitions(Vec<(DumpPart, Vec<u8>)>);

impl Definitions {
    pub fn new(streams: Vec<(StreamName, Vec<u8>)>) -> Self {
        Self(streams.into_iter().filter_map(|(name, bytes)| Some((DumpPart::of(&name)?, bytes))).collect())
    }

    fn find(&self, wanted: &DumpPart) -> &[u8] {
        self.0.iter().find(|(part, _)| part == wanted).map(|(_, bytes)| bytes.as_slice()).unwrap_or_default()
    }

    /// Session settings before all else.
    pub fn preamble(&self) -> &[u8] {
        self.find(&DumpPart::Preamble)
    }

    /// The databases, in the order of the dump.
    pub fn databases(&self) -> Vec<String> {
        let mut names = Vec::new();
        for name in self.0.iter().filter_map(|(part, _)| part.database()) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }

    /// The names of a database's tables, sequences and views that have definitions.
    pub fn objects(&self, database: &str) -> Vec<String> {
        let name = |(part, _): &(DumpPart, Vec<u8>)| match part {
            DumpPart::Object(whose, name, _) if whose == database => Some(name.clone()),
            _ => None,
        };
        self.0.iter().filter_map(name).collect()
    }

    /// The parts of a database that `wanted` says yes to.
    pub fn of(&self, database: &str, wanted: impl Fn(&DumpPart) -> bool) -> Vec<(DumpPart, Vec<u8>)> {
        self.0.iter().filter(|(part, _)| part.database() == Some(database) && wanted(part)).cloned().collect()
    }

    /// The statements that make a database as `from` was, under the name `to`; with the server's own character set, where the
    /// dump doesn't say how it was made.
    pub fn create(&self, mut filter: Filter, from: &str, to: &str) -> Result<String, Error> {
        let part = DumpPart::Database(from.to_owned());
        let scope = Scope { part: &part, from, to, home: to, folds: false };
        let said = filter.steps(&scope, self.find(&part))?;
        let rest = said.first().map(|step| String::from_utf8_lossy(&step.text).into_owned()).unwrap_or_default();
        let to = quoted(to);
        // One that is there already, and is empty, may have another character set.
        let alter = if rest.trim().is_empty() { String::new() } else { format!("ALTER DATABASE {to}{rest};\n") };
        Ok(format!("CREATE DATABASE IF NOT EXISTS {to}{rest};\n{alter}"))
    }

    /// The accounts that views, routines, triggers and events run as.
    pub fn definers(&self, databases: &[String]) -> BTreeSet<Account> {
        let mut found = BTreeSet::new();
        for (_, bytes) in
            self.0.iter().filter(|(part, _)| part.database().is_some_and(|name| databases.iter().any(|d| d == name)))
        {
            let text = String::from_utf8_lossy(bytes);
            for (at, mark) in text.match_indices("DEFINER=`") {
                let rest = &text[at + mark.len()..];
                if let Some((user, rest)) = rest.split_once("`@`")
                    && let Some((host, _)) = rest.split_once('`')
                {
                    found.insert(Account { user: user.replace("``", "`"), host: host.to_owned() });
                }
            }
        }
        found
    }

    /// The statements that make users and roles, a line each.
    pub fn users(&self) -> String {
        String::from_utf8_lossy(self.find(&DumpPart::Users)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_made_with_its_character_set() {
        let text = "\n--\n-- Current Database: `agama`\n--\n\nCREATE DATABASE /*!32312 IF NOT EXISTS*/ `agama` /*!40100 DEFAULT \
                    CHARACTER SET utf8mb4 */;\n\nUSE `agama`;\n";
        let name = StreamName::new("agama/@database.sql").unwrap();
        let definitions = Definitions::new(vec![(name, text.as_bytes().to_vec())]);
        let made = definitions.create(Filter::new(101_119, true), "agama", "b").unwrap();
        let set = "`b` CHARACTER SET utf8mb4;\n";
        assert_eq!(made, format!("CREATE DATABASE IF NOT EXISTS {set}ALTER DATABASE {set}"));
        assert_eq!(definitions.databases(), ["agama"]);
    }
}
