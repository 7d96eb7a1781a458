//! The index: a repository's content, in a local SQLite database beside a sorted file of chunk fingerprints.
//!
//! All but local history and the highest sequence seen can be rebuilt from the repository. No chunk has a row: a pack's
//! directory is one BLOB, and [`ChunkIndex`] finds chunks.

mod check;
mod heal;
mod journal;
mod known;
mod lost;
mod packs;
mod snapshots;
mod trust;

pub use journal::{Beginning, Ending, Operation, OperationKind, Outcome, Running};
pub use known::{ChunkIndex, ChunkLocation};
pub use packs::{NewPack, PackRow};
pub use snapshots::SnapshotRow;

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use crate::class::{Class, Classified};
use crate::disk::{is_closed, way_out};
use crate::format::FormatError;
use crate::segment::SegmentError;

use check::row_check;
use lost::KEEP_ALL;

/// The database.
const FILE: &str = "index.sqlite";
/// The tables.
const SCHEMA: &str = include_str!("schema.sql");
/// The number of that schema. An index with another one is put aside and made again.
const VERSION: u32 = 5;

/// Why the index can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// SQLite refused.
    #[error("the index {path} can't be used: {source}; `varu index rebuild` makes it again from the repository")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// SQLite's message.
        source: rusqlite::Error,
    },
    /// It can't be written, for the disk is full or read-only.
    #[error(
        "the index {path} can't be written: {source}; make room on that disk, or mount it for writing, and run it again"
    )]
    NoSpace {
        /// The database.
        path: PathBuf,
        /// SQLite's message.
        source: rusqlite::Error,
    },
    /// A file beside it can't be used.
    #[error("{tried} {path} failed: {source}{}", way_out(source))]
    Io {
        /// The operation.
        tried: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// It was made by another version of the program.
    #[error(
        "the index {path} has schema {found}, and this program's is {VERSION}; `varu index rebuild` makes it again"
    )]
    OtherSchema {
        /// The database.
        path: PathBuf,
        /// Its schema's number.
        found: u32,
    },
    /// SQLite finds its file damaged.
    #[error("the index {path} is damaged: {found}; `varu index rebuild` makes it again from the repository")]
    Malformed {
        /// The database.
        path: PathBuf,
        /// SQLite's finding.
        found: String,
    },
    /// A row isn't as it was written.
    #[error(
        "the index holds a {what} that isn't as it was written; `varu index rebuild` makes it again from the repository"
    )]
    Changed {
        /// The changed object.
        what: &'static str,
    },
    /// A BLOB doesn't follow the format.
    #[error("the index holds a broken {what}: {source}; `varu index rebuild` makes it again from the repository")]
    Broken {
        /// The broken object.
        what: &'static str,
        /// How.
        source: FormatError,
    },
    /// The data can't be compressed.
    #[error("compressing a snapshot's body for the index failed: {0}")]
    Body(SegmentError),
}

impl Classified for IndexError {
    fn class(&self) -> Class {
        match self {
            Self::NoSpace { .. } => Class::NoSpace,
            Self::Io { source, .. } => Class::of_io(source),
            Self::Sqlite { .. }
            | Self::OtherSchema { .. }
            | Self::Malformed { .. }
            | Self::Changed { .. }
            | Self::Broken { .. }
            | Self::Body(_) => Class::Failed,
        }
    }
}

