//! Chunks shared between snapshots, and the packs that they then need.

use std::collections::BTreeMap;

use support::vault::*;
use support::*;
use varu::backup::BackupOptions;

fn of_set(set: &str) -> BackupOptions {
    BackupOptions { set: set.to_owned(), ..options() }
}

/// A chunk of another set may be in a segment that is based on packs which nothing of this set names.
#[test]
fn a_chunk_of_another_set_is_shared_with_the_bases_under_it() {
    let vault = Vault::new();
    let clock = TestClock::at(MONDAY);
    let mut expected = Expected::new();
    let rows = |salt: u32| table(30_000, move |row| if row / 100 % 50 == 7 { salt } else { 0 });
    for salt in 0..2 {
        let streams = BTreeMap::from([("customers".to_owned(), rows(salt))]);
        let report = back_up_with(&vault.writer(), &streams, &of_set("one"), &clock).unwrap();
        expected.insert(report.snapshot.id, streams);
    }
    let writer = vault.writer();
    let based = writer.index().packs().unwrap().last().map(|pack| pack.number).unwrap();
    let directory = writer.index().directory(based).unwrap().unwrap();
    assert!(directory.segments.iter().any(|segment| segment.depth > 0), "the second day is based on the first");
    // All of the other set's data is in such a segment: its stream is the new part.
    let mut new = Vec::new();
    let (old, changed) = (rows(0), rows(1));
    let chunker = writer.keys().chunker();
    let mut at = 0;
    while at < changed.len() {
        let length = chunker.cut(&changed[at..changed.len().min(at + chunker.max())]);
        if !old.windows(length).any(|window| window == &changed[at..at + length]) && length > 8192 {
            new = changed[at..at + length].to_vec();
            break;
        }
        at += length;
    }
    let streams = BTreeMap::from([("copy".to_owned(), new)]);
    let report = back_up_with(&writer, &streams, &of_set("two"), &clock).unwrap();
    assert_eq!(report.totals().new, 0, "all of it is there");
    assert_eq!(report.snapshot.header.packs.len(), 2, "the pack that it lies in, and the one under that");
    expected.insert(report.snapshot.id, streams.clone());
    // On the same machine, on another state, and with the identity alone.
    assert_whole(&vault.reader(vault.state.path()).unwrap());
    assert_whole(&vault.fresh_reader());
    assert_all_restore(&vault, &expected);
    // Another state shares it, too, once a verification has opened it there.
    let state = vault.empty_state();
    assert_whole(&vault.reader(&state).unwrap());
    let elsewhere = vault.owner.writer(vault.remote.clone(), &state);
    let report = back_up_with(&elsewhere, &streams, &of_set("two"), &clock).unwrap();
    assert_eq!(report.totals().new, 0);
    expected.insert(report.snapshot.id, streams);
    assert_all_restore(&vault, &expected);
}
