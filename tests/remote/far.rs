//! A repository on a far host: many objects are read beside each other, whatever becomes of some of them.
//!
//! What is counted are round trips, not seconds: a busy machine makes each of them longer, and none more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use support::proxy::{Fault, Proxy};
use support::sshd::Sshd;
use support::vault::{Vault, check};
use support::{MONDAY, Streams, TestClock, back_up, noise};
use varu::class::{Class, Classified};
use varu::format::layout::pack_name;
use varu::remote::fault::{Fault as Break, Faulty};
use varu::remote::record::{Recorder, Verb};
use varu::remote::sftp::SftpRemote;
use varu::remote::{ErrorKind, Folder, ObjectName, Remote};
use varu::repository::Repository;
use varu::verify::Level;

/// Long beside the work for a request, so that answers that come together are one round trip.
const ROUND_TRIP: Duration = Duration::from_millis(80);
const SNAPSHOTS: usize = 60;

fn day(number: usize) -> Streams {
    BTreeMap::from([("log".to_owned(), noise(3000, number as u64))])
}

/// A vault of many snapshots, each with a pack of its own, and a copy of it behind a proxy.
struct Far {
    vault: Vault,
    folder: tempfile::TempDir,
    server: Arc<Sshd>,
    proxy: Proxy,
}

impl Far {
    fn new() -> Self {
        let vault = Vault::new();
        let clock = TestClock::at(MONDAY);
        for number in 0..SNAPSHOTS {
            back_up(&vault.writer(), &day(number), &clock).unwrap();
            clock.advance_hours(24);
        }
        let folder = tempfile::tempdir().unwrap();
        for of in Folder::ALL {
            fs::create_dir_all(folder.path().join("vault").join(of.name())).unwrap();
            for (name, bytes) in vault.memory.content(of) {
                fs::write(folder.path().join("vault").join(of.name()).join(name), bytes).unwrap();
            }
        }
        let server = Sshd::shared();
        let proxy = Proxy::start(server.port(), ROUND_TRIP);
        Self { vault, folder, server, proxy }
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.folder.path().join("vault").join(name.to_string())
    }

    /// The remote, connected.
    fn remote(&self) -> Arc<dyn Remote> {
        let place = self.server.place_through(self.proxy.port(), self.folder.path().join("vault"));
        Arc::new(SftpRemote::open(&place, &self.server.options()).unwrap())
    }

    fn reader(&self, state: &Path) -> Arc<Repository> {
        self.vault.owner.reader(self.remote(), state).unwrap()
    }

    /// The round trips of some work.
    fn turns<T>(&self, work: impl FnOnce() -> T) -> (T, u64) {
        let before = self.proxy.turns();
        let done = work();
        (done, self.proxy.turns() - before)
    }

    fn snapshots(&self) -> Vec<ObjectName> {
        let rows = self.vault.writer().index().snapshots().unwrap();
        rows.iter().map(Repository::object_name).collect()
    }
}

#[test]
fn a_fresh_machine_needs_few_round_trips() {
    let far = Far::new();
    let reader = far.reader(&far.vault.empty_state());
    let (changes, listed) = far.turns(|| reader.sync().unwrap());
    assert_eq!(changes.added.len(), SNAPSHOTS);
    let (changes, rebuilt) = far.turns(|| reader.rebuild(false).unwrap());
    assert_eq!((changes.added.len(), changes.damaged), (SNAPSHOTS, Vec::<String>::new()));
    let (report, verified) = far.turns(|| check(&reader, Level::Structure).unwrap());
    assert_eq!((report.damage, report.packs), (Vec::new(), SNAPSHOTS as u64));
    // One after the other it was two for each snapshot, some five for a directory and nine for a pack.
    assert!(listed <= SNAPSHOTS as u64 / 2, "a first listing took {listed} round trips");
    assert!(rebuilt <= SNAPSHOTS as u64, "a rebuild took {rebuilt} round trips");
    assert!(verified <= SNAPSHOTS as u64, "a verification took {verified} round trips");
}

