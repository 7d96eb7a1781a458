//! The way back: writes entries below a folder, safely and completely.
//!
//! Nothing is created outside the folder, whatever the entries say: each component is opened by its name in the open
//! folder above it, and a symbolic link in the way, an old one or one of the same snapshot, is an error that names it. A
//! file gets its name only when it is complete: it grows under a temporary name (`.varu-….part`, left behind only by a
//! killed process) and is renamed when its metadata is set. Folders get theirs at the end, because writing into them
//! changes it. With a label an interrupted extraction can be resumed, see [`resume`].
//!
//! Nothing is flushed to the disk file by file; a caller that promises that does it once, at the end.

mod attributes;
mod folders;
mod owners;
mod report;
mod resume;
mod temporary;
mod writer;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{
    AtFlags, FileType, IFlags, Mode, OFlags, Stat, fstat, ioctl_getflags, ioctl_setflags, linkat, makedev, mkdirat,
    mknodat, openat, readlinkat, statat, symlinkat,
};
use rustix::io::Errno;

use self::attributes::{Handle, MetadataSetter};
use self::folders::{Folders, MissingFolders, Trouble};
pub use self::owners::{AccountNames, OwnerMapping};
use self::report::{ExtractProblem, ExtractReport};
use self::resume::Resume;
use self::temporary::Temporary;
pub use self::writer::FileWriter;
use super::holes::SparseContent;
use super::metadata::{identity, mtime, size};
use crate::disk::{takes_nothing, way_out};
use crate::entry::{Entry, Escaped, Kind, Metadata, StreamName, flags};

/// The treatment of an existing file. A folder is never replaced by anything else, nor anything else by a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// It stays, and the entry is an error. A folder that is there keeps its metadata, which is reported.
    #[default]
    Refuse,
    /// It stays as it is. A folder that is there keeps its metadata.
    Never,
    /// It stays if it is a regular file of the same size, time of last change, owner and mode; anything else is replaced.
    Changed,
    /// It is replaced.
    Always,
}

/// How entries are written.
#[derive(Debug, Clone, Default)]
pub struct ExtractOptions {
    /// A plain name. An extraction with it that didn't reach its end is resumed by the next one with the same.
    pub label: Option<String>,
    /// The treatment of existing files.
    pub overwrite: Overwrite,
    /// How many components are taken off the front of each name. A folder that has no more is skipped; for anything else
    /// that is an error, as it is where two entries come to have one name.
    pub strip_components: u32,
    /// How owners get their numbers.
    pub owners: OwnerMapping,
}

/// Why an entry could not be written. The rest can go on, unless [`Error::is_fatal`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// [`Overwrite::Refuse`], and something is there.
    #[error(
        "{path} is there already and was not overwritten; restore into an empty folder, or choose what may be overwritten"
    )]
    Exists {
        /// Where.
        path: String,
    },
    /// Something of another type is there, and isn't replaced or followed.
    #[error("{path} is {found} and is in the way; take it away, or restore into an empty folder")]
    InTheWay {
        /// Where.
        path: String,
        /// Its kind: `"a symbolic link"`.
        found: &'static str,
    },
    /// Components were taken off, and nothing is left of the name.
    #[error("its name has no component left")]
    NothingLeft,
    /// Components were taken off, and another entry has the name that is left.
    #[error("{path} is the place of another file of this snapshot; take off fewer components")]
    Collides {
        /// Where.
        path: String,
    },
    /// The mark of an earlier restore could have been put there by another user.
    #[error(
        "the mark {path} of an earlier restore isn't this user's alone, so what it says can't be believed; take it away, or \
         restore into another folder"
    )]
    Foreign {
        /// Where.
        path: String,
    },
    /// The system refused.
    #[error("{action} {path} failed: {source}{}", way_out(source))]
    Io {
        /// The operation: `"writing"`.
        action: &'static str,
        /// Its object.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// Whether the next entry will fare no better: no room, or a disk that can only be read.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Error::Io { source, .. } if takes_nothing(source) && source.kind() != io::ErrorKind::FileTooLarge)
    }
}

