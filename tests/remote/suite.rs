//! Conformance suite of remotes. The tests know nothing of the remote that they run on.
//!
//! `remote_suite!(local, make)` makes a module of tests `local`; `make` returns a fresh [`Place`] each time.
//! `append_only_suite!` does the same for a place where nothing can be deleted.

use std::collections::BTreeSet;
use std::sync::Arc;

use varu::remote::{Error, ErrorKind, Folder, Listed, ObjectName, Remote, Result};

/// Puts bytes under any file name of a folder.
pub type Plant = dyn Fn(Folder, &str, &[u8]);

/// A fresh, empty place, without folders where the account may make them.
pub struct Place {
    /// The remote.
    pub remote: Arc<dyn Remote>,
    /// Stores bytes there under any file name, past the remote. Owns whatever must live as long as the location.
    pub plant: Box<Plant>,
    /// Whether every upload that isn't finished is removed. A broken connection leaves its part behind.
    pub tidy: bool,
}

impl Place {
    fn assert_tidy(&self) {
        let pending = listed(&*self.remote, Folder::Pending);
        assert!(pending.is_empty() || !self.tidy, "{pending:?} are left");
    }

    fn with_folders(&self) -> &dyn Remote {
        self.remote.create_folders().unwrap();
        &*self.remote
    }
}

fn object(folder: Folder, text: &str) -> ObjectName {
    ObjectName::new(folder, text).unwrap()
}

fn pack(text: &str) -> ObjectName {
    object(Folder::Packs, text)
}

/// Bytes that differ everywhere.
fn content(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8).collect()
}

fn store(remote: &dyn Remote, name: &ObjectName, bytes: &[u8]) -> Result<()> {
    let mut upload = remote.begin()?;
    upload.append(bytes)?;
    upload.finish(name)
}

fn listed(remote: &dyn Remote, folder: Folder) -> Vec<(String, u64)> {
    let (mut objects, strange) = remote.list(folder).unwrap();
    assert_eq!(strange, 0);
    objects.sort();
    objects.into_iter().map(|Listed { name, size }| (name.name().to_owned(), size)).collect()
}

#[track_caller]
fn assert_failed<T>(result: Result<T>, kind: ErrorKind, place: &dyn Remote, about: &str) {
    let error: Error = match result {
        Ok(_) => panic!("{about}: no error, {kind:?} was expected"),
        Err(error) => error,
    };
    assert_eq!(error.kind, kind, "{error}");
    let text = error.to_string();
    assert!(text.contains(about), "{text:?} should name {about:?}");
    assert!(error.object.contains(&place.place()), "{text:?} should say where: {:?}", place.place());
}

pub fn folders_come_first(place: Place) {
    let remote = &*place.remote;
    assert_failed(remote.list(Folder::Packs), ErrorKind::NotFound, remote, "packs");
    assert_failed(remote.flush(Folder::Packs), ErrorKind::NotFound, remote, "packs");
    assert_failed(remote.begin(), ErrorKind::NotFound, remote, "pending");
    remote.create_folders().unwrap();
    for folder in Folder::ALL {
        assert_eq!(listed(remote, folder), []);
    }
    store(remote, &pack("p"), b"x").unwrap();
    remote.create_folders().expect("a second time changes nothing");
    assert_eq!(listed(remote, Folder::Packs), [("p".to_owned(), 1)]);
}

pub fn objects_of_odd_sizes_come_back(place: Place) {
    let remote = place.with_folders();
    for (size, folder) in [0, 1, 32767, 32768, 32769, 1 << 20, (1 << 20) + 1].into_iter().zip(Folder::ALL.repeat(2)) {
        let (name, bytes) = (object(folder, &format!("o{size}")), content(size));
        store(remote, &name, &bytes).unwrap();
        assert_eq!(remote.stat(&name).unwrap(), Some(size as u64));
        assert!(remote.get(&name, size as u64).unwrap() == bytes, "{size} bytes");
        assert!(remote.list(folder).unwrap().0.contains(&Listed { name, size: size as u64 }));
    }
}

