//! The real program over a real sshd: failures of a backup host, a network and a disk, and their outcome.

mod calls;
mod clocks;
mod cuts;
mod disks;
mod limits;
mod resume;
mod spool;
mod wrong;

use std::fs;
use std::path::{Path, PathBuf};

use support::machine::{Ended, Machine};
use support::sshd::Sshd;
use varu::remote::place::SftpPlace;

/// A machine whose repository is on an SFTP host.
struct Ship {
    machine: Machine,
    _folder: tempfile::TempDir,
}

/// Lines of `[repository]` that let a test wait no longer than it must. Only for tests in which something stalls: a busy disk may
/// let a healthy connection stand still for as long.
const IMPATIENT: &str = "connect_timeout = '20 s'\nstall_timeout = '2 s'\nretry_for = '60 s'\n";

impl Ship {
    /// A machine that reaches `place` on `server`, with more lines for `[repository]`.
    fn new(server: &Sshd, place: &SftpPlace, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        let config = top.join("varu.toml");
        fs::write(&config, config_text(server, place, more)).unwrap();
        Self { machine: Machine::configured(&top, &config), _folder: folder }
    }

    /// One whose repository is the folder `vault` beside it, over an ordinary account.
    fn beside(server: &Sshd, more: &str) -> Self {
        let ship = Self::new(server, &server.place("/"), more);
        ship.goes_to(server, &server.place(ship.vault()), more);
        ship
    }

    /// Its repository is reached otherwise from now on.
    fn goes_to(&self, server: &Sshd, place: &SftpPlace, more: &str) {
        fs::write(self.at("varu.toml"), config_text(server, place, more)).unwrap();
    }

    fn at(&self, path: &str) -> PathBuf {
        self.machine.at(path)
    }

    fn vault(&self) -> PathBuf {
        self.at("vault")
    }

    /// The same machine, with the repository's folder as a local one.
    fn near(&self) -> Machine {
        Machine::new(&self.machine.top)
    }

    fn run(&self, words: &[&str]) -> Ended {
        self.machine.run(words)
    }

    /// Backs a file up as the stream and set `data`.
    fn back_up(&self, file: &Path) -> Ended {
        back_up(&self.machine, file, &[])
    }
}

/// Backs a file up as the stream and set `data`, with more options.
fn back_up(machine: &Machine, file: &Path, more: &[&str]) -> Ended {
    let words = [&["--json", "-q", "backup", "--stdin", "data"], more].concat();
    machine.varu(&words).stdin(fs::File::open(file).unwrap()).output().unwrap().into()
}

/// Fails unless the newest snapshot, or the one that is named, restores to these bytes.
#[track_caller]
fn assert_restores(machine: &Machine, snapshot: &str, bytes: &[u8]) {
    let back = machine.run(&["-q", "restore", "data", "--snapshot", snapshot, "--stdout"]).ends(0);
    assert!(back.out == bytes, "{} bytes came back, and {} were backed up", back.out.len(), bytes.len());
}

/// The id of the snapshot that a backup made.
#[track_caller]
fn id(ended: &Ended) -> String {
    ended.json()["snapshot"]["id"].as_str().unwrap().to_owned()
}

/// All names below a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
            names.push(entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
        }
    }
    names.sort();
    names
}

fn config_text(server: &Sshd, place: &SftpPlace, more: &str) -> String {
    format!(
        "[repository]\nurl = '{place}'\nssh_key = '{}'\nknown_hosts = '{}'\nssh_config = '/dev/null'\n{more}",
        server.key().display(),
        server.known_hosts().display()
    )
}
