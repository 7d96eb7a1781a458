//! Preparation of a dump: the server, its databases, the account's grants, the fingerprints, and the command line.

use std::collections::BTreeSet;
use std::ffi::OsString;

use super::fingerprint::MysqlFingerprint;
use super::flags::{DumpScope, flags};
use super::grants::{Abilities, MissingPrivilege};
use super::names::{DumpPart, SHOWN, listed, shown};
use super::program::{ServerProgram, Vendor};
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
    /// How the dump tells the position of the binary log.
    pub position: LogPosition,
    /// Whether no table that was read may be altered until the dump's end.
    pub keeps_locks: bool,
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
        warnings.extend(masked(&server)?);
        warnings.extend(system::unkept(&server)?);
        let position = position(&server)?;
        let keeps_locks = server.vendor == Vendor::Mariadb && position != LogPosition::NoLog;
        let events = events::streams(&server, &databases)?;
        let wanted = DumpScope {
            databases: &databases,
            events: events.is_none(),
            guard: &guard,
            exclude_tables: &options.exclude_tables,
            schema_only_tables: &options.schema_only_tables,
            history,
            position: position.is_told(),
        };
        let mut argv = server.argv(&program);
        argv.extend(flags(&program, server.vendor, &wanted)?);
        Ok(Self {
            server,
            program,
            databases,
            before,
            argv,
            warnings,
            events: events.unwrap_or_default(),
            position,
            keeps_locks,
        })
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
    let missing = grants::statements(&granted.missing(Abilities::of(server)?, databases, all), &account);
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

/// How a dump tells the position of the server's binary log at its moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LogPosition {
    /// The server writes none.
    NoLog,
    /// The server's snapshot knows it (MariaDB, Percona Server): without a lock.
    Known,
    /// The program reads it under a lock over all tables, which it holds for that moment.
    Locked,
    /// Such a lock would have to wait, and everybody else with it: for a statement that has run for so many seconds.
    Busy(u64),
    /// The account may not see it; the statement that lets it.
    Hidden(String),
}

impl LogPosition {
    /// Whether the dump has it.
    pub fn is_told(&self) -> bool {
        matches!(self, LogPosition::Known | LogPosition::Locked)
    }

    /// The statement that lets the account see it.
    pub fn missing(&self) -> Option<&str> {
        match self {
            LogPosition::Hidden(statement) => Some(statement),
            _ => None,
        }
    }
}

/// For how many seconds a statement may have run before a lock over all tables is asked for.
const SHORT: u64 = 5;

/// Whether and how the position of the binary log is read.
pub(super) fn position(server: &MysqlServer) -> Result<LogPosition, Error> {
    if server.value("SELECT @@log_bin")? != "1" {
        return Ok(LogPosition::NoLog);
    }
    // Without it the program takes a global lock.
    let knows = !server.ask("SHOW STATUS LIKE 'binlog_snapshot_file'")?.is_empty();
    let (granted, account) = grants::granted(server)?;
    let monitors = match server.vendor {
        Vendor::Mariadb => ["BINLOG MONITOR", "REPLICATION CLIENT"],
        Vendor::Mysql => ["REPLICATION CLIENT"; 2],
    };
    let may = |privilege: &str| granted.has_global(privilege);
    let mut missing = MissingPrivilege::new();
    let mut lacks = |privilege| _ = missing.entry(None).or_default().insert(privilege);
    if !may("RELOAD") {
        lacks("RELOAD");
    }
    if !monitors.iter().any(|privilege| may(privilege)) {
        lacks(monitors[0]);
    }
    if let Some(statement) = grants::statements(&missing, &account).pop() {
        return Ok(LogPosition::Hidden(statement));
    }
    if knows {
        return Ok(LogPosition::Known);
    }
    // Id, user, host, database, command, seconds, state and statement.
    let runs = |row: Vec<String>| match row.as_slice() {
        [_, _, _, _, command, seconds, ..] if command == "Query" || command == "Execute" => seconds.parse().ok(),
        _ => None,
    };
    let longest: u64 = server.ask("SHOW PROCESSLIST")?.into_iter().filter_map(runs).max().unwrap_or(0);
    Ok(if longest < SHORT { LogPosition::Locked } else { LogPosition::Busy(longest) })
}

/// A warning about columns that may show something else than they have to this account.
pub(super) fn masked(server: &MysqlServer) -> Result<Option<Warning>, Error> {
    const NO_SUCH_TABLE: &str = "1146";
    const DENIED: &str = "1142";
    if server.vendor == Vendor::Mariadb {
        return Ok(None);
    }
    // Most servers have no such table; who may not read it lacks a privilege, which is said elsewhere.
    let names = match server.ask("SELECT policy_name FROM performance_schema.column_masking_policy ORDER BY 1") {
        Err(error) if error.has_code(NO_SUCH_TABLE) || error.has_code(DENIED) => return Ok(None),
        names => names?,
    };
    let names: Vec<String> = names.into_iter().flatten().map(|name| shown(&[&name])).collect();
    Ok((!names.is_empty()).then(|| {
        WarningKind::LeftOut.warning(format!(
            "masking policies are in no dump, and where one holds for this account, so are the values that it masks: {}",
            listed(&names, SHOWN)
        ))
    }))
}
