//! The index: what a repository holds, in a local SQLite database beside a sorted file of chunk fingerprints.
//!
//! All but local history and the highest sequence seen can be rebuilt from the repository. No chunk has a row: a pack's
//! directory is one BLOB, and [`Known`] finds chunks.

mod history;
mod known;
mod packs;
mod snapshots;
mod trust;

pub use history::{INTO_SERVICE, Operation, Outcome};
pub use known::{Found, Known};
pub use packs::{NewPack, PackRow};
pub use snapshots::SnapshotRow;

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use crate::format::FormatError;

/// The schema's steps, in order. A step that was released never changes.
const MIGRATIONS: &[&str] = &[include_str!("schema/0001.sql")];

/// Why the index can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// SQLite refused.
    #[error("the index {path} can't be used: {source}; `varu index rebuild` makes it again from the repository")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// It can't be written, for the disk is full or read-only.
    #[error("the index {path} can't be written: {source}; make room on that disk, and run it again")]
    NoRoom {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A file beside it can't be used.
    #[error("{tried} {path} failed: {source}")]
    Io {
        /// What was tried.
        tried: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// It was made by a newer program.
    #[error("the index {path} has schema {found}, and this program knows up to {known}; use a newer varu")]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema's number.
        found: usize,
        /// The newest schema that this program knows.
        known: usize,
    },
    /// A BLOB isn't what the format describes.
    #[error("the index holds a broken {what}: {source}; `varu index rebuild` makes it again from the repository")]
    Broken {
        /// What is broken.
        what: &'static str,
        /// How.
        source: FormatError,
    },
}

impl IndexError {
    fn of(path: PathBuf, source: rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull | ErrorCode::ReadOnly) => Self::NoRoom { path, source },
            _ => Self::Sqlite { path, source },
        }
    }
}

type Result<T> = std::result::Result<T, IndexError>;

/// The index of one repository.
pub struct Index {
    database: Connection,
    folder: PathBuf,
    directories: RefCell<packs::DirectoryCache>,
}

impl Index {
    /// Whether there is an index in `folder`.
    pub fn is_in(folder: &Path) -> bool {
        folder.join("index.sqlite").exists()
    }

