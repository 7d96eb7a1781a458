//! Races: backup, prune, restore, copy, `host accept` and `host prune` at the same time on one small repository, step by
//! step, in orders that a chooser makes. Backups reported good are restorable to the byte, kept snapshots stay, and
//! every failure is a clear refusal.
//!
//! Of two operations the orders with at most two changes of turn before one of them ends are run: all where there are at
//! most 3,000 with VARU_TEST_LONG=1, else as many of them, spread evenly; 40 by default. And of up to five operations
//! random ones, with clocks that jump between two steps: 300 by default, 10,000 with VARU_TEST_LONG=1.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::schedule::{Actor, Chooser, Gate, HostGate, planned, run};
use support::vault::*;
use support::*;
use tempfile::TempDir;
use varu::backup::BackupOptions;
use varu::class::{Class, Classified};
use varu::copy::copy;
use varu::error::Error;
use varu::host::accept::accept_account;
use varu::host::policy::{HostPolicy, Rule};
use varu::host::prune as host_prune;
use varu::host::{Places, REPOSITORY};
use varu::id::SnapshotId;
use varu::index::SnapshotRow;
use varu::progress::{Counts, Interrupt};
use varu::prune::{PruneOptions, prune};
use varu::remote::fault::{Fault, Faulty};
use varu::remote::local::LocalRemote;
use varu::remote::memory::MemoryRemote;
use varu::remote::{Folder, Remote};
use varu::repository::{Lock, Repository};
use varu::retention::Rules;
use varu::time::{Clock, Timestamp};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const KEEP: Duration = Duration::from_secs(2 * 24 * 3600);
const GRACE: Duration = Duration::from_secs(24 * 3600);
const ACCOUNT: &str = "vm1";

/// A day's content. A day's data may return on another day.
fn content(day: u64) -> Streams {
    let rows = table(150, |row| if u64::from(row) % 10 == day % 10 { day as u32 } else { 0 });
    BTreeMap::from([("orders".to_owned(), rows), ("blob".to_owned(), noise(30_000, day))])
}

fn options(set: &str) -> BackupOptions {
    BackupOptions { full_every: 2, base_cache_max: 0, ..BackupOptions { set: set.to_owned(), ..support::options() } }
}

/// A clock that is off by so many seconds.
struct Off<'a>(&'a TestClock, i64);

impl Clock for Off<'_> {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.now().nanos() + self.1 * 1_000_000_000)
    }
}

/// The state before a race. Each race has a copy of it.
struct Before {
    vault: Vault,
    /// The machine's state when it had made its first two snapshots.
    old_state: TempDir,
    /// A second place, which a prune of its own has marked things at, and the state of that prune.
    second: Option<(MemoryRemote, TempDir)>,
    /// The repository's folder on a backup host; None if it is in memory, on an account that can delete.
    host: Option<TempDir>,
    rows: Vec<(SnapshotRow, Streams)>,
    now: i64,
}

impl Before {
    /// An account that can delete. The first chain is marked and due, and so are packs of an interrupted upload.
    fn ordinary() -> Self {
        let mut before = Self::four_days();
        before.mark(&before.vault.writer());
        before.now = MONDAY + 4 * DAY + 2 * HOUR;
        before
    }

    /// A second place, where the first chain is marked and due, and a first place with a snapshot that shares packs of
    /// that chain.
    fn copied() -> Self {
        let mut before = Self::four_days();
        let (second, second_state) = (before.vault.memory.fork(), state());
        copy_state(before.vault.state.path(), second_state.path());
        before.mark(&before.vault.owner.writer(Arc::new(second.clone()), second_state.path()));
        before.second = Some((second, second_state));
        before.back_up(1, 4);
        let (chain, last) = (&before.rows[1].0.header, &before.rows[4].0.header);
        assert!(last.packs.iter().any(|pack| chain.packs.contains(pack)) && last.chain != chain.chain);
        before.now = MONDAY + 4 * DAY + 2 * HOUR;
        before
    }

