//! Fingerprints of each object in the databases, compared before and after a dump to detect changes in between.

use super::names::{literal, quoted};
use super::obstacles;
use super::program::Vendor;
use super::server::MysqlServer;
use super::table::MysqlTable;
use crate::source::Error;
use crate::source::objects::Objects;

/// The recorded objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MysqlFingerprint {
    /// Tables, sequences and views.
    pub tables: Vec<MysqlTable>,
    /// Each object with a hash of all that tells it from another: `table agama.orders`.
    pub objects: Objects,
}

impl MysqlFingerprint {
    /// Looks at the databases, without the tables `exclude` (`database.table`). Of tables `schema_only` it doesn't matter
    /// whether their rows went.
    ///
    /// # Errors
    /// [`Error::Changed`] if something went away while it was looked at, [`Error::Failed`] if the server doesn't
    /// answer.
    pub fn take(
        server: &MysqlServer,
        databases: &[String],
        exclude: &[String],
        schema_only: &[String],
    ) -> Result<Self, Error> {
        let mut found = Self::default();
        found.read_tables(server, databases, exclude)?;
        found.read_definitions(server)?;
        found.read_others(server, databases)?;
        found.read_numbers(server, databases, &[exclude, schema_only].concat())?;
        Ok(found)
    }

    fn read_tables(&mut self, server: &MysqlServer, databases: &[String], exclude: &[String]) -> Result<(), Error> {
        let rows = server.ask(&for_each(
            databases,
            "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, IFNULL(ENGINE, ''), IFNULL(DATA_LENGTH, 0), IFNULL(CREATE_TIME, '') \
             FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} ORDER BY 1, 2",
        ))?;
        for row in rows {
            let [database, name, kind, engine, bytes, created] = row.as_slice() else { continue };
            if exclude.contains(&format!("{database}.{name}")) || kind == "TEMPORARY" {
                continue;
            }
            let created = if KEEPS_ITS_TIME.contains(&engine.as_str()) { created } else { "" };
            let (database, name, kind, engine) = (database.clone(), name.clone(), kind.clone(), engine.clone());
            self.objects.note(format!("{} {database}.{name}", word(&kind)), &format!("{kind} {engine} {created}"));
            self.tables.push(MysqlTable { database, name, kind, engine, bytes: bytes.parse().unwrap_or(0) });
        }
        Ok(())
    }

    /// The output of `SHOW CREATE` for each table, without the counter that any insert moves.
    fn read_definitions(&mut self, server: &MysqlServer) -> Result<(), Error> {
        let tables: Vec<MysqlTable> = self.tables.iter().filter(|table| table.kind != "VIEW").cloned().collect();
        if tables.is_empty() {
            return Ok(());
        }
        let show =
            |table: &MysqlTable| format!("SHOW CREATE TABLE {}.{};\n", quoted(&table.database), quoted(&table.name));
        let rows = match server.ask(&tables.iter().map(show).collect::<String>()) {
            Ok(rows) => rows,
            Err(error) if error.has_code("1146") => return Err(Error::Changed(error.to_string())),
            Err(error) => {
                let unreadable = obstacles::unreadable(server, &self.tables, &[])?;
                return Err(if unreadable.is_empty() { error } else { Error::Config(obstacles::told(&unreadable)) });
            }
        };
        if rows.len() != tables.len() {
            return Err(Error::Failed(format!("the server described {} of {} tables", rows.len(), tables.len())));
        }
        for (table, row) in tables.iter().zip(rows) {
            let text = row.get(1).map(String::as_str).unwrap_or_default();
            if text.starts_with("CREATE TEMPORARY") {
                return Err(Error::Config(format!(
                    "each new session of this account has a temporary table in the place of {}.{}, and a dump would have its \
                     rows: the server's init_connect makes it",
                    table.database, table.name
                )));
            }
            self.objects
                .note(format!("{} {}.{}", word(&table.kind), table.database, table.name), &without_counter(text));
        }
        Ok(())
    }

