//! Bases: which chunks of the parent a segment of new chunks is compressed against.
//!
//! New chunks stand in a gap between two chunks that the stream and its parent both have. What the parent has in that gap is
//! what they replaced. Where a gap is longer than a segment, the part of it that lies as far in is taken.

mod cache;

use std::collections::HashSet;
use std::ops::Range;

pub(super) use cache::BaseCache;

use super::BackupOptions;
use super::parent::{Parent, Predicted};
use super::pipeline::Segment;
use super::start::Start;
use crate::error::{Error, Result};
use crate::format::layout::MAX_DEPTH;
use crate::format::pack::BaseRun;
use crate::id::GenerationId;
use crate::progress::Progress;
use crate::repository::{self, Repository};

/// Base bytes that a gap may have beyond four times its new bytes: context for a few rows.
const SPARE: u64 = 128 << 10;
/// Base bytes that are taken on either side of a guessed place.
const MARGIN: u64 = 64 << 10;
/// Most bases of a segment, in bytes.
const MOST: usize = 3 << 20;
/// Most bytes that must be decoded for a segment with chunks of small streams.
const MOST_FOR_SMALL: u64 = 64 << 20;

/// New chunks since the last chunk that the parent has, too.
#[derive(Debug, Clone, Copy)]
struct Gap {
    /// The parent's chunk, by its number in the stream, that was expected where the gap began.
    from: u64,
    /// New bytes of this gap in segments that are on their way.
    before: u64,
    /// New bytes of this gap in the segment that is being filled.
    bytes: u64,
}

/// Finds the bases of a set's new chunks.
pub(super) struct Bases {
    /// The generation that new segments belong to.
    generation: GenerationId,
    cache: Option<BaseCache>,
    /// Whether segments are compressed against anything: not at a re-base.
    based: bool,
    gap: Option<Gap>,
}

impl Bases {
    /// The cache, to be told of the chunks of the new recipe.
    pub fn cache(&mut self) -> Option<&mut BaseCache> {
        self.cache.as_mut()
    }

    /// Goes on without a cache.
    pub fn give_up_cache(&mut self) {
        (self.cache, self.based) = (None, false);
    }

    /// The cache, to be committed.
    pub fn into_cache(self) -> Option<BaseCache> {
        self.cache
    }

    /// A new chunk goes into the segment.
    pub fn new_chunk(&mut self, parent: &Parent<'_>, length: u64) {
        if !self.based {
            return;
        }
        let gap = self.gap.get_or_insert(Gap { from: parent.position(), before: 0, bytes: 0 });
        gap.bytes += length;
    }

    /// The stream goes on with the parent's chunk `at`, or ends where the parent ends; None where it goes on elsewhere.
    pub fn gap_ends(
        &mut self,
        repository: &Repository,
        parent: &mut Parent<'_>,
        at: Option<u64>,
        segment: &mut Segment,
    ) -> Result<()> {
        let Some(gap) = self.gap.take() else { return Ok(()) };
        match at.filter(|&at| at >= gap.from) {
            Some(to) => {
                let from = if gap.before == 0 {
                    gap.from
                } else {
                    parent.advance(gap.from, gap.before.saturating_sub(MARGIN))
                };
                let from = from.min(to);
                // Rows that were inserted replaced nothing: what stands beside them is like them.
                let range = if from == to { from.saturating_sub(1)..to + 1 } else { from..to };
                for part in parent.ends(range, 4 * gap.bytes + SPARE) {
                    self.take(repository, parent, part, segment)?;
                }
                Ok(())
            }
            None => self.guess(repository, parent, gap, segment),
        }
    }

    /// The segment is full and the gap goes on.
    pub fn segment_ends(
        &mut self,
        repository: &Repository,
        parent: &mut Parent<'_>,
        segment: &mut Segment,
    ) -> Result<()> {
        let Some(gap) = self.gap.filter(|gap| gap.bytes > 0) else { return Ok(()) };
        self.guess(repository, parent, gap, segment)?;
        self.gap = Some(Gap { before: gap.before + gap.bytes, bytes: 0, ..gap });
        Ok(())
    }

    /// Takes what lies as far into the parent's stream as the new bytes lie into the gap.
    fn guess(
        &mut self,
        repository: &Repository,
        parent: &mut Parent<'_>,
        gap: Gap,
        segment: &mut Segment,
    ) -> Result<()> {
        let from = parent.advance(gap.from, gap.before.saturating_sub(MARGIN));
        let to = parent.advance(gap.from, gap.before + gap.bytes + MARGIN) + 1;
        self.take(repository, parent, from..to, segment)
    }

