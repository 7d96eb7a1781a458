//! Prune: takes chains away that no rule keeps, in two phases.
//!
//! A snapshot to be deleted is marked first, with the packs that only marked snapshots need. When the mark is due, and
//! rules and needs are still the same, a later run deletes: the snapshot object, then the packs that no snapshot needs,
//! then the mark. In between a person can look again, and change a rule. An interruption at any point loses nothing that
//! stays, and the next run continues.

mod needs;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::entry::Untrusted;
use crate::error::{Error, Result, ending};
use crate::format::layout::{MAX_MARK_PACKS, pack_name};
use crate::format::mark::Mark;
use crate::format::snapshot::SnapshotBody;
use crate::id::{PackId, SnapshotId};
use crate::index::{Beginning, Ending, OperationKind, Outcome, SnapshotRow};
use crate::progress::{Interrupt, Progress};
use crate::remote::{ErrorKind, Folder, ObjectName};
use crate::repository::{self, Repository, StoredMark};
use crate::retention::{self, Basis, ChainVerdict, Rules, UNNEEDED_FOR};
use crate::time::{Clock, Timestamp};
use crate::warning::{Warning, WarningKind};

use needs::NeededPacks;

/// Options of a prune.
pub struct PruneOptions<'a> {
    /// The rules of a set.
    pub rules: &'a dyn Fn(&str) -> Rules,
    /// The time between a mark and the end.
    pub grace: Duration,
    /// Only report what would be done.
    pub dry_run: bool,
    /// Delete at once, without marks, and count ages by the clock: a person asks for it.
    pub now: bool,
    /// Paths and databases whose last snapshots may go, though newer ones lack them.
    pub dropped: BTreeSet<String>,
}

/// The decision about a chain.
#[derive(Debug, Clone)]
pub struct ChainReport {
    /// Whether it stays, and why.
    pub verdict: ChainVerdict,
    /// Its snapshots, by sequence.
    pub rows: Vec<SnapshotRow>,
    /// Bytes of its snapshot objects and of the packs that no other chain needs.
    pub alone: u64,
    /// When its mark is due, where it has one.
    pub due: Option<Timestamp>,
}

/// The deletions and marks of a prune, done or planned.
#[derive(Debug, Default)]
pub struct PruneReport {
    /// All chains, by set, the oldest first.
    pub chains: Vec<ChainReport>,
    /// Snapshots that were marked now.
    pub marked: Vec<SnapshotId>,
    /// Snapshots that were deleted now.
    pub deleted: Vec<SnapshotId>,
    /// Packs that were deleted now.
    pub packs_deleted: u64,
    /// Bytes that were deleted now.
    pub bytes_deleted: u64,
    /// Bytes that go when all marks are due.
    pub bytes_marked: u64,
    /// Packs that no snapshot needs: how many, and their bytes.
    pub unneeded: (u64, u64),
    /// Bytes of all packs that stay, and of those among them that only bases of the newest snapshots need.
    pub held: (u64, u64),
    /// Whether the account can't delete: then nothing was done, and the host prunes.
    pub append_only: bool,
    /// Oddities: snapshots from the future, unreadable marks.
    pub warnings: Vec<Warning>,
}

/// Prunes all repository ids of a location, the newest first. The caller holds their locks.
///
/// # Errors
///
/// Nothing is deleted where a snapshot is hidden that was seen before, or another machine wrote last.
pub fn prune(
    repositories: &[Arc<Repository>],
    options: &PruneOptions<'_>,
    clock: &dyn Clock,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<PruneReport> {
    let Some(newest) = repositories.first() else { return Ok(PruneReport::default()) };
    let run = Prune { options, now: clock.now(), progress, interrupt };
    newest.record(
        &Beginning::new(OperationKind::Prune, None),
        clock,
        |_| run.run(repositories),
        |result| match result {
            Err(_) if interrupt.is_set() => Ending::new(Outcome::Interrupted, None),
            result => ending(result, |report| Ending::with_warnings(&report.warnings)),
        },
    )
}

struct Prune<'a> {
    options: &'a PruneOptions<'a>,
    now: Timestamp,
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
}

