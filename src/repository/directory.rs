//! Pack directories, read from the remote without the rest of the packs.

use super::{Error, Repository, Result, broken, of_object};
use crate::crypto::{Salt, SealPurpose};
use crate::format::checks::DirectoryCheck;
use crate::format::layout::{MAX_WRAPPED_KEY, pack_name};
use crate::format::pack::{Directory, HEADER_FIXED, PackHeader, PackTrailer, TRAILER_LEN, directory_check};
use crate::id::PackId;
use crate::index::{Index, NewPack};
use crate::remote::ObjectName;
use crate::remote::many::{CallWindow, in_order};

/// A pack without its segments.
pub struct PackParts {
    /// The pack.
    pub id: PackId,
    /// Bytes of the object.
    pub size: u64,
    /// The header's bytes.
    pub header: Vec<u8>,
    /// Where things lie at its end.
    pub trailer: PackTrailer,
    /// The positions of its parts.
    pub directory: Directory,
    /// Binds the directory.
    pub check: DirectoryCheck,
}

/// A pack whose directory is wanted.
#[derive(Debug, Clone, Copy)]
pub struct WantedPack {
    /// The pack.
    pub id: PackId,
    /// Bytes of the object.
    pub size: u64,
    /// Binds the directory, where it is known.
    pub check: Option<DirectoryCheck>,
}

/// The bytes at both ends of a pack, as far as they were read.
pub struct PackEnds {
    /// From the first byte on.
    pub start: Vec<u8>,
    /// Up to the last byte.
    pub end: Vec<u8>,
}

/// What is read of a pack's start at once: the longest header. age adds lines of random length to the wrapped key.
const START: usize = HEADER_FIXED + MAX_WRAPPED_KEY;
/// A pack of so many bytes is read whole: that takes no longer than its ends.
const WHOLE: u64 = 16 << 10;

/// What is read of a pack's end at once, so that it mostly holds the directory. The guess is low rather than high: when many
/// packs are read beside each other, a second range costs less than bytes that nobody needs.
fn end_to_read(size: u64) -> u64 {
    size.min((8 << 10) + size / 512)
}

/// Directories that were fetched and aren't entered yet: at most so many, with so many chunks.
const MOST_FETCHED: usize = 64;
const MOST_CHUNKS: usize = 100_000;

impl Repository {
    /// Reads a pack's header and directory, and checks them against each other and against `check` where it is known. No
    /// segment is read, but with a small pack, which is read whole.
    pub fn fetch_directory(&self, id: &PackId, size: u64, check: Option<&DirectoryCheck>) -> Result<PackParts> {
        let name = pack_name(id);
        check_least(&name, size)?;
        let read = |offset: u64, length: u64| {
            let mut bytes = vec![0; length as usize];
            self.remote.get_range(&name, offset, &mut bytes).map_err(of_object)?;
            Ok::<_, Error>(bytes)
        };
        let ends = match size {
            ..=WHOLE => PackEnds { start: Vec::new(), end: read(0, size)? },
            _ => PackEnds { start: read(0, START as u64)?, end: read(size - end_to_read(size), end_to_read(size))? },
        };
        self.directory_of(id, size, check, ends)
    }

    /// The same for a pack whose ends were read. What is missing between them is read now.
    pub fn directory_of(
        &self,
        id: &PackId,
        size: u64,
        check: Option<&DirectoryCheck>,
        ends: PackEnds,
    ) -> Result<PackParts> {
        let name = pack_name(id);
        check_least(&name, size)?;
        let header = self.header_of(&name, size, &ends)?;
        let (trailer_bytes, trailer, sealed) = self.end_of(&name, size, ends.end)?;
        let found = directory_check(&header, &sealed, &trailer_bytes);
        if check.is_some_and(|check| *check != found) {
            return Err(broken(&name, "its directory isn't the one that the snapshot was made with"));
        }
        let salt = Salt::from_bytes(PackHeader::decode(&header).map_err(|error| broken(&name, error))?.salt);
        let aad: [&[u8]; 2] = [&header, &trailer_bytes];
        let opened = self.keys.metadata.open(SealPurpose::PackDirectory, &salt, &aad, sealed);
        let opened = opened.map_err(|error| broken(&name, error))?;
        let directory = Directory::decode(opened.as_bytes()).map_err(|error| broken(&name, error))?;
        let parts = PackParts { id: *id, size, header, trailer, directory, check: found };
        parts.check_lengths().map_err(|why| broken(&name, why))?;
        Ok(parts)
    }

    fn header_of(&self, name: &ObjectName, size: u64, ends: &PackEnds) -> Result<Vec<u8>> {
        let read = if ends.end.len() as u64 == size { &ends.end } else { &ends.start };
        let mut header = read[..read.len().min(HEADER_FIXED)].to_vec();
        self.complete(name, &mut header, HEADER_FIXED)?;
        let length = PackHeader::length(&header).map_err(|error| broken(name, error))?;
        header = read[..read.len().min(length)].to_vec();
        self.complete(name, &mut header, length)?;
        let decoded = PackHeader::decode(&header).map_err(|error| broken(name, error))?;
        if decoded.repository != *self.id() {
            return Err(broken(name, format_args!("it belongs to the repository {}", decoded.repository)));
        }
        Ok(header)
    }

