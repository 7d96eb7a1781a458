//! Interrupted restores: the old or the new data is intact, and the next command says which.

use std::time::Duration;

use crate::mysql::site::{Site, picture};
use support::mariadb::{MariaDb, is_mysql};
use support::site::Small;

const SCHEMA: &str = "CREATE DATABASE agama; USE agama;
    CREATE TABLE a (id INT PRIMARY KEY, text VARCHAR(200)); CREATE TABLE b (id INT PRIMARY KEY, a INT, FOREIGN KEY (a) REFERENCES a (id));
    INSERT INTO a SELECT seq, REPEAT(MD5(seq), 6) FROM seq_1_to_3000; INSERT INTO b SELECT id, id FROM a;
    CREATE TRIGGER told BEFORE INSERT ON a FOR EACH ROW SET NEW.text = CONCAT('x', NEW.text); CREATE VIEW v AS SELECT id FROM a;
    CREATE PROCEDURE p() SELECT 1;";

const RESTORE: [&str; 9] = ["restore", "agama", "--into", "mysql", "--yes", "--replace", "agama", "--reason", "test"];

/// Numbers without a pattern.
fn moments(count: usize, most: u64) -> Vec<u64> {
    (1..=count as u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) % most).collect()
}

#[test]
fn a_restore_that_is_killed_leaves_the_old_or_the_new_whole() {
    let Some(site) = Site::new(SCHEMA) else { return };
    let good = site.back_up();
    let restore = [&RESTORE[..], &["--snapshot", &good]].concat();
    let checksum = |database: &str| {
        site.server
            .try_sql(&format!("CHECKSUM TABLE `{database}`.a, `{database}`.b"))
            .map(|text| text.replace(database, "DB"))
    };
    let stored = checksum("agama").unwrap();
    site.server.sql("UPDATE agama.a SET text = 'changed'; DELETE FROM agama.b WHERE id > 10");
    let changed = checksum("agama").unwrap();
    let start = std::time::Instant::now();
    site.run(&restore).ends(0);
    let whole = start.elapsed();
    assert_eq!(checksum("agama").unwrap(), stored);
    let count = if std::env::var_os("VARU_TEST_LONG").is_some() { 50 } else { 5 };
    let (mut old, mut new) = (0, 0);
    for (number, moment) in moments(count, whole.as_millis() as u64).into_iter().enumerate() {
        site.server.sql(&site.server.sql("SELECT CONCAT('DROP DATABASE `', SCHEMA_NAME, '`;') FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'agama\\_%'"));
        site.server
            .sql("SET foreign_key_checks = 0; UPDATE agama.a SET text = 'changed'; DELETE FROM agama.b WHERE id > 10");
        assert_eq!(checksum("agama").unwrap(), changed, "round {number}");
        let mut running = site.command(&restore).stderr(std::process::Stdio::null()).spawn().unwrap();
        // A fifth of them near the end, where tables change places.
        let moment = if number % 5 == 0 { whole.as_millis() as u64 * 19 / 20 - moment / 20 } else { moment };
        std::thread::sleep(Duration::from_millis(moment));
        let _ = running.kill();
        let ended = running.wait().unwrap();
        // Its clients end with their input; the server continues with the statement that it has.
        std::thread::sleep(Duration::from_millis(300));
        let databases = site.server.sql("SHOW DATABASES");
        let before = databases.lines().find(|name| name.starts_with("agama_before_")).map(str::to_owned);
        let is_whole = |database: &str, sum: &str| checksum(database).is_ok_and(|found| found == sum);
        let old_is_whole = is_whole("agama", &changed) || before.is_some_and(|before| is_whole(&before, &changed));
        let new_is_whole = is_whole("agama", &stored);
        assert!(old_is_whole, "round {number} after {moment} ms: {databases}");
        (old, new) = (old + u32::from(!new_is_whole), new + u32::from(new_is_whole));
        let backup = site.run(&["backup", "agama"]);
        if backup.status == 5 {
            assert!(!ended.success(), "round {number}");
            assert!(backup.err.contains("has not succeeded") && backup.err.contains("--abandon"), "{}", backup.err);
        } else {
            assert!(ended.success() || !databases.contains("agama_"), "round {number}: {databases}");
        }
        site.run(&restore).ends(0);
        assert_eq!(checksum("agama").unwrap(), stored, "round {number}");
        assert_eq!(
            site.server.sql("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'agama'"),
            "told\n"
        );
    }
    println!("killed {count} times: {old} times the old data was in place, {new} times the new");
    site.run(&["backup", "agama"]).ends(0);
}

