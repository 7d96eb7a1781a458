//! The way back into a server that runs.
//!
//! Each database is loaded into one of its own, `NAME_loading_TIME`, by a client that takes no commands of its own, and its
//! rows are counted. Only then both change their names, in one transaction, after connections were ended; what stood there
//! is `NAME_before_TIME`, where it stays until somebody drops it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::fingerprint::Fingerprint;
use super::globals::{for_absent, unquoted};
use super::scan::{Piece, Scanner, name_end};
use super::server::{COMMON, Load, Server, ServerOptions, TEMPLATE, literal, quoted};
use super::{GLOBALS, check_whole, database_of, stream_of};
use crate::entry::{Entry, StreamName};
use crate::progress::Interrupt;
use crate::source::names::{aside, free_stamp};
use crate::source::objects::Objects;
use crate::source::{Error, IntoOptions, Plan, Proof, Service, Target, fact, room};
use crate::warning::{Warning, WarningKind};

/// The most bytes of a name.
const NAME: usize = 63;
/// How often the two names are tried to be changed: a client may be back between the end of its connection and that.
const TRIES: u32 = 20;

/// One database that is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    from: String,
    to: String,
    loading: String,
    before: String,
    /// Whether something stands where it goes to.
    replaces: bool,
    /// The rows of each table, by its name as the dump writes it.
    rows: BTreeMap<String, u64>,
    large_objects: Option<u64>,
}

/// A server that dumps go back into.
pub struct PostgresqlTarget {
    server: Server,
    options: IntoOptions,
    places: Vec<Place>,
    /// The statements that make roles which are absent.
    roles: String,
    /// The database from which others are made and renamed.
    common: &'static str,
    warnings: Vec<Warning>,
}

impl PostgresqlTarget {
    /// Finds the server.
    ///
    /// # Errors
    /// As [`Server::connect`].
    pub fn connect(server: &ServerOptions, options: IntoOptions, interrupt: &Interrupt) -> Result<Self, Error> {
        let server = Server::connect(server, interrupt)?;
        let (places, roles, warnings) = (Vec::new(), String::new(), Vec::new());
        let common = server.common();
        Ok(Self { server, options, places, roles, common, warnings })
    }

    /// Whether what is loaded fits, where the server keeps its data on this machine; a line about it.
    fn check_room(&self, bytes: u64) -> Result<Option<String>, Error> {
        let question = "SELECT current_setting('data_directory', true) WHERE inet_server_addr() IS NULL";
        // Where an account may not read the setting, it isn't known.
        let folder = self.server.value(self.common, question).unwrap_or_default();
        if folder.is_empty() { Ok(None) } else { room::beside(Path::new(&folder), bytes) }
    }

    fn check_server(&self, facts: &[(String, String)]) -> Result<(), Error> {
        if let Some(other) = fact(facts, "server").filter(|server| *server != "PostgreSQL") {
            return Err(Error::Refused(format!("the snapshot is of {other}, and this server is PostgreSQL")));
        }
        let major = |version: &str| version.split('.').next().and_then(|number| number.parse::<u32>().ok());
        if let Some(there) = fact(facts, "server_version").and_then(major)
            && there > self.server.version / 10_000
        {
            return Err(Error::Refused(format!(
                "the dump is of version {there}, and this server is older: {}; upgrade it first",
                self.server.version_text
            )));
        }
        let may = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user";
        if self.server.value(self.common, may)? != "t" {
            let account = quoted(&self.server.account);
            return Err(Error::Refused(format!(
                "the account {account} may not make databases: ALTER ROLE {account} CREATEDB; or give a --user who may"
            )));
        }
        Ok(())
    }

