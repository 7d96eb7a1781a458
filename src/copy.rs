//! A second repository from the first, object by object. No key is needed: names and clear headers say all that it takes.
//!
//! Objects are copied byte for byte, each hashed on the way, in the order in which a backup writes them: keys, packs,
//! and a snapshot only when all of its packs are there. So the second location is restorable at every moment, and an
//! interrupted copy continues. The second location may prune by rules of its own: snapshots that are older than its
//! newest of a chain's set aren't sent again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::format::layout::{info_name, is_key_name, pack_name, parse_mark_name, parse_pack_name, parse_snapshot_name};
use crate::format::snapshot::{SnapshotDigest, SnapshotHeader};
use crate::id::{ChainId, Hasher, PackId, RepositoryId, SnapshotId};
use crate::progress::{Counter, Interrupt, Progress};
use crate::remote::{Folder, Listed, ObjectName, Remote};
use crate::repository::sequences::highest_believed;
use crate::repository::{self, list_or_none};

/// Bytes that are asked for at once.
const PIECE: usize = 4 << 20;
/// Objects that are under way at once.
const AT_ONCE: usize = 4;
/// Most bytes of a snapshot's clear header: a lie about them takes no memory.
const MAX_HEADER: usize = 64 << 20;

/// Result of a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// Objects that were sent.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Snapshots among them, in the order of their numbers.
    pub snapshots: Vec<SnapshotId>,
    /// Snapshots that both places have now.
    pub common: u64,
    /// Snapshots that were left out: the second place has newer ones of their sets, and has pruned these or never had them.
    pub older: u64,
    /// Snapshots that wait for the next copy: they need packs that a prune of the second place is about to delete.
    pub waiting: u64,
    /// Objects of the first place that are damaged or missing, and snapshots that can't be sent for that.
    pub damaged: Vec<String>,
}

/// A snapshot at the first place.
struct KnownSnapshot {
    listed: Listed,
    id: SnapshotId,
    header: SnapshotHeader,
}

/// The contents of both locations.
struct CopySurvey {
    /// The snapshots to send, in the order of their numbers.
    snapshots: Vec<KnownSnapshot>,
    /// How many more the second place lacks.
    older: u64,
    /// The packs of all that the second place has or will have: those that it has lost come back.
    needed: HashSet<PackId>,
}

/// The packs that snapshots of the second location need, if there are marks.
#[derive(Default)]
struct MarkedObjects {
    /// Packs that marked ones need.
    pending_deletes: HashSet<PackId>,
    /// Packs that others need.
    kept: HashSet<PackId>,
    /// Whether marked ones are gone already: then their needs aren't known.
    under_way: bool,
}

impl MarkedObjects {
    /// Whether a prune may be about to delete a pack; `sent` says whether this copy brought it.
    fn may_go(&self, pack: &PackId, sent: bool) -> bool {
        !self.kept.contains(pack) && (self.pending_deletes.contains(pack) || (self.under_way && !sent))
    }
}

/// Progress so far, of several threads.
struct Work<'a> {
    from: &'a dyn Remote,
    to: &'a dyn Remote,
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
    report: Mutex<CopyReport>,
    /// Damaged and missing objects, with the defect.
    damaged: Mutex<Vec<(ObjectName, String)>>,
}

