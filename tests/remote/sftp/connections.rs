//! Connections that break, stall, and are far away.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use varu::remote::fault::{self, Faulty};
use varu::remote::options::Options;
use varu::remote::sftp::SftpRemote;
use varu::remote::{ErrorKind, Folder, Remote, Result};

use super::{SERVER, content, over, pack, retry, store};
use support::proxy::{Fault, Proxy};
use support::sshd::Sshd;

/// Runs `work` while `fault` is done at its side.
pub fn beside<T>(fault: impl FnOnce() + Send, work: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let fault = scope.spawn(fault);
        let done = work();
        fault.join().unwrap();
        done
    })
}

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
    server.kill_sessions();
    server.stop_listening();
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

/// Whoever waits for all that a program started, as systemd does, would wait for it.
#[test]
fn a_connection_that_is_being_opened_leaves_no_program_behind() {
    let (base, beside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pids = beside.path().join("pids");
    // The first connection is good; those that follow never greet.
    let program = format!("mkdir {0}.first && exec {SERVER}; echo $$ >> {0}; exec sleep 1000", pids.display());
    let program = ["sh", "-c", &program].map(Into::into).to_vec();
    let remote = SftpRemote::over(program, base.path().to_str().unwrap(), &Options::default()).unwrap();
    remote.create_folders().unwrap();
    let mut upload = remote.begin().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while !fs::read_to_string(&pids).is_ok_and(|text| text.ends_with('\n')) {
        assert!(Instant::now() < until, "no second connection is tried");
        upload.append(&content(1_000_000)).unwrap();
    }
    drop((upload, remote));
    for pid in fs::read_to_string(&pids).unwrap().lines() {
        assert!(!Path::new("/proc").join(pid).exists(), "{pid} goes on");
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