    fn find_places(&mut self, entries: &[Entry], facts: &[(String, String)]) -> Result<(), Error> {
        let databases: Vec<String> = entries.iter().filter_map(|entry| database_of(&entry.name)).collect();
        if let Some(missing) = self.options.only.iter().find(|name| !databases.contains(name)) {
            return Err(Error::Config(format!(
                "the snapshot has no database {missing}; it has {}, and a database is restored as a whole: under another name, \
                 with --into postgresql:NAME, a table can be copied from it",
                databases.join(", ")
            )));
        }
        let only = &self.options.only;
        let wanted: Vec<String> = databases.into_iter().filter(|name| only.is_empty() || only.contains(name)).collect();
        if wanted.is_empty() {
            return Err(Error::Config("the snapshot has no database".to_owned()));
        }
        if let (Some(name), true) = (&self.options.name, wanted.len() > 1) {
            return Err(Error::Config(format!(
                "the snapshot has {} databases, and :{name} names one; choose one with --only",
                wanted.len()
            )));
        }
        let names: Vec<&String> = self.options.name.iter().chain(&wanted).collect();
        let there: BTreeSet<String> =
            self.server.names(self.common, "SELECT datname FROM pg_database")?.into_iter().collect();
        let stamp = free_stamp(&self.options.stamp, &names, &there, NAME)?;
        for from in wanted {
            let to = self.options.name.clone().unwrap_or_else(|| from.clone());
            let stream = stream_of(&from);
            let start = format!("rows {stream} ");
            let rows = facts.iter().filter_map(|(key, value)| {
                let table = key.strip_prefix(&start).filter(|table| name_end(table) == Some(table.len()))?;
                Some((table.to_owned(), value.parse().ok()?))
            });
            self.places.push(Place {
                rows: rows.collect(),
                large_objects: fact(facts, &format!("large_objects {stream}")).and_then(|value| value.parse().ok()),
                loading: aside(&to, "loading", &stamp, NAME),
                before: aside(&to, "before", &stamp, NAME),
                replaces: there.contains(&to),
                from,
                to,
            });
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), Error> {
        for place in &self.places {
            if place.large_objects.is_none() {
                return Err(Error::Failed(format!(
                    "the snapshot doesn't say how many rows {} has, so a load can't be proven",
                    place.from
                )));
            }
            let may = self.options.may_replace(&place.to);
            if place.replaces && !may {
                return Err(Error::Refused(format!(
                    "{0} is there already; --replace {0} --reason TEXT puts what is there aside, as {1}, and the restored data \
                     in its place",
                    place.to, place.before
                )));
            }
        }
        Ok(())
    }

    fn described(&self, entries: &[Entry]) -> Plan {
        let mut plan = Plan::default();
        plan.lines.push(format!("the server is PostgreSQL {}", self.server.version_text));
        if !self.server.restricts {
            plan.lines.push(
                "psql here is older than 13.22, 14.19, 15.14, 16.10 or 17.6 and can't be told to take no commands of its own; what \
                 looks like one ends the restore all the same"
                    .to_owned(),
            );
        }
        for place in &self.places {
            let what = format!("the database {} with {} tables", place.from, place.rows.len());
            plan.lines.push(match place.replaces {
                true => format!(
                    "{what} goes to {}; the connections to what stands there are ended, and it is put aside as {} and stays until \
                     you drop it",
                    place.to, place.before
                ),
                false => format!("{what} goes to {}, where nothing is", place.to),
            });
            if place.replaces {
                plan.replaces.push(place.to.clone());
            }
        }
        plan.bytes = entries.iter().filter(|entry| self.takes(entry)).map(|entry| entry.size).sum();
        plan
    }

    /// Each table has as many rows as the dump has.
    fn count(&self, place: &Place) -> Result<(), Error> {
        let tables: Vec<(&String, &u64)> = place.rows.iter().collect();
        let questions: Vec<String> =
            tables.iter().map(|(table, _)| format!("SELECT count(*) FROM ONLY {table}")).collect();
        if !questions.is_empty() {
            let counted =
                self.server.names(&place.loading, &format!("SET row_security = off; {}", questions.join(";\n")))?;
            for ((table, rows), counted) in tables.into_iter().zip(counted) {
                if counted != rows.to_string() {
                    return Err(Error::Failed(format!(
                        "{table} of {} has {counted} rows after the load, and {rows} in the dump",
                        place.from
                    )));
                }
            }
        }
        let objects = self.server.value(&place.loading, "SELECT count(*) FROM pg_largeobject_metadata")?;
        match place.large_objects {
            Some(wanted) if objects != wanted.to_string() => Err(Error::Failed(format!(
                "{} has {objects} large objects after the load, and {wanted} in the dump",
                place.from
            ))),
            _ => Ok(()),
        }
    }

    /// Both databases change their names, in one transaction.
    fn put_in_place(&self, place: &Place) -> Result<(), Error> {
        let (to, loading) = (quoted(&place.to), quoted(&place.loading));
        let rename_in = format!("ALTER DATABASE {loading} RENAME TO {to}");
        // What is loaded may be analyzed or looked at by somebody, too.
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ({}, {}) AND pid <> pg_backend_pid()",
            literal(&place.to),
            literal(&place.loading)
        );
        let statements = match place.replaces {
            true => format!("BEGIN; ALTER DATABASE {to} RENAME TO {}; {rename_in}; COMMIT", quoted(&place.before)),
            false => rename_in,
        };
        let mut last = None;
        for try_number in 0..TRIES {
            self.server.ask(self.common, &end)?;
            match self.server.ask(self.common, &statements) {
                Ok(_) => return Ok(()),
                // Somebody was back before the name could be changed.
                Err(Error::Failed(why)) if why.contains("55006") => last = Some(why),
                Err(error) => return Err(error),
            }
            std::thread::sleep(Duration::from_millis(u64::from(10 * try_number)));
        }
        Err(Error::Failed(format!(
            "{} could not be put aside, because its clients come back at once: stop them, with restore_before and \
             restore_after if need be: {}",
            place.to,
            last.unwrap_or_default()
        )))
    }
}

