//! Re-bases: when all is stored plain again, and what is kept all the same.

use std::collections::{HashMap, HashSet};

use super::commit::DECODED;
use super::{BackupOptions, Wanted};
use crate::error::Result;
use crate::format::recipe::Recipe;
use crate::index::{PackRow, SnapshotRow};
use crate::repository::{self, Repository};
use crate::time::Clock;

/// A restore should decode at most so many times what it writes.
pub(super) const MOST_DECODED: u64 = 6;
/// The share of a pack's plain bytes that the newest snapshot must need for the pack to be kept, in percent.
const KEEP_PERCENT: u64 = 75;

/// Whether a full becomes a re-base.
pub(super) fn is_due(
    repository: &Repository,
    options: &BackupOptions,
    before: &SnapshotRow,
    clock: &dyn Clock,
) -> bool {
    if options.wanted == Wanted::Rebase || options.isolate_chains {
        return true;
    }
    let fact = before.about.facts.iter().find(|(key, _)| key == DECODED);
    let decoded: u64 = fact.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    if decoded > MOST_DECODED * before.about.totals.read {
        return true;
    }
    let begun = repository.index().snapshots().ok().and_then(|rows| {
        let of_generation = |row: &&SnapshotRow| row.about.generation == before.about.generation;
        rows.iter().find(of_generation).map(|row| row.header.stored_time)
    });
    begun.is_none_or(|begun| options.zone.days_between(begun, clock.now()) >= i64::from(options.rebase_every))
}

/// The packs whose plain segments a re-base keeps: of most of their plain bytes the newest snapshot has a use.
pub(super) fn kept(repository: &Repository, recipe: &Recipe, packs: &[PackRow]) -> Result<HashSet<u32>> {
    let mut used: HashMap<u32, u64> = HashMap::new();
    let index = repository.index();
    let mut seen = HashSet::new();
    for run in recipe.streams.iter().flat_map(|stream| &stream.runs) {
        let number = packs[run.pack as usize].number;
        let directory = index.directory(number).map_err(repository::Error::from)?;
        let Some(directory) = directory else { continue };
        let plain = directory.segments.get(run.segment as usize).is_some_and(|segment| segment.depth == 0);
        for at in directory.run_range(run.segment, run.first, run.count).filter(|_| plain).into_iter().flatten() {
            if seen.insert((number, at as u32)) {
                *used.entry(number).or_default() += u64::from(directory.lengths[at]);
            }
        }
    }
    let mut kept = HashSet::new();
    for (number, used) in used {
        if let Some(directory) = index.directory(number).map_err(repository::Error::from)? {
            let all: u64 = directory.lengths.iter().map(|&length| u64::from(length)).sum();
            if used * 100 >= all * KEEP_PERCENT {
                kept.insert(number);
            }
        }
    }
    Ok(kept)
}
