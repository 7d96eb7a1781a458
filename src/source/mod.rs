//! Sources: the code that turns a set into streams. Targets: the way back.

pub mod command;
pub mod copy;
pub mod deferred;
pub mod external;
pub mod files;
pub mod in_place;
pub mod influxdb;
pub mod mysql;
pub mod names;
pub mod objects;
mod patterns;
pub mod postgresql;
mod reading;
pub mod remains;
mod free_space;
pub mod select;
pub mod stdin;
pub mod target;
pub mod until;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::class::{Class, Classified};
use crate::disk::{takes_nothing, way_out};
use crate::entry::{Entry, StreamName};
use crate::facts::Facts;
use crate::source::remains::{Remains, ServiceName};
use crate::time::Timestamp;
use crate::warning::Warning;

/// Why a source could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One stream can't be had. It is left out of the snapshot, the rest goes on, and the run ends with a warning.
    #[error("{name}: {reason}")]
    Skipped {
        /// The stream.
        name: StreamName,
        /// What was tried and why it failed: `can't be opened: Permission denied`.
        reason: String,
    },
    /// One stream was there when it was listed and isn't any more. It is left out, and the rest goes on.
    #[error("{0} is gone")]
    Vanished(StreamName),
    /// The source as a whole failed: there must be no snapshot.
    #[error("{0}")]
    Failed(String),
    /// A server or a program failed, and it is known with which code.
    #[error("{text}")]
    Server {
        /// The server's own code: `1146` of MySQL, `55006` of PostgreSQL. Where it has none, the module that reads its
        /// program's output gives it one.
        code: String,
        /// What was tried, and what it said.
        text: String,
    },
    /// What is read changed in the middle of it: there must be no snapshot, and a second try may succeed.
    #[error("{0}")]
    Changed(String),
    /// Something has to be set right before the source can be read: a program that isn't there, a grant.
    #[error("{0}")]
    Config(String),
    /// A guard says no.
    #[error("{0}")]
    Refused(String),
    /// There is no room on a local disk, or it can only be read.
    #[error("{0}")]
    NoSpace(String),
    /// A local copy can't be read or kept, or isn't what was dumped. What it is a copy of may be well.
    #[error("{0}")]
    LocalCopy(String),
}

impl Error {
    /// A failure of the whole source, from an I/O error.
    pub fn failed(tried: &str, error: &io::Error) -> Self {
        let text = format!("{tried}: {error}");
        if takes_nothing(error) { Self::NoSpace(text + way_out(error)) } else { Self::Failed(text) }
    }

    /// The failure of a server, with its code where it said one.
    pub fn server(code: Option<String>, text: String) -> Self {
        match code {
            Some(code) => Self::Server { code, text },
            None => Self::Failed(text),
        }
    }

    /// Whether the source or its server failed at what was tried, with or without a code; no guard and no condition stood
    /// against it.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Server { .. })
    }

    /// Whether a server failed with that code.
    pub fn has_code(&self, wanted: &str) -> bool {
        matches!(self, Self::Server { code, .. } if code == wanted)
    }
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Error::Config(_) => Class::Usage,
            Error::Refused(_) => Class::Refused,
            Error::NoSpace(_) => Class::NoSpace,
            Error::Skipped { .. }
            | Error::Vanished(_)
            | Error::Failed(_)
            | Error::Server { .. }
            | Error::Changed(_)
            | Error::LocalCopy(_) => Class::Failed,
        }
    }
}

/// What a source knows when its last stream was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// When the content was true.
    pub data_time: Timestamp,
    /// What else the source knows.
    pub facts: Facts,
}

/// Which databases of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Databases {
    /// All but these and the server's own.
    AllBut(Vec<String>),
    /// These.
    Only(Vec<String>),
}

/// Opens a plain file, and says how long it is. Anything else is refused; a FIFO isn't waited for.
///
/// # Errors
/// Where it can't be opened, or is something else.
pub fn open_plain(path: &Path) -> io::Result<(File, u64)> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let about = file.metadata()?;
    match about.is_file() {
        true => Ok((file, about.len())),
        false => Err(io::Error::other("it is no plain file")),
    }
}

/// What one try of all that a source needs has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// As it should be.
    Good(String),
    /// Worth to be known.
    Note(String),
    /// A backup can't be made this way.
    Bad(String),
}

