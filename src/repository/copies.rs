//! Recipe copies: recovered recipes of lost snapshots.
//!
//! Each run that writes packs leaves a copy of its recipe in the last of them. A copy is an edit of the recipe before it that has
//! a copy, too, so that all recipes of a chain can be made from packs alone.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::directory::PackParts;
use super::snapshots::describe;
use super::{Error, Repository, Result, broken, of_object};
use crate::crypto::{Salt, SealPurpose};
use crate::format::checks::RecipeCheck;
use crate::format::layout::{MAX_CHAIN, pack_name};
use crate::format::pack::{CopyBase, PackHeader, RecipeCopy, TRAILER_LEN};
use crate::format::recipe::{PackRef, Recipe, apply_edit, decode_full, encode_full, recipe_check};
use crate::format::snapshot::ParentRef;
use crate::id::{PackId, SnapshotId};
use crate::index::SnapshotRow;
use crate::time::Timestamp;

/// A recipe copy that was found, without its recipe.
#[derive(Debug, Clone)]
pub(super) struct FoundCopy {
    /// The pack that it lies in.
    pub pack: PackRef,
    /// Bytes of that pack.
    size: u64,
    /// Of which set it is.
    pub set: String,
    /// The sequence that the snapshot was to have.
    pub sequence: u64,
    /// When its content was true.
    pub data_time: Timestamp,
    base: Option<CopyBase>,
}

/// The copies in all packs of the index.
pub(super) struct Copies<'a> {
    repository: &'a Repository,
    /// Those that were found, by sequence.
    pub found: Vec<FoundCopy>,
    /// The checks of those that were made whole, by pack; None where that can't be done.
    checks: HashMap<PackId, Option<RecipeCheck>>,
    /// The last one that was completed: the next one mostly depends on it.
    last: Option<(PackId, Arc<Recipe>)>,
}

impl<'a> Copies<'a> {
    /// Looks through the packs of the index. One that is damaged, or whose copy is, is as good as none.
    pub fn find(repository: &'a Repository) -> Result<Self> {
        let rows = repository.index().packs()?;
        let mut found = Vec::new();
        for row in rows {
            let pack = PackRef { id: row.id, check: row.check };
            let Some(bytes) = undamaged(repository.fetch_copy(&pack, row.size))?.flatten() else { continue };
            if let Ok(RecipeCopy { set, sequence, data_time, base, .. }) = RecipeCopy::decode(&bytes) {
                found.push(FoundCopy { pack, size: row.size, set: set.to_owned(), sequence, data_time, base });
            }
        }
        found.sort_by_key(|copy| (copy.sequence, copy.data_time, copy.pack.id));
        Ok(Self { repository, found, checks: HashMap::new(), last: None })
    }

    /// The numbers of the copies of a set that have that sequence. A run that was interrupted before its snapshot leaves
    /// one whose sequence the next run used again.
    pub fn of(&self, set: &str, sequence: u64) -> Vec<usize> {
        let fits = |copy: &FoundCopy| copy.sequence == sequence && copy.set == set;
        self.found.iter().enumerate().filter(|(_, copy)| fits(copy)).map(|(at, _)| at).collect()
    }

    /// Whether another copy names this one as its base.
    pub fn is_base(&mut self, at: usize) -> Result<bool> {
        let copy = self.found[at].clone();
        let Some(recipe) = self.recipe(at)? else { return Ok(false) };
        let base = CopyBase { sequence: copy.sequence, check: recipe_check(&recipe) };
        Ok(self.found.iter().any(|other| other.set == copy.set && other.base == Some(base)))
    }

    /// The complete recipe of a copy; None if its base is missing.
    pub fn recipe(&mut self, at: usize) -> Result<Option<Arc<Recipe>>> {
        self.made(at, 0)
    }

