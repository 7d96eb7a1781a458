//! Streams into chunks, and chunks into runs of the recipe or new segments.

use std::collections::HashMap;

use super::bases::{Arrival, BaseCache, Bases, bound_small};
use super::parent::{ParentCursor, Predicted};
use super::parent_recipe::ParentStream;
use super::pending::PendingSegment;
use super::pipeline::{NEW, Pipeline, Placed, Stored};
use super::precompressed::precompression;
use super::sharing::Sharing;
use super::start::Start;
use crate::chunker::Chunker;
use crate::entry::Entry;
use crate::error::Result;
use crate::format::recipe::{Run, Stream, push_run};
use crate::id::{ChunkId, Hasher, StreamHash};
use crate::index::{ChunkIndex, ChunkLocation};
use crate::progress::{Counter, Interrupt, Progress};
use crate::repository::{self, Repository};
use crate::source::Source;
use crate::warning::WarningKind;

/// Bytes that are asked of a source at once.
const READ: usize = 1 << 20;
/// Plain bytes at which a segment is full.
const SEGMENT: usize = 1 << 20;
/// Bytes of the stream over which the chunks of one segment may be spread. Its bases span about as many, and a restore
/// holds their decoded bytes until then.
const SPAN: u64 = 32 << 20;

/// The chunker and all that it asks.
pub(super) struct Chunking<'a> {
    repository: &'a Repository,
    start: &'a Start<'a>,
    chunker: Chunker,
    known: ChunkIndex,
    sharing: Sharing,
    pipeline: Pipeline,
    bases: Bases,
    /// Where in the stream the segment's first chunk stands, in bytes.
    span: Option<u64>,
    /// Chunks of this run whose pack has no number yet: the segment's ordinal and the chunk's number in it.
    pending: HashMap<ChunkId, (u32, u32)>,
    segment: PendingSegment,
    buffer: Vec<u8>,
    new: u64,
    packed: Option<&'static str>,
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
}

/// The stream so far.
struct StreamPosition {
    /// Whether it is small enough to share segments with others.
    small: bool,
    runs: Vec<Run>,
    /// Bytes so far.
    size: u64,
}

/// The unread part of a stream: `buffer[from..to]`.
#[derive(Default)]
struct Window {
    from: usize,
    to: usize,
    end: bool,
}

impl<'a> Chunking<'a> {
    pub fn new(
        repository: &'a Repository,
        start: &'a Start<'a>,
        pipeline: Pipeline,
        bases: Bases,
        progress: &'a dyn Progress,
        interrupt: &'a Interrupt,
    ) -> Result<Self> {
        let chunker = repository.keys().chunker();
        Ok(Self {
            repository,
            start,
            known: ChunkIndex::open(&repository.index())?,
            sharing: Sharing::default(),
            buffer: vec![0; READ + chunker.max()],
            chunker,
            pipeline,
            bases,
            span: None,
            pending: HashMap::new(),
            segment: PendingSegment::default(),
            new: 0,
            packed: None,
            progress,
            interrupt,
        })
    }

