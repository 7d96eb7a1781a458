//! The source `files`: files and folders with all of their metadata, and [their extraction](extract).
//!
//! Streams are named by their absolute paths without the first slash. The order is that of the paths, component by
//! component, by bytes; a folder comes before its content. It is the same at each run.

pub mod accounts;
pub mod extract;
mod folder;
pub(super) mod holes;
mod links;
mod metadata;
mod reader;
mod roots;
mod walk;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{FileType, Stat, major, minor, readlinkat};

use self::links::Links;
use self::metadata::{OwnerNames, XattrReader, identity, size};
use self::reader::FileReader;
use self::roots::Roots;
use self::walk::{Walk, WalkedEntry};
use super::patterns::Patterns;
use super::{Error, Finished, Source};
use crate::entry::{Entry, Escaped, Kind, StreamName};
use crate::facts::Facts;
use crate::time::{Clock, Timestamp};
use crate::warning::{Warning, WarningKind};

/// The files to be stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FilesOptions {
    /// Files and folders; a relative path starts at the working directory. Of the folders that lead to a path only the
    /// metadata is stored. A path that is a symbolic link is stored with its target; with a trailing slash, only the
    /// target is. `/` has no name and therefore no entry: its content is stored, its own mode isn't.
    ///
    /// A file that is given by its own path is stored even if the options below would leave it out.
    pub paths: Vec<PathBuf>,
    /// Exclusions, in the syntax of `.gitignore`, anchored at `/`: `*.tmp`, `cache/`, `/srv/www/cache`, `!keep.tmp`.
    pub exclude: Vec<String>,
    /// Leave out other file systems than those of the given paths: a mount point is stored as an empty folder.
    ///
    /// Also without it, mounted file systems of the kernel's own making (`/proc`, `/sys`) are stored as empty folders.
    pub one_file_system: bool,
    /// Leave out the content of a folder with a valid `CACHEDIR.TAG` (<https://bford.info/cachedir/>), but for that
    /// file.
    pub exclude_caches: bool,
    /// Files and folders of varu's own that are left out below a path: the repository, the state, keys. They are
    /// recognised by their inode.
    pub own: Vec<PathBuf>,
}

/// Refuses a pattern that can't be read or can match nothing, and names it.
///
/// # Errors
/// [`Error::Config`].
pub fn check_exclude(patterns: &[String]) -> Result<(), Error> {
    Patterns::parse(patterns).map(drop)
}

impl FilesOptions {
    /// The walk over the files to be stored, and warnings about the given paths.
    fn walk(&self) -> Result<(Walk, Vec<Warning>), Error> {
        let (roots, warnings) = Roots::find(&self.paths)?;
        let patterns = Patterns::parse(&self.exclude)?;
        patterns.check_below(&roots.given())?;
        let own = self.own.iter().filter_map(|path| std::fs::metadata(path).ok());
        let own = own.map(|metadata| (metadata.dev(), metadata.ino())).collect();
        let walk = Walk::new(roots, patterns, self.one_file_system, self.exclude_caches, own);
        Ok((walk.map_err(|error| Error::failed("beginning the walk at /", &error))?, warnings))
    }
}

/// Files and folders as a [`Source`].
///
/// A folder that can't be examined or listed is left out with a warning; a file that can't be read is
/// [`Error::Skipped`], one that has gone since it was listed [`Error::Vanished`]. A file that changes while it is read
/// is stored up to its initial length, with its initial times, so that the next run reads it again; a warning names it.
/// A file with a reported size of 0 is read to its end, because some file systems don't know the sizes of their files.
pub struct FilesSource {
    options: FilesOptions,
    walk: Walk,
    links: Links,
    owners: OwnerNames,
    xattrs: Option<XattrReader>,
    current: Option<CurrentEntry>,
    started: Timestamp,
    done: bool,
}

/// The entry that was given last.
struct CurrentEntry {
    part: Vec<u8>,
    stat: Stat,
    entry: Entry,
    reader: Option<FileReader>,
}