pub fn an_upload_is_the_sum_of_its_appends(place: Place) {
    let remote = place.with_folders();
    let bytes = content(3_000_000);
    let mut upload = remote.begin().unwrap();
    let mut rest = &bytes[..];
    for length in [0, 1, 7, 100_000, 0, 32768, 2_000_000].into_iter().chain([3_000_000]) {
        let (piece, later) = rest.split_at(rest.len().min(length));
        upload.append(piece).unwrap();
        rest = later;
    }
    upload.finish(&pack("p")).unwrap();
    assert!(remote.get(&pack("p"), u64::MAX).unwrap() == bytes);
    remote.begin().unwrap().finish(&pack("empty")).unwrap();
    assert!(remote.get(&pack("empty"), 0).unwrap().is_empty());
}

pub fn unfinished_uploads_are_only_in_pending(place: Place) {
    let remote = place.with_folders();
    let mut dropped = remote.begin().unwrap();
    dropped.append(&content(100_000)).unwrap();
    let mut open = remote.begin().unwrap();
    open.append(b"ab").unwrap();
    drop(dropped);
    for folder in Folder::ALL.into_iter().filter(|folder| *folder != Folder::Pending) {
        assert_eq!(listed(remote, folder), []);
    }
    open.finish(&pack("p")).unwrap();
    assert_eq!(remote.get(&pack("p"), 2).unwrap(), b"ab");
    place.assert_tidy();
}

pub fn an_object_that_is_there_stays(place: Place) {
    let remote = place.with_folders();
    store(remote, &pack("p"), b"first").unwrap();
    store(remote, &pack("p"), b"other").expect("the same size counts as the same");
    assert_failed(store(remote, &pack("p"), b"longer"), ErrorKind::Exists, remote, "packs/p");
    assert_failed(store(remote, &pack("p"), b""), ErrorKind::Exists, remote, "packs/p");
    assert_eq!(remote.get(&pack("p"), 10).unwrap(), b"first");
    place.assert_tidy();
}

pub fn what_is_absent_is_not_found(place: Place) {
    let remote = place.with_folders();
    store(remote, &pack("p"), b"x").unwrap();
    let elsewhere = object(Folder::Snapshots, "p");
    assert_failed(remote.get(&elsewhere, 10), ErrorKind::NotFound, remote, "snapshots/p");
    assert_failed(remote.get_range(&elsewhere, 0, &mut [0]), ErrorKind::NotFound, remote, "snapshots/p");
    assert_failed(remote.delete(&elsewhere), ErrorKind::NotFound, remote, "snapshots/p");
    assert_eq!(remote.stat(&elsewhere).unwrap(), None);
}

pub fn ranges_reach_to_the_end_and_no_further(place: Place) {
    let remote = place.with_folders();
    let bytes = content(300_000);
    store(remote, &pack("p"), &bytes).unwrap();
    for (offset, length) in [(0, 0), (0, 1), (0, 300_000), (1, 299_999), (299_999, 1), (300_000, 0), (99_999, 100_001)]
    {
        let mut buffer = vec![0xee; length];
        remote.get_range(&pack("p"), offset as u64, &mut buffer).unwrap();
        assert!(buffer == bytes[offset..offset + length], "{length} from {offset}");
    }
    for (offset, length) in [(0, 300_001), (299_999, 2), (300_000, 1), (400_000, 1), (1 << 40, 9), (u64::MAX, 1)] {
        let result = remote.get_range(&pack("p"), offset, &mut vec![0; length]);
        assert_failed(result, ErrorKind::Short, remote, "packs/p");
    }
}

pub fn many_objects_are_read_by_turns(place: Place) {
    let remote = place.with_folders();
    let objects: Vec<_> = (0..40).map(|n| (pack(&format!("p{n}")), content(1000 + n))).collect();
    for (name, bytes) in &objects {
        store(remote, name, bytes).unwrap();
    }
    for offset in [0, 500, 999, 3] {
        for (name, bytes) in &objects {
            let mut buffer = [0; 1];
            remote.get_range(name, offset as u64, &mut buffer).unwrap();
            assert_eq!(buffer, bytes[offset..=offset], "{name} at {offset}");
        }
    }
}

