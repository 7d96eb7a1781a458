//! Plan of a backup, before its source is read: the parent, the packs that may be shared, and the kind of snapshot.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use super::gone;
use super::reused::ReusedPacks;
use super::{BackupOptions, WantedKind, rebase};
use crate::entry::{Entry, StreamName, Untrusted};
use crate::error::{Error, Result};
use crate::format::layout::MAX_CHAIN;
use crate::format::recipe::{Recipe, Run, Stream};
use crate::id::{GenerationId, PackId};
use crate::index::{PackRow, SnapshotRow};
use crate::progress::Progress;
use crate::remote::{Folder, ObjectName};
use crate::repository::{self, Repository, list_folders};
use crate::time::Clock;
use crate::warning::{Warning, WarningKind};

/// The plan, before the first byte is read.
pub(super) struct Start {
    /// The snapshot that an incremental is an edit of; None for a full.
    pub parent: Option<SnapshotRow>,
    /// The recipe of the set's newest snapshot, whose streams predict the new ones. Empty where there is none.
    pub recipe: Recipe,
    /// The index's rows of that recipe's packs, in the order of its table.
    pub packs: Vec<PackRow>,
    /// The numbers of the packs that may be shared.
    pub shared: HashSet<u32>,
    /// Those among them that a prune may take.
    pub reused: ReusedPacks,
    /// The numbers of packs whose chunks are stored again, so that they can go.
    pub to_repack: HashSet<u32>,
    /// The generation to go on with; None for a new one.
    pub generation: Option<GenerationId>,
    /// Whether everything is stored plain again.
    pub rebase: bool,
    /// The newest snapshot of the set that can be built upon.
    pub before: Option<SnapshotRow>,
    /// The names of all snapshots that were there.
    pub listed: BTreeSet<ObjectName>,
    /// The newest snapshot's number.
    pub newest: u64,
    /// Oddities of the listing.
    pub warnings: Vec<Warning>,
    /// Why the snapshot's kind isn't the requested one.
    pub note: Option<String>,
    by_name: HashMap<StreamName, usize>,
    /// The number of the first chunk of each stream among all of the recipe before.
    ordinals: Vec<u64>,
}

