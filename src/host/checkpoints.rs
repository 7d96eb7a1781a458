//! Checkpoints before each change of a file, at which a caller may stop.

use std::io;

use crate::progress::Interrupt;

/// Asked before each change.
pub trait Checkpoints {
    /// An error ends the work before the change `what`.
    fn before(&self, what: &'static str) -> io::Result<()>;
}

/// Ends the work once an interrupt is set.
pub(super) struct InterruptibleCheckpoints<'a>(pub(super) &'a Interrupt);

impl Checkpoints for InterruptibleCheckpoints<'_> {
    fn before(&self, _: &'static str) -> io::Result<()> {
        match self.0.is_set() {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        }
    }
}
