//! Mark objects: sealed and stored, fetched and opened.

use super::listing::{FolderListing, listed_or_none};
use super::{Error, Repository, Result, broken, of_object, unreadable};
use crate::crypto::{Salt, SealPurpose};
use crate::format::layout::{MAX_MARK_OBJECT, mark_name};
use crate::format::mark::{Mark, MarkHeader};
use crate::id::SnapshotId;
use crate::remote::{ErrorKind, Folder, ObjectName, is_left_over};
use crate::time::Timestamp;

/// A mark on the remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMark {
    /// The mark's object.
    pub name: ObjectName,
    /// Its content.
    pub mark: Mark,
}

impl Repository {
    /// Stores a mark and makes its name outlive a power cut.
    pub fn store_mark(&self, mark: Mark) -> Result<StoredMark> {
        let salt = Salt::random();
        let header = MarkHeader { repository: *self.id(), salt: *salt.as_bytes() };
        let clear = header.encode();
        let sealed = self.keys.metadata.seal(SealPurpose::Mark, &salt, &[&clear], mark.encode());
        let object = [&clear, sealed.as_bytes()].concat();
        let name = mark_name(mark.snapshot.as_ref(), &object);
        let mut upload = self.remote.begin()?;
        upload.append(&object)?;
        upload.finish(&name)?;
        self.remote.flush(Folder::Marks)?;
        Ok(StoredMark { name, mark })
    }

    /// All marks of this repository id. Damaged ones, and those of another id, have no effect: they are counted in the
    /// second value.
    pub fn marks(&self) -> Result<(Vec<StoredMark>, u64)> {
        let (listed, strange) = self.remote.list(Folder::Marks)?;
        let (mut marks, mut ignored) = (Vec::new(), strange);
        for object in listed {
            match self.fetch_mark(&object.name) {
                Ok(mark) => marks.push(StoredMark { name: object.name, mark }),
                Err(Error::Damaged(_) | Error::Usage(_)) => ignored += 1,
                Err(error) => return Err(error),
            }
        }
        marks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((marks, ignored))
    }

    /// Takes the marks of a snapshot off. False where it had none.
    pub fn unmark(&self, id: &SnapshotId) -> Result<bool> {
        let (marks, _) = self.marks()?;
        let mut found = false;
        for marked in marks.iter().filter(|marked| marked.mark.snapshot == Some(*id)) {
            self.delete(&marked.name)?;
            found = true;
        }
        Ok(found)
    }

    /// Deletes an object. One that is gone already is no error. False where the remote lets nobody delete.
    pub fn delete(&self, name: &ObjectName) -> Result<bool> {
        match self.remote.delete(name) {
            Ok(()) => Ok(true),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(true),
            Err(error) if error.kind == ErrorKind::Refused => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes leftovers in `pending/` of uploads that have ended. How many; none if the account can't delete: then its
    /// host does.
    pub fn sweep_pending(&self, now: Timestamp) -> Result<u64> {
        self.sweep_pending_of(self.remote.list(Folder::Pending), now)
    }

    /// The same of the folder's listing.
    pub fn sweep_pending_of(&self, listing: FolderListing, now: Timestamp) -> Result<u64> {
        let mut swept = 0;
        for part in listed_or_none(listing)?.into_iter().filter(|part| is_left_over(&part.name, now)) {
            if !self.delete(&part.name)? {
                break;
            }
            swept += 1;
        }
        Ok(swept)
    }

    fn fetch_mark(&self, name: &ObjectName) -> Result<Mark> {
        let object = self.remote.get(name, MAX_MARK_OBJECT).map_err(of_object)?;
        let (header, clear, sealed) = MarkHeader::split(&object).map_err(|error| unreadable(name, error))?;
        if header.repository != *self.id() {
            return Err(broken(name, format_args!("it belongs to the repository {}", header.repository)));
        }
        let salt = Salt::from_bytes(header.salt);
        let opened = self.keys.metadata.open(SealPurpose::Mark, &salt, &[clear], sealed.to_vec());
        let opened = opened.map_err(|error| broken(name, error))?;
        let mark = Mark::decode(opened.as_bytes()).map_err(|error| unreadable(name, error))?;
        match mark_name(mark.snapshot.as_ref(), &object) == *name {
            true => Ok(mark),
            false => Err(broken(name, "its name isn't its content's")),
        }
    }
}