    /// Reads what an object's start lacks to a length.
    fn complete(&self, name: &ObjectName, start: &mut Vec<u8>, length: usize) -> Result<()> {
        let there = start.len();
        if there < length {
            start.resize(length, 0);
            self.remote.get_range(name, there as u64, &mut start[there..]).map_err(of_object)?;
        }
        Ok(())
    }

    /// The trailer and the sealed directory.
    fn end_of(
        &self,
        name: &ObjectName,
        size: u64,
        mut end: Vec<u8>,
    ) -> Result<([u8; TRAILER_LEN], PackTrailer, Vec<u8>)> {
        self.complete_end(name, size, &mut end, TRAILER_LEN)?;
        let bytes: [u8; TRAILER_LEN] = *end.last_chunk().ok_or_else(|| broken(name, "it has no trailer"))?;
        let trailer = PackTrailer::decode(&bytes, size).map_err(|error| broken(name, error))?;
        let wanted = trailer.directory as usize + TRAILER_LEN;
        self.complete_end(name, size, &mut end, wanted)?;
        let mut sealed = end.split_off(end.len() - wanted);
        sealed.truncate(trailer.directory as usize);
        Ok((bytes, trailer, sealed))
    }

    /// Reads what an object's end lacks to a length, which is no more than the object's.
    fn complete_end(&self, name: &ObjectName, size: u64, end: &mut Vec<u8>, length: usize) -> Result<()> {
        if end.len() >= length {
            return Ok(());
        }
        let mut whole = vec![0; length];
        let lacking = length - end.len();
        whole[lacking..].copy_from_slice(end);
        self.remote.get_range(name, size - length as u64, &mut whole[..lacking]).map_err(of_object)?;
        *end = whole;
        Ok(())
    }

    /// Enters a pack that was read from the remote into the index.
    pub fn enter_pack(&self, parts: &PackParts) -> Result<u32> {
        Ok(self.index().add_pack(&parts.new_pack())?)
    }

    /// Fetches the directories of packs, many at a time, and enters them into the index. `damaged` is given those that are
    /// damaged or gone, each with a sentence.
    pub fn enter_directories(&self, packs: &[WantedPack], mut damaged: impl FnMut(&PackId, String)) -> Result<()> {
        let (mut fetched, mut chunks) = (Vec::new(), 0);
        // An opened directory takes some twice of what it does in a pack.
        let bytes = |pack: &WantedPack| 3 * end_to_read(pack.size);
        let fetch = |pack: &WantedPack| self.fetch_directory(&pack.id, pack.size, pack.check.as_ref());
        let take = |pack: &WantedPack, parts: Result<PackParts>| {
            match parts {
                Ok(parts) => {
                    chunks += parts.directory.ids.len();
                    fetched.push(parts);
                }
                Err(Error::Damaged(why)) => damaged(&pack.id, why),
                Err(error) => return Err(error),
            }
            if fetched.len() < MOST_FETCHED && chunks < MOST_CHUNKS {
                return Ok(());
            }
            chunks = 0;
            self.enter_fetched(&mut fetched)
        };
        let done = in_order(CallWindow::of(&*self.remote), packs, bytes, fetch, take);
        // What came before an error needn't be fetched again.
        self.enter_fetched(&mut fetched).and(done)
    }

    fn enter_fetched(&self, fetched: &mut Vec<PackParts>) -> Result<()> {
        let fetched = std::mem::take(fetched);
        if fetched.is_empty() {
            return Ok(());
        }
        let enter =
            |index: &mut Index| fetched.iter().try_for_each(|parts| index.add_pack(&parts.new_pack()).map(drop));
        Ok(self.index().at_once(enter)?)
    }
}

/// Refuses an object that is too short for a pack.
fn check_least(name: &ObjectName, size: u64) -> Result<()> {
    let least = (HEADER_FIXED + TRAILER_LEN) as u64;
    match size < least {
        true => Err(broken(name, format_args!("it has {size} bytes, and a pack has at least {least}"))),
        false => Ok(()),
    }
}

impl PackParts {
    /// As the index is told of it.
    fn new_pack(&self) -> NewPack<'_> {
        NewPack {
            id: self.id,
            size: self.size,
            header_length: self.header.len() as u64,
            check: self.check,
            stored_time: None,
            whole: true,
            directory: &self.directory,
        }
    }

    /// Whether header, segments, pages, recipe copy, directory and trailer fill the pack, and the counts agree.
    fn check_lengths(&self) -> std::result::Result<(), &'static str> {
        let segments = self.directory.segments.len();
        if segments != self.trailer.segments as usize {
            return Err("its directory and its trailer count different segments");
        }
        let parts = [
            self.header.len() as u64,
            self.directory.sealed_offset(segments as u32),
            self.trailer.pages,
            u64::from(self.trailer.recipe_copy),
            u64::from(self.trailer.directory),
            TRAILER_LEN as u64,
        ];
        match parts.into_iter().try_fold(0, u64::checked_add) == Some(self.size) {
            true => Ok(()),
            false => Err("its parts don't fill it"),
        }
    }
}