    fn take(
        &mut self,
        repository: &Repository,
        parent: &mut Parent<'_>,
        numbers: Range<u64>,
        segment: &mut Segment,
    ) -> Result<()> {
        for number in numbers.start..numbers.end.min(parent.count()) {
            let Some(chunk) = parent.at(number)? else { break };
            if segment.prefix.len() + chunk.length as usize > MOST {
                break;
            }
            self.take_chunk(repository, &chunk, segment)?;
        }
        Ok(())
    }

    /// Adds a chunk to the segment's bases, where it may be one and its bytes are at hand.
    fn take_chunk(&mut self, repository: &Repository, chunk: &Predicted, segment: &mut Segment) -> Result<()> {
        let Some(depth) = self.depth_on(repository, chunk)? else { return Ok(()) };
        let Some(cache) = &mut self.cache else { return Ok(()) };
        let start = segment.prefix.len();
        if !cache.read(chunk.ordinal, chunk.length, &mut segment.prefix) {
            return Ok(());
        }
        if repository.keys().chunk_ids.id(&segment.prefix[start..]) != chunk.id {
            segment.prefix.truncate(start);
            return Ok(());
        }
        segment.depth = segment.depth.max(depth);
        let run = chunk.run;
        match segment.bases.last_mut() {
            Some((pack, last))
                if (*pack, last.segment, last.first + last.count) == (run.pack, run.segment, run.first) =>
            {
                last.count += 1;
            }
            _ => segment.bases.push((run.pack, BaseRun { pack: 0, segment: run.segment, first: run.first, count: 1 })),
        }
        Ok(())
    }

    /// The depth of a segment that stands on this chunk; None where none of this generation may.
    fn depth_on(&self, repository: &Repository, chunk: &Predicted) -> Result<Option<u32>> {
        let directory = repository.index().directory(chunk.run.pack).map_err(repository::Error::from)?;
        Ok(directory.and_then(|directory| {
            let depth = directory.segments.get(chunk.run.segment as usize)?.depth;
            let fits = depth < MAX_DEPTH && (depth == 0 || directory.generation == self.generation);
            fits.then_some(depth + 1)
        }))
    }
}

/// The bases of a run: with what the base cache holds of the snapshot before, where that can be had.
pub(super) fn open_cache(
    repository: &Repository,
    start: &Start,
    options: &BackupOptions,
    generation: GenerationId,
    progress: &dyn Progress,
) -> Bases {
    let based = start.before.is_some() && !start.rebase;
    if options.base_cache_max == 0 {
        return Bases { generation, cache: None, based: false, gap: None };
    }
    let before = start.before.as_ref().map(|before| &before.id);
    let cache = BaseCache::open(repository.folder(), &options.set, before, options.base_cache_max);
    if let Err(error) = &cache {
        progress.warn(&format!("the base cache can't be used, so the backup is larger: {error}"));
    }
    Bases { generation, cache: cache.ok(), based, gap: None }
}

/// Takes the bases off a segment that holds chunks of small streams, where too much would have to be decoded for it.
pub(super) fn bound_small(repository: &Repository, segment: &mut Segment) -> Result<()> {
    if !segment.bases.is_empty() && segment.small && decode_cost(repository, segment)? > MOST_FOR_SMALL {
        segment.drop_bases();
    }
    Ok(())
}

/// Plain bytes that must be decoded under a segment, as far as [`MOST_FOR_SMALL`] and a little on.
fn decode_cost(repository: &Repository, segment: &Segment) -> Result<u64> {
    let index = repository.index();
    let mut open: Vec<(u32, u32)> = segment.bases.iter().map(|(pack, run)| (*pack, run.segment)).collect();
    let mut seen = HashSet::new();
    let mut cost = 0;
    while let Some((pack, number)) = open.pop() {
        if !seen.insert((pack, number)) || cost > MOST_FOR_SMALL {
            continue;
        }
        let directory = index.directory(pack).map_err(repository::Error::from)?;
        let lost = || Error::Failed("the index lost a pack".to_owned());
        let directory = directory.ok_or_else(lost)?;
        cost += directory.plain_length(number).unwrap_or(0);
        for run in &directory.segments[number as usize].bases {
            let base = match run.pack {
                0 => pack,
                other => {
                    let id = directory.base_packs[other as usize - 1];
                    index.pack(&id).map_err(repository::Error::from)?.ok_or_else(lost)?.number
                }
            };
            open.push((base, run.segment));
        }
    }
    Ok(cost)
}
