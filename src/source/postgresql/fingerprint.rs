//! Fingerprints of each object in a database, compared before and after a dump.
//!
//! `TRUNCATE` and rewriting forms of `ALTER TABLE` don't keep the rows that an older snapshot would see: one that falls
//! between the dump's snapshot and its lock leaves a table empty, with status 0. The rows of the catalogue are others
//! then.

use super::grants::OF_USERS;
use super::server::PostgresqlServer;
use crate::source::Error;
use crate::source::objects::Objects;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresqlTable {
    /// `public.t`, quoted where it has to be.
    pub name: String,
    /// `public.t`, as it is.
    pub plain: String,
    /// Whether its rows belong into a dump: `r` but none of an extension's.
    pub has_rows: bool,
    /// Bytes of its rows.
    pub bytes: u64,
}

/// The recorded objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PostgresqlFingerprint {
    /// Tables, by name.
    pub tables: Vec<PostgresqlTable>,
    /// All objects.
    pub objects: Objects,
}

/// The catalogue's rows, each with the object that it belongs to and the transaction that wrote it.
fn questions() -> String {
    let of_class = |catalogue: &str, column: &str| {
        format!(
            "SELECT 'table', n.nspname || '.' || c.relname, string_agg(x.ctid::text || x.xmin::text, ' ' ORDER BY x.ctid) FROM \
             {catalogue} x JOIN pg_class c ON c.oid = x.{column} JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OF_USERS} \
             GROUP BY 1, 2"
        )
    };
    let own = |what: &str, catalogue: &str, name: &str, namespace: &str| {
        format!(
            "SELECT '{what}', n.nspname || '.' || x.{name}, string_agg(x.oid::text || ' ' || x.xmin::text, ' ' ORDER BY x.oid) \
             FROM {catalogue} x JOIN pg_namespace n ON n.oid = x.{namespace} WHERE {OF_USERS} GROUP BY 1, 2"
        )
    };
    let plain = |what: &str, catalogue: &str, name: &str| {
        format!("SELECT '{what}', x.{name}::text, x.oid::text || ' ' || x.xmin::text FROM {catalogue} x")
    };
    [
        of_class("pg_attribute", "attrelid"),
        of_class("pg_attrdef", "adrelid"),
        of_class("pg_trigger", "tgrelid"),
        of_class("pg_policy", "polrelid"),
        of_class("pg_rewrite", "ev_class"),
        of_class("pg_inherits", "inhrelid"),
        own("function", "pg_proc", "proname", "pronamespace"),
        own("type", "pg_type", "typname", "typnamespace"),
        own("constraint", "pg_constraint", "conname", "connamespace"),
        own("operator", "pg_operator", "oprname", "oprnamespace"),
        format!("SELECT 'schema', n.nspname, n.oid::text || ' ' || n.xmin::text FROM pg_namespace n WHERE {OF_USERS}"),
        plain("extension", "pg_extension", "extname"),
        plain("event trigger", "pg_event_trigger", "evtname"),
        plain("publication", "pg_publication", "pubname"),
    ]
    .join(";\n")
}

impl PostgresqlFingerprint {
    /// Looks at a database, without the tables `exclude` (`schema.table`). Of tables `schema_only` it doesn't matter whether
    /// their rows went.
    ///
    /// # Errors
    /// [`Error::Failed`] if the server doesn't answer.
    pub fn take(
        server: &PostgresqlServer,
        database: &str,
        exclude: &[String],
        schema_only: &[String],
    ) -> Result<Self, Error> {
        let mut found = Self::default();
        let tables = format!(
            "SELECT format('%I.%I', n.nspname, c.relname), n.nspname || '.' || c.relname, c.relkind, c.relkind = 'r' AND NOT \
             EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'), \
             CASE WHEN c.relkind = 'r' THEN pg_table_size(c.oid) ELSE 0 END, c.oid::text || ' ' || c.xmin::text, c.relfilenode \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OF_USERS} ORDER BY 1"
        );
        for row in server.ask(database, &tables)? {
            let [name, plain, kind, has_rows, bytes, about, file] = row.as_slice() else { continue };
            if exclude.contains(plain) {
                continue;
            }
            // An index is rebuilt in a file of its own, and no row is lost by that.
            let file = if schema_only.contains(plain) || matches!(kind.as_str(), "i" | "I") { "" } else { file };
            found.objects.note(format!("{} {plain}", word(kind)), &format!("{about} {file}"));
            let has_rows = has_rows == "t" && !schema_only.contains(plain);
            let (name, plain, bytes) = (name.clone(), plain.clone(), bytes.parse().unwrap_or(0));
            if matches!(kind.as_str(), "r" | "p" | "m" | "f") {
                found.tables.push(PostgresqlTable { name, plain, has_rows, bytes });
            }
        }
        for row in server.ask(database, &questions())? {
            if let [what, name, about] = row.as_slice()
                && !exclude.contains(name)
            {
                found.objects.note(format!("{what} {name}"), about);
            }
        }
        Ok(found)
    }
}

fn word(kind: &str) -> &'static str {
    match kind {
        "v" => "view",
        "m" => "materialized view",
        "S" => "sequence",
        "i" | "I" => "index",
        "c" => "type",
        _ => "table",
    }
}
