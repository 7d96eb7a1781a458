//! What goes wrong between the SFTP remote and a host: places that can't be, keys, broken and stalled connections, full
//! disks, servers that are none.

#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/sshd.rs"]
mod sshd;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proxy::{Fault, Proxy};
use sshd::{Account, Sshd, is_root};
use varu::progress::Interrupt;
use varu::remote::fault::{self, Faulty};
use varu::remote::options::Options;
use varu::remote::place::{Place, SftpPlace};
use varu::remote::retry::{Patience, Retry};
use varu::remote::sftp::{SftpRemote, trust_host_key};
use varu::remote::wait::RealTime;
use varu::remote::{Error, ErrorKind, Folder, ObjectName, Remote, Result};

const SERVER: &str = "/usr/lib/openssh/sftp-server";

fn pack(text: &str) -> ObjectName {
    ObjectName::new(Folder::Packs, text).unwrap()
}

fn content(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8).collect()
}

fn store(remote: &dyn Remote, name: &ObjectName, bytes: &[u8]) -> Result<()> {
    let mut upload = remote.begin()?;
    for piece in bytes.chunks(100_000) {
        upload.append(piece)?;
    }
    upload.finish(name)
}

fn parse(url: &str) -> SftpPlace {
    match Place::parse(url).unwrap() {
        Place::Sftp(place) => place,
        Place::Local(path) => panic!("{path:?}"),
    }
}

fn refusal(place: &SftpPlace, options: &Options) -> Error {
    SftpRemote::open(place, options).err().expect("it can't be opened")
}

fn over(program: &[&str], path: &Path) -> Result<SftpRemote> {
    SftpRemote::over(program.iter().map(Into::into).collect(), path.to_str().unwrap(), &Options::default())
}

/// Tries again soon, for as long as a slow machine needs.
fn retry(remote: impl Remote + 'static, notes: &Arc<Mutex<Vec<String>>>) -> Retry {
    let patience = Patience {
        total: Duration::from_secs(120),
        first: Duration::from_millis(50),
        longest: Duration::from_secs(1),
        keep: 64 << 20,
    };
    let notes = Arc::clone(notes);
    let note = move |note: &str| notes.lock().unwrap().push(note.to_owned());
    Retry::new(Arc::new(remote), patience, Arc::new(RealTime::default()), Interrupt::default(), note)
}

/// Runs `work` while `fault` is done at its side.
fn beside<T>(fault: impl FnOnce() + Send, work: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let fault = scope.spawn(fault);
        let done = work();
        fault.join().unwrap();
        done
    })
}

// Places that can't be.

#[test]
fn a_wrong_host_or_port_is_unreachable() {
    let server = Sshd::shared();
    let nowhere = refusal(&parse("sftp://nowhere.invalid/x"), &server.options());
    assert_eq!(nowhere.kind, ErrorKind::Unreachable, "{nowhere}");
    assert!(nowhere.to_string().contains("nowhere.invalid") && nowhere.hint.is_some(), "{nowhere}");
    let stopped = Sshd::start();
    stopped.stop_listening();
    let refused = refusal(&stopped.place("/x"), &stopped.options());
    assert_eq!(refused.kind, ErrorKind::Unreachable, "{refused}");
    assert!(refused.to_string().contains("Connection refused") && refused.hint.is_some(), "{refused}");
}

#[test]
fn a_key_that_the_host_does_not_take_is_refused() {
    let server = Sshd::shared();
    let options = Options { ssh_key: Some(server.other_key()), ..server.options() };
    let error = refusal(&server.place("/x"), &options);
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("Permission denied") && error.to_string().contains("ssh_key"), "{error}");
}

#[test]
fn a_host_that_is_not_known_is_refused_with_the_command_that_accepts_it() {
    let server = Sshd::shared();
    let base = tempfile::tempdir().unwrap();
    let options = Options { known_hosts: Some(base.path().join("known hosts")), ..server.options() };
    let place = server.place(base.path());
    let error = refusal(&place, &options);
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    assert!(error.reason.contains(&server.fingerprint()), "{error}");
    assert!(!base.path().join("known hosts").exists(), "nothing is trusted by asking");
    let hint = error.hint.unwrap();
    let command = hint.split("To accept it: ").nth(1).unwrap();
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
    SftpRemote::open(&place, &options).expect("it is accepted now");
}

