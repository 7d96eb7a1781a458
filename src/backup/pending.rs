//! The segment that chunks are gathered in until it is full.

use super::bases::reader::BaseChunk;
use crate::format::pack::BaseRun;
use crate::id::ChunkId;

/// Chunks that wait to be compressed together.
#[derive(Default)]
pub(super) struct PendingSegment {
    pub plain: Vec<u8>,
    pub ids: Vec<ChunkId>,
    pub lengths: Vec<u32>,
    /// The plain bytes of its bases.
    pub prefix: Vec<u8>,
    /// Its bases, each with the index's number of its pack.
    pub bases: Vec<(u32, BaseRun)>,
    /// Its depth, should it keep its bases.
    pub depth: u32,
    /// Whether it holds chunks of a small stream.
    pub small: bool,
    /// Whether it holds chunks that are to be stored plain.
    pub stored_full: bool,
    /// Whether some of its bases were guessed, and aren't like it.
    pub guessed: bool,
}

/// The bases of a segment at some time.
pub(super) struct BasesMark {
    /// Bytes of their prefix.
    prefix: usize,
    bases: Vec<(u32, BaseRun)>,
    depth: u32,
}

impl PendingSegment {
    /// Most chunks of a segment; small files reach it before its bytes do.
    const MAX_CHUNKS: usize = 16_384;

    /// Whether a chunk of `length` bytes must go into the next one.
    pub fn is_full(&self, length: usize, limit: usize) -> bool {
        let over = self.plain.len() + length > limit || self.ids.len() >= Self::MAX_CHUNKS;
        !self.ids.is_empty() && over
    }

    pub fn push(&mut self, id: ChunkId, chunk: &[u8]) {
        self.plain.extend_from_slice(chunk);
        self.ids.push(id);
        self.lengths.push(chunk.len() as u32);
    }

    /// It is to stand on that chunk, too, whose bytes are behind those in `prefix`.
    pub fn add_base(&mut self, base: &BaseChunk) {
        self.depth = self.depth.max(base.depth);
        let run = base.run;
        match self.bases.last_mut() {
            Some((pack, last))
                if (*pack, last.segment, last.first + last.count) == (base.pack, run.segment, run.first) =>
            {
                last.count += 1;
            }
            _ => self.bases.push((base.pack, run)),
        }
    }

    /// The bases that it has by now.
    pub fn mark(&self) -> BasesMark {
        BasesMark { prefix: self.prefix.len(), bases: self.bases.clone(), depth: self.depth }
    }

    /// It is to have the bases of `mark` alone.
    pub fn back_to(&mut self, mark: BasesMark) {
        self.prefix.truncate(mark.prefix);
        (self.bases, self.depth) = (mark.bases, mark.depth);
    }

    /// It is to be compressed alone.
    pub fn drop_bases(&mut self) {
        self.prefix.clear();
        self.bases.clear();
        self.depth = 0;
    }

    pub fn clear(mut self) -> Self {
        self.plain.clear();
        self.ids.clear();
        self.lengths.clear();
        self.drop_bases();
        (self.small, self.stored_full, self.guessed) = (false, false, false);
        self
    }
}
