//! Selection of snapshots on the command line, the output of `list`, and errors for words without meaning. Commands that a
//! message advises are run in the state that prints it.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use support::machine::Ended;
use support::site::Site;

/// A site with a set of one file, and a set `other`.
fn site() -> Site {
    let site = Site::new("s", "source = \"files\"\npaths = [\"/etc\"]");
    fs::create_dir(site.machine.at("data")).unwrap();
    site.configure(&format!("source = \"files\"\npaths = [\"{}\"]", site.machine.at("data").display()));
    site
}

/// Runs the program with its clock so many seconds ahead.
fn ahead(site: &Site, seconds: u64, words: &[&str]) -> Ended {
    let varu = site.command(words);
    let mut faked = Command::new("faketime");
    faked.arg("-f").arg(format!("+{seconds}s")).arg(varu.get_program()).args(varu.get_args());
    for (name, value) in varu.get_envs() {
        match value {
            Some(value) => faked.env(name, value),
            None => faked.env_remove(name),
        };
    }
    faked.env("TZ", "UTC").output().unwrap().into()
}

/// Backs up a file with the number of the day, so many days ahead.
fn back_up(site: &Site, day: u64) {
    fs::write(site.machine.at("data/file"), format!("day {day}")).unwrap();
    ahead(site, day * 86_400, &["-q", "backup", "s"]).ends(0);
}

