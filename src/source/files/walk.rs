//! The walk: which entries there are, in order.
//!
//! The walk goes down from `/` by open folders and single names, so no path is too long for it, and a link that is put
//! in its way isn't followed. Names come sorted by their bytes, folder by folder, a folder before its content. In memory
//! are the names of the folders between `/` and the current one; open are at most [`OPEN`] of those folders.

use std::collections::HashSet;
use std::io;

use rustix::fs::{FileType, Stat};

use super::folder::{CACHE_TAG, FolderHandle, FolderNames};
use super::metadata::identity;
use super::roots::{RootNode, Roots};
use super::shown;
use crate::entry::StreamName;
use crate::source::patterns::Patterns;
use crate::warning::{Warning, WarningKind};

/// The most folders that are open at a time.
const OPEN: usize = 64;

/// An entry that is to be stored.
pub(super) struct WalkedEntry {
    /// Its name in its folder.
    pub(super) part: Vec<u8>,
    /// Its full name.
    pub(super) name: StreamName,
    /// Its metadata when it was met.
    pub(super) stat: Stat,
    /// Whether it is a folder above a given path, of which only the metadata is wanted.
    pub(super) is_above: bool,
}

/// The wanted part of a folder. Given paths below it are always wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WantedEntries {
    All,
    CacheTag,
    Nothing,
}

/// A folder between `/` and where the walk is.
struct Frame {
    /// None while it is closed to save descriptors.
    folder: Option<FolderHandle>,
    identity: (u64, u64),
    names: FolderNames,
    content: WantedEntries,
    place: Option<RootNode>,
    path_length: usize,
}

/// A folder that comes next.
struct Entering {
    part: Vec<u8>,
    identity: (u64, u64),
    place: Option<RootNode>,
    wanted: bool,
}

pub(super) struct Walk {
    roots: Roots,
    patterns: Patterns,
    one_file_system: bool,
    exclude_caches: bool,
    /// Inodes that are left out unless they are given.
    own: HashSet<(u64, u64)>,
    frames: Vec<Frame>,
    path: Vec<u8>,
    entering: Option<Entering>,
    pub(super) warnings: Vec<Warning>,
}

impl Walk {
    /// Begins at `/`.
    pub(super) fn new(
        roots: Roots,
        patterns: Patterns,
        one_file_system: bool,
        exclude_caches: bool,
        own: HashSet<(u64, u64)>,
    ) -> io::Result<Self> {
        let mut walk = Self {
            roots,
            patterns,
            one_file_system,
            exclude_caches,
            own,
            frames: Vec::new(),
            path: Vec::new(),
            entering: None,
            warnings: Vec::new(),
        };
        let folder = FolderHandle::top()?;
        let identity = identity(&folder.stat()?);
        if walk.roots.is_given(Roots::TOP) {
            walk.push(folder.open(b".")?, identity, WantedEntries::All, Some(Roots::TOP));
        } else {
            walk.push(folder, identity, WantedEntries::Nothing, Some(Roots::TOP));
        }
        Ok(walk)
    }

    /// The next entry that is to be stored; None at the end.
    pub(super) fn next(&mut self) -> Option<WalkedEntry> {
        loop {
            if let Some(entering) = self.entering.take() {
                self.enter(entering);
            }
            match self.frames.last_mut()?.names.take() {
                None => self.leave(),
                Some(part) => {
                    if let Some(found) = self.visit(part) {
                        return Some(found);
                    }
                }
            }
        }
    }

    /// The folder of the entry that was found last.
    pub(super) fn folder(&self) -> io::Result<&FolderHandle> {
        let folder = self.frames.last().and_then(|frame| frame.folder.as_ref());
        folder.ok_or_else(|| io::Error::other("its folder was moved"))
    }

    /// Looks at one name of the innermost folder. None if it isn't to be stored.
    fn visit(&mut self, part: Vec<u8>) -> Option<WalkedEntry> {
        let frame = self.frames.last()?;
        let place = frame.place.and_then(|place| self.roots.child(place, &part));
        self.path.truncate(frame.path_length);
        if frame.path_length > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(&part);
        let stat = match self.folder().and_then(|folder| folder.stat_of(&part)) {
            Ok(stat) => stat,
            Err(error) => {
                self.warn_io("can't be looked at, and is left out", &error);
                return None;
            }
        };
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let given = place.is_some_and(|place| self.roots.is_given(place));
        // A path that the user named is stored whatever patterns say; the repository and the state are left out unless
        // named.
        let wanted = given
            || frame.content != WantedEntries::Nothing
                && !self.own.contains(&identity(&stat))
                && !self.patterns.matches(&self.path, is_folder);
        // A named path may be below an excluded folder: then the folder is walked only for that path.
        let is_above = is_folder && !wanted && place.is_some();
        let name = match (wanted || is_above).then(|| StreamName::new(&self.path[..])).transpose() {
            Ok(name) => name,
            Err(error) => {
                self.warn("is left out", &error);
                return None;
            }
        };
        if is_folder && (wanted || place.is_some()) {
            let part = part.clone();
            self.entering = Some(Entering { part, identity: identity(&stat), place, wanted });
        }
        name.map(|name| WalkedEntry { part, name, stat, is_above })
    }

