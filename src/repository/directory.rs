//! Pack directories, read from the remote without any chunk data.

use super::{Repository, Result, broken, of_object};
use crate::crypto::{Salt, SealPurpose};
use crate::format::checks::DirectoryCheck;
use crate::format::layout::pack_name;
use crate::format::pack::{Directory, HEADER_FIXED, PackHeader, PackTrailer, TRAILER_LEN, directory_check};
use crate::id::PackId;
use crate::index::NewPack;
use crate::remote::ObjectName;

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

impl Repository {
    /// Reads a pack's header and directory, and checks them against each other and against `check` where it is known. No
    /// byte of a segment is read.
    pub fn fetch_directory(&self, id: &PackId, size: u64, check: Option<&DirectoryCheck>) -> Result<PackParts> {
        let name = pack_name(id);
        let least = (HEADER_FIXED + TRAILER_LEN) as u64;
        if size < least {
            return Err(broken(&name, format_args!("it has {size} bytes, and a pack has at least {least}")));
        }
        let header = self.fetch_header(&name)?;
        let (trailer_bytes, trailer, sealed) = self.fetch_end(&name, size)?;
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

    fn fetch_header(&self, name: &ObjectName) -> Result<Vec<u8>> {
        let mut header = vec![0; HEADER_FIXED];
        self.remote.get_range(name, 0, &mut header).map_err(of_object)?;
        let length = PackHeader::length(&header).map_err(|error| broken(name, error))?;
        header.resize(length, 0);
        self.remote.get_range(name, HEADER_FIXED as u64, &mut header[HEADER_FIXED..]).map_err(of_object)?;
        let decoded = PackHeader::decode(&header).map_err(|error| broken(name, error))?;
        if decoded.repository != *self.id() {
            return Err(broken(name, format_args!("it belongs to the repository {}", decoded.repository)));
        }
        Ok(header)
    }

    /// The trailer and the sealed directory.
    fn fetch_end(&self, name: &ObjectName, size: u64) -> Result<([u8; TRAILER_LEN], PackTrailer, Vec<u8>)> {
        let mut bytes = [0; TRAILER_LEN];
        let end = size - TRAILER_LEN as u64;
        self.remote.get_range(name, end, &mut bytes).map_err(of_object)?;
        let trailer = PackTrailer::decode(&bytes, size).map_err(|error| broken(name, error))?;
        let mut sealed = vec![0; trailer.directory as usize];
        self.remote.get_range(name, end - u64::from(trailer.directory), &mut sealed).map_err(of_object)?;
        Ok((bytes, trailer, sealed))
    }

    /// Enters a pack that was read from the remote into the index.
    pub fn enter_pack(&self, parts: &PackParts) -> Result<u32> {
        let pack = NewPack {
            id: parts.id,
            size: parts.size,
            header_length: parts.header.len() as u64,
            check: parts.check,
            stored_time: None,
            whole: true,
            directory: &parts.directory,
        };
        Ok(self.index().add_pack(&pack)?)
    }
}

impl PackParts {
    /// Whether header, segments, recipe copy, directory and trailer fill the pack, and the counts agree.
    fn check_lengths(&self) -> std::result::Result<(), &'static str> {
        let segments = self.directory.segments.len();
        if segments != self.trailer.segments as usize {
            return Err("its directory and its trailer count different segments");
        }
        let parts = [
            self.header.len() as u64,
            self.directory.sealed_offset(segments as u32),
            u64::from(self.trailer.recipe_copy),
            u64::from(self.trailer.directory),
            TRAILER_LEN as u64,
        ];
        match parts.iter().sum::<u64>() == self.size {
            true => Ok(()),
            false => Err("its parts don't fill it"),
        }
    }
}