    fn four_days() -> Self {
        let mut before = Self::empty(Vault::new(), None);
        (0..2).for_each(|day| before.back_up(day, day as i64));
        copy_state(before.vault.state.path(), before.old_state.path());
        before.cut_upload(7, 2);
        (2..4).for_each(|day| before.back_up(day, day as i64));
        before
    }

    /// A prune that marks the first chain.
    fn mark(&self, writer: &Arc<Repository>) {
        let rules = |_: &str| Rules { keep: KEEP, ..Rules::default() };
        let options =
            PruneOptions { rules: &rules, grace: GRACE, dry_run: false, now: false, dropped: BTreeSet::new() };
        let clock = TestClock::at(MONDAY + 3 * DAY + HOUR);
        let pruned =
            prune(std::slice::from_ref(writer), &options, &clock, &Counts::default(), &Interrupt::default()).unwrap();
        assert_eq!(pruned.marked.len(), 2);
    }

    /// An append-only account on a backup host. The first chains and the packs of an interrupted upload may be deleted.
    fn append_only() -> Self {
        let base = state();
        let repo = base.path().join("srv").join(ACCOUNT).join(REPOSITORY);
        let remote: Arc<dyn Remote> = Arc::new(LocalRemote::create(&repo).unwrap());
        fs::create_dir_all(base.path().join("state").join(ACCOUNT)).unwrap();
        prepare(base.path());
        let mut vault = Vault::new();
        vault.owner = Owner::create(&*remote);
        vault.remote = remote;
        let mut before = Self::empty(vault, Some(base));
        before.back_up(0, 0);
        before.back_up(1, 1);
        copy_state(before.vault.state.path(), before.old_state.path());
        before.cut_upload(7, 1);
        before.accept(1);
        before.back_up(8, 8);
        before.accept(8);
        before.back_up(15, 15);
        before.accept(15);
        before.back_up(16, 16);
        before.now = MONDAY + 16 * DAY + 2 * HOUR;
        before
    }

    fn empty(vault: Vault, host: Option<TempDir>) -> Self {
        Self { vault, old_state: state(), second: None, host, rows: Vec::new(), now: MONDAY }
    }

    fn back_up(&mut self, content_of: u64, day: i64) {
        let streams = content(content_of);
        let clock = TestClock::at(MONDAY + day * DAY);
        let report = back_up_with(&self.vault.writer(), &streams, &options("shop"), &clock).unwrap();
        self.rows.push((report.snapshot, streams));
    }

    /// An upload that is interrupted before its snapshot.
    fn cut_upload(&self, content_of: u64, day: i64) {
        let memory = Arc::new(Faulty::new(Arc::clone(&self.vault.remote)));
        let clock = TestClock::at(MONDAY + day * DAY + HOUR);
        let packs = || self.vault.remote.list(Folder::Packs).unwrap().0.len();
        let before = packs();
        for n in 1.. {
            memory.revive();
            memory.die_at(memory.operations() + n, Fault::LoseAnswer);
            let writer = self.vault.owner.writer(memory.clone(), self.vault.state.path());
            back_up_with(&writer, &content(content_of), &options("shop"), &clock).unwrap_err();
            if packs() > before {
                return;
            }
        }
    }

    fn accept(&self, day: i64) {
        let places = places(self.host.as_ref().unwrap().path());
        let steps = Free;
        let now = Timestamp::from_seconds(MONDAY + day * DAY + 2 * HOUR);
        let report = accept_account(&places, ACCOUNT, now, &Counts::default(), &steps);
        assert!(report.failure.is_none() && report.damage.is_empty(), "{report:?}");
    }
}

/// Asks nobody.
struct Free;

impl varu::host::checkpoints::Checkpoints for Free {
    fn before(&self, _: &'static str) -> std::io::Result<()> {
        Ok(())
    }
}

fn places(base: &Path) -> Places {
    Places { root: base.join("srv"), state: base.join("state") }
}

