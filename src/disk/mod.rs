//! Files and disks of this machine: replacing a file in one step, free space, and disks that take nothing.

mod new_file;

use std::fs::{OpenOptions, remove_file};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::StatVfs;

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

#[cfg(test)]
mod tests {
    use super::*;

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
