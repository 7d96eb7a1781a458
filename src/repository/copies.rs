//! Recipe copies: recovered recipes of lost snapshots, and pages that are damaged where their snapshot has them.
//!
//! Each run that writes packs leaves a copy of its layer in the last of them, with its pages, and those of the layers below it up to
//! the newest one that has a copy, too: so all recipes of a chain can be made from packs alone.

use std::collections::BTreeSet;

use super::directory::PackParts;
use super::pages::{Layers, PlacedLayer, encode_placed};
use super::snapshots::describe;
use super::{Error, Repository, Result, broken, of_object};
use crate::crypto::{Salt, SealPurpose};
use crate::format::layout::{MAX_CHAIN, pack_name};
use crate::format::pack::{CopyBase, PackHeader, RecipeCopy, TRAILER_LEN};
use crate::format::recipe::{Layer, LayerId, PackRef};
use crate::format::snapshot::ParentRef;
use crate::id::{PackId, SnapshotId};
use crate::index::SnapshotRow;
use crate::remote::ObjectName;
use crate::time::Timestamp;

/// A recipe copy that was found.
#[derive(Debug, Clone)]
pub(super) struct FoundCopy {
    /// The pack that it lies in.
    pub pack: PackRef,
    /// Of which set it is.
    pub set: String,
    /// The sequence that the snapshot was to have.
    pub sequence: u64,
    /// When its content was true.
    pub data_time: Timestamp,
    base: Option<CopyBase>,
    layers: Vec<PlacedLayer>,
}

impl FoundCopy {
    fn new(copy: RecipeCopy, parts: &PackParts) -> Self {
        let pack = PackRef { id: parts.id, check: parts.check };
        let trailer = &parts.trailer;
        let behind = TRAILER_LEN as u64 + u64::from(trailer.directory) + u64::from(trailer.recipe_copy);
        let mut offset = parts.size.saturating_sub(behind + trailer.pages);
        let place = |mut layer: Layer| {
            // In a copy the pack that holds it has no name yet.
            let nameless = |pack: &&mut PackRef| pack.id == PackId::from_bytes([0; PackId::LEN]);
            layer.packs.iter_mut().filter(nameless).for_each(|own| *own = pack);
            let before = offset;
            offset += layer.length;
            PlacedLayer { layer, object: pack_name(&pack.id), offset: before }
        };
        let layers = copy.layers.into_iter().map(place).collect();
        Self { pack, set: copy.set, sequence: copy.sequence, data_time: copy.data_time, base: copy.base, layers }
    }

    /// The id of its layer on top.
    fn top(&self) -> Option<LayerId> {
        self.layers.last().map(|placed| placed.layer.id)
    }
}

/// The copies in all packs of the index.
pub(super) struct Copies<'a> {
    repository: &'a Repository,
    /// Those that were found, by sequence.
    pub found: Vec<FoundCopy>,
}

impl<'a> Copies<'a> {
    /// Looks through the packs of the index. One that is damaged, or whose copy is, is as good as none.
    pub fn find(repository: &'a Repository) -> Result<Self> {
        let rows = repository.index().packs()?;
        let mut found = Vec::new();
        for row in rows {
            let parts = undamaged(repository.fetch_directory(&row.id, row.size, Some(&row.check)))?;
            let Some(parts) = parts else { continue };
            let Some(copy) = undamaged(repository.copy_of(&parts))?.flatten() else { continue };
            found.push(FoundCopy::new(copy, &parts));
        }
        found.sort_by_key(|copy| (copy.sequence, copy.data_time, copy.pack.id));
        Ok(Self { repository, found })
    }

    /// The numbers of the copies of a set that have that sequence. A run that was interrupted before its snapshot leaves
    /// one whose sequence the next run used again.
    pub fn of(&self, set: &str, sequence: u64) -> Vec<usize> {
        let fits = |copy: &FoundCopy| copy.sequence == sequence && copy.set == set;
        self.found.iter().enumerate().filter(|(_, copy)| fits(copy)).map(|(at, _)| at).collect()
    }

    /// Whether another copy names this one as its base.
    pub fn is_base(&self, at: usize) -> bool {
        let copy = &self.found[at];
        let base = copy.top().map(|layer| CopyBase { sequence: copy.sequence, layer });
        base.is_some() && self.found.iter().any(|other| other.set == copy.set && other.base == base)
    }

    /// All layers of a copy's recipe; None if its base is missing.
    pub fn layers(&self, at: usize) -> Result<Option<Vec<PlacedLayer>>> {
        let mut above = Vec::new();
        let mut at = at;
        loop {
            let copy = &self.found[at];
            above.extend(copy.layers.iter().rev().cloned());
            if above.len() > MAX_CHAIN as usize {
                return Ok(None);
            }
            let Some(base) = copy.base else { break };
            if let Some(below) = self.of_snapshot(&copy.set, &base)? {
                above.extend(below.into_iter().rev());
                break;
            }
            let below =
                self.of(&copy.set, base.sequence).into_iter().find(|&at| self.found[at].top() == Some(base.layer));
            match below {
                // A base is earlier, so this ends.
                Some(below) => at = below,
                None => return Ok(None),
            }
        }
        above.reverse();
        Ok(Some(above))
    }