impl FilesSource {
    /// Finds the given paths. The data time is `clock`'s now.
    ///
    /// # Errors
    /// [`Error::Failed`] if a given path isn't there, or a pattern can't be read.
    pub fn new(options: &FilesOptions, clock: &dyn Clock) -> Result<Self, Error> {
        let started = clock.now();
        let (mut walk, warnings) = options.walk()?;
        walk.warnings.extend(warnings);
        let xattrs = std::fs::exists("/proc/self/fd").unwrap_or(false).then(XattrReader::new);
        if xattrs.is_none() {
            let text = "extended attributes and ACLs are not stored: /proc is not mounted";
            walk.warnings.push(WarningKind::Attributes.warning(text));
        }
        let (links, owners) = (Links::default(), OwnerNames::default());
        Ok(Self { options: options.clone(), walk, links, owners, xattrs, current: None, started, done: false })
    }

    /// The entry of a file, without its bytes.
    fn describe(&mut self, found: &WalkedEntry) -> io::Result<Entry> {
        let WalkedEntry { part, name, stat, is_above } = found;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let name = name.clone();
        if file_type != FileType::Directory {
            #[allow(clippy::unnecessary_cast)] // The field's type differs between architectures.
            let links = stat.st_nlink as u64;
            if let Some(first) = self.links.first(identity(stat), links, &name) {
                return Ok(Entry { name, kind: Kind::Hardlink(first), size: 0, metadata: None });
            }
        }
        let kind = if *is_above { Kind::Above } else { self.kind(part, stat, file_type)? };
        let mut metadata = self.owners.metadata(stat);
        if let Some(reader) = &mut self.xattrs {
            let (xattrs, problem) = reader.read(self.walk.folder()?.fd(), part)?;
            metadata.xattrs = xattrs;
            if let Some(problem) = problem {
                let text = format!("/{name} is stored without an extended attribute: {problem}");
                self.walk.warnings.push(WarningKind::Attributes.warning(text));
            }
        }
        let mut entry_size = 0;
        if kind == Kind::File {
            metadata.holes = reader::holes_of(self.walk.folder()?.fd(), part, stat)?;
            entry_size = holes::content(size(stat), &metadata.holes);
        }
        if kind.is_folder() {
            metadata.flags = reader::flags_of(self.walk.folder()?.fd(), part);
        }
        Ok(Entry { name, kind, size: entry_size, metadata: Some(metadata) })
    }

    fn kind(&self, part: &[u8], stat: &Stat, file_type: FileType) -> io::Result<Kind> {
        Ok(match file_type {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink(readlinkat(self.walk.folder()?.fd(), part, Vec::new())?.into_bytes()),
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice => Kind::CharDevice(major(stat.st_rdev), minor(stat.st_rdev)),
            FileType::BlockDevice => Kind::BlockDevice(major(stat.st_rdev), minor(stat.st_rdev)),
            FileType::Unknown => return Err(io::Error::other("its type is unknown")),
        })
    }

    /// Gives up the entry: its inode's next name is then its first.
    fn skip(&mut self, name: StreamName, stat: &Stat, tried: &str, error: &io::Error) -> Error {
        self.links.forget(identity(stat), &name);
        match error.kind() {
            io::ErrorKind::NotFound => Error::Vanished(name),
            _ => Error::Skipped { name, reason: format!("{tried}: {error}") },
        }
    }

    /// Gives up the current entry.
    fn skip_current(&mut self, tried: &str, error: &io::Error) -> Error {
        match self.current.take() {
            Some(current) => self.skip(current.entry.name, &current.stat, tried, error),
            None => Error::failed(tried, error),
        }
    }

