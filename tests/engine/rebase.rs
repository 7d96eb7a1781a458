//! Re-bases: their due time, the data that they store again and the data that they keep; and the data that other fulls
//! store again.

use std::time::Duration;

use support::dumps::{Form, Table, dump};
use support::vault::*;
use support::*;
use varu::backup::{BackupOptions, BackupReport, WantedKind, backup};
use varu::format::layout::{SnapshotKind, pack_name};
use varu::id::{GenerationId, PackId};
use varu::index::SnapshotRow;
use varu::progress::{Counter, Counts, Interrupt};
use varu::repository::Repository;
use varu::source::files::{FilesOptions, FilesSource};
use varu::verify::Level;

const DAY: Duration = Duration::from_secs(86_400);

struct Days {
    vault: Vault,
    clock: TestClock,
    expected: Expected,
}

impl Days {
    fn new() -> Self {
        Self { vault: Vault::new(), clock: TestClock::at(MONDAY), expected: Expected::new() }
    }

    fn back_up(&mut self, streams: &Streams, options: &BackupOptions) -> BackupReport {
        let report = back_up_with(&self.vault.writer(), streams, options, &self.clock).unwrap();
        self.expected.insert(report.snapshot.id, streams.clone());
        self.clock.advance(DAY);
        report
    }

    fn wanted(&mut self, wanted: WantedKind, streams: &Streams) -> BackupReport {
        self.back_up(streams, &BackupOptions { wanted, ..options() })
    }

    /// Takes snapshots away, and the packs that no other needs, as a prune does.
    fn prune(&mut self, gone: &[&SnapshotRow]) {
        for row in gone {
            assert!(self.vault.memory.lose(&Repository::object_name(row)));
            self.expected.remove(&row.id);
        }
        let reader = self.vault.fresh_reader();
        reader.sync().unwrap();
        let needed: Vec<PackId> =
            reader.index().snapshots().unwrap().into_iter().flat_map(|row| row.header.packs).collect();
        for pack in reader.pack_sizes().unwrap().keys().filter(|pack| !needed.contains(pack)) {
            assert!(self.vault.memory.lose(&pack_name(pack)));
        }
    }

    fn all_restore(&self) {
        assert_all_restore(&self.vault, &self.expected);
        assert_whole(&self.vault.fresh_reader());
    }
}

fn generation(report: &BackupReport) -> GenerationId {
    report.snapshot.about.generation
}

fn is_full(report: &BackupReport) -> bool {
    report.snapshot.header.kind() == SnapshotKind::Full
}

fn one(bytes: Vec<u8>) -> Streams {
    Streams::from([("stream".to_owned(), bytes)])
}

/// A table in which a few rows are others each day.
fn rows(day: u64) -> Vec<u8> {
    let mut table = Table::new("rows", 6000);
    (1..=day).for_each(|day| table.change(2, &mut Random(day)));
    dump(&[table], Form::Extended)
}

#[test]
fn a_rebase_is_due_at_the_first_full_after_so_many_days() {
    for (full_every, rebase_every, expected) in
        [(7, 28, vec![0, 28]), (7, 14, vec![0, 14, 28]), (5, 12, vec![0, 15, 30])]
    {
        let mut days = Days::new();
        let options = BackupOptions { full_every, rebase_every, ..options() };
        let reports: Vec<_> = (0..34).map(|day| days.back_up(&one(rows(day)), &options)).collect();
        let first = |day: &usize| *day == 0 || generation(&reports[*day]) != generation(&reports[day - 1]);
        let begun: Vec<usize> = (0..reports.len()).filter(first).collect();
        assert_eq!(begun, expected);
        assert!(begun.iter().all(|&day| is_full(&reports[day])));
        let fulls = reports.iter().filter(|report| is_full(report)).count();
        assert_eq!(fulls, 34_usize.div_ceil(full_every as usize));
        if rebase_every == 28 {
            days.all_restore();
        }
    }
}

#[test]
fn a_rebase_is_made_when_it_is_asked_for() {
    let mut days = Days::new();
    let first = days.wanted(WantedKind::Due, &one(rows(0)));
    let light = days.wanted(WantedKind::Full, &one(rows(1)));
    assert!(is_full(&light) && generation(&light) == generation(&first));
    let rebased = days.wanted(WantedKind::Rebase, &one(rows(2)));
    assert!(is_full(&rebased) && generation(&rebased) != generation(&first));
    let next = days.wanted(WantedKind::Due, &one(rows(3)));
    assert!(!is_full(&next) && generation(&next) == generation(&rebased));
    days.all_restore();
    // It depends only on well-used plain packs.
    days.prune(&[&light.snapshot, &first.snapshot]);
    days.all_restore();
}

