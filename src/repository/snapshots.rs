//! Snapshot objects: sealed and stored, fetched and opened.

use super::pages::Pages;
use super::{Error, Repository, Result, broken, of_object, unreadable};
use crate::crypto::{Salt, SealPurpose};
use crate::format::layout::{
    FREE_SNAPSHOT_BODY, MAX_SNAPSHOT_BODY, MAX_SNAPSHOT_RATIO, parse_snapshot_name, snapshot_name,
};
use crate::format::pack::TAG_LEN;
use crate::format::recipe::Layer;
use crate::format::snapshot::{SnapshotBody, SnapshotDigest, SnapshotHeader};
use crate::id::SnapshotId;
use crate::index::SnapshotRow;
use crate::remote::many::{CallWindow, in_order};
use crate::remote::{ErrorKind, Folder, ObjectName};
use crate::segment::{Compressor, Decompressor};
use crate::time::Timestamp;

/// zstd's level for bodies: they are small, and each byte of them is paid for every day.
const BODY_LEVEL: i32 = 9;
/// What is read of an object at once: mostly all of its head.
const START: u64 = 16 << 10;
/// Bytes of pages that are read at once where all are.
const PIECE: u64 = 1 << 20;

/// How much of snapshot objects is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Header and body.
    Head,
    /// The pages, too. They are compared with the header and not opened.
    Whole,
}

/// A snapshot that is ready to be stored.
pub struct NewSnapshot {
    /// Its object up to the pages.
    pub head: Vec<u8>,
    /// The pages of its layer of the recipe.
    pub pages: Pages,
    /// Its object's name.
    pub name: ObjectName,
    /// The index's record of it.
    pub row: SnapshotRow,
    /// Its body, with the layer.
    pub body: SnapshotBody,
}

impl Repository {
    /// Seals a snapshot whose layer has these pages. The header's salt is drawn here, and the lengths known.
    pub fn seal_snapshot(&self, header: SnapshotHeader, body: SnapshotBody, pages: Pages) -> Result<NewSnapshot> {
        let plain = body.encode();
        // An unreadable snapshot must not be written.
        let set = header.set.clone();
        let unreadable = |why: &dyn std::fmt::Display| {
            Error::Usage(format!(
                "the snapshot can't be stored, for no reader would take it: {why}; divide the set {set} into smaller ones"
            ))
        };
        let packed = compress_plain(&mut Compressor::new(BODY_LEVEL)?, &plain)?.map_err(|why| unreadable(&why))?;
        SnapshotBody::decode(&plain).map_err(|error| unreadable(&error))?;
        let header = SnapshotHeader {
            salt: *Salt::random().as_bytes(),
            body: packed.len() as u64 + TAG_LEN,
            pages: pages.length(),
            pages_check: *pages.check(),
            ..header
        };
        let (clear, head) = self.head_of(&header, packed);
        // The same of the header: too many tags, or one that is too long.
        if !SnapshotHeader::decode(&clear).is_ok_and(|read| read == header) {
            let tags = header.tags.len();
            return Err(Error::Usage(format!(
                "the snapshot can't be stored: the name {:?} of its set can't be, or it has too many or too long tags \
                 ({tags}; at most 255 of 255 bytes each)",
                header.set
            )));
        }
        SnapshotHeader::head_length(&head).map_err(|error| unreadable(&error))?;
        let id = SnapshotId::of(&head);
        let name = snapshot_name(header.stored_time, &header.set, header.kind(), &id);
        let row = SnapshotRow { id, size: head.len() as u64 + pages.length(), header, about: body.about() };
        Ok(NewSnapshot { head, pages, name, row, body })
    }

    fn head_of(&self, header: &SnapshotHeader, packed: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
        let clear = header.encode();
        let salt = Salt::from_bytes(header.salt);
        let sealed = self.keys.metadata.seal(SealPurpose::SnapshotBody, &salt, &[&clear], packed);
        let head = [&clear, sealed.as_bytes()].concat();
        (clear, head)
    }

