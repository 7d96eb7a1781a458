//! Plan of a restore: which segments are decoded, in which order, and how often each is needed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use super::{ChunkRun, SegmentKey};
use crate::format::layout::{MAX_BASE_BYTES, pack_name};
use crate::format::pack::Directory;
use crate::repository::{Error, Repository, Result};

/// One segment to decode.
pub(super) struct DecodeStep {
    pub key: SegmentKey,
    /// Pieces and later segments that need it.
    pub uses: u32,
    /// Plain bytes.
    pub plain: usize,
    /// Why it must not be decoded.
    pub refused: Option<String>,
    /// The steps of its bases.
    pub bases: Vec<u32>,
    /// The chunks that pieces name: the first one's number in the segment, and how many. They are checked by their ids;
    /// wrong bytes of a base show in the segments that depend on it.
    pub pieces: Vec<(u32, u32)>,
}

/// The plain bytes of a base run, inside its segment.
pub(super) struct BaseBytes {
    pub segment: SegmentKey,
    pub range: Range<usize>,
}

/// The index's numbers of packs; None for one that it lacks.
type BasePacks = Vec<Option<u32>>;

#[derive(Default)]
pub(super) struct FetchPlan {
    pub steps: Vec<DecodeStep>,
    pub by_key: HashMap<SegmentKey, usize>,
    /// By pack: the index's numbers of the packs that its base runs name, in the order of its directory.
    base_packs: HashMap<u32, BasePacks>,
}

impl FetchPlan {
    pub fn new(repository: &Repository, pieces: impl Iterator<Item = ChunkRun>) -> Result<Self> {
        let mut plan = Self::default();
        for piece in pieces {
            let step = plan.visit(repository, (piece.pack, piece.segment))?;
            plan.steps[step].uses += 1;
            plan.steps[step].pieces.push((piece.first, piece.count));
        }
        Ok(plan)
    }

    pub fn plain_bytes(&self) -> u64 {
        self.steps.iter().map(|step| step.plain as u64).sum()
    }

    /// The step of a segment, made where it is missing, after the steps of its bases.
    fn visit(&mut self, repository: &Repository, key: SegmentKey) -> Result<usize> {
        if let Some(&step) = self.by_key.get(&key) {
            return Ok(step);
        }
        // The path down to a segment whose bases all have steps. Each depends on ones of smaller depth, or is refused:
        // so the path ends, and never meets itself.
        let mut path = vec![Visit::new(repository, key, &mut self.base_packs)?];
        while let Some(last) = path.last_mut() {
            match last.open.next() {
                Some(base) if self.by_key.contains_key(&base) => {}
                Some(base) => path.push(Visit::new(repository, base, &mut self.base_packs)?),
                None => path.pop().into_iter().for_each(|visit| self.enter(visit)),
            }
        }
        Ok(self.by_key[&key])
    }

    fn enter(&mut self, Visit { key, plain, checked, .. }: Visit) {
        let mut bases: Vec<u32> = checked.iter().flatten().map(|base| self.by_key[base] as u32).collect();
        bases.sort_unstable();
        bases.dedup();
        bases.iter().for_each(|&base| self.steps[base as usize].uses += 1);
        self.by_key.insert(key, self.steps.len());
        self.steps.push(DecodeStep { key, uses: 0, plain, refused: checked.err(), bases, pieces: Vec::new() });
    }

    /// The bases of a segment, in order.
    pub fn bases(&self, repository: &Repository, key: SegmentKey) -> Result<Vec<BaseBytes>> {
        let Some(parts) = DirectoryEntry::new(repository, key)? else { return Ok(Vec::new()) };
        let lost = || Error::Failed("a piece was asked for that wasn't planned".to_owned());
        let keys = parts.base_keys(self.base_packs.get(&key.0).ok_or_else(lost)?).map_err(Error::Damaged)?;
        let runs = &parts.directory.segments[key.1 as usize].bases;
        keys.into_iter()
            .zip(runs)
            .map(|((pack, segment), run)| {
                let directory = repository.index().directory(pack)?;
                let range = directory.and_then(|directory| plain_range(&directory, segment, run.first, run.count));
                let range = range.ok_or_else(|| Error::Damaged("a base run lies outside of its pack".to_owned()))?;
                Ok(BaseBytes { segment: (pack, segment), range })
            })
            .collect()
    }
}

/// A segment whose bases get their steps.
struct Visit {
    key: SegmentKey,
    plain: usize,
    /// The segments that its base runs name, one a run, or why it must not be decoded.
    checked: std::result::Result<Vec<SegmentKey>, String>,
    /// Those that are still to be visited.
    open: std::vec::IntoIter<SegmentKey>,
}

