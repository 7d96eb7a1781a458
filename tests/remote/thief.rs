//! A thief on the machine, with its SSH key and all of its files: accepted objects are out of reach; unaccepted ones are
//! put back, or their loss is reported.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::host::Host;
use support::raw_sftp::{APPEND, CREATE, EXCLUSIVE, READ, Raw, TRUNCATE, WRITE};
use support::sshd::is_root;
use varu::host::accept::{AcceptOptions, AcceptReport, accept};
use varu::host::policy::{HostPolicy, Rule};
use varu::host::prune::{HostPruneOptions, prune};
use varu::id::{PackId, derive_bytes};
use varu::progress::{Counts, Interrupt};
use varu::remote::Folder;
use varu::time::{Clock, SystemClock, Timestamp};

const OBJECTS: [Folder; 4] = [Folder::Info, Folder::Keys, Folder::Packs, Folder::Snapshots];

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    derive_bytes("varu test noise", &seed.to_le_bytes(), &mut bytes);
    bytes
}

fn long() -> bool {
    std::env::var_os("VARU_TEST_LONG").is_some()
}

type Snapshots = Vec<(String, Vec<u8>)>;

/// A host on which a machine has made its repository. None if no account can be made.
fn host() -> Option<Host> {
    if !is_root() {
        eprintln!("not root: no account can be made");
        return None;
    }
    let host = Host::prepared();
    host.varu(&["init"]).ends(0);
    Some(host)
}

fn back_up(host: &Host, seeds: std::ops::Range<u64>) -> Snapshots {
    seeds
        .map(|seed| {
            let bytes = noise(150_000, seed);
            (host.back_up(&bytes), bytes)
        })
        .collect()
}

fn thief(host: &Host) -> Raw {
    Raw::open(host.ssh(), &host.login())
}

/// All objects as paths inside the chroot.
fn objects(host: &Host) -> Vec<String> {
    let of = |folder: Folder| host.names(folder).into_iter().map(move |name| format!("/repo/{}/{name}", folder.name()));
    OBJECTS.into_iter().flat_map(of).collect()
}

fn contents(host: &Host) -> Vec<(String, Vec<u8>)> {
    let read = |folder: Folder, name: String| (name.clone(), fs::read(host.file(folder, &name)).unwrap());
    OBJECTS.into_iter().flat_map(|folder| host.names(folder).into_iter().map(move |name| read(folder, name))).collect()
}

/// A clock that is ahead.
struct Ahead(Duration);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now().after(self.0)
    }
}

fn accept_in(host: &Host, days: u64) -> AcceptReport {
    let options = AcceptOptions { places: host.places(), accounts: vec![host.account.clone()], wait: Duration::ZERO };
    let clock = Ahead(Duration::from_secs(days * 24 * 3600));
    let report = accept(&options, &clock, &Counts::default(), &Interrupt::default()).unwrap().remove(0);
    assert!(report.failure.is_none(), "{report:?}");
    report
}

/// Tries every request on one object. Those that were granted.
fn attack(raw: &mut Raw, path: &str, number: usize) -> Vec<String> {
    let (mine, other) = (format!("/repo/pending/mine-{number}"), format!("/repo/pending/other-{number}"));
    raw.put(&mine, b"junk").unwrap();
    let name = path.rsplit('/').next().unwrap();
    let mut granted = Vec::new();
    let mut attempt = |what: &str, result: Result<(), u32>| {
        if result.is_ok() {
            granted.push(format!("{what} {path}"));
        }
    };
    attempt("remove", raw.remove(path));
    for flags in [WRITE, WRITE | TRUNCATE, READ | WRITE, WRITE | APPEND, WRITE | CREATE, WRITE | CREATE | EXCLUSIVE] {
        attempt("open for writing", raw.handle(path, flags).map(drop));
    }
    attempt("chmod", raw.chmod(path));
    attempt("truncate", raw.truncate(path));
    if let Ok(handle) = raw.handle(path, READ) {
        attempt("write through a reader", raw.write(&handle, 0, b"junk"));
        attempt("truncate a handle", raw.change_handle(&handle, Some(0)));
        attempt("chmod a handle", raw.change_handle(&handle, None));
        let _ = raw.close(&handle);
    }
    attempt("move away", raw.rename(path, &other));
    attempt("move inside", raw.rename(path, &format!("{path}.old")));
    attempt("rename over", raw.rename(&mine, path));
    attempt("rename over, as POSIX does", raw.extended("posix-rename@openssh.com", &[&mine, path]));
    attempt("move away, as POSIX does", raw.extended("posix-rename@openssh.com", &[path, &other]));
    attempt("hard link", raw.extended("hardlink@openssh.com", &[path, &format!("/repo/marks/{name}")]));
    attempt("symbolic link", raw.symlink("/etc/passwd", &format!("{path}.link")));
    attempt("make a folder", raw.make_folder(&format!("{path}.folder")));
    granted
}

