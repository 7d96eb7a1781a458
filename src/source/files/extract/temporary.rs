//! Something under a temporary name, which becomes the entry by a rename.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, linkat, openat, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::{EntryPath, Error, ExtractorState, Overwrite, Result};

/// Numbers the temporary names of this process. Names of an earlier process with the same prefix are skipped.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// How many names that are taken are tried.
const ATTEMPTS: usize = 1000;

/// An entry under a temporary name in its folder. Dropped without [`Temporary::commit`], it is removed.
pub(super) struct Temporary {
    shared: Arc<ExtractorState>,
    folder: Arc<OwnedFd>,
    name: Vec<u8>,
}

impl Temporary {
    /// Calls `make` with the folder and a name in it that is free.
    pub(super) fn make<T>(
        shared: &Arc<ExtractorState>,
        spot: &EntryPath,
        mut make: impl FnMut(&OwnedFd, &[u8]) -> rustix::io::Result<T>,
    ) -> rustix::io::Result<(Self, T)> {
        for _ in 0..ATTEMPTS {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}{number:x}.part", shared.prefix).into_bytes();
            match make(&spot.folder, &name) {
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
                Ok(made) => return Ok((Self { shared: shared.clone(), folder: spot.folder.clone(), name }, made)),
            }
        }
        Err(Errno::EXIST)
    }

    /// The created file, opened without any right but to set its metadata.
    pub(super) fn handle(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.folder, &self.name, flags, Mode::empty())?)
    }

    /// Gives it its name, `part` in its folder. `path` is the full path, for messages.
    pub(super) fn commit(self, part: &[u8], path: &[u8]) -> Result<()> {
        let replaces = matches!(self.shared.options.overwrite, Overwrite::Changed | Overwrite::Always);
        let renamed = match replaces {
            true => renameat(&self.folder, &self.name, &self.folder, part),
            false => self.rename_to_new(part),
        };
        match renamed {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) if self.shared.options.overwrite == Overwrite::Never => {
                self.shared.set_foreign(path);
                Ok(())
            }
            Err(Errno::EXIST) if !replaces => {
                self.shared.set_foreign(path);
                Err(Error::Exists { path: self.shared.shown(path) })
            }
            Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
                Err(self.shared.in_the_way(path, FileType::Directory))
            }
            Err(error) => Err(self.shared.failed("renaming the finished", path, error)),
        }
    }

    /// Renames unless something is there: by the rename that does so, where the file system has none by a link.
    fn rename_to_new(&self, part: &[u8]) -> rustix::io::Result<()> {
        match renameat_with(&self.folder, &self.name, &self.folder, part, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            renamed => return renamed,
        }
        match linkat(&self.folder, &self.name, &self.folder, part, AtFlags::empty()) {
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {}
            linked => return linked,
        }
        match statat(&self.folder, part, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => renameat(&self.folder, &self.name, &self.folder, part),
            Err(error) => Err(error),
            Ok(_) => Err(Errno::EXIST),
        }
    }
}

/// After a rename the name is gone, unless both names were one inode's, or the rename was done by a link.
impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = unlinkat(&self.folder, &self.name, AtFlags::empty());
    }
}
