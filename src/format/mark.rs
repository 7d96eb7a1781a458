//! Deletion marks: the objects that a prune will delete, and the due time. See `docs/format.md`, "Mark".

use super::layout::MAX_MARK_PACKS;
use super::wire::{FieldReader, FieldWriter, FormatError, FormatKind, PREFIX_LEN, check_prefix};
use crate::id::{PackId, RepositoryId, SnapshotId};
use crate::time::Timestamp;

type Result<T> = std::result::Result<T, FormatError>;

/// Length of a mark's clear header.
const HEADER_LEN: usize = PREFIX_LEN + RepositoryId::LEN + 32;

/// The clear part of a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkHeader {
    /// Whose mark it is.
    pub repository: RepositoryId,
    /// Random; makes the key of the body.
    pub salt: [u8; 32],
}

impl MarkHeader {
    /// The header's bytes: the start of the object and the body's associated data.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = FieldWriter::default();
        out.raw(&FormatKind::Mark.prefix());
        out.raw(self.repository.as_bytes());
        out.raw(&self.salt);
        out.0
    }

    /// Takes an object apart: its header, the header's bytes, and the sealed body.
    pub fn split(object: &[u8]) -> Result<(Self, &[u8], &[u8])> {
        check_prefix(FormatKind::Mark, object)?;
        let (header, body) = object.split_at_checked(HEADER_LEN).ok_or(FormatError::Truncated("a mark's header"))?;
        let mut fields = FieldReader(&header[PREFIX_LEN..]);
        let repository = RepositoryId::from_bytes(fields.array("the repository id")?);
        Ok((Self { repository, salt: fields.array("the salt")? }, header, body))
    }
}

/// The objects to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// When it was marked.
    pub marked: Timestamp,
    /// When it may be deleted.
    pub due: Timestamp,
    /// The snapshot; None if the packs belong to none.
    pub snapshot: Option<SnapshotId>,
    /// The packs that only marked snapshots need, ascending.
    pub packs: Vec<PackId>,
}

impl Mark {
    /// The body's bytes, to be sealed.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = FieldWriter::default();
        out.raw(&self.marked.nanos().to_le_bytes());
        out.raw(&self.due.nanos().to_le_bytes());
        out.raw(&self.snapshot.map_or([0; SnapshotId::LEN], |id| *id.as_bytes()));
        out.count(self.packs.len());
        self.packs.iter().for_each(|pack| out.raw(pack.as_bytes()));
        out.0
    }

    /// Reads a body.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = FieldReader(bytes);
        let marked = Timestamp::from_nanos(reader.i64("the time of the mark")?);
        let due = Timestamp::from_nanos(reader.i64("the time of the end")?);
        let id: [u8; SnapshotId::LEN] = reader.array("the snapshot")?;
        let snapshot = (id != [0; SnapshotId::LEN]).then(|| SnapshotId::from_bytes(id));
        let packs = reader.list(PackId::LEN, "the packs", |reader| Ok(PackId::from_bytes(reader.array("a pack")?)))?;
        reader.end()?;
        if packs.len() > MAX_MARK_PACKS || !packs.is_sorted_by(|a, b| a < b) {
            return Err(FormatError::Invalid("a mark's packs are too many or not in order"));
        }
        Ok(Self { marked, due, snapshot, packs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back() {
        let header = MarkHeader { repository: RepositoryId::from_bytes([3; 16]), salt: [4; 32] };
        let object = [header.encode(), b"sealed".to_vec()].concat();
        assert_eq!(MarkHeader::split(&object), Ok((header.clone(), &object[..HEADER_LEN], &b"sealed"[..])));
        assert!(MarkHeader::split(&object[..HEADER_LEN - 1]).is_err());
        let mut packs = vec![PackId::of(b"a"), PackId::of(b"b")];
        packs.sort_unstable();
        for snapshot in [None, Some(SnapshotId::of(b"x"))] {
            let (marked, due) = (Timestamp::from_nanos(-1), Timestamp::from_seconds(9));
            let mark = Mark { marked, due, snapshot, packs: packs.clone() };
            let bytes = mark.encode();
            assert_eq!(Mark::decode(&bytes), Ok(mark));
            assert!((0..bytes.len()).all(|end| Mark::decode(&bytes[..end]).is_err()));
            assert!(Mark::decode(&[bytes, vec![0]].concat()).is_err());
        }
        packs.reverse();
        let wrong = Mark { marked: Timestamp::from_nanos(0), due: Timestamp::from_nanos(0), snapshot: None, packs };
        assert!(Mark::decode(&wrong.encode()).is_err());
    }
}
