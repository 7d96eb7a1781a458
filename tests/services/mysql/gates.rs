//! Incomplete dumps, which make no snapshot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::mysql::site::{Site, picture};
use support::mariadb::is_mysql;
use support::site::Small;

const SCHEMA: &str = "CREATE DATABASE agama; USE agama;
    CREATE TABLE a0 (id INT PRIMARY KEY, text VARCHAR(20)); INSERT INTO a0 VALUES (1, 'a');
    CREATE TABLE a_first (id INT PRIMARY KEY, text VARCHAR(200)); CREATE TABLE t (id INT PRIMARY KEY, text VARCHAR(200)); CREATE TABLE u (id INT PRIMARY KEY);
    INSERT INTO a_first SELECT seq, REPEAT(MD5(seq), 6) FROM seq_1_to_3000; INSERT INTO t SELECT * FROM a_first WHERE id <= 1000; INSERT INTO u VALUES (1);
    CREATE TRIGGER told BEFORE INSERT ON t FOR EACH ROW SET NEW.text = 'x';
    CREATE VIEW v AS SELECT id FROM t; CREATE PROCEDURE p() SELECT 1; CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1;";

/// The dump stops after 100 kB until the file `go` is there.
const PAUSE: &str = "\"$@\" | { head -c 100000; touch paused; while [ ! -e go ]; do sleep 0.02; done; cat; }";

fn wait_for(path: &Path) {
    let start = Instant::now();
    while !path.exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "{} never came", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn each_missing_privilege_is_named_with_the_statement_that_gives_it() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.server.sql(
        "CREATE USER backup@localhost IDENTIFIED BY 'geheim';
         GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES ON agama.* TO backup@localhost;
         GRANT PROCESS ON *.* TO backup@localhost; GRANT SELECT ON mysql.* TO backup@localhost;
         /*!80000 GRANT SHOW_ROUTINE ON *.* TO backup@localhost */; /*!80000 GRANT SELECT ON performance_schema.* TO backup@localhost */;",
    );
    let option_file = site.machine.at("my.cnf");
    let socket = site.server.socket();
    let credentials = |password: &str| {
        fs::write(&option_file, format!("[client]\nuser=backup\npassword={password}\nsocket={}\n", socket.display()))
            .unwrap();
    };
    credentials("geheim");
    site.configure(&format!("option_file = \"{}\"", option_file.display()));
    site.back_up();
    let of_mysql = [("SHOW_ROUTINE", "*.*"), ("SELECT", "`performance_schema`.*")];
    let of_both = [
        ("SELECT", "`agama`.*"),
        ("SHOW VIEW", "`agama`.*"),
        ("TRIGGER", "`agama`.*"),
        ("EVENT", "`agama`.*"),
        ("LOCK TABLES", "`agama`.*"),
        ("PROCESS", "*.*"),
        ("SELECT", "`mysql`.*"),
    ];
    for (privilege, on) in of_both.into_iter().chain(of_mysql.into_iter().filter(|_| is_mysql())) {
        site.server.sql(&format!("REVOKE {privilege} ON {on} FROM backup@localhost"));
        let ended = site.run(&["backup", "agama"]).ends(2);
        let statement = format!("GRANT {privilege} ON {on} TO `backup`@`localhost`;");
        // Without any privilege on a database its absence is reported.
        assert!(
            ended.err.contains(&statement) || ended.err.contains("no database agama"),
            "{statement}: {}",
            ended.err
        );
        site.server.sql(&statement);
    }
    site.back_up();
    assert_eq!(site.snapshots(), 2);
    credentials("wrong");
    let ended = site.run(&["backup", "agama"]).ends(1);
    assert!(ended.err.contains("1045") && !ended.err.contains("wrong"), "{}", ended.err);
    site.configure(&format!("socket = \"{}\"\ndatabases = [\"nothing\"]", socket.display()));
    assert!(site.run(&["backup", "agama"]).ends(2).err.contains("no database nothing"));
    assert_eq!(site.snapshots(), 2);
}

