//! Prediction by a parent's chunks: the next chunks of a stream, and where it has caught up with its parent again.

use std::cell::OnceCell;
use std::collections::VecDeque;

use super::parent_recipe::ParentStream;
use crate::error::Result;
use crate::format::recipe::Run;
use crate::id::ChunkId;
use crate::repository::Repository;

/// How many of the parent's next chunks are compared to resynchronise.
const AHEAD: usize = 64;

/// A chunk of the parent's stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Predicted {
    pub id: ChunkId,
    pub length: u32,
    /// Where it lies, as a run of one chunk, with the index's number of its pack.
    pub run: Run,
    /// Its number in the stream.
    pub number: u64,
    /// Its number among all chunks of the parent's recipe.
    pub ordinal: u64,
    /// Whether the end of the parent's stream cut it.
    pub last: bool,
}

/// A cursor through the chunks of a parent's stream.
pub(super) struct ParentCursor<'a> {
    repository: &'a Repository,
    stream: Option<ParentStream>,
    /// The number of the first chunk of each run, and the number of all.
    starts: Vec<u64>,
    /// Runs in the order of their locations, by their numbers in `runs`.
    by_location: Vec<u32>,
    /// How many bytes of the stream come before each run. Made when it is first needed.
    offsets: OnceCell<Vec<u64>>,
    /// The next chunk that is not in `ahead`.
    next: u64,
    ahead: VecDeque<Predicted>,
}

impl<'a> ParentCursor<'a> {
    /// A cursor before the first chunk of `stream`, by its number in the recipe before. Without a stream it predicts nothing.
    pub fn new(repository: &'a Repository, stream: Option<ParentStream>) -> Self {
        let runs = stream.as_ref().map_or(&[][..], |parent| &parent.stream.runs);
        let mut starts = Vec::with_capacity(runs.len() + 1);
        let mut count = 0;
        starts.push(count);
        for run in runs {
            count += u64::from(run.count);
            starts.push(count);
        }
        let mut by_location: Vec<u32> = (0..runs.len() as u32).collect();
        by_location.sort_unstable_by_key(|&number| location(&runs[number as usize]));
        let offsets = OnceCell::new();
        Self { repository, stream, starts, by_location, offsets, next: 0, ahead: VecDeque::new() }
    }

    /// The stream.
    pub fn stream(&self) -> Option<&ParentStream> {
        self.stream.as_ref()
    }

    fn runs(&self) -> &[Run] {
        self.stream.as_ref().map_or(&[], |parent| &parent.stream.runs)
    }

    /// How many bytes of the stream come before the chunk of that number.
    pub fn offset(&self, number: u64) -> u64 {
        let bytes = |run: Run, count: u32| {
            let directory = self.repository.index().directory(run.pack).ok().flatten();
            let range = directory.as_ref().and_then(|directory| directory.run_range(run.segment, run.first, count));
            let lengths = directory.iter().zip(range).flat_map(|(directory, range)| &directory.lengths[range]);
            lengths.map(|&length| u64::from(length)).sum::<u64>()
        };
        let offsets = self.offsets.get_or_init(|| {
            let before = self.runs().iter().scan(0, |offset, &run| {
                let before = *offset;
                *offset += bytes(run, run.count);
                Some(before)
            });
            before.collect()
        });
        let Some(at) = self.starts.partition_point(|&start| start <= number).checked_sub(1) else { return 0 };
        // With a broken directory the offset is wrong, and the check of the chunk id rejects the bytes.
        match (self.runs().get(at), offsets.get(at)) {
            (Some(&run), Some(&offset)) => offset + bytes(run, (number - self.starts[at]) as u32),
            _ => 0,
        }
    }

