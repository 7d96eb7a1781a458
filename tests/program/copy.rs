//! A second repository: it restores by itself, a copy that dies anywhere leaves it intact and continues, pruned
//! snapshots aren't sent again, damage is left out by name, and no key is needed.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use support::machine::Machine;
use support::vault::*;
use support::*;
use varu::class::{Class, Classified};
use varu::copy::{CopyReport, copy};
use varu::error::Error;
use varu::format::layout::{pack_name, snapshot_name};
use varu::index::SnapshotRow;
use varu::progress::{Counts, Interrupt};
use varu::remote::fault::{Fault, Faulty, Spoil};
use varu::remote::memory::MemoryRemote;
use varu::remote::{ErrorKind, Folder, ObjectName, Remote};

/// A repository of a few days, two sets, fulls and incrementals.
struct First {
    vault: Vault,
    clock: TestClock,
    rows: Vec<(SnapshotRow, Streams)>,
}

impl First {
    fn new(days: u64) -> Self {
        let mut first = Self { vault: Vault::new(), clock: TestClock::at(MONDAY), rows: Vec::new() };
        first.go_on(days);
        first
    }

    fn go_on(&mut self, days: u64) {
        let writer = self.vault.writer();
        for _ in 0..days {
            let day = self.rows.len() as u64;
            let options = varu::backup::BackupOptions {
                set: if day % 3 == 2 { "etc" } else { "shop" }.to_owned(),
                full_every: 4,
                ..options()
            };
            let rows = table(600, |row| if u64::from(row) % 30 == day % 30 { day as u32 } else { 0 });
            let streams = BTreeMap::from([("orders".to_owned(), rows), ("blob".to_owned(), noise(40_000, day / 2))]);
            let report = back_up_with(&writer, &streams, &options, &self.clock).unwrap();
            self.rows.push((report.snapshot, streams));
            self.clock.advance(Duration::from_secs(86_400));
        }
    }

    fn copy_to(&self, to: &dyn Remote, all: bool) -> Result<CopyReport, Error> {
        copy(&self.vault.memory, to, all, &Counts::default(), &Interrupt::default())
    }

    /// Fails unless exactly these snapshots are at the second place, and each restores there alone.
    #[track_caller]
    fn assert_at(&self, second: &MemoryRemote, rows: &[(SnapshotRow, Streams)]) {
        let state = state();
        let reader = self.vault.owner.reader(Arc::new(second.clone()), state.path()).unwrap();
        reader.sync().unwrap();
        let mut there: Vec<_> = reader.index().snapshots().unwrap().iter().map(|row| row.id).collect();
        let mut expected: Vec<_> = rows.iter().map(|(row, _)| row.id).collect();
        there.sort();
        expected.sort();
        assert_eq!(there, expected);
        rows.iter().for_each(|(row, streams)| assert_restores(&reader, row, streams));
        assert_whole(&reader);
    }
}

fn object(row: &SnapshotRow) -> ObjectName {
    snapshot_name(row.header.stored_time, &row.header.set, row.header.kind(), &row.id)
}

fn objects(remote: &MemoryRemote) -> Vec<(String, Vec<u8>)> {
    [Folder::Info, Folder::Keys, Folder::Packs, Folder::Snapshots]
        .iter()
        .flat_map(|&folder| remote.content(folder))
        .collect()
}

#[test]
fn a_copy_is_the_same_and_later_only_what_is_missing() {
    let mut first = First::new(7);
    let second = MemoryRemote::new();
    let report = first.copy_to(&second, false).unwrap();
    assert_eq!(objects(&second), objects(&first.vault.memory));
    assert_eq!((report.snapshots.len(), report.common, report.older), (7, 7, 0));
    assert_eq!(report.objects as usize, objects(&second).len());
    assert_eq!(first.copy_to(&second, false).unwrap(), CopyReport { common: 7, ..CopyReport::default() });
    let before = objects(&second).len();
    first.go_on(2);
    let report = first.copy_to(&second, false).unwrap();
    assert_eq!((report.snapshots.len(), report.objects as usize), (2, objects(&second).len() - before));
    first.assert_at(&second, &first.rows);
}

