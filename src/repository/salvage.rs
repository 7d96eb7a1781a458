//! Snapshots that are lost or damaged and that can be made again: byte for byte from what this machine knows of them, or as
//! new fulls from the copies of their recipes in packs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::changes::Changes;
use super::copies::{Copies, undamaged};
use super::pages::{LayerWriter, Layers, Pages};
use super::recipes::{NeedsWalk, RecipeNeeds};
use super::snapshots::{Extent, NewSnapshot, describe};
use super::{Error, NO_INSTANCE, Repository, Result};
use crate::crypto::random_bytes;
use crate::facts::Facts;
use crate::format::layout::{MAX_KEY_COPIES, pack_name};
use crate::format::recipe::Layer;
use crate::format::snapshot::{SnapshotBody, SnapshotHeader, Totals};
use crate::id::{ChainId, GenerationId, PackId, SnapshotId};
use crate::index::SnapshotRow;
use crate::remote::{ErrorKind, ObjectName};
use crate::time::Timestamp;

/// The fact under which the index keeps the snapshots whose bytes a backup found to be damaged and couldn't put back.
const BAD: &str = "bad";
/// The fact under which the index keeps the snapshots that a verification found damaged, for the next backup.
const SUSPECTED: &str = "suspected";

/// Most bytes of a chain's snapshots that a backup reads before it goes on with it; of a longer one only the last is read.
const READ: u64 = 32 << 20;

/// Most packs that are looked at to see whether snapshots are lost.
const LOOKED_AT: usize = 64;

/// A snapshot that was brought back.
#[derive(Debug, Clone)]
pub struct Salvaged {
    /// The snapshot.
    pub snapshot: SnapshotRow,
    /// The pack whose copy of a recipe it was made from; None where it is the very object that was lost.
    pub from: Option<PackId>,
    /// How many of its streams could not be brought back.
    pub left_out: u64,
}

/// Result of a salvage.
#[derive(Debug, Default)]
pub struct Salvage {
    /// The recovered snapshots, by sequence.
    pub brought_back: Vec<Salvaged>,
    /// Those that could not be recovered, each a sentence.
    pub left: Vec<String>,
}

impl Repository {
    /// Stores again the lost and damaged snapshots of the location that this machine knows: those of another size, those
    /// that were found damaged, and those on which others of their chains still depend. Those that a backup of `set`
    /// would build upon are read. Returns a sentence for each. Unrecoverable ones are not built upon.
    ///
    /// Lost snapshots older than `since` are forgotten. Then index and remote are brought together as [`Repository::sync`] does,
    /// with the same listing where nothing was stored.
    pub fn mend_and_sync(&self, set: &str, since: Timestamp) -> Result<(Vec<String>, Changes)> {
        if self.index().why_anew()?.is_some() {
            return Ok((Vec::new(), self.sync()?));
        }
        let seen = self.seen()?;
        let there = self.snapshot_sizes()?;
        let said = self.mend_listed(set, since, &there)?;
        let changes = match said.is_empty() {
            true => self.compare(seen, there)?,
            // Objects were put back, or taken away.
            false => self.sync()?,
        };
        Ok((said, changes))
    }

    fn mend_listed(&self, set: &str, since: Timestamp, there: &BTreeMap<ObjectName, u64>) -> Result<Vec<String>> {
        let (mut said, mut bad) = (Vec::new(), BTreeSet::new());
        for (row, why) in self.to_mend(set, since, there)? {
            let name = Self::object_name(&row);
            let in_the_way = there.contains_key(&name);
            let what = if in_the_way { "is damaged" } else { "is gone" };
            let Some(body) = self.index().whole_body(&row.id)? else { continue };
            let again = self.seal_again(&row, body)?;
            let done = match &again {
                Some(again) => self.store_again(again, in_the_way)?,
                None => Err("what this machine knows of it gives other bytes".to_owned()),
            };
            match done {
                Ok(()) => {
                    if let Some(again) = &again {
                        self.index().add_snapshot(&row, &again.body)?;
                    }
                    said.push(format!("{name} {what}{why}. It was put back in {} as it was", self.remote.place()));
                }
                Err(not) => {
                    said.push(format!("{name} {what}{why}. It can't be put back: {not}"));
                    bad.insert(row.id);
                }
            }
        }
        if bad != self.noted(BAD)? {
            self.note(BAD, bad)?;
        }
        self.note(SUSPECTED, [])?;
        Ok(said)
    }

