//! Prune: needed snapshots are restorable at every step, unneeded ones are gone after the grace time, and a prune that
//! dies anywhere loses nothing that stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use support::vault::*;
use support::*;
use varu::backup::BackupOptions;
use varu::class::{Class, Classified};
use varu::error::Error;
use varu::format::layout::parse_snapshot_name;
use varu::id::SnapshotId;
use varu::index::SnapshotRow;
use varu::progress::{Counts, Interrupt};
use varu::prune::{PruneOptions, PruneReport, prune};
use varu::remote::fault::{Fault, Faulty};
use varu::remote::memory::MemoryRemote;
use varu::remote::{ErrorKind, Folder, Listed, ObjectName, Remote, Upload};
use varu::repository::Repository;
use varu::retention::{Reason, Rules, TagRule, UNNEEDED_FOR};
use varu::time::Clock;
use varu::warning::{Warning, WarningKind};

const DAY: Duration = Duration::from_secs(86_400);

fn rules(keep: u32) -> Rules {
    let tags = BTreeMap::from([("pre-deploy".to_owned(), TagRule::Newest(2))]);
    Rules { keep: keep * DAY, tags, ..Rules::default() }
}

fn run(repository: &Arc<Repository>, rules: &Rules, dry_run: bool, clock: &TestClock) -> Result<PruneReport, Error> {
    let rules = |_: &str| rules.clone();
    let options = PruneOptions { rules: &rules, grace: DAY, dry_run, now: false, dropped: BTreeSet::new() };
    prune(std::slice::from_ref(repository), &options, clock, &Counts::default(), &Interrupt::default())
}

fn content(set: &str, day: u64) -> Streams {
    let salt = set.len() as u32;
    let rows = table(400, |row| salt + if u64::from(row) % 40 == day % 40 { day as u32 } else { 0 });
    BTreeMap::from([("orders".to_owned(), rows), (format!("log {}", day % 3), noise(3000, day))])
}

fn there(memory: &MemoryRemote) -> BTreeSet<SnapshotId> {
    let named = memory.content(Folder::Snapshots).into_iter();
    let named = named.filter_map(|(name, _)| ObjectName::new(Folder::Snapshots, name));
    named.filter_map(|name| parse_snapshot_name(&name)).map(|name| name.id).collect()
}

/// A place whose snapshots of seven weeks were made a day apart, and never pruned.
struct Weeks {
    vault: Vault,
    clock: TestClock,
    rows: Vec<(SnapshotRow, Streams)>,
}

impl Weeks {
    fn new(days: u64) -> Self {
        let mut weeks = Self { vault: Vault::new(), clock: TestClock::at(MONDAY), rows: Vec::new() };
        (0..days).for_each(|day| weeks.back_up("shop", day, &[]));
        weeks
    }

    fn back_up(&mut self, set: &str, day: u64, tags: &[&str]) {
        let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
        let options = BackupOptions { tags, ..BackupOptions::new(set) };
        let streams = content(set, day);
        let report = back_up_with(&self.vault.writer(), &streams, &options, &self.clock).unwrap();
        self.rows.push((report.snapshot, streams));
        self.clock.advance(DAY);
    }

    fn prune(&self, keep: u32) -> PruneReport {
        run(&self.vault.writer(), &rules(keep), false, &self.clock).unwrap()
    }

    /// Everything present is restorable and intact.
    fn all_restores(&self) {
        let there = there(&self.vault.memory);
        let left = self.rows.iter().filter(|(row, _)| there.contains(&row.id));
        assert_all_restore(&self.vault, &left.map(|(row, streams)| (row.id, streams.clone())).collect());
    }
}

#[test]
fn a_chain_is_marked_then_deleted_with_its_packs() {
    let weeks = Weeks::new(21);
    let memory = &weeks.vault.memory;
    let before = memory.content(Folder::Packs).len();

    let dry = run(&weeks.vault.writer(), &rules(8), true, &weeks.clock).unwrap();
    assert_eq!(dry.chains.iter().filter(|chain| chain.verdict.goes()).count(), 1);
    assert!(dry.bytes_marked > 0 && dry.marked.is_empty() && memory.content(Folder::Marks).is_empty());

    let first = weeks.prune(8);
    assert_eq!((first.marked.len(), first.deleted.len()), (7, 0));
    assert_eq!(memory.content(Folder::Marks).len(), 7);
    assert_eq!(weeks.prune(8).marked.len(), 0, "a mark is set once");
    assert_eq!(there(memory).len(), 21);

    weeks.clock.advance(DAY);
    let second = weeks.prune(8);
    assert_eq!(second.deleted.iter().collect::<BTreeSet<_>>(), first.marked.iter().collect());
    // The newest of the chain went first.
    assert_eq!(second.deleted[0], weeks.rows[6].0.id);
    assert_eq!(second.bytes_deleted, dry.bytes_marked);
    assert_eq!(memory.content(Folder::Packs).len() as u64, before as u64 - second.packs_deleted);
    assert!(memory.content(Folder::Marks).is_empty());
    assert_eq!(weeks.vault.writer().check_index().unwrap(), Vec::<String>::new());
    weeks.all_restores();
}

