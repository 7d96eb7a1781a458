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
}

impl MysqlTarget {
    /// Foreign keys into `astray`, of tables that lie in other databases, point to the tables of the same names in `home`.
    pub(super) fn lead_back(&self, astray: &str, home: &str) -> Result<(), Error> {
        let rows = self.server.ask(&format!(
            "SELECT k.CONSTRAINT_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, k.COLUMN_NAME, k.REFERENCED_TABLE_NAME, \
             k.REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE k WHERE k.REFERENCED_TABLE_SCHEMA = {} AND \
             k.CONSTRAINT_SCHEMA <> {} ORDER BY k.CONSTRAINT_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, k.ORDINAL_POSITION",
            literal(astray),
            literal(astray)
        ))?;
        let mut keys: BTreeMap<(String, String, String), Key> = BTreeMap::new();
        for row in rows {
            let [schema, table, name, column, parent, parent_column] = row.as_slice() else { continue };
            let key = keys.entry((schema.clone(), table.clone(), name.clone())).or_default();
            key.columns.push(quoted(column));
            key.parent_columns.push(quoted(parent_column));
            key.parent.clone_from(parent);
        }
        for ((schema, table, name), key) in keys {
            let table = format!("{}.{}", quoted(&schema), quoted(&table));
            // The rules as they are written: none isn't the same as NO ACTION to who compares schemas.
            let rules = self.rules(&table, &name)?;
            let indexes = self.indexes(&table)?;
            // Two statements: a server may refuse to drop and make a key of one name at once.
            self.server.run(&format!(
                "SET foreign_key_checks=0;\nALTER TABLE {table} DROP FOREIGN KEY {};\nALTER TABLE {table} ADD CONSTRAINT {} \
                 FOREIGN KEY ({}) REFERENCES {}.{} ({}){rules}",
                quoted(&name),
                quoted(&name),
                key.columns.join(", "),
                quoted(home),
                quoted(&key.parent),
                key.parent_columns.join(", "),
            ))?;
            self.rename_back(&table, &indexes)?;
        }
        Ok(())
    }

    /// What stands behind a foreign key's columns: ` ON DELETE CASCADE`.
    fn rules(&self, table: &str, name: &str) -> Result<String, Error> {
        let rows = self.server.ask(&format!("SHOW CREATE TABLE {table}"))?;
        let text = rows.first().and_then(|row| row.get(1)).cloned().unwrap_or_default();
        let start = format!("CONSTRAINT {} FOREIGN KEY ", quoted(name));
        let line = text.lines().find(|line| line.trim_start().starts_with(&start)).unwrap_or_default();
        Ok(line.rsplit_once(')').map_or("", |(_, rules)| rules.trim_end_matches(',')).to_owned())
    }

    /// A table's indexes, each with its columns.
    fn indexes(&self, table: &str) -> Result<BTreeMap<String, Vec<String>>, Error> {
        let mut indexes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in self.server.ask(&format!("SHOW INDEX FROM {table}"))? {
            if let (Some(index), Some(column)) = (row.get(2), row.get(4)) {
                indexes.entry(index.clone()).or_default().push(column.clone());
            }
        }
        Ok(indexes)
    }

    /// An index that the server had made for a foreign key was made anew with it, under another name: it gets its own back.
    fn rename_back(&self, table: &str, before: &BTreeMap<String, Vec<String>>) -> Result<(), Error> {
        let after = self.indexes(table)?;
        for (name, columns) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
            let new = after.iter().find(|(new, same)| !before.contains_key(*new) && *same == columns);
            if let Some((new, _)) = new {
                self.server.run(&format!("ALTER TABLE {table} RENAME INDEX {} TO {}", quoted(new), quoted(name)))?;
            }
        }
        Ok(())
    }
}