#[test]
fn a_changed_host_key_is_refused_as_such() {
    let server = Sshd::start();
    let before = server.fingerprint();
    let base = tempfile::tempdir().unwrap();
    SftpRemote::open(&server.place(base.path()), &server.options()).unwrap();
    server.stop_listening();
    server.change_host_key();
    server.listen_again();
    let error = refusal(&server.place(base.path()), &server.options());
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    assert!(error.reason.contains("has changed") && error.reason.contains(&server.fingerprint()), "{error}");
    assert_ne!(before, server.fingerprint());
    assert!(error.hint.unwrap().contains("ssh-keygen"), "it says how to forget the old one");
}

#[test]
fn a_host_is_trusted_by_its_fingerprint_alone() {
    let server = Sshd::shared();
    let base = tempfile::tempdir().unwrap();
    let file = base.path().join("ssh/known_hosts");
    let options = Options { known_hosts: Some(file.clone()), ..server.options() };
    let place = server.place(base.path());
    let other = format!("SHA256:{}", "A".repeat(43));
    let error = trust_host_key(&place, &options, &other).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    assert!(error.reason.contains(&server.fingerprint()) && !file.exists(), "{error}");
    let (key, entered) = trust_host_key(&place, &options, &server.fingerprint()).unwrap();
    assert_eq!((key.fingerprint, &entered), (server.fingerprint(), &file));
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", key.line));
    SftpRemote::open(&place, &options).unwrap();
}

#[test]
fn an_alias_of_sshs_configuration_and_a_jump_host_work() {
    let server = Sshd::shared();
    let base = tempfile::tempdir().unwrap();
    let (key, known, port) = (server.key(), server.known_hosts(), server.port());
    let user = server.place("/").user().unwrap().to_owned();
    let config = format!(
        "Host vault gate\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n  RemoteCommand false\n  RequestTTY force\n\
         Host *\n  IdentityFile {}\n  UserKnownHostsFile {}\n  LogLevel QUIET\n",
        key.display(),
        known.display()
    );
    fs::write(base.path().join("config"), config).unwrap();
    let options = Options { ssh_config: Some(base.path().join("config")), ..Options::default() };
    let place = parse(&format!("vault:{}", base.path().display()));
    let remote = SftpRemote::create(&parse(&format!("{place}/direct")), &options).unwrap();
    store(&remote, &pack("p"), b"x").unwrap();
    let options = Options { jump_host: Some("gate".to_owned()), ..options };
    let remote = SftpRemote::open(&parse(&format!("{place}/direct")), &options).unwrap();
    assert_eq!(remote.get(&pack("p"), 1).unwrap(), b"x");
}

#[test]
fn a_path_that_is_no_folder_is_refused_and_nothing_is_written() {
    let server = Sshd::shared();
    let base = tempfile::tempdir().unwrap();
    let file = base.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = SftpRemote::create(&server.place(&path), &server.options()).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        assert!(error.hint.is_some() && error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    assert_eq!(refusal(&server.place(&file), &server.options()).kind, ErrorKind::Invalid);
    let absent = refusal(&server.place(base.path().join("absent")), &server.options());
    assert_eq!(absent.kind, ErrorKind::NotFound);
    assert!(absent.hint.is_some(), "{absent}");
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
}

#[test]
fn create_makes_the_path_and_refuses_a_folder_with_other_things() {
    let server = Sshd::shared();
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("a/b c/vault");
    let place = server.place(&path);
    let remote = SftpRemote::create(&parse(&place.to_string().replace(' ', "%20")), &server.options()).unwrap();
    store(&remote, &pack("p"), b"x").unwrap();
    for folder in Folder::ALL {
        assert!(path.join(folder.name()).is_dir());
    }
    fs::write(base.path().join("letter.txt"), "x").unwrap();
    let error = SftpRemote::create(&server.place(base.path()), &server.options()).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
    assert!(error.hint.is_some() && error.to_string().contains("no repository"), "{error}");
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 2, "only what was there");
    fs::remove_dir(path.join("marks")).unwrap();
    fs::write(path.join("README"), "mine").unwrap();
    remote.create_folders().expect("a repository may have a note beside it");
    fs::remove_dir(path.join("marks")).unwrap();
    symlink(base.path(), path.join("marks")).unwrap();
    assert_eq!(remote.create_folders().unwrap_err().kind, ErrorKind::Invalid);
    assert_eq!(remote.flush(Folder::Marks).unwrap_err().kind, ErrorKind::Invalid);
}