#[test]
fn what_a_rule_keeps_again_loses_its_mark() {
    let weeks = Weeks::new(21);
    let marked = weeks.prune(8).marked;
    let writer = weeks.vault.writer();
    assert!(writer.unmark(&marked[0]).unwrap() && !writer.unmark(&marked[0]).unwrap());
    assert_eq!(weeks.vault.memory.content(Folder::Marks).len(), 6);
    weeks.clock.advance(2 * DAY);
    // Due, and kept by now.
    assert!(weeks.prune(28).deleted.is_empty());
    assert!(weeks.vault.memory.content(Folder::Marks).is_empty());
    assert_eq!(there(&weeks.vault.memory).len(), 21);
}

#[test]
fn packs_of_no_snapshot_wait_for_two_weeks() {
    let weeks = Weeks::new(2);
    // A run that was interrupted before its snapshot.
    let lost = weeks.rows[1].0.clone();
    assert!(weeks.vault.memory.lose(&Repository::object_name(&lost)));
    assert_eq!(weeks.vault.writer().rebuild(true).unwrap().hidden, None);
    let before = weeks.vault.memory.content(Folder::Packs).len() as u64;
    let first = weeks.prune(28);
    assert!(first.unneeded.0 > 0 && first.packs_deleted == 0);
    weeks.clock.advance(UNNEEDED_FOR - DAY);
    assert_eq!(weeks.prune(28).packs_deleted, 0);
    weeks.clock.advance(2 * DAY);
    assert_eq!(weeks.prune(28).packs_deleted, first.unneeded.0);
    assert_eq!(weeks.vault.memory.content(Folder::Packs).len() as u64, before - first.unneeded.0);
    assert!(weeks.vault.memory.content(Folder::Marks).is_empty());
}

#[test]
fn an_account_that_cannot_delete_is_told_who_prunes() {
    let weeks = Weeks::new(21);
    weeks.vault.memory.set_append_only(true);
    let report = weeks.prune(8);
    assert!(report.append_only && report.marked.is_empty());
    assert_eq!(report.chains.iter().filter(|chain| chain.verdict.goes()).count(), 1);
    assert!(weeks.vault.memory.content(Folder::Marks).is_empty());
}

#[test]
fn nothing_goes_while_a_snapshot_is_hidden() {
    let weeks = Weeks::new(21);
    weeks.prune(8);
    weeks.clock.advance(DAY);
    assert!(weeks.vault.memory.lose(&Repository::object_name(&weeks.rows[20].0)));
    let error = run(&weeks.vault.writer(), &rules(8), false, &weeks.clock).unwrap_err();
    assert_eq!(error.class(), Class::Damaged);
    assert_eq!(there(&weeks.vault.memory).len(), 20);
}

#[test]
fn marks_that_were_tampered_with_say_nothing() {
    let weeks = Weeks::new(21);
    weeks.prune(8);
    let memory = &weeks.vault.memory;
    let marks = memory.content(Folder::Marks);
    for (name, bytes) in &marks {
        let name = ObjectName::new(Folder::Marks, name.clone()).unwrap();
        assert!(memory.change(&name, |bytes| *bytes.last_mut().unwrap() ^= 1));
        // The mark of one snapshot under the name of another's.
        let other = format!("snapshot-{}-{}", weeks.rows[20].0.id, SnapshotId::of(bytes));
        memory.put(Folder::Marks, other, bytes.clone());
    }
    weeks.clock.advance(2 * DAY);
    let report = weeks.prune(8);
    assert_eq!((report.deleted.len(), report.marked.len()), (0, 7));
    assert!(report.warnings[0].text.contains("14 marks can't be read"), "{:?}", report.warnings);
    weeks.all_restores();
}

