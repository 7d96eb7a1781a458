//! Pre-flight checks of everything that a dump needs.

use super::dump::{databases, inconsistent, masked, position};
use super::fingerprint::MysqlFingerprint;
use super::grants::Abilities;
use super::names::{SHOWN, listed, literal, shown};
use super::server::MysqlServer;
use super::table::MysqlTable;
use super::{MysqlOptions, grants, inexact, obstacles, settings, system};
use crate::progress::Interrupt;
use crate::source::{Databases, Error, Finding};

/// Tries all that a dump of `options` needs.
pub fn check(options: &MysqlOptions, interrupt: &Interrupt) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Err(error) = look(options, interrupt, &mut found) {
        found.push(Finding::Bad(error.to_string()));
    }
    found
}

fn look(options: &MysqlOptions, interrupt: &Interrupt, found: &mut Vec<Finding>) -> Result<(), Error> {
    let server = MysqlServer::connect(&options.server, interrupt)?;
    let program = server.dump_program()?;
    found.push(Finding::Good(format!("the programs {} and {} are there", server.client.name, program.name)));
    let (granted, account) = grants::granted(&server)?;
    let vendor = server.vendor.name();
    found.push(Finding::Good(format!("{vendor} {} answers, as {account}", server.version)));
    let databases = databases(&server, &options.databases)?;
    let all = matches!(options.databases, Databases::AllBut(_));
    let missing = grants::statements(&granted.missing(Abilities::of(&server)?, &databases, all), &account);
    match missing.is_empty() {
        true => found.push(Finding::Good("the account may see all that belongs into the dump".to_owned())),
        false => {
            found.extend(
                missing.into_iter().map(|statement| Finding::Bad(format!("a privilege is missing: {statement}"))),
            );
            return Ok(());
        }
    }
    match settings::check(&server, &program) {
        Ok(_) => found
            .push(Finding::Good("no setting of the server or of an option file changes what a dump sees".to_owned())),
        Err(Error::Config(why)) => found.push(Finding::Bad(why)),
        Err(error) => return Err(error),
    }
    let about = MysqlFingerprint::take(&server, &databases, &options.exclude_tables, &options.schema_only_tables)?;
    let bytes: u64 = about.tables.iter().map(|table| table.bytes).sum();
    found.push(Finding::Good(format!(
        "{}, {} tables and views, about {} MB of rows",
        databases.iter().map(|name| shown(&[name])).collect::<Vec<_>>().join(", "),
        about.tables.len(),
        bytes / 1_000_000
    )));
    found.extend(inconsistent(&about.tables).into_iter().map(|warning| Finding::Note(warning.text)));
    found.extend(without_key(&server, &about.tables)?);
    let unreadable = obstacles::unreadable(&server, &about.tables, &options.schema_only_tables)?;
    if !unreadable.is_empty() {
        found.push(Finding::Bad(obstacles::told(&unreadable)));
    }
    let (history, notes) = obstacles::history(&server, &about.tables)?;
    let inexact = inexact::warnings(&server, &databases, &about.tables, &options.schema_only_tables, history)?;
    let left_out = if all { system::warning(&server)? } else { None };
    let notes =
        notes.into_iter().chain(left_out).chain(inexact).chain(masked(&server)?).chain(system::unkept(&server)?);
    found.extend(notes.map(|warning| Finding::Note(warning.text)));
    if let Some(statement) = position(&server)?.missing() {
        found.push(Finding::Note(format!(
            "the position of the binary log at the dump's moment isn't stored, because the account may not see it; {statement} lets it"
        )));
    }
    Ok(())
}

/// Tables whose rows have no order of their own, so that a dump of them may differ from day to day.
fn without_key(server: &MysqlServer, tables: &[MysqlTable]) -> Result<Option<Finding>, Error> {
    let mut names = std::collections::BTreeSet::new();
    let databases: std::collections::BTreeSet<&String> = tables.iter().map(|table| &table.database).collect();
    for database in databases {
        let rows = server.ask(&format!(
            "SELECT t.TABLE_NAME FROM information_schema.TABLES t LEFT JOIN (SELECT DISTINCT TABLE_SCHEMA, TABLE_NAME FROM \
             information_schema.STATISTICS WHERE NON_UNIQUE = 0 AND TABLE_SCHEMA = {0}) s ON s.TABLE_NAME = t.TABLE_NAME \
             WHERE t.TABLE_SCHEMA = {0} AND t.TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND s.TABLE_NAME IS NULL",
            literal(database)
        ))?;
        names.extend(rows.into_iter().flatten().map(|name| format!("{database}.{name}")));
    }
    let known = |name: &String| tables.iter().any(|table| format!("{}.{}", table.database, table.name) == *name);
    let names: Vec<String> = names.into_iter().filter(known).map(|name| shown(&[&name])).collect();
    Ok((!names.is_empty()).then(|| {
        Finding::Note(format!(
            "without a unique key, so that their rows have no order of their own and an incremental may be larger than the \
             change: {}",
            listed(&names, SHOWN)
        ))
    }))
}