#[test]
fn a_rebase_is_due_where_a_restore_decodes_too_much() {
    let mut days = Days::new();
    let options = BackupOptions { full_every: 3, rebase_every: 1000, ..options() };
    let table = |day: u32| one(table(15_000, |row| if row % 100 < 3 { day } else { 0 }));
    let reports: Vec<_> = (0..13).map(|day| days.back_up(&table(day), &options)).collect();
    let times = |report: &BackupReport| report.snapshot.about.decoded.unwrap() as f64 / report.totals().read as f64;
    let mut rebased = 0;
    for pair in reports.windows(2).filter(|pair| is_full(&pair[1])) {
        let begins = generation(&pair[0]) != generation(&pair[1]);
        // The forecast of the next chain: two incrementals as the last two, and the full itself.
        let last = reports.iter().position(|report| report.snapshot.id == pair[0].snapshot.id).unwrap();
        let new: u64 = reports[last - 1..=last].iter().map(|report| report.totals().new).sum();
        let forecast = times(&pair[0]) + 1.5 * new as f64 / pair[0].totals().read as f64;
        assert_eq!(begins, forecast > 6.0, "{forecast} times");
        rebased += u32::from(begins);
        assert!(!begins || times(&pair[1]) < 1.1);
    }
    assert!(rebased >= 1);
    // Besides new data a restore decodes bases that nothing else needs, which the forecast doesn't include.
    assert!(reports.iter().all(|report| times(report) <= 6.6));
    days.all_restore();
}

#[test]
fn all_is_stored_again_where_a_pack_is_missing_or_damaged() {
    for harm in ["missing", "cut", "flipped"] {
        let mut days = Days::new();
        let reports: Vec<_> = (0..3).map(|day| days.wanted(WantedKind::Due, &one(rows(day)))).collect();
        let pack = reports[0].snapshot.header.packs[0];
        let name = pack_name(&pack);
        match harm {
            "missing" => assert!(days.vault.memory.lose(&name)),
            "cut" => assert!(days.vault.memory.change(&name, |bytes| bytes.truncate(bytes.len() / 2))),
            // Only who can read finds this; from then on the writer knows it on the same machine.
            _ => {
                assert!(days.vault.memory.change(&name, |bytes| bytes[1000] ^= 1));
                let state = days.vault.state.path();
                assert!(!check(&days.vault.reader(state).unwrap(), Level::Data).unwrap().damage.is_empty());
            }
        }
        let report = days.wanted(WantedKind::Due, &one(rows(3)));
        assert!(is_full(&report), "{harm}");
        assert!(report.note.as_ref().is_some_and(|note| note.contains("damaged")), "{harm}");
        assert_ne!(generation(&report), generation(&reports[2]), "{harm}");
        assert!(!report.snapshot.header.packs.contains(&pack), "{harm}");
        let next = days.wanted(WantedKind::Due, &one(rows(4)));
        assert!(!is_full(&next) && generation(&next) == generation(&report), "{harm}");
        // The old ones are lost; these two are intact, even where rows return that were only on the lost pack.
        let back = days.wanted(WantedKind::Due, &one(rows(2)));
        let reader = days.vault.fresh_reader();
        reader.sync().unwrap();
        for (row, day) in [(&report.snapshot, 3), (&next.snapshot, 4), (&back.snapshot, 2)] {
            assert_restores(&reader, row, &one(rows(day)));
        }
    }
}

#[test]
fn a_chunk_whose_base_was_pruned_is_stored_again() {
    let mut days = Days::new();
    let quiet = noise(400_000, 1);
    let with = |rows: Vec<u8>| Streams::from([("quiet".to_owned(), quiet.clone()), ("rows".to_owned(), rows)]);
    let old = table(8000, |row| if row == 4000 { 1 } else { 0 });
    let first = days.wanted(WantedKind::Due, &one(table(8000, |_| 0)));
    // In one pack: a new plain segment, and a segment that depends on the first pack.
    let streams = Streams::from([("quiet".to_owned(), quiet.clone()), ("stream".to_owned(), old.clone())]);
    let second = days.wanted(WantedKind::Due, &streams);
    assert!(second.snapshot.header.packs.contains(&first.snapshot.header.packs[0]));
    let full = days.wanted(WantedKind::Full, &with(table(8000, |_| 7)));
    let shared = |report: &BackupReport, other: &BackupReport| {
        report.snapshot.header.packs.iter().any(|pack| other.snapshot.header.packs.contains(pack))
    };
    assert!(shared(&full, &second) && !shared(&full, &first), "the plain part of the second pack is kept");
    days.prune(&[&first.snapshot, &second.snapshot]);
    let back = days.wanted(WantedKind::Due, &with(old));
    assert!(back.totals().new > 0);
    days.all_restore();
}

#[test]
fn a_rebase_keeps_no_pack() {
    let mut days = Days::new();
    let parts = |parts: &[u64]| -> Streams {
        parts.iter().map(|&part| (format!("part {part}"), noise(300_000, part))).collect()
    };
    let before = days.wanted(WantedKind::Due, &parts(&[1, 2])).snapshot.header.packs;
    let rebased = days.wanted(WantedKind::Rebase, &parts(&[1, 2]));
    assert!(rebased.snapshot.header.packs.iter().all(|pack| !before.contains(pack)));
    assert_eq!(rebased.totals().new, 600_000, "all that was read");
    days.all_restore();
}

