//! The bytes of bases, from where they can be had: the files that streams of the snapshot before were read from, as long as
//! they are kept, then the base cache. Whatever gives them, each chunk is hashed before it is used.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::cache::{Slot, Slots};
use crate::backup::start::Start;
use crate::entry::StreamName;
use crate::format::pack::BaseRun;
use crate::id::ChunkId;
use crate::repository::Repository;

/// A chunk of the snapshot before that a segment is to stand on.
#[derive(Debug, Clone, Copy)]
pub(in crate::backup) struct Base {
    pub id: ChunkId,
    pub length: u32,
    /// The index's number of its pack, and where it lies there.
    pub pack: u32,
    pub run: BaseRun,
    /// The depth of a segment that stands on it.
    pub depth: u32,
    /// The stream that has it, by its number in the recipe before, and how many bytes of the stream come before it.
    pub place: Option<(usize, u64)>,
    /// Where the cache has it.
    pub slot: Slot,
}

/// Reads bases.
pub(in crate::backup) struct BaseReader {
    /// Files by the stream's number.
    files: HashMap<usize, File>,
    slots: Option<Arc<Slots>>,
    missed: bool,
}

impl BaseReader {
    pub fn new(start: &Start, previous: &HashMap<StreamName, PathBuf>, slots: Option<Arc<Slots>>) -> Self {
        let (mut files, mut missed) = (HashMap::new(), false);
        for (name, path) in previous {
            let Some((number, _)) = start.parent_stream(name) else { continue };
            // A file that is gone is no loss where the cache has its chunks.
            match File::open(path) {
                Ok(file) => drop(files.insert(number, file)),
                Err(_) => missed |= slots.is_none(),
            }
        }
        Self { files, slots, missed }
    }

    /// Whether a file of that stream is there.
    pub fn has_file(&self, stream: usize) -> bool {
        self.files.contains_key(&stream)
    }

    /// Whether any file is there.
    pub fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// Whether a chunk that should be there couldn't be had.
    pub fn has_missed(&self) -> bool {
        self.missed
    }

    /// A chunk that should be there couldn't be had.
    pub fn miss(&mut self) {
        self.missed = true;
    }

    /// Adds the chunk's bytes to `out`. False where nobody has them.
    pub fn read(&mut self, repository: &Repository, base: &Base, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        out.resize(start + base.length as usize, 0);
        let is_it = |bytes: &[u8]| repository.keys().chunk_ids.id(bytes) == base.id;
        let file = base.place.and_then(|(stream, at)| Some((self.files.get(&stream)?, at)));
        if let Some((file, at)) = file
            && file.read_exact_at(&mut out[start..], at).is_ok()
            && is_it(&out[start..])
        {
            return true;
        }
        if let Some(slots) = self.slots.as_ref().filter(|_| !base.slot.is_none()) {
            if slots.read(base.slot, &mut out[start..]).is_ok() && is_it(&out[start..]) {
                return true;
            }
            slots.distrust();
        }
        out.truncate(start);
        self.miss();
        false
    }
}
