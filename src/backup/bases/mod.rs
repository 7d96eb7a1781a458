//! Bases: which chunks of the parent a segment of new chunks is compressed against.
//!
//! New chunks are in a gap between two chunks that the stream and its parent both have. They replaced the parent's
//! chunks in that gap. If a gap is longer than a segment, the part of it at the same distance is a guess, and similar
//! chunks are a better one; those are also the bases of a stream without a parent.

pub(super) mod cache;
mod clones;
mod probe;
pub(super) mod reader;
mod similar;

use std::collections::{HashMap, HashSet};
use std::ops::Range;

pub(super) use cache::{Arrival, BaseCache};
pub(super) use clones::Clones;
pub(super) use reader::BaseChunk;

use cache::{Lack, Shortage};
use reader::BaseReader;

use similar::Similar;

use super::free_space::shown;
use super::parent::{ParentCursor, Predicted};
use super::parent_recipe::ParentStream;
use super::pending::PendingSegment;
use super::start::Start;
use super::{BackupOptions, rebase};
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::format::layout::MAX_DEPTH;
use crate::format::pack::BaseRun;
use crate::format::recipe::Run;
use crate::id::GenerationId;
use crate::progress::Progress;
use crate::repository::Repository;
use crate::source::Source;
use crate::warning::{Warning, WarningKind};

/// Base bytes that a gap may have beyond four times its new bytes: context for a few rows.
const SPARE: u64 = 128 << 10;
/// Base bytes that are taken on either side of a guessed place.
const MARGIN: u64 = 64 << 10;
/// Most bases of a segment, in bytes.
const MOST: usize = 3 << 20;
/// Most bytes that must be decoded for a segment with chunks of small streams.
const MOST_FOR_SMALL: u64 = 64 << 20;

/// Similar chunks are searched once the data without a base is one part in so many of them.
const SIMILAR_WORTH: u64 = 64;
/// The longest gap between two similar chunks that is bridged: not each similar chunk is recognised.
const BRIDGED: u64 = 4;
/// Most bytes of chunks that are looked through.
const SIMILAR_MOST: u64 = 8 << 30;

/// New chunks since the last chunk that the parent has, too.
#[derive(Debug, Clone, Copy)]
struct Gap {
    /// The parent's chunk, by its number in the stream, that was expected where the gap began, or one behind it.
    from: u64,
    /// The distance from that chunk's start, in the parent, of the bytes that the segment's first byte of the gap
    /// replaces. 0 while no segment of the gap has begun.
    into: u64,
    /// The value of `into`, with the same `from`, when the place was last known and not guessed.
    known: u64,
    /// New bytes of this gap in the segment that is being filled.
    bytes: u64,
}

impl Gap {
    /// The gap's new bytes in the segment that is being filled.
    fn of<'s>(&self, segment: &'s PendingSegment) -> &'s [u8] {
        &segment.plain[segment.plain.len().saturating_sub(self.bytes as usize)..]
    }
}

/// Finds the bases of a set's new chunks.
pub(super) struct Bases {
    /// The generation that new segments belong to.
    generation: GenerationId,
    cache: Option<BaseCache>,
    clones: Option<Clones>,
    /// Whether the stream's file has a copy, so that its chunks need no place in the cache.
    cloned: bool,
    reader: BaseReader,
    /// Whether files were named that should hold streams of the snapshot before.
    has_previous: bool,
    /// Whether segments are compressed against anything: not at a re-base.
    based: bool,
    /// The numbers of packs that are not used as bases.
    to_repack: HashSet<u32>,
    gap: Option<Gap>,
    /// Made when it is first needed.
    similar: Option<Similar>,
    /// New bytes for which position found no base.
    lacking: u64,
    /// Whether the stream's new chunks are stored plain.
    stored_full: bool,
    /// Whether deltas against a stream of the parent are stored plain, by the stream's number: the last one asked for.
    last_asked: Option<(u64, bool)>,
    /// Bytes of chunks that would have been bases, had they found room in the cache.
    without_room: u64,
    /// The room that the cache may have, and what it may have by the configuration.
    room: (u64, u64),
    /// The failure of the cache, which did not end the run.
    warnings: Vec<Warning>,
}

impl Bases {
    /// The cache, to be told of the chunks of the new recipe.
    pub fn cache(&mut self) -> Option<&mut BaseCache> {
        self.cache.as_mut()
    }

    /// Goes on without a cache.
    pub fn give_up_cache(&mut self, why: Warning) {
        (self.cache, self.clones) = (None, None);
        self.based &= self.has_previous;
        self.warnings.push(why);
    }

