//! The end of a backup: the recipe, the last pack, the snapshot, and a look at whether all of it is there.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::bases::{BaseCache, Clones};
use super::clock::beside_host;
use super::collect::Collected;
use super::pipeline::{NEW, Placed, Stored};
use super::shrink::shrunk;
use super::start::Start;
use super::{BackupOptions, BackupReport};
use crate::crypto::random_bytes;
use crate::entry::Untrusted;
use crate::error::{Error, Result};
use crate::facts::{Facts, Separated};
use crate::format::pack::{CopyBase, RecipeCopy};
use crate::format::recipe::{EditOp, Layer, PackRef, Record, Run as RecipeRun, push_run};
use crate::format::snapshot::{ParentRef, SnapshotBody, SnapshotHeader, Totals};
use crate::id::{ChainId, GenerationId, PackId, SnapshotId};
use crate::index::{PackRow, SnapshotRow};
use crate::remote::Folder;
use crate::repository::{
    FolderListing, LayerWriter, Layers, NewSnapshot, Pages, RecipeNeeds, Repository, instance, list_folders,
};
use crate::source::Finished;
use crate::time::{Clock, Timestamp};
use crate::warning::{Warning, WarningKind};

/// Most warnings that a snapshot keeps.
const WARNINGS_KEPT: usize = 100;

/// Layers with their pages, from the lowest.
type WrittenLayers = Vec<(Layer, Pages)>;

/// Stands for the last pack in a recipe's table before it has a name.
const SELF: PackRef = PackRef { id: PackId::from_bytes([0; 32]), check: [0; 16] };

/// A run that has read all its streams.
pub(super) struct CommitPlan<'a> {
    pub repository: &'a Arc<Repository>,
    pub options: &'a BackupOptions,
    pub start: &'a Start<'a>,
    pub generation: GenerationId,
    pub warnings: Vec<Warning>,
    pub finished: Finished,
}