// Servers that are none.

#[test]
fn what_does_not_speak_sftp_is_said_with_its_own_words() {
    let base = tempfile::tempdir().unwrap();
    for (program, kind, said) in [
        (&["echo", "This account is not available"][..], ErrorKind::Other, "SFTP"),
        (&["sh", "-c", "echo 'out of order' >&2; exit 3"], ErrorKind::Unreachable, "out of order"),
        (&["sh", "-c", "exit 3"], ErrorKind::Unreachable, "exit status: 3"),
        (&["/nonexistent/program"], ErrorKind::Other, "can't be started"),
        (&["sh", "-c", r"printf '\0\0\0\5\2\0\0\0\6'; cat >/dev/null"], ErrorKind::Other, "no SFTP"),
        (&["sh", "-c", r"printf '\0\0\0\5\2\0\0\0\3'; cat /dev/zero"], ErrorKind::Other, "no SFTP"),
        (
            &["sh", "-c", r"printf '\0\0\0\5\2\0\0\0\3\0\0\0\15\150\0\0\0\0\377\377\377\377zz'; cat"],
            ErrorKind::Other,
            "",
        ),
    ] {
        let error = over(program, base.path()).err().unwrap();
        assert_eq!(error.kind, kind, "{program:?}: {error}");
        assert!(error.to_string().contains(said), "{program:?}: {error}");
    }
}

#[test]
fn a_silent_server_is_given_up() {
    let options = Options {
        connect_timeout: Duration::from_millis(300),
        stall_timeout: Duration::from_millis(300),
        ..Options::default()
    };
    let error = SftpRemote::over(["sleep", "1000"].map(Into::into).to_vec(), "/", &options).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.reason.contains("no answer within 0.6 s"), "{error}");
}

#[test]
fn names_that_are_no_text_and_things_that_are_no_files_do_no_harm() {
    let base = tempfile::tempdir().unwrap();
    let remote = over(&[SERVER], base.path()).unwrap();
    remote.create_folders().unwrap();
    store(&remote, &pack("good"), b"12").unwrap();
    let packs = base.path().join("packs");
    for name in [&b"\xff\xfe"[..], b"\xc3\xa4.pack", b"a\nb", b"\x1b[2J"] {
        fs::write(packs.join(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
    }
    fs::create_dir(packs.join("folder")).unwrap();
    symlink("good", packs.join("link")).unwrap();
    let (listed, strange) = remote.list(Folder::Packs).unwrap();
    assert_eq!((listed.len(), strange), (1, 6));
    for name in ["folder", "link"] {
        assert_eq!(remote.get(&pack(name), 10).unwrap_err().kind, ErrorKind::Invalid);
        assert_eq!(remote.stat(&pack(name)).unwrap_err().kind, ErrorKind::Invalid);
        assert_eq!(store(&remote, &pack(name), b"12").unwrap_err().kind, ErrorKind::Exists);
    }
}

// Accounts.

#[test]
fn a_fresh_account_gets_its_folders_and_a_prepared_one_has_them() {
    if !is_root() {
        eprintln!("not root: no account can be made");
        return;
    }
    let (fresh, prepared) = (Account::fresh(), Account::append_only());
    let server = Sshd::start_with(&format!("{}{}", fresh.config(false), prepared.config(true)));
    for account in [&fresh, &prepared] {
        let remote = SftpRemote::create(&account.place(&server), &server.options()).unwrap();
        store(&remote, &pack("p"), &content(700_000)).unwrap();
        assert!(remote.get(&pack("p"), u64::MAX).unwrap() == content(700_000));
        assert!(remote.flush(Folder::Packs).unwrap(), "sshd can flush a folder");
        assert!(remote.free_space().unwrap().unwrap() > 0);
    }
    fs::remove_dir(prepared.repository().join("marks")).unwrap();
    let error = SftpRemote::create(&prepared.place(&server), &server.options()).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("marks") && error.to_string().contains("varu host prepare"), "{error}");
}

#[test]
fn an_append_only_account_takes_uploads_from_many_threads_and_over_cut_connections() {
    if !is_root() {
        eprintln!("not root: no account can be made");
        return;
    }
    let account = Account::append_only();
    let server = Sshd::start_with(&account.config(true));
    let notes = Arc::default();
    let remote = retry(SftpRemote::open(&account.place(&server), &server.options()).unwrap(), &notes);
    let bytes = content(3_000_000);
    let cut = || {
        std::thread::sleep(Duration::from_millis(100));
        server.kill_sessions();
    };
    beside(cut, || {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (remote, bytes) = (&remote, &bytes);
                scope.spawn(move || {
                    (0..3).for_each(|n| store(remote, &pack(&format!("{thread}-{n}")), &bytes[n..]).unwrap());
                });
            }
        });
    });
    assert_eq!(remote.list(Folder::Packs).unwrap().0.len(), 12);
    for thread in 0..4 {
        for n in 0..3 {
            assert!(remote.get(&pack(&format!("{thread}-{n}")), u64::MAX).unwrap() == bytes[n..]);
        }
    }
}

