//! What is known of snapshots that are lost: enough to store them again.

use rusqlite::params;

use super::snapshots::{SnapshotRow, raw};
use super::{Index, Result, row_check};
use crate::id::SnapshotId;

/// Keeps what is known of all snapshots.
pub(super) const KEEP_ALL: &str = "INSERT OR REPLACE INTO lost_snapshot SELECT id, size, header, about, snapshot.row_check, \
                                   bytes, recipe.row_check FROM snapshot JOIN recipe ON snapshot = id";

impl Index {
    /// Takes a snapshot out that somebody took away or damaged, and keeps what is known of it. It stays one that this machine
    /// made, where it did.
    pub fn lose_snapshot(&mut self, id: &SnapshotId) -> Result<()> {
        self.write(|database| {
            database.execute(&format!("{KEEP_ALL} WHERE id = ?1"), params![id.as_bytes()])?;
            database.execute("DELETE FROM snapshot WHERE id = ?1", [id.as_bytes()])?;
            database.execute("DELETE FROM chain WHERE id NOT IN (SELECT chain FROM snapshot)", [])
        })?;
        Ok(())
    }

    /// What is known of lost snapshots, with the bytes of their recipes.
    pub fn lost_snapshots(&self) -> Result<Vec<(SnapshotRow, Vec<u8>)>> {
        let rows: Vec<_> = self.read(|database| {
            let mut select = database
                .prepare_cached("SELECT id, size, header, about, row_check, bytes, recipe_check FROM lost_snapshot")?;
            let read = |row: &rusqlite::Row<'_>| Ok((raw(row)?, row.get::<_, Vec<u8>>(5)?, row.get::<_, Vec<u8>>(6)?));
            select.query_map([], read)?.collect()
        })?;
        let mut lost = Vec::new();
        for (row, recipe, check) in rows {
            let row = self.decode_snapshot(row)?;
            self.expect(check == row_check(&[row.id.as_bytes(), &recipe]), "recipe of a lost snapshot")?;
            lost.push((row, recipe));
        }
        lost.sort_by_key(|(row, _)| row.header.sequence);
        Ok(lost)
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