#[test]
fn what_was_accepted_can_not_be_touched() {
    let Some(host) = host() else { return };
    let snapshots = back_up(&host, 0..3);
    host.accept().ends(0);
    let before = contents(&host);
    let paths = objects(&host);
    // Eight sessions at once, each on every object.
    let granted: Vec<String> = std::thread::scope(|scope| {
        let session = |session: usize| {
            let (host, paths) = (&host, &paths);
            scope.spawn(move || {
                let mut raw = thief(host);
                let each = paths.iter().enumerate().flat_map(|(n, path)| attack(&mut raw, path, session * 1000 + n));
                each.collect::<Vec<_>>()
            })
        };
        let sessions: Vec<_> = (0..8).map(session).collect();
        sessions.into_iter().flat_map(|session| session.join().unwrap()).collect()
    });
    assert_eq!(granted, Vec::<String>::new());
    let mut raw = thief(&host);
    for folder in Folder::ALL.map(|folder| format!("/repo/{}", folder.name())).iter().chain([&"/repo".to_owned()]) {
        for to in ["/repo/pending/away", "/repo/away", "/away"] {
            assert!(raw.rename(folder, to).is_err(), "{folder} is moved to {to}");
        }
        assert!(raw.remove_folder(folder).is_err() && raw.chmod(folder).is_err(), "{folder}");
        assert!(raw.put(&format!("{folder}.new"), b"junk").is_err() || folder != "/repo", "{folder}");
    }
    assert!(raw.handle("/etc/passwd", READ).is_err() && raw.handle("/../../../etc/passwd", READ).is_err());
    host.accept().ends(0);
    assert!(contents(&host) == before, "something was changed");
    // With varu and all that is on the machine: he can add, as the machine can.
    let junk = back_up(&host, 66..68);
    host.accept().ends(0);
    host.varu(&["verify"]).ends(0);
    host.assert_restore(&[snapshots, junk].concat());
}

#[test]
fn what_was_moved_away_is_put_back_and_the_sweep_takes_none_of_it() {
    let Some(host) = host() else { return };
    let mut snapshots = back_up(&host, 0..1);
    host.accept().ends(0);
    snapshots.extend(back_up(&host, 1..4));
    let unaccepted = |folder: Folder| {
        let names = host.names(folder).into_iter();
        let theirs =
            |name: &String| std::os::unix::fs::MetadataExt::uid(&fs::metadata(host.file(folder, name)).unwrap()) != 0;
        names.filter(theirs).collect::<Vec<_>>()
    };
    let (packs, headers) = (unaccepted(Folder::Packs), unaccepted(Folder::Snapshots));
    assert_eq!((packs.len(), headers.len()), (3, 3));
    let mut raw = thief(&host);
    let pack = |n: usize| format!("/repo/packs/{}", packs[n]);
    let header = |n: usize| format!("/repo/snapshots/{}", headers[n]);
    // Into pending/ and marks/, under each other's names, with junk in their place.
    raw.rename(&pack(0), "/repo/pending/0123.part").unwrap();
    raw.rename(&pack(1), &pack(0)).unwrap();
    raw.rename(&pack(2), &pack(1)).unwrap();
    raw.put(&pack(2), b"junk").unwrap();
    raw.rename(&header(0), "/repo/pending/4567.part").unwrap();
    raw.rename(&header(1), "/repo/marks/x").unwrap();
    raw.put(&header(1), &noise(5000, 9)).unwrap();
    raw.rename(&header(2), "/repo/keys/y").unwrap();
    raw.put("/repo/pending/half.part", &fs::read(host.file(Folder::Pending, "0123.part")).unwrap()[..5000]).unwrap();
    let report = accept_in(&host, 15);
    assert_eq!((report.put_back.len(), report.swept), (6, 0), "{report:?}");
    assert!(report.damage.is_empty(), "{report:?}");
    host.assert_restore(&snapshots);
    host.varu(&["verify"]).ends(0);
    accept_in(&host, 16);
    let report = accept_in(&host, 31);
    assert_eq!(report.swept, 3, "what was half, and the junk: {report:?}");
    assert_eq!(host.names(Folder::Pending), Vec::<String>::new());
    host.assert_restore(&snapshots);
    snapshots.extend(back_up(&host, 9..10));
    host.accept().ends(0);
    host.assert_restore(&snapshots[3..]);
}