    /// The snapshots that should be stored again, and why.
    fn to_mend(
        &self,
        set: &str,
        since: Timestamp,
        there: &BTreeMap<ObjectName, u64>,
    ) -> Result<Vec<(SnapshotRow, String)>> {
        let rows = self.index().snapshots()?;
        let mut read = to_read(&rows, set);
        read.extend(self.noted(SUSPECTED)?);
        let unreadable = self.unreadable(rows.iter().filter(|row| read.contains(&row.id)), there)?;
        let mut found = Vec::new();
        for row in &rows {
            let name = Self::object_name(row);
            let why = match there.get(&name) {
                Some(size) if *size != row.size => format!(": it has {size} bytes, and had {}", row.size),
                Some(_) if unreadable.contains_key(&name) => format!(": {}", unreadable[&name]),
                None if goes_on(row, &rows, |name| there.contains_key(name)) => String::new(),
                _ => continue,
            };
            found.push((row.clone(), why));
        }
        let lost = self.index().lost_snapshots()?;
        let sizes = if found.is_empty() && lost.is_empty() { HashMap::new() } else { self.pack_sizes()? };
        for row in lost {
            let name = Self::object_name(&row);
            let is_there = there.contains_key(&name);
            // Somebody else may have put it back.
            if is_there && undamaged(self.fetch_snapshot(&name, row.size))?.is_some() {
                continue;
            }
            if !is_there && (!has_packs(&row, &sizes) || row.header.data_time < since) {
                self.index().forget_lost(&row.id)?;
            } else if is_there || goes_on(&row, &rows, |name| there.contains_key(name)) {
                found.push((row, String::new()));
            }
        }
        // Without its packs a snapshot that is gone is of no use.
        found.retain(|(row, _)| there.contains_key(&Self::object_name(row)) || has_packs(row, &sizes));
        Ok(found)
    }

