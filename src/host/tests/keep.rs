//! Verification, pruning and holding of accepted objects.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;
use crate::error::Error;
use crate::host::holds::{HoldOptions, hold};
use crate::host::policy::{AccountPolicy, HostPolicy, Rule};
use crate::host::prune::{HostPruneOptions, HostPruneReport, KeptReason, prune_account};
use crate::host::status::status;
use crate::host::verify::{HostVerifyOptions, HostVerifyReport, verify};
use crate::progress::{Counter, Progress};
use crate::repository;
use crate::retention::TagRule;
use crate::time::Clock;
use crate::warning::Warning;

pub(super) const DAY: i64 = 24 * 3600;

pub(super) struct At(pub(super) i64);

impl Clock for At {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.0)
    }
}

/// A snapshot that a machine, or a thief on it, makes up.
pub(super) struct Draft {
    chain: u8,
    number: u64,
    pub(super) parent: Option<SnapshotId>,
    pub(super) tags: Vec<String>,
    packs: Vec<PackId>,
    data_time: i64,
    pub(super) suspect: bool,
    pub(super) set: &'static str,
}

impl Draft {
    pub(super) fn new(chain: u8, number: u64, packs: &[&(ObjectName, Vec<u8>)]) -> Self {
        let packs: BTreeSet<PackId> = packs.iter().map(|(_, bytes)| PackId::of(bytes)).collect();
        let packs = packs.into_iter().collect();
        Self { chain, number, parent: None, tags: Vec::new(), packs, data_time: NOW, suspect: false, set: "set" }
    }

    pub(super) fn make(&self) -> (ObjectName, Vec<u8>) {
        let parent = self.parent.map(|id| crate::format::snapshot::ParentRef { id, sequence: self.number.max(2) - 1 });
        let header = SnapshotHeader {
            body: 30,
            pages: 0,
            pages_check: [0; 32],
            repository: RepositoryId::from_bytes([1; 16]),
            salt: [self.number as u8; 32],
            chain: ChainId::from_bytes([self.chain; 16]),
            parent,
            previous: None,
            sequence: self.number.max(2),
            suspect: self.suspect,
            data_time: Timestamp::from_seconds(self.data_time),
            stored_time: Timestamp::from_seconds(self.data_time),
            set: self.set.to_owned(),
            tags: self.tags.iter().map(|tag| tag.as_str().into()).collect(),
            packs: self.packs.clone(),
            key_objects: Vec::new(),
        };
        let kind = header.kind();
        let bytes = [header.encode(), vec![self.number as u8; 30]].concat();
        (snapshot_name(header.stored_time, self.set, kind, &SnapshotId::of(&bytes)), bytes)
    }
}

pub(super) fn id_of(object: &(ObjectName, Vec<u8>)) -> SnapshotId {
    SnapshotId::of(&object.1)
}

pub(super) fn numbered_pack(n: u64) -> (ObjectName, Vec<u8>) {
    let header = PackHeader { repository: RepositoryId::from_bytes([1; 16]), salt: [9; 32], wrapped_key: vec![7; 100] };
    let trailer = PackTrailer { pages: 0, recipe_copy: 0, directory: 50, segments: 0 };
    let bytes = [&header.encode()[..], &[n as u8; 42], &n.to_le_bytes(), &trailer.encode()].concat();
    (pack_name(&PackId::of(&bytes)), bytes)
}

impl Host {
    pub(super) fn put_object(&self, object: &(ObjectName, Vec<u8>)) {
        write(&self.object(&object.0), &object.1);
    }

    pub(super) fn accept_on(&self, seconds: i64) -> AcceptReport {
        let report = self.accept_at(seconds, &InterruptibleCheckpoints(&Interrupt::default()));
        assert!(report.failure.is_none(), "{report:?}");
        report
    }

    pub(super) fn prune_with(
        &self,
        seconds: i64,
        policy: &HostPolicy,
        dry_run: bool,
        steps: &dyn Checkpoints,
    ) -> HostPruneReport {
        let options = HostPruneOptions {
            places: self.places.clone(),
            accounts: Vec::new(),
            wait: Duration::ZERO,
            policy: policy.clone(),
            dry_run,
        };
        let (mut report, now) = (HostPruneReport::default(), Timestamp::from_seconds(seconds));
        let ended = prune_account(&options, "vm1", now, &Counts::default(), steps, &mut report);
        report.failure = ended.err();
        report
    }

    pub(super) fn prune(&self, seconds: i64) -> HostPruneReport {
        let steps = InterruptibleCheckpoints(&Interrupt::default());
        let report = self.prune_with(seconds, &HostPolicy::default(), false, &steps);
        assert!(report.failure.is_none(), "{report:?}");
        report
    }