    /// The stream of `entry` is to be read: its file gets a copy, where the file system can make one.
    pub fn file_begins(&mut self, source: &mut dyn Source, entry: &Entry) {
        self.cloned = self.clones.as_mut().is_some_and(|clones| clones.make(source, entry));
    }

    /// Whether the stream's chunks need no place in the cache.
    pub fn is_cloned(&self) -> bool {
        self.cloned
    }

    /// The copies of files.
    pub fn clones(&mut self) -> Option<&mut Clones> {
        self.clones.as_mut()
    }

    /// The cache and the copies, to be committed, and the failure of the cache.
    pub fn finish(mut self) -> (Option<BaseCache>, Option<Clones>, Vec<Warning>) {
        let mut shortage = None;
        match self.cache.as_mut().map(BaseCache::settle).transpose() {
            Ok(found) => shortage = found.flatten(),
            Err(error) => {
                let text = format!("the base cache can't be written, so the next backup is larger: {error}");
                self.give_up_cache(WarningKind::BaseCache.warning(text));
            }
        }
        if self.reader.has_missed() {
            let lacking = if self.has_previous { "previous files and the base cache lack" } else { "base cache lacks" };
            self.warnings.push(WarningKind::BaseCache.warning(format!(
                "the {lacking} chunks of the newest snapshot, or they are damaged, so this backup is larger; the next one has \
                 them again"
            )));
        }
        self.warnings.extend(shortage.map(|shortage| self.short_of_room(&shortage)));
        (self.cache, self.clones, self.warnings)
    }

    /// What the lack of room costs, and how much would do.
    fn short_of_room(&self, shortage: &Shortage) -> Warning {
        let Shortage { lacking, held, needed } = *shortage;
        let (room, most) = self.room;
        let costs = match self.without_room {
            0 => "what changes there is stored whole by the next backup, not as a difference".to_owned(),
            bytes => {
                format!("this backup lacked {} of bases for what changed there, and stored it whole", shown(bytes))
            }
        };
        let remedy = match room < most {
            true => format!("its disk leaves it {}, and about {} would do", shown(room), shown(needed)),
            false => format!("base_cache_max = \"{}\" would do", size(needed)),
        };
        let total = shown(lacking + held);
        let text = format!("the base cache has no room for {} of the set's {total}: {costs}; {remedy}", shown(lacking));
        WarningKind::BaseCache.warning(text)
    }

    /// A stream begins. Where a restore of it would come to decode too much, its new chunks are stored plain.
    pub fn stream_begins(
        &mut self,
        repository: &Repository,
        start: &Start<'_>,
        parent: Option<&ParentStream>,
    ) -> Result<()> {
        // The stream before may have ended early.
        self.gap = None;
        self.stored_full = match parent {
            Some(parent) if self.based => self.exceeds_decode_limit(repository, start, parent)?,
            _ => false,
        };
        Ok(())
    }

    /// Whether a stream that depends on this one, and changes as much as all changed the last time, decodes too much.
    fn exceeds_decode_limit(
        &mut self,
        repository: &Repository,
        start: &Start<'_>,
        parent: &ParentStream,
    ) -> Result<bool> {
        let (number, stream) = (parent.number, &parent.stream);
        if let Some((_, over_decode_limit)) = self.last_asked.filter(|(asked, _)| *asked == number) {
            return Ok(over_decode_limit);
        }
        let size = stream.entry.size;
        let most = (rebase::MOST_DECODED * size).max(MOST_FOR_SMALL);
        let over_decode_limit = size > MOST_FOR_SMALL / rebase::MOST_DECODED
            && repository.decoded_by(stream)? + start.new_before().min(size) > most;
        self.last_asked = Some((number, over_decode_limit));
        Ok(over_decode_limit)
    }

    /// A new chunk goes into the segment.
    pub fn new_chunk(&mut self, parent: &ParentCursor<'_>, length: u64, segment: &mut PendingSegment) {
        segment.stored_full |= self.stored_full;
        if self.based && !self.stored_full {
            let gap = self.gap.get_or_insert(Gap { from: parent.position(), into: 0, known: 0, bytes: 0 });
            gap.bytes += length;
        }
    }

