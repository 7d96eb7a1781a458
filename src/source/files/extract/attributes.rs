//! Metadata of extracted entries.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmod, chownat, fchmod,
    fremovexattr, fsetxattr, fstat, futimens, removexattr, setxattr, utimensat,
};
use rustix::io::Errno;

use super::owners::{OwnerMapping, OwnerNumbers};
use super::report::ExtractProblem;
use crate::entry::{FileTime, Metadata, Xattr};

/// The ACL that rules access.
const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
/// The ACL that new entries of a folder get.
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
/// Rights that a program has whoever starts it: as dangerous as a setuid bit.
const CAPABILITY: &[u8] = b"security.capability";

/// The set-user-id and set-group-id bits.
const SET_ID: u32 = 0o6000;

/// The file whose metadata is set.
#[derive(Clone, Copy)]
pub(super) enum Handle<'a> {
    /// A file or folder that is open.
    Open(BorrowedFd<'a>),
    /// Anything, also a link itself, that is held without rights (`O_PATH`).
    Path(BorrowedFd<'a>),
}

impl<'a> Handle<'a> {
    fn fd(self) -> BorrowedFd<'a> {
        match self {
            Handle::Open(fd) | Handle::Path(fd) => fd,
        }
    }

    /// The path to the open file, even if it is a link: the only way to calls that take paths alone.
    fn path(self) -> String {
        format!("/proc/self/fd/{}", self.fd().as_raw_fd())
    }

    fn chmod(self, mode: Mode) -> rustix::io::Result<()> {
        match self {
            Handle::Open(fd) => fchmod(fd, mode),
            Handle::Path(_) => chmod(self.path(), mode),
        }
    }

    fn set_xattr(self, xattr: &Xattr) -> rustix::io::Result<()> {
        match self {
            Handle::Open(fd) => fsetxattr(fd, &xattr.name[..], &xattr.value, XattrFlags::empty()),
            Handle::Path(_) => setxattr(self.path(), &xattr.name[..], &xattr.value, XattrFlags::empty()),
        }
    }

    fn remove_xattr(self, name: &[u8]) -> rustix::io::Result<()> {
        match self {
            Handle::Open(fd) => fremovexattr(fd, name),
            Handle::Path(_) => removexattr(self.path(), name),
        }
    }

    fn set_times(self, times: &Timestamps) -> rustix::io::Result<()> {
        match self {
            Handle::Open(fd) => futimens(fd, times),
            Handle::Path(_) => utimensat(CWD, self.path(), times, AtFlags::empty()),
        }
    }
}

/// Sets metadata.
pub(super) struct MetadataSetter {
    owners: OwnerNumbers,
    /// Whether any owner can be set.
    is_root: bool,
}

impl MetadataSetter {
    pub(super) fn new(owners: OwnerMapping) -> Self {
        Self { owners: OwnerNumbers::new(owners), is_root: nix::unistd::geteuid().is_root() }
    }

    /// Whether owner and mode are as [`MetadataSetter::set`] would set them, as far as this user can.
    pub(super) fn are_set(&self, metadata: &Metadata, stat: &Stat) -> bool {
        let mode = |mode: u32| if self.is_root { mode & 0o7777 } else { mode & 0o777 };
        let owned = (stat.st_uid, stat.st_gid) == self.owners.of(metadata);
        mode(stat.st_mode) == mode(metadata.mode)
            && (owned || !self.is_root && stat.st_uid == nix::unistd::geteuid().as_raw())
    }