impl Service for PostgresqlTarget {
    fn is_definition(&self, entry: &Entry) -> bool {
        entry.name.as_bytes() == GLOBALS.as_bytes()
    }

    fn plan(
        &mut self,
        entries: &[Entry],
        definitions: Vec<(StreamName, Vec<u8>)>,
        facts: &[(String, String)],
    ) -> Result<Plan, Error> {
        let meant = |name: &String| name == COMMON;
        if self
            .options
            .name
            .as_ref()
            .map_or_else(|| entries.iter().filter_map(|entry| database_of(&entry.name)).any(|name| meant(&name)), meant)
        {
            self.common = TEMPLATE;
        }
        self.check_server(facts)?;
        self.find_places(entries, facts)?;
        self.check_names()?;
        let there = self.server.names(self.common, "SELECT rolname FROM pg_roles")?.into_iter().collect();
        let mut made = BTreeSet::new();
        for (_, globals) in &definitions {
            (self.roles, made) = for_absent(globals, &there)?;
        }
        let mut plan = self.described(entries);
        if !made.is_empty() {
            let names = made.into_iter().collect::<Vec<_>>().join(", ");
            plan.lines.push(format!("these roles are absent and are made: {names}"));
            if fact(facts, "role_passwords") == Some("no") {
                self.warnings.push(WarningKind::Accounts.warning(format!(
                    "the roles {names} have no password: the account of the backup may not read them; set them with ALTER ROLE"
                )));
            }
        }
        plan.lines.extend(self.check_room(plan.bytes)?);
        Ok(plan)
    }

    fn takes(&self, entry: &Entry) -> bool {
        database_of(&entry.name).is_some_and(|name| self.places.iter().any(|place| place.from == name))
    }

    fn open(&mut self) -> Result<(), Error> {
        if self.roles.is_empty() {
            return Ok(());
        }
        let mut load = self.server.load(self.common)?;
        load.write(format!("BEGIN;\n{}COMMIT;\n", self.roles).as_bytes())?;
        load.finish()
    }

    fn lane(&self) -> Result<Box<dyn Target + Send>, Error> {
        let (server, places) = (self.server.clone(), self.places.clone());
        Ok(Box::new(Lane { server, places, common: self.common, current: None }))
    }

