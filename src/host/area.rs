//! The folders of one account, and the operations on them.
//!
//! All access is through handles on the folders, and by names inside them: whatever the account moves in the meantime,
//! nothing outside is reached, and no symbolic link is followed.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::REPOSITORY;
use super::checkpoints::Checkpoints;
use crate::entry::Escaped;
use crate::id::Hasher;
use crate::remote::{Folder, ObjectName};

/// The folder of root's alone in which copies are made.
pub(super) const STAGING: &str = ".accept";
/// The mode of an accepted object: its account may read it.
const ACCEPTED: u32 = 0o440;
/// The mode of a folder that an account may add to.
pub(super) const ADDABLE: u32 = 0o1770;
/// The most names that a folder may have.
const MOST_NAMES: usize = 4_000_000;
/// Bytes that are copied at once.
const PIECE: usize = 1 << 20;
/// Message for a file that can't be examined.
const UNREADABLE: &str = "unreadable, so the disk says";
/// How often a name is tried that the account removes or restores in the meantime.
const TRIES: usize = 100;

/// The location of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileLocation {
    /// In a folder of the repository.
    In(Folder),
    /// In the folder of copies.
    Staging,
}

/// The inode of a file, and the attributes that reveal a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inode {
    pub device: u64,
    pub number: u64,
    pub size: u64,
    /// Nanoseconds since 1970 of its last change, of content or name.
    pub changed: i64,
}

/// The kind of file under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// A read-only plain file of root's.
    Ours(Inode),
    /// Another plain file.
    Theirs(Inode),
    /// Something else.
    Strange(&'static str),
}

/// A name in a folder, and its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedFile {
    pub spot: FileLocation,
    pub name: Vec<u8>,
    pub what: FileKind,
}

impl fmt::Display for NamedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = match self.spot {
            FileLocation::In(folder) => folder.name(),
            FileLocation::Staging => STAGING,
        };
        write!(f, "{folder}/{}", Escaped(&self.name))
    }
}

/// A copy that root made, in the folder of copies.
pub(super) struct RootCopy {
    /// Its name there.
    pub name: String,
    /// Its bytes.
    pub file: File,
    /// How many.
    pub size: u64,
    /// Their BLAKE3.
    pub hash: [u8; 32],
}

