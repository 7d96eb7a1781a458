//! Streams into chunks, and chunks into runs of the recipe or new segments.

use std::collections::HashMap;

use super::parent::Parent;
use super::pipeline::{NEW, Pipeline, Placed, Segment, Stored};
use super::start::Start;
use crate::chunker::Chunker;
use crate::entry::Entry;
use crate::error::Result;
use crate::format::recipe::{Run, Stream, push_run};
use crate::id::{ChunkId, StreamHash};
use crate::index::{Found, Known};
use crate::progress::{Counter, Interrupt, Progress};
use crate::repository::{self, Repository};
use crate::source::Source;

/// Bytes that are asked of a source at once.
const READ: usize = 1 << 20;
/// Plain bytes at which a segment is full.
const SEGMENT: usize = 1 << 20;

/// The chunker and all that it asks.
pub(super) struct Chunking<'a> {
    repository: &'a Repository,
    start: &'a Start,
    chunker: Chunker,
    known: Known,
    pipeline: Pipeline,
    /// Chunks of this run whose pack has no number yet: the segment's ordinal and the chunk's number in it.
    pending: HashMap<ChunkId, (u32, u32)>,
    segment: Segment,
    buffer: Vec<u8>,
    new: u64,
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
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
        start: &'a Start,
        pipeline: Pipeline,
        progress: &'a dyn Progress,
        interrupt: &'a Interrupt,
    ) -> Result<Self> {
        let chunker = repository.keys().chunker();
        Ok(Self {
            repository,
            start,
            known: Known::open(&repository.index()).map_err(repository::Error::from)?,
            buffer: vec![0; READ + chunker.max()],
            chunker,
            pipeline,
            pending: HashMap::new(),
            segment: Segment::default(),
            new: 0,
            progress,
            interrupt,
        })
    }

    /// Reads the source's current stream to its end.
    pub fn stream(&mut self, source: &mut dyn Source, parent: Option<&Stream>) -> Result<Stream> {
        let mut parent = Parent::new(self.repository, self.start, parent);
        let mut hasher = self.repository.keys().stream_hashes.hasher();
        let mut runs = Vec::new();
        let mut window = Window::default();
        let mut size = 0;
        loop {
            self.fill(source, &mut window)?;
            if window.from == window.to {
                break;
            }
            let length = self.chunk(&window, &mut parent, &mut runs)?;
            hasher.update(&self.buffer[window.from..window.from + length]);
            window.from += length;
            size += length as u64;
            self.progress.add(Counter::Bytes, length as u64);
        }
        let entry = source.end()?;
        let hash = Some(StreamHash::from_bytes(hasher.finish()));
        Ok(Stream { entry: Entry { size, ..entry }, hash, runs })
    }

    /// Reads on until a whole chunk is in the window, or the stream ends.
    fn fill(&mut self, source: &mut dyn Source, window: &mut Window) -> Result<()> {
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
            window.to += read;
            window.end = read == 0;
        }
        Ok(())
    }

    /// Takes the window's first chunk. Returns its length.
    fn chunk(&mut self, window: &Window, parent: &mut Parent<'_>, runs: &mut Vec<Run>) -> Result<usize> {
        let data = &self.buffer[window.from..window.to];
        if let Some(predicted) = parent.peek()? {
            let length = predicted.length as usize;
            // The end of the parent's stream cut its last chunk: it stands for one of ours only where ours ends there, too.
            let whole = !predicted.last || (window.end && data.len() == length);
            if whole && data.len() >= length && self.repository.keys().chunk_ids.id(&data[..length]) == predicted.id {
                parent.step();
                push_run(runs, predicted.run);
                return Ok(length);
            }
        }
        let length = self.chunker.cut(&data[..data.len().min(self.chunker.max())]);
        let id = self.repository.keys().chunk_ids.id(&data[..length]);
        let run = match parent.catch_up(&id)? {
            Some(run) => run,
            None => match self.find(&id)? {
                Some(run) => {
                    parent.jump_behind(run);
                    run
                }
                None => self.add(&id, window.from, length)?,
            },
        };
        push_run(runs, run);
        Ok(length)
    }

    /// Where a chunk lies that isn't in the parent's stream near by.
    fn find(&self, id: &ChunkId) -> Result<Option<Run>> {
        if let Some(&(segment, first)) = self.pending.get(id) {
            return Ok(Some(Run { pack: NEW, segment, first, count: 1 }));
        }
        let Some(Found { pack, segment, chunk }) = self.known.find(id) else { return Ok(None) };
        if !self.start.shared.contains(&pack) && !self.pipeline.is_own(pack) {
            return Ok(None);
        }
        let directory = self.repository.index().directory(pack).map_err(repository::Error::from)?;
        let really = directory.is_some_and(|directory| {
            directory.run_range(segment, chunk, 1).is_some_and(|range| directory.ids[range.start] == *id)
        });
        Ok(really.then_some(Run { pack, segment, first: chunk, count: 1 }))
    }

    /// Puts a new chunk into the segment that is being filled.
    fn add(&mut self, id: &ChunkId, from: usize, length: usize) -> Result<Run> {
        if self.segment.is_full(length, SEGMENT) {
            self.flush()?;
        }
        let (segment, first) = (self.pipeline.ordinal(), self.segment.ids.len() as u32);
        self.segment.push(*id, &self.buffer[from..from + length]);
        self.pending.insert(*id, (segment, first));
        self.new += length as u64;
        self.progress.add(Counter::BytesNew, length as u64);
        Ok(Run { pack: NEW, segment, first, count: 1 })
    }

    fn flush(&mut self) -> Result<()> {
        let next = self.pipeline.buffers();
        let full = std::mem::replace(&mut self.segment, next);
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
        let directory = self.repository.index().directory(placed.number).map_err(repository::Error::from)?;
        let Some(directory) = directory else { return Ok(()) };
        for (segment, entry) in directory.segments.iter().enumerate() {
            let ids = &directory.ids[entry.first_chunk as usize..][..entry.chunks as usize];
            for (chunk, id) in ids.iter().enumerate() {
                self.pending.remove(id);
                let found = Found { pack: placed.number, segment: segment as u32, chunk: chunk as u32 };
                self.known.add(id, found).map_err(repository::Error::from)?;
            }
        }
        Ok(())
    }

    /// Sends the last segment on its way and waits until all but the last pack are in place.
    pub fn finish(mut self) -> Result<Stored> {
        if !self.segment.ids.is_empty() {
            let last = std::mem::take(&mut self.segment);
            self.pipeline.push(last)?;
        }
        let stored = self.pipeline.finish()?;
        Ok(Stored { known: Some(self.known), new: self.new, ..stored })
    }
}