impl Start {
    /// Brings index and remote together and decides.
    pub fn look(
        repository: &Repository,
        options: &BackupOptions,
        clock: &dyn Clock,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let (mended, changes) = repository.mend_and_sync(&options.set, clock.now().before(options.keep))?;
        mended.iter().for_each(|said| progress.warn(&WarningKind::UnusableObject.warning(said)));
        changes.healed.iter().for_each(|why| progress.warn(&WarningKind::DamagedIndex.warning(why)));
        changes.unusable().for_each(|why| progress.warn(&WarningKind::UnusableObject.warning(why)));
        if let Some(later) = changes.later.first() {
            return Err(Error::Usage(format!("{later}; nothing is written beside it: update varu on this machine")));
        }
        if let Some(hidden) = changes.hidden {
            return Err(Error::Damaged(hidden));
        }
        repository.check_instance()?;
        // Packs are listed after the snapshots that name them.
        let folders = [Folder::Keys, Folder::Info, Folder::Pending, Folder::Packs];
        let [keys, info, pending, packs] = list_folders(&**repository.remote(), folders);
        repository
            .keep_keys_of(keys, info)?
            .iter()
            .for_each(|said| progress.warn(&WarningKind::KeyObject.warning(said)));
        let mut warnings: Vec<Warning> = gone::unexpected(repository, options.keep)?.into_iter().collect();
        let last = repository.newest()?;
        let odd = last.as_ref().and_then(|last| super::clock::beside(last, clock.now()));
        warnings.extend(odd.map(|why| WarningKind::WrongClock.warning(why)));
        warnings.iter().for_each(|warning| progress.warn(warning));
        repository.sweep_pending_of(pending, clock.now())?;
        let mut sizes = repository.pack_sizes_of(packs)?;
        repository.settle_packs(&sizes)?;
        // A damaged object is as good as gone.
        for pack in repository.damaged_packs()? {
            sizes.remove(&pack);
        }
        let newest = newest_by_set(repository)?;
        let before = newest.get(&options.set).cloned();
        check_origin(repository, options, before.as_ref())?;
        let (mut full, mut note) = decide(repository, options, before.as_ref(), clock)?;
        let found = match &before {
            None => None,
            Some(before) if !is_own(repository, before)? => {
                let text = format!(
                    "the snapshot before ({}) was not made by this machine as its state knows it, so nothing is built upon it",
                    before.id
                );
                if repository.index().trusts_any_snapshot()? {
                    let why = "its state was set back, or somebody else has written with its key";
                    progress.warn(&WarningKind::StoredAgain.warning(format!("{text}: {why}")));
                }
                note = Some(format!("a full, because {text}"));
                full = true;
                None
            }
            Some(before) => match usable(repository, before, &sizes) {
                Ok(found) => Some(found),
                // Backups continue if an old snapshot is damaged; the present data is stored again.
                Err(Error::Repository(repository::Error::Damaged(why))) => {
                    let text = format!("the snapshot before can't be built upon, so all is stored again: {why}");
                    progress.warn(&WarningKind::StoredAgain.warning(text));
                    note = Some("a full, because the snapshot before is damaged".to_owned());
                    full = true;
                    None
                }
                Err(error) => return Err(error),
            },
        };
        let before = before.filter(|_| found.is_some());
        let (recipe, packs) = found.unwrap_or_default();
        let rebase = full && before.as_ref().is_none_or(|before| rebase::is_due(repository, options, before, clock));
        let to_repack = match &before {
            Some(before) if full && !rebase => {
                let others = newest.values().filter(|row| row.id != before.id);
                let others = others.flat_map(|row| row.header.packs.iter().copied()).collect();
                let budget = before.about.totals.read / 100 * u64::from(options.repack_budget);
                rebase::to_repack(repository, &recipe, &packs, &others, budget)?
            }
            _ => HashSet::new(),
        };
        let alone = |shared| (shared, ReusedPacks::nothing(clock.now()));
        let (mut shared, reused) = match (&before, rebase) {
            // A re-base stores the bytes that were read, whatever index and remote claim.
            (Some(_), true) => alone(HashSet::new()),
            (None, _) if options.isolate_chains || options.wanted == WantedKind::Rebase => alone(HashSet::new()),
            (before, _) => shared(repository, options, &newest, before.as_ref(), &sizes, clock)?,
        };
        shared.retain(|number| !to_repack.contains(number));
        let generation = before.as_ref().filter(|_| !rebase).map(|before| before.about.generation);
        let by_name =
            recipe.streams.iter().enumerate().map(|(number, stream)| (stream.entry.name.clone(), number)).collect();
        let ordinals = recipe.streams.iter().scan(0, |next, stream| {
            let first = *next;
            *next += stream.runs.iter().map(|run| u64::from(run.count)).sum::<u64>();
            Some(first)
        });
        let ordinals = ordinals.collect();
        let parent = before.clone().filter(|_| !full);
        let (listed, newest) = (changes.listed, last.map_or(0, |last| last.header.sequence));
        Ok(Self {
            parent,
            recipe,
            packs,
            shared,
            reused,
            to_repack,
            generation,
            rebase,
            before,
            listed,
            newest,
            warnings,
            note,
            by_name,
            ordinals,
        })
    }

    /// Whether the snapshot before needs that pack.
    pub fn is_needed(&self, pack: &PackId) -> bool {
        self.before.as_ref().is_some_and(|before| before.header.packs.binary_search(pack).is_ok())
    }

    /// Plain bytes that a restore of that stream of the snapshot before decodes.
    pub fn decoded(&self, repository: &Repository, stream: &Stream) -> Result<u64> {
        let alone = Recipe { packs: self.recipe.packs.clone(), streams: vec![stream.clone()] };
        Ok(repository.needed_packs(&alone)?.decoded)
    }

    /// Bytes of chunks that were new in the snapshot before, and a little more: as many may be new now.
    pub fn new_before(&self) -> u64 {
        self.before.as_ref().map_or(0, |before| before.about.totals.new + before.about.totals.new / 4)
    }

    /// The number of a stream's first chunk among all of the recipe before.
    pub fn first_ordinal(&self, stream: usize) -> u64 {
        self.ordinals.get(stream).copied().unwrap_or(0)
    }

