//! Prune: what must be restorable restores at every step, what must be gone is gone after the grace, and a prune that dies
//! anywhere loses nothing that stays.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use support::vault::*;
use support::*;
use varu::backup::BackupOptions;
use varu::error::{Class, Error};
use varu::format::layout::parse_snapshot_name;
use varu::id::SnapshotId;
use varu::index::SnapshotRow;
use varu::progress::{Counts, Interrupt};
use varu::prune::{PruneOptions, PruneReport, prune};
use varu::remote::fault::{Fault, Faulty};
use varu::remote::memory::MemoryRemote;
use varu::remote::{ErrorKind, Folder, ObjectName, Remote};
use varu::repository::Repository;
use varu::retention::{Reason, Rules, TagRule, UNNEEDED_FOR};

const DAY: Duration = Duration::from_secs(86_400);

fn rules(keep: u32) -> Rules {
    let tags = BTreeMap::from([("pre-deploy".to_owned(), TagRule::Newest(2))]);
    Rules { keep: keep * DAY, tags, ..Rules::default() }
}

fn run(repository: &Arc<Repository>, rules: &Rules, dry_run: bool, clock: &TestClock) -> Result<PruneReport, Error> {
    let rules = |_: &str| rules.clone();
    let options = PruneOptions { rules: &rules, grace: DAY, dry_run };
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

    /// All that is there restores, and is whole.
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
    // A run that was cut before its snapshot.
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
    // What came before the good chains goes, suspect or not.
    assert_eq!(weeks.prune(8).marked.len(), 30);
    weeks.clock.advance(DAY);
    assert_eq!(weeks.prune(8).deleted.len(), 30);
    assert_eq!(there(&weeks.vault.memory), weeks.rows[30..].iter().map(|(row, _)| row.id).collect());
    weeks.all_restores();
}
