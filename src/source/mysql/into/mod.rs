//! The restore target of MySQL and MariaDB.
//!
//! Tables are loaded beside what is there, into `NAME_loading_TIME`, and their rows are counted. Only then one statement puts
//! them in place, and what stood there goes to `NAME_before_TIME`, where it stays until somebody drops it. Where nothing
//! stands in the way, tables are loaded in place.

mod accounts;
mod check;
mod checked;
mod compare;
mod define;
mod definitions;
mod filter;
mod keys;
mod loader;
mod naming;
mod swap;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use self::accounts::Account;
use self::checked::filter;
use self::definitions::Definitions;
use self::filter::{Scope, Step};
use self::loader::{Loaded, TableLoader};
use super::client::MysqlServerOptions;
use super::fingerprint::MysqlFingerprint;
use super::names::{DumpPart, ObjectKind, literal, quoted};
use super::server::MysqlServer;
use super::table::MysqlTable;
use crate::entry::{Entry, StreamName};
use crate::progress::Interrupt;
use crate::source::remains::{Remains, ServiceName};
use crate::source::{Contents, Error, Plan, Proof, RestoreTarget, RestoreTargetOptions, Target, names};
use crate::warning::Warning;

/// One database that is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DatabaseTarget {
    /// Its name in the dump.
    from: String,
    /// Its name on the server.
    to: String,
    /// Where its tables are loaded.
    loading: String,
    /// The chosen tables; None: all.
    tables: Option<Vec<String>>,
    /// Whether something stands where it goes to.
    is_taken: bool,
    /// Whether nothing stands there but what an earlier restore has begun.
    is_own: bool,
}

impl DatabaseTarget {
    /// Where the statements of a part of its tables go.
    fn scope<'s>(&'s self, part: &'s DumpPart, folds: bool) -> Scope<'s> {
        Scope { part, from: &self.from, to: &self.loading, home: &self.to, folds }
    }

    fn before(&self, stamp: &str) -> String {
        aside(&self.to, "before", stamp)
    }

    /// Whether its tables are loaded under another name than its own.
    fn replaces(&self) -> bool {
        self.loading != self.to
    }

    /// Where it goes to, as one name.
    fn target(&self) -> String {
        match &self.tables {
            None => quoted(&self.to),
            Some(tables) => {
                let names: Vec<String> =
                    tables.iter().map(|table| format!("{}.{}", quoted(&self.to), quoted(table))).collect();
                names.join(", ")
            }
        }
    }

    fn takes(&self, database: &str, table: &str) -> bool {
        let meant = |tables: &Vec<String>| tables.iter().any(|name| name == table);
        self.from == database && self.tables.as_ref().is_none_or(meant)
    }
}

/// The most bytes of a name; a server takes as many characters.
const NAME: usize = 64;

/// A name beside `name`, no longer than a server takes.
fn aside(name: &str, mark: &str, stamp: &str) -> String {
    names::aside(name, mark, stamp, NAME)
}

/// A server that a dump goes back into.
pub struct MysqlTarget {
    server: MysqlServer,
    options: RestoreTargetOptions,
    places: Vec<DatabaseTarget>,
    definitions: Definitions,
    /// Rows that each table must have, by database and table of the dump.
    rows: BTreeMap<(String, String), u64>,
    warnings: Vec<Warning>,
    /// The accounts that were there before.
    accounts_before: BTreeSet<Account>,
    loaded: Arc<Mutex<Loaded>>,
    /// Whether the server compares names of databases and tables without regard to case.
    folds: bool,
    /// What tells this server from others.
    identity: String,
    /// What an earlier restore has left.
    unfinished: Remains,
    /// Whether nothing will be written.
    looks_only: bool,
}

impl MysqlTarget {
    /// Finds the server.
    ///
    /// # Errors
    /// As [`MysqlServer::connect`].
    pub fn connect(
        server: &MysqlServerOptions,
        options: RestoreTargetOptions,
        interrupt: &Interrupt,
    ) -> Result<Self, Error> {
        let mut server = MysqlServer::connect(server, interrupt)?;
        server.set_apart()?;
        server.find_number()?;
        let folds = server.value("SELECT @@lower_case_table_names")? != "0";
        let identity = server.value("SELECT CONCAT_WS(' ', @@hostname, @@port, @@datadir)")?;
        Ok(Self {
            server,
            options,
            places: Vec::new(),
            definitions: Definitions::default(),
            rows: BTreeMap::new(),
            warnings: Vec::new(),
            accounts_before: BTreeSet::new(),
            loaded: Arc::default(),
            folds,
            identity,
            unfinished: Remains::default(),
            looks_only: false,
        })
    }