    /// How many chunks the stream has.
    pub fn count(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The number of the next chunk.
    pub fn position(&self) -> u64 {
        self.next - self.ahead.len() as u64
    }

    /// The next chunk, where the parent has one.
    pub fn peek(&mut self) -> Result<Option<Predicted>> {
        self.fill(1)?;
        Ok(self.ahead.front().copied())
    }

    /// Steps over the next chunk.
    pub fn step(&mut self) {
        self.ahead.pop_front();
    }

    /// Looks for `id` among the next chunks, and steps behind it where it is there.
    pub fn catch_up(&mut self, id: &ChunkId) -> Result<Option<Predicted>> {
        self.fill(AHEAD)?;
        let Some(found) = self.ahead.iter().position(|predicted| predicted.id == *id) else { return Ok(None) };
        let predicted = self.ahead[found];
        self.ahead.drain(..=found);
        Ok(Some(predicted))
    }

    /// Goes on behind the chunk that lies at `run`, where the parent's stream has it. Returns its number.
    pub fn jump_behind(&mut self, run: Run) -> Option<u64> {
        let runs = self.runs();
        let after = self.by_location.partition_point(|&number| location(&runs[number as usize]) <= location(&run));
        let number = *self.by_location.get(after.checked_sub(1)?)? as usize;
        let found = runs[number];
        let same = (found.pack, found.segment) == (run.pack, run.segment);
        if !same || run.first >= found.first + found.count {
            return None;
        }
        let number = self.starts[number] + u64::from(run.first - found.first);
        self.ahead.clear();
        self.next = number + 1;
        Some(number)
    }

    /// The chunk of that number.
    pub fn at(&self, number: u64) -> Result<Option<Predicted>> {
        if number >= self.count() {
            return Ok(None);
        }
        let at = self.starts.partition_point(|&start| start <= number) - 1;
        let run = self.runs()[at];
        let directory = self.repository.index().directory(run.pack)?;
        let into = (number - self.starts[at]) as u32;
        let Some(range) = directory.as_ref().and_then(|all| all.run_range(run.segment, run.first + into, 1)) else {
            // The parent's recipe doesn't fit its packs: it predicts nothing here, and verify will say so.
            return Ok(None);
        };
        Ok(directory.map(|directory| Predicted {
            id: directory.ids[range.start],
            length: directory.lengths[range.start],
            run: Run { first: run.first + into, count: 1, ..run },
            number,
            ordinal: self.stream.as_ref().map_or(0, |parent| parent.ordinal) + number,
            last: number + 1 == self.count(),
        }))
    }

    /// The chunk that lies `bytes` behind the start of the chunk `from`, or the end; and how many of them lie behind its start.
    pub fn advance(&self, from: u64, bytes: u64) -> (u64, u64) {
        let (mut number, mut left) = (from, bytes);
        while let Ok(Some(chunk)) = self.at(number) {
            if u64::from(chunk.length) > left {
                break;
            }
            left -= u64::from(chunk.length);
            number += 1;
        }
        (number, left)
    }

    /// A range of chunks, or where it has more than `most` bytes its two ends.
    pub fn ends(&self, range: std::ops::Range<u64>, most: u64) -> Vec<std::ops::Range<u64>> {
        let range = range.start..range.end.min(self.count());
        let head = self.advance(range.start, most / 2).0.min(range.end);
        if head == range.end {
            return vec![range];
        }
        let tail = self.back(head..range.end, most / 2);
        vec![range.start..head, tail..range.end]
    }

    /// The first of those last chunks of a range that have at most so many bytes.
    pub fn back(&self, range: std::ops::Range<u64>, bytes: u64) -> u64 {
        let (mut first, mut left) = (range.end, bytes);
        while first > range.start
            && let Ok(Some(chunk)) = self.at(first - 1)
            && u64::from(chunk.length) <= left
        {
            left -= u64::from(chunk.length);
            first -= 1;
        }
        first
    }

    fn fill(&mut self, wanted: usize) -> Result<()> {
        while self.ahead.len() < wanted {
            let Some(predicted) = self.at(self.next)? else { break };
            self.ahead.push_back(predicted);
            self.next += 1;
        }
        Ok(())
    }
}

fn location(run: &Run) -> (u32, u32, u32) {
    (run.pack, run.segment, run.first)
}
