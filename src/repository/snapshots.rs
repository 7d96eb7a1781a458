//! Snapshot objects: sealed and stored, fetched and opened.

use super::{Error, Repository, Result, broken, of_object, unreadable};
use crate::crypto::{Salt, SealPurpose};
use crate::format::layout::{
    FREE_SNAPSHOT_BODY, MAX_SNAPSHOT_BODY, MAX_SNAPSHOT_OBJECT, MAX_SNAPSHOT_RATIO, parse_snapshot_name, snapshot_name,
};
use crate::format::pack::TAG_LEN;
use crate::format::snapshot::{SnapshotBody, SnapshotHeader};
use crate::id::SnapshotId;
use crate::index::SnapshotRow;
use crate::remote::many::{CallWindow, in_order};
use crate::remote::{ErrorKind, Folder, ObjectName};
use crate::segment::{Compressor, Decompressor};
use crate::time::Timestamp;

/// zstd's level for bodies: they are small, and each byte of them is paid for every day.
const BODY_LEVEL: i32 = 9;

/// A snapshot that is ready to be stored.
pub struct NewSnapshot {
    /// Its object.
    pub object: Vec<u8>,
    /// Its object's name.
    pub name: ObjectName,
    /// The index's record of it.
    pub row: SnapshotRow,
    /// Its body, with the recipe.
    pub body: SnapshotBody,
}

impl Repository {
    /// Seals a snapshot. The header's salt is drawn here, and its body's length known.
    pub fn seal_snapshot(&self, header: SnapshotHeader, body: SnapshotBody) -> Result<NewSnapshot> {
        let plain = body.encode();
        let mut frame = Vec::new();
        Compressor::new(BODY_LEVEL)?.compress(&plain, &mut frame)?;
        // An unreadable snapshot must not be written.
        let unreadable = |why: &dyn std::fmt::Display| {
            Error::Usage(format!(
                "the snapshot can't be stored, for no reader would take it: {why}; divide the set {} into smaller ones",
                header.set
            ))
        };
        let length = u32::try_from(plain.len()).unwrap_or(u32::MAX);
        if u64::from(length) > most_plain(frame.len()) {
            return Err(unreadable(&format_args!("its body has {} bytes, out of {}", plain.len(), frame.len())));
        }
        SnapshotBody::decode(&plain).map_err(|error| unreadable(&error))?;
        let packed = [&length.to_le_bytes()[..], &frame].concat();
        let salt = Salt::random();
        let header = SnapshotHeader { salt: *salt.as_bytes(), body: packed.len() as u64 + TAG_LEN, ..header };
        let (clear, object) = self.object_of(&header, packed);
        // The same of the header: too many tags, or one that is too long.
        if !SnapshotHeader::decode(&clear).is_ok_and(|read| read == header) {
            let tags = header.tags.len();
            return Err(Error::Usage(format!(
                "the snapshot can't be stored: the name {:?} of its set can't be, or it has too many or too long tags \
                 ({tags}; at most 255 of 255 bytes each)",
                header.set
            )));
        }
        let id = SnapshotId::of(&object);
        let name = snapshot_name(header.stored_time, &header.set, header.kind(), &id);
        let row = SnapshotRow { id, size: object.len() as u64, header, about: body.about() };
        Ok(NewSnapshot { object, name, row, body })
    }

    fn object_of(&self, header: &SnapshotHeader, packed: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
        let clear = header.encode();
        let salt = Salt::from_bytes(header.salt);
        let sealed = self.keys.metadata.seal(SealPurpose::SnapshotBody, &salt, &[&clear], packed);
        let object = [&clear, sealed.as_bytes()].concat();
        (clear, object)
    }

    /// Rebuilds a snapshot's object from the index. None if the bytes differ, as from another version of the program: an
    /// object is its bytes.
    pub(super) fn seal_again(&self, row: &SnapshotRow, body: SnapshotBody) -> Result<Option<NewSnapshot>> {
        let plain = body.encode();
        let mut frame = Vec::new();
        Compressor::new(BODY_LEVEL)?.compress(&plain, &mut frame)?;
        let length = u32::try_from(plain.len()).unwrap_or(u32::MAX);
        let packed = [&length.to_le_bytes()[..], &frame].concat();
        if packed.len() as u64 + TAG_LEN != row.header.body {
            return Ok(None);
        }
        let (_, object) = self.object_of(&row.header, packed);
        let same = SnapshotId::of(&object) == row.id;
        let name = Self::object_name(row);
        Ok(same.then(|| NewSnapshot { object, name, row: row.clone(), body }))
    }

    /// Stores a sealed snapshot and makes its name outlive a power cut. The packs that it needs lie there already.
    pub fn store_snapshot(&self, snapshot: &NewSnapshot) -> Result<()> {
        let mut upload = self.remote.begin()?;
        upload.append(&snapshot.object)?;
        upload.finish(&snapshot.name)?;
        self.remote.flush(Folder::Snapshots)?;
        Ok(())
    }

