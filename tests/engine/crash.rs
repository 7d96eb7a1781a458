//! Crashes: the remote dies at operation n of a backup, for every n, before the call is done, after it is done, or in
//! the middle of an upload. Committed snapshots stay intact and restorable; the next backup recovers, and sends no
//! complete pack again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use support::vault::*;
use support::*;
use tempfile::TempDir;
use varu::class::{Class, Classified};
use varu::crypto::IdentityFile;
use varu::format::layout::pack_name;
use varu::id::{ChunkId, PackId};
use varu::index::SnapshotRow;
use varu::progress::Interrupt;
use varu::remote::fault::{Fault, Faulty};
use varu::remote::memory::MemoryRemote;
use varu::remote::record::{Recorder, Verb};
use varu::remote::retry::{Patience, Retry, Tries};
use varu::remote::wait::{SteppedTime, Wait};
use varu::remote::{ErrorKind, Folder, ObjectName, Remote};
use varu::repository::{Repository, create, generate};
use varu::time::Clock;

const FAULTS: [Fault; 3] = [Fault::Refuse(ErrorKind::Unreachable), Fault::LoseAnswer, Fault::Tear];

/// A repository after its first backup, and the source of the second.
struct Before {
    owner: Owner,
    memory: MemoryRemote,
    state: TempDir,
    first: (SnapshotRow, Streams),
    next: Streams,
    clock: TestClock,
}

impl Before {
    fn new(first: Streams, next: Streams) -> Self {
        let vault = Vault::new();
        let clock = TestClock::at(MONDAY);
        let snapshot = back_up(&vault.writer(), &first, &clock).unwrap().snapshot;
        clock.advance(Duration::from_secs(3600));
        let Vault { memory, owner, state, .. } = vault;
        Self { owner, memory, state, first: (snapshot, first), next, clock }
    }

    /// The same place and machine, each a copy of its own.
    fn fork(&self) -> Forked<'_> {
        let state = state();
        copy_state(self.state.path(), state.path());
        Forked { before: self, memory: self.memory.fork(), state }
    }

    /// How many operations the second backup has when nothing fails.
    fn operations(&self) -> u64 {
        let forked = self.fork();
        let faulty = Arc::new(Faulty::new(Arc::new(forked.memory.clone())));
        back_up(&self.owner.writer(faulty.clone(), forked.state.path()), &self.next, &self.clock).unwrap();
        faulty.operations()
    }
}

struct Forked<'a> {
    before: &'a Before,
    memory: MemoryRemote,
    state: TempDir,
}

impl Forked<'_> {
    /// Backs up while the remote dies at operation `n`. Whether the backup was reported good.
    fn crash(&self, n: u64, fault: Fault) -> bool {
        let faulty = Arc::new(Faulty::new(Arc::new(self.memory.clone())));
        faulty.die_at(n, fault);
        let writer = self.before.owner.writer(faulty, self.state.path());
        back_up(&writer, &self.before.next, &self.before.clock).is_ok()
    }

    fn reader(&self) -> (Arc<Repository>, TempDir) {
        let folder = state();
        let reader = self.before.owner.reader(Arc::new(self.memory.clone()), folder.path()).unwrap();
        (reader, folder)
    }

    /// All that is there verifies and restores: the first snapshot, then `after` of the second content.
    fn check(&self, after: impl Fn(usize) -> bool, what: &str) {
        let (reader, _folder) = self.reader();
        let report = check(&reader, varu::verify::Level::Data).unwrap();
        assert_eq!(report.damage, Vec::new(), "{what}");
        let (first, others) = report.snapshots.split_first().unwrap();
        assert_eq!(first.id, self.before.first.0.id);
        assert!(after(others.len()), "{what}: {} snapshots after the first", others.len());
        assert_restores(&reader, first, &self.before.first.1);
        others.iter().for_each(|row| assert_restores(&reader, row, &self.before.next));
    }

    fn packs(&self) -> BTreeSet<PackId> {
        let packs = self.memory.content(Folder::Packs);
        packs.into_iter().map(|(name, _)| name.strip_suffix(".pack").unwrap().parse().unwrap()).collect()
    }

    /// The next backup succeeds, and all restores. Returns the bytes that it sent.
    fn heal(&self, state: &std::path::Path, what: &str) -> u64 {
        let recorder = Arc::new(Recorder::new(Arc::new(self.memory.clone())));
        let writer = self.before.owner.writer(recorder.clone(), state);
        let clock = &self.before.clock;
        let healed = back_up(&writer, &self.before.next, clock).unwrap_or_else(|error| panic!("{what}: {error}"));
        // A fresh state has no base cache, and says so.
        let others: Vec<_> = healed.warnings.iter().filter(|warning| !warning.text.contains("base cache")).collect();
        assert!(others.is_empty(), "{what}: {others:?}");
        self.check(|after| after == 1 || after == 2, what);
        recorder.bytes(Verb::Append)
    }
}

