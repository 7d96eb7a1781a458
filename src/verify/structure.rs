//! Level structure: every object is there, every reference resolves, every pack has its hash.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Bad, VerifyReport};
use crate::crypto::random_bytes;
use crate::error::{Error, Result};
use crate::format::checks::DirectoryCheck;
use crate::format::layout::{MAX_KEY_OBJECT, is_key_name, key_name, pack_name};
use crate::format::recipe::{PackRef, Stream};
use crate::id::{Hasher, PackId, SnapshotId};
use crate::index::{Index, SnapshotRow};
use crate::progress::{Counter, Interrupt, Progress};
use crate::remote::many::{CallWindow, in_order};
use crate::remote::{ErrorKind, Folder, ObjectName};
use crate::repository::{self, Extent, Layers, NeedsWalk, PackEnds, Repository, WantedPack, list_or_none};

/// Bytes that are read of a pack at once.
const READ: u64 = 1 << 20;
/// Bytes of a pack's start in which its header lies.
const HEADER: usize = 4 << 10;

/// What the snapshots that can be read need.
#[derive(Default)]
pub(super) struct Structure {
    /// These snapshots, by sequence.
    pub rows: Vec<SnapshotRow>,
    /// Those of them whose recipes could be read whole.
    whole: BTreeSet<SnapshotId>,
    /// The packs that they need, with what binds their directories.
    wanted: BTreeMap<PackId, Option<DirectoryCheck>>,
    /// Packs that are damaged, and why.
    contradicted: Vec<Bad>,
}

impl Structure {
    /// The packs that they need.
    pub fn needed(&self) -> impl Iterator<Item = &PackId> {
        self.wanted.keys()
    }

    fn add(&mut self, row: SnapshotRow, table: &[PackRef], is_whole: bool) {
        if is_whole {
            self.whole.insert(row.id);
        }
        let checks: HashMap<PackId, DirectoryCheck> = table.iter().map(|pack| (pack.id, pack.check)).collect();
        for id in &row.header.packs {
            let check = checks.get(id).copied();
            let known = self.wanted.entry(*id).or_insert(check);
            match (*known, check) {
                (None, _) => *known = check,
                // A pack has one directory: one of the two snapshots was written by somebody who lies about it.
                (Some(one), Some(other)) if one != other => self.contradicted.push(Bad::Pack(*id)),
                _ => {}
            }
        }
        self.rows.push(row);
    }
}

/// Checks that each key object has its hash, and that one of them opens this very repository: with the identity by its
/// content, else by its bytes, which the writer key knows.
pub(super) fn keys(repository: &Repository, report: &mut VerifyReport) -> Result<()> {
    let remote = repository.remote();
    let mut whole = HashSet::new();
    for object in list_or_none(&**remote, Folder::Keys)?.into_iter().filter(|object| is_key_name(&object.name)) {
        match remote.get(&object.name, MAX_KEY_OBJECT) {
            Ok(bytes) if key_name(&bytes) == object.name => drop(whole.insert(object.name)),
            Ok(_) => report.damaged(&object.name, "its bytes aren't those that it was named by"),
            Err(error) if error.is_of_object() => report.damaged(&object.name, error),
            Err(error) => return Err(repository::Error::from(error).into()),
        }
    }
    // A thief may add any number of other key objects; only those that belong to this repository id count.
    if !repository.key_names().iter().any(|name| whole.contains(name)) {
        report.damaged(
            "keys/",
            format!(
                "no whole key object of the repository {} is there: without it, or a copy in a full snapshot, nobody can \
                 restore. `varu backup` on the machine that writes it puts it back; so does `varu key import FILE` with the key \
                 object of the recovery sheet",
                repository.id()
            ),
        );
    }
    Ok(())
}

