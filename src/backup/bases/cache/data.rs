//! The data file: chunks, each at the start of a granule, compressed where that pays.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::room::{GRANULE, Room};
use super::table::{CacheFrame, FrameForm};
use crate::disk::erase;
use crate::segment::Decompressor;

/// The granules of its header.
pub(super) const HEADER_GRANULES: u64 = 1;
const MAGIC: &[u8; 8] = b"varubd02";

/// What the data file may hold beside the chunks of the newest snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing.
    Clean = 1,
    /// What a run wrote that wasn't committed, or didn't come to erase.
    Written = 2,
}

/// The data file.
pub(super) struct DataFile {
    file: File,
    /// Whether it holds bytes, for all that is known, that no table names.
    pub was_written: bool,
    decompressor: Decompressor,
    stored: Vec<u8>,
}

impl DataFile {
    /// Opens it, or makes an empty one.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut header = [0; 9];
        let is_clean = file.read_exact_at(&mut header, 0).is_ok()
            && header.strip_prefix(MAGIC.as_slice()) == Some([State::Clean as u8].as_slice());
        Ok(Self { file, was_written: !is_clean, decompressor: Decompressor::new(), stored: Vec::new() })
    }

    /// The file, to be written by another thread.
    pub fn share(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Throws all away.
    pub fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.was_written = false;
        Ok(())
    }

    /// Reads a chunk; `chunk` has its length. Whether these are its bytes is for the caller to find out.
    pub fn read(&mut self, frame: CacheFrame, chunk: &mut [u8]) -> bool {
        if frame.form != FrameForm::Compressed {
            return chunk.len() == frame.stored as usize && self.file.read_exact_at(chunk, frame.at()).is_ok();
        }
        self.stored.resize(frame.stored as usize, 0);
        self.file.read_exact_at(&mut self.stored, frame.at()).is_ok()
            && self.decompressor.decompress_into(&self.stored, chunk).is_ok()
    }

    /// Erases what was taken before and isn't any more: a thief on the machine gets the newest snapshot here, and nothing
    /// older. Chunks of a run that didn't end are erased, too.
    pub fn keep_only(&mut self, live: &Room, before: &Room, has_written: bool) -> io::Result<()> {
        let end = live.last().max(HEADER_GRANULES);
        if self.file.metadata()?.len() > end * GRANULE {
            self.file.set_len(end * GRANULE)?;
        }
        let mut everything = Room::default();
        let before = if self.was_written {
            everything.take(HEADER_GRANULES..end);
            &everything
        } else {
            before
        };
        for range in before.without(live, end).filter(|range| range.start >= HEADER_GRANULES) {
            erase(&self.file, range.start * GRANULE..range.end * GRANULE)?;
        }
        if has_written || self.was_written {
            mark(&self.file, State::Clean)?;
        }
        Ok(())
    }
}

/// From now on chunks are written that no table names yet.
pub(super) fn mark_written(file: &File) -> io::Result<()> {
    mark(file, State::Written)
}

fn mark(file: &File, state: State) -> io::Result<()> {
    let mut header = [0; GRANULE as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8] = state as u8;
    file.write_all_at(&header, 0)
}

/// Bytes that the file takes on its disk.
pub(super) fn room_taken(path: &Path) -> u64 {
    path.metadata().map_or(0, |about| about.blocks() * 512)
}
