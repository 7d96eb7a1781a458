//! Connections to a real sshd that are cut at any byte and stay cut, while a repository is made, its key rotated, a backup made or
//! a copy. Then the same command again, which is the documented way on: nothing is lost, and backups go on.
//!
//! By default a few bytes, others each day; with VARU_TEST_LONG=1 every two hundredth.

use super::*;
use std::sync::Arc;
use std::time::Duration;
use support::host::Host;
use support::proxy::{Fault, Proxy};
use support::site::is_long;
use support::sshd::{Sshd, is_root};
use varu::remote::Folder;

/// A machine whose repository is reached through a proxy that can cut the line.
struct Shore {
    server: Arc<Sshd>,
    proxy: Proxy,
    folder: tempfile::TempDir,
}

const PARTS: [&str; 4] = ["vault", "state", "keys", "second"];

/// The byte at which the connection is cut.
fn cuts(bytes: u64, points: u64) -> impl Iterator<Item = u64> {
    let step = if is_long() { 200 } else { bytes / points };
    let day = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 86_400;
    (1 + day * 97 % step..bytes).step_by(usize::try_from(step).unwrap())
}

impl Shore {
    fn new() -> Self {
        let (server, folder) = (Sshd::shared(), tempfile::tempdir().unwrap());
        let proxy = Proxy::start(server.port(), Duration::ZERO);
        let shore = Self { server, proxy, folder };
        fs::create_dir(shore.at("src")).unwrap();
        shore.put("one");
        let lines = format!(
            "[repository]\nurl = '{}'\nssh_key = '{}'\nknown_hosts = '{}'\nssh_config = '/dev/null'\nretry_for = '1 s'\n\
             [sets.s]\nsource = 'files'\npaths = [{:?}]\n",
            shore.url("vault"),
            shore.server.key().display(),
            shore.server.known_hosts().display(),
            shore.at("src")
        );
        fs::write(shore.at("varu.toml"), lines).unwrap();
        shore
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self, name: &str) -> String {
        self.server.place_through(self.proxy.port(), self.at(name)).to_string()
    }

    fn put(&self, name: &str) {
        fs::write(self.at("src").join(name), noise(20_000, name.len() as u64)).unwrap();
    }

    fn run(&self, words: &[&str]) -> Ended {
        Machine::configured(self.folder.path(), &self.at("varu.toml")).run(words)
    }

    /// The same machine, without the line.
    fn near(&self, words: &[&str]) -> Ended {
        Machine::new(self.folder.path()).run(words)
    }

    /// Cuts the line at bytes of a command, which is given in the state that `before` makes, and then again. `done` says
    /// whether it was done before the cut.
    fn sweep(&self, points: u64, before: impl Fn(&Self), words: &[&str], done: impl Fn(&Ended) -> bool) {
        before(self);
        let kept = self.at("kept");
        let _ = fs::remove_dir_all(&kept);
        fs::create_dir(&kept).unwrap();
        let there = |part: &&&str| self.at(part).exists();
        PARTS.iter().filter(there).for_each(|part| ways::copy(&self.at(part), &kept.join(part)));
        let begun = self.proxy.passed();
        self.run(words).ends(0);
        let bytes = self.proxy.passed() - begun;
        let (mut cut, mut all) = (0, 0);
        for at in cuts(bytes, points) {
            for part in PARTS {
                let _ = fs::remove_dir_all(self.at(part));
                if kept.join(part).exists() {
                    ways::copy(&kept.join(part), &self.at(part));
                }
            }
            self.proxy.fault_at(self.proxy.passed() + at, Fault::Down);
            let first = self.run(words);
            let was_cut = self.proxy.has_failed();
            self.proxy.fault_at(u64::MAX, Fault::Cut);
            self.proxy.up();
            all += 1;
            cut += u32::from(first.status == 6);
            let what = format!("{words:?}, cut at byte {at} of {bytes}: {} {}", first.status, first.err);
            assert!([0, 3].contains(&first.status) || was_cut && first.status == 6, "{what}");
            let again = self.run(words);
            assert!(again.status == 0 || done(&again), "{what}\nagain: {} {}", again.status, again.err);
            for _ in 0..2 {
                let backup = self.run(&["backup", "s"]);
                assert!([0, 3].contains(&backup.status), "{what}\nbackup: {}", backup.err);
            }
            let verified = self.near(&["verify", "--level", "data"]);
            assert_eq!(verified.status, 0, "{what}\n{}", verified.err);
            let to = tempfile::tempdir().unwrap();
            let machine = Machine::new(self.folder.path());
            let back = machine.run_elsewhere(&["restore", "s", "--to", to.path().to_str().unwrap()]);
            assert_eq!(back.status, 0, "{what}\n{}", back.err);
            assert!(below(to.path()) == below(&self.at("src")), "{what}");
            if words.contains(&"copy") {
                let verified = run(machine.varu_at(&self.at("second")).args(["verify", "--level", "data"]));
                assert_eq!(verified.status, 0, "{what}\nsecond: {}", verified.err);
            }
        }
        println!("{words:?}: cut at {cut} of {all} points, {bytes} bytes");
        assert!(cut >= all / 2, "{words:?}: cut at {cut} of {all} points");
    }
}

