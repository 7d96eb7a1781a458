//! The packs that each snapshot needs.

use std::collections::HashMap;

use crate::id::{PackId, SnapshotId};
use crate::index::SnapshotRow;

/// A pack's bytes, and the snapshots that need it.
#[derive(Default)]
struct PackUse {
    size: u64,
    needers: Vec<SnapshotId>,
}

/// The packs that snapshots list.
#[derive(Default)]
pub(super) struct NeededPacks(HashMap<PackId, PackUse>);

impl NeededPacks {
    /// Of these snapshots. A pack that isn't there has no bytes.
    pub fn of<'a>(rows: impl Iterator<Item = &'a SnapshotRow>, sizes: &HashMap<PackId, u64>) -> Self {
        let mut packs: HashMap<PackId, PackUse> = HashMap::new();
        for row in rows {
            for id in &row.header.packs {
                let pack = packs.entry(*id).or_default();
                pack.size = sizes.get(id).copied().unwrap_or(0);
                pack.needers.push(row.id);
            }
        }
        Self(packs)
    }

    /// Whether a snapshot needs the pack.
    pub fn has(&self, pack: &PackId) -> bool {
        self.0.contains_key(pack)
    }

    /// Bytes of the packs for whose needers `which` holds.
    pub fn bytes_of(&self, which: impl Fn(&[SnapshotId]) -> bool) -> u64 {
        self.0.values().filter(|pack| which(&pack.needers)).map(|pack| pack.size).sum()
    }

    /// The packs that a snapshot needs and for whose needers `which` holds, ascending.
    pub fn packs_of(&self, id: &SnapshotId, which: impl Fn(&[SnapshotId]) -> bool) -> Vec<PackId> {
        let of = self.0.iter().filter(|(_, pack)| pack.needers.contains(id) && which(&pack.needers));
        let mut packs: Vec<PackId> = of.map(|(pack, _)| *pack).collect();
        packs.sort_unstable();
        packs
    }
}