impl Visit {
    fn new(repository: &Repository, key: SegmentKey, base_packs: &mut HashMap<u32, BasePacks>) -> Result<Self> {
        let parts = DirectoryEntry::new(repository, key)?;
        let checked = match &parts {
            None => Err("a recipe or a base names a segment that its pack lacks".to_owned()),
            Some(parts) => {
                let base_packs = match base_packs.entry(key.0) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => new.insert(parts.base_packs(repository)?),
                };
                parts.check(repository, base_packs)?
            }
        };
        let mut open = checked.clone().unwrap_or_default();
        open.dedup();
        Ok(Self { key, plain: parts.map_or(0, |parts| parts.plain()), checked, open: open.into_iter() })
    }
}

/// Where the plain bytes of a run of chunks lie in their segment.
pub(super) fn plain_range(directory: &Directory, segment: u32, first: u32, count: u32) -> Option<Range<usize>> {
    let all = directory.chunk_range(segment)?;
    let run = directory.run_range(segment, first, count)?;
    let sum = |range: Range<usize>| directory.lengths[range].iter().map(|&length| length as usize).sum::<usize>();
    let start = sum(all.start..run.start);
    Some(start..start + sum(run))
}

/// A segment's entry in its directory.
struct DirectoryEntry {
    key: SegmentKey,
    directory: Arc<Directory>,
}

impl DirectoryEntry {
    fn new(repository: &Repository, key: SegmentKey) -> Result<Option<Self>> {
        let directory = repository.index().directory(key.0)?;
        Ok(directory.filter(|all| (key.1 as usize) < all.segments.len()).map(|directory| Self { key, directory }))
    }

    fn plain(&self) -> usize {
        self.directory.plain_length(self.key.1).unwrap_or(0) as usize
    }

    /// The packs that the base runs of its pack name.
    fn base_packs(&self, repository: &Repository) -> Result<BasePacks> {
        let index = repository.index();
        self.directory.base_packs.iter().map(|id| Ok(index.pack(id)?.map(|row| row.number))).collect()
    }

    /// The segments that the base runs name, in the order of the runs; a segment may stand more than once.
    fn base_keys(&self, base_packs: &[Option<u32>]) -> std::result::Result<Vec<SegmentKey>, String> {
        let runs = &self.directory.segments[self.key.1 as usize].bases;
        let number = |pack: u32| match pack.checked_sub(1).map(|other| other as usize) {
            None => Ok(self.key.0),
            Some(other) => base_packs[other].ok_or_else(|| {
                format!("{} is missing, and a segment is based on it", pack_name(&self.directory.base_packs[other]))
            }),
        };
        runs.iter().map(|run| Ok((number(run.pack)?, run.segment))).collect()
    }

    /// Whether the rules of `docs/format.md`, "Segments", hold: depth, generations, runs inside their packs, and not too many
    /// bytes. Returns the segments that the base runs name.
    fn check(
        &self,
        repository: &Repository,
        base_packs: &[Option<u32>],
    ) -> Result<std::result::Result<Vec<SegmentKey>, String>> {
        let entry = &self.directory.segments[self.key.1 as usize];
        let keys = match self.base_keys(base_packs) {
            Ok(keys) => keys,
            Err(why) => return Ok(Err(why)),
        };
        let (mut deepest, mut bytes) = (None, 0);
        for (key, run) in keys.iter().zip(&entry.bases) {
            let Some(base) = DirectoryEntry::new(repository, *key)? else {
                return Ok(Err("a base run names a segment that its pack lacks".to_owned()));
            };
            let Some(range) = base.directory.run_range(run.segment, run.first, run.count) else {
                return Ok(Err("a base run names chunks that its pack lacks".to_owned()));
            };
            bytes += base.directory.lengths[range].iter().map(|&length| u64::from(length)).sum::<u64>();
            if bytes > MAX_BASE_BYTES {
                return Ok(Err(format!("a segment is based on more than {MAX_BASE_BYTES} bytes")));
            }
            let depth = base.directory.segments[run.segment as usize].depth;
            if depth > 0 && base.directory.generation != self.directory.generation {
                return Ok(Err("a segment is based on a based segment of another generation".to_owned()));
            }
            deepest = deepest.max(Some(depth));
        }
        let expected = deepest.map_or(0, |deepest| deepest + 1);
        Ok(if entry.depth == expected {
            Ok(keys)
        } else {
            Err(format!("a segment claims depth {} and stands at depth {expected}", entry.depth))
        })
    }
}
