//! Remotes: the stores of repositories' objects.
//!
//! A remote holds opaque, immutable, named objects in six flat folders. It knows nothing of packs, keys or snapshots. It
//! uses only operations that an append-only SFTP account still has: open-create-exclusive, write, flush, plain rename,
//! read, stat, list, free space. Deleting is the one operation that needs an ordinary account.
//!
//! A [`place`] is the location of one, and [`open::open`] opens it. [`local`] and [`sftp`] are remotes. [`retry`],
//! [`reread`] and [`limit`] are decorators of another remote: each adds one concern and passes the rest on, so they stack
//! in any order. The usual one is retry over limit over the remote: repeated bytes then count against the limit.
//!
//! [`many`] makes many calls at a time, for who reads many small objects from a far host.
//!
//! The feature `testing` adds a remote in memory (`memory`) and the decorators `fault` and `record`.

#[cfg(any(test, feature = "testing"))]
pub mod fault;
pub mod limit;
pub mod local;
pub mod many;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
pub mod open;
pub mod options;
mod part;
pub mod place;
#[cfg(any(test, feature = "testing"))]
pub mod record;
pub mod reread;
pub mod retry;
pub mod sftp;
pub mod spool;
pub mod wait;

pub use part::is_left_over;
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::class::{Class, Classified};
use crate::disk::takes_nothing;
use crate::time::Timestamp;

/// The folders of a repository. Each is flat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Folder {
    /// Information for people.
    Info,
    /// Wrapped keys.
    Keys,
    /// Packs.
    Packs,
    /// Snapshots.
    Snapshots,
    /// Uploads under way.
    Pending,
    /// Objects that a prune will delete, and when.
    Marks,
}

impl Folder {
    /// All of them, in the order in which they are made.
    pub const ALL: [Folder; 6] =
        [Folder::Info, Folder::Keys, Folder::Packs, Folder::Snapshots, Folder::Pending, Folder::Marks];

    /// The folder's name on the remote.
    pub const fn name(self) -> &'static str {
        match self {
            Folder::Info => "info",
            Folder::Keys => "keys",
            Folder::Packs => "packs",
            Folder::Snapshots => "snapshots",
            Folder::Pending => "pending",
            Folder::Marks => "marks",
        }
    }
}

/// The path of an object: a folder and a plain file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    folder: Folder,
    name: String,
}

impl ObjectName {
    /// The most bytes of an object's file name.
    pub const MAX: usize = 200;

    /// A name of 1 to [`ObjectName::MAX`] bytes of `A-Z a-z 0-9 . _ -` that doesn't start with a dot; None for all else.
    pub fn new(folder: Folder, name: impl Into<String>) -> Option<Self> {
        let name = name.into();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let fits = (1..=Self::MAX).contains(&name.len()) && !name.starts_with('.');
        (fits && name.bytes().all(plain)).then_some(Self { folder, name })
    }

    /// The folder.
    pub fn folder(&self) -> Folder {
        self.folder
    }

    /// The file name inside the folder.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.folder.name(), self.name)
    }
}

/// The kind of a failed call. Callers decide by it whether to try again, and the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The object, or the folder, isn't there.
    NotFound,
    /// It exists already.
    Exists,
    /// The remote refuses it: permissions, an append-only account.
    Refused,
    /// The host refuses the login, or isn't the expected one: its key, or ours, isn't accepted. Trying again doesn't
    /// help.
    NoEntry,
    /// No room: ENOSPC, EDQUOT.
    NoSpace,
    /// The location is read-only.
    ReadOnly,
    /// The remote can't be reached, or the connection broke. Trying again may help.
    Unreachable,
    /// The host's name has no address, or no name server answers. Trying again helps once the network is up.
    UnknownName,
    /// The object is shorter than the requested range.
    Short,
    /// The medium fails, or the file system on it: a bad sector; a host that says no more than "Failure".
    Medium,
    /// The location is unusable for a repository: a file instead of a folder, impossible names.
    Invalid,
    /// Anything else.
    Other,
}

