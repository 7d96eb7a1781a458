//! Random access to the bytes of one stream.
//!
//! [`Repository::layers`] opens a snapshot, [`Layers::find`](super::Layers::find) looks a path up, and
//! [`Layers::below`](super::Layers::below) lists what is at and below one; [`StreamReader`] reads any range of what was found. A
//! restore wants streams whole and in their order, which [`Fetcher`] does ahead of need.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{ChunkRun, Error, Fetcher, Repository, Result};
use crate::format::recipe::{PackRef, Stream};

/// Bytes of decoded pieces that are kept.
const KEPT: usize = 16 << 20;

/// Reads ranges of a stream. In memory are its runs and some megabytes of what was decoded last.
pub struct StreamReader {
    repository: Arc<Repository>,
    /// The pieces that the stream is made of, each with the bytes before it.
    pieces: Vec<(u64, ChunkRun)>,
    size: u64,
    /// Decoded pieces by their number, the one that was used last at the end.
    kept: VecDeque<(usize, Arc<Vec<u8>>)>,
}

impl StreamReader {
    /// A reader of a stream whose runs name packs of `table`.
    ///
    /// # Errors
    ///
    /// Where a pack of it can't be had, or its runs don't make its size.
    pub fn open(repository: &Arc<Repository>, table: &[PackRef], stream: &Stream) -> Result<Self> {
        let damaged = |why: &str| Error::Damaged(format!("{} can't be read: {why}", stream.entry.name));
        let mut pieces = Vec::with_capacity(stream.runs.len());
        let mut size = 0;
        for run in &stream.runs {
            let pack = table.get(run.pack as usize).ok_or_else(|| damaged("its recipe lacks a pack that it names"))?;
            let row = repository.enter_packs(std::iter::once(pack.id), table, None)?.pop();
            let row = row.ok_or_else(|| damaged("a pack of it is missing"))?.map_err(|why| damaged(&why))?;
            let directory = repository.index().directory(row.number)?;
            let directory = directory.ok_or_else(|| damaged("the index lost a pack of it"))?;
            let range = directory.run_range(run.segment, run.first, run.count);
            let range = range.ok_or_else(|| damaged("it names chunks that its pack lacks"))?;
            pieces
                .push((size, ChunkRun { pack: row.number, segment: run.segment, first: run.first, count: run.count }));
            size += directory.lengths[range].iter().map(|&length| u64::from(length)).sum::<u64>();
        }
        match size == stream.entry.size {
            true => Ok(Self { repository: repository.clone(), pieces, size, kept: VecDeque::new() }),
            false => Err(damaged("its chunks don't make its size")),
        }
    }

    /// Bytes of the stream.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buffer` with the bytes from `offset` on. Returns how many there are, less than it holds at the stream's end only.
    pub fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset.saturating_add(filled as u64);
            if at >= self.size {
                break;
            }
            let number = self.pieces.partition_point(|(start, _)| *start <= at).saturating_sub(1);
            let piece = self.piece(number)?;
            let into = (at - self.pieces[number].0) as usize;
            let Some(bytes) = piece.get(into..).filter(|bytes| !bytes.is_empty()) else {
                return Err(Error::Damaged("a piece of a stream is shorter than its pack's directory says".to_owned()));
            };
            let length = bytes.len().min(buffer.len() - filled);
            buffer[filled..filled + length].copy_from_slice(&bytes[..length]);
            filled += length;
        }
        Ok(filled)
    }

    fn piece(&mut self, number: usize) -> Result<Arc<Vec<u8>>> {
        let bytes = match self.kept.iter().position(|(kept, _)| *kept == number) {
            Some(at) => self.kept.remove(at).map(|(_, bytes)| bytes),
            None => None,
        };
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => {
                let (_, piece) = &self.pieces[number];
                let fetcher = Fetcher::start(&self.repository, std::iter::once(*piece))?;
                Arc::new(fetcher.take(piece)?.as_bytes().to_vec())
            }
        };
        self.kept.push_back((number, bytes.clone()));
        let mut held: usize = self.kept.iter().map(|(_, bytes)| bytes.len()).sum();
        while held > KEPT && self.kept.len() > 1 {
            held -= self.kept.pop_front().map_or(0, |(_, bytes)| bytes.len());
        }
        Ok(bytes)
    }
}
