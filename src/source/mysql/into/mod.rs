//! The way back into a server that runs.
//!
//! Tables are loaded beside what is there, into `NAME_loading_TIME`, and their rows are counted. Only then one statement puts
//! them in place, and what stood there goes to `NAME_before_TIME`, where it stays until somebody drops it. Where nothing
//! stands in the way, tables are loaded in place.

mod check;
mod definitions;
mod keys;
mod lane;
mod swap;

use std::collections::BTreeMap;

use self::definitions::Definitions;
use self::lane::Lane;
use super::fingerprint::{Fingerprint, Table};
use super::names::{Kind, Part, quoted};
use super::server::{Server, ServerOptions};
use crate::entry::{Entry, StreamName};
use crate::progress::Interrupt;
use crate::source::{Error, IntoOptions, Plan, Proof, Service, Target, names};
use crate::warning::Warning;

/// One database that is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// Its name in the dump.
    from: String,
    /// Its name on the server.
    to: String,
    /// Where its tables are loaded.
    loading: String,
    /// The table, where it is one alone.
    tables: Option<Vec<String>>,
}

impl Place {
    fn before(&self, stamp: &str) -> String {
        aside(&self.to, "before", stamp)
    }

    /// Whether something stands where it goes to.
    fn replaces(&self) -> bool {
        self.loading != self.to
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
    server: Server,
    options: IntoOptions,
    places: Vec<Place>,
    definitions: Definitions,
    /// Rows that each table must have, by database and table of the dump.
    rows: BTreeMap<(String, String), u64>,
    warnings: Vec<Warning>,
}

impl MysqlTarget {
    /// Finds the server.
    ///
    /// # Errors
    /// As [`Server::connect`].
    pub fn connect(server: &ServerOptions, options: IntoOptions, interrupt: &Interrupt) -> Result<Self, Error> {
        let server = Server::connect(server, interrupt)?;
        Ok(Self {
            server,
            options,
            places: Vec::new(),
            definitions: Definitions::default(),
            rows: BTreeMap::new(),
            warnings: Vec::new(),
        })
    }

    /// The part that an entry is, where its database is restored.
    fn part(&self, name: &StreamName) -> Option<Part> {
        let part = Part::of(name)?;
        let meant = match &part {
            Part::Object(database, object, Kind::Table | Kind::Triggers) => {
                self.places.iter().any(|place| place.takes(database, object))
            }
            other => other
                .database()
                .is_some_and(|name| self.places.iter().any(|place| place.from == name && place.tables.is_none())),
        };
        meant.then_some(part)
    }

    fn place(&self, database: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.from == database)
    }
}

impl Service for MysqlTarget {
    fn is_definition(&self, entry: &Entry) -> bool {
        Part::of(&entry.name).is_some_and(|part| !matches!(part, Part::Object(_, _, Kind::Table)))
    }

    fn plan(
        &mut self,
        entries: &[Entry],
        definitions: Vec<(StreamName, Vec<u8>)>,
        facts: &[(String, String)],
    ) -> Result<Plan, Error> {
        self.definitions = Definitions::new(definitions);
        self.check_server(facts)?;
        self.find_places(entries)?;
        self.find_rows(entries, facts)?;
        self.check_names()?;
        self.check_definers()?;
        let mut plan = self.described(entries);
        plan.lines.extend(self.check_room(plan.bytes)?);
        Ok(plan)
    }

    fn takes(&self, entry: &Entry) -> bool {
        matches!(self.part(&entry.name), Some(Part::Object(_, _, Kind::Table)))
    }

    /// Databases, users, and the sequences, which tables may name.
    fn open(&mut self) -> Result<(), Error> {
        self.definitions.make_users(&self.server, &mut self.warnings)?;
        let mut load = self.server.load(None)?;
        for place in &self.places {
            let create = self.definitions.create(&place.from, &place.loading);
            load.write(create.as_bytes())?;
            if place.replaces() && place.tables.is_none() {
                load.write(self.definitions.create(&place.from, &place.to).as_bytes())?;
            }
        }
        load.finish()?;
        let mut load = self.server.load(None)?;
        load.write(self.definitions.preamble())?;
        for place in self.places.iter().filter(|place| place.tables.is_none()) {
            let sequences = self.definitions.of(&place.from, |part| matches!(part, Part::Object(_, _, Kind::Sequence)));
            load.write(format!("USE {};\n", quoted(&place.loading)).as_bytes())?;
            for (part, text) in &sequences {
                load.write(text)?;
                // A column's default names its sequence with the database.
                if let (true, Part::Object(_, name, _)) = (place.replaces(), part) {
                    let make = format!("CREATE SEQUENCE IF NOT EXISTS {}.{};\n", quoted(&place.to), quoted(name));
                    load.write(make.as_bytes())?;
                }
            }
        }
        load.write(self.definitions.postamble())?;
        load.finish()
    }

    fn lane(&self) -> Result<Box<dyn Target + Send>, Error> {
        Ok(Box::new(Lane::new(self)?))
    }

    fn finish(&mut self) -> Result<Vec<Warning>, Error> {
        self.count_rows()?;
        for place in self.places.clone() {
            self.put_in_place(&place)?;
        }
        Ok(std::mem::take(&mut self.warnings))
    }

    fn standing(&self) -> Result<Option<String>, Error> {
        let databases: Vec<String> = self.places.iter().map(|place| place.to.clone()).collect();
        let mut found = Fingerprint::take(&self.server, &databases, &[], &[])?;
        let with_rows = |table: &&Table| matches!(table.kind.as_str(), "BASE TABLE" | "SYSTEM VERSIONED");
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
        Ok(Some(found.objects.digest()))
    }

    fn undone(&self) -> String {
        let names: Vec<String> = self
            .places
            .iter()
            .map(|place| match place.replaces() {
                true => format!(
                    "{} is as it was unless {} is there, which then has the old data; {} may be dropped",
                    place.to,
                    place.before(&self.options.stamp),
                    place.loading
                ),
                false => format!("{} was not there before, and is unfinished", place.to),
            })
            .collect();
        names.join("; ")
    }

    fn proof(&self) -> Proof {
        let (tables, rows) = (self.rows.len(), self.rows.values().sum());
        Proof {
            counted: Some((rows, "rows")),
            checks: format!("the row counts of {tables} tables are those of the dump"),
        }
    }
}
