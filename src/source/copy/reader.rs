//! The source that reads a copy.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;

use super::manifest::CopyManifest;
use super::{LocalCopy, data_of, failed, hex};
use crate::entry::{Entry, Kind, StreamName};
use crate::id::Hasher;
use crate::source::{Error, Finished, Source};
use crate::time::Timestamp;
use crate::warning::Warning;

/// Reads a copy.
pub struct CopySource {
    path: PathBuf,
    data: BufReader<File>,
    manifest: CopyManifest,
    next: usize,
    left: u64,
    hasher: Option<Hasher>,
}

impl CopySource {
    /// Opens a copy.
    ///
    /// # Errors
    /// [`Error::LocalCopy`] where it can't be read, or isn't as long as it was.
    pub fn open(copy: &LocalCopy) -> Result<Self, Error> {
        let manifest = CopyManifest::read(&copy.path)?;
        let (path, file) = data_of(&copy.path, &manifest)?;
        let data = BufReader::with_capacity(1 << 18, file);
        Ok(Self { path, data, manifest, next: 0, left: 0, hasher: Some(Hasher::new()) })
    }

    fn entry(&self, number: usize) -> Result<Entry, Error> {
        let (name, size) = &self.manifest.streams[number];
        let name = StreamName::new(name.as_bytes()).map_err(|error| Error::Failed(error.to_string()))?;
        Ok(Entry { name, kind: Kind::Data, size: *size, metadata: None })
    }
}

impl Source for CopySource {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        let mut rest = [0; 1 << 12];
        while self.read(&mut rest)? > 0 {}
        if self.next == self.manifest.streams.len() {
            return Ok(None);
        }
        let entry = self.entry(self.next)?;
        self.left = entry.size;
        self.next += 1;
        Ok(Some(entry))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.data.read(&mut buffer[..most]).map_err(|error| failed("reading", &self.path, &error))?;
        if read == 0 && most > 0 {
            return Err(Error::LocalCopy(format!("the local copy {} ends too early", self.path.display())));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..read]);
        }
        self.left -= read as u64;
        Ok(read)
    }

    fn end(&mut self) -> Result<Entry, Error> {
        self.entry(self.next.saturating_sub(1))
    }

    fn finish(&mut self) -> Result<Finished, Error> {
        let hash = self.hasher.take().map(|hasher| hex(&hasher.finish_short())).unwrap_or_default();
        if hash != self.manifest.hash {
            return Err(Error::LocalCopy(format!(
                "the local copy {} isn't what was dumped: it was changed since",
                self.path.display()
            )));
        }
        let data_time = Timestamp::from_nanos(self.manifest.data_time);
        Ok(Finished { data_time, facts: self.manifest.facts.clone() })
    }

    fn warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.manifest.warnings)
    }
}
