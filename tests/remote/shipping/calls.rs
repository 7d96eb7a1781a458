//! Number of remote calls of each operation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use varu::backup::BackupOptions;
use varu::remote::record::{Call, Recorder, Verb};
use varu::remote::{Folder, Remote};

use support::vault::Vault;
use support::{MONDAY, Streams, TestClock, back_up_with, noise, options};

/// The calls of an incremental of nothing new, after `days` backups of `size` new bytes each.
fn incremental_of_nothing_new(days: u64, size: usize) -> Vec<Call> {
    let vault = Vault::new();
    let clock = TestClock::at(MONDAY);
    // Processes that other tests start hold the lock for a moment.
    let options = BackupOptions { wait: Duration::from_secs(60), ..options() };
    let mut streams = Streams::new();
    for day in 0..days {
        streams.insert(format!("day {day}"), noise(size, day));
        back_up_with(&vault.writer(), &streams, &options, &clock).unwrap();
    }
    let recorder = Arc::new(Recorder::new(vault.remote.clone()));
    let writer = vault.owner.writer(recorder.clone() as Arc<dyn Remote>, vault.state.path());
    let report = back_up_with(&writer, &streams, &options, &clock).unwrap();
    assert!(report.snapshot.header.parent.is_some() && report.totals().new == 0);
    recorder.take()
}

#[test]
fn an_incremental_of_nothing_new_makes_the_same_calls_however_large_the_repository_is() {
    let small = incremental_of_nothing_new(1, 10_000);
    let large = incremental_of_nothing_new(40, 1_500_000);
    let counts = |calls: &[Call]| {
        let mut counts: BTreeMap<(Verb, Option<Folder>), usize> = BTreeMap::new();
        calls.iter().for_each(|call| *counts.entry((call.verb, call.folder)).or_default() += 1);
        counts
    };
    let (mut small, mut large) = (counts(&small), counts(&large));
    // The chain that it builds upon is read: a full has at most 63 snapshots behind it.
    let read = |counts: &mut BTreeMap<_, _>| counts.remove(&(Verb::GetRange, Some(Folder::Snapshots))).unwrap_or(0);
    assert_eq!((read(&mut small), read(&mut large)), (1, 40));
    assert_eq!(small, large);
    println!("{small:?}");
    // A run beside this one is looked for before and after the commit.
    assert_eq!(small.get(&(Verb::List, Some(Folder::Snapshots))), Some(&3), "three listings of snapshots");
    assert_eq!(small.get(&(Verb::List, Some(Folder::Packs))), Some(&2), "two of packs");
    // The key object is read in each run: see docs/format.md.
    assert_eq!(small.remove(&(Verb::Get, Some(Folder::Keys))), Some(1));
    assert_eq!(small.keys().filter(|(verb, _)| matches!(verb, Verb::Get | Verb::GetRange)).count(), 0, "no other read");
    assert!(small.values().sum::<usize>() < 16, "{small:?}");
}