#[test]
fn a_write_handle_that_is_kept_open_writes_to_what_is_gone() {
    let Some(host) = host() else { return };
    let snapshots = back_up(&host, 0..2);
    let mut raw = thief(&host);
    // Each pack is moved away and written again, by a handle that stays open.
    let mut handles = Vec::new();
    for (n, name) in host.names(Folder::Packs).into_iter().enumerate() {
        let path = format!("/repo/packs/{name}");
        raw.rename(&path, &format!("/repo/pending/{n}")).unwrap();
        let bytes = fs::read(host.file(Folder::Pending, &n.to_string())).unwrap();
        let handle = raw.handle(&path, WRITE | CREATE | EXCLUSIVE).unwrap();
        for (at, piece) in bytes.chunks(30_000).enumerate() {
            raw.write(&handle, at as u64 * 30_000, piece).unwrap();
        }
        handles.push(handle);
    }
    host.accept().ends(0);
    for handle in &handles {
        raw.write(handle, 0, &[0; 20_000]).expect("the handle is open, to what nobody reads");
    }
    host.accept().ends(0);
    for name in host.names(Folder::Packs) {
        let bytes = fs::read(host.file(Folder::Packs, &name)).unwrap();
        assert_eq!(format!("{}.pack", PackId::of(&bytes)), name);
    }
    host.varu(&["verify"]).ends(0);
    host.assert_restore(&snapshots);
}

#[test]
fn sessions_that_rename_to_one_name_destroy_nothing_that_was_accepted() {
    let Some(host) = host() else { return };
    let accepted = back_up(&host, 0..2);
    host.accept().ends(0);
    let before = contents(&host);
    let fresh = back_up(&host, 2..3);
    let names: Vec<String> = objects(&host);
    let (sessions, renames) = (6, if long() { 20_000 } else { 600 });
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let racing: Vec<_> = (0..sessions)
            .map(|session: usize| {
                let (host, names) = (&host, &names);
                scope.spawn(move || {
                    let mut raw = thief(host);
                    let mut n = session + 1;
                    let mut draw = |end: usize| {
                        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        (n >> 33) % end
                    };
                    for round in 0..renames {
                        let from = &names[draw(names.len())];
                        let _ = raw.put("/repo/pending/one", &round.to_string().into_bytes());
                        let to = ["/repo/pending/one", "/repo/pending/two", &names[draw(names.len())]][draw(3)];
                        let _ = raw.rename(from, to);
                        let _ = raw.rename("/repo/pending/two", from);
                        let _ = raw.rename("/repo/pending/one", from);
                    }
                })
            })
            .collect();
        let beside = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                accept_in(&host, 0);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        racing.into_iter().for_each(|session| session.join().unwrap());
        over.store(true, Ordering::Relaxed);
        beside.join().unwrap();
    });
    accept_in(&host, 0);
    let report = accept_in(&host, 0);
    let now = contents(&host);
    assert!(before.iter().all(|object| now.contains(object)), "something that was accepted is changed");
    host.assert_restore(&accepted);
    // An unaccepted object is there, or its loss is reported.
    if host.bring_back(&fresh[0].0).is_err() {
        let next = host.varu(&["backup", host.at("data").to_str().unwrap()]);
        eprintln!("lost: the host says {:?}; the next run ends with {}: {}", report.damage, next.status, next.err);
        assert!(!report.damage.is_empty() || next.status == 7, "the loss is said by the host or by the next run");
    }
}

