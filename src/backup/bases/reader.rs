//! The bytes of bases, from where they can be had: the files that streams of the snapshot before were read from, as long as
//! they are kept, then copies of such files that share their blocks, then the base cache. Whatever gives them, each chunk is hashed before it is used.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::cache::{BaseCache, CacheSlot};
use super::clones::Clones;
use crate::backup::PreviousFile;
use crate::backup::parent_recipe::ParentStream;
use crate::entry::StreamName;
use crate::format::pack::BaseRun;
use crate::id::ChunkId;
use crate::repository::Repository;
use crate::source::open_plain;

/// A chunk of the previous snapshot that a segment is to be based on.
#[derive(Debug, Clone, Copy)]
pub(in crate::backup) struct BaseChunk {
    pub id: ChunkId,
    pub length: u32,
    /// The index's number of its pack, and where it lies there.
    pub pack: u32,
    pub run: BaseRun,
    /// The depth of a segment based on it.
    pub depth: u32,
    /// How many bytes of its stream come before it, where a file of that stream is there.
    pub offset: Option<u64>,
    /// Where the cache has it.
    pub slot: Option<CacheSlot>,
}

/// Reads bases.
pub(in crate::backup) struct BaseReader {
    previous: HashMap<StreamName, PreviousFile>,
    /// The stream that was asked for last, by its number, and its files in the order in which they are tried, each with the
    /// place in it where the stream begins.
    current: Option<(u64, Vec<(File, u64)>)>,
    missed: bool,
}

impl BaseReader {
    pub fn new(previous: HashMap<StreamName, PreviousFile>) -> Self {
        Self { previous, current: None, missed: false }
    }

    /// Whether a file of that stream is there: the previous one or its copy in the state folder.
    pub fn has_file(&mut self, parent: &ParentStream, clones: Option<&Clones>) -> bool {
        let (number, stream) = (parent.number, &parent.stream);
        if self.current.as_ref().is_none_or(|(current, _)| *current != number) {
            let previous = self.previous.get(&stream.entry.name).cloned();
            let clone = clones.and_then(|clones| clones.path(&stream.entry));
            let clone = clone.map(|path| PreviousFile { path, offset: 0 });
            let open = |file: PreviousFile| Some((open_plain(&file.path).ok()?.0, file.offset));
            self.current = Some((number, previous.into_iter().chain(clone).filter_map(open).collect()));
        }
        self.current.as_ref().is_some_and(|(_, files)| !files.is_empty())
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
    pub fn read(
        &mut self,
        repository: &Repository,
        base: &BaseChunk,
        cache: Option<&mut BaseCache>,
        out: &mut Vec<u8>,
    ) -> bool {
        let start = out.len();
        out.resize(start + base.length as usize, 0);
        let is_it = |bytes: &[u8]| repository.keys().chunk_ids.id(bytes) == base.id;
        if let (Some(at), Some((_, files))) = (base.offset, &self.current) {
            for (file, offset) in files {
                if file.read_exact_at(&mut out[start..], offset.saturating_add(at)).is_ok() && is_it(&out[start..]) {
                    return true;
                }
            }
        }
        if let (Some(cache), Some(slot)) = (cache, base.slot) {
            if cache.read(slot, &mut out[start..]) && is_it(&out[start..]) {
                return true;
            }
            cache.distrust();
        }
        out.truncate(start);
        self.miss();
        false
    }
}