    /// The part that an entry is, where its database is restored.
    fn part(&self, name: &StreamName) -> Option<DumpPart> {
        let part = DumpPart::of(name)?;
        let meant = match &part {
            DumpPart::Object(database, object, ObjectKind::Table | ObjectKind::Triggers) => {
                self.places.iter().any(|place| place.takes(database, object))
            }
            other => other
                .database()
                .is_some_and(|name| self.places.iter().any(|place| place.from == name && place.tables.is_none())),
        };
        meant.then_some(part)
    }

    /// Whether a definition is loaded into a place.
    fn loads(&self, place: &DatabaseTarget, part: &DumpPart) -> bool {
        match part {
            DumpPart::Object(_, table, ObjectKind::Triggers) => place.takes(&place.from, table),
            DumpPart::Object(_, _, ObjectKind::Table) => false,
            DumpPart::Preamble | DumpPart::Postamble | DumpPart::Users => false,
            DumpPart::Database(_) | DumpPart::Use(_) => true,
            DumpPart::Object(..) | DumpPart::Events(_) | DumpPart::Routines(_) => place.tables.is_none(),
        }
    }

    /// What the loaders have made, by database of the dump.
    fn tables_made(&self) -> Vec<(String, Step)> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).made.clone()
    }

    /// Whether a table could not be loaded, and was named.
    fn has_failed(&self, database: &str, table: &str) -> bool {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.failed.contains(&(database.to_owned(), table.to_owned()))
    }

    fn place(&self, database: &str) -> Option<&DatabaseTarget> {
        self.places.iter().find(|place| place.from == database)
    }
}

impl RestoreTarget for MysqlTarget {
    fn is_definition(&self, entry: &Entry) -> bool {
        DumpPart::of(&entry.name).is_some_and(|part| !matches!(part, DumpPart::Object(_, _, ObjectKind::Table)))
    }

    fn plan(&mut self, contents: Contents<'_>) -> Result<Plan, Error> {
        let Contents { entries, definitions, facts, unfinished, looks_only } = contents;
        self.definitions = Definitions::new(definitions);
        (self.unfinished, self.looks_only) = (unfinished, looks_only);
        self.check_server(facts)?;
        self.find_places(entries)?;
        self.check_engines(facts)?;
        self.find_rows(entries, facts)?;
        self.check_names()?;
        self.check_statements()?;
        self.check_definers()?;
        let mut plan = self.described(entries);
        plan.lines.extend(self.accounts_described()?);
        plan.lines.extend(self.check_free_space(plan.bytes)?);
        Ok(plan)
    }

    fn remains(&self) -> Remains {
        let name = |name: String| ServiceName { server: self.identity.clone(), name };
        let own = || self.places.iter().filter(|place| place.is_own);
        let loading = self.places.iter().filter(|place| place.replaces()).map(|place| place.loading.clone());
        // What stands under the name of such a place is put aside like what somebody else has made.
        let before = own().filter(|place| place.is_taken).map(|place| place.before(&self.options.stamp));
        Remains {
            targets: own().map(|place| name(place.target())).collect(),
            leftovers: loading.chain(before).map(name).collect(),
        }
    }

    fn still_there(&self, leftovers: &[ServiceName]) -> Result<Vec<String>, Error> {
        let there = self.databases()?;
        let is_there = |left: &&ServiceName| left.server == self.identity && there.contains(&left.name);
        let line = |left: &ServiceName| names::leftover(&left.name, &format!("DROP DATABASE {}", quoted(&left.name)));
        Ok(leftovers.iter().filter(is_there).map(line).collect())
    }

    fn takes(&self, entry: &Entry) -> bool {
        matches!(self.part(&entry.name), Some(DumpPart::Object(_, _, ObjectKind::Table)))
    }

    /// Databases, users, and the sequences, which tables may name.
    fn prepare(&mut self) -> Result<(), Error> {
        self.make_accounts()?;
        for place in &self.places {
            let mut create = self.definitions.create(filter(&self.server), &place.from, &place.loading)?;
            if place.replaces() && place.tables.is_none() {
                create += &self.definitions.create(filter(&self.server), &place.from, &place.to)?;
            }
            self.server.run(&create)?;
        }
        let mut load = self.checked()?;
        let mut named = String::new();
        for place in self.places.iter().filter(|place| place.tables.is_none()) {
            let sequences =
                self.definitions.of(&place.from, |part| matches!(part, DumpPart::Object(_, _, ObjectKind::Sequence)));
            for (part, text) in &sequences {
                load.enter(&place.loading)?;
                load.part(&place.scope(part, self.folds), text)?;
                // A column's default names its sequence with the database.
                if let (true, DumpPart::Object(_, name, _)) = (place.replaces(), part) {
                    named += &format!("CREATE SEQUENCE IF NOT EXISTS {}.{};\n", quoted(&place.to), quoted(name));
                }
            }
        }
        load.finish()?;
        if named.is_empty() { Ok(()) } else { self.server.run(&named) }
    }

