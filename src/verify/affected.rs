//! Effect of damage: the streams and snapshots that can't be restored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::structure::Structure;
use super::{Bad, VerifyReport};
use crate::error::Result;
use crate::format::pack::Directory;
use crate::format::recipe::{PackRef, Stream};
use crate::id::PackId;
use crate::repository::Repository;

/// Most streams that are named of each snapshot; more are counted.
const MOST_NAMED: usize = 1000;

/// Adds to each damage of a pack the snapshots and streams that need the damaged part.
pub(super) fn name(
    repository: &Repository,
    structure: &Structure,
    bad: &[Bad],
    report: &mut VerifyReport,
) -> Result<()> {
    let parts: HashSet<Bad> = bad.iter().copied().collect();
    let mut searches = Vec::with_capacity(parts.len());
    for part in parts {
        let object = part.object();
        if !report.damage.iter().any(|damage| damage.object == object) {
            report.damaged(&object, "it is missing");
        }
        searches.push((object, Search { repository, bad: part, known: HashMap::new() }));
    }
    if searches.is_empty() {
        return Ok(());
    }
    for row in &structure.rows {
        let layers = repository.layers(&row.id)?;
        let mut streams: Vec<(Vec<String>, u64)> = vec![(Vec::new(), 0); searches.len()];
        for stream in layers.streams().over_gaps() {
            let stream = stream?;
            for ((_, search), streams) in searches.iter_mut().zip(&mut streams) {
                if search.stream(layers.packs(), &stream)? {
                    match streams.0.len() < MOST_NAMED {
                        true => streams.0.push(stream.entry.name.to_string()),
                        false => streams.1 += 1,
                    }
                }
            }
        }
        for ((object, _), (mut streams, more)) in searches.iter().zip(streams) {
            if more > 0 {
                streams.push(format!("and {more} more"));
            }
            for damage in report.damage.iter_mut().filter(|damage| damage.object == *object && !streams.is_empty()) {
                damage.affects.insert(row.id, streams.clone());
            }
        }
    }
    Ok(())
}

/// A search for streams that depend on a damaged part, directly or as a base.
struct Search<'a> {
    repository: &'a Repository,
    bad: Bad,
    known: HashMap<(PackId, u32), bool>,
}

impl Search<'_> {
    fn stream(&mut self, table: &[PackRef], stream: &Stream) -> Result<bool> {
        for run in &stream.runs {
            let Some(pack) = table.get(run.pack as usize) else { return Ok(true) };
            if self.segment(pack.id, run.segment)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn segment(&mut self, pack: PackId, segment: u32) -> Result<bool> {
        if let Some(&known) = self.known.get(&(pack, segment)) {
            return Ok(known);
        }
        let mut is_bad = self.bad == Bad::Pack(pack) || self.bad == Bad::Segment(pack, segment);
        if !is_bad {
            let depth = self.depth(pack, segment)?;
            for (base, segment) in self.bases(pack, segment)? {
                // A reader refuses a segment whose depth isn't above its bases'; so the recursion is bounded.
                is_bad |= self.depth(base, segment)? >= depth || self.segment(base, segment)?;
            }
        }
        self.known.insert((pack, segment), is_bad);
        Ok(is_bad)
    }

    fn depth(&self, pack: PackId, segment: u32) -> Result<u32> {
        let directory = self.directory(pack)?;
        Ok(directory.and_then(|directory| Some(directory.segments.get(segment as usize)?.depth)).unwrap_or(0))
    }

    fn bases(&self, pack: PackId, segment: u32) -> Result<Vec<(PackId, u32)>> {
        let Some(directory) = self.directory(pack)? else { return Ok(Vec::new()) };
        let Some(entry) = directory.segments.get(segment as usize) else { return Ok(Vec::new()) };
        let pack_of = |number: u32| match number {
            0 => pack,
            other => directory.base_packs[other as usize - 1],
        };
        Ok(entry.bases.iter().map(|run| (pack_of(run.pack), run.segment)).collect())
    }

    fn directory(&self, pack: PackId) -> Result<Option<Arc<Directory>>> {
        let index = self.repository.index();
        let Some(row) = index.pack(&pack)? else { return Ok(None) };
        Ok(index.directory(row.number)?)
    }
}