/// A change during a dump; with `twice`, the second attempt sees it, too. Whether the server let it happen.
fn during(site: &Site, statements: &str, twice: bool) -> (support::machine::Ended, bool) {
    let (paused, go) = (site.machine.at("paused"), site.machine.at("go"));
    let _ = (fs::remove_file(&paused), fs::remove_file(&go));
    let mut running = site.command(&["backup", "agama"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut changed = true;
    for _ in 0..=u32::from(twice) {
        while !paused.exists() && running.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(10));
        }
        if running.try_wait().unwrap().is_none() {
            // MySQL alters a table in place and keeps its number. The time is known to the second, and was looked at before.
            if is_mysql() {
                std::thread::sleep(Duration::from_millis(1000));
            }
            // With a binary log the server lets no table change that the dump has read: that is as good.
            changed &= site.server.try_sql(&format!("SET lock_wait_timeout = 2; {statements}")).is_ok();
        }
        let _ = fs::remove_file(&paused);
        fs::write(&go, "").unwrap();
    }
    while running.try_wait().unwrap().is_none() {
        if paused.exists() {
            fs::remove_file(&paused).unwrap();
            fs::write(&go, "").unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    (running.wait_with_output().unwrap().into(), changed)
}

/// The dump stops after 100 kB until the file `go` is there, which it removes.
const PAUSE_EACH: &str =
    "\"$@\" | { head -c 100000; touch paused; while [ ! -e go ]; do sleep 0.02; done; rm go; cat; }";

#[test]
fn a_schema_that_changes_during_the_dump_is_tried_again_and_then_an_error() {
    for binlog in [&[][..], &["--log-bin=binlog", "--server-id=1"]] {
        let Some(site) = Site::with(SCHEMA, binlog) else { return };
        site.wrap(PAUSE_EACH);
        let swap = |table: &str| {
            format!(
                "USE agama; DROP TABLE IF EXISTS old, new; CREATE TABLE new LIKE {table}; INSERT INTO new SELECT * FROM {table}; \
                 RENAME TABLE {table} TO old, new TO {table};"
            )
        };
        // Each time another one.
        let new_code = match is_mysql() {
            true => (
                "SET @text = CONCAT('CREATE OR REPLACE VIEW agama.v AS SELECT id, ', UUID_SHORT(), ' AS u FROM agama.t'); PREPARE code FROM @text; EXECUTE code".to_owned(),
                "view agama.v",
            ),
            false => (
                "DROP PROCEDURE agama.p; EXECUTE IMMEDIATE CONCAT('CREATE PROCEDURE agama.p() SELECT ', UUID_SHORT())".to_owned(),
                "procedure agama.p",
            ),
        };
        // Tables that were read already, one that is to be read, and objects that aren't tables.
        let cases = [
            (swap("a0"), "table agama.a0"),
            (swap("t"), "agama.t"),
            ("TRUNCATE agama.a0".to_owned(), "table agama.a0"),
            ("TRUNCATE agama.u".to_owned(), "agama.u"),
            ("ALTER TABLE agama.a0 ADD COLUMN c INT, ALGORITHM=INSTANT; ALTER TABLE agama.a0 DROP COLUMN c, ALGORITHM=INSTANT".to_owned(), "table agama.a0"),
            ("DROP TABLE agama.a0; CREATE TABLE agama.a0 (id INT PRIMARY KEY, text VARCHAR(20))".to_owned(), "table agama.a0"),
            new_code,
        ];
        let long = std::env::var_os("VARU_TEST_LONG").is_some();
        let mut seen = 0;
        for (number, (statements, what)) in cases.iter().enumerate() {
            // In short: half of them with a binary log, half without.
            if !long && (number % 2 == 0) == binlog.is_empty() {
                continue;
            }
            // Times are known to the second.
            std::thread::sleep(Duration::from_millis(1000));
            let before = site.snapshots();
            let (ended, changed) = during(&site, statements, true);
            // The server didn't let it happen.
            if !changed {
                continue;
            }
            seen += 1;
            let ended = ended.ends(1);
            let said = ended.err.contains(what) || ended.err.contains("Error 1412");
            assert!(said && ended.err.contains("tried once more"), "{number} {what}: {}", ended.err);
            assert_eq!(site.snapshots(), before, "{what}");
        }
        assert!(seen > 0);
        let before = site.snapshots();
        during(&site, &swap("a0"), false).0.ends(0);
        during(&site, "CREATE DATABASE another", false).0.ends(0);
        assert_eq!(site.snapshots(), before + 2, "the second try was whole");
    }
}

#[test]
fn a_dump_that_ends_early_makes_no_snapshot() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.back_up();
    for (filter, status, why) in [
        ("\"$@\" | head -c -10", 1, "completion line"),
        ("\"$@\" | head -c -1", 1, "completion line"),
        ("\"$@\" | head -n -3; exit 0", 1, "completion line"),
        ("\"$@\"; exit 2", 1, "exit status 2"),
        ("\"$@\" | head -c 100000; kill -9 $$", 1, "signal 9"),
        ("\"$@\" | grep -v 'for table .u.$'", 1, "agama.u"),
    ] {
        site.wrap(filter);
        let ended = site.run(&["backup", "agama"]).ends(status);
        assert!(ended.err.contains(why), "{filter}: {}", ended.err);
        assert_eq!(site.snapshots(), 1, "{filter}");
    }
    site.wrap("\"$@\"");
    site.back_up();
}

#[test]
fn a_server_that_dies_in_the_middle_makes_no_snapshot() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.wrap(PAUSE);
    let running = site.command(&["backup", "agama"]).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&site.machine.at("paused"));
    let pid = site.server.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    fs::write(site.machine.at("go"), "").unwrap();
    let ended = support::machine::Ended::from(running.wait_with_output().unwrap()).ends(1);
    assert!(ended.err.contains("no snapshot was made"), "{}", ended.err);
    assert_eq!(site.snapshots(), 0);
}