/// The result of writing an entry.
pub type Result<T> = std::result::Result<T, Error>;

/// The decision about an entry that has content.
pub enum Begin {
    /// Its bytes are wanted.
    Write(Box<FileWriter>),
    /// It isn't wanted: it exists already, or its name has no component left.
    Skip,
}

/// State shared by the extractor and its writers.
struct ExtractorState {
    options: ExtractOptions,
    /// The folder, for messages.
    place: String,
    attributes: MetadataSetter,
    report: Mutex<ExtractReport>,
    /// Paths of files and folders with inode flags. They are set at the very end: an immutable file can't be given its name.
    flagged: Mutex<Vec<(Vec<u8>, u32)>>,
    /// Hashes of the paths whose content is not the snapshot's, so that no hard link is made to it.
    foreign: Mutex<HashSet<u64>>,
    /// The prefix of temporary names.
    prefix: String,
}

impl ExtractorState {
    fn shown(&self, path: &[u8]) -> String {
        format!("{}/{}", self.place, Escaped(path))
    }

    fn report(&self, problem: ExtractProblem, path: &[u8], error: Option<&io::Error>) {
        let shown = || self.shown(path);
        self.report.lock().unwrap_or_else(PoisonError::into_inner).add(problem, error, shown);
    }

    fn note_flags(&self, path: &[u8], metadata: Option<&Metadata>) {
        let flags = metadata.map_or(0, |metadata| metadata.flags & flags::KEPT);
        if flags != 0 {
            self.flagged.lock().unwrap_or_else(PoisonError::into_inner).push((path.to_vec(), flags));
        }
    }

    fn set_foreign(&self, path: &[u8]) {
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner).insert(hash(path));
    }

    fn is_foreign(&self, path: &[u8]) -> bool {
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner).contains(&hash(path))
    }

    /// Whether the existing file is the entry's regular file, by size, time of last change, owner and mode.
    fn is_same(&self, stat: &Stat, entry: &Entry) -> bool {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && size(stat) == entry.length()
            && entry
                .metadata
                .as_ref()
                .is_some_and(|metadata| metadata.mtime == mtime(stat) && self.attributes.are_set(metadata, stat))
    }

    fn failed(&self, action: &'static str, path: &[u8], source: impl Into<io::Error>) -> Error {
        Error::Io { action, path: self.shown(path), source: source.into() }
    }

    fn in_the_way(&self, path: &[u8], found: FileType) -> Error {
        Error::InTheWay { path: self.shown(path), found: described(found) }
    }
}