#[test]
fn an_unfinished_restore_keeps_backups_away_until_it_is_given_up() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.back_up();
    let before = picture(&site.server, "agama");
    site.server.sql("DELETE FROM agama.b");
    let changed = picture(&site.server, "agama");
    // An account that may make databases, and not tables' rows.
    site.server.sql("CREATE USER weak@localhost IDENTIFIED BY 'x'; GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES, PROCESS, CREATE ON *.* TO weak@localhost");
    let option_file = site.machine.at("weak.cnf");
    std::fs::write(
        &option_file,
        format!("[client]\nuser=weak\npassword=x\nsocket={}\n", site.server.socket().display()),
    )
    .unwrap();
    let words = [&RESTORE[..], &["--option-file", option_file.to_str().unwrap()]].concat();
    let failed = site.run(&words).ends(1);
    assert!(failed.err.contains("The restore did not end") && failed.err.contains("ERROR 1044"), "{}", failed.err);
    assert_eq!(picture(&site.server, "agama"), changed);
    let refused = site.run(&["backup", "agama"]).ends(5);
    assert!(refused.err.contains("has not succeeded"), "{}", refused.err);
    site.run(&["restore", "agama", "--abandon", "--reason", "test"]).ends(0);
    let good = site.run(&["--json", "list"]).json()["snapshots"][0]["id"].as_str().unwrap().to_owned();
    site.back_up();
    site.run(&[&RESTORE[..], &["--snapshot", &good]].concat()).ends(0);
    assert_eq!(picture(&site.server, "agama"), before);
    site.back_up();
}

#[test]
fn a_server_without_room_is_refused_or_keeps_what_it_has() {
    // MySQL's server ends by itself where its disk has so little room.
    if is_mysql() {
        return;
    }
    let Some(site) = Site::new(
        "CREATE DATABASE agama; USE agama; CREATE TABLE big (id INT PRIMARY KEY, text TEXT, a CHAR(99), KEY (a), KEY (a, id), KEY (text(99)));
         INSERT INTO big SELECT seq, REPEAT(MD5(seq), 20), MD5(seq) FROM seq_1_to_40000",
    ) else {
        return;
    };
    site.back_up();
    let folder = site.machine.at("small");
    let Some(small) = Small::on(folder.clone(), "140m") else { return };
    let Some(second) = MariaDb::start_below(&folder, &["--innodb-data-file-path=ibdata1:4M:autoextend"]) else {
        return;
    };
    second.sql("CREATE DATABASE agama; USE agama; CREATE TABLE big (id INT PRIMARY KEY); INSERT INTO big VALUES (7)");
    let before = picture(&second, "agama");
    site.configure(&format!("socket = \"{}\"", second.socket().display()));
    let restore = ["restore", "agama", "--into", "mysql", "--yes", "--replace", "agama", "--reason", "test"];
    // The tables have 27 MB in the dump: that can't fit.
    small.fill(20 << 20);
    let refused = site.run(&restore).ends(8);
    assert!(refused.err.contains("27.") && refused.err.contains("make room there"), "{}", refused.err);
    assert_eq!(picture(&second, "agama"), before);
    // This might, but a server needs more than a dump.
    small.fill(32 << 20);
    let full = site.run(&restore).ends(1);
    assert!(full.err.contains("is full") && full.err.contains("agama is as it was"), "{}", full.err);
    assert_eq!(picture(&second, "agama"), before);
    small.empty();
    for name in second.sql("SHOW DATABASES LIKE 'agama_loading_%'").lines() {
        second.sql(&format!("DROP DATABASE {name}"));
    }
    site.run(&restore).ends(0);
    assert_eq!(picture(&second, "agama"), picture(&site.server, "agama"));
}
