//! Entries, as recipes carry them.

use crate::entry::{Entry, FileTime, Hole, Kind, Metadata, StreamName, Xattr};
use crate::format::layout::MAX_XATTRS;
use crate::format::wire::{FieldReader, FieldWriter, FormatError};
use crate::id::StreamHash;

type Result<T> = std::result::Result<T, FormatError>;

/// Writes an entry; `last` is the name before, whose common start is left out.
pub(super) fn write(out: &mut FieldWriter, entry: &Entry, hash: Option<&StreamHash>, last: &mut Vec<u8>) {
    write_name(out, entry.name.as_bytes(), last);
    let code = match &entry.kind {
        Kind::Data => 0,
        Kind::File => 1,
        Kind::Directory => 2,
        Kind::Symlink(_) => 3,
        Kind::Hardlink(_) => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
        Kind::CharDevice(..) => 7,
        Kind::BlockDevice(..) => 8,
        Kind::Above => 9,
    };
    out.u8(code);
    match &entry.kind {
        Kind::Symlink(target) => out.bytes(target),
        Kind::Hardlink(target) => out.bytes(target.as_bytes()),
        Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
            out.varint(u64::from(*major));
            out.varint(u64::from(*minor));
        }
        _ => {}
    }
    if has_metadata(&entry.kind) {
        write_metadata(out, entry.metadata.as_ref().unwrap_or(&Metadata::default()));
    }
    if entry.kind.has_content() {
        out.varint(entry.size);
        out.raw(&hash.map_or([0; StreamHash::LEN], |hash| *hash.as_bytes()));
    }
}

fn has_metadata(kind: &Kind) -> bool {
    !matches!(kind, Kind::Data | Kind::Hardlink(_))
}

pub(super) fn write_name(out: &mut FieldWriter, name: &[u8], last: &mut Vec<u8>) {
    let shared = name.iter().zip(last.iter()).take_while(|(a, b)| a == b).count();
    out.count(shared);
    out.bytes(&name[shared..]);
    last.truncate(shared);
    last.extend_from_slice(&name[shared..]);
}

fn write_time(out: &mut FieldWriter, time: FileTime) {
    out.zigzag(time.seconds);
    out.varint(u64::from(time.nanoseconds));
}

fn write_metadata(out: &mut FieldWriter, metadata: &Metadata) {
    [metadata.mode, metadata.uid, metadata.gid].into_iter().for_each(|field| out.varint(u64::from(field)));
    out.bytes(&metadata.user);
    out.bytes(&metadata.group);
    write_time(out, metadata.mtime);
    write_time(out, metadata.ctime);
    out.varint(metadata.inode);
    out.varint(u64::from(metadata.flags));
    out.count(metadata.xattrs.len());
    for xattr in &metadata.xattrs {
        out.bytes(&xattr.name);
        out.bytes(&xattr.value);
    }
    out.count(metadata.holes.len());
    let mut end = 0;
    for hole in &metadata.holes {
        out.varint(hole.offset.saturating_sub(end));
        out.varint(hole.length);
        end = hole.offset.saturating_add(hole.length);
    }
}

/// Reads an entry and its stream's hash; `last` is the name before.
pub(super) fn read(reader: &mut FieldReader<'_>, last: &mut Vec<u8>) -> Result<(Entry, Option<StreamHash>)> {
    let name = read_name(reader, last)?;
    let kind = match reader.u8("an entry's kind")? {
        0 => Kind::Data,
        1 => Kind::File,
        2 => Kind::Directory,
        3 => Kind::Symlink(reader.bytes("a symbolic link's target")?.to_vec()),
        4 => Kind::Hardlink(stream_name(reader.bytes("a hard link's target")?)?),
        5 => Kind::Fifo,
        6 => Kind::Socket,
        7 => Kind::CharDevice(reader.varint_u32("a device")?, reader.varint_u32("a device")?),
        8 => Kind::BlockDevice(reader.varint_u32("a device")?, reader.varint_u32("a device")?),
        9 => Kind::Above,
        _ => return Err(FormatError::Invalid("an entry has an unknown kind")),
    };
    let metadata = has_metadata(&kind).then(|| read_metadata(reader)).transpose()?;
    let (mut size, mut hash) = (0, None);
    if kind.has_content() {
        size = reader.varint("an entry's size")?;
        hash = Some(StreamHash::from_bytes(reader.array("a stream's hash")?));
    }
    Ok((Entry { name, kind, size, metadata }, hash))
}

fn stream_name(bytes: &[u8]) -> Result<StreamName> {
    StreamName::new(bytes).map_err(|_| FormatError::Invalid("an entry has a name that can't be"))
}

pub(super) fn read_name(reader: &mut FieldReader<'_>, last: &mut Vec<u8>) -> Result<StreamName> {
    let shared = reader.varint("an entry's name")?;
    if shared > last.len() as u64 {
        return Err(FormatError::Invalid("an entry's name shares more than the name before has"));
    }
    last.truncate(shared as usize);
    last.extend_from_slice(reader.bytes("an entry's name")?);
    stream_name(last)
}

fn read_time(reader: &mut FieldReader<'_>) -> Result<FileTime> {
    let seconds = reader.zigzag("a time")?;
    match reader.varint_u32("a time")? {
        nanoseconds @ 0..1_000_000_000 => Ok(FileTime { seconds, nanoseconds }),
        _ => Err(FormatError::Invalid("a time has too many nanoseconds")),
    }
}

fn read_metadata(reader: &mut FieldReader<'_>) -> Result<Metadata> {
    let mode = reader.varint_u32("a mode")?;
    if mode > 0o7777 {
        return Err(FormatError::Invalid("a mode has unknown bits"));
    }
    Ok(Metadata {
        mode,
        uid: reader.varint_u32("an owner")?,
        gid: reader.varint_u32("a group")?,
        user: reader.bytes("an owner")?.to_vec(),
        group: reader.bytes("a group")?.to_vec(),
        mtime: read_time(reader)?,
        ctime: read_time(reader)?,
        inode: reader.varint("an inode")?,
        flags: reader.varint_u32("inode flags")?,
        xattrs: reader.list_of_at_most(MAX_XATTRS, 2, "the extended attributes", |reader| {
            let name = reader.bytes("an extended attribute")?.to_vec();
            Ok(Xattr { name, value: reader.bytes("an extended attribute")?.to_vec() })
        })?,
        holes: read_holes(reader)?,
    })
}

fn read_holes(reader: &mut FieldReader<'_>) -> Result<Vec<Hole>> {
    let mut end: u64 = 0;
    reader.list(2, "the holes", |reader| {
        let gap = reader.varint("a hole")?;
        let length = reader.varint("a hole")?;
        let offset = end.checked_add(gap).ok_or(FormatError::Invalid("a hole lies too far"))?;
        // No file is longer.
        end = offset
            .checked_add(length)
            .filter(|&end| i64::try_from(end).is_ok())
            .ok_or(FormatError::Invalid("a hole lies too far"))?;
        Ok(Hole { offset, length })
    })
}