    /// Opens the index in `folder`, and makes it where there is none.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("index.sqlite");
        // SQLite gives its file and those beside it the mode of the first: the owner's alone, whatever the umask. What can't be
        // written is told from what is damaged here, too.
        let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        made.map_err(|source| IndexError::Io { tried: "opening", path: path.clone(), source })?;
        let database = Connection::open(&path).map_err(|source| IndexError::of(path, source))?;
        let mut index =
            Self { database, folder: folder.to_owned(), directories: RefCell::new(packs::DirectoryCache::default()) };
        index.prepare()?;
        Ok(index)
    }

    /// Moves a damaged index in `folder` out of the way, so that a new one can be made. Returns where it is then; None where
    /// there is none, or a whole one.
    ///
    /// # Errors
    ///
    /// Where it can't be moved, and where it was made by a newer program: that isn't damage.
    pub fn set_aside_damaged(folder: &Path) -> Result<Option<PathBuf>> {
        let path = folder.join("index.sqlite");
        if !path.exists() {
            return Ok(None);
        }
        match Self::open(folder).and_then(|index| index.integrity()) {
            Ok(Ok(())) => return Ok(None),
            Err(error @ IndexError::Newer { .. }) => return Err(error),
            Ok(Err(_)) | Err(_) => {}
        }
        let aside = folder.join("index.sqlite.damaged");
        let moved = std::fs::rename(&path, &aside);
        moved.map_err(|source| IndexError::Io { tried: "moving away", path, source })?;
        for rest in ["index.sqlite-wal", "index.sqlite-shm"] {
            // Without the database they mean nothing; beside a new one they would.
            match std::fs::remove_file(folder.join(rest)) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(IndexError::Io { tried: "taking away", path: folder.join(rest), source });
                }
                _ => {}
            }
        }
        Ok(Some(aside))
    }

    /// The folder that it lies in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn prepare(&mut self) -> Result<()> {
        let result = (|| {
            self.database.busy_timeout(Duration::from_secs(30))?;
            self.database.pragma_update(None, "journal_mode", "wal")?;
            self.database.pragma_update(None, "synchronous", "normal")?;
            self.database.pragma_update(None, "foreign_keys", true)?;
            self.database.pragma_update(None, "cache_size", -8192)?;
            self.database.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))
        })();
        let version = result.map_err(|source| self.error(source))? as usize;
        if version > MIGRATIONS.len() {
            let path = self.folder.join("index.sqlite");
            return Err(IndexError::Newer { path, found: version, known: MIGRATIONS.len() });
        }
        for (number, migration) in MIGRATIONS.iter().enumerate().skip(version) {
            self.migrate(number + 1, migration).map_err(|source| self.error(source))?;
        }
        Ok(())
    }

    fn migrate(&mut self, number: usize, migration: &str) -> rusqlite::Result<()> {
        let transaction = self.database.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", number as u32)?;
        transaction.commit()
    }

    fn error(&self, source: rusqlite::Error) -> IndexError {
        IndexError::of(self.folder.join("index.sqlite"), source)
    }

    /// Runs `work` in one transaction.
    fn write<T>(&mut self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let result = (|| {
            let transaction = self.database.transaction()?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })();
        result.map_err(|source| self.error(source))
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        work(&self.database).map_err(|source| self.error(source))
    }

    /// A remembered fact, None where nothing was remembered under that name.
    pub fn fact(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.read(|database| {
            database.query_row("SELECT value FROM fact WHERE name = ?1", [name], |row| row.get(0)).optional()
        })
    }

    /// Remembers a fact.
    pub fn set_fact(&mut self, name: &str, value: &[u8]) -> Result<()> {
        self.write(|database| {
            let insert = "INSERT INTO fact VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
            database.execute(insert, params![name, value])
        })?;
        Ok(())
    }

    /// Forgets a fact.
    pub fn forget_fact(&mut self, name: &str) -> Result<()> {
        self.write(|database| database.execute("DELETE FROM fact WHERE name = ?1", [name]))?;
        Ok(())
    }

    /// Forgets all that can be made again from the repository.
    pub fn clear(&mut self) -> Result<()> {
        self.directories.borrow_mut().clear();
        self.write(|database| {
            let tables =
                "DELETE FROM stand_in; DELETE FROM recipe; DELETE FROM snapshot; DELETE FROM chain; DELETE FROM segment; DELETE FROM pack;";
            database.execute_batch(tables)
        })
    }

    /// Whether SQLite finds its file whole: `Err` with what it found where it doesn't.
    pub fn integrity(&self) -> Result<std::result::Result<(), String>> {
        let found: String =
            self.read(|database| database.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)))?;
        Ok(if found == "ok" { Ok(()) } else { Err(found) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_opens_again_and_keeps_facts() {
        let folder = tempfile::tempdir().unwrap();
        let mut index = Index::open(folder.path()).unwrap();
        index.set_fact("highest", b"7").unwrap();
        index.set_fact("highest", b"8").unwrap();
        drop(index);
        let mut index = Index::open(folder.path()).unwrap();
        assert_eq!(index.fact("highest").unwrap().as_deref(), Some(b"8".as_slice()));
        index.forget_fact("highest").unwrap();
        assert_eq!(index.fact("highest").unwrap(), None);
        assert_eq!(index.integrity().unwrap(), Ok(()));
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(Index::open(folder.path()).unwrap());
        let database = Connection::open(folder.path().join("index.sqlite")).unwrap();
        database.pragma_update(None, "user_version", 999).unwrap();
        drop(database);
        assert!(matches!(Index::open(folder.path()), Err(IndexError::Newer { found: 999, .. })));
    }

    #[test]
    fn what_is_no_database_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("index.sqlite"), vec![b'x'; 9000]).unwrap();
        let error = Index::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains("varu index rebuild"), "{error}");
        let aside = Index::set_aside_damaged(folder.path()).unwrap().unwrap();
        assert_eq!(std::fs::read(aside).unwrap(), vec![b'x'; 9000]);
        drop(Index::open(folder.path()).unwrap());
        assert_eq!(Index::set_aside_damaged(folder.path()).unwrap(), None);
    }
}
