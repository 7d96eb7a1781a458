//! Integrity checks of the index.

use rusqlite::types::ValueRef;

use super::{FILE, Index, IndexError, Result};
use crate::id::Hasher;

/// The first 16 bytes of a BLAKE3 of a row's parts.
pub(super) fn row_check(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finish_short()
}

/// The file by whose presence the next command looks through the index before it uses it.
const SUSPECT: &str = "index.suspect";
/// An index up to that size is checked whenever it is opened. A larger one if the last command didn't end well, or met
/// an impossible value.
const ALWAYS: u64 = 64 << 20;

impl Index {
    /// Whether the index in this folder should be looked through before it is used.
    pub(super) fn should_be_looked_through(&self) -> bool {
        let size = std::fs::metadata(self.folder.join(FILE)).map_or(0, |file| file.len());
        size <= ALWAYS || self.folder.join(SUSPECT).exists()
    }

    /// Looks through all of it: SQLite's own pages, then each row that decides.
    pub fn look_through(&self) -> Result<()> {
        let found: String = self.read(|database| database.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)))?;
        if found != "ok" {
            let found = found.lines().find(|line| !line.starts_with("***")).unwrap_or_default().to_owned();
            return Err(IndexError::Malformed { path: self.folder.join(FILE), found });
        }
        let facts: Vec<String> = self.read(|database| {
            let mut select = database.prepare("SELECT name FROM local_state")?;
            select.query_map([], |row| row.get(0))?.collect()
        })?;
        for name in facts {
            self.local(&name)?;
        }
        let rows = self.snapshots()?;
        for row in &rows {
            self.expect(self.body_bytes(&row.id)?.is_some(), "snapshot without a body")?;
            self.expect(self.recipe(&row.id)?.is_some(), "snapshot without a recipe")?;
        }
        for id in self.recovered_recipes()? {
            self.recovered_recipe(&id)?;
        }
        self.packs()?;
        self.look_through_directories()?;
        // The index's answer was right: the suspicion is cleared. A leftover file only costs time.
        let _ = std::fs::remove_file(self.folder.join(SUSPECT));
        Ok(())
    }

    /// Each directory is hashed as it lies there, and not kept.
    fn look_through_directories(&self) -> Result<()> {
        let whole = self.read(|database| {
            let mut select = database.prepare("SELECT directory, directory_hash FROM pack")?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                let (ValueRef::Blob(directory), ValueRef::Blob(hash)) = (row.get_ref(0)?, row.get_ref(1)?) else {
                    return Ok(false);
                };
                if row_check(&[directory]) != *hash {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        self.expect(whole, "pack directory")
    }

    /// Fails where a row isn't as it was written.
    pub(super) fn expect(&self, is_so: bool, what: &'static str) -> Result<()> {
        match is_so {
            true => Ok(()),
            false => Err(self.suspect(IndexError::Changed { what })),
        }
    }

    /// The same error; where it is damage, the next command looks through the index before it uses it.
    pub(super) fn suspect(&self, error: IndexError) -> IndexError {
        if error.is_damage() {
            // Where it can't be made the next command meets the same damage.
            drop(std::fs::File::create(self.folder.join(SUSPECT)));
        }
        error
    }
}