/// The folders of one account.
pub(super) struct Area<'a> {
    path: PathBuf,
    folders: Vec<OwnedFd>,
    staging: OwnedFd,
    owner: u32,
    group: u32,
    steps: &'a dyn Checkpoints,
    drawn: Cell<u64>,
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl<'a> Area<'a> {
    /// Opens the folders below `chroot`, and makes the one of copies.
    ///
    /// # Errors
    ///
    /// Where one is missing, or has another owner or mode than `host prepare` gives it.
    pub(super) fn open(chroot: &Path, steps: &'a dyn Checkpoints) -> io::Result<Self> {
        let owner = rustix::process::geteuid().as_raw();
        let base = rustix::fs::openat(rustix::fs::CWD, chroot, FOLDER, Mode::empty())?;
        let repository = rustix::fs::openat(&base, REPOSITORY, FOLDER, Mode::empty())?;
        for (folder, name) in [(&base, "."), (&repository, REPOSITORY)] {
            let stat = rustix::fs::fstat(folder)?;
            if stat.st_uid != owner || stat.st_mode & 0o022 != 0 {
                return Err(unprepared(name, "others than root can write there"));
            }
        }
        let mut group = None;
        let mut folders = Vec::new();
        for folder in Folder::ALL {
            let handle = rustix::fs::openat(&repository, folder.name(), FOLDER, Mode::empty())
                .map_err(|error| unprepared(folder.name(), &error.to_string()))?;
            let stat = rustix::fs::fstat(&handle)?;
            if stat.st_uid != owner || stat.st_mode & 0o7777 != ADDABLE {
                return Err(unprepared(folder.name(), "it isn't root's with mode 1770"));
            }
            if *group.get_or_insert(stat.st_gid) != stat.st_gid {
                return Err(unprepared(folder.name(), "it has another group than the others"));
            }
            folders.push(handle);
        }
        let staging = open_staging(&base, owner, steps)?;
        let group = group.unwrap_or(owner);
        Ok(Self { path: chroot.to_owned(), folders, staging, owner, group, steps, drawn: Cell::new(0) })
    }

    fn handle(&self, spot: FileLocation) -> BorrowedFd<'_> {
        match spot {
            FileLocation::Staging => self.staging.as_fd(),
            FileLocation::In(folder) => self.folders[folder as usize].as_fd(),
        }
    }

    /// Where it is, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The entries of a folder, in no order.
    pub(super) fn list(&self, spot: FileLocation) -> io::Result<Vec<NamedFile>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(self.handle(spot))? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() == MOST_NAMES {
                return Err(io::Error::other(format!("a folder has more than {MOST_NAMES} names")));
            }
            names.push(name.to_vec());
        }
        let looked = names.into_iter().filter_map(|name| match self.look(spot, &name) {
            Ok(Some(what)) => Some(Ok(NamedFile { spot, name, what })),
            Ok(None) => None,
            // One that can't be looked at keeps no other from being found.
            Err(error) if is_of_one_file(&error) => {
                Some(Ok(NamedFile { spot, name, what: FileKind::Strange(UNREADABLE) }))
            }
            Err(error) => Some(Err(error)),
        });
        looked.collect()
    }

    /// The file under a name; None if there is none.
    pub(super) fn look(&self, spot: FileLocation, name: &[u8]) -> io::Result<Option<FileKind>> {
        match rustix::fs::statat(self.handle(spot), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(self.what(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn what(&self, stat: &Stat) -> FileKind {
        let strange = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let inode = inode(stat);
                let ours = stat.st_uid == self.owner && stat.st_mode & 0o222 == 0;
                return if ours { FileKind::Ours(inode) } else { FileKind::Theirs(inode) };
            }
            FileType::Directory => "a folder",
            FileType::Symlink => "a symbolic link",
            FileType::Fifo => "a FIFO",
            FileType::Socket => "a socket",
            FileType::CharacterDevice | FileType::BlockDevice => "a device",
            FileType::Unknown => "no plain file",
        };
        FileKind::Strange(strange)
    }

    /// Opens a plain file that was listed. None if another file has its name by now.
    pub(super) fn read(&self, found: &NamedFile) -> io::Result<Option<File>> {
        let (FileKind::Ours(expected) | FileKind::Theirs(expected)) = found.what else { return Ok(None) };
        // A FIFO that takes the name meanwhile must not make us wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(self.handle(found.spot), &found.name[..], flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = rustix::fs::fstat(&file)?;
        let plain = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        Ok((plain && inode(&stat).is(&expected)).then(|| File::from(file)))
    }

    /// Whether fewer bytes are on the disk than the file has: nothing that was uploaded is so, and a copy would fill the
    /// disk.
    pub(super) fn is_sparse(&self, file: &File) -> io::Result<bool> {
        let stat = rustix::fs::fstat(file)?;
        Ok(stat.st_blocks.unsigned_abs().saturating_mul(512).saturating_add(PIECE as u64) < stat.st_size.unsigned_abs())
    }

    /// Copies `source` to a new inode of root's that is flushed and not writable by anybody, and hashes the copy. None
    /// if `source` has more than `most` bytes by now.
    pub(super) fn copy(&self, source: &File, most: u64) -> io::Result<Option<RootCopy>> {
        self.steps.before("making a copy")?;
        let name = self.draw();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.staging, &name, flags, Mode::RUSR)?;
        let mut copy = RootCopy { name, file: File::from(file), size: 0, hash: [0; 32] };
        self.steps.before("filling a copy")?;
        let whole = match rustix::fs::ioctl_ficlone(&copy.file, source) {
            Ok(()) => hash_copy(&mut copy, most)?,
            Err(_) => fill_copy(&mut copy, source, most)?,
        };
        if !whole {
            self.discard(copy.name.as_bytes())?;
            return Ok(None);
        }
        self.steps.before("giving a copy its owner")?;
        rustix::fs::fchown(&copy.file, None, Some(Gid::from_raw(self.group)))?;
        rustix::fs::fchmod(&copy.file, Mode::from_raw_mode(ACCEPTED))?;
        self.steps.before("flushing a copy")?;
        copy.file.sync_all()?;
        Ok(Some(copy))
    }

    /// Puts a copy under its name. Returns the file that had that name, which now has the copy's name among the copies.
    pub(super) fn place(&self, copy: &RootCopy, name: &ObjectName) -> io::Result<Option<NamedFile>> {
        let (to, object) = (self.handle(FileLocation::In(name.folder())), name.name());
        self.steps.before("placing a copy")?;
        for _ in 0..TRIES {
            let (from, part) = (&self.staging, &copy.name);
            match rustix::fs::renameat_with(from, part, to, object, RenameFlags::EXCHANGE) {
                Ok(()) => {
                    let what = self.look(FileLocation::Staging, part.as_bytes())?;
                    return Ok(what.map(|what| NamedFile {
                        spot: FileLocation::Staging,
                        name: part.clone().into_bytes(),
                        what,
                    }));
                }
                Err(Errno::NOENT) => {}
                // Without it the name is taken over, and its previous file is gone: within the documented window.
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                    rustix::fs::renameat(from, part, to, object)?;
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
            match rustix::fs::renameat_with(from, part, to, object, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(None),
                Err(Errno::EXIST) => {}
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                    rustix::fs::renameat(from, part, to, object)?;
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::other("its name comes and goes"))
    }

    /// Moves a file from its folder to the copies, out of the account's reach. None if it is gone, or another file has
    /// its name, possibly one that was accepted in between. The returned file may still be another one of the account's
    /// that took the name at the last moment.
    pub(super) fn take(&self, found: &NamedFile) -> io::Result<Option<NamedFile>> {
        if found.spot == FileLocation::Staging {
            return Ok(Some(found.clone()));
        }
        if self.look(found.spot, &found.name)?.is_none_or(|what| !what.is(&found.what)) {
            return Ok(None);
        }
        self.steps.before("taking a file away")?;
        let name = self.draw();
        match rustix::fs::renameat(self.handle(found.spot), &found.name[..], &self.staging, &name) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let name = name.into_bytes();
        let what = self.look(FileLocation::Staging, &name)?;
        Ok(what.map(|what| NamedFile { spot: FileLocation::Staging, name, what }))
    }

    /// Gives a file among the copies back to `pending/`, where it is swept when it is old.
    pub(super) fn give_back(&self, name: &[u8]) -> io::Result<()> {
        self.steps.before("giving a file back")?;
        let to = self.handle(FileLocation::In(Folder::Pending));
        for _ in 0..TRIES {
            let given = format!("{}.back", self.draw());
            match rustix::fs::renameat_with(&self.staging, name, to, &given, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                given => return Ok(given?),
            }
        }
        Err(io::Error::other("every name is taken"))
    }

    /// Deletes from the copies.
    pub(super) fn discard(&self, name: &[u8]) -> io::Result<()> {
        self.steps.before("deleting a copy")?;
        match rustix::fs::unlinkat(&self.staging, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => Ok(rustix::fs::unlinkat(&self.staging, name, AtFlags::REMOVEDIR)?),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes an object of root's. False if there is none.
    pub(super) fn delete(&self, name: &ObjectName) -> io::Result<bool> {
        let spot = FileLocation::In(name.folder());
        if !matches!(self.look(spot, name.name().as_bytes())?, Some(FileKind::Ours(_))) {
            return Ok(false);
        }
        self.steps.before("deleting an object")?;
        match rustix::fs::unlinkat(self.handle(spot), name.name(), AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(false),
            deleted => Ok(deleted.map(|()| true)?),
        }
    }

    /// Makes the names in a folder survive a power cut.
    pub(super) fn flush(&self, spot: FileLocation) -> io::Result<()> {
        self.steps.before("flushing a folder")?;
        Ok(rustix::fs::fsync(self.handle(spot))?)
    }

    /// A name that no copy has.
    fn draw(&self) -> String {
        loop {
            let number = self.drawn.get();
            self.drawn.set(number + 1);
            let name = format!("{}-{number}", std::process::id());
            if matches!(self.look(FileLocation::Staging, name.as_bytes()), Ok(None)) {
                return name;
            }
        }
    }
}

impl Inode {
    /// Whether it is the same inode, changed or not.
    fn is(&self, other: &Self) -> bool {
        (self.device, self.number) == (other.device, other.number)
    }
}

impl FileKind {
    /// Whether it is the same file, changed or not.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ours(one) | Self::Theirs(one), Self::Ours(other) | Self::Theirs(other)) => one.is(other),
            (Self::Strange(one), Self::Strange(other)) => one == other,
            _ => false,
        }
    }
}

fn inode(stat: &Stat) -> Inode {
    Inode {
        device: stat.st_dev,
        number: stat.st_ino,
        size: stat.st_size.unsigned_abs(),
        changed: stat.st_ctime.saturating_mul(1_000_000_000).saturating_add(stat.st_ctime_nsec as i64),
    }
}

fn unprepared(what: &str, why: &str) -> io::Error {
    io::Error::other(format!("{what} isn't as `varu host prepare` makes it ({why}); run that again"))
}

fn open_staging(base: &OwnedFd, owner: u32, steps: &dyn Checkpoints) -> io::Result<OwnedFd> {
    match rustix::fs::openat(base, STAGING, FOLDER, Mode::empty()) {
        Err(Errno::NOENT) => {
            steps.before("making the folder of copies")?;
            rustix::fs::mkdirat(base, STAGING, Mode::RWXU)?;
        }
        opened => drop(opened?),
    }
    let staging = rustix::fs::openat(base, STAGING, FOLDER, Mode::empty())?;
    let stat = rustix::fs::fstat(&staging)?;
    match stat.st_uid == owner && stat.st_mode & 0o077 == 0 {
        true => Ok(staging),
        false => Err(unprepared(STAGING, "others than root can look into it")),
    }
}

/// Hashes a copy that shares its source's bytes. False if it has more than `most`.
fn hash_copy(copy: &mut RootCopy, most: u64) -> io::Result<bool> {
    let (size, hash) = hash(&mut &copy.file, most)?;
    (copy.size, copy.hash) = (size, hash);
    Ok(size <= most)
}

/// Fills a copy and hashes the bytes. False if there are more than `most`.
fn fill_copy(copy: &mut RootCopy, source: &File, most: u64) -> io::Result<bool> {
    let mut through = Through { source, copy: &copy.file };
    let (size, hash) = hash(&mut through, most)?;
    (copy.size, copy.hash) = (size, hash);
    Ok(size <= most)
}

/// Writes the bytes that are read.
struct Through<'a> {
    source: &'a File,
    copy: &'a File,
}

impl Read for Through<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.copy.write_all(&buffer[..length])?;
        Ok(length)
    }
}

/// How many bytes there are, and their BLAKE3; at most one more than `most` is read.
pub(super) fn hash(bytes: &mut dyn Read, most: u64) -> io::Result<(u64, [u8; 32])> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; PIECE];
    let mut size = 0;
    let mut bytes = bytes.take(most.saturating_add(1));
    loop {
        match bytes.read(&mut buffer) {
            Ok(0) => return Ok((size, hasher.finish())),
            Ok(length) => {
                hasher.update(&buffer[..length]);
                size += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether a call failed because of the file that it was made on, and not because of the disk as a whole.
pub(super) fn is_of_one_file(error: &io::Error) -> bool {
    let of_one = [Errno::IO, Errno::ACCESS, Errno::PERM, Errno::BADMSG, Errno::UCLEAN];
    error.raw_os_error().is_some_and(|code| of_one.iter().any(|errno| errno.raw_os_error() == code))
}
