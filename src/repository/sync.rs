//! The index and the remote, brought together.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::changes::Changes;
use super::intake::Intake;
use super::listing::{FolderListing, listed};
use super::pages::encode_placed;
use super::sequences::{JUMP, highest_believed};
use super::snapshots::{Extent, describe, header_of};
use super::{Error, NO_INSTANCE, Repository, Result, WantedPack, instance};
use crate::format::layout::parse_snapshot_name;
use crate::format::snapshot::SnapshotHeader;
use crate::id::{ChainId, PackId, SnapshotId};
use crate::index::{ChunkIndex, Index, SnapshotRow};
use crate::remote::{Folder, ObjectName};
use crate::time::Timestamp;

/// The fact under which the index keeps the newest snapshot that it ever saw.
const HIGHEST: &str = "highest";
/// The fact under which the index keeps the snapshots that a listing showed to be damaged, and that were not whole since.
const SPOILT: &str = "spoilt";
/// The name under which the index keeps the highest sequence whose loss was accepted: later snapshots count on from
/// there, so that lost ones are recognised should they come back.
const PASSED: &str = "passed";
/// The fact under which the index keeps the newest snapshot of another instance that was adopted.
const ADOPTED: &str = "adopted";

/// The name under which the index keeps missing snapshots that were seen before, until a backup has reported them: lines
/// of [`Gone`].
const GONE: &str = "gone";
/// The fact under which the index keeps the place of the last backup.
pub const PLACE: &str = "place";

/// A snapshot that was seen and that somebody else took away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// The snapshot.
    pub id: SnapshotId,
    /// Its chain.
    pub chain: ChainId,
    /// When its content was true.
    pub time: Timestamp,
    /// Its set.
    pub set: String,
}

/// What the index knew before the remote was listed.
pub(super) struct Seen {
    known: HashMap<SnapshotId, SnapshotRow>,
    highest: Option<(u64, SnapshotId)>,
    spoilt: BTreeSet<SnapshotId>,
}

impl Repository {
    /// Lists the snapshots on the remote, adds unknown ones to the index, and drops missing ones.
    ///
    /// An index that was begun anew is filled from the repository, as by [`Repository::rebuild`].
    pub fn sync(&self) -> Result<Changes> {
        let why = self.index().why_anew()?;
        match why {
            Some(why) => Ok(Changes { healed: Some(why), ..self.make_anew(false)? }),
            None => self.look(),
        }
    }

    fn look(&self) -> Result<Changes> {
        let seen = self.seen()?;
        let there = self.snapshot_sizes()?;
        self.compare(seen, there)
    }

    /// What the index knows. It is read before the remote is listed: a concurrent backup adds to both, and its later additions
    /// must not look like losses.
    pub(super) fn seen(&self) -> Result<Seen> {
        let known = self.index().snapshots()?.into_iter().map(|row| (row.id, row)).collect();
        Ok(Seen { known, highest: self.highest_seen()?, spoilt: self.noted(SPOILT)? })
    }

    /// The snapshots that lie on the remote, with their sizes.
    pub(super) fn snapshot_sizes(&self) -> Result<BTreeMap<ObjectName, u64>> {
        let listed = listed(&*self.remote, Folder::Snapshots, parse_snapshot_name)?;
        Ok(listed.into_iter().map(|(object, _)| (object.name, object.size)).collect())
    }

