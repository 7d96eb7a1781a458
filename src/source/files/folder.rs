//! Open folders on the way down.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, fstatfs, openat, statat};
use rustix::io::Errno;

use super::metadata::identity;

/// The open handle of a folder is enough to look below it, not always to list it.
pub(super) struct FolderHandle {
    fd: OwnedFd,
}

/// Flags for each folder on the way: no link is followed.
const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl FolderHandle {
    /// `/`, not to be listed.
    pub(super) fn top() -> io::Result<Self> {
        Ok(Self { fd: openat(CWD, "/", FOLDER | OFlags::PATH, Mode::empty())? })
    }

    /// The folder `name`, not to be listed.
    pub(super) fn pass(&self, name: &[u8]) -> io::Result<Self> {
        Ok(Self { fd: openat(&self.fd, name, FOLDER | OFlags::PATH, Mode::empty())? })
    }

    /// The folder `name`, to be listed. Its access time stays where the kernel allows it.
    pub(super) fn open(&self, name: &[u8]) -> io::Result<Self> {
        let flags = FOLDER | OFlags::RDONLY;
        match openat(&self.fd, name, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => Ok(Self { fd: openat(&self.fd, name, flags, Mode::empty())? }),
            opened => Ok(Self { fd: opened? }),
        }
    }

    /// The folder above, if it is still the one that `identity` names.
    pub(super) fn above(&self, expected: (u64, u64)) -> io::Result<Self> {
        let above = self.pass(b"..")?;
        match identity(&above.stat()?) == expected {
            true => Ok(above),
            false => Err(io::Error::other("it was moved while it was read")),
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn stat(&self) -> io::Result<Stat> {
        Ok(fstat(&self.fd)?)
    }

    /// The file `name` itself; a link isn't followed.
    pub(super) fn stat_of(&self, name: &[u8]) -> io::Result<Stat> {
        Ok(statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// All names, sorted by their bytes. An error may come after some of them; those are kept.
    pub(super) fn list(&self, names: &mut FolderNames) -> io::Result<()> {
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            if entry.file_name() != c"." && entry.file_name() != c".." {
                names.push(entry.file_name());
            }
        }
        Ok(())
    }

    /// Whether the folder declares, by a valid `CACHEDIR.TAG`, that its content can be recreated
    /// (<https://bford.info/cachedir/>).
    pub(super) fn is_cache(&self) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(tag) = openat(&self.fd, CACHE_TAG, flags, Mode::empty()) else { return false };
        let regular = fstat(&tag).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        let mut start = [0; CACHE_SIGNATURE.len()];
        regular && File::from(tag).read_exact(&mut start).is_ok() && start == CACHE_SIGNATURE
    }

    /// Whether the folder is on a virtual file system of the kernel: `/proc`, `/sys` and the like.
    pub(super) fn is_pseudo(&self) -> bool {
        fstatfs(&self.fd).is_ok_and(|stat| PSEUDO.contains(&(stat.f_type as u64 & 0xffff_ffff)))
    }
}

/// The name of the file that marks a cache.
pub(super) const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";

/// How that file begins.
const CACHE_SIGNATURE: [u8; 43] = *b"Signature: 8a477f597d28d172789f06886806bc55";

/// The types, as `statfs` tells them (linux/magic.h), of file systems that hold no files of anybody.
const PSEUDO: [u64; 16] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x27_e0eb,   // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x1cd1,      // devpts
    0xcafe_4a11, // bpf
    0x6165_676c, // pstore
    0xde5e_81e4, // efivarfs
    0x6265_6570, // configfs
    0x1980_0202, // mqueue
    0xf97c_ff8c, // selinuxfs
    0x4249_4e4d, // binfmt_misc
    0x6e73_6673, // nsfs
];

/// Names of a folder, in little memory: their bytes in one piece.
#[derive(Default)]
pub(super) struct FolderNames {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    next: usize,
}

impl FolderNames {
    fn push(&mut self, name: &CStr) {
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
    }

    /// Adds a name that isn't from a listing. It holds no NUL.
    pub(super) fn add(&mut self, name: &[u8]) {
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
    }

    fn at(bytes: &[u8], start: usize) -> &[u8] {
        bytes[start..].split(|&byte| byte == 0).next().unwrap_or_default()
    }

    /// Puts the names in order, each once.
    pub(super) fn sort(&mut self) {
        let bytes = &self.bytes;
        self.starts.sort_unstable_by(|&a, &b| Self::at(bytes, a).cmp(Self::at(bytes, b)));
        self.starts.dedup_by(|a, b| Self::at(bytes, *a) == Self::at(bytes, *b));
    }

    /// The next name.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        let start = *self.starts.get(self.next)?;
        self.next += 1;
        Some(Self::at(&self.bytes, start).to_vec())
    }

    /// Drops the remaining names. Returns how many there were.
    pub(super) fn clear(&mut self) -> usize {
        let left = self.starts.len() - self.next;
        *self = Self::default();
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_sorted_by_bytes_and_once() {
        let mut names = FolderNames::default();
        for name in [&b"b"[..], b"a\xff", b"a", b"ab", b"b"] {
            names.add(name);
        }
        names.sort();
        let sorted: Vec<_> = std::iter::from_fn(|| names.take()).collect();
        assert_eq!(sorted, [&b"a"[..], b"ab", b"a\xff", b"b"]);
    }

    #[test]
    fn a_folder_that_was_moved_is_not_taken_for_the_one_above() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(top.path().join("a/b")).unwrap();
        let start = FolderHandle { fd: File::open(top.path()).unwrap().into() };
        let a = start.open(b"a").unwrap();
        let b = a.open(b"b").unwrap();
        let expected = identity(&a.stat().unwrap());
        assert!(b.above(expected).is_ok());
        std::fs::rename(top.path().join("a/b"), top.path().join("b")).unwrap();
        assert!(b.above(expected).is_err());
    }
}