// Connections that break.

#[test]
fn a_connection_that_is_killed_is_unreachable_once_and_made_anew() {
    let server = Sshd::start();
    let base = tempfile::tempdir().unwrap();
    let remote = SftpRemote::create(&server.place(base.path().join("vault")), &server.options()).unwrap();
    let bytes = content(2_000_000);
    store(&remote, &pack("before"), &bytes).unwrap();

    let mut upload = remote.begin().unwrap();
    upload.append(&bytes).unwrap();
    server.kill_sessions();
    let until = Instant::now() + Duration::from_secs(60);
    let error = loop {
        match upload.append(&bytes[..300_000]) {
            Err(error) => break error,
            Ok(()) => assert!(Instant::now() < until, "an upload on a dead connection goes on"),
        }
    };
    assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
    assert!(upload.append(b"x").is_err() && upload.finish(&pack("dead")).is_err());

    assert!(remote.get(&pack("before"), u64::MAX).unwrap() == bytes, "the next call connects again");
    assert_eq!(remote.stat(&pack("dead")).unwrap(), None);
}

#[test]
fn uploads_and_downloads_survive_killed_sessions_under_retry() {
    let server = Sshd::start();
    let base = tempfile::tempdir().unwrap();
    let remote = SftpRemote::create(&server.place(base.path().join("vault")), &server.options()).unwrap();
    let notes = Arc::default();
    let remote = retry(remote, &notes);
    let bytes = content(30_000_000);
    let mut upload = remote.begin().unwrap();
    upload.append(&bytes[..10_000_000]).unwrap();
    server.kill_sessions();
    upload.append(&bytes[10_000_000..]).unwrap();
    server.kill_sessions();
    upload.finish(&pack("p")).unwrap();
    assert!(fs::read(base.path().join("vault/packs/p")).unwrap() == bytes);
    assert!(!notes.lock().unwrap().is_empty(), "something broke");

    let kill = || {
        std::thread::sleep(Duration::from_millis(20));
        server.kill_sessions();
    };
    let mut buffer = vec![0; bytes.len()];
    beside(kill, || remote.get_range(&pack("p"), 0, &mut buffer)).unwrap();
    assert!(buffer == bytes);
}

#[test]
fn a_server_that_is_away_for_a_while_is_waited_for() {
    let server = Sshd::start();
    let base = tempfile::tempdir().unwrap();
    let remote = SftpRemote::create(&server.place(base.path().join("vault")), &server.options()).unwrap();
    let notes = Arc::default();
    let remote = retry(remote, &notes);
    server.stop_listening();
    server.kill_sessions();
    // Its sessions are no children of a listener that is gone.
    let back = || {
        std::thread::sleep(Duration::from_millis(700));
        server.listen_again();
    };
    beside(back, || (0..3).for_each(|n| store(&remote, &pack(&format!("p{n}")), &content(400_000)).unwrap()));
    assert_eq!(remote.list(Folder::Packs).unwrap().0.len(), 3);
}

/// A small run: folders, an object, a look, a listing and reading it back.
fn small_run(remote: &dyn Remote, bytes: &[u8]) -> Result<()> {
    remote.create_folders()?;
    store(remote, &pack("p"), bytes)?;
    remote.flush(Folder::Packs)?;
    assert_eq!(remote.stat(&pack("p"))?, Some(bytes.len() as u64));
    let (listed, strange) = remote.list(Folder::Packs)?;
    assert_eq!((listed.len(), strange), (1, 0));
    assert!(remote.get(&pack("p"), u64::MAX)? == bytes);
    Ok(())
}