    pub(super) fn compare(&self, seen: Seen, there: BTreeMap<ObjectName, u64>) -> Result<Changes> {
        let Seen { known, highest, spoilt: were_spoilt } = seen;
        let bad = self.bad()?;
        let mut changes = Changes::default();
        let mut present = BTreeSet::new();
        let objects =
            there.iter().filter_map(|(name, size)| Some((name.clone(), *size, parse_snapshot_name(name)?.id)));
        changes.listed = there.keys().cloned().collect();
        let mut spoilt = BTreeSet::new();
        let (mut unknown, mut back) = (Vec::new(), BTreeSet::new());
        for (name, size, id) in objects {
            match known.get(&id).filter(|row| Self::object_name(row) == name) {
                Some(row) if row.size == size && !bad.contains(&id) => _ = present.insert(id),
                // Nothing is built upon a damaged snapshot.
                Some(row) => {
                    changes.damaged.push(match row.size == size {
                        true => format!("{name} is damaged: its bytes aren't those that it was named by"),
                        false => format!("{name} is damaged: it has {size} bytes, and had {}", row.size),
                    });
                    spoilt.insert(id);
                }
                None => {
                    // The very bytes that were known before are back: nobody put an old snapshot in their place.
                    if were_spoilt.contains(&id) {
                        back.insert(name.clone());
                    }
                    unknown.push((name, size));
                }
            }
        }
        let mut intake = Intake::new(self);
        let fetched = self.fetch_snapshots(&unknown, Extent::Head, |name, size, head| {
            let highest = highest.filter(|_| !back.contains(name));
            intake.take(name, size, head, highest, &mut changes, &mut present)
        });
        // What came before an error needn't be fetched again.
        intake.enter().and(fetched)?;
        let still: BTreeSet<SnapshotId> =
            were_spoilt.difference(&present).copied().chain(spoilt.iter().copied()).collect();
        if still != were_spoilt {
            self.note(SPOILT, still)?;
        }
        let far = self.refuse_far_numbers(&mut changes, &mut present)?;
        let believed = known.values().filter(|row| !far.contains(&row.id));
        changes.hidden = self.hidden(believed, highest.filter(|(_, id)| !far.contains(id)), &(&present | &spoilt))?;
        self.keep_recipes(&known, &present)?;
        let mut gone: Vec<&SnapshotRow> =
            known.values().filter(|row| !changes.listed.contains(&Self::object_name(row))).collect();
        gone.sort_by_key(|row| row.header.sequence);
        changes.gone = gone.iter().map(|row| row.id).collect();
        if changes.hidden.is_none() {
            if !gone.is_empty() {
                self.note_gone(&gone)?;
            }
            for row in known.values().filter(|row| !present.contains(&row.id) && !far.contains(&row.id)) {
                self.index().lose_snapshot(&row.id)?;
            }
            if !bad.is_empty() {
                self.forget_bad()?;
            }
            self.note_highest()?;
            if !gone.is_empty() {
                self.settle_pages()?;
            }
        }
        if self.newest()?.is_none() && changes.hidden.is_none() && changes.damaged.is_empty() {
            changes.damaged.extend(self.lost_all()?);
        }
        Ok(changes)
    }

    /// Doesn't use snapshots whose sequences are so far beyond all others that no writer counted to them. Returns which.
    fn refuse_far_numbers(
        &self,
        changes: &mut Changes,
        present: &mut BTreeSet<SnapshotId>,
    ) -> Result<BTreeSet<SnapshotId>> {
        let mut far = BTreeSet::new();
        let rows: Vec<SnapshotRow> =
            self.index().snapshots()?.into_iter().filter(|row| present.contains(&row.id)).collect();
        let believed = highest_believed(rows.iter().map(|row| row.header.sequence));
        for row in rows.iter().filter(|row| row.header.sequence > believed) {
            changes.refused.push(format!(
                "{} is not used: its sequence is {}, and all others end at {believed}; no writer counts so, somebody forged it",
                describe(row),
                row.header.sequence
            ));
            present.remove(&row.id);
            changes.added.retain(|id| *id != row.id);
            self.index().remove_snapshot(&row.id)?;
            far.insert(row.id);
        }
        Ok(far)
    }

    fn note_gone(&self, gone: &[&SnapshotRow]) -> Result<()> {
        let mut index = self.index();
        let mut text = String::from_utf8(index.local(GONE)?.unwrap_or_default()).unwrap_or_default();
        for row in gone {
            let header = &row.header;
            text += &format!("{} {} {} {}\n", row.id, header.chain, header.data_time.nanos(), header.set);
        }
        Ok(index.set_local(GONE, text.as_bytes())?)
    }

    /// Known snapshots that somebody else removed, since this was last asked.
    pub fn take_gone(&self) -> Result<Vec<Gone>> {
        let mut index = self.index();
        let text = String::from_utf8(index.local(GONE)?.unwrap_or_default()).unwrap_or_default();
        if !text.is_empty() {
            index.forget_local(GONE)?;
        }
        let parse = |line: &str| {
            let mut words = line.split(' ');
            let (id, chain) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            let time = Timestamp::from_nanos(words.next()?.parse().ok()?);
            Some(Gone { id, chain, time, set: words.next()?.to_owned() })
        };
        Ok(text.lines().filter_map(parse).collect())
    }

    /// Takes in snapshots of this repository id that came since `listed` was, with numbers above `since`: another run wrote them
    /// beside this one.
    pub fn take_in_beside(&self, listed: &BTreeSet<ObjectName>, since: u64) -> Result<Vec<SnapshotRow>> {
        self.take_in_beside_of(self.remote.list(Folder::Snapshots), listed, since)
    }