    /// The layers of the snapshot that has the base of a copy on top, where it is there.
    fn of_snapshot(&self, set: &str, base: &CopyBase) -> Result<Option<Vec<PlacedLayer>>> {
        let rows = self.repository.index().snapshots()?;
        for row in rows.iter().filter(|row| row.header.sequence == base.sequence && row.header.set == set) {
            if let Some(layers) = undamaged(self.repository.placed_layers(&row.id))?
                && layers.last().is_some_and(|top| top.layer.id == base.layer)
            {
                return Ok(Some(layers));
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

    /// As [`Repository::layers`]. Where a snapshot of the chain is lost, its copy is looked for in all packs.
    pub fn layers_or_copy(&self, id: &SnapshotId) -> Result<Layers<'_>> {
        match self.layers(id) {
            Err(Error::Damaged(_)) => {
                self.look_for_copies()?;
                self.layers(id)
            }
            known => known,
        }
    }

    fn replace_lost_parent(&self, copies: &mut Copies<'_>, child: &SnapshotRow, parent: &ParentRef) -> Result<bool> {
        let candidates = [(parent.id, parent.sequence), (child.id, child.header.sequence)];
        for (id, sequence) in candidates {
            for at in copies.of(&child.header.set, sequence) {
                let Some(layers) = copies.layers(at)? else { continue };
                self.index().set_stand_in(&id, &encode_placed(&layers))?;
                // The child's list of packs tells which of several copies is the right one.
                let needs =
                    self.layers(&child.id).and_then(|layers| self.needed_packs(layers.packs(), layers.streams()));
                if undamaged(needs)?.is_some_and(|needs| needs.packs == child.header.packs) {
                    return Ok(true);
                }
                self.index().forget_stand_in(&id)?;
            }
        }
        Ok(false)
    }

    /// The object that has a copy of a layer's pages, and the bytes before them.
    pub(super) fn copy_of_layer(&self, layer: &LayerId) -> Result<Option<(ObjectName, u64)>> {
        let known = match self.copied_layers.get() {
            Some(known) => known,
            None => {
                // A fresh machine knows none of them yet.
                self.enter_packs_that_read()?;
                let found = Copies::find(self)?.found.into_iter().flat_map(|copy| copy.layers);
                let known = found.map(|placed| (placed.layer.id, (placed.object, placed.offset))).collect();
                self.copied_layers.get_or_init(|| known)
            }
        };
        Ok(known.get(layer).cloned())
    }

    /// Forgets the kept pages of all layers that no known snapshot has.
    pub fn settle_pages(&self) -> Result<()> {
        let index = self.index();
        let mut known = BTreeSet::new();
        let mut add =
            |bytes: Option<Vec<u8>>| known.extend(bytes.and_then(|bytes| Some(Layer::decode(&bytes).ok()?.id)));
        for row in index.snapshots()?.iter().chain(&index.lost_snapshots()?) {
            add(index.whole_body(&row.id)?.map(|body| body.recipe));
        }
        let recovered = index.recovered_recipes()?;
        for id in recovered {
            let placed = index.recovered_recipe(&id)?.and_then(|bytes| super::pages::decode_placed(&bytes));
            known.extend(placed.into_iter().flatten().map(|placed| placed.layer.id));
        }
        self.forget_pages_but(&known);
        Ok(())
    }

    /// Whether a pack of this repository has a copy of a recipe.
    pub(super) fn has_copy(&self, id: &PackId, size: u64) -> Result<bool> {
        let parts = undamaged(self.fetch_directory(id, size, None))?;
        Ok(parts.is_some_and(|parts| parts.trailer.recipe_copy > 0))
    }

    /// Whether a pack has a copy of the recipe of a snapshot that isn't there.
    pub fn may_be_of_lost_snapshot(&self, id: &PackId, size: u64) -> Result<bool> {
        let Some(parts) = undamaged(self.fetch_directory(id, size, None))? else { return Ok(false) };
        let Some(copy) = undamaged(self.copy_of(&parts))?.flatten() else { return Ok(false) };
        let rows = self.index().snapshots()?;
        Ok(!rows.iter().any(|row| row.header.sequence == copy.sequence))
    }

    fn copy_of(&self, parts: &PackParts) -> Result<Option<RecipeCopy>> {
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
        let opened = opened.map_err(|error| broken(&name, error))?;
        let copy = RecipeCopy::decode(opened.as_bytes()).map_err(|error| broken(&name, error))?;
        match copy.pages() == trailer.pages {
            true => Ok(Some(copy)),
            false => Err(broken(&name, "the pages of its copy of a recipe don't fill their place")),
        }
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
