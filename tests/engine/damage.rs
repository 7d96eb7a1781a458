//! Damage of every kind, to every kind of object. In each case verify finds and names it, nothing panics, no wrong byte
//! is restored, and unaffected data is restored.
//!
//! By default one object of each kind is damaged in all ways and the others in a few; VARU_TEST_LONG=1 damages all in all
//! ways.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use support::vault::*;
use support::*;
use tempfile::TempDir;
use varu::backup::{BackupOptions, WantedKind};
use varu::format::layout::{pack_name, parse_pack_name, parse_snapshot_name};
use varu::format::pack::{HEADER_FIXED, TRAILER_LEN};
use varu::format::snapshot::SnapshotHeader;
use varu::id::{PackId, SnapshotId};
use varu::index::SnapshotRow;
use varu::remote::{Folder, ObjectName};
use varu::repository::Repository;
use varu::verify::{Level, VerifyReport};

/// The damage done to an object.
#[derive(Debug, Clone, PartialEq)]
enum Harm {
    Delete,
    Cut(usize),
    Lengthen,
    Flip { at: usize, bit: u8 },
}

impl Harm {
    fn apply(&self, case: &Case, name: &ObjectName) {
        let memory = &case.vault.memory;
        let done = match self {
            Harm::Delete => memory.lose(name),
            Harm::Cut(length) => memory.change(name, |bytes| bytes.truncate(*length)),
            Harm::Lengthen => memory.change(name, |bytes| bytes.push(0)),
            Harm::Flip { at, bit } => memory.change(name, |bytes| bytes[*at] ^= 1 << bit),
        };
        assert!(done);
    }
}

/// Two sets in two chains each, with packs that several snapshots share and packs that one has alone.
struct Case {
    vault: Vault,
    expected: Expected,
    rows: Vec<SnapshotRow>,
    /// The state of a reader that has seen all of it intact.
    seen: TempDir,
    reader: Arc<Repository>,
    writer: Arc<Repository>,
}

fn day(set: &str, number: u32) -> Streams {
    let salt = set.len() as u32;
    BTreeMap::from([
        ("customers".to_owned(), table(1500, |row| salt + if row % 300 == number { number } else { 0 })),
        ("empty".to_owned(), Vec::new()),
        (format!("log {number}"), noise(30_000, u64::from(number + salt))),
    ])
}

impl Case {
    fn new() -> Self {
        let vault = Vault::new();
        let clock = TestClock::at(MONDAY);
        let writer = vault.writer();
        let mut expected = Expected::new();
        let plan = [
            ("set", WantedKind::Due),
            ("another", WantedKind::Due),
            ("set", WantedKind::Due),
            ("another", WantedKind::Due),
            ("set", WantedKind::Full),
            ("set", WantedKind::Due),
            ("another", WantedKind::Rebase),
            ("another", WantedKind::Due),
        ];
        for (number, (set, wanted)) in plan.into_iter().enumerate() {
            let options = BackupOptions { set: set.to_owned(), wanted, ..options() };
            let streams = day(set, number as u32);
            let report = back_up_with(&writer, &streams, &options, &clock).unwrap();
            expected.insert(report.snapshot.id, streams);
            clock.advance(Duration::from_secs(3600));
        }
        let seen = state();
        assert_whole(&vault.reader(seen.path()).unwrap());
        let reader = vault.reader(vault.state.path()).unwrap();
        let rows = reader.index().snapshots().unwrap();
        Self { vault, expected, rows, seen, reader, writer }
    }

    fn objects(&self, folder: Folder) -> Vec<(ObjectName, Vec<u8>)> {
        let content = self.vault.memory.content(folder).into_iter();
        content.map(|(name, bytes)| (ObjectName::new(folder, name).unwrap(), bytes)).collect()
    }

    /// The snapshots that can't all be intact without that object.
    fn concerned(&self, name: &ObjectName) -> BTreeSet<SnapshotId> {
        let pack: Option<PackId> = parse_pack_name(name);
        let mut concerned = BTreeSet::new();
        for row in &self.rows {
            let needs = pack.is_some_and(|pack| row.header.packs.contains(&pack));
            let is_it = Repository::object_name(row) == *name;
            let stands_on_it = row.header.parent.is_some_and(|parent| pack.is_none() && concerned.contains(&parent.id));
            if needs || is_it || stands_on_it {
                concerned.insert(row.id);
            }
        }
        concerned
    }