    fn finish(&mut self) -> Result<Vec<Warning>, Error> {
        for place in &self.places {
            self.count(place)?;
        }
        for place in &self.places {
            self.put_in_place(place)?;
        }
        Ok(std::mem::take(&mut self.warnings))
    }

    fn standing(&self) -> Result<Option<String>, Error> {
        let mut all = Objects::default();
        for place in &self.places {
            let list = format!("SELECT oid FROM pg_database WHERE datname = {}", literal(&place.to));
            all.note(format!("database {}", place.to), &self.server.value(self.common, &list)?);
            if self.server.value(self.common, &list)?.is_empty() {
                continue;
            }
            let found = Fingerprint::take(&self.server, &place.to, &[], &[])?;
            all.note(format!("objects of {}", place.to), &found.objects.digest());
            // A row that was changed was written by another transaction.
            let tables = found.tables.iter().filter(|table| table.has_rows);
            let questions: Vec<String> = tables
                .map(|table| {
                    format!(
                        "SELECT {}, count(*), sum(hashtext(xmin::text || ctid::text)::bigint) FROM ONLY {}",
                        literal(&table.plain),
                        table.name
                    )
                })
                .collect();
            if !questions.is_empty() {
                let question = format!("SET row_security = off; {}", questions.join(";\n"));
                for row in self.server.ask(&place.to, &question)? {
                    all.note(format!("rows of {}", place.to), &row.join(" "));
                }
            }
            let large = self.server.value(&place.to, "SELECT count(*) FROM pg_largeobject_metadata")?;
            all.note(format!("large objects of {}", place.to), &large);
        }
        Ok(Some(all.digest()))
    }

    fn undone(&self) -> String {
        let names: Vec<String> = self
            .places
            .iter()
            .map(|place| match place.replaces {
                true => format!(
                    "{} is as it was unless {} is there, which then has the old data; {} may be dropped",
                    place.to, place.before, place.loading
                ),
                false => {
                    format!("{} was not there before; {} is unfinished and may be dropped", place.to, place.loading)
                }
            })
            .collect();
        names.join("; ")
    }

    fn proof(&self) -> Proof {
        let tables: usize = self.places.iter().map(|place| place.rows.len()).sum();
        let rows = self.places.iter().flat_map(|place| place.rows.values()).sum();
        Proof {
            counted: Some((rows, "rows")),
            checks: format!("the row counts of {tables} tables are those of the dump"),
        }
    }
}

/// One client that loads a database, beside others that load other ones.
struct Lane {
    server: Server,
    places: Vec<Place>,
    common: &'static str,
    current: Option<Loading>,
}

struct Loading {
    place: Place,
    scanner: Scanner,
    stage: Stage,
}

/// What a dump is given to. The client is another one after each `\connect`.
struct Stage {
    server: Server,
    place: Place,
    load: Option<Load>,
}

impl Stage {
    fn take(&mut self, piece: Piece<'_>) -> Result<(), Error> {
        match piece {
            Piece::Meta(line) => self.meta(line),
            Piece::Statement(text) => {
                let text = renamed(text, &self.place.from, &self.place.loading);
                self.write(&text)
            }
            Piece::Blank(bytes) | Piece::Part(bytes) | Piece::Rows(bytes) => self.write(bytes),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.load {
            Some(load) => load.write(bytes),
            None => Err(Error::Failed("the load had ended before".to_owned())),
        }
    }

    /// A command of the client's own. It is never given to a client.
    fn meta(&mut self, line: &[u8]) -> Result<(), Error> {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end();
        if line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ") {
            return Ok(());
        }
        if !line.starts_with("\\connect ") {
            let shown: String = line.chars().take(80).collect();
            return Err(Error::Refused(format!(
                "the dump of {} has a command for the client itself, which no dump needs: {shown:?}",
                self.place.from
            )));
        }
        if let Some(load) = self.load.take() {
            load.finish()?;
        }
        self.load = Some(self.server.load(&self.place.loading)?);
        Ok(())
    }
}

