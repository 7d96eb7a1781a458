//! What is looked at before anything is written, and what is counted after all was loaded.

use std::collections::BTreeSet;
use std::path::Path;

use super::{DatabaseTarget, MysqlTarget, NAME, aside};
use crate::entry::{Entry, Escaped, Untrusted};
use crate::facts::Facts;
use crate::source::mysql::names::{DumpPart, ObjectKind, literal, quoted};
use crate::source::mysql::program::series;
use crate::source::names::free_stamp;
use crate::source::{Error, Plan, free_space};
use crate::warning::WarningKind;

impl MysqlTarget {
    /// Whether the server takes what the other wrote.
    pub(super) fn check_server(&self, facts: &Facts) -> Result<(), Error> {
        let here = self.server.vendor.name();
        let version = &self.server.version;
        match &facts.server {
            Some(there) if *there != *here => {
                return Err(Error::Refused(format!(
                    "the dump is of {there}, and this server is {here} {version}: their dumps don't fit each other; restore \
                     it into a server of {there}, or to files with --to"
                )));
            }
            _ => {}
        }
        if facts.settings.is_some() {
            return Err(Error::Refused(
                "the snapshot has several dumps with different session settings, so none fits them all; restore it to files \
                 with --to, and load each by itself"
                    .to_owned(),
            ));
        }
        if let Some(there) = &facts.server_version
            && series(there.raw()) > self.server.series()
        {
            return Err(Error::Refused(format!(
                "the dump is of version {there}, and this server is older: {version}; upgrade it first"
            )));
        }
        let longest = facts.longest_statement.unwrap_or(0);
        let most: u64 = self.server.value("SELECT @@max_allowed_packet")?.parse().unwrap_or(u64::MAX);
        if longest > most {
            return Err(Error::Refused(format!(
                "the longest statement of the dump has {longest} bytes, and the server takes at most {most}; run SET GLOBAL \
                 max_allowed_packet = {}; there first",
                longest.next_multiple_of(1 << 20)
            )));
        }
        Ok(())
    }

