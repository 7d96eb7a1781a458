//! Escaping of untrusted text on a terminal: names, tags and texts of objects that somebody else wrote.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use support::machine::{Ended, Machine};
use support::{MemorySource, Owner, Streams, TestClock, options};
use varu::backup::{BackupOptions, backup};
use varu::entry::Entry;
use varu::facts::{Facts, Separated};
use varu::progress::{Counts, Interrupt};
use varu::remote::open::create;
use varu::remote::options::Options;
use varu::remote::place::Location;
use varu::source::{Error, Finished, Source};
use varu::warning::{Warning, WarningKind};

/// Sets a title, clears the screen, rings, turns the direction, and is the second form of an escape.
const HOSTILE: &str = "x\u{1b}]0;title\u{7}\u{1b}[2J\r\u{202e}\u{9b}2J\u{7f}\u{feff}y";

/// A source of one stream that warns of it.
struct Hostile(MemorySource);

impl Source for Hostile {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        self.0.next()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.0.read(buffer)
    }

    fn end(&mut self) -> Result<Entry, Error> {
        self.0.end()
    }

    fn finish(&mut self) -> Result<Finished, Error> {
        let mut finished = self.0.finish()?;
        // A restore's description of the dump's origin.
        finished.facts = Facts {
            server: Some(HOSTILE.into()),
            server_version: Some(HOSTILE.into()),
            engines: Some(Separated(vec![HOSTILE.into()])),
            superuser: [("set.sql".into(), HOSTILE.into())].into(),
            other: [(HOSTILE.into(), HOSTILE.into())].into(),
            ..Facts::default()
        };
        Ok(finished)
    }

    fn warnings(&mut self) -> Vec<Warning> {
        vec![WarningKind::LeftOut.warning(HOSTILE)]
    }
}

/// Fails where a terminal could take a byte for a command.
#[track_caller]
fn is_plain(ended: &Ended) {
    for text in [&String::from_utf8_lossy(&ended.out).into_owned(), &ended.err] {
        let bad = |c: &char| c.is_control() && *c != '\n' || "\u{202e}\u{feff}".contains(*c);
        assert_eq!(text.chars().find(bad), None, "{text:?}");
    }
}

fn machine_with(top: &Path, tags: &[&str], streams: &Streams) -> Machine {
    let place = Location::Local(top.join("vault"));
    let remote = create(&place, &Options::default()).unwrap();
    let owner = Owner::create(&*remote);
    fs::create_dir(top.join("keys")).unwrap();
    for (name, text) in [("writer.key", &owner.writer_key), ("identity.txt", &owner.identity)] {
        let path = top.join("keys").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let writer = owner.writer(remote, &top.join("state"));
    let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    let options = BackupOptions { tags, environment: HOSTILE.to_owned(), ..options() };
    let clock = TestClock::at(support::MONDAY);
    for _ in 0..2 {
        let mut source = Hostile(MemorySource::new(streams));
        backup(&writer, &mut source, &options, &clock, &Counts::default(), &Interrupt::default()).unwrap();
    }
    Machine::new(top)
}

#[test]
fn no_command_shows_what_an_object_says_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let name = HOSTILE.to_owned();
    let machine = machine_with(folder.path(), &[HOSTILE, "monthly"], &Streams::from([(name, b"text".to_vec())]));
    let list = machine.run(&["list"]).ends(0);
    assert!(String::from_utf8_lossy(&list.out).contains("x\\u{1b}]0;title\\u{7}"), "it is there, escaped");
    is_plain(&list);
    let json = machine.run(&["--json", "list"]).ends(0);
    assert_eq!(json.json()["snapshots"][0]["tags"][1], HOSTILE, "a program reads what it is");
    is_plain(&json);
    let target = folder.path().join("to");
    let to = target.to_str().unwrap();
    for words in [
        &["ls", "latest"][..],
        &["ls", "-l", "latest"],
        &["ls", "latest", HOSTILE],
        &["ls", "latest", "x\u{1b}[2J"],
        &["--json", "ls", "-l", "latest"],
        &["restore", "set", "--to", to],
        &["restore", "set", "--to", to],
        &["restore", "set", "--to", to, "--only", "\u{1b}[2J"],
        &["restore", "set", "--into", HOSTILE],
        &["restore", "--all", "--yes"],
        &["backup", HOSTILE],
        &["list", HOSTILE],
        &["restore", HOSTILE, "--to", to],
        &["restore", "set", "--at", HOSTILE, "--to", to],
        &["verify", "--level", "data"],
        &["prune", "--dry-run"],
        &["--repo", "/nowhere/\u{1b}[2J", "list"],
        &["--repo", "\u{1b}[2J@host:/x", "list"],
        &["--config", "/nowhere/\u{1b}[2J", "list"],
        &["--identity", "/nowhere/\u{1b}[2J", "restore", "set", "--to", to],
        &["--state", "/proc/\u{1b}[2J", "list"],
    ] {
        is_plain(&machine.run(words));
    }
}