/// A set's data, as streams, one after the other.
///
/// `next`, `read` and `end` may return [`Error::Skipped`] and [`Error::Vanished`]: the stream is left out, and the backup ends
/// with a warning. Every other error ends the backup without a snapshot.
///
/// The caller asks for the [`next`](Source::next) entry; where it wants the content it calls [`read`](Source::read) until
/// that returns 0, then [`end`](Source::end). An entry whose content isn't wanted (it is unchanged) is passed over by
/// asking for the next one. After the last entry comes [`finish`](Source::finish): only its success makes the streams
/// complete.
pub trait Source {
    /// The next entry, None after the last.
    fn next(&mut self) -> Result<Option<Entry>, Error>;

    /// Reads the current entry's content. 0 is its end.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error>;

    /// After the content was read to its end: the entry as it is now (its final size, holes, metadata).
    fn end(&mut self) -> Result<Entry, Error>;

    /// After the last entry: whether everything was complete.
    fn finish(&mut self) -> Result<Finished, Error>;

    /// Makes the empty file `copy` a copy of the current entry's file that shares its blocks. False where there is no such file,
    /// or the file system can't. To be asked before the first [`read`](Source::read).
    fn share_blocks(&mut self, _copy: &std::fs::File) -> bool {
        false
    }

    /// Warnings since the last call, each a whole sentence that names what it is about.
    fn warnings(&mut self) -> Vec<Warning>;

    /// How many bytes it will give, about, where that can be told before the first is read. To be asked before
    /// [`next`](Source::next); it may take as long as looking at every file does.
    fn expected(&mut self) -> Option<u64> {
        None
    }
}

/// Takes streams back, one after the other: the mirror image of [`Source`].
///
/// For each entry that [`wants`](Target::wants) said yes to, the caller calls [`begin`](Target::begin), then
/// [`write`](Target::write) with its bytes in order, then [`end`](Target::end) once they are all there and verified, or
/// [`abandon`](Target::abandon). After the last entry comes [`finish`](Target::finish).
///
/// [`Error::Skipped`] is about one entry, and the rest goes on; [`Error::Failed`] ends the restore.
pub trait Target {
    /// Whether the entry is to be written; false where what is there is kept. Asked for all entries before the first is
    /// begun.
    fn wants(&mut self, entry: &Entry) -> Result<bool, Error>;

    /// Tells of a folder above what will be written, which isn't itself to be restored: where it is missing it is made as it
    /// was. To be called before the first entry is asked for.
    fn above(&mut self, _folder: &Entry) {}

    /// Whether what is there under the entry's name is the entry, as far as a look tells.
    fn has(&mut self, _entry: &Entry) -> bool {
        false
    }

    /// What is there under the entry's name, where an earlier restore that didn't reach its end may have written it; `names` is
    /// how many names the file may have by now. The caller checks its bytes; where they are right the entry needn't be written.
    /// Asked before [`wants`](Target::wants).
    fn written_before(&mut self, _entry: &Entry, _names: u64) -> Result<Option<Box<dyn io::Read>>, Error> {
        Ok(None)
    }

    /// An entry begins. One without content is complete with this.
    fn begin(&mut self, entry: &Entry) -> Result<(), Error>;

    /// The next bytes of the current entry, holes as zeros.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error>;

    /// The current entry's bytes are complete and are what was stored.
    fn end(&mut self) -> Result<(), Error>;

    /// The current entry can't be completed: nothing of it may stay.
    fn abandon(&mut self);

    /// After the last entry. Returns warnings: what could not be set, each a whole sentence.
    fn finish(&mut self) -> Result<Vec<Warning>, Error>;
}

/// What is wanted of a service that data goes back into.
#[derive(Debug, Clone, Default)]
pub struct RestoreTargetOptions {
    /// Another name for the one database.
    pub name: Option<String>,
    /// The parts that are meant (`database`, or `database/table` where a service can do that); all where there is none.
    pub only: Vec<String>,
    /// Names that may be replaced.
    pub replace: Vec<String>,
    /// Whether what can't be restored is named and passed over, and the rest put in place.
    pub keep_going: bool,
    /// The time, as it stands in the names of what is put aside: `20261121T140000Z`.
    pub stamp: String,
    /// Where what can't be put aside in the service itself is kept.
    pub folder: PathBuf,
}