#[test]
fn what_the_second_place_has_pruned_is_not_brought_back() {
    let mut first = First::new(12);
    let second = MemoryRemote::new();
    first.copy_to(&second, false).unwrap();
    let chain = first.rows[0].0.header.chain;
    let gone = |row: &SnapshotRow| row.header.chain == chain;
    for (row, _) in first.rows.iter().filter(|(row, _)| gone(row)) {
        second.delete(&object(row)).unwrap();
    }
    first.go_on(1);
    let report = first.copy_to(&second, false).unwrap();
    let pruned = first.rows.iter().filter(|(row, _)| gone(row)).count();
    assert!(pruned > 1);
    assert_eq!((report.snapshots.len(), report.older as usize), (1, pruned));
    let stay: Vec<_> = first.rows.iter().filter(|(row, _)| !gone(row)).cloned().collect();
    first.assert_at(&second, &stay);
    assert_eq!(first.copy_to(&second, true).unwrap().snapshots.len(), pruned);
    first.assert_at(&second, &first.rows);
}

#[test]
fn a_copy_that_dies_anywhere_leaves_whole_snapshots_and_goes_on() {
    let first = First::new(4);
    let counting = Faulty::new(Arc::new(MemoryRemote::new()));
    first.copy_to(&counting, false).unwrap();
    assert!(counting.operations() > 30);
    for n in 1..=counting.operations() {
        for fault in [Fault::Refuse(ErrorKind::Unreachable), Fault::LoseAnswer, Fault::Tear] {
            let second = MemoryRemote::new();
            let faulty = Faulty::new(Arc::new(second.clone()));
            faulty.die_at(n, fault);
            // Threads share the operations, so that the last numbers may not be reached.
            let ended = first.copy_to(&faulty, false);
            if let Err(error) = &ended {
                assert_eq!(error.class(), Class::Unreachable, "{error}");
            }
            let names: Vec<String> = second.content(Folder::Snapshots).into_iter().map(|(name, _)| name).collect();
            let there = first.rows.iter().filter(|(row, _)| names.contains(&object(row).name().to_owned()));
            let there: Vec<_> = there.cloned().collect();
            if !there.is_empty() {
                first.assert_at(&second, &there);
            }
            first.copy_to(&second, false).unwrap();
            assert_eq!(objects(&second), objects(&first.vault.memory), "operation {n}");
        }
    }
}

#[test]
fn damage_is_left_out_by_name_and_stays_out() {
    let first = First::new(5);
    // A pack that only the newest snapshot needs.
    let (newest, before) = first.rows.split_last().unwrap();
    let packs = &newest.0.header.packs;
    let own = packs.iter().find(|pack| before.iter().all(|(row, _)| !row.header.packs.contains(pack))).unwrap();
    let name = pack_name(own);
    let bytes = first.vault.memory.get(&name, 1 << 30).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for harmed in [Some(flipped), Some(bytes[..bytes.len() / 2].to_vec()), None] {
        first.vault.memory.delete(&name).unwrap();
        if let Some(harmed) = harmed {
            put(&first.vault.memory, &name, &harmed);
        }
        let second = MemoryRemote::new();
        let report = first.copy_to(&second, false).unwrap();
        assert!(report.damaged.iter().any(|line| line.contains(object(&newest.0).name())), "{:?}", report.damaged);
        assert_eq!(report.snapshots.len(), before.len());
        first.assert_at(&second, before);
        assert!(!second.content(Folder::Packs).iter().any(|(there, _)| there == name.name()));
        if first.vault.memory.stat(&name).unwrap().is_none() {
            put(&first.vault.memory, &name, &bytes);
        }
    }
    // A read that is spoilt on the way is no object of the second place either.
    let spoilt = Faulty::new(Arc::new(first.vault.memory.clone()));
    spoilt.spoil_at(20, Spoil::Flip(77));
    let second = MemoryRemote::new();
    copy(&spoilt, &second, false, &Counts::default(), &Interrupt::default()).unwrap();
    let ours = objects(&first.vault.memory);
    assert!(objects(&second).iter().all(|object| ours.contains(object)));
}

