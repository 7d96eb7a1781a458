//! Sources: the code that turns a set into streams.

pub mod command;
pub mod files;
pub mod stdin;

use std::io;

use crate::entry::{Entry, StreamName};
use crate::time::Timestamp;

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
    /// The source as a whole failed: there must be no snapshot.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// A failure of the whole source, from an I/O error.
    pub fn failed(tried: &str, error: &io::Error) -> Self {
        Self::Failed(format!("{tried}: {error}"))
    }
}

/// What a source knows when its last stream was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// When the content was true.
    pub data_time: Timestamp,
}

/// A set's data, as streams, one after the other.
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

    /// Warnings since the last call, each a whole sentence that names what it is about.
    fn warnings(&mut self) -> Vec<String>;
}