    fn loader(&self) -> Result<Box<dyn Target + Send>, Error> {
        Ok(Box::new(TableLoader::new(self)?))
    }

    fn verify(&mut self) -> Result<Proof, Error> {
        self.count_rows()?;
        let (tables, rows) = (self.rows.len(), self.rows.values().sum());
        Ok(Proof {
            counted: Some((rows, "rows")),
            checks: format!("the row counts of {tables} tables are those of the dump"),
        })
    }

    fn commit(&mut self, _: &Proof) -> Result<Vec<Warning>, Error> {
        let places = self.places.clone();
        let mut kept = Vec::new();
        for place in places.iter().filter(|place| place.replaces()) {
            kept.push((place, self.keep_definitions(place)?));
            self.swap(place)?;
        }
        // Over all databases: one may name what another has.
        let defined = self.define()?;
        for (place, kept) in &kept {
            self.lead_back(&place.before(&self.options.stamp), &place.to)?;
            self.lead_back(&place.loading, &place.to)?;
            self.server.run(&format!("DROP DATABASE IF EXISTS {}", quoted(&place.loading)))?;
            self.settle_old(place, kept)?;
        }
        self.grant()?;
        let differences = self.compare(&defined)?;
        self.warnings.extend(differences);
        Ok(std::mem::take(&mut self.warnings))
    }

    /// Where nothing stood under a name, an empty database that was there goes, too.
    fn discard(&mut self) -> Result<(), Error> {
        // Where nothing stood, the tables were loaded under the name itself.
        for place in self.places.iter().filter(|place| place.replaces() || !place.is_taken) {
            self.server.run(&format!("DROP DATABASE IF EXISTS {}", quoted(&place.loading)))?;
        }
        Ok(())
    }

    fn standing(&self) -> Result<Option<String>, Error> {
        let databases: Vec<String> = self.places.iter().map(|place| place.to.clone()).collect();
        let mut found = MysqlFingerprint::take(&self.server, &databases, &[], &[])?;
        let with_rows = |table: &&MysqlTable| matches!(table.kind.as_str(), "BASE TABLE" | "SYSTEM VERSIONED");
        let tables: Vec<String> = found
            .tables
            .iter()
            .filter(with_rows)
            .map(|table| format!("{}.{}", quoted(&table.database), quoted(&table.name)))
            .collect();
        if !tables.is_empty() {
            for row in self.server.ask(&format!("CHECKSUM TABLE {}", tables.join(", ")))? {
                if let [table, sum] = row.as_slice() {
                    found.objects.note(format!("rows {table}"), sum);
                }
            }
        }
        for table in found.tables.iter().filter(|table| table.kind == "SYSTEM VERSIONED") {
            let name = format!("{}.{}", quoted(&table.database), quoted(&table.name));
            let rows = self.server.value(&format!("SELECT COUNT(*) FROM {name} FOR SYSTEM_TIME ALL"))?;
            found.objects.note(format!("history of {name}"), &rows);
        }
        for table in found.tables.iter().filter(|table| table.kind == "SEQUENCE") {
            let name = format!("{}.{}", quoted(&table.database), quoted(&table.name));
            let next = self.server.value(&format!("SELECT next_not_cached_value FROM {name}"))?;
            found.objects.note(format!("next of {name}"), &next);
        }
        for database in &databases {
            let granted = "SELECT User, Host FROM mysql.db WHERE REPLACE(Db, '\\\\', '') = ";
            for row in self.server.ask(&format!("{granted}{}", literal(database)))? {
                found.objects.note(format!("account {database} {}", row.join("@")), "");
            }
        }
        Ok(Some(found.objects.digest()))
    }

    fn undone(&self) -> String {
        let names: Vec<String> = self
            .places
            .iter()
            .map(|place| match place.replaces() {
                true => format!(
                    "{} is as it was unless {} is there, which then has the old data; what was loaded goes by DROP DATABASE IF \
                     EXISTS {}",
                    place.to,
                    place.before(&self.options.stamp),
                    quoted(&place.loading)
                ),
                false => format!(
                    "{} was not there before, and is unfinished: the same restore goes on with it; or it goes by DROP DATABASE \
                     IF EXISTS {}",
                    place.to,
                    quoted(&place.to)
                ),
            })
            .collect();
        names.join("; ")
    }
}
