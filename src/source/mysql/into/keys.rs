//! Foreign keys that a rename has led astray, led back.
//!
//! A foreign key follows its parent: of tables that stay, to what was put aside; of a table that was loaded alone, to where it
//! was loaded.

use std::collections::BTreeMap;

use super::MysqlTarget;
use crate::source::Error;
use crate::source::mysql::names::{literal, quoted};

/// One foreign key.
#[derive(Debug, Clone, Default)]
struct Key {
    columns: Vec<String>,
    parent: String,
    parent_columns: Vec<String>,
    on_update: String,
    on_delete: String,
}

impl MysqlTarget {
    /// Foreign keys into `astray`, of tables that lie in other databases, point to the tables of the same names in `home`.
    pub(super) fn lead_back(&self, astray: &str, home: &str) -> Result<(), Error> {
        let rows = self.server.ask(&format!(
            "SELECT k.CONSTRAINT_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, k.COLUMN_NAME, k.REFERENCED_TABLE_NAME, \
             k.REFERENCED_COLUMN_NAME, r.UPDATE_RULE, r.DELETE_RULE FROM information_schema.KEY_COLUMN_USAGE k JOIN \
             information_schema.REFERENTIAL_CONSTRAINTS r ON r.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA AND r.TABLE_NAME = \
             k.TABLE_NAME AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME WHERE k.REFERENCED_TABLE_SCHEMA = {} AND \
             k.CONSTRAINT_SCHEMA <> {} ORDER BY k.CONSTRAINT_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, k.ORDINAL_POSITION",
            literal(astray),
            literal(astray)
        ))?;
        let mut keys: BTreeMap<(String, String, String), Key> = BTreeMap::new();
        for row in rows {
            let [schema, table, name, column, parent, parent_column, on_update, on_delete] = row.as_slice() else {
                continue;
            };
            let key = keys.entry((schema.clone(), table.clone(), name.clone())).or_default();
            key.columns.push(quoted(column));
            key.parent_columns.push(quoted(parent_column));
            key.parent.clone_from(parent);
            key.on_update.clone_from(on_update);
            key.on_delete.clone_from(on_delete);
        }
        for ((schema, table, name), key) in keys {
            // Two statements: a server may refuse to drop and make a key of one name at once.
            let table = format!("{}.{}", quoted(&schema), quoted(&table));
            self.server.run(&format!(
                "SET foreign_key_checks=0;\nALTER TABLE {table} DROP FOREIGN KEY {};\nALTER TABLE {table} ADD CONSTRAINT {} \
                 FOREIGN KEY ({}) REFERENCES {}.{} ({}) ON UPDATE {} ON DELETE {}",
                quoted(&name),
                quoted(&name),
                key.columns.join(", "),
                quoted(home),
                quoted(&key.parent),
                key.parent_columns.join(", "),
                key.on_update,
                key.on_delete
            ))?;
        }
        Ok(())
    }
}
