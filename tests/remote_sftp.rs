//! The SFTP remote: the suite for all remotes, over the server on a pipe and over a real sshd, and what only it has.

mod remote_suite;
#[path = "support/sshd.rs"]
mod sshd;

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use remote_suite::{Place, Plant};
use sshd::{ALLOWED, Account, Sshd, is_root};
use varu::remote::Folder;
use varu::remote::options::Options;
use varu::remote::sftp::SftpRemote;

const SERVER: &str = "/usr/lib/openssh/sftp-server";

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
    let program = vec![OsString::from(SERVER)];
    let remote = SftpRemote::over(program, base.path().to_str().unwrap(), &Options::default()).unwrap();
    let plant = plant_in(base.path());
    Place { remote: Arc::new(remote), plant: keeping(base, plant), tidy: true }
}

fn append_only_pipe() -> Place {
    let base = tempfile::tempdir().unwrap();
    for folder in Folder::ALL {
        fs::create_dir(base.path().join(folder.name())).unwrap();
    }
    let program = [SERVER, "-u", "0222", "-p", ALLOWED].map(OsString::from).to_vec();
    let remote = SftpRemote::over(program, base.path().to_str().unwrap(), &Options::default()).unwrap();
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
        remote_suite::append_only_refuses_to_delete_and_nothing_else(place);
    }
}
