//! The packs that recipes need, and the choice of a snapshot.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};

use super::{Error, Repository, Result, WantedPack, broken};
use crate::format::checks::DirectoryCheck;
use crate::format::layout::pack_name;
use crate::format::recipe::{PackRef, Stream};
use crate::id::PackId;
use crate::index::{PackRow, SnapshotRow};
use crate::time::Timestamp;

/// Which snapshot is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// The one with the highest sequence that isn't suspect.
    Latest,
    /// The newest whose content was true at that time or before, and that isn't suspect.
    At(Timestamp),
    /// The one whose id starts so.
    Id(String),
}

/// The packs that a restore of a recipe reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeNeeds {
    /// The packs, ascending.
    pub packs: Vec<PackId>,
    /// Plain bytes of all segments that are decoded.
    pub decoded: u64,
    /// The depth of the deepest segment.
    pub depth: u32,
}

impl Repository {
    /// The index's rows of packs, in their order, each bound by the check that a recipe's `table` has for it. Directories that the
    /// index lacks are fetched. A damaged or missing pack is one sentence in its place.
    ///
    /// `sizes` are the packs on the remote, where the caller has listed them.
    pub fn enter_packs(
        &self,
        packs: impl Iterator<Item = PackId>,
        table: &[PackRef],
        sizes: Option<&HashMap<PackId, u64>>,
    ) -> Result<Vec<std::result::Result<PackRow, String>>> {
        let checks: HashMap<PackId, DirectoryCheck> = table.iter().map(|pack| (pack.id, pack.check)).collect();
        let ids: Vec<PackId> = packs.collect();
        let unusable = self.fetch_unknown(&ids, &checks, sizes)?;
        let mut rows = Vec::with_capacity(ids.len());
        for id in ids {
            let row = match self.index().pack(&id)? {
                Some(row) => check_row(row, checks.get(&id)),
                None => {
                    let why = unusable.get(&id).cloned();
                    Err(why.map_or_else(|| broken(pack_name(&id), "it is missing"), Error::Damaged))
                }
            };
            rows.push(match row {
                Ok(row) => Ok(row),
                Err(Error::Damaged(why)) => Err(why),
                Err(error) => return Err(error),
            });
        }
        Ok(rows)
    }

    /// Fetches the directories that the index lacks, as far as their packs are there. Returns the damaged ones, each with a
    /// sentence.
    fn fetch_unknown(
        &self,
        packs: &[PackId],
        checks: &HashMap<PackId, DirectoryCheck>,
        sizes: Option<&HashMap<PackId, u64>>,
    ) -> Result<HashMap<PackId, String>> {
        let mut unknown = Vec::new();
        for id in packs {
            if self.index().pack(id)?.is_none() {
                unknown.push(*id);
            }
        }
        let mut damaged = HashMap::new();
        if unknown.is_empty() {
            return Ok(damaged);
        }
        let listed = if sizes.is_none() { Some(self.pack_sizes()?) } else { None };
        let size = |id: &PackId| sizes.or(listed.as_ref()).and_then(|sizes| sizes.get(id)).copied();
        let wanted = |id: PackId| Some(WantedPack { id, size: size(&id)?, check: checks.get(&id).copied() });
        let wanted: Vec<WantedPack> = unknown.into_iter().filter_map(wanted).collect();
        self.enter_directories(&wanted, |id, why| _ = damaged.insert(*id, why))?;
        Ok(damaged)
    }

    /// The packs that a restore of these streams reads: those that runs name by their number in `table`, and all bases under their
    /// segments. The index must have their directories.
    pub fn needed_packs(
        &self,
        table: &[PackRef],
        streams: impl IntoIterator<Item = Result<impl Borrow<Stream>>>,
    ) -> Result<RecipeNeeds> {
        let mut needs = NeedsWalk::new(self, table);
        for stream in streams {
            needs.add(stream?.borrow())?;
        }
        needs.finish()
    }

    /// The same of one stream.
    pub fn needed_by(&self, table: &[PackRef], stream: &Stream) -> Result<RecipeNeeds> {
        self.needed_packs(table, [Ok(stream)])
    }

    /// Plain bytes that a restore of a stream decodes, the packs of whose runs are the index's numbers.
    pub fn decoded_by(&self, stream: &Stream) -> Result<u64> {
        let mut needs = NeedsWalk::new(self, &[]);
        stream.runs.iter().for_each(|run| needs.open.push((run.pack, run.segment)));
        needs.open.retain(|&segment| needs.seen.insert(segment));
        needs.walk()?;
        Ok(needs.decoded)
    }

