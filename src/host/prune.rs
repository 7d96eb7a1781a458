//! `host prune`: root's own policy, by the times at which things arrived.
//!
//! A header that a machine writes can only make objects stay: by tags, parents, packs. Ages are the ledger's, and their
//! order is that of its lines. Only a snapshot with accepted and intact packs displaces others, and only once it has
//! been there as long as the policy keeps things. The ledger's line is written before an object is deleted, so an
//! interrupted run leaves objects that the next one deletes.
//!
//! Damage of one object keeps the objects that need it, and stops nothing else.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use super::accept::{AcceptReport, accept_account, make_state};
use super::area::Area;
use super::check::{HostDamage, Look, fail, header};
use super::checkpoints::{Checkpoints, InterruptibleCheckpoints};
use super::ledger::Ledger;
use super::policy::HostPolicy;
use super::{Places, failed, holds, verify};
use crate::error::{Error, Result};
use crate::format::layout::{pack_name, parse_pack_name, parse_snapshot_name};
use crate::id::SnapshotId;
use crate::progress::{Interrupt, Progress};
use crate::remote::{Folder, ObjectName};
use crate::repository::{self, Lock};
use crate::retention::{Basis, ChainVerdict, Reason, Snapshot, UNNEEDED_FOR, judge};
use crate::time::{Clock, Timestamp};
use crate::warning::Warning;

/// The accounts and rules of a prune.
#[derive(Debug, Clone)]
pub struct HostPruneOptions {
    /// Where the host keeps things.
    pub places: Places,
    /// The accounts; all that have a repository where none is named.
    pub accounts: Vec<String>,
    /// How long another run on the same account is waited for.
    pub wait: Duration,
    /// Root's policy.
    pub policy: HostPolicy,
    /// Whether deletions are only reported. Arrived objects are accepted all the same.
    pub dry_run: bool,
}

/// The decision about a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// The snapshot.
    pub id: SnapshotId,
    /// Its set.
    pub set: String,
    /// When it arrived.
    pub arrival: Timestamp,
    /// Why it stays; empty if it is deleted.
    pub reasons: Vec<KeptReason>,
}

/// Why a snapshot stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptReason {
    /// A rule of the policy.
    Rule(Reason),
    /// A snapshot of its chain is held.
    Held(SnapshotId),
    /// A snapshot that stays names this one as its parent.
    Parent(SnapshotId),
    /// Something of its chain that was accepted is damaged, and may be mended yet.
    Damaged,
}

/// Result for one account.
#[derive(Debug, Default)]
pub struct HostPruneReport {
    /// The account.
    pub account: String,
    /// Its snapshots, by set and age.
    pub snapshots: Vec<Fate>,
    /// Packs that went, or would.
    pub packs: u64,
    /// Bytes that went, or would.
    pub freed: u64,
    /// Damaged objects. Whatever needs them stays.
    pub damage: Vec<HostDamage>,
    /// Findings that need a person's attention.
    pub warnings: Vec<Warning>,
    /// Why it ended early, where it did.
    pub failure: Option<Error>,
}

/// Prunes the accounts' repositories, after accepting new arrivals. One account's failure, in its report, doesn't stop
/// the others.
///
/// # Errors
///
/// Where the root can't be read, and on an interrupt.
pub fn prune(
    options: &HostPruneOptions,
    clock: &dyn Clock,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Vec<HostPruneReport>> {
    let mut reports = Vec::new();
    for account in options.places.chosen(&options.accounts)? {
        if interrupt.is_set() {
            return Err(repository::Error::Interrupted.into());
        }
        let state = options.places.ledger(&account);
        let locked =
            make_state(&state).and_then(|()| Ok(Lock::take(&state, "host prune", options.wait, progress, interrupt)?));
        let mut report = HostPruneReport { account: account.clone(), ..HostPruneReport::default() };
        let pruned = locked.and_then(|_lock| {
            prune_account(options, &account, clock.now(), progress, &InterruptibleCheckpoints(interrupt), &mut report)
        });
        report.failure = pruned.err();
        reports.push(report);
    }
    Ok(reports)
}

/// Prunes one account. The caller holds its lock. `steps` is asked before each change: where it stops, the next run
/// continues.
///
/// # Errors
///
/// If a file can't be read or written, and the error with which `steps` stops it.
pub fn prune_account(
    options: &HostPruneOptions,
    account: &str,
    now: Timestamp,
    progress: &dyn Progress,
    steps: &dyn Checkpoints,
    report: &mut HostPruneReport,
) -> Result<()> {
    let places = &options.places;
    let AcceptReport { damage, later, warnings, failure, .. } = accept_account(places, account, now, progress, steps);
    (report.damage, report.warnings) = (damage, warnings);
    failure.map_or(Ok(()), Err)?;
    if let Some((object, version)) = later {
        return Err(Error::Usage(format!(
            "nothing was deleted: {object} is of version {version} of the format, and what it needs isn't known here; update varu \
             on this host, or delete it if no varu of yours wrote it"
        )));
    }
    let state = places.ledger(account);
    let ledger = Ledger::open(&state)?.ledger;
    let named: HashSet<ObjectName> = report.damage.iter().map(|damage| damage.object.clone()).collect();
    let known = verify::known_damage(&state)?.into_iter();
    report
        .damage
        .extend(known.filter(|damage| ledger.get(&damage.object).is_some() && !named.contains(&damage.object)));
    let chroot = places.chroot(account);
    let area = Area::open(&chroot, steps).map_err(|error| failed("opening the account's folder", &chroot, error))?;
    let mut pruning = Pruning { options, account, now, area, ledger, steps, report };
    pruning.finish_earlier()?;
    let (snapshots, unread) = pruning.snapshots()?;
    pruning.judge(&snapshots, &holds::read(&state)?);
    pruning.delete(&snapshots, &unread)
}

/// One run on one account.
struct Pruning<'a> {
    options: &'a HostPruneOptions,
    account: &'a str,
    now: Timestamp,
    area: Area<'a>,
    ledger: Ledger,
    steps: &'a dyn Checkpoints,
    report: &'a mut HostPruneReport,
}

