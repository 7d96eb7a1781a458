//! Snapshots that are new to the index: opened as they come from the remote, and entered a few at a time.

use std::collections::BTreeSet;

use super::changes::Changes;
use super::snapshots::{describe, header_of};
use super::{Error, Repository, Result};
use crate::format::snapshot::SnapshotBody;
use crate::id::SnapshotId;
use crate::index::{Index, SnapshotRow};
use crate::remote::{ErrorKind, ObjectName};

/// Unknown snapshots on their way into the index.
pub(super) struct Intake<'a> {
    repository: &'a Repository,
    /// Those that were opened and aren't entered yet.
    opened: Vec<(SnapshotRow, SnapshotBody)>,
    bytes: u64,
}

impl<'a> Intake<'a> {
    /// Most snapshots, and most bytes of their bodies, that are entered at once.
    const MOST: usize = 64;
    const MOST_BYTES: u64 = 1 << 20;

    pub(super) fn new(repository: &'a Repository) -> Self {
        Self { repository, opened: Vec::new(), bytes: 0 }
    }

    /// Takes an object in by its head, unless it can't be used or is older than the `highest` that was seen.
    pub(super) fn take(
        &mut self,
        name: &ObjectName,
        size: u64,
        head: Result<Vec<u8>>,
        highest: Option<(u64, SnapshotId)>,
        changes: &mut Changes,
        present: &mut BTreeSet<SnapshotId>,
    ) -> Result<()> {
        let head = match head {
            Ok(head) => head,
            // A prune has deleted it since the listing.
            Err(Error::Remote(error)) if error.kind == ErrorKind::NotFound => return Ok(()),
            Err(Error::Damaged(why)) => {
                changes.damaged.push(why);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let (row, body) = match self.repository.open_snapshot(name, size, &head) {
            Ok(opened) => opened,
            Err(Error::Damaged(why)) => {
                match header_of(name, size, &head) {
                    Ok(header) if header.repository != *self.repository.id() => {
                        changes.foreign += 1;
                        let of_id = changes.strangers.entry(header.repository).or_default();
                        of_id.push((header.sequence, header.stored_time));
                    }
                    _ => changes.damaged.push(why),
                }
                return Ok(());
            }
            // A later version of the format: the others can still be used.
            Err(Error::Usage(why)) => {
                changes.later.push(why.clone());
                changes.refused.push(why);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        // One writer counts up. An unknown snapshot with a lower number was removed before, and put back. With the very
        // number of the newest it is the other of two that were written at the same moment.
        if highest.is_some_and(|(sequence, _)| row.header.sequence < sequence) {
            changes.refused.push(format!(
                "{} is not used: it appeared again after newer ones had been seen; somebody put an old snapshot back. \
                 `varu index rebuild` takes in all that is there",
                describe(&row)
            ));
            return Ok(());
        }
        present.insert(row.id);
        changes.added.push(row.id);
        // What it takes in memory: a few bytes of an object may say much.
        self.bytes += body.encode().len() as u64;
        self.opened.push((row, body));
        match self.opened.len() >= Self::MOST || self.bytes >= Self::MOST_BYTES {
            true => self.enter(),
            false => Ok(()),
        }
    }

    /// Enters those that were taken in.
    pub(super) fn enter(&mut self) -> Result<()> {
        self.bytes = 0;
        let opened = std::mem::take(&mut self.opened);
        if opened.is_empty() {
            return Ok(());
        }
        let enter = |index: &mut Index| opened.iter().try_for_each(|(row, body)| index.add_snapshot(row, body));
        Ok(self.repository.index().at_once(enter)?)
    }
}