    /// Finds a snapshot of `set` (of any set where None).
    pub fn find_snapshot(&self, set: Option<&str>, chosen: &Chosen) -> Result<SnapshotRow> {
        let rows = self.index().snapshots()?;
        let of_set = || rows.iter().filter(|row| set.is_none_or(|set| row.header.set == set));
        let found = match chosen {
            Chosen::Latest => of_set().rfind(|row| !row.header.suspect),
            Chosen::At(time) => {
                let true_then = of_set().filter(|row| !row.header.suspect && row.header.data_time <= *time);
                true_then.max_by_key(|row| (row.header.data_time, row.header.sequence))
            }
            Chosen::Id(prefix) => {
                let mut matching = of_set().filter(|row| row.id.to_string().starts_with(prefix.as_str()));
                let found = matching.next();
                if matching.next().is_some() {
                    return Err(Error::Usage(format!("{prefix:?} fits more than one snapshot; give more of its id")));
                }
                found
            }
        };
        found.cloned().ok_or_else(|| Error::Usage(not_found(set, chosen, of_set().count())))
    }
}

fn check_row(row: PackRow, check: Option<&DirectoryCheck>) -> Result<PackRow> {
    match check {
        Some(check) if *check != row.check => {
            Err(broken(pack_name(&row.id), "its directory isn't the one that the snapshot was made with"))
        }
        _ => Ok(row),
    }
}

/// The packs that streams need, found stream by stream. In memory is a number for each segment, and no stream.
pub struct NeedsWalk<'a> {
    repository: &'a Repository,
    table: &'a [PackRef],
    /// The index's number of each pack of the table, where it was asked for.
    numbers: Vec<Option<u32>>,
    ids: HashMap<PackId, u32>,
    seen: HashSet<(u32, u32)>,
    open: Vec<(u32, u32)>,
    decoded: u64,
    depth: u32,
}

impl<'a> NeedsWalk<'a> {
    /// Of no stream yet; their runs will name the packs of `table`.
    pub fn new(repository: &'a Repository, table: &'a [PackRef]) -> Self {
        Self {
            repository,
            table,
            numbers: vec![None; table.len()],
            ids: HashMap::new(),
            seen: HashSet::new(),
            open: Vec::new(),
            decoded: 0,
            depth: 0,
        }
    }

    /// Adds a stream.
    pub fn add(&mut self, stream: &Stream) -> Result<()> {
        for run in &stream.runs {
            let number = match self.numbers.get(run.pack as usize) {
                Some(Some(number)) => *number,
                Some(None) => {
                    let number = self.number(self.table[run.pack as usize].id)?;
                    self.numbers[run.pack as usize] = Some(number);
                    number
                }
                None => return Err(Error::Damaged("a run names a pack that its recipe lacks".to_owned())),
            };
            if self.seen.insert((number, run.segment)) {
                self.open.push((number, run.segment));
            }
        }
        self.walk()
    }

    fn number(&mut self, pack: PackId) -> Result<u32> {
        if let Some(&number) = self.ids.get(&pack) {
            return Ok(number);
        }
        let row = self.repository.index().pack(&pack)?;
        let row = row.ok_or_else(|| broken(pack_name(&pack), "a recipe or a base needs it, and it isn't there"))?;
        self.ids.insert(pack, row.number);
        Ok(row.number)
    }

    /// Follows the bases of the segments that are new.
    fn walk(&mut self) -> Result<()> {
        while let Some((number, segment)) = self.open.pop() {
            let directory = self.repository.index().directory(number)?;
            let lacks = || Error::Damaged(format!("a recipe or a base names a segment {segment} that its pack lacks"));
            let directory = directory.ok_or_else(lacks)?;
            let entry = directory.segments.get(segment as usize).ok_or_else(lacks)?;
            self.decoded += directory.plain_length(segment).unwrap_or(0);
            self.depth = self.depth.max(entry.depth);
            for run in &entry.bases {
                let pack = match run.pack {
                    0 => number,
                    other => self.number(directory.base_packs[other as usize - 1])?,
                };
                if self.seen.insert((pack, run.segment)) {
                    self.open.push((pack, run.segment));
                }
            }
        }
        Ok(())
    }

    /// What all of them need.
    pub fn finish(self) -> Result<RecipeNeeds> {
        let needed: HashSet<u32> = self.seen.iter().map(|(number, _)| *number).collect();
        let mut packs: Vec<PackId> =
            self.ids.into_iter().filter(|(_, number)| needed.contains(number)).map(|(id, _)| id).collect();
        packs.sort_unstable();
        Ok(RecipeNeeds { packs, decoded: self.decoded, depth: self.depth })
    }
}

fn not_found(set: Option<&str>, chosen: &Chosen, there: usize) -> String {
    let of_set = set.map(|set| format!(" of the set {set:?}")).unwrap_or_default();
    let see = "`varu list` shows what there is";
    match chosen {
        _ if there == 0 => format!("there is no snapshot{of_set}; {see}"),
        Chosen::Latest => format!("all {there} snapshots{of_set} are suspect; choose one with --snapshot; {see}"),
        Chosen::At(time) => format!("there is no snapshot{of_set} from {time} or before; {see}"),
        Chosen::Id(prefix) => format!("there is no snapshot{of_set} whose id starts with {prefix:?}; {see}"),
    }
}
