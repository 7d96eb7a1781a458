//! Snapshots and packs that this machine trusts, whatever the remote says: those that it made, and packs of which every
//! segment was opened here since. A backup relies on nothing else.

use rusqlite::{Connection, params};

use super::{Index, Result};
use crate::format::checks::DirectoryCheck;
use crate::id::{PackId, SnapshotId};

impl Index {
    /// Remembers that this machine made a snapshot.
    pub fn trust_snapshot(&mut self, id: &SnapshotId) -> Result<()> {
        let insert = "INSERT OR IGNORE INTO trusted_snapshot VALUES (?1)";
        self.write(|database| database.execute(insert, [id.as_bytes()]))?;
        Ok(())
    }

    /// Whether this machine made that snapshot.
    pub fn trusts_snapshot(&self, id: &SnapshotId) -> Result<bool> {
        self.read(|database| {
            let mut select = database.prepare_cached("SELECT 1 FROM trusted_snapshot WHERE id = ?1")?;
            select.exists([id.as_bytes()])
        })
    }

    /// Whether this machine is known to have made any snapshot at all.
    pub fn trusts_any_snapshot(&self) -> Result<bool> {
        self.read(|database| database.prepare_cached("SELECT 1 FROM trusted_snapshot")?.exists([]))
    }

    /// Remembers that every segment of these packs was opened here, and every chunk had its id. Returns how many were not
    /// trusted before.
    pub fn trust_packs(&mut self, packs: impl Iterator<Item = PackId>) -> Result<usize> {
        self.write(|database| {
            let insert = "INSERT OR REPLACE INTO trusted_pack SELECT id, directory_check FROM pack WHERE id = ?1 \
                          AND NOT EXISTS (SELECT 1 FROM trusted_pack AS known WHERE known.id = pack.id \
                          AND known.directory_check = pack.directory_check)";
            let mut insert = database.prepare_cached(insert)?;
            packs.map(|id| insert.execute([id.as_bytes()])).sum()
        })
    }

    /// The numbers of the packs that are trusted: those whose directory is the very one that this machine wrote or opened.
    pub fn trusted_packs(&self) -> Result<Vec<u32>> {
        self.read(|database| {
            let select = "SELECT number FROM pack JOIN trusted_pack USING (id, directory_check) ORDER BY number";
            database.prepare_cached(select)?.query_map([], |row| row.get(0))?.collect()
        })
    }
}

/// Remembers that this machine wrote a pack.
pub(super) fn trust_pack(database: &Connection, id: &PackId, check: &DirectoryCheck) -> rusqlite::Result<()> {
    database.execute("INSERT OR REPLACE INTO trusted_pack VALUES (?1, ?2)", params![id.as_bytes(), check])?;
    Ok(())
}
