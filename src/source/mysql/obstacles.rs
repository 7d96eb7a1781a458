//! Objects at which the dump program ends, or of which it can't tell all: known before it starts.

use super::names::{literal, quoted, shown};
use super::server::MysqlServer;
use super::table::MysqlTable;
use crate::source::Error;
use crate::warning::{Warning, WarningKind};

/// How many tables one question asks for.
const AT_ONCE: usize = 500;
/// Engines whose tables have the rows of others, which the dump program doesn't read.
const OF_OTHERS: [&str; 6] = ["CONNECT", "FEDERATED", "MRG_MyISAM", "OQGRAPH", "SPIDER", "VP"];

/// Tables and views that the dump program can't read, each with the server's word for it: it ends at the first. Of tables
/// `schema_only` no row is looked at.
///
/// # Errors
/// [`Error::Changed`] if one went away meanwhile, [`Error::Failed`] if the server doesn't answer.
pub(super) fn unreadable(
    server: &MysqlServer,
    tables: &[MysqlTable],
    schema_only: &[String],
) -> Result<Vec<String>, Error> {
    // The query of the dump program itself. A view whose definer is gone is read all the same.
    let question = |table: &MysqlTable| {
        let name = format!("{}.{}", quoted(&table.database), quoted(&table.name));
        let has_rows = matches!(table.kind.as_str(), "BASE TABLE" | "SYSTEM VERSIONED")
            && !OF_OTHERS.contains(&table.engine.as_str())
            && !schema_only.contains(&format!("{}.{}", table.database, table.name));
        let rows = match table.kind.as_str() {
            "SEQUENCE" => format!("SELECT next_not_cached_value FROM {name};\n"),
            _ if has_rows => format!("SELECT 1 FROM {name} LIMIT 1;\n"),
            _ => String::new(),
        };
        format!("SHOW CREATE TABLE {name};\nSHOW FIELDS FROM {name};\n{rows}")
    };
    let failed = |some: &[MysqlTable]| -> Result<Option<(String, String)>, Error> {
        match server.ask(&some.iter().map(question).collect::<String>()) {
            Ok(_) => Ok(None),
            Err(Error::Server { code, text }) => Ok(Some((code, text))),
            Err(error) => Err(error),
        }
    };
    let mut found = Vec::new();
    for some in tables.chunks(AT_ONCE) {
        if failed(some)?.is_none() {
            continue;
        }
        for table in some {
            let Some((code, why)) = failed(std::slice::from_ref(table))? else { continue };
            if code == "1146" {
                return Err(Error::Changed(why));
            }
            let said = why.rsplit_once("ERROR ").map_or("", |(_, said)| said.trim());
            found.push(format!("{} (ERROR {said})", shown(&[&table.database, &table.name])));
        }
    }
    Ok(found)
}

/// Messages about tables and views that can't be read.
pub(super) fn told(unreadable: &[String]) -> String {
    format!(
        "tables and views that can't be read, at which a dump ends: {}; drop them, set them right, or leave them out by \
         exclude_tables",
        unreadable.join(", ")
    )
}

/// Whether tables' history is included in the dump, and a warning if it can't be. The dump program refuses any history
/// if one table counts transactions instead of time.
///
/// # Errors
/// [`Error::Failed`] if the server doesn't answer.
pub(super) fn history(server: &MysqlServer, tables: &[MysqlTable]) -> Result<(bool, Option<Warning>), Error> {
    let versioned: Vec<&MysqlTable> = tables.iter().filter(|table| table.kind == "SYSTEM VERSIONED").collect();
    let mut counting = Vec::new();
    for table in &versioned {
        let kind = server.value(&format!(
            "SELECT DATA_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} AND \
             GENERATION_EXPRESSION = 'ROW START'",
            literal(&table.database),
            literal(&table.name)
        ))?;
        if kind == "bigint" {
            counting.push(shown(&[&table.database, &table.name]));
        }
    }
    if counting.is_empty() {
        return Ok((!versioned.is_empty(), None));
    }
    let names: Vec<String> = versioned.iter().map(|table| shown(&[&table.database, &table.name])).collect();
    let warning = WarningKind::History.warning(format!(
        "only the rows of now are in the dump of {}, without those that were before, because a dump has no history where a table's \
         is by transactions: {}; where exclude_tables leaves those out, the others' history is in it",
        names.join(", "),
        counting.join(", ")
    ));
    Ok((false, Some(warning)))
}