    /// Whether the server has the engines of the tables, where the snapshot says which ones those are. A server would make
    /// the tables with its default engine, or not at all.
    pub(super) fn check_engines(&self, facts: &Facts) -> Result<(), Error> {
        let Some(wanted) = &facts.engines else { return Ok(()) };
        let here: BTreeSet<String> = self
            .server
            .ask("SELECT ENGINE FROM information_schema.ENGINES WHERE SUPPORT IN ('YES', 'DEFAULT')")?
            .into_iter()
            .flatten()
            .map(|name| name.to_ascii_lowercase())
            .collect();
        let lacks: Vec<String> = wanted
            .0
            .iter()
            .filter(|engine| !here.contains(&engine.raw().to_ascii_lowercase()))
            .map(Untrusted::to_string)
            .collect();
        if lacks.is_empty() || self.options.keep_going {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "tables of the dump have an engine that this server lacks: {}; install it there (INSTALL SONAME 'ha_…'), leave the \
             tables out with --only, or restore the rest with --keep-going",
            lacks.join(", ")
        )))
    }

    /// The databases and tables that are meant, and where each goes.
    pub(super) fn find_places(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let mut wanted: Vec<(String, Option<Vec<String>>)> = Vec::new();
        let tables: BTreeSet<(String, String)> = entries.iter().filter_map(table_of).collect();
        let mut databases = self.definitions.databases();
        // A dump that was made without --databases doesn't make its database.
        for (database, _) in &tables {
            if !databases.contains(database) {
                databases.push(database.clone());
            }
        }
        for word in &self.options.only {
            let (database, table) = match databases.contains(word) {
                true => (word.clone(), None),
                false => match word.split_once('/') {
                    Some((database, table)) => (database.to_owned(), Some(table.to_owned())),
                    None => (word.clone(), None),
                },
            };
            let there = match &table {
                None => databases.contains(&database),
                Some(table) => tables.contains(&(database.clone(), table.clone())),
            };
            if !there {
                return Err(Error::Config(format!(
                    "the snapshot has no {word}; it has the databases {}, and a table is named as database/table",
                    databases.join(", ")
                )));
            }
            match (wanted.iter_mut().find(|(known, _)| *known == database), table) {
                (Some((_, Some(list))), Some(table)) => list.push(table),
                (Some((_, list)), None) => *list = None,
                (Some(_), Some(_)) => {}
                (None, table) => wanted.push((database, table.map(|table| vec![table]))),
            }
        }
        if self.options.only.is_empty() {
            wanted = databases.into_iter().map(|name| (name, None)).collect();
        }
        if wanted.is_empty() {
            return Err(Error::Config(
                "the snapshot names no database, so it isn't known where its tables go".to_owned(),
            ));
        }
        if let Some(name) = &self.options.name {
            check_name(name)?;
        }
        let names: Vec<&String> = self.options.name.iter().chain(wanted.iter().map(|(from, _)| from)).collect();
        self.options.stamp = self.free_stamp(&names)?;
        for (from, tables) in wanted {
            let to = self.options.name.clone().unwrap_or_else(|| from.clone());
            let loading = match tables.is_some() || self.stands(&to)? {
                true => aside(&to, "loading", &self.options.stamp),
                false => to.clone(),
            };
            let mut place = DatabaseTarget { from, to, loading, tables, is_taken: false, is_own: false };
            place.is_taken = self.is_taken(&place)?;
            place.is_own = !place.is_taken || self.unfinished.has_target(&self.identity, &place.target());
            self.places.push(place);
        }
        Ok(())
    }

    /// The first time from the restore's own on by which no database beside these is named.
    fn free_stamp(&self, names: &[&String]) -> Result<String, Error> {
        free_stamp(&self.options.stamp, names, &self.databases()?, NAME)
    }

    /// The names of all databases.
    pub(super) fn databases(&self) -> Result<BTreeSet<String>, Error> {
        let names = self.server.ask("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")?;
        Ok(names.into_iter().flatten().collect())
    }

    /// Whether something stands where it goes to.
    fn is_taken(&self, place: &DatabaseTarget) -> Result<bool, Error> {
        match &place.tables {
            None => Ok(place.replaces()),
            Some(tables) => self.any_table(&place.to, tables),
        }
    }

    /// Whether a database has anything in it.
    fn stands(&self, name: &str) -> Result<bool, Error> {
        let name = literal(name);
        let count = self.server.value(&format!(
            "SELECT (SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = {name}) + (SELECT COUNT(*) FROM \
             information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {name}) + (SELECT COUNT(*) FROM information_schema.EVENTS \
             WHERE EVENT_SCHEMA = {name})"
        ))?;
        Ok(count != "0")
    }

    /// The rows that each table has to have.
    pub(super) fn find_rows(&mut self, entries: &[Entry], facts: &Facts) -> Result<(), Error> {
        for entry in entries {
            let Some((database, table)) = table_of(entry) else { continue };
            if !self.places.iter().any(|place| place.takes(&database, &table)) {
                continue;
            }
            let stream = DumpPart::Object(database.clone(), table.clone(), ObjectKind::Table).name();
            let rows = facts.rows_of.get(&stream.into()).copied();
            let rows = rows.ok_or_else(|| {
                Error::Failed(format!(
                    "the snapshot doesn't say how many rows {database}.{table} has, so a load can't be proven"
                ))
            })?;
            self.rows.insert((database, table), rows);
        }
        Ok(())
    }

    /// Whether the names are free, or may be replaced; and whether another name is possible.
    pub(super) fn check_names(&self) -> Result<(), Error> {
        if let Some(name) = &self.options.name {
            let [_] = self.places.as_slice() else {
                return Err(Error::Config(format!(
                    "the snapshot has {} databases, and :{name} names one; choose one with --only",
                    self.places.len()
                )));
            };
        }
        for place in &self.places {
            if place.tables.is_some() && !self.has_database(&place.to)? {
                return Err(Error::Refused(format!(
                    "the server has no database {}, which the table belongs to; restore the whole database",
                    place.to
                )));
            }
            let what = match &place.tables {
                None => place.to.clone(),
                Some(tables) => format!("{}/{}", place.to, tables.join(",")),
            };
            let may = place.is_own || self.looks_only;
            if !may && !self.options.may_replace(&place.to) && !self.options.may_replace(&what) {
                return Err(Error::Refused(format!(
                    "{what} is there already; --replace {} --reason TEXT puts what is there aside, into {}, and the restored \
                     data in its place",
                    place.to,
                    place.before(&self.options.stamp)
                )));
            }
        }
        Ok(())
    }

    fn any_table(&self, database: &str, tables: &[String]) -> Result<bool, Error> {
        let names: Vec<String> = tables.iter().map(|name| literal(name)).collect();
        let count = self.server.value(&format!(
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME IN ({})",
            literal(database),
            names.join(", ")
        ))?;
        Ok(count != "0")
    }

    fn has_database(&self, name: &str) -> Result<bool, Error> {
        let question =
            format!("SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}", literal(name));
        Ok(self.server.value(&question)? != "0")
    }

    /// Whether each account that something runs as is there, or will be made.
    pub(super) fn check_definers(&mut self) -> Result<(), Error> {
        let databases: Vec<String> = self.places.iter().map(|place| place.from.clone()).collect();
        let made = self.accounts();
        for account in self.definitions.definers(&databases) {
            let question = format!(
                "SELECT COUNT(*) FROM mysql.user WHERE User = {} AND Host = {}",
                literal(&account.user),
                literal(&account.host)
            );
            if !made.contains(&account) && self.server.value(&question)? == "0" {
                self.warnings.push(WarningKind::Accounts.warning(format!(
                    "the account {account} isn't there, and what runs as it (a view, routine, trigger or event) will fail until \
                     it is made"
                )));
            }
        }
        Ok(())
    }

    /// A line about a server that takes no table without a primary key, or makes one itself, where this account can't do without.
    fn keys_wanted(&self) -> Option<String> {
        const WANTED: &str = "SHOW VARIABLES WHERE Variable_name IN ('sql_require_primary_key', \
                              'sql_generate_invisible_primary_key') AND Value = 'ON'";
        if self.server.may_be_lenient {
            return None;
        }
        let on: Vec<String> =
            self.server.ask(WANTED).ok()?.into_iter().filter_map(|row| row.into_iter().next()).collect();
        (!on.is_empty()).then(|| {
            format!(
                "{} is on there, so a table without a primary key can't be loaded as it was; an account with \
                 SESSION_VARIABLES_ADMIN turns it off for the restore",
                on.join(" and ")
            )
        })
    }

    /// What will be done, for people.
    pub(super) fn described(&self, entries: &[Entry]) -> Plan {
        let mut plan = Plan::default();
        let bytes: u64 = entries.iter().filter(|entry| self.part(&entry.name).is_some()).map(|entry| entry.size).sum();
        plan.lines.push(format!("the server is {} {}", self.server.vendor.name(), self.server.version));
        plan.lines.extend(self.keys_wanted());
        for place in &self.places {
            let tables = self.rows.keys().filter(|(database, table)| place.takes(database, table)).count();
            let what = match &place.tables {
                None => format!("the database {} with {tables} tables", place.from),
                Some(tables) => format!("the table {}.{}", place.from, tables.join(", ")),
            };
            plan.lines.push(match place.replaces() {
                true if place.is_own && place.tables.is_none() => format!(
                    "{what} goes to {}; what stands there is of a restore that didn't end, and is put aside as {}",
                    place.to,
                    place.before(&self.options.stamp)
                ),
                true => format!(
                    "{what} goes to {}; what stands there is put aside as {} and stays until you drop it",
                    place.to,
                    place.before(&self.options.stamp)
                ),
                false => format!("{what} goes to {}, where nothing is", place.to),
            });
            // A table that isn't there yet is loaded beside its database, too, and that asks for a reason as ever.
            if place.replaces() && !(place.is_own && place.tables.is_none()) {
                plan.replaces.push(place.to.clone());
            }
        }
        plan.bytes = bytes;
        plan
    }

    /// Whether what is loaded fits, where the server keeps its data on this machine; a line about it.
    pub(super) fn check_free_space(&self, bytes: u64) -> Result<Option<String>, Error> {
        let rows = self.server.ask("SELECT @@hostname, @@datadir, @@log_bin")?;
        let here = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let (Some([host, folder, log]), false) = (rows.first().map(Vec::as_slice), self.server.is_elsewhere()) else {
            return Ok(None);
        };
        // The binary log takes each statement once more.
        let bytes = if log == "1" { bytes.saturating_mul(2) } else { bytes };
        if *host == here { free_space::beside(Path::new(folder), bytes) } else { Ok(None) }
    }

    /// Each table has as many rows as the dump has.
    pub(super) fn count_rows(&mut self) -> Result<(), Error> {
        // One database a question: for several the server opens the tables of all, and waits for a statement on any of them.
        let special = |place: &DatabaseTarget| {
            format!(
                "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, IFNULL(ENGINE, '') FROM information_schema.TABLES WHERE \
                 TABLE_SCHEMA = {} AND (TABLE_TYPE = 'SYSTEM VERSIONED' OR ENGINE IN ('OQGRAPH', 'MRG_MyISAM', 'FEDERATED', \
                 'BLACKHOLE', 'CONNECT', 'SPIDER', 'SEQUENCE', 'SPHINX', 'MROONGA', 'S3'));\n",
                literal(&place.loading)
            )
        };
        let kinds = self.server.ask(&self.places.iter().map(special).collect::<String>())?;
        let mut tables = Vec::new();
        let mut question = String::new();
        for ((database, table), rows) in &self.rows {
            let Some(place) = self.place(database) else { continue };
            if self.has_failed(database, table) {
                continue;
            }
            let kind = kinds.iter().find(|row| row[..2] == [place.loading.as_str(), table.as_str()]);
            let is_versioned = kind.is_some_and(|row| row[2] == "SYSTEM VERSIONED");
            // The rows are those of other tables, or of another server: a dump has none of them.
            if kind.is_some() && !is_versioned {
                continue;
            }
            let history = if is_versioned { " FOR SYSTEM_TIME ALL" } else { "" };
            question += &format!("SELECT COUNT(*) FROM {}.{}{history};\n", quoted(&place.loading), quoted(table));
            tables.push((database, table, rows));
        }
        let counted: Vec<String> = self.server.ask(&question)?.into_iter().flatten().collect();
        for ((database, table, rows), counted) in tables.into_iter().zip(counted) {
            if counted == rows.to_string() {
                continue;
            }
            let text = format!("{database}.{table} has {counted} rows after the load, and {rows} in the dump");
            match self.options.keep_going {
                true => self.warnings.push(WarningKind::NotRestored.warning(text)),
                false => return Err(Error::Failed(text)),
            }
        }
        Ok(())
    }
}

/// Whether a server takes a database of that name.
fn check_name(name: &str) -> Result<(), Error> {
    let why = match () {
        () if name.chars().count() > NAME => "is longer than 64 characters",
        () if name.ends_with(' ') => "ends with a space",
        () if name.chars().any(|c| c == '\0' || u32::from(c) > 0xffff) => "has a character that a name can't have",
        () => return Ok(()),
    };
    Err(Error::Config(format!("{} can't be the name of a database: it {why}", Escaped(name.as_bytes()))))
}

fn table_of(entry: &Entry) -> Option<(String, String)> {
    match DumpPart::of(&entry.name)? {
        DumpPart::Object(database, table, ObjectKind::Table) => Some((database, table)),
        _ => None,
    }
}