impl Prune<'_> {
    fn run(&self, repositories: &[Arc<Repository>]) -> Result<PruneReport> {
        let mut report = PruneReport::default();
        self.progress.phase("looking", None, None);
        let mut places = Vec::new();
        for repository in repositories {
            places.push(PruneTarget::look(repository, &self.options.dropped, &mut report)?);
        }
        repositories[0].check_instance()?;
        self.judge(&places, &mut report)?;
        report.append_only = !repositories[0].remote().can_delete()?;
        if report.append_only || self.options.dry_run {
            return Ok(report);
        }
        self.progress.phase("deleting", None, None);
        repositories[0].sweep_pending(self.now)?;
        if places.iter().all(|place| place.rows.is_empty()) && places.iter().any(|place| !place.sizes.is_empty()) {
            report.warnings.push(WarningKind::MissingSnapshot.warning(format!(
                "{} holds packs and no snapshot, so nothing was deleted: either the first backup hasn't ended yet, or all snapshots \
                 were taken away; look at what other places and the host have before anything is written here",
                repositories[0].remote().place()
            )));
            return Ok(report);
        }
        for place in &mut places {
            match self.options.now {
                true => self.delete_now(place, &mut report)?,
                false => {
                    self.delete_due(place, &mut report)?;
                    self.mark(place, &mut report)?;
                }
            }
        }
        Ok(report)
    }

    /// The rules' decisions about all chains, and the space that they free.
    fn judge(&self, places: &[PruneTarget<'_>], report: &mut PruneReport) -> Result<()> {
        let mut seen: Vec<retention::Snapshot> = Vec::new();
        for place in places {
            seen.extend(place.as_rules_see()?);
        }
        for snapshot in seen.iter().filter(|snapshot| snapshot.time > self.now) {
            report.warnings.push(WarningKind::WrongClock.warning(format!(
                "snapshot {} of {} is from the future, {}: a clock was wrong; its age counts from the snapshot after it",
                snapshot.id, snapshot.set, snapshot.time
            )));
        }
        let verdicts =
            retention::judge(&seen, self.options.rules, Basis { by_clock: self.options.now, ..Basis::at(self.now) });
        let gone: BTreeSet<SnapshotId> =
            verdicts.iter().filter(|verdict| verdict.goes()).flat_map(|verdict| verdict.snapshots.clone()).collect();
        for verdict in verdicts {
            // A chain is one repository id's: its id is random.
            let Some(place) = places.iter().find(|place| place.rows.contains_key(&verdict.snapshots[0])) else {
                continue;
            };
            let rows: Vec<SnapshotRow> =
                verdict.snapshots.iter().filter_map(|id| place.rows.get(id).cloned()).collect();
            let ids: BTreeSet<SnapshotId> = verdict.snapshots.iter().copied().collect();
            let objects: u64 = rows.iter().map(|row| row.size).sum();
            let due = place.marks.iter().find(|marked| marked.mark.snapshot.is_some_and(|id| ids.contains(&id)));
            let alone = objects + place.needs.bytes_of(|needers| needers.iter().all(|id| ids.contains(id)));
            report.chains.push(ChainReport { due: due.map(|marked| marked.mark.due), verdict, rows, alone });
        }
        for place in places {
            let goes = |needers: &[SnapshotId]| needers.iter().all(|id| gone.contains(id));
            let objects = place.rows.values().filter(|row| gone.contains(&row.id)).map(|row| row.size).sum::<u64>();
            report.bytes_marked += objects + place.needs.bytes_of(goes);
            report.unneeded.0 += place.unneeded.len() as u64;
            report.unneeded.1 += place.unneeded.iter().filter_map(|pack| place.sizes.get(pack)).sum::<u64>();
            report.held.0 += place.needs.bytes_of(|needers| !goes(needers));
            report.held.1 += place.only_for_bases;
        }
        Ok(())
    }

    fn goes(report: &PruneReport) -> BTreeSet<SnapshotId> {
        let going = report.chains.iter().filter(|chain| chain.verdict.goes());
        going.flat_map(|chain| chain.verdict.snapshots.iter().copied()).collect()
    }

    /// Deletes marked objects that are due, and that today's rules don't keep either. A mark of an object that stays is
    /// removed.
    fn delete_due(&self, place: &mut PruneTarget<'_>, report: &mut PruneReport) -> Result<()> {
        let goes = Self::goes(report);
        let marks = std::mem::take(&mut place.marks);
        let (due, waiting): (Vec<StoredMark>, Vec<StoredMark>) =
            marks.into_iter().partition(|marked| marked.mark.due <= self.now);
        for marked in waiting {
            match marked.mark.snapshot.filter(|id| place.rows.contains_key(id) && !goes.contains(id)) {
                Some(_) => self.delete_object(place, &marked.name).map(drop)?,
                None => place.marks.push(marked),
            }
        }
        let rows = due.iter().filter_map(|marked| place.rows.get(&marked.mark.snapshot?));
        let rows = rows.filter(|row| goes.contains(&row.id)).cloned().collect();
        self.delete_snapshots(place, rows, report)?;
        for marked in due {
            self.delete_packs(place, &marked.mark.packs, report)?;
            self.delete_object(place, &marked.name)?;
        }
        Ok(())
    }

    /// Deletes objects that today's rules don't keep, and the packs that only those needed. Nothing is written, so it
    /// works on a full disk.
    fn delete_now(&self, place: &mut PruneTarget<'_>, report: &mut PruneReport) -> Result<()> {
        let goes = Self::goes(report);
        let rows: Vec<SnapshotRow> = place.rows.values().filter(|row| goes.contains(&row.id)).cloned().collect();
        let mut packs: BTreeSet<PackId> = rows.iter().flat_map(|row| row.header.packs.iter().copied()).collect();
        let stored = place.stored_times()?;
        let is_old =
            |pack: &&PackId| stored.get(*pack).copied().flatten().is_some_and(|at| at.after(UNNEEDED_FOR) <= self.now);
        let old: Vec<PackId> = place.unneeded.iter().filter(is_old).copied().collect();
        match place.may_be_of_lost_snapshots(old.iter())? {
            // Packs whose deletion was never announced stay.
            Some(warning) => report.warnings.push(warning),
            None => packs.extend(old),
        }
        self.delete_snapshots(place, rows, report)?;
        self.delete_packs(place, &packs.into_iter().collect::<Vec<_>>(), report)?;
        let done = |marked: &&StoredMark| marked.mark.snapshot.is_some_and(|id| goes.contains(&id));
        for name in place.marks.iter().filter(done).map(|marked| marked.name.clone()).collect::<Vec<_>>() {
            self.delete_object(place, &name)?;
        }
        Ok(())
    }

    fn delete_snapshots(
        &self,
        place: &mut PruneTarget<'_>,
        mut rows: Vec<SnapshotRow>,
        report: &mut PruneReport,
    ) -> Result<()> {
        // The newest first: a chain that is half deleted is complete up to its new end.
        rows.sort_by_key(|row| std::cmp::Reverse(row.header.sequence));
        for row in &rows {
            self.delete_object(place, &Repository::object_name(row))?;
            place.repository.index().remove_snapshot(&row.id)?;
            place.rows.remove(&row.id);
            report.deleted.push(row.id);
            report.bytes_deleted += row.size;
        }
        if !rows.is_empty() {
            place.repository.settle_pages()?;
            // No pack is deleted while the name of a snapshot that needs it could reappear after a power cut.
            place.repository.remote().flush(Folder::Snapshots)?;
            place.look_at_needs()?;
        }
        Ok(())
    }

    fn delete_packs(&self, place: &mut PruneTarget<'_>, packs: &[PackId], report: &mut PruneReport) -> Result<()> {
        for pack in packs {
            if !place.unneeded.contains(pack) {
                continue;
            }
            self.delete_object(place, &pack_name(pack))?;
            place.repository.index().remove_pack(pack)?;
            place.unneeded.remove(pack);
            report.packs_deleted += 1;
            report.bytes_deleted += place.sizes.get(pack).copied().unwrap_or(0);
        }
        Ok(())
    }

    /// Marks the snapshots that go, and packs that no snapshot needs.
    fn mark(&self, place: &mut PruneTarget<'_>, report: &mut PruneReport) -> Result<()> {
        let goes = Self::goes(report);
        let has: BTreeSet<SnapshotId> = place.marks.iter().filter_map(|marked| marked.mark.snapshot).collect();
        let fresh: Vec<SnapshotId> =
            place.rows.keys().filter(|id| goes.contains(id) && !has.contains(id)).copied().collect();
        for id in fresh {
            let packs = place.needs.packs_of(&id, |needers| needers.iter().all(|id| goes.contains(id)));
            self.store(place, self.options.grace, Some(id), packs)?;
            report.marked.push(id);
        }
        let known: BTreeSet<PackId> = place.marks.iter().flat_map(|marked| marked.mark.packs.clone()).collect();
        let stored = place.stored_times()?;
        let is_old = |pack: &&PackId| {
            stored.get(*pack).is_some_and(|stored| stored.is_some_and(|stored| stored.after(UNNEEDED_FOR) <= self.now))
        };
        let fresh: Vec<PackId> = place.unneeded.iter().filter(|pack| !known.contains(pack)).copied().collect();
        let (old, young): (Vec<&PackId>, Vec<&PackId>) = fresh.iter().partition(is_old);
        report.warnings.extend(place.may_be_of_lost_snapshots(fresh.iter())?);
        for (packs, wait) in [(old, self.options.grace), (young, UNNEEDED_FOR.max(self.options.grace))] {
            for part in packs.chunks(MAX_MARK_PACKS) {
                self.store(place, wait, None, part.iter().map(|pack| **pack).collect())?;
            }
        }
        Ok(())
    }

    fn store(
        &self,
        place: &PruneTarget<'_>,
        wait: Duration,
        snapshot: Option<SnapshotId>,
        packs: Vec<PackId>,
    ) -> Result<()> {
        self.check_interrupt()?;
        let stored = place.repository.store_mark(Mark { marked: self.now, due: self.now.after(wait), snapshot, packs });
        stored.map_err(|error| match error {
            repository::Error::Remote(error) if error.kind == ErrorKind::NoSpace => repository::Error::from(error.hint(
                "there is no room for the marks of what will be deleted: `varu prune --now` deletes what no rule keeps without \
                 them; with nothing that goes, shorten keep first",
            )),
            error => error,
        })?;
        Ok(())
    }

    fn delete_object(&self, place: &PruneTarget<'_>, name: &ObjectName) -> Result<()> {
        self.check_interrupt()?;
        match place.repository.delete(name)? {
            true => Ok(()),
            false => Err(Error::Refused(format!(
                "deleting {name} in {} was refused; look at its owner and mode there",
                place.repository.remote().place()
            ))),
        }
    }

    fn check_interrupt(&self) -> Result<()> {
        match self.interrupt.is_set() {
            true => Err(repository::Error::Interrupted.into()),
            false => Ok(()),
        }
    }
}

