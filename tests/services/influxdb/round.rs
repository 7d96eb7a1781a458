//! There and back again: days of metrics, a new name, an existing one, another server.

use std::fs;
use std::process::Command;

use crate::influxdb::{POLICIES, REPLACE, RESTORE, day, site};
use support::influxdb::Influx;
use support::site::is_long;

/// The tars of a portable backup, one after the other, and their size by zstd against others.
fn tars(server: &Influx) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let host = format!("127.0.0.1:{}", server.rpc);
    let backup = Command::new("influxd")
        .args(["backup", "-portable", "-host", &host, "-database", "telegraf"])
        .arg(folder.path())
        .output();
    assert!(backup.unwrap().status.success());
    let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|end| end == "gz"));
    names.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    names.iter().flat_map(|path| Command::new("gzip").arg("-dc").arg(path).output().unwrap().stdout).collect()
}

fn patch(before: &[u8], now: &[u8]) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    fs::write(&old, before).unwrap();
    fs::write(&new, now).unwrap();
    let zstd = Command::new("zstd")
        .args(["-3", "--long=27", "-q", "-c", "--patch-from"])
        .arg(&old)
        .arg(&new)
        .output()
        .unwrap();
    zstd.stdout.len()
}

#[test]
fn five_days_come_back_into_a_new_and_over_an_existing_name() {
    let every = if is_long() { 1 } else { 10 };
    let Some((server, site)) = site(1, every) else { return };
    let (mut tar, mut snapshots) = (tars(&server), vec![site.back_up()]);
    let mut pictures = vec![server.picture("telegraf", &POLICIES)];
    for number in 1..5 {
        day(&server, number, every);
        let made = site.run(&["--json", "-q", "backup", "telegraf"]).ends(0).json();
        let now = tars(&server);
        println!(
            "day {}: read {}, new {}, stored {}, patch-from {}",
            number + 1,
            made["read"],
            made["new"],
            made["stored"],
            patch(&tar, &now)
        );
        // Data of the day before is cold and adds nothing: one day of five is new, and the small streams.
        let grown = now.len().saturating_sub(tar.len()) as u64;
        assert!(made["new"].as_u64().unwrap() <= grown + (32 << 10), "{made} {grown}");
        tar = now;
        snapshots.push(made["snapshot"]["id"].as_str().unwrap().to_owned());
        pictures.push(server.picture("telegraf", &POLICIES));
    }
    // Nothing at all has changed: the times in the manifest are all that is new.
    let again = site.run(&["--json", "-q", "backup", "telegraf"]).ends(0).json();
    assert!(again["new"].as_u64().unwrap() < 16 << 10, "{again}");
    let ls = String::from_utf8(site.run(&["ls", "latest"]).ends(0).out).unwrap();
    for stream in ["definitions.json", "manifest.json", "meta", "shards/raw/", "shards/long term/"] {
        assert!(ls.contains(stream), "{stream} in {ls}");
    }
    // Into a new name: a user that is there gets its grant, and the queries name the new database.
    let restored = site.run(&["restore", "telegraf", "--into", "influxdb:a new one", "--yes", "--json"]).ends(0).json();
    assert_eq!(restored["restored"][0]["unit"], "points");
    assert_eq!(server.picture("a new one", &POLICIES), pictures[4]);
    let queries = server.ask("SHOW CONTINUOUS QUERIES").to_string();
    assert!(
        queries.contains("ON \\\"a new one\\\" BEGIN") && queries.contains("INTO \\\"a new one\\\".\\\"long term\\\""),
        "{queries}"
    );
    assert!(server.ask("SHOW GRANTS FOR reader").to_string().contains("[\"a new one\",\"READ\"]"));
    // Over an existing name, an earlier day.
    server.ask("DROP DATABASE \"a new one\"");
    let refused = site.run(&RESTORE).ends(5);
    assert!(refused.err.contains("--replace telegraf"), "{}", refused.err);
    server.write("telegraf", "raw", "newer x=1");
    let now = server.picture("telegraf", &POLICIES);
    let words = [&RESTORE[..], &REPLACE, &["--snapshot", &snapshots[2]]].concat();
    site.run(&words).ends(0);
    assert_eq!(server.picture("telegraf", &POLICIES), pictures[2]);
    assert!(server.ask("SHOW CONTINUOUS QUERIES").to_string().contains("hourly"));
    assert!(!server.ask("SHOW DATABASES").to_string().contains("_varu"));
    // The old one is complete in a folder, and any server accepts it.
    let kept: Vec<_> = fs::read_dir(site.machine.at("state"))
        .unwrap()
        .flat_map(|entry| fs::read_dir(entry.unwrap().path().join("put-aside")).into_iter().flatten())
        .collect();
    let kept = kept.into_iter().next().unwrap().unwrap().path();
    let Some(second) = Influx::start() else { return };
    let host = format!("127.0.0.1:{}", second.rpc);
    assert!(
        Command::new("influxd")
            .args(["restore", "-portable", "-host", &host])
            .arg(&kept)
            .output()
            .unwrap()
            .status
            .success()
    );
    assert_eq!(second.picture("telegraf", &POLICIES), now);
    // Another server: users that are absent are named, because their passwords can't be dumped.
    second.ask("DROP DATABASE telegraf");
    site.configure(&second.lines(""));
    let restored = site.run(&[&RESTORE[..], &["--snapshot", &snapshots[4]]].concat()).ends(3);
    assert!(
        restored.err.contains("CREATE USER \"reader\"") && restored.err.contains("GRANT READ ON"),
        "{}",
        restored.err
    );
    assert_eq!(second.picture("telegraf", &POLICIES), pictures[4]);
}