impl CommitPlan<'_> {
    /// Stores the last pack and the snapshot. Returns when they would outlive a power cut, and are seen on the remote.
    pub fn commit(mut self, mut collected: Collected, stored: Stored, clock: &dyn Clock) -> Result<BackupReport> {
        let now = clock.now();
        let Stored { mut placed, open, known, cache, clones, new, warnings } = stored;
        self.warnings.extend(warnings);
        self.warnings.extend(self.start.warnings.clone());
        let beside = self.repository.take_in_beside(&self.start.listed, self.start.newest)?;
        if let Some(other) = beside.first() {
            return Err(Error::Refused(format!(
                "nothing was stored: {}; run this backup again, and {TWO}",
                written_beside(other)
            )));
        }
        let sequence = self.repository.highest_sequence()? + 1;
        let (count, bytes, held) = (collected.count, collected.bytes, collected.held());
        let root_bytes = std::mem::take(&mut collected.root_bytes);
        let (mut layer, pages) = self.write_layer(collected, &placed, open.as_ref().map(|(_, first)| *first))?;
        if let Some((pack, first)) = open {
            let (base, below) = self.below_copy()?;
            let (mut layers, mut all): (Vec<Layer>, Vec<&Pages>) =
                below.iter().map(|(layer, pages)| (layer.clone(), pages)).unzip();
            layers.push(layer.clone());
            all.push(&pages);
            let data_time = self.finished.data_time;
            let copy = RecipeCopy { set: self.options.set.clone(), sequence, data_time, base, layers };
            let segments = (first, pack.segments());
            let closed = pack.close(self.repository, Some((&copy, &all)))?;
            let (pack, size) = (closed.pack, closed.size);
            let number = closed.place(self.repository, now)?;
            placed.push(Placed { pack, number, size, segments });
            layer.packs.iter_mut().filter(|listed| **listed == SELF).for_each(|listed| *listed = pack);
        }
        let totals = Totals {
            read: bytes,
            new,
            stored: placed.iter().map(|placed| placed.size).sum(),
            packs: placed.len() as u64,
        };
        if !placed.is_empty() {
            self.repository.remote().flush(Folder::Packs)?;
        }
        let needed = self.needed(&layer, &pages)?;
        let suspect =
            shrunk(self.repository, self.options, self.start, &root_bytes, &totals, self.finished.facts.rows)?;
        self.warnings.extend(suspect.clone().map(|why| WarningKind::Suspect.warning(why)));
        let body = self.body(held, &layer, totals, &needed);
        let header = self.header(needed.packs, sequence, suspect.is_some(), now)?;
        let snapshot = self.repository.seal_snapshot(header, body, pages)?;
        // Before it is there: a run that is cut behind that has made it all the same, and its id is the hash of its bytes.
        self.repository.index().trust_snapshot(&snapshot.row.id)?;
        self.repository.store_snapshot(&snapshot)?;
        let clocks = self.repository.remote().clocks();
        let apart = clocks.and_then(|clocks| beside_host(&self.repository.remote().place(), &clocks));
        self.warnings.extend(apart.map(|why| WarningKind::WrongClock.warning(why)));
        self.enter(&snapshot.row, &snapshot.body)?;
        // Both are listed after the snapshot is there: see decision 0014.
        let [packs, snapshots] = list_folders(&**self.repository.remote(), [Folder::Packs, Folder::Snapshots]);
        self.verify_committed(&snapshot.row, packs)?;
        self.start.reused.verify_committed(self.repository, &snapshot.row, !placed.is_empty(), clock)?;
        let beside = self.look_beside(&snapshot, snapshots)?;
        snapshot.pages.keep();
        if let Some(mut known) = known {
            known.save(&self.repository.index())?;
        }
        if let Some(cache) = cache {
            self.commit_cache(cache, &snapshot.row.id);
        }
        if let Some(Err(error)) = clones.map(Clones::commit) {
            let text = format!("copies of files could not be kept, so the next backup is larger: {error}");
            self.warnings.push(WarningKind::BaseCache.warning(text));
        }
        if let Some(other) = beside {
            return Err(Error::Refused(format!(
                "the snapshot {} was stored, and is whole; but {}: {TWO}",
                snapshot.row.id,
                written_beside(&other)
            )));
        }
        Ok(BackupReport {
            snapshot: snapshot.row,
            streams: count,
            note: self.start.note.clone(),
            warnings: self.warnings,
        })
    }

    /// The layer that makes the new recipe of the parent's, or all of it in a full. The packs of its runs are numbered by its own
    /// table: the parent's first for an incremental.
    fn write_layer(
        &self,
        mut collected: Collected,
        placed: &[Placed],
        open_from: Option<u32>,
    ) -> Result<(Layer, Pages)> {
        let mut table = PackTable::new(self.repository, self.start);
        let own = OwnSegments::new(placed, open_from);
        let known = if self.start.parent.is_some() { table.packs.len() } else { 0 };
        let mut locate = |run: RecipeRun| -> Result<RecipeRun> {
            let (pack, run) = match run.pack {
                NEW => own.resolve(run)?,
                number => (table.number_of(number)?, run),
            };
            let pack = match pack {
                PackNumber::Table(number) => number,
                PackNumber::Placed(at) => table.add(placed[at].pack),
                PackNumber::Open => table.add(SELF),
            };
            Ok(RecipeRun { pack, ..run })
        };
        let mut dumps = collected.dump_records(self.start).into_iter().peekable();
        let mut others = collected.others.read()?;
        let mut writer = LayerWriter::new(self.repository);
        let mut next = others.next()?;
        loop {
            let is_dump = match (dumps.peek(), &next) {
                (Some(dump), Some(other)) => dump.name() < other.name(),
                (dump, other) => dump.is_some() || other.is_none(),
            };
            let record = if is_dump { dumps.next() } else { std::mem::replace(&mut next, others.next()?) };
            match record {
                Some(record) => writer.record(&located(record, &mut locate)?)?,
                None => break,
            }
        }
        let packs = table.packs.split_off(known);
        Ok(writer.finish(packs, collected.count)?)
    }

    /// The packs that the new recipe needs.
    fn needed(&self, layer: &Layer, pages: &Pages) -> Result<RecipeNeeds> {
        if let (Some(parent), 0) = (&self.start.parent, layer.height)
            && let (Some(decoded), Some(depth)) = (parent.about.decoded, parent.about.depth)
        {
            let packs = parent.header.packs.clone();
            return Ok(RecipeNeeds { packs, decoded, depth: u32::try_from(depth).unwrap_or(u32::MAX) });
        }
        let below = match &self.start.parent {
            Some(parent) => self.repository.placed_layers(&parent.id)?,
            None => Vec::new(),
        };
        let layers = Layers::with_new(self.repository, below, layer, pages);
        Ok(self.repository.needed_packs(layers.packs(), layers.streams())?)
    }

    /// What a copy needs of the layers below: those down to the newest one that has a copy, too, with their pages. A run that wrote
    /// no pack left none.
    fn below_copy(&self) -> Result<(Option<CopyBase>, WrittenLayers)> {
        let mut below = Vec::new();
        let mut base = None;
        let mut next = self.start.parent.clone();
        while let Some(row) = next {
            let layers = self.repository.placed_layers(&row.id)?;
            let Some(top) = layers.last() else { break };
            if row.about.totals.packs > 0 {
                base = Some(CopyBase { sequence: row.header.sequence, layer: top.layer.id });
                break;
            }
            below.push((top.layer.clone(), self.repository.pages_of(&row, &top.layer)?));
            let Some(parent) = row.header.parent else { break };
            next = self.repository.index().snapshot(&parent.id)?;
        }
        below.reverse();
        Ok((base, below))
    }

    fn header(&self, packs: Vec<PackId>, sequence: u64, suspect: bool, now: Timestamp) -> Result<SnapshotHeader> {
        let mut tags: Vec<Untrusted> = self.options.tags.iter().map(|tag| tag.as_str().into()).collect();
        tags.sort();
        tags.dedup();
        let parent = self.start.parent.as_ref();
        Ok(SnapshotHeader {
            body: 0,
            pages: 0,
            pages_check: [0; 32],
            repository: *self.repository.id(),
            salt: [0; 32],
            chain: parent.map_or_else(|| ChainId::from_bytes(*random_bytes()), |parent| parent.header.chain),
            parent: parent.map(|parent| ParentRef { id: parent.id, sequence: parent.header.sequence }),
            previous: self.repository.newest()?.map(|newest| newest.id),
            sequence,
            suspect,
            data_time: self.finished.data_time,
            stored_time: now,
            set: self.options.set.clone(),
            tags,
            packs,
            key_objects: if parent.is_none() { self.repository.key_copies()? } else { Vec::new() },
        })
    }

    fn body(&self, held: BTreeSet<String>, layer: &Layer, totals: Totals, needed: &RecipeNeeds) -> SnapshotBody {
        let holds: Vec<Untrusted> = held.into_iter().map(Untrusted::from).collect();
        let origin = &self.options.origin;
        let facts = Facts {
            decoded_bytes: Some(needed.decoded),
            depth: Some(needed.depth.into()),
            origin: (!origin.is_empty()).then(|| origin.as_str().into()),
            holds: (!holds.is_empty()).then_some(Separated(holds)),
            ..self.finished.facts.clone()
        };
        let short = |warning: &Warning| warning.to_string().chars().take(500).collect::<String>().into();
        SnapshotBody {
            instance: instance(),
            host: host_name().into(),
            program: concat!("varu ", env!("CARGO_PKG_VERSION")).into(),
            environment: self.options.environment.as_str().into(),
            generation: self.generation,
            facts,
            warnings: self.warnings.iter().take(WARNINGS_KEPT).map(short).collect(),
            configuration: self.options.configuration.clone(),
            totals,
            recipe: layer.encode(),
        }
    }

    /// The snapshot stands; a lost cache only makes the next one larger.
    fn commit_cache(&mut self, cache: BaseCache, id: &SnapshotId) {
        if let Err(error) = cache.commit(id) {
            let text = format!("the base cache could not be written, so the next backup is larger: {error}");
            self.warnings.push(WarningKind::BaseCache.warning(text));
        }
    }

    fn enter(&self, row: &SnapshotRow, body: &SnapshotBody) -> Result<()> {
        let mut index = self.repository.index();
        index.add_snapshot(row, body)?;
        drop(index);
        Ok(self.repository.note_highest()?)
    }

    /// A snapshot that another run stored at the same moment, where there is one. Of two that did, one at least sees the other.
    fn look_beside(&self, own: &NewSnapshot, now: FolderListing) -> Result<Option<SnapshotRow>> {
        let mut listed = self.start.listed.clone();
        listed.insert(own.name.clone());
        Ok(self.repository.take_in_beside_of(now, &listed, self.start.newest)?.into_iter().next())
    }

    /// Another run may have deleted packs in between. A backup reported good must be complete.
    fn verify_committed(&self, row: &SnapshotRow, packs: FolderListing) -> Result<()> {
        let sizes = self.repository.pack_sizes_of(packs)?;
        let missing: Vec<String> =
            row.header.packs.iter().filter(|pack| !sizes.contains_key(pack)).map(|pack| pack.to_string()).collect();
        match missing.as_slice() {
            [] => Ok(()),
            [first, ..] => Err(Error::Damaged(format!(
                "the snapshot {} was stored, but {} of the packs that it needs are gone (packs/{first}.pack); the next \
                 backup stores all again",
                row.id,
                missing.len()
            ))),
        }
    }
}