    /// The same of the folder's listing.
    pub fn take_in_beside_of(
        &self,
        now: FolderListing,
        listed: &BTreeSet<ObjectName>,
        since: u64,
    ) -> Result<Vec<SnapshotRow>> {
        let (now, _) = now?;
        let mut beside = Vec::new();
        for object in now {
            if listed.contains(&object.name) || parse_snapshot_name(&object.name).is_none() {
                continue;
            }
            let Ok((row, body)) = self.fetch_snapshot(&object.name, object.size) else { continue };
            if row.header.sequence > since && row.header.sequence - since <= JUMP {
                self.index().add_snapshot(&row, &body)?;
                beside.push(row);
            }
        }
        if !beside.is_empty() {
            self.note_highest()?;
        }
        Ok(beside)
    }

    /// Keeps the records of lost snapshots that others depend on: these can still be restored.
    fn keep_recipes(&self, known: &HashMap<SnapshotId, SnapshotRow>, present: &BTreeSet<SnapshotId>) -> Result<()> {
        let stands = |row: &SnapshotRow| row.header.parent.map(|parent| parent.id);
        let needed: BTreeSet<SnapshotId> =
            known.values().filter(|row| present.contains(&row.id)).filter_map(stands).collect();
        for id in needed.into_iter().filter(|id| known.contains_key(id) && !present.contains(id)) {
            match self.placed_layers(&id) {
                Ok(layers) => self.index().set_stand_in(&id, &encode_placed(&layers))?,
                Err(Error::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says which snapshot is missing though nobody prunes such a one: the newest that was ever seen, or the newest of a set,
    /// where nothing newer is there instead.
    fn hidden<'a>(
        &self,
        known: impl Iterator<Item = &'a SnapshotRow>,
        highest: Option<(u64, SnapshotId)>,
        present: &BTreeSet<SnapshotId>,
    ) -> Result<Option<String>> {
        let now = self.index().snapshots()?;
        let there = |row: &&SnapshotRow| present.contains(&row.id);
        let newest = now.iter().filter(there).map(|row| row.header.sequence).max();
        let gone = |(sequence, id): &(u64, SnapshotId)| {
            !present.contains(id) && newest.is_none_or(|newest| newest <= *sequence)
        };
        if let Some((sequence, id)) = highest.filter(gone) {
            return Ok(Some(hidden(self, now.iter().find(|row| row.id == id), sequence, &id)));
        }
        let mut newest_of_set: HashMap<&str, &SnapshotRow> = HashMap::new();
        for row in known {
            let newest = newest_of_set.entry(&row.header.set).or_insert(row);
            if newest.header.sequence < row.header.sequence {
                *newest = row;
            }
        }
        let lost = newest_of_set.into_values().filter(|row| {
            let mut of_set = now.iter().filter(there).filter(|other| other.header.set == row.header.set);
            of_set.all(|other| other.header.sequence < row.header.sequence)
        });
        let lost = lost.max_by_key(|row| row.header.sequence);
        Ok(lost.map(|row| hidden(self, Some(row), row.header.sequence, &row.id)))
    }

    /// The sequence and id of the newest snapshot that this index ever saw.
    pub fn highest_seen(&self) -> Result<Option<(u64, SnapshotId)>> {
        let fact = self.index().local(HIGHEST)?;
        Ok(fact.and_then(|bytes| {
            let (sequence, id) = bytes.split_first_chunk()?;
            Some((u64::from_le_bytes(*sequence), SnapshotId::from_bytes(id.try_into().ok()?)))
        }))
    }

    /// Remembers the newest snapshot of the index as seen.
    pub fn note_highest(&self) -> Result<()> {
        match self.newest()? {
            Some(newest) => self.remember_highest(newest.header.sequence, &newest.id),
            None => Ok(()),
        }
    }

    fn remember_highest(&self, sequence: u64, id: &SnapshotId) -> Result<()> {
        let fact = [&sequence.to_le_bytes()[..], id.as_bytes()].concat();
        Ok(self.index().set_local(HIGHEST, &fact)?)
    }

    /// The newest snapshot of the index.
    pub fn newest(&self) -> Result<Option<SnapshotRow>> {
        Ok(self.index().snapshots()?.pop())
    }

    /// The highest sequence that any snapshot on the remote has, of this id or its predecessor. It comes from clear
    /// headers that nobody authenticates: it only makes numbers larger.
    pub fn highest_sequence(&self) -> Result<u64> {
        let passed = self.index().local(PASSED)?.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
        if let Some(newest) = self.newest()? {
            return Ok(newest.header.sequence.max(passed));
        }
        if self.keys.file().follows.is_none() {
            return Ok(passed);
        }
        let mut sequences = Vec::new();
        self.peek_all(|header| {
            sequences.push(header.sequence);
            Ok(())
        })?;
        Ok(highest_believed(sequences.into_iter()))
    }

    /// Refuses to write after another machine's snapshot, unless that was adopted, and beside another repository's.
    pub fn check_instance(&self) -> Result<()> {
        let Some(newest) = self.newest()? else { return self.check_strangers() };
        let adopted = self.index().local(ADOPTED)?;
        let is_ours = [instance(), NO_INSTANCE].contains(&newest.about.instance);
        if is_ours || adopted.as_deref() == Some(newest.id.as_bytes()) {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "the newest snapshot in {} was written by another machine, {:?} (sequence {}, {}). If this machine takes its \
             place, run `varu index adopt`; if both run, give this one a repository of its own",
            self.remote.place(),
            newest.about.host,
            newest.header.sequence,
            newest.header.stored_time
        )))
    }

    /// Where there is no snapshot of this repository, there may be none of another but those that it follows.
    fn check_strangers(&self) -> Result<()> {
        if self.keys.file().follows.is_some() {
            return Ok(());
        }
        self.peek_all(|header| match header.repository == *self.id() {
            true => Ok(()),
            false => Err(Error::Refused(format!(
                "{} holds snapshots of the repository {}, and none of {}, which this writer key writes. Check the URL and the \
                 writer key; if both are right, the host has put another repository in its place",
                self.remote.place(),
                header.repository,
                self.id()
            ))),
        })
    }

    /// Gives the clear headers of all snapshots to `take`, whichever repository's they are. Nobody vouches for them. Those
    /// that can't be read are left out.
    fn peek_all(&self, mut take: impl FnMut(SnapshotHeader) -> Result<()>) -> Result<()> {
        let (listed, _) = self.remote.list(Folder::Snapshots)?;
        let snapshots = listed.into_iter().filter(|object| parse_snapshot_name(&object.name).is_some());
        let objects: Vec<(ObjectName, u64)> = snapshots.map(|object| (object.name, object.size)).collect();
        self.fetch_snapshots(&objects, Extent::Head, |name, size, head| {
            match head.and_then(|head| header_of(name, size, &head)) {
                Ok(header) => take(header),
                Err(_) => Ok(()),
            }
        })
    }

    /// Accepts the newest snapshot as the one from which this machine continues. None if there is no snapshot.
    pub fn adopt(&self) -> Result<Option<SnapshotRow>> {
        let newest = self.newest()?;
        if let Some(newest) = &newest {
            self.index().set_local(ADOPTED, newest.id.as_bytes())?;
        }
        Ok(newest)
    }

    /// Rebuilds the index from pack directories and snapshots; of each pack only its ends are read. Local history stays. Returns the
    /// numbers found.
    ///
    /// Where a snapshot is hidden that was seen before, nothing is done but to say so, unless `accept_loss`.
    pub fn rebuild(&self, accept_loss: bool) -> Result<Changes> {
        let healed = self.index().why_anew()?;
        let changes = match accept_loss || healed.is_some() {
            false => Some(self.look()?).filter(|changes| changes.hidden.is_some()),
            true => None,
        };
        let changes = changes.map_or_else(|| self.make_anew(accept_loss), Ok)?;
        if accept_loss {
            self.forget_accepted(&changes.listed)?;
        }
        Ok(Changes { healed, ..changes })
    }

    pub(super) fn make_anew(&self, accept_loss: bool) -> Result<Changes> {
        let highest = self.highest_seen()?;
        {
            let mut index = self.index();
            index.clear()?;
            index.forget_local(HIGHEST)?;
            ChunkIndex::forget(&index);
        }
        if let Some((sequence, _)) = highest.filter(|_| accept_loss) {
            self.index().set_local(PASSED, &sequence.to_le_bytes())?;
        }
        let mut changes = self.look()?;
        if let Some((sequence, id)) = highest.filter(|_| !accept_loss)
            && self.newest()?.is_none_or(|newest| newest.header.sequence < sequence)
        {
            self.remember_highest(sequence, &id)?;
            changes.hidden = Some(hidden(self, None, sequence, &id));
        }
        self.enter_all_packs(&mut changes)?;
        changes.lost = self.replace_lost_parents()?;
        self.index().was_filled()?;
        Ok(changes)
    }

    fn enter_all_packs(&self, changes: &mut Changes) -> Result<()> {
        let sizes = self.pack_sizes()?;
        let needed: BTreeSet<PackId> = self.index().snapshots()?.into_iter().flat_map(|row| row.header.packs).collect();
        let ids: BTreeSet<PackId> = sizes.keys().copied().chain(needed.iter().copied()).collect();
        let missing = ids.iter().filter(|id| !sizes.contains_key(id));
        changes.damaged.extend(missing.map(|id| format!("packs/{id}.pack is missing, and a snapshot needs it")));
        let wanted = |id: PackId| Some(WantedPack { id, size: *sizes.get(&id)?, check: None });
        let wanted: Vec<WantedPack> = ids.into_iter().filter_map(wanted).collect();
        // Others that can't be read are of another repository id, or damaged and of no use.
        self.enter_directories(&wanted, |id, why| {
            if needed.contains(id) {
                changes.damaged.push(why);
            }
        })
    }

    /// Compares the packs on the remote with the index: forgets uploads that never ended and missing packs. Returns how
    /// many complete ones are missing.
    pub fn settle_packs(&self, sizes: &HashMap<PackId, u64>) -> Result<u64> {
        let mut gone = 0;
        let mut index = self.index();
        for pack in index.packs()? {
            match sizes.get(&pack.id) {
                Some(size) if *size == pack.size => {
                    if !pack.whole {
                        index.pack_is_whole(&pack.id)?;
                    }
                }
                _ => {
                    gone += u64::from(pack.whole);
                    index.remove_pack(&pack.id)?;
                }
            }
        }
        Ok(gone)
    }

    /// Reports differences between the index and the remote, without changing anything: each a sentence.
    pub fn check_index(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        if let Err(why) = self.index().look_through() {
            found.push(why.to_string());
        }
        let (listed, _) = self.remote.list(Folder::Snapshots)?;
        let there: BTreeSet<SnapshotId> =
            listed.iter().filter_map(|object| parse_snapshot_name(&object.name)).map(|name| name.id).collect();
        let known: BTreeSet<SnapshotId> = self.index().snapshots()?.iter().map(|row| row.id).collect();
        found.extend(there.difference(&known).map(|id| format!("snapshot {id} is on the remote and not in the index")));
        found.extend(known.difference(&there).map(|id| format!("snapshot {id} is in the index and not on the remote")));
        let sizes = self.pack_sizes()?;
        found.extend(check_packs(&self.index(), &sizes)?);
        Ok(found)
    }
}

fn check_packs(index: &Index, sizes: &HashMap<PackId, u64>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for pack in index.packs()?.iter().filter(|pack| pack.whole) {
        match sizes.get(&pack.id) {
            None => found.push(format!("pack {} is in the index and not on the remote", pack.id)),
            Some(size) if *size != pack.size => {
                found.push(format!("pack {} has {size} bytes on the remote and {} in the index", pack.id, pack.size));
            }
            Some(_) => {}
        }
    }
    Ok(found)
}

fn hidden(repository: &Repository, row: Option<&SnapshotRow>, sequence: u64, id: &SnapshotId) -> String {
    let what = row.map_or_else(|| format!("snapshot {id}"), describe);
    let here = repository.remote.place();
    let seen = repository.index().local(PLACE).ok().flatten();
    let seen = seen.map(|place| String::from_utf8_lossy(&place).into_owned()).filter(|place| *place != here);
    match seen {
        None => format!(
            "{what} with sequence {sequence} was seen in {here} before and is not there now: it was deleted, the host hides it, or \
             this is an older state of the place. Older snapshots can be restored by their id (--snapshot). If another place has \
             it, `varu --repo OTHER copy --to {here}` brings it back; while its packs are here, `varu index rebuild --salvage` \
             does; if it is gone for good, `varu index rebuild --accept-loss` goes on here without it"
        ),
        Some(there) => format!(
            "{what} with sequence {sequence} was seen in {there} and is not in {here}: this place is older, or another one. If \
             {there} is still there, `varu --repo {there} copy --to {here}` brings it over; if it is gone for good, `varu --repo \
             {here} index rebuild --accept-loss` goes on here without it. Older snapshots can be restored by their id (--snapshot)"
        ),
    }
}