/// A statement about a database, with another name for it; any other as it is.
fn renamed(text: &[u8], from: &str, to: &str) -> Vec<u8> {
    const STARTS: [&str; 7] = [
        "CREATE DATABASE ",
        "ALTER DATABASE ",
        "COMMENT ON DATABASE ",
        "SECURITY LABEL ",
        "GRANT ",
        "REVOKE ",
        "ALTER ROLE ",
    ];
    let Ok(statement) = std::str::from_utf8(text) else { return text.to_vec() };
    if !STARTS.iter().any(|start| statement.starts_with(start)) {
        return text.to_vec();
    }
    let Some(at) = find_outside(statement, "DATABASE ") else { return text.to_vec() };
    let rest = &statement[at..];
    match name_end(rest).filter(|end| unquoted(&rest[..*end]) == from) {
        Some(end) => format!("{}{}{}", &statement[..at], quoted(to), &rest[end..]).into_bytes(),
        None => text.to_vec(),
    }
}

/// Where the word ends that stands outside of quotes.
fn find_outside(text: &str, word: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, _) if text[at..].starts_with(word) => return Some(at + word.len()),
            _ => {}
        }
    }
    None
}

impl Target for Lane {
    fn wants(&mut self, _: &Entry) -> Result<bool, Error> {
        Ok(true)
    }

    fn begin(&mut self, entry: &Entry) -> Result<(), Error> {
        let database = database_of(&entry.name);
        let Some(place) = self.places.iter().find(|place| Some(&place.from) == database.as_ref()).cloned() else {
            return Err(Error::Failed(format!("{} is no database of the dump", entry.name)));
        };
        let load = Some(self.server.load(self.common)?);
        let stage = Stage { server: self.server.clone(), place: place.clone(), load };
        self.current = Some(Loading { place, scanner: Scanner::default(), stage });
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(Loading { place, scanner, stage }) = &mut self.current else {
            return Err(Error::Failed("the load had ended before".to_owned()));
        };
        scanner.push(bytes, &mut |piece| stage.take(piece))?;
        match &scanner.suspicious {
            Some(why) => Err(Error::Refused(format!("the dump of {} is no plain dump of pg_dump: {why}", place.from))),
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), Error> {
        let Some(Loading { place, mut scanner, mut stage }) = self.current.take() else { return Ok(()) };
        scanner.finish(&mut |piece| stage.take(piece))?;
        check_whole(&place.from, &scanner)?;
        stage.load.take().map_or(Ok(()), Load::finish)
    }

    fn abandon(&mut self) {
        // The client is stopped at once; what it loaded lies aside.
        self.current = None;
    }

    fn finish(&mut self) -> Result<Vec<Warning>, Error> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_about_the_database_get_its_other_name() {
        let of = |text: &str| String::from_utf8(renamed(text.as_bytes(), "a b", "x")).unwrap();
        for (text, wanted) in [
            ("ALTER DATABASE \"a b\" OWNER TO app;", "ALTER DATABASE \"x\" OWNER TO app;"),
            ("GRANT ALL ON DATABASE \"a b\" TO app;", "GRANT ALL ON DATABASE \"x\" TO app;"),
            ("ALTER ROLE app IN DATABASE \"a b\" SET a TO 'b';", "ALTER ROLE app IN DATABASE \"x\" SET a TO 'b';"),
            ("ALTER DATABASE other SET a TO 'b';", "ALTER DATABASE other SET a TO 'b';"),
            ("COMMENT ON DATABASE \"a b\" IS 'DATABASE \"a b\"';", "COMMENT ON DATABASE \"x\" IS 'DATABASE \"a b\"';"),
            (
                "ALTER ROLE \"DATABASE \" IN DATABASE \"a b\" SET x;",
                "ALTER ROLE \"DATABASE \" IN DATABASE \"x\" SET x;",
            ),
            ("SELECT 'DATABASE \"a b\"';", "SELECT 'DATABASE \"a b\"';"),
        ] {
            assert_eq!(of(text), wanted);
        }
    }
}
