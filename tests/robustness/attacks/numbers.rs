//! Numbers from outside: a thief on the machine writes a snapshot with a sequence that no writer counts to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use varu::backup::WantedKind;
use varu::copy::copy;
use varu::format::snapshot::SnapshotHeader;
use varu::id::SnapshotId;
use varu::index::SnapshotRow;
use varu::progress::{Counts, Interrupt};
use varu::remote::Folder;
use varu::remote::memory::MemoryRemote;
use varu::repository::{Chosen, Repository};

use support::forge::{forge_snapshot, id_of_object, pages_of};
use support::vault::*;
use support::*;

/// From the largest that a field holds down to one that only the others give away.
const SEQUENCES: [u64; 6] = [u64::MAX, 1 << 63, (1 << 63) - 1, (1 << 48) + 1, 1 << 47, 1 << 40];

/// A day's content; the blob needs a pack of its own.
fn day(number: u64) -> Streams {
    BTreeMap::from([("orders".to_owned(), table(500, |row| row)), ("blob".to_owned(), noise(30_000, number))])
}

/// A snapshot of that number with the content of another, as the holder of the writer key can seal it.
fn forge(vault: &Vault, writer: &Repository, like: &SnapshotRow, sequence: u64) -> SnapshotId {
    let plain = writer.index().whole_body(&like.id).unwrap().unwrap().encode();
    let honest = Repository::object_name(like);
    let stored = vault.memory.content(Folder::Snapshots);
    let (_, stored) = stored.iter().find(|(name, _)| name == honest.name()).unwrap();
    let header = SnapshotHeader { sequence, ..like.header.clone() };
    let (name, object) = forge_snapshot(writer, header, &plain, pages_of(stored));
    let id = id_of_object(&object);
    vault.memory.put(Folder::Snapshots, name.name(), object);
    id
}

/// A repository with three fulls, a forged snapshot of the first one's content, and three honest ones after it.
fn attacked(sequence: u64) -> (Vault, SnapshotId, Vec<SnapshotRow>) {
    let (vault, clock) = (Vault::new(), TestClock::at(MONDAY));
    let writer = vault.writer();
    let mut rows = Vec::new();
    let back_up = |number: u64, rows: &mut Vec<SnapshotRow>| {
        let options = varu::backup::BackupOptions { wanted: WantedKind::Full, ..options() };
        rows.push(back_up_with(&writer, &day(number), &options, &clock).unwrap().snapshot);
        clock.advance(Duration::from_secs(86_400));
    };
    (0..3).for_each(|number| back_up(number, &mut rows));
    let forged = forge(&vault, &writer, &rows[0], sequence);
    (3..6).for_each(|number| back_up(number, &mut rows));
    (vault, forged, rows)
}

#[test]
fn a_sequence_that_no_writer_counts_to_is_refused_by_name_and_the_newest_stays_the_newest() {
    for sequence in SEQUENCES {
        let (vault, forged, rows) = attacked(sequence);
        let numbers: Vec<u64> = rows.iter().map(|row| row.header.sequence).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6], "{sequence}");
        for reader in [vault.fresh_reader(), vault.writer()] {
            let changes = reader.sync().unwrap();
            let named: Vec<&String> = changes.unusable().filter(|why| why.contains(&forged.to_string())).collect();
            assert_eq!(named.len(), 1, "{sequence}: {changes:?}");
            assert!(changes.hidden.is_none() && changes.later.is_empty());
            let latest = reader.find_snapshot(Some(&rows[5].header.set), &Chosen::Latest).unwrap();
            assert_eq!(latest.id, rows[5].id, "{sequence}");
        }
        let reader = vault.fresh_reader();
        reader.sync().unwrap();
        rows.iter().zip(0..).for_each(|(row, number)| assert_restores(&reader, row, &day(number)));
    }
}

#[test]
fn a_copy_leaves_no_honest_chain_out_for_a_forged_number() {
    for sequence in SEQUENCES {
        let (vault, forged, rows) = attacked(sequence);
        let second = MemoryRemote::with_folders();
        // The forged one is there before the honest ones are copied.
        let name =
            vault.memory.content(Folder::Snapshots).into_iter().find(|(name, _)| name.contains(&forged.to_string()));
        let (name, object) = name.unwrap();
        second.put(Folder::Snapshots, name, object);
        for (name, object) in vault.memory.content(Folder::Keys) {
            second.put(Folder::Keys, name, object);
        }
        let report = copy(&vault.memory, &second, false, &Counts::default(), &Interrupt::default()).unwrap();
        assert_eq!(report.older, 0, "{sequence}: {report:?}");
        let state = state();
        let reader = vault.owner.reader(Arc::new(second.clone()), state.path()).unwrap();
        reader.sync().unwrap();
        let there: Vec<SnapshotId> = reader.index().snapshots().unwrap().iter().map(|row| row.id).collect();
        assert_eq!(there, rows.iter().map(|row| row.id).collect::<Vec<_>>(), "{sequence}");
    }
}
