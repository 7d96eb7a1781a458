//! The chunks of a parent's stream: what they predict, and where the stream has caught up with them again.

use std::collections::VecDeque;

use super::start::Start;
use crate::error::Result;
use crate::format::recipe::{Run, Stream};
use crate::id::ChunkId;
use crate::repository::{self, Repository};

/// How many of the parent's next chunks are looked at to find the place again.
const AHEAD: usize = 64;

/// A chunk of the parent's stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Predicted {
    pub id: ChunkId,
    pub length: u32,
    /// Where it lies, as a run of one chunk, with the index's number of its pack.
    pub run: Run,
    /// Whether the end of the parent's stream cut it.
    pub last: bool,
}

/// A cursor through the chunks of a parent's stream.
pub(super) struct Parent<'a> {
    repository: &'a Repository,
    runs: Vec<Run>,
    /// Runs in the order of their locations, by their numbers in `runs`.
    by_location: Vec<u32>,
    /// The next chunk that is not in `ahead`: the number of its run, and its number in that run.
    next: (usize, u32),
    ahead: VecDeque<Predicted>,
}

impl<'a> Parent<'a> {
    /// A cursor before the first chunk of `stream`. Without a stream it predicts nothing.
    pub fn new(repository: &'a Repository, start: &Start, stream: Option<&Stream>) -> Self {
        let runs = stream.map(|stream| start.runs_by_index(stream)).unwrap_or_default();
        let mut by_location: Vec<u32> = (0..runs.len() as u32).collect();
        by_location.sort_unstable_by_key(|&number| location(&runs[number as usize]));
        Self { repository, runs, by_location, next: (0, 0), ahead: VecDeque::new() }
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
    pub fn catch_up(&mut self, id: &ChunkId) -> Result<Option<Run>> {
        self.fill(AHEAD)?;
        let Some(found) = self.ahead.iter().position(|predicted| predicted.id == *id) else { return Ok(None) };
        let run = self.ahead[found].run;
        self.ahead.drain(..=found);
        Ok(Some(run))
    }

    /// Goes on behind the chunk that lies at `run`, where the parent's stream has it.
    pub fn jump_behind(&mut self, run: Run) {
        let after = self.by_location.partition_point(|&number| location(&self.runs[number as usize]) <= location(&run));
        let Some(&number) = after.checked_sub(1).and_then(|before| self.by_location.get(before)) else { return };
        let found = self.runs[number as usize];
        let same = (found.pack, found.segment) == (run.pack, run.segment);
        if same && run.first < found.first + found.count {
            self.ahead.clear();
            self.next = (number as usize, run.first - found.first + 1);
        }
    }

    fn fill(&mut self, wanted: usize) -> Result<()> {
        while self.ahead.len() < wanted {
            let Some(&run) = self.runs.get(self.next.0) else { break };
            if self.next.1 >= run.count {
                self.next = (self.next.0 + 1, 0);
                continue;
            }
            self.fill_from(run, wanted)?;
        }
        Ok(())
    }

    fn fill_from(&mut self, run: Run, wanted: usize) -> Result<()> {
        let directory = self.repository.index().directory(run.pack).map_err(repository::Error::from)?;
        let range = directory.as_ref().and_then(|directory| directory.run_range(run.segment, run.first, run.count));
        let (Some(directory), Some(range)) = (directory, range) else {
            // The parent's recipe doesn't fit its packs: it predicts nothing more, and verify will say so.
            self.next = (self.runs.len(), 0);
            return Ok(());
        };
        let last_run = self.next.0 + 1 == self.runs.len();
        while self.next.1 < run.count && self.ahead.len() < wanted {
            let at = range.start + self.next.1 as usize;
            self.ahead.push_back(Predicted {
                id: directory.ids[at],
                length: directory.lengths[at],
                run: Run { first: run.first + self.next.1, count: 1, ..run },
                last: last_run && self.next.1 + 1 == run.count,
            });
            self.next.1 += 1;
        }
        Ok(())
    }
}

fn location(run: &Run) -> (u32, u32, u32) {
    (run.pack, run.segment, run.first)
}
