//! Recipes of snapshots, made whole along their chain, and the packs that they need.

use std::collections::{HashMap, HashSet};

use super::{Error, Repository, Result, WantedPack, broken};
use crate::format::checks::DirectoryCheck;
use crate::format::layout::{MAX_CHAIN, pack_name};
use crate::format::recipe::{Recipe, apply_edit, decode_full};
use crate::id::{PackId, SnapshotId};
use crate::index::{Index, PackRow, SnapshotRow};
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
    /// The whole recipe of a snapshot.
    pub fn recipe(&self, id: &SnapshotId) -> Result<Recipe> {
        let index = self.index();
        let mut path = Vec::new();
        let mut recipe: Option<Recipe> = None;
        let mut next = Some(*id);
        while let Some(id) = next {
            let Some(row) = index.snapshot(&id)? else {
                let (found, is_own) = recovered_recipe(&index, &id, path.last())?;
                if is_own {
                    path.pop();
                }
                recipe = Some(found);
                break;
            };
            path.push(id);
            if path.len() > MAX_CHAIN as usize {
                return Err(broken(
                    format!("the chain of snapshot {id}"),
                    "it has more snapshots than a chain can have",
                ));
            }
            next = row.header.parent.map(|parent| parent.id);
        }
        for id in path.iter().rev() {
            let bytes =
                index.recipe(id)?.ok_or_else(|| broken(format!("snapshot {id}"), "the index lacks its recipe"))?;
            let made = match &recipe {
                None => decode_full(&bytes),
                Some(parent) => apply_edit(parent, &bytes),
            };
            recipe = Some(made.map_err(|error| broken(format!("the recipe of snapshot {id}"), error))?);
        }
        Ok(recipe.unwrap_or_default())
    }

    /// The index's rows of packs, in their order, each bound by the check that `recipe`'s table has for it. Directories that
    /// the index lacks are fetched. A damaged or missing pack is one sentence in its place.
    ///
    /// `sizes` are the packs on the remote, where the caller has listed them.
    pub fn enter_packs(
        &self,
        packs: impl Iterator<Item = PackId>,
        recipe: &Recipe,
        sizes: Option<&HashMap<PackId, u64>>,
    ) -> Result<Vec<std::result::Result<PackRow, String>>> {
        let checks: HashMap<PackId, DirectoryCheck> = recipe.packs.iter().map(|pack| (pack.id, pack.check)).collect();
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

    /// The packs that a restore of the recipe reads: those that runs name, and all bases under their segments. The index
    /// must have their directories.
    pub fn needed_packs(&self, recipe: &Recipe) -> Result<RecipeNeeds> {
        let mut needed =
            Needed { index: &self.index(), numbers: HashMap::new(), seen: HashSet::new(), open: Vec::new() };
        for run in recipe.streams.iter().flat_map(|stream| &stream.runs) {
            let pack = recipe.packs.get(run.pack as usize);
            let pack = pack.ok_or_else(|| Error::Damaged("a run names a pack that its recipe lacks".to_owned()))?;
            needed.visit(pack.id, run.segment)?;
        }
        needed.finish()
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

/// The recipe of a snapshot that doesn't exist any more, or else that of the one that depends on it: then true.
fn recovered_recipe(index: &Index, id: &SnapshotId, child: Option<&SnapshotId>) -> Result<(Recipe, bool)> {
    let copies = [Some((id, false)), child.map(|child| (child, true))];
    for (id, is_own) in copies.into_iter().flatten() {
        if let Some(bytes) = index.recovered_recipe(id)? {
            let recipe = decode_full(&bytes);
            let recipe = recipe.map_err(|error| broken(format!("the copy of the recipe of snapshot {id}"), error))?;
            return Ok((recipe, is_own));
        }
    }
    let lost = match child {
        Some(child) => format!("the snapshot {id}, on which {child} of its chain stands, isn't in the repository"),
        None => format!("the snapshot {id} isn't in the repository"),
    };
    Err(Error::Damaged(format!("{lost}; `varu index rebuild` looks for a copy of its recipe in the packs")))
}

fn check_row(row: PackRow, check: Option<&DirectoryCheck>) -> Result<PackRow> {
    match check {
        Some(check) if *check != row.check => {
            Err(broken(pack_name(&row.id), "its directory isn't the one that the snapshot was made with"))
        }
        _ => Ok(row),
    }
}

/// A walk over segments and their bases.
struct Needed<'a> {
    index: &'a Index,
    numbers: HashMap<PackId, u32>,
    seen: HashSet<(u32, u32)>,
    open: Vec<(u32, u32)>,
}

impl Needed<'_> {
    fn visit(&mut self, pack: PackId, segment: u32) -> Result<()> {
        let number = match self.numbers.get(&pack) {
            Some(&number) => number,
            None => {
                let row = self.index.pack(&pack)?;
                let row =
                    row.ok_or_else(|| broken(pack_name(&pack), "a recipe or a base needs it, and it isn't there"))?;
                self.numbers.insert(pack, row.number);
                row.number
            }
        };
        if self.seen.insert((number, segment)) {
            self.open.push((number, segment));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<RecipeNeeds> {
        let (mut decoded, mut depth) = (0, 0);
        while let Some((number, segment)) = self.open.pop() {
            let directory = self.index.directory(number)?;
            let lacks = || Error::Damaged(format!("a recipe or a base names a segment {segment} that its pack lacks"));
            let directory = directory.ok_or_else(lacks)?;
            let entry = directory.segments.get(segment as usize).ok_or_else(lacks)?;
            decoded += directory.plain_length(segment).unwrap_or(0);
            depth = depth.max(entry.depth);
            for run in &entry.bases {
                match run.pack {
                    0 if self.seen.insert((number, run.segment)) => self.open.push((number, run.segment)),
                    0 => {}
                    other => self.visit(directory.base_packs[other as usize - 1], run.segment)?,
                }
            }
        }
        let needed: HashSet<u32> = self.seen.iter().map(|(number, _)| *number).collect();
        let mut ids: Vec<PackId> =
            self.numbers.into_iter().filter(|(_, number)| needed.contains(number)).map(|(id, _)| id).collect();
        ids.sort_unstable();
        Ok(RecipeNeeds { packs: ids, decoded, depth })
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
