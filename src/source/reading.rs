//! The stream that a source of databases is reading.

use super::Error;
use crate::entry::{Entry, Kind, StreamName};

/// The current entry, whose size grows with the bytes read. Its name is chosen by the source, and it has no metadata.
#[derive(Debug, Default)]
pub(super) struct CurrentStream(Option<Entry>);

impl CurrentStream {
    /// A stream begins. Returns its entry, for [`Source::next`](super::Source::next).
    ///
    /// # Errors
    /// [`Error::Failed`] where `name` can't name a stream.
    pub fn begin(&mut self, name: impl Into<Vec<u8>>) -> Result<Option<Entry>, Error> {
        let name = StreamName::new(name).map_err(|error| Error::Failed(error.to_string()))?;
        self.0 = Some(Entry { name, kind: Kind::Data, size: 0, metadata: None });
        Ok(self.0.clone())
    }

    /// So many more bytes of it were read. Returns how many that are.
    pub fn grow(&mut self, bytes: usize) -> usize {
        if let Some(entry) = &mut self.0 {
            entry.size += bytes as u64;
        }
        bytes
    }

    /// The last one that began.
    pub fn entry(&self) -> Option<&Entry> {
        self.0.as_ref()
    }

    /// The stream as it is at its end, for [`Source::end`](super::Source::end).
    pub fn end(&self) -> Result<Entry, Error> {
        self.0.clone().ok_or_else(|| Error::Failed("a stream ended before it began".to_owned()))
    }
}
