//! Visibility of an account: a dump omits what the account can't see, or ends there.

use super::server::{PostgresqlServer, literal};
use crate::source::Error;

/// Schemas that aren't the server's own, as a condition on `n`.
pub const OF_USERS: &str = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

/// The statements that grant the account the missing privileges for a complete dump of `database`; none if it has them
/// all.
///
/// # Errors
/// [`Error::Failed`] if the server doesn't answer.
pub fn missing(server: &PostgresqlServer, database: &str, exclude_tables: &[String]) -> Result<Vec<String>, Error> {
    if server.is_superuser {
        return Ok(Vec::new());
    }
    let but = but(exclude_tables, "c");
    let questions = [
        format!(
            "SELECT format('GRANT USAGE ON SCHEMA %I TO %I;', n.nspname, current_user) FROM pg_namespace n WHERE {OF_USERS} AND \
             NOT has_schema_privilege(n.oid, 'USAGE') ORDER BY 1"
        ),
        format!(
            "SELECT format('GRANT SELECT ON %s %I.%I TO %I;', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, \
             n.nspname, c.relname, current_user) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OF_USERS} \
             {but} AND c.relkind IN ('r', 'p', 'S') AND NOT CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, \
             'SELECT') ELSE has_table_privilege(c.oid, 'SELECT') END ORDER BY 1"
        ),
        // With row security a dump ends, or would lack the rows that the account isn't shown.
        format!(
            "SELECT DISTINCT format('ALTER ROLE %I BYPASSRLS;', current_user) FROM pg_class c JOIN pg_namespace n ON n.oid = \
             c.relnamespace WHERE {OF_USERS} {but} AND c.relrowsecurity AND (c.relforcerowsecurity OR NOT \
             pg_has_role(c.relowner, 'USAGE')) AND NOT (SELECT rolbypassrls FROM pg_roles WHERE rolname = current_user)"
        ),
        "SELECT format('GRANT SELECT ON LARGE OBJECT %s TO %I;', m.oid, current_user) FROM pg_largeobject_metadata m WHERE NOT \
         pg_has_role(m.lomowner, 'USAGE') AND NOT EXISTS (SELECT FROM aclexplode(m.lomacl) a WHERE a.privilege_type = \
         'SELECT' AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE'))) ORDER BY m.oid"
            .to_owned(),
        // Subscriptions are left out with a word on stderr and status 0. Every account may see how many there are.
        "SELECT format('ALTER ROLE %I SUPERUSER; -- the database has subscriptions', current_user) WHERE EXISTS (SELECT \
         oid FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()))"
            .to_owned(),
        // The options of a user mapping are silently left out for all but a few.
        "SELECT DISTINCT format('ALTER ROLE %I SUPERUSER; -- the options of user mappings are hidden from others', current_user) FROM \
         pg_user_mappings m JOIN pg_foreign_server s ON s.oid = m.srvid WHERE m.umoptions IS NULL AND NOT CASE m.umuser WHEN 0 THEN \
         pg_has_role(s.srvowner, 'USAGE') ELSE m.usename = current_user AND (pg_has_role(s.srvowner, 'USAGE') OR \
         has_server_privilege(s.oid, 'USAGE')) END"
            .to_owned(),
    ];
    server.names(database, &questions.join(";\n"))
}

/// Whether the account may read the passwords of roles.
///
/// # Errors
/// [`Error::Failed`] if the server doesn't answer.
pub fn sees_passwords(server: &PostgresqlServer, database: &str) -> Result<bool, Error> {
    Ok(server.value(database, "SELECT has_table_privilege('pg_authid', 'SELECT')")? == "t")
}

/// # Errors
/// [`Error::Config`] if a privilege is missing, with the statements that give it.
pub fn check(server: &PostgresqlServer, database: &str, exclude_tables: &[String]) -> Result<(), Error> {
    let missing = missing(server, database, exclude_tables)?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Config(format!(
        "the account {} may not see all that belongs into the dump of {database}; give it, as an administrator of that \
         database:{}{}",
        server.account,
        listed(&missing),
        all_at_once(server, &missing)
    )))
}

/// Settings with which the server silently reads less than there is.
///
/// # Errors
/// [`Error::Config`] if one is on, with what turns it off.
pub fn check_settings(server: &PostgresqlServer, database: &str) -> Result<(), Error> {
    let question = "SELECT name FROM pg_settings WHERE name IN ('zero_damaged_pages', 'ignore_checksum_failure', \
                    'ignore_system_indexes') AND setting = 'on' ORDER BY 1";
    match server.names(database, question)?.as_slice() {
        [] => Ok(()),
        names => Err(Error::Config(format!(
            "in sessions of {} in {database} {} isn't as it is by default, so rows could be left out or damage be read as if nothing was there: ALTER \
             SYSTEM RESET …, ALTER ROLE … RESET … or ALTER DATABASE … RESET … (SELECT * FROM pg_db_role_setting)",
            server.account,
            names.join(", ")
        ))),
    }
}