/// The kernel reports a failing medium: a bad sector, a wrong checksum of the file system, a damaged file system.
const MEDIUM: [Errno; 6] = [Errno::IO, Errno::BADMSG, Errno::UCLEAN, Errno::REMOTEIO, Errno::NODATA, Errno::ILSEQ];

/// A failed call: the operation, its object, the reason and, where there is one, the advice.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{action} {object} failed: {reason}{}", hint.as_deref().map(|hint| format!("; {hint}")).unwrap_or_default())]
pub struct Error {
    /// The kind of failure.
    pub kind: ErrorKind,
    /// The operation: `"reading"`.
    pub action: &'static str,
    /// Its object: a name with the remote's location before it.
    pub object: String,
    /// Why it failed.
    pub reason: String,
    /// Advice.
    pub hint: Option<String>,
}

impl ErrorKind {
    /// Whether the remote is away: trying again may help.
    pub fn is_away(self) -> bool {
        matches!(self, Self::Unreachable | Self::UnknownName)
    }
}

impl Error {
    /// An error without a hint.
    pub fn new(kind: ErrorKind, action: &'static str, object: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self { kind, action, object: object.to_string(), reason: reason.to_string(), hint: None }
    }

    /// The same error with advice.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether a read failed because of the requested object, and not because of the connection or this machine: data
    /// that needs nothing of that object is still available.
    pub fn is_of_object(&self) -> bool {
        use ErrorKind::{Invalid, Medium, NotFound, Refused, Short};
        matches!(self.kind, NotFound | Refused | Short | Invalid | Medium)
    }

    /// The error that an `io::Error` of a local file system means.
    pub fn from_io(action: &'static str, object: impl fmt::Display, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::Exists,
            io::ErrorKind::PermissionDenied => ErrorKind::Refused,
            io::ErrorKind::ReadOnlyFilesystem => ErrorKind::ReadOnly,
            _ if takes_nothing(error) => ErrorKind::NoSpace,
            io::ErrorKind::UnexpectedEof => ErrorKind::Short,
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => ErrorKind::Invalid,
            io::ErrorKind::TimedOut
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::StaleNetworkFileHandle => ErrorKind::Unreachable,
            _ if error.raw_os_error().is_some_and(|code| MEDIUM.contains(&Errno::from_raw_os_error(code))) => {
                ErrorKind::Medium
            }
            _ => ErrorKind::Other,
        };
        Self::new(kind, action, object, error)
    }
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self.kind {
            ErrorKind::Unreachable | ErrorKind::UnknownName | ErrorKind::NoEntry => Class::Unreachable,
            ErrorKind::NoSpace | ErrorKind::ReadOnly => Class::NoSpace,
            ErrorKind::Invalid => Class::Usage,
            ErrorKind::Refused => Class::Refused,
            ErrorKind::NotFound | ErrorKind::Short | ErrorKind::Exists => Class::Damaged,
            ErrorKind::Medium | ErrorKind::Other => Class::Failed,
        }
    }
}

/// The result of a call on a remote.
pub type Result<T> = std::result::Result<T, Error>;

/// One object in a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name.
    pub name: ObjectName,
    /// Its size in bytes.
    pub size: u64,
}

/// An object that is being written. Its final name is known only when its last byte is.
///
/// Dropped without [`Upload::finish`], it leaves no object under any name but in `pending/`. After an error it is dead:
/// no later call may succeed.
pub trait Upload: Send {
    /// Adds bytes. Several calls may be under way inside; an error may come late, at the next call or at `finish`.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Flushes the bytes to stable storage, checks the size and moves the object to `name`.
    ///
    /// When it returns, the object is complete under its name; that the *name* survives a power cut takes
    /// [`Remote::flush`]. An existing object under `name` with the same size stays, and that is success (names come from
    /// content); one with another size is [`ErrorKind::Exists`].
    fn finish(self: Box<Self>, name: &ObjectName) -> Result<()>;
}