    /// Goes into a folder that was visited.
    fn enter(&mut self, entering: Entering) {
        match self.open(&entering) {
            Ok((folder, content)) => self.push(folder, entering.identity, content, entering.place),
            Err(error) => {
                self.warn_io("can't be opened, and what is in it is left out", &error);
                // A folder that can be entered but not listed still leads to named paths below it.
                let passed = entering.place.map(|_| self.folder().and_then(|folder| folder.pass(&entering.part)));
                if let Some(Ok(folder)) = passed {
                    self.push(folder, entering.identity, WantedEntries::Nothing, entering.place);
                }
            }
        }
    }

    /// Opens a visited folder, and decides which part of it is wanted.
    fn open(&self, entering: &Entering) -> io::Result<(FolderHandle, WantedEntries)> {
        let parent = self.folder()?;
        let given = entering.place.is_some_and(|place| self.roots.is_given(place));
        let crosses = !given && self.frames.last().is_some_and(|frame| frame.identity.0 != entering.identity.0);
        if !entering.wanted || crosses && self.one_file_system {
            return Ok((parent.pass(&entering.part)?, WantedEntries::Nothing));
        }
        let folder = parent.open(&entering.part)?;
        let content = match () {
            // Files of /proc and /sys are produced on each read, some without end: only a path named there is read.
            () if crosses && folder.is_pseudo() => WantedEntries::Nothing,
            () if self.exclude_caches && !given && folder.is_cache() => WantedEntries::CacheTag,
            () => WantedEntries::All,
        };
        Ok((folder, content))
    }

    /// Lists a folder as far as it is wanted, and makes it the innermost.
    fn push(&mut self, folder: FolderHandle, identity: (u64, u64), content: WantedEntries, place: Option<RootNode>) {
        let mut names = FolderNames::default();
        match content {
            WantedEntries::All => {
                if let Err(error) = folder.list(&mut names) {
                    self.warn("can't be listed to its end, and what wasn't listed is left out", &error);
                }
            }
            WantedEntries::CacheTag => names.add(CACHE_TAG),
            WantedEntries::Nothing => {}
        }
        for name in place.into_iter().flat_map(|place| self.roots.children(place)) {
            names.add(name);
        }
        names.sort();
        let path_length = self.path.len();
        self.frames.push(Frame { folder: Some(folder), identity, names, content, place, path_length });
        // A deep tree would use up the file descriptors; a closed folder is opened again on the way back.
        if let Some(far) = self.frames.len().checked_sub(OPEN + 1) {
            self.frames[far].folder = None;
        }
    }

    /// Leaves the innermost folder, and opens the one above again if it was closed.
    fn leave(&mut self) {
        let left = self.frames.pop();
        let Some(frame) = self.frames.last() else { return };
        self.path.truncate(frame.path_length);
        if frame.folder.is_some() {
            return;
        }
        // The folder may have been moved meanwhile: `..` counts only if it leads to the same inode.
        let above = left.and_then(|left| left.folder).map(|folder| folder.above(frame.identity));
        let opened = match above {
            Some(Ok(folder)) => Ok(folder),
            _ => self.reopen(frame.identity),
        };
        let Some(frame) = self.frames.last_mut() else { return };
        match opened {
            Ok(folder) => frame.folder = Some(folder),
            Err(error) => {
                if frame.names.clear() > 0 {
                    self.warn("can't be opened again, and the rest of it is left out", &error);
                }
            }
        }
    }

    /// Opens the innermost folder from `/` on.
    fn reopen(&self, expected: (u64, u64)) -> io::Result<FolderHandle> {
        let mut folder = FolderHandle::top()?;
        for part in self.path.split(|&byte| byte == b'/') {
            folder = folder.pass(part)?;
        }
        match identity(&folder.stat()?) == expected {
            true => Ok(folder),
            false => Err(io::Error::other("another folder has taken its place")),
        }
    }

    /// Warns about the present state of the path.
    fn warn(&mut self, what: &str, error: &dyn std::fmt::Display) {
        self.warn_of(WarningKind::LeftOut, what, error);
    }

    fn warn_of(&mut self, kind: WarningKind, what: &str, error: &dyn std::fmt::Display) {
        self.warnings.push(kind.warning(format!("/{} {what}: {error}", shown(&self.path))));
    }

    /// Warns of an error; a vanished file has a kind of warning of its own.
    fn warn_io(&mut self, what: &str, error: &io::Error) {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => WarningKind::Vanished,
            _ => WarningKind::LeftOut,
        };
        self.warn_of(kind, what, error);
    }
}