/// The chunks in some packs.
fn chunks(reader: &Arc<Repository>, packs: &BTreeSet<PackId>) -> BTreeSet<ChunkId> {
    let sizes = reader.pack_sizes().unwrap();
    let directories = packs.iter().map(|pack| reader.fetch_directory(pack, sizes[pack], None).unwrap().directory);
    directories.flat_map(|directory| directory.ids).collect()
}

fn crash_and_heal(before: &Before, n: u64, fault: Fault) {
    let what = format!("{fault:?} at operation {n}");
    let forked = before.fork();
    let reported_good = forked.crash(n, fault);
    forked.check(|after| after == 1 || !reported_good && after == 0, &what);

    // On the same machine: complete packs aren't sent again.
    let whole = forked.packs();
    let empty = Forked { before, memory: forked.memory.fork(), state: state() };
    forked.heal(forked.state.path(), &what);
    let (reader, _folder) = forked.reader();
    let sent = &forked.packs() - &whole;
    let again = &chunks(&reader, &sent) & &chunks(&reader, &whole);
    assert_eq!(again, BTreeSet::new(), "{what}: chunks were sent again");

    // On a machine that lost its state: packs that no snapshot names can't be known there.
    empty.heal(empty.state.path(), &format!("{what}, then without state"));
}

#[test]
fn a_backup_may_end_at_every_operation() {
    let rows = |salt: u32| table(4000, move |row| if row % 500 == 0 { salt } else { 0 });
    let first = BTreeMap::from([("customers".to_owned(), rows(0)), ("log".to_owned(), noise(50_000, 0))]);
    let next = BTreeMap::from([("customers".to_owned(), rows(1)), ("log".to_owned(), noise(60_000, 1))]);
    let before = Before::new(first, next);
    let operations = before.operations();
    assert!(operations > 10, "{operations}");
    for n in 1..=operations {
        FAULTS.into_iter().for_each(|fault| crash_and_heal(&before, n, fault));
    }
}

/// A small run with every operation failing once in one way.
fn small() -> Before {
    let rows = |salt: u32| table(1000, move |row| if row % 200 == 0 { salt } else { 0 });
    let first = BTreeMap::from([("customers".to_owned(), rows(0))]);
    Before::new(first, BTreeMap::from([("customers".to_owned(), rows(1)), ("log".to_owned(), noise(60_000, 1))]))
}

#[test]
fn a_remote_that_is_full_or_read_only_ends_the_backup_as_such() {
    let before = small();
    for kind in [ErrorKind::NoSpace, ErrorKind::ReadOnly] {
        let mut passed_over = 0;
        for n in 1..=before.operations() {
            let what = format!("{kind:?} at operation {n}");
            let forked = before.fork();
            let faulty = Arc::new(Faulty::new(Arc::new(forked.memory.clone())));
            faulty.fail_at(n, Fault::Refuse(kind));
            let result = back_up(&before.owner.writer(faulty, forked.state.path()), &before.next, &before.clock);
            match &result {
                // Only whether there is room may stay unknown.
                Ok(_) => passed_over += 1,
                Err(error) => assert_eq!(error.class(), Class::NoSpace, "{what}: {error}"),
            }
            forked.check(|after| after == 1 || result.is_err() && after == 0, &what);
            forked.heal(forked.state.path(), &what);
        }
        assert_eq!(passed_over, 1);
    }
}

#[test]
fn a_remote_that_is_away_for_a_moment_is_tried_again_until_the_backup_is_done() {
    let before = small();
    for n in 1..=before.operations() {
        for fault in FAULTS {
            let forked = before.fork();
            let faulty = Faulty::new(Arc::new(forked.memory.clone()));
            faulty.fail_at(n, fault);
            let time = Arc::new(SteppedTime::default());
            let tries = Tries::new(Patience::default(), time.clone(), Interrupt::default(), |_| ());
            let patient = Arc::new(Retry::new(Arc::new(faulty), tries));
            let writer = before.owner.writer(patient, forked.state.path());
            let done = back_up(&writer, &before.next, &before.clock);
            done.unwrap_or_else(|error| panic!("{fault:?} at operation {n}: {error}"));
            assert!(time.now() > Duration::ZERO, "{fault:?} at operation {n}: nothing failed");
            forked.check(|after| after == 1, &format!("{fault:?} at operation {n}"));
        }
    }
}