/// One repository id: its objects, and which of them are needed.
struct PruneTarget<'a> {
    repository: &'a Repository,
    rows: BTreeMap<SnapshotId, SnapshotRow>,
    sizes: HashMap<PackId, u64>,
    marks: Vec<StoredMark>,
    needs: NeededPacks,
    /// Lost snapshots whose recipe copies others depend on.
    recovered_recipes: BTreeSet<SnapshotId>,
    /// Packs of this repository id that no snapshot needs.
    unneeded: BTreeSet<PackId>,
    /// Whether there are unreadable snapshots: their needs are unknown.
    is_unclear: bool,
    /// Bytes that the newest snapshots need for bases alone.
    only_for_bases: u64,
    /// As [`PruneOptions::dropped`].
    dropped: &'a BTreeSet<String>,
}

impl<'a> PruneTarget<'a> {
    fn look(repository: &'a Repository, dropped: &'a BTreeSet<String>, report: &mut PruneReport) -> Result<Self> {
        let changes = repository.sync()?;
        if let Some(hidden) = changes.hidden {
            return Err(Error::Damaged(format!("nothing was deleted: {hidden}")));
        }
        report.warnings.extend(changes.warnings());
        let is_unclear = !changes.damaged.is_empty() || !changes.later.is_empty();
        if is_unclear {
            report.warnings.push(WarningKind::UnusableObject.warning(format!(
                "no pack is deleted in {}: objects in snapshots/ can't be read, and may need it. Where they are beyond help, \
                 take them away and prune again",
                repository.remote().place()
            )));
        }
        let sizes = repository.pack_sizes()?;
        repository.settle_packs(&sizes)?;
        let (marks, ignored) = repository.marks()?;
        if ignored > 0 {
            let text = format!("{ignored} marks can't be read, or belong to another repository; they say nothing");
            report.warnings.push(WarningKind::UnreadableMark.warning(text));
        }
        let rows = repository.index().snapshots()?;
        let rows = rows.into_iter().map(|row| (row.id, row)).collect();
        let mut place = Self {
            repository,
            rows,
            sizes,
            marks,
            needs: NeededPacks::default(),
            recovered_recipes: repository.index().recovered_recipes()?.into_iter().collect(),
            unneeded: BTreeSet::new(),
            is_unclear,
            only_for_bases: 0,
            dropped,
        };
        place.look_at_needs()?;
        place.only_for_bases = place.only_for_bases()?;
        Ok(place)
    }

