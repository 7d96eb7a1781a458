//! Comparison of an account's objects with the ledger and with the snapshots' needs. `accept`, `verify`, `prune` and
//! `status` use it.

use std::collections::HashSet;
use std::fs::File;
use std::io;

use super::area::{Area, FileKind, FileLocation, NamedFile};
use super::failed;
use super::ledger::Ledger;
use super::object::snapshot_header;
use crate::error::{Error, Result};
use crate::format::layout::pack_name;
use crate::format::snapshot::SnapshotHeader;
use crate::id::PackId;
use crate::remote::{Folder, ObjectName};
use crate::repository;

/// An object that differs from the ledger or from a snapshot's needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDamage {
    /// The object.
    pub object: ObjectName,
    /// The defect.
    pub reason: String,
}

/// The error of a call on an object.
pub(super) fn fail(area: &Area, tried: &'static str, name: &ObjectName, error: io::Error) -> Error {
    failed(tried, &area.path().join(name.to_string()), error)
}

/// Opens an object that is root's. None if there is no such one.
pub(super) fn open(area: &Area, name: &ObjectName) -> Result<Option<File>> {
    let (spot, bytes) = (FileLocation::In(name.folder()), name.name().as_bytes());
    let look = area.look(spot, bytes).map_err(|error| fail(area, "looking at", name, error))?;
    match look {
        Some(what @ FileKind::Ours(_)) => {
            let found = NamedFile { spot, name: bytes.to_vec(), what };
            area.read(&found).map_err(|error| fail(area, "opening", name, error))
        }
        _ => Ok(None),
    }
}

/// Result of examining an object.
pub(super) enum Look<T> {
    /// It was read.
    Read(T),
    /// There is no such object of root's.
    Absent,
    /// The disk or the file can't be read: a sentence that says so.
    Unreadable(String),
}

/// Skips an unreadable file: that is damage of one object, and affects no other. An interrupt ends the work.
fn looked<T>(read: Result<Option<T>>) -> Result<Look<T>> {
    match read {
        Ok(Some(read)) => Ok(Look::Read(read)),
        Ok(None) => Ok(Look::Absent),
        Err(Error::Repository(repository::Error::Io { source, .. })) => {
            Ok(Look::Unreadable(format!("it can't be read: {source}")))
        }
        Err(error) => Err(error),
    }
}

/// Opens an object that is root's, where it can be.
pub(super) fn open_if_readable(area: &Area, name: &ObjectName) -> Result<Look<File>> {
    looked(open(area, name))
}

/// The clear header of a snapshot that is root's.
pub(super) fn header(area: &Area, name: &ObjectName) -> Result<Look<SnapshotHeader>> {
    let file = match open_if_readable(area, name)? {
        Look::Read(file) => file,
        Look::Absent => return Ok(Look::Absent),
        Look::Unreadable(why) => return Ok(Look::Unreadable(why)),
    };
    let header = looked(snapshot_header(&file).map_err(|error| fail(area, "reading", name, error)))?;
    Ok(match header {
        Look::Read((header, _)) => Look::Read(header),
        Look::Absent => Look::Unreadable("its header doesn't read".to_owned()),
        Look::Unreadable(why) => Look::Unreadable(why),
    })
}

/// The snapshots that lack a pack, and those that can't be read. Absent ones are found by the ledger.
pub(super) fn lacking<'a>(
    area: &Area,
    snapshots: impl Iterator<Item = &'a ObjectName>,
    has: &dyn Fn(&ObjectName) -> bool,
) -> Result<Vec<HostDamage>> {
    let mut damage = Vec::new();
    // Most packs are needed by many snapshots. Each is looked up once: a hundred snapshots of 30,000 packs are three million
    // names.
    let mut there: HashSet<PackId> = HashSet::new();
    let mut lacks = |pack: &PackId| {
        if there.contains(pack) {
            return false;
        }
        let lacks = !has(&pack_name(pack));
        if !lacks {
            there.insert(*pack);
        }
        lacks
    };
    for name in snapshots {
        let header = match header(area, name)? {
            Look::Read(header) => header,
            Look::Absent => continue,
            Look::Unreadable(reason) => {
                damage.push(HostDamage { object: name.clone(), reason });
                continue;
            }
        };
        let missing: Vec<&PackId> = header.packs.iter().filter(|pack| lacks(pack)).collect();
        let [first, others @ ..] = missing.as_slice() else { continue };
        let more = match others.len() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        let reason = format!("it needs {}{more}, which the host doesn't have", pack_name(first));
        damage.push(HostDamage { object: name.clone(), reason });
    }
    Ok(damage)
}

/// Missing and differing objects of the ledger, as far as names and sizes tell, and the snapshots that lack packs.
pub(super) fn at_a_glance(area: &Area, ledger: &Ledger) -> Result<Vec<HostDamage>> {
    let mut damage = Vec::new();
    for (name, entry) in ledger.entries() {
        let look = area.look(FileLocation::In(name.folder()), name.name().as_bytes());
        let reason = match looked(look.map_err(|error| fail(area, "looking at", name, error)))? {
            Look::Read(FileKind::Ours(inode)) if inode.size == entry.size => continue,
            Look::Read(FileKind::Ours(inode)) => {
                format!("it has {} bytes, and the ledger says {}", inode.size, entry.size)
            }
            Look::Read(_) => "it is in the ledger, and isn't root's".to_owned(),
            Look::Absent => "it is in the ledger, and isn't there".to_owned(),
            Look::Unreadable(why) => why,
        };
        damage.push(HostDamage { object: name.clone(), reason });
    }
    let snapshots = ledger.entries().keys().filter(|name| name.folder() == Folder::Snapshots);
    damage.extend(lacking(area, snapshots, &|name| ledger.accounts_for(name))?);
    Ok(damage)
}