/// The possible races before an object is accepted, done by hand.
#[test]
fn what_is_lost_before_it_was_accepted_is_reported_by_the_host_and_by_the_next_run() {
    let Some(host) = host() else { return };
    let accepted = back_up(&host, 0..1);
    host.accept().ends(0);
    let old = host.names(Folder::Packs);
    back_up(&host, 1..2);
    let lost = host.names(Folder::Packs).into_iter().find(|name| !old.contains(name)).unwrap();
    fs::remove_file(host.file(Folder::Packs, &lost)).unwrap();
    for _ in 0..2 {
        let report = host.accept().ends(7);
        assert!(report.json()["accounts"][0]["damage"][0]["reason"].as_str().unwrap().contains(&lost));
    }
    let next = host.varu(&["backup", host.at("data").to_str().unwrap()]);
    let said = format!("{}{}", String::from_utf8_lossy(&next.out), next.err);
    eprintln!("a lost pack: {} {said}", next.status);
    assert!([3, 7].contains(&next.status), "{said}");
    assert!(said.contains(lost.trim_end_matches(".pack")) || said.contains("missing"), "{said}");
    host.assert_restore(&accepted);
    // A snapshot that is gone.
    let old = host.names(Folder::Snapshots);
    fs::write(host.at("data/file"), noise(90_000, 7)).unwrap();
    host.varu(&["backup", host.at("data").to_str().unwrap()]);
    let newest = host.names(Folder::Snapshots).into_iter().find(|name| !old.contains(name)).unwrap();
    fs::remove_file(host.file(Folder::Snapshots, &newest)).unwrap();
    let next = host.varu(&["backup", host.at("data").to_str().unwrap()]).ends(7);
    assert!(next.err.contains(&newest[newest.len() - 32..]), "{}", next.err);
    host.assert_restore(&accepted);
}

/// A machine's life with weekly fulls, the host's accept and prune beside it, and a thief at some moment of it.
#[test]
fn a_thief_comes_at_some_moment_of_a_life() {
    let Some(host) = host() else { return };
    let (week, weeks, keep) = if long() { (7, 9, 28) } else { (3, 4, 5) };
    let day = Duration::from_secs(24 * 3600);
    let all = Rule { keep: Some(keep * day), ..Rule::default() };
    let policy = HostPolicy { all, ..HostPolicy::default() };
    let moment = RandomState::new().hash_one(0_u8) % u64::from(week * weeks);
    eprintln!("the thief comes on day {moment}");
    let mut made: Snapshots = Vec::new();
    for now in 0..week * weeks {
        let bytes = noise(60_000, 1000 + u64::from(now));
        let kind = if now % week == 0 { "--full" } else { "--incremental" };
        made.push((host.back_up_as(&bytes, &[kind]), bytes));
        if u64::from(now) == moment {
            accept_in(&host, u64::from(now));
            let mut raw = thief(&host);
            for (number, path) in objects(&host).iter().enumerate() {
                assert_eq!(attack(&mut raw, path, number), Vec::<String>::new());
            }
        }
        let options = HostPruneOptions {
            places: host.places(),
            accounts: Vec::new(),
            wait: Duration::ZERO,
            policy: policy.clone(),
            dry_run: false,
        };
        let clock = Ahead(now * day);
        let report = prune(&options, &clock, &Counts::default(), &Interrupt::default()).unwrap().remove(0);
        assert!(report.failure.is_none() && report.damage.is_empty(), "day {now}: {report:?}");
        for (then, (id, _)) in made.iter().enumerate() {
            let last = then as u32 / week * week + week - 1;
            let there = host.names(Folder::Snapshots).iter().any(|name| name.ends_with(id));
            // It is deleted once the chain after it has been there for `keep`, too.
            assert_eq!(there, last + 1 + keep > now, "day {now}: the snapshot of day {then}");
        }
    }
    let stay: Snapshots = made
        .into_iter()
        .enumerate()
        .filter(|(then, _)| *then as u32 / week * week + week + keep > week * weeks - 1)
        .map(|(_, snapshot)| snapshot)
        .collect();
    assert!(stay.len() as u32 > week);
    host.varu(&["verify"]).ends(0);
    host.run(&["verify"]).ends(0);
    host.assert_restore(&stay);
}
