//! Findings of a verification about packs: damaged ones are not built upon, fully opened ones can be trusted.

use std::collections::BTreeSet;

use super::{Repository, Result};
use crate::id::PackId;
use crate::index::ChunkIndex;

/// The fact under which the index keeps them.
const DAMAGED: &str = "damaged";

impl Repository {
    /// The packs that were found damaged, and not whole since.
    pub fn damaged_packs(&self) -> Result<BTreeSet<PackId>> {
        let fact = self.index().local(DAMAGED)?.unwrap_or_default();
        Ok(fact.as_chunks::<{ PackId::LEN }>().0.iter().map(|&id| PackId::from_bytes(id)).collect())
    }

    /// Remembers that every segment of these packs was opened, and every chunk had its id: backups may share them.
    pub fn trust_packs(&self, packs: impl Iterator<Item = PackId>) -> Result<()> {
        let mut index = self.index();
        if index.trust_packs(packs)? > 0 {
            ChunkIndex::forget(&index);
        }
        Ok(())
    }

    /// Notes which packs a verification found damaged. Where it looked at `all` bytes, others are whole again.
    pub fn note_damaged(&self, found: impl Iterator<Item = PackId>, all: bool) -> Result<()> {
        let mut damaged = if all { BTreeSet::new() } else { self.damaged_packs()? };
        damaged.extend(found);
        let fact: Vec<u8> = damaged.iter().flat_map(|id| *id.as_bytes()).collect();
        Ok(self.index().set_local(DAMAGED, &fact)?)
    }
}