/// A snapshot, as far as it is needed here. Its list of packs is read when it is needed, and not kept.
struct PruneCandidate {
    name: ObjectName,
    parent: Option<SnapshotId>,
    snapshot: Snapshot,
    /// Whether it, or an accepted pack of it, is damaged.
    damaged: bool,
}

impl Pruning<'_> {
    /// Deletes objects that an earlier run removed from the ledger and didn't get to delete.
    fn finish_earlier(&mut self) -> Result<()> {
        if self.options.dry_run {
            return Ok(());
        }
        let gone: Vec<ObjectName> = self.ledger.gone().iter().cloned().collect();
        self.unlink(&gone)
    }

    /// The snapshots of the ledger, in the order in which they arrived, and when those arrived whose headers can't be read.
    fn snapshots(&self) -> Result<(Vec<PruneCandidate>, Vec<Timestamp>)> {
        let damaged: HashSet<&ObjectName> = self.report.damage.iter().map(|damage| &damage.object).collect();
        let (mut known, mut unread) = (Vec::new(), Vec::new());
        for (name, entry) in self.ledger.entries() {
            let Some(parsed) = parse_snapshot_name(name) else { continue };
            let Look::Read(mut header) = header(&self.area, name)? else {
                unread.push(entry.arrival);
                continue;
            };
            // Only the relevant fields of a hundred thousand headers are held.
            let rules = self.options.policy.rules(self.account, &header.set);
            let packs = || header.packs.iter().map(pack_name);
            let whole = packs().all(|pack| self.ledger.get(&pack).is_some() && !damaged.contains(&pack));
            // A pack that never came, or was marked lost, can't be repaired; nor can a snapshot that lacks one.
            let lacks = packs().any(|pack| self.ledger.get(&pack).is_none());
            let mendable = packs().any(|pack| damaged.contains(&pack)) || damaged.contains(name) && !lacks;
            header.tags.retain(|tag| rules.tags.contains_key(tag.raw()));
            let snapshot = Snapshot {
                id: parsed.id,
                set: header.set,
                chain: header.chain,
                sequence: header.sequence,
                time: entry.arrival,
                tags: header.tags.iter().map(|tag| tag.raw().to_owned()).collect(),
                good: whole && !mendable && !header.suspect,
                holds: Vec::new(),
            };
            let parent = header.parent.map(|parent| parent.id);
            known.push(PruneCandidate { name: name.clone(), parent, snapshot, damaged: mendable });
        }
        // A header's sequence decides only between those that arrived together.
        known.sort_by_cached_key(|known| (self.ledger.place(&known.name), known.snapshot.sequence, known.snapshot.id));
        let mut whole = HashSet::new();
        for (number, known) in known.iter_mut().enumerate() {
            known.snapshot.sequence = number as u64 + 1;
            known.snapshot.good &= known.parent.is_none_or(|parent| whole.contains(&parent));
            whole.insert(known.snapshot.id);
        }
        Ok((known, unread))
    }

    fn judge(&mut self, known: &[PruneCandidate], held: &BTreeSet<SnapshotId>) {
        let snapshots: Vec<Snapshot> = known.iter().map(|known| known.snapshot.clone()).collect();
        let rules = |set: &str| self.options.policy.rules(self.account, set);
        let basis = Basis { settled: true, ..Basis::at(self.now) };
        let verdicts = judge(&snapshots, rules, basis);
        let fates = fates(&verdicts, known, held);
        let order = verdicts.iter().flat_map(|verdict| &verdict.snapshots);
        let by_id: BTreeMap<SnapshotId, &Snapshot> = snapshots.iter().map(|snapshot| (snapshot.id, snapshot)).collect();
        self.report.snapshots = order
            .filter_map(|id| {
                let (snapshot, reasons) = (by_id.get(id)?, fates.get(id)?);
                Some(Fate { id: *id, set: snapshot.set.clone(), arrival: snapshot.time, reasons: reasons.clone() })
            })
            .collect();
    }

    fn delete(&mut self, known: &[PruneCandidate], unread: &[Timestamp]) -> Result<()> {
        let fates = self.report.snapshots.iter();
        let going: HashSet<SnapshotId> = fates.filter(|fate| fate.reasons.is_empty()).map(|fate| fate.id).collect();
        let goes = |known: &&PruneCandidate| going.contains(&known.snapshot.id);
        // The newest first: the rest of a chain stays restorable.
        let snapshots: Vec<ObjectName> = known.iter().rev().filter(goes).map(|known| known.name.clone()).collect();
        let staying = known.iter().filter(|known| !goes(known)).map(|known| &known.name);
        let packs = self.unneeded(staying, unread)?;
        self.report.packs = packs.len() as u64;
        let sizes = snapshots.iter().chain(&packs).filter_map(|name| self.ledger.get(name));
        self.report.freed = sizes.map(|entry| entry.size).sum();
        if self.options.dry_run {
            return Ok(());
        }
        for names in [snapshots, packs] {
            self.ledger.let_go(&names, self.now, self.steps)?;
            self.unlink(&names)?;
        }
        Ok(())
    }

    /// Packs that none of these snapshots needs and that have been here long enough. A snapshot that can't be read, and
    /// arrived at one of the times `unread`, may need any that was there by then.
    fn unneeded<'n>(
        &self,
        staying: impl Iterator<Item = &'n ObjectName>,
        unread: &[Timestamp],
    ) -> Result<Vec<ObjectName>> {
        let unread = unread.iter().max();
        let old = |arrival: Timestamp| {
            self.now.since(arrival) >= UNNEEDED_FOR && unread.is_none_or(|unread| arrival > *unread)
        };
        let packs = self.ledger.entries().iter();
        let old = packs.filter(|(name, entry)| parse_pack_name(name).is_some() && old(entry.arrival));
        let mut unneeded: HashSet<ObjectName> = old.map(|(name, _)| name.clone()).collect();
        for name in staying {
            let Look::Read(header) = header(&self.area, name)? else {
                return Err(Error::Damaged(format!("{name} can't be read any more; nothing was deleted")));
            };
            header.packs.iter().for_each(|pack| drop(unneeded.take(&pack_name(pack))));
        }
        let mut unneeded: Vec<ObjectName> = unneeded.into_iter().collect();
        unneeded.sort();
        Ok(unneeded)
    }

    /// Deletes objects of root's, and makes that survive a power cut.
    fn unlink(&self, names: &[ObjectName]) -> Result<()> {
        let mut folders: BTreeSet<Folder> = BTreeSet::new();
        for name in names {
            let deleted = self.area.delete(name).map_err(|error| fail(&self.area, "deleting", name, error))?;
            if deleted {
                folders.insert(name.folder());
            }
        }
        for folder in folders {
            let flushed = self.area.flush(super::area::FileLocation::In(folder));
            flushed.map_err(|error| failed("flushing", &self.area.path().join(folder.name()), error))?;
        }
        Ok(())
    }
}

