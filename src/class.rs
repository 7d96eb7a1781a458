//! The classes of errors, which decide what a caller does about one: the binary makes its exit status of it.

use std::io;

use crate::disk::takes_nothing;

/// The class of an error.
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
    /// There is no space left, or the disk is read-only.
    NoSpace,
    /// The user, or the system, asked to stop.
    Interrupted,
}

/// An error whose class is known.
pub trait Classified: std::error::Error {
    /// Its class.
    fn class(&self) -> Class;
}

impl Class {
    /// The class of an I/O error of a file of this machine.
    pub fn of_io(error: &io::Error) -> Self {
        if takes_nothing(error) { Self::NoSpace } else { Self::Failed }
    }
}
