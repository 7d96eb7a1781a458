//! Accepting in folders that the test writes as an account would.

mod mark_lost;
mod keep;
mod needs;
mod policy;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::accept::{AcceptReport, SWEEP_AFTER, accept_account, make_state};
use super::checkpoints::{Checkpoints, InterruptibleCheckpoints};
use super::ledger::Ledger;
use super::{Places, REPOSITORY};
use crate::format::layout::{SnapshotKind, info_name, key_name, pack_name, snapshot_name};
use crate::format::pack::{PackHeader, PackTrailer};
use crate::format::snapshot::SnapshotHeader;
use crate::id::{ChainId, PackId, RepositoryId, SnapshotId};
use crate::progress::{Counts, Interrupt};
use crate::remote::{Folder, ObjectName};
use crate::time::Timestamp;

const NOW: i64 = 1_900_000_000;

/// A host with one account.
struct Host {
    base: tempfile::TempDir,
    places: Places,
}

type Objects = BTreeMap<ObjectName, Vec<u8>>;

impl Host {
    fn new() -> Self {
        // Flushing costs nothing in memory.
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let places = Places { root: base.path().join("root"), state: base.path().join("state") };
        let host = Self { base, places };
        for folder in Folder::ALL {
            fs::create_dir_all(host.path(folder, "")).unwrap();
            fs::set_permissions(host.path(folder, ""), Permissions::from_mode(0o1770)).unwrap();
        }
        // Whatever the umask says.
        for folder in [host.places.chroot("vm1"), host.places.chroot("vm1").join(REPOSITORY)] {
            fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
        }
        make_state(&host.places.ledger("vm1")).unwrap();
        host
    }

    fn path(&self, folder: Folder, name: &str) -> PathBuf {
        self.places.chroot("vm1").join(REPOSITORY).join(folder.name()).join(name)
    }

    fn object(&self, name: &ObjectName) -> PathBuf {
        self.path(name.folder(), name.name())
    }

    /// Writes a file as the account would: others may write it.
    fn put(&self, folder: Folder, name: &str, bytes: &[u8]) {
        write(&self.path(folder, name), bytes);
    }

    fn upload(&self, objects: &Objects) {
        objects.iter().for_each(|(name, bytes)| write(&self.object(name), bytes));
    }

    fn accept_at(&self, seconds: i64, steps: &dyn Checkpoints) -> AcceptReport {
        accept_account(&self.places, "vm1", Timestamp::from_seconds(seconds), &Counts::default(), steps)
    }

    fn accept(&self) -> AcceptReport {
        let report = self.accept_at(NOW, &InterruptibleCheckpoints(&Interrupt::default()));
        if let Some(failure) = &report.failure {
            panic!("{failure}");
        }
        report
    }

    fn ledger(&self) -> Ledger {
        Ledger::open(&self.places.ledger("vm1")).unwrap().ledger
    }

    /// Asserts that these objects are root's, complete and in the ledger, and nothing else is in it.
    #[track_caller]
    fn assert_holds(&self, objects: &Objects) {
        let ledger = self.ledger();
        assert_eq!(ledger.entries().keys().collect::<Vec<_>>(), objects.keys().collect::<Vec<_>>());
        for (name, bytes) in objects {
            self.assert_ours(name);
            assert_eq!(fs::read(self.object(name)).unwrap(), *bytes, "{name}");
            let entry = ledger.get(name).unwrap();
            assert_eq!((PackId::from_bytes(entry.hash), entry.size), (PackId::of(bytes), bytes.len() as u64), "{name}");
        }
        assert_eq!(fs::read_dir(self.places.chroot("vm1").join(".accept")).unwrap().count(), 0);
    }