    pub(super) fn has(&self, object: &(ObjectName, Vec<u8>)) -> bool {
        let there = self.object(&object.0).exists();
        assert_eq!(there, self.ledger().get(&object.0).is_some(), "{}: the ledger says otherwise", object.0);
        there
    }

    fn verify(&self, sample: f64, progress: &dyn Progress, interrupt: &Interrupt) -> Result<HostVerifyReport, Error> {
        let accounts = vec!["vm1".to_owned()];
        let wait = Duration::ZERO;
        let options = HostVerifyOptions { places: self.places.clone(), accounts, wait, sample, limit: None };
        Ok(verify(&options, &At(NOW), progress, interrupt)?.remove(0))
    }

    pub(super) fn verify_all(&self) -> HostVerifyReport {
        let report = self.verify(1.0, &Counts::default(), &Interrupt::default()).unwrap();
        assert!(report.failure.is_none(), "{report:?}");
        report
    }

    /// Changes a byte of an accepted object, as a disk does.
    pub(super) fn rot(&self, name: &ObjectName) {
        let path = self.object(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[60] ^= 4;
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o440)).unwrap();
    }
}

#[test]
fn bit_rot_and_loss_are_found_and_keep_everything() {
    let host = Host::new();
    let objects = objects();
    host.upload(&objects);
    host.accept();
    let report = host.verify_all();
    assert_eq!((report.objects, report.of, report.damage.len()), (6, 6, 0));
    for name in objects.keys() {
        let whole = fs::read(host.object(name)).unwrap();
        if name.folder() == Folder::Info {
            continue;
        }
        host.rot(name);
        assert!(host.accept().damage.is_empty(), "a look at the names doesn't tell");
        let damage = host.verify_all().damage;
        assert_eq!(damage.iter().map(|damage| &damage.object).collect::<Vec<_>>(), [name], "{damage:?}");
        let report = host.prune(NOW + 400 * DAY);
        assert_eq!((report.damage.len(), report.freed), (1, 0), "{report:?}");
        let host_status = status(&host.places, &[], &HostPolicy::default(), &At(NOW)).unwrap();
        assert_eq!(host_status.accounts[0].damage.len(), 1);
        fs::set_permissions(host.object(name), Permissions::from_mode(0o640)).unwrap();
        fs::write(host.object(name), whole).unwrap();
        fs::set_permissions(host.object(name), Permissions::from_mode(0o440)).unwrap();
        assert!(host.verify_all().damage.is_empty());
    }
    fs::remove_file(host.object(&pack(1).0)).unwrap();
    let damage = host.verify_all().damage;
    assert!(damage.iter().any(|damage| damage.object == pack(1).0), "{damage:?}");
    assert_eq!(host.prune(NOW + 400 * DAY).freed, 0);
}

/// Interrupts once so many bytes were read.
struct Stop(Interrupt);

impl Progress for Stop {
    fn phase(&self, _: &str, _: Option<u64>, _: Option<u64>) {}
    fn add(&self, counter: Counter, _: u64) {
        if counter == Counter::Bytes {
            self.0.set();
        }
    }
    fn note(&self, _: &str) {}
    fn warn(&self, _: &Warning) {}
}

#[test]
fn a_verification_goes_on_where_it_stopped() {
    let host = Host::new();
    let mut packs: Vec<_> = (0..60).map(numbered_pack).collect();
    packs.iter().for_each(|pack| host.put_object(pack));
    host.accept();
    packs.sort();
    host.rot(&packs[2].0);
    host.rot(&packs[50].0);
    let mut runs = 0;
    let report = loop {
        runs += 1;
        let stop = Stop(Interrupt::default());
        match host.verify(1.0, &stop, &stop.0) {
            Err(Error::Repository(repository::Error::Interrupted)) => {}
            ended => break ended.unwrap(),
        }
        assert!(runs < 10);
    };
    assert_eq!((runs, report.resumed, report.objects), (5, true, 0), "sixteen at a time");
    let damaged: Vec<_> = report.damage.iter().map(|damage| &damage.object).collect();
    assert_eq!(damaged, [&packs[2].0, &packs[50].0], "what the first run found is kept");
    let again = host.verify_all();
    assert_eq!((again.resumed, again.objects), (false, 60));
    let sample = host.verify(0.2, &Counts::default(), &Interrupt::default()).unwrap();
    assert!((1..40).contains(&sample.objects), "{}", sample.objects);
}

