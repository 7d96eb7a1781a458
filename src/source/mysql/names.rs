//! Names of a dump's streams, and their parsing.
//!
//! `agama/orders.sql` is a table. A dot, a slash, `@` and `%` in the server's own names are written as `%2E` and so on, so
//! no name of the server can be taken for one of ours: `@preamble.sql`, `agama/@routines.sql`, `agama/v.view.sql`.

use crate::entry::{Escaped, StreamName};
use crate::source::names::{escape, unescape};

/// The part before the first database.
pub const PREAMBLE: &str = "@preamble.sql";
/// All that puts the session back as it was, and the completion line.
pub const POSTAMBLE: &str = "@postamble.sql";
/// Users, roles and grants.
pub const USERS: &str = "@users.sql";

/// The content of a dump's stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DumpPart {
    /// Session settings that every load needs first.
    Preamble,
    /// Session settings that every load needs last.
    Postamble,
    /// Users, roles and grants.
    Users,
    /// `CREATE DATABASE` and `USE`, by database.
    Database(String),
    /// A further `USE`, by database.
    Use(String),
    /// An object of a database: the database, the object, its kind.
    Object(String, String, ObjectKind),
    /// A database's events.
    Events(String),
    /// A database's routines.
    Routines(String),
}

/// The kind of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// A table with its rows.
    Table,
    /// The triggers of a table.
    Triggers,
    /// A sequence.
    Sequence,
    /// The placeholder of a view while others that use it are created.
    Stub,
    /// A view.
    View,
}

const KINDS: [(ObjectKind, &str); 5] = [
    (ObjectKind::Triggers, ".triggers.sql"),
    (ObjectKind::Sequence, ".sequence.sql"),
    (ObjectKind::Stub, ".stub.sql"),
    (ObjectKind::View, ".view.sql"),
    (ObjectKind::Table, ".sql"),
];

impl DumpPart {
    /// The stream's name.
    pub fn name(&self) -> String {
        let own = |database: &str, own: &str| format!("{}/@{own}.sql", escape(database));
        match self {
            DumpPart::Preamble => PREAMBLE.to_owned(),
            DumpPart::Postamble => POSTAMBLE.to_owned(),
            DumpPart::Users => USERS.to_owned(),
            DumpPart::Database(database) => own(database, "database"),
            DumpPart::Use(database) => own(database, "use"),
            DumpPart::Events(database) => own(database, "events"),
            DumpPart::Routines(database) => own(database, "routines"),
            DumpPart::Object(database, object, kind) => {
                let end = KINDS.iter().find(|(known, _)| known == kind).map_or(".sql", |(_, end)| end);
                format!("{}/{}{end}", escape(database), escape(object))
            }
        }
    }

    /// The content of a stream of that name; None if it isn't one of a dump's.
    pub fn of(name: &StreamName) -> Option<Self> {
        let name = std::str::from_utf8(name.as_bytes()).ok()?;
        match name {
            PREAMBLE => return Some(DumpPart::Preamble),
            POSTAMBLE => return Some(DumpPart::Postamble),
            USERS => return Some(DumpPart::Users),
            _ => {}
        }
        let (database, object) = name.split_once('/')?;
        let database = unescape(database)?;
        match object {
            "@database.sql" => return Some(DumpPart::Database(database)),
            "@use.sql" => return Some(DumpPart::Use(database)),
            "@events.sql" => return Some(DumpPart::Events(database)),
            "@routines.sql" => return Some(DumpPart::Routines(database)),
            _ => {}
        }
        let (kind, object) = KINDS.iter().find_map(|(kind, end)| Some((*kind, object.strip_suffix(end)?)))?;
        Some(DumpPart::Object(database, unescape(object)?, kind))
    }

    /// The database that it belongs to.
    pub fn database(&self) -> Option<&str> {
        match self {
            DumpPart::Preamble | DumpPart::Postamble | DumpPart::Users => None,
            DumpPart::Database(database)
            | DumpPart::Use(database)
            | DumpPart::Events(database)
            | DumpPart::Routines(database) => Some(database),
            DumpPart::Object(database, ..) => Some(database),
        }
    }
}

/// A name of several parts for people. Who makes a table may call it anything, so control characters are escaped.
pub(super) fn shown(parts: &[&str]) -> String {
    Escaped(parts.join(".").as_bytes()).to_string()
}

/// How many names a warning lists.
pub(super) const SHOWN: usize = 10;

/// The first `most` of these, and how many more there are.
pub(super) fn listed(names: &[String], most: usize) -> String {
    let more = if names.len() > most { format!(" and {} more", names.len() - most) } else { String::new() };
    format!("{}{more}", names[..names.len().min(most)].join(", "))
}

/// A name in backticks, as a statement takes it.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text in quotes, as a statement takes it in a session whose `sql_mode` is empty.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_never_meet() {
        let odd = ["a", "a.b", "@database", "x/y", "100%", "v.view", "t`t", "ü\n"];
        let mut seen = std::collections::HashSet::new();
        for database in odd {
            let mut parts = vec![
                DumpPart::Database(database.into()),
                DumpPart::Use(database.into()),
                DumpPart::Events(database.into()),
                DumpPart::Routines(database.into()),
            ];
            for object in odd {
                parts.extend(KINDS.map(|(kind, _)| DumpPart::Object(database.into(), object.into(), kind)));
            }
            for part in parts {
                let name = part.name();
                assert_eq!(DumpPart::of(&StreamName::new(name.as_bytes()).unwrap()), Some(part));
                assert!(seen.insert(name));
            }
        }
        for part in [DumpPart::Preamble, DumpPart::Postamble, DumpPart::Users] {
            assert_eq!(DumpPart::of(&StreamName::new(part.name()).unwrap()), Some(part));
        }
        for bad in ["a", "a/b", "a/@x.sql", "a/b%2.sql", "a/b%GG.sql", "a/.sql", "a/b.c.sql"] {
            assert_eq!(DumpPart::of(&StreamName::new(bad).unwrap()), None, "{bad}");
        }
    }

    #[test]
    fn what_statements_take_is_quoted() {
        assert_eq!(quoted("a`b"), "`a``b`");
        assert_eq!(literal(r"it's \"), r"'it''s \\'");
    }
}
