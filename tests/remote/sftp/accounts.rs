//! Accounts as a backup host has them.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use varu::remote::sftp::SftpRemote;
use varu::remote::{ErrorKind, Folder, Remote};

use super::connections::beside;
use super::{content, pack, retry, store};
use support::sshd::{Account, Sshd, is_root};

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