/// A sample of the bytes at which a run is broken; all of them would take hours. With `VARU_TEST_LONG` a larger one.
fn sample(total: u64) -> impl Iterator<Item = u64> {
    let count = if std::env::var_os("VARU_TEST_LONG").is_some() { 200 } else { 12 };
    (0..count).map(move |n| n * total / count + n % 7)
}

#[test]
fn a_run_succeeds_wherever_its_connection_is_cut() {
    let server = Sshd::shared();
    let bytes = content(400_000);
    let run = |fault_at: Option<u64>| {
        let base = tempfile::tempdir().unwrap();
        let proxy = Proxy::start(server.port(), Duration::ZERO);
        if let Some(byte) = fault_at {
            proxy.fault_at(byte, Fault::Cut);
        }
        let place = server.place_through(proxy.port(), base.path());
        // Opening isn't tried again by itself.
        let remote = match SftpRemote::open(&place, &server.options()) {
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
                SftpRemote::open(&place, &server.options()).unwrap()
            }
            Ok(remote) => remote,
        };
        small_run(&retry(remote, &Arc::default()), &bytes).unwrap();
        assert!(fs::read(base.path().join("packs/p")).unwrap() == bytes);
        assert!(proxy.has_failed(), "{fault_at:?} of {}", proxy.passed());
        proxy.passed()
    };
    let total = run(None);
    for byte in sample(total * 9 / 10) {
        run(Some(byte));
    }
}

#[test]
fn a_stalled_connection_is_given_up_and_the_run_goes_on_another() {
    let server = Sshd::shared();
    let bytes = content(400_000);
    for byte in [20_000, 200_000, 600_000] {
        let base = tempfile::tempdir().unwrap();
        let proxy = Proxy::start(server.port(), Duration::ZERO);
        let options = Options { stall_timeout: Duration::from_secs(2), ..server.options() };
        let remote = SftpRemote::open(&server.place_through(proxy.port(), base.path()), &options).unwrap();
        proxy.fault_at(byte, Fault::Stall);
        let notes = Arc::default();
        small_run(&retry(remote, &notes), &bytes).unwrap();
        let notes = notes.lock().unwrap();
        assert!(notes.iter().any(|note| note.contains("stalled: no byte moved for 2 s")), "{notes:?}");
        assert!(fs::read(base.path().join("packs/p")).unwrap() == bytes);
    }
}

#[test]
fn a_finish_whose_answer_was_lost_is_resolved_by_looking() {
    let base = tempfile::tempdir().unwrap();
    let remote = over(&[SERVER], base.path()).unwrap();
    remote.create_folders().unwrap();
    let faulty = Faulty::new(Arc::new(remote));
    faulty.fail_at(3, fault::Fault::LoseAnswer);
    store(&retry(faulty, &Arc::default()), &pack("p"), b"abc").unwrap();
    assert_eq!(fs::read(base.path().join("packs/p")).unwrap(), b"abc");
}

#[test]
fn an_object_that_has_both_names_is_done() {
    let base = tempfile::tempdir().unwrap();
    let remote = over(&[SERVER], base.path()).unwrap();
    remote.create_folders().unwrap();
    let mut upload = remote.begin().unwrap();
    upload.append(b"abc").unwrap();
    let part = fs::read_dir(base.path().join("pending")).unwrap().next().unwrap().unwrap().path();
    fs::hard_link(part, base.path().join("packs/p")).unwrap();
    upload.finish(&pack("p")).unwrap();
    assert_eq!(fs::read(base.path().join("packs/p")).unwrap(), b"abc");
    assert_eq!(fs::read_dir(base.path().join("pending")).unwrap().count(), 0);
}

