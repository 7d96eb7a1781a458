//! Opened repositories: every id at a place, what a look at it found, and the snapshots that are chosen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::amount::counted;
use super::{Machine, nearest};
use crate::class::{Class, Classified};
use crate::error::{Error, Result};
use crate::id::{Hasher, RepositoryId, hex};
use crate::index::{Index, SnapshotRow};
use crate::keyring::IGNORE_NEWER;
use crate::progress::Progress;
use crate::remote::Remote;
use crate::repository::{Changes, Chosen, Keys, PLACE, Repository};
use crate::time::Timestamp;
use crate::warning::{Warning, WarningKind};

/// What a person vouches for although the identity file doesn't account for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Repositories that are read although the identity file doesn't name them.
    pub repositories: Vec<RepositoryId>,
    /// Whether what is older is read although there are keys or newer snapshots that the identity file doesn't account for.
    pub ignore_newer: bool,
}

/// All repository ids at one place, the newest first, each with what a look at the remote found.
pub struct OpenedRepositories {
    /// At least one.
    pub repositories: Vec<(Arc<Repository>, Changes)>,
    /// Says which ids that the identity names lie there without keys.
    pub missing: Option<String>,
    /// For each, where this is a second place of it: what the first had when it was last looked at.
    first: Vec<Option<First>>,
    /// Holds the indexes where there is no state folder that can be written.
    _state: Option<TempDir>,
}

/// A backup went to this place: from now on others are copies of it.
pub fn remember_place(repository: &Repository) -> Result<()> {
    let place = repository.remote().place();
    let mut index = repository.index();
    if index.local(PLACE).map_err(Error::from)?.as_deref() != Some(place.as_bytes()) {
        index.set_local(PLACE, place.as_bytes()).map_err(Error::from)?;
    }
    Ok(())
}

impl Machine {
    /// Opens the repository to look at it: its writer key is enough.
    pub fn open_to_look(&self, trust: &Trust, progress: &Arc<dyn Progress>) -> Result<OpenedRepositories> {
        let opened = self.seen(self.open_unseen(trust, false, progress)?, trust, progress)?;
        opened.newer_strangers()?.iter().for_each(|why| progress.warn(&WarningKind::NewerRepository.warning(why)));
        Ok(opened)
    }

    /// Opens the repository with the identity, which reads its content. Refuses where newer snapshots lie there than those
    /// that the identity accounts for, unless that was said to be right.
    pub fn open_to_read(&self, trust: &Trust, progress: &Arc<dyn Progress>) -> Result<OpenedRepositories> {
        let opened = self.seen(self.open_unseen(trust, true, progress)?, trust, progress)?;
        let newer = opened.newer_strangers()?;
        if let Some(why) = newer.first()
            && !trust.ignore_newer
        {
            return Err(Error::Refused(format!("{why}. {IGNORE_NEWER}")));
        }
        newer.iter().for_each(|why| progress.warn(&WarningKind::NewerRepository.warning(why)));
        Ok(opened)
    }

    /// Opens the newest repository id to write, with its writer key.
    pub fn open_to_write(&self, remote: &Arc<dyn Remote>) -> Result<Arc<Repository>> {
        let keyring = self.keyring();
        let writer = keyring.writer(&**remote)?;
        let id = *writer.keys.id();
        let repository = Repository::open(remote.clone(), writer.keys, self.state()?)?;
        keyring.remember(&remote.place(), &[id])?;
        Ok(Arc::new(repository))
    }

    /// Refuses to delete in a place that is older than the first was when it was last looked at.
    pub fn refuse_behind(&self, repository: &Repository) -> Result<()> {
        let here = repository.remote().place();
        let (_, Some(First { place, newest: Some(there) })) = second(self.state()?, repository.id(), &here)? else {
            return Ok(());
        };
        repository.sync()?;
        let newest = newest(&repository.index())?;
        if newest.is_some_and(|newest| newest.header.sequence >= there.header.sequence) {
            return Ok(());
        }
        Err(Error::Damaged(format!(
            "nothing was deleted: {here} is older than {place}, which has snapshot {} of {}; bring it up to date with `varu \
                 --repo {place} copy --to {here}`, or if {place} is gone for good, go on here with `varu --repo {here} index rebuild \
                 --accept-loss`",
            there.id, there.header.set
        )))
    }

