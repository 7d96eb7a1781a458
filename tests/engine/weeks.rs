//! Weeks of a machine's life by a clock that the test sets: a full each Sunday, incrementals between, tags before
//! deployments, re-bases, days without a backup, with an interrupted one, with one that has warnings, with one that is
//! suspect; a prune each day, on the machine or on a backup host. After each day exactly the snapshots of a model exist;
//! they are restorable to the byte; and live and dead bytes are those of the index.
//!
//! Eight weeks with 4 seeds by default; with VARU_TEST_LONG=1 1,000 seeds, and a year with 4.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use support::vault::*;
use support::*;
use tempfile::TempDir;
use varu::backup::{BackupOptions, WantedKind, backup};
use varu::entry::{Entry, StreamName};
use varu::error::Error;
use varu::facts::Facts;
use varu::format::layout::{parse_pack_name, parse_snapshot_name};
use varu::host::accept::accept_account;
use varu::host::checkpoints::Checkpoints;
use varu::host::policy::{HostPolicy, Rule};
use varu::host::{Places, REPOSITORY, prune as host_prune};
use varu::id::{ChainId, PackId, SnapshotId};
use varu::index::SnapshotRow;
use varu::progress::{Counts, Interrupt};
use varu::prune::{PruneOptions, prune};
use varu::remote::fault::{Fault, Faulty};
use varu::remote::local::LocalRemote;
use varu::remote::{ErrorKind, Folder};
use varu::retention::{Rules, TagRule};
use varu::source::{self, Finished, Source};
use varu::time::{Clock, Timestamp};
use varu::warning::Warning;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const KEEP: Duration = Duration::from_secs(28 * 24 * 3600);
const ACCOUNT: &str = "vm1";
const SETS: [&str; 2] = ["shop", "files"];

fn tags() -> BTreeMap<String, TagRule> {
    BTreeMap::from([("pre-deploy".to_owned(), TagRule::Newest(2))])
}

/// Asks nobody.
struct Free;

impl Checkpoints for Free {
    fn before(&self, _: &'static str) -> std::io::Result<()> {
        Ok(())
    }
}

/// Streams with a count of rows, and perhaps one that couldn't be read.
struct Dump {
    inner: MemorySource,
    rows: u32,
    skips: bool,
}

impl Source for Dump {
    fn next(&mut self) -> Result<Option<Entry>, source::Error> {
        if std::mem::take(&mut self.skips) {
            let (name, reason) = (StreamName::new("locked").unwrap(), "it can't be read".to_owned());
            return Err(source::Error::Skipped { name, reason });
        }
        self.inner.next()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, source::Error> {
        self.inner.read(buffer)
    }

    fn end(&mut self) -> Result<Entry, source::Error> {
        self.inner.end()
    }

    fn finish(&mut self) -> Result<Finished, source::Error> {
        let facts = Facts { rows: Some(self.rows as u64), ..Facts::default() };
        Ok(Finished { facts, ..self.inner.finish()? })
    }

    fn warnings(&mut self) -> Vec<Warning> {
        self.inner.warnings()
    }
}

/// A snapshot that was made.
struct Made {
    row: SnapshotRow,
    streams: Streams,
    /// The start of its age: its own time, or the time of its acceptance.
    time: Timestamp,
}

struct Life {
    vault: Vault,
    host: Option<TempDir>,
    random: Random,
    clock: TestClock,
    day: u64,
    made: Vec<Made>,
    /// When chains were marked.
    marked: BTreeMap<ChainId, Timestamp>,
    /// Whether the machine has just come back after more than four weeks of silence: then nothing goes for a week.
    is_back: bool,
    what: String,
}

impl Life {
    fn new(seed: u64) -> Self {
        let (mut vault, mut host) = (Vault::new(), None);
        if seed % 2 == 1 {
            let base = state();
            let repo = base.path().join("srv").join(ACCOUNT).join(REPOSITORY);
            vault.remote = Arc::new(LocalRemote::create(&repo).unwrap());
            vault.owner = Owner::create(&*vault.remote);
            fs::create_dir_all(base.path().join("state").join(ACCOUNT)).unwrap();
            for folder in Folder::ALL {
                fs::set_permissions(repo.join(folder.name()), Permissions::from_mode(0o1770)).unwrap();
            }
            for folder in [repo.parent().unwrap(), &repo] {
                fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
            }
            host = Some(base);
        }
        // From a Sunday at one in the morning on.
        let clock = TestClock::at(MONDAY - 24 * 3600);
        let (made, marked) = (Vec::new(), BTreeMap::new());
        let random = Random(seed);
        Self { vault, host, random, clock, day: 0, made, marked, is_back: false, what: String::new() }
    }

