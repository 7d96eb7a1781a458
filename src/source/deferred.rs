//! A source that begins only when its first entry is requested: a failure to begin is then in the history.

use std::fs::File;

use super::{Error, Finished, Source};
use crate::entry::Entry;
use crate::warning::Warning;

/// A source that `begin` makes when it is needed.
pub struct Deferred<B>(State<B>);

enum State<B> {
    Waiting(B),
    Begun(Box<dyn Source>),
    /// It did not begin; the error is returned once.
    Failed(Option<Error>),
}

impl<B: FnOnce() -> Result<Box<dyn Source>, Error>> Deferred<B> {
    /// Begins with `begin`.
    pub fn new(begin: B) -> Self {
        Self(State::Waiting(begin))
    }

    /// The source; None where it could not begin.
    fn begun(&mut self) -> Option<&mut dyn Source> {
        if matches!(self.0, State::Waiting(_))
            && let State::Waiting(begin) = std::mem::replace(&mut self.0, State::Failed(None))
        {
            self.0 = begin().map_or_else(|error| State::Failed(Some(error)), State::Begun);
        }
        match &mut self.0 {
            State::Begun(source) => Some(&mut **source),
            State::Waiting(_) | State::Failed(_) => None,
        }
    }

    fn source(&mut self) -> Result<&mut dyn Source, Error> {
        if self.begun().is_none()
            && let State::Failed(Some(error)) = std::mem::replace(&mut self.0, State::Failed(None))
        {
            return Err(error);
        }
        self.begun().ok_or_else(|| Error::Failed("the source did not begin".to_owned()))
    }
}

impl<B: FnOnce() -> Result<Box<dyn Source>, Error>> Source for Deferred<B> {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        self.source()?.next()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.source()?.read(buffer)
    }

    fn end(&mut self) -> Result<Entry, Error> {
        self.source()?.end()
    }

    fn finish(&mut self) -> Result<Finished, Error> {
        self.source()?.finish()
    }

    fn warnings(&mut self) -> Vec<Warning> {
        match &mut self.0 {
            State::Begun(source) => source.warnings(),
            State::Waiting(_) | State::Failed(_) => Vec::new(),
        }
    }

    fn share_blocks(&mut self, copy: &File) -> bool {
        self.begun().is_some_and(|source| source.share_blocks(copy))
    }

    fn expected(&mut self) -> Option<u64> {
        self.begun()?.expected()
    }
}
