//! Records of lost snapshots: enough to store them again.

use rusqlite::params;

use super::snapshots::{SnapshotRow, raw};
use super::{Index, Result};
use crate::format::snapshot::SnapshotBody;
use crate::id::SnapshotId;

/// Keeps the records of all snapshots.
pub(super) const KEEP_ALL: &str = "INSERT OR REPLACE INTO lost_snapshot SELECT id, size, header, about, snapshot.row_check, \
                                   body.bytes, body.row_check, recipe.bytes, recipe.row_check FROM snapshot JOIN body ON \
                                   body.snapshot = id JOIN recipe ON recipe.snapshot = id";

impl Index {
    /// Removes a snapshot that somebody deleted or damaged, and keeps its record. It stays one of this machine's, if it
    /// was.
    pub fn lose_snapshot(&mut self, id: &SnapshotId) -> Result<()> {
        self.write(|database| {
            database.execute(&format!("{KEEP_ALL} WHERE id = ?1"), params![id.as_bytes()])?;
            database.execute("DELETE FROM snapshot WHERE id = ?1", [id.as_bytes()])?;
            database.execute("DELETE FROM chain WHERE id NOT IN (SELECT chain FROM snapshot)", [])
        })?;
        Ok(())
    }

    /// The lost snapshots, by sequence, ascending.
    pub fn lost_snapshots(&self) -> Result<Vec<SnapshotRow>> {
        let rows: Vec<_> = self.read(|database| {
            let mut select = database.prepare_cached("SELECT id, size, header, about, row_check FROM lost_snapshot")?;
            select.query_map([], raw)?.collect()
        })?;
        let mut lost = rows.into_iter().map(|row| self.decode_snapshot(row)).collect::<Result<Vec<_>>>()?;
        lost.sort_by_key(|row| row.header.sequence);
        Ok(lost)
    }

    /// The body of a snapshot that is there or lost, with its recipe.
    pub fn whole_body(&self, id: &SnapshotId) -> Result<Option<SnapshotBody>> {
        let (body, recipe) = match self.body(id)? {
            Some(body) => (Some(body), self.recipe(id)?),
            None => {
                const BODY: &str = "SELECT body, body_check FROM lost_snapshot WHERE id = ?1";
                const RECIPE: &str = "SELECT bytes, recipe_check FROM lost_snapshot WHERE id = ?1";
                let body = self.checked_bytes(BODY, id, "body of a lost snapshot")?;
                let body = body.map(|bytes| self.decode_body(&bytes)).transpose()?;
                (body, self.checked_bytes(RECIPE, id, "recipe of a lost snapshot")?)
            }
        };
        Ok(body.zip(recipe).map(|(body, recipe)| SnapshotBody { recipe, ..body }))
    }

    /// Forgets a lost snapshot.
    pub fn forget_lost(&mut self, id: &SnapshotId) -> Result<()> {
        self.write(|database| {
            database.execute("DELETE FROM lost_snapshot WHERE id = ?1", [id.as_bytes()])?;
            database.execute("DELETE FROM trusted_snapshot WHERE id = ?1", [id.as_bytes()])
        })?;
        Ok(())
    }
}
