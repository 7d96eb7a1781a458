//! Metadata of an entry, as the file system reports it.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::unistd::{Gid, Group, Uid, User};
use rustix::fs::{Stat, ioctl_getflags, lgetxattr, llistxattr};
use rustix::io::Errno;

use crate::entry::{FileTime, Metadata, Xattr, flags};

/// The most bytes that Linux gives for a list of names, or for a value.
const XATTR_MAX: usize = 65_536;
/// When a table of names is thrown away.
const NAMES_MAX: usize = 4096;

/// The names of owners, asked for once.
#[derive(Default)]
pub(super) struct OwnerNames {
    users: HashMap<u32, Vec<u8>>,
    groups: HashMap<u32, Vec<u8>>,
}

impl OwnerNames {
    fn user(&mut self, uid: u32) -> Vec<u8> {
        named(&mut self.users, uid, || User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name))
    }

    fn group(&mut self, gid: u32) -> Vec<u8> {
        named(&mut self.groups, gid, || Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name))
    }

    /// The metadata that `stat` tells: all but flags, extended attributes and holes.
    pub(super) fn metadata(&mut self, stat: &Stat) -> Metadata {
        Metadata {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            user: self.user(stat.st_uid),
            group: self.group(stat.st_gid),
            mtime: mtime(stat),
            ctime: ctime(stat),
            inode: inode(stat),
            flags: 0,
            xattrs: Vec::new(),
            holes: Vec::new(),
        }
    }
}

fn named(names: &mut HashMap<u32, Vec<u8>>, id: u32, ask: impl FnOnce() -> Option<String>) -> Vec<u8> {
    if names.len() >= NAMES_MAX {
        names.clear();
    }
    names.entry(id).or_insert_with(|| ask().unwrap_or_default().into_bytes()).clone()
}

/// When the content last changed.
#[allow(clippy::unnecessary_cast)] // The types of the fields differ between architectures.
pub(super) fn mtime(stat: &Stat) -> FileTime {
    FileTime { seconds: stat.st_mtime as i64, nanoseconds: stat.st_mtime_nsec as u32 }
}

/// When the inode last changed.
#[allow(clippy::unnecessary_cast)]
pub(super) fn ctime(stat: &Stat) -> FileTime {
    FileTime { seconds: stat.st_ctime as i64, nanoseconds: stat.st_ctime_nsec as u32 }
}

/// The inode's number.
#[allow(clippy::unnecessary_cast)]
pub(super) fn inode(stat: &Stat) -> u64 {
    stat.st_ino as u64
}

/// The file system and the inode's number.
#[allow(clippy::unnecessary_cast)]
pub(super) fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, inode(stat))
}

/// The size in bytes.
pub(super) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Whether fewer blocks back the file than its size needs.
#[allow(clippy::unnecessary_cast)]
pub(super) fn is_sparse(stat: &Stat) -> bool {
    (stat.st_blocks as u64).saturating_mul(512) < size(stat)
}

/// The inode flags that are kept; none where the file system has no such thing.
pub(super) fn flags(file: impl AsFd) -> u32 {
    ioctl_getflags(file).map_or(0, |flags| flags.bits() & flags::KEPT)
}

/// Reads extended attributes. Its buffers are used again.
pub(super) struct XattrReader {
    buffer: Vec<u8>,
    path: Vec<u8>,
}

impl XattrReader {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; XATTR_MAX], path: Vec::new() }
    }

    /// The attributes of the entry `name` in `folder` itself (a link isn't followed), by name. An attribute that can't be
    /// read is left out; the second value is the last such error. A file system without attributes has none.
    pub(super) fn read(&mut self, folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<(Vec<Xattr>, Option<io::Error>)> {
        // There is no call for "a name in an open folder" before Linux 6.13; /proc makes a short path of it.
        self.path.clear();
        self.path.extend_from_slice(format!("/proc/self/fd/{}/", folder.as_raw_fd()).as_bytes());
        self.path.extend_from_slice(name);
        let length = match llistxattr(&self.path, &mut self.buffer[..]) {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP) => 0,
            Err(error) => return Err(error.into()),
        };
        if length == 0 {
            return Ok((Vec::new(), None));
        }
        let names = self.buffer[..length].to_vec();
        let (mut xattrs, mut problem) = (Vec::new(), None);
        for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            match lgetxattr(&self.path, name, &mut self.buffer[..]) {
                Ok(length) => xattrs.push(Xattr { name: name.to_vec(), value: self.buffer[..length].to_vec() }),
                Err(Errno::NODATA) => {}
                Err(error) => problem = Some(error.into()),
            }
        }
        xattrs.sort();
        Ok((xattrs, problem))
    }
}