    /// The format of the stream that was read last, if it can't be made smaller.
    pub fn take_packed(&mut self) -> Option<&'static str> {
        self.packed.take()
    }

    /// Whether an unchanged stream may be taken over without being read.
    pub fn may_keep(&self, parent: &Stream) -> bool {
        self.start.accepts_all(parent)
    }

    /// A stream of the snapshot before is taken over whole.
    pub fn keep(&mut self, parent: &ParentStream) {
        self.bases.clones().into_iter().for_each(|clones| clones.keep(&parent.stream.entry));
        self.cached(|cache| cache.keep(parent.ordinals()));
    }

    /// Tells the cache of the new recipe's next chunks. A cache that can't be written is closed.
    fn cached(&mut self, tell: impl FnOnce(&mut BaseCache) -> std::io::Result<()>) {
        if let Some(Err(error)) = self.bases.cache().map(tell) {
            let text = format!("the base cache can't be written, so the next backup is larger: {error}");
            let why = WarningKind::BaseCache.warning(text);
            self.progress.warn(&why);
            self.bases.give_up_cache(why);
        }
    }

    /// Reads the source's current stream to its end.
    pub fn stream(&mut self, source: &mut dyn Source, entry: &Entry, parent: Option<&ParentStream>) -> Result<Stream> {
        let position = self.bases.cache().map(|cache| cache.position());
        self.bases.file_begins(source, entry);
        let result = self.read_stream(source, parent);
        if result.is_err()
            && let Some(position) = position
        {
            self.cached(|cache| cache.forget_from(position));
            self.bases.clones().into_iter().for_each(|clones| clones.forget(entry));
        }
        result
    }

    fn read_stream(&mut self, source: &mut dyn Source, parent: Option<&ParentStream>) -> Result<Stream> {
        let small = parent.is_none_or(|parent| parent.stream.entry.size < SEGMENT as u64);
        // A large stream shares no segment: its neighbours' bases would have to be decoded with it.
        if !small {
            self.flush()?;
        }
        self.bases.stream_begins(self.repository, self.start, parent)?;
        let mut parent = ParentCursor::new(self.repository, parent.cloned());
        let mut hasher = self.repository.keys().stream_hashes.hasher();
        let mut place = StreamPosition { small, runs: Vec::new(), size: 0 };
        let mut window = Window::default();
        self.span = None;
        self.packed = None;
        loop {
            self.fill(source, &mut window, &mut hasher)?;
            if place.size == 0 {
                self.packed = precompression(&self.buffer[window.from..window.to]);
            }
            if window.from == window.to {
                break;
            }
            let length = self.chunk(&window, &mut parent, &mut place)?;
            window.from += length;
            place.size += length as u64;
            self.progress.add(Counter::Bytes, length as u64);
        }
        let end = parent.count();
        self.bases.gap_ends(self.repository, &mut parent, end, &mut self.segment)?;
        if place.size >= SEGMENT as u64 {
            self.flush()?;
        }
        let entry = source.end()?;
        let hash = Some(StreamHash::from_bytes(hasher.finish()));
        Ok(Stream { entry: Entry { size: place.size, ..entry }, hash, runs: place.runs, order: 0 })
    }

    /// Reads on until a whole chunk is in the window, or the stream ends.
    fn fill(&mut self, source: &mut dyn Source, window: &mut Window, hasher: &mut Hasher) -> Result<()> {
        if window.to - window.from >= self.chunker.max() || window.end {
            return Ok(());
        }
        self.buffer.copy_within(window.from..window.to, 0);
        *window = Window { from: 0, to: window.to - window.from, end: false };
        while window.to < self.chunker.max() && !window.end {
            if self.interrupt.is_set() {
                return Err(repository::Error::Interrupted.into());
            }
            let read = source.read(&mut self.buffer[window.to..])?;
            self.progress.add(Counter::BytesRead, read as u64);
            hasher.update(&self.buffer[window.to..window.to + read]);
            window.to += read;
            window.end = read == 0;
        }
        Ok(())
    }

    /// Takes the window's first chunk. Returns its length.
    fn chunk(&mut self, window: &Window, parent: &mut ParentCursor<'_>, place: &mut StreamPosition) -> Result<usize> {
        let data = &self.buffer[window.from..window.to];
        if let Some(predicted) = parent.peek()? {
            let length = predicted.length as usize;
            // The end of the parent's stream cut its last chunk: it stands for one of ours only where ours ends there, too.
            let ends = window.end && data.len() == length;
            let cut = if predicted.last { ends } else { self.chunker.cuts_again(data, length) };
            if cut && self.repository.keys().chunk_ids.id(&data[..length]) == predicted.id {
                parent.step();
                self.matched(&predicted, window.from, parent, place)?;
                return Ok(length);
            }
        }
        let length = self.chunker.cut(&data[..data.len().min(self.chunker.max())]);
        let id = self.repository.keys().chunk_ids.id(&data[..length]);
        if let Some(predicted) = parent.catch_up(&id)? {
            self.matched(&predicted, window.from, parent, place)?;
        } else if let Some(run) = self.find(&id)? {
            match parent.jump_behind(run) {
                Some(number) => self.bases.gap_ends(self.repository, parent, number, &mut self.segment)?,
                None => self.bases.gap_steps_over(self.repository, parent, length as u64, &mut self.segment)?,
            }
            push_run(&mut place.runs, run);
            self.cache_chunk(window.from..window.from + length, Arrival::Known);
        } else {
            self.store(&id, window.from, length, parent, place)?;
            let arrival = if parent.count() > 0 { Arrival::Changed } else { Arrival::New };
            self.cache_chunk(window.from..window.from + length, arrival);
        }
        Ok(length)
    }

    /// The chunk at `from` is the parent's.
    fn matched(
        &mut self,
        predicted: &Predicted,
        from: usize,
        parent: &mut ParentCursor<'_>,
        place: &mut StreamPosition,
    ) -> Result<()> {
        self.bases.gap_ends(self.repository, parent, predicted.number, &mut self.segment)?;
        let length = predicted.length as usize;
        if !self.start.accepts(&predicted.run) {
            match self.find(&predicted.id)? {
                Some(run) => push_run(&mut place.runs, run),
                None => self.store(&predicted.id, from, length, parent, place)?,
            }
        } else {
            push_run(&mut place.runs, predicted.run);
        }
        self.cache_chunk(from..from + length, Arrival::Matched(predicted.ordinal));
        Ok(())
    }

    /// Tells the cache of the new recipe's next chunk.
    fn cache_chunk(&mut self, chunk: std::ops::Range<usize>, arrival: Arrival) {
        let (cloned, packed) = (self.bases.is_cloned(), self.packed.is_some());
        let buffer = std::mem::take(&mut self.buffer);
        let chunk = &buffer[chunk];
        self.cached(|cache| match (cloned, packed) {
            (true, _) => cache.pass_elsewhere(),
            (_, true) => cache.pass_useless(chunk.len() as u32),
            _ => cache.add(chunk, arrival),
        });
        self.buffer = buffer;
    }

    /// Where a chunk lies that isn't in the parent's stream near by.
    fn find(&mut self, id: &ChunkId) -> Result<Option<Run>> {
        if let Some(&(segment, first)) = self.pending.get(id) {
            return Ok(Some(Run { pack: NEW, segment, first, count: 1 }));
        }
        let Some(ChunkLocation { pack, segment, chunk }) = self.known.find(id) else { return Ok(None) };
        let run = Run { pack, segment, first: chunk, count: 1 };
        if !self.pipeline.is_own(pack) && !self.sharing.may(self.repository, self.start, &run)? {
            return Ok(None);
        }
        let directory = self.repository.index().directory(pack)?;
        let really = directory.is_some_and(|directory| {
            directory.run_range(segment, chunk, 1).is_some_and(|range| directory.ids[range.start] == *id)
        });
        Ok(really.then_some(run))
    }

    /// Puts a new chunk into the segment that is being filled.
    fn store(
        &mut self,
        id: &ChunkId,
        from: usize,
        length: usize,
        parent: &mut ParentCursor<'_>,
        place: &mut StreamPosition,
    ) -> Result<()> {
        let wide = self.span.is_some_and(|span| place.size - span > SPAN);
        if self.segment.is_full(length, SEGMENT) || wide {
            self.bases.segment_ends(self.repository, parent, &mut self.segment)?;
            self.flush()?;
            self.span = None;
        }
        self.span.get_or_insert(place.size);
        let (segment, first) = (self.pipeline.ordinal(), self.segment.ids.len() as u32);
        self.segment.push(*id, &self.buffer[from..from + length]);
        self.segment.small |= place.small;
        self.bases.new_chunk(parent, length as u64, &mut self.segment);
        self.pending.insert(*id, (segment, first));
        self.new += length as u64;
        self.progress.add(Counter::BytesNew, length as u64);
        push_run(&mut place.runs, Run { pack: NEW, segment, first, count: 1 });
        Ok(())
    }

    /// Sends the segment on its way, where anything is in it.
    fn flush(&mut self) -> Result<()> {
        if self.segment.ids.is_empty() {
            return Ok(());
        }
        let next = self.pipeline.buffers();
        let mut full = std::mem::replace(&mut self.segment, next);
        self.bases.improve(self.repository, self.start, &mut full)?;
        bound_small(self.repository, &mut full)?;
        self.pipeline.push(full)?;
        while let Some(placed) = self.pipeline.placed() {
            self.settle(&placed)?;
        }
        Ok(())
    }

    /// Chunks of a pack that has its number now are known by it.
    fn settle(&mut self, placed: &Placed) -> Result<()> {
        self.progress.add(Counter::BytesStored, placed.size);
        self.progress.add(Counter::Packs, 1);
        let directory = self.repository.index().directory(placed.number)?;
        let Some(directory) = directory else { return Ok(()) };
        for (segment, entry) in directory.segments.iter().enumerate() {
            let ids = &directory.ids[entry.first_chunk as usize..][..entry.chunks as usize];
            for (chunk, id) in ids.iter().enumerate() {
                self.pending.remove(id);
                let found = ChunkLocation { pack: placed.number, segment: segment as u32, chunk: chunk as u32 };
                self.known.add(id, found)?;
            }
        }
        Ok(())
    }

    /// Sends the last segment on its way and waits until all but the last pack are in place.
    pub fn finish(mut self) -> Result<Stored> {
        self.flush()?;
        let stored = self.pipeline.finish()?;
        let (cache, clones, warnings) = self.bases.finish();
        Ok(Stored { known: Some(self.known), cache, clones, new: self.new, warnings, ..stored })
    }
}
