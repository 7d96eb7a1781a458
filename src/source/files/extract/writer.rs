//! Writes the content of one file.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, openat};

use super::attributes::Handle;
use super::temporary::Temporary;
use super::{EntryPath, ExtractorState, Result};
use crate::entry::{Entry, Kind};
use crate::source::files::holes::{HolePath, fitting};

/// A file that is being written under a temporary name. Dropped without [`FileWriter::finish`], it leaves nothing.
pub struct FileWriter {
    shared: Arc<ExtractorState>,
    path: Vec<u8>,
    part: Vec<u8>,
    file: File,
    temporary: Option<Temporary>,
    entry: Entry,
    /// How many bytes came.
    came: u64,
    way: HolePath,
}

impl FileWriter {
    pub(super) fn create(shared: Arc<ExtractorState>, spot: EntryPath, entry: &Entry) -> Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = Temporary::make(&shared, &spot, |folder, name| openat(folder, name, flags, Mode::RUSR | Mode::WUSR));
        let (temporary, file) = made.map_err(|error| shared.failed("making", &spot.path, error))?;
        Ok(Self {
            path: spot.path,
            part: spot.part,
            file: file.into(),
            temporary: Some(temporary),
            entry: entry.clone(),
            came: 0,
            way: HolePath::default(),
            shared,
        })
    }

    /// Adds the next bytes of the content, which is between the holes.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let end = self.way.data(self.entry.holes());
            let length = end.map_or(bytes.len(), |end| fitting(end - self.way.position(), bytes));
            let (piece, rest) = bytes.split_at(length);
            let written = self.file.write_all_at(piece, self.way.position());
            written.map_err(|error| self.shared.failed("writing", &self.path, error))?;
            self.way.pass(length);
            self.came += length as u64;
            bytes = rest;
        }
        Ok(())
    }

    /// Sets the metadata, and gives the file its name.
    ///
    /// # Errors
    /// Where the bytes that came are not as many as the entry says, where the file can't be completed, or where something
    /// has come to be at its name that isn't to be overwritten.
    pub fn finish(mut self) -> Result<()> {
        self.complete().map_err(|error| self.shared.failed("writing", &self.path, error))?;
        match self.temporary.take() {
            Some(temporary) => {
                temporary.commit(&self.part, &self.path)?;
                self.shared.note_flags(&self.path, self.entry.metadata.as_ref());
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn complete(&mut self) -> io::Result<()> {
        if self.entry.kind == Kind::File && self.came != self.entry.size {
            let (came, size) = (self.came, self.entry.size);
            return Err(io::Error::other(format!("{came} bytes came, and the entry says {size}")));
        }
        // A hole at the end.
        if self.way.data(self.entry.holes()).is_none() && self.file.metadata()?.len() < self.way.position() {
            self.file.set_len(self.way.position())?;
        }
        let report = |problem, error: &io::Error| self.shared.report(problem, &self.path, Some(error));
        match &self.entry.metadata {
            Some(metadata) => self.shared.attributes.set(Handle::Open(self.file.as_fd()), metadata, report),
            None => Ok(()),
        }
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if self.temporary.is_some() {
            self.shared.set_foreign(&self.path);
        }
    }
}
