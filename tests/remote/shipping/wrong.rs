//! User errors: each message says what to do, ends with its own status, and nothing is written.

use std::fs;

use super::{IMPATIENT, Ship, names};
use support::sshd::Sshd;

/// Runs a backup that must end with `status` and say `said` and a next step, and write nothing.
#[track_caller]
fn fails(ship: &Ship, status: i32, said: &[&str]) {
    let before = names(&ship.vault());
    fs::write(ship.at("file"), "content").unwrap();
    for words in [&["-q", "backup", "./file"][..], &["-q", "list"]] {
        let ended = ship.machine.varu(words).current_dir(&ship.machine.top).output().unwrap();
        let ended = super::Ended::from(ended).ends(status);
        for said in said {
            assert!(ended.err.contains(said), "{words:?} doesn't say {said:?}: {}", ended.err);
        }
    }
    assert_eq!(names(&ship.vault()), before, "something was written");
}

/// A ship with a repository that has a snapshot.
fn laden(server: &Sshd) -> Ship {
    let ship = Ship::beside(server, IMPATIENT);
    ship.run(&["-q", "init"]).ends(0);
    fs::write(ship.at("data"), "content").unwrap();
    ship.back_up(&ship.at("data")).ends(0);
    ship
}

#[test]
fn hosts_ports_and_keys_that_are_wrong_end_with_6() {
    let server = Sshd::start();
    let ship = laden(&server);
    let config = fs::read_to_string(ship.at("varu.toml")).unwrap();
    let with = |from: &str, to: &str| {
        assert!(config.contains(from), "{from} is not in {config}");
        let more = "retry_for = '1 s'";
        let text = config.replace(from, to).replace("retry_for = '60 s'", more);
        fs::write(ship.at("varu.toml"), text).unwrap();
    };
    with("127.0.0.1", "nowhere.invalid");
    fails(&ship, 6, &["nowhere.invalid", "Could not resolve"]);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    with(&format!(":{}/", server.port()), &format!(":{closed}/"));
    fails(&ship, 6, &["Connection refused"]);
    with(server.key().to_str().unwrap(), server.other_key().to_str().unwrap());
    fails(&ship, 6, &["Permission denied", "ssh_key"]);
    with(server.known_hosts().to_str().unwrap(), "/dev/null");
    fails(&ship, 6, &[&server.fingerprint(), "To accept it: "]);
    server.stop_listening();
    server.change_host_key();
    server.listen_again();
    with("retry_for", "retry_for");
    fails(&ship, 6, &["has changed", &server.fingerprint(), "ssh-keygen"]);
}

#[test]
fn init_trusts_a_host_by_its_fingerprint() {
    let server = Sshd::shared();
    let ship = Ship::beside(&server, IMPATIENT);
    let config = fs::read_to_string(ship.at("varu.toml")).unwrap();
    let known = ship.at("known_hosts");
    let text = config.replace(server.known_hosts().to_str().unwrap(), known.to_str().unwrap());
    fs::write(ship.at("varu.toml"), text).unwrap();
    ship.run(&["init", "--trust-host-key", &format!("SHA256:{}", "A".repeat(43))]).ends(6);
    assert!(!known.exists() && !ship.vault().exists());
    ship.run(&["init", "--trust-host-key", &server.fingerprint()]).ends(0);
    // The sheet for the safe has that key, without its hash or pattern.
    let sheet = ship.run(&["key", "export", "--sheet"]).ends(0);
    let sheet = String::from_utf8(sheet.out).unwrap();
    let line = fs::read_to_string(&known).unwrap();
    assert!(sheet.contains(&format!("Host key:    {}", line.trim())), "{sheet}");
    assert!(sheet.contains("known_hosts") && sheet.contains(&server.fingerprint()), "{sheet}");
    let near = ship.near().run(&["init", "--trust-host-key", &server.fingerprint()]).ends(2);
    assert!(near.err.contains("SFTP"), "{}", near.err);
}

#[test]
fn a_path_that_is_a_file_ends_with_2() {
    let server = Sshd::shared();
    let ship = laden(&server);
    fs::write(ship.vault().join("letter"), "x").unwrap();
    ship.goes_to(&server, &server.place(ship.vault().join("letter")), IMPATIENT);
    fails(&ship, 2, &["letter", "it is no folder; name a folder"]);
    ship.goes_to(&server, &server.place(ship.vault().join("letter/below")), IMPATIENT);
    let made = ship.run(&["-q", "init"]).ends(2);
    assert!(made.err.contains("folder"), "{}", made.err);
}

#[test]
fn a_folder_of_another_repository_ends_with_5() {
    let server = Sshd::shared();
    let (ours, theirs) = (laden(&server), laden(&server));
    // The host shows another repository at our URL.
    ours.goes_to(&server, &server.place(theirs.vault()), IMPATIENT);
    let before = names(&theirs.vault());
    let ended = ours.back_up(&ours.at("data")).ends(5);
    assert!(ended.err.contains("another repository") || ended.err.contains("writer key"), "{}", ended.err);
    let ended = ours.run(&["-q", "restore", "data", "--stdout"]).ends(5);
    assert!(ended.err.contains("trust-repository") || ended.err.contains("identity"), "{}", ended.err);
    assert_eq!(names(&theirs.vault()), before);
}

#[test]
fn a_repository_of_a_later_version_ends_with_2() {
    let server = Sshd::shared();
    let ship = laden(&server);
    // Beside ours is an object of a later varu: the same with another version, under the name that its content gives it.
    let snapshots = ship.vault().join("snapshots");
    let entry = fs::read_dir(&snapshots).unwrap().next().unwrap().unwrap().path();
    let mut later = fs::read(&entry).unwrap();
    assert_eq!(later[5], varu::format::VERSION);
    later[5] += 1;
    let name = entry.file_name().unwrap().to_str().unwrap();
    let name = format!("{}-{}", name.rsplit_once('-').unwrap().0, support::forge::id_of_object(&later));
    fs::write(snapshots.join(name), later).unwrap();
    let before = names(&ship.vault());
    let ended = ship.back_up(&ship.at("data")).ends(2);
    assert!(ended.err.contains("version") && ended.err.contains("update varu"), "{}", ended.err);
    assert_eq!(names(&ship.vault()), before);
    // Objects of this version can still be read.
    assert!(ship.run(&["-q", "list"]).ends(3).err.contains("version"));
    assert_eq!(ship.run(&["-q", "restore", "data", "--stdout"]).ends(3).out, b"content");
}

#[test]
fn a_hundred_thousand_strange_names_end_with_2() {
    let server = Sshd::shared();
    let ship = laden(&server);
    for number in 0..100_000 {
        fs::File::create(ship.vault().join(format!("packs/photo {number}.jpg"))).unwrap();
    }
    let before = fs::read_dir(ship.vault().join("packs")).unwrap().count();
    let ended = ship.back_up(&ship.at("data")).ends(2);
    assert!(ended.err.contains("packs holds 100000 things") && ended.err.contains("take them away"), "{}", ended.err);
    assert_eq!(fs::read_dir(ship.vault().join("packs")).unwrap().count(), before);
    assert_eq!(fs::read_dir(ship.vault().join("pending")).unwrap().count(), 0);
}