    /// Restores as much as possible: each stream is restored as it was or named, and unaffected ones are restored.
    fn restore(&self, reader: &Arc<Repository>, concerned: &BTreeSet<SnapshotId>, report: &VerifyReport, what: &str) {
        for row in &self.rows {
            let expected = &self.expected[&row.id];
            let (streams, damaged) = match bring_back(reader, row) {
                Ok((streams, report)) => (streams, report.damaged),
                Err(error) => {
                    assert!(concerned.contains(&row.id), "{what}: snapshot {} is refused: {error}", row.id);
                    continue;
                }
            };
            for (name, bytes) in &streams {
                assert!(expected[name] == *bytes, "{what}: wrong bytes in {name} of {}", row.id);
            }
            for name in expected.keys().filter(|name| !streams.contains_key(*name)) {
                let named = damaged.iter().any(|damaged| damaged.starts_with(&format!("{name} can't be restored")));
                assert!(named, "{what}: {name} of {} is silently missing", row.id);
            }
            assert_eq!(streams.len() + damaged.len(), expected.len(), "{what}: {damaged:?}");
            let whole = damaged.is_empty();
            assert!(whole || concerned.contains(&row.id), "{what}: {} was not concerned: {damaged:?}", row.id);
            assert!(whole || !report.is_whole(&row.id), "{what}: verify said that {} is whole: {damaged:?}", row.id);
        }
    }
}

/// Whether the report names the object. A snapshot that is gone is named by its id.
fn found(report: &VerifyReport, name: &ObjectName) -> bool {
    let text = name.to_string();
    let id = parse_snapshot_name(name).map(|name| name.id.to_string());
    let says = |sentence: &str| sentence.contains(&text) || id.as_ref().is_some_and(|id| sentence.contains(id));
    let lost_key = |object: &str| name.folder() == Folder::Keys && object == "keys/";
    report.damage.iter().any(|damage| says(&damage.object) || says(&damage.reason) || lost_key(&damage.object))
        || report.notes.iter().any(|note| says(note))
}

/// Damages an object, looks, and heals it again.
fn harm_and_look(case: &Case, name: &ObjectName, whole: &[u8], harm: &Harm, thorough: bool) {
    let what = format!("{name} {}", format!("{harm:?}").chars().take(60).collect::<String>());
    harm.apply(case, name);
    match name.folder() {
        Folder::Keys => key_is_replaced(case, name, &what),
        _ if thorough => look_closely(case, name, &what),
        _ => {
            let report = check(&case.reader, Level::Structure).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(found(&report, name), "{what}: not found: {:?}", report.damage);
        }
    }
    case.vault.memory.put(name.folder(), name.name(), whole);
}

/// A machine that has seen all of it intact verifies and restores, then a machine that has nothing but the identity.
fn look_closely(case: &Case, name: &ObjectName, what: &str) {
    let concerned = case.concerned(name);
    let gone = case.vault.remote.stat(name).unwrap().is_none();
    for (known, text) in [(true, "on the same machine"), (false, "on a fresh machine")] {
        let what = format!("{what}, {text}");
        let folder = state();
        if known {
            copy_state(case.seen.path(), folder.path());
        }
        let reader = case.vault.reader(folder.path()).unwrap();
        for level in [Level::Structure, Level::Data] {
            let report = check(&reader, level).unwrap_or_else(|error| panic!("{what}: verify failed: {error}"));
            // Who has never seen the newest snapshot can't miss it.
            let newest = self::newest(case) == *name;
            assert!(
                found(&report, name) || newest && gone && !known,
                "{what}: not found: {:?} {:?}",
                report.damage,
                report.notes
            );
            if level == Level::Data {
                case.restore(&reader, &concerned, &report, &what);
            }
        }
    }
}

fn newest(case: &Case) -> ObjectName {
    Repository::object_name(case.rows.last().unwrap())
}