    /// Sets the owner, then the attributes that depend on it, then the times. Failures are given to `report`, and the
    /// rest is still set. Setuid, setgid and capabilities are set only if the owner and group are right.
    pub(super) fn set(
        &self,
        handle: Handle<'_>,
        metadata: &Metadata,
        mut report: impl FnMut(ExtractProblem, &io::Error),
    ) -> io::Result<()> {
        let stat = fstat(handle.fd())?;
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        let owned = self.set_owner(handle, metadata, &stat);
        if let Err(error) = &owned {
            report(ExtractProblem::Owner, &io::Error::from(*error));
        }
        if !is_link {
            drop_inherited(handle, metadata, &stat);
        }
        let set_xattrs = |acls: bool, report: &mut dyn FnMut(ExtractProblem, &io::Error)| {
            for xattr in metadata.xattrs.iter().filter(|xattr| is_acl(xattr) == acls) {
                let allowed = if xattr.name == CAPABILITY { owned } else { Ok(()) };
                if let Err(error) = allowed.and_then(|()| handle.set_xattr(xattr)) {
                    report(ExtractProblem::Attribute, &error.into());
                    if xattr.name == ACCESS_ACL {
                        close_group(handle, metadata, &xattr.value);
                    }
                }
            }
        };
        // Before the mode, which may remove the right to set them.
        set_xattrs(false, &mut report);
        if !is_link {
            set_mode(handle, metadata, owned, &mut report);
        }
        // After the mode, which would change their mask.
        set_xattrs(true, &mut report);
        if let Err(error) = handle.set_times(&times(metadata.mtime)) {
            report(ExtractProblem::Time, &error.into());
        }
        Ok(())
    }

    /// Sets owner and group, as far as that is allowed. An error where one of them isn't right then.
    fn set_owner(&self, handle: Handle<'_>, metadata: &Metadata, stat: &Stat) -> rustix::io::Result<()> {
        let (uid, gid) = self.owners.of(metadata);
        if (stat.st_uid, stat.st_gid) == (uid, gid) {
            return Ok(());
        }
        if uid == u32::MAX || gid == u32::MAX {
            return Err(Errno::INVAL); // The number that means "leave it".
        }
        let (owner, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(handle.fd(), "", owner, group, AtFlags::EMPTY_PATH).inspect_err(|_| {
            // A user may still give a file to another of their groups.
            let _ = chownat(handle.fd(), "", None, group, AtFlags::EMPTY_PATH);
        })
    }
}

fn is_acl(xattr: &Xattr) -> bool {
    xattr.name == ACCESS_ACL || xattr.name == DEFAULT_ACL
}

/// If an ACL can't be set, the group bits of the mode, which are the ACL's mask, would be rights of the owning group: it
/// gets at most the rights that the ACL gave it.
fn close_group(handle: Handle<'_>, metadata: &Metadata, acl: &[u8]) {
    const OWNING_GROUP: u16 = 0x04;
    // A version, then for each entry a tag, the rights and an owner, little-endian.
    let entries = acl.get(4..).unwrap_or_default().chunks_exact(8);
    let rights = entries
        .filter(|entry| u16::from_le_bytes([entry[0], entry[1]]) == OWNING_GROUP)
        .map(|entry| u32::from(entry[2] & 7))
        .next();
    if let Ok(stat) = fstat(handle.fd()) {
        let given = metadata.mode >> 3 & rights.unwrap_or(0);
        let mode = stat.st_mode & 0o7707 | given << 3;
        let _ = handle.chmod(Mode::from_raw_mode(mode));
    }
}

/// Removes ACLs inherited from the folder above, if the entry has none. Most file systems have none to remove.
fn drop_inherited(handle: Handle<'_>, metadata: &Metadata, stat: &Stat) {
    let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    for name in [Some(ACCESS_ACL), is_folder.then_some(DEFAULT_ACL)].into_iter().flatten() {
        if !metadata.xattrs.iter().any(|xattr| xattr.name == name) {
            let _ = handle.remove_xattr(name);
        }
    }
}

fn set_mode(
    handle: Handle<'_>,
    metadata: &Metadata,
    owned: rustix::io::Result<()>,
    report: &mut dyn FnMut(ExtractProblem, &io::Error),
) {
    let mut mode = metadata.mode & 0o7777;
    if let Err(error) = owned {
        if mode & SET_ID != 0 {
            report(ExtractProblem::SetId, &error.into());
        }
        mode &= !SET_ID;
    }
    if let Err(error) = handle.chmod(Mode::from_raw_mode(mode)) {
        report(ExtractProblem::Mode, &error.into());
    }
}

/// The time of the last change; the time of the last access stays.
fn times(mtime: FileTime) -> Timestamps {
    let nanoseconds = mtime.nanoseconds.min(999_999_999);
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: nanoseconds.into() },
    }
}