    #[track_caller]
    fn assert_ours(&self, name: &ObjectName) {
        let metadata = fs::symlink_metadata(self.object(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(metadata.is_file() && metadata.mode() & 0o7777 == 0o440, "{name}");
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
}

fn pack(n: u8) -> (ObjectName, Vec<u8>) {
    let header = PackHeader { repository: RepositoryId::from_bytes([1; 16]), salt: [n; 32], wrapped_key: vec![7; 100] };
    let trailer = PackTrailer { pages: 0, recipe_copy: 0, directory: 50, segments: 0 };
    let bytes = [&header.encode()[..], &[n; 50], &trailer.encode()].concat();
    (pack_name(&PackId::of(&bytes)), bytes)
}

fn snapshot(n: u8, packs: &[&Vec<u8>]) -> (ObjectName, Vec<u8>) {
    let mut packs: Vec<PackId> = packs.iter().map(|bytes| PackId::of(bytes)).collect();
    packs.sort();
    let header = SnapshotHeader {
        body: 99,
        pages: 0,
        pages_check: [0; 32],
        repository: RepositoryId::from_bytes([1; 16]),
        salt: [n; 32],
        chain: ChainId::from_bytes([n; 16]),
        parent: None,
        previous: None,
        sequence: u64::from(n),
        suspect: false,
        data_time: Timestamp::from_seconds(NOW),
        stored_time: Timestamp::from_seconds(NOW),
        set: "set".to_owned(),
        tags: Vec::new(),
        packs,
        key_objects: Vec::new(),
    };
    let bytes = [header.encode(), vec![n; 99]].concat();
    (snapshot_name(header.stored_time, "set", SnapshotKind::Full, &SnapshotId::of(&bytes)), bytes)
}

fn key(n: u8) -> (ObjectName, Vec<u8>) {
    let mut bytes = b"age-encryption.org/v1\n-> X25519 abc\ndef\n--- mac\n".to_vec();
    bytes.extend(vec![n; 500]);
    (key_name(&bytes), bytes)
}

/// An upload of a machine: two packs, a snapshot of them, keys, the text for people.
fn objects() -> Objects {
    let (a, b) = (pack(1), pack(2));
    let snapshot = snapshot(1, &[&a.1, &b.1]);
    let info = (info_name(), b"format = 1\n".to_vec());
    Objects::from([a, b, snapshot, key(1), key(2), info])
}

fn of(objects: &Objects, folder: Folder) -> Vec<ObjectName> {
    objects.keys().filter(|name| name.folder() == folder).cloned().collect()
}

#[test]
fn each_whole_object_becomes_roots() {
    let host = Host::new();
    let objects = objects();
    host.upload(&objects);
    let report = host.accept();
    assert_eq!((report.accepted, report.objects), (6, 6));
    assert!(report.warnings.is_empty() && report.damage.is_empty() && report.put_back.is_empty(), "{report:?}");
    host.assert_holds(&objects);
    let again = host.accept();
    assert_eq!((again.accepted, again.objects), (0, 6));
    assert_eq!(host.ledger().get(&pack(1).0).unwrap().arrival, Timestamp::from_seconds(NOW));
}

#[test]
fn a_handle_that_was_left_open_writes_elsewhere() {
    let host = Host::new();
    let objects = objects();
    host.upload(&objects);
    let mut handles: Vec<File> =
        objects.keys().map(|name| OpenOptions::new().write(true).open(host.object(name)).unwrap()).collect();
    host.accept();
    for handle in &mut handles {
        handle.write_all(b"gone").unwrap();
        handle.set_len(3).unwrap();
    }
    host.assert_holds(&objects);
    assert!(host.accept().damage.is_empty());
}

#[test]
fn what_was_moved_away_is_put_back() {
    let host = Host::new();
    let objects = objects();
    host.upload(&objects);
    let packs = of(&objects, Folder::Packs);
    let moves = [
        (host.object(&packs[0]), host.path(Folder::Pending, "x.part")),
        // Under the other one's name, in its own folder.
        (host.object(&packs[1]), host.object(&packs[0])),
        (host.object(&of(&objects, Folder::Snapshots)[0]), host.path(Folder::Marks, "a b")),
        (host.object(&of(&objects, Folder::Keys)[0]), host.path(Folder::Snapshots, "k")),
        (host.object(&of(&objects, Folder::Keys)[1]), host.path(Folder::Info, "k")),
    ];
    for (from, to) in moves {
        fs::rename(from, to).unwrap();
    }
    let report = host.accept();
    assert_eq!(report.put_back.len(), 5, "{report:?}");
    assert!(report.warnings.is_empty() && report.damage.is_empty(), "{report:?}");
    host.assert_holds(&objects);
    for folder in [Folder::Pending, Folder::Marks] {
        assert_eq!(fs::read_dir(host.path(folder, "")).unwrap().count(), 0, "nothing is left of it");
    }
}

#[test]
fn a_second_name_of_an_accepted_object_goes() {
    let host = Host::new();
    let objects = objects();
    host.upload(&objects);
    host.accept();
    let name = pack(1).0;
    fs::hard_link(host.object(&name), host.path(Folder::Pending, "link")).unwrap();
    host.put(Folder::Pending, "copy", &pack(2).1);
    host.put(Folder::Marks, "copy", &snapshot(1, &[&pack(1).1, &pack(2).1]).1);
    let report = host.accept();
    assert_eq!((report.accepted, report.put_back.len()), (0, 0));
    host.assert_holds(&objects);
    for folder in [Folder::Pending, Folder::Marks] {
        assert_eq!(fs::read_dir(host.path(folder, "")).unwrap().count(), 0);
    }
}

#[test]
fn what_is_no_object_is_named_and_left_alone() {
    let host = Host::new();
    let outside = host.base.path().join("outside");
    fs::write(&outside, "secret").unwrap();
    let (name, bytes) = pack(1);
    let strange: [(Folder, &str, &str); 6] = [
        (Folder::Packs, pack(9).0.name().to_owned().leak(), "no whole object"),
        (Folder::Packs, "a\u{1b}[2J\nb", "no whole object"),
        (Folder::Snapshots, "..x", "no whole object"),
        (Folder::Keys, "00.age", "no whole object"),
        (Folder::Info, "other.toml", "no whole object"),
        (Folder::Marks, "m", "no whole object"),
    ];
    strange.iter().for_each(|(folder, name, _)| host.put(*folder, name, b"x"));
    host.put(Folder::Packs, pack(8).0.name(), &pack(8).1[..200]);
    symlink(&outside, host.object(&name)).unwrap();
    fs::create_dir(host.path(Folder::Packs, "folder")).unwrap();
    let fifo = host.path(Folder::Snapshots, "fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let sparse = host.path(Folder::Packs, "sparse");
    write(&sparse, &bytes[..200]);
    let file = OpenOptions::new().write(true).open(&sparse).unwrap();
    file.set_len(1 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes[bytes.len() - 24..], (1 << 30) - 24).unwrap();
    for _ in 0..2 {
        let report = host.accept();
        assert_eq!((report.accepted, report.swept, report.damage.len()), (0, 0, 0), "{report:?}");
        assert_eq!(report.warnings.len(), 11, "{report:?}");
        assert!(report.warnings.iter().all(|warning| !warning.text.chars().any(char::is_control)), "{report:?}");
        assert!(report.warnings.iter().any(|warning| warning.text.contains("a symbolic link")));
    }
    assert!(
        host.accept_at(NOW, &InterruptibleCheckpoints(&Interrupt::default()))
            .warnings
            .iter()
            .any(|w| w.text.contains("holes") || w.text.contains("sparse"))
    );
    assert_eq!(fs::read(outside).unwrap(), b"secret");
    // The real one replaces the file of its name.
    host.put(Folder::Pending, "x", &bytes);
    assert_eq!(host.accept().put_back.len(), 1);
    host.assert_holds(&Objects::from([(name, bytes)]));
}

#[test]
fn a_lot_of_junk_is_counted() {
    let host = Host::new();
    (0..2000).for_each(|n| host.put(Folder::Packs, &format!("junk{n}"), b"x"));
    let report = host.accept();
    assert!(report.warnings.len() <= 21 && report.warnings.last().unwrap().text.contains("1980 more"), "{report:?}");
}

#[test]
fn loss_is_reported_until_it_is_made_good() {
    let host = Host::new();
    let objects = objects();
    host.upload(&objects);
    host.accept();
    let (name, bytes) = pack(1);
    fs::remove_file(host.object(&name)).unwrap();
    for _ in 0..2 {
        let report = host.accept();
        assert_eq!(report.damage.len(), 2, "the ledger, and the snapshot: {report:?}");
        assert!(report.damage.iter().any(|damage| damage.object == name));
        assert!(report.damage.iter().any(|damage| damage.reason.contains(&name.to_string())));
    }
    host.put(Folder::Packs, name.name(), &bytes);
    let report = host.accept_at(NOW + 100, &InterruptibleCheckpoints(&Interrupt::default()));
    assert!(report.damage.is_empty(), "{report:?}");
    host.assert_holds(&objects);
    assert_eq!(host.ledger().get(&name).unwrap().arrival, Timestamp::from_seconds(NOW), "it arrived when it first did");
    // Shorter than it was.
    fs::set_permissions(host.object(&name), Permissions::from_mode(0o640)).unwrap();
    OpenOptions::new().write(true).open(host.object(&name)).unwrap().set_len(50).unwrap();
    fs::set_permissions(host.object(&name), Permissions::from_mode(0o440)).unwrap();
    assert_eq!(host.accept().damage.len(), 1);
}

#[test]
fn only_what_is_old_and_no_object_is_swept() {
    let host = Host::new();
    let (name, bytes) = pack(1);
    let (snap, whole) = snapshot(1, &[&bytes]);
    let (_, other) = pack(2);
    host.put(Folder::Pending, "half.part", &other[..200]);
    host.put(Folder::Pending, "snapshot.part", &whole[..whole.len() - 1]);
    for name in ["half.part", "snapshot.part"] {
        let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        File::open(host.path(Folder::Pending, name)).unwrap().set_modified(long_ago).unwrap();
    }
    let end = NOW + SWEEP_AFTER.as_secs() as i64;
    let until = InterruptibleCheckpoints(&Interrupt::default());
    for at in [NOW, NOW + 10, end - 1] {
        assert_eq!(host.accept_at(at, &until).swept, 0);
    }
    // One that came later, one that is complete by now, and ones that are complete from the beginning.
    host.put(Folder::Pending, "later.part", b"x");
    host.put(Folder::Pending, "half.part", &other);
    host.put(Folder::Pending, "a", &bytes);
    host.put(Folder::Pending, "b", &whole);
    let report = host.accept_at(end, &until);
    assert_eq!((report.swept, report.put_back.len()), (1, 3), "{report:?}");
    host.assert_holds(&Objects::from([(name, bytes), (snap, whole), pack(2)]));
    let left: Vec<_> = fs::read_dir(host.path(Folder::Pending, "")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["later.part"]);
}

#[test]
fn folders_that_are_not_prepared_are_refused() {
    let host = Host::new();
    host.upload(&objects());
    let until = InterruptibleCheckpoints(&Interrupt::default());
    let packs = host.path(Folder::Packs, "");
    fs::set_permissions(&packs, Permissions::from_mode(0o777)).unwrap();
    let failure = host.accept_at(NOW, &until).failure.unwrap().to_string();
    assert!(failure.contains("packs") && failure.contains("host prepare"), "{failure}");
    fs::rename(&packs, host.base.path().join("elsewhere")).unwrap();
    symlink(host.base.path().join("elsewhere"), host.places.chroot("vm1").join("repo/packs")).unwrap();
    assert!(host.accept_at(NOW, &until).failure.is_some());
    assert!(host.ledger().entries().is_empty());
}

/// Ends the work before change n.
struct Until {
    left: Cell<u64>,
    done: Cell<u64>,
}

impl Checkpoints for Until {
    fn before(&self, what: &'static str) -> io::Result<()> {
        match self.left.get() {
            0 => Err(io::Error::other(format!("cut before {what}"))),
            left => {
                self.left.set(left - 1);
                self.done.set(self.done.get() + 1);
                Ok(())
            }
        }
    }
}

fn until(n: u64) -> Until {
    Until { left: Cell::new(n), done: Cell::new(0) }
}

/// A disk that can't read the nth file.
struct BadSector(Cell<u64>);

impl Checkpoints for BadSector {
    fn before(&self, what: &'static str) -> io::Result<()> {
        if what != "filling a copy" {
            return Ok(());
        }
        self.0.set(self.0.get().wrapping_sub(1));
        if self.0.get() == 0 { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }
}

#[test]
fn what_the_disk_can_not_read_keeps_nothing_else() {
    let objects = objects();
    for n in 1..=objects.len() as u64 {
        let host = Host::new();
        host.upload(&objects);
        let report = host.accept_at(NOW, &BadSector(Cell::new(n)));
        assert!(report.failure.is_none() && report.warnings.len() == 1, "{report:?}");
        assert_eq!(report.accepted, objects.len() as u64 - 1);
        host.accept();
        host.assert_holds(&objects);
    }
}

/// A machine's upload that a thief moved about.
fn upload_and_move(host: &Host, objects: &Objects) {
    host.upload(objects);
    let packs = of(objects, Folder::Packs);
    fs::rename(host.object(&packs[0]), host.path(Folder::Pending, "x")).unwrap();
    fs::rename(host.object(&packs[1]), host.object(&packs[0])).unwrap();
    let snapshot = &of(objects, Folder::Snapshots)[0];
    fs::rename(host.object(snapshot), host.path(Folder::Marks, "s")).unwrap();
    host.put(Folder::Snapshots, snapshot.name(), b"junk");
    host.put(Folder::Pending, "old", b"junk");
}

/// The content of every file below a folder.
fn contents(folder: &Path, found: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => contents(&entry.path(), found),
            false => found.push(fs::read(entry.path()).unwrap()),
        }
    }
}

#[test]
fn a_cut_before_any_change_loses_nothing_and_the_next_run_finishes() {
    let objects = objects();
    let host = Host::new();
    upload_and_move(&host, &objects);
    host.accept();
    let full = until(u64::MAX);
    {
        let host = Host::new();
        upload_and_move(&host, &objects);
        assert!(host.accept_at(NOW, &full).failure.is_none());
    }
    let changes = full.done.get();
    assert!(changes > 50, "{changes}");
    for n in 0..changes {
        let host = Host::new();
        upload_and_move(&host, &objects);
        let report = host.accept_at(NOW, &until(n));
        assert!(report.failure.is_some(), "{n} of {changes}");
        let mut found = Vec::new();
        contents(&host.places.chroot("vm1"), &mut found);
        assert!(objects.values().all(|bytes| found.contains(bytes)), "cut {n}: something is lost");
        for (name, entry) in host.ledger().entries() {
            host.assert_ours(name);
            assert_eq!(PackId::of(&fs::read(host.object(name)).unwrap()), PackId::from_bytes(entry.hash), "cut {n}");
        }
        // Once more, a little further, then to the end.
        host.accept_at(NOW, &until(n / 2));
        let report = host.accept();
        assert!(report.damage.is_empty(), "cut {n}: {report:?}");
        host.assert_holds(&objects);
        host.accept();
        let later =
            host.accept_at(NOW + SWEEP_AFTER.as_secs() as i64, &InterruptibleCheckpoints(&Interrupt::default()));
        assert!(later.failure.is_none() && later.accepted == 0, "cut {n}");
        assert_eq!(fs::read_dir(host.path(Folder::Pending, "")).unwrap().count(), 0, "cut {n}: the junk is swept");
    }
}

#[test]
fn what_is_moved_about_meanwhile_is_not_lost() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let rounds = if std::env::var_os("VARU_TEST_LONG").is_some() { 5000 } else { 200 };
    for round in 0..rounds {
        let host = Host::new();
        let objects = objects();
        host.upload(&objects);
        let packs = of(&objects, Folder::Packs);
        let ring: Vec<PathBuf> = [
            host.object(&packs[0]),
            host.object(&packs[1]),
            host.path(Folder::Pending, "x"),
            host.path(Folder::Marks, "y"),
        ]
        .into();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut n: usize = round;
                while !stop.load(Ordering::Relaxed) {
                    n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let (from, to) = (&ring[(n >> 33) % 4], &ring[(n >> 43) % 4]);
                    // As sshd renames, and not over root's files.
                    let theirs = fs::symlink_metadata(from).is_ok_and(|metadata| metadata.mode() & 0o222 != 0);
                    if theirs && fs::hard_link(from, to).is_ok() {
                        let ours = fs::symlink_metadata(from).is_ok_and(|metadata| metadata.mode() & 0o222 == 0);
                        if !ours {
                            let _ = fs::remove_file(from);
                        }
                    }
                }
            });
            host.accept();
            stop.store(true, Ordering::Relaxed);
        });
        host.accept();
        let last = host.accept();
        for name in &packs {
            let whole = fs::read(host.object(name)).is_ok_and(|bytes| bytes == objects[name]);
            assert!(whole || !last.damage.is_empty(), "round {round}: {name} is lost and nobody says so");
        }
    }
}