    fn rows(&mut self, suspect: bool) -> u32 {
        if suspect { 1000 } else { 3000 + self.random.below(500) as u32 }
    }

    fn content(&mut self, set: &str) -> Streams {
        let (day, salt) = (self.day, set.len() as u32);
        let rows = table(400, |row| salt + if u64::from(row) % 40 == day % 40 { day as u32 } else { 0 });
        BTreeMap::from([("orders".to_owned(), rows), (format!("log {}", day % 3), noise(3000, self.random.draw()))])
    }

    /// One night's backup of a set, with possible events in between. If it was interrupted, the snapshot that it would
    /// have stored.
    fn back_up(&mut self, set: &str) -> Option<Streams> {
        let fate = self.random.below(20);
        if fate == 0 {
            return None;
        }
        let had_good = self.made.iter().any(|made| made.row.header.set == set && !made.row.header.suspect);
        let (suspect, skips, cut) = (fate == 1 && had_good, fate == 2, fate == 3);
        let wanted = match self.random.below(40) {
            0 => WantedKind::Rebase,
            _ if self.day.is_multiple_of(7) => WantedKind::Full,
            _ => WantedKind::Incremental,
        };
        let tags: Vec<String> = (self.random.below(9) == 0).then(|| "pre-deploy".to_owned()).into_iter().collect();
        let options = BackupOptions { tags, wanted, max_shrink: Some(50), ..BackupOptions::new(set) };
        let streams = self.content(set);
        let faulty = Arc::new(Faulty::new(Arc::clone(&self.vault.remote)));
        if cut {
            let fault = [Fault::Refuse(ErrorKind::Unreachable), Fault::LoseAnswer, Fault::Tear][self.random.below(3)];
            faulty.die_at(1 + self.random.below(30) as u64, fault);
        }
        let writer = self.vault.owner.writer(faulty, self.vault.state.path());
        let mut inner = MemorySource::new(&streams);
        inner.data_time = self.clock.now();
        let mut dump = Dump { inner, rows: self.rows(suspect), skips };
        match backup(&writer, &mut dump, &options, &self.clock, &Counts::default(), &Interrupt::default()) {
            Ok(report) => {
                assert!(!skips || !report.warnings.is_empty(), "{}", self.what);
                assert_eq!(report.snapshot.header.suspect, suspect, "{}", self.what);
                self.keep(report.snapshot, streams);
                None
            }
            Err(error) => {
                assert!(cut, "{}: {error}", self.what);
                Some(streams)
            }
        }
    }

    fn keep(&mut self, row: SnapshotRow, streams: Streams) {
        let time = if self.host.is_some() { self.clock.now() } else { row.header.data_time };
        self.made.push(Made { row, streams, time });
    }

    /// A run that was interrupted at its very end has stored its snapshot; or the host has found it complete in
    /// `pending/`.
    fn find_lost(&mut self, streams: Streams) {
        let known: BTreeSet<SnapshotId> = self.made.iter().map(|made| made.row.id).collect();
        if let Some(id) = self.there().difference(&known).next() {
            let reader = self.vault.fresh_reader();
            reader.sync().unwrap();
            let row = reader.index().snapshots().unwrap().into_iter().find(|row| row.id == *id).unwrap();
            self.keep(row, streams);
        }
    }

    fn there(&self) -> BTreeSet<SnapshotId> {
        let listed = self.vault.remote.list(Folder::Snapshots).unwrap().0;
        listed.iter().filter_map(|listed| parse_snapshot_name(&listed.name)).map(|name| name.id).collect()
    }

