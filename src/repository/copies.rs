//! Recipe copies: what stands in for a snapshot that is lost and that a later one of its chain needs.

use std::collections::BTreeSet;

use super::directory::PackParts;
use super::snapshots::describe;
use super::{Error, Repository, Result, broken, of_object};
use crate::crypto::{Purpose, Salt};
use crate::format::layout::pack_name;
use crate::format::pack::{PackHeader, RecipeCopy, TRAILER_LEN};
use crate::format::recipe::{PackRef, Recipe, apply_edit, decode_full, encode_full};
use crate::format::snapshot::Parent;
use crate::id::PackId;
use crate::index::SnapshotRow;

impl Repository {
    /// For each snapshot whose parent is lost, looks through the packs of its set for a copy of the parent's recipe. Where
    /// one is found, the index keeps it in the parent's place, and the snapshot can be restored. Returns a sentence for each
    /// parent.
    ///
    /// Only what a stored snapshot names is looked for; no snapshot is ever made from a copy alone.
    pub(super) fn replace_lost_parents(&self) -> Result<Vec<String>> {
        let rows = self.index().snapshots()?;
        let present: BTreeSet<_> = rows.iter().map(|row| row.id).collect();
        let mut said = Vec::new();
        for child in &rows {
            let Some(parent) = child.header.parent.filter(|parent| !present.contains(&parent.id)) else { continue };
            let lost = format!("the snapshot {}, on which {} stands, is lost", parent.id, describe(child));
            said.push(match self.replace_lost_parent(child, &parent)? {
                true => format!("{lost}; a copy of its recipe was found in a pack and takes its place"),
                false => format!("{lost}, and no pack has a copy of its recipe: what stands on it can't be restored"),
            });
        }
        Ok(said)
    }

    fn replace_lost_parent(&self, child: &SnapshotRow, parent: &Parent) -> Result<bool> {
        let packs = self.index().packs()?;
        for pack in packs.iter().filter(|pack| pack.set == child.header.set) {
            let stood_in = match self.fetch_directory(&pack.id, pack.size, Some(&pack.check)) {
                Ok(parts) => self.try_copy(&parts, child, parent),
                Err(error) => Err(error),
            };
            match stood_in {
                Ok(true) => return Ok(true),
                // A pack or a copy that is damaged is as good as none.
                Ok(false) | Err(Error::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Puts the pack's recipe copy in the place of `parent`, if it is that one's.
    fn try_copy(&self, parts: &PackParts, child: &SnapshotRow, parent: &Parent) -> Result<bool> {
        let Some(bytes) = self.fetch_copy(parts)? else { return Ok(false) };
        let name = pack_name(&parts.id);
        let copy = RecipeCopy::decode(&bytes).map_err(|error| broken(&name, error))?;
        if copy.set != child.header.set || copy.sequence != parent.sequence {
            return Ok(false);
        }
        let mut recipe = match copy.parent {
            None => decode_full(copy.recipe),
            Some(before) => apply_edit(&self.recipe(&before)?, copy.recipe),
        }
        .map_err(|error| broken(&name, error))?;
        name_own_pack(&mut recipe, PackRef { id: parts.id, check: parts.check });
        self.index().set_stand_in(&parent.id, &encode_full(&recipe))?;
        // A run that was cut off before its snapshot leaves a copy with a sequence that the next run took again. The child's
        // list of packs tells which of them its parent was made with.
        let fits = self.recipe(&child.id).and_then(|recipe| self.needed_packs(&recipe));
        let fits = match fits {
            Ok(needs) => needs.packs == child.header.packs,
            Err(Error::Damaged(_)) => false,
            Err(error) => return Err(error),
        };
        if !fits {
            self.index().forget_stand_in(&parent.id)?;
        }
        Ok(fits)
    }

    fn fetch_copy(&self, parts: &PackParts) -> Result<Option<Vec<u8>>> {
        let trailer = &parts.trailer;
        if trailer.recipe_copy == 0 {
            return Ok(None);
        }
        let name = pack_name(&parts.id);
        let mut sealed = vec![0; trailer.recipe_copy as usize];
        let behind = TRAILER_LEN as u64 + u64::from(trailer.directory) + u64::from(trailer.recipe_copy);
        self.remote.get_range(&name, parts.size - behind, &mut sealed).map_err(of_object)?;
        let salt = Salt::from_bytes(PackHeader::decode(&parts.header).map_err(|error| broken(&name, error))?.salt);
        let opened = self.keys.metadata.open(Purpose::RecipeCopy, &salt, &[&parts.header], sealed);
        Ok(Some(opened.map_err(|error| broken(&name, error))?.as_bytes().to_vec()))
    }
}

/// In a copy the pack that holds it has no name yet.
fn name_own_pack(recipe: &mut Recipe, own: PackRef) {
    let nameless = |pack: &&mut PackRef| pack.id == PackId::from_bytes([0; PackId::LEN]);
    recipe.packs.iter_mut().filter(nameless).for_each(|pack| *pack = own);
}