/// Gives the folders of an account the modes that `host prepare` gives them.
fn prepare(base: &Path) {
    let chroot = base.join("srv").join(ACCOUNT);
    let repo = chroot.join(REPOSITORY);
    for folder in Folder::ALL {
        fs::set_permissions(repo.join(folder.name()), Permissions::from_mode(0o1770)).unwrap();
    }
    for folder in [&chroot, &repo] {
        fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    }
    let staging = chroot.join(".accept");
    if staging.exists() {
        fs::set_permissions(staging, Permissions::from_mode(0o700)).unwrap();
    }
}

/// Something that happens beside others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// A backup of that day's content.
    Backup(u64),
    /// A backup by a machine whose state was rolled back to that after its second snapshot.
    SetBack(u64),
    Prune,
    /// A prune on another machine, which has no lock in common with the first.
    PruneElsewhere,
    /// A restore of the snapshot with that number.
    Restore(usize),
    /// A copy to the second place.
    Copy,
    /// A prune at the second place.
    PruneSecond,
    Accept,
    HostPrune,
}

/// One race, on a copy of the initial state.
struct Race<'a> {
    before: &'a Before,
    remote: Arc<dyn Remote>,
    second: MemoryRemote,
    host: Option<TempDir>,
    state: TempDir,
    other_state: TempDir,
    old_state: TempDir,
    second_state: TempDir,
    clock: Arc<TestClock>,
    /// The error of the machine's clock.
    off: i64,
    backs_up: bool,
    good: Mutex<Vec<(SnapshotRow, Streams)>>,
    /// Objects that a copy found damaged.
    damaged: Mutex<Vec<String>>,
    /// How often a backup reported that its snapshot may be incomplete.
    unwhole: AtomicUsize,
}

impl<'a> Race<'a> {
    fn new(before: &'a Before, off: i64, what: &[What]) -> Self {
        let host = before.host.as_ref().map(|base| {
            let copied = state();
            copy_state(base.path(), copied.path());
            prepare(copied.path());
            copied
        });
        let remote: Arc<dyn Remote> = match &host {
            Some(base) => Arc::new(LocalRemote::open(base.path().join("srv").join(ACCOUNT).join(REPOSITORY)).unwrap()),
            None => Arc::new(before.vault.memory.fork()),
        };
        let race = Self {
            before,
            remote,
            second: before.second.as_ref().map_or_else(MemoryRemote::new, |(second, _)| second.fork()),
            host,
            state: state(),
            other_state: state(),
            old_state: state(),
            second_state: state(),
            clock: Arc::new(TestClock::at(before.now)),
            off,
            backs_up: what.iter().any(|what| matches!(what, What::Backup(_) | What::SetBack(_))),
            good: Mutex::default(),
            damaged: Mutex::default(),
            unwhole: AtomicUsize::new(0),
        };
        copy_state(before.vault.state.path(), race.state.path());
        copy_state(before.vault.state.path(), race.other_state.path());
        copy_state(before.old_state.path(), race.old_state.path());
        if let Some((_, second_state)) = &before.second {
            copy_state(second_state.path(), race.second_state.path());
        }
        race
    }