/// Advice for two concurrent writers.
const TWO: &str =
    "give each machine a repository of its own, or both runs one state folder, whose lock keeps them apart";

fn written_beside(other: &SnapshotRow) -> String {
    format!(
        "another run, on {:?}, wrote snapshot {} of {} beside this one",
        other.about.host, other.id, other.header.set
    )
}

/// A record with its runs where `locate` says that they lie.
fn located(record: Record, mut locate: impl FnMut(RecipeRun) -> Result<RecipeRun>) -> Result<Record> {
    Ok(match record {
        Record::Removed(name) => Record::Removed(name),
        Record::Stream(mut stream) => {
            let mut runs = Vec::with_capacity(stream.runs.len());
            for run in stream.runs {
                push_run(&mut runs, locate(run)?);
            }
            stream.runs = runs;
            Record::Stream(stream)
        }
        Record::Edited(mut edited) => {
            for op in &mut edited.ops {
                if let EditOp::Run(run) = op {
                    *run = locate(*run)?;
                }
            }
            Record::Edited(edited)
        }
    })
}

enum PackNumber {
    Table(u32),
    Placed(usize),
    Open,
}

/// Where the new segments of this run ended up.
struct OwnSegments<'a> {
    placed: &'a [Placed],
    open_from: Option<u32>,
}