    /// Views, triggers, routines and events.
    fn read_others(&mut self, server: &MysqlServer, databases: &[String]) -> Result<(), Error> {
        let rows = server.ask(&for_each(
            databases,
            "SELECT 'view', TABLE_SCHEMA, TABLE_NAME, SHA2(CONCAT_WS('|', VIEW_DEFINITION, CHECK_OPTION, DEFINER, SECURITY_TYPE), 256) \
             FROM information_schema.VIEWS WHERE TABLE_SCHEMA = {};\n\
             SELECT 'trigger', TRIGGER_SCHEMA, TRIGGER_NAME, SHA2(CONCAT_WS('|', EVENT_MANIPULATION, EVENT_OBJECT_TABLE, \
             ACTION_ORDER, ACTION_STATEMENT, ACTION_TIMING, SQL_MODE, DEFINER, CREATED), 256) \
             FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = {};\n\
             SELECT LOWER(ROUTINE_TYPE), ROUTINE_SCHEMA, ROUTINE_NAME, SHA2(CONCAT_WS('|', ROUTINE_DEFINITION, CREATED, \
             LAST_ALTERED, SQL_MODE, DEFINER), 256) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {};\n\
             SELECT 'event', EVENT_SCHEMA, EVENT_NAME, SHA2(CONCAT_WS('|', EVENT_DEFINITION, CREATED, LAST_ALTERED, STATUS, \
             DEFINER), 256) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {}",
        ))?;
        for row in rows {
            if let [kind, database, name, hash] = row.as_slice() {
                self.objects.note(format!("{kind} {database}.{name}"), hash);
            }
        }
        Ok(())
    }

    /// InnoDB's numbers of the tables: a table that replaced another has a different one.
    fn read_numbers(&mut self, server: &MysqlServer, databases: &[String], without: &[String]) -> Result<(), Error> {
        // The engine writes other characters in a way of its own.
        let plain = |name: &&String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let conditions: Vec<String> = databases
            .iter()
            .filter(plain)
            .map(|name| format!("NAME LIKE '{}/%'", name.replace('_', "\\\\_")))
            .collect();
        if conditions.is_empty() {
            return Ok(());
        }
        let view = match server.vendor {
            Vendor::Mariadb => "INNODB_SYS_TABLES",
            Vendor::Mysql => "INNODB_TABLES",
        };
        let rows = server.ask(&format!(
            "SELECT NAME, TABLE_ID FROM information_schema.{view} WHERE ({}) AND NAME NOT LIKE '%/#%' AND NAME NOT LIKE '%/FTS\\\\_%'",
            conditions.join(" OR ")
        ))?;
        for row in rows {
            if let [name, number] = row.as_slice() {
                let (database, table) = name.split_once('/').unwrap_or(("", name));
                let table = table.split("#").next().unwrap_or(table);
                if without.contains(&format!("{database}.{table}")) {
                    continue;
                }
                self.objects.note(format!("table {database}.{table}"), number);
            }
        }
        Ok(())
    }
}

/// Engines whose tables' time of creation is that of their definition. ARCHIVE's is when somebody last read it.
const KEEPS_ITS_TIME: [&str; 6] = ["InnoDB", "MyISAM", "Aria", "ROCKSDB", "TokuDB", "MEMORY"];

/// The query for each of the databases, whose name replaces `{}`. It has to be a condition by which the server looks
/// tables up (of triggers that is EVENT_OBJECT_SCHEMA, not TRIGGER_SCHEMA). It must be run for one database at a time:
/// with more than one the server opens the tables of all databases, and waits for whoever holds a lock on one of them.
fn for_each(databases: &[String], question: &str) -> String {
    let one = |database: &String| question.replace("{}", &literal(database));
    databases.iter().map(one).collect::<Vec<_>>().join(";\n")
}

fn word(kind: &str) -> &'static str {
    match kind {
        "VIEW" | "SYSTEM VIEW" => "view",
        "SEQUENCE" => "sequence",
        _ => "table",
    }
}

/// A table's definition without `AUTO_INCREMENT=…`.
fn without_counter(text: &str) -> String {
    let Some(at) = text.rfind(" AUTO_INCREMENT=") else { return text.to_owned() };
    let rest = text[at + 16..].trim_start_matches(|c: char| c.is_ascii_digit());
    format!("{}{rest}", &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insert_changes_no_definition() {
        let text =
            |counter: &str| format!("CREATE TABLE `t` (\n  `a` int\n) ENGINE=InnoDB{counter} DEFAULT CHARSET=utf8mb4");
        assert_eq!(without_counter(&text(" AUTO_INCREMENT=7")), text(""));
        assert_eq!(without_counter(&text("")), text(""));
    }
}
