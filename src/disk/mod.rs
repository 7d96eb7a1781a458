//! Files and disks of this machine: replacing a file in one step, free space, and disks that take nothing.

mod new_file;

use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, StatVfs, fallocate};

pub use new_file::{NewFile, replace};

/// The space of a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What anybody may still write.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

impl Space {
    /// The space of the disk that a file or folder lies on.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from(rustix::fs::statvfs(path)?))
    }

    /// The space of the disk that an open file or folder lies on.
    pub fn of_open(handle: impl AsFd) -> io::Result<Self> {
        Ok(Self::from(rustix::fs::fstatvfs(handle)?))
    }
}

impl From<StatVfs> for Space {
    fn from(about: StatVfs) -> Self {
        let bytes = |blocks: u64| blocks.saturating_mul(about.f_frsize);
        Self { free: bytes(about.f_bavail), total: bytes(about.f_blocks) }
    }
}

/// Whether a disk takes nothing: it is full, or a quota on it used up, it can only be read, or it takes no file so large.
pub fn takes_nothing(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem | FileTooLarge)
}

/// Whether the disk of a folder takes nothing now, as a small file shows: not all that writes there says why it failed.
pub fn is_closed(folder: &Path) -> bool {
    let path = folder.join(format!(".try-{}", std::process::id()));
    let written = OpenOptions::new().write(true).create(true).truncate(true).open(&path).and_then(|mut file| {
        file.write_all(&[0; 4096])?;
        file.sync_all()
    });
    // Where there is none, nothing is left.
    let _ = remove_file(&path);
    written.is_err_and(|error| takes_nothing(&error))
}

/// Bytes from which a range of a file is given back to the disk: some file systems write out all that waits in it first.
const WORTH_GIVING_BACK: u64 = 4 << 20;

/// Makes a range of a file zeros, and gives a large one back to the disk, where the file system can. The file keeps its
/// length, and needs no room for it.
pub fn erase(file: &File, range: Range<u64>) -> io::Result<()> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    let length = range.end.saturating_sub(range.start);
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if length >= WORTH_GIVING_BACK && fallocate(file, punch, range.start, length).is_ok() {
        return Ok(());
    }
    let mut at = range.start;
    while at < range.end {
        let piece = (range.end - at).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..piece as usize], at)?;
        at += piece;
    }
    Ok(())
}

/// Advice for an error of a local file: a clause that follows it. Empty if there is none.
pub fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room on that disk, and run it again",
        io::ErrorKind::FileTooLarge => {
            "; that disk, or a limit (ulimit -f), takes no file so large: choose another place"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; mount that disk for writing, and run it again",
        _ => "",
    }
}

/// A file without a name on the file system of `folder`, which goes away with its handle.
pub fn unlinked_file(folder: &Path) -> io::Result<File> {
    tempfile::tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_is_erased_is_zeros_and_a_large_one_takes_no_room() {
        use std::os::unix::fs::MetadataExt;
        let mut file = tempfile::tempfile().unwrap();
        let length = 12 << 20;
        file.write_all(&vec![7; length]).unwrap();
        file.sync_all().unwrap();
        let before = file.metadata().unwrap().blocks();
        for range in [10..20, 5000..5000 + (200 << 10), 4 << 20..9 << 20] {
            erase(&file, range.clone()).unwrap();
            let mut found = vec![1; (range.end - range.start) as usize + 2];
            file.read_exact_at(&mut found, range.start - 1).unwrap();
            let inside = found.len() - 1;
            assert_eq!((found[0], found[inside]), (7, 7));
            assert!(found[1..inside].iter().all(|&byte| byte == 0), "{range:?}");
        }
        assert_eq!(file.metadata().unwrap().len(), length as u64);
        let after = file.metadata().unwrap().blocks();
        assert!(after < before - (4 << 20) / 512, "{before} blocks, then {after}");
    }

    #[test]
    fn a_disk_that_takes_nothing_has_a_way_out() {
        assert!(way_out(&io::ErrorKind::QuotaExceeded.into()).contains("make room"));
        assert!(way_out(&io::ErrorKind::ReadOnlyFilesystem.into()).contains("for writing"));
        assert_eq!(way_out(&io::ErrorKind::NotFound.into()), "");
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::FileTooLarge, io::ErrorKind::ReadOnlyFilesystem] {
            assert!(takes_nothing(&kind.into()) && !way_out(&kind.into()).is_empty());
        }
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_closed(folder.path()) && !is_closed(&folder.path().join("none")));
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
}