impl<'a> OwnSegments<'a> {
    fn new(placed: &'a [Placed], open_from: Option<u32>) -> Self {
        Self { placed, open_from }
    }

    /// The pack of a new run's segment, and the run with the segment's number in that pack.
    fn resolve(&self, run: RecipeRun) -> Result<(PackNumber, RecipeRun)> {
        if let Some(from) = self.open_from.filter(|from| *from <= run.segment) {
            return Ok((PackNumber::Open, RecipeRun { segment: run.segment - from, ..run }));
        }
        let at = self.placed.partition_point(|placed| placed.segments.0 <= run.segment).checked_sub(1);
        let at = at.filter(|&at| run.segment - self.placed[at].segments.0 < self.placed[at].segments.1);
        let at = at.ok_or_else(|| Error::Failed("a new segment is in no pack".to_owned()))?;
        Ok((PackNumber::Placed(at), RecipeRun { segment: run.segment - self.placed[at].segments.0, ..run }))
    }
}

/// The pack table of the new recipe while it is made.
struct PackTable<'a> {
    repository: &'a Repository,
    packs: Vec<PackRef>,
    by_id: HashMap<PackId, u32>,
    by_index: HashMap<u32, u32>,
}

impl<'a> PackTable<'a> {
    fn new(repository: &'a Repository, start: &Start<'_>) -> Self {
        // An edit's table continues its parent's. A full starts with the packs that the previous snapshot still needs,
        // for its runs and its bases.
        // A re-base relies on none of them.
        let light = !start.rebase;
        let keep = |row: &&PackRow| start.parent.is_some() || (light && start.is_needed(&row.id));
        let all = start.recipe.as_ref().map_or(&[][..], |recipe| &recipe.packs);
        let rows: Vec<&PackRow> = all.iter().filter(keep).collect();
        let packs: Vec<PackRef> = rows.iter().map(|row| PackRef { id: row.id, check: row.check }).collect();
        let by_id = packs.iter().zip(0..).map(|(pack, number)| (pack.id, number)).collect();
        let by_index = rows.iter().zip(0..).map(|(row, number)| (row.number, number)).collect();
        Self { repository, packs, by_id, by_index }
    }

    fn add(&mut self, pack: PackRef) -> u32 {
        *self.by_id.entry(pack.id).or_insert_with(|| {
            self.packs.push(pack);
            self.packs.len() as u32 - 1
        })
    }

    /// The table's number for a pack of the index.
    fn number_of(&mut self, index_number: u32) -> Result<PackNumber> {
        if let Some(&number) = self.by_index.get(&index_number) {
            return Ok(PackNumber::Table(number));
        }
        let row = self.repository.index().pack_by_number(index_number)?;
        let row = row.ok_or_else(lost)?;
        let number = self.add_with_bases(&row)?;
        self.by_index.insert(index_number, number);
        Ok(PackNumber::Table(number))
    }

    /// Adds a pack, and those that bases of its segments lie in: a reader finds all that it needs in the table.
    fn add_with_bases(&mut self, row: &PackRow) -> Result<u32> {
        let number = self.add(PackRef { id: row.id, check: row.check });
        let mut open = vec![row.number];
        while let Some(next) = open.pop() {
            let directory = self.repository.index().directory(next)?;
            for id in &directory.ok_or_else(lost)?.base_packs {
                if !self.by_id.contains_key(id) {
                    let base = self.repository.index().pack(id)?.ok_or_else(lost)?;
                    self.add(PackRef { id: base.id, check: base.check });
                    open.push(base.number);
                }
            }
        }
        Ok(number)
    }
}

fn lost() -> Error {
    Error::Failed("the index lost a pack".to_owned())
}

/// This machine's name.
fn host_name() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    text.trim().chars().filter(|c| !c.is_control()).take(255).collect()
}
