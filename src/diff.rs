//! Differences between two snapshots: a pure comparison of their recipes.

use std::collections::{BTreeMap, HashSet};

use crate::entry::{Entry, StreamName};
use crate::format::recipe::{Recipe, Run, Stream};
use crate::id::ChunkId;

/// How a stream changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is only in the later one.
    Added,
    /// It is only in the earlier one.
    Removed,
    /// Its content or its kind changed; `new_bytes` are those of its chunks that the earlier one lacks.
    Content {
        /// Bytes of chunks that the earlier stream hasn't.
        new_bytes: u64,
    },
    /// Its content is the same, and its metadata isn't.
    Metadata,
}

/// A stream that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub name: StreamName,
    /// How it differs.
    pub change: Change,
    /// Bytes before; None where it is added.
    pub before: Option<u64>,
    /// Bytes after; None where it is removed.
    pub after: Option<u64>,
}

/// The streams that differ, by name. `chunks` gives ids and lengths of a run's chunks in a recipe; where it fails, so does
/// the comparison.
pub fn diff<E>(
    earlier: &Recipe,
    later: &Recipe,
    chunks: impl Fn(&Recipe, &Run) -> Result<Vec<(ChunkId, u32)>, E>,
) -> Result<Vec<Difference>, E> {
    let by_name = |recipe: &'_ Recipe| -> BTreeMap<StreamName, usize> {
        recipe.streams.iter().enumerate().map(|(number, stream)| (stream.entry.name.clone(), number)).collect()
    };
    let (before, after) = (by_name(earlier), by_name(later));
    let mut found = Vec::new();
    for (name, &number) in &before {
        let old = &earlier.streams[number];
        let Some(new) = after.get(name).map(|&number| &later.streams[number]) else {
            found.push(difference(Change::Removed, Some(&old.entry), None, name));
            continue;
        };
        let change = if !same_content(old, new) {
            Change::Content { new_bytes: new_bytes((earlier, old), (later, new), &chunks)? }
        } else if old.entry.metadata.as_ref().map(comparable) != new.entry.metadata.as_ref().map(comparable) {
            Change::Metadata
        } else {
            continue;
        };
        found.push(difference(change, Some(&old.entry), Some(&new.entry), name));
    }
    for (name, &number) in after.iter().filter(|(name, _)| !before.contains_key(name)) {
        found.push(difference(Change::Added, None, Some(&later.streams[number].entry), name));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn difference(change: Change, before: Option<&Entry>, after: Option<&Entry>, name: &StreamName) -> Difference {
    Difference { name: name.clone(), change, before: before.map(Entry::length), after: after.map(Entry::length) }
}

fn same_content(old: &Stream, new: &Stream) -> bool {
    old.entry.kind == new.entry.kind && old.entry.size == new.entry.size && old.hash == new.hash
}

/// Metadata as a restore brings it back: inode and time of the inode's change are the machine's own.
fn comparable(metadata: &crate::entry::Metadata) -> crate::entry::Metadata {
    crate::entry::Metadata { inode: 0, ctime: Default::default(), ..metadata.clone() }
}

fn new_bytes<E>(
    (earlier, old): (&Recipe, &Stream),
    (later, new): (&Recipe, &Stream),
    chunks: impl Fn(&Recipe, &Run) -> Result<Vec<(ChunkId, u32)>, E>,
) -> Result<u64, E> {
    let mut known = HashSet::new();
    for run in &old.runs {
        known.extend(chunks(earlier, run)?.into_iter().map(|(id, _)| id));
    }
    let mut bytes = 0;
    for run in &new.runs {
        bytes += chunks(later, run)?
            .iter()
            .filter(|(id, _)| known.insert(*id))
            .map(|(_, length)| u64::from(*length))
            .sum::<u64>();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Kind, Metadata};
    use crate::id::StreamHash;

    fn stream(name: &str, chunks: &[u32], mode: u32) -> Stream {
        let hash = chunks.iter().fold(0, |hash: u8, chunk| hash.wrapping_mul(7).wrapping_add(*chunk as u8));
        Stream {
            entry: Entry {
                name: StreamName::new(name).unwrap(),
                kind: Kind::File,
                size: 10 * chunks.len() as u64,
                metadata: Some(Metadata { mode, inode: u64::from(mode) + chunks.len() as u64, ..Metadata::default() }),
            },
            hash: Some(StreamHash::from_bytes([hash; 32])),
            runs: chunks.iter().map(|&first| Run { pack: 0, segment: 0, first, count: 1 }).collect(),
        }
    }

    #[test]
    fn each_kind_of_change_is_found() {
        let earlier = Recipe {
            packs: Vec::new(),
            streams: vec![
                stream("gone", &[9], 1),
                stream("grown", &[1, 2], 1),
                stream("mode", &[5], 1),
                stream("same", &[3], 1),
            ],
        };
        let later = Recipe {
            packs: Vec::new(),
            streams: vec![
                stream("grown", &[1, 4, 4, 2], 1),
                stream("mode", &[5], 2),
                stream("new", &[7], 1),
                stream("same", &[3], 1),
            ],
        };
        let chunks = |_: &Recipe, run: &Run| Ok::<_, ()>(vec![(ChunkId::from_bytes([run.first as u8; 16]), 10)]);
        let found = diff(&earlier, &later, chunks).unwrap();
        let shown: Vec<_> =
            found.iter().map(|one| (one.name.to_string(), one.change.clone(), one.before, one.after)).collect();
        assert_eq!(
            shown,
            [
                ("gone".to_owned(), Change::Removed, Some(10), None),
                ("grown".to_owned(), Change::Content { new_bytes: 10 }, Some(20), Some(40)),
                ("mode".to_owned(), Change::Metadata, Some(10), Some(10)),
                ("new".to_owned(), Change::Added, None, Some(10)),
            ]
        );
    }
}