    fn actor<'s>(&'s self, what: What) -> Actor<'s> {
        Box::new(move |gate| {
            let done = match what {
                What::Backup(day) => self.back_up(gate, self.state.path(), day),
                What::SetBack(day) => self.back_up(gate, self.old_state.path(), day),
                What::Prune => self.prune(gate, self.remote.clone(), self.state.path()),
                What::PruneElsewhere => self.prune(gate, self.remote.clone(), self.other_state.path()),
                What::PruneSecond => self.prune(gate, Arc::new(self.second.clone()), self.second_state.path()),
                What::Restore(number) => self.restore(gate, number),
                What::Copy => self.copy(gate),
                What::Accept => self.accept(gate),
                What::HostPrune => self.host_prune(gate),
            };
            if let Err(error) = done {
                self.assert_refusal(what, &error);
            }
        })
    }

    /// Which errors are a clear refusal.
    fn assert_refusal(&self, what: What, error: &Error) {
        let text = error.to_string();
        let locked = error.class() == Class::Refused && text.contains("still works on this repository");
        // A backup that relied on deleted packs reports it, and the next one repairs it.
        let gone = matches!(what, What::Backup(_) | What::SetBack(_)) && text.contains("next backup");
        // Two with state folders of their own that overlap: one at least says so.
        let beside = matches!(what, What::Backup(_) | What::SetBack(_)) && text.contains("beside this one");
        assert!(locked || gone || beside, "{what:?}: {text}");
        self.unwhole.fetch_add(usize::from(gone), Ordering::Relaxed);
    }

    fn back_up(&self, gate: &Gate, state: &Path, day: u64) -> Result<(), Error> {
        let remote = gate.remote(self.remote.clone(), self.host.is_some());
        let (writer, streams) = (self.before.vault.owner.writer(remote, state), content(day));
        let report = back_up_with(&writer, &streams, &options("shop"), &Off(&self.clock, self.off))?;
        self.good.lock().unwrap().push((report.snapshot, streams));
        Ok(())
    }

    fn prune(&self, gate: &Gate, remote: Arc<dyn Remote>, state: &Path) -> Result<(), Error> {
        // Who has the lock first is a matter of the order, too.
        gate.step(|| ());
        let writer = self.before.vault.owner.writer(gate.remote(remote, self.host.is_some()), state);
        let (counts, interrupt) = (Counts::default(), Interrupt::default());
        let _lock = Lock::take(writer.folder(), "prune", Duration::ZERO, &counts, &interrupt)?;
        let rules = |_: &str| Rules { keep: KEEP, ..Rules::default() };
        let options =
            PruneOptions { rules: &rules, grace: GRACE, dry_run: false, now: false, dropped: BTreeSet::new() };
        prune(&[writer], &options, &Off(&self.clock, self.off), &counts, &interrupt).map(drop)
    }

    fn restore(&self, gate: &Gate, number: usize) -> Result<(), Error> {
        let state = state();
        let remote = gate.remote(self.remote.clone(), true);
        let reader = self.before.vault.owner.reader(remote, state.path())?;
        reader.sync()?;
        let (row, streams) = &self.before.rows[number];
        let back = bring_back(&reader, row);
        let stays = self.must_stay().contains(&row.id);
        match back {
            Ok((back, report)) if report.damaged.is_empty() => assert!(back == *streams, "it came back otherwise"),
            Ok((_, report)) => assert!(!stays, "{:?}", report.damaged),
            Err(error) => assert!(!stays && error.class() == Class::Damaged, "{error}"),
        }
        Ok(())
    }

    fn copy(&self, gate: &Gate) -> Result<(), Error> {
        let from = gate.remote(self.remote.clone(), true);
        let to = gate.remote(Arc::new(self.second.clone()), false);
        let report = copy(&*from, &*to, false, &Counts::default(), &Interrupt::default())?;
        self.damaged.lock().unwrap().extend(report.damaged);
        Ok(())
    }

    fn lock(&self, what: &str) -> Result<(Lock, Places), Error> {
        let places = places(self.host.as_ref().unwrap().path());
        let folder = places.ledger(ACCOUNT);
        let lock = Lock::take(&folder, what, Duration::ZERO, &Counts::default(), &Interrupt::default())?;
        Ok((lock, places))
    }

    fn accept(&self, gate: &Gate) -> Result<(), Error> {
        let steps = HostGate::begin(gate);
        let (_lock, places) = self.lock("host accept")?;
        let report = accept_account(&places, ACCOUNT, self.clock.now(), &Counts::default(), &steps);
        assert!(report.warnings.is_empty(), "{report:?}");
        report.failure.map_or(Ok(()), Err)
    }

    fn host_prune(&self, gate: &Gate) -> Result<(), Error> {
        let steps = HostGate::begin(gate);
        let (_lock, places) = self.lock("host prune")?;
        let all = Rule { keep: Some(KEEP), ..Rule::default() };
        let policy = HostPolicy { all, ..HostPolicy::default() };
        let options = host_prune::HostPruneOptions { places, accounts: Vec::new(), wait: KEEP, policy, dry_run: false };
        let mut report = host_prune::HostPruneReport::default();
        host_prune::prune_account(&options, ACCOUNT, self.clock.now(), &Counts::default(), &steps, &mut report)
    }

    /// Whether a chain that was made before may have grown old, with a newer one beside it.
    fn is_later(&self) -> bool {
        self.backs_up && self.clock.now() >= Timestamp::from_seconds(self.before.now + DAY)
    }

    /// The earlier snapshots that no prune may delete: the newest chain, and young ones.
    fn must_stay(&self) -> BTreeSet<SnapshotId> {
        let newest = self.before.rows.last().map(|(row, _)| row.header.chain);
        let stays = |row: &SnapshotRow| {
            let is_newest = Some(row.header.chain) == newest && !self.is_later();
            is_newest || row.header.data_time.after(KEEP) > self.clock.now()
        };
        self.before.rows.iter().filter(|(row, _)| stays(row)).map(|(row, _)| row.id).collect()
    }

    /// Kept snapshots are restorable on a fresh machine; the machine's next backup continues, and so does a prune.
    fn check(&self, what: &str) {
        let fresh = state();
        let owner = &self.before.vault.owner;
        let reader = owner.reader(self.remote.clone(), fresh.path()).unwrap();
        reader.sync().unwrap();
        let stays = self.must_stay();
        let stay = self.before.rows.iter().filter(|(row, _)| stays.contains(&row.id));
        let mut good = self.good.lock().unwrap().clone();
        good.sort_by_key(|(row, _)| row.header.sequence);
        if self.is_later() {
            // Of several that were made with days between them the newest is sure to stay.
            good.drain(..good.len().saturating_sub(1));
        }
        for (row, streams) in stay.chain(&good) {
            match bring_back(&reader, row) {
                Ok((back, report)) if report.damaged.is_empty() && back == *streams => {}
                Ok((_, report)) => panic!("{what}: {} doesn't restore: {:?}", row.id, report.damaged),
                Err(error) => panic!("{what}: {} doesn't restore: {error}", row.id),
            }
        }
        let damaged = self.damaged.lock().unwrap().clone();
        let unwhole = self.unwhole.load(Ordering::Relaxed);
        assert!(damaged.is_empty() || unwhole > 0, "{what}: a copy says {damaged:?}, and no backup did");
        self.check_second(what, &good);
    }

    /// Snapshots at the second location are restorable there.
    fn check_second(&self, what: &str, good: &[(SnapshotRow, Streams)]) {
        if self.second.content(Folder::Snapshots).is_empty() {
            return;
        }
        // After a prune that has performed its pending deletes, the next copy has everything.
        if self.before.second.is_some() {
            run(vec![self.actor(What::PruneSecond)], planned(Vec::new()));
            run(vec![self.actor(What::Copy)], planned(Vec::new()));
        }
        let fresh = state();
        let reader = self.before.vault.owner.reader(Arc::new(self.second.clone()), fresh.path()).unwrap();
        reader.sync().unwrap();
        let rows = reader.index().snapshots().unwrap();
        if self.before.second.is_some() {
            let newest = self.before.rows.last().unwrap().0.id;
            assert!(rows.iter().any(|row| row.id == newest), "{what}: the newest isn't at the second place");
        }
        let all: Vec<_> = self.before.rows.iter().cloned().chain(good.iter().cloned()).collect();
        for (row, streams) in all.iter().filter(|(row, _)| rows.iter().any(|there| there.id == row.id)) {
            match bring_back(&reader, row) {
                Ok((back, report)) if report.damaged.is_empty() && back == *streams => {}
                Ok((_, report)) => panic!("{what}: {} at the second place: {:?}", row.id, report.damaged),
                Err(error) => panic!("{what}: {} at the second place: {error}", row.id),
            }
        }
    }
}