#[test]
fn a_remote_that_stays_away_ends_the_backup_as_such() {
    let before = small();
    for n in 1..=before.operations() {
        let forked = before.fork();
        let faulty = Arc::new(Faulty::new(Arc::new(forked.memory.clone())));
        faulty.die_at(n, FAULTS[n as usize % 3]);
        let error =
            back_up(&before.owner.writer(faulty, forked.state.path()), &before.next, &before.clock).unwrap_err();
        assert_eq!(error.class(), Class::Unreachable, "at operation {n}: {error}");
    }
}

/// Packs are 32 MiB, so this run has two: the placed part of the first is not sent again.
#[test]
fn a_whole_pack_of_an_interrupted_run_is_shared() {
    let first = BTreeMap::from([("small".to_owned(), noise(10_000, 0))]);
    let next = BTreeMap::from([("large".to_owned(), noise(38 << 20, 1))]);
    let before = Before::new(first, next);
    let operations = before.operations();
    assert!(operations > 40, "{operations}");
    // Operations near the end come after the first pack was placed, whatever the threads do.
    let every = if long() { 1 } else { 9 };
    for n in (1..=operations - 1).rev().step_by(every) {
        crash_and_heal(&before, n, FAULTS[n as usize % 3]);
    }
    let forked = before.fork();
    // After the second pack: its folder, the snapshot in five, and two listings.
    assert!(!forked.crash(operations - 8, FAULTS[0]));
    let placed = &forked.packs() - &before.fork().packs();
    assert_eq!(placed.len(), 1, "one pack was placed and the other wasn't");
    let sent = forked.heal(forked.state.path(), "one pack placed");
    assert!(sent < 8 << 20, "{sent} bytes were sent, and all but 6 MiB lay there");
}

/// A place where the making of a repository ended early can be used.
#[test]
fn a_repository_may_fail_to_be_made_at_every_operation() {
    let secrets = || {
        let mut identity = IdentityFile::generate();
        let recipients = identity.recipients().iter().map(ToString::to_string).collect();
        let file = generate(recipients, Default::default(), None).unwrap();
        identity.add_repository(file.repository_id());
        (identity, file)
    };
    let streams = BTreeMap::from([("a".to_owned(), noise(20_000, 0))]);
    let mut n = 1;
    loop {
        for fault in FAULTS {
            let memory = MemoryRemote::new();
            let faulty = Faulty::new(Arc::new(memory.clone()));
            faulty.die_at(n, fault);
            let (mut identity, mut file) = secrets();
            let failed = create(&faulty, &file).is_err();
            // The same keys finish it, whatever is there; others do as long as it isn't finished.
            match n % 2 {
                0 => create(&memory, &file).unwrap(),
                _ => (identity, file) = secrets(),
            }
            let again = create(&memory, &file);
            if !failed {
                if n % 2 == 1 {
                    let error = again.unwrap_err().to_string();
                    assert!(error.contains("holds a repository already"), "{error}");
                } else {
                    again.unwrap();
                }
                assert!(n > 8 && fault == FAULTS[0], "{n}");
                return;
            }
            // The text for people comes last. Once it is there, all keys are, and the location is taken.
            if !memory.content(Folder::Info).is_empty() && again.is_err() {
                continue;
            }
            again.unwrap();
            let owner = Owner { identity: identity.to_text().to_string(), writer_key: file.to_text().to_string() };
            let state = state();
            let writer = owner.writer(Arc::new(memory.clone()), state.path());
            let report = back_up(&writer, &streams, &TestClock::at(MONDAY)).unwrap();
            let reader = owner.reader(Arc::new(memory.clone()), state.path()).unwrap();
            assert_restores(&reader, &report.snapshot, &streams);
        }
        n += 1;
    }
}

