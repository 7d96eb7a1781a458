//! Chains, snapshots and recipes.

use rusqlite::{OptionalExtension, Row, params};

use super::{Index, IndexError, Result, row_check};
use crate::format::FormatError;
use crate::format::layout::MAX_SNAPSHOT_ABOUT;
use crate::format::snapshot::{About, SnapshotBody, SnapshotHeader};
use crate::id::SnapshotId;
use crate::segment::{Compressor, Decompressor};

/// zstd's level for bodies.
const BODY_LEVEL: i32 = 3;

/// One snapshot as the index keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Its id.
    pub id: SnapshotId,
    /// Bytes of the object.
    pub size: u64,
    /// Its clear header.
    pub header: SnapshotHeader,
    /// The short part of its body; [`Index::body`] has the rest.
    pub about: About,
}

impl Index {
    /// Enters a snapshot with its body. One that is there already stays as it is.
    pub fn add_snapshot(&mut self, row: &SnapshotRow, body: &SnapshotBody) -> Result<()> {
        let header = &row.header;
        let about = row.about.encode();
        let (body, recipe) = body.encode_apart();
        // A stored object justifies no more of this machine's disk than its own bytes.
        let mut frame = Vec::new();
        Compressor::new(BODY_LEVEL).and_then(|mut zstd| zstd.compress(&body, &mut frame)).map_err(IndexError::Body)?;
        let packed = [&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes()[..], &frame].concat();
        self.write(|database| {
            let chain = params![header.chain.as_bytes(), header.set];
            database.execute("INSERT OR IGNORE INTO chain VALUES (?1, ?2)", chain)?;
            let clear = header.encode();
            let check = snapshot_check(row.id.as_bytes(), row.size as i64, &clear, &about);
            let snapshot = params![
                row.id.as_bytes(),
                header.sequence as i64,
                header.chain.as_bytes(),
                header.set,
                row.size as i64,
                clear,
                about,
                check
            ];
            database.execute("INSERT OR IGNORE INTO snapshot VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", snapshot)?;
            let body = params![row.id.as_bytes(), packed, row_check(&[row.id.as_bytes(), &packed])];
            database.execute("INSERT OR IGNORE INTO body VALUES (?1, ?2, ?3)", body)?;
            let recipe = params![row.id.as_bytes(), recipe, row_check(&[row.id.as_bytes(), recipe])];
            database.execute("INSERT OR IGNORE INTO recipe VALUES (?1, ?2, ?3)", recipe)?;
            database.execute("DELETE FROM lost_snapshot WHERE id = ?1", [row.id.as_bytes()])
        })?;
        Ok(())
    }

    /// Takes a snapshot out, and its chain where that is empty then.
    pub fn remove_snapshot(&mut self, id: &SnapshotId) -> Result<()> {
        self.write(|database| {
            database.execute("DELETE FROM snapshot WHERE id = ?1", [id.as_bytes()])?;
            database.execute("DELETE FROM trusted_snapshot WHERE id = ?1", [id.as_bytes()])?;
            database.execute("DELETE FROM chain WHERE id NOT IN (SELECT chain FROM snapshot)", [])
        })?;
        Ok(())
    }

    /// All snapshots, by sequence, ascending. The held part of each is no longer than its header.
    pub fn snapshots(&self) -> Result<Vec<SnapshotRow>> {
        let rows: Vec<RawSnapshot> = self.read(|database| {
            let mut select = database
                .prepare_cached("SELECT id, size, header, about, row_check FROM snapshot ORDER BY sequence, id")?;
            select.query_map([], raw)?.collect()
        })?;
        rows.into_iter().map(|row| self.decode_snapshot(row)).collect()
    }

    /// The body of a snapshot, with an empty recipe.
    pub fn body(&self, id: &SnapshotId) -> Result<Option<SnapshotBody>> {
        self.body_bytes(id)?.map(|bytes| self.decode_body(&bytes)).transpose()
    }

    /// The same as it lies in the index.
    pub(super) fn body_bytes(&self, id: &SnapshotId) -> Result<Option<Vec<u8>>> {
        self.checked_bytes("SELECT bytes, row_check FROM body WHERE snapshot = ?1", id, "body")
    }

