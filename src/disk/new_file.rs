//! Files that are written beside their name and get it in one step.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, PersistError};

/// A file that is being written as `.NAME.varu-new` beside its place `NAME`. Dropped before it has its name, it goes away; one
/// that a killed program left is taken over by the next one.
pub struct NewFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl NewFile {
    /// Begins the file that is to be `path`, with these permissions. Its folder must be there.
    pub fn beside(path: &Path, mode: u32) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?;
        let folder = folder_of(path);
        let [before, behind] = [".", ".varu-new"].map(OsString::from);
        let prefix = [before.as_os_str(), name].into_iter().collect::<OsString>();
        let left = [prefix.as_os_str(), &behind].into_iter().collect::<OsString>();
        match fs::remove_file(folder.join(left)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = tempfile::Builder::new().prefix(&prefix).suffix(&behind).rand_bytes(0).tempfile_in(folder)?;
        let new = Self { file, path: path.to_owned() };
        new.file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        Ok(new)
    }

    /// The open file.
    pub fn as_file(&self) -> &File {
        self.file.as_file()
    }

    /// The file opened once more, to read what was written.
    pub fn reopen(&self) -> io::Result<File> {
        self.file.reopen()
    }

    /// Gives it its name in place of what has it, so that both outlive a power cut: at every moment the old file is there, or
    /// the new one.
    pub fn replace(self) -> io::Result<()> {
        self.as_file().sync_all()?;
        let path = self.path.clone();
        self.replace_unflushed()?;
        flush_folder(&path)
    }

    /// As [`NewFile::replace`], for a file that can be made again: after a power cut it may be the old one, or empty.
    pub fn replace_unflushed(self) -> io::Result<()> {
        self.file.persist(&self.path).map(drop).map_err(PersistError::into)
    }

    /// Gives it its name, which nothing may have.
    pub fn create(self) -> io::Result<()> {
        self.as_file().sync_all()?;
        match self.file.persist_noclobber(&self.path) {
            Ok(_) => {}
            // A file system without links. There a file that appears at this very moment would be replaced.
            Err(PersistError { error, file })
                if error.kind() != io::ErrorKind::AlreadyExists && !self.path.exists() =>
            {
                file.persist(&self.path)?;
            }
            Err(error) => return Err(error.into()),
        }
        flush_folder(&self.path)
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for NewFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Writes a file anew in one step, as [`NewFile::replace`].
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let new = NewFile::beside(path, mode)?;
    new.as_file().write_all(bytes)?;
    new.replace()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the name of a file outlive a power cut.
fn flush_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<OsString> {
        let mut names: Vec<OsString> = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("facts");
        replace(&path, b"one", 0o644).unwrap();
        replace(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(names(folder.path()), ["facts"]);
    }

    #[test]
    fn what_a_killed_program_left_is_taken_over_and_what_has_no_name_yet_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("facts");
        fs::write(&path, "old").unwrap();
        fs::write(folder.path().join(".facts.varu-new"), "half of it, and longer").unwrap();
        let new = NewFile::beside(&path, 0o600).unwrap();
        new.as_file().write_all(b"new").unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), names(folder.path()).len()), (b"old".as_slice(), 2));
        drop(new);
        assert_eq!(names(folder.path()), ["facts"]);
        replace(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_new_name_is_never_taken_from_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let write = |text: &[u8]| {
            let new = NewFile::beside(&path, 0o600)?;
            new.as_file().write_all(text)?;
            new.create()
        };
        write(b"first").unwrap();
        assert_eq!(write(b"second").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((fs::read(&path).unwrap().as_slice(), names(folder.path()).len()), (b"first".as_slice(), 1));
    }
}
