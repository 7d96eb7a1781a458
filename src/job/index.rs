//! Work with the local indexes of all repository ids at a place.

use std::sync::Arc;

use super::machine::Machine;
use super::open::{Trust, remember_place};
use super::prune::WAIT;
use crate::error::{Error, Result};
use crate::index::SnapshotRow;
use crate::progress::Progress;
use crate::repository::{Lock, Repository, Salvaged};
use crate::time::{Clock, SystemClock};
use crate::warning::{Warning, WarningKind};

/// An index that was made again.
#[derive(Debug, Default)]
pub struct RebuildReport {
    /// Snapshots that it has.
    pub snapshots: u64,
    /// Packs that it has.
    pub packs: u64,
    /// Which newest snapshots were seen before and are gone, a sentence each. Where their loss wasn't accepted the index was
    /// left as it was.
    pub hidden: Vec<String>,
}

/// The indexes of a place, at work.
pub struct IndexJob<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// What a person vouches for.
    pub trust: Trust,
    /// Who is told how it goes.
    pub progress: &'a Arc<dyn Progress>,
}

impl IndexJob<'_> {
    /// Opens the indexes. With `as_first` backups go to this place from now on, whichever that was.
    fn open(&self, as_first: bool) -> Result<Vec<Arc<Repository>>> {
        self.machine.open_indexes(&self.trust, as_first, self.progress)
    }

    fn lock(&self, repository: &Repository, what: &str) -> Result<Lock> {
        Ok(Lock::take(repository.folder(), what, WAIT, &**self.progress, &self.machine.interrupt)?)
    }

    /// Makes the indexes again from what the place has. With `accept_loss` also where a newest snapshot that was seen before is
    /// gone; who goes on so at another place than the last backup's goes on there with the backups, too.
    ///
    /// # Errors
    ///
    /// Where the repository can't be read, or is in use for too long.
    pub fn rebuild(&self, accept_loss: bool) -> Result<RebuildReport> {
        let repositories = self.open(accept_loss)?;
        let mut report = RebuildReport::default();
        for repository in &repositories {
            let _lock = self.lock(repository, "index rebuild")?;
            let changes = repository.rebuild(accept_loss)?;
            changes.warnings().for_each(|warning| self.progress.warn(&warning));
            changes.lost.iter().for_each(|why| self.progress.warn(&WarningKind::UnusableObject.warning(why)));
            if let Some(missing) = changes.hidden {
                self.progress.warn(&WarningKind::MissingSnapshot.warning(&missing));
                report.hidden.push(missing);
            }
            let index = repository.index();
            report.snapshots += index.snapshots()?.len() as u64;
            report.packs += index.packs()?.len() as u64;
        }
        if accept_loss {
            repositories.iter().try_for_each(|repository| remember_place(repository))?;
        }
        Ok(report)
    }

    /// Brings back snapshots that are lost, as they were where this machine knows them, else from the copies of their recipes in
    /// packs.
    ///
    /// # Errors
    ///
    /// Where the repository can't be read or written, or is in use for too long.
    pub fn salvage(&self) -> Result<Vec<Salvaged>> {
        let mut found = Vec::new();
        for repository in &self.open(false)? {
            let _lock = self.lock(repository, "index rebuild")?;
            found.push(repository.salvage(SystemClock.now())?);
        }
        // Whose a damaged object was none can tell, so each has named it. Where one of them has put it back that is over.
        let put_back = |salvaged: &&Salvaged| salvaged.from.is_none();
        let back: Vec<String> = found
            .iter()
            .flat_map(|(_, salvage)| salvage.brought_back.iter().filter(put_back))
            .map(|salvaged| salvaged.snapshot.id.to_string())
            .collect();
        let mut brought_back = Vec::new();
        for (mut changes, salvage) in found {
            changes.damaged.retain(|sentence| !back.iter().any(|id| sentence.contains(id)));
            changes.warnings().for_each(|warning| self.progress.warn(&warning));
            changes.lost.iter().for_each(|why| self.progress.warn(&WarningKind::UnusableObject.warning(why)));
            salvage.left.iter().for_each(|why| self.progress.warn(&WarningKind::MissingSnapshot.warning(why)));
            brought_back.extend(salvage.brought_back);
        }
        Ok(brought_back)
    }

    /// Compares the indexes with the repository. Returns the differences, a sentence each.
    ///
    /// # Errors
    ///
    /// Where the repository can't be read.
    pub fn check(&self) -> Result<Vec<String>> {
        let mut differences = Vec::new();
        for repository in &self.open(false)? {
            differences.extend(repository.check_index()?);
        }
        Ok(differences)
    }

    /// Takes the newest repository id over from another machine that wrote to it. Returns the snapshot from which this machine
    /// goes on, where there is one, and what there is to know.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] where a newest snapshot that was seen before is gone.
    pub fn adopt(&self) -> Result<(Option<SnapshotRow>, Vec<Warning>)> {
        let repositories = self.open(true)?;
        let repository = &repositories[0];
        let _lock = self.lock(repository, "index adopt")?;
        let changes = repository.sync()?;
        if let Some(hidden) = changes.hidden {
            return Err(Error::Damaged(hidden));
        }
        let newest = repository.adopt()?;
        remember_place(repository)?;
        Ok((newest, changes.warnings().collect()))
    }
}
