//! Rules for sharing a chunk that is stored already.

use std::collections::HashMap;

use super::start::Start;
use crate::error::Result;
use crate::format::layout::MAX_DEPTH;
use crate::format::recipe::Run;
use crate::index::Index;
use crate::repository::{self, Repository};

/// Remembers which segments can be relied upon: they and all their bases lie in packs that may be shared.
///
/// A pack that a snapshot needs may hold segments that it doesn't need; the packs of their bases may be gone.
#[derive(Default)]
pub(super) struct Sharing(HashMap<(u32, u32), bool>);

impl Sharing {
    /// Whether a chunk that lies there may be taken.
    pub fn may(&mut self, repository: &Repository, start: &Start<'_>, run: &Run) -> Result<bool> {
        let accepted = start.shared.contains(&run.pack) && start.accepts(run);
        Ok(accepted && self.stands(&repository.index(), start, (run.pack, run.segment), MAX_DEPTH + 1)?)
    }

    /// Whether a segment of less than that depth can be decoded. Bases have a smaller depth, so this comes to an end.
    fn stands(
        &mut self,
        index: &Index,
        start: &Start<'_>,
        segment: (u32, u32),
        below: u32,
    ) -> repository::Result<bool> {
        if let Some(&stands) = self.0.get(&segment) {
            return Ok(stands);
        }
        let (pack, number) = segment;
        let Some(directory) = index.directory(pack)?.filter(|_| start.shared.contains(&pack)) else { return Ok(false) };
        let Some(entry) = directory.segments.get(number as usize).filter(|entry| entry.depth < below) else {
            return Ok(false);
        };
        let mut stands = true;
        for run in &entry.bases {
            let base = match run.pack {
                0 => Some(pack),
                other => index.pack(&directory.base_packs[other as usize - 1])?.map(|row| row.number),
            };
            stands = match base {
                Some(base) => stands && self.stands(index, start, (base, run.segment), entry.depth)?,
                None => false,
            };
        }
        self.0.insert(segment, stands);
        Ok(stands)
    }
}