    /// The chains that may go, in other words than the program's: the newest of the chain is four weeks older than the newest of
    /// the set, a later chain has a good snapshot that counts, and none of the chain is among the two newest with the tag.
    fn going(&self) -> BTreeSet<ChainId> {
        let there = self.there();
        let mut going = BTreeSet::new();
        if self.is_back {
            return going;
        }
        for set in SETS {
            let of_set: Vec<&Made> =
                self.made.iter().filter(|made| made.row.header.set == set && there.contains(&made.row.id)).collect();
            let Some(newest) = of_set.iter().map(|made| made.time).max() else { continue };
            // On the host only a snapshot that has been there for four weeks itself displaces another, and a day counts
            // once.
            let counts =
                |made: &Made| self.host.is_none() || made.time.after(KEEP) <= newest && !made.row.header.suspect;
            let (mut tagged, mut units) = (BTreeSet::new(), BTreeSet::new());
            for made in of_set.iter().rev().filter(|made| !made.row.header.tags.is_empty()) {
                if counts(made) {
                    let day = made.time.seconds().div_euclid(24 * 3600).unsigned_abs();
                    units.insert(if self.host.is_some() { day } else { made.row.header.sequence });
                }
                if units.len() > 2 {
                    break;
                }
                tagged.insert(made.row.header.chain);
            }
            for made in &of_set {
                let chain = made.row.header.chain;
                let last = of_set.iter().rposition(|other| other.row.header.chain == chain).unwrap();
                let old = of_set[last].time.after(KEEP) <= newest;
                let followed = of_set[last + 1..].iter().any(|other| !other.row.header.suspect && counts(other));
                if old && followed && !tagged.contains(&chain) {
                    going.insert(chain);
                }
            }
        }
        going
    }

    /// Prunes, and compares with the model.
    fn prune(&mut self) {
        let (before, going, now) = (self.there(), self.going(), self.clock.now());
        let gone: BTreeSet<ChainId> = match &self.host {
            Some(_) => going.clone(),
            None => going
                .iter()
                .copied()
                .filter(|chain| self.marked.get(chain).is_some_and(|at| at.after(DAY) <= now))
                .collect(),
        };
        let stays: BTreeSet<SnapshotId> = self
            .made
            .iter()
            .filter(|made| before.contains(&made.row.id) && !gone.contains(&made.row.header.chain))
            .map(|made| made.row.id)
            .collect();
        match &self.host {
            Some(_) => self.prune_on_the_host(),
            None => self.prune_on_the_machine(),
        }
        assert_eq!(self.there(), stays, "{}", self.what);
        self.marked.retain(|chain, _| going.contains(chain) && !gone.contains(chain));
        for chain in going.difference(&gone) {
            self.marked.entry(*chain).or_insert(now);
        }
    }

    fn places(&self) -> Places {
        let base = self.host.as_ref().unwrap().path();
        Places { root: base.join("srv"), state: base.join("state") }
    }

    fn accept(&self) {
        if self.host.is_some() {
            let report = accept_account(&self.places(), ACCOUNT, self.clock.now(), &Counts::default(), &Free);
            assert!(report.failure.is_none() && report.damage.is_empty(), "{}: {report:?}", self.what);
        }
    }

    fn prune_on_the_host(&self) {
        let all = Rule { keep: Some(KEEP), tags: Some(tags()), ..Rule::default() };
        let policy = HostPolicy { all, ..HostPolicy::default() };
        let options = host_prune::HostPruneOptions {
            places: self.places(),
            accounts: Vec::new(),
            wait: DAY,
            policy,
            dry_run: false,
        };
        let mut report = host_prune::HostPruneReport::default();
        let (now, counts) = (self.clock.now(), Counts::default());
        host_prune::prune_account(&options, ACCOUNT, now, &counts, &Free, &mut report).unwrap();
        assert!(report.damage.is_empty(), "{}: {report:?}", self.what);
    }

    fn prune_on_the_machine(&self) {
        self.run_prune(false).unwrap();
        let report = self.run_prune(true).unwrap();
        // The packs, by the test's own sums: needed by kept snapshots, by deleted ones alone, by none.
        let sizes: BTreeMap<PackId, u64> = self.packs();
        let there = self.there();
        let going = self.going();
        let needed = |which: &dyn Fn(&Made) -> bool| -> BTreeSet<PackId> {
            let of = self.made.iter().filter(|made| there.contains(&made.row.id) && which(made));
            of.flat_map(|made| made.row.header.packs.iter().copied()).collect()
        };
        let live = needed(&|made| !going.contains(&made.row.header.chain));
        let all = needed(&|_| true);
        let sum = |which: &dyn Fn(&PackId) -> bool| {
            sizes.iter().filter(|(id, _)| which(id)).map(|(_, size)| size).sum::<u64>()
        };
        let objects = |chains: &BTreeSet<ChainId>| {
            let of =
                self.made.iter().filter(|made| there.contains(&made.row.id) && chains.contains(&made.row.header.chain));
            of.map(|made| made.row.size).sum::<u64>()
        };
        assert_eq!(report.held.0, sum(&|id| live.contains(id)), "{}", self.what);
        assert_eq!(report.unneeded.1, sum(&|id| !all.contains(id)), "{}", self.what);
        let dead = sum(&|id| all.contains(id) && !live.contains(id));
        assert_eq!(report.bytes_marked, dead + objects(&going), "{}", self.what);
        assert!(all.iter().all(|id| sizes.contains_key(id)), "{}: a pack is gone that a snapshot needs", self.what);
    }

