//! Differences between two snapshots: a pure comparison of their streams.

use std::collections::HashSet;

use crate::entry::{Entry, StreamName};
use crate::format::recipe::{Run, Stream};
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

/// How a stream differs between two snapshots; None where it doesn't. `chunks` gives ids and lengths of a run's chunks, of the
/// earlier snapshot's recipe for false and of the later one's for true; where it fails, so does the comparison.
pub fn difference_of<E>(
    before: Option<&Stream>,
    after: Option<&Stream>,
    chunks: impl Fn(bool, &Run) -> Result<Vec<(ChunkId, u32)>, E>,
) -> Result<Option<Difference>, E> {
    let change = match (before, after) {
        (Some(old), Some(new)) if !same_content(old, new) => {
            Change::Content { new_bytes: new_bytes(old, new, &chunks)? }
        }
        (Some(old), Some(new)) => {
            let (old, new) = (&old.entry.metadata, &new.entry.metadata);
            if old.as_ref().map(comparable) == new.as_ref().map(comparable) {
                return Ok(None);
            }
            Change::Metadata
        }
        (Some(_), None) => Change::Removed,
        (None, Some(_)) => Change::Added,
        (None, None) => return Ok(None),
    };
    let (before, after) = (before.map(|stream| &stream.entry), after.map(|stream| &stream.entry));
    Ok(before.or(after).map(|entry| difference(change, before, after, &entry.name)))
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
    old: &Stream,
    new: &Stream,
    chunks: impl Fn(bool, &Run) -> Result<Vec<(ChunkId, u32)>, E>,
) -> Result<u64, E> {
    let mut known = HashSet::new();
    for run in &old.runs {
        known.extend(chunks(false, run)?.into_iter().map(|(id, _)| id));
    }
    let mut bytes = 0;
    for run in &new.runs {
        bytes += chunks(true, run)?
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
            order: 0,
        }
    }

    #[test]
    fn each_kind_of_change_is_found() {
        let found = |before: Option<Stream>, after: Option<Stream>| {
            let chunks = |_, run: &Run| Ok::<_, ()>(vec![(ChunkId::from_bytes([run.first as u8; 16]), 10)]);
            let found = difference_of(before.as_ref(), after.as_ref(), chunks).unwrap();
            found.map(|one| (one.name.to_string(), one.change, one.before, one.after))
        };
        let one = |name: &str, change, before, after| Some((name.to_owned(), change, before, after));
        assert_eq!(found(Some(stream("gone", &[9], 1)), None), one("gone", Change::Removed, Some(10), None));
        assert_eq!(
            found(Some(stream("grown", &[1, 2], 1)), Some(stream("grown", &[1, 4, 4, 2], 1))),
            one("grown", Change::Content { new_bytes: 10 }, Some(20), Some(40))
        );
        assert_eq!(
            found(Some(stream("mode", &[5], 1)), Some(stream("mode", &[5], 2))),
            one("mode", Change::Metadata, Some(10), Some(10))
        );
        assert_eq!(found(None, Some(stream("new", &[7], 1))), one("new", Change::Added, None, Some(10)));
        assert_eq!(found(Some(stream("same", &[3], 1)), Some(stream("same", &[3], 1))), None);
        assert_eq!(found(None, None), None);
    }
}
