//! One visit of a thief with the writer key: a pack whose directory claims honest chunks over zeros, and a snapshot that names
//! it. He never comes back; sixty days of honest backups and prunes follow.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use varu::backup::{BackupOptions, WantedKind};
use varu::format::pack::Directory;
use varu::format::recipe::{PackRef, Recipe};
use varu::format::snapshot::{SnapshotBody, SnapshotHeader};
use varu::id::ChainId;
use varu::index::SnapshotRow;
use varu::progress::{Counts, Interrupt};
use varu::prune::{PruneOptions, prune};
use varu::repository::Repository;
use varu::retention::Rules;
use varu::segment::Compressor;
use varu::verify::Level;

use support::days::{DAY, Days, size};
use support::forge::{Crafted, forge_pack};
use support::vault::{Vault, assert_restores, check, copy_state};
use support::*;

/// The thief's objects.
#[derive(Debug, Clone, Copy)]
enum Leaves {
    /// A snapshot whose runs name the poisoned packs.
    Snapshot,
    /// The same, and its packs are in the machine's index as if it had written them itself.
    SnapshotAndIndex,
}

/// Streams of the set: one never changes, one does each day.
fn streams(day: u64) -> Streams {
    Streams::from([
        ("changing.sql".to_owned(), table(400, |row| if row % 90 == day as u32 { 7 + day as u32 } else { 0 })),
        ("unchanged.bin".to_owned(), noise(120_000, 5)),
    ])
}

/// Every pack that the newest snapshot needs, once more with the same ids over zeros, and a snapshot that names those.
fn visit(vault: &Vault, state: &Path, leaves: Leaves) -> SnapshotRow {
    // The machine's own state isn't touched but where the thief means to: he works on a copy.
    let copy = vault.empty_state();
    copy_state(state, &copy);
    let thief = vault.owner.writer(vault.remote.clone(), &copy);
    thief.sync().unwrap();
    let newest = thief.newest().unwrap().unwrap();
    let recipe = thief.recipe(&newest.id).unwrap();
    let poisoned: Vec<PackRef> = recipe.packs.iter().map(|pack| poison(vault, &thief, pack)).collect();
    let mut packs: Vec<_> = poisoned.iter().map(|pack| pack.id).collect();
    packs.sort();
    let header = SnapshotHeader {
        chain: ChainId::from_bytes([9; 16]),
        parent: None,
        previous: Some(newest.id),
        sequence: newest.header.sequence + 1,
        stored_time: newest.header.stored_time.after(Duration::from_secs(3600)),
        packs,
        ..newest.header.clone()
    };
    let recipe = Recipe { packs: poisoned.clone(), streams: recipe.streams };
    let (layer, pages) = thief.write_layer(&recipe).unwrap();
    let body = SnapshotBody { recipe: layer.encode(), ..thief.index().body(&newest.id).unwrap().unwrap() };
    let snapshot = thief.seal_snapshot(header, body, pages).unwrap();
    thief.store_snapshot(&snapshot).unwrap();
    if matches!(leaves, Leaves::SnapshotAndIndex) {
        let machine = vault.owner.writer(vault.remote.clone(), state);
        machine.sync().unwrap();
        machine
            .enter_packs(poisoned.iter().map(|pack| pack.id), &machine.recipe(&snapshot.row.id).unwrap().packs, None)
            .unwrap();
        let mut index = machine.index();
        index.trust_packs(poisoned.iter().map(|pack| pack.id)).unwrap();
        index.trust_snapshot(&snapshot.row.id).unwrap();
    }
    snapshot.row
}

/// A pack with the directory of `honest`, whose chunks are zeros.
fn poison(vault: &Vault, thief: &Repository, honest: &PackRef) -> PackRef {
    let number = thief.index().pack(&honest.id).unwrap().unwrap().number;
    let directory: Arc<Directory> = thief.index().directory(number).unwrap().unwrap();
    let segments = directory.segments.iter().zip(0..).map(|(entry, segment)| {
        let zeros = vec![0; directory.plain_length(segment).unwrap() as usize];
        let mut frame = Vec::new();
        Compressor::new(3).unwrap().compress(&zeros, &mut frame).unwrap();
        let chunks = entry.first_chunk as usize..(entry.first_chunk + entry.chunks) as usize;
        let (ids, lengths) = (directory.ids[chunks.clone()].to_vec(), directory.lengths[chunks].to_vec());
        Crafted { frame, ids, lengths, bases: Vec::new(), depth: 0 }
    });
    let segments: Vec<Crafted> = segments.collect();
    forge_pack(thief, &vault.memory, None, directory.generation, &[], &segments)
}