pub fn a_whole_object_is_read_within_its_limit(place: Place) {
    let remote = place.with_folders();
    store(remote, &pack("p"), &content(100_000)).unwrap();
    assert_failed(remote.get(&pack("p"), 99_999), ErrorKind::Invalid, remote, "packs/p");
    assert_failed(remote.get(&pack("p"), 0), ErrorKind::Invalid, remote, "packs/p");
    assert_eq!(remote.get(&pack("p"), 100_000).unwrap().len(), 100_000);
    assert_eq!(remote.get(&pack("p"), u64::MAX).unwrap().len(), 100_000);
}

pub fn strange_names_are_counted_and_left_out(place: Place) {
    let remote = place.with_folders();
    (place.plant)(Folder::Packs, "good", b"12");
    for strange in [".hidden", "with space", "umlaut-ä", "star*"] {
        (place.plant)(Folder::Packs, strange, b"x");
    }
    (place.plant)(Folder::Marks, "it~", b"x");
    let good = Listed { name: pack("good"), size: 2 };
    assert_eq!(remote.list(Folder::Packs).unwrap(), (vec![good], 4));
    assert_eq!(remote.list(Folder::Marks).unwrap(), (vec![], 1));
    assert_eq!(remote.list(Folder::Keys).unwrap(), (vec![], 0));
}

pub fn names_at_the_bounds_work(place: Place) {
    let remote = place.with_folders();
    let longest = "n".repeat(ObjectName::MAX);
    for text in [longest.as_str(), "-", "-rf", "_", "a..b", "A"] {
        store(remote, &pack(text), text.as_bytes()).unwrap();
    }
    store(remote, &pack("a"), b"lower").unwrap();
    assert_eq!(remote.get(&pack("A"), 9).unwrap(), b"A");
    assert_eq!(remote.get(&pack("-rf"), 9).unwrap(), b"-rf");
    assert_eq!(remote.stat(&pack(&longest)).unwrap(), Some(ObjectName::MAX as u64));
    assert_eq!(listed(remote, Folder::Packs).len(), 7);
}

pub fn what_is_deleted_is_gone(place: Place) {
    let remote = place.with_folders();
    store(remote, &pack("p"), b"old").unwrap();
    remote.get_range(&pack("p"), 0, &mut [0]).unwrap();
    assert!(remote.can_delete().unwrap());
    remote.delete(&pack("p")).unwrap();
    assert_failed(remote.delete(&pack("p")), ErrorKind::NotFound, remote, "packs/p");
    assert_failed(remote.get_range(&pack("p"), 0, &mut [0]), ErrorKind::NotFound, remote, "packs/p");
    assert_eq!((remote.stat(&pack("p")).unwrap(), listed(remote, Folder::Packs)), (None, vec![]));
    store(remote, &pack("p"), b"newer").expect("the name is free again");
    let mut buffer = [0; 5];
    remote.get_range(&pack("p"), 0, &mut buffer).unwrap();
    assert_eq!(&buffer, b"newer");
}

pub fn threads_upload_and_read_at_once(place: Place) {
    let remote = place.with_folders();
    std::thread::scope(|scope| {
        for thread in 0..8_usize {
            scope.spawn(move || {
                for n in 0..5 {
                    let (name, bytes) = (pack(&format!("t{thread}-{n}")), content(50_000 * thread + n));
                    store(remote, &name, &bytes).unwrap();
                    assert!(remote.get(&name, u64::MAX).unwrap() == bytes);
                }
                store(remote, &pack("shared"), b"same for all").unwrap();
            });
        }
    });
    assert_eq!(listed(remote, Folder::Packs).len(), 41);
    assert_eq!(remote.get(&pack("shared"), 100).unwrap(), b"same for all");
    place.assert_tidy();
}

pub fn threads_share_one_object(place: Place) {
    let remote = place.with_folders();
    let bytes = &content(400_000);
    store(remote, &pack("p"), bytes).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for n in 0..20 {
                    let at = (thread * 97_003 + n * 13_001) % 350_000;
                    let mut buffer = vec![0; 50_000];
                    remote.get_range(&pack("p"), at as u64, &mut buffer).unwrap();
                    assert!(buffer == bytes[at..at + 50_000]);
                }
            });
        }
    });
}

