//! Preparation of a dump: the server, its databases, the account's grants, the fingerprints, and the command line.

use std::collections::BTreeSet;
use std::ffi::OsString;

use super::fingerprint::MysqlFingerprint;
use super::flags::{DumpScope, flags};
use super::names::{DumpPart, SHOWN, listed, shown};
use super::program::ServerProgram;
use super::server::MysqlServer;
use super::table::MysqlTable;
use super::{MysqlOptions, events, grants, inexact, obstacles, settings, system};
use crate::entry::Untrusted;
use crate::facts::{Facts, Separated};
use crate::progress::Interrupt;
use crate::source::names::is_aside;
use crate::source::{Databases, Error};
use crate::warning::{Warning, WarningKind};

/// Databases that are the server's own.
const OF_THE_SYSTEM: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

/// Engines whose tables are dumped consistently.
const CONSISTENT: [&str; 4] = ["InnoDB", "ROCKSDB", "TokuDB", ""];

/// All that is known before the first byte.
pub(super) struct PreparedDump {
    pub server: MysqlServer,
    pub program: ServerProgram,
    pub databases: Vec<String>,
    pub before: MysqlFingerprint,
    pub argv: Vec<OsString>,
    pub warnings: Vec<Warning>,
    /// Streams of events, where the dump program would not end with them.
    pub events: Vec<(DumpPart, Vec<u8>)>,
    /// Whether the server writes a binary log.
    pub has_log: bool,
}

impl PreparedDump {
    /// Looks at the server and judges the account.
    pub fn new(options: &MysqlOptions, interrupt: &Interrupt) -> Result<Self, Error> {
        let server = MysqlServer::connect(&options.server, interrupt)?;
        let program = server.dump_program()?;
        let databases = databases(&server, &options.databases)?;
        check_grants(&server, &databases, &options.databases)?;
        let guard = settings::check(&server, &program)?;
        let before = MysqlFingerprint::take(&server, &databases, &options.exclude_tables, &options.schema_only_tables)?;
        check_tables(&before.tables, options)?;
        let unreadable = obstacles::unreadable(&server, &before.tables, &options.schema_only_tables)?;
        if !unreadable.is_empty() {
            return Err(Error::Config(obstacles::told(&unreadable)));
        }
        let (history, without) = obstacles::history(&server, &before.tables)?;
        let mut warnings = inconsistent(&before.tables);
        warnings.extend(without);
        if matches!(options.databases, Databases::AllBut(_)) {
            warnings.extend(system::warning(&server)?);
        }
        warnings.extend(inexact::warnings(&server, &databases, &before.tables, &options.schema_only_tables, history)?);
        let has_log = server.value("SELECT @@log_bin")? == "1";
        let events = events::streams(&server, &databases)?;
        let wanted = DumpScope {
            databases: &databases,
            events: events.is_none(),
            guard: &guard,
            exclude_tables: &options.exclude_tables,
            schema_only_tables: &options.schema_only_tables,
            history,
            position: has_log && has_position(&server)?,
        };
        let mut argv = server.argv(&program);
        argv.extend(flags(&program, server.vendor, &wanted)?);
        Ok(Self { server, program, databases, before, argv, warnings, events: events.unwrap_or_default(), has_log })
    }

    /// The server's facts for a restore and a report.
    pub fn facts(&self) -> Facts {
        let engines: BTreeSet<&str> =
            self.before.tables.iter().map(|table| table.engine.as_str()).filter(|engine| !engine.is_empty()).collect();
        Facts {
            engines: Some(Separated(engines.into_iter().map(Untrusted::from).collect())),
            server: Some(self.server.vendor.name().into()),
            server_version: Some(self.server.version.as_str().into()),
            dump_program: Some(self.program.name.as_str().into()),
            ..Facts::default()
        }
    }
}

/// The databases that are meant, in the order of their names.
pub(super) fn databases(server: &MysqlServer, wanted: &Databases) -> Result<Vec<String>, Error> {
    let there: Vec<String> =
        server.ask("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA ORDER BY 1")?.into_iter().flatten().collect();
    match wanted {
        Databases::Only(names) => match names.iter().find(|name| !there.contains(name)) {
            Some(missing) => Err(Error::Config(format!(
                "the server has no database {missing}, or the account may not see it; it sees {}",
                there.join(", ")
            ))),
            None => Ok(names.clone()),
        },
        Databases::AllBut(out) => {
            let own = |name: &String| OF_THE_SYSTEM.contains(&name.as_str()) || is_aside(name);
            Ok(there.into_iter().filter(|name| !own(name) && !out.contains(name)).collect())
        }
    }
}

fn check_grants(server: &MysqlServer, databases: &[String], wanted: &Databases) -> Result<(), Error> {
    let (granted, account) = grants::granted(server)?;
    let all = matches!(wanted, Databases::AllBut(_));
    let missing = grants::statements(&granted.missing(server.vendor, databases, all), &account);
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Config(format!(
        "the account {account} may not see all that belongs into the dump, and what it can't see would be missing without a \
         word; give it, as an administrator of the server:{}",
        missing.iter().map(|statement| format!("\n    {statement}")).collect::<String>()
    )))
}

/// A table that is to be left out by a wrong name would be in the dump, or its rows.
fn check_tables(tables: &[MysqlTable], options: &MysqlOptions) -> Result<(), Error> {
    for name in options.schema_only_tables.iter() {
        if !tables.iter().any(|table| format!("{}.{}", table.database, table.name) == *name) {
            return Err(Error::Config(format!("schema_only_tables names {name}, and there is no such table")));
        }
    }
    Ok(())
}

/// Warns of tables that a dump doesn't read consistently.
pub(super) fn inconsistent(tables: &[MysqlTable]) -> Vec<Warning> {
    let loose = |table: &&MysqlTable| table.kind != "VIEW" && !CONSISTENT.contains(&table.engine.as_str());
    let names: Vec<String> = tables
        .iter()
        .filter(loose)
        .map(|table| format!("{} ({})", shown(&[&table.database, &table.name]), table.engine))
        .collect();
    match names.as_slice() {
        [] => Vec::new(),
        some => {
            vec![WarningKind::NoTransactions.warning(format!(
                "not consistent with the rest, because their engine has no transactions: {}; ALTER TABLE … \
                 ENGINE=InnoDB makes them so",
                listed(some, SHOWN)
            ))]
        }
    }
}

/// Whether the position of the binary log can be read without a lock on all tables.
fn has_position(server: &MysqlServer) -> Result<bool, Error> {
    // MariaDB's snapshot knows its position; without it the program would take a global lock.
    let knows = !server.ask("SHOW STATUS LIKE 'binlog_snapshot_file'")?.is_empty();
    let (granted, _) = grants::granted(server)?;
    let may = |privilege: &str| granted.has_global(privilege);
    Ok(knows && may("RELOAD") && (may("BINLOG MONITOR") || may("REPLICATION CLIENT")))
}