impl RestoreTargetOptions {
    /// Whether what stands under that name may be replaced.
    fn may_replace(&self, name: &str) -> bool {
        self.replace.iter().any(|known| known == name)
    }
}

/// What a snapshot has for a service.
#[derive(Debug)]
pub struct Contents<'a> {
    /// All its entries.
    pub entries: &'a [Entry],
    /// The content of those that are [definitions](RestoreTarget::is_definition).
    pub definitions: Vec<(StreamName, Vec<u8>)>,
    /// What the source noted.
    pub facts: &'a Facts,
    /// What an earlier restore of the same set has left that didn't end.
    pub unfinished: Remains,
    /// Whether nothing will be written: what is there is no reason to refuse.
    pub looks_only: bool,
}

/// What a restore into a service will do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What will be done, a sentence each.
    pub lines: Vec<String>,
    /// Names of what is there and would be put aside, but for what an earlier restore that didn't end had begun.
    pub replaces: Vec<String>,
    /// Bytes of streams that will be loaded.
    pub bytes: u64,
}

/// What became of a load: it was compared with what the snapshot says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// How many of what can be counted: rows, points. None where nothing can be.
    pub counted: Option<(u64, &'static str)>,
    /// What was compared, for people.
    pub checks: String,
}

/// A service that runs, and that a snapshot goes back into.
///
/// Its definitions (all that is small) are read first, so that everything can be judged before anything is written
/// ([`plan`](RestoreTarget::plan)). Then it is [prepared](RestoreTarget::prepare), the rest is loaded by one or more
/// [loaders](RestoreTarget::loader) at the same time, and [verified](RestoreTarget::verify) where it was loaded. At last it is put in place
/// ([`commit`](RestoreTarget::commit)) or taken away ([`discard`](RestoreTarget::discard)).
pub trait RestoreTarget {
    /// Whether an entry is to be read first.
    fn is_definition(&self, entry: &Entry) -> bool;

    /// Judges what the snapshot has. Writes nothing.
    fn plan(&mut self, contents: Contents<'_>) -> Result<Plan, Error>;

    /// What it makes in the service, and what is left there where it doesn't end. Asked after [`plan`](RestoreTarget::plan).
    fn remains(&self) -> Remains;

    /// Which of these are still there, each a sentence that says how it goes away.
    fn still_there(&self, leftovers: &[ServiceName]) -> Result<Vec<String>, Error>;

    /// Whether an entry is to be loaded by a loader.
    fn takes(&self, entry: &Entry) -> bool;

    /// Makes what the loaders load into.
    fn prepare(&mut self) -> Result<(), Error>;

    /// How many loaders may run at the same time, at most. With one, entries come in the snapshot's order.
    fn max_loaders(&self) -> usize {
        usize::MAX
    }

    /// Loads entries, beside other loaders that load other ones.
    fn loader(&self) -> Result<Box<dyn Target + Send>, Error>;

    /// After all loaders have ended well: compares what was loaded, where it was loaded, with what the snapshot says. What
    /// lives stays untouched, however it ends.
    ///
    /// Lost rows are an error (status 1) where living data would be replaced. Otherwise PostgreSQL and InfluxDB put the rest in
    /// place with a warning for each loss (status 3), and MySQL does so with `keep_going`.
    fn verify(&mut self) -> Result<Proof, Error>;

    /// Puts what was [verified](RestoreTarget::verify) in place. Returns warnings, each a whole sentence.
    fn commit(&mut self, proof: &Proof) -> Result<Vec<Warning>, Error>;

    /// Takes away what was loaded and isn't in place. What lives stays untouched.
    fn discard(&mut self) -> Result<(), Error>;

    /// What stands where the restored data goes to, as a line that is another one once any of it is another. It is asked after
    /// [`commit`](RestoreTarget::commit), and after [`plan`](RestoreTarget::plan) where the same restore is wanted once more. None where
    /// the service can't be looked at.
    fn standing(&self) -> Result<Option<String>, Error> {
        Ok(None)
    }

    /// What stands in the service after a restore that didn't end, and what to do.
    fn undone(&self) -> String;
}