    /// Reads those of the snapshots that are there with their sizes. Returns the damaged ones, each with a sentence.
    fn unreadable<'a>(
        &self,
        rows: impl Iterator<Item = &'a SnapshotRow>,
        there: &BTreeMap<ObjectName, u64>,
    ) -> Result<BTreeMap<ObjectName, String>> {
        let named = rows.map(|row| (Self::object_name(row), row.size));
        let objects: Vec<(ObjectName, u64)> = named.filter(|(name, size)| there.get(name) == Some(size)).collect();
        let mut unreadable = BTreeMap::new();
        self.fetch_snapshots(&objects, Extent::Whole, |name, size, head| {
            match head.and_then(|head| self.open_snapshot(name, size, &head)) {
                Ok(_) => {}
                Err(Error::Damaged(why)) => _ = unreadable.insert(name.clone(), why),
                // It is gone since the listing: whoever lists next says so.
                Err(Error::Remote(error)) if error.kind == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            Ok(())
        })?;
        Ok(unreadable)
    }

    /// Stores the object of a snapshot again. A sentence where that can't be done.
    fn store_again(&self, again: &NewSnapshot, in_the_way: bool) -> Result<std::result::Result<(), String>> {
        if in_the_way && let Err(error) = self.remote.delete(&again.name) {
            return Ok(Err(error.to_string()));
        }
        self.store_snapshot(again)?;
        let there =
            self.unreadable([&again.row].into_iter(), &BTreeMap::from([(again.name.clone(), again.row.size)]))?;
        Ok(match there.into_values().next() {
            None => Ok(()),
            Some(why) => Err(why),
        })
    }

    /// The snapshots whose bytes were found to be damaged, and that can't be put back.
    pub(super) fn bad(&self) -> Result<BTreeSet<SnapshotId>> {
        self.noted(BAD)
    }

    /// Forgets them: the index has them no more.
    pub(super) fn forget_bad(&self) -> Result<()> {
        self.note(BAD, [])
    }

    /// Notes snapshots whose bytes a verification found damaged: the next backup reads them, and puts them back.
    pub fn suspect(&self, snapshots: impl IntoIterator<Item = SnapshotId>) -> Result<()> {
        self.note(SUSPECTED, snapshots)
    }

    /// The snapshots that a fact of the index names.
    pub(super) fn noted(&self, fact: &str) -> Result<BTreeSet<SnapshotId>> {
        let fact = self.index().local(fact)?.unwrap_or_default();
        Ok(fact.as_chunks::<{ SnapshotId::LEN }>().0.iter().map(|&id| SnapshotId::from_bytes(id)).collect())
    }

    /// Keeps them under that fact.
    pub(super) fn note(&self, fact: &str, ids: impl IntoIterator<Item = SnapshotId>) -> Result<()> {
        let value: Vec<u8> = ids.into_iter().flat_map(|id| *id.as_bytes()).collect();
        let mut index = self.index();
        match (value.is_empty(), index.local(fact)?) {
            (true, None) => Ok(()),
            (true, Some(_)) => Ok(index.forget_local(fact)?),
            (false, _) => Ok(index.set_local(fact, &value)?),
        }
    }

    /// Forgets snapshots that nothing depends on: their loss was accepted, so no backup stores them again.
    pub(super) fn forget_accepted(&self, there: &BTreeSet<ObjectName>) -> Result<()> {
        let rows = self.index().snapshots()?;
        let lost = self.index().lost_snapshots()?;
        for row in lost.iter().filter(|row| !goes_on(row, &rows, |name| there.contains(name))) {
            self.index().forget_lost(&row.id)?;
        }
        Ok(())
    }

    /// If no snapshot is left, whether packs show that there were some: a sentence with the advice.
    pub(super) fn lost_all(&self) -> Result<Option<String>> {
        let mut sizes: Vec<(PackId, u64)> = self.pack_sizes()?.into_iter().collect();
        sizes.sort_unstable();
        for (id, size) in sizes.iter().take(LOOKED_AT) {
            if self.has_copy(id, *size)? {
                let bytes: u64 = sizes.iter().map(|(_, size)| size).sum();
                return Ok(Some(format!(
                    "no snapshot is left in {}, and {} packs with {bytes} bytes of them are: the snapshots are lost, or the host \
                     hides them. `varu index rebuild --salvage` brings back what the packs hold",
                    self.remote.place(),
                    sizes.len()
                )));
            }
        }
        Ok(None)
    }

    /// Enters the directories of all packs that are there and can be read.
    pub fn enter_packs_that_read(&self) -> Result<()> {
        let sizes = self.pack_sizes()?;
        let mut ids: Vec<PackId> = sizes.keys().copied().collect();
        ids.sort_unstable();
        self.enter_packs(ids.into_iter(), &[], Some(&sizes))?;
        Ok(())
    }

    /// Rebuilds the index, and recovers lost snapshots: those that this machine knows as they were, the others as fulls
    /// from the copies of their recipes in packs. The loss of known snapshots that can't be recovered is accepted.
    pub fn salvage(&self, now: Timestamp) -> Result<(Changes, Salvage)> {
        let mut changes = self.make_anew(true)?;
        let sizes = self.pack_sizes()?;
        let mut salvage = Salvage::default();
        let known = self.index().lost_snapshots()?;
        for row in known.iter().filter(|row| has_packs(row, &sizes)) {
            // A snapshot that can't be recovered as it was may be rebuilt from a copy.
            let Some(body) = self.index().whole_body(&row.id)? else { continue };
            let Some(again) = self.seal_again(row, body)? else { continue };
            match self.store_again(&again, changes.listed.contains(&again.name))? {
                Ok(()) => {
                    self.index().add_snapshot(row, &again.body)?;
                    salvage.brought_back.push(Salvaged { snapshot: row.clone(), from: None, left_out: 0 });
                }
                Err(why) => salvage.left.push(format!("{} can't be put back as it was: {why}", again.name)),
            }
        }
        changes.lost = self.replace_lost_parents()?;
        self.bring_back_copies(now, &mut salvage)?;
        salvage.brought_back.sort_by_key(|brought| brought.snapshot.header.sequence);
        // Messages about a recovered snapshot are obsolete.
        let no_snapshot = changes.damaged.len() == 1 && changes.listed.is_empty() && !salvage.brought_back.is_empty();
        let is_back = |sentence: &String| {
            let mut back = salvage.brought_back.iter().filter(|brought| brought.from.is_none());
            back.any(|brought| sentence.contains(&brought.snapshot.id.to_string()))
        };
        changes.damaged.retain(|sentence| !no_snapshot && !is_back(sentence));
        self.note_highest()?;
        Ok((changes, salvage))
    }

    fn bring_back_copies(&self, now: Timestamp, salvage: &mut Salvage) -> Result<()> {
        let there: BTreeSet<u64> = self.index().snapshots()?.into_iter().map(|row| row.header.sequence).collect();
        let copies = Copies::find(self)?;
        let mut by_sequence: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (at, copy) in copies.found.iter().enumerate().filter(|(_, copy)| !there.contains(&copy.sequence)) {
            by_sequence.entry(copy.sequence).or_default().push(at);
        }
        for candidates in by_sequence.into_values() {
            // Of several one is of the snapshot that was, the others of runs that were cut before theirs.
            let mut chosen = None;
            for at in &candidates {
                if candidates.len() == 1 || copies.is_base(*at) {
                    chosen = Some(*at);
                }
            }
            // Of those the last: it is by data time.
            let Some(at) = chosen.or(candidates.last().copied()) else { continue };
            match self.bring_back(&copies, at, now)? {
                Ok(brought) => salvage.brought_back.push(brought),
                Err(why) => salvage.left.push(why),
            }
        }
        Ok(())
    }

    /// Stores a full with the recipe of a copy, or says why that can't be done.
    fn bring_back(
        &self,
        copies: &Copies<'_>,
        at: usize,
        now: Timestamp,
    ) -> Result<std::result::Result<Salvaged, String>> {
        let copy = copies.found[at].clone();
        let (pack, set) = (pack_name(&copy.pack.id), &copy.set);
        let what = format!("the snapshot of {set} with data of {}, sequence {}", copy.data_time, copy.sequence);
        let Some(layers) = copies.layers(at)? else {
            return Ok(Err(format!(
                "{what}, can't be brought back: the copy of its recipe in {pack} builds upon one that isn't there"
            )));
        };
        let Some(kept) = undamaged(self.keep_what_is_there(&Layers::new(self, layers)))? else {
            return Ok(Err(format!("{what}, can't be brought back: the copy of its recipe in {pack} is damaged")));
        };
        let KeptStreams { layer, pages, needs, bytes, left_out } = kept;
        if layer.streams == 0 && left_out > 0 {
            return Ok(Err(format!("{what}, can't be brought back: no stream of it has all of its packs")));
        }
        let key_objects = match self.key_copies()? {
            none if none.is_empty() => self.keys().objects().iter().take(MAX_KEY_COPIES).cloned().collect(),
            copies => copies,
        };
        let header = SnapshotHeader {
            body: 0,
            pages: 0,
            pages_check: [0; 32],
            repository: *self.id(),
            salt: [0; 32],
            chain: ChainId::from_bytes(*random_bytes()),
            parent: None,
            previous: None,
            sequence: copy.sequence,
            suspect: left_out > 0,
            data_time: copy.data_time,
            stored_time: now,
            set: set.clone(),
            tags: Vec::new(),
            packs: needs.packs,
            key_objects,
        };
        let mut said = format!("brought back from the copy of a recipe in {pack}");
        if left_out > 0 {
            said += &format!(", without {left_out} streams whose packs are gone");
        }
        let body = SnapshotBody {
            instance: NO_INSTANCE,
            host: "".into(),
            program: concat!("varu ", env!("CARGO_PKG_VERSION")).into(),
            environment: "".into(),
            generation: GenerationId::from_bytes(*random_bytes()),
            facts: Facts { decoded_bytes: Some(needs.decoded), depth: Some(needs.depth.into()), ..Facts::default() },
            warnings: vec![said.as_str().into()],
            configuration: Vec::new(),
            totals: Totals { read: bytes, new: 0, stored: 0, packs: 0 },
            recipe: layer.encode(),
        };
        let snapshot = self.seal_snapshot(header, body, pages)?;
        self.store_snapshot(&snapshot)?;
        self.index().add_snapshot(&snapshot.row, &snapshot.body)?;
        snapshot.pages.keep();
        Ok(Ok(Salvaged { snapshot: snapshot.row, from: Some(copy.pack.id), left_out }))
    }

    /// Writes a recipe anew with those of its streams whose packs are all there.
    fn keep_what_is_there(&self, layers: &Layers<'_>) -> Result<KeptStreams> {
        let mut writer = LayerWriter::new(self);
        let mut needs = NeedsWalk::new(self, layers.packs());
        let (mut streams, mut bytes, mut left_out) = (0, 0, 0);
        for stream in layers.streams() {
            let stream = stream?;
            if undamaged(self.needed_by(layers.packs(), &stream))?.is_none() {
                left_out += 1;
                continue;
            }
            needs.add(&stream)?;
            writer.stream(&stream)?;
            streams += 1;
            bytes += stream.entry.size;
        }
        let (layer, pages) = writer.finish(layers.packs().to_vec(), streams)?;
        Ok(KeptStreams { layer, pages, needs: needs.finish()?, bytes, left_out })
    }
}

