//! User data in the server's system databases, which a dump of all databases omits.

use super::names::{SHOWN, listed, shown};
use super::program::Vendor;
use super::server::MysqlServer;
use crate::source::Error;
use crate::warning::{Warning, WarningKind};

/// Tables of the database `mysql`, as MariaDB and MySQL make them.
const TABLES: [&str; 27] = [
    "column_stats",
    "columns_priv",
    "component",
    "db",
    "default_roles",
    "engine_cost",
    "event",
    "func",
    "general_log",
    "global_grants",
    "global_priv",
    "gtid_executed",
    "host",
    "index_stats",
    "password_history",
    "password_reuse_check_history",
    "plugin",
    "proc",
    "procs_priv",
    "proxies_priv",
    "role_edges",
    "roles_mapping",
    "server_cost",
    "servers",
    "slow_log",
    "table_stats",
    "tables_priv",
];

/// How the names of further ones begin.
const BEGINNINGS: [&str; 11] = [
    "audit_log_",
    "firewall_",
    "gtid_slave_pos",
    "help_",
    "innodb_",
    "ndb_",
    "replication_",
    "slave_",
    "spider_",
    "time_zone",
    "transaction_registry",
];

/// A catalogue: the column of the database, and the condition that excludes the server's own objects.
const LISTED: [(&str, &str, &str, &str); 4] = [
    ("TABLES", "TABLE_SCHEMA", "TABLE_NAME", "TABLE_TYPE NOT LIKE '%VIEW'"),
    ("VIEWS", "TABLE_SCHEMA", "TABLE_NAME", "DEFINER NOT LIKE '%.sys@localhost'"),
    (
        "ROUTINES",
        "ROUTINE_SCHEMA",
        "ROUTINE_NAME",
        "DEFINER NOT LIKE '%.sys@localhost' AND ROUTINE_NAME NOT IN ('AddGeometryColumn', 'DropGeometryColumn')",
    ),
    ("EVENTS", "EVENT_SCHEMA", "EVENT_NAME", "TRUE"),
];

/// Names of a table of the server, and their description. Not every account may read it.
const ROWS: [(&str, &str); 2] = [
    ("SELECT Server_name FROM mysql.servers ORDER BY 1", "the server of CREATE SERVER"),
    ("SELECT name FROM mysql.func ORDER BY 1", "the loadable function"),
];

/// Names the objects in the server's system databases, which a dump of all databases leaves out.
///
/// # Errors
/// [`Error::Failed`] if the server doesn't answer.
pub(super) fn warning(server: &MysqlServer) -> Result<Option<Warning>, Error> {
    let mut names = Vec::new();
    for database in ["mysql", "sys"] {
        let asked = |(table, schema, name, condition): &(&str, &str, &str, &str)| {
            format!(
                "SELECT {name} FROM information_schema.{table} WHERE {schema} = '{database}' AND {condition} ORDER BY 1;\n"
            )
        };
        let found = server.ask(&LISTED.iter().map(asked).collect::<String>())?.into_iter().flatten();
        names.extend(found.filter(|name| !is_the_servers(database, name)).map(|name| shown(&[database, &name])));
    }
    for (question, what) in ROWS {
        match server.ask(question) {
            Ok(rows) => names.extend(rows.iter().flatten().map(|name| format!("{what} {}", shown(&[name])))),
            Err(error) if error.is_failure() => {}
            Err(error) => return Err(error),
        }
    }
    Ok((!names.is_empty()).then(|| {
        WarningKind::LeftOut.warning(format!(
            "the server's own databases are in no dump, and these in them aren't the server's: {}; give tables and \
             stored programs a database of their own, and keep CREATE SERVER and CREATE FUNCTION … SONAME for a restore",
            listed(&names, SHOWN)
        ))
    }))
}

/// What a MySQL server has beside databases, of which no dump has anything: a question, what it is, and what to do.
const UNKEPT: [(&str, &str, &str); 4] = [
    (
        "SELECT CONCAT(User, '@', Host) FROM mysql.user WHERE JSON_EXTRACT(User_attributes, '$.additional_password') IS NOT NULL \
         ORDER BY 1",
        "the second passwords of accounts (RETAIN CURRENT PASSWORD)",
        "after a restore only their first ones work",
    ),
    (
        "SELECT RESOURCE_GROUP_NAME FROM information_schema.RESOURCE_GROUPS WHERE RESOURCE_GROUP_NAME NOT IN ('USR_default', \
         'SYS_default', 'SYS_internal') ORDER BY 1",
        "resource groups",
        "keep their CREATE RESOURCE GROUP for another server",
    ),
    (
        "SELECT NAME FROM information_schema.INNODB_TABLESPACES WHERE SPACE_TYPE = 'General' AND NAME <> 'mysql' ORDER BY 1",
        "general tablespaces",
        "keep their CREATE TABLESPACE: another server makes no table in one that it lacks",
    ),
    (
        "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) FROM information_schema.TABLES WHERE CREATE_OPTIONS LIKE \
         '%ENCRYPTION=_Y_%' AND TABLE_SCHEMA <> 'mysql' ORDER BY 1",
        "the keys of encrypted tables",
        "another server makes them with keys of its own keyring, and not without one",
    ),
];

/// Names what a MySQL server has beside its databases.
///
/// # Errors
/// [`Error::Failed`] if the server doesn't answer.
pub(super) fn unkept(server: &MysqlServer) -> Result<Vec<Warning>, Error> {
    let mut warnings = Vec::new();
    if server.vendor == Vendor::Mariadb {
        return Ok(warnings);
    }
    for (question, what, then) in UNKEPT {
        // Older servers lack such a table, or a column of it, and so what it tells.
        let names: Vec<String> = match server.ask(question) {
            Ok(rows) => rows.into_iter().flatten().map(|name| shown(&[&name])).collect(),
            Err(error) if error.is_failure() => continue,
            Err(error) => return Err(error),
        };
        if !names.is_empty() {
            warnings.push(
                WarningKind::LeftOut.warning(format!("{what} are in no dump, and {then}: {}", listed(&names, SHOWN))),
            );
        }
    }
    Ok(warnings)
}

/// Whether a server makes a table of that name in its database.
fn is_the_servers(database: &str, table: &str) -> bool {
    match database {
        "sys" => table == "sys_config",
        _ => TABLES.contains(&table) || BEGINNINGS.iter().any(|beginning| table.starts_with(beginning)),
    }
}
