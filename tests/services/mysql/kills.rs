//! Kills at any moment: a backup leaves no snapshot of an incomplete dump, and the next one works.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::mysql::site::{Site, picture};
use support::mariadb::MariaDb;
use support::site::{Attacked, TELLING, is_long, random};

const SCHEMA: &str = "CREATE DATABASE agama; USE agama; CREATE TABLE a (id INT PRIMARY KEY, text TEXT); CREATE TABLE b LIKE a; CREATE TABLE c LIKE a;
    INSERT INTO a SELECT seq, REPEAT(MD5(seq), 20) FROM seq_1_to_4000; INSERT INTO b SELECT * FROM a; INSERT INTO c SELECT * FROM a;
    CREATE TRIGGER t BEFORE INSERT ON c FOR EACH ROW SET NEW.text = 'x';";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Varu,
    DumpProgram,
    Connection,
    Server,
}

#[test]
fn a_restore_that_is_interrupted_says_what_stands_and_the_way_on() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.back_up();
    let expected = picture(&site.server, "agama");
    site.server.sql("DELETE FROM agama.a WHERE id > 10");
    let old = picture(&site.server, "agama");
    let words = ["restore", "agama", "--into", "mysql", "--replace", "agama", "--yes", "--reason", "test"];
    let loading = "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'agama_loading_%'";
    let mut running = site.command(&words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while site.server.sql(loading) == "0\n" && running.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the load doesn't begin");
    }
    let pid = running.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let ended = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    if ended.status.success() {
        return assert_eq!(picture(&site.server, "agama"), expected, "it came too late: {said}");
    }
    assert!(said.contains("agama is as it was unless agama_before_"), "{said}");
    assert!(said.contains("varu restore agama --abandon"), "{said}");
    assert_eq!(picture(&site.server, "agama"), old);
    // No backup takes a half restored database for the data, until somebody decides how it continues.
    let refused = site.run(&["backup", "agama"]).ends(5);
    assert!(refused.err.contains("--abandon"), "{}", refused.err);
    site.run(&[&["-q"], &words[..]].concat()).ends(0);
    assert_eq!(picture(&site.server, "agama"), expected);
    site.back_up();
}

#[test]
fn a_backup_that_is_killed_leaves_whole_snapshots_alone() {
    let Some(site) = Site::new(SCHEMA) else { return };
    let copies = site.machine.at("copies");
    site.wrap(TELLING);
    let text = fs::read_to_string(site.config()).unwrap();
    fs::write(site.config(), format!("{text}local_copy = \"{}\"\nlocal_reserve = \"0 %\"\n", copies.display()))
        .unwrap();
    let start = Instant::now();
    site.back_up();
    let whole = start.elapsed().as_millis() as u64;
    let expected = picture(&site.server, "agama");
    let rounds = if is_long() { 50 } else { 3 };
    let mut attacked = Attacked { snapshots: 1, cut: 0 };
    for victim in [Victim::Varu, Victim::DumpProgram, Victim::Connection, Victim::Server] {
        for round in 0..rounds {
            // A fifth of them in the last twentieth.
            let part = if round % 5 == 4 { 950 + random(round) / 20 } else { random(round) };
            let moment = whole * part / 1000;
            site.forget_told();
            let mut running =
                site.command(&["-q", "backup", "agama"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            match round {
                // At least one is interrupted in the middle, however fast the others are.
                0 => while !site.has_told() && running.try_wait().unwrap().is_none() {},
                _ => std::thread::sleep(Duration::from_millis(moment)),
            }
            match victim {
                Victim::Varu => running.kill().unwrap(),
                Victim::DumpProgram => site.kill_told(),
                Victim::Connection => {
                    let kill = "SELECT CONCAT('KILL ', ID, ';') FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID()";
                    for line in site.server.sql(kill).lines() {
                        let _ = site.server.try_sql(line);
                    }
                }
                Victim::Server => {}
            }
            if victim == Victim::Server {
                site.server.restart(if round % 2 == 0 { "-KILL" } else { "-TERM" });
            }
            let ended = running.wait_with_output().unwrap();
            attacked.ended(&site, &ended, victim == Victim::Varu, &format!("{victim:?} after {moment} ms"));
            for copy in fs::read_dir(&copies).unwrap().map(|entry| entry.unwrap().path()) {
                let whole =
                    |path: &std::path::Path| fs::read(path.join("dump.sql")).unwrap().ends_with(b"-- Dump completed\n");
                let is_part = copy.ends_with("new.part") || copy.ends_with("old.part");
                assert!(!copy.is_dir() || is_part || whole(&copy), "{}", copy.display());
            }
        }
    }
    println!("{} of {} backups were cut, {} snapshots", attacked.cut, 4 * rounds, attacked.snapshots);
    assert!(attacked.cut > 0);
    site.back_up();
    let Some(second) = MariaDb::start() else { return };
    let listed = site.run(&["--json", "list"]).json();
    let ids: Vec<String> =
        listed["snapshots"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    site.configure(&format!("socket = \"{}\"", second.socket().display()));
    for (number, id) in ids.iter().enumerate() {
        if number % (ids.len().div_ceil(4)) == 0 || number + 1 == ids.len() {
            second.sql("DROP DATABASE IF EXISTS agama");
            site.run(&["restore", "agama", "--into", "mysql", "--yes", "--snapshot", id]).ends(0);
            assert_eq!(picture(&second, "agama"), expected);
        }
    }
}
