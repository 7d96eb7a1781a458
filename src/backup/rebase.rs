//! Re-bases: their due time; and the packs that other fulls store again.

use std::collections::{HashMap, HashSet};

use super::{BackupOptions, WantedKind};
use crate::error::Result;
use crate::format::recipe::Recipe;
use crate::id::PackId;
use crate::index::{PackRow, SnapshotRow};
use crate::repository::Repository;
use crate::time::Clock;

/// The limit of a restore's decoding work, as a multiple of the restored bytes.
pub(super) const MOST_DECODED: u64 = 6;
/// The least share of a pack's plain bytes that the newest snapshot uses, in percent; below it the pack is repacked.
const KEEP_PERCENT: u64 = 75;

/// Whether a full becomes a re-base.
pub(super) fn is_due(
    repository: &Repository,
    options: &BackupOptions,
    before: &SnapshotRow,
    clock: &dyn Clock,
) -> bool {
    if options.wanted == WantedKind::Rebase || options.isolate_chains {
        return true;
    }
    let Ok(rows) = repository.index().snapshots() else { return true };
    if forecast(before, &rows) > MOST_DECODED * before.about.totals.read {
        return true;
    }
    let of_generation = |row: &&SnapshotRow| row.about.generation == before.about.generation;
    let begun = rows.iter().find(of_generation).map(|row| row.header.stored_time);
    begun.is_none_or(|begun| {
        super::clock::is_ahead(begun, clock.now())
            || options.zone.days_between(begun, clock.now()) >= i64::from(options.rebase_every)
    })
}

/// Plain bytes that a restore will decode at the end of the next chain, if that has as many snapshots as the last one and
/// each brings as much new data; with today's full, which is no re-base.
fn forecast(before: &SnapshotRow, rows: &[SnapshotRow]) -> u64 {
    let incrementals = rows.iter().filter(|row| row.header.chain == before.header.chain && row.header.parent.is_some());
    let (count, new) = incrementals.fold((0, 0), |(count, new), row| (count + 1, new + row.about.totals.new));
    let today = new.checked_div(count).unwrap_or(0);
    before.about.decoded.unwrap_or(0) + today + new
}

/// The packs whose chunks a full that is no re-base stores again, so that they can go: the least used first, as far as
/// `budget` bytes allow. A pack stays where other packs' segments are based on it, or where `others` need it.
pub(super) fn to_repack(
    repository: &Repository,
    recipe: &Recipe,
    packs: &[PackRow],
    others: &HashSet<PackId>,
    mut budget: u64,
) -> Result<HashSet<u32>> {
    let held = bases_of_others(repository, recipe, packs)?;
    let ids: HashMap<u32, PackId> = packs.iter().map(|pack| (pack.number, pack.id)).collect();
    let may_go = |number: &u32| !held.contains(number) && ids.get(number).is_some_and(|id| !others.contains(id));
    let mut candidates: Vec<(u32, Use)> = uses(repository, recipe, packs)?
        .into_iter()
        .filter(|(number, used)| may_go(number) && !used.is_well())
        .collect();
    candidates.sort_unstable_by_key(|(number, used)| (used.named * 1000 / used.all.max(1), *number));
    let mut to_repack = HashSet::new();
    for (number, used) in candidates {
        if let Some(left) = budget.checked_sub(used.named) {
            budget = left;
            to_repack.insert(number);
        }
    }
    Ok(to_repack)
}

/// Plain bytes of a pack.
#[derive(Default)]
struct Use {
    /// All of them.
    all: u64,
    /// Those that the recipe names.
    named: u64,
}

impl Use {
    fn is_well(&self) -> bool {
        self.named * 100 >= self.all * KEEP_PERCENT
    }
}

/// The bytes of each pack that a recipe names, each chunk counted once.
fn uses(repository: &Repository, recipe: &Recipe, packs: &[PackRow]) -> Result<HashMap<u32, Use>> {
    let mut uses: HashMap<u32, Use> = HashMap::new();
    let index = repository.index();
    let mut seen = HashSet::new();
    for run in recipe.streams.iter().flat_map(|stream| &stream.runs) {
        let number = packs[run.pack as usize].number;
        let Some(directory) = index.directory(number)? else { continue };
        let Some(range) = directory.run_range(run.segment, run.first, run.count) else { continue };
        let used = uses.entry(number).or_insert_with(|| {
            let all = directory.lengths.iter().map(|&length| u64::from(length)).sum();
            Use { all, ..Use::default() }
        });
        for at in range {
            if seen.insert((number, at as u32)) {
                used.named += u64::from(directory.lengths[at]);
            }
        }
    }
    Ok(uses)
}

/// The packs in which bases of a recipe's segments lie that are in other packs.
fn bases_of_others(repository: &Repository, recipe: &Recipe, packs: &[PackRow]) -> Result<HashSet<u32>> {
    let index = repository.index();
    let numbers: HashMap<PackId, u32> = packs.iter().map(|pack| (pack.id, pack.number)).collect();
    let runs = recipe.streams.iter().flat_map(|stream| &stream.runs);
    let mut open: Vec<(u32, u32)> = runs.map(|run| (packs[run.pack as usize].number, run.segment)).collect();
    let (mut seen, mut held) = (HashSet::new(), HashSet::new());
    while let Some((number, segment)) = open.pop() {
        if !seen.insert((number, segment)) {
            continue;
        }
        let Some(directory) = index.directory(number)? else { continue };
        for run in directory.segments.get(segment as usize).into_iter().flat_map(|segment| &segment.bases) {
            let base = match run.pack {
                0 => Some(number),
                other => numbers.get(&directory.base_packs[other as usize - 1]).copied(),
            };
            held.extend(base.filter(|base| *base != number));
            open.extend(base.map(|base| (base, run.segment)));
        }
    }
    Ok(held)
}
