//! Pre-flight checks of everything that a dump needs.

use super::fingerprint::PostgresqlFingerprint;
use super::server::PostgresqlServer;
use super::{PostgresqlOptions, check_program, check_tables, databases, grants, left_out};
use crate::progress::Interrupt;
use crate::source::{Error, Finding};

/// Tries all that a dump of `options` needs.
pub fn check(options: &PostgresqlOptions, interrupt: &Interrupt) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Err(error) = look(options, interrupt, &mut found) {
        found.push(Finding::Bad(error.to_string()));
    }
    found
}

fn look(options: &PostgresqlOptions, interrupt: &Interrupt, found: &mut Vec<Finding>) -> Result<(), Error> {
    let server = PostgresqlServer::connect(&options.server, interrupt)?;
    let help = check_program(&server)?;
    found.push(Finding::Good("the programs psql, pg_dump and pg_dumpall are there".to_owned()));
    found.push(Finding::Good(format!("PostgreSQL {} answers, as {}", server.version_text, server.account)));
    if !help.contains("--restrict-key") {
        found.push(Finding::Note(
            "pg_dump has no --restrict-key: it is older than 13.22, 14.19, 15.14, 16.10 or 17.6, which close a hole in dumps".to_owned(),
        ));
    }
    found.extend(left_out(&server, &options.databases)?.into_iter().map(|warning| Finding::Note(warning.text)));
    for database in databases(&server, &options.databases)? {
        let missing = grants::missing(&server, &database, &options.exclude_tables)?;
        if missing.is_empty() {
            found.push(Finding::Good(format!("the account may see all that belongs into the dump of {database}")));
        }
        let bad = |statement| Finding::Bad(format!("a privilege is missing in {database}: {statement}"));
        found.extend(missing.into_iter().map(bad));
        if let Err(error) = grants::check_settings(&server, &database) {
            found.push(Finding::Bad(error.to_string()));
        }
        let beyond = grants::superusers_objects(&server, &database)?;
        if !beyond.is_empty() {
            found.push(Finding::Note(format!(
                "{database} has what only a superuser makes, and no extension brings, so a restore lacks it unless \
                 restore_as_superuser = true: {}",
                super::some_of(&beyond)
            )));
        }
        let about =
            PostgresqlFingerprint::take(&server, &database, &options.exclude_tables, &options.schema_only_tables)?;
        check_tables(&about.tables, &database, options)?;
        let bytes: u64 = about.tables.iter().map(|table| table.bytes).sum();
        found.push(Finding::Good(format!(
            "{database}, {} tables, about {} MB of rows",
            about.tables.len(),
            bytes / 1_000_000
        )));
    }
    if !grants::sees_passwords(&server, server.common())? {
        found.push(Finding::Note(format!(
            "the account may not read the passwords of roles, so they aren't in the dump; GRANT SELECT ON pg_authid TO {}; in \
             the database {} lets it",
            super::server::quoted(&server.account),
            server.common()
        )));
    }
    Ok(())
}