fn with_backups(shore: &Shore) {
    for part in PARTS {
        let _ = fs::remove_dir_all(shore.at(part));
    }
    shore.run(&["init"]).ends(0);
    shore.run(&["backup", "s"]).ends(0);
    shore.put("another");
    shore.run(&["backup", "s"]).ends(0);
}

fn is_made(ended: &Ended) -> bool {
    ended.status == 5 && ended.err.contains("holds a repository already")
}

#[test]
fn a_line_that_is_cut_while_keys_are_made_or_rotated_leaves_what_the_next_call_finishes() {
    let shore = Shore::new();
    shore.sweep(6, |_| (), &["init"], is_made);
    shore.sweep(6, with_backups, &["key", "rotate", "--yes"], |_| false);
}

const OTHER: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

#[test]
fn a_line_that_is_cut_while_keys_or_the_index_come_back_leaves_what_the_next_call_finishes() {
    let shore = Shore::new();
    shore.sweep(3, with_backups, &["key", "add-recipient", "--yes", OTHER], |_| false);
    let without_the_key = |shore: &Shore| {
        with_backups(shore);
        fs::remove_file(shore.at("keys/writer.key")).unwrap();
    };
    shore.sweep(3, without_the_key, &["key", "recover"], |_| false);
    let without_the_state = |shore: &Shore| {
        with_backups(shore);
        fs::remove_dir_all(shore.at("state")).unwrap();
    };
    for words in [["index", "rebuild"], ["index", "adopt"]] {
        shore.sweep(3, without_the_state, &words, |_| false);
    }
}

#[test]
fn a_line_that_is_cut_while_a_backup_or_a_copy_is_made_leaves_what_the_next_call_finishes() {
    let shore = Shore::new();
    let with_something_new = |shore: &Shore| {
        with_backups(shore);
        shore.put("something new");
    };
    shore.sweep(6, with_something_new, &["backup", "s"], |_| false);
    let (second, key, hosts) = (shore.url("second"), shore.server.key(), shore.server.known_hosts());
    let words = ["copy", "--to", &second, "--ssh-key", key.to_str().unwrap(), "--known-hosts", hosts.to_str().unwrap()];
    shore.sweep(6, with_backups, &words, |_| false);
}

#[test]
fn an_init_that_fails_on_an_append_only_account_leaves_a_place_that_the_next_init_uses() {
    if !is_root() {
        eprintln!("not root: no account can be made");
        return;
    }
    let host = Host::prepared();
    let proxy = Proxy::start(host.server.port(), Duration::ZERO);
    fs::write(host.at("patience.toml"), "[repository]\nretry_for = '1 s'\n").unwrap();
    let url = host.url().replace(&format!(":{}", host.server.port()), &format!(":{}", proxy.port()));
    assert_ne!(url, host.url());
    let varu = |words: &[&str]| {
        let mut varu = host.varu_command_at(&url, words);
        run(varu.env("VARU_CONFIG", host.at("patience.toml")))
    };
    fs::create_dir(host.at("data")).unwrap();
    fs::write(host.at("data/file"), noise(20_000, 7)).unwrap();
    let (data, out) = (host.at("data"), host.at("out"));
    // As the account was, and a machine that has nothing.
    let clear = || {
        for folder in [Folder::Info, Folder::Keys, Folder::Packs, Folder::Snapshots, Folder::Pending] {
            host.names(folder).iter().for_each(|name| fs::remove_file(host.file(folder, name)).unwrap());
        }
        ["keys", "state", "out"].iter().for_each(|part| drop(fs::remove_dir_all(host.at(part))));
    };
    let begun = proxy.passed();
    varu(&["init"]).ends(0);
    let bytes = proxy.passed() - begun;
    let (mut cut, mut left) = (0, 0);
    for at in cuts(bytes, 15) {
        clear();
        proxy.fault_at(proxy.passed() + at, Fault::Down);
        let first = varu(&["init"]);
        proxy.fault_at(u64::MAX, Fault::Cut);
        proxy.up();
        let what = format!("cut at byte {at} of {bytes}: {} {}", first.status, first.err);
        assert!([0, 6].contains(&first.status), "{what}");
        cut += u32::from(first.status == 6);
        let objects = host.names(Folder::Keys).len() + host.names(Folder::Pending).len();
        left += u32::from(first.status == 6 && objects > 0);
        let again = varu(&["init"]);
        assert!(again.status == 0 || is_made(&again), "{what}\nagain: {} {}", again.status, again.err);
        varu(&["backup", data.to_str().unwrap()]).ends(0);
        varu(&["verify", "--level", "data"]).ends(0);
        // With the machine gone the identity is enough.
        fs::remove_dir_all(host.at("state")).unwrap();
        varu(&["restore", "--all", "--to", out.to_str().unwrap()]).ends(0);
        assert!(below(&out) == below(&data), "{what}");
    }
    println!("init was cut at {cut} points, and left something at {left}");
    assert!(cut > 6 && left > 0, "{cut} {left}");
    host.accept().ends(0);
    host.run(&["verify"]).ends(0);
}
