//! Verify: checks that stored objects are present, intact, and can be restored.

mod affected;
mod data;
mod structure;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::{Result, ending};
use crate::format::layout::pack_name;
use crate::id::{PackId, RepositoryId, SnapshotId};
use crate::index::{Beginning, Ending, OperationKind, Outcome, Running, SnapshotRow};
use crate::progress::{Interrupt, Progress};
use crate::repository::{self, Repository};
use crate::time::{Clock, Timestamp};

/// How much is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every object is there, every reference resolves, every pack has its hash.
    Structure,
    /// Also every segment opens and every chunk has its id. Needs the identity.
    Data,
}

impl Level {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Level::Structure => "structure",
            Level::Data => "data",
        }
    }
}

/// The scope of a verification.
#[derive(Debug, Clone, Copy)]
pub struct VerifyOptions {
    /// How much.
    pub level: Level,
    /// The share of packs whose bytes are read, 0 to 1; they are drawn anew each time. That they are there is checked
    /// for all.
    pub sample: f64,
}

/// One thing that isn't as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The object, as `packs/…`.
    pub object: String,
    /// The defect.
    pub reason: String,
    /// The snapshots that can't be completely restored, with their streams that can't be restored; no stream if all are
    /// lost.
    pub affects: BTreeMap<SnapshotId, Vec<String>>,
}

/// Findings of a verification.
#[derive(Debug, Clone, Default)]
pub struct VerifyReport {
    /// All snapshots that could be read.
    pub snapshots: Vec<SnapshotRow>,
    /// Packs whose bytes were read.
    pub packs: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Damaged objects.
    pub damage: Vec<Damage>,
    /// Remarks for a person that are no damage.
    pub notes: Vec<String>,
    /// Objects of a later version of the format, which weren't verified: each a sentence.
    pub later: Vec<String>,
    /// Sequence and stored time of snapshots there that claim other repository ids.
    pub strangers: BTreeMap<RepositoryId, Vec<(u64, Timestamp)>>,
}

impl VerifyReport {
    /// Whether all of a snapshot can be restored, as far as was looked.
    pub fn is_whole(&self, id: &SnapshotId) -> bool {
        !self.damage.iter().any(|damage| damage.affects.contains_key(id))
    }

    fn damaged(&mut self, object: impl ToString, reason: impl ToString) {
        self.damage.push(Damage { object: object.to_string(), reason: reason.to_string(), affects: BTreeMap::new() });
    }
}

/// A part of a pack that can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Bad {
    /// All of it.
    Pack(PackId),
    /// One segment.
    Segment(PackId, u32),
}

impl Bad {
    /// Its name in a report.
    fn object(&self) -> String {
        match self {
            Bad::Pack(id) => pack_name(id).to_string(),
            Bad::Segment(id, segment) => format!("{} segment {segment}", pack_name(id)),
        }
    }
}

/// Verifies the repository. Damage is in the report; an error is about the verification itself.
pub fn verify(
    repository: &Arc<Repository>,
    options: &VerifyOptions,
    clock: &dyn Clock,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<VerifyReport> {
    let work = |operation: &Running| {
        let report = run(repository, options, progress, interrupt)?;
        let damaged = report.snapshots.iter().filter(|row| !report.is_whole(&row.id)).count() as u64;
        let (level, snapshots) = (options.level.word(), report.snapshots.len() as u64);
        let noted = repository.index().add_verification(operation, level, snapshots, damaged);
        noted.map_err(repository::Error::from)?;
        Ok(report)
    };
    let found = |report: &VerifyReport| match report.damage.first() {
        None => Ending::with_warnings(&[]),
        Some(damage) => Ending::new(Outcome::Failed, Some(format!("{}: {}", damage.object, damage.reason))),
    };
    let operation = Beginning::new(OperationKind::Verify, None);
    repository.record(&operation, clock, work, |result| ending(result, found))
}

fn run(
    repository: &Arc<Repository>,
    options: &VerifyOptions,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    let changes = repository.sync()?;
    if let Some(hidden) = &changes.hidden {
        report.damaged("snapshots/", hidden);
    }
    report.notes.extend(changes.healed.clone());
    let is_later = |why: &&String| changes.later.contains(*why);
    report.later.extend(changes.later.iter().cloned());
    for unusable in changes.unusable().filter(|why| !is_later(why)) {
        report.damaged("snapshots/", unusable);
    }
    report.strangers = changes.strangers;
    structure::keys(repository, &mut report)?;
    repository.look_for_copies()?;
    let sizes = repository.pack_sizes()?;
    let (structure, mut bad) = structure::snapshots(repository, &sizes, &mut report)?;
    bad.extend(structure::packs(repository, &structure, &sizes, options.sample, &mut report, progress, interrupt)?);
    if options.level == Level::Data {
        bad.extend(data::segments(repository, &structure, &bad, options.sample, &mut report, progress, interrupt)?);
    }
    let damaged = bad.iter().map(|bad| match bad {
        Bad::Pack(id) | Bad::Segment(id, _) => *id,
    });
    let all = options.level == Level::Data && options.sample >= 1.0;
    let damaged: BTreeSet<PackId> = damaged.collect();
    repository.note_damaged(damaged.iter().copied(), all)?;
    if all {
        repository.trust_packs(structure.needed().filter(|pack| !damaged.contains(pack)).copied())?;
    }
    affected::name(repository, &structure, &bad, &mut report)?;
    Ok(report)
}
