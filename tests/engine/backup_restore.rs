//! The main job on a repository in memory: day after day in, and back to the byte.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use support::*;
use varu::backup::{BackupOptions, BackupReport, WantedKind};
use varu::format::layout::{SnapshotKind, pack_name};
use varu::progress::{Counts, Interrupt};
use varu::remote::Remote;
use varu::remote::memory::MemoryRemote;
use varu::repository::Chosen;
use varu::verify::{Level, VerifyOptions, verify};

const DAY: Duration = Duration::from_secs(86_400);

struct Bench {
    memory: MemoryRemote,
    remote: Arc<dyn Remote>,
    owner: Owner,
    state: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let memory = MemoryRemote::new();
        let remote: Arc<dyn Remote> = Arc::new(memory.clone());
        let owner = Owner::create(&*remote);
        Self { memory, remote, owner, state: tempfile::tempdir().unwrap() }
    }
}

fn day(number: u32) -> Streams {
    let mut streams = BTreeMap::new();
    streams.insert("customers".to_owned(), table(40_000, |row| if row % 1000 == number { number } else { 0 }));
    streams.insert("orders".to_owned(), table(20_000 + 500 * number, |_| 7));
    streams.insert("empty".to_owned(), Vec::new());
    streams.insert(format!("log {number}"), noise(100_000, u64::from(number)));
    streams
}

#[test]
fn nine_days_come_back_to_the_byte() {
    let bench = Bench::new();
    let clock = TestClock::at(MONDAY);
    let writer = bench.owner.writer(bench.remote.clone(), bench.state.path());
    let mut reports = Vec::new();
    for number in 0..9 {
        reports.push(back_up(&writer, &day(number), &clock).unwrap());
        clock.advance(DAY);
    }
    let kinds: Vec<_> = reports.iter().map(|report| report.snapshot.header.kind()).collect();
    let fulls = kinds.iter().enumerate().filter(|(_, kind)| **kind == SnapshotKind::Full);
    assert_eq!(fulls.map(|(number, _)| number).collect::<Vec<_>>(), [0, 7]);
    assert!(reports[1].totals().stored < reports[0].totals().stored / 2);
    assert_eq!(reports[8].snapshot.header.sequence, 9);

    let fresh = tempfile::tempdir().unwrap();
    let reader = bench.owner.reader(bench.remote.clone(), fresh.path()).unwrap();
    reader.sync().unwrap();
    for (number, report) in reports.iter().enumerate() {
        let snapshot = reader.find_snapshot(Some("set"), &Chosen::Id(report.snapshot.id.to_string())).unwrap();
        let (streams, restored) = bring_back(&reader, &snapshot).unwrap();
        assert_eq!(restored.damaged, Vec::<String>::new());
        assert!(streams == day(number as u32), "day {number}");
    }
}

#[test]
fn what_did_not_change_is_not_stored_again() {
    let bench = Bench::new();
    let clock = TestClock::at(MONDAY);
    let writer = bench.owner.writer(bench.remote.clone(), bench.state.path());
    back_up(&writer, &day(0), &clock).unwrap();
    let again = back_up(&writer, &day(0), &clock).unwrap();
    assert_eq!((again.totals().new, again.totals().packs), (0, 0));
    let full = BackupOptions { wanted: WantedKind::Full, ..options() };
    let full = back_up_with(&writer, &day(0), &full, &clock).unwrap();
    assert_eq!((full.snapshot.header.kind(), full.totals().new), (SnapshotKind::Full, 0));
    let rebased = BackupOptions { wanted: WantedKind::Rebase, ..options() };
    let rebased = back_up_with(&writer, &day(0), &rebased, &clock).unwrap();
    assert!(rebased.totals().new > 1_000_000, "a re-base stores what it read");
    assert_ne!(rebased.snapshot.about.generation, full.snapshot.about.generation);
    let isolated = BackupOptions { wanted: WantedKind::Full, isolate_chains: true, ..options() };
    let isolated = back_up_with(&writer, &day(0), &isolated, &clock).unwrap();
    assert!(isolated.totals().new > 1_000_000);
    let packs = |report: &BackupReport| report.snapshot.header.packs.clone();
    assert!(packs(&isolated).iter().all(|pack| !packs(&rebased).contains(pack)));
}

#[test]
fn a_writer_cannot_read_what_it_stored() {
    let bench = Bench::new();
    let writer = bench.owner.writer(bench.remote.clone(), bench.state.path());
    let report = back_up(&writer, &day(0), &TestClock::at(MONDAY)).unwrap();
    let (streams, restored) = match bring_back(&writer, &report.snapshot) {
        Err(error) => {
            assert!(error.to_string().contains("--identity"), "{error}");
            return;
        }
        Ok(found) => found,
    };
    panic!("{} streams came back: {:?}", streams.len(), restored.damaged);
}

#[test]
fn streams_in_small_pieces_and_of_odd_sizes_come_back() {
    let bench = Bench::new();
    let writer = bench.owner.writer(bench.remote.clone(), bench.state.path());
    let mut streams = Streams::new();
    for size in [0, 1, 4095, 4096, 65_535, 65_536, 65_537, 1 << 20, (1 << 20) + 1, 3_000_001] {
        streams.insert(format!("size {size}"), noise(size, size as u64));
    }
    streams.insert("zeros".to_owned(), vec![0; 5_000_000]);
    let report = back_up(&writer, &streams, &TestClock::at(MONDAY)).unwrap();
    assert!(report.totals().new < 5_500_000, "zeros are one chunk");
    let reader = bench.owner.reader(bench.remote.clone(), tempfile::tempdir().unwrap().path()).unwrap();
    reader.sync().unwrap();
    let (back, _) = bring_back(&reader, &report.snapshot).unwrap();
    assert!(back == streams);
}

#[test]
fn verify_finds_a_flipped_bit_and_names_what_it_costs() {
    let bench = Bench::new();
    let clock = TestClock::at(MONDAY);
    let writer = bench.owner.writer(bench.remote.clone(), bench.state.path());
    let first = back_up(&writer, &day(0), &clock).unwrap();
    back_up(&writer, &day(1), &clock).unwrap();
    let reader = bench.owner.reader(bench.remote.clone(), tempfile::tempdir().unwrap().path()).unwrap();
    let look = |level| {
        let options = VerifyOptions { level, sample: 1.0 };
        verify(&reader, &options, &clock, &Counts::default(), &Interrupt::default()).unwrap()
    };
    let clean = look(Level::Data);
    assert_eq!((clean.damage, clean.snapshots.len()), (Vec::new(), 2));
    let pack = pack_name(&first.snapshot.header.packs[0]);
    bench.memory.change(&pack, |bytes| bytes[5000] ^= 1);
    let found = look(Level::Data);
    assert!(found.damage.iter().any(|damage| damage.object == pack.to_string()), "{:?}", found.damage);
    assert!(!found.is_whole(&first.snapshot.id));
}
