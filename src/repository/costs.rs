//! Costs of a snapshot's streams: new bytes, bytes in packs, and depth.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Error, Repository, Result};
use crate::format::pack::Directory;
use crate::format::recipe::{Recipe, Run};
use crate::id::PackId;
use crate::index::SnapshotRow;

/// Costs of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Bytes of chunks that came with the snapshot. A chunk that several streams have counts for the first.
    pub new: u64,
    /// Their bytes in packs: the stream's share of each segment.
    pub stored: u64,
    /// The bases on the longest path under one of the stream's segments.
    pub depth: u32,
}

impl Repository {
    /// The packs that came with a snapshot: those that none before it needs.
    ///
    /// None where that can't be told, because snapshots before it are gone.
    pub fn own_packs(&self, snapshot: &SnapshotRow) -> Result<Option<HashSet<PackId>>> {
        let mut own: HashSet<PackId> = snapshot.header.packs.iter().copied().collect();
        let rows = self.index().snapshots()?;
        for row in rows.iter().filter(|row| row.header.sequence < snapshot.header.sequence) {
            row.header.packs.iter().for_each(|pack| {
                own.remove(pack);
            });
        }
        let written = own.len() as u64 <= snapshot.about.totals.packs;
        Ok(written.then_some(own))
    }

    /// The costs of each stream of a recipe, if `own` are the packs that came with it. Directories that the index lacks
    /// are fetched.
    pub fn costs(&self, recipe: &Recipe, own: &HashSet<PackId>) -> Result<Vec<Cost>> {
        let used = recipe.used_packs();
        let ids = used.iter().map(|&pack| recipe.packs[pack as usize].id);
        let mut packs = HashMap::new();
        for (&pack, row) in used.iter().zip(self.enter_packs(ids, recipe, None)?) {
            let row = row.map_err(Error::Damaged)?;
            let directory = self.index().directory(row.number)?.ok_or_else(lacks)?;
            let fresh = if own.contains(&row.id) { vec![true; directory.ids.len()] } else { Vec::new() };
            packs.insert(pack, PackCost { directory, fresh });
        }
        recipe.streams.iter().map(|stream| cost(&stream.runs, &mut packs)).collect()
    }
}

struct PackCost {
    directory: Arc<Directory>,
    /// Which chunks no stream has paid for; empty for a pack that was there before.
    fresh: Vec<bool>,
}

fn cost(runs: &[Run], packs: &mut HashMap<u32, PackCost>) -> Result<Cost> {
    let mut cost = Cost::default();
    for run in runs {
        let pack = packs.get_mut(&run.pack).ok_or_else(lacks)?;
        let directory = &pack.directory;
        let range = directory.run_range(run.segment, run.first, run.count).ok_or_else(lacks)?;
        let segment = &directory.segments[run.segment as usize];
        cost.depth = cost.depth.max(segment.depth);
        if pack.fresh.is_empty() {
            continue;
        }
        let mut new = 0;
        for at in range {
            if std::mem::take(&mut pack.fresh[at]) {
                new += u64::from(directory.lengths[at]);
            }
        }
        let plain = directory.plain_length(run.segment).unwrap_or(0).max(1);
        cost.new += new;
        cost.stored += (new * u64::from(segment.sealed)).div_ceil(plain);
    }
    Ok(cost)
}

fn lacks() -> Error {
    Error::Damaged("a recipe names chunks that its packs don't have; `varu verify` says which".to_owned())
}