/// Why each snapshot stays: by the rules, because one of its chain is held, or because one that stays names it as parent.
fn fates(
    verdicts: &[ChainVerdict],
    known: &[PruneCandidate],
    held: &BTreeSet<SnapshotId>,
) -> BTreeMap<SnapshotId, Vec<KeptReason>> {
    let damaged: HashSet<SnapshotId> =
        known.iter().filter(|known| known.damaged).map(|known| known.snapshot.id).collect();
    let mut fates = BTreeMap::new();
    let mut chains: BTreeMap<SnapshotId, usize> = BTreeMap::new();
    for (number, verdict) in verdicts.iter().enumerate() {
        let mut reasons: Vec<KeptReason> = verdict.reasons.iter().cloned().map(KeptReason::Rule).collect();
        reasons.extend(verdict.snapshots.iter().filter(|id| held.contains(id)).map(|id| KeptReason::Held(*id)));
        reasons.extend(verdict.snapshots.iter().any(|id| damaged.contains(id)).then_some(KeptReason::Damaged));
        for id in &verdict.snapshots {
            chains.insert(*id, number);
            fates.insert(*id, reasons.clone());
        }
    }
    let parents: Vec<(SnapshotId, SnapshotId)> =
        known.iter().filter_map(|known| Some((known.snapshot.id, known.parent?))).collect();
    let stays = |fates: &BTreeMap<SnapshotId, Vec<KeptReason>>, id: &SnapshotId| {
        fates.get(id).is_some_and(|why| !why.is_empty())
    };
    // By children, so that each snapshot is looked at once for each that names it.
    let of: BTreeMap<SnapshotId, SnapshotId> = parents.iter().copied().collect();
    let mut todo: Vec<SnapshotId> = parents.iter().map(|(child, _)| *child).filter(|id| stays(&fates, id)).collect();
    while let Some(child) = todo.pop() {
        let Some(parent) = of.get(&child) else { continue };
        let Some(&chain) = chains.get(parent) else { continue };
        if !stays(&fates, parent) {
            for id in &verdicts[chain].snapshots {
                fates.insert(*id, vec![KeptReason::Parent(child)]);
                todo.push(*id);
            }
        }
    }
    fates
}