    /// Rebuilds a snapshot's object from what this machine knows. None if it lacks pages, or the bytes differ, as from another
    /// version of the program: an object is its bytes.
    pub(super) fn seal_again(&self, row: &SnapshotRow, body: SnapshotBody) -> Result<Option<NewSnapshot>> {
        let packed = compress_plain(&mut Compressor::new(BODY_LEVEL)?, &body.encode())?;
        let Ok(packed) = packed else { return Ok(None) };
        if packed.len() as u64 + TAG_LEN != row.header.body {
            return Ok(None);
        }
        let (_, head) = self.head_of(&row.header, packed);
        if SnapshotId::of(&head) != row.id {
            return Ok(None);
        }
        let Ok(layer) = Layer::decode(&body.recipe) else { return Ok(None) };
        let pages = self.kept_pages(&layer.id, row.header.pages, &row.header.pages_check)?;
        let name = Self::object_name(row);
        Ok(pages.map(|pages| NewSnapshot { head, pages, name, row: row.clone(), body }))
    }

    /// Stores a sealed snapshot and makes its name outlive a power cut. The packs that it needs lie there already.
    pub fn store_snapshot(&self, snapshot: &NewSnapshot) -> Result<()> {
        let mut upload = self.remote.begin()?;
        upload.append(&snapshot.head)?;
        snapshot.pages.read(|bytes| Ok(upload.append(bytes)?))?;
        upload.finish(&snapshot.name)?;
        self.remote.flush(Folder::Snapshots)?;
        Ok(())
    }

    /// Fetches the head of a snapshot object of `size` bytes, checks it against its name, and opens it: its row, and its body with
    /// the layer. No page is read.
    pub fn fetch_snapshot(&self, name: &ObjectName, size: u64) -> Result<(SnapshotRow, SnapshotBody)> {
        self.open_snapshot(name, size, &self.snapshot_head(name, size, Extent::Head)?)
    }