/// Sends the objects of `from` that `to` lacks; with `all`, also snapshots that are older than its newest of their sets.
///
/// # Errors
///
/// [`Error::Refused`] where `to` holds another repository, [`Error::Usage`] where `from` holds none, those of the remotes,
/// and an interrupt. Damage at `from` is no error: it is in the report.
pub fn copy(
    from: &dyn Remote,
    to: &dyn Remote,
    all: bool,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<CopyReport> {
    let work = Work { from, to, progress, interrupt, report: Mutex::default(), damaged: Mutex::default() };
    progress.phase("looking at both places", None, None);
    let keys = work.missing_keys()?;
    let CopySurvey { snapshots, older, needed } = work.snapshots(all)?;
    let packs = work.missing_packs(&needed)?;
    let bytes = |listed: &[Listed]| listed.iter().map(|object| object.size).sum::<u64>();
    let total = bytes(&keys) + bytes(&packs) + snapshots.iter().map(|known| known.listed.size).sum::<u64>();
    progress.phase("copying", Some(total), None);
    to.create_folders()?;
    work.send_all(&keys)?;
    work.flush(Folder::Keys)?;
    let lost = work.send_all(&packs)?;
    work.flush(Folder::Packs)?;
    work.send_snapshots(&snapshots, &packs, &lost)?;
    let damaged = work.damage()?;
    let mut report = work.report.into_inner().unwrap_or_else(PoisonError::into_inner);
    (report.older, report.damaged) = (older, damaged);
    Ok(report)
}

impl Work<'_> {
    fn report(&self) -> std::sync::MutexGuard<'_, CopyReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn damaged(&self, name: &ObjectName, why: impl std::fmt::Display) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).push((name.clone(), why.to_string()));
    }

    /// The damage, a sentence for each object. Objects that a prune of the first location has deleted in between are
    /// none: a snapshot that doesn't exist any more, and packs that no snapshot there needs.
    fn damage(&self) -> Result<Vec<String>> {
        let found = std::mem::take(&mut *self.damaged.lock().unwrap_or_else(PoisonError::into_inner));
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let mut there = HashSet::new();
        for listed in list_or_none(self.from, Folder::Snapshots)? {
            if let Some(header) = self.header(&listed)? {
                there.extend(header.packs.iter().map(pack_name));
            }
            there.insert(listed.name);
        }
        let is_there = |(name, _): &(ObjectName, String)| {
            !matches!(name.folder(), Folder::Packs | Folder::Snapshots) || there.contains(name)
        };
        let mut damaged: Vec<String> =
            found.into_iter().filter(is_there).map(|(name, why)| format!("{name}: {why}")).collect();
        damaged.sort();
        Ok(damaged)
    }

    /// The key objects that the second place lacks, and the text for people.
    fn missing_keys(&self) -> Result<Vec<Listed>> {
        let is_key = |listed: &Listed| is_key_name(&listed.name);
        let ours: Vec<Listed> = list_or_none(self.from, Folder::Keys)?.into_iter().filter(is_key).collect();
        if ours.is_empty() {
            return Err(Error::Usage(format!("there is no repository at {}", self.from.place())));
        }
        let theirs: HashSet<ObjectName> =
            list_or_none(self.to, Folder::Keys)?.into_iter().map(|listed| listed.name).collect();
        if !theirs.is_empty() && ours.iter().all(|key| !theirs.contains(&key.name)) {
            return Err(Error::Refused(format!(
                "{} holds another repository than {}, with none of its keys; nothing was copied: give a place of its own to \
                 the copy",
                self.to.place(),
                self.from.place()
            )));
        }
        let text = list_or_none(self.from, Folder::Info)?.into_iter().filter(|listed| listed.name == info_name());
        let there: HashSet<ObjectName> =
            list_or_none(self.to, Folder::Info)?.into_iter().map(|listed| listed.name).collect();
        Ok(text.chain(ours).filter(|key| !theirs.contains(&key.name) && !there.contains(&key.name)).collect())
    }

    fn snapshots(&self, all: bool) -> Result<CopySurvey> {
        let theirs = list_or_none(self.to, Folder::Snapshots)?;
        let theirs: HashSet<ObjectName> = theirs.into_iter().map(|listed| listed.name).collect();
        let (mut missing, mut chains) = (Vec::new(), HashSet::<ChainId>::new());
        let mut numbers: BTreeMap<RepositoryId, Vec<u64>> = BTreeMap::new();
        let mut common = Vec::new();
        let mut needed = HashSet::new();
        for listed in list_or_none(self.from, Folder::Snapshots)? {
            let Some(name) = parse_snapshot_name(&listed.name) else { continue };
            let Some(header) = self.header(&listed)? else { continue };
            numbers.entry(header.repository).or_default().push(header.sequence);
            if theirs.contains(&listed.name) {
                common.push((header.repository, header.set.clone(), header.sequence));
                chains.insert(header.chain);
                needed.extend(header.packs);
                self.report().common += 1;
            } else {
                missing.push(KnownSnapshot { listed, id: name.id, header });
            }
        }
        // A number that no writer counts to makes nothing older than it.
        let mut newest: BTreeMap<String, u64> = BTreeMap::new();
        let believed: BTreeMap<RepositoryId, u64> =
            numbers.into_iter().map(|(id, numbers)| (id, highest_believed(numbers.into_iter()))).collect();
        for (id, set, number) in common {
            if believed.get(&id).is_some_and(|believed| number <= *believed) {
                let newest = newest.entry(set).or_insert(0);
                *newest = number.max(*newest);
            }
        }
        let pruned = |known: &KnownSnapshot| {
            let newer = newest.get(&known.header.set).is_some_and(|newest| *newest > known.header.sequence);
            !all && newer && !chains.contains(&known.header.chain)
        };
        let before = missing.len();
        missing.retain(|known| !pruned(known));
        missing.sort_by_key(|known| (known.header.sequence, known.id));
        let older = (before - missing.len()) as u64;
        needed.extend(missing.iter().flat_map(|known| known.header.packs.iter().copied()));
        Ok(CopySurvey { snapshots: missing, older, needed })
    }

    /// The pending deletes of a prune of the second location.
    ///
    /// Marks exist for the grace time before anything is deleted. So objects that a prune may delete before it can see
    /// the snapshots that are sent next are marked by now.
    fn marked(&self) -> Result<MarkedObjects> {
        let marks = list_or_none(self.to, Folder::Marks)?;
        let mut ids: HashSet<SnapshotId> = marks.iter().filter_map(|listed| parse_mark_name(&listed.name)).collect();
        let mut marked = MarkedObjects::default();
        if ids.is_empty() {
            return Ok(marked);
        }
        for listed in list_or_none(self.to, Folder::Snapshots)? {
            let Some(name) = parse_snapshot_name(&listed.name) else { continue };
            let Ok(header) = read_header(self.to, &listed)? else { continue };
            let of = if ids.remove(&name.id) { &mut marked.pending_deletes } else { &mut marked.kept };
            of.extend(header.packs);
        }
        // The snapshots go first.
        marked.under_way = !ids.is_empty();
        Ok(marked)
    }

    /// The clear header of a snapshot of the first place; None where it doesn't read, which is damage.
    fn header(&self, listed: &Listed) -> Result<Option<SnapshotHeader>> {
        let header = read_header(self.from, listed)?;
        Ok(header.map_err(|why| self.damaged(&listed.name, format_args!("its header doesn't read: {why}"))).ok())
    }

    /// Those of these packs that the second place lacks.
    fn missing_packs(&self, needed: &HashSet<PackId>) -> Result<Vec<Listed>> {
        let sizes = |remote: &dyn Remote| -> Result<HashMap<ObjectName, u64>> {
            Ok(list_or_none(remote, Folder::Packs)?.into_iter().map(|listed| (listed.name, listed.size)).collect())
        };
        let theirs = sizes(self.to)?;
        let mut missing = Vec::new();
        for (name, size) in sizes(self.from)? {
            if !parse_pack_name(&name).is_some_and(|id| needed.contains(&id)) {
                continue;
            }
            match theirs.get(&name) {
                None => missing.push(Listed { name, size }),
                Some(there) if *there == size => {}
                Some(there) => self.damaged(
                    &name,
                    format_args!("it has {size} bytes at {}, and {there} at {}", self.from.place(), self.to.place()),
                ),
            }
        }
        missing.sort();
        Ok(missing)
    }

    /// Sends objects, several at once. Returns those that could not be sent because they are damaged.
    fn send_all(&self, objects: &[Listed]) -> Result<HashSet<ObjectName>> {
        let (next, lost) = (AtomicUsize::new(0), Mutex::new(HashSet::new()));
        let work = || -> Result<()> {
            while let Some(object) = objects.get(next.fetch_add(1, Ordering::Relaxed)) {
                if !self.send(object)? {
                    lost.lock().unwrap_or_else(PoisonError::into_inner).insert(object.name.clone());
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_ONCE.min(objects.len())).map(|_| scope.spawn(work)).collect();
            let ended = || Err(Error::Failed("a thread that copies ended early".to_owned()));
            threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| ended()))
        })?;
        Ok(lost.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends an object. False if its content doesn't match its name.
    fn send(&self, object: &Listed) -> Result<bool> {
        let mut upload = self.to.begin()?;
        let mut hash = NameHash::of(&object.name);
        let mut piece = vec![0; PIECE.min(object.size as usize)];
        let mut offset = 0;
        while offset < object.size {
            if self.interrupt.is_set() {
                return Err(repository::Error::Interrupted.into());
            }
            let part = &mut piece[..(object.size - offset).min(PIECE as u64) as usize];
            match self.from.get_range(&object.name, offset, part) {
                Ok(()) => {}
                Err(error) if error.is_of_object() => {
                    self.damaged(&object.name, error);
                    return Ok(false);
                }
                Err(error) => return Err(repository::Error::from(error).into()),
            }
            hash.update(part);
            upload.append(part)?;
            self.progress.add(Counter::Bytes, part.len() as u64);
            offset += part.len() as u64;
        }
        if !hash.fits(&object.name) {
            self.damaged(&object.name, "its bytes aren't those that its name stands for");
            return Ok(false);
        }
        upload.finish(&object.name)?;
        let mut report = self.report();
        report.objects += 1;
        report.bytes += object.size;
        Ok(true)
    }

    /// Sends snapshots one after the other, but for those that lack a pack or their parent. `packs` were sent before, but for
    /// those that are `lost`.
    fn send_snapshots(&self, snapshots: &[KnownSnapshot], packs: &[Listed], lost: &HashSet<ObjectName>) -> Result<()> {
        let sent: HashSet<&ObjectName> = packs.iter().map(|listed| &listed.name).collect();
        let marked = self.marked()?;
        // After the marks: packs that a prune deleted before it removed its marks are missing here.
        let there: HashSet<ObjectName> =
            list_or_none(self.to, Folder::Packs)?.into_iter().map(|listed| listed.name).collect();
        let (mut left_out, mut waiting) = (HashSet::new(), HashSet::new());
        for known in snapshots {
            let parent = known.header.parent.as_ref().map(|parent| parent.id);
            let (mut waits, mut lacking) = (parent.is_some_and(|parent| waiting.contains(&parent)), 0);
            for pack in &known.header.packs {
                let name = pack_name(pack);
                match there.contains(&name) && !lost.contains(&name) {
                    true => waits |= marked.may_go(pack, sent.contains(&name)),
                    false if lost.contains(&name) || !self.has(&name)? => lacking += 1,
                    // It was there when the copy began.
                    false => waits = true,
                }
            }
            let stands = parent.is_none_or(|parent| !left_out.contains(&parent));
            let why = match (lacking, stands) {
                (0, true) => None,
                (0, false) => Some("its parent wasn't copied".to_owned()),
                (count, _) => Some(format!("{count} of its packs are missing or damaged")),
            };
            match why {
                Some(why) => {
                    self.damaged(&known.listed.name, why);
                    left_out.insert(known.id);
                }
                None if waits => drop(waiting.insert(known.id)),
                None if self.send(&known.listed)? => self.report().snapshots.push(known.id),
                None => drop(left_out.insert(known.id)),
            }
        }
        let mut report = self.report();
        report.common += report.snapshots.len() as u64;
        report.waiting = waiting.len() as u64;
        drop(report);
        self.flush(Folder::Snapshots)
    }

    /// Whether the first place has an object.
    fn has(&self, name: &ObjectName) -> Result<bool> {
        Ok(self.from.stat(name)?.is_some())
    }

    fn flush(&self, folder: Folder) -> Result<()> {
        self.to.flush(folder).map(drop).map_err(|error| repository::Error::from(error).into())
    }
}

