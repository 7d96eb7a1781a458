//! The SFTP remote: the suite for all remotes, over the server on a pipe and over a real sshd, and its own tests.

mod accounts;
mod connections;
mod disks;
mod places;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::suite::{Place, Plant, append_only_suite, remote_suite};
use support::sshd::{ALLOWED, Account, Sshd, is_root};
use varu::progress::Interrupt;
use varu::remote::options::Options;
use varu::remote::retry::{Patience, Retry, Tries};
use varu::remote::sftp::SftpRemote;
use varu::remote::wait::RealTime;
use varu::remote::{Folder, ObjectName, Remote, Result};

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
    Retry::new(Arc::new(remote), Tries::new(patience, Arc::new(RealTime::default()), Interrupt::default(), note))
}

fn plant_in(base: &Path) -> Box<Plant> {
    let base = base.to_owned();
    Box::new(move |folder, name, bytes| fs::write(base.join(folder.name()).join(name), bytes).unwrap())
}

/// Lives as long as the place that it belongs to.
fn keeping<T: 'static>(kept: T, plant: Box<Plant>) -> Box<Plant> {
    Box::new(move |folder, name, bytes| {
        let _ = &kept;
        plant(folder, name, bytes);
    })
}

fn pipe() -> Place {
    let base = tempfile::tempdir().unwrap();
    let remote = over(&[SERVER], base.path()).unwrap();
    let plant = plant_in(base.path());
    Place { remote: Arc::new(remote), plant: keeping(base, plant), tidy: true }
}

fn append_only_pipe() -> Place {
    let base = tempfile::tempdir().unwrap();
    for folder in Folder::ALL {
        fs::create_dir(base.path().join(folder.name())).unwrap();
    }
    let remote = over(&[SERVER, "-u", "0222", "-p", ALLOWED], base.path()).unwrap();
    let plant = plant_in(base.path());
    Place { remote: Arc::new(remote), plant: keeping(base, plant), tidy: false }
}

fn ordinary() -> Place {
    let base = tempfile::tempdir().unwrap();
    let server = Sshd::shared();
    let remote = SftpRemote::open(&server.place(base.path()), &server.options()).unwrap();
    let plant = plant_in(base.path());
    Place { remote: Arc::new(remote), plant: keeping((server, base), plant), tidy: true }
}

fn append_only() -> Option<Place> {
    if !is_root() {
        eprintln!("not root: no account can be made");
        return None;
    }
    let account = Account::append_only();
    let server = Sshd::start_with(&account.config(true));
    let remote = SftpRemote::open(&account.place(&server), &server.options()).unwrap();
    let plant = plant_in(&account.repository());
    Some(Place { remote: Arc::new(remote), plant: keeping((server, account), plant), tidy: false })
}

remote_suite!(pipe, super::pipe());
remote_suite!(ordinary_account, super::ordinary());
append_only_suite!(append_only_pipe, super::append_only_pipe());

#[test]
fn an_append_only_account_refuses_to_delete_and_nothing_else() {
    if let Some(place) = append_only() {
        crate::suite::append_only_refuses_to_delete_and_nothing_else(place);
    }
}