    fn look_at_needs(&mut self) -> Result<()> {
        self.needs = NeededPacks::of(self.rows.values(), &self.sizes);
        if self.is_unclear {
            return Ok(());
        }
        let packs = self.repository.index().packs()?;
        self.unneeded = packs.into_iter().map(|pack| pack.id).filter(|id| !self.needs.has(id)).collect();
        Ok(())
    }

    /// Bytes of the packs that the newest snapshot of a set lists and that hold nothing of it but bases.
    fn only_for_bases(&self) -> Result<u64> {
        let mut newest: BTreeMap<&str, &SnapshotRow> = BTreeMap::new();
        for row in self.rows.values() {
            let of_set = newest.entry(&row.header.set).or_insert(row);
            if of_set.header.sequence < row.header.sequence {
                *of_set = row;
            }
        }
        let (mut listed, mut named) = (BTreeSet::new(), BTreeSet::new());
        for row in newest.into_values() {
            // A chain that is broken is verify's to name.
            let Ok(used) = self.repository.layers(&row.id).and_then(|layers| layers.used_packs()) else { continue };
            listed.extend(row.header.packs.iter().copied());
            named.extend(used);
        }
        Ok(listed.difference(&named).filter_map(|pack| self.sizes.get(pack)).sum())
    }

    /// Reports packs with copies of recipes that no snapshot needs: snapshots may be lost.
    fn may_be_of_lost_snapshots<'p>(&self, packs: impl Iterator<Item = &'p PackId>) -> Result<Option<Warning>> {
        let (mut count, mut bytes) = (0, 0);
        for pack in packs {
            let Some(size) = self.sizes.get(pack) else { continue };
            if self.repository.may_be_of_lost_snapshot(pack, *size)? {
                (count, bytes) = (count + 1, bytes + size);
            }
        }
        Ok((count > 0).then(|| {
            WarningKind::MissingSnapshot.warning(format!(
                "{count} packs in {} with {bytes} bytes belong to no snapshot, and hold copies of what one was made of: a backup \
                 was cut at its end, or snapshots are lost. `varu index rebuild --salvage` brings them back; else the packs go \
                 with a later prune",
                self.repository.remote().place()
            ))
        }))
    }

    fn stored_times(&self) -> Result<HashMap<PackId, Option<Timestamp>>> {
        let packs = self.repository.index().packs()?;
        Ok(packs.into_iter().map(|pack| (pack.id, pack.stored_time)).collect())
    }

    /// The snapshots for the rules. A good one can be restored: its packs are there, and its chain before it.
    fn as_rules_see(&self) -> Result<Vec<retention::Snapshot>> {
        let mut rows: Vec<&SnapshotRow> = self.rows.values().collect();
        rows.sort_by_key(|row| row.header.sequence);
        let mut stands = self.recovered_recipes.clone();
        let mut seen = Vec::new();
        for row in rows {
            let header = &row.header;
            if header.parent.is_none_or(|parent| stands.contains(&parent.id)) {
                stands.insert(row.id);
            }
            let whole = stands.contains(&row.id) && header.packs.iter().all(|pack| self.sizes.contains_key(pack));
            seen.push(retention::Snapshot {
                id: row.id,
                set: header.set.clone(),
                chain: header.chain,
                sequence: header.sequence,
                time: header.data_time,
                tags: header.tags.iter().map(|tag| tag.raw().to_owned()).collect(),
                good: whole && !header.suspect,
                holds: self.holds(&row.id)?,
            });
        }
        Ok(seen)
    }

    /// Its members that weren't dropped.
    fn holds(&self, id: &SnapshotId) -> Result<Vec<Untrusted>> {
        let body = self.repository.index().body(id)?;
        let all = body.iter().flat_map(SnapshotBody::holds);
        Ok(all.filter(|what| !self.dropped.contains(what.raw())).collect())
    }
}