#[test]
fn chains_go_by_their_arrival_and_with_them_the_packs_that_nothing_needs() {
    let host = Host::new();
    let (mut made, mut parent) = (Vec::new(), None);
    // Whatever the machine's clock says.
    let lies = [0, 7_000_000_000, NOW];
    for day in 0..70_u64 {
        let fresh = numbered_pack(day);
        let base = numbered_pack(day / 7 * 7);
        let full = day % 7 == 0;
        let mut draft = Draft::new((day / 7) as u8, day + 2, &[&base, &fresh]);
        draft.parent = parent.filter(|_| !full);
        draft.data_time = lies[day as usize % 3];
        let snapshot = draft.make();
        parent = Some(id_of(&snapshot));
        host.put_object(&fresh);
        host.put_object(&snapshot);
        made.push((snapshot, fresh));
        let report = host.prune(NOW + day as i64 * DAY);
        assert!(report.damage.is_empty() && report.warnings.is_empty(), "{report:?}");
        for (then, (snapshot, pack)) in made.iter().enumerate() {
            // A chain is deleted when its last snapshot is 28 days old, and the first of the next, too.
            let next = (then / 7 * 7 + 7) as u64;
            let stays = next + 28 > day;
            assert_eq!(host.has(snapshot), stays, "day {day}: the snapshot of day {then}");
            assert_eq!(host.has(pack), stays, "day {day}: the pack of day {then}");
        }
    }
    // The machine is silent: the newest chain always stays.
    let last = NOW + 69 * DAY;
    host.prune(last + 28 * DAY);
    host.prune(last + 1000 * DAY);
    assert!(made[63..].iter().all(|(snapshot, pack)| host.has(snapshot) && host.has(pack)));
    assert!(host.verify_all().damage.is_empty());
}

#[test]
fn what_a_header_claims_can_only_keep() {
    let host = Host::new();
    let (a, b, c) = (numbered_pack(1), numbered_pack(2), numbered_pack(3));
    let old = Draft::new(1, 2, &[&a]).make();
    let other = Draft::new(2, 3, &[&b]).make();
    [&a, &b, &old, &other].iter().for_each(|object| host.put_object(object));
    host.accept_on(NOW);
    // Junk chains every day for five weeks: of the same set, with dates from far and near, that claim parents, tags, chains and packs.
    for day in 1..=35 {
        let mut draft = Draft::new(if day == 20 { 2 } else { 100 + day as u8 }, 1000 + day, &[]);
        draft.data_time = [0, 7_000_000_000, -5_000_000_000][day as usize % 3];
        draft.tags = vec!["monthly".to_owned()];
        if day == 30 {
            draft.packs = vec![PackId::of(&a.1)];
        }
        host.put_object(&draft.make());
        if day < 28 {
            let report = host.prune(NOW + day as i64 * DAY);
            assert_eq!(report.freed, 0, "{report:?}");
            assert!(host.has(&old) && host.has(&other) && host.has(&a) && host.has(&b));
        }
    }
    host.put_object(&c);
    host.prune(NOW + 40 * DAY);
    assert!(!host.has(&old), "it is four weeks old, and there is a newer chain");
    assert!(host.has(&a), "a younger one says that it needs it");
    assert!(host.has(&other) && host.has(&b), "a younger one says that it is of its chain");
    assert!(host.has(&c), "it has just arrived");
    let mut child = Draft::new(200, 5000, &[]);
    child.parent = Some(id_of(&other));
    host.put_object(&child.make());
    let report = host.prune(NOW + 60 * DAY);
    let fate = report.snapshots.iter().find(|fate| fate.id == id_of(&other)).unwrap();
    assert_eq!(fate.reasons, [KeptReason::Parent(id_of(&child.make()))]);
    assert!(host.has(&other) && !host.has(&c), "nothing needs it, and it is 14 days old");
}

