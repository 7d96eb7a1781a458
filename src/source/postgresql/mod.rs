//! The source `postgresql`: databases of a PostgreSQL server, by the server's own programs.
//!
//! Each database is one stream, a plain dump that creates the database itself, and the roles are another. A dump counts
//! as complete only if the program ended well, the dump ends with its completion line ([`scan`]), the account may see
//! everything ([`grants`]), and no object was replaced in the meantime ([`fingerprint`]).

pub mod checkup;
mod compare;
pub mod external;
pub mod fingerprint;
pub mod globals;
pub mod grants;
pub mod into;
mod kinds;
mod load;
mod login;
mod role;
mod said;
pub mod scan;
pub mod server;
mod session;
mod settings;
mod standing;
mod text;
mod tokens;
mod views;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{Cursor, Read};
use std::sync::Arc;
use std::time::Duration;

use self::fingerprint::{PostgresqlFingerprint, PostgresqlTable};
use self::kinds::{StatementKind, kind};
use self::scan::{DumpPiece, Scanner};
use self::server::{COMMON, PostgresqlServer, PostgresqlServerOptions, TEMPLATE};
use super::command::{CommandOptions, CommandSource};
use super::names::{escape, is_aside, unescape};
use super::reading::CurrentStream;
use super::{Databases, Error, Finished, Source};
use crate::entry::{Entry, StreamName};
use crate::facts::Facts;
use crate::progress::{Interrupt, Progress};
use crate::time::{Clock, SystemClock, Timestamp};
use crate::warning::{Warning, WarningKind};

/// The data to be dumped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresqlOptions {
    /// Which databases.
    pub databases: Databases,
    /// `schema.table` that are left out.
    pub exclude_tables: Vec<String>,
    /// `schema.table` whose rows are left out.
    pub schema_only_tables: Vec<String>,
    /// How long the dump program may write nothing.
    pub stall_limit: Duration,
    /// The server.
    pub server: PostgresqlServerOptions,
}

/// Roles, their memberships and settings.
pub const GLOBALS: &str = "@globals.sql";
/// The word without which a dump would end with another line every day.
const KEY: &str = "varu";

/// How long a dump waits for a table that somebody has locked, in ms.
const LOCK_WAIT: &str = "--lock-wait-timeout=900000";