    fn run_prune(&self, dry_run: bool) -> Result<varu::prune::PruneReport, Error> {
        let rules = |_: &str| Rules { keep: KEEP, tags: tags(), ..Rules::default() };
        let options = PruneOptions { rules: &rules, grace: DAY, dry_run, now: false, dropped: BTreeSet::new() };
        prune(&[self.vault.writer()], &options, &self.clock, &Counts::default(), &Interrupt::default())
    }

    fn packs(&self) -> BTreeMap<PackId, u64> {
        let listed = self.vault.remote.list(Folder::Packs).unwrap().0;
        listed.into_iter().filter_map(|listed| Some((parse_pack_name(&listed.name)?, listed.size))).collect()
    }

    /// Some snapshots are restored to the byte on a fresh machine: the newest, two others, and all with `all`.
    fn restore(&mut self, all: bool) {
        let reader = self.vault.fresh_reader();
        reader.sync().unwrap();
        let there = self.there();
        let made: Vec<&Made> = self.made.iter().filter(|made| there.contains(&made.row.id)).collect();
        let Some(last) = made.len().checked_sub(1) else { return };
        let some = [last, self.random.below(made.len()), self.random.below(made.len())];
        for (number, made) in made.iter().enumerate() {
            if !all && !some.contains(&number) {
                continue;
            }
            match bring_back(&reader, &made.row) {
                Ok((streams, report)) => {
                    assert!(report.damaged.is_empty() && streams == made.streams, "{}: {}", self.what, made.row.id);
                }
                Err(error) => panic!("{}: {}: {error}", self.what, made.row.id),
            }
        }
    }

    /// A day and a night.
    fn next(&mut self) {
        for set in SETS {
            let cut = self.back_up(set);
            self.accept();
            cut.into_iter().for_each(|streams| self.find_lost(streams));
        }
        self.clock.advance(4 * HOUR);
        if self.random.below(7) > 0 {
            self.prune();
        }
        self.clock.advance(20 * HOUR);
        self.day += 1;
    }

    /// After the end: deletable snapshots are deleted, and unneeded packs two weeks later.
    fn end(&mut self) {
        self.prune();
        self.clock.advance(DAY);
        self.prune();
        self.restore(true);
        let there = self.there();
        // On a host a chain stays until the one after it has been there for `keep`, too.
        assert!(there.len() * 8 < self.made.len() * 7 || self.day < 56, "{}: {} are left", self.what, there.len());
        for _ in 0..3 {
            self.clock.advance(15 * DAY);
            self.prune();
        }
        let there = self.there();
        let made = self.made.iter().filter(|made| there.contains(&made.row.id));
        let needed: BTreeSet<PackId> = made.flat_map(|made| made.row.header.packs.iter().copied()).collect();
        let packs: BTreeSet<PackId> = self.packs().into_keys().collect();
        assert_eq!(packs, needed, "{}: what no snapshot needs is gone, and nothing else", self.what);
        // The machine comes back.
        (self.day, self.is_back) = (self.day + 46, true);
        self.next();
        // Its last backup may have been cut after its snapshot.
        let writer = self.vault.writer();
        writer.sync().unwrap();
        assert_eq!(writer.check_index().unwrap(), Vec::<String>::new(), "{}", self.what);
        self.restore(true);
    }
}

fn life(seed: u64, days: u64) {
    let mut life = Life::new(seed);
    while life.day < days {
        life.what = format!("seed {seed}, day {}", life.day);
        life.next();
        let all = life.day.is_multiple_of(28);
        life.restore(all);
    }
    life.what = format!("seed {seed}, after its end");
    life.end();
}

fn lives(seeds: std::ops::Range<u64>, days: u64) {
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    life(seed, days);
                    eprintln!("seed {seed} has lived {days} days");
                }
            });
        }
    });
}

#[test]
fn eight_weeks() {
    let seeds = match std::env::var("VARU_WEEKS") {
        Ok(seeds) => seeds.parse().unwrap(),
        Err(_) if long() => 1000,
        Err(_) => 4,
    };
    let first = std::env::var("VARU_WEEKS_FROM").map_or(1, |first| first.parse().unwrap());
    lives(first..first + seeds, 56);
}

#[test]
fn a_year() {
    if long() {
        lives(1..5, 365);
    }
}