fn race(
    before: &Before,
    off: i64,
    what: &[What],
    chooser: impl FnOnce(Arc<TestClock>) -> Chooser,
    name: &str,
) -> Vec<u64> {
    let race = Race::new(before, off, what);
    let actors = what.iter().map(|&what| race.actor(what)).collect();
    let steps = run(actors, chooser(race.clock.clone()));
    race.check(name);
    steps
}

/// All orders of two actors with at most two changes of turn: one makes `i` steps, the other `j`, then the first
/// continues to its end, and the other to its. At most `most` of them, spread evenly. How many were run, and how many
/// there are.
fn pair(before: &Before, off: i64, what: [What; 2], most: usize) -> (usize, usize) {
    let alone = race(before, off, &what, |_| planned(Vec::new()), &format!("{what:?} one after the other"));
    let mut plans = Vec::new();
    for first in 0..2 {
        let (a, b) = (alone[first] + 2, alone[1 - first] + 2);
        plans.extend((0..=a).flat_map(|i| (1..=b).map(move |j| vec![(first, i), (1 - first, j), (first, u64::MAX)])));
    }
    let (all, count) = (plans.len(), plans.len().min(most));
    for number in 0..count {
        let plan = plans[number * all / count + (all / count) * (number % 7) / 8].clone();
        let name = format!("{what:?}, off by {off} s, {plan:?}");
        race(before, off, &what, |_| planned(plan), &name);
    }
    (count, all)
}