/// A damaged key object is found without the identity and with it, and the copy in a full takes its place.
fn key_is_replaced(case: &Case, name: &ObjectName, what: &str) {
    for reader in [case.writer.clone(), case.vault.reader(&case.vault.empty_state()).unwrap()] {
        let report = check(&reader, Level::Structure).unwrap();
        assert!(found(&report, name), "{what}: {:?}", report.damage);
        assert!(report.snapshots.iter().all(|row| report.is_whole(&row.id)), "{what}");
    }
}

/// The clear parts of an object.
fn clear_bytes(name: &ObjectName, bytes: &[u8]) -> Vec<usize> {
    match name.folder() {
        Folder::Packs => {
            let wrapped = u16::from_le_bytes([bytes[HEADER_FIXED - 2], bytes[HEADER_FIXED - 1]]);
            (0..HEADER_FIXED + usize::from(wrapped)).chain(bytes.len() - TRAILER_LEN..bytes.len()).collect()
        }
        Folder::Snapshots => (0..SnapshotHeader::length(bytes).unwrap()).collect(),
        // An age file: its header is a text, its end a tag.
        _ => (0..bytes.len().min(200)).chain(bytes.len() - 16..bytes.len()).collect(),
    }
}

fn harms(name: &ObjectName, bytes: &[u8], random: &mut Random, all: bool) -> Vec<(Harm, bool)> {
    let mut harms = vec![
        (Harm::Delete, true),
        (Harm::Cut(0), true),
        (Harm::Cut(bytes.len() / 2), true),
        (Harm::Cut(bytes.len() - 1), true),
        (Harm::Lengthen, true),
    ];
    let mut places = if all { clear_bytes(name, bytes) } else { Vec::new() };
    places.extend((0..if all { 200 } else { 5 }).map(|_| random.below(bytes.len())));
    // Each flip is verified; restoring on two machines takes longer, so by default each 10th is restored.
    let every = if long() { 1 } else { 10 };
    let flips = places.into_iter().enumerate();
    harms.extend(flips.map(|(n, at)| (Harm::Flip { at, bit: random.below(8) as u8 }, n % every == 0)));
    harms
}

#[test]
fn whatever_is_damaged_is_found_and_no_wrong_byte_comes_back() {
    let case = Case::new();
    let mut random = Random(1);
    for folder in [Folder::Keys, Folder::Packs, Folder::Snapshots] {
        let objects = case.objects(folder);
        assert!(objects.len() >= if folder == Folder::Keys { 1 } else { 2 }, "{folder:?}");
        for (number, (name, bytes)) in objects.iter().enumerate() {
            let all = long() || number < 2;
            for (harm, thorough) in harms(name, bytes, &mut random, all) {
                harm_and_look(&case, name, bytes, &harm, thorough);
            }
        }
    }
    assert_all_restore(&case.vault, &case.expected);
}

#[test]
fn objects_that_changed_places_are_found() {
    let case = Case::new();
    for folder in [Folder::Packs, Folder::Snapshots] {
        let objects = case.objects(folder);
        for pair in objects.windows(2) {
            let [(one, bytes_of_one), (other, bytes_of_other)] = pair else { unreachable!() };
            case.vault.memory.put(folder, one.name(), bytes_of_other.clone());
            case.vault.memory.put(folder, other.name(), bytes_of_one.clone());
            let concerned = &case.concerned(one) | &case.concerned(other);
            for reader in [&case.reader, &case.vault.fresh_reader()] {
                let report = check(reader, Level::Data).unwrap();
                assert!(found(&report, one) && found(&report, other), "{:?}", report.damage);
                case.restore(reader, &concerned, &report, &format!("{one} and {other} exchanged"));
            }
            case.vault.memory.put(folder, one.name(), bytes_of_one.clone());
            case.vault.memory.put(folder, other.name(), bytes_of_other.clone());
        }
    }
    assert_all_restore(&case.vault, &case.expected);
}