    /// The stream of the recipe before that has the chunk of that ordinal, with its number.
    pub fn stream_of(&self, ordinal: u64) -> Option<(usize, &Stream)> {
        let after = self.ordinals.partition_point(|&first| first <= ordinal);
        // Empty streams start where the next one starts; the last of those that start here has the chunk.
        let number = after.checked_sub(1)?;
        Some((number, self.recipe.streams.get(number)?))
    }

    /// The numbers of a stream's chunks among all of the recipe before.
    pub fn chunk_ordinals(&self, stream: usize) -> Range<u64> {
        let first = self.first_ordinal(stream);
        first..first + self.recipe.streams[stream].runs.iter().map(|run| u64::from(run.count)).sum::<u64>()
    }

    /// Whether a chunk that lies there may be taken as it is.
    pub fn accepts(&self, run: &Run) -> bool {
        (!self.rebase || self.before.is_none()) && !self.to_repack.contains(&run.pack)
    }

    /// Whether all of a stream may be taken as it is.
    pub fn accepts_all(&self, stream: &Stream) -> bool {
        self.runs_by_index(stream).iter().all(|run| self.accepts(run))
    }

    /// The stream of that name in the snapshot before, with its number.
    pub fn parent_stream(&self, name: &StreamName) -> Option<(usize, &Stream)> {
        self.by_name.get(name).map(|&number| (number, &self.recipe.streams[number]))
    }

    /// The stream of an entry whose content is the parent's. Holes and inode flags are only found where it is opened, so they
    /// are the parent's, too.
    pub fn kept_stream(&self, mut entry: Entry, parent: &Stream) -> Stream {
        if let (Some(metadata), Some(before)) = (&mut entry.metadata, &parent.entry.metadata) {
            metadata.holes.clone_from(&before.holes);
            metadata.flags = before.flags;
            entry.size = parent.entry.size;
        }
        Stream { entry, hash: parent.hash, runs: self.runs_by_index(parent) }
    }

    /// A run of the recipe before, with the index's number of its pack.
    pub fn by_index(&self, run: Run) -> Run {
        Run { pack: self.packs[run.pack as usize].number, ..run }
    }

    /// All runs of a stream of the recipe before, with the index's numbers of their packs.
    pub fn runs_by_index(&self, stream: &Stream) -> Vec<Run> {
        stream.runs.iter().map(|&run| self.by_index(run)).collect()
    }
}

/// Data from elsewhere in the place of a set's data would push that out in time.
fn check_origin(repository: &Repository, options: &BackupOptions, before: Option<&SnapshotRow>) -> Result<()> {
    let Some(before) = before.filter(|_| options.keep_origin) else { return Ok(()) };
    let body = repository.index().body(&before.id)?;
    let lines = |text: &str| text.lines().map(|line| Untrusted::from(line).to_string()).collect::<Vec<_>>().join(", ");
    match body.as_ref().and_then(|body| body.facts.origin.as_ref()) {
        Some(of) if of.raw() != options.origin => Err(Error::Refused(format!(
            "the set {} is of {}, and {} in their place would push them out in time: --set NAME makes it a set of its own; \
             --change-paths says that the set is of this from now on",
            options.set,
            lines(of.raw()),
            lines(&options.origin)
        ))),
        _ => Ok(()),
    }
}

fn newest_by_set(repository: &Repository) -> Result<HashMap<String, SnapshotRow>> {
    let rows = repository.index().snapshots()?;
    Ok(rows.into_iter().map(|row| (row.header.set.clone(), row)).collect())
}

/// Whether the snapshot becomes a full, and why if that isn't the requested kind.
fn decide(
    repository: &Repository,
    options: &BackupOptions,
    before: Option<&SnapshotRow>,
    clock: &dyn Clock,
) -> Result<(bool, Option<String>)> {
    let asked = matches!(options.wanted, WantedKind::Incremental);
    let Some(before) = before else {
        return Ok((
            true,
            asked.then(|| "a full, because there is no chain that an incremental could go on".to_owned()),
        ));
    };
    if matches!(options.wanted, WantedKind::Full | WantedKind::Rebase) {
        return Ok((true, None));
    }
    let rows = repository.index().snapshots()?;
    let chain: Vec<_> = rows.iter().filter(|row| row.header.chain == before.header.chain).collect();
    if chain.len() >= MAX_CHAIN as usize {
        return Ok((true, Some(format!("a full, because the chain has {MAX_CHAIN} snapshots"))));
    }
    if asked {
        return Ok((false, None));
    }
    let begun = chain.first().map_or(before.header.stored_time, |full| full.header.stored_time);
    if super::clock::is_ahead(begun, clock.now()) {
        return Ok((true, Some("a full, because the last one is dated in the future: a clock was wrong".to_owned())));
    }
    Ok((options.zone.days_between(begun, clock.now()) >= i64::from(options.full_every), None))
}