fn pairs(before: &Before, pairs: &[(i64, [What; 2])]) {
    let most = match std::env::var("VARU_RACES_ORDERS") {
        Ok(most) => most.parse().unwrap(),
        Err(_) if long() => 3000,
        Err(_) => 40,
    };
    // Two at a time: each waits for its own steps most of the time.
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((off, what)) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begun = std::time::Instant::now();
                    let (run, all) = pair(before, *off, *what, most);
                    let seconds = begun.elapsed().as_secs_f64();
                    eprintln!("{what:?}, off by {off} s: {run} of {all} orders in {seconds:.1} s");
                }
            });
        }
    });
}

#[test]
fn pairs_on_an_account_that_can_delete() {
    use What::*;
    let all = [
        [Backup(9), Prune],
        [Backup(1), PruneElsewhere],
        [Backup(7), PruneElsewhere],
        [SetBack(1), PruneElsewhere],
        [Backup(9), Restore(3)],
        [PruneElsewhere, Restore(2)],
        [PruneElsewhere, Restore(0)],
        [Prune, PruneElsewhere],
        [Copy, PruneElsewhere],
        [Backup(1), Copy],
    ];
    pairs(&Before::ordinary(), &all.map(|what| (0, what)));
}

#[test]
fn pairs_with_a_second_place() {
    use What::*;
    pairs(&Before::copied(), &[[Copy, PruneSecond], [Backup(9), Copy]].map(|what| (0, what)));
}

#[test]
fn pairs_on_a_backup_host() {
    use What::*;
    let all = [
        (0, [Backup(9), Accept]),
        (0, [Backup(1), HostPrune]),
        (-10 * DAY, [Backup(1), HostPrune]),
        (-10 * DAY, [Backup(7), HostPrune]),
        (0, [SetBack(1), HostPrune]),
        (0, [HostPrune, Restore(3)]),
        (0, [Accept, Restore(4)]),
        (0, [HostPrune, Restore(0)]),
        (0, [Accept, HostPrune]),
        (0, [Copy, Accept]),
        (0, [Copy, HostPrune]),
        (0, [Prune, HostPrune]),
    ];
    pairs(&Before::append_only(), &all);
}

