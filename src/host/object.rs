//! Identification of an object by its bytes alone: its kind, its name, and whether it is complete.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::area::RootCopy;
use crate::format::layout::{MAX_KEY_OBJECT, MAX_PAGES, MAX_SNAPSHOT_HEAD, key_name, pack_name, snapshot_name};
use crate::format::pack::{HEADER_FIXED, PackHeader, PackTrailer, TRAILER_LEN};
use crate::format::snapshot::{SnapshotDigest, SnapshotHeader};
use crate::format::{FormatError, FormatKind, PREFIX_LEN, VERSION, check_prefix};
use crate::id::{PackId, SnapshotId};
use crate::remote::{Folder, ObjectName};

/// The largest pack that a host accepts: 128 times the writer's size.
const MAX_PACK: u64 = 4 << 30;
/// The longest clear header of a snapshot that a host reads: two million packs.
const MAX_HEADER: usize = 64 << 20;
/// The largest text for people.
const MAX_INFO: u64 = 64 << 10;
/// The first bytes of an age file.
const AGE: &[u8] = b"age-encryption.org/v1\n";

/// Bytes behind the header of an age file that holds anything.
const LEAST_PAYLOAD: usize = 16 + 16 + 1;

/// The possible kind of an object, by its first and last bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Pack,
    Snapshot,
    Key,
    /// The text for people. It is identified by its name alone.
    Info,
}

impl Form {
    /// The most bytes.
    pub(super) fn most(self) -> u64 {
        match self {
            Form::Pack => MAX_PACK,
            Form::Snapshot => MAX_SNAPSHOT_HEAD + MAX_PAGES,
            Form::Key => MAX_KEY_OBJECT,
            Form::Info => MAX_INFO,
        }
    }
}

/// The version of the format, where a file is an object of a later one than this program knows.
pub(super) fn later(file: &File) -> io::Result<Option<u8>> {
    let mut start = [0; PREFIX_LEN];
    if read_at_most(file, &mut start, 0)? < start.len() {
        return Ok(None);
    }
    let later = |kind| match check_prefix(kind, &start) {
        Err(FormatError::Version(version)) if version > VERSION => Some(version),
        _ => None,
    };
    Ok([FormatKind::Pack, FormatKind::Snapshot, FormatKind::Mark].into_iter().find_map(later))
}

/// The object that `file` at `place` may be, without reading all of it. None if it is no complete object.
pub(super) fn form(file: &File, size: u64, place: Option<&ObjectName>) -> io::Result<Option<Form>> {
    let mut start = [0; HEADER_FIXED];
    let length = read_at_most(file, &mut start, 0)?;
    let start = &start[..length];
    let form = if place.is_some_and(|place| place.folder() == Folder::Info) {
        Form::Info
    } else if start.starts_with(AGE) {
        Form::Key
    } else if PackHeader::length(start).is_ok() {
        let mut trailer = [0; TRAILER_LEN];
        let at = size.saturating_sub(TRAILER_LEN as u64);
        let whole = read_at_most(file, &mut trailer, at)? == TRAILER_LEN && PackTrailer::decode(&trailer, size).is_ok();
        if !whole {
            return Ok(None);
        }
        Form::Pack
    } else if header_length(start).is_some() {
        match snapshot_header(file)? {
            Some((header, length)) if header.size(length) == size => Form::Snapshot,
            _ => return Ok(None),
        }
    } else {
        return Ok(None);
    };
    Ok((size <= form.most()).then_some(form))
}

/// The proper place of a copy. None if it isn't complete.
pub(super) fn name_of(form: Form, copy: &RootCopy, place: Option<&ObjectName>) -> io::Result<Option<ObjectName>> {
    Ok(match form {
        Form::Pack => Some(pack_name(&PackId::from_bytes(copy.hash))),
        Form::Info => place.cloned(),
        Form::Key => {
            let mut object = vec![0; copy.size as usize];
            copy.file.read_exact_at(&mut object, 0)?;
            is_whole_key(&object).then(|| key_name(&object))
        }
        Form::Snapshot => match snapshot_header(&copy.file)? {
            Some((header, length)) if header.size(length) == copy.size => {
                let name = |id| snapshot_name(header.stored_time, &header.set, header.kind(), &id);
                snapshot_id(&copy.file)?.map(name)
            }
            _ => None,
        },
    })
}

/// The id of a snapshot. None if its pages aren't those that its header says.
fn snapshot_id(file: &File) -> io::Result<Option<SnapshotId>> {
    let mut digest = SnapshotDigest::default();
    let mut buffer = vec![0; 1 << 16];
    let mut offset = 0;
    loop {
        match read_at_most(file, &mut buffer, offset)? {
            0 => return Ok(digest.finish()),
            length => {
                digest.update(&buffer[..length]);
                offset += length as u64;
            }
        }
    }
}

/// Whether an age file has its header's end and, after it, at least a nonce, a tag and a little text.
fn is_whole_key(object: &[u8]) -> bool {
    let Some(mac) = object.windows(5).position(|window| window == b"\n--- ") else { return false };
    let line = object[mac + 5..].iter().position(|&byte| byte == b'\n');
    line.is_some_and(|line| object.len() - mac - line >= LEAST_PAYLOAD)
}

fn header_length(start: &[u8]) -> Option<usize> {
    SnapshotHeader::length(start).ok().filter(|length| *length <= MAX_HEADER)
}

/// The clear header of a snapshot, and its length. None if it has none.
pub(super) fn snapshot_header(file: &File) -> io::Result<Option<(SnapshotHeader, usize)>> {
    let mut start = [0; SnapshotHeader::START];
    if read_at_most(file, &mut start, 0)? < start.len() {
        return Ok(None);
    }
    let Some(length) = header_length(&start) else { return Ok(None) };
    // A false length allocates no memory.
    if (length as u64) > file.metadata()?.len() {
        return Ok(None);
    }
    let mut header = vec![0; length];
    if read_at_most(file, &mut header, 0)? < length {
        return Ok(None);
    }
    Ok(SnapshotHeader::decode(&header).ok().map(|header| (header, length)))
}

/// Reads until the buffer is full or the file ends. How much that is.
fn read_at_most(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
