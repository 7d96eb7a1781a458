//! Prune of the repository by the rules of the configuration, and its undoing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::machine::Machine;
use super::open::Trust;
use crate::error::Result;
use crate::id::SnapshotId;
use crate::progress::Progress;
use crate::prune::{PruneOptions, PruneReport, prune};
use crate::repository::{Chosen, Lock};
use crate::time::SystemClock;
use crate::warning::Warning;

/// How long another run on the same repository, as a backup, is waited for by all that changes what is stored.
pub(in crate::job) const WAIT: Duration = Duration::from_secs(6 * 3600);

/// What is pruned, and how.
#[derive(Debug, Clone, Default)]
pub struct PruneRequest {
    /// Whether nothing is done, and only said.
    pub dry_run: bool,
    /// Whether it is deleted at once, without marks and their grace.
    pub now: bool,
    /// Paths and databases whose last snapshots may go, though newer ones lack them.
    pub dropped: BTreeSet<String>,
    /// What a person vouches for.
    pub trust: Trust,
}

/// A snapshot whose deletion marks were taken off.
#[derive(Debug)]
pub struct UndeleteReport {
    /// The snapshot that was named.
    pub snapshot: SnapshotId,
    /// Those that had a mark, of it and all that its chain has before it.
    pub unmarked: Vec<SnapshotId>,
    /// What there is to know about the choice of the snapshot.
    pub warnings: Vec<Warning>,
}

/// Prunes all repository ids of the place, by the rules of the configuration.
///
/// # Errors
///
/// Where a repository is in use for too long, is behind the first place of its backups, or can't be read or written.
pub fn run(request: &PruneRequest, machine: &Machine, progress: &Arc<dyn Progress>) -> Result<PruneReport> {
    let repositories = machine.open_indexes(&request.trust, false, progress)?;
    let mut locks = Vec::new();
    for repository in &repositories {
        locks.push(Lock::take(repository.folder(), "prune", WAIT, &**progress, &machine.interrupt)?);
    }
    if !request.dry_run {
        repositories.iter().try_for_each(|repository| machine.refuse_behind(repository))?;
    }
    let configuration = &machine.configuration;
    let options = PruneOptions {
        rules: &|set: &str| configuration.rules(set),
        grace: configuration.retention.grace,
        dry_run: request.dry_run,
        now: request.now,
        dropped: request.dropped.clone(),
    };
    prune(&repositories, &options, &SystemClock, &**progress, &machine.interrupt)
}

/// Takes the deletion marks off a snapshot and all that its chain has before it.
///
/// # Errors
///
/// Where there is no such snapshot, or a mark can't be taken off.
pub fn undelete(
    chosen: &Chosen,
    trust: &Trust,
    machine: &Machine,
    progress: &Arc<dyn Progress>,
) -> Result<UndeleteReport> {
    let opened = machine.open_to_look(trust, progress)?.find(None, chosen)?;
    let repository = &opened.repository;
    let _lock = Lock::take(repository.folder(), "undelete", WAIT, &**progress, &machine.interrupt)?;
    let rows = repository.index().snapshots()?;
    let mut unmarked = Vec::new();
    let mut next = Some(opened.snapshot.id);
    while let Some(row) = next.and_then(|id| rows.iter().find(|row| row.id == id)) {
        if repository.unmark(&row.id)? {
            unmarked.push(row.id);
        }
        next = row.header.parent.map(|parent| parent.id);
    }
    Ok(UndeleteReport { snapshot: opened.snapshot.id, unmarked, warnings: opened.warnings })
}