/// The first of some names, and how many more there are.
fn some_of(names: &[String]) -> String {
    let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(5);
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// The stream of a database.
fn stream_of(database: &str) -> String {
    format!("{}.sql", escape(database))
}

/// The database that a stream is of; None if it is none of a dump's.
fn database_of(name: &StreamName) -> Option<String> {
    let name = std::str::from_utf8(name.as_bytes()).ok()?;
    unescape(name.strip_suffix(".sql")?)
}

/// Dumps, one database after the other.
pub struct PostgresqlSource {
    server: PostgresqlServer,
    options: PostgresqlOptions,
    restrict_key: bool,
    databases: VecDeque<String>,
    globals: Option<Vec<u8>>,
    current: Option<CurrentDatabase>,
    reading: CurrentStream,
    data_time: Timestamp,
    facts: Facts,
    rows: u64,
    progress: Arc<dyn Progress>,
    interrupt: Interrupt,
    warnings: Vec<Warning>,
}

enum CurrentDatabase {
    Globals(Cursor<Vec<u8>>),
    Dump(Box<DatabaseDump>),
}

/// One database as it is dumped.
struct DatabaseDump {
    database: String,
    command: CommandSource,
    scanner: Scanner,
    /// The reason for which a restore would refuse it.
    unfit: Option<&'static str>,
    before: PostgresqlFingerprint,
}

impl PostgresqlSource {
    /// Looks at the server and judges the account's grants.
    ///
    /// # Errors
    /// [`Error::Config`] if a program or a grant is missing, [`Error::Failed`] if the server doesn't answer.
    pub fn new(
        options: &PostgresqlOptions,
        clock: &dyn Clock,
        progress: Arc<dyn Progress>,
        interrupt: Interrupt,
    ) -> Result<Self, Error> {
        let server = PostgresqlServer::connect(&options.server, &interrupt)?;
        let restrict_key = check_program(&server)?.contains("--restrict-key");
        let databases = databases(&server, &options.databases)?;
        for database in &databases {
            grants::check(&server, database, &options.exclude_tables)?;
            grants::check_settings(&server, database)?;
        }
        let warnings = left_out(&server, &options.databases)?;
        let (globals, passwords) = globals::globals(&server, &interrupt)?;
        let facts = Facts {
            server: Some("PostgreSQL".into()),
            server_version: Some(server.version_text.as_str().into()),
            role_passwords: Some(passwords),
            ..Facts::default()
        };
        Ok(Self {
            facts,
            server,
            options: options.clone(),
            restrict_key,
            databases: databases.into(),
            globals: Some(globals),
            current: None,
            reading: CurrentStream::default(),
            data_time: clock.now(),
            rows: 0,
            progress,
            interrupt,
            warnings,
        })
    }

    fn begin(&mut self, database: String) -> Result<CurrentDatabase, Error> {
        let (exclude, schema_only) = (&self.options.exclude_tables, &self.options.schema_only_tables);
        let before = PostgresqlFingerprint::take(&self.server, &database, exclude, schema_only)?;
        check_tables(&before.tables, &database, &self.options)?;
        let mut argv = self.server.argv("pg_dump", &database);
        let encoding = self.server.encoding(&database)?;
        argv.extend(["--format=plain", "--create", LOCK_WAIT, encoding].map(OsString::from));
        let beyond = grants::superusers_objects(&self.server, &database)?;
        if !beyond.is_empty() {
            self.facts.superuser.insert(stream_of(&database).into(), some_of(&beyond).into());
        }
        for index in grants::invalid_indexes(&self.server, &database, exclude)? {
            self.warnings.push(WarningKind::Unrestorable.warning(format!(
                "the index {index} of {database} was never finished (it is INVALID), and isn't in the dump: REINDEX INDEX CONCURRENTLY \
                 {index}; or DROP INDEX {index};"
            )));
        }
        let unfit = grants::precedes_extensions(&self.server, &database)?.then_some(load::BEFORE_EXTENSION);
        if self.restrict_key {
            argv.push(OsString::from(format!("--restrict-key={KEY}")));
        }
        let option = |word: &str, name: &String| OsString::from(format!("--{word}={}", pattern(name)));
        argv.extend(exclude.iter().map(|name| option("exclude-table", name)));
        argv.extend(schema_only.iter().map(|name| option("exclude-table-data", name)));
        let name = StreamName::new(stream_of(&database)).map_err(|error| Error::Failed(error.to_string()))?;
        let mut command = CommandSource::new(
            CommandOptions { stall_limit: self.options.stall_limit, ..CommandOptions::new(name, argv) },
            &SystemClock,
            self.progress.clone(),
            self.interrupt.clone(),
        )?;
        command.next()?;
        Ok(CurrentDatabase::Dump(Box::new(DatabaseDump {
            database,
            command,
            scanner: Scanner::default(),
            unfit,
            before,
        })))
    }

    /// The end of one database's dump: it has to be complete.
    fn close(&mut self) -> Result<(), Error> {
        let Some(CurrentDatabase::Dump(dump)) = self.current.take() else { return Ok(()) };
        let DatabaseDump { database, mut command, scanner, unfit, before } = *dump;
        command.finish()?;
        check_whole(&database, &scanner)?;
        for table in before.tables.iter().filter(|table| table.has_rows) {
            if !scanner.rows.contains_key(&table.name) {
                return Err(Error::Changed(format!(
                    "the table {} was in {database} before the dump, and its rows aren't in it",
                    table.plain
                )));
            }
        }
        let options = &self.options;
        let after =
            PostgresqlFingerprint::take(&self.server, &database, &options.exclude_tables, &options.schema_only_tables)?;
        before.objects.check_unchanged(&after.objects)?;
        let stream = stream_of(&database);
        note_counts(&mut self.facts, &stream, &scanner);
        if let Some(why) = scanner.suspicious.as_deref().or(unfit) {
            self.facts.unfit.insert(stream.as_str().into(), why.into());
            self.warnings.push(WarningKind::Unrestorable.warning(format!(
                "the dump of {database} is in the backup, and a restore into a server would refuse it: it has {why}; psql loads it from a \
                 restore to files (--to)"
            )));
        }
        let settings = settings::of_sessions(&self.server, &database)?.into_iter();
        let named = |(name, value): (String, String)| (format!("{stream} {name}").into(), value.into());
        self.facts.session_settings.extend(settings.map(named));
        let views = views::filled(&self.server, &database, &options.exclude_tables)?.into_iter();
        self.facts.views.extend(views.map(named));
        self.rows += scanner.rows.values().sum::<u64>();
        Ok(())
    }
}

/// # Errors
/// [`Error::Failed`] if a dump doesn't end as one that is whole.
fn check_whole(what: &str, scanner: &Scanner) -> Result<(), Error> {
    match scanner.complete && scanner.at_rest() {
        true => Ok(()),
        false => Err(Error::Failed(format!(
            "the dump of {what} doesn't end with its completion line, {:?}: it isn't whole",
            scan::COMPLETE
        ))),
    }
}

/// The facts of a dump that a restore needs.
fn note_counts(facts: &mut Facts, stream: &str, scanner: &Scanner) {
    facts.rows_of.extend(scanner.rows.iter().map(|(table, rows)| (format!("{stream} {table}").into(), *rows)));
    facts.large_objects.insert(stream.into(), scanner.large_objects);
}

/// A name as a pattern that matches it alone.
fn pattern(name: &str) -> String {
    let quoted: Vec<String> = name.split('.').map(server::quoted).collect();
    quoted.join(".")
}

/// The help text of the dump program, which must not be older than the server.
fn check_program(server: &PostgresqlServer) -> Result<String, Error> {
    server.check_age("pg_dumpall")?;
    server.check_age("pg_dump")?;
    server.help("pg_dump")
}

/// The databases that are meant, in the order of their names.
fn databases(server: &PostgresqlServer, wanted: &Databases) -> Result<Vec<String>, Error> {
    let all = "SELECT datname FROM pg_database WHERE datallowconn";
    let there = |more: &str| server.names(server.common(), &format!("{all} {more} ORDER BY 1"));
    match wanted {
        // One that is named may be a template.
        Databases::Only(names) => {
            let there = there("")?;
            let closed = closed(server)?;
            match names.iter().find(|name| !there.contains(name)) {
                Some(name) if closed.contains(name) => {
                    Err(Error::Config(format!("the database {name} {CLOSED}: {}", opened(name))))
                }
                Some(missing) => {
                    Err(Error::Config(format!("the server has no database {missing}; it has {}", there.join(", "))))
                }
                None => Ok(names.clone()),
            }
        }
        Databases::AllBut(out) => {
            let mut names = Vec::new();
            for name in there(&format!("AND datname <> {}", server::literal(TEMPLATE)))?
                .into_iter()
                .filter(|name| !is_aside(name) && !out.contains(name))
            {
                // The one that is there from the start counts once somebody has put something into it.
                if name != COMMON || is_used(server, &name)? {
                    names.push(name);
                }
            }
            Ok(names)
        }
    }
}

/// Whether somebody has put something into a database that is there from the start.
fn is_used(server: &PostgresqlServer, database: &str) -> Result<bool, Error> {
    let used = format!(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {})",
        grants::OF_USERS
    );
    Ok(server.value(database, &used)? == "t")
}