fn put(remote: &MemoryRemote, name: &ObjectName, bytes: &[u8]) {
    let mut upload = remote.begin().unwrap();
    upload.append(bytes).unwrap();
    upload.finish(name).unwrap();
}

#[test]
fn another_repository_is_not_mixed_in() {
    let (first, other) = (First::new(1), First::new(1));
    let error = first.copy_to(&other.vault.memory, false).unwrap_err();
    assert_eq!(error.class(), Class::Refused);
    assert!(error.to_string().contains("holds another repository"), "{error}");
    let nothing = copy(&MemoryRemote::new(), &MemoryRemote::new(), false, &Counts::default(), &Interrupt::default());
    assert_eq!(nothing.unwrap_err().class(), Class::Usage);
}

#[test]
fn each_place_is_listed_verified_and_restored_by_itself() {
    let top = tempfile::tempdir().unwrap();
    let machine = Machine::new(top.path());
    machine.init();
    let (data, vault, second) = (machine.at("data"), machine.at("vault"), machine.at("second"));
    let back_up = |content: &str| {
        fs::write(&data, content).unwrap();
        let mut varu = machine.varu(&["-q", "backup", "--stdin", "data"]);
        let ended: support::machine::Ended = varu.stdin(fs::File::open(&data).unwrap()).output().unwrap().into();
        ended.ends(0);
    };
    // The backup host has no key, no state and no configuration.
    let keyless = || {
        let mut varu = std::process::Command::new(env!("CARGO_BIN_EXE_varu"));
        varu.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", "/nowhere");
        varu.arg("--repo").arg(&vault).args(["--json", "copy", "--to"]).arg(&second);
        let ended: support::machine::Ended = varu.output().unwrap().into();
        ended.ends(0).json()
    };
    back_up("one");
    assert_eq!(keyless()["snapshots"].as_array().unwrap().len(), 1);
    back_up("two");
    let at = |place: &std::path::Path, words: &[&str]| {
        let mut varu = machine.varu_at(place);
        let ended: support::machine::Ended = varu.args(words).output().unwrap().into();
        ended
    };
    // The first location has more, and its index isn't the measure of the second.
    let there = at(&second, &["restore", "data", "--stdout"]).ends(0);
    assert_eq!(there.out, b"one");
    assert!(there.err.contains("is older than") && there.err.contains("vault"), "{}", there.err);
    assert_eq!(at(&second, &["--json", "list"]).ends(0).json()["snapshots"].as_array().unwrap().len(), 1);
    assert_eq!(at(&vault, &["--json", "list"]).ends(0).json()["snapshots"].as_array().unwrap().len(), 2);
    assert_eq!(keyless()["common"], 2);
    let there = at(&second, &["restore", "data", "--stdout"]).ends(0);
    assert_eq!((there.out.as_slice(), there.err.contains("is older than")), (&b"two"[..], false));
    at(&second, &["verify", "--level", "data"]).ends(0);
    // Damage at one place is none at the other.
    let pack = fs::read_dir(second.join("packs")).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(pack).unwrap();
    at(&second, &["verify"]).ends(7);
    at(&vault, &["verify"]).ends(0);
    back_up("three");
    // Missing objects of the second location are sent again.
    assert_eq!(keyless()["objects"].as_u64().unwrap(), 3);
    at(&second, &["verify", "--level", "data"]).ends(0);
}