/// The file as that restore brings it, asked so many days ahead.
fn restored(site: &Site, days: u64, words: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let words = [&["-q", "restore"], words, &["--to", folder.path().to_str().unwrap()]].concat();
    ahead(site, days * 86_400, &words).ends(0);
    let path = folder.path().join(site.machine.at("data/file").strip_prefix("/").unwrap());
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_snapshot_is_said_by_its_set_and_its_day() {
    let site = site();
    for day in 0..4 {
        back_up(&site, day);
    }
    // A newer one of another set.
    fs::create_dir(site.machine.at("else")).unwrap();
    let other = site.machine.at("else").display().to_string();
    ahead(&site, 3 * 86_400 + 60, &["-q", "backup", "--set", "other", &other]).ends(0);
    let list = ahead(&site, 3 * 86_400, &["list", "s"]).ends(0);
    let table = String::from_utf8(list.out).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let (id, day, minute) = (rows[1][0], rows[1][3], format!("{} {}", rows[1][3], rows[1][4]));
    for which in [
        &["s@2 days ago"][..],
        &[&format!("s@{day}")],
        &[&format!("s@{minute}")],
        &["s", "--at", &minute],
        &["s", "--at", day],
        &["s", "--at", "2 days ago"],
        &["--snapshot", id],
    ] {
        assert_eq!(restored(&site, 3, which), "day 1", "{which:?}");
    }
    for which in [&["s@yesterday"][..], &["s", "--at", "yesterday"]] {
        assert_eq!(restored(&site, 3, which), "day 2", "{which:?}");
    }
    for which in [&["s"][..], &["s@latest"], &["s", "--at", "now"], &["s@now"], &["s@today"]] {
        assert_eq!(restored(&site, 3, which), "day 3", "{which:?}");
    }
    let say = |words: &[&str]| String::from_utf8(ahead(&site, 3 * 86_400, words).ends(0).out).unwrap();
    assert!(say(&["ls", "s@latest"]).contains("file") && !say(&["ls", "latest"]).contains("file"));
    assert!(say(&["diff", "s@yesterday", "s@latest"]).contains("1 changed"));
    assert!(say(&["diff", &format!("s@{day}"), id]).contains("0 differences"));
    let wrong = site.run(&["ls", "latest", "data"]).ends(2);
    assert!(wrong.err.contains("of the set other") && wrong.err.contains("SET@latest"), "{}", wrong.err);
    site.run(&["ls", "nosuch@latest"]).ends(2);
    site.run(&["restore", "s@noon", "--to", "/nowhere"]).ends(2);
}

#[test]
fn a_suspect_snapshot_of_the_day_that_is_meant_is_not_passed_over_silently() {
    let site = site();
    back_up(&site, 0);
    fs::write(site.machine.at("data/file"), "").unwrap();
    ahead(&site, 86_400, &["-q", "backup", "s"]).ends(3);
    for which in ["s@yesterday", "s@latest"] {
        let to = tempfile::tempdir().unwrap();
        let ended = ahead(&site, 2 * 86_400, &["restore", which, "--to", to.path().to_str().unwrap()]).ends(3);
        assert!(ended.err.contains("is suspect and was passed over"), "{}", ended.err);
    }
}

#[test]
fn the_list_is_short_and_narrow_and_knows_its_sets() {
    let site = site();
    for day in 0..4 {
        back_up(&site, day);
    }
    fs::write(site.machine.at("data/file"), "").unwrap();
    ahead(&site, 4 * 86_400, &["-q", "backup", "s", "--tag", "before-the-migration-of-all-databases"]).ends(3);
    fs::create_dir(site.machine.at("else")).unwrap();
    let other = site.machine.at("else").display().to_string();
    ahead(&site, 4 * 86_400, &["-q", "backup", "--set", "a-name-of-a-set", &other]).ends(0);
    let list = |words: &[&str]| {
        String::from_utf8(ahead(&site, 4 * 86_400 + 60, &[&["list"], words].concat()).ends(0).out).unwrap()
    };
    let all = list(&[]);
    println!("{all}");
    assert!(all.lines().all(|line| line.chars().count() <= 80), "{all}");
    assert!(all.contains(" AGE ") && all.contains(" 4d ") && all.contains("suspect"), "{all}");
    assert!(list(&["-l"]).contains("DEPTH"));
    let rows =
        |words: &[&str]| list(words).lines().filter(|line| line.contains(" full ") || line.contains(" incr ")).count();
    assert_eq!((rows(&[]), rows(&["--last", "2"]), rows(&["s", "--last", "1"])), (6, 3, 1));
    assert_eq!((rows(&["--since", "2 days ago"]), rows(&["--since", "yesterday"])), (3, 3));
    assert!(list(&["--since", "now"]).contains("there is no snapshot that is meant"));
    let json = ahead(&site, 0, &["--json", "list", "--last", "1"]).ends(0).json();
    assert_eq!(json["snapshots"].as_array().unwrap().len(), 2);
    // A set that isn't there is a mistake; one that has no snapshot yet isn't.
    let wrong = site.run(&["list", "a-name-of-set"]).ends(2);
    assert!(wrong.err.contains("did you mean a-name-of-a-set?"), "{}", wrong.err);
    site.write("[sets.young]\nsource = \"files\"\npaths = [\"/etc\"]\n");
    assert!(
        String::from_utf8_lossy(&site.run(&["list", "young"]).ends(0).out).contains("no snapshot of the set young yet")
    );
}

#[test]
fn a_snapshot_in_the_place_of_a_set_is_told_what_to_type() {
    let site = site();
    back_up(&site, 0);
    let id = site.run(&["--json", "list"]).json()["snapshots"][0]["id"].as_str().unwrap()[..12].to_owned();
    let to = site.machine.at("to").display().to_string();
    let wrong = site.run(&["restore", &id, "--to", &to]).ends(2);
    assert!(wrong.err.contains("write --snapshot before it"), "{}", wrong.err);
    site.run(&["restore", "--snapshot", &id, "--to", &to]).ends(0);
    let wrong = site.run(&["restore", "latest", "--to", &to]).ends(2);
    assert!(wrong.err.contains("latest is no set: name the set"), "{}", wrong.err);
    site.run(&["restore", "s", "--to", &to, "--overwrite", "changed"]).ends(0);
}

#[test]
fn a_repository_as_others_write_it_is_told_at_once() {
    let site = site();
    let list = |place: &str| {
        let started = Instant::now();
        let varu = site.machine.varu_at(std::path::Path::new(place)).arg("list").output().unwrap();
        assert!(started.elapsed() < Duration::from_secs(20), "{place} took {:?}", started.elapsed());
        Ended::from(varu)
    };
    for (place, said) in [
        ("s3:bucket", "nothing speaks s3: here"),
        ("s3:https://host/bucket", "nothing speaks s3"),
        ("b2:bucket:path", "nothing speaks b2: here"),
        ("rclone:remote:path", "nothing speaks rclone: here"),
        ("rest:http://host/", "nothing speaks rest"),
        ("sftp:user@host:/path", "sftp: is followed by two slashes"),
        ("sftp:host:/path", "sftp: is followed by two slashes"),
        ("user@host:22722/p", "22722 may be a port or a folder; write sftp://USER@HOST:PORT/PATH"),
        ("host:2222", "2222 may be a port or a folder"),
    ] {
        let wrong = list(place).ends(2);
        assert!(wrong.err.contains(said), "{place}: {}", wrong.err);
        assert!(!wrong.err.contains("password"), "{}", wrong.err);
    }
    assert!(list("sftp:user@host:/path").err.contains("\"sftp:user@host:/path\""), "a user is no secret");
    assert!(list("sftp:user:hunter2@host:/path").err.contains("sftp:user:…@host"));
    let lost = list("user@no-such-host.invalid:/path").ends(6);
    assert!(lost.err.contains("host's name"), "{}", lost.err);
}

#[test]
fn an_init_for_what_is_not_there_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let machine = support::machine::Machine::new(folder.path());
    let config = machine.at("varu.toml");
    fs::write(&config, "[sets.h]\nsource = \"files\"\npaths = [\"/etc\"]\n").unwrap();
    let config = config.to_str().unwrap();
    let before = || {
        let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let nothing = before();
    let wrong = machine.run(&["--config", config, "backup", "--init", "h"]).ends(2);
    assert!(wrong.err.contains("varu init makes the repository, then varu backup h"), "{}", wrong.err);
    for words in [
        &["backup", "--init", "/no/such/path"][..],
        &["backup", "--init", "mistyped"],
        &["backup", "--init", "/etc/hostname", "/no/such"],
    ] {
        let wrong = machine.run(words).ends(1);
        assert!(wrong.err.contains("nothing was made"), "{}", wrong.err);
    }
    assert_eq!(before(), nothing);
    // As it says.
    machine.run(&["--config", config, "init"]).ends(0);
    machine.run(&["--config", config, "-q", "backup", "h"]);
    assert_eq!(machine.run(&["--json", "list"]).json()["snapshots"][0]["set"], "h");
}

#[test]
fn quiet_says_nothing_but_warnings_errors_and_what_was_asked_for() {
    let site = site();
    for day in [0, 40, 80] {
        back_up(&site, day);
    }
    let quiet = |words: &[&str]| {
        let ended = ahead(&site, 90 * 86_400, &[&["-q"], words].concat()).ends(0);
        assert_eq!(ended.err, "", "{words:?}");
        String::from_utf8(ended.out).unwrap()
    };
    let checked = quiet(&["config", "check"]);
    assert!(checked.lines().all(|line| line.starts_with("note ")) && checked.contains("identity: "), "{checked}");
    for words in [
        &["list"][..],
        &["ls", "latest"],
        &["prune", "--dry-run"],
        &["key", "show"],
        &["diff", "s@40 days ago", "s@latest"],
    ] {
        assert_ne!(quiet(words), "", "{words:?}");
    }
    let to = site.machine.at("to").display().to_string();
    let second = site.machine.at("second").display().to_string();
    let units = site.machine.at("units").display().to_string();
    for words in [
        &["backup", "s"][..],
        &["restore", "--all", "--yes", "--overwrite", "always"],
        &["restore", "--all", "--yes", "--overwrite", "always"],
        &["restore", "s", "--to", &to],
        &["restore", "--all", "--to", &to, "--overwrite", "always"],
        &["verify"],
        &["verify", "--level", "data"],
        &["copy", "--to", &second],
        &["copy", "--to", &second],
        &["index", "check"],
        &["index", "adopt"],
        &["index", "rebuild"],
        &["index", "rebuild", "--salvage"],
        &["schedule", "install", "--to", &units],
        &["prune"],
        &["prune", "--now"],
    ] {
        assert_eq!(quiet(words), "", "{words:?}");
    }
}

#[test]
fn each_pattern_that_means_nothing_is_named() {
    let site = site();
    back_up(&site, 0);
    fs::write(site.machine.at("data/other"), "2").unwrap();
    site.run(&["-q", "backup", "s"]).ends(0);
    let path = site.machine.at("data/file").display().to_string();
    for (number, (options, nothing)) in [
        (&["--only", "file", "--only", "fiel"][..], &["--only fiel"][..]),
        (&["--only", "*.sql", "--only", "file", "--only", "/tmp/nothing"], &["--only *.sql", "--only /tmp/nothing"]),
        (&["--only", "data/", "--only", "!othre"], &["--only !othre"]),
        (&["--only", "nothing", "--path", &path], &["--only nothing"]),
    ]
    .into_iter()
    .enumerate()
    {
        for what in ["s", "--all"] {
            let to = site.machine.at(&format!("to{number}{what}")).display().to_string();
            let ended = site.run(&[&["-q", "restore", what, "--to", &to], options].concat()).ends(3);
            assert_eq!(ended.err.matches("nothing matches").count(), nothing.len(), "{}", ended.err);
            assert!(
                nothing.iter().all(|word| ended.err.contains(&format!("nothing matches {word},"))),
                "{}",
                ended.err
            );
        }
        let words = [&["-q", "restore", "--all", "--yes", "--overwrite", "always"], options].concat();
        let ended = site.run(&words).ends(3);
        assert_eq!(ended.err.matches("nothing matches").count(), nothing.len(), "{}", ended.err);
    }
    let to = site.machine.at("all").display().to_string();
    site.run(&["-q", "restore", "--all", "--to", &to, "--path", "/none", "--only", "file"]).ends(3);
    site.run(&["restore", "s", "--to", &to, "--only", "fiel", "--only", "othre"]).ends(2);
    site.run(&["-q", "restore", "s", "--to", &to, "--only", "file", "--only", "other", "--overwrite", "always"])
        .ends(0);
}