    /// The stream continues with a chunk of `length` bytes that its parent doesn't have nearby: a row has its value of
    /// weeks ago again, say. The gap continues after it.
    pub fn gap_steps_over(
        &mut self,
        repository: &Repository,
        parent: &mut ParentCursor<'_>,
        length: u64,
        segment: &mut PendingSegment,
    ) -> Result<()> {
        let Some(gap) = self.gap else {
            self.gap = self.based.then(|| Gap { from: parent.position(), into: length, known: length, bytes: 0 });
            return Ok(());
        };
        let gap = if gap.bytes > 0 { self.guess(repository, parent, gap, segment)? } else { gap };
        let known = if gap.known == gap.into { gap.known + length } else { gap.known };
        self.gap = Some(Gap { into: gap.into + length, known, ..gap });
        Ok(())
    }

    /// The stream goes on with the parent's chunk `to`, or ends where the parent ends.
    pub fn gap_ends(
        &mut self,
        repository: &Repository,
        parent: &mut ParentCursor<'_>,
        to: u64,
        segment: &mut PendingSegment,
    ) -> Result<()> {
        let Some(gap) = self.gap.take().filter(|gap| gap.bytes > 0) else { return Ok(()) };
        let (from, _) = parent.advance(gap.from, gap.into.saturating_sub(MARGIN));
        let most = 4 * gap.bytes + SPARE;
        let ranges = if to < gap.from {
            // Moved data: one side resembles the bytes where the stream left the parent, the other those where it
            // continues.
            vec![from..parent.advance(gap.from, gap.into + gap.bytes).0 + 1, parent.back(0..to, most / 2)..to + 1]
        } else if from >= to {
            // Inserted rows replaced nothing: their neighbours are similar.
            parent.ends(to.saturating_sub(1)..to + 1, most)
        } else {
            parent.ends(from..to, most)
        };
        ranges.into_iter().try_for_each(|range| self.take(repository, parent, range, segment))
    }

    /// The segment is full and the gap goes on.
    pub fn segment_ends(
        &mut self,
        repository: &Repository,
        parent: &mut ParentCursor<'_>,
        segment: &mut PendingSegment,
    ) -> Result<()> {
        let Some(gap) = self.gap.filter(|gap| gap.bytes > 0) else { return Ok(()) };
        self.gap = Some(self.guess(repository, parent, gap, segment)?);
        Ok(())
    }

    /// Takes what lies as far into the parent's stream as the new bytes lie into the gap, and a little on either side.
    /// Returns the gap as it goes on: where the new bytes are found in what was taken, from the place where they are.
    fn guess(
        &mut self,
        repository: &Repository,
        parent: &mut ParentCursor<'_>,
        gap: Gap,
        segment: &mut PendingSegment,
    ) -> Result<Gap> {
        let before = segment.mark();
        if let Some(gap) = self.take_around(repository, parent, gap, gap.into, segment)? {
            return Ok(gap);
        }
        // Rows that were inserted may have pushed it off: it is looked for behind the last place that was known.
        let back = gap.known.saturating_sub(MARGIN);
        let reach = (gap.known + gap.bytes).max(gap.into) + gap.bytes + MARGIN;
        let (from, rest) = parent.advance(gap.from, back);
        let (to, _) = parent.advance(gap.from, reach);
        let mut window = PendingSegment::default();
        self.take(repository, parent, from..to + 1, &mut window)?;
        let expected = gap.known - back + rest;
        if let Some(shift) = probe::shift(gap.of(segment), &window.prefix, expected as usize, window.prefix.len()) {
            segment.back_to(before);
            let (found, place) = (Gap { from, ..gap }, expected.saturating_add_signed(shift));
            if let Some(gap) = self.take_around(repository, parent, found, place, segment)? {
                return Ok(gap);
            }
        }
        segment.guessed = true;
        Ok(Gap { into: gap.into + gap.bytes, bytes: 0, ..gap })
    }

    /// Takes what lies `into` bytes behind the start of `gap.from`, as many bytes as the gap has in the segment and a little on
    /// either side. Returns the gap as it goes on behind them, None where they aren't like the new bytes.
    fn take_around(
        &mut self,
        repository: &Repository,
        parent: &mut ParentCursor<'_>,
        gap: Gap,
        into: u64,
        segment: &mut PendingSegment,
    ) -> Result<Option<Gap>> {
        let back = into.saturating_sub(MARGIN);
        let (from, rest) = parent.advance(gap.from, back);
        let (to, _) = parent.advance(gap.from, into + gap.bytes + MARGIN);
        let start = segment.prefix.len();
        self.take(repository, parent, from..to + 1, segment)?;
        let expected = into - back + rest;
        let shift = probe::shift(gap.of(segment), &segment.prefix[start..], expected as usize, MARGIN as usize);
        Ok(shift.map(|shift| {
            let into = expected.saturating_add_signed(shift) + gap.bytes;
            Gap { from, into, known: into, bytes: 0 }
        }))
    }