    fn made(&mut self, at: usize, depth: u32) -> Result<Option<Arc<Recipe>>> {
        let copy = self.found[at].clone();
        let id = copy.pack.id;
        match &self.last {
            Some((last, recipe)) if *last == id => return Ok(Some(recipe.clone())),
            _ if depth > MAX_CHAIN || self.checks.get(&id) == Some(&None) => return Ok(None),
            _ => {}
        }
        let made = self.make(&copy, depth)?.map(Arc::new);
        self.checks.insert(id, made.as_ref().map(|recipe| recipe_check(recipe)));
        self.last = made.clone().map(|recipe| (id, recipe));
        Ok(made)
    }

    fn make(&mut self, copy: &FoundCopy, depth: u32) -> Result<Option<Recipe>> {
        let fetched = undamaged(self.repository.fetch_copy(&copy.pack, copy.size))?.flatten();
        let Some(bytes) = fetched else { return Ok(None) };
        let Ok(RecipeCopy { recipe, .. }) = RecipeCopy::decode(&bytes) else { return Ok(None) };
        let made = match copy.base {
            None => decode_full(recipe),
            Some(base) => match self.base(copy, base, depth)? {
                None => return Ok(None),
                Some(before) => apply_edit(&before, recipe),
            },
        };
        Ok(made.ok().map(|mut recipe| {
            name_own_pack(&mut recipe, copy.pack);
            recipe
        }))
    }

    /// The recipe that a copy is an edit of, from a snapshot that is there or from another copy.
    fn base(&mut self, copy: &FoundCopy, base: CopyBase, depth: u32) -> Result<Option<Arc<Recipe>>> {
        let rows = self.repository.index().snapshots()?;
        for row in rows.iter().filter(|row| row.header.sequence == base.sequence && row.header.set == copy.set) {
            if let Some(recipe) = undamaged(self.repository.recipe(&row.id))?
                && recipe_check(&recipe) == base.check
            {
                return Ok(Some(Arc::new(recipe)));
            }
        }
        for at in self.of(&copy.set, base.sequence) {
            let known = self.checks.get(&self.found[at].pack.id);
            if known.is_some_and(|known| *known != Some(base.check)) {
                continue;
            }
            if let Some(recipe) = self.made(at, depth + 1)?
                && recipe_check(&recipe) == base.check
            {
                return Ok(Some(recipe));
            }
        }
        Ok(None)
    }
}

impl Repository {
    /// For each snapshot whose parent is lost, looks through the packs for a copy of the parent's recipe, or of its own. Where
    /// one is found, the index keeps it, and the snapshot can be restored. Returns a sentence for each lost parent.
    ///
    /// Only snapshots that a stored one names are looked for; see [`Repository::salvage`] for others.
    pub(super) fn replace_lost_parents(&self) -> Result<Vec<String>> {
        let orphans = self.orphans()?;
        if orphans.is_empty() {
            return Ok(Vec::new());
        }
        let mut copies = Copies::find(self)?;
        let mut said = Vec::new();
        for (child, parent) in &orphans {
            let lost = format!("the snapshot {}, on which {} stands, is lost", parent.id, describe(child));
            said.push(match self.replace_lost_parent(&mut copies, child, parent)? {
                true => format!("{lost}; a copy of its recipe was found in a pack and takes its place"),
                false => format!("{lost}, and no pack has a copy of its recipe: what stands on it can't be restored"),
            });
        }
        Ok(said)
    }

    /// The snapshots whose parents are lost and that no copy stands in for, the oldest first.
    fn orphans(&self) -> Result<Vec<(SnapshotRow, ParentRef)>> {
        let rows = self.index().snapshots()?;
        let mut there: BTreeSet<SnapshotId> = rows.iter().map(|row| row.id).collect();
        there.extend(self.index().recovered_recipes()?);
        let recovered_recipes: BTreeSet<SnapshotId> = self.index().recovered_recipes()?.into_iter().collect();
        let orphan = |row: SnapshotRow| {
            let parent = row.header.parent.filter(|parent| !there.contains(&parent.id))?;
            (!recovered_recipes.contains(&row.id)).then_some((row, parent))
        };
        Ok(rows.into_iter().filter_map(orphan).collect())
    }

