//! Re-bases: their due time; and the packs that other fulls store again.

use std::collections::{HashMap, HashSet};

use super::{BackupOptions, WantedKind};
use crate::error::Result;
use crate::format::recipe::{Run, Stream};
use crate::id::PackId;
use crate::index::SnapshotRow;
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
/// `budget` bytes allow. A pack stays where other packs' segments are based on it, or where `others` need it. The packs of the
/// streams' runs are the index's numbers.
pub(super) fn to_repack(
    repository: &Repository,
    streams: impl Iterator<Item = Result<Stream>>,
    others: &HashSet<PackId>,
    mut budget: u64,
) -> Result<HashSet<u32>> {
    let mut uses: HashMap<u32, Use> = HashMap::new();
    let mut bases = BasesOfOthers { repository, seen: HashSet::new(), held: HashSet::new() };
    for stream in streams {
        for run in &stream?.runs {
            add_use(repository, run, &mut uses)?;
            bases.add(run.pack, run.segment)?;
        }
    }
    let mut candidates = Vec::new();
    for (number, used) in uses {
        let id = repository.index().pack_by_number(number)?.map(|row| row.id);
        if !bases.held.contains(&number) && !used.is_well() && id.is_some_and(|id| !others.contains(&id)) {
            candidates.push((number, used));
        }
    }
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
    /// Those that the recipe names, each chunk counted once.
    named: u64,
    /// A bit for each chunk that was counted.
    counted: Vec<u64>,
}

impl Use {
    fn is_well(&self) -> bool {
        self.named * 100 >= self.all * KEEP_PERCENT
    }
}

fn add_use(repository: &Repository, run: &Run, uses: &mut HashMap<u32, Use>) -> Result<()> {
    let Some(directory) = repository.index().directory(run.pack)? else { return Ok(()) };
    let Some(range) = directory.run_range(run.segment, run.first, run.count) else { return Ok(()) };
    let used = uses.entry(run.pack).or_insert_with(|| Use {
        all: directory.lengths.iter().map(|&length| u64::from(length)).sum(),
        named: 0,
        counted: vec![0; directory.lengths.len().div_ceil(64)],
    });
    for at in range {
        let (word, bit) = (&mut used.counted[at / 64], 1 << (at % 64));
        if *word & bit == 0 {
            *word |= bit;
            used.named += u64::from(directory.lengths[at]);
        }
    }
    Ok(())
}

/// The packs in which bases of a recipe's segments lie that are in other packs.
struct BasesOfOthers<'a> {
    repository: &'a Repository,
    seen: HashSet<(u32, u32)>,
    held: HashSet<u32>,
}

impl BasesOfOthers<'_> {
    fn add(&mut self, pack: u32, segment: u32) -> Result<()> {
        let mut open = vec![(pack, segment)];
        while let Some((number, segment)) = open.pop() {
            if !self.seen.insert((number, segment)) {
                continue;
            }
            let Some(directory) = self.repository.index().directory(number)? else { continue };
            for run in directory.segments.get(segment as usize).into_iter().flat_map(|segment| &segment.bases) {
                let base = match run.pack {
                    0 => Some(number),
                    other => {
                        let row = self.repository.index().pack(&directory.base_packs[other as usize - 1])?;
                        row.map(|row| row.number)
                    }
                };
                self.held.extend(base.filter(|base| *base != number));
                open.extend(base.map(|base| (base, run.segment)));
            }
        }
        Ok(())
    }
}