/// Databases that accept no connections, but for the one that is empty on each server.
fn closed(server: &PostgresqlServer) -> Result<Vec<String>, Error> {
    let question = "SELECT datname FROM pg_database WHERE NOT datallowconn AND datname <> 'template0' ORDER BY 1";
    server.names(server.common(), question)
}

const CLOSED: &str = "takes no connections, and so can't be dumped";

/// The statement that opens a database.
fn opened(database: &str) -> String {
    format!("ALTER DATABASE {} ALLOW_CONNECTIONS true;", server::quoted(database))
}

/// Databases of the set that are left out, a warning each: those that accept no connections, and the template of new
/// ones, if somebody has put something into it.
fn left_out(server: &PostgresqlServer, wanted: &Databases) -> Result<Vec<Warning>, Error> {
    let Databases::AllBut(out) = wanted else { return Ok(Vec::new()) };
    let closed = closed(server)?;
    let is_asked = |name: &&str| !is_aside(name) && !out.iter().any(|other| other == name);
    let names = closed.iter().map(String::as_str).filter(is_asked);
    let mut texts: Vec<String> =
        names.map(|name| format!("the database {name} {CLOSED}: {} or name it in exclude", opened(name))).collect();
    let has_template = is_asked(&TEMPLATE) && !closed.iter().any(|name| name == TEMPLATE);
    if has_template && is_used(server, TEMPLATE)? {
        texts.push(format!(
            "somebody has made tables in {TEMPLATE}, which is in no dump of all databases: give them a database of their own, or name \
             {TEMPLATE} in exclude"
        ));
    }
    Ok(texts.into_iter().map(|text| WarningKind::LeftOut.warning(text)).collect())
}