/// A store of one repository's objects. Calls may come from several threads.
pub trait Remote: Send + Sync {
    /// Where this is, for messages: `/srv/vault`, `sftp://vm1@backup.example/repo`.
    fn place(&self) -> String;

    /// Makes the folders that are missing. [`ErrorKind::Refused`] with a hint where the account may not.
    fn create_folders(&self) -> Result<()>;

    /// Begins an object in `pending/`.
    fn begin(&self) -> Result<Box<dyn Upload>>;

    /// The whole object, which must have at most `limit` bytes ([`ErrorKind::Invalid`] otherwise). Allocates memory for
    /// the object's size, never for `limit`.
    fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>>;

    /// Fills `buffer` from `offset` on. [`ErrorKind::Short`] if the object ends before.
    ///
    /// Neighbouring ranges of one object are often requested one after the other, and from several threads: a remote
    /// keeps objects open for a while, and sends many requests at once for a large `buffer`.
    fn get_range(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// The object's size in bytes, None if it isn't there.
    fn stat(&self, name: &ObjectName) -> Result<Option<u64>>;

    /// All plain objects of a folder, in no order. Files without a valid [`ObjectName`], and other kinds of files, are
    /// counted in the second value and left out. A missing folder is [`ErrorKind::NotFound`].
    fn list(&self, folder: Folder) -> Result<(Vec<Listed>, u64)>;

    /// Makes the names in a folder survive a power cut. False if the remote can't promise it.
    fn flush(&self, folder: Folder) -> Result<bool>;

    /// Takes an object away. [`ErrorKind::Refused`] on an append-only account. An absent object is [`ErrorKind::NotFound`].
    fn delete(&self, name: &ObjectName) -> Result<()>;

    /// Whether this account may delete at all: an append-only one may not.
    fn can_delete(&self) -> Result<bool>;

    /// Bytes that may still be written, None if the remote can't say.
    fn free_space(&self) -> Result<Option<u64>>;

    /// How many small calls are worth having under way at once, from several threads: the more, the further the host is.
    fn calls_at_once(&self) -> usize {
        1
    }

    /// When the last finished upload was written, by the clock of the host and by this machine's. None before there was
    /// one, and where the remote has no clock of its own.
    fn clocks(&self) -> Option<Clocks> {
        None
    }
}

/// One moment on two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// By the host's.
    pub host: Timestamp,
    /// The earliest that it can have been by this machine's.
    pub earliest: Timestamp,
    /// The latest.
    pub latest: Timestamp,
}

/// Locks, even if a thread panicked with the lock: the guarded data is valid at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain_or_none() {
        for good in ["a", "A-b_c.9", &"x".repeat(ObjectName::MAX)] {
            assert_eq!(ObjectName::new(Folder::Packs, good).unwrap().to_string(), format!("packs/{good}"));
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a b", "ä", "a\0", "a\n", &"x".repeat(ObjectName::MAX + 1)] {
            assert_eq!(ObjectName::new(Folder::Packs, bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_error_says_what_on_what_why_and_what_next() {
        let error = Error::from_io("writing", "/srv/vault/packs/a", &io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(error.kind, ErrorKind::NoSpace);
        assert_eq!(
            error.hint("make room there").to_string(),
            "writing /srv/vault/packs/a failed: no storage space; make room there"
        );
    }

    #[test]
    fn a_bad_sector_is_of_the_object_and_a_lack_of_files_is_of_this_machine() {
        let of = |errno: Errno| Error::from_io("reading", "packs/a", &errno.into());
        for errno in [Errno::IO, Errno::UCLEAN, Errno::BADMSG, Errno::ACCESS, Errno::NOENT, Errno::LOOP] {
            assert!(of(errno).is_of_object() || errno == Errno::LOOP, "{errno:?}");
        }
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::STALE, Errno::TIMEDOUT, Errno::NOSPC] {
            assert!(!of(errno).is_of_object(), "{errno:?}");
        }
    }
}