    /// Called before the segment is compressed: where position found little or had to guess, chunks that look alike become its bases.
    pub fn improve(&mut self, repository: &Repository, start: &Start<'_>, segment: &mut PendingSegment) -> Result<()> {
        let lacks = segment.prefix.len() < segment.plain.len() / 4;
        if !self.based
            || segment.stored_full
            || !(lacks || segment.guessed)
            || !self.is_worth_reading(segment.plain.len() as u64)
        {
            return Ok(());
        }
        let (number, hits) = self.look_alikes(start, segment)?;
        // A few hits say nothing of the rest.
        if hits.len() * 4 < segment.ids.len() {
            return Ok(());
        }
        let Some(stream) = number.map_or(Ok(None), |number| start.numbered(number))? else { return Ok(()) };
        if self.exceeds_decode_limit(repository, start, &stream)? {
            return Ok(());
        }
        segment.drop_bases();
        let first = stream.ordinal;
        let mut parent = ParentCursor::new(repository, Some(stream));
        let mut next = u64::from(hits[0]).saturating_sub(first + 1);
        for hit in hits {
            let number = u64::from(hit).saturating_sub(first);
            // The neighbours of a similar chunk are similar, too: cuts differ now.
            let from = if number <= next + BRIDGED { next } else { number - 1 };
            let range = from.max(next)..number + 2;
            next = range.end.max(next);
            self.take(repository, &mut parent, range, segment)?;
        }
        Ok(())
    }

    /// Whether the features of the cache exist, or are worth computing: the data without a base is not little in
    /// proportion.
    fn is_worth_reading(&mut self, bytes: u64) -> bool {
        let Some(cache) = &mut self.cache else { return false };
        self.lacking += bytes;
        let size = cache.bytes_before();
        if self.similar.is_none() && size > 0 && size / SIMILAR_WORTH <= self.lacking {
            self.similar = Some(Similar::read(cache, SIMILAR_MOST));
        }
        self.similar.is_some()
    }

    /// The ordinals of the chunks that look like the segment's, ascending, all of the one stream that has most of them, and that
    /// stream's number.
    fn look_alikes(&self, start: &Start<'_>, segment: &PendingSegment) -> Result<(Option<u64>, Vec<u32>)> {
        let Some(similar) = &self.similar else { return Ok((None, Vec::new())) };
        let mut found = Vec::new();
        let mut rest = segment.plain.as_slice();
        for &length in &segment.lengths {
            let (chunk, after) = rest.split_at(length as usize);
            found.extend(similar.find(chunk, found.last().copied()));
            rest = after;
        }
        found.sort_unstable();
        let mut votes: HashMap<u64, Vec<u32>> = HashMap::new();
        for ordinal in found {
            if let Some(number) = start.number_of(u64::from(ordinal))? {
                votes.entry(number).or_default().push(ordinal);
            }
        }
        let winner = votes.into_iter().max_by_key(|(number, votes)| (votes.len(), *number));
        let (number, mut found) = winner.map_or((None, Vec::new()), |(number, found)| (Some(number), found));
        found.dedup();
        Ok((number, found))
    }

    fn take(
        &mut self,
        repository: &Repository,
        parent: &mut ParentCursor<'_>,
        numbers: Range<u64>,
        segment: &mut PendingSegment,
    ) -> Result<()> {
        for number in numbers.start..numbers.end.min(parent.count()) {
            let Some(chunk) = parent.at(number)? else { break };
            if segment.prefix.len() + chunk.length as usize > MOST {
                break;
            }
            self.take_chunk(repository, parent, &chunk, segment)?;
        }
        Ok(())
    }

    /// Adds a chunk to the segment's bases, if it may be one and its bytes are at hand.
    fn take_chunk(
        &mut self,
        repository: &Repository,
        parent: &ParentCursor<'_>,
        chunk: &Predicted,
        segment: &mut PendingSegment,
    ) -> Result<()> {
        let Some(depth) = self.depth_on(repository, chunk)? else { return Ok(()) };
        let slot = self.cache.as_mut().map_or(Err(Lack::Lost), |cache| cache.slot(chunk.ordinal, chunk.length));
        let clones = self.clones.as_ref();
        let has_file = parent.stream().is_some_and(|parent| self.reader.has_file(parent, clones));
        if let (false, Err(lack)) = (has_file, slot) {
            match lack {
                Lack::NoRoom => self.without_room += u64::from(chunk.length),
                Lack::Useless => {}
                Lack::Lost => self.reader.miss(),
            }
            return Ok(());
        }
        let offset = has_file.then(|| parent.offset(chunk.number));
        let Run { pack, segment: of, first, .. } = chunk.run;
        let run = BaseRun { pack: 0, segment: of, first, count: 1 };
        let base = BaseChunk { id: chunk.id, length: chunk.length, pack, run, depth, offset, slot: slot.ok() };
        if self.reader.read(repository, &base, self.cache.as_mut(), &mut segment.prefix) {
            segment.add_base(&base);
        }
        Ok(())
    }