#[test]
fn a_hold_and_a_tag_keep_and_holds_that_can_not_be_read_stop_everything() {
    let host = Host::new();
    let mut tagged = Draft::new(2, 3, &[]);
    tagged.tags = vec!["pre-deploy".to_owned()];
    let snapshots =
        [Draft::new(1, 2, &[]).make(), tagged.make(), Draft::new(3, 4, &[]).make(), Draft::new(4, 5, &[]).make()];
    for (day, snapshot) in snapshots.iter().enumerate() {
        host.put_object(snapshot);
        host.accept_on(NOW + day as i64 * DAY);
    }
    let holding = |prefix: &str, holds| {
        let options = HoldOptions {
            places: host.places.clone(),
            accounts: Vec::new(),
            prefix: prefix.to_owned(),
            hold: holds,
            wait: Duration::ZERO,
        };
        hold(&options, &Counts::default(), &Interrupt::default())
    };
    let third = id_of(&snapshots[2]).to_string();
    assert!(!holding(&third[..8], true).unwrap().already && holding(&third, true).unwrap().already);
    assert!(matches!(holding("", true), Err(Error::Usage(_))), "it isn't told which");
    assert!(matches!(holding("zz", true), Err(Error::Usage(_))));
    let tags = Some([("pre-deploy".to_owned(), TagRule::Newest(1))].into());
    let account = AccountPolicy { all: Rule { tags, ..Rule::default() }, ..AccountPolicy::default() };
    let policy = HostPolicy { accounts: [("vm1".to_owned(), account)].into(), ..HostPolicy::default() };
    let steps = InterruptibleCheckpoints(&Interrupt::default());
    let newest = Draft::new(5, 6, &[]).make();
    host.put_object(&newest);
    host.accept_on(NOW + 60 * DAY);
    host.put_object(&Draft::new(6, 7, &[]).make());
    host.accept_on(NOW + 90 * DAY);
    let later = NOW + 98 * DAY;
    let dry = host.prune_with(later, &policy, true, &steps);
    assert!(dry.freed > 0 && snapshots.iter().all(|snapshot| host.has(snapshot)), "{dry:?}");
    let report = host.prune_with(later, &policy, false, &steps);
    assert_eq!(report.freed, dry.freed);
    assert_eq!(snapshots.each_ref().map(|snapshot| host.has(snapshot)), [false, true, true, false]);
    assert!(!holding(&third, false).unwrap().already);
    host.prune_with(later, &policy, false, &steps);
    assert_eq!(snapshots.each_ref().map(|snapshot| host.has(snapshot)), [false, true, false, false]);
    // An unreadable list of holds isn't taken for an empty one.
    fs::write(host.places.ledger("vm1").join("holds"), "nonsense").unwrap();
    assert!(host.prune_with(later, &HostPolicy::default(), false, &steps).failure.is_some());
    assert!(host.has(&snapshots[1]) && host.has(&newest));
}

#[test]
fn a_cut_before_any_change_of_a_prune_is_finished_by_the_next() {
    let upload = |host: &Host| {
        let (a, b, c) = (numbered_pack(1), numbered_pack(2), numbered_pack(3));
        let first = Draft::new(1, 2, &[&a]).make();
        let mut second = Draft::new(1, 3, &[&a, &b]);
        second.parent = Some(id_of(&first));
        let objects = [a, b, first, second.make()];
        objects.iter().for_each(|object| host.put_object(object));
        host.accept_on(NOW);
        let stays = [Draft::new(2, 4, &[&c]).make(), c];
        stays.iter().for_each(|object| host.put_object(object));
        host.accept_on(NOW + 40 * DAY);
        // The snapshots that displace the old ones have been there for as long as those stay.
        host.put_object(&Draft::new(3, 5, &[&stays[1]]).make());
        host.accept_on(NOW + 70 * DAY);
        (objects, stays)
    };
    let full = until(u64::MAX);
    let host = Host::new();
    upload(&host);
    assert!(host.prune_with(NOW + 80 * DAY, &HostPolicy::default(), false, &full).failure.is_none());
    let changes = full.done.get();
    assert!(changes > 10, "{changes}");
    for n in 0..changes {
        let host = Host::new();
        let (goes, stays) = upload(&host);
        let cut = host.prune_with(NOW + 80 * DAY, &HostPolicy::default(), false, &until(n));
        assert!(cut.failure.is_some(), "cut {n}");
        // Everything left in the ledger is there, and has its packs; accepting doesn't re-enter removed objects.
        let before = host.ledger().entries().len();
        let accepted = host.accept_on(NOW + 80 * DAY);
        assert!(accepted.damage.is_empty() && host.ledger().entries().len() == before, "cut {n}: {accepted:?}");
        host.prune(NOW + 80 * DAY);
        assert!(goes.iter().all(|object| !host.object(&object.0).exists()), "cut {n}");
        assert!(stays.iter().all(|object| host.has(object)), "cut {n}");
        // A removed object may come again.
        host.put_object(&goes[0]);
        host.accept_on(NOW + 81 * DAY);
        assert!(host.has(&goes[0]));
    }
}

#[test]
fn many_snapshots_take_little_time() {
    let host = Host::new();
    let count = if std::env::var_os("VARU_TEST_LONG").is_some() { 100_000 } else { 2_000 };
    for number in 0..count {
        let mut draft = Draft::new((number % 251) as u8, number + 2, &[]);
        draft.parent = Some(SnapshotId::from_bytes([3; 16]));
        host.put_object(&draft.make());
    }
    assert_eq!(host.accept().accepted, count);
    let report = host.prune(NOW + 60 * DAY);
    assert_eq!(report.snapshots.len() as u64, count);
    assert_eq!(host.accept().accepted, 0);
}
