//! Differences between the remote and the index, as a comparison of both finds them.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{RepositoryId, SnapshotId};
use crate::remote::ObjectName;
use crate::time::Timestamp;
use crate::warning::{Warning, WarningKind};

/// Differences between the remote and the index.
#[derive(Debug, Default)]
pub struct Changes {
    /// Snapshots that were new to the index.
    pub added: Vec<SnapshotId>,
    /// Snapshots of the index that the remote no longer has.
    pub gone: Vec<SnapshotId>,
    /// A snapshot that was seen before and is missing though nothing newer is there: a sentence that names it.
    pub hidden: Option<String>,
    /// Invalid and unreadable objects in `snapshots/`, each a sentence that names it. They are not used.
    pub damaged: Vec<String>,
    /// Other objects that are not used, each a sentence that names it.
    pub refused: Vec<String>,
    /// Those of these that a later version of the format wrote: who writes must know that version.
    pub later: Vec<String>,
    /// Snapshots that are lost and that later ones of their chains need, each a sentence that says whether a copy of its
    /// recipe takes its place. Only a rebuild looks for them.
    pub lost: Vec<String>,
    /// Where the index was damaged and was made again: a sentence that says so.
    pub healed: Option<String>,
    /// How many objects there belong to other repository ids.
    pub foreign: u64,
    /// Sequence and stored time of each of them, by the id that its clear header claims. Nobody vouches for any of it.
    pub strangers: BTreeMap<RepositoryId, Vec<(u64, Timestamp)>>,
    /// The names of all snapshots that were there.
    pub listed: BTreeSet<ObjectName>,
}

impl Changes {
    /// The unused objects, each a sentence with the name and the reason.
    pub fn unusable(&self) -> impl Iterator<Item = &String> {
        self.damaged.iter().chain(&self.refused)
    }

    /// The same for a reader.
    pub fn warnings(&self) -> impl Iterator<Item = Warning> {
        let healed = self.healed.iter().map(|why| WarningKind::DamagedIndex.warning(why));
        let damaged = self.damaged.iter().map(|why| WarningKind::DamagedObject.warning(why));
        healed.chain(damaged).chain(self.refused.iter().map(|why| WarningKind::UnusableObject.warning(why)))
    }
}
