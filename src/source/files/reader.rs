//! Reads one regular file, and detects changes in the meantime.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, ioctl_ficlone, openat};
use rustix::io::Errno;

use super::holes::{self, HolePath, fitting};
use super::metadata::{ctime, flags, identity, is_sparse, mtime, size};
use crate::entry::Hole;

/// Times of files are as coarse as the kernel's clock tick, at most this.
const TICK: Duration = Duration::from_millis(12);

/// A regular file that is being read, up to its length when it was opened; to its end if its reported length is 0. Holes
/// are skipped.
pub(super) struct FileReader {
    file: File,
    before: Stat,
    holes: Vec<Hole>,
    way: HolePath,
    content: u64,
}

impl FileReader {
    /// Opens `name` in `folder`. A link or anything else that isn't a regular file is an error.
    pub(super) fn open(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<Self> {
        let file = open_quietly(folder, name)?;
        let mut before = fstat(&file)?;
        if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it isn't a regular file any more"));
        }
        if wait_out_tick(&before) {
            before = fstat(&file)?;
        }
        let holes = if is_sparse(&before) { holes::find(&file, size(&before)) } else { Vec::new() };
        Ok(Self { file: file.into(), before, holes, way: HolePath::default(), content: 0 })
    }

    /// The file's state when it was opened.
    pub(super) fn before(&self) -> &Stat {
        &self.before
    }

    /// The holes when the file was opened.
    pub(super) fn holes(&self) -> &[Hole] {
        &self.holes
    }

    /// The inode flags that are kept.
    pub(super) fn flags(&self) -> u32 {
        flags(&self.file)
    }

    /// How many bytes of content were read.
    pub(super) fn content(&self) -> u64 {
        self.content
    }

    /// How far the file was read, holes included.
    pub(super) fn position(&self) -> u64 {
        self.way.position()
    }

    /// Makes `copy` share the file's blocks, where the file system can.
    pub(super) fn share_blocks(&self, copy: &File) -> bool {
        ioctl_ficlone(copy, &self.file).is_ok()
    }

    /// Fills `buffer`, less only at the end. 0 is the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let n = self.read_region(&mut buffer[filled..])?;
            if n == 0 {
                break;
            }
            filled += n;
            self.content += n as u64;
        }
        Ok(filled)
    }

    /// Bytes between two holes.
    fn read_region(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = match (self.way.data(&self.holes), size(&self.before)) {
            (Some(end), _) => end,
            // File systems that don't know a size report 0; such a file is read to its end.
            (None, 0) => u64::MAX,
            (None, size) => size,
        };
        let at = self.way.position();
        let most = fitting(end.saturating_sub(at), buffer);
        loop {
            match self.file.read_at(&mut buffer[..most], at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    self.way.pass(*result.as_ref().unwrap_or(&0));
                    return result;
                }
            }
        }
    }

    /// Whether the file has changed since it was opened, or was shorter than reported.
    pub(super) fn has_changed(&self) -> io::Result<bool> {
        let (before, now) = (&self.before, fstat(&self.file)?);
        let is_short = size(before) > 0 && self.position() != size(before);
        Ok(is_short || (size(before), mtime(before), ctime(before)) != (size(&now), mtime(&now), ctime(&now)))
    }

    /// Whether this is the inode, in the state, that `stat` described.
    pub(super) fn is_what_was_listed(&self, stat: &Stat) -> bool {
        identity(&self.before) == identity(stat) && ctime(&self.before) == ctime(stat)
    }
}

/// Opens a file for reading: no link is followed, a FIFO doesn't block, and the access time stays where the kernel
/// allows it.
fn open_quietly(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<rustix::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    match openat(folder, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => Ok(openat(folder, name, flags, Mode::empty())?),
        Err(Errno::LOOP) => Err(io::Error::other("it became a symbolic link")),
        opened => Ok(opened?),
    }
}

/// Waits until a later change would give the file another time than it has. A change in the same clock tick as the last
/// could otherwise not be detected, in this run or the next. True if it had to wait.
fn wait_out_tick(stat: &Stat) -> bool {
    let changed = ctime(stat);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let age = u64::try_from(changed.seconds).ok().and_then(|s| now.checked_sub(Duration::new(s, changed.nanoseconds)));
    match age.and_then(|age| TICK.checked_sub(age)) {
        Some(left) => {
            sleep(left);
            true
        }
        None => false,
    }
}

/// The inode flags of the folder `name` in `folder` that are kept; none where it can't be opened.
pub(super) fn flags_of(folder: BorrowedFd<'_>, name: &[u8]) -> u32 {
    open_quietly(folder, name).map_or(0, flags)
}

/// The holes of the file `name` in `folder`, where it has fewer blocks than its size needs.
pub(super) fn holes_of(folder: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> io::Result<Vec<Hole>> {
    if !is_sparse(stat) {
        return Ok(Vec::new());
    }
    let file = open_quietly(folder, name)?;
    let now = fstat(&file)?;
    match FileType::from_raw_mode(now.st_mode) {
        FileType::RegularFile => Ok(holes::find(file.as_fd(), size(&now))),
        _ => Err(io::Error::other("it isn't a regular file any more")),
    }
}