    pub(super) fn decode_body(&self, bytes: &[u8]) -> Result<SnapshotBody> {
        let (length, frame) = bytes.split_first_chunk().unwrap_or((&[0; 4], &[]));
        let length = (u32::from_le_bytes(*length) as usize).min(MAX_SNAPSHOT_ABOUT);
        let mut body = Vec::new();
        let broken = |source| self.suspect(IndexError::Broken { what: "body", source });
        let opened = Decompressor::new().decompress(frame, &[], length, &mut body);
        opened.map_err(|_| broken(FormatError::Invalid("its frame can't be decompressed")))?;
        SnapshotBody::decode(&body).map_err(broken)
    }

    /// One snapshot.
    pub fn snapshot(&self, id: &SnapshotId) -> Result<Option<SnapshotRow>> {
        let row = self.read(|database| {
            let select = "SELECT id, size, header, about, row_check FROM snapshot WHERE id = ?1";
            database.query_row(select, [id.as_bytes()], raw).optional()
        })?;
        row.map(|row| self.decode_snapshot(row)).transpose()
    }

    /// The bytes of a snapshot's recipe.
    pub fn recipe(&self, id: &SnapshotId) -> Result<Option<Vec<u8>>> {
        self.checked_bytes("SELECT bytes, row_check FROM recipe WHERE snapshot = ?1", id, "recipe")
    }

    pub(super) fn checked_bytes(&self, select: &str, id: &SnapshotId, what: &'static str) -> Result<Option<Vec<u8>>> {
        let row: Option<(Vec<u8>, Vec<u8>)> = self.read(|database| {
            let mut select = database.prepare_cached(select)?;
            select.query_row([id.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })?;
        let Some((bytes, check)) = row else { return Ok(None) };
        self.expect(check == row_check(&[id.as_bytes(), &bytes]), what)?;
        Ok(Some(bytes))
    }

    /// Keeps the whole recipe of a snapshot that is lost.
    pub fn set_stand_in(&mut self, id: &SnapshotId, recipe: &[u8]) -> Result<()> {
        let row = params![id.as_bytes(), recipe, row_check(&[id.as_bytes(), recipe])];
        self.write(|database| database.execute("INSERT OR REPLACE INTO recovered_recipe VALUES (?1, ?2, ?3)", row))?;
        Ok(())
    }

    /// Reverts [`Index::set_stand_in`].
    pub fn forget_stand_in(&mut self, id: &SnapshotId) -> Result<()> {
        self.write(|database| database.execute("DELETE FROM recovered_recipe WHERE snapshot = ?1", [id.as_bytes()]))?;
        Ok(())
    }

    /// The lost snapshots of whose recipes copies were found.
    pub fn recovered_recipes(&self) -> Result<Vec<SnapshotId>> {
        self.read(|database| {
            let mut select = database.prepare_cached("SELECT snapshot FROM recovered_recipe")?;
            select.query_map([], |row| Ok(SnapshotId::from_bytes(row.get(0)?)))?.collect()
        })
    }

    /// The whole recipe of a snapshot that is lost, where a copy was found.
    pub fn recovered_recipe(&self, id: &SnapshotId) -> Result<Option<Vec<u8>>> {
        self.checked_bytes("SELECT bytes, row_check FROM recovered_recipe WHERE snapshot = ?1", id, "copy of a recipe")
    }

    pub(super) fn decode_snapshot(&self, (id, size, header, about, check): RawSnapshot) -> Result<SnapshotRow> {
        self.expect(check == snapshot_check(&id, size, &header, &about), "snapshot")?;
        let broken = |source| self.suspect(IndexError::Broken { what: "snapshot", source });
        Ok(SnapshotRow {
            id: SnapshotId::from_bytes(id),
            size: size as u64,
            header: SnapshotHeader::decode(&header).map_err(broken)?,
            about: About::decode(&about).map_err(broken)?,
        })
    }
}

pub(super) type RawSnapshot = ([u8; SnapshotId::LEN], i64, Vec<u8>, Vec<u8>, Vec<u8>);

pub(super) fn raw(row: &Row<'_>) -> rusqlite::Result<RawSnapshot> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
}

/// The other columns repeat the header.
fn snapshot_check(id: &[u8], size: i64, header: &[u8], about: &[u8]) -> [u8; 16] {
    row_check(&[id, &size.to_le_bytes(), header, about])
}
