//! Snapshots that take more memory or room than their bytes justify: each is named and passed over, and keeps no other from
//! being listed, built upon or restored.

use varu::facts::Facts;
use varu::format::snapshot::{SnapshotBody, SnapshotHeader};
use varu::id::ChainId;
use varu::remote::Folder;
use varu::repository::{Chosen, Repository};

use support::days::{Days, one};
use support::forge::forge_snapshot;
use support::vault::assert_restores;

/// Most bytes that this process may ever hold.
const MEMORY: u64 = 320 << 20;

/// How the plain bodies of bombs begin; zeros follow.
fn bodies(honest: &SnapshotBody) -> Vec<(&'static str, Vec<u8>)> {
    let start =
        SnapshotBody { facts: Facts::default(), warnings: Vec::new(), recipe: Vec::new(), ..honest.clone() }.encode();
    // The counts of facts and of warnings, the configuration's length and four totals end it: one byte each here.
    let head = &start[..start.len() - 7 - honest.configuration.len()];
    let many = [0x80, 0x80, 0x80, 0x08]; // 16,777,216 as a varint
    let starts = [("zeros", Vec::new()), ("facts", many.to_vec()), ("warnings", [&[0], &many[..]].concat())];
    starts.map(|(what, start)| (what, [head, &start].concat())).to_vec()
}

#[test]
fn bombs_in_a_snapshot_are_passed_over_by_name() {
    support::alone!();
    let days = Days::new();
    let first = days.next(&one(b"the first day")).0.snapshot;
    let thief = days.vault.owner.writer(days.vault.remote.clone(), &days.vault.empty_state());
    let mut bombs = Vec::new();
    for (number, (what, mut body)) in
        bodies(&days.writer.index().body(&first.id).unwrap().unwrap()).into_iter().enumerate()
    {
        body.resize(64 << 20, 0);
        let header = SnapshotHeader {
            chain: ChainId::from_bytes([number as u8 + 1; 16]),
            sequence: first.header.sequence + 1,
            previous: Some(first.id),
            ..first.header.clone()
        };
        let (name, object) = forge_snapshot(&thief, header, &body, &[]);
        assert!(object.len() < 64 << 10, "{what}: {}", object.len());
        days.vault.memory.put(Folder::Snapshots, name.name(), object);
        bombs.push(name.to_string());
    }
    drop(thief);
    // A backup continues, and names each.
    let changes = days.writer.sync().unwrap();
    for bomb in &bombs {
        assert!(changes.unusable().any(|why| why.contains(bomb)), "{bomb}: {changes:?}");
    }
    let second = days.next(&one(b"the second day")).0.snapshot;
    assert_eq!(second.header.parent.map(|parent| parent.id), Some(first.id));
    // A fresh machine lists and restores both; an index is made again.
    let reader = days.vault.fresh_reader();
    assert_eq!(reader.sync().unwrap().unusable().count(), bombs.len());
    for (row, bytes) in [(&first, &b"the first day"[..]), (&second, b"the second day")] {
        assert_restores(&reader, row, &one(bytes));
    }
    assert_eq!(reader.find_snapshot(Some("set"), &Chosen::Latest).unwrap().id, second.id);
    assert_eq!(rebuilt(&reader), 2);
    assert!(support::peak_memory() < MEMORY, "{} MiB", support::peak_memory() >> 20);
}

fn rebuilt(repository: &Repository) -> usize {
    repository.rebuild(false).unwrap();
    repository.index().snapshots().unwrap().len()
}
