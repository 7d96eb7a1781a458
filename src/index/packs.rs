//! Packs, their directories and segments.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::trust::trust_pack;
use super::{Index, IndexError, Result, row_check};
use crate::format::checks::DirectoryCheck;
use crate::format::pack::Directory;
use crate::id::{GenerationId, PackId};
use crate::time::Timestamp;

/// A pack that the index is told of.
pub struct NewPack<'a> {
    /// Its id.
    pub id: PackId,
    /// Bytes of the object.
    pub size: u64,
    /// Bytes before the first segment.
    pub header_length: u64,
    /// Binds the directory.
    pub check: DirectoryCheck,
    /// When this machine stored it; None where it was found on the remote.
    pub stored_time: Option<Timestamp>,
    /// Whether it is known to be whole on the remote.
    pub whole: bool,
    /// Its directory.
    pub directory: &'a Directory,
}

/// A pack as the index keeps it, without its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackRow {
    /// The index's own number for it; never used again for another pack.
    pub number: u32,
    /// Its id.
    pub id: PackId,
    /// The set that it was written for.
    pub set: String,
    /// The generation that it was written into.
    pub generation: GenerationId,
    /// Bytes of the object.
    pub size: u64,
    /// Bytes before the first segment.
    pub header_length: u64,
    /// Binds the directory.
    pub check: DirectoryCheck,
    /// When this machine stored it; None where it was found on the remote.
    pub stored_time: Option<Timestamp>,
    /// Whether it is known to be whole on the remote.
    pub whole: bool,
}

const COLUMNS: &str = "number, id, set_name, generation, size, header_length, directory_check, stored_time, whole, \
                       directory_hash, row_check";

/// Decoded directories, by pack number; the oldest go first.
#[derive(Default)]
pub(super) struct DirectoryCache {
    directories: HashMap<u32, Arc<Directory>>,
    order: VecDeque<u32>,
    bytes: usize,
}

impl DirectoryCache {
    /// Bytes of decoded directories that are kept.
    const LIMIT: usize = 24 << 20;