impl IndexError {
    fn of(path: PathBuf, source: rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull | ErrorCode::ReadOnly) => Self::NoSpace { path, source },
            // SQLite knows a full disk alone: all else is a failure to it.
            Some(ErrorCode::SystemIoFailure) if path.parent().is_some_and(is_closed) => Self::NoSpace { path, source },
            _ => Self::Sqlite { path, source },
        }
    }

    /// Whether the index itself is the reason, and not the access to it: rebuilding it helps.
    pub fn is_damage(&self) -> bool {
        use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
        match self {
            Self::OtherSchema { .. } | Self::Malformed { .. } | Self::Changed { .. } | Self::Broken { .. } => true,
            Self::Sqlite { source: FromSqlConversionFailure(..) | IntegralValueOutOfRange(..), .. }
            | Self::Sqlite { source: InvalidColumnType(..), .. } => true,
            Self::Sqlite { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(
                    ErrorCode::DatabaseCorrupt
                        | ErrorCode::NotADatabase
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::ConstraintViolation
                        // A table or a column that should be there.
                        | ErrorCode::Unknown
                )
            ),
            Self::NoSpace { .. } | Self::Io { .. } | Self::Body(_) => false,
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
        folder.join(FILE).exists()
    }

    /// Opens the index in `folder`, and makes it where there is none. It isn't looked through: see [`Index::open_whole`].
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        // SQLite gives its file and those beside it the mode of the first: the owner's alone, whatever the umask.
        // Unwritable files are distinguished from damaged ones here, too.
        let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        made.map_err(|source| IndexError::Io { tried: "opening", path: path.clone(), source })?;
        let database = Connection::open(&path).map_err(|source| IndexError::of(path, source))?;
        let mut index =
            Self { database, folder: folder.to_owned(), directories: RefCell::new(packs::DirectoryCache::default()) };
        index.prepare()?;
        Ok(index)
    }

    /// Opens the index in `folder` to read it: nothing is made and nothing is written.
    pub fn open_to_look(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let database = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .map_err(|source| IndexError::of(path, source))?;
        Ok(Self { database, folder: folder.to_owned(), directories: RefCell::new(packs::DirectoryCache::default()) })
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
        match result.map_err(|source| self.error(source))? {
            VERSION => Ok(()),
            0 => self.make_tables().map_err(|source| self.error(source)),
            found => Err(IndexError::OtherSchema { path: self.folder.join(FILE), found }),
        }
    }

    fn make_tables(&mut self) -> rusqlite::Result<()> {
        let transaction = self.database.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()
    }

    fn error(&self, source: rusqlite::Error) -> IndexError {
        self.suspect(IndexError::of(self.folder.join(FILE), source))
    }

    /// Runs `work` in one transaction, or as a part of the one that is open; see [`Index::at_once`].
    fn write<T>(&mut self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let result = (|| {
            let savepoint = self.database.savepoint()?;
            let value = work(&savepoint)?;
            savepoint.commit()?;
            Ok(value)
        })();
        result.map_err(|source| self.error(source))
    }

    /// Makes all changes of `work` in one transaction, which takes as long as a single one. Those before an error of `work`
    /// stay, as they would without it.
    pub fn at_once<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.database.execute_batch("BEGIN").map_err(|source| self.error(source))?;
        let result = work(self);
        // After some errors SQLite has taken the whole transaction back.
        if !self.database.is_autocommit() {
            let committed = self.database.execute_batch("COMMIT");
            if let Err(source) = committed {
                let _ = self.database.execute_batch("ROLLBACK");
                return Err(self.error(source));
            }
        }
        result
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        work(&self.database).map_err(|source| self.error(source))
    }

    /// A remembered fact, None where nothing was remembered under that name.
    pub fn local(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let row: Option<(Vec<u8>, Vec<u8>)> = self.read(|database| {
            let select = "SELECT value, row_check FROM local_state WHERE name = ?1";
            database.query_row(select, [name], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })?;
        let Some((value, check)) = row else { return Ok(None) };
        self.expect(check == row_check(&[name.as_bytes(), &value]), "local state")?;
        Ok(Some(value))
    }

    /// Remembers a fact.
    pub fn set_local(&mut self, name: &str, value: &[u8]) -> Result<()> {
        self.write(|database| {
            let insert = "INSERT INTO local_state VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET value = excluded.value, \
                          row_check = excluded.row_check";
            database.execute(insert, params![name, value, row_check(&[name.as_bytes(), value])])
        })?;
        Ok(())
    }

    /// Forgets a fact.
    pub fn forget_local(&mut self, name: &str) -> Result<()> {
        self.write(|database| database.execute("DELETE FROM local_state WHERE name = ?1", [name]))?;
        Ok(())
    }

    /// Forgets all that can be made again from the repository.
    pub fn clear(&mut self) -> Result<()> {
        self.directories.borrow_mut().clear();
        // Rows that aren't found again are lost. If it can't be read, there is nothing to keep.
        let _ = self.write(|database| database.execute(KEEP_ALL, []));
        self.write(|database| {
            let tables =
                "DELETE FROM recovered_recipe; DELETE FROM recipe; DELETE FROM snapshot; DELETE FROM chain; DELETE FROM segment; DELETE FROM pack;";
            database.execute_batch(tables)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_at_once_are_one_transaction_and_those_before_an_error_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mut index = Index::open(folder.path()).unwrap();
        let other = Index::open_to_look(folder.path()).unwrap();
        let wrong = index.at_once(|index| {
            index.set_local("a", b"1")?;
            index.set_local("b", b"2")?;
            assert_eq!(other.local("a").unwrap(), None, "it isn't committed");
            index.write(|database| database.execute("INSERT INTO no_table VALUES (1)", []))
        });
        wrong.unwrap_err();
        assert_eq!(other.local("b").unwrap().as_deref(), Some(b"2".as_slice()));
        index.at_once(|index| index.forget_local("a")).unwrap();
        assert_eq!(other.local("a").unwrap(), None);
        index.set_local("c", b"3").unwrap();
    }

    #[test]
    fn an_index_opens_again_and_keeps_local_state() {
        let folder = tempfile::tempdir().unwrap();
        let mut index = Index::open(folder.path()).unwrap();
        index.set_local("highest", b"7").unwrap();
        index.set_local("highest", b"8").unwrap();
        drop(index);
        let mut index = Index::open(folder.path()).unwrap();
        assert_eq!(index.local("highest").unwrap().as_deref(), Some(b"8".as_slice()));
        index.forget_local("highest").unwrap();
        assert_eq!(index.local("highest").unwrap(), None);
        index.look_through().unwrap();
    }
}
