//! Plan of a backup, before its source is read: the parent, the packs that may be shared, and the kind of snapshot.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::gone;
use super::parent_recipe::{ParentRecipe, ParentStream};
use super::reused::ReusedPacks;
use super::{BackupOptions, WantedKind, rebase};
use crate::entry::{Entry, StreamName, Untrusted};
use crate::error::{Error, Result};
use crate::format::layout::MAX_CHAIN;
use crate::format::recipe::{PackRef, Run, Stream};
use crate::id::{GenerationId, PackId};
use crate::index::{PackRow, SnapshotRow};
use crate::progress::Progress;
use crate::remote::{Folder, ObjectName};
use crate::repository::{self, Repository, list_folders};
use crate::time::Clock;
use crate::warning::{Warning, WarningKind};

/// The plan, before the first byte is read.
pub(super) struct Start<'a> {
    /// The snapshot that an incremental builds upon; None for a full.
    pub parent: Option<SnapshotRow>,
    /// The recipe of the set's newest snapshot, whose streams predict the new ones. None where there is none.
    pub recipe: Option<ParentRecipe<'a>>,
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
}

impl<'a> Start<'a> {
    /// Brings index and remote together and decides.
    pub fn look(
        repository: &'a Repository,
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
            Some(before) => match usable(repository, before, &options.roots, &sizes) {
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
        let recipe = found;
        let rebase = full && before.as_ref().is_none_or(|before| rebase::is_due(repository, options, before, clock));
        let to_repack = match &before {
            Some(before) if full && !rebase => {
                let others = newest.values().filter(|row| row.id != before.id);
                let others = others.flat_map(|row| row.header.packs.iter().copied()).collect();
                let budget = before.about.totals.read / 100 * u64::from(options.repack_budget);
                rebase::to_repack(repository, recipe.iter().flat_map(ParentRecipe::streams), &others, budget)?
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
        let parent = before.clone().filter(|_| !full);
        let (listed, newest) = (changes.listed, last.map_or(0, |last| last.header.sequence));
        Ok(Self {
            parent,
            recipe,
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
        })
    }

    /// Whether the snapshot before needs that pack.
    pub fn is_needed(&self, pack: &PackId) -> bool {
        self.before.as_ref().is_some_and(|before| before.header.packs.binary_search(pack).is_ok())
    }

    /// Bytes of chunks that were new in the snapshot before, and a little more: as many may be new now.
    pub fn new_before(&self) -> u64 {
        self.before.as_ref().map_or(0, |before| before.about.totals.new + before.about.totals.new / 4)
    }

    /// The number of the stream of the recipe before that has the chunk of that ordinal.
    pub fn number_of(&self, ordinal: u64) -> Result<Option<u64>> {
        self.recipe.as_ref().map_or(Ok(None), |recipe| recipe.number_of(ordinal))
    }

    /// The stream of that number of the recipe before.
    pub fn numbered(&self, number: u64) -> Result<Option<ParentStream>> {
        self.recipe.as_ref().map_or(Ok(None), |recipe| recipe.numbered(number))
    }

    /// Whether a chunk that lies there may be taken as it is.
    pub fn accepts(&self, run: &Run) -> bool {
        (!self.rebase || self.before.is_none()) && !self.to_repack.contains(&run.pack)
    }

    /// Whether all of a stream may be taken as it is.
    pub fn accepts_all(&self, stream: &Stream) -> bool {
        stream.runs.iter().all(|run| self.accepts(run))
    }
}

/// The stream of an entry whose content is the parent's. Holes and inode flags are only found where it is opened, so they are the
/// parent's, too.
pub(super) fn kept_stream(mut entry: Entry, parent: &Stream) -> Stream {
    if let (Some(metadata), Some(before)) = (&mut entry.metadata, &parent.entry.metadata) {
        metadata.holes.clone_from(&before.holes);
        metadata.flags = before.flags;
        entry.size = parent.entry.size;
    }
    Stream { entry, hash: parent.hash, runs: parent.runs.clone(), order: 0 }
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

/// The recipe of a snapshot, where all of its packs are there.
fn usable<'a>(
    repository: &'a Repository,
    before: &SnapshotRow,
    roots: &[StreamName],
    sizes: &HashMap<PackId, u64>,
) -> Result<ParentRecipe<'a>> {
    if let Some(missing) = before.header.packs.iter().find(|pack| !sizes.contains_key(pack)) {
        return Err(repository::Error::Damaged(format!("packs/{missing}.pack is missing or damaged")).into());
    }
    let layers = repository.layers(&before.id)?;
    ParentRecipe::survey(repository, layers, roots, |layers, used| {
        let entered = repository.enter_packs(before.header.packs.iter().copied(), layers.packs(), Some(sizes))?;
        if let Some(why) = entered.into_iter().find_map(std::result::Result::err) {
            return Err(repository::Error::Damaged(why).into());
        }
        let named = layers.packs().iter().zip(used).filter(|(_, used)| **used);
        if !named.into_iter().all(|(pack, _)| before.header.packs.binary_search(&pack.id).is_ok()) {
            let why = format!("the header of snapshot {} doesn't list all packs that it needs", before.id);
            return Err(repository::Error::Damaged(why).into());
        }
        // A table also names packs that its runs need no more; they may be gone.
        let row = |pack: &PackRef| -> Result<PackRow> {
            let row = repository.index().pack(&pack.id)?;
            Ok(row.unwrap_or_else(|| placeholder(pack.id, pack.check)))
        };
        layers.packs().iter().map(row).collect()
    })
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
