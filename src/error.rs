//! The errors of operations.

use crate::class::{Class, Classified};
use crate::index::{Ending, IndexError, Outcome};
use crate::{remote, repository, source};

/// The failure of an operation. Each text has the operation, its object, the reason and the advice.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository, its remote or its index.
    #[error(transparent)]
    Repository(#[from] repository::Error),
    /// The source: there is no snapshot.
    #[error("the source failed, so no snapshot was made: {0}")]
    Source(#[from] source::Error),
    /// The request is impossible.
    #[error("{0}")]
    Usage(String),
    /// A guard says no.
    #[error("{0}")]
    Refused(String),
    /// Stored data is gone or changed.
    #[error("{0}")]
    Damaged(String),
    /// The remote, or a local disk, hasn't got the room that is needed.
    #[error("{0}")]
    NoSpace(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
    /// Another error, of which more is said.
    #[error("{message}")]
    Described {
        /// Its class.
        class: Class,
        /// The whole text.
        message: String,
    },
}

/// The result of an operation.
pub type Result<T> = std::result::Result<T, Error>;

impl From<remote::Error> for Error {
    fn from(error: remote::Error) -> Self {
        Self::Repository(error.into())
    }
}

impl From<IndexError> for Error {
    fn from(error: IndexError) -> Self {
        Self::Repository(error.into())
    }
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Error::Repository(error) => error.class(),
            Error::Source(error) => error.class(),
            Error::Failed(_) => Class::Failed,
            Error::Usage(_) => Class::Usage,
            Error::Refused(_) => Class::Refused,
            Error::Damaged(_) => Class::Damaged,
            Error::NoSpace(_) => Class::NoSpace,
            Error::Described { class, .. } => *class,
        }
    }
}

impl Error {
    /// An error of the same class, with another text.
    pub fn described(&self, message: impl Into<String>) -> Self {
        Error::Described { class: self.class(), message: message.into() }
    }
}

/// How an operation ended, for the journal: `done` says it of one that did its work.
pub fn ending<T, E: Classified + std::fmt::Display>(
    result: &std::result::Result<T, E>,
    done: impl FnOnce(&T) -> Ending,
) -> Ending {
    match result {
        Ok(value) => done(value),
        Err(error) if error.class() == Class::Interrupted => Ending::new(Outcome::Interrupted, None),
        Err(error) => Ending::new(Outcome::Failed, Some(error.to_string())),
    }
}