pub fn uploads_may_lie_open_side_by_side(place: Place) {
    let remote = place.with_folders();
    let mut uploads: Vec<_> = (0..10).map(|_| remote.begin().unwrap()).collect();
    for round in 0..3 {
        for (n, upload) in uploads.iter_mut().enumerate() {
            upload.append(&[n as u8, round]).unwrap();
        }
    }
    for (n, upload) in uploads.into_iter().enumerate().rev() {
        upload.finish(&pack(&format!("p{n}"))).unwrap();
    }
    for n in 0..10 {
        assert_eq!(remote.get(&pack(&format!("p{n}")), 6).unwrap(), [n, 0, n, 1, n, 2]);
    }
}

pub fn two_thousand_objects_are_listed(place: Place) {
    let remote = place.with_folders();
    let name = |n: usize| format!("{n:060}.pack");
    for n in 0..2000 {
        (place.plant)(Folder::Packs, &name(n), &content(n % 7));
    }
    let (objects, strange) = remote.list(Folder::Packs).unwrap();
    assert_eq!((objects.len(), strange), (2000, 0));
    let all: BTreeSet<_> = objects.into_iter().map(|Listed { name, size }| (name.name().to_owned(), size)).collect();
    assert_eq!(all, (0..2000).map(|n| (name(n), n as u64 % 7)).collect());
}

pub fn flushing_changes_nothing_that_is_seen(place: Place) {
    let remote = place.with_folders();
    store(remote, &pack("p"), b"x").unwrap();
    for folder in Folder::ALL {
        let first = remote.flush(folder).unwrap();
        assert_eq!(remote.flush(folder).unwrap(), first, "a remote can promise it or can't");
    }
    assert_eq!(remote.get(&pack("p"), 1).unwrap(), b"x");
    assert!(remote.free_space().unwrap().is_none_or(|free| free > 0));
}

pub fn append_only_refuses_to_delete_and_nothing_else(place: Place) {
    let remote = &*place.remote;
    remote.create_folders().expect("they are there");
    store(remote, &pack("p"), b"one").unwrap();
    store(remote, &pack("p"), b"two").unwrap();
    assert_failed(store(remote, &pack("p"), b"three"), ErrorKind::Exists, remote, "packs/p");
    assert_failed(remote.delete(&pack("p")), ErrorKind::Refused, remote, "packs/p");
    assert_eq!(remote.get(&pack("p"), 9).unwrap(), b"one");
    assert_failed(remote.delete(&pack("q")), ErrorKind::NotFound, remote, "packs/q");
    assert!(!remote.can_delete().unwrap());
    remote.flush(Folder::Packs).unwrap();
    let mut dropped = remote.begin().unwrap();
    dropped.append(b"half").unwrap();
    drop(dropped);
    assert_eq!(listed(remote, Folder::Packs), [("p".to_owned(), 3)]);
}

/// A module of tests, one for each check.
macro_rules! checks {
    ($remote:ident, $make:expr, $($check:ident)*) => {
        mod $remote {
            $(
                #[test]
                fn $check() {
                    $crate::suite::$check($make);
                }
            )*
        }
    };
}

/// All that a remote promises on an ordinary account.
macro_rules! remote_suite {
    ($remote:ident, $make:expr) => {
        $crate::suite::checks! { $remote, $make,
            folders_come_first
            objects_of_odd_sizes_come_back
            an_upload_is_the_sum_of_its_appends
            unfinished_uploads_are_only_in_pending
            an_object_that_is_there_stays
            what_is_absent_is_not_found
            ranges_reach_to_the_end_and_no_further
            many_objects_are_read_by_turns
            a_whole_object_is_read_within_its_limit
            strange_names_are_counted_and_left_out
            names_at_the_bounds_work
            what_is_deleted_is_gone
            threads_upload_and_read_at_once
            threads_share_one_object
            uploads_may_lie_open_side_by_side
            two_thousand_objects_are_listed
            flushing_changes_nothing_that_is_seen
        }
    };
}

/// Differences of an account that can't delete.
macro_rules! append_only_suite {
    ($remote:ident, $make:expr) => {
        $crate::suite::checks! { $remote, $make, append_only_refuses_to_delete_and_nothing_else }
    };
}

pub(crate) use {append_only_suite, checks, remote_suite};