/// Objects that only a superuser can make, and no extension brings, and user mappings with options that only he may set: a
/// restore by a role without rights lacks them.
///
/// # Errors
/// [`Error::Failed`] if the server doesn't answer.
pub fn superusers_objects(server: &PostgresqlServer, database: &str) -> Result<Vec<String>, Error> {
    let own = |catalogue: &str, name: &str, more: &str| {
        format!(
            "SELECT {name} FROM {catalogue} x {more} x.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = \
             '{catalogue}'::regclass AND d.objid = x.oid AND d.deptype IN ('e', 'i'))"
        )
    };
    let questions = [
        own(
            "pg_proc",
            "'function ' || x.oid::regprocedure",
            "JOIN pg_language l ON l.oid = x.prolang AND (NOT l.lanpltrusted OR x.proleakproof OR x.prosupport <> 0) WHERE x.prokind <> 'a' AND",
        ),
        own(
            "pg_proc",
            "'aggregate ' || x.oid::regprocedure",
            "JOIN pg_aggregate a ON a.aggfnoid = x.oid AND a.aggtranstype = 'internal'::regtype WHERE",
        ),
        own("pg_language", "'language ' || x.lanname", "WHERE"),
        own("pg_type", "'type ' || x.oid::regtype", "WHERE (x.typtype = 'b' OR NOT x.typisdefined) AND"),
        own("pg_opclass", "'operator class ' || x.opcname", "WHERE"),
        own("pg_opfamily", "'operator family ' || x.opfname", "WHERE"),
        own("pg_am", "'access method ' || x.amname", "WHERE"),
        own(
            "pg_cast",
            "'cast ' || x.castsource::regtype || ' AS ' || x.casttarget::regtype",
            "WHERE x.castmethod = 'b' AND",
        ),
        own("pg_ts_parser", "'text search parser ' || x.prsname", "WHERE"),
        own("pg_ts_template", "'text search template ' || x.tmplname", "WHERE"),
        "SELECT 'user mapping of ' || m.usename || ' for ' || m.srvname FROM pg_user_mappings m WHERE EXISTS (SELECT FROM \
         unnest(m.umoptions) o WHERE o ~ '^(sslcert|sslkey|password_required)=')"
            .to_owned(),
    ];
    server.names(database, &questions.join(" UNION ALL "))
}

/// Whether a dump has objects that a role without rights can create before an extension, whose script could take them
/// for its own: the needs of a language or a transform are written before all extensions.
///
/// # Errors
/// [`Error::Failed`] if the server doesn't answer.
pub fn precedes_extensions(server: &PostgresqlServer, database: &str) -> Result<bool, Error> {
    let own = |catalogue: &str, object: &str| {
        format!(
            "{object} >= 16384 AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = '{catalogue}'::regclass AND d.objid = \
             {object} AND d.deptype = 'e')"
        )
    };
    let question = format!(
        "SELECT EXISTS (SELECT FROM pg_extension WHERE oid >= 16384) AND (EXISTS (SELECT FROM pg_transform x WHERE {} AND {}) OR EXISTS \
         (SELECT FROM pg_language x JOIN pg_proc p ON p.oid IN (x.lanplcallfoid, x.laninline, x.lanvalidator) JOIN pg_language l ON \
         l.oid = p.prolang AND l.lanpltrusted WHERE {} AND {}))",
        own("pg_transform", "x.oid"),
        own("pg_type", "x.trftype"),
        own("pg_language", "x.oid"),
        own("pg_proc", "p.oid"),
    );
    Ok(server.value(database, &question)? == "t")
}

/// Indexes that a dump leaves out, because they were never finished. One that is being built isn't among them.
///
/// # Errors
/// [`Error::Failed`] if the server doesn't answer.
pub fn invalid_indexes(
    server: &PostgresqlServer,
    database: &str,
    exclude_tables: &[String],
) -> Result<Vec<String>, Error> {
    let question = format!(
        "SELECT i.indexrelid::regclass FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid \
         JOIN pg_namespace n ON n.oid = t.relnamespace WHERE {OF_USERS} {} AND t.relkind IN ('r', 'm') AND NOT (i.indisvalid AND \
         i.indisready) AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.relation = t.oid AND l.database = (SELECT oid FROM pg_database \
         WHERE datname = current_database()) AND l.mode = 'ShareUpdateExclusiveLock') ORDER BY 1",
        but(exclude_tables, "t")
    );
    server.names(database, &question)
}

/// The condition that a table isn't one of those that are left out.
fn but(exclude_tables: &[String], table: &str) -> String {
    match exclude_tables.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ") {
        names if names.is_empty() => String::new(),
        names => format!("AND n.nspname || '.' || {table}.relname NOT IN ({names})"),
    }
}

/// How many statements are shown.
const SHOWN: usize = 20;

fn listed(missing: &[String]) -> String {
    let shown = missing.iter().take(SHOWN).map(|statement| format!("\n    {statement}")).collect::<String>();
    let more = missing.len().saturating_sub(SHOWN);
    if more > 0 { format!("{shown}\n    … and {more} more") } else { shown }
}

/// The one grant that replaces those on schemas, tables and sequences, if the server has it.
fn all_at_once(server: &PostgresqlServer, missing: &[String]) -> String {
    let many =
        missing.iter().filter(|statement| statement.starts_with("GRANT ") && !statement.contains("LARGE OBJECT"));
    match server.version >= 140_000 && many.count() > 1 {
        true => format!(
            "\nor, for all schemas, tables and sequences now and later: GRANT pg_read_all_data TO {};",
            super::server::quoted(&server.account)
        ),
        false => String::new(),
    }
}