/// The recipe of a snapshot and its packs, where all of them are there.
fn usable(
    repository: &Repository,
    before: &SnapshotRow,
    sizes: &HashMap<PackId, u64>,
) -> Result<(Recipe, Vec<PackRow>)> {
    if let Some(missing) = before.header.packs.iter().find(|pack| !sizes.contains_key(pack)) {
        return Err(repository::Error::Damaged(format!("packs/{missing}.pack is missing or damaged")).into());
    }
    let recipe = repository.recipe(&before.id)?;
    let entered = repository.enter_packs(before.header.packs.iter().copied(), &recipe, Some(sizes))?;
    if let Some(why) = entered.into_iter().find_map(std::result::Result::err) {
        return Err(repository::Error::Damaged(why).into());
    }
    if !recipe.used_packs().iter().all(|&pack| before.header.packs.contains(&recipe.packs[pack as usize].id)) {
        let why = format!("the header of snapshot {} doesn't list all packs that it needs", before.id);
        return Err(repository::Error::Damaged(why).into());
    }
    // A table also names packs that its runs need no more; they may be gone.
    let packs = recipe.packs.iter().map(|pack| -> Result<PackRow> {
        let row = repository.index().pack(&pack.id)?;
        Ok(row.unwrap_or_else(|| placeholder(pack.id, pack.check)))
    });
    let packs = packs.collect::<Result<Vec<_>>>()?;
    Ok((recipe, packs))
}

/// Stands for a pack that no run names any more.
fn placeholder(id: PackId, check: [u8; 16]) -> PackRow {
    PackRow {
        number: u32::MAX,
        id,
        set: String::new(),
        generation: GenerationId::from_bytes([0; 16]),
        size: 0,
        header_length: 0,
        check,
        stored_time: None,
        whole: false,
    }
}

/// Whether this machine made a snapshot and all that its recipe depends on. A foreign recipe could give an unchanged
/// file, which isn't read, any content.
fn is_own(repository: &Repository, snapshot: &SnapshotRow) -> Result<bool> {
    let index = repository.index();
    let mut next = Some(snapshot.id);
    while let Some(id) = next {
        if !index.trusts_snapshot(&id)? {
            return Ok(false);
        }
        let row = index.snapshot(&id)?;
        let Some(row) = row else { return Ok(false) };
        next = row.header.parent.map(|parent| parent.id);
    }
    Ok(true)
}

/// The packs that a backup may rely on, trusted ones all: those that the newest snapshot of some set needs, which prune
/// never deletes, and complete packs of this machine that are younger than a week.
fn shared(
    repository: &Repository,
    options: &BackupOptions,
    newest: &HashMap<String, SnapshotRow>,
    before: Option<&SnapshotRow>,
    sizes: &HashMap<PackId, u64>,
    clock: &dyn Clock,
) -> Result<(HashSet<u32>, ReusedPacks)> {
    let needed: HashSet<PackId> = if options.isolate_chains {
        before.into_iter().flat_map(|row| row.header.packs.iter().copied()).collect()
    } else {
        newest.values().flat_map(|row| row.header.packs.iter().copied()).collect()
    };
    let rows = repository.index().packs()?;
    let reused = match options.isolate_chains {
        true => ReusedPacks::nothing(clock.now()),
        false => ReusedPacks::among(repository, rows.iter(), &needed, newest, clock.now())?,
    };
    let trusted = repository.index().trusted_packs()?;
    let trusted: HashSet<u32> = trusted.into_iter().collect();
    let there = |row: &&PackRow| trusted.contains(&row.number) && row.whole && sizes.get(&row.id) == Some(&row.size);
    let may = |row: &&PackRow| needed.contains(&row.id) || reused.has(&row.id);
    let numbers = rows.iter().filter(there).filter(may).map(|row| row.number).collect();
    Ok((numbers, reused))
}
