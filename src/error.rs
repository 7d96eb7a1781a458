//! The errors of operations, and what kind of end each is.

use crate::disk::takes_nothing;
use crate::index::IndexError;
use crate::remote::ErrorKind;
use crate::{repository, source};

/// Why an operation failed. Each text says what was tried, on what, why it failed and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository, its remote or its index.
    #[error(transparent)]
    Repository(#[from] repository::Error),
    /// The source: there is no snapshot.
    #[error("the source failed, so no snapshot was made: {0}")]
    Source(#[from] source::Error),
    /// What was asked for can't be.
    #[error("{0}")]
    Usage(String),
    /// A guard says no.
    #[error("{0}")]
    Refused(String),
    /// What was stored is gone or changed.
    #[error("{0}")]
    Damaged(String),
    /// The remote, or a local disk, hasn't got the room that is needed.
    #[error("{0}")]
    NoRoom(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// The result of an operation.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of end an error is. The binary makes its exit status of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Something failed.
    Failed,
    /// Usage or configuration.
    Usage,
    /// A guard said no.
    Refused,
    /// The remote can't be reached.
    Unreachable,
    /// The repository is damaged.
    Damaged,
    /// There is no room, or the disk can only be read.
    NoRoom,
    /// The user, or the system, asked to stop.
    Interrupted,
}

impl Error {
    /// What kind of end it is.
    pub fn class(&self) -> Class {
        match self {
            Error::Repository(error) => repository_class(error),
            Error::Source(source::Error::Config(_)) => Class::Usage,
            Error::Source(source::Error::Refused(_)) => Class::Refused,
            Error::Source(source::Error::NoRoom(_)) => Class::NoRoom,
            Error::Source(_) | Error::Failed(_) => Class::Failed,
            Error::Usage(_) => Class::Usage,
            Error::Refused(_) => Class::Refused,
            Error::Damaged(_) => Class::Damaged,
            Error::NoRoom(_) => Class::NoRoom,
        }
    }
}

fn repository_class(error: &repository::Error) -> Class {
    match error {
        repository::Error::Remote(error) => match error.kind {
            ErrorKind::Unreachable | ErrorKind::NoEntry => Class::Unreachable,
            ErrorKind::NoSpace | ErrorKind::ReadOnly => Class::NoRoom,
            ErrorKind::Invalid => Class::Usage,
            ErrorKind::Refused => Class::Refused,
            ErrorKind::NotFound | ErrorKind::Short | ErrorKind::Exists => Class::Damaged,
            ErrorKind::Medium | ErrorKind::Other => Class::Failed,
        },
        repository::Error::Damaged(_) => Class::Damaged,
        repository::Error::Refused(_) => Class::Refused,
        repository::Error::Usage(_) => Class::Usage,
        repository::Error::Interrupted => Class::Interrupted,
        repository::Error::Index(IndexError::NoRoom { .. }) => Class::NoRoom,
        repository::Error::Io { source, .. } | repository::Error::Index(IndexError::Io { source, .. }) => {
            io_class(source)
        }
        repository::Error::Index(_) | repository::Error::Failed(_) => Class::Failed,
    }
}

fn io_class(error: &std::io::Error) -> Class {
    if takes_nothing(error) { Class::NoRoom } else { Class::Failed }
}