    /// Fetches the heads of many snapshot objects, given with their sizes: many at a time, and handed over in that order, one at a
    /// time. They aren't opened; see [`Repository::open_snapshot`].
    pub fn fetch_snapshots<E>(
        &self,
        objects: &[(ObjectName, u64)],
        extent: Extent,
        mut take: impl FnMut(&ObjectName, u64, Result<Vec<u8>>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let fetch = |(name, size): &(ObjectName, u64)| self.snapshot_head(name, *size, extent);
        let bytes = |(_, size): &(ObjectName, u64)| match extent {
            Extent::Head => (*size).min(2 * START),
            Extent::Whole => (*size).min(PIECE),
        };
        in_order(CallWindow::of(&*self.remote), objects, bytes, fetch, |(name, size), head| take(name, *size, head))
    }

    /// The head of a snapshot object. All of the object is read where that is asked for, and what isn't as its header says is
    /// damaged.
    fn snapshot_head(&self, name: &ObjectName, size: u64, extent: Extent) -> Result<Vec<u8>> {
        let read = |offset: u64, bytes: &mut [u8]| {
            self.remote.get_range(name, offset, bytes).map_err(|error| match error.kind {
                // It may have been deleted since it was listed. Whoever knows better says so.
                ErrorKind::NotFound => error.into(),
                _ => of_object(error),
            })
        };
        let mut bytes = vec![0; size.min(START) as usize];
        read(0, &mut bytes)?;
        let head = match SnapshotHeader::head_length(&bytes) {
            Ok(length) if length <= size => length as usize,
            // Whoever opens it says what is wrong with it.
            _ => return Ok(bytes),
        };
        let there = bytes.len();
        if there < head {
            bytes.resize(head, 0);
            read(there as u64, &mut bytes[there..])?;
        }
        if extent == Extent::Whole {
            let mut digest = SnapshotDigest::default();
            digest.update(&bytes);
            let mut at = bytes.len() as u64;
            let mut buffer = vec![0; PIECE.min(size - at) as usize];
            while at < size {
                let piece = &mut buffer[..PIECE.min(size - at) as usize];
                read(at, piece)?;
                digest.update(piece);
                at += piece.len() as u64;
            }
            // Of a damaged head whoever opens it says what is wrong.
            if digest.finish().is_none() && SnapshotHeader::split(&bytes[..head], size).is_ok() {
                return Err(broken(name, "the pages of its recipe aren't those that its header says"));
            }
        }
        // Pages of a small object are at hand and are kept when it is opened.
        if (bytes.len() as u64) < size {
            bytes.truncate(head);
        }
        Ok(bytes)
    }

    /// Checks the head of a fetched object of `size` bytes against its name, and opens it. Pages behind it are kept on this machine.
    pub fn open_snapshot(&self, name: &ObjectName, size: u64, bytes: &[u8]) -> Result<(SnapshotRow, SnapshotBody)> {
        let (head, pages) = head_and_pages(bytes);
        let id = id_of(name, head)?;
        let (header, clear, sealed) = SnapshotHeader::split(head, size).map_err(|error| unreadable(name, error))?;
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
        let plain = decompress_plain(opened.as_bytes()).map_err(|why| broken(name, why))?;
        let body = SnapshotBody::decode(&plain).map_err(|error| unreadable(name, error))?;
        if pages.len() as u64 == header.pages {
            self.keep_pages(&body.recipe, pages);
        }
        Ok((SnapshotRow { id, size, header, about: body.about() }, body))
    }

    /// The name of a known snapshot's object.
    pub fn object_name(row: &SnapshotRow) -> ObjectName {
        snapshot_name(row.header.stored_time, &row.header.set, row.header.kind(), &row.id)
    }
}

/// The clear header of a fetched object of `size` bytes, which may be of another repository id. Nothing vouches for it but that
/// the object is the one that was named.
pub(super) fn header_of(name: &ObjectName, size: u64, bytes: &[u8]) -> Result<SnapshotHeader> {
    let (head, _) = head_and_pages(bytes);
    // A flipped bit makes another repository's id of this one's.
    id_of(name, head)?;
    Ok(SnapshotHeader::split(head, size).map_err(|error| unreadable(name, error))?.0)
}

/// The first bytes of an object, up to its pages, and those behind.
fn head_and_pages(bytes: &[u8]) -> (&[u8], &[u8]) {
    let head = SnapshotHeader::head_length(bytes).ok().and_then(|head| usize::try_from(head).ok());
    head.and_then(|head| bytes.split_at_checked(head)).unwrap_or((bytes, &[]))
}

/// The id of a snapshot's object, which must be the one that its name has.
fn id_of(name: &ObjectName, head: &[u8]) -> Result<SnapshotId> {
    let id = SnapshotId::of(head);
    let named = parse_snapshot_name(name).ok_or_else(|| broken(name, "its name is no snapshot's"))?;
    match named.id == id {
        true => Ok(id),
        false => Err(broken(name, format_args!("its content has the id {id}"))),
    }
}

/// Most bytes that a frame of that length may become: no body and no page compresses better, and a frame that claims to would take
/// memory that its own bytes don't justify.
fn most_plain(frame: usize) -> u64 {
    MAX_SNAPSHOT_BODY.min(FREE_SNAPSHOT_BODY + MAX_SNAPSHOT_RATIO * frame as u64)
}

/// A body or a page as it is sealed: its length, 4 bytes little-endian, and a zstd frame. A sentence where no reader would take it.
pub(super) fn compress_plain(zstd: &mut Compressor, plain: &[u8]) -> Result<std::result::Result<Vec<u8>, String>> {
    let mut frame = Vec::new();
    zstd.compress(plain, &mut frame)?;
    let length = u32::try_from(plain.len()).unwrap_or(u32::MAX);
    if u64::from(length) > most_plain(frame.len()) {
        return Ok(Err(format!("it has {} bytes, out of {}", plain.len(), frame.len())));
    }
    Ok(Ok([&length.to_le_bytes()[..], &frame].concat()))
}

/// Reverts [`compress_plain`]. A sentence where that can't be done.
pub(super) fn decompress_plain(packed: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let (length, frame) = packed.split_first_chunk().ok_or("its content is too short")?;
    let length = u32::from_le_bytes(*length);
    if u64::from(length) > most_plain(frame.len()) {
        return Err(format!("its content claims {length} bytes, out of {}", frame.len()));
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