/// Lives on for `days` after the visit. Returns the honest snapshots that are still there at the end, with their streams.
fn live(days: &Days, from: u64, count: u64) -> BTreeMap<varu::id::SnapshotId, Streams> {
    let mut made = BTreeMap::new();
    for day in from..from + count {
        let (report, _) = days.next(&streams(day));
        made.insert(report.snapshot.id, streams(day));
        if day % 3 > 0 {
            continue;
        }
        let (rules, places) = (Rules::default(), [days.writer.clone()]);
        let options = PruneOptions {
            rules: &|_| rules.clone(),
            grace: DAY,
            dry_run: false,
            now: false,
            dropped: Default::default(),
        };
        prune(&places, &options, &days.clock, &Counts::default(), &Interrupt::default()).unwrap();
    }
    let there = days.writer.index().snapshots().unwrap();
    made.retain(|id, _| there.iter().any(|row| row.id == *id));
    made
}

fn lived_through(leaves: Leaves, options: BackupOptions, whole_from: u64) {
    let days = Days::with(options);
    for day in 0..5 {
        days.next(&streams(day));
    }
    let forged = visit(&days.vault, days.vault.state.path(), leaves);
    let made = live(&days, 5, 60);
    assert!(made.len() >= 28, "{} snapshots", made.len());
    let reader = days.vault.fresh_reader();
    reader.sync().unwrap();
    let rows = reader.index().snapshots().unwrap();
    for row in rows.iter().filter(|row| row.id != forged.id) {
        let age = days.writer.highest_seen().unwrap().unwrap().0 - row.header.sequence;
        if age < whole_from {
            assert_restores(&reader, row, &made[&row.id]);
        }
    }
}

#[test]
fn one_forged_pack_and_snapshot_spoil_no_later_backup() {
    lived_through(Leaves::Snapshot, options(), u64::MAX);
}

#[test]
fn a_forged_index_besides_spoils_nothing_beyond_the_next_rebase() {
    // Rebases come every 28 days, at the first full after: 35 days at most.
    lived_through(Leaves::SnapshotAndIndex, options(), 25);
}

#[test]
fn a_rebase_stores_what_was_read_whatever_the_index_says() {
    let days = Days::new();
    days.next(&streams(0));
    visit(&days.vault, days.vault.state.path(), Leaves::SnapshotAndIndex);
    let rebase = BackupOptions { wanted: WantedKind::Rebase, ..options() };
    let report = back_up_with(&days.writer, &streams(1), &rebase, &days.clock).unwrap();
    days.restores(&report.snapshot, &streams(1));
}

#[test]
fn a_snapshot_that_the_machine_did_not_make_is_said_and_not_built_upon() {
    let days = Days::new();
    days.next(&streams(0));
    let forged = visit(&days.vault, days.vault.state.path(), Leaves::Snapshot);
    let (report, added) = days.next(&streams(1));
    assert!(report.snapshot.header.parent.is_none(), "a full");
    let note = report.note.expect("a full that nobody asked for says why");
    assert!(note.contains(&forged.id.to_string()), "{note}");
    // Packs that the machine wrote itself are shared all the same.
    assert!(added < 30_000, "{added}");
    days.restores(&report.snapshot, &streams(1));
    // The next one is an incremental again.
    let (report, _) = days.next(&streams(2));
    assert!(report.snapshot.header.parent.is_some() && report.warnings.is_empty(), "{:?}", report.warnings);
}

#[test]
fn a_fresh_state_shares_only_what_a_verification_has_opened() {
    for opened in [false, true] {
        let days = Days::new();
        let (_, first) = days.next(&streams(0));
        let state = days.vault.empty_state();
        if opened {
            let reader = days.vault.reader(&state).unwrap();
            assert_eq!(check(&reader, Level::Data).unwrap().damage, []);
        }
        let fresh = days.vault.owner.writer(days.vault.remote.clone(), &state);
        let before = size(&days.vault.memory);
        let report = back_up(&fresh, &streams(1), &days.clock).unwrap();
        let added = size(&days.vault.memory) - before;
        assert_eq!(added < first / 3, opened, "{added} of {first}, opened: {opened}");
        assert_eq!(report.warnings, Vec::new());
        days.restores(&report.snapshot, &streams(1));
    }
}
