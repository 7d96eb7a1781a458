//! Recipes: which chunks, in which order, rebuild each stream. See `docs/format.md`, "Recipe".
//!
//! In memory a recipe is always complete. [`encode_full`] writes it so; [`encode_edit`] writes the differences from the
//! parent's, found by comparing locations, so the creator of a recipe needs to know nothing of edits.

mod decode;
mod encode;
mod entry;

pub use decode::{apply_edit, decode_full};
pub use encode::{encode_edit, encode_full, recipe_check};

use crate::entry::Entry;
use crate::format::checks::DirectoryCheck;
use crate::id::{PackId, StreamHash};

/// Most runs that a recipe may have, and most streams.
pub const MAX_RUNS: usize = 1 << 24;

/// Most bytes of all names in a recipe: a few bytes tell a long name that is like the one before.
pub const MAX_NAMES: usize = 1 << 30;

/// A pack that a recipe names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRef {
    /// The pack.
    pub id: PackId,
    /// Binds its directory.
    pub check: DirectoryCheck,
}

/// Chunks that are adjacent in a segment, and in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Run {
    /// The pack's number in the recipe's table.
    pub pack: u32,
    /// The segment in the pack.
    pub segment: u32,
    /// The first chunk in the segment.
    pub first: u32,
    /// How many chunks, at least 1.
    pub count: u32,
}

impl Run {
    /// Appends `next` if it continues this run. False, and nothing changed, if it doesn't.
    pub fn extend(&mut self, next: Run) -> bool {
        let follows = (self.pack, self.segment) == (next.pack, next.segment)
            && self.first.checked_add(self.count) == Some(next.first);
        let count = self.count.checked_add(next.count);
        match (follows, count) {
            (true, Some(count)) => {
                self.count = count;
                true
            }
            _ => false,
        }
    }
}

/// Appends a run, joined with the last one where it follows it.
pub fn push_run(runs: &mut Vec<Run>, run: Run) {
    if !runs.last_mut().is_some_and(|last| last.extend(run)) {
        runs.push(run);
    }
}

/// One stream of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Its name, kind, size and metadata.
    pub entry: Entry,
    /// The keyed hash of its bytes. None for kinds without content.
    pub hash: Option<StreamHash>,
    /// Its chunks. Empty for kinds without content and for empty streams.
    pub runs: Vec<Run>,
}

/// The chunk locations from which the streams of a snapshot are rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recipe {
    /// The packs that runs name by their number. May hold packs that no run names any more.
    pub packs: Vec<PackRef>,
    /// The streams, in order.
    pub streams: Vec<Stream>,
}

impl Recipe {
    /// The numbers of the packs that runs really name, ascending.
    pub fn used_packs(&self) -> Vec<u32> {
        let mut used = vec![false; self.packs.len()];
        for run in self.streams.iter().flat_map(|stream| &stream.runs) {
            if let Some(used) = used.get_mut(run.pack as usize) {
                *used = true;
            }
        }
        (0..self.packs.len() as u32).filter(|&pack| used[pack as usize]).collect()
    }
}