#[test]
fn another_jobs_portable_backup_is_read_and_has_to_be_whole() {
    let Some((server, site)) = site(2, 600) else { return };
    let folder = site.machine.at("theirs");
    fs::create_dir(&folder).unwrap();
    site.configure(&server.lines(&format!("local_copy = \"{}\"\ndump_by = \"external\"", folder.display())));
    assert!(site.run(&["backup", "telegraf"]).ends(1).err.contains("there is no dump"));
    let host = format!("127.0.0.1:{}", server.rpc);
    let dump = || {
        let backup = Command::new("influxd")
            .args(["backup", "-portable", "-host", &host, "-database", "telegraf"])
            .arg(&folder)
            .output();
        assert!(backup.unwrap().status.success());
    };
    dump();
    site.back_up();
    // Another day, other names.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    dump();
    let again = site.run(&["--json", "-q", "backup", "telegraf"]).ends(0).json();
    assert!(again["new"].as_u64().unwrap() < 16 << 10, "{again}");
    site.run(&["restore", "telegraf", "--into", "influxdb:copy", "--yes"]).ends(0);
    assert_eq!(server.picture("copy", &POLICIES), server.picture("telegraf", &POLICIES));
    let newest = || {
        let mut names: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().ends_with(".s2.tar.gz"))
            .collect();
        names.sort();
        names.pop().unwrap()
    };
    let whole = fs::read(newest()).unwrap();
    fs::write(newest(), &whole[..whole.len() / 2]).unwrap();
    assert!(site.run(&["backup", "telegraf"]).ends(1).err.contains("isn't whole"));
    fs::remove_file(newest()).unwrap();
    assert_eq!(site.run(&["backup", "telegraf"]).status, 1);
    assert_eq!(site.snapshots(), 2);
}

#[test]
fn a_shard_that_was_made_while_the_backup_ran_is_left_to_the_next() {
    let Some((server, site)) = site(2, 600) else { return };
    let folder = site.machine.at("theirs");
    let dump = |name: &str| {
        let backup = Command::new("influxd")
            .args(["backup", "-portable", "-host", &format!("127.0.0.1:{}", server.rpc), "-database", "telegraf"])
            .arg(folder.join(name))
            .output();
        assert!(backup.unwrap().status.success());
    };
    let meta = |name: &str| {
        let files = fs::read_dir(folder.join(name)).unwrap().map(|entry| entry.unwrap().path());
        files.into_iter().find(|path| path.extension().is_some_and(|end| end == "meta")).unwrap()
    };
    fs::create_dir(&folder).unwrap();
    dump("before");
    let before = server.picture("telegraf", &POLICIES);
    assert!(server.write("telegraf", POLICIES[0], "cpu,host=late v=1i 1000000000000000000"));
    dump("after");
    // The metadata is taken first, and a shard that is made then is in the manifest all the same.
    fs::copy(meta("before"), meta("after")).unwrap();
    let lines = format!("local_copy = \"{}\"\ndump_by = \"external\"", folder.join("after").display());
    site.configure(&server.lines(&lines));
    site.back_up();
    site.run(&["restore", "telegraf", "--into", "influxdb:copy", "--yes"]).ends(0);
    assert_eq!(server.picture("copy", &POLICIES), before);
    fs::write(meta("after"), "no metadata").unwrap();
    assert!(site.run(&["backup", "telegraf"]).ends(1).err.contains("can't be understood"));
}

#[test]
fn shards_that_are_empty_or_had_points_deleted_are_no_gap() {
    let ahead = "[shard-precreation]\nenabled = true\ncheck-interval = \"500ms\"\nadvance-period = \"480h\"";
    let Some(server) = Influx::start_with(ahead) else { return };
    server.ask("CREATE DATABASE telegraf WITH DURATION INF SHARD DURATION 1d NAME raw");
    server.ask("CREATE RETENTION POLICY \"long term\" ON telegraf DURATION INF REPLICATION 1 SHARD DURATION 7d");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let lines: String = (0..2000).map(|n| format!("cpu v={n}i {}000000000\n", now - n * 100)).collect();
    assert!(server.write("telegraf", "raw", &lines));
    assert!(server.write("telegraf", "long%20term", &format!("cpu v=1i {now}000000000")));
    let delete = format!("DELETE FROM cpu WHERE time < {}s AND time > {}s", now - 50_000, now - 120_000);
    server.ask_in("telegraf", &delete);
    let shards = || server.ask("SHOW SHARDS")["results"][0]["series"][0]["values"].as_array().unwrap().len();
    let start = std::time::Instant::now();
    while shards() < 10 {
        assert!(start.elapsed().as_secs() < 60, "no shard was made ahead of its time");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let site = support::site::Site::new("telegraf", &server.lines(""));
    site.back_up();
    site.run(&["restore", "telegraf", "--into", "influxdb:copy", "--yes"]).ends(0);
    assert_eq!(server.picture("copy", &POLICIES), server.picture("telegraf", &POLICIES));
    assert!(String::from_utf8(site.run(&["config", "check"]).ends(0).out).unwrap().contains("the port of backups"));
}