/// A snapshot's clear header, or why it doesn't read.
fn read_header(remote: &dyn Remote, listed: &Listed) -> Result<std::result::Result<SnapshotHeader, String>> {
    let read = |length: usize| {
        let mut bytes = vec![0; length];
        remote.get_range(&listed.name, 0, &mut bytes).map(|()| bytes)
    };
    let found = read(SnapshotHeader::START).and_then(|start| match SnapshotHeader::length(&start) {
        Ok(length) if length <= MAX_HEADER && length as u64 <= listed.size => read(length),
        _ => Ok(Vec::new()),
    });
    match found {
        Ok(bytes) => Ok(SnapshotHeader::decode(&bytes).map_err(|error| error.to_string())),
        Err(error) if error.is_of_object() => Ok(Err(error.to_string())),
        Err(error) => Err(repository::Error::from(error).into()),
    }
}

/// What the name of an object stands for, from its bytes as they come.
enum NameHash {
    Snapshot(Box<SnapshotDigest>),
    Other(Box<Hasher>),
}

impl NameHash {
    fn of(name: &ObjectName) -> Self {
        match name.folder() {
            Folder::Snapshots => Self::Snapshot(Box::default()),
            _ => Self::Other(Box::default()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Snapshot(digest) => digest.update(bytes),
            Self::Other(hasher) => _ = hasher.update(bytes),
        }
    }

    /// Whether it is that of the name. The text for people has no hash.
    fn fits(&self, name: &ObjectName) -> bool {
        match self {
            Self::Snapshot(digest) => {
                digest.finish().is_some_and(|id| parse_snapshot_name(name).is_some_and(|name| name.id == id))
            }
            Self::Other(hasher) => match name.folder() {
                Folder::Info => true,
                Folder::Keys => name.name().contains(&crate::id::hex(&hasher.finish())),
                _ => parse_pack_name(name) == Some(PackId::from_bytes(hasher.finish())),
            },
        }
    }
}
