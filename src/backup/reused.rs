//! Packs that a backup relies on though no set's newest snapshot needs them: a prune may take such a one.
//!
//! A prune lists the snapshots, and later deletes objects that were marked before. It doesn't see a snapshot that is
//! stored in between. So after its commit a backup reads the marks: packs that such a prune deletes are either gone by
//! then, or named by a mark that is due. A backup host has no marks; its prune deletes nothing that is younger than 14
//! days.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::id::PackId;
use crate::index::{PackRow, SnapshotRow};
use crate::remote::ErrorKind;
use crate::repository::{self, Repository, StoredMark};
use crate::retention::UNNEEDED_FOR;
use crate::time::{Clock, Timestamp};

/// How long a pack that no snapshot needs may still be shared.
const SHARE_UNNEEDED: Duration = Duration::from_secs(7 * 24 * 3600);
/// How far the clock of a machine that prunes may be ahead of this one's.
const AHEAD: Duration = Duration::from_secs(3600);
/// The age at which a pack that no snapshot needed until now may have a deletion mark soon.
const OLD: Duration = Duration::from_secs(UNNEEDED_FOR.as_secs() - 24 * 3600);

/// The packs, with the times at which this machine stored them.
pub(super) struct ReusedPacks {
    packs: HashMap<PackId, Timestamp>,
    begun: Timestamp,
}

impl ReusedPacks {
    /// No packs yet, in a run that begins at `begun`.
    pub fn nothing(begun: Timestamp) -> Self {
        Self { packs: HashMap::new(), begun }
    }

    /// Those of `rows` that are not `needed`, were stored in the last week, and that nothing will delete in the next. None where
    /// the clock was set back since: then it isn't known how old a pack is.
    pub fn among<'a>(
        repository: &Repository,
        rows: impl Iterator<Item = &'a PackRow>,
        needed: &HashSet<PackId>,
        newest: &HashMap<String, SnapshotRow>,
        now: Timestamp,
    ) -> Result<Self> {
        let mut reused = Self::nothing(now);
        let stored: Vec<(PackId, Timestamp)> = rows.filter_map(|row| Some((row.id, row.stored_time?))).collect();
        let set_back = stored.iter().any(|(_, stored)| *stored > now)
            || newest.values().any(|snapshot| snapshot.header.stored_time > now);
        if set_back {
            return Ok(reused);
        }
        let young =
            |(pack, stored): &(PackId, Timestamp)| !needed.contains(pack) && now.since(*stored) < SHARE_UNNEEDED;
        reused.packs.extend(stored.into_iter().filter(young));
        if !reused.packs.is_empty() {
            for marked in marks(repository)?.iter().filter(|marked| marked.mark.due <= now.after(SHARE_UNNEEDED)) {
                reused.packs.retain(|pack, _| !marked.mark.packs.contains(pack));
            }
        }
        Ok(reused)
    }

    /// Whether it is one of them.
    pub fn has(&self, pack: &PackId) -> bool {
        self.packs.contains_key(pack)
    }

    /// Looks, after the commit of a snapshot, whether a prune that hasn't seen it may be about to take a pack of it. `made` says
    /// whether the run stored packs of its own.
    ///
    /// # Errors
    ///
    /// Where one may be. The snapshot stands, and the next backup looks whether all of it is there.
    pub fn verify_committed(
        &self,
        repository: &Repository,
        snapshot: &SnapshotRow,
        made: bool,
        clock: &dyn Clock,
    ) -> Result<()> {
        let used: HashMap<&PackId, Timestamp> =
            snapshot.header.packs.iter().filter_map(|pack| Some((pack, *self.packs.get(pack)?))).collect();
        if !used.is_empty() {
            let marks = marks(repository)?;
            let soon = clock.now().after(AHEAD);
            let due = marks.iter().filter(|marked| marked.mark.due <= soon).flat_map(|marked| &marked.mark.packs);
            if let Some(pack) = due.into_iter().find(|pack| used.contains_key(pack)) {
                return Err(at_risk(snapshot, &format!("packs/{pack}.pack is marked, and a prune may be deleting it")));
            }
        }
        let oldest = used.values().copied().chain(made.then_some(self.begun)).min();
        match oldest.map(|oldest| clock.now().since(oldest)).filter(|age| *age >= OLD) {
            None => Ok(()),
            Some(age) => {
                let days = age.as_secs() / (24 * 3600);
                Err(at_risk(
                    snapshot,
                    &format!("packs of it are {days} days old, and no snapshot needed them until now"),
                ))
            }
        }
    }
}

fn at_risk(snapshot: &SnapshotRow, why: &str) -> Error {
    Error::Damaged(format!(
        "the snapshot {} was stored, but {why}; the next backup looks whether all of it is there, so run it soon",
        snapshot.id
    ))
}

fn marks(repository: &Repository) -> Result<Vec<StoredMark>> {
    match repository.marks() {
        Ok((marks, _)) => Ok(marks),
        Err(repository::Error::Remote(error)) if error.kind == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