#[test]
fn a_snapshot_whose_packs_are_gone_pushes_nothing_out() {
    let weeks = Weeks::new(16);
    // The two newest chains lost a pack each.
    for at in [7, 14] {
        let own = weeks.rows[at].0.header.packs.iter().find(|pack| !weeks.rows[at - 1].0.header.packs.contains(pack));
        assert!(weeks.vault.memory.lose(&varu::format::layout::pack_name(own.unwrap())));
    }
    weeks.clock.advance(5 * DAY);
    let report = weeks.prune(3);
    assert!(report.marked.is_empty(), "{:?}", report.marked);
}

#[test]
fn a_prune_that_dies_anywhere_loses_nothing_and_ends_the_next_time() {
    let weeks = Weeks::new(21);
    weeks.prune(8);
    weeks.clock.advance(2 * DAY);
    let operations = {
        let faulty = Arc::new(Faulty::new(Arc::new(weeks.vault.memory.fork())));
        let state = state();
        copy_state(weeks.vault.state.path(), state.path());
        run(&weeks.vault.owner.writer(faulty.clone(), state.path()), &rules(8), false, &weeks.clock).unwrap();
        faulty.operations()
    };
    let stays = |memory: &MemoryRemote, what: &str| {
        let there = there(memory);
        let reader = weeks.vault.owner.reader(Arc::new(memory.clone()), state().path()).unwrap();
        reader.sync().unwrap();
        for (row, streams) in weeks.rows.iter().skip(7) {
            assert!(there.contains(&row.id), "{what}");
            assert_restores(&reader, row, streams);
        }
    };
    for n in 1..=operations {
        for fault in [Fault::Refuse(ErrorKind::Unreachable), Fault::LoseAnswer] {
            let what = format!("operation {n}, {fault:?}");
            let memory = weeks.vault.memory.fork();
            let faulty = Arc::new(Faulty::new(Arc::new(memory.clone())));
            faulty.die_at(n, fault);
            let state = state();
            copy_state(weeks.vault.state.path(), state.path());
            let dying: Arc<dyn Remote> = faulty;
            let died = run(&weeks.vault.owner.writer(dying, state.path()), &rules(8), false, &weeks.clock);
            assert!(died.is_err() || n == operations, "{what}");
            if n % 4 == 0 {
                stays(&memory, &what);
            }
            let next: Arc<dyn Remote> = Arc::new(memory.clone());
            run(&weeks.vault.owner.writer(next, state.path()), &rules(8), false, &weeks.clock)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(there(&memory).len(), 14, "{what}");
            let needed: BTreeSet<String> = weeks.rows[7..]
                .iter()
                .flat_map(|(row, _)| row.header.packs.iter().map(|pack| format!("{pack}.pack")))
                .collect();
            let packs: BTreeSet<String> = memory.content(Folder::Packs).into_iter().map(|(name, _)| name).collect();
            assert_eq!(packs, needed, "{what}");
            assert!(memory.content(Folder::Marks).is_empty(), "{what}");
        }
    }
}

#[test]
fn the_last_good_chain_stays_however_many_suspect_ones_follow() {
    let mut weeks = Weeks::new(0);
    let back_up = |weeks: &mut Weeks, day: u64, bytes: usize| {
        let streams = BTreeMap::from([("data".to_owned(), noise(bytes, day / 7))]);
        let options = BackupOptions { max_shrink: Some(50), ..BackupOptions::new("shop") };
        let report = back_up_with(&weeks.vault.writer(), &streams, &options, &weeks.clock).unwrap();
        weeks.rows.push((report.snapshot, streams));
        weeks.clock.advance(DAY);
    };
    let suspect = |weeks: &Weeks| weeks.rows.iter().filter(|(row, _)| row.header.suspect).count();
    let whole = 1_500_000;
    (0..7).for_each(|day| back_up(&mut weeks, day, whole));
    (7..28).for_each(|day| back_up(&mut weeks, day, 50_000));
    assert_eq!(suspect(&weeks), 21);
    for _ in 0..2 {
        let report = weeks.prune(8);
        assert!(report.marked.is_empty() && report.chains[0].verdict.reasons.contains(&Reason::Newest), "{report:?}");
        weeks.clock.advance(2 * DAY);
    }
    // A good chain that has lost a pack pushes nothing out either.
    (28..30).for_each(|day| back_up(&mut weeks, day, whole));
    let (last, before) = (&weeks.rows[29].0.header, &weeks.rows[27].0.header);
    let own = last.packs.iter().find(|pack| !before.packs.contains(pack)).unwrap();
    let name = varu::format::layout::pack_name(own);
    let bytes = weeks.vault.memory.get(&name, 1 << 30).unwrap();
    assert!(weeks.vault.memory.lose(&name));
    weeks.clock.advance(20 * DAY);
    assert!(weeks.prune(8).marked.is_empty());
    weeks.vault.memory.put(Folder::Packs, name.name(), bytes);
    (30..40).for_each(|day| back_up(&mut weeks, day, whole));
    assert_eq!(suspect(&weeks), 21);
    // Snapshots before the good chains are deleted, suspect or not.
    assert_eq!(weeks.prune(8).marked.len(), 30);
    weeks.clock.advance(DAY);
    assert_eq!(weeks.prune(8).deleted.len(), 30);
    assert_eq!(there(&weeks.vault.memory), weeks.rows[30..].iter().map(|(row, _)| row.id).collect());
    weeks.all_restores();
}