/// The streams of a lost snapshot whose packs are there, written as a layer.
struct KeptStreams {
    layer: Layer,
    pages: Pages,
    needs: RecipeNeeds,
    /// Bytes of the streams.
    bytes: u64,
    /// How many streams aren't among them.
    left_out: u64,
}

/// The snapshots that a backup of a set would build upon, as far as they aren't too much to read.
fn to_read(rows: &[SnapshotRow], set: &str) -> BTreeSet<SnapshotId> {
    let Some(newest) = rows.iter().rfind(|row| row.header.set == set) else { return BTreeSet::new() };
    let chain = || rows.iter().filter(|row| row.header.chain == newest.header.chain);
    match chain().map(|row| row.size).sum::<u64>() {
        ..=READ => chain().map(|row| row.id).collect(),
        _ => BTreeSet::from([newest.id]),
    }
}

/// Whether the chain goes on behind a snapshot that is gone: nobody prunes out of the middle of one.
fn goes_on(row: &SnapshotRow, rows: &[SnapshotRow], is_there: impl Fn(&ObjectName) -> bool) -> bool {
    rows.iter().any(|other| {
        other.header.chain == row.header.chain
            && other.header.sequence > row.header.sequence
            && is_there(&Repository::object_name(other))
    })
}

fn has_packs(row: &SnapshotRow, sizes: &HashMap<PackId, u64>) -> bool {
    row.header.packs.iter().all(|pack| sizes.contains_key(pack))
}

/// The message about a recovered snapshot.
impl Salvaged {
    /// A sentence.
    pub fn sentence(&self) -> String {
        let what = describe(&self.snapshot);
        match self.from {
            None => format!("{what} was put back as it was"),
            Some(pack) => {
                let pack = pack_name(&pack);
                let without = match self.left_out {
                    0 => String::new(),
                    left => format!(", without {left} streams whose packs are gone"),
                };
                format!("{what} was made from the copy of its recipe in {pack}{without}")
            }
        }
    }
}
