//! Recipes: which chunks, in which order, rebuild each stream. See `docs/format.md`, "Recipe".
//!
//! A recipe is one layer for each snapshot of its chain. A layer has a record for each stream that differs from what the layers
//! below it make, by name, in pages that are read one at a time.

mod edit;
mod entry;
mod layer;
mod page;

pub use edit::{EditOp, EditedStream};
pub use layer::{Layer, LayerId};
pub use page::{Child, InnerWriter, LeafWriter, PageRef, Record, decode_inner, decode_leaf};

use crate::entry::Entry;
use crate::format::checks::DirectoryCheck;
use crate::id::{PackId, StreamHash};

/// Most runs that a stream may have, and most runs and streams of a recipe that is held in memory.
pub const MAX_RUNS: usize = 1 << 24;

/// Most bytes of all names in a recipe that is held in memory: a few bytes tell a long name that is like the one before.
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
    /// The place of a dump ([`Kind::Data`](crate::entry::Kind::Data)) among those of its snapshot, ascending; 0 for other kinds.
    pub order: u64,
}

/// The chunk locations from which the streams of a snapshot are rebuilt, held in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recipe {
    /// The packs that runs name by their number. May hold packs that no run names any more.
    pub packs: Vec<PackRef>,
    /// The streams: dumps in their order, others by name.
    pub streams: Vec<Stream>,
}