/// A place that takes no new object: its disk is full.
struct Full(MemoryRemote);

impl Remote for Full {
    fn begin(&self) -> Result<Box<dyn Upload>, varu::remote::Error> {
        Err(varu::remote::Error::new(ErrorKind::NoSpace, "writing", self.place(), "No space left on device"))
    }

    fn place(&self) -> String {
        self.0.place()
    }

    fn create_folders(&self) -> Result<(), varu::remote::Error> {
        self.0.create_folders()
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>, varu::remote::Error> {
        self.0.get(name, limit)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<(), varu::remote::Error> {
        self.0.get_range(name, offset, buffer)
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<u64>, varu::remote::Error> {
        self.0.stat(name)
    }

    fn list(&self, folder: Folder) -> Result<(Vec<Listed>, u64), varu::remote::Error> {
        self.0.list(folder)
    }

    fn flush(&self, folder: Folder) -> Result<bool, varu::remote::Error> {
        self.0.flush(folder)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), varu::remote::Error> {
        self.0.delete(name)
    }

    fn can_delete(&self) -> Result<bool, varu::remote::Error> {
        self.0.can_delete()
    }

    fn free_space(&self) -> Result<Option<u64>, varu::remote::Error> {
        Ok(Some(0))
    }
}

fn run_now(repository: &Arc<Repository>, rules: &Rules, clock: &TestClock) -> Result<PruneReport, Error> {
    let rules = |_: &str| rules.clone();
    let options = PruneOptions { rules: &rules, grace: DAY, dry_run: false, now: true, dropped: BTreeSet::new() };
    prune(std::slice::from_ref(repository), &options, clock, &Counts::default(), &Interrupt::default())
}

#[test]
fn a_full_disk_is_pruned_without_marks_and_by_the_clock() {
    let weeks = Weeks::new(21);
    let memory = &weeks.vault.memory;
    let full = weeks.vault.owner.writer(Arc::new(Full(memory.clone())), weeks.vault.state.path());
    let error = run(&full, &rules(9), false, &weeks.clock).unwrap_err();
    assert!(error.class() == Class::NoSpace && error.to_string().contains("varu prune --now"), "{error}");
    assert_eq!(there(memory).len(), 21);
    let before = memory.content(Folder::Packs).len() as u64;
    let report = run_now(&full, &rules(9), &weeks.clock).unwrap();
    assert_eq!((report.deleted.len(), report.marked.len()), (7, 0));
    assert!(report.packs_deleted > 0 && memory.content(Folder::Packs).len() as u64 == before - report.packs_deleted);
    weeks.all_restores();
    // A full repository takes no new snapshots, so nothing ages at the newest; by the clock it does, and the newest chain stays.
    weeks.clock.advance(60 * DAY);
    assert!(run(&full, &rules(9), true, &weeks.clock).unwrap().chains.iter().all(|chain| !chain.verdict.goes()));
    assert_eq!(run_now(&full, &rules(9), &weeks.clock).unwrap().deleted.len(), 7);
    assert_eq!(there(memory).len(), 7);
    weeks.all_restores();
}

#[test]
fn what_killed_uploads_left_goes_with_the_next_prune_or_backup_and_what_is_under_way_stays() {
    let mut weeks = Weeks::new(1);
    let memory = weeks.vault.memory.clone();
    let pending = || memory.content(Folder::Pending).into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>();
    let mut upload = weeks.vault.remote.begin().unwrap();
    upload.append(b"half of a pack").unwrap();
    let living = pending();
    let words: Vec<String> = living.first().unwrap().split('-').map(ToOwned::to_owned).collect();
    let of = |at: usize, word: &str| {
        let mut words = words.clone();
        words[at] = word.to_owned();
        words.join("-")
    };
    // Of a process that is gone, and of another machine, now and long ago.
    let (dead, elsewhere) = (of(2, "7ffffff0"), of(1, "00000000000000aa"));
    let mut long_ago: Vec<&str> = elsewhere.split('-').collect();
    long_ago[0] = "5f000000";
    let long_ago = long_ago.join("-");
    let put =
        || [&dead, &elsewhere, &long_ago].into_iter().for_each(|name| memory.put(Folder::Pending, name.as_str(), "x"));
    let stay: BTreeSet<String> = living.iter().cloned().chain([elsewhere.clone()]).collect();
    put();
    weeks.prune(8);
    assert_eq!(pending(), stay);
    put();
    weeks.back_up("shop", 1, &[]);
    assert_eq!(pending(), stay);
}

#[test]
fn a_chain_of_a_clock_that_ran_ahead_pins_nothing_and_is_said_at_the_backup() {
    let mut weeks = Weeks::new(10);
    let ahead = TestClock::at(MONDAY + 410 * 86_400);
    let wrong =
        |weeks: &Weeks| back_up_with(&weeks.vault.writer(), &content("shop", 10), &BackupOptions::new("shop"), &ahead);
    let report = wrong(&weeks).unwrap();
    let said = |warnings: &[Warning]| warnings.iter().any(|warning| warning.kind == WarningKind::WrongClock);
    assert!(said(&report.warnings), "{:?}", report.warnings);
    assert!(report.snapshot.header.parent.is_none(), "a full was due by that clock");
    // The clock is right again.
    let (options, streams) = (BackupOptions::new("shop"), content("shop", 10));
    let report = back_up_with(&weeks.vault.writer(), &streams, &options, &weeks.clock).unwrap();
    assert!(said(&report.warnings), "{:?}", report.warnings);
    assert!(report.snapshot.header.parent.is_none() && report.note.unwrap().contains("future"));
    weeks.rows.push((report.snapshot, streams));
    weeks.clock.advance(DAY);
    (11..60).for_each(|day| weeks.back_up("shop", day, &[]));
    weeks.prune(28);
    weeks.clock.advance(DAY);
    weeks.prune(28);
    let left = weeks.vault.writer().index().snapshots().unwrap();
    assert!(left.iter().all(|row| row.header.stored_time <= weeks.clock.now()), "the one from the future is gone");
    assert!(left.len() < 40, "{}", left.len());
    weeks.all_restores();
}

#[test]
fn whoever_takes_a_seen_snapshot_away_is_noticed_by_the_next_backup_but_not_a_hosts_policy() {
    let mut weeks = Weeks::new(50);
    let memory = weeks.vault.memory.clone();
    let delete = |row: &SnapshotRow| weeks.vault.remote.delete(&Repository::object_name(row)).unwrap();
    let next = |weeks: &Weeks, day: u64| {
        let writer = weeks.vault.writer();
        let report = back_up_with(&writer, &content("shop", day), &BackupOptions::new("shop"), &weeks.clock).unwrap();
        weeks.clock.advance(DAY);
        report.warnings.into_iter().filter(|warning| warning.kind == WarningKind::MissingSnapshot).collect::<Vec<_>>()
    };
    // The first chain, which is seven weeks old: as a host's policy does.
    weeks.rows[..7].iter().for_each(|(row, _)| delete(row));
    assert_eq!(next(&weeks, 50), []);
    // One out of a chain, and a chain that is young. A look in between doesn't hide it from the backup.
    for range in [17..18, 35..42] {
        weeks.rows[range.clone()].iter().for_each(|(row, _)| delete(row));
        weeks.vault.writer().sync().unwrap();
        let said = next(&weeks, 51);
        assert!(said.len() == 1 && said[0].text.contains(&weeks.rows[range.start].0.id.to_string()), "{said:?}");
        assert_eq!(next(&weeks, 52), [], "once");
    }
    assert!(there(&memory).len() > 30);
    weeks.rows.clear();
}

#[test]
fn packs_without_any_snapshot_are_not_pruned() {
    let weeks = Weeks::new(8);
    let memory = &weeks.vault.memory;
    weeks.rows.iter().for_each(|(row, _)| weeks.vault.remote.delete(&Repository::object_name(row)).unwrap());
    let packs = memory.content(Folder::Packs).len();
    let state = weeks.vault.empty_state();
    let fresh = weeks.vault.owner.writer(weeks.vault.remote.clone(), &state);
    fresh.rebuild(true).unwrap();
    for _ in 0..3 {
        weeks.clock.advance(30 * DAY);
        let report = run(&fresh, &rules(8), false, &weeks.clock).unwrap();
        assert!(report.warnings.iter().any(|warning| warning.text.contains("no snapshot")), "{report:?}");
        assert_eq!(memory.content(Folder::Packs).len(), packs);
    }
}