/// A machine is suspended after each of its steps in turn: `hours` pass, others do their work one after the other, with
/// the same time between them, and then it continues. `slow` hours pass with each step of it. It ends well, each time.
fn suspended(before: &Before, backup: What, others: &[What], hours: i64, slow: i64) {
    for n in 0.. {
        let what: Vec<What> = [&[backup], others].concat();
        let race = Race::new(before, 0, &what);
        let (clock, mut left, mut alive) = (race.clock.clone(), n, what.len() + 1);
        let chooser: Chooser = Box::new(move |live, _| {
            if left > 0 && live.contains(&0) {
                left -= 1;
                clock.advance_hours(slow);
                return 0;
            }
            let count = live.len() + usize::from(!live.contains(&0));
            if count < alive {
                alive = count;
                clock.advance_hours(hours);
            }
            live.iter().copied().find(|&who| who != 0).unwrap_or(0)
        });
        let steps = run(what.iter().map(|&what| race.actor(what)).collect(), chooser);
        race.check(&format!("{what:?}, suspended after step {n}"));
        assert_eq!(race.good.lock().unwrap().len(), 1, "{what:?}, suspended after step {n}");
        if n > steps[0] {
            assert!(n > 5, "{what:?} has only {n} steps");
            return;
        }
    }
}

#[test]
fn a_machine_that_is_suspended_for_three_days_loses_nothing() {
    use What::*;
    let (ordinary, append_only) = (Before::ordinary(), Before::append_only());
    for backup in [Backup(7), SetBack(9)] {
        suspended(&ordinary, backup, &[PruneElsewhere, PruneElsewhere], 24, 0);
        suspended(&append_only, backup, &[HostPrune, Accept, HostPrune], 18, 0);
    }
}

#[test]
fn a_first_upload_that_takes_longer_than_the_grace_loses_nothing() {
    let fresh = Before::empty(Vault::new(), None);
    suspended(&fresh, What::Backup(9), &[What::PruneElsewhere, What::PruneElsewhere], 30, 5);
}

/// Two to five of them, in a random order, with clocks that jump between two steps.
fn random(before: &Before, seed: u64, kinds: &[What]) {
    let mut random = Random(seed);
    let count = 2 + random.below(4);
    // A machine that was set back doesn't run beside itself.
    let set_back = random.below(3) == 0;
    let what: Vec<What> = (0..count)
        .map(|_| match kinds[random.below(kinds.len())] {
            What::Backup(_) if set_back => What::SetBack([1, 7, 9, 10][random.below(4)]),
            What::Backup(_) => What::Backup([1, 7, 9, 10][random.below(4)]),
            What::Restore(_) => What::Restore(random.below(before.rows.len())),
            other => other,
        })
        .collect();
    let off = [0, 0, 0, -10 * DAY][random.below(4)];
    let jumps = random.below(3) == 0;
    let name = format!("seed {seed}: {what:?}, off by {off} s, jumps {jumps}");
    let stays = 1 + random.below(8);
    let chooser = move |clock: Arc<TestClock>| -> Chooser {
        Box::new(move |live, last| {
            if jumps && random.below(25) == 0 {
                clock.advance_hours([1, 25, 72, 8 * 24, 15 * 24][random.below(5)]);
            }
            match last.filter(|last| live.contains(last)) {
                Some(last) if random.below(stays) > 0 => last,
                _ => live[random.below(live.len())],
            }
        })
    };
    race(before, off, &what, chooser, &name);
}

#[test]
fn random_orders() {
    use What::*;
    let count: u64 = match std::env::var("VARU_RACES") {
        Ok(count) => count.parse().unwrap(),
        Err(_) if long() => 10_000,
        Err(_) => 300,
    };
    let first: u64 = std::env::var("VARU_RACES_FROM").map_or(1, |first| first.parse().unwrap());
    let worlds: [(Before, &[What]); 2] = [
        (Before::ordinary(), &[Backup(0), Backup(0), Prune, PruneElsewhere, PruneElsewhere, Restore(0), Copy]),
        (Before::append_only(), &[Backup(0), Backup(0), Accept, Accept, HostPrune, HostPrune, Restore(0), Prune, Copy]),
    ];
    let next = AtomicU64::new(first);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let (before, kinds) = &worlds[(seed % 2) as usize];
                    random(before, seed, kinds);
                }
            });
        }
    });
}