/// Whatever an interrupted salvage has stored, the next one recovers the rest, and nothing twice.
#[test]
fn a_salvage_may_end_at_every_operation() {
    let before = small();
    let salvage = |remote: Arc<dyn Remote>| {
        let folder = state();
        let reader = before.owner.reader(remote, folder.path())?;
        reader.salvage(before.clock.now())
    };
    for n in 1.. {
        for fault in FAULTS {
            let what = format!("{fault:?} at operation {n}");
            let forked = before.fork();
            assert!(forked.crash(u64::MAX, fault));
            for (name, _) in forked.memory.content(Folder::Snapshots) {
                assert!(forked.memory.lose(&ObjectName::new(Folder::Snapshots, name).unwrap()));
            }
            let faulty = Arc::new(Faulty::new(Arc::new(forked.memory.clone())));
            faulty.die_at(n, fault);
            let was_cut = salvage(faulty).is_err();
            salvage(Arc::new(forked.memory.clone())).unwrap();
            let (reader, _folder) = forked.reader();
            let report = check(&reader, varu::verify::Level::Data).unwrap();
            assert_eq!((report.damage, report.snapshots.len()), (Vec::new(), 2), "{what}");
            for (row, streams) in report.snapshots.iter().zip([&before.first.1, &before.next]) {
                assert_restores(&reader, row, streams);
            }
            // A torn read of what it has stored is damage, which it names and goes on.
            if !was_cut && fault == FAULTS[0] {
                assert!(n > 10, "{what}");
                return;
            }
        }
    }
}

/// At its worst a power cut on the backup host takes all names that were not flushed. Nothing that was reported good is lost.
#[test]
fn a_power_cut_after_a_backup_loses_nothing() {
    let before = Before::new(
        BTreeMap::from([("a".to_owned(), noise(50_000, 0))]),
        BTreeMap::from([("a".to_owned(), noise(50_000, 0)), ("b".to_owned(), noise(50_000, 1))]),
    );
    let forked = before.fork();
    assert!(forked.crash(u64::MAX, FAULTS[0]));
    forked.memory.cut_power();
    forked.check(|after| after == 1, "after a power cut");
    // If interrupted at each operation instead, names may be lost, and the rest is intact.
    for n in 1..=before.operations() {
        let forked = before.fork();
        let reported_good = forked.crash(n, Fault::LoseAnswer);
        forked.memory.cut_power();
        let what = format!("power cut at operation {n}");
        forked.check(|after| after == 1 || !reported_good && after == 0, &what);
        forked.heal(forked.state.path(), &what);
    }
}

/// A listing right after the commit finds that a pack went away meanwhile: the run fails, and the next one stores it again.
#[test]
fn a_pack_that_vanishes_during_a_backup_is_noticed_and_stored_again() {
    let vault = Vault::new();
    let clock = TestClock::at(MONDAY);
    let streams = BTreeMap::from([("a".to_owned(), noise(50_000, 0))]);
    let first = back_up(&vault.writer(), &streams, &clock).unwrap().snapshot;
    let vanishing = Arc::new(Vanishing { inner: vault.memory.clone(), pack: first.header.packs[0] });
    let writer = vault.owner.writer(vanishing, vault.state.path());
    let error = back_up(&writer, &streams, &clock).unwrap_err().to_string();
    assert!(
        error.contains(&format!("packs/{}.pack", first.header.packs[0])) && error.contains("next backup"),
        "{error}"
    );
    let healed = back_up(&vault.writer(), &streams, &clock).unwrap();
    assert!(healed.totals().new >= 50_000);
    let reader = vault.fresh_reader();
    reader.sync().unwrap();
    assert_restores(&reader, &healed.snapshot, &streams);
}

/// Loses a pack at the moment when the second snapshot is there.
struct Vanishing {
    inner: MemoryRemote,
    pack: PackId,
}

impl Remote for Vanishing {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn create_folders(&self) -> varu::remote::Result<()> {
        self.inner.create_folders()
    }

    fn begin(&self) -> varu::remote::Result<Box<dyn varu::remote::Upload>> {
        self.inner.begin()
    }

    fn get(&self, name: &varu::remote::ObjectName, limit: u64) -> varu::remote::Result<Vec<u8>> {
        self.inner.get(name, limit)
    }

    fn get_range(&self, name: &varu::remote::ObjectName, offset: u64, buffer: &mut [u8]) -> varu::remote::Result<()> {
        self.inner.get_range(name, offset, buffer)
    }

    fn stat(&self, name: &varu::remote::ObjectName) -> varu::remote::Result<Option<u64>> {
        self.inner.stat(name)
    }

    fn list(&self, folder: Folder) -> varu::remote::Result<(Vec<varu::remote::Listed>, u64)> {
        self.inner.list(folder)
    }

    fn flush(&self, folder: Folder) -> varu::remote::Result<bool> {
        if folder == Folder::Snapshots {
            self.inner.lose(&pack_name(&self.pack));
        }
        self.inner.flush(folder)
    }

    fn delete(&self, name: &varu::remote::ObjectName) -> varu::remote::Result<()> {
        self.inner.delete(name)
    }

    fn can_delete(&self) -> varu::remote::Result<bool> {
        self.inner.can_delete()
    }

    fn free_space(&self) -> varu::remote::Result<Option<u64>> {
        self.inner.free_space()
    }
}