/// A table that is to be left out by a wrong name would be in the dump, or its rows.
fn check_tables(tables: &[PostgresqlTable], database: &str, options: &PostgresqlOptions) -> Result<(), Error> {
    // With several databases a name may belong to another.
    let Databases::Only(names) = &options.databases else { return Ok(()) };
    let missing = options.schema_only_tables.iter().find(|name| !tables.iter().any(|table| table.plain == **name));
    match missing {
        Some(missing) if names.len() == 1 => {
            Err(Error::Config(format!("schema_only_tables names {missing}, and {database} has no such table")))
        }
        _ => Ok(()),
    }
}

impl Source for PostgresqlSource {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        self.close()?;
        let (name, current) = if let Some(globals) = self.globals.take() {
            (GLOBALS.to_owned(), CurrentDatabase::Globals(Cursor::new(globals)))
        } else if let Some(database) = self.databases.pop_front() {
            (stream_of(&database), self.begin(database)?)
        } else {
            return Ok(None);
        };
        self.current = Some(current);
        self.reading.begin(name)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let length = match &mut self.current {
            Some(CurrentDatabase::Globals(bytes)) => {
                bytes.read(buffer).map_err(|error| Error::failed("reading the roles", &error))?
            }
            Some(CurrentDatabase::Dump(dump)) => {
                let length = dump.command.read(buffer)?;
                let unfit = &mut dump.unfit;
                let Ok(()) = dump.scanner.push(&buffer[..length], &mut |piece| {
                    if let DumpPiece::Statement(text) = piece
                        && let StatementKind::Refused(why) = kind(text)
                    {
                        unfit.get_or_insert(why);
                    }
                    Ok::<(), Infallible>(())
                });
                length
            }
            None => 0,
        };
        Ok(self.reading.grow(length))
    }

    fn end(&mut self) -> Result<Entry, Error> {
        self.reading.end()
    }

    fn finish(&mut self) -> Result<Finished, Error> {
        self.close()?;
        let mut facts = self.facts.clone();
        facts.rows = Some(self.rows);
        Ok(Finished { data_time: self.data_time, facts })
    }

    fn warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }
}