    fn insert(&mut self, number: u32, directory: Arc<Directory>) {
        self.bytes += weight(&directory);
        self.directories.insert(number, directory);
        self.order.push_back(number);
        while self.bytes > Self::LIMIT && self.order.len() > 1 {
            let oldest = self.order.pop_front().and_then(|oldest| self.directories.remove(&oldest));
            self.bytes -= oldest.map_or(0, |oldest| weight(&oldest));
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn weight(directory: &Directory) -> usize {
    directory.ids.len() * 20 + directory.segments.len() * 64 + 256
}

impl Index {
    /// Enters a pack and its segments. One that is there already only becomes whole where `pack` says so.
    pub fn add_pack(&mut self, pack: &NewPack<'_>) -> Result<u32> {
        let stored = pack.stored_time.map(Timestamp::nanos);
        let directory = pack.directory.encode();
        let hash = row_check(&[&directory]);
        let check = pack_check(&PackColumns {
            id: pack.id.as_bytes(),
            set: &pack.directory.set,
            generation: pack.directory.generation.as_bytes(),
            numbers: [pack.size as i64, pack.header_length as i64, stored.unwrap_or(i64::MIN)],
            check: &pack.check,
            hash: &hash,
        });
        self.write(|database| {
            let row = params![
                pack.id.as_bytes(),
                pack.directory.set,
                pack.directory.generation.as_bytes(),
                pack.size as i64,
                pack.header_length as i64,
                pack.check,
                stored,
                pack.whole,
                directory,
                hash,
                check
            ];
            let insert = "INSERT INTO pack (id, set_name, generation, size, header_length, directory_check, stored_time, \
                          whole, directory, directory_hash, row_check) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
                          ON CONFLICT (id) DO UPDATE SET whole = max(whole, excluded.whole)";
            database.prepare_cached(insert)?.execute(row)?;
            let select = "SELECT number FROM pack WHERE id = ?1";
            let number: u32 = database.query_row(select, [pack.id.as_bytes()], |row| row.get(0))?;
            insert_segments(database, number, pack)?;
            if stored.is_some() {
                trust_pack(database, &pack.id, &pack.check)?;
            }
            Ok(number)
        })
    }

    /// Notes that a pack's upload was finished.
    pub fn pack_is_whole(&mut self, id: &PackId) -> Result<()> {
        self.write(|database| database.execute("UPDATE pack SET whole = 1 WHERE id = ?1", [id.as_bytes()]))?;
        Ok(())
    }

    /// Takes a pack out.
    pub fn remove_pack(&mut self, id: &PackId) -> Result<()> {
        self.directories.borrow_mut().clear();
        self.write(|database| {
            database.execute("DELETE FROM trusted_pack WHERE id = ?1", [id.as_bytes()])?;
            database.execute("DELETE FROM pack WHERE id = ?1", [id.as_bytes()])
        })?;
        Ok(())
    }

    /// One pack by its id.
    pub fn pack(&self, id: &PackId) -> Result<Option<PackRow>> {
        self.read(|database| {
            let select = format!("SELECT {COLUMNS} FROM pack WHERE id = ?1");
            database.prepare_cached(&select)?.query_row([id.as_bytes()], pack_row).optional()
        })?
        .map(|row| self.checked_pack(row))
        .transpose()
    }

    /// The id of the pack with a number.
    pub fn pack_id(&self, number: u32) -> Result<Option<PackId>> {
        self.read(|database| {
            let mut select = database.prepare_cached("SELECT id FROM pack WHERE number = ?1")?;
            select.query_row([number], |row| row.get(0).map(PackId::from_bytes)).optional()
        })
    }

    /// One pack by its number.
    pub fn pack_by_number(&self, number: u32) -> Result<Option<PackRow>> {
        self.read(|database| {
            let select = format!("SELECT {COLUMNS} FROM pack WHERE number = ?1");
            database.prepare_cached(&select)?.query_row([number], pack_row).optional()
        })?
        .map(|row| self.checked_pack(row))
        .transpose()
    }

    /// All packs, in the order in which the index learned of them.
    pub fn packs(&self) -> Result<Vec<PackRow>> {
        self.packs_after(0)
    }

    /// The packs with a number above `number`.
    pub fn packs_after(&self, number: u32) -> Result<Vec<PackRow>> {
        let rows: Vec<(PackRow, bool)> = self.read(|database| {
            let select = format!("SELECT {COLUMNS} FROM pack WHERE number > ?1 ORDER BY number");
            database.prepare_cached(&select)?.query_map([number], pack_row)?.collect()
        })?;
        rows.into_iter().map(|row| self.checked_pack(row)).collect()
    }

    fn checked_pack(&self, (row, is_as_it_was): (PackRow, bool)) -> Result<PackRow> {
        self.expect(is_as_it_was, "pack")?;
        Ok(row)
    }

    /// A pack's directory; None where there is no such pack.
    pub fn directory(&self, number: u32) -> Result<Option<Arc<Directory>>> {
        if let Some(directory) = self.directories.borrow().directories.get(&number) {
            return Ok(Some(directory.clone()));
        }
        let row: Option<(Vec<u8>, Vec<u8>)> = self.read(|database| {
            let mut select = database.prepare_cached("SELECT directory, directory_hash FROM pack WHERE number = ?1")?;
            select.query_row([number], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })?;
        let Some((bytes, hash)) = row else { return Ok(None) };
        self.expect(hash == row_check(&[&bytes]), "pack directory")?;
        let directory = Directory::decode(&bytes)
            .map_err(|source| self.suspect(IndexError::Broken { what: "pack directory", source }))?;
        let directory = Arc::new(directory);
        self.directories.borrow_mut().insert(number, directory.clone());
        Ok(Some(directory))
    }
}

fn insert_segments(database: &Connection, number: u32, pack: &NewPack<'_>) -> rusqlite::Result<()> {
    let mut insert = database.prepare_cached("INSERT OR IGNORE INTO segment VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    let mut offset = pack.header_length;
    for (segment, entry) in pack.directory.segments.iter().enumerate() {
        let plain = pack.directory.plain_length(segment as u32).unwrap_or(0);
        insert.execute(params![
            number,
            segment as u32,
            offset as i64,
            entry.sealed,
            plain as i64,
            entry.chunks,
            entry.depth
        ])?;
        offset += u64::from(entry.sealed);
    }
    Ok(())
}

/// A row, and whether it is as it was written.
fn pack_row(row: &Row<'_>) -> rusqlite::Result<(PackRow, bool)> {
    let (size, header_length, stored): (i64, i64, Option<i64>) = (row.get(4)?, row.get(5)?, row.get(7)?);
    let (hash, check): (Vec<u8>, Vec<u8>) = (row.get(9)?, row.get(10)?);
    let pack = PackRow {
        number: row.get(0)?,
        id: PackId::from_bytes(row.get(1)?),
        set: row.get(2)?,
        generation: GenerationId::from_bytes(row.get(3)?),
        size: size as u64,
        header_length: header_length as u64,
        check: row.get(6)?,
        stored_time: stored.map(Timestamp::from_nanos),
        whole: row.get(8)?,
    };
    let found = pack_check(&PackColumns {
        id: pack.id.as_bytes(),
        set: &pack.set,
        generation: pack.generation.as_bytes(),
        numbers: [size, header_length, stored.unwrap_or(i64::MIN)],
        check: &pack.check,
        hash: &hash,
    });
    Ok((pack, check == found))
}

/// The checked fields of a pack's row.
struct PackColumns<'a> {
    id: &'a [u8],
    set: &'a str,
    generation: &'a [u8],
    numbers: [i64; 3],
    check: &'a [u8],
    hash: &'a [u8],
}

fn pack_check(columns: &PackColumns<'_>) -> [u8; 16] {
    let [size, header, stored] = columns.numbers.map(i64::to_le_bytes);
    let PackColumns { id, set, generation, check, hash, .. } = columns;
    row_check(&[id, set.as_bytes(), generation, &size, &header, &stored, check, hash])
}