    /// Fetches a snapshot object, checks it against its name, and opens it: its row, and its body with the recipe.
    pub fn fetch_snapshot(&self, name: &ObjectName) -> Result<(SnapshotRow, SnapshotBody)> {
        self.open_snapshot(name, &self.snapshot_object(name)?)
    }

    /// Fetches many snapshot objects, given with their sizes: many at a time, and handed over in that order, one at a time.
    /// They aren't opened; see [`Repository::open_snapshot`].
    pub fn fetch_snapshots<E>(
        &self,
        objects: &[(ObjectName, u64)],
        mut take: impl FnMut(&ObjectName, Result<Vec<u8>>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let fetch = |(name, _): &(ObjectName, u64)| self.snapshot_object(name);
        in_order(
            CallWindow::of(&*self.remote),
            objects,
            |(_, size)| *size,
            fetch,
            |(name, _), object| take(name, object),
        )
    }

    fn snapshot_object(&self, name: &ObjectName) -> Result<Vec<u8>> {
        self.remote.get(name, MAX_SNAPSHOT_OBJECT).map_err(|error| match error.kind {
            // It may have been deleted since it was listed. Whoever knows better says so.
            ErrorKind::NotFound => error.into(),
            _ => of_object(error),
        })
    }

    /// Checks a fetched object against its name, and opens it.
    pub fn open_snapshot(&self, name: &ObjectName, object: &[u8]) -> Result<(SnapshotRow, SnapshotBody)> {
        let id = id_of(name, object)?;
        let (header, clear, sealed) = SnapshotHeader::split(object).map_err(|error| unreadable(name, error))?;
        if header.repository != *self.id() {
            return Err(broken(name, format_args!("it belongs to the repository {}", header.repository)));
        }
        let expected = snapshot_name(header.stored_time, &header.set, header.kind(), &id);
        if expected != *name {
            return Err(broken(name, format_args!("its header says {expected}")));
        }
        let salt = Salt::from_bytes(header.salt);
        let opened = self.keys.metadata.open(SealPurpose::SnapshotBody, &salt, &[clear], sealed.to_vec());
        let opened = opened.map_err(|error| broken(name, error))?;
        let plain = decompress_body(opened.as_bytes()).map_err(|why| broken(name, why))?;
        let body = SnapshotBody::decode(&plain).map_err(|error| unreadable(name, error))?;
        Ok((SnapshotRow { id, size: object.len() as u64, header, about: body.about() }, body))
    }

    /// The name of a known snapshot's object.
    pub fn object_name(row: &SnapshotRow) -> ObjectName {
        snapshot_name(row.header.stored_time, &row.header.set, row.header.kind(), &row.id)
    }
}

/// The clear header of a fetched object, which may be of another repository id. Nothing vouches for it but that the object
/// is the one that was named.
pub(super) fn header_of(name: &ObjectName, object: &[u8]) -> Result<SnapshotHeader> {
    // A flipped bit makes another repository's id of this one's.
    id_of(name, object)?;
    Ok(SnapshotHeader::split(object).map_err(|error| unreadable(name, error))?.0)
}

/// The id of a snapshot's object, which must be the one that its name has.
fn id_of(name: &ObjectName, object: &[u8]) -> Result<SnapshotId> {
    let id = SnapshotId::of(object);
    let named = parse_snapshot_name(name).ok_or_else(|| broken(name, "its name is no snapshot's"))?;
    match named.id == id {
        true => Ok(id),
        false => Err(broken(name, format_args!("its content has the id {id}"))),
    }
}

/// Most bytes that a body's frame of that length may become: no recipe compresses better, and a frame that claims to would
/// take memory that its own bytes don't justify.
fn most_plain(frame: usize) -> u64 {
    MAX_SNAPSHOT_BODY.min(FREE_SNAPSHOT_BODY + MAX_SNAPSHOT_RATIO * frame as u64)
}

fn decompress_body(packed: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let (length, frame) = packed.split_first_chunk().ok_or("its body is too short")?;
    let length = u32::from_le_bytes(*length);
    if u64::from(length) > most_plain(frame.len()) {
        return Err(format!("its body claims {length} bytes, out of {}", frame.len()));
    }
    let mut plain = Vec::new();
    let decompressed = Decompressor::new().decompress(frame, &[], length as usize, &mut plain);
    decompressed.map_err(|error| error.to_string())?;
    Ok(plain)
}

/// A name for a moment in messages about snapshots.
pub(super) fn describe(row: &SnapshotRow) -> String {
    let time: Timestamp = row.header.data_time;
    format!("snapshot {} ({} of {}, {time})", row.id, row.header.kind(), row.header.set)
}