fn hash(path: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// Writes entries below a folder, a folder before its content, a file before its hard links.
///
/// In memory are the names and metadata of all folders, until [`Extractor::finish`].
pub struct Extractor {
    resume: Option<Resume>,
    shared: Arc<ExtractorState>,
    folders: Folders,
    made: Vec<CreatedFolder>,
    /// Folders above the written entries, by path, until they are met.
    above: HashMap<Vec<u8>, (Metadata, Kind)>,
    /// Which entry a stripped path belongs to, in hashes.
    taken: HashMap<u64, u64>,
}

/// A folder that gets its metadata at the end.
struct CreatedFolder {
    path: Vec<u8>,
    metadata: Metadata,
    /// Whether it was given as an entry, or is only above one.
    is_given: bool,
}

/// The destination of an entry.
struct EntryPath {
    folder: Arc<OwnedFd>,
    part: Vec<u8>,
    path: Vec<u8>,
}

impl EntryPath {
    /// The existing file; a link isn't followed.
    fn look(&self) -> io::Result<Option<Stat>> {
        match statat(&self.folder, &self.part, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Extractor {
    /// Opens the folder `dir`, which is made if it is missing.
    ///
    /// # Errors
    /// [`Error::Io`] if that can't be done.
    pub fn create(dir: &Path, options: ExtractOptions) -> Result<Self> {
        let place = Escaped(dir.as_os_str().as_bytes()).to_string();
        let place = if place == "/" { String::new() } else { place };
        let failed = |action, source| Error::Io { action, path: place.clone(), source };
        std::fs::create_dir_all(dir).map_err(|error| failed("making the folder", error))?;
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let top = openat(rustix::fs::CWD, dir, flags, Mode::empty())
            .map_err(|error| failed("opening the folder", error.into()))?;
        let resume = options.label.as_ref().map(|label| Resume::look(&top, label)).transpose();
        let resume = resume.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => Error::Foreign { path: format!("{place}/{error}") },
            _ => failed("beginning in the folder", error),
        })?;
        let of_the_process = || format!(".varu-{:x}-", std::process::id());
        let prefix = resume.as_ref().map_or_else(of_the_process, Resume::prefix);
        let attributes = MetadataSetter::new(options.owners.clone());
        let (report, flagged, foreign) = (Mutex::default(), Mutex::default(), Mutex::default());
        let shared = Arc::new(ExtractorState { options, place, attributes, report, flagged, foreign, prefix });
        let (above, taken) = (HashMap::new(), HashMap::new());
        Ok(Self { resume, shared, folders: Folders::new(top), made: Vec::new(), above, taken })
    }

    /// Announces a folder above later entries. It is created with its metadata if it is missing, and only then.
    pub fn above(&mut self, folder: &Entry) {
        if let (Some(path), Some(metadata)) = (self.stripped(&folder.name), &folder.metadata) {
            self.above.insert(path.to_vec(), (metadata.clone(), folder.kind.clone()));
        }
    }

    /// Whether the entry's file is there, as far as a look tells.
    pub fn has(&mut self, entry: &Entry) -> bool {
        let Some(path) = self.stripped(&entry.name).map(<[u8]>::to_vec) else { return false };
        let (parent, part) = split(&path);
        let Ok(folder) = self.folders.open(parent, MissingFolders::Fails) else { return false };
        let stat = statat(&folder, part, AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| self.shared.is_same(&stat, entry))
    }

    /// The content of the existing file of the entry's name, if an earlier run may have written it: the run was
    /// interrupted, and size, owner, mode and the number of links are right. The caller checks whether it is complete.
    pub fn written_before(&mut self, entry: &Entry, names: u64) -> Option<impl Read + use<>> {
        if !self.is_resumed() || !entry.kind.has_content() || self.claim(entry).is_err() {
            return None;
        }
        let path = self.stripped(&entry.name)?.to_vec();
        let (parent, part) = split(&path);
        let folder = self.folders.open(parent, MissingFolders::Fails).ok()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&folder, part, flags, Mode::empty()).ok()?);
        let there = fstat(&file).ok()?;
        #[allow(clippy::unnecessary_cast)] // The field's type differs between architectures.
        let is_ours = FileType::from_raw_mode(there.st_mode) == FileType::RegularFile
            && size(&there) == entry.length()
            // A file with more names than the snapshot gives it is linked elsewhere: keeping it would tie both
            // together.
            && there.st_nlink as u64 <= names
            && entry.metadata.as_ref().is_none_or(|metadata| self.shared.attributes.are_set(metadata, &there));
        if is_ours {
            self.shared.note_flags(&path, entry.metadata.as_ref());
        }
        is_ours.then(|| SparseContent::new(file, entry.holes().to_vec()))
    }

    fn is_resumed(&self) -> bool {
        self.resume.as_ref().is_some_and(Resume::is_resumed)
    }

    /// Writes an entry that has no content. Failures of an ordinary user to create (a device) or set something are
    /// reported by [`Extractor::finish`].
    pub fn place(&mut self, entry: &Entry) -> Result<()> {
        let Some(path) = self.stripped(&entry.name) else { return Ok(()) };
        let path = path.to_vec();
        if entry.kind == Kind::Above {
            self.above(entry);
            return Ok(());
        }
        if entry.kind == Kind::Directory {
            return self.place_folder(&path, entry.metadata.clone().unwrap_or_default());
        }
        let spot = self.spot(&path)?;
        if self.is_resumed() && self.is_there(entry, &spot) || !self.may_write(&spot, None)? {
            return Ok(());
        }
        let Some(temporary) = self.make(entry, &spot)? else { return Ok(()) };
        if let Some(metadata) = &entry.metadata {
            self.set_attributes(&temporary, &path, metadata)?;
        }
        temporary.commit(&spot.part, &spot.path)
    }

    /// Whether an entry is to be written, as far as the existing files decide it. Only looks: nothing is created or
    /// changed. One without content is always wanted, because another look when its turn comes costs nothing.
    ///
    /// # Errors
    /// As [`Extractor::begin`] would give for what is there.
    pub fn wants(&mut self, entry: &Entry) -> Result<bool> {
        self.claim(entry)?;
        if !entry.kind.has_content() {
            return Ok(true);
        }
        let Some(path) = self.stripped(&entry.name) else { return Ok(false) };
        let path = path.to_vec();
        let (parent, part) = split(&path);
        match self.folders.open(parent, MissingFolders::Fails) {
            Ok(folder) => self.may_write(&EntryPath { folder, part: part.to_vec(), path: path.clone() }, Some(entry)),
            Err(trouble) if trouble.error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(trouble) => Err(self.in_trouble(&path, trouble)),
        }
    }

    /// Takes a stripped name for an entry, which no other one may have then. Folders may share one.
    fn claim(&mut self, entry: &Entry) -> Result<()> {
        if self.shared.options.strip_components == 0 || entry.kind.is_folder() {
            return Ok(());
        }
        let Some(path) = self.stripped(&entry.name) else { return Err(Error::NothingLeft) };
        let (place, name) = (hash(path), hash(entry.name.as_bytes()));
        let path = path.to_vec();
        match *self.taken.entry(place).or_insert(name) == name {
            true => Ok(()),
            false => Err(Error::Collides { path: self.shared.shown(&path) }),
        }
    }

    /// Begins an entry that has content. Several may be under way.
    pub fn begin(&mut self, entry: &Entry) -> Result<Begin> {
        let Some(path) = self.stripped(&entry.name) else { return Ok(Begin::Skip) };
        let path = path.to_vec();
        if !entry.kind.has_content() {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "the entry has no content");
            return Err(self.shared.failed("writing", &path, error));
        }
        let spot = self.spot(&path)?;
        match self.may_write(&spot, Some(entry))? {
            true => Ok(Begin::Write(Box::new(FileWriter::create(self.shared.clone(), spot, entry)?))),
            false => Ok(Begin::Skip),
        }
    }

    /// Whether an entry without content is as an earlier run would have created it.
    fn is_there(&mut self, entry: &Entry, spot: &EntryPath) -> bool {
        let Ok(Some(there)) = spot.look() else { return false };
        let is =
            |kind, device| FileType::from_raw_mode(there.st_mode) == kind && (device == 0 || there.st_rdev == device);
        match &entry.kind {
            Kind::Symlink(to) => {
                is(FileType::Symlink, 0)
                    && readlinkat(&spot.folder, &spot.part, Vec::new()).is_ok_and(|is| is.as_bytes() == &to[..])
            }
            Kind::Fifo => is(FileType::Fifo, 0),
            Kind::Socket => is(FileType::Socket, 0),
            &Kind::CharDevice(major, minor) => is(FileType::CharacterDevice, makedev(major, minor)),
            &Kind::BlockDevice(major, minor) => is(FileType::BlockDevice, makedev(major, minor)),
            Kind::Hardlink(first) => {
                let Some(first) = self.stripped(first).map(<[u8]>::to_vec) else { return false };
                let (parent, part) = split(&first);
                let folder = self.folders.open(parent, MissingFolders::Fails);
                let stat = folder.ok().and_then(|folder| statat(&folder, part, AtFlags::SYMLINK_NOFOLLOW).ok());
                stat.is_some_and(|first| identity(&first) == identity(&there)) && !self.shared.is_foreign(&first)
            }
            Kind::Data | Kind::File | Kind::Directory | Kind::Above => false,
        }
    }

    /// Sets the metadata of all folders, the deepest first. Returns a summary, in a few sentences, of failures and of
    /// existing files. All writers must have ended before.
    pub fn finish(mut self) -> Vec<String> {
        if let Some(resume) = self.resume.take() {
            resume.end(self.folders.top());
        }
        let mut made = std::mem::take(&mut self.made);
        let is_slash = |byte: &u8| *byte == b'/';
        // The deepest first: a folder may lose its write and search permission, and its time changes with every entry.
        made.sort_by(|a, b| b.path.split(is_slash).cmp(a.path.split(is_slash)));
        for folder in made {
            if let Err(error) = self.finish_folder(&folder) {
                self.shared.report(ExtractProblem::Folder, &folder.path, Some(&error));
            }
        }
        // Last of all: an immutable file or folder accepts no other change.
        let flagged = std::mem::take(&mut *self.shared.flagged.lock().unwrap_or_else(PoisonError::into_inner));
        for (path, flags) in flagged {
            if let Err(error) = self.set_flags(&path, flags) {
                self.shared.report(ExtractProblem::Flags, &path, Some(&error));
            }
        }
        self.shared.report.lock().unwrap_or_else(PoisonError::into_inner).lines()
    }

    fn set_flags(&mut self, path: &[u8], flags: u32) -> io::Result<()> {
        let (parent, part) = split(path);
        let folder = self.folders.open(parent, MissingFolders::Fails).map_err(|trouble| trouble.error)?;
        let options = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&folder, part, options, Mode::empty())?;
        // The file was closed since it was written: somebody may have put a device in its place, whose ioctl could do
        // anything.
        if !matches!(FileType::from_raw_mode(fstat(&file)?.st_mode), FileType::RegularFile | FileType::Directory) {
            return Err(io::Error::other("something else has taken its place"));
        }
        let others = ioctl_getflags(&file)?.bits() & !flags::KEPT;
        Ok(ioctl_setflags(&file, IFlags::from_bits_retain(others | flags))?)
    }

    fn finish_folder(&mut self, made: &CreatedFolder) -> io::Result<()> {
        let CreatedFolder { path, metadata, is_given } = made;
        let folder = self.folders.open(path, MissingFolders::Fails).map_err(|trouble| trouble.error)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(&folder, ".", flags, Mode::empty())?;
        let report = |problem, error: &io::Error| {
            // Who restores files of their own may not be able to make /home root's.
            if *is_given || !matches!(problem, ExtractProblem::Owner | ExtractProblem::SetId) {
                self.shared.report(problem, path, Some(error));
            }
        };
        self.shared.note_flags(path, Some(metadata));
        self.shared.attributes.set(Handle::Open(folder.as_fd()), metadata, report)
    }

    /// The name without the components that are taken off; None if nothing is left.
    fn stripped<'a>(&self, name: &'a StreamName) -> Option<&'a [u8]> {
        let mut rest = name.as_bytes();
        for _ in 0..self.shared.options.strip_components {
            let slash = rest.iter().position(|&byte| byte == b'/')?;
            rest = &rest[slash + 1..];
        }
        Some(rest)
    }

    /// Opens the folder for `path`, and creates its missing components.
    fn spot(&mut self, path: &[u8]) -> Result<EntryPath> {
        let (parent, _) = split(path);
        if !self.above.is_empty() {
            self.make_above(parent)?;
        }
        self.plain_spot(path)
    }

    /// Makes those folders on the way to `path` and itself that are missing and known.
    fn make_above(&mut self, path: &[u8]) -> Result<()> {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in slashes.chain([path.len()]) {
            let Some((metadata, kind)) = self.above.remove(&path[..end]) else { continue };
            let spot = self.plain_spot(&path[..end])?;
            self.note_made(&spot)?;
            let ours = self.resume.as_ref().is_some_and(|resume| resume.has_made(&spot.path));
            match mkdirat(&spot.folder, &spot.part, Mode::RWXU) {
                // A folder that existed before the restore keeps its own metadata.
                Err(Errno::EXIST) if !ours => continue,
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(self.shared.failed("making the folder", &spot.path, error)),
            }
            self.made.push(CreatedFolder { path: spot.path, metadata, is_given: kind != Kind::Above });
        }
        Ok(())
    }

    /// As [`Extractor::spot`], with default metadata for missing folders.
    fn plain_spot(&mut self, path: &[u8]) -> Result<EntryPath> {
        let (parent, part) = split(path);
        let folder = self.open_folder(parent, MissingFolders::Made)?;
        if let Some(resume) = &mut self.resume {
            let entered = resume.enter(self.folders.top(), parent, &folder);
            entered.map_err(|error| self.shared.failed("writing into the folder", parent, error))?;
        }
        Ok(EntryPath { folder, part: part.to_vec(), path: path.to_vec() })
    }

    fn open_folder(&mut self, path: &[u8], missing: MissingFolders) -> Result<Arc<OwnedFd>> {
        self.folders.open(path, missing).map_err(|trouble| self.in_trouble(path, trouble))
    }

    /// The error where a folder on the way to `path` could not be opened.
    fn in_trouble(&self, path: &[u8], trouble: Trouble) -> Error {
        let at = &path[..trouble.at];
        match trouble.found {
            Some(found) => self.shared.in_the_way(at, found),
            None => self.shared.failed("opening the folder", at, trouble.error),
        }
    }

    fn place_folder(&mut self, path: &[u8], metadata: Metadata) -> Result<()> {
        let spot = self.spot(path)?;
        let keeps = matches!(self.shared.options.overwrite, Overwrite::Refuse | Overwrite::Never);
        self.note_made(&spot)?;
        match mkdirat(&spot.folder, &spot.part, Mode::RWXU) {
            Ok(()) => self.made.push(CreatedFolder { path: spot.path, metadata, is_given: true }),
            Err(Errno::EXIST) => {
                let there = spot.look().map_err(|error| self.shared.failed("looking at", path, error))?;
                let ours = self.resume.as_ref().is_some_and(|resume| resume.has_made(path));
                match there.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                    Some(FileType::Directory) if !keeps || ours => {
                        self.made.push(CreatedFolder { path: spot.path, metadata, is_given: true });
                    }
                    Some(FileType::Directory) if self.shared.options.overwrite == Overwrite::Refuse => {
                        self.shared.report(ExtractProblem::KeptFolder, path, None);
                    }
                    Some(FileType::Directory) => {}
                    found => return Err(self.shared.in_the_way(path, found.unwrap_or(FileType::Unknown))),
                }
            }
            Err(error) => return Err(self.shared.failed("making the folder", path, error)),
        }
        Ok(())
    }

    /// Records that a folder will be created, so that a resumed run knows it for its own.
    fn note_made(&mut self, spot: &EntryPath) -> Result<()> {
        let Some(resume) = &mut self.resume else { return Ok(()) };
        let noted = match spot.look() {
            Ok(None) if !resume.has_made(&spot.path) => resume.note_made(&spot.path),
            looked => looked.map(drop),
        };
        noted.map_err(|error| self.shared.failed("making the folder", &spot.path, error))
    }

    /// Whether an entry goes to `spot`, as far as the existing file decides it. `file` is the entry if it has content.
    fn may_write(&self, spot: &EntryPath, file: Option<&Entry>) -> Result<bool> {
        let there = spot.look().map_err(|error| self.shared.failed("looking at", &spot.path, error))?;
        let Some(stat) = there else { return Ok(true) };
        let found = FileType::from_raw_mode(stat.st_mode);
        let overwrite = self.shared.options.overwrite;
        let result = match overwrite {
            _ if found == FileType::Directory => Err(self.shared.in_the_way(&spot.path, found)),
            Overwrite::Refuse => Err(Error::Exists { path: self.shared.shown(&spot.path) }),
            Overwrite::Never => Ok(false),
            Overwrite::Changed => return Ok(!file.is_some_and(|entry| self.shared.is_same(&stat, entry))),
            Overwrite::Always => Ok(true),
        };
        if !matches!(result, Ok(true)) && !file.is_some_and(|entry| self.shared.is_same(&stat, entry)) {
            self.shared.set_foreign(&spot.path);
        }
        result
    }

    /// Makes the entry under a temporary name. None if it was reported instead.
    fn make(&mut self, entry: &Entry, spot: &EntryPath) -> Result<Option<Temporary>> {
        if let Kind::Hardlink(first) = &entry.kind {
            return self.make_link(first, spot);
        }
        let node = |kind, device| {
            move |folder: &OwnedFd, part: &[u8]| mknodat(folder, part, kind, Mode::RUSR | Mode::WUSR, device)
        };
        let shared = &self.shared;
        let made = match &entry.kind {
            Kind::Symlink(to) => Temporary::make(shared, spot, |folder, part| symlinkat(&to[..], folder, part)),
            Kind::Fifo => Temporary::make(shared, spot, node(FileType::Fifo, 0)),
            Kind::Socket => Temporary::make(shared, spot, node(FileType::Socket, 0)),
            &Kind::CharDevice(major, minor) => {
                Temporary::make(shared, spot, node(FileType::CharacterDevice, makedev(major, minor)))
            }
            &Kind::BlockDevice(major, minor) => {
                Temporary::make(shared, spot, node(FileType::BlockDevice, makedev(major, minor)))
            }
            Kind::Data | Kind::File | Kind::Directory | Kind::Above | Kind::Hardlink(_) => Err(Errno::INVAL),
        };
        match made {
            Ok((temporary, ())) => Ok(Some(temporary)),
            Err(error @ Errno::PERM) if matches!(entry.kind, Kind::CharDevice(..) | Kind::BlockDevice(..)) => {
                shared.report(ExtractProblem::Device, &spot.path, Some(&error.into()));
                Ok(None)
            }
            Err(error) => Err(shared.failed("making", &spot.path, error)),
        }
    }

    /// Links to the entry written as `first`.
    fn make_link(&mut self, first: &StreamName, spot: &EntryPath) -> Result<Option<Temporary>> {
        let Some(first) = self.stripped(first) else {
            let error = io::Error::other("the first name of its file has no component left");
            return Err(self.shared.failed("linking", &spot.path, error));
        };
        // The first name belongs to a file that was kept: a link to it would bring foreign content under the snapshot's
        // name.
        if self.shared.is_foreign(first) {
            self.shared.report(ExtractProblem::LinkToForeign, &spot.path, None);
            return Ok(None);
        }
        let (parent, part) = split(first);
        let folder = self.open_folder(parent, MissingFolders::Fails)?;
        let made =
            Temporary::make(&self.shared, spot, |to, temporary| linkat(&folder, part, to, temporary, AtFlags::empty()));
        match made {
            Ok((temporary, ())) => Ok(Some(temporary)),
            Err(Errno::NOENT) => {
                let error = io::Error::other(format!("the first name of its file, {}, is not there", Escaped(first)));
                Err(self.shared.failed("linking", &spot.path, error))
            }
            Err(error) => Err(self.shared.failed("linking", &spot.path, error)),
        }
    }

    fn set_attributes(&self, temporary: &Temporary, path: &[u8], metadata: &Metadata) -> Result<()> {
        let report = |problem, error: &io::Error| self.shared.report(problem, path, Some(error));
        let set = temporary
            .handle()
            .and_then(|handle| self.shared.attributes.set(Handle::Path(handle.as_fd()), metadata, report));
        set.map_err(|error| self.shared.failed("setting the metadata of", path, error))
    }
}

/// The folder and the name in it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// The kind of a file, for people.
fn described(file_type: FileType) -> &'static str {
    match file_type {
        FileType::RegularFile => "a file",
        FileType::Directory => "a folder",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "something unknown",
    }
}
