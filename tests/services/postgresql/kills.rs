//! Kills at any moment: a backup leaves no snapshot of an incomplete dump, and a restore leaves the old or the new
//! database intact.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::postgresql::{REPLACE, RESTORE, site, wrap};
use support::site::{Attacked, TELLING, is_long, random};

const SCHEMA: &str =
    "CREATE TABLE a (id int PRIMARY KEY, text text); CREATE TABLE b (id int PRIMARY KEY REFERENCES a (id));
    INSERT INTO a SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 8000) i; INSERT INTO b SELECT id FROM a;";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Varu,
    Dump,
    Connection,
}

#[test]
fn a_backup_that_is_killed_leaves_whole_snapshots_alone() {
    let Some((server, site)) = site(SCHEMA) else { return };
    wrap(&site, &server, TELLING);
    let start = Instant::now();
    site.back_up();
    let whole = start.elapsed().as_millis() as u64;
    let rounds = if is_long() { 50 } else { 3 };
    let mut attacked = Attacked { snapshots: 1, cut: 0 };
    for victim in [Victim::Varu, Victim::Dump, Victim::Connection] {
        for round in 0..rounds {
            let moment = whole * random(round) / 1000;
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
                Victim::Dump => site.kill_told(),
                Victim::Connection => {
                    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'agama'";
                    let _ = server.try_sql("postgres", end);
                }
            }
            let ended = running.wait_with_output().unwrap();
            attacked.ended(&site, &ended, victim == Victim::Varu, &format!("{victim:?} after {moment} ms"));
        }
    }
    println!("{} of {} backups were cut, {} snapshots", attacked.cut, 3 * rounds, attacked.snapshots);
    assert!(attacked.cut > 0);
    let expected = server.picture("agama");
    site.run(&[&RESTORE[..], &REPLACE].concat()).ends(0);
    assert_eq!(server.picture("agama"), expected);
}

#[test]
fn a_restore_that_is_killed_leaves_the_old_or_the_new_whole() {
    let Some((server, site)) = site(SCHEMA) else { return };
    let good = site.back_up();
    let restore = [&RESTORE[..], &REPLACE, &["--snapshot", &good]].concat();
    let stored = server.picture("agama");
    // In the order of its key, which is not everywhere that of the changes.
    let change = "UPDATE a SET text = 'changed'; DELETE FROM b WHERE id > 10; CLUSTER a USING a_pkey";
    server.sql("agama", change);
    let changed = server.picture("agama");
    let start = Instant::now();
    site.run(&restore).ends(0);
    let whole = start.elapsed().as_millis() as u64;
    let rounds = if is_long() { 50 } else { 3 };
    let (mut old, mut new) = (0, 0);
    for round in 0..rounds {
        server.sql("agama", change);
        let aside = "SELECT datname FROM pg_database WHERE datname LIKE 'agama\\_%'";
        for name in server.sql("postgres", aside).lines() {
            server.sql("postgres", &format!("DROP DATABASE \"{name}\" WITH (FORCE)"));
        }
        let mut running = site.command(&restore).stderr(Stdio::null()).spawn().unwrap();
        // A fifth of them near the end, where names change.
        let moment =
            if round % 5 == 0 { whole * (900 + random(round) / 10) / 1000 } else { whole * random(round) / 1000 };
        std::thread::sleep(Duration::from_millis(moment));
        let _ = running.kill();
        let ended = running.wait().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let names = server.sql("postgres", "SELECT datname FROM pg_database");
        let before = names.lines().find(|name| name.starts_with("agama_before_"));
        let now = server.picture("agama");
        let old_is_whole = now == changed || before.is_some_and(|before| server.picture(before) == changed);
        assert!(old_is_whole, "round {round} after {moment} ms: {names}");
        assert!(now == changed || now == stored, "round {round}: neither the old nor the new is in place");
        (old, new) = (old + u32::from(now == changed), new + u32::from(now == stored));
        let backup = site.run(&["backup", "agama"]);
        if backup.status == 5 {
            assert!(!ended.success() && backup.err.contains("has not succeeded"), "{}", backup.err);
        }
        site.run(&restore).ends(0);
        assert_eq!(server.picture("agama"), stored, "round {round}");
    }
    println!("killed {rounds} times: {old} times the old data was in place, {new} times the new");
    site.run(&["backup", "agama"]).ends(0);
}