#[test]
fn unchanged_files_are_read_again_by_a_rebase_alone() {
    let tree = tempfile::tempdir().unwrap();
    let write = |file: u32, salt: u32| {
        let rows = table(1200, |row| if row == 600 { salt } else { file * 10_000 });
        std::fs::write(tree.path().join(format!("{file:03}")), rows).unwrap();
    };
    (0..100).for_each(|file| write(file, 0));
    let vault = Vault::new();
    let clock = TestClock::at(MONDAY);
    let run = |wanted: WantedKind| {
        let paths = vec![tree.path().to_owned()];
        let files = FilesOptions { paths, exclude: Vec::new(), one_file_system: false, ..FilesOptions::default() };
        let mut source = FilesSource::new(&files, &clock).unwrap();
        let (counts, options) = (Counts::default(), BackupOptions { wanted, ..options() });
        let report = backup(&vault.writer(), &mut source, &options, &clock, &counts, &Interrupt::default()).unwrap();
        (report, counts.get(Counter::BytesRead))
    };
    let (first, all) = run(WantedKind::Due);
    assert_eq!((all, first.totals().new), (first.totals().read, first.totals().read));
    (0..10).for_each(|file| write(file * 10, 1));
    let (second, changed) = run(WantedKind::Due);
    assert!(changed > 0 && changed < all / 8, "{changed} of {all}");
    assert!(second.totals().stored < 20_000, "they are based: {}", second.totals().stored);
    assert_eq!(run(WantedKind::Due).1, 0);
    assert_eq!(run(WantedKind::Full).1, 0, "a light full reads nothing that didn't change");
    let (rebased, read) = run(WantedKind::Rebase);
    assert_eq!((read, rebased.totals().new), (rebased.totals().read, rebased.totals().read));
    assert_eq!(run(WantedKind::Due).1, 0);
    assert_whole(&vault.fresh_reader());
}

#[test]
fn a_light_full_frees_the_least_used_packs_as_far_as_its_budget_goes() {
    let mut days = Days::new();
    let part = |number: u64| (format!("part {number:02}"), noise(100_000, number));
    let parts = |numbers: &[u64]| -> Streams { numbers.iter().map(|&number| part(number)).collect() };
    let mut numbers: Vec<u64> = (0..30).collect();
    let mut packs = Vec::new();
    // A pack of all, then three of ten parts each.
    for more in [0..0, 30..40, 40..50, 50..60] {
        numbers.extend(more);
        let needed = days.wanted(WantedKind::Due, &parts(&numbers)).snapshot.header.packs;
        packs.push(*needed.iter().find(|pack| !packs.contains(*pack)).unwrap());
    }
    // One, two and five of ten stay.
    let stay: Vec<u64> = (0..30).chain(30..31).chain(40..42).chain(50..55).collect();
    days.wanted(WantedKind::Due, &parts(&stay));
    let full = |days: &mut Days, repack_budget| {
        days.back_up(&parts(&stay), &BackupOptions { wanted: WantedKind::Full, repack_budget, ..options() })
    };
    let holds = |report: &BackupReport| {
        packs.iter().map(|pack| report.snapshot.header.packs.contains(pack)).collect::<Vec<_>>()
    };
    let none = full(&mut days, 0);
    assert_eq!((holds(&none), none.totals().new), (vec![true; 4], 0));
    // Ten in a hundred of 3.8 MB: three parts.
    let some = full(&mut days, 10);
    assert_eq!((holds(&some), some.totals().new), (vec![true, false, false, true], 300_000));
    assert_eq!(generation(&some), generation(&none));
    let next = full(&mut days, 10);
    assert_eq!((holds(&next), next.totals().new), (vec![true, false, false, true], 0), "five parts are too many");
    let rest = full(&mut days, 20);
    assert_eq!((holds(&rest), rest.totals().new), (vec![true, false, false, false], 500_000));
    let incremental = days.wanted(WantedKind::Incremental, &parts(&stay));
    assert_eq!(incremental.totals().new, 0);
    days.all_restore();
}

#[test]
fn a_pack_that_others_are_based_on_is_not_stored_again() {
    let mut days = Days::new();
    let part = |number: u64| (format!("part {number:02}"), noise(100_000, number));
    let with = |parts: std::ops::Range<u64>, salt| -> Streams {
        let rows = ("rows".to_owned(), table(8000, |row| if row == 4000 { salt } else { 0 }));
        parts.map(part).chain([rows]).collect()
    };
    let first = days.wanted(WantedKind::Due, &with(0..20, 0));
    days.wanted(WantedKind::Due, &with(0..1, 1));
    let options = BackupOptions { wanted: WantedKind::Full, repack_budget: 100, ..options() };
    let full = days.back_up(&with(0..1, 1), &options);
    assert!(full.snapshot.header.packs.contains(&first.snapshot.header.packs[0]));
    assert_eq!(full.totals().new, 0);
    days.all_restore();
}