    /// Opens all repository ids of the place with their indexes as they are. With `as_first`, the place is the one that backups go to from now on, whichever that was.
    pub fn open_indexes(
        &self,
        trust: &Trust,
        as_first: bool,
        progress: &Arc<dyn Progress>,
    ) -> Result<Vec<Arc<Repository>>> {
        let remote = self.open_remote(progress)?;
        let reading = self.keyring().reader(&*remote, &trust.repositories)?;
        let mut repositories = Vec::new();
        for keys in reading.keys {
            let state = match as_first {
                true => self.state()?.to_owned(),
                false => second(self.state()?, keys.id(), &remote.place())?.0,
            };
            repositories.push(Arc::new(Repository::open(remote.clone(), keys, &state)?));
        }
        Ok(repositories)
    }

    /// Opens the repository without a look at what it holds; with the identity where `to_read`.
    pub fn open_unseen(
        &self,
        trust: &Trust,
        to_read: bool,
        progress: &Arc<dyn Progress>,
    ) -> Result<OpenedRepositories> {
        let remote = self.open_remote(progress)?;
        let reading = match to_read {
            true => self.keyring().unlock(&*remote, &trust.repositories)?.reading(&remote.place()),
            false => self.keyring().reader(&*remote, &trust.repositories)?,
        };
        reading.found.iter().for_each(|why| progress.warn(&WarningKind::DamagedObject.warning(why)));
        reading.unnamed.iter().for_each(|why| progress.warn(&WarningKind::NewerRepository.warning(why)));
        let opened = self.opened(&remote, reading.keys)?;
        Ok(OpenedRepositories { missing: reading.missing, ..opened })
    }

    fn seen(
        &self,
        mut opened: OpenedRepositories,
        trust: &Trust,
        progress: &Arc<dyn Progress>,
    ) -> Result<OpenedRepositories> {
        if let Some(why) = &opened.missing {
            if !trust.ignore_newer {
                return Err(Error::Damaged(format!("{why}. {IGNORE_NEWER}")));
            }
            progress.warn(&WarningKind::KeyObject.warning(why));
        }
        for ((repository, changes), first) in opened.repositories.iter_mut().zip(&opened.first) {
            *changes = repository.sync()?;
            changes.warnings().for_each(|warning| progress.warn(&warning));
            let here = newest(&repository.index())?;
            if let Some(First { place, newest: Some(there) }) = first
                && here.as_ref().is_none_or(|here| here.header.sequence < there.header.sequence)
            {
                let time = |row: &SnapshotRow| self.zone.short(row.header.data_time);
                let age = here.map_or("nothing".to_owned(), |here| format!("nothing newer than {}", time(&here)));
                progress.note(&format!(
                    "{} is older than {place}: it holds {age}, and {place} had data of {} when it was last looked at",
                    repository.remote().place(),
                    time(there)
                ));
            }
        }
        if let Some((oldest, _)) = opened.repositories.last()
            && let Some(before) = oldest.keys().file().follows
        {
            progress.note(&format!(
                "what was stored before the rotation, as repository {before}, is not looked at: its writer key isn't among \
                 the keys here; --identity opens it"
            ));
        }
        Ok(opened)
    }

    fn opened(&self, remote: &Arc<dyn Remote>, keys: Vec<Keys>) -> Result<OpenedRepositories> {
        let ids: Vec<RepositoryId> = keys.iter().map(|keys| *keys.id()).collect();
        let (state, temporary) = self.state_or_temporary(&ids)?;
        let mut repositories = Vec::new();
        let mut first = Vec::new();
        for keys in keys {
            let (state, newest) = second(&state, keys.id(), &remote.place())?;
            repositories.push((Arc::new(Repository::open(remote.clone(), keys, &state)?), Changes::default()));
            first.push(newest);
        }
        if temporary.is_none() {
            self.keyring().remember(&remote.place(), &ids)?;
        }
        Ok(OpenedRepositories { repositories, missing: None, first, _state: temporary })
    }

    /// The state folder where it can be written, else a temporary one: who only looks needs none that stays.
    fn state_or_temporary(&self, ids: &[RepositoryId]) -> Result<(PathBuf, Option<TempDir>)> {
        if let Ok(state) = self.state()
            && ids.iter().all(|id| can_write(&state.join(id.to_string())))
        {
            return Ok((state.to_owned(), None));
        }
        let folder = tempfile::Builder::new()
            .prefix("varu-")
            .tempdir()
            .map_err(|error| Error::Failed(format!("making a temporary folder for the index failed: {error}")))?;
        Ok((folder.path().to_owned(), Some(folder)))
    }
}

/// What the first place of a repository had.
struct First {
    place: String,
    newest: Option<SnapshotRow>,
}

