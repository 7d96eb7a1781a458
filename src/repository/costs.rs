//! Costs of a snapshot's streams: new bytes, bytes in packs, and depth.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Error, Repository, Result};
use crate::format::pack::Directory;
use crate::format::recipe::{PackRef, Run, Stream};
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

    /// The costs of the streams of a recipe whose packs are `table`, if `own` are those that came with it. Directories that the
    /// index lacks are fetched.
    pub fn costs<'a>(&'a self, table: &'a [PackRef], own: &'a HashSet<PackId>) -> StreamCosts<'a> {
        StreamCosts { repository: self, table, own, packs: HashMap::new() }
    }
}

/// Tells the costs of streams, one after the other.
pub struct StreamCosts<'a> {
    repository: &'a Repository,
    table: &'a [PackRef],
    own: &'a HashSet<PackId>,
    packs: HashMap<u32, PackCost>,
}

impl StreamCosts<'_> {
    /// The cost of the next stream. A chunk that several streams have counts for the first.
    pub fn of(&mut self, stream: &Stream) -> Result<Cost> {
        let mut cost = Cost::default();
        for run in &stream.runs {
            if !self.packs.contains_key(&run.pack) {
                let pack = self.table.get(run.pack as usize).ok_or_else(lacks)?;
                let row = self.repository.enter_packs(std::iter::once(pack.id), self.table, None)?.pop();
                let row = row.ok_or_else(lacks)?.map_err(Error::Damaged)?;
                let directory = self.repository.index().directory(row.number)?.ok_or_else(lacks)?;
                let fresh = if self.own.contains(&row.id) { vec![true; directory.ids.len()] } else { Vec::new() };
                self.packs.insert(run.pack, PackCost { directory, fresh });
            }
            let pack = self.packs.get_mut(&run.pack).ok_or_else(lacks)?;
            pack.add(run, &mut cost)?;
        }
        Ok(cost)
    }
}

struct PackCost {
    directory: Arc<Directory>,
    /// Which chunks no stream has paid for; empty for a pack that was there before.
    fresh: Vec<bool>,
}

impl PackCost {
    fn add(&mut self, run: &Run, cost: &mut Cost) -> Result<()> {
        let range = self.directory.run_range(run.segment, run.first, run.count).ok_or_else(lacks)?;
        let segment = &self.directory.segments[run.segment as usize];
        cost.depth = cost.depth.max(segment.depth);
        if self.fresh.is_empty() {
            return Ok(());
        }
        let mut new = 0;
        for at in range {
            if std::mem::take(&mut self.fresh[at]) {
                new += u64::from(self.directory.lengths[at]);
            }
        }
        let plain = self.directory.plain_length(run.segment).unwrap_or(0).max(1);
        cost.new += new;
        cost.stored += (new * u64::from(segment.sealed)).div_ceil(plain);
        Ok(())
    }
}

fn lacks() -> Error {
    Error::Damaged("a recipe names chunks that its packs don't have; `varu verify` says which".to_owned())
}