    /// Opens the current entry. If it has changed since it was listed, it gets its present metadata.
    fn open(&mut self) -> io::Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let folder = self.walk.folder()?.fd();
        let reader = FileReader::open(folder, &current.part)?;
        if let Some(metadata) = &mut current.entry.metadata {
            if !reader.is_what_was_listed(&current.stat) {
                *metadata = self.owners.metadata(reader.before());
                if let Some(xattrs) = &mut self.xattrs {
                    metadata.xattrs = xattrs.read(folder, &current.part)?.0;
                }
            }
            metadata.holes = reader.holes().to_vec();
            metadata.flags = reader.flags();
        }
        current.entry.size = holes::content(size(reader.before()), reader.holes());
        current.reader = Some(reader);
        Ok(())
    }
}

impl Source for FilesSource {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        self.current = None;
        let Some(found) = self.walk.next() else {
            self.done = true;
            return Ok(None);
        };
        match self.describe(&found) {
            Ok(entry) => {
                let WalkedEntry { part, stat, .. } = found;
                self.current = Some(CurrentEntry { part, stat, entry: entry.clone(), reader: None });
                Ok(Some(entry))
            }
            Err(error) => Err(self.skip(found.name, &found.stat, "can't be read", &error)),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let Some(current) = &self.current else { return Ok(0) };
        if current.entry.kind != Kind::File {
            return Ok(0);
        }
        if current.reader.is_none() {
            self.open().map_err(|error| self.skip_current("can't be opened", &error))?;
        }
        match self.current.as_mut().and_then(|current| current.reader.as_mut()) {
            Some(reader) => reader.read(buffer).map_err(|error| self.skip_current("can't be read to its end", &error)),
            None => Ok(0),
        }
    }

    fn end(&mut self) -> Result<Entry, Error> {
        let Some(current) = &mut self.current else {
            return Err(Error::Failed("the end of a file was asked for that isn't being read".into()));
        };
        let Some(reader) = &current.reader else { return Ok(current.entry.clone()) };
        let changed = reader.has_changed();
        current.entry.size = reader.content();
        if let Some(metadata) = &mut current.entry.metadata {
            holes::trim(&mut metadata.holes, reader.position());
        }
        let entry = current.entry.clone();
        match changed {
            Ok(false) => {}
            Ok(true) => {
                let text = format!("/{} changed while it was read; what was read is stored", entry.name);
                self.walk.warnings.push(WarningKind::ChangedWhileRead.warning(text));
            }
            Err(error) => return Err(self.skip_current("can't be looked at after it was read", &error)),
        }
        Ok(entry)
    }

    fn share_blocks(&mut self, copy: &std::fs::File) -> bool {
        let is_file = |current: &CurrentEntry| current.entry.kind == Kind::File && current.reader.is_none();
        // If it can't be opened, reading it returns the reason.
        if !self.current.as_ref().is_some_and(is_file) || self.open().is_err() {
            return false;
        }
        let reader = self.current.as_ref().and_then(|current| current.reader.as_ref());
        reader.is_some_and(|reader| reader.share_blocks(copy))
    }

    fn finish(&mut self) -> Result<Finished, Error> {
        match self.done {
            true => Ok(Finished { data_time: self.started, facts: Facts::default() }),
            false => Err(Error::Failed("the files were not walked to the end".into())),
        }
    }

    fn warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.walk.warnings)
    }

    /// The sizes of all files, holes left out, by a walk of its own.
    fn expected(&mut self) -> Option<u64> {
        let mut walk = self.options.walk().ok()?.0;
        let mut links = Links::default();
        let mut bytes = 0_u64;
        while let Some(WalkedEntry { name, stat, .. }) = walk.next() {
            #[allow(clippy::unnecessary_cast)] // The fields' types differ between architectures.
            let (count, blocks) = (stat.st_nlink as u64, stat.st_blocks as u64);
            let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            if is_file && links.first(identity(&stat), count, &name).is_none() {
                bytes = bytes.saturating_add(size(&stat).min(blocks.saturating_mul(512)));
            }
        }
        Some(bytes)
    }
}

/// Bytes of a path, for people.
fn shown(bytes: &[u8]) -> Escaped<'_> {
    Escaped(bytes)
}