/// The folder for the index of what lies at `place`. A copy of a repository has one of its own: what it lacks is no loss of the
/// first, whose place the index knows from the last backup.
fn second(state: &Path, id: &RepositoryId, place: &str) -> Result<(PathBuf, Option<First>)> {
    let folder = state.join(id.to_string());
    if !Index::is_in(&folder) {
        return Ok((state.to_owned(), None));
    }
    // Where it is damaged, the place that it was of is the first to be known of the new one.
    let index = Index::open_whole(&folder).map_err(Error::from)?;
    match index.local(PLACE).map_err(Error::from)? {
        Some(first) if first != place.as_bytes() => {
            let mut hasher = Hasher::new();
            hasher.update(place.as_bytes());
            let place = String::from_utf8_lossy(&first).into_owned();
            let folder = state.join("copies").join(hex(&hasher.finish_short()));
            Ok((folder, Some(First { place, newest: newest(&index)? })))
        }
        _ => Ok((state.to_owned(), None)),
    }
}

/// The snapshot with the highest number.
fn newest(index: &Index) -> Result<Option<SnapshotRow>> {
    let rows = index.snapshots().map_err(Error::from)?;
    Ok(rows.into_iter().max_by_key(|row| row.header.sequence))
}

/// Whether files can be made in the folder, which is made where it is missing.
fn can_write(folder: &Path) -> bool {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.is_ok() && tempfile::tempfile_in(folder).is_ok()
}

/// A snapshot that was chosen.
pub struct OpenedSnapshot {
    /// Its repository.
    pub repository: Arc<Repository>,
    /// The snapshot.
    pub snapshot: SnapshotRow,
    /// What there is to know about the choice: a newer suspect snapshot, a hidden one.
    pub warnings: Vec<Warning>,
}

/// How many strange repository ids are named.
const NAMED: usize = 3;

impl OpenedRepositories {
    /// Says which repository ids have snapshots there that are newer than all that these keys open.
    pub fn newer_strangers(&self) -> Result<Vec<String>> {
        let ours: BTreeSet<RepositoryId> = self.repositories.iter().map(|(repository, _)| *repository.id()).collect();
        let (mut sequence, mut stored) = (0, None);
        let mut strangers: BTreeMap<RepositoryId, Vec<(u64, Timestamp)>> = BTreeMap::new();
        for (repository, changes) in &self.repositories {
            if let Some(newest) = newest(&repository.index())? {
                sequence = sequence.max(newest.header.sequence);
                stored = stored.max(Some(newest.header.stored_time));
            }
            strangers.extend(changes.strangers.clone());
        }
        let is_newer = |(number, time): &(u64, Timestamp)| *number > sequence || Some(*time) > stored;
        let newer = strangers.iter().filter(|(id, _)| !ours.contains(id)).filter_map(|(id, snapshots)| {
            let count = snapshots.iter().filter(|snapshot| is_newer(snapshot)).count() as u64;
            (count > 0).then_some((count, id))
        });
        let mut newer: Vec<(u64, &RepositoryId)> = newer.collect();
        newer.sort_by(|a, b| b.cmp(a));
        let place = self.repositories.first().map(|(repository, _)| repository.remote().place()).unwrap_or_default();
        let more = newer.len().saturating_sub(NAMED);
        let mut said: Vec<String> = newer
            .into_iter()
            .take(NAMED)
            .map(|(count, id)| {
                format!(
                    "{} of the repository {id} in {place}, which the keys that were given don't name: the keys were rotated \
                     since this copy of the identity was made, or somebody forged them. Compare the id with the machine's \
                     (`varu key show`) or the recovery sheet: --trust-repository {id} reads them",
                    counted(count, "newer snapshot")
                )
            })
            .collect();
        if more > 0 {
            said.push(format!("and snapshots of {} more like it", counted(more as u64, "repository id")));
        }
        Ok(said)
    }

