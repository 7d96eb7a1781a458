//! The opened folder, and access to files below it.

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::disk::Space;
use crate::remote::{Error, ErrorKind, Folder, ObjectName, Result};

/// The folder of a local remote.
pub(super) struct Root {
    path: PathBuf,
    handle: OwnedFd,
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Root {
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        match rustix::fs::openat(CWD, &path, FOLDER, Mode::empty()) {
            Ok(handle) => Ok(Self { path, handle }),
            Err(errno) => {
                let error = Error::from_io("opening", path.display(), &errno.into());
                Err(match error.kind {
                    ErrorKind::NotFound => error.hint("look whether the path is right and its disk is mounted"),
                    ErrorKind::Invalid => error.hint("name a folder"),
                    _ => with_hint(error),
                })
            }
        }
    }

    pub(super) fn place(&self) -> String {
        self.path.display().to_string()
    }

    /// Where an object or a folder is, for messages.
    pub(super) fn at(&self, object: impl Display) -> String {
        format!("{}/{object}", self.path.display())
    }

    pub(super) fn error(&self, action: &'static str, object: impl Display, error: impl Into<io::Error>) -> Error {
        let error: io::Error = error.into();
        let mut shown = Error::from_io(action, self.at(object), &error);
        // Opening a symbolic link that must not be followed, and moving between two file systems.
        if [Errno::LOOP, Errno::XDEV].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) {
            shown.kind = ErrorKind::Invalid;
        }
        with_hint(shown)
    }

    /// A handle on one of the six folders.
    pub(super) fn folder(&self, action: &'static str, folder: Folder) -> Result<OwnedFd> {
        rustix::fs::openat(&self.handle, folder.name(), FOLDER.union(OFlags::NOFOLLOW), Mode::empty())
            .map_err(|error| self.error(action, folder.name(), error))
    }

    /// The folders that are not there. One that is there as something else is an error.
    pub(super) fn missing_folders(&self) -> Result<Vec<Folder>> {
        let mut missing = Vec::new();
        for folder in Folder::ALL {
            match self.folder("opening", folder) {
                Ok(_) => {}
                Err(error) if error.kind == ErrorKind::NotFound => missing.push(folder),
                Err(error) => return Err(error),
            }
        }
        Ok(missing)
    }

    /// Refuses a folder with foreign content: one that lacks `info/` or `packs/` and holds more than our folders.
    pub(super) fn refuse_foreign(&self, missing: &[Folder]) -> Result<()> {
        const ACTION: &str = "making a repository in";
        if ![Folder::Info, Folder::Packs].iter().any(|folder| missing.contains(folder)) {
            return Ok(());
        }
        let fail = |error: Errno| Error::from_io(ACTION, self.place(), &error.into());
        for entry in Dir::read_from(&self.handle).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_string_lossy();
            // A fresh disk has a lost+found.
            let ours = [".", "..", "lost+found"].contains(&name.as_ref());
            if !ours && Folder::ALL.iter().all(|folder| folder.name() != name) {
                let reason = format!("it is no repository, and {name:?} lies there");
                let error = Error::new(ErrorKind::Invalid, ACTION, self.place(), reason);
                return Err(error.hint("name an empty folder, or one that isn't there yet"));
            }
        }
        Ok(())
    }

    pub(super) fn make_folder(&self, folder: Folder) -> Result<()> {
        match rustix::fs::mkdirat(&self.handle, folder.name(), Mode::RWXU) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => self.folder("opening", folder).map(drop),
            Err(error) => Err(self.error("making the folder", folder.name(), error)),
        }
    }

    /// Makes the folders survive a power cut, where the file system can.
    pub(super) fn flush(&self) -> Result<()> {
        match rustix::fs::fsync(&self.handle) {
            Ok(()) | Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(with_hint(Error::from_io("flushing", self.place(), &error.into()))),
        }
    }

    /// Opens an object for reading. Its size comes with it.
    pub(super) fn open_object(&self, action: &'static str, name: &ObjectName) -> Result<(File, u64)> {
        let folder = self.folder(action, name.folder())?;
        // A FIFO under the name must not make us wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fail = |error: Errno| self.error(action, name, error);
        let file = rustix::fs::openat(&folder, name.name(), flags, Mode::empty()).map_err(fail)?;
        let size = self.plain_size(action, name, &rustix::fs::fstat(&file).map_err(fail)?)?;
        Ok((File::from(file), size))
    }

    /// The size of an object in an open folder, None if it isn't there.
    pub(super) fn size(&self, folder: &OwnedFd, action: &'static str, name: &ObjectName) -> Result<Option<u64>> {
        match rustix::fs::statat(folder, name.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => self.plain_size(action, name, &stat).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.error(action, name, error)),
        }
    }

    fn plain_size(&self, action: &'static str, name: &ObjectName, stat: &Stat) -> Result<u64> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(stat.st_size.unsigned_abs()),
            _ => Err(with_hint(Error::new(ErrorKind::Invalid, action, self.at(name), "it is no plain file"))),
        }
    }

    /// Bytes that this user may still write.
    pub(super) fn free_space(&self) -> Result<u64> {
        let space = Space::of_open(&self.handle);
        Ok(space.map_err(|error| Error::from_io("asking for the free space of", self.place(), &error))?.free)
    }
}

/// Advice for an error, where its kind allows any.
pub(super) fn with_hint(error: Error) -> Error {
    let hint = match error.kind {
        ErrorKind::NoSpace => "make room there",
        ErrorKind::ReadOnly => "mount it for writing",
        ErrorKind::Refused => "look at its owner and mode",
        ErrorKind::Invalid => {
            "a repository has plain folders and plain files on one file system, and no symbolic link is followed"
        }
        _ => return error,
    };
    error.hint(hint)
}