/// Checks each snapshot object, its position among the others, its recipe, and its list of packs.
pub(super) fn snapshots(
    repository: &Repository,
    sizes: &HashMap<PackId, u64>,
    report: &mut VerifyReport,
) -> Result<(Structure, Vec<Bad>)> {
    report.snapshots = repository.index().snapshots()?;
    let mut lost: BTreeMap<SnapshotId, Vec<String>> = BTreeMap::new();
    let mut structure = Structure::default();
    let mut bad = Vec::new();
    let mut unreadable = BTreeSet::new();
    let rows = report.snapshots.clone();
    fetch_directories(repository, &rows, sizes)?;
    let objects: Vec<(ObjectName, u64)> = rows.iter().map(|row| (Repository::object_name(row), row.size)).collect();
    let mut rows = rows.into_iter();
    repository.fetch_snapshots(&objects, Extent::Whole, |_, _, object| {
        let Some(row) = rows.next() else { return Ok(()) };
        let parent = row.header.parent.filter(|parent| structure.whole.contains(&parent.id));
        let parent = parent.and_then(|parent| structure.rows.iter().rfind(|row| row.id == parent.id));
        match one_snapshot(repository, (&row, parent), object, sizes, &lost) {
            Ok(found) => {
                bad.extend(found.missing);
                for (stream, why) in found.damaged {
                    report.damaged(Repository::object_name(&row), why);
                    if let Some(damage) = report.damage.last_mut() {
                        damage.affects.insert(row.id, vec![stream]);
                    }
                }
                if !found.is_whole {
                    unreadable.insert(row.id);
                }
                structure.add(row, &found.table, found.is_whole);
            }
            Err(repository::Error::Damaged(why)) => {
                lost.insert(row.id, Vec::new());
                unreadable.insert(row.id);
                report.damaged(Repository::object_name(&row), why);
                if let Some(damage) = report.damage.last_mut() {
                    damage.affects.insert(row.id, Vec::new());
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok::<_, Error>(())
    })?;
    // The next backup from here reads these, and restores those that it can.
    repository.suspect(unreadable)?;
    replaced(repository, report)?;
    gaps(report);
    Ok((structure, bad))
}

/// Fetches all directories that the index lacks. Which of them fit is found with each snapshot.
fn fetch_directories(
    repository: &Repository,
    rows: &[SnapshotRow],
    sizes: &HashMap<PackId, u64>,
) -> repository::Result<()> {
    let known: HashSet<PackId> = repository.index().packs()?.into_iter().map(|row| row.id).collect();
    let needed: BTreeSet<PackId> = rows.iter().flat_map(|row| row.header.packs.iter().copied()).collect();
    let unknown = needed.into_iter().filter(|id| !known.contains(id));
    let wanted: Vec<WantedPack> =
        unknown.filter_map(|id| Some(WantedPack { id, size: *sizes.get(&id)?, check: None })).collect();
    repository.enter_directories(&wanted, |_, _| {})
}

/// Names the lost snapshots whose recipes this machine still knows, so that snapshots that depend on them can be
/// restored here.
fn replaced(repository: &Repository, report: &mut VerifyReport) -> Result<()> {
    let known: BTreeSet<SnapshotId> = report.snapshots.iter().map(|row| row.id).collect();
    let parents: BTreeSet<SnapshotId> =
        report.snapshots.iter().filter_map(|row| row.header.parent.map(|parent| parent.id)).collect();
    for id in repository.index().recovered_recipes()? {
        if parents.contains(&id) && !known.contains(&id) {
            report.damaged(
                "snapshots/",
                format!("the snapshot {id}, which later ones of its chain need, is missing; these are restored by a copy of its recipe"),
            );
        }
    }
    Ok(())
}

/// A snapshot that can be read.
struct ReadSnapshot {
    /// The packs of its recipe's table.
    table: Vec<PackRef>,
    /// Packs that aren't there.
    missing: Vec<Bad>,
    /// Streams that don't fit their packs, each with a sentence.
    damaged: DamagedStreams,
    /// Whether all pages of its recipe could be read.
    is_whole: bool,
}

/// Streams, each with a sentence.
type DamagedStreams = Vec<(String, String)>;

/// `parent` is the row of its parent, where that was found whole: then only the records that it lacks are read, and otherwise all.
fn one_snapshot(
    repository: &Repository,
    (row, parent): (&SnapshotRow, Option<&SnapshotRow>),
    object: repository::Result<Vec<u8>>,
    sizes: &HashMap<PackId, u64>,
    lost: &BTreeMap<SnapshotId, Vec<String>>,
) -> repository::Result<ReadSnapshot> {
    let object = object.map_err(gone)?;
    let (found, body) = repository.open_snapshot(&Repository::object_name(row), row.size, &object)?;
    if found != *row || repository.index().whole_body(&row.id)? != Some(body) {
        return Err(repository::Error::Damaged(
            "the index has other things of it; run `varu index rebuild`".to_owned(),
        ));
    }
    // Another machine couldn't rebuild its recipe, even if this one still can from its index.
    if let Some(parent) = row.header.parent.filter(|parent| lost.contains_key(&parent.id)) {
        return Err(repository::Error::Damaged(format!("its parent {} is damaged", parent.id)));
    }
    let layers = repository.layers(&row.id)?;
    let missing: Vec<Bad> =
        row.header.packs.iter().filter(|pack| !sizes.contains_key(pack)).map(|pack| Bad::Pack(*pack)).collect();
    let entered = repository.enter_packs(row.header.packs.iter().copied(), layers.packs(), Some(sizes))?;
    // Directories that don't read are found when the packs are read; without them the list can't be computed again.
    let all_known = entered.iter().all(std::result::Result::is_ok);
    let mut walk = RecipeWalk::new(repository, &layers, all_known)?;
    if let Some(parent) = parent.filter(|_| all_known) {
        match changed(&layers, &mut walk) {
            Ok(streams) => {
                let known = layers.placed().nth_back(1).map_or(0, |below| below.layer.streams);
                let (needs, damaged) = walk.end()?;
                let mut needed: BTreeSet<PackId> = needs.into_iter().flatten().collect();
                needed.extend(&parent.header.packs);
                // Where a pack isn't needed any more, all of the recipe says so.
                if needed.iter().eq(&row.header.packs) {
                    check_count(known.checked_add_signed(streams), layers.count())?;
                    return Ok(ReadSnapshot { table: layers.packs().to_vec(), missing, damaged, is_whole: true });
                }
            }
            // A walk through all of it tells which entries that are.
            Err(repository::Error::Damaged(_)) => {}
            Err(error) => return Err(error),
        }
        walk = RecipeWalk::new(repository, &layers, all_known)?;
    }
    let mut streams = 0;
    let mut all = layers.streams().over_gaps();
    for stream in &mut all {
        walk.add(&stream?)?;
        streams += 1;
    }
    let gaps: DamagedStreams = all.gaps().map(|gap| (gap.to_string(), gap.why.clone())).collect();
    let (needs, mut damaged) = walk.end()?;
    if !gaps.is_empty() {
        damaged.extend(gaps);
        return Ok(ReadSnapshot { table: layers.packs().to_vec(), missing, damaged, is_whole: false });
    }
    check_count(Some(streams), layers.count())?;
    if let Some(needs) = needs.filter(|needs| *needs != row.header.packs) {
        return Err(repository::Error::Damaged(format!(
            "its header lists {} packs, and its recipe needs {}",
            row.header.packs.len(),
            needs.len()
        )));
    }
    Ok(ReadSnapshot { table: layers.packs().to_vec(), missing, damaged, is_whole: true })
}

/// Walks through the streams of which the layer on top has records. How many more there are than below it.
fn changed(layers: &Layers<'_>, walk: &mut RecipeWalk<'_>) -> repository::Result<i64> {
    let mut streams = 0;
    for changed in layers.changed() {
        let (before, after) = changed?;
        streams += i64::from(after.is_some()) - i64::from(before.is_some());
        if let Some(stream) = after {
            walk.add(&stream)?;
        }
    }
    Ok(streams)
}

fn check_count(found: Option<u64>, said: u64) -> repository::Result<()> {
    match found == Some(said) {
        true => Ok(()),
        false => Err(repository::Error::Damaged(format!(
            "its recipe says that it has {said} streams, and has {}",
            found.map_or("none".to_owned(), |found| found.to_string())
        ))),
    }
}

/// Checks that the runs of streams are inside their packs and have their size, and finds the packs that they need, as far as the
/// directories are known.
struct RecipeWalk<'a> {
    repository: &'a Repository,
    /// The index's numbers of the recipe's packs.
    numbers: Vec<Option<u32>>,
    needs: Option<NeedsWalk<'a>>,
    damaged: DamagedStreams,
}

impl<'a> RecipeWalk<'a> {
    fn new(repository: &'a Repository, layers: &'a Layers<'_>, all_known: bool) -> repository::Result<Self> {
        let index = repository.index();
        let number = |pack: &PackRef| Ok(index.pack(&pack.id)?.map(|row| row.number));
        let numbers = layers.packs().iter().map(number).collect::<repository::Result<Vec<_>>>()?;
        let needs = all_known.then(|| NeedsWalk::new(repository, layers.packs()));
        Ok(Self { repository, numbers, needs, damaged: Vec::new() })
    }

    fn add(&mut self, stream: &Stream) -> repository::Result<()> {
        let why = match plain_size(&self.repository.index(), &self.numbers, stream)? {
            Some(size) if size == stream.entry.size => None,
            Some(size) => Some(format!("{} has {size} bytes and should have {}", stream.entry.name, stream.entry.size)),
            None => Some(format!("{} names chunks that its pack lacks", stream.entry.name)),
        };
        self.damaged.extend(why.map(|why| (stream.entry.name.to_string(), why)));
        self.needs.as_mut().map_or(Ok(()), |needs| needs.add(stream))
    }

    fn end(self) -> repository::Result<(Option<Vec<PackId>>, DamagedStreams)> {
        Ok((self.needs.map(NeedsWalk::finish).transpose()?.map(|needs| needs.packs), self.damaged))
    }
}

/// The bytes of a stream's chunks; its own size if a directory isn't known. None if a run is outside of its pack.
fn plain_size(index: &Index, numbers: &[Option<u32>], stream: &Stream) -> repository::Result<Option<u64>> {
    let mut size = 0;
    for run in &stream.runs {
        let Some(&number) = numbers.get(run.pack as usize) else { return Ok(None) };
        let directory = number.map(|number| index.directory(number)).transpose()?.flatten();
        let Some(directory) = directory else { return Ok(Some(stream.entry.size)) };
        let Some(range) = directory.run_range(run.segment, run.first, run.count) else { return Ok(None) };
        size += directory.lengths[range].iter().map(|&length| u64::from(length)).sum::<u64>();
    }
    Ok(Some(size))
}

fn gone(error: repository::Error) -> repository::Error {
    match error {
        repository::Error::Remote(error) if error.is_of_object() => repository::Error::Damaged(error.to_string()),
        error => error,
    }
}

/// Names snapshots that are missing between two others, as far as the later one tells.
fn gaps(report: &mut VerifyReport) {
    let pairs = report.snapshots.iter().zip(report.snapshots.iter().skip(1));
    let notes = pairs.filter_map(|(before, after)| {
        let missing = after.header.sequence.saturating_sub(before.header.sequence + 1);
        let last = after.header.previous.map(|id| format!(", the last of them {id}")).unwrap_or_default();
        (missing > 0).then(|| {
            format!(
                "before snapshot {} (sequence {}), {missing} that were made are not there{last}: pruned, or taken away",
                after.id, after.header.sequence
            )
        })
    });
    let notes: Vec<String> = notes.collect();
    report.notes.extend(notes);
}

/// A pack whose bytes are read, what binds its directory, and its size.
type Drawn = (PackId, Option<DirectoryCheck>, u64);

/// Reads each pack that a snapshot needs, compares its hash with its name, and its directory with the recipes.
pub(super) fn packs(
    repository: &Repository,
    structure: &Structure,
    sizes: &HashMap<PackId, u64>,
    sample: f64,
    report: &mut VerifyReport,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Vec<Bad>> {
    let wanted = &structure.wanted;
    let lies = |part: &Bad| (*part, "two snapshots know it by different directories".to_owned());
    let mut bad: Vec<(Bad, String)> = structure.contradicted.iter().map(lies).collect();
    let total = wanted.keys().filter_map(|pack| sizes.get(pack)).sum::<u64>();
    progress.phase("reading packs", Some((total as f64 * sample) as u64), None);
    let missing = wanted.keys().filter(|pack| !sizes.contains_key(pack));
    bad.extend(missing.map(|pack| (Bad::Pack(*pack), "it is missing".to_owned())));
    let drawn: Vec<Drawn> =
        wanted.iter().filter_map(|(id, check)| Some((*id, *check, *sizes.get(id)?))).filter(|_| draw(sample)).collect();
    let window = CallWindow::of(&**repository.remote());
    let window = CallWindow { calls: window.calls.max(rayon::current_num_threads()), ..window };
    let check = |(id, check, size): &Drawn| one_pack(repository, id, check.as_ref(), *size, progress, interrupt);
    let held = |(_, _, size): &Drawn| READ.min(*size);
    in_order(window, &drawn, held, check, |(id, _, size), result| {
        report.packs += 1;
        report.bytes += size;
        match result.map_err(gone) {
            Ok(()) => {}
            Err(repository::Error::Damaged(why)) => match unreadable_segments(repository, id)? {
                parts if parts.is_empty() => bad.push((Bad::Pack(*id), why)),
                parts => bad.extend(parts.into_iter().map(|(segment, why)| (Bad::Segment(*id, segment), why))),
            },
            Err(error) => return Err(error),
        }
        Ok(())
    })?;
    for (part, why) in &bad {
        report.damaged(part.object(), why);
    }
    Ok(bad.into_iter().map(|(part, _)| part).collect())
}

/// The segments of a pack whose bytes the medium doesn't return, and why: the others can be restored. None if all bytes
/// were read, or if the segments' positions aren't known.
fn unreadable_segments(repository: &Repository, id: &PackId) -> repository::Result<Vec<(u32, String)>> {
    let index = repository.index();
    let Some(row) = index.pack(id)? else { return Ok(Vec::new()) };
    let Some(directory) = index.directory(row.number)? else { return Ok(Vec::new()) };
    drop(index);
    let mut unreadable = Vec::new();
    let mut buffer = Vec::new();
    for (segment, entry) in (0..).zip(&directory.segments) {
        buffer.resize(entry.sealed as usize, 0);
        let offset = row.header_length + directory.sealed_offset(segment);
        match repository.remote().get_range(&pack_name(id), offset, &mut buffer) {
            Ok(()) => {}
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) if error.is_of_object() => unreadable.push((segment, error.to_string())),
            Err(error) => return Err(error.into()),
        }
    }
    // With no readable segment the pack is damaged as a whole, which is the shorter message.
    match unreadable.len() == directory.segments.len() {
        true => Ok(Vec::new()),
        false => Ok(unreadable),
    }
}

fn one_pack(
    repository: &Repository,
    id: &PackId,
    check: Option<&DirectoryCheck>,
    size: u64,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> repository::Result<()> {
    let name = pack_name(id);
    let mut hasher = Hasher::new();
    let mut ends = PackEnds { start: Vec::new(), end: Vec::new() };
    let mut offset = 0;
    while offset < size {
        if interrupt.is_set() {
            return Err(repository::Error::Interrupted);
        }
        let length = READ.min(size - offset) as usize;
        ends.end.resize(length, 0);
        repository.remote().get_range(&name, offset, &mut ends.end)?;
        hasher.update(&ends.end);
        if offset == 0 && READ < size {
            ends.start = ends.end[..HEADER].to_vec();
        }
        offset += length as u64;
        progress.add(Counter::Bytes, length as u64);
    }
    progress.add(Counter::Packs, 1);
    if PackId::from_bytes(hasher.finish()) != *id {
        return Err(repository::Error::Damaged("its bytes aren't those that it was named by".to_owned()));
    }
    // The directory is among the bytes that were read, as far as it is no longer than the last piece.
    repository.directory_of(id, size, check, ends)?;
    Ok(())
}

/// True with the probability `share`.
pub(super) fn draw(share: f64) -> bool {
    share >= 1.0 || (u64::from_le_bytes(*random_bytes()) as f64 / u64::MAX as f64) < share
}