#[test]
fn an_empty_dump_after_a_full_one_is_suspect() {
    let Some(site) = Site::new(SCHEMA) else { return };
    let good = site.back_up();
    site.server.sql("DELETE FROM agama.a_first; DELETE FROM agama.t");
    let ended = site.run(&["backup", "agama"]).ends(3);
    assert!(ended.err.contains("suspect") && ended.err.contains("max_shrink"), "{}", ended.err);
    let listed = site.run(&["--json", "list"]).json();
    let suspect: Vec<bool> =
        listed["snapshots"].as_array().unwrap().iter().map(|row| row["suspect"].as_bool().unwrap()).collect();
    assert_eq!(suspect, [false, true]);
    let restored = site.run(&["restore", "agama", "--into", "mysql:copy", "--yes", "--json"]);
    assert_eq!(restored.json()["restored"][0]["snapshot"].as_str().unwrap(), good);
    assert!(restored.err.contains("is suspect and was passed over"), "{}", restored.err);
    assert_eq!(site.server.sql("SELECT COUNT(*) FROM copy.t"), "1000\n");
    // Still measured against the good one, until somebody says that it is right.
    site.run(&["backup", "agama"]).ends(3);
    site.configure(&format!("socket = \"{}\"\nmax_shrink = \"100 %\"", site.server.socket().display()));
    site.back_up();
}

#[test]
fn the_programs_may_run_as_somebody_who_is_nobody() {
    let Some(site) = Site::new(SCHEMA) else { return };
    if !std::process::Command::new("setpriv")
        .args(["--reuid=nobody", "true"])
        .status()
        .is_ok_and(|ended| ended.success())
    {
        eprintln!("skipped: only root can run programs as somebody else");
        return;
    }
    site.server
        .sql("CREATE USER varu@localhost IDENTIFIED BY 'x'; GRANT ALL ON *.* TO varu@localhost WITH GRANT OPTION");
    let option_file = site.machine.at("varu.cnf");
    let socket = site.server.socket();
    fs::write(&option_file, format!("[client]\nuser=varu\npassword=x\nsocket={}\n", socket.display())).unwrap();
    // The user of the programs, as a wrapper of theirs sees it.
    let seen = site.machine.at("seen");
    let noting = site.machine.at("noting");
    fs::write(&seen, "").unwrap();
    fs::write(&noting, format!("#!/bin/sh\nid -un >> {}\nexec \"$@\"\n", seen.display())).unwrap();
    for (path, mode) in [(&seen, 0o666), (&noting, 0o755), (&option_file, 0o644), (&site.machine.top, 0o755)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(socket.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    site.configure(&format!(
        "option_file = \"{}\"\nexec = [\"setpriv\", \"--reuid=nobody\", \"--regid=nogroup\", \"--clear-groups\", \"{}\"]",
        option_file.display(),
        noting.display()
    ));
    site.back_up();
    let before = picture(&site.server, "agama");
    let restore = ["restore", "agama", "--into", "mysql", "--yes", "--replace", "agama", "--reason", "test"];
    site.run(&restore).ends(0);
    assert_eq!(picture(&site.server, "agama"), before);
    let seen = fs::read_to_string(&seen).unwrap();
    assert!(seen.lines().count() > 3 && seen.lines().all(|line| line == "nobody"), "{seen}");
}

#[test]
fn a_full_disk_of_the_state_is_an_error_and_the_next_run_works() {
    let Some(site) = Site::new(SCHEMA) else { return };
    let Some(small) = Small::on(site.machine.at("state"), "160k") else { return };
    let full = site.run(&["backup", "agama"]).ends(8);
    assert!(full.err.contains("make room on that disk"), "{}", full.err);
    drop(small);
    assert_eq!(site.snapshots(), 0);
    let said = site.run(&["backup", "agama"]).ends(0).err;
    assert!(said.contains("no lock over all tables was held"), "{said}");
    assert_eq!(site.snapshots(), 1);
}