    /// The depth of a segment based on this chunk; None if none of this generation may be.
    fn depth_on(&self, repository: &Repository, chunk: &Predicted) -> Result<Option<u32>> {
        let directory = repository.index().directory(chunk.run.pack)?;
        Ok(directory.and_then(|directory| {
            let depth = directory.segments.get(chunk.run.segment as usize)?.depth;
            let stays = !self.to_repack.contains(&chunk.run.pack);
            let fits = stays && depth < MAX_DEPTH && (depth == 0 || directory.generation == self.generation);
            fits.then_some(depth + 1)
        }))
    }
}

/// The bases of a run: from files and the base cache of the previous snapshot, if available.
pub(super) fn open(
    repository: &Repository,
    start: &Start<'_>,
    options: &BackupOptions,
    generation: GenerationId,
    progress: &dyn Progress,
) -> Bases {
    let mut warnings = Vec::new();
    let before = start.before.as_ref().map(|before| &before.id);
    let limit = BaseCache::limit(repository.folder(), &options.set, options.base_cache_max);
    let open = || BaseCache::open(repository.folder(), &options.set, before, limit);
    if options.base_cache_max == 0 {
        BaseCache::remove(repository.folder(), &options.set);
    }
    let cache = match (options.base_cache_max > 0).then(open).transpose() {
        Ok(cache) => cache,
        Err(error) => {
            let text = format!("the base cache can't be used, so the backup is larger: {error}");
            let why = WarningKind::BaseCache.warning(text);
            progress.warn(&why);
            warnings.push(why);
            None
        }
    };
    let reader = BaseReader::new(options.previous.clone());
    Bases {
        generation,
        based: start.before.is_some() && !start.rebase && (cache.is_some() || !options.previous.is_empty()),
        reader,
        has_previous: !options.previous.is_empty(),
        clones: cache.is_some().then(|| Clones::open(repository.folder(), &options.set)),
        cloned: false,
        cache,
        to_repack: start.to_repack.clone(),
        gap: None,
        similar: None,
        lacking: 0,
        stored_full: false,
        last_asked: None,
        without_room: 0,
        room: (limit, options.base_cache_max),
        warnings,
    }
}

/// A size as the configuration takes it, rounded up.
fn size(bytes: u64) -> String {
    match bytes.div_ceil(1 << 20) {
        mebibytes @ 0..4096 => format!("{mebibytes} MiB"),
        mebibytes => format!("{} GiB", mebibytes.div_ceil(1024)),
    }
}

/// Takes the bases off a segment that holds chunks of small streams, where too much would have to be decoded for it.
pub(super) fn bound_small(repository: &Repository, segment: &mut PendingSegment) -> Result<()> {
    let own = segment.plain.len() as u64;
    if !segment.bases.is_empty() && segment.small && own + decode_cost(repository, segment)? > MOST_FOR_SMALL {
        segment.drop_bases();
    }
    Ok(())
}

/// Plain bytes that must be decoded under a segment, as far as [`MOST_FOR_SMALL`] and a little on.
fn decode_cost(repository: &Repository, segment: &PendingSegment) -> Result<u64> {
    let index = repository.index();
    let mut open: Vec<(u32, u32)> = segment.bases.iter().map(|(pack, run)| (*pack, run.segment)).collect();
    let mut seen = HashSet::new();
    let mut cost = 0;
    while let Some((pack, number)) = open.pop() {
        if !seen.insert((pack, number)) || cost > MOST_FOR_SMALL {
            continue;
        }
        let directory = index.directory(pack)?;
        let lost = || Error::Failed("the index lost a pack".to_owned());
        let directory = directory.ok_or_else(lost)?;
        cost += directory.plain_length(number).unwrap_or(0);
        for run in &directory.segments[number as usize].bases {
            let base = match run.pack {
                0 => pack,
                other => {
                    let id = directory.base_packs[other as usize - 1];
                    index.pack(&id)?.ok_or_else(lost)?.number
                }
            };
            open.push((base, run.segment));
        }
    }
    Ok(cost)
}
