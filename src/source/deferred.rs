//! A source that begins only when its first entry is asked for: what can't begin has then been tried, and is in the history.

use super::{Error, Finished, Source};
use crate::entry::Entry;

/// A source that `begin` makes when it is needed.
pub struct Deferred<B> {
    begin: Option<B>,
    source: Option<Box<dyn Source>>,
}

impl<B: FnOnce() -> Result<Box<dyn Source>, Error>> Deferred<B> {
    /// Begins with `begin`.
    pub fn new(begin: B) -> Self {
        Self { begin: Some(begin), source: None }
    }

    fn source(&mut self) -> Result<&mut dyn Source, Error> {
        if let Some(begin) = self.begin.take() {
            self.source = Some(begin()?);
        }
        match &mut self.source {
            Some(source) => Ok(&mut **source),
            None => Err(Error::Failed("the source did not begin".to_owned())),
        }
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

    fn warnings(&mut self) -> Vec<String> {
        self.source.as_mut().map(|source| source.warnings()).unwrap_or_default()
    }
}