    /// Looks in all packs for copies of the recipes of lost snapshots on which others stand, where there are such.
    pub fn look_for_copies(&self) -> Result<()> {
        if !self.orphans()?.is_empty() {
            self.enter_packs_that_read()?;
            self.replace_lost_parents()?;
        }
        Ok(())
    }

    /// As [`Repository::recipe`]. Where a snapshot of the chain is lost, its copy is looked for in all packs.
    pub fn recipe_or_copy(&self, id: &SnapshotId) -> Result<Recipe> {
        match self.recipe(id) {
            Err(Error::Damaged(_)) => {
                self.look_for_copies()?;
                self.recipe(id)
            }
            known => known,
        }
    }

    fn replace_lost_parent(&self, copies: &mut Copies<'_>, child: &SnapshotRow, parent: &ParentRef) -> Result<bool> {
        let candidates = [(parent.id, parent.sequence), (child.id, child.header.sequence)];
        for (id, sequence) in candidates {
            for at in copies.of(&child.header.set, sequence) {
                let Some(recipe) = copies.recipe(at)? else { continue };
                self.index().set_stand_in(&id, &encode_full(&recipe))?;
                // The child's list of packs tells which of several copies is the right one.
                let fits = self.recipe(&child.id).and_then(|recipe| self.needed_packs(&recipe));
                if undamaged(fits)?.is_some_and(|needs| needs.packs == child.header.packs) {
                    return Ok(true);
                }
                self.index().forget_stand_in(&id)?;
            }
        }
        Ok(false)
    }

    fn fetch_copy(&self, pack: &PackRef, size: u64) -> Result<Option<Vec<u8>>> {
        let parts = self.fetch_directory(&pack.id, size, Some(&pack.check))?;
        self.copy_of(&parts)
    }

    /// Whether a pack of this repository has a copy of a recipe.
    pub(super) fn has_copy(&self, id: &PackId, size: u64) -> Result<bool> {
        let parts = undamaged(self.fetch_directory(id, size, None))?;
        Ok(parts.is_some_and(|parts| parts.trailer.recipe_copy > 0))
    }

    /// Whether a pack has a copy of the recipe of a snapshot that isn't there.
    pub fn may_be_of_lost_snapshot(&self, id: &PackId, size: u64) -> Result<bool> {
        let Some(parts) = undamaged(self.fetch_directory(id, size, None))? else { return Ok(false) };
        let Some(bytes) = undamaged(self.copy_of(&parts))?.flatten() else { return Ok(false) };
        let Ok(copy) = RecipeCopy::decode(&bytes) else { return Ok(false) };
        let rows = self.index().snapshots()?;
        Ok(!rows.iter().any(|row| row.header.sequence == copy.sequence))
    }

    fn copy_of(&self, parts: &PackParts) -> Result<Option<Vec<u8>>> {
        let trailer = &parts.trailer;
        if trailer.recipe_copy == 0 {
            return Ok(None);
        }
        let name = pack_name(&parts.id);
        let mut sealed = vec![0; trailer.recipe_copy as usize];
        let behind = TRAILER_LEN as u64 + u64::from(trailer.directory) + u64::from(trailer.recipe_copy);
        self.remote.get_range(&name, parts.size - behind, &mut sealed).map_err(of_object)?;
        let salt = Salt::from_bytes(PackHeader::decode(&parts.header).map_err(|error| broken(&name, error))?.salt);
        let opened = self.keys.metadata.open(SealPurpose::RecipeCopy, &salt, &[&parts.header], sealed);
        Ok(Some(opened.map_err(|error| broken(&name, error))?.as_bytes().to_vec()))
    }
}

/// A damaged copy is as good as none.
pub(super) fn undamaged<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Error::Damaged(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// In a copy the pack that holds it has no name yet.
fn name_own_pack(recipe: &mut Recipe, own: PackRef) {
    let nameless = |pack: &&mut PackRef| pack.id == PackId::from_bytes([0; PackId::LEN]);
    recipe.packs.iter_mut().filter(nameless).for_each(|pack| *pack = own);
}
