//! Opens folders below the folder of the extraction, component by component.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, mkdirat, openat, statat};
use rustix::io::Errno;

/// The most folders that are kept open.
const OPEN: usize = 64;

/// The treatment of missing folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MissingFolders {
    /// They are made, as the process's umask has it.
    Made,
    /// That is an error.
    Fails,
}

/// Why a folder could not be opened.
pub(super) struct Trouble {
    /// The length of the path up to the component that could not be opened.
    pub(super) at: usize,
    /// The file that is in the place of a folder.
    pub(super) found: Option<FileType>,
    pub(super) error: io::Error,
}

/// The folder at the top, and the folders on the way to where the last entry went.
pub(super) struct Folders {
    top: Arc<OwnedFd>,
    path: Vec<u8>,
    /// The innermost folders of `path`, each with the length of its own path.
    open: Vec<(usize, Arc<OwnedFd>)>,
}

impl Folders {
    pub(super) fn new(top: OwnedFd) -> Self {
        Self { top: Arc::new(top), path: Vec::new(), open: Vec::new() }
    }

    /// The folder at the top.
    pub(super) fn top(&self) -> &OwnedFd {
        &self.top
    }

    /// Opens the folder `path`; the empty path is the top. No link is followed.
    pub(super) fn open(&mut self, path: &[u8], missing: MissingFolders) -> Result<Arc<OwnedFd>, Trouble> {
        let shared = shared_length(&self.path, path);
        while self.open.last().is_some_and(|(length, _)| *length > shared) {
            self.open.pop();
        }
        let (mut at, mut folder) = self.open.last().map_or((0, self.top.clone()), |(at, folder)| (*at, folder.clone()));
        self.path.clear();
        self.path.extend_from_slice(path);
        while at < path.len() {
            let start = if at == 0 { 0 } else { at + 1 };
            let end = path[start..].iter().position(|&byte| byte == b'/').map_or(path.len(), |slash| start + slash);
            folder = match step(&folder, &path[start..end], missing) {
                Ok(folder) => Arc::new(folder),
                Err((found, error)) => {
                    self.path.truncate(at);
                    return Err(Trouble { at: end, found, error: error.into() });
                }
            };
            if self.open.len() >= OPEN {
                self.open.remove(0);
            }
            self.open.push((end, folder.clone()));
            at = end;
        }
        Ok(folder)
    }
}

/// Opens the folder `part` in `folder`.
fn step(folder: &OwnedFd, part: &[u8], missing: MissingFolders) -> Result<OwnedFd, (Option<FileType>, Errno)> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::PATH | OFlags::CLOEXEC;
    let mut opened = openat(folder, part, flags, Mode::empty());
    if opened.as_ref().err() == Some(&Errno::NOENT) && missing == MissingFolders::Made {
        match mkdirat(folder, part, Mode::RWXU | Mode::RWXG | Mode::RWXO) {
            Ok(()) | Err(Errno::EXIST) => opened = openat(folder, part, flags, Mode::empty()),
            Err(error) => return Err((None, error)),
        }
    }
    opened.map_err(|error| {
        let there = statat(folder, part, AtFlags::SYMLINK_NOFOLLOW).ok();
        let found = there.map(|stat| FileType::from_raw_mode(stat.st_mode));
        (found.filter(|&found| found != FileType::Directory), error)
    })
}

/// The length of the longest path that leads to both.
fn shared_length(a: &[u8], b: &[u8]) -> usize {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let ends = |path: &[u8]| path.len() == same || path[same] == b'/';
    match ends(a) && ends(b) {
        true => same,
        false => a[..same].iter().rposition(|&byte| byte == b'/').unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_share_whole_components() {
        for (a, b, shared) in [
            ("", "a", 0),
            ("a/b", "a/b/c", 3),
            ("a/b", "a/bc", 1),
            ("ab", "ac", 0),
            ("a/b", "a/b", 3),
            ("a/b/c", "a/b", 3),
        ] {
            assert_eq!(shared_length(a.as_bytes(), b.as_bytes()), shared, "{a} {b}");
            assert_eq!(shared_length(b.as_bytes(), a.as_bytes()), shared, "{b} {a}");
        }
    }

    #[test]
    fn few_folders_stay_open_however_deep_the_path_is() {
        let top = tempfile::tempdir().unwrap();
        let mut folders = Folders::new(std::fs::File::open(top.path()).unwrap().into());
        let path = ["d"; 400].join("/");
        assert!(folders.open(path.as_bytes(), MissingFolders::Fails).is_err());
        assert!(folders.open(path.as_bytes(), MissingFolders::Made).is_ok());
        assert_eq!(folders.open.len(), OPEN);
        assert!(folders.open(b"d/d/d", MissingFolders::Fails).is_ok());
        assert!(folders.open(path.as_bytes(), MissingFolders::Fails).is_ok());
    }
}