    /// Finds a snapshot of `set` (of any set where None), in the newest repository id that has it.
    ///
    /// # Errors
    ///
    /// Where a snapshot that was seen before is missing, only one that is named by its id is given: status 7.
    pub fn find(&self, set: Option<&str>, chosen: &Chosen) -> Result<OpenedSnapshot> {
        // What a repository says that has snapshots of the set goes before what one says that has none.
        let mut refused: Option<(bool, Error)> = None;
        let mut found: Option<OpenedSnapshot> = None;
        let mut hidden = Vec::new();
        for (repository, changes) in &self.repositories {
            hidden.extend(changes.hidden.clone());
            match repository.find_snapshot(set, chosen) {
                Ok(_) if found.is_some() => {
                    return Err(Error::Usage(
                        "more than one snapshot has an id that starts so; give more of it".to_owned(),
                    ));
                }
                Ok(snapshot) => {
                    let warnings = newer_suspect(repository, &snapshot, chosen)?;
                    found = Some(OpenedSnapshot { repository: repository.clone(), snapshot, warnings });
                    if !matches!(chosen, Chosen::Id(_)) {
                        break;
                    }
                }
                Err(error) => {
                    let failure = Error::from(error);
                    if failure.class() != Class::Usage {
                        return Err(failure);
                    }
                    let rows = repository.index().snapshots().map_err(Error::from)?;
                    let has_some = rows.iter().any(|row| set.is_none_or(|set| row.header.set == set));
                    if refused.as_ref().is_none_or(|(had_some, _)| has_some && !had_some) {
                        refused = Some((has_some, failure));
                    }
                }
            }
        }
        if !hidden.is_empty() && !matches!(chosen, Chosen::Id(_)) {
            return Err(Error::Damaged(hidden.join("\n")));
        }
        match (found, refused) {
            (Some(mut found), _) => {
                found.warnings.extend(hidden.into_iter().map(|why| WarningKind::MissingSnapshot.warning(why)));
                Ok(found)
            }
            (None, refused) => Err(self.not_found(refused.map(|(_, failure)| failure), set, chosen)),
        }
    }

    /// Why nothing was found. Where snapshots there are damaged or lost, it may be one of them.
    fn not_found(&self, failure: Option<Error>, set: Option<&str>, chosen: &Chosen) -> Error {
        let failure = failure.unwrap_or_else(|| Error::Usage("there is no snapshot".to_owned()));
        let has_set = || self.sets().is_ok_and(|sets| sets.iter().any(|name| set.is_none_or(|set| set == name)));
        match self.damaged() {
            Some(why) if matches!(chosen, Chosen::Id(_)) || !has_set() => {
                Error::Damaged(format!("{failure}. But {why}"))
            }
            _ => failure,
        }
    }

    /// What of the snapshots there is damaged, or that all are lost.
    pub fn damaged(&self) -> Option<String> {
        let damaged: Vec<&String> = self.repositories.iter().flat_map(|(_, changes)| &changes.damaged).collect();
        let more = damaged.len().saturating_sub(NAMED);
        let named = damaged.iter().take(NAMED).map(|why| why.as_str()).collect::<Vec<_>>().join("; ");
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        (!damaged.is_empty()).then(|| named + &more)
    }

    /// Refuses a set that neither the repository nor the configuration has.
    pub fn check_set(&self, set: &str, machine: &Machine) -> Result<()> {
        let there = self.sets()?;
        if there.iter().any(|name| name == set) || machine.configuration.sets.contains_key(set) {
            return Ok(());
        }
        if let (true, Some(why)) = (there.is_empty(), self.damaged()) {
            return Err(Error::Damaged(why));
        }
        let known = match (nearest(set, there.iter().map(String::as_str)), there.is_empty()) {
            (Some(near), _) => format!("did you mean {near}?"),
            (None, false) => format!("there are {}", there.join(", ")),
            (None, true) => "there is no snapshot at all".to_owned(),
        };
        Err(Error::Usage(format!("neither the repository nor the configuration has a set {set:?}; {known}")))
    }

    /// All sets that have a snapshot, by name.
    pub fn sets(&self) -> Result<Vec<String>> {
        let mut sets = BTreeSet::new();
        for (repository, _) in &self.repositories {
            let rows = repository.index().snapshots().map_err(Error::from)?;
            sets.extend(rows.into_iter().map(|row| row.header.set));
        }
        Ok(sets.into_iter().collect())
    }
}

/// Says where a newer snapshot of the set was passed over because it is suspect.
fn newer_suspect(repository: &Repository, snapshot: &SnapshotRow, chosen: &Chosen) -> Result<Vec<Warning>> {
    let until = match chosen {
        Chosen::Latest => None,
        Chosen::At(time) => Some(*time),
        Chosen::Id(_) => return Ok(Vec::new()),
    };
    let rows = repository.index().snapshots().map_err(Error::from)?;
    let newer = rows.iter().filter(|row| {
        row.header.suspect
            && row.header.set == snapshot.header.set
            && row.header.sequence > snapshot.header.sequence
            && until.is_none_or(|until| row.header.data_time <= until)
    });
    Ok(newer
        .map(|row| {
            WarningKind::NewerSuspect.warning(format!(
                "a newer snapshot of {}, {} from {}, is suspect and was passed over; --snapshot {} restores it",
                row.header.set, row.id, row.header.data_time, row.id
            ))
        })
        .collect())
}
