//! Resuming of an interrupted restore.
//!
//! While a restore works, its marker is in the folder: `.varu-LABEL.restore`. It is removed when the last entry is
//! written, so an existing marker at the beginning tells that an earlier run didn't get so far. Its temporary files
//! (`.varu-LABEL-….part`) are removed, folder by folder, before the next file is written there; the folders that it
//! created, which the marker names, get their metadata as if they were created now. The caller decides which files are
//! complete, because it knows their expected bytes.
//!
//! The marker is trusted only if it is this user's and nobody else could write it: the folder may be one in which others
//! can put files.
//!
//! The mark is locked, so two restores with one label can't work in one folder at a time.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::geteuid;
use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat, unlinkat};
use rustix::io::Errno;

/// The mark of one restore.
pub(super) struct Resume {
    label: String,
    /// None before anything is written.
    mark: Option<File>,
    /// Whether an earlier run left it.
    resumed: bool,
    /// Folders that earlier runs made.
    made: HashSet<Vec<u8>>,
    /// Folders in which nothing of the earlier run is left.
    swept: HashSet<Vec<u8>>,
}

const FLAGS: OFlags = OFlags::RDWR.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

impl Resume {
    /// Looks for a mark in the folder `top`. `label` must be a plain name.
    pub(super) fn look(top: &OwnedFd, label: &str) -> io::Result<Self> {
        let label = label.to_owned();
        let mut resume = Self { label, mark: None, resumed: false, made: HashSet::new(), swept: HashSet::new() };
        match openat(top, resume.name(), FLAGS, Mode::empty()) {
            Err(Errno::NOENT) => {}
            // A link, or a file that may not be opened: it is not ours.
            Err(Errno::LOOP | Errno::ACCESS) => return Err(resume.foreign()),
            Err(error) => return Err(error.into()),
            Ok(mark) => {
                resume.take(mark.into())?;
                resume.resumed = true;
                let mut text = Vec::new();
                resume.mark.as_mut().map(|mark| mark.read_to_end(&mut text)).transpose()?;
                let whole = text.iter().rposition(|&byte| byte == 0).unwrap_or(0);
                resume.made = text[..whole].split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
            }
        }
        Ok(resume)
    }

    /// The prefix of names of incomplete files.
    pub(super) fn prefix(&self) -> String {
        format!(".varu-{}-", self.label)
    }

    /// Whether an earlier run didn't reach its end.
    pub(super) fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Whether an earlier run made the folder.
    pub(super) fn has_made(&self, path: &[u8]) -> bool {
        self.made.contains(path)
    }

    /// To be called before something is written into `folder`, whose path is `path`.
    pub(super) fn enter(&mut self, top: &OwnedFd, path: &[u8], folder: &OwnedFd) -> io::Result<()> {
        if self.mark.is_none() {
            let mark = openat(top, self.name(), FLAGS | OFlags::CREATE, Mode::RUSR | Mode::WUSR)?;
            self.take(mark.into())?;
        }
        if self.resumed && self.swept.insert(path.to_vec()) {
            sweep(folder, &self.prefix())?;
        }
        Ok(())
    }

    /// To be called before a folder is made that isn't there.
    pub(super) fn note_made(&mut self, path: &[u8]) -> io::Result<()> {
        let Some(mark) = &mut self.mark else { return Ok(()) };
        mark.seek(SeekFrom::End(0))?;
        mark.write_all(&[path, &[0]].concat())
    }

    /// The last entry is written.
    pub(super) fn end(self, top: &OwnedFd) {
        if self.mark.is_some() {
            // A leftover marker costs the next restore a look at the existing files.
            let _ = unlinkat(top, self.name(), AtFlags::empty());
        }
    }

    fn name(&self) -> String {
        format!(".varu-{}.restore", self.label)
    }

    /// The message about an untrusted marker: its name.
    fn foreign(&self) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, self.name())
    }

    /// Trusts a marker that nobody else can have written: a plain file of this user, with one name.
    fn take(&mut self, mark: File) -> io::Result<()> {
        let stat = fstat(&mark)?;
        let is_ours = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_uid == geteuid().as_raw()
            && stat.st_mode & 0o022 == 0
            && stat.st_nlink == 1;
        if !is_ours {
            return Err(self.foreign());
        }
        match flock(mark.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(io::Error::other(
                    "another restore is writing there; wait for its end, or choose another folder",
                ));
            }
            // Not every file system has locks.
            Err(_) => {}
        }
        self.mark = Some(mark);
        Ok(())
    }
}

/// Removes the files that a run with that prefix left in a folder.
fn sweep(folder: &OwnedFd, prefix: &str) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(folder, ".", flags, Mode::empty())?;
    let mut left = Vec::new();
    for entry in Dir::read_from(&folder)? {
        let name = entry?.file_name().to_owned();
        if is_part(name.to_bytes(), prefix.as_bytes()) {
            left.push(name);
        }
    }
    for name in left {
        match unlinkat(&folder, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn is_part(name: &[u8], prefix: &[u8]) -> bool {
    let number = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(b".part"));
    number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_says_that_a_run_was_cut_and_what_it_made() {
        let base = tempfile::tempdir().unwrap();
        let top: OwnedFd = File::open(base.path()).unwrap().into();
        let mut first = Resume::look(&top, "etc").unwrap();
        assert!(!first.is_resumed());
        first.enter(&top, b"", &top).unwrap();
        first.note_made(b"a/b").unwrap();
        first.note_made(b"\xff\n").unwrap();
        assert!(Resume::look(&top, "etc").err().unwrap().to_string().contains("another restore"));
        drop(first);
        for part in [".varu-etc-1f.part", ".varu-etc-x-1f.part", ".varu-etc-.part", "etc"] {
            std::fs::write(base.path().join(part), "").unwrap();
        }
        let mut second = Resume::look(&top, "etc").unwrap();
        assert!(second.is_resumed() && second.has_made(b"a/b") && second.has_made(b"\xff\n"));
        assert!(!second.has_made(b"a") && !second.has_made(b""));
        second.enter(&top, b"", &top).unwrap();
        second.end(&top);
        let mut names: Vec<_> =
            std::fs::read_dir(base.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".varu-etc-.part", ".varu-etc-x-1f.part", "etc"]);
        assert!(!Resume::look(&top, "etc").unwrap().is_resumed());
    }
}