#[test]
fn a_lost_pack_costs_only_the_streams_that_stand_on_it() {
    let vault = Vault::new();
    let writer = vault.writer();
    let clock = TestClock::at(MONDAY);
    let mut streams = Streams::from([("old".to_owned(), noise(100_000, 1))]);
    back_up(&writer, &streams, &clock).unwrap();
    streams.insert("new".to_owned(), noise(100_000, 2));
    streams.insert("longer".to_owned(), [noise(100_000, 1), noise(50_000, 3)].concat());
    let second = back_up(&writer, &streams, &clock).unwrap().snapshot;
    let first_pack = writer.index().packs().unwrap()[0].id;
    let lost = second.header.packs.iter().find(|pack| **pack != first_pack).unwrap();
    assert!(vault.memory.lose(&pack_name(lost)));

    let reader = vault.fresh_reader();
    let report = check(&reader, Level::Structure).unwrap();
    let [damage] = report.damage.as_slice() else { panic!("{:?}", report.damage) };
    assert_eq!(damage.object, pack_name(lost).to_string());
    assert_eq!(damage.affects, BTreeMap::from([(second.id, vec!["longer".to_owned(), "new".to_owned()])]));
    let (back, restored) = bring_back(&reader, &second).unwrap();
    assert_eq!(back, Streams::from([("old".to_owned(), noise(100_000, 1))]));
    let named = ["longer", "new"]
        .map(|name| format!("{name} can't be restored: {} is damaged: it is missing", pack_name(lost)));
    assert_eq!(restored.damaged, named);
    assert_eq!(report.snapshots.iter().filter(|row| report.is_whole(&row.id)).count(), 1);
}

/// Loses a snapshot's object.
fn lose(vault: &Vault, row: &SnapshotRow) {
    assert!(vault.memory.lose(&Repository::object_name(row)));
}

#[test]
fn a_lost_parent_is_replaced_by_the_copy_of_its_recipe() {
    // Packs are looked through in the order of their random names: more than one repository, so that both orders come.
    for _ in 0..4 {
        let vault = Vault::new();
        let clock = TestClock::at(MONDAY);
        let backup = |writer: &Arc<Repository>, number| {
            clock.advance_hours(24);
            back_up(writer, &day("set", number), &clock).unwrap().snapshot
        };
        let first = backup(&vault.writer(), 1);
        // Its pack stays behind, with the copy of a recipe that has the sequence of the next one.
        lose(&vault, &backup(&vault.writer(), 9));
        assert_eq!(vault.writer().rebuild(true).unwrap().lost, Vec::<String>::new());
        let [second, third, fourth] = [2, 3, 4].map(|number| backup(&vault.writer(), number));
        lose(&vault, &second);

        let reader = vault.fresh_reader();
        reader.sync().unwrap();
        // A restore of a snapshot that depends on it looks for the copy.
        assert_restores(&reader, &third, &day("set", 3));
        let lost = reader.rebuild(false).unwrap().lost;
        assert_eq!(lost.len(), 1, "{lost:?}");
        assert!(lost[0].contains(&second.id.to_string()) && lost[0].contains("takes its place"), "{lost:?}");
        for (row, number) in [(&first, 1), (&third, 3), (&fourth, 4)] {
            assert_restores(&reader, row, &day("set", number));
        }
        assert_eq!(reader.index().snapshots().unwrap().len(), 3);
    }
}

#[test]
fn a_lost_parent_whose_copy_is_lost_too_is_named() {
    let vault = Vault::new();
    let clock = TestClock::at(MONDAY);
    let backup = |number| {
        clock.advance_hours(24);
        back_up(&vault.writer(), &day("set", number), &clock).unwrap().snapshot
    };
    let [_, second, third] = [1, 2, 3].map(backup);
    lose(&vault, &second);
    for (name, bytes) in vault.memory.content(Folder::Packs) {
        let id: PackId = name.strip_suffix(".pack").unwrap().parse().unwrap();
        // The copy precedes the directory; one byte of it is enough.
        let number = |end: usize| u32::from_le_bytes(bytes[bytes.len() - end..][..4].try_into().unwrap()) as usize;
        let (copy, directory) = (number(24), number(20));
        assert!(vault.memory.change(&pack_name(&id), |bytes| {
            let at = bytes.len() - TRAILER_LEN - directory - copy / 2;
            bytes[at] ^= 1;
        }));
    }
    let reader = vault.fresh_reader();
    let lost = reader.rebuild(false).unwrap().lost;
    assert!(lost.len() == 1 && lost[0].contains("no pack has a copy"), "{lost:?}");
    assert!(bring_back(&reader, &third).is_err());
}