#[test]
fn connections_grow_with_the_distance_and_end_with_the_remote() {
    let server = Sshd::start();
    let base = tempfile::tempdir().unwrap();
    let far = Proxy::start(server.port(), Duration::from_millis(60));
    let options = Options { connections: 3, ..server.options() };
    let remote = SftpRemote::create(&server.place_through(far.port(), base.path().join("v")), &options).unwrap();
    assert_eq!(remote.connections(), 1, "one is enough for little");
    let uploads: Vec<_> = (0..5).map(|_| remote.begin().unwrap()).collect();
    assert_eq!(remote.connections(), 3, "each upload has its own, up to the most that is allowed");
    for (n, mut upload) in uploads.into_iter().enumerate() {
        upload.append(&content(600_000)).unwrap();
        upload.finish(&pack(&format!("p{n}"))).unwrap();
    }
    let mut buffer = vec![0; 600_000];
    remote.get_range(&pack("p0"), 0, &mut buffer).unwrap();
    assert!(buffer == content(600_000));
    assert!(server.sessions() > 0);
    drop(remote);
    let until = Instant::now() + Duration::from_secs(60);
    while server.sessions() > 0 {
        assert!(Instant::now() < until, "sessions stay open");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_upload_that_is_dropped_with_writes_under_way_leaves_its_connection_whole() {
    let base = tempfile::tempdir().unwrap();
    let options = Options { connections: 1, ..Options::default() };
    let remote = SftpRemote::over(vec![SERVER.into()], base.path().to_str().unwrap(), &options).unwrap();
    remote.create_folders().unwrap();
    for _ in 0..10 {
        let mut upload = remote.begin().unwrap();
        upload.append(&content(3_000_000)).unwrap();
        drop(upload);
        store(&remote, &pack("p"), &content(600_000)).unwrap();
        assert!(remote.get(&pack("p"), u64::MAX).unwrap() == content(600_000));
    }
    assert!(remote.list(Folder::Pending).unwrap().0.is_empty());
}

#[test]
fn threads_that_wait_for_one_failing_connection_all_hear_why() {
    let base = tempfile::tempdir().unwrap();
    let server = Sshd::start();
    let remote = SftpRemote::create(&server.place(base.path().join("vault")), &server.options()).unwrap();
    server.kill_sessions();
    server.stop_listening();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                // The first answer may be that of the connection that was killed.
                let _ = remote.stat(&pack("p"));
                let error = remote.stat(&pack("p")).unwrap_err();
                assert_eq!(error.kind, ErrorKind::Unreachable);
                assert!(error.to_string().contains("Connection refused"), "{error}");
            });
        }
    });
    server.listen_again();
    assert_eq!(remote.stat(&pack("p")).unwrap(), None);
}

// Full disks.

/// A small file system in memory. It is taken away when it is dropped. Root only.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let disk = Self(tempfile::tempdir().unwrap());
        let mounted = is_root() && disk.run(&["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs"]);
        mounted.then_some(disk)
    }

    fn run(&self, command: &[&str]) -> bool {
        Command::new(command[0]).args(&command[1..]).arg(self.0.path()).status().unwrap().success()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.run(&["umount", "--lazy"]);
    }
}

#[test]
fn a_full_disk_and_one_that_can_only_be_read_are_said_as_such() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("no small disk can be mounted");
        return;
    };
    let remote = over(&[SERVER], disk.0.path()).unwrap();
    remote.create_folders().unwrap();
    store(&remote, &pack("first"), &content(3_000_000)).unwrap();
    for _ in 0..3 {
        let full = store(&remote, &pack("second"), &content(9_000_000)).unwrap_err();
        assert_eq!(full.kind, ErrorKind::NoSpace, "{full}");
        assert!(full.to_string().contains("full") && full.to_string().contains("make room"), "{full}");
        assert!(remote.list(Folder::Pending).unwrap().0.is_empty(), "the part is taken away");
    }
    assert!(remote.get(&pack("first"), u64::MAX).unwrap() == content(3_000_000));
    remote.delete(&pack("first")).unwrap();
    store(&remote, &pack("second"), &content(5_000_000)).expect("there is room again");
    assert!(disk.run(&["mount", "-o", "remount,ro"]));
    let read_only = remote.begin().err().unwrap();
    assert_eq!(read_only.kind, ErrorKind::ReadOnly, "{read_only}");
    assert_eq!(remote.delete(&pack("second")).unwrap_err().kind, ErrorKind::ReadOnly);
}

#[test]
fn a_write_that_fails_though_there_is_room_is_taken_for_a_quota() {
    let base = tempfile::tempdir().unwrap();
    // A limit for the size of files: the server says of it what it says of a quota.
    let limited = format!("trap '' XFSZ; ulimit -f 1000; exec {SERVER}");
    let remote = over(&["sh", "-c", &limited], base.path()).unwrap();
    remote.create_folders().unwrap();
    let error = store(&remote, &pack("p"), &content(4_000_000)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoSpace, "{error}");
    assert!(error.to_string().contains("quota") && error.hint.is_some(), "{error}");
    store(&remote, &pack("p"), &content(100_000)).unwrap();
}
