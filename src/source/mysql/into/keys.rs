//! Foreign keys that a rename has led astray, led back.
//!
//! A foreign key follows its parent: of tables that stay, to what was put aside; of a table that was loaded alone, to where it
//! was loaded.

use std::collections::BTreeMap;

use super::MysqlTarget;
use crate::source::Error;
use crate::source::mysql::names::{literal, quoted};
use crate::source::mysql::program::Vendor;

/// One foreign key.
#[derive(Debug, Clone, Default)]
struct ForeignKey {
    columns: Vec<String>,
    parent: String,
    parent_columns: Vec<String>,
}

impl MysqlTarget {
    /// Foreign keys into `astray`, of tables that lie in other databases, point to the tables of the same names in `home`.
    pub(super) fn lead_back(&self, astray: &str, home: &str) -> Result<(), Error> {
        let question = |of: &str| {
            format!(
                "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_NAME, \
                 REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_SCHEMA = {} AND {of} \
                 ORDER BY CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION;\n",
                literal(astray)
            )
        };
        let rows = match self.children(astray)? {
            Some(tables) => {
                let each = |(schema, table): &(String, String)| {
                    question(&format!("TABLE_SCHEMA = {} AND TABLE_NAME = {}", literal(schema), literal(table)))
                };
                self.server.ask(&tables.iter().map(each).collect::<String>())?
            }
            None => self.server.ask(&question(&format!("TABLE_SCHEMA <> {}", literal(astray))))?,
        };
        let mut keys: BTreeMap<(String, String, String), ForeignKey> = BTreeMap::new();
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

    /// The tables of other databases that have foreign keys into this one, by the storage engine's own list. None where that
    /// isn't to be had: then the tables of all databases are to be looked at, and a MariaDB server opens each for that, and
    /// waits for a statement that makes one.
    fn children(&self, parents: &str) -> Result<Option<Vec<(String, String)>>, Error> {
        if self.server.vendor != Vendor::Mariadb {
            return Ok(None);
        }
        // The list has names as files have them: `database/table`.
        let part = |column: &str, at: i32| {
            let name = format!("CAST(SUBSTRING_INDEX({column}, '/', {at}) AS BINARY)");
            format!("CONVERT(CONVERT({name} USING filename) USING utf8mb4)")
        };
        let (schema, own) = (part("FOR_NAME", 1), literal(parents));
        let question = format!(
            "SELECT DISTINCT {schema}, {} FROM information_schema.INNODB_SYS_FOREIGN WHERE BINARY {} = BINARY {own} AND BINARY \
             {schema} <> BINARY {own}",
            part("FOR_NAME", -1),
            part("REF_NAME", 1)
        );
        match self.server.ask(&question) {
            Ok(rows) => {
                let rows = rows.into_iter().filter_map(|row| <[String; 2]>::try_from(row).ok());
                Ok(Some(rows.map(|[schema, table]| (schema, table)).collect()))
            }
            // It takes a privilege (PROCESS).
            Err(error) if error.is_failure() => Ok(None),
            Err(error) => Err(error),
        }
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