#[test]
fn what_is_damaged_among_many_is_named_and_the_others_are_taken_in() {
    let far = Far::new();
    let snapshots = far.snapshots();
    let (flipped, cut, unreadable) = (&snapshots[7], &snapshots[SNAPSHOTS - 20], &snapshots[30]);
    let mut bytes = fs::read(far.path(flipped)).unwrap();
    bytes[200] ^= 1;
    fs::write(far.path(flipped), &bytes).unwrap();
    fs::write(far.path(cut), &fs::read(far.path(cut)).unwrap()[..50]).unwrap();
    fs::remove_file(far.path(unreadable)).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", far.path(unreadable)).unwrap();
    let reader = far.reader(&far.vault.empty_state());
    let changes = reader.sync().unwrap();
    for name in [flipped, cut] {
        assert_eq!(changes.damaged.iter().filter(|why| why.contains(name.name())).count(), 1, "{:?}", changes.damaged);
    }
    assert_eq!((changes.added.len(), changes.damaged.len()), (SNAPSHOTS - 3, 2));
    // A link is no object.
    assert!(!changes.listed.contains(unreadable));

    let packs = reader.index().snapshots().unwrap().into_iter().flat_map(|row| row.header.packs).collect::<Vec<_>>();
    let (bad, lost) = (pack_name(&packs[3]), pack_name(packs.last().unwrap()));
    let bytes = fs::read(far.path(&bad)).unwrap();
    fs::write(far.path(&bad), &bytes[..bytes.len() - 9]).unwrap();
    fs::remove_file(far.path(&lost)).unwrap();
    let report = check(&reader, Level::Structure).unwrap();
    for name in [&bad, &lost] {
        let of_it = report.damage.iter().filter(|damage| damage.object == name.to_string()).count();
        assert_eq!(of_it, 1, "{:?}", report.damage);
    }
    assert_eq!(report.snapshots.iter().filter(|row| !report.is_whole(&row.id)).count(), 2);
    let changes = reader.rebuild(false).unwrap();
    for name in [&bad, &lost] {
        assert_eq!(changes.damaged.iter().filter(|why| why.contains(name.name())).count(), 1, "{:?}", changes.damaged);
    }
}

#[test]
fn a_first_listing_that_breaks_off_is_unreachable_and_works_again() {
    let far = Far::new();
    let state = far.vault.empty_state();
    let reader = far.reader(&state);
    far.proxy.fault_at(far.proxy.passed() + 10_000, Fault::Down);
    let error = reader.sync().unwrap_err();
    assert_eq!(error.class(), Class::Unreachable, "{error}");
    assert!(far.proxy.has_failed());
    far.proxy.up();
    drop(reader);
    let reader = far.reader(&state);
    let there = reader.index().snapshots().unwrap().len();
    let changes = reader.sync().unwrap();
    assert_eq!((changes.added.len(), changes.damaged), (SNAPSHOTS - there, Vec::<String>::new()));
}

#[test]
fn what_was_read_before_a_break_is_not_read_again() {
    let vault = Vault::new();
    let clock = TestClock::at(MONDAY);
    for number in 0..12 {
        back_up(&vault.writer(), &day(number), &clock).unwrap();
        clock.advance_hours(24);
    }
    let state = vault.empty_state();
    let faulty = Arc::new(Faulty::new(vault.remote.clone()));
    let reader = vault.owner.reader(faulty.clone(), &state).unwrap();
    // The listing, and seven of twelve.
    faulty.die_at(faulty.operations() + 9, Break::Refuse(ErrorKind::Unreachable));
    assert_eq!(reader.sync().unwrap_err().class(), Class::Unreachable);
    drop(reader);
    let recorder = Arc::new(Recorder::new(vault.remote.clone()));
    let reader = vault.owner.reader(recorder.clone(), &state).unwrap();
    recorder.take();
    assert_eq!(reader.sync().unwrap().added.len(), 5);
    assert_eq!(recorder.count(Verb::GetRange), 5);
}

#[test]
fn a_backup_with_nothing_new_asks_little() {
    let far = Far::new();
    let recorder = Arc::new(Recorder::new(far.remote()));
    let writer = far.vault.owner.writer(recorder.clone(), far.vault.state.path());
    let clock = TestClock::at(MONDAY);
    clock.advance_hours(24 * SNAPSHOTS as i64);
    back_up(&writer, &day(SNAPSHOTS - 1), &clock).unwrap();
    clock.advance_hours(1);
    recorder.take();
    let (report, turns) = far.turns(|| back_up(&writer, &day(SNAPSHOTS - 1), &clock).unwrap());
    assert_eq!(report.totals().new, 0);
    let calls = recorder.calls();
    let listings = |of: Folder| calls.iter().filter(|call| (call.verb, call.folder) == (Verb::List, Some(of))).count();
    // Before the source is read, before the snapshot is stored, and after that.
    assert_eq!([Folder::Snapshots, Folder::Packs, Folder::Keys].map(listings), [3, 2, 1]);
    let stored = calls.iter().rposition(|call| call.verb == Verb::Flush).unwrap();
    let after: BTreeSet<Option<Folder>> = calls[stored + 1..].iter().map(|call| call.folder).collect();
    assert_eq!(after, BTreeSet::from([Some(Folder::Packs), Some(Folder::Snapshots)]), "what is there is listed again");
    assert!(turns <= 24, "a backup with nothing new took {turns} round trips");
}
