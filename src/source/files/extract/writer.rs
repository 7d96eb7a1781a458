//! Writes the content of one file.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, openat};

use super::attributes::Handle;
use super::temporary::Temporary;
use super::{Result, Shared, Spot};
use crate::entry::{Entry, Kind};

/// A file that is being written under a temporary name. Dropped without [`FileWriter::finish`], it leaves nothing.
pub struct FileWriter {
    shared: Arc<Shared>,
    path: Vec<u8>,
    part: Vec<u8>,
    file: File,
    temporary: Option<Temporary>,
    entry: Entry,
    position: u64,
    /// The end of the last byte that was really written.
    written: u64,
    next_hole: usize,
}

impl FileWriter {
    pub(super) fn create(shared: Arc<Shared>, spot: Spot, entry: &Entry) -> Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = Temporary::make(&shared, &spot, |folder, name| openat(folder, name, flags, Mode::RUSR | Mode::WUSR));
        let (temporary, file) = made.map_err(|error| shared.failed("making", &spot.path, error))?;
        Ok(Self {
            path: spot.path,
            part: spot.part,
            file: file.into(),
            temporary: Some(temporary),
            entry: entry.clone(),
            position: 0,
            written: 0,
            next_hole: 0,
            shared,
        })
    }

    /// Adds the next bytes of the content. The zeros of a hole are left out.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (in_hole, most) = self.region();
            let length = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
            let (piece, rest) = bytes.split_at(length);
            // Bytes that an entry's holes deny are written all the same.
            if !in_hole || piece.iter().any(|&byte| byte != 0) {
                let written = self.file.write_all_at(piece, self.position);
                written.map_err(|error| self.shared.failed("writing", &self.path, error))?;
                self.written = self.position + length as u64;
            }
            self.position += length as u64;
            bytes = rest;
        }
        Ok(())
    }

    /// Whether the position is in a hole, and how many bytes (at least one) there are to the end of the hole or the data.
    fn region(&mut self) -> (bool, u64) {
        let holes = self.entry.metadata.as_ref().map(|metadata| &metadata.holes[..]).unwrap_or_default();
        let at = self.position;
        while let Some(hole) = holes.get(self.next_hole) {
            match hole.offset.saturating_add(hole.length) {
                _ if hole.offset > at => return (false, hole.offset - at),
                end if end > at => return (true, end - at),
                _ => self.next_hole += 1,
            }
        }
        (false, u64::MAX)
    }

    /// Sets the metadata, and gives the file its name.
    ///
    /// # Errors
    /// Where the bytes that came are not as many as the entry says, where the file can't be completed, or where something
    /// has come to be at its name that isn't to be overwritten.
    pub fn finish(mut self) -> Result<()> {
        self.complete().map_err(|error| self.shared.failed("writing", &self.path, error))?;
        match self.temporary.take() {
            Some(temporary) => temporary.commit(&self.part, &self.path),
            None => Ok(()),
        }
    }

    fn complete(&self) -> io::Result<()> {
        if self.entry.kind == Kind::File && self.position != self.entry.size {
            let (came, size) = (self.position, self.entry.size);
            return Err(io::Error::other(format!("{came} bytes came, and the entry says {size}")));
        }
        if self.written < self.position {
            self.file.set_len(self.position)?;
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
