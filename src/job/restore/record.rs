//! Records of earlier restores to original places, and whether what they wrote is still there.
//!
//! A set is done where the same was asked for before, it ended, and what is there now is what was there then: looked at, and not
//! believed of the record alone.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::entry::{Entry, Kind};
use crate::error::Result;
use crate::id::{Hasher, hex};
use crate::index::{OperationKind, Outcome};
use crate::job::open::OpenedSnapshot;
use crate::restore::{Choice, ChosenStreams};
use crate::source::select::Selection;

/// The record of a set that was restored to its end.
pub struct RestoreRecord {
    /// What stood there then.
    pub standing: String,
    /// When.
    pub time: String,
    /// The first warning, where there was one.
    pub warning: Option<String>,
}

impl RestoreRecord {
    /// The record of the same request for the same snapshot; None where the last one was another, or didn't end.
    pub fn of(opened: &OpenedSnapshot, kind: OperationKind, request: &str) -> Result<Option<Self>> {
        let set = &opened.snapshot.header.set;
        let last = opened.repository.index().last_request(kind, set)?;
        let same = last.filter(|last| {
            last.snapshot == Some(opened.snapshot.id)
                && last.request.as_deref() == Some(request)
                && last.has_succeeded()
        });
        Ok(same.and_then(|last| {
            let warning = last.message.filter(|_| last.outcome == Some(Outcome::Warnings));
            Some(Self { standing: last.standing?, time: last.ended?.to_string(), warning })
        }))
    }
}

/// What stands below `root` of the files of a snapshot, as a line that is another one once any of them is another: each by its
/// inode and all times of it, folders by owner and mode. None where something isn't what the snapshot has.
pub fn of_files(opened: &OpenedSnapshot, root: &Path, selection: &Selection, stripped: u32) -> Result<Option<String>> {
    let layers = opened.repository.layers(&opened.snapshot.id)?;
    let takes = |entry: &Entry| selection.takes(entry);
    let choice = Choice { takes: &takes, starts: selection.starts() };
    let mut hasher = Hasher::new();
    for stream in ChosenStreams::new(&layers, &choice) {
        let entry = &stream?.entry;
        let Some(path) = destination(root, entry, stripped) else { continue };
        let Ok(there) = fs::symlink_metadata(&path) else { return Ok(None) };
        if !is_restored(entry, &there) {
            return Ok(None);
        }
        let mut numbers = vec![u64::from(there.mode()), there.uid().into(), there.gid().into()];
        if !there.is_dir() {
            let times = [there.mtime(), there.mtime_nsec(), there.ctime(), there.ctime_nsec()];
            numbers.extend([there.dev(), there.ino(), there.size()]);
            numbers.extend(times.map(i64::cast_unsigned));
        }
        for number in numbers {
            hasher.update(&number.to_le_bytes());
        }
    }
    Ok(Some(hex(&hasher.finish_short())))
}

/// Where an entry goes; None where it has no folder left.
fn destination(root: &Path, entry: &Entry, stripped: u32) -> Option<PathBuf> {
    let mut components = entry.name.components().skip(stripped as usize).peekable();
    components.peek()?;
    Some(components.fold(root.to_owned(), |path, part| path.join(OsStr::from_bytes(part))))
}

/// Whether what is there is what a restore makes of the entry, as far as a look tells.
fn is_restored(entry: &Entry, there: &fs::Metadata) -> bool {
    match &entry.kind {
        Kind::Data => there.is_file() && there.len() == entry.length(),
        Kind::File => {
            let time = entry.metadata.as_ref().map(|metadata| metadata.mtime.seconds);
            there.is_file() && there.len() == entry.length() && time.is_none_or(|time| time == there.mtime())
        }
        Kind::Directory | Kind::Above => there.is_dir(),
        Kind::Symlink(_) => there.is_symlink(),
        Kind::Hardlink(_) | Kind::Fifo | Kind::Socket | Kind::CharDevice(..) | Kind::BlockDevice(..) => !there.is_dir(),
    }
}