/// The program with a configuration of these lines.
fn configured(machine: &Machine, lines: &str, words: &[&str]) -> Ended {
    let config = machine.at("varu.toml");
    fs::write(&config, lines).unwrap();
    let path = format!("{}:{}", machine.at("bin").display(), std::env::var("PATH").unwrap());
    let mut varu = machine.varu(&["--config"]);
    varu.arg(&config).args(words).env("PATH", path).output().unwrap().into()
}

#[test]
fn nothing_that_a_snapshot_says_of_its_server_reaches_the_terminal_as_it_is() {
    let Some(server) = support::mariadb::MariaDb::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let machine = machine_with(folder.path(), &[], &Streams::from([("shop/t.sql".to_owned(), b"text".to_vec())]));
    let set =
        format!("[sets.set]\nsource = \"mysql\"\ndatabases = \"all\"\nsocket = \"{}\"\n", server.socket().display());
    for words in
        [&["restore", "set", "--into", "mysql", "--yes"][..], &["--json", "restore", "set", "--into", "mysql", "--yes"]]
    {
        // It is of another server than this one, which is named.
        let ended = configured(&machine, &set, words).ends(5);
        assert!(ended.err.contains("the dump is of x\\u{1b}]0;title"), "{}", ended.err);
        is_plain(&ended);
    }
}

#[test]
fn nothing_that_a_program_or_a_host_says_reaches_the_terminal_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let machine = machine_with(folder.path(), &[], &Streams::from([("a".to_owned(), b"text".to_vec())]));
    fs::create_dir(machine.at("bin")).unwrap();
    fs::write(machine.at("said"), format!("{HOSTILE}\n")).unwrap();
    let said = machine.at("said").display().to_string();
    for (name, status) in [("dumper", 1), ("ssh", 255)] {
        let program = machine.at("bin").join(name);
        fs::write(&program, format!("#!/bin/sh\ncat {said} >&2\ncat {said}\nexit {status}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let set = "[sets.of]\nsource = \"command\"\ncommand = [\"dumper\"]\n";
    let ended = configured(&machine, set, &["backup", "of"]).ends(1);
    assert!(ended.err.contains("x\\u{1b}]0;title"), "{}", ended.err);
    is_plain(&ended);
    // A host with arbitrary SFTP responses, and the messages of its ssh.
    let path = format!("{}:{}", machine.at("bin").display(), std::env::var("PATH").unwrap());
    for words in [&["list"][..], &["--json", "list"], &["restore", "set", "--to", "/nowhere/to"]] {
        let mut varu = machine.varu_at(Path::new("sftp://somebody@host/vault"));
        let ended = Ended::from(varu.args(words).env("PATH", &path).output().unwrap());
        assert!(ended.status != 0 && ended.err.contains("title"), "{}", ended.err);
        is_plain(&ended);
    }
}
